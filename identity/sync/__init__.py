"""Keeping people true to their directories: plan, guard, apply.

Owns: sync runs, the plan and its guard, applying it, verifying passwords by the person's directory.
Does not own: reading a directory (`directory`), the rows that change (`people`).
"""
