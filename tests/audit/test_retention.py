"""Retention and redaction take from the record what must go, and the proof stays whole; nothing else can be taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from identity.audit.index import index_new
from identity.audit.kinds import Kind
from identity.audit.models import AuditFind, AuditPersonal, AuditPurge, AuditRecord, AuditTombstone, AuditWord
from identity.audit.retention import purge_buried, redact, request_purges
from identity.audit.seal import Sealer
from identity.core.errors import Invalid, NotFound
from identity.core.record import Record
from tests.audit.proof import Ledger, Proof

NOW = datetime.now(UTC)
OLD = datetime(2026, 3, 15, 12, tzinfo=UTC)
LATER = datetime(2027, 6, 1, tzinfo=UTC)
DAYS = 300


@pytest.fixture
def aged(proof: Proof) -> Proof:
    """Old changes and logins, old decisions of another month, and new changes; all sealed."""
    for at, kind in (
        (OLD, "people.user.created"),
        (OLD, "login.session.started"),
        (OLD + timedelta(days=40), "people.user.created"),
        (NOW, "people.user.created"),
    ):
        with ledger(proof).unit(now=at) as unit:
            for n in range(4):
                unit.record(Record(kind=kind, result="success", resource_id=str(n), personal={"login": f"p{n}"}))
    index_new(proof.world.database, NOW)
    proof.seal(NOW)
    return proof


def ledger(proof: Proof) -> Ledger:
    assert isinstance(proof.world, Ledger)
    return proof.world


def sealer(proof: Proof, days: int = DAYS) -> Sealer:
    made = Sealer(proof.world.database, proof.keys, proof.outside, "test", 60, days)
    made.take(LATER)
    return made


def ask(proof: Proof, days: int = DAYS, now: datetime = LATER) -> int:
    with ledger(proof).unit(now=now, reason="retention") as unit:
        return request_purges(unit, days)


def purge(proof: Proof, now: datetime = LATER) -> int:
    with ledger(proof).unit(now=now, reason="retention") as unit:
        return purge_buried(unit)


def bury(proof: Proof, days: int = DAYS) -> int:
    one = sealer(proof, days)
    signed = one.bury(LATER)
    one.stop(LATER)
    return signed


def count(proof: Proof, table: Any, *conditions: Any) -> int:
    with proof.world.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()


def test_old_months_go_under_a_tombstone_and_the_proof_stays_whole(aged: Proof) -> None:
    before = count(aged, AuditRecord)
    assert ask(aged) == 3
    assert purge(aged) == 0, "nothing goes before the sealer has signed"
    assert bury(aged) == 3
    assert purge(aged) == 3
    old = (AuditRecord.at < NOW - timedelta(days=1),)
    assert count(aged, AuditRecord, *old) == 0
    assert count(aged, AuditPersonal, AuditPersonal.at < NOW - timedelta(days=1)) == 0
    assert count(aged, AuditFind, AuditFind.at < NOW - timedelta(days=1)) == 0
    assert count(aged, AuditRecord) == before - 12 + 3, "each purge is recorded"
    aged.seal(LATER + timedelta(hours=1))
    report = aged.verify()
    assert report.ok, report.findings
    assert report.purged == 12
    assert ask(aged) == 0
    assert purge(aged) == 0


@pytest.mark.case("AU-02")
def test_nothing_younger_than_six_months_goes_whatever_is_set(aged: Proof) -> None:
    """The setting's floor is half a year; a forged request below it gets no tombstone from the sealer."""
    with aged.world.database.write() as connection:
        connection.execute(
            AuditPurge.__table__.insert().values(  # type: ignore[attr-defined]
                {
                    "class": "change",
                    "from_at": LATER - timedelta(days=182),
                    "until_at": LATER - timedelta(days=1),
                    "days": 1,
                    "reason": "hide it",
                    "requested_at": LATER,
                }
            )
        )
    assert bury(aged, days=1) == 0
    assert purge(aged) == 0
    with pytest.raises(ValueError, match="183"):
        type(aged.world.settings)(tessera_demo=True, audit_retention_days=182)


def test_the_sealers_own_retention_counts(aged: Proof) -> None:
    assert ask(aged) == 3
    assert bury(aged, days=700) == 0
    assert count(aged, AuditTombstone) == 0


