"""Background jobs of a node.

Owns: the registry of jobs and the worker's loop.
Does not own: what a job does (each area's functions).
"""
