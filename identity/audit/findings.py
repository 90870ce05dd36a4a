"""What a verification found, and how it names the one record behind a root that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from identity.audit.anchors import LeafLog
from identity.audit.note import Head
from identity.audit.restored import Restored
from identity.audit.tree import Tiles

FINDINGS_MAX = 1_000

# What can be wrong, in words; {…} are filled in.
WORDS = {
    "changed": "the record was changed",
    "columns": "the row's class, time or id is not that of its body",
    "leaf": "the leaf's class or time is not that of its record",
    "deleted": "the record was deleted",
    "inserted": "the record was inserted behind the sealer's back",
    "twice": "the record was sealed twice",
    "reordered": "the records were put into another order",
    "cut": "the log was cut",
    "gap": "the leaves are not numbered without a gap",
    "rewritten": "the records of this range are not those that the head was signed over",
    "head": "a head does not bear the sealer's signature",
    "fork": "two signed heads contradict each other",
    "tombstone": "a tombstone does not fit what is gone",
    "restored": "a restoration from a backup is not stated as it was",
    "personal": "a personal value was changed",
    "erased": "a personal value was erased without a record of it",
    "node": "a stored node of the tree is wrong, so proofs would not hold",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was; `seq` is the record's place in the log, where it has one."""

    what: str
    seq: int | None
    record_id: UUID | None
    detail: str = ""

    def __str__(self) -> str:
        place = "" if self.seq is None else f"seq {self.seq} "
        record = "" if self.record_id is None else f"record {self.record_id} "
        return f"{place}{record}{self.what}: {WORDS[self.what]}{f' ({self.detail})' if self.detail else ''}"


@dataclass(slots=True)
class Report:
    """The outcome. `proved` is the widest head from outside that holds: everything before it is proved unchanged when
    there are no findings. `late` counts records that were sealed more than an hour after their time. `restored` are
    the restorations that the sealer states, with what each lost; `superseded` counts the heads of what was lost."""

    findings: list[Finding] = field(default_factory=list)
    total: int = 0
    leaves: int = 0
    records: int = 0
    purged: int = 0
    waiting: int = 0
    late: int = 0
    heads: int = 0
    superseded: int = 0
    restored: Sequence[Restored] = ()
    proved: Head | None = None
    last_at: datetime | None = None

    def add(self, what: str, seq: int | None, record_id: bytes | None, detail: str = "") -> None:
        """Note a finding once; after the first thousand they are counted only."""
        found = Finding(what, seq, UUID(bytes=record_id) if record_id else None, detail)
        if any((one.what, one.seq, one.record_id) == (what, seq, found.record_id) for one in self.findings[-50:]):
            return
        self.total += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(found)

    @property
    def ok(self) -> bool:
        return not self.total

    @property
    def first(self) -> Finding | None:
        """The first bad one in the order of the log; those without a place come last."""
        return min(
            self.findings, key=lambda one: (one.seq is None, one.seq or 0, one.what == "rewritten"), default=None
        )


def name_difference(
    report: Report,
    found: Sequence[tuple[bytes, bytes]],
    log: LeafLog | None,
    good: Tiles,
    head: Head,
) -> None:
    """Add what differs between the last good head and `head`, whose root does not fit.

    `found` are (record id, leaf hash) of the database's leaves from `good.size` on; `log` is the leaf log, which is
    believed only when it leads from the good tree to the head's root.
    """
    start = good.size
    said = log.read(start, head.size) if log is not None and log.size >= head.size else []
    grown = good.copy()
    grown.extend([digest for _, digest in said])
    if grown.size != head.size or grown.root() != head.root:
        short = head.size - start - len(found)
        missing = f", {short} leaves are missing" if short > 0 else ""
        report.add("rewritten", start, None, f"somewhere in seq {start} to {head.size - 1}{missing}")
        return
    index = next((n for n, pair in enumerate(said) if n >= len(found) or found[n] != pair), len(said))
    seq = start + index
    if index == len(said):
        return  # the database has what was anchored; the tree before was told already
    expected_id, expected_hash = said[index]
    if index >= len(found):
        report.add("cut", seq, expected_id, f"{len(said) - index} leaves are missing, this is the first")
        return
    found_id, _ = found[index]
    if found_id == expected_id:
        report.add(
            "changed", seq, expected_id, f"leaf {expected_hash.hex()[:16]}… expected, the leaf was rewritten too"
        )
    elif found_id in {record_id for record_id, _ in said[index + 1 :]}:
        moved = expected_id in {record_id for record_id, _ in found[index + 1 :]}
        report.add("reordered" if moved else "deleted", seq, expected_id, "its leaf and the numbers behind it too")
    else:
        report.add("inserted", seq, found_id, "with a leaf of its own")