@pytest.mark.parametrize("act", ["changed", "deleted", "put in"])
def test_what_was_tampered_with_is_not_carried_away(aged: Proof, act: str) -> None:
    query = select(AuditRecord.id).where(AuditRecord.at == OLD, AuditRecord.retention_class == "login").limit(1)
    with aged.world.database.read() as connection:
        record_id = connection.execute(query).scalar_one()
    key, other = aged.key(record_id), aged.key(UUID(int=record_id.int ^ 1))
    cast = "BLOB" if aged.world.database.is_sqlite else "bytea"
    statements = {
        "changed": f"UPDATE audit_record SET body = CAST('{{}}' AS {cast}) WHERE id = '{key}'",
        "deleted": f"DELETE FROM audit_record WHERE id = '{key}'",
        "put in": f'INSERT INTO audit_record ("class", at, id, body) SELECT "class", at, \'{other}\', body '
        f"FROM audit_record WHERE id = '{key}'",
    }
    aged.tamper(statements[act])
    assert ask(aged) == 3
    one = Sealer(aged.world.database, aged.keys, aged.outside, "test", 60, DAYS)
    one.take(LATER)
    assert one.bury(LATER) == 2
    assert purge(aged) == 2
    assert count(aged, AuditRecord, AuditRecord.at == OLD, AuditRecord.retention_class == "login") >= 3


def test_records_that_go_without_a_tombstone_are_missed(aged: Proof) -> None:
    table = "audit_record" if aged.world.database.is_sqlite else "audit_record_login_rest"
    aged.tamper(f"DELETE FROM {table} WHERE \"class\" = 'login'")
    found = [one.what for one in aged.verify().findings]
    assert found.count("deleted") == 4
    assert found.count("personal") == 4, "values beside records that are gone"


def test_a_forged_or_stretched_tombstone_covers_nothing(aged: Proof) -> None:
    ask(aged)
    bury(aged)
    table = "audit_record" if aged.world.database.is_sqlite else "audit_record_change_rest"
    aged.tamper("UPDATE audit_tombstone SET note = replace(note, '2026-03', '2026-02')")
    aged.tamper(f"DELETE FROM {table} WHERE \"class\" = 'change' AND at < (SELECT max(at) FROM audit_leaf)")
    found = {one.what for one in aged.verify().findings}
    assert found >= {"tombstone", "deleted"}


def test_a_purge_and_a_changed_retention_are_recorded_with_their_reason(aged: Proof) -> None:
    ask(aged)
    bury(aged)
    purge(aged)
    ask(aged, days=200, now=LATER + timedelta(days=1))
    purged = aged.told(Kind.AUDIT_PURGED)
    assert [one["why"] for one in purged] == ["retention"] * 3
    [changed] = aged.told(Kind.RETENTION_CHANGED)
    assert changed["before"] == {"days": 300}


def test_redaction_erases_value_salt_and_words_and_leaves_the_proof_whole(proof: Proof) -> None:
    [record_id] = proof.record(1, personal={"login": "zhangsan", "mail": "z@example.com"})
    index_new(proof.world.database, NOW)
    proof.seal(NOW)
    with ledger(proof).unit(reason="data subject's request", reference="DSR-7") as unit:
        redact(unit, record_id, ["mail"])
    rows = personal(proof, record_id)
    assert rows["mail"] == (b"", None)
    assert rows["login"][1] == "zhangsan"
    with proof.world.database.read() as connection:
        words = connection.execute(select(AuditWord.word).where(AuditWord.record_id == record_id)).scalars().all()
    assert "zhangsan" in words
    assert "example" not in words
    proof.seal(NOW + timedelta(minutes=2))
    report = proof.verify()
    assert report.ok, report.findings
    [told] = proof.told(Kind.AUDIT_REDACTED)
    assert (told["resource_id"], told["reference"], told["data"]) == (str(record_id), "DSR-7", {"fields": ["mail"]})


def test_redaction_asks_for_a_reason_and_for_what_is_there(proof: Proof) -> None:
    [record_id] = proof.record(1, personal={"login": "zhangsan"})
    index_new(proof.world.database, NOW)
    with pytest.raises(Invalid), ledger(proof).unit() as unit:
        redact(unit, record_id, ["login"])
    with pytest.raises(NotFound), ledger(proof).unit(reason="r") as unit:
        redact(unit, record_id, ["mail"])
    assert personal(proof, record_id)["login"][1] == "zhangsan"


def personal(proof: Proof, record_id: UUID) -> dict[str, tuple[bytes, str | None]]:
    query = select(AuditPersonal.field, AuditPersonal.salt, AuditPersonal.value)
    with proof.world.database.read() as connection:
        rows = connection.execute(query.where(AuditPersonal.record_id == record_id)).all()
    return {name: (bytes(salt), value) for name, salt, value in rows}
