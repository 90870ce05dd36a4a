"""The evidence pack: records with the proof that they stand in the log, for whoever must believe nobody.

A pack is a set of files:

- `records.jsonl`: each line is the exact body of one record; the leaf is SHA-256(0x00 || line without its newline).
- `proofs.jsonl`: for the same line number `{"id", "seq", "leaf_hash", "path"}` (RFC 9162 §2.1.3, hashes in base64),
  all in the tree of the head.
- `head.txt`: that head, a signed note. `keys.txt`: the public keys, for convenience only: an auditor has his own copy.
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
from uuid import UUID

import orjson
from sqlalchemy import Connection, select

from identity.audit.models import AuditLeaf, AuditPersonal, AuditRecord
from identity.audit.note import HeadSigner, NoteKey, sign_note, stamp
from identity.audit.proofs import encode, head_of, inclusions
from identity.core.errors import Invalid, NotFound

RECORDS_MAX = 20_000
MANIFEST = "manifest.txt"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the pack answers: who asked, when, why, and with which query; each is one line of the manifest."""

    by: str
    at: datetime
    reason: str
    query: str


def build(
    connection: Connection,
    record_ids: Sequence[UUID],
    asked: Asked,
    signer: HeadSigner,
    seal_keys: Sequence[NoteKey] = (),
    *,
    personal: bool = True,
) -> dict[str, bytes]:
    """The files of a pack over these records, in their order; `personal`: with the personal values beside them.

    Raises `NotFound` when a record is not under a head yet (then there is nothing to prove), was purged or is unknown,
    and `Invalid` for none or more than 20,000 records.
    """
    if not 0 < len(record_ids) <= RECORDS_MAX:
        raise Invalid(f"A pack holds 1 to {RECORDS_MAX} records.", code="evidence_size")
    head, note = head_of(connection)
    proofs = inclusions(connection, record_ids, head.size)
    files = {
        "records.jsonl": b"".join(_body(connection, one) + b"\n" for one in record_ids),
        "proofs.jsonl": b"".join(orjson.dumps(one.wire) + b"\n" for one in proofs),
        "head.txt": note.encode(),
        "keys.txt": "".join(f"{one}\n" for one in (*seal_keys, signer.key)).encode(),
    }
    if personal:
        files["personal.jsonl"] = b"".join(_personal(connection, one) for one in record_ids)
    files[MANIFEST] = sign_note(manifest(head.origin, asked, len(record_ids), files), [signer]).encode()
    return files


def manifest(origin: str, asked: Asked, records: int, files: Mapping[str, bytes]) -> str:
    """The text that is signed: a line for each thing, files by name with size in bytes and SHA-256 in hex."""
    lines = [
        f"{origin}/evidence",
        f"at {stamp(asked.at)}",
        f"by {_line(asked.by)}",
        f"reason {_line(asked.reason)}",
        f"query {_line(asked.query)}",
        f"records {records}",
        *(f"file {name} {len(data)} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items())),
    ]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()) or "-"


def _body(connection: Connection, record_id: UUID) -> bytes:
    """The stored bytes; found by the leaf's class and time, since the record's key begins with them."""
    body = connection.execute(
        select(AuditRecord.body)
        .join(
            AuditLeaf,
            (AuditLeaf.retention_class == AuditRecord.retention_class)
            & (AuditLeaf.at == AuditRecord.at)
            & (AuditLeaf.record_id == AuditRecord.id),
        )
        .where(AuditLeaf.record_id == record_id)
        .limit(1)
    ).scalar_one_or_none()
    if body is None:
        raise NotFound("The record is there no more.", str(record_id))
    return bytes(body)


def _personal(connection: Connection, record_id: UUID) -> bytes:
    rows = connection.execute(
        select(AuditPersonal.field, AuditPersonal.salt, AuditPersonal.value)
        .join(
            AuditLeaf,
            (AuditLeaf.retention_class == AuditPersonal.retention_class)
            & (AuditLeaf.at == AuditPersonal.at)
            & (AuditLeaf.record_id == AuditPersonal.record_id),
        )
        .where(AuditLeaf.record_id == record_id, AuditPersonal.value.is_not(None))
        .order_by(AuditPersonal.field)
    )
    return b"".join(
        orjson.dumps({"id": str(record_id), "field": name, "salt": encode(salt), "value": value}) + b"\n"
        for name, salt, value in rows
    )
