"""Expenses (费控报销): an OpenID Connect client that asks the decision point about every claim.

Owns: claims and their pages.
Does not own: who may do what with a claim.
"""
