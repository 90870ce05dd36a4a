"""The record of everything that happened.

Owns: audit kinds, durable recording, the search index, search.
Does not own: what is recorded (each area records its own acts).
"""
