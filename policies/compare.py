"""Two engines, the same people: who gains, who loses and who holds otherwise what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from policies.engine import Engine, PreparedSubject
from policies.types import Amount, Grant, Permission, Scope


class Terms(NamedTuple):
    """The bounds within which a role is held; a beginning that has passed is none."""

    scope: Scope
    limit: Amount | None
    valid_from: datetime | None
    valid_until: datetime | None


class Right(NamedTuple):
    """What a permission permits or denies, by whatever role and rule it comes."""

    application: str
    type: str
    action: str
    pattern: str
    effect: str
    condition: str | None
    valid_from: datetime | None
    valid_until: datetime | None


class Change(NamedTuple):
    """A subject gains, loses or holds in other bounds a role (by its key), or gains or loses a right.

    `before` and `after` are the bounds of a role that the subject has under one of the engines only.
    """

    subject: str
    what: str | Right
    kind: Literal["gains", "loses", "changes"]
    before: tuple[Terms, ...] = ()
    after: tuple[Terms, ...] = ()


def compare(
    before: Engine,
    after: Engine,
    subjects: Iterable[tuple[PreparedSubject | None, PreparedSubject | None]],
    now: datetime,
) -> Iterator[Change]:
    """What every (subject before, the same subject after) gains and loses: roles, inherited ones too, and rights.

    What is to begin counts, what is over does not; an inactive subject holds nothing.
    """
    old, new = _Side(before, now), _Side(after, now)
    for one, other in subjects:
        name = (other or one).id if (other or one) else ""  # type: ignore[union-attr]
        held, holds = old.roles(one), new.roles(other)
        for role in sorted(held.keys() | holds.keys()):
            lost, gained = held.get(role, frozenset()), holds.get(role, frozenset())
            if lost != gained:
                kind: Literal["gains", "loses", "changes"] = "changes" if lost and gained else "gains"
                if not gained:
                    kind = "loses"
                yield Change(name, role, kind, _ordered(lost - gained), _ordered(gained - lost))
        had, has = old.rights(one), new.rights(other)
        if had is not has:
            yield from (Change(name, right, "gains") for right in sorted(has - had, key=repr))
            yield from (Change(name, right, "loses") for right in sorted(had - has, key=repr))


class _Side:
    """One engine's answers, each worked out once for all who hold the same roles."""

    def __init__(self, engine: Engine, now: datetime) -> None:
        self._engine = engine
        self._now = now
        self._of_role: dict[str, list[tuple[Permission, Right]]] = {}
        for one in engine.rules.permissions:
            if one.valid_until is None or one.valid_until > now:
                right = Right(
                    *(one.application, one.resource_type, one.action, one.pattern, one.effect, one.condition),
                    *(self._begin(one.valid_from), one.valid_until),
                )
                self._of_role.setdefault(one.role, []).append((one, right))
        self._of_roles: dict[frozenset[str], frozenset[Right]] = {}

    def roles(self, subject: PreparedSubject | None) -> dict[str, frozenset[Terms]]:
        found: dict[str, set[Terms]] = {}
        for grant in self._lasting(subject):
            terms = Terms(grant.scope, grant.limit, self._begin(grant.valid_from), grant.valid_until)
            for role in self._engine.juniors_of(grant.role):
                found.setdefault(role, set()).add(terms)
        return {role: frozenset(terms) for role, terms in found.items()}

    def rights(self, subject: PreparedSubject | None) -> frozenset[Right]:
        """Permissions of all its roles; a deny of a junior role only where it is inherited."""
        own = frozenset(grant.role for grant in self._lasting(subject))
        if own not in self._of_roles:
            below = {role for one in own for role in self._engine.juniors_of(one)}
            self._of_roles[own] = frozenset(
                right
                for role in below
                for permission, right in self._of_role.get(role, ())
                if permission.effect == "permit" or permission.inherited or role in own
            )
        return self._of_roles[own]

    def _lasting(self, subject: PreparedSubject | None) -> list[Grant]:
        if subject is None or subject.state != "active":
            return []
        if subject.valid_until is not None and subject.valid_until <= self._now:
            return []
        return [one for one in subject.grants if one.valid_until is None or one.valid_until > self._now]

    def _begin(self, since: datetime | None) -> datetime | None:
        return since if since is not None and since > self._now else None


def _ordered(terms: frozenset[Terms]) -> tuple[Terms, ...]:
    return tuple(sorted(terms, key=repr))
