"""Tables of people, their identities, where they work and the groups they are in."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Fact, Json, Keyed

_OPEN = text("rev_until IS NULL")
_PRIMARY = text("is_primary AND rev_until IS NULL")


def _one_open(name: str, *columns: str) -> Index:
    """At most one currently known fact about these."""
    return Index(name, *columns, unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN)


class Person(Keyed, Base):
    """The human; duties are separated between persons, not between their identities."""

    __tablename__ = "person"

    created_at: Mapped[datetime]


class PersonProfile(Base):
    """Names and contacts of a person, erasable without touching a fact."""

    __tablename__ = "person_profile"

    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"), primary_key=True)
    name: Mapped[str]
    family_name: Mapped[str | None]
    given_name: Mapped[str | None]
    mail: Mapped[str | None] = mapped_column(index=True)
    phone: Mapped[str | None]
    locale: Mapped[str | None]
    erased_at: Mapped[datetime | None]


class User(Keyed, Base):
    """A sign-in identity of a person. `sub` never changes and is never reused; `login_key` is the folded login."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("sub"), UniqueConstraint("login_key"))

    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"), index=True)
    sub: Mapped[UUID]
    login: Mapped[str]
    login_key: Mapped[str]
    created_at: Mapped[datetime]


class UserState(Fact, Base):
    """Whether an identity may act: active, disabled or deleted; `valid_until` ends it without a job."""

    __tablename__ = "user_state"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'disabled', 'deleted')", name="state"),
        _one_open("uq_user_state_open", "user_id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    state: Mapped[str]
    cause: Mapped[str]


class UserAttribute(Fact, Base):
    """An attribute of an identity that policy may read."""

    __tablename__ = "user_attribute"
    __table_args__ = (_one_open("uq_user_attribute_open", "user_id", "name"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    value: Mapped[str]


class SourceAccount(Keyed, Base):
    """What a directory holds of an identity; matched by (source, immutable id) alone. `seen` is what it last said, or
    what is being written there."""

    __tablename__ = "source_account"
    __table_args__ = (
        UniqueConstraint("source_id", "immutable_id"),
        CheckConstraint("status IN ('present', 'missing', 'quarantined')", name="status"),
    )

    source_id: Mapped[UUID] = mapped_column(ForeignKey("directory_source.id"))
    immutable_id: Mapped[str]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    dn: Mapped[str]
    status: Mapped[str]
    disabled: Mapped[bool] = mapped_column(default=False)
    last_seen_at: Mapped[datetime]
    missing_since: Mapped[datetime | None]
    seen: Mapped[dict[str, Any] | None] = mapped_column(Json)


class WriteBack(Keyed, Base):
    """A value of a profile on its way to the directory that says this field.

    `expected`: what the directory may hold without that being news, None = nothing. `waiting` is tried at `next_at`;
    `newer` = the directory had a value of its own (`found`), which counts; `failed` = it could not be written, for the
    reason `detail`; `done` is kept for a while: the run that was under way then (`run_id`) may have read before.
    `taken` = what the directory says counts here again, as far as we know.
    """

    __tablename__ = "write_back"
    __table_args__ = (
        UniqueConstraint("account_id", "field"),
        CheckConstraint("state IN ('waiting', 'done', 'newer', 'failed')", name="state"),
        CheckConstraint("field IN ('name', 'family_name', 'given_name', 'mail', 'phone')", name="field"),
        Index("ix_write_back_due", "state", "next_at"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("source_account.id"))
    field: Mapped[str]
    value: Mapped[str | None]
    expected: Mapped[list[str | None]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("sync_run.id"))
    ended_at: Mapped[datetime | None]
    found: Mapped[str | None]
    detail: Mapped[str | None]
    taken: Mapped[bool] = mapped_column(default=True)


class OrgUnit(Keyed, Base):
    """A node of an organisation tree; a company is a legal entity with a currency."""

    __tablename__ = "org_unit"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('holding', 'company', 'division', 'department', 'project', 'cost_center')",
            name="kind",
        ),
        UniqueConstraint("tree", "code"),
    )

    tree: Mapped[str]
    kind: Mapped[str]
    code: Mapped[str]
    name: Mapped[str]
    currency: Mapped[str | None]
    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("directory_source.id"))
    immutable_id: Mapped[str | None]
    dn: Mapped[str | None]
    created_at: Mapped[datetime]


class OrgPlacement(Fact, Base):
    """Where a unit hangs: below `parent_id`, in the legal entity `company_id`; `active` false = abolished."""

    __tablename__ = "org_placement"
    __table_args__ = (_one_open("uq_org_placement_open", "org_unit_id"),)

    org_unit_id: Mapped[UUID] = mapped_column(ForeignKey("org_unit.id"), index=True)
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("org_unit.id"))
    company_id: Mapped[UUID | None] = mapped_column(ForeignKey("org_unit.id"))
    active: Mapped[bool] = mapped_column(default=True)


