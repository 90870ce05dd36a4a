"""The decision, for everybody: the only caller of `policies.Engine`.

Owns: the snapshot of facts and rules in memory, the decision and its record.
Does not own: the semantics of a rule (`policies`), the rows behind it (`people`, `roles`).
"""
