"""Two engines, the same people: who gains, who loses and who holds otherwise what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from policies.engine import Engine, PreparedSubject
from policies.types import Amount, Permission, Scope

Kind = Literal["gains", "loses", "changes"]


class Terms(NamedTuple):
    """The bounds within which something is held; a beginning that has passed is none."""

    scope: Scope
    limit: Amount | None
    valid_from: datetime | None
    valid_until: datetime | None


class Right(NamedTuple):
    """What a permission permits or denies, by whatever role and rule it comes; `obligations` are JSON or nothing."""

    application: str
    type: str
    action: str
    pattern: str
    effect: str
    condition: str | None
    obligations: str
    valid_from: datetime | None
    valid_until: datetime | None


class Change(NamedTuple):
    """A subject gains, loses or holds in other bounds a role (by its key) or a right.

    `before` and `after` are the bounds that it has under one of the engines only.
    """

    subject: str
    what: str | Right
    kind: Kind
    before: tuple[Terms, ...]
    after: tuple[Terms, ...]


_Held = frozenset[tuple[str, Terms]]
_Holding = Mapping[int, frozenset[Terms]]


def compare(
    before: Engine,
    after: Engine,
    subjects: Iterable[tuple[PreparedSubject | None, PreparedSubject | None]],
    now: datetime,
) -> Iterator[Change]:
    """What every (subject before, the same subject after) gains, loses and holds otherwise: roles, inherited ones too,
    and rights.

    What is to begin counts, what is over does not; an inactive subject holds nothing. Duties are not compared.
    """
    things = _Things()
    old, new = _Side(before, now, things), _Side(after, now, things)
    alike: dict[str, bool] = {}
    # All who hold the same roles in the same bounds are compared once.
    known: dict[tuple[_Held, _Held], list[Change]] = {}
    for one, other in subjects:
        had, has = old.held(one), new.held(other)
        for role, _terms in had:
            if role not in alike:
                alike[role] = old.reach(role) == new.reach(role)
        if had == has and all(alike[role] for role, _terms in had):
            continue
        if (had, has) not in known:
            known[had, has] = list(_changes(old.holding(had), new.holding(has), things))
        found = known[had, has]
        if found:
            name = (other or one).id  # type: ignore[union-attr]
            yield from (change._replace(subject=name) for change in found)


def _changes(had: _Holding, has: _Holding, things: _Things) -> Iterator[Change]:
    differing = [one for one in had.keys() | has.keys() if had.get(one) != has.get(one)]
    for what, number in sorted(((things.named[one], one) for one in differing), key=_order):
        lost, gained = had.get(number, frozenset()), has.get(number, frozenset())
        kind: Kind = "changes" if lost and gained else "loses" if lost else "gains"
        yield Change("", what, kind, _ordered(lost - gained), _ordered(gained - lost))


def _order(one: tuple[str | Right, int]) -> tuple[bool, str]:
    """Roles before rights."""
    return not isinstance(one[0], str), repr(one[0])


class _Things:
    """Numbers for roles and rights: a right is long, and its hash is made anew each time that it is looked up."""

    def __init__(self) -> None:
        self._numbers: dict[str | Right, int] = {}
        self.named: list[str | Right] = []

    def number(self, what: str | Right) -> int:
        if what not in self._numbers:
            self._numbers[what] = len(self.named)
            self.named.append(what)
        return self._numbers[what]


class _Side:
    """What one engine gives to whom."""

    def __init__(self, engine: Engine, now: datetime, things: _Things) -> None:
        self._engine = engine
        self._now = now
        self._things = things
        self._of_role: dict[str, list[tuple[Permission, int]]] = {}
        for one in engine.rules.permissions:
            if one.valid_until is None or one.valid_until > now:
                self._of_role.setdefault(one.role, []).append((one, things.number(self._right(one))))
        self._reached: dict[str, frozenset[int]] = {}

    def held(self, subject: PreparedSubject | None) -> _Held:
        """The subject's roles with their bounds, those that are granted themselves."""
        if subject is None or subject.state != "active":
            return frozenset()
        if subject.valid_until is not None and subject.valid_until <= self._now:
            return frozenset()
        return frozenset(
            (one.role, Terms(one.scope, one.limit, self._begin(one.valid_from), one.valid_until))
            for one in subject.grants
            if one.valid_until is None or one.valid_until > self._now
        )

    def reach(self, own: str) -> frozenset[int]:
        """The role, those below it, and what they carry; a deny of a role below only where it is inherited."""
        if own not in self._reached:
            below = self._engine.juniors_of(own)
            self._reached[own] = frozenset(
                (
                    *(self._things.number(role) for role in below),
                    *(
                        number
                        for role in below
                        for permission, number in self._of_role.get(role, ())
                        if permission.effect == "permit" or permission.inherited or role == own
                    ),
                )
            )
        return self._reached[own]

    def holding(self, held: _Held) -> _Holding:
        """Everything that comes with these roles, each with the bounds in which it does."""
        found: dict[int, set[Terms]] = {}
        for own, terms in held:
            for number in self.reach(own):
                found.setdefault(number, set()).add(terms)
        return {number: frozenset(terms) for number, terms in found.items()}

    def _right(self, one: Permission) -> Right:
        return Right(
            *(one.application, one.resource_type, one.action, one.pattern, one.effect, one.condition),
            json.dumps(one.obligations, sort_keys=True, ensure_ascii=False) if one.obligations else "",
            *(self._begin(one.valid_from), one.valid_until),
        )

    def _begin(self, since: datetime | None) -> datetime | None:
        return since if since is not None and since > self._now else None


def _ordered(terms: frozenset[Terms]) -> tuple[Terms, ...]:
    return tuple(sorted(terms, key=repr))