class OrgClosure(Base):
    """Derived from the current placements: every unit with each of its ancestors and itself (depth 0)."""

    __tablename__ = "org_closure"

    ancestor_id: Mapped[UUID] = mapped_column(ForeignKey("org_unit.id"), primary_key=True)
    descendant_id: Mapped[UUID] = mapped_column(ForeignKey("org_unit.id"), primary_key=True, index=True)
    depth: Mapped[int]


class Position(Keyed, Base):
    """A position (岗位)."""

    __tablename__ = "position"
    __table_args__ = (UniqueConstraint("code"),)

    code: Mapped[str]
    name: Mapped[str]


class JobGrade(Keyed, Base):
    """A job grade (职级); a higher rank is more senior."""

    __tablename__ = "job_grade"
    __table_args__ = (UniqueConstraint("code"),)

    code: Mapped[str]
    name: Mapped[str]
    rank: Mapped[int]


class Employment(Fact, Base):
    """A person's employment in a company; its roles go to `user_id` and to no other identity of the person."""

    __tablename__ = "employment"
    __table_args__ = (
        _one_open("uq_employment_open", "employment_id"),
        Index(
            "uq_employment_primary",
            "user_id",
            unique=True,
            sqlite_where=_PRIMARY,
            postgresql_where=_PRIMARY,
        ),
        Index("ix_employment_number", "company_id", "employee_number"),
    )

    employment_id: Mapped[UUID] = mapped_column(index=True)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("person.id"), index=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    company_id: Mapped[UUID] = mapped_column(ForeignKey("org_unit.id"))
    org_unit_id: Mapped[UUID | None] = mapped_column(ForeignKey("org_unit.id"))
    position_id: Mapped[UUID | None] = mapped_column(ForeignKey("position.id"))
    grade_id: Mapped[UUID | None] = mapped_column(ForeignKey("job_grade.id"))
    manager_person_id: Mapped[UUID | None] = mapped_column(ForeignKey("person.id"))
    employee_number: Mapped[str | None]
    is_primary: Mapped[bool] = mapped_column(default=True)


class Group(Keyed, Base):
    """A group of identities, from a directory (`source_id`) or made here."""

    __tablename__ = "groups"
    __table_args__ = (
        UniqueConstraint("source_id", "immutable_id"),
        UniqueConstraint("name"),
    )

    source_id: Mapped[UUID | None] = mapped_column(ForeignKey("directory_source.id"))
    immutable_id: Mapped[str | None]
    name: Mapped[str]
    display_name: Mapped[str]
    dn: Mapped[str | None]
    created_at: Mapped[datetime]


class GroupNaming(Fact, Base):
    """How a group is called: mappings name groups, so that a rename is a fact which decisions read."""

    __tablename__ = "group_naming"
    __table_args__ = (_one_open("uq_group_naming_open", "group_id"),)

    group_id: Mapped[UUID] = mapped_column(ForeignKey("groups.id"), index=True)
    name: Mapped[str]


class GroupEdge(Fact, Base):
    """One group is a member of another; the members of the child are members of the parent."""

    __tablename__ = "group_edge"
    __table_args__ = (_one_open("uq_group_edge_open", "parent_id", "child_id"),)

    parent_id: Mapped[UUID] = mapped_column(ForeignKey("groups.id"), index=True)
    child_id: Mapped[UUID] = mapped_column(ForeignKey("groups.id"), index=True)


class Membership(Fact, Base):
    """A direct membership of an identity in a group."""

    __tablename__ = "membership"
    __table_args__ = (_one_open("uq_membership_open", "group_id", "user_id"),)

    group_id: Mapped[UUID] = mapped_column(ForeignKey("groups.id"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
