"""What the smoke test does: a private instance, and its steps, which speak HTTP as outside clients do."""
