"""What a version would do to people: two versions of the rules over the facts of now, compared for everybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from identity.access.snapshot import Snapshot, engine_of, prepare
from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.mapping import Derivation
from identity.roles.preview import world_with
from policies import Change, Engine, PreparedSubject, Right, Terms, compare

ROWS_MAX = 100_000
EVERYWHERE = "*"


@dataclass(slots=True)
class Found:
    """Rows of a check (`roles.models_drafts.PolicyCheckRow` without its key), and what was counted.

    No more than `ROWS_MAX` rows are kept; the counts go on.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    users: set[UUID] = field(default_factory=set)
    changes: Counter[str] = field(default_factory=Counter)
    places: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        self.total += 1
        self.changes[row["change"]] += 1
        self.places.setdefault(row["application"], Counter())[row["change"]] += 1
        if row["user_id"] is not None:
            self.users.add(row["user_id"])
        if len(self.rows) < ROWS_MAX:
            self.rows.append({"n": self.total, **row})

    def counts(self) -> dict[str, Any]:
        """total rows, kept rows, users; how often each change, in all and by application."""
        return {
            "rows": self.total,
            "kept": len(self.rows),
            "users": len(self.users),
            "changes": dict(self.changes),
            "applications": {name: dict(found) for name, found in sorted(self.places.items())},
        }


def compare_versions(
    snapshot: Snapshot, before: tuple[int, RuleSetInput], after: tuple[int, RuleSetInput], now: datetime
) -> Found:
    """Who of all users gains and loses what, under the facts of the snapshot."""
    old, new = _Under(snapshot, *before), _Under(snapshot, *after)
    users = list(snapshot.users.values())
    pairs = ((old.subject(one.id), new.subject(one.id)) for one in users)
    ids = {one.sub: one.id for one in users}
    found = Found()
    for change in compare(old.engine, new.engine, pairs, now):
        found.add(_row(change, ids))
    return found


class _Under:
    """The snapshot's people under other rules, made ready one after the other."""

    def __init__(self, snapshot: Snapshot, version: int, content: RuleSetInput) -> None:
        self._snapshot = snapshot
        self._in_force = version == snapshot.policy_version
        self.engine: Engine = snapshot.engine if self._in_force else engine_of(content, version, snapshot.org)
        self._world = world_with(snapshot.world, rules.mapping_rules(content))
        self._shared: dict[Derivation, Derivation] = {}

    def subject(self, user_id: UUID) -> PreparedSubject:
        user = self._snapshot.users[user_id]
        if self._in_force:
            return user.subject
        return prepare(self.engine, self._world, user.identity, self._shared).subject


def _row(change: Change, ids: Mapping[str, UUID]) -> dict[str, Any]:
    what = change.what
    return {
        "user_id": ids[change.subject],
        "application": what.application if isinstance(what, Right) else what.partition(":")[0],
        "kind": "permission" if isinstance(what, Right) else "role",
        "name": _right(what) if isinstance(what, Right) else what,
        "change": change.kind,
        "before": "; ".join(map(_terms, change.before)),
        "after": "; ".join(map(_terms, change.after)),
        "record_id": None,
        "at": None,
    }


def _terms(terms: Terms) -> str:
    scope = " / ".join(filter(None, terms.scope))
    return " · ".join(_parts([scope, f"≤ {terms.limit}" if terms.limit else ""], terms)) or EVERYWHERE


def _right(right: Right) -> str:
    text = f"{'' if right.effect == 'permit' else 'deny '}{right.action} {right.type} {right.pattern}"
    condition = f"if {right.condition}" if right.condition else ""
    return " · ".join(_parts([text, condition, right.obligations], right))


def _parts(first: Iterable[str], times: Terms | Right) -> Iterator[str]:
    yield from filter(None, first)
    if times.valid_from:
        yield f"{times.valid_from:%Y-%m-%d} →"
    if times.valid_until:
        yield f"→ {times.valid_until:%Y-%m-%d}"
