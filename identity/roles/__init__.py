"""Roles and rules: the policy administration point.

Owns: the role catalogue, policy versions, mappings, assignments, administration grants, duty rules.
Does not own: the decision (`access`, `policies`), the people (`people`).
"""
