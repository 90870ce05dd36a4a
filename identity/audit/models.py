"""Tables of the record (foundations §6). Insert only: triggers refuse every change.

On PostgreSQL `audit_record` and `audit_personal` are partitioned by class, then by month (UTC); a row whose month has
no partition yet lies in its class's rest until `audit_make_partitions` makes it. The column `xid xid8` of
`audit_record` is the writing transaction; its BRIN index is on `(xid::text::bigint)`.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class AuditRecord(Base):
    """One record. `body` is the exact canonical JSON that is hashed."""

    __tablename__ = "audit_record"

    retention_class: Mapped[str] = mapped_column("class", primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class AuditPersonal(Base):
    """A personal value of a record; the record's body holds only its salted hash, so it can be erased.

    The one update that the database takes is its erasure: `value` to null, and `salt` to nothing, so that a short
    value cannot be guessed back from its hash.
    """

    __tablename__ = "audit_personal"

    retention_class: Mapped[str] = mapped_column("class", primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    record_id: Mapped[UUID] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    value: Mapped[str | None]


RARE_RESULTS = ("deny", "failed", "refused")
RARE = text("result IN ('deny', 'failed', 'refused')")


class AuditFind(Base):
    """The search index, derived from the records and rebuilt at will; `item` counts the items of a batch."""

    __tablename__ = "audit_find"
    __table_args__ = (
        Index("ix_audit_find_at", "at", "record_id", "item"),
        Index("ix_audit_find_person", "person", "at"),
        Index("ix_audit_find_application", "application", "at"),
        Index("ix_audit_find_resource", "resource_id", "at"),
        Index("ix_audit_find_kind", "kind", "at"),
        # Of the other results there are so many that the newest are found by time.
        Index("ix_audit_find_rare_result", "result", "at", sqlite_where=RARE, postgresql_where=RARE),
    )

    record_id: Mapped[UUID] = mapped_column(primary_key=True)
    item: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    retention_class: Mapped[str] = mapped_column("class")
    kind: Mapped[str]
    result: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    person: Mapped[UUID | None]
    user_id: Mapped[UUID | None]
    application: Mapped[str | None]
    resource_type: Mapped[str | None]
    resource_id: Mapped[str | None]
    action: Mapped[str | None]
    request_id: Mapped[str]


class AuditWord(Base):
    """A word, or a pair of Chinese characters, of a record's text (`identity.audit.index`)."""

    __tablename__ = "audit_word"
    __table_args__ = ({"sqlite_with_rowid": False},)

    # By bytes, so that the words with one beginning are neighbours.
    word: Mapped[str] = mapped_column(Text().with_variant(Text(collation="C"), "postgresql"), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    record_id: Mapped[UUID] = mapped_column(primary_key=True)
    item: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class SavedSearch(Keyed, Base):
    """A search under a name; `query` is the search page's fields, `shared` lets every auditor use it."""

    __tablename__ = "saved_search"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    owner_id: Mapped[UUID]
    name: Mapped[str]
    query: Mapped[dict[str, str]] = mapped_column(Json)
    shared: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class AuditFindProgress(Base):
    """How far the index has read: a rowid on SQLite, a transaction id on PostgreSQL."""

    __tablename__ = "audit_find_progress"

    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigInteger)
    complete_to: Mapped[datetime | None]


class AuditLeaf(Base):
    """The order of the records, given by the sealer alone; `seq` counts from 0 without a gap."""

    __tablename__ = "audit_leaf"
    __table_args__ = (Index("ix_audit_leaf_record", "record_id"),)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    retention_class: Mapped[str] = mapped_column("class")
    at: Mapped[datetime]
    record_id: Mapped[UUID]
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditNode(Base):
    """Roots of complete subtrees of 256, 65,536, … leaves (level 8, 16, …), so that a proof reads few rows."""

    __tablename__ = "audit_node"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditSeal(Base):
    """How far the sealer has come: a rowid on SQLite, a transaction id on PostgreSQL, and the number of leaves."""

    __tablename__ = "audit_seal"

    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]
    size: Mapped[int]
    sealed_to: Mapped[datetime | None]


class AuditHead(Base):
    """A signed tree head. `signature` holds the signature lines of its note (`identity.audit.note`), `kid` the id of
    the first key; `anchored_at` is the time at which it first reached an outside anchor, `epoch` its history's number.
    """

    __tablename__ = "audit_head"

    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime]
    kid: Mapped[str]
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    anchored_at: Mapped[datetime | None]
    epoch: Mapped[int] = mapped_column(default=0)


class AuditRestored(Base):
    """The sealer's signed word on a restoration from a backup; `note` is an `identity.audit.restored.Restored`."""

    __tablename__ = "audit_restored"

    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    note: Mapped[str]


class AuditAnchor(Base):
    """A head has reached an outside anchor; `receipt` is what that anchor answered (an RFC 3161 time stamp)."""

    __tablename__ = "audit_anchor"

    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    target: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    receipt: Mapped[bytes | None] = mapped_column(LargeBinary)


class AuditPurge(Base):
    """Retention wants the records of a class with from_at <= at < until_at gone; done after the sealer's tombstone."""

    __tablename__ = "audit_purge"

    retention_class: Mapped[str] = mapped_column("class", primary_key=True)
    from_at: Mapped[datetime] = mapped_column(primary_key=True)
    until_at: Mapped[datetime]
    days: Mapped[int]
    reason: Mapped[str]
    requested_at: Mapped[datetime]
    purged_at: Mapped[datetime | None]


class AuditTombstone(Base):
    """The sealer's signed word on what retention removes; `note` is an `identity.audit.note.Tombstone`."""

    __tablename__ = "audit_tombstone"

    retention_class: Mapped[str] = mapped_column("class", primary_key=True)
    from_at: Mapped[datetime] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    note: Mapped[str]
