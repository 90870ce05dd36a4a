"""Two engines, the same people: who gains and who loses what."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from policies.engine import Engine, PreparedSubject


class Change(NamedTuple):
    """A subject gains or loses a role."""

    subject: str
    role: str
    kind: Literal["gain", "loss"]


def compare(
    before: Engine,
    after: Engine,
    subjects: Iterable[tuple[PreparedSubject | None, PreparedSubject | None]],
    now: datetime,
) -> list[Change]:
    """What every (subject before, the same subject after) gains and loses, by role, inherited ones too."""
    changes: list[Change] = []
    for old, new in subjects:
        held = before.roles_of(old, now) if old and old.state == "active" else set()
        holds = after.roles_of(new, now) if new and new.state == "active" else set()
        name = (new or old).id if (new or old) else ""  # type: ignore[union-attr]
        changes += [Change(name, role, "gain") for role in sorted(holds - held)]
        changes += [Change(name, role, "loss") for role in sorted(held - holds)]
    return changes
