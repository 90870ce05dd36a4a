"""Signing in: one flow for every door.

Owns: login transactions, sessions, factors, failure counters, logout, the gate of our own pages.
Does not own: a protocol's wire form (the doors), what anybody may do (`access`).
"""
