"""Compares what clients were told with what is stored."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.engine import make_url

from identity.audit.buffered import settle
from identity.audit.models import AuditRecord
from identity.core.db import Database, engine_options, prepare_engine
from identity.core.once import Once
from identity.core.secrets import digest
from identity.roles.models import Assignment, ObjectAct
from tests.faults.load import LEAVES, Answer
from tests.faults.site import Site

_SLOT, _CODE = 128, 120


@dataclass
class Verdict:
    """How many answers there were of each sort, and everything that is wrong. `gap`: buffered decisions that are
    recorded as missing, `promised` those that were counted before their answer."""

    done: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    broken: int = 0
    faults: list[str] = field(default_factory=list)
    promised: int = 0
    kept: int = 0
    gap: int = 0

    @property
    def clean(self) -> bool:
        return not self.faults

    def add(self, other: Verdict) -> None:
        """Count this one's in."""
        self.done += other.done
        self.refused += other.refused
        self.broken += other.broken
        self.faults += other.faults
        self.promised += other.promised
        self.kept += other.kept
        self.gap += other.gap

    def __str__(self) -> str:
        return (
            f"done {dict(self.done)}, refused {self.refused}, broken {self.broken}, promised {self.promised}, "
            f"kept {self.kept}, gap {self.gap}, faults {self.faults[:10]}"
        )


@contextmanager
def opened(database_url: str) -> Iterator[Database]:
    """The database, past the server."""
    engine = create_engine(make_url(database_url), **engine_options(database_url))
    try:
        yield prepare_engine(engine)
    finally:
        engine.dispose()


def check(site: Site, answers: Sequence[Answer], database_url: str | None = None) -> Verdict:
    """The server has ended. What its processes left unsettled is settled as the next one of the node would do."""
    verdict = Verdict()
    with opened(database_url or site.database_url) as database:
        site.keep_accounts()
        settle(database, site.seen_var / "recorder")
        with database.read() as connection:
            records = _records(connection)
            _check_answers(verdict, answers, records)
            _check_acts(verdict, connection, records)
            _check_roles(verdict, connection, records)
            _check_codes(verdict, connection, answers, records)
            _check_buffered(verdict, site, answers, records)
    return verdict


Records = dict[str, list[dict[str, Any]]]


def _records(connection: Connection) -> Records:
    """The bodies by request id."""
    found: Records = defaultdict(list)
    for body in connection.execute(select(AuditRecord.body)).scalars():
        record = orjson.loads(bytes(body))
        found[record["request_id"]].append(record)
    return found


def _check_answers(verdict: Verdict, answers: Sequence[Answer], records: Records) -> None:
    for answer in answers:
        if answer.fault and answer.status is not None:
            verdict.faults.append(f"{answer.id}: {answer.fault}")
        verdict.done[answer.kind] += answer.ok
        verdict.refused += answer.status == 503
        verdict.broken += answer.status is None
        mine = [one for one in records.get(answer.id, ()) if one["kind"] == LEAVES[answer.kind]]
        if len(mine) > 1:
            verdict.faults.append(f"{answer.id}: recorded {len(mine)} times")
        if answer.ok and answer.kind != "buffered" and not mine:
            verdict.faults.append(f"{answer.id}: done without a record")
        for one in mine:
            if answer.kind in {"decide", "act", "buffered"} and answer.ok and one["id"] != answer.proof:
                verdict.faults.append(f"{answer.id}: another record than the client was told of")
            if answer.kind in {"token", "redeem"} and answer.ok and one["resource_id"] != answer.proof:
                verdict.faults.append(f"{answer.id}: the record names another token")


def _check_acts(verdict: Verdict, connection: Connection, records: Records) -> None:
    """An act and its record are both there or both not."""
    rows = select(ObjectAct.resource_id, ObjectAct.action)
    acts = Counter(row.resource_id for row in connection.execute(rows) if row.action == "submit")
    permitted = Counter(
        one["resource_id"]
        for some in records.values()
        for one in some
        if one["kind"] == LEAVES["act"] and one["action"] == "submit" and one["result"] == "permit"
    )
    if acts != permitted:
        verdict.faults.append(f"acts without records, or the reverse: {(acts - permitted) + (permitted - acts)}")


def _check_roles(verdict: Verdict, connection: Connection, records: Records) -> None:
    """An assignment and its record are both there or both not."""
    rows = connection.execute(select(Assignment.assignment_id).where(Assignment.rev_until.is_(None)))
    held = Counter(str(one) for one in rows.scalars())
    said = Counter(
        one["data"]["assignment"] for some in records.values() for one in some if one["kind"] == LEAVES["role"]
    )
    if held != said:
        verdict.faults.append(f"assignments without records, or the reverse: {(held - said) + (said - held)}")


def _check_codes(verdict: Verdict, connection: Connection, answers: Sequence[Answer], records: Records) -> None:
    """A code is used exactly if a token for it is recorded, and for one token alone."""
    used = set(connection.execute(select(Once.value).where(Once.kind == "oauth_code")).scalars())
    codes = {answer.id: answer.proof for answer in answers if answer.kind == "code" and answer.ok}
    for one in (answer.id for answer in answers if answer.kind == "redeem"):
        issued = any(record["kind"] == LEAVES["redeem"] for record in records.get(one, ()))
        code = codes.get(f"{one}-code")
        if code is not None and (digest(code) in used) is not issued:
            verdict.faults.append(f"{one}: code used: {not issued}, token recorded: {issued}")
    issued_at_all = sum(
        one["kind"] == LEAVES["redeem"] and bool(one.get("user")) for some in records.values() for one in some
    )
    if issued_at_all != len(used):
        verdict.faults.append(f"{len(used)} codes are used, {issued_at_all} tokens are recorded for them")


def _check_buffered(verdict: Verdict, site: Site, answers: Sequence[Answer], records: Records) -> None:
    """Promised = kept + what is recorded as missing, exactly; and whatever a client was told was promised."""
    every = [one for some in records.values() for one in some]
    kept = {one["request_id"] for one in every if one["kind"] == LEAVES["buffered"] and one["application"] == "fast"}
    told = {answer.id for answer in answers if answer.kind == "buffered" and answer.ok}
    verdict.promised = sum(map(promised, site.kept_accounts()))
    verdict.kept = len(kept)
    verdict.gap = sum(one["data"]["count"] for one in every if one["kind"] == "access.decisions.missed")
    if verdict.promised != verdict.kept + verdict.gap:
        verdict.faults.append(f"promised {verdict.promised}, kept {verdict.kept}, missing {verdict.gap}")
    if len(told - kept) > verdict.gap:
        verdict.faults.append(f"{len(told - kept)} answered decisions are lost, {verdict.gap} are counted")


def promised(account: Path) -> int:
    """What a process's file counts, read by its format: 120 bytes of code and a little-endian number, 256 times."""
    data = account.read_bytes()
    return sum(struct.unpack_from("<Q", data, offset + _CODE)[0] for offset in range(0, len(data), _SLOT))
