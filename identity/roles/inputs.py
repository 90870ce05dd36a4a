"""Accepted shapes of roles, rules, mappings and assignments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from identity.people.inputs import Code, Plain
from policies import Amount


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _amount(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is not None:
        Amount.parse(value)
    return value


RoleKey = Annotated[
    str,
    StringConstraints(min_length=3, max_length=200, pattern=r"^[a-z][a-z0-9-]*:[^:]+$"),
]
AmountInput = Annotated[dict[str, Any] | None, AfterValidator(_amount)]


class RoleInput(_Input):
    """A role; its key is `application:name` or `business:name`."""

    application: Code | None = None
    name: Plain
    title: Plain
    description: str = ""


class PermissionInput(_Input):
    """What a role permits or denies in one application."""

    role: RoleKey
    application: Code
    type: Code
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=512)] = "**"
    action: Code
    effect: Literal["permit", "deny"] = "permit"
    condition: Annotated[str, StringConstraints(max_length=1_024)] | None = None
    obligations: tuple[Any, ...] = ()
    inherited: bool = False
    valid_from: datetime | None = None
    valid_until: datetime | None = None


class ScopeTransform(_Input):
    """How a mapping row carries or narrows the scope; `@own` = of the person's employment."""

    transform: Literal["inherit", "narrow", "fixed"] = "inherit"
    company: Code | None = None
    org_unit: Code | None = None
    business_type: Code | None = None


class MappingInput(_Input):
    """One mapping row; exactly one source."""

    source_kind: Literal["group", "position", "unit", "business_role"]
    source: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    role: RoleKey
    exclude: bool = False
    condition: Annotated[str, StringConstraints(max_length=1_024)] | None = None
    scope: ScopeTransform = ScopeTransform()
    limit: AmountInput = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None


class DutyRuleInput(_Input):
    """A separation-of-duty rule.

    `static`: {"roles": […], "sides": [{"roles": […], "permissions": [[application, type, action], …]}, …], "n": 2,
    "scope": "company" | "unit" | "any"}; `dynamic`: {"roles": […], "n": 2}; `object`: {"application", "type",
    "actions": […]} in their order.
    """

    id: Code
    kind: Literal["static", "dynamic", "object"]
    title: Plain
    level: Literal["H", "M", "L"] = "H"
    definition: dict[str, Any]


class PairInput(_Input):
    """A pair of conflicting duties of the library."""

    id: Code
    kind: Literal["static", "object"] = "static"
    level: Literal["H", "M", "L"] = "H"
    scope: Literal["company", "unit", "any"] = "company"
    a: Plain
    b: Plain


class MitigationInput(_Input):
    """A mitigating control: the person may break this rule until the end, the owner watches it."""

    person_id: UUID
    rule: Code
    control: Plain
    owner_person_id: UUID
    reason: Plain
    valid_until: datetime


class InheritanceInput(_Input):
    """The senior role has every permission of the junior one."""

    senior: RoleKey
    junior: RoleKey


class AssignmentInput(_Input):
    """One tuple (holder, role, scope, limit, validity)."""

    holder_kind: Literal["user", "group", "position", "unit"]
    holder_id: UUID
    role: RoleKey
    company: Code | None = None
    org_unit: Code | None = None
    business_type: Code | None = None
    limit: AmountInput = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> AssignmentInput:
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError("ends before it begins")
        return self


class AdminGrantInput(_Input):
    """Within these bounds the holder (a user's id, or a role's key) may grant; a role is a key or `application:*`."""

    holder_kind: Literal["user", "role"]
    holder: Annotated[str, StringConstraints(min_length=3, max_length=200)]
    powers: Annotated[tuple[Literal["assign", "revoke"], ...], Field(min_length=1)]
    roles: Annotated[tuple[RoleKey, ...], Field(min_length=1)]
    company: Code | None = None
    org_unit: Code | None = None
    business_type: Code | None = None
    limit: AmountInput = None
    max_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    @model_validator(mode="after")
    def _names_its_holder(self) -> AdminGrantInput:
        if self.holder_kind == "user":
            UUID(self.holder)
        return self


class ProposalInput(_Input):
    """An administration role for a user, to be given or taken."""

    user_id: UUID
    role: Literal["tessera:system-admin", "tessera:security-admin", "tessera:audit-admin"]
    action: Literal["assign", "revoke"] = "assign"


class RuleSetInput(_Input):
    """The whole content of a policy version."""

    permissions: tuple[PermissionInput, ...] = ()
    inheritance: tuple[InheritanceInput, ...] = ()
    mappings: tuple[MappingInput, ...] = Field(default=())
    duties: tuple[DutyRuleInput, ...] = ()
