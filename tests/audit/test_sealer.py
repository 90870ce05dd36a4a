"""The sealer: gapless, once, one at a time, never on a history that its anchors disprove."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from identity.audit.models import AuditAnchor, AuditHead, AuditLeaf, AuditRecord, AuditSeal
from identity.audit.note import Head, open_note, stored_note
from identity.core.errors import Conflict, Stale
from identity.core.record import Record
from tests.audit.proof import Proof

NOW = datetime.now(UTC)
ROOT = Path(__file__).resolve().parents[2]


def leaves(proof: Proof) -> list[tuple[int, str]]:
    with proof.world.database.read() as connection:
        return [
            (row[0], str(row[1]))
            for row in connection.execute(select(AuditLeaf.seq, AuditLeaf.record_id).order_by(AuditLeaf.seq))
        ]


def sealed_to(proof: Proof) -> datetime | None:
    with proof.world.database.read() as connection:
        return connection.execute(select(AuditSeal.sealed_to)).scalar_one()


def records(proof: Proof) -> set[str]:
    with proof.world.database.read() as connection:
        return {str(one) for one in connection.execute(select(AuditRecord.id)).scalars()}


def sealed_whole(proof: Proof) -> bool:
    """Every record once, numbered without a gap."""
    found = leaves(proof)
    return [seq for seq, _ in found] == list(range(len(found))) and (
        len(found) == len(records(proof)) and {one for _, one in found} == records(proof)
    )


def test_a_head_is_signed_once_a_minute_and_only_when_something_came(proof: Proof) -> None:
    sealer = proof.sealer(head_s=60)
    sealer.take(NOW)
    proof.record(3)
    assert sealer.seal(NOW) > 0
    first = sealer.head(NOW)
    assert first is not None
    proof.record(1)
    sealer.seal(NOW + timedelta(seconds=5))
    assert sealer.head(NOW + timedelta(seconds=59)) is None
    second = sealer.head(NOW + timedelta(seconds=60))
    assert second is not None
    assert second.size == first.size + 1
    assert sealer.head(NOW + timedelta(seconds=200)) is None
    assert sealer.head(NOW + timedelta(seconds=200), force=True) is None, "nothing came"


def test_the_note_of_a_head_is_in_the_file_and_opens_with_the_public_key(proof: Proof) -> None:
    proof.record(3)
    head = proof.seal(NOW)
    [note] = proof.outside.file.notes()
    assert Head.parse(open_note(note, [one.key for one in proof.keys])) == head
    with proof.world.database.read() as connection:
        row = connection.execute(select(AuditHead.__table__)).one()
        anchored = connection.execute(select(AuditAnchor.target, AuditAnchor.size)).all()
    assert stored_note(row) == (head, note)
    assert row.anchored_at == NOW
    assert anchored == [("file", head.size)]


def test_an_open_transaction_holds_back_what_came_after_it_and_loses_nothing(proof: Proof) -> None:
    """A row with an earlier transaction id may become visible later: it is sealed then, once."""
    sealer = proof.sealer()
    sealer.take(NOW)
    proof.record(2)
    sealer.seal(NOW)
    if proof.world.database.is_sqlite:
        proof.record(2)
    else:
        with proof.world.database.engine.connect() as slow:
            slow.execute(
                text(
                    'INSERT INTO audit_record ("class", at, id, body) '
                    'SELECT "class", at, gen_random_uuid(), body FROM audit_record LIMIT 1'
                )
            )
            proof.record(2)
            before = len(leaves(proof))
            sealer.seal(NOW + timedelta(seconds=60))
            assert len(leaves(proof)) == before
            assert sealed_to(proof) == NOW, "what came since waits"
            slow.commit()
    sealer.seal(NOW + timedelta(seconds=61))
    assert sealed_whole(proof)
    assert sealed_to(proof) == NOW + timedelta(seconds=61)


@pytest.mark.case("AU-07")
def test_records_of_many_writers_are_sealed_without_gap_or_double(proof: Proof) -> None:
    def write() -> None:
        for _ in range(25):
            with proof.world.unit() as unit:
                unit.record(Record(kind="people.user.created", result="success"))

    writers = [threading.Thread(target=write) for _ in range(8)]
    for one in writers:
        one.start()
    sealer = proof.sealer()
    sealer.take(NOW)
    while any(one.is_alive() for one in writers):
        sealer.seal(NOW)
    for one in writers:
        one.join()
    while sealer.seal(NOW):
        pass
    assert sealed_whole(proof)


def test_one_sealer_at_a_time_and_a_late_one_writes_nothing(proof: Proof) -> None:
    first, second = proof.sealer("one"), proof.sealer("two")
    first.take(NOW)
    with pytest.raises(Conflict):
        second.take(NOW + timedelta(seconds=20))
    second.take(NOW + timedelta(seconds=31))
    proof.record(2)
    with pytest.raises(Stale):
        first.seal(NOW + timedelta(seconds=32))
    assert leaves(proof) == []
    assert second.seal(NOW + timedelta(seconds=33)) > 0
    with pytest.raises(Stale):
        first.seal(NOW + timedelta(seconds=34))
    assert sealed_whole(proof)


def test_a_sealer_takes_up_the_tree_where_another_left_it(proof: Proof) -> None:
    for _ in range(3):
        proof.record(150)
        proof.seal(NOW)
    report = proof.verify()
    assert report.ok, report.findings
    assert report.heads == 3


@pytest.mark.case("RF-05")
def test_nothing_is_sealed_on_a_history_that_the_anchor_disproves(proof: Proof) -> None:
    proof.record(20)
    proof.seal(NOW)
    proof.tamper("DELETE FROM audit_leaf WHERE seq >= 10", "UPDATE audit_seal SET size = 10")
    with pytest.raises(Conflict) as caught:
        proof.sealer().take(NOW + timedelta(minutes=1))
    assert caught.value.code == "audit_history"


def test_nothing_is_sealed_on_a_rewritten_history(proof: Proof) -> None:
    proof.record(20)
    proof.seal(NOW)
    proof.tamper("UPDATE audit_leaf SET leaf_hash = (SELECT leaf_hash FROM audit_leaf WHERE seq = 1) WHERE seq = 2")
    with pytest.raises(Conflict) as caught:
        proof.sealer().take(NOW + timedelta(minutes=1))
    assert caught.value.code == "audit_history"


def test_a_head_waits_for_an_anchor_that_is_away(proof: Proof) -> None:
    path = proof.outside.file.path
    sealer = proof.sealer()
    sealer.take(NOW)
    path.mkdir()
    proof.record(1)
    sealer.seal(NOW)
    sealer.head(NOW)
    assert sealer.anchor(NOW) == 0
    path.rmdir()
    assert sealer.anchor(NOW + timedelta(seconds=1)) == 0, "it is not asked again at once"
    assert sealer.anchor(NOW + timedelta(seconds=6)) == 1
    assert len(proof.outside.file.notes()) == 1


@pytest.mark.case("RF-15")
def test_a_sealer_killed_at_any_moment_leaves_no_gap_and_no_double(proof: Proof) -> None:
    settings = proof.world.settings
    env = {
        **os.environ,
        "TESSERA_DEMO": "1",
        "TESSERA_VAR": str(settings.tessera_var),
        "DATABASE_URL": settings.sqlalchemy_url,
        "LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-c", KILLED]
    for n in range(3):
        proof.record(120)
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"sealing\n"
        time.sleep(0.01 * n)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    late = datetime.now(UTC) + timedelta(minutes=10)
    proof.seal(late)
    assert sealed_whole(proof)
    assert proof.verify().ok


# Seals one record at a time, so that the kill meets it between any two statements.
KILLED = """
import os
from datetime import UTC, datetime, timedelta
from identity.audit import seal
from identity.audit.outside import outside
from identity.core.db import engine_options, prepare_engine
from identity.core.settings import Settings
from identity.keys.seal import load_seal_keys
from sqlalchemy import create_engine
seal.CHUNK = 1
settings = Settings.from_env()
database = prepare_engine(create_engine(settings.sqlalchemy_url, **engine_options(settings.sqlalchemy_url)))
sealer = seal.Sealer(database, load_seal_keys(settings), outside(settings, None), str(os.getpid()))
now = datetime.now(UTC) + timedelta(minutes=1)
while True:
    try:
        sealer.take(now)
        break
    except Exception:
        now += timedelta(minutes=1)
print("sealing", flush=True)
while True:
    sealer.seal(now)
    sealer.head(now, force=True)
    sealer.anchor(now)
"""
