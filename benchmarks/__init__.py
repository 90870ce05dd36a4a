"""Figures, one JSON line each: `python -m benchmarks [PREFIX]`."""
