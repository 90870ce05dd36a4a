"""People and where they stand.

Owns: persons, identities, source accounts, org units, positions, employments, groups, their facts in time.
Does not own: what anybody may do (`roles`), how anybody signs in (`login`).
"""
