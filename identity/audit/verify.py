"""The verifier: is every record older than the last anchored head what it was, and if not, which is the first?

One pass over leaves and records at once: a full outer join in memory, one window of time after the other. The database
is believed in nothing: heads, leaf log and public key come from outside, and everything is computed anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, func, select

from identity.audit import bulk, merkle
from identity.audit.encode import LEAD, leads
from identity.audit.findings import Report, name_difference
from identity.audit.kinds import CLASSES, Kind, class_of
from identity.audit.models import AuditLeaf, AuditRecord, AuditSeal, AuditTombstone
from identity.audit.note import Head, Tombstone, open_note
from identity.audit.restored import is_statement
from identity.audit.testimony import Evidence, Testimony
from identity.audit.tree import Tiles
from identity.core.db import to_micros
from identity.core.errors import Invalid

CHUNK = 20_000
LATE = timedelta(hours=1)
_BEGIN = LEAD + max(len(kind) for kind in Kind) + len('","personal":')

LAST = to_micros(datetime(9999, 12, 31, tzinfo=UTC))
REDACTED = Kind.AUDIT_REDACTED.value.encode()
_Row = tuple[int, bytes, str]
"""(at, leaf hash, class)"""


def verify(connection: Connection, evidence: Evidence, progress: Callable[[int], None] | None = None) -> Report:
    """Verify the whole record on one consistent connection; `progress` hears the number of leaves done."""
    bulk.unhurried(connection)
    return _Pass(connection, evidence, progress or (lambda _: None)).run()


@dataclass(slots=True)
class _Grave:
    """A tombstone, with what the leaves say of the records that it covers."""

    stone: Tombstone
    low: int
    high: int
    frontier: merkle.Frontier = field(default_factory=merkle.Frontier)
    gone: list[tuple[bytes, int]] = field(default_factory=list)
    purged: int = 0

    def covers(self, seq: int, at: int, name: str) -> bool:
        stone = self.stone
        return self.low <= at < self.high and stone.retention_class == name and stone.first_seq <= seq <= stone.last_seq


class _Pass:
    def __init__(self, connection: Connection, evidence: Evidence, progress: Callable[[int], None]) -> None:
        self._connection = connection
        self._evidence = evidence
        self._progress = progress
        self.report = Report()
        self._tiles, self._good = Tiles(), Tiles()
        self._tail: list[tuple[Sequence[bytes], Sequence[bytes]]] = []
        """Record ids and leaf hashes since the last good head."""
        self._broken: Head | None = None
        self._held: list[tuple[Head, str]] = []
        """The heads that fit the tree."""
        self._said = Testimony(connection, evidence, self.report)
        self._heads = self._said.heads
        self._graves = self._tombstones()
        self._leaves: dict[bytes, bulk.LeafRow] = {}
        self._rows: dict[bytes, _Row] = {}
        self._flawed: dict[bytes, str] = {}
        self._kinds: dict[bytes, str | None] = {kind.value.encode(): class_of(kind) for kind in Kind}
        self._erased: set[tuple[bytes, str]] = set()
        self._redacted: set[tuple[bytes, str]] = set()
        self._late_before = -(1 << 62)

    def run(self) -> Report:
        low: int | None = None
        start, chunk = 0, bulk.leaves(self._connection, 0, CHUNK)
        while chunk.seqs:
            following = bulk.leaves(self._connection, start + CHUNK, start + 2 * CHUNK)
            self._hang(chunk)
            self._take_leaves(chunk)
            # The last few may lie far ahead (a clock, a forger): the window ends where nearly all of the chunk does.
            times = sorted(chunk.times)
            high = min(times[len(times) * 19 // 20], LAST) if following.seqs else None
            if high is None or low is None or high > low:
                self._take_records(low, high)
                low = high
            self._settle(low)
            start, chunk = start + CHUNK, following
            self._progress(self.report.leaves)
        if low is not None or not start:
            self._take_records(low, None)
        self._settle(None)
        self._close()
        return self.report

    # Leaves and heads.

    def _hang(self, chunk: bulk.Leaves) -> None:
        """Grow the tree, stopping at each head on the way."""
        done, count = 0, len(chunk.seqs)
        while done < count:
            while self._heads and self._heads[0][0].size <= self._tiles.size:
                self._at_head(*self._heads.pop(0))
            until = count
            if self._heads:
                until = min(until, done + self._heads[0][0].size - self._tiles.size)
            hashes = chunk.hashes[done:until]
            self._check_nodes(self._tiles.extend(hashes))
            if self._broken is None:
                self._tail.append((chunk.ids[done:until], hashes))
            self._count_late(chunk.times[done:until])
            done = until
        while self._heads and self._heads[0][0].size <= self._tiles.size:
            self._at_head(*self._heads.pop(0))

    def _at_head(self, head: Head, note: str) -> None:
        """The tree has this head's size (or, for a second head of one size, had it)."""
        if self._broken is not None:
            return
        if head.size == self._tiles.size and head.root == self._tiles.root():
            self._held.append((head, note))
            self._late_before = to_micros(head.at - LATE)
            self._good, self._tail = self._tiles.copy(), []
        elif self._said.signed(head, note):
            self._broken = head
            if self._good.size == head.size:
                self.report.add("fork", head.size - 1, None, f"heads of {head.size} leaves")
            else:
                self._name_difference(head)

    def _name_difference(self, head: Head) -> None:
        found = [leaf for ids, hashes in self._tail for leaf in zip(ids, hashes, strict=True)]
        name_difference(self.report, found, self._said.leaf_log, self._good, head)

    def _check_nodes(self, nodes: Iterable[tuple[int, int, bytes]]) -> None:
        nodes = list(nodes)
        if not nodes:
            return
        for level in {level for level, _, _ in nodes}:
            wanted = [(index, digest) for one, index, digest in nodes if one == level]
            stored = bulk.hashes(self._connection, level, wanted[0][0], wanted[-1][0] + 1)
            for n, (index, digest) in enumerate(wanted):
                if n >= len(stored) or stored[n] != digest:
                    self.report.add("node", index << level, None, f"level {level}, index {index}")
                    break

    def _count_late(self, times: Sequence[int]) -> None:
        if times and min(times) < self._late_before:
            self.report.late += sum(at < self._late_before for at in times)

    def _take_leaves(self, chunk: bulk.Leaves) -> None:
        """Put the leaves where their records find them; numbers without a gap, no record twice."""
        expected, count = self.report.leaves, len(chunk.seqs)
        new = dict(zip(chunk.ids, chunk.rows(), strict=True))
        usual = (
            len(new) == count
            and chunk.seqs == list(range(expected, expected + count))
            and self._leaves.keys().isdisjoint(new)
            and self._rows.keys().isdisjoint(new)
            and not self._graves
        )
        if usual:
            self._leaves.update(new)
            self.report.leaves += count
            return
        for leaf in chunk.rows():
            seq, at, record_id, digest, name = leaf
            if seq != expected:
                self.report.add("gap", expected, None, f"seq {seq} follows")
            expected = seq + 1
            self._bury(seq, at, digest, name)
            row = self._rows.pop(record_id, None)
            if row is not None:
                self._meet(leaf, row)
            elif record_id in self._leaves:
                self.report.add("twice", seq, record_id, f"first at seq {self._leaves[record_id][0]}")
            else:
                self._leaves[record_id] = leaf
        self.report.leaves = expected

    # Records.

    def _take_records(self, low: int | None, high: int | None) -> None:
        """The records of a window: hash, check the columns, meet the leaf if it is there already."""
        personal: dict[bytes, dict[str, str]] = {}
        for name in CLASSES:
            for times, ids, bodies in bulk.record_blocks(self._connection, name, low, high):
                self.report.records += len(ids)
                for n in self._unusual(name, times, ids, bodies):
                    if not self._columns_fit(bodies[n], times[n], ids[n], name):
                        self._flawed[ids[n]] = f"class {name}, at {times[n]}"
                    elif b'"personal":' in bodies[n]:
                        personal[ids[n]] = _personal_of(bodies[n])
                self._take_block(name, times, ids, bodies)
        self._check_personal(low, high, personal)

    def _take_block(self, name: str, times: list[int], ids: list[bytes], bodies: list[bytes]) -> None:
        new, leaves, flawed = hashlib.sha256, self._leaves, self._flawed
        digests = [new(b"\0" + body).digest() for body in bodies]
        for at, record_id, digest in zip(times, ids, digests, strict=True):
            leaf = leaves.pop(record_id, None)
            if leaf is None:
                self._rows[record_id] = (at, digest, name)
            elif leaf[3] != digest or leaf[1] != at or leaf[4] != name or flawed:
                self._meet(leaf, (at, digest, name))

    def _unusual(self, name: str, times: list[int], ids: list[bytes], bodies: list[bytes]) -> Iterable[int]:
        """Those of a block that must be looked at one by one. Of all others id, time and class are known to be those
        of the body, which `encode` wrote: at fixed places, before anything that could look alike."""
        try:
            fit = b"".join([body[:LEAD] for body in bodies]) == leads(ids, times)
        except (ValueError, OverflowError, OSError):
            fit = False
        if not fit:
            return range(len(ids))
        begins = [body[LEAD:_BEGIN] for body in bodies]
        odd = {one for one in set(begins) if not self._plain(one, name)}
        return [n for n, one in enumerate(begins) if one in odd] if odd else ()

    def _plain(self, begin: bytes, name: str) -> bool:
        kind, _, rest = begin.partition(b'","')
        return self._kinds.get(kind) == name and kind != REDACTED and not rest.startswith(b'personal":')

    def _meet(self, leaf: bulk.LeafRow, row: _Row) -> None:
        seq, at, record_id, digest, name = leaf
        if row[1] != digest:
            self.report.add("changed", seq, record_id)
        elif (at, name) != (row[0], row[2]):
            self.report.add("leaf", seq, record_id, f"class {name}, record's class {row[2]}")
        if self._flawed and record_id in self._flawed:
            self.report.add("columns", seq, record_id, self._flawed.pop(record_id))

    def _columns_fit(self, body: bytes, at: int, record_id: bytes, name: str) -> bool:
        """Whether id, time and class of the row are those of the body, whose hash is in the tree; the slow way."""
        try:
            value = orjson.loads(body)
            kind = value["kind"].encode()
            if kind == REDACTED:
                self._note_redaction(value)
            fits = UUID(value["id"]).bytes == record_id and to_micros(datetime.fromisoformat(value["at"])) == at
            return fits and self._class(kind) == name
        except (ValueError, TypeError, KeyError, AttributeError):
            return False

    def _class(self, kind: bytes) -> str | None:
        if kind not in self._kinds:
            try:
                self._kinds[kind] = class_of(kind.decode())
            except KeyError:
                self._kinds[kind] = None
        return self._kinds[kind]

    def _note_redaction(self, value: dict[str, Any]) -> None:
        for one in value.get("data", {}).get("fields", []):
            self._redacted.add((UUID(value["resource_id"]).bytes, one))

    def _check_personal(self, low: int | None, high: int | None, expected: dict[bytes, dict[str, str]]) -> None:
        """Personal values beside the records of a window: each fits its salted hash, or was erased with a record."""
        for record_id, name, salt, value in bulk.personal_between(self._connection, low, high):
            digest = expected.get(record_id, {}).pop(name, None)
            if value is None and digest is not None:
                self._erased.add((record_id, name))
            elif value is None or _salted(salt, value) != digest:
                self.report.add("personal", None, record_id, name)
        self._erased.update((record_id, name) for record_id, names in expected.items() for name in names)

    # What has no partner.

    def _bury(self, seq: int, at: int, digest: bytes, name: str) -> None:
        for grave in self._graves:
            if grave.covers(seq, at, name):
                grave.frontier.append(digest)

    def _settle(self, before: int | None) -> None:
        """Leaves whose time lies behind the window have no record any more: purged, or deleted."""
        lone = [one for one in self._leaves.items() if before is None or one[1][1] < before]
        for record_id, (seq, at, _, _, name) in lone:
            del self._leaves[record_id]
            grave = next((one for one in self._graves if one.covers(seq, at, name)), None)
            if grave is not None:
                grave.purged += 1
                if len(grave.gone) < CHUNK:
                    grave.gone.append((record_id, seq))
            else:
                self._lone(record_id, seq)

    def _lone(self, record_id: bytes, seq: int) -> None:
        earlier = self._connection.execute(
            select(func.min(AuditLeaf.seq)).where(AuditLeaf.record_id == UUID(bytes=record_id), AuditLeaf.seq < seq)
        ).scalar_one_or_none()
        if earlier is not None:
            self.report.add("twice", seq, record_id, f"first at seq {earlier}")
        else:
            self.report.add("deleted", seq, record_id)

    def _tombstones(self) -> list[_Grave]:
        graves = []
        for note in self._connection.execute(select(AuditTombstone.note)).scalars():
            try:
                stone = Tombstone.parse(open_note(note, self._evidence.keys))
            except Invalid as error:
                self.report.add("tombstone", None, None, error.public)
                continue
            graves.append(_Grave(stone, to_micros(stone.from_at), to_micros(stone.until_at)))
        return graves

    def _close(self) -> None:
        """Heads beyond the tree, tombstones, records without a leaf, rows of an unknown class, erased values."""
        for head, note in self._heads:
            if self._broken is None and self._said.signed(head, note):
                self._broken = head
                self._name_difference(head)
        self._check_last_signature()
        for grave in self._graves:
            stone = grave.stone
            if grave.frontier.size == stone.count and grave.frontier.root() == stone.root:
                self.report.purged += grave.purged
                continue
            self.report.add("tombstone", stone.first_seq, None, f"class {stone.retention_class}, {stone.from_at:%Y-%m}")
            for record_id, seq in grave.gone:
                self._lone(record_id, seq)
        for record_id, name in self._erased - self._redacted:
            self.report.add("erased", None, record_id, name)
        self._check_unsealed()
        total = self._connection.execute(select(func.count()).select_from(AuditRecord)).scalar_one()
        if total != self.report.records:
            strange = select(AuditRecord.id).where(AuditRecord.retention_class.not_in(CLASSES)).limit(100)
            for found in self._connection.execute(strange).scalars():
                self.report.add("inserted", None, found.bytes, "its class is unknown")

    def _check_last_signature(self) -> None:
        """All heads before a signed one that fits are proved by it; so only the widest must be signed."""
        self.report.heads = sum(not is_statement(note) for _, note in self._held)
        while self._held and self.report.proved is None:
            head, note = self._held.pop()
            if self._said.signed(head, note):
                self.report.proved = head

    def _check_unsealed(self) -> None:
        """Records without a leaf: those that the sealer has not reached yet may wait, the others were put in."""
        if not self._rows:
            return
        position = self._connection.execute(select(AuditSeal.position)).scalar_one()
        new = bulk.ids_behind(self._connection, position)
        oldest = to_micros(self.report.proved.at - LATE) if self.report.proved else -(1 << 62)
        for record_id, (at, _, _) in self._rows.items():
            if record_id in new and at >= oldest:
                self.report.waiting += 1
            else:
                self.report.add("inserted", None, record_id, self._flawed.pop(record_id, "it has no leaf"))


def _salted(salt: bytes, value: str) -> str:
    return hashlib.sha256(salt + value.encode("utf-8", "replace")).hexdigest()


def _personal_of(body: bytes) -> dict[str, str]:
    value: Any = orjson.loads(body).get("personal", {})
    return dict(value) if isinstance(value, dict) else {}
