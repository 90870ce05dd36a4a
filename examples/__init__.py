"""Three example applications and the demo company that `make run` shows."""
