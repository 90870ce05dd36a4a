"""A record as the exact bytes that are stored and hashed."""

from __future__ import annotations

import hashlib
import secrets
from binascii import hexlify
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from identity.audit.kinds import class_of
from identity.audit.note import stamp
from identity.core.db import from_micros
from identity.core.record import Call, Record

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z
TEXT_MAX = 4_000


class Stored(NamedTuple):
    """A record ready to be written; `personal` is (field, salt, value)."""

    retention_class: str
    at: datetime
    id: UUID
    body: bytes
    personal: tuple[tuple[str, bytes, str], ...] = ()


def encode(call: Call, records: Sequence[Record], revision: int | None) -> list[Stored]:
    """The call's records as stored values; `revision` is the facts revision that their transaction commits."""
    common, at = _common(call), stamp(call.now)
    return [_one(call, record, common, at, revision) for record in records]


def _common(call: Call) -> dict[str, Any]:
    kind, actor_id, name, _, person, session = call.actor
    actor: dict[str, Any] = {"kind": kind, "id": actor_id, "name": name}
    if person:
        actor["person"] = person
    common: dict[str, Any] = {
        "actor": actor,
        "ip": call.origin.ip,
        "request_id": call.request_id,
        "user_agent": call.origin.user_agent[:256],
        "v": 1,
    }
    if call.origin.trace:
        common["trace_id"] = call.origin.trace.partition("-")[0]
    if session:
        common["session"] = session
    if call.reason:
        common["why"] = call.reason[:TEXT_MAX]
    if call.reference:
        common["reference"] = call.reference[:TEXT_MAX]
    return common


_FIELDS = (
    *("user", "person", "session", "application", "resource_type", "resource_id", "action", "intent"),
    *("policy_version", "facts_revision", "before", "after", "input"),
)
_values = attrgetter(*_FIELDS)


def _one(call: Call, record: Record, common: dict[str, Any], at: str, revision: int | None) -> Stored:
    body = common.copy()
    body["result"] = record.result
    for name, value in zip(_FIELDS, _values(record), strict=True):
        if value is not None:
            body[name] = value
    if record.reason:
        body["reason"] = record.reason
    if revision is not None and "facts_revision" not in body:
        body["facts_revision"] = revision
    if record.rules:
        body["rules"] = record.rules
    if record.data:
        body["data"] = record.data
    begin = b'%b%b",' % (lead(record.id, at), record.kind.encode())
    personal: tuple[tuple[str, bytes, str], ...] = ()
    if record.personal:
        hashes, personal = _salted(record.personal)
        begin += b'"personal":%b,' % orjson.dumps(hashes)
    return Stored(
        class_of(record.kind),
        call.now,
        record.id,
        begin + orjson.dumps(body, option=_OPTIONS, default=_default)[1:],
        personal,
    )


def _salted(values: Mapping[str, str]) -> tuple[dict[str, str], tuple[tuple[str, bytes, str], ...]]:
    """The salted hashes of personal values, which the body holds, and what is stored beside it."""
    hashes, personal = {}, []
    for name, value in sorted(values.items()):
        salt = secrets.token_bytes(16)
        kept = value[:TEXT_MAX]
        hashes[name] = hashlib.sha256(salt + kept.encode("utf-8", "replace")).hexdigest()
        personal.append((name, salt, kept))
    return hashes, tuple(personal)


def lead(record_id: UUID, at: str) -> bytes:
    """The 88 bytes with which every body begins: id and time. Then come kind and, where there are any, the hashes of
    personal values, and behind them the rest by name; so a verifier need not parse it."""
    return b'{"id":%b,"at":"%b","kind":"' % (orjson.dumps(record_id), at.encode())


LEAD = 88
_NIL = lead(UUID(int=0), stamp(datetime(1970, 1, 1, tzinfo=UTC)))
_DIGITS = [7 + n for n in range(36) if n not in {8, 13, 18, 23}]
"""Where the 32 digits of the id stand."""


def leads(ids: Sequence[bytes], times: Sequence[int]) -> bytes:
    """The leads of many records, one behind the other; ids as 16 bytes, times as microseconds since 1970. Column by
    column: a sixth of what one at a time costs.

    Raises ValueError or OverflowError for an id of another length, or a time that no calendar knows.
    """
    count = len(ids)
    if not {16}.issuperset(map(len, ids)):
        raise ValueError("an id has 16 bytes")
    made = bytearray(_NIL * count)
    begins = {second: stamp(from_micros(second * 1_000_000))[:20] for second in {at // 1_000_000 for at in times}}
    seconds = "".join([begins[at // 1_000_000] for at in times]).encode()
    micros = ("%06d" * count % tuple([at % 1_000_000 for at in times])).encode()
    for digits, places in ((hexlify(b"".join(ids)), _DIGITS), (seconds, range(51, 71)), (micros, range(71, 77))):
        for n, place in enumerate(places):
            made[place::LEAD] = digits[n :: len(places)]
    return bytes(made)


def _default(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
