"""Tables of what is not in force yet: drafts, what they were found to do, and whether a second person must agree."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class PolicyDraft(Keyed, Base):
    """A policy version that is being written: whose it is, why, and how far it has come.

    Its rules are those of `version`, which may change in the state `editing` only. `digest` names them
    (`service_policy.digest`), `row_version` grows with each change, `writers` are the persons who made one. A draft
    goes editing → proposed → published, back to editing when it is refused or withdrawn, or it is discarded.
    """

    __tablename__ = "policy_draft"
    __table_args__ = (
        UniqueConstraint("version"),
        CheckConstraint("state IN ('editing', 'proposed', 'published', 'discarded')", name="state"),
        Index("ix_policy_draft_state", "state", "created_at"),
    )

    title: Mapped[str]
    version: Mapped[int] = mapped_column(ForeignKey("policy_version.version"))
    restores: Mapped[int | None] = mapped_column(ForeignKey("policy_version.version"))
    state: Mapped[str] = mapped_column(default="editing")
    digest: Mapped[str]
    row_version: Mapped[int] = mapped_column(default=1)
    owner: Mapped[str]
    owner_person: Mapped[UUID | None]
    writers: Mapped[list[str]] = mapped_column(Json)
    reason: Mapped[str]
    reference: Mapped[str | None]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    proposed_by: Mapped[UUID | None]
    proposed_at: Mapped[datetime | None]
    decided_by: Mapped[UUID | None]
    decided_at: Mapped[datetime | None]
    answer: Mapped[str] = mapped_column(default="")
    """Why it was refused the last time."""


class SecondPersonRule(Base):
    """Whether rules are published by a second person, and an open proposal to change that; one row at most."""

    __tablename__ = "second_person_rule"
    __table_args__ = (CheckConstraint("slot = 1", name="one_row"),)

    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    required: Mapped[bool]
    row_version: Mapped[int] = mapped_column(default=1)
    wanted: Mapped[bool | None]
    reason: Mapped[str] = mapped_column(default="")
    reference: Mapped[str | None]
    proposed_by: Mapped[UUID | None]
    proposed_at: Mapped[datetime | None]


class PolicyCheck(Keyed, Base):
    """A comparison of two versions for all people, or a replay of recorded decisions under another version.

    `before_version` 0 = no rules. `counts` says what was found, also beyond the rows that are kept; `error` is a code.
    """

    __tablename__ = "policy_check"
    __table_args__ = (
        CheckConstraint("kind IN ('compare', 'replay')", name="kind"),
        CheckConstraint("state IN ('queued', 'running', 'done', 'failed')", name="state"),
        Index("ix_policy_check_state", "state", "asked_at"),
        Index("ix_policy_check_after", "after_version", "asked_at"),
    )

    kind: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    before_version: Mapped[int]
    after_version: Mapped[int] = mapped_column(ForeignKey("policy_version.version"))
    after_digest: Mapped[str]
    days: Mapped[int | None]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    facts_revision: Mapped[int | None]
    counts: Mapped[dict[str, Any]] = mapped_column(Json)
    error: Mapped[str] = mapped_column(default="")


class PolicyCheckRow(Base):
    """One thing that would be otherwise. Of a comparison: a user gains, loses or changes (holds in other bounds) a
    role or a permission. Of a replay: a recorded decision's answer (`change` = permit | deny is the new one).
    """

    __tablename__ = "policy_check_row"
    __table_args__ = (Index("ix_policy_check_row_user", "check_id", "user_id"),)

    check_id: Mapped[UUID] = mapped_column(ForeignKey("policy_check.id"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    user_id: Mapped[UUID | None]
    application: Mapped[str]
    kind: Mapped[str]
    """role, permission or decision."""
    name: Mapped[str]
    change: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    record_id: Mapped[UUID | None]
    at: Mapped[datetime | None]
