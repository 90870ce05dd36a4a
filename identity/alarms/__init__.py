"""Alarms: rules over the record that tell somebody.

Owns: the rules, their settings, raised alarms.
Does not own: the record (`audit`), how a message travels (`events`).
"""
