"""Tables of roles, policy versions, and the facts that say who holds what."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Fact, Json, Keyed

_OPEN = text("rev_until IS NULL")


class Role(Keyed, Base):
    """A role of one application, or a business role (no application).

    `key` is `application:name` or `business:name`; policy rows and decisions use it. Built-in roles are the
    console's and are never part of a mapping.
    """

    __tablename__ = "role"
    __table_args__ = (UniqueConstraint("key"),)

    key: Mapped[str]
    application_id: Mapped[UUID | None] = mapped_column(ForeignKey("application.id"), index=True)
    name: Mapped[str]
    title: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    built_in: Mapped[bool] = mapped_column(default=False)
    managed_by: Mapped[str] = mapped_column(default="console")
    created_at: Mapped[datetime]


class PolicyVersion(Base):
    """An immutable set of rules; its rows are keyed by `version`."""

    __tablename__ = "policy_version"
    __table_args__ = (CheckConstraint("state IN ('draft', 'published')", name="state"),)

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    based_on: Mapped[int | None] = mapped_column(ForeignKey("policy_version.version"))
    state: Mapped[str]
    note: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]


class PolicyInForce(Fact, Base):
    """Which version decides; publishing and rolling back change this fact and nothing else."""

    __tablename__ = "policy_in_force"
    __table_args__ = (
        Index(
            "uq_policy_in_force_open",
            "slot",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
    )

    slot: Mapped[int] = mapped_column(default=1)
    version: Mapped[int] = mapped_column(ForeignKey("policy_version.version"))


class PermissionRow(Base):
    """What a role permits or denies, in one policy version."""

    __tablename__ = "permission"
    __table_args__ = (CheckConstraint("effect IN ('permit', 'deny')", name="effect"),)

    version: Mapped[int] = mapped_column(ForeignKey("policy_version.version"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    role_key: Mapped[str] = mapped_column(ForeignKey("role.key"))
    application: Mapped[str]
    resource_type: Mapped[str]
    pattern: Mapped[str]
    action: Mapped[str]
    effect: Mapped[str]
    condition: Mapped[str | None]
    obligations: Mapped[list[Any]] = mapped_column(Json)
    inherited: Mapped[bool] = mapped_column(default=False)
    valid_from: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]


class RoleInheritance(Base):
    """The senior role has every permission of the junior one, in one policy version."""

    __tablename__ = "role_inheritance"

    version: Mapped[int] = mapped_column(ForeignKey("policy_version.version"), primary_key=True)
    senior_key: Mapped[str] = mapped_column(ForeignKey("role.key"), primary_key=True)
    junior_key: Mapped[str] = mapped_column(ForeignKey("role.key"), primary_key=True)


class RoleMapping(Base):
    """Who of a group, position, unit or business role becomes what in an application, in one policy version.

    `source_id` is the group's, position's or unit's id, or the business role's key. `scope` is
    {"transform": "inherit" | "narrow" | "fixed", "company"?, "org_unit"?, "business_type"?}; `limit` is an
    amount or null. An excluding row removes every mapped membership of its role.
    """

    __tablename__ = "role_mapping"
    __table_args__ = (
        CheckConstraint(
            "source_kind IN ('group', 'position', 'unit', 'business_role')",
            name="source_kind",
        ),
    )

    version: Mapped[int] = mapped_column(ForeignKey("policy_version.version"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    source_kind: Mapped[str]
    source_id: Mapped[str]
    role_key: Mapped[str] = mapped_column(ForeignKey("role.key"))
    exclude: Mapped[bool] = mapped_column(default=False)
    condition: Mapped[str | None]
    scope: Mapped[dict[str, Any]] = mapped_column(Json)
    limit: Mapped[dict[str, Any] | None] = mapped_column(Json)
    valid_from: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]


class DutyRule(Base):
    """A separation-of-duty rule (static, dynamic or by object), in one policy version."""

    __tablename__ = "duty_rule"
    __table_args__ = (CheckConstraint("kind IN ('static', 'dynamic', 'object')", name="kind"),)

    version: Mapped[int] = mapped_column(ForeignKey("policy_version.version"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    level: Mapped[str]
    definition: Mapped[dict[str, Any]] = mapped_column(Json)


class Assignment(Fact, Base):
    """One tuple (holder, role, scope, limit, validity); tuples never merge."""

    __tablename__ = "assignment"
    __table_args__ = (
        CheckConstraint("holder_kind IN ('user', 'group', 'position', 'unit')", name="holder_kind"),
        Index(
            "uq_assignment_open",
            "assignment_id",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
        Index("ix_assignment_holder", "holder_kind", "holder_id"),
    )

    assignment_id: Mapped[UUID]
    holder_kind: Mapped[str]
    holder_id: Mapped[UUID]
    role_key: Mapped[str] = mapped_column(ForeignKey("role.key"), index=True)
    company: Mapped[str | None]
    org_unit: Mapped[str | None]
    business_type: Mapped[str | None]
    limit_value: Mapped[int | None]
    limit_currency: Mapped[str | None]
    granted_by: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    managed_by: Mapped[str] = mapped_column(default="console")


class AdminGrant(Fact, Base):
    """Who may assign or revoke which application roles, within which scope; granting is not holding."""

    __tablename__ = "admin_grant"
    __table_args__ = (
        Index(
            "uq_admin_grant_open",
            "grant_id",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
    )

    grant_id: Mapped[UUID]
    holder_kind: Mapped[str]
    holder_id: Mapped[str]
    powers: Mapped[list[str]] = mapped_column(Json)
    role_keys: Mapped[list[str]] = mapped_column(Json)
    company: Mapped[str | None]
    org_unit: Mapped[str | None]
    business_type: Mapped[str | None]
    limit_value: Mapped[int | None]
    limit_currency: Mapped[str | None]
    max_days: Mapped[int | None]
    granted_by: Mapped[str]


class AdminProposal(Keyed, Base):
    """An administration role is to be given to a user or taken from him; a second person decides."""

    __tablename__ = "admin_proposal"
    __table_args__ = (
        CheckConstraint("action IN ('assign', 'revoke')", name="action"),
        CheckConstraint("state IN ('open', 'approved', 'refused')", name="state"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    role_key: Mapped[str]
    action: Mapped[str]
    reason: Mapped[str]
    state: Mapped[str]
    proposed_by: Mapped[UUID | None]
    proposed_at: Mapped[datetime]
    decided_by: Mapped[UUID | None]
    decided_at: Mapped[datetime | None]


class HeldGain(Fact, Base):
    """A derived membership that is left out until somebody decides, because it would break a separated duty."""

    __tablename__ = "held_gain"

    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"), index=True)
    role_key: Mapped[str]
    cause: Mapped[str]
    rule_id: Mapped[str]


class Mitigation(Fact, Base):
    """A mitigating control: one person may break one duty rule until `valid_until`, somebody watches it."""

    __tablename__ = "mitigation"
    __table_args__ = (
        Index(
            "uq_mitigation_open",
            "person_id",
            "rule_id",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
    )

    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"), index=True)
    rule_id: Mapped[str]
    control: Mapped[str]
    owner_person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"))
    reason: Mapped[str]


class DutyReport(Keyed, Base):
    """What a detective run found: who breaks which static rule, with a control or without."""

    __tablename__ = "duty_report"

    made_at: Mapped[datetime] = mapped_column(index=True)
    facts_revision: Mapped[int]
    findings: Mapped[list[dict[str, Any]]] = mapped_column(Json)


class DutyActivation(Keyed, Base):
    """A role of a dynamic duty set was used in a session of this person."""

    __tablename__ = "duty_activation"
    __table_args__ = (UniqueConstraint("person_id", "rule_id", "role_key", "session"),)

    person_id: Mapped[UUID]
    rule_id: Mapped[str]
    role_key: Mapped[str]
    session: Mapped[str]
    at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ObjectAct(Keyed, Base):
    """A person performed an action on an object of an application."""

    __tablename__ = "object_act"
    __table_args__ = (UniqueConstraint("application", "resource_type", "resource_id", "person_id", "action"),)

    application: Mapped[str]
    resource_type: Mapped[str]
    resource_id: Mapped[str]
    person_id: Mapped[UUID]
    action: Mapped[str]
    at: Mapped[datetime]
