"""The API for machines: what auditors' and administrators' own tools read.

Owns: the wire form of the audit's proofs and of explanations.
Does not own: how they are made, or who may ask (areas, applications' rights).
"""

from identity.access.decide import Access
from identity.api import hot_audit, hot_explain
from identity.api.door import Door
from identity.apps.registry import Registry
from identity.audit.recorder import Recorder
from identity.core.db import Database
from identity.core.hot import HotRoute


def routes(registry: Registry, access: Access, database: Database, recorder: Recorder) -> list[HotRoute]:
    """Everything below `/api/v1`."""
    door = Door(registry, recorder)
    return [*hot_audit.routes(door, database), *hot_explain.routes(door, registry, access, database, recorder)]


__all__ = ["routes"]
