"""The values of a decision. All are immutable; none reads a clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from policies.engine import PreparedSubject

_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,4})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_INT64 = 2**63
SCALE = 10_000


class Amount(NamedTuple):
    """Money: `value` is the decimal scaled by 10⁴ in an int64, `currency` an ISO 4217 code."""

    value: int
    currency: str

    @classmethod
    def parse(cls, data: Any) -> Amount:
        """From {"value": "123.45", "currency": "CNY"}.

        Raises ValueError for floats, more than four decimals and overflow.
        """
        if not isinstance(data, Mapping):
            raise ValueError("an amount is an object with value and currency")
        value, currency = data.get("value"), data.get("currency")
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
            raise ValueError("an amount's value is a decimal string with at most four decimals")
        if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
            raise ValueError("an amount's currency is three capital letters")
        whole, _, part = value.lstrip("-").partition(".")
        scaled = int(whole) * SCALE + int(part.ljust(4, "0") or "0")
        if scaled >= _INT64:
            raise ValueError("an amount is too large")
        return cls(-scaled if value.startswith("-") else scaled, currency)

    def __str__(self) -> str:
        sign, value = ("-", -self.value) if self.value < 0 else ("", self.value)
        text = f"{value // SCALE}.{value % SCALE:04d}"
        return f"{sign}{text.removesuffix('00')} {self.currency}"


class Scope(NamedTuple):
    """Where a grant holds; None = anywhere. `org_unit` covers the unit and all units below it."""

    company: str | None = None
    org_unit: str | None = None
    business_type: str | None = None


ANYWHERE = Scope()


@dataclass(frozen=True, slots=True)
class Grant:
    """One assignment tuple: this role, in this scope, up to this limit, for this time. `cause` says whence."""

    role: str
    scope: Scope = ANYWHERE
    limit: Amount | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Permission:
    """What a role permits or denies: `action` on resources of a type whose id matches `pattern`.

    A pattern is an exact id, or '/'-separated segments where `*` is one segment and a last `**` is any rest, also
    none. `inherited` matters for denies only: senior roles share a deny only when it is marked so.
    """

    id: str
    role: str
    application: str
    resource_type: str
    pattern: str
    action: str
    effect: Literal["permit", "deny"] = "permit"
    condition: str | None = None
    obligations: tuple[Any, ...] = ()
    inherited: bool = False
    valid_from: datetime | None = None
    valid_until: datetime | None = None


class Carrier(NamedTuple):
    """An action on a type of an application: whoever has a role with a permit for it carries it."""

    application: str
    resource_type: str
    action: str


class Side(NamedTuple):
    """One of the duties that a static rule separates: whoever holds any of these has it."""

    roles: tuple[str, ...] = ()
    permissions: tuple[Carrier, ...] = ()

    def __str__(self) -> str:
        return ", ".join((*self.roles, *(":".join(one) for one in self.permissions)))


class StaticDuty(NamedTuple):
    """Nobody has `n` or more of these duties (each of `roles` is one) with overlapping validity and in the same
    company (or unit, or anywhere: `scope`)."""

    id: str
    roles: tuple[str, ...]
    n: int
    scope: str = "company"
    sides: tuple[Side, ...] = ()


class DynamicDuty(NamedTuple):
    """Nobody performs with `n` or more of these roles in one session."""

    id: str
    roles: tuple[str, ...]
    n: int


class ObjectDuty(NamedTuple):
    """The persons of these actions on one object are pairwise distinct; the first action needs no evidence."""

    id: str
    application: str
    resource_type: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One policy version. `inheritance` is (senior, junior): the senior role has the junior's permissions."""

    version: int
    permissions: tuple[Permission, ...] = ()
    inheritance: tuple[tuple[str, str], ...] = ()
    static_duties: tuple[StaticDuty, ...] = ()
    dynamic_duties: tuple[DynamicDuty, ...] = ()
    object_duties: tuple[ObjectDuty, ...] = ()


class Act(NamedTuple):
    """A person performed an action on the object that is asked about."""

    person: str
    action: str


class Activation(NamedTuple):
    """The person used a role of a dynamic duty, in a session that has not ended."""

    rule: str
    role: str


class Action(NamedTuple):
    """What is to be done."""

    name: str
    properties: Mapping[str, Any] = {}


class Resource(NamedTuple):
    """What it is to be done to; properties are the application's word."""

    application: str
    type: str
    id: str
    properties: Mapping[str, Any] = {}


class Request(NamedTuple):
    """One question. `now` is the time of the decision; `acts` and `activations` are what is known so far.

    `stands_for` is the person in whose place the subject acts, if any: a stand-in's act counts for both.
    """

    subject: PreparedSubject
    action: Action
    resource: Resource
    context: Mapping[str, Any]
    now: datetime
    intent: str = "ask"
    acts: tuple[Act, ...] = ()
    activations: tuple[Activation, ...] = ()
    stands_for: str | None = None

    @property
    def persons(self) -> tuple[str, ...]:
        """The persons for whom the act would count."""
        person = self.subject.person
        return (person,) if self.stands_for in {None, person} else (person, str(self.stands_for))


class Decision(NamedTuple):
    """The answer: `reason` is a stable code, `rules` the ids of the rules that made it.

    `activates` are the roles of dynamic duties that performing this uses, and that were not in use yet.
    """

    permit: bool
    reason: str
    rules: tuple[str, ...] = ()
    obligations: tuple[Any, ...] = ()
    policy_version: int = 0
    activates: tuple[Activation, ...] = ()

    @classmethod
    def denied(cls, reason: str, policy_version: int, rules: tuple[str, ...] = ()) -> Decision:
        return cls(False, reason, rules, (), policy_version)
