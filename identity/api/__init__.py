"""The API for machines: what auditors' own tools read.

Owns: the wire form of the audit's proofs.
Does not own: how they are made, or who may ask (areas, applications' rights).
"""

from identity.api.hot_audit import routes

__all__ = ["routes"]
