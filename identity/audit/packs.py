"""Evidence packs on request: an auditor asks, the worker makes them, and they are kept for a few days.

The worker signs nothing but the manifest, by the evidence key: what a pack proves hangs on the head, which the sealer
has signed already. So a pack waits until an anchored head covers all that it was asked for, and no process but the
sealer ever needs the sealer's key.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from identity.audit import bulk, query
from identity.audit.evidence import RECORDS_MAX, Asked, build
from identity.audit.kinds import Kind
from identity.audit.models import AuditHead, AuditLeaf
from identity.audit.models_evidence import EvidencePack, EvidencePart
from identity.audit.note import HeadSigner, NoteKey, stamp
from identity.core.db import Database
from identity.core.errors import Conflict, Invalid, NotFound, TesseraError, Unavailable
from identity.core.record import Actor, Record
from identity.core.unit import Unit, Units

KEPT_DAYS = 7
WAITING_MAX = 10
# A head comes within a minute of a record. When none has come for so long, somebody must look at the sealer first.
PATIENCE = timedelta(hours=1)
# A record has the time at which its request began, and is stored a moment later.
SETTLED = timedelta(seconds=5)
PART = 1_048_576
_ACTOR = Actor.system("worker:evidence")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keys:
    """`signer` gives the key that signs manifests, `sealers` the sealer's public ones, as far as this machine knows."""

    signer: Callable[[], HeadSigner]
    sealers: Callable[[], Sequence[NoteKey]]


def ask(unit: Unit, form: Mapping[str, str], wanted: query.Filter, *, personal: bool) -> EvidencePack:
    """A pack of all that the search finds of what was recorded before now; it waits for its turn. Recorded.

    Raises `Invalid` without a reason, and `Conflict` when many wait already.
    """
    unit.require("export", "audit", "evidence")
    if not unit.reason:
        raise Invalid("Please give a reason.", code="reason_missing")
    waiting = select(func.count()).select_from(EvidencePack).where(EvidencePack.state == "queued")
    if unit.db.execute(waiting).scalar_one() >= WAITING_MAX:
        raise Conflict("Many packs are waiting already. Please try again later.", code="evidence_waiting")
    pack = EvidencePack(
        query=dict(form),
        wanted=to_json(wanted),
        personal=personal,
        asked_by=unit.actor.name or unit.actor.id,
        asked_at=unit.now,
        reason=unit.reason,
        reference=unit.reference,
    )
    unit.db.add(pack)
    unit.db.flush()
    data = {"filter": pack.query, "personal": personal}
    unit.record(_record(Kind.EVIDENCE_ASKED, pack.id, data))
    return pack


def latest(unit: Unit, limit: int = 50) -> list[EvidencePack]:
    """The packs that were asked for last, newest first."""
    return list(unit.db.execute(select(EvidencePack).order_by(EvidencePack.asked_at.desc()).limit(limit)).scalars())


def read(unit: Unit, pack_id: UUID) -> tuple[EvidencePack, Iterator[bytes]]:
    """A pack that is ready, and its zip file in pieces; that it was read is recorded. Raises `NotFound`."""
    unit.require("export", "audit", "evidence")
    pack = unit.db.get(EvidencePack, pack_id)
    if pack is None or pack.state != "ready":
        raise NotFound("There is no such evidence pack, or it is no longer kept.")
    unit.reason, unit.reference = pack.reason, pack.reference
    unit.record(_record(Kind.EVIDENCE_READ, pack_id, {"records": pack.records, "sha256": pack.sha256}))
    numbers = unit.db.execute(select(EvidencePart.n).where(EvidencePart.pack_id == pack_id).order_by(EvidencePart.n))
    return pack, (_part(unit, pack_id, n) for n in numbers.scalars().all())


def _part(unit: Unit, pack_id: UUID, n: int) -> bytes:
    wanted = select(EvidencePart.data).where(EvidencePart.pack_id == pack_id, EvidencePart.n == n)
    return bytes(unit.db.execute(wanted).scalar_one())


def make_waiting(units: Units, database: Database, keys: Keys, now: datetime) -> int:
    """The worker's job: every pack that can be made now, or has waited in vain; how many."""
    with database.read() as connection:
        of_queue = select(EvidencePack.id).where(EvidencePack.state == "queued").order_by(EvidencePack.asked_at)
        waiting = list(connection.execute(of_queue).scalars())
    return sum(_make(units, database, keys, one, now) for one in waiting)


def forget_packs(units: Units, now: datetime) -> None:
    """Packs hold personal values; after some days they go, and whoever still needs one asks again."""
    with units.open(_ACTOR, now=now) as unit:
        _drop(unit.db.connection(), "expired", EvidencePack.done_at < now - timedelta(days=KEPT_DAYS))


def drop_personal(connection: Connection) -> None:
    """A personal value is being erased: no pack keeps any, and those that are being made are made anew."""
    waiting = (EvidencePack.state == "queued", EvidencePack.personal)
    connection.execute(update(EvidencePack).where(*waiting).values(redactions=EvidencePack.redactions + 1))
    _drop(connection, "redacted", EvidencePack.personal.is_(True))


def _drop(connection: Connection, why: str, which: ColumnElement[bool]) -> None:
    gone = connection.execute(
        update(EvidencePack)
        .where(EvidencePack.state == "ready", which)
        .values(state="gone", error=why)
        .returning(EvidencePack.id)
    )
    connection.execute(delete(EvidencePart).where(EvidencePart.pack_id.in_(gone.scalars().all())))


@dataclass(frozen=True, slots=True)
class _Made:
    data: bytes
    values: Mapping[str, Any]
    signed_by: str


