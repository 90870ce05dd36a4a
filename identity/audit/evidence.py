"""The evidence pack: records with the proof that they stand in the log, for whoever must believe nobody.

A pack is a set of files:

- `records.jsonl`: each line is the exact body of one record; the leaf is SHA-256(0x00 || line without its newline).
- `proofs.jsonl`: for the same line number `{"id", "seq", "leaf_hash", "path"}` (RFC 9162 §2.1.3, hashes in base64),
  all in the tree of the head.
- `head.txt`: that head, a signed note. `keys.txt`: the public keys, for convenience only: an auditor has his own copy.
- `restored.txt`: the sealer's statements of restorations from a backup, where there were any: what the log lost.
- `personal.jsonl`: `{"id", "field", "salt", "value"}` of personal values that are not erased; the record holds
  SHA-256(salt || value) in hex.
- `manifest.txt`: a signed note: what was asked, by whom, when, and each file's size and SHA-256.

`examples/verify_evidence.py` checks a pack and needs nothing of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, select

from identity.audit.models import AuditLeaf, AuditPersonal, AuditRecord
from identity.audit.note import Head, HeadSigner, NoteKey, sign_note, stamp
from identity.audit.proofs import encode, head_of, inclusions
from identity.audit.restored import stored_statements
from identity.core.errors import Invalid, NotFound

RECORDS_MAX = 20_000
BYTES_MAX = 64 * 1_048_576
AT_ONCE = 500
MANIFEST = "manifest.txt"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the pack answers: who asked, when, why, and with which query; each is one line of the manifest."""

    by: str
    at: datetime
    reason: str
    query: str
    reference: str = ""


def build(
    connection: Connection,
    record_ids: Sequence[UUID],
    asked: Asked,
    signer: HeadSigner,
    seal_keys: Sequence[NoteKey] = (),
    *,
    personal: bool = True,
) -> tuple[dict[str, bytes], Head]:
    """The files of a pack over these records, in the log's order, and the head that proves them: the widest that was
    anchored. `personal`: with the personal values beside them.

    Raises `NotFound` when a record is not under a head yet (then there is nothing to prove), was purged or is unknown,
    and `Invalid` for no or too many records.
    """
    if not 0 < len(record_ids) <= RECORDS_MAX:
        raise Invalid(f"A pack holds 1 to {RECORDS_MAX} records.", code="evidence_size")
    head, note = head_of(connection)
    proofs = sorted(inclusions(connection, record_ids, head.size), key=lambda one: one.seq)
    stored = _stored(connection, [one.record_id for one in proofs])
    files = {
        "records.jsonl": b"".join(body + b"\n" for body, _ in stored),
        "proofs.jsonl": b"".join(orjson.dumps(one.wire) + b"\n" for one in proofs),
        "head.txt": note.encode(),
        "keys.txt": "".join(f"{one}\n" for one in (*seal_keys, signer.key)).encode(),
    }
    statements = stored_statements(connection)
    if statements:
        files["restored.txt"] = "\n".join(statements).encode()
    if personal:
        files["personal.jsonl"] = b"".join(lines for _, lines in stored)
    files[MANIFEST] = sign_note(manifest(head.origin, asked, len(proofs), files), [signer]).encode()
    return files, head


def manifest(origin: str, asked: Asked, records: int, files: Mapping[str, bytes]) -> str:
    """The text that is signed: a line for each thing, files by name with size in bytes and SHA-256 in hex."""
    lines = [
        f"{origin}/evidence",
        f"at {stamp(asked.at)}",
        f"by {_line(asked.by)}",
        f"reason {_line(asked.reason)}",
        f"reference {_line(asked.reference)}",
        f"query {_line(asked.query)}",
        f"records {records}",
        *(f"file {name} {len(data)} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items())),
    ]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()) or "-"


def _stored(connection: Connection, record_ids: Sequence[UUID]) -> list[tuple[bytes, bytes]]:
    """For each record its stored bytes and the lines of its personal values; found by the leaf's class and time, since
    the record's key begins with them."""
    found: list[tuple[bytes, bytes]] = []
    size = 0
    for start in range(0, len(record_ids), AT_ONCE):
        part = record_ids[start : start + AT_ONCE]
        bodies = dict(connection.execute(_beside(AuditRecord, AuditRecord.id, part, AuditRecord.body)).all())
        personal: dict[UUID, bytes] = {}
        columns = (AuditPersonal.field, AuditPersonal.salt, AuditPersonal.value)
        query = _beside(AuditPersonal, AuditPersonal.record_id, part, *columns)
        for record_id, name, salt, value in connection.execute(query.order_by(AuditPersonal.field)):
            if value is not None:
                line = {"id": str(record_id), "field": name, "salt": encode(salt), "value": value}
                personal[record_id] = personal.get(record_id, b"") + orjson.dumps(line) + b"\n"
        for record_id in part:
            if record_id not in bodies:
                raise NotFound("The record is there no more.", str(record_id), code="evidence_purged")
            found.append((bytes(bodies[record_id]), personal.get(record_id, b"")))
            size += len(found[-1][0])
        if size > BYTES_MAX:
            raise Invalid("These records are too much for one pack.", code="evidence_size")
    return found


def _beside(table: Any, key: Any, record_ids: Sequence[UUID], *columns: Any) -> Any:
    """A query of the record's id and these columns, by the leaves of these records."""
    same = (AuditLeaf.retention_class == table.retention_class) & (AuditLeaf.at == table.at)
    return (
        select(key, *columns)
        .join(AuditLeaf, same & (AuditLeaf.record_id == key))
        .where(AuditLeaf.record_id.in_(record_ids))
    )
