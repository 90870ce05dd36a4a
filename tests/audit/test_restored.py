"""A restore from a backup is stated by the sealer's key and told for ever; nobody else can say what is lost."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, select, text

from identity.audit.acknowledge import Acknowledging, Said
from identity.audit.evidence import Asked, build
from identity.audit.kinds import Kind
from identity.audit.models import AuditHead, AuditRestored
from identity.audit.note import Head, sign_note, stored_note
from identity.audit.restored import Restored, is_statement
from identity.audit.seal import LEASE, LEASE_S
from identity.core.errors import Conflict, Invalid
from identity.core.lease import acquire
from identity.core.record import Actor
from identity.keys.seal import SealKey, load_seal_keys
from tests.audit.conftest import cloned
from tests.audit.proof import Ledger, Proof
from tests.audit.test_evidence import check

# The sealed fixture's second head lies two minutes ahead.
# Later than any head that a run of the suite signs by the clock, and less than the hour after which a record is late.
NOW = datetime.now(UTC) + timedelta(minutes=50)
SAID = Said("Wang", NOW, "disk failure\nof node 2", "变更-7")


@pytest.fixture
def backup(sealed: Proof, tmp_path: Path) -> Iterator[Callable[[], Callable[[], Proof]]]:
    """`backup()` keeps the database as it is now; what it returns brings that state back, beside the same anchors."""
    opened: list[Ledger] = []

    def keep() -> Callable[[], Proof]:
        url = copy(opened[-1] if opened else sealed.world)

        def restore() -> Proof:
            ledger = Ledger(copy_of(url), tmp_path)
            opened.append(ledger)
            return Proof(ledger)

        return restore

    yield keep
    for one in opened:
        one.close()


def copy(ledger: Any) -> str:
    ledger.database.engine.dispose()
    return copy_of(ledger.settings.sqlalchemy_url)


def copy_of(url: str) -> str:
    if not url.startswith("sqlite"):
        return cloned(url)
    path = make_url(url).database
    assert path is not None
    target = f"{path}.{datetime.now(UTC):%H%M%S%f}"
    source, copied = sqlite3.connect(path), sqlite3.connect(target)
    source.backup(copied)
    source.close()
    copied.close()
    return f"sqlite:///{target}"


def state(proof: Proof, now: datetime = NOW, said: Said = SAID, more: tuple[str, ...] = ()) -> Restored:
    """What `identity audit-restored` does."""
    restoring = Acknowledging(proof.world.database, proof.keys, proof.outside, more)
    units = proof.world.units
    actor = Actor.system("cli:audit-restored")
    return restoring.sign(
        said, lambda: units.open(actor, now=now, reason=said.reason, reference=said.reference), "test", now
    )


def refused(proof: Proof, now: datetime = NOW) -> str:
    with pytest.raises(Conflict) as caught:
        proof.sealer().take(now)
    return caught.value.code


def test_a_restore_is_stated_sealing_goes_on_and_the_gap_stays_told(sealed: Proof, backup: Any) -> None:
    restore = backup()
    lost = sealed.record(30)
    last = sealed.seal(NOW - timedelta(seconds=30))
    now = restore()
    kept = now.size()
    assert refused(now) == "audit_history"
    report = now.verify()
    assert report.first is not None
    assert (report.first.what, report.first.seq) == ("cut", kept)

    made = state(now)
    assert (made.epoch, made.kept, made.lost, made.head) == (1, kept, last.size, last)
    waiting = now.verify()
    assert waiting.ok, waiting.findings
    for minutes in (1, 2):
        now.record(3)
        head = now.seal(NOW + timedelta(minutes=minutes))
        assert head.epoch == 1
        report = now.verify()
        assert report.ok, report.findings
        assert [(one.kept, one.lost, one.by, one.reference) for one in report.restored] == [
            (kept, last.size, "Wang", "变更-7")
        ]
        assert report.superseded == 1
        assert report.proved == head
        assert f"{last.size - kept} records are lost (seq {kept} to {last.size - 1})" in str(report.restored[0])
    # It stands in the log itself, and what was lost can still be named by whoever kept the leaf log.
    [told] = now.told(Kind.HISTORY_RESTORED)
    assert (told["why"], told["reference"], told["data"]["by"]) == (SAID.reason, "变更-7", "Wang")
    assert told["data"]["lost"] == last.size - kept
    log = now.outside.leaf_log
    assert log is not None
    assert {one.bytes for one in lost} <= {record_id for record_id, _ in log.read(kept, last.size)}
    assert log.of_epoch(1).size == now.size()
    # Who has the database's own heads only is told too.
    assert now.verify(()).restored == report.restored


def test_a_pack_of_the_new_history_holds_and_tells_of_the_gap(sealed: Proof, backup: Any, tmp_path: Path) -> None:
    restore = backup()
    sealed.record(30)
    sealed.seal(NOW - timedelta(seconds=30))
    now = restore()
    made = state(now)
    ids = [*now.record(2), now.leaf(100)[0]]
    now.seal(NOW + timedelta(minutes=1))
    with now.world.database.read(consistent=True) as connection:
        files, head = build(connection, ids, Asked("auditor", NOW, "why", "q"), now.keys[0])
    assert head.epoch == 1
    options = ("--key", str(now.keys[0].key), "--heads", str(now.outside.file.path))
    code, said = check(files, tmp_path / "pack", *options)
    assert code == 0, said
    lost = f"records {made.kept} to {made.lost - 1} of the earlier history are lost (disk failure of node 2)"
    assert f"by Wang: {lost}" in said
    # Nobody else can put such a statement into a pack.
    files["restored.txt"] = files["restored.txt"].replace(b"by Wang", b"by Li")
    size, digest = len(files["restored.txt"]), hashlib.sha256(files["restored.txt"]).hexdigest()
    note = files["manifest.txt"].decode()
    files["manifest.txt"] = re.sub(r"file restored.txt \S+ \S+", f"file restored.txt {size} {digest}", note).encode()
    assert "the signature of the statement of a restoration is wrong" in check(files, tmp_path / "pack", *options)[1]


def test_after_it_the_log_is_proved_as_before(sealed: Proof, backup: Any) -> None:
    restore = backup()
    sealed.record(30)
    sealed.seal(NOW - timedelta(seconds=30))
    now = restore()
    kept = now.size()
    state(now)
    new = now.record(20)
    now.seal(NOW + timedelta(minutes=1))
    now.tamper(f"DELETE FROM audit_record WHERE id = '{now.key(new[7])}'", forge=True)
    report = now.verify()
    assert report.first is not None
    assert report.first.record_id == new[7]
    assert report.first.seq is not None
    assert report.first.seq > kept
    # The same backup once more: a statement excuses what it tells of, once.
    again = restore()
    assert refused(again, NOW + timedelta(minutes=2)) == "audit_history"
    assert not again.verify().ok


def test_restored_twice_to_before_the_first_time_both_are_told(sealed: Proof, backup: Any) -> None:
    early = backup()
    sealed.record(10)
    sealed.seal(NOW - timedelta(seconds=50))
    sealed.record(10)
    restore = backup()
    sealed.record(10)
    first = sealed.seal(NOW - timedelta(seconds=30))
    now = restore()
    one = state(now)
    now.record(5)
    second = now.seal(NOW + timedelta(minutes=1))
    then = early()
    kept = then.size()
    assert refused(then, NOW + timedelta(minutes=2)) == "audit_history"
    later = Said("Li", NOW, "wrong backup", "")
    two = state(then, NOW + timedelta(minutes=3), later)
    assert (two.epoch, two.kept, two.lost, two.head) == (2, kept, second.size, second)
    then.record(40)
    then.seal(NOW + timedelta(minutes=4))
    report = then.verify()
    assert report.ok, report.findings
    assert list(report.restored) == [one, two]
    assert one.lost == first.size
    # The database was put back to before the first statement, and has it again from the anchor file.
    with then.world.database.read() as connection:
        assert list(connection.execute(select(AuditRestored.epoch).order_by(AuditRestored.epoch)).scalars()) == [1, 2]


def test_what_was_sealed_but_under_no_head_yet_is_missed_too(sealed: Proof, backup: Any) -> None:
    restore = backup()
    sealed.record(7)
    sealer = sealed.sealer()
    sealer.take(NOW - timedelta(minutes=1))
    sealer.seal(NOW - timedelta(minutes=1))
    size = sealed.size()
    now = restore()
    assert refused(now) == "audit_history"
    made = state(now)
    assert (made.lost, made.head.size) == (size, sealed.heads()[-1].size)
    now.seal(NOW + timedelta(minutes=1))
    assert now.verify().ok


def test_whoever_has_the_database_only_states_nothing(sealed: Proof, backup: Any, tmp_path: Path) -> None:
    restore = backup()
    sealed.record(30)
    last = sealed.seal(NOW - timedelta(seconds=30))
    now = restore()
    kept = now.size()
    other = load_seal_keys(now.world.settings.model_copy(update={"seal_key_file": tmp_path / "other.key"}))[0]
    forged = statement(kept, last, other)
    copied = forged.replace(f"{other.key.id.hex()}", "").rpartition("\n\n")[0] + "\n\n" + signatures(now)
    for n, note in enumerate((forged, copied), 1):
        insert(now, n, note)
    assert refused(now) == "audit_history"
    report = now.verify()
    assert {"restored", "cut"} <= {one.what for one in report.findings}
    assert report.restored == []


def test_a_statement_that_is_hidden_is_missed(sealed: Proof, backup: Any) -> None:
    restore = backup()
    sealed.record(30)
    sealed.seal(NOW - timedelta(seconds=30))
    now = restore()
    state(now)
    now.record(5)
    now.seal(NOW + timedelta(minutes=1))
    now.tamper("DELETE FROM audit_restored")
    report = now.verify()
    assert report.ok, report.findings
    assert len(report.restored) == 1, "the anchor file tells of it"
    received = [one for one in now.outside.file.notes() if not is_statement(one)]
    report = now.verify(received)
    assert report.first is not None
    assert {one.what for one in report.findings} >= {"restored"}
    assert "its statement is not" in {one.detail.rpartition(", ")[2] for one in report.findings}


def test_a_head_beyond_what_is_said_to_be_lost_is_told(sealed: Proof, backup: Any) -> None:
    restore = backup()
    sealed.record(10)
    sealed.seal(NOW - timedelta(seconds=50))
    file = sealed.outside.file.path
    known, log = file.read_text(), sealed.outside.leaf_log
    assert log is not None
    leaves = log.path.read_bytes()
    sealed.record(10)
    widest = sealed.seal(NOW - timedelta(seconds=30))
    mailed = sealed.outside.file.notes()[-1]
    file.write_text(known)
    log.path.write_bytes(leaves)
    now = restore()
    state(now)
    now.seal(NOW + timedelta(minutes=1))
    assert now.verify().ok
    report = now.verify([*now.outside.file.notes(), mailed])
    assert report.first is not None
    assert report.first.what == "restored"
    assert f"a head of {widest.size} leaves was signed" in report.first.detail


def test_heads_that_others_received_count_when_it_is_stated(sealed: Proof, backup: Any) -> None:
    restore = backup()
    file = sealed.outside.file.path
    known = file.read_text()
    sealed.record(10)
    widest = sealed.seal(NOW - timedelta(seconds=30))
    mailed = sealed.outside.file.notes()[-1]
    file.write_text(known)
    log = sealed.outside.leaf_log
    assert log is not None
    log.path.unlink()
    now = restore()
    assert state(now, more=(mailed,)).head == widest
    now.seal(NOW + timedelta(minutes=1))
    assert now.verify([*now.outside.file.notes(), mailed]).ok


def test_only_a_loss_is_stated(sealed: Proof, backup: Any) -> None:
    with pytest.raises(Conflict) as whole:
        state(sealed)
    assert whole.value.code == "audit_whole"
    restore = backup()
    sealed.record(30)
    sealed.seal(NOW - timedelta(seconds=30))
    now = restore()
    for wrong in (NOW + timedelta(seconds=1), NOW - timedelta(days=1)):
        with pytest.raises(Invalid) as caught:
            state(now, said=Said("Wang", wrong, "why", ""))
        assert caught.value.code == "backup_time"
    with now.world.unit() as unit:
        acquire(unit.db, LEASE, "a sealer", NOW, LEASE_S)
    with pytest.raises(Conflict) as held:
        state(now, NOW + timedelta(seconds=10))
    assert held.value.code == "lease_held"
    # What is there was changed: the cut does not excuse it.
    record_id, _ = now.leaf(40)
    now.tamper(f"DELETE FROM audit_record WHERE id = '{now.key(record_id)}'", forge=True)
    with pytest.raises(Conflict) as changed:
        state(now, NOW + timedelta(minutes=2))
    assert changed.value.code == "audit_history"
    with now.world.database.read() as connection:
        assert connection.execute(select(AuditRestored)).first() is None
    assert not any(map(is_statement, now.outside.file.notes()))


@pytest.mark.parametrize("spoil", ["epoch 0", "kept -1", "lost 1", "root eA==", "head 1 2 3", "at yesterday"])
def test_a_statement_has_one_form(clone_of_one: Proof, spoil: str) -> None:
    head = clone_of_one.heads()[-1]
    good = Restored.parse(statement(200, head, clone_of_one.keys[0]).rpartition("\n\n")[0] + "\n")
    assert Restored.parse(good.text) == good
    name = spoil.partition(" ")[0]
    lines = [spoil if one.startswith(f"{name} ") else one for one in good.text.split("\n")]
    with pytest.raises(Invalid):
        Restored.parse("\n".join(lines))


def test_heads_of_the_first_history_keep_their_form_and_later_ones_name_theirs(clone_of_one: Proof) -> None:
    head = clone_of_one.heads()[-1]
    assert head.epoch == 0
    assert len(head.text.splitlines()) == 4
    later = Head(head.origin, head.size, head.root, head.at, 2)
    assert later.text == f"{head.text}epoch 2\n"
    assert Head.parse(later.text) == later
    for wrong in ("epoch 0\n", "epoch 02\n", "more\n"):
        with pytest.raises(Invalid):
            Head.parse(head.text + wrong)
    with clone_of_one.world.database.read() as connection:
        row = connection.execute(select(AuditHead.__table__).order_by(AuditHead.size.desc())).first()
    assert stored_note(row)[0] == head


def statement(kept: int, last: Head, signer: SealKey) -> str:
    text_ = Restored(last.origin, 1, kept, last.root, last.size, last, NOW, NOW, "Eve", "because", "-").text
    return sign_note(text_, [signer])


def signatures(proof: Proof) -> str:
    """Those of a head, which are good over something else."""
    return proof.outside.file.notes()[-1].rpartition("\n\n")[2]


def insert(proof: Proof, epoch: int, note: str) -> None:
    with proof.world.database.write() as connection:
        values = {"epoch": epoch, "at": 0 if proof.world.database.is_sqlite else NOW, "note": note}
        connection.execute(text("INSERT INTO audit_restored (epoch, at, note) VALUES (:epoch, :at, :note)"), values)