def _make(units: Units, database: Database, keys: Keys, pack_id: UUID, now: datetime) -> bool:
    """Whether its waiting has ended."""
    made: _Made | None = None
    error = ""
    with database.read(consistent=True) as connection:
        bulk.unhurried(connection)
        pack = connection.execute(select(EvidencePack.__table__).where(EvidencePack.id == pack_id)).one()
        try:
            ids = _covered(connection, pack)
            made = _built(connection, pack, ids, keys) if ids is not None else None
        except Unavailable as failure:
            _log.warning("evidence pack %s waits: %s", pack_id, failure)
        except TesseraError as failure:
            error = failure.code
        except Exception:  # noqa: BLE001  one that fails must not be tried for ever, nor hold up the others
            _log.exception("evidence pack %s failed", pack_id)
            error = "failed"
    if made is not None:
        return _keep(units, pack, made, now)
    if not error and now - pack.asked_at > PATIENCE:
        error = "evidence_unsealed"
    if error:
        with _unit(units, pack, now) as unit:
            ended = update(EvidencePack).where(EvidencePack.id == pack_id)
            unit.db.execute(ended.values(state="failed", error=error, done_at=now))
            unit.record(_record(Kind.EVIDENCE_MADE, pack_id, {"records": 0}, error))
    return bool(error)


def _unit(units: Units, pack: Any, now: datetime) -> AbstractContextManager[Unit]:
    """What the worker does for a pack has the reason of its asker."""
    return units.open(_ACTOR, now=now, reason=pack.reason, reference=pack.reference)


def _covered(connection: Connection, pack: Any) -> list[UUID] | None:
    """The records that it is asked for, or None while one of them cannot be found or is under no anchored head yet."""
    wanted = from_json(pack.wanted)
    until = min(wanted.until or pack.asked_at, pack.asked_at)
    complete_to = query.complete_to(connection)
    if complete_to is None or complete_to < until + SETTLED:
        return None
    ids = query.ids(connection, replace(wanted, until=until), RECORDS_MAX + 1)
    if not 0 < len(ids) <= RECORDS_MAX:
        raise Invalid(f"A pack holds 1 to {RECORDS_MAX} records.", code="evidence_size" if ids else "evidence_empty")
    anchored = select(func.max(AuditHead.size)).where(AuditHead.anchored_at.is_not(None)).scalar_subquery()
    below = 0
    for start in range(0, len(ids), 500):
        leaf = (AuditLeaf.record_id.in_(ids[start : start + 500]), AuditLeaf.seq < anchored)
        below += connection.execute(select(func.count(AuditLeaf.record_id.distinct())).where(*leaf)).scalar_one()
    return ids if below == len(ids) else None


def _built(connection: Connection, pack: Any, ids: Sequence[UUID], keys: Keys) -> _Made:
    signer = keys.signer()
    what = orjson.dumps(pack.wanted, option=orjson.OPT_SORT_KEYS).decode()
    asked = Asked(
        pack.asked_by, pack.asked_at, pack.reason, f"{what} before {stamp(pack.asked_at)}", pack.reference or ""
    )
    files, head = build(connection, ids, asked, signer, keys.sealers(), personal=pack.personal)
    data = zipped(files, pack.asked_at)
    values = {
        "records": len(ids),
        "head_size": head.size,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return _Made(data, values, str(signer.key))


def zipped(files: Mapping[str, bytes], at: datetime) -> bytes:
    """The files as a zip file; the same files and time make the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, at.astimezone(UTC).timetuple()[:6])
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data)
    return out.getvalue()


def _keep(units: Units, pack: Any, made: _Made, now: datetime) -> bool:
    """In pieces, so that nobody else waits long to write. False when a value was erased meanwhile."""
    with _unit(units, pack, now) as unit:
        unit.db.execute(delete(EvidencePart).where(EvidencePart.pack_id == pack.id))
    for n, start in enumerate(range(0, len(made.data), PART)):
        with _unit(units, pack, now) as unit:
            piece = {"pack_id": pack.id, "n": n, "data": made.data[start : start + PART]}
            unit.db.execute(insert(EvidencePart).values(piece))
    with _unit(units, pack, now) as unit:
        same = (EvidencePack.id == pack.id, EvidencePack.redactions == pack.redactions)
        done = unit.db.execute(
            update(EvidencePack)
            .where(*same)
            .values(state="ready", done_at=now, **made.values)
            .returning(EvidencePack.id)
        ).first()
        if done is None:
            unit.db.execute(delete(EvidencePart).where(EvidencePart.pack_id == pack.id))
            return False
        data = {name: made.values[name] for name in ("records", "head_size", "sha256")}
        unit.record(_record(Kind.EVIDENCE_MADE, pack.id, {**data, "signed_by": made.signed_by}))
    return True


def _record(kind: Kind, pack_id: UUID, data: Mapping[str, Any], error: str = "") -> Record:
    return Record(
        kind=kind,
        result="failed" if error else "success",
        reason=error,
        resource_type="evidence",
        resource_id=str(pack_id),
        data=data,
    )


def to_json(wanted: query.Filter) -> dict[str, Any]:
    """A filter as JSON, without what it leaves open."""
    shown = {name: value for name, value in asdict(wanted).items() if value is not None}
    return {name: stamp(value) if isinstance(value, datetime) else str(value) for name, value in shown.items()}


def from_json(value: Mapping[str, str]) -> query.Filter:
    """The filter that `to_json` wrote."""
    read_as: dict[str, Any] = dict(value)
    for name in ("since", "until"):
        if name in value:
            read_as[name] = datetime.fromisoformat(value[name])
    if "person" in value:
        read_as["person"] = UUID(value["person"])
    return query.Filter(**read_as)
