"""Real servers for tests, each private, on a free port, in its own folder."""
