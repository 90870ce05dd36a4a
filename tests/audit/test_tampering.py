"""Whatever is done to the record behind the sealer's back is found, and the first bad record is named.

`forged`: the forger holds the whole database and rewrites leaves, nodes and numbers until they fit again. Only the
anchored heads, the leaf log and the public key lie outside.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.audit.proof import Proof

BAD = 271


def changed(proof: Proof) -> list[str]:
    record_id, _ = proof.leaf(BAD)
    body = "CAST('{}' AS bytea)" if not proof.world.database.is_sqlite else "CAST('{}' AS BLOB)"
    return [f"UPDATE audit_record SET body = {body} WHERE id = '{proof.key(record_id)}'"]


def deleted(proof: Proof) -> list[str]:
    record_id, _ = proof.leaf(BAD)
    return [f"DELETE FROM audit_record WHERE id = '{proof.key(record_id)}'"]


def swapped(proof: Proof) -> list[str]:
    return [
        f"UPDATE audit_leaf SET seq = -1 WHERE seq = {BAD}",
        f"UPDATE audit_leaf SET seq = {BAD} WHERE seq = {BAD + 1}",
        f"UPDATE audit_leaf SET seq = {BAD + 1} WHERE seq = -1",
    ]


def cut(proof: Proof) -> list[str]:
    return [
        f"DELETE FROM audit_record WHERE id IN (SELECT record_id FROM audit_leaf WHERE seq >= {BAD})",
        f"DELETE FROM audit_leaf WHERE seq >= {BAD}",
    ]


def inserted(proof: Proof) -> list[str]:
    """A record in the middle, with an id and a leaf of its own."""
    record_id, _ = proof.leaf(BAD)
    other = proof.key(UUID(int=record_id.int ^ 1))
    leaf = f"SELECT {BAD}, \"class\", at, '{other}', body FROM audit_record WHERE id = '{other}'"
    source = f"audit_record WHERE id = '{proof.key(record_id)}'"
    return [
        f'INSERT INTO audit_record ("class", at, id, body) SELECT "class", at, \'{other}\', body FROM {source}',
        f"UPDATE audit_leaf SET seq = seq + 100000 WHERE seq >= {BAD}",
        f'INSERT INTO audit_leaf (seq, "class", at, record_id, leaf_hash) {leaf}',
    ]


@pytest.mark.case("AU-07")
def test_what_nobody_touched_is_proved_to_the_last_anchored_head(sealed: Proof) -> None:
    report = sealed.verify()
    assert report.findings == []
    assert report.proved is not None
    assert report.proved.size == report.leaves == sealed.size()
    assert (report.heads, report.waiting) == (2, 5)
    assert report.records == report.leaves + 5


@pytest.mark.parametrize(
    ("act", "forged", "what"),
    [
        (changed, False, "changed"),
        (changed, True, "changed"),
        (deleted, False, "deleted"),
        (deleted, True, "deleted"),
        (swapped, False, "reordered"),
        (swapped, True, "reordered"),
        (cut, False, "cut"),
        (cut, True, "cut"),
        (inserted, True, "inserted"),
    ],
)
def test_the_first_bad_record_is_named(
    sealed: Proof, act: Callable[[Proof], list[str]], forged: bool, what: str
) -> None:
    record_id, _ = sealed.leaf(BAD)
    sealed.tamper(*act(sealed), forge=forged)
    report = sealed.verify()
    assert report.first is not None
    assert report.first.what == what, report.findings
    assert report.first.seq == BAD
    if act is not inserted:
        assert report.first.record_id == record_id
    assert report.proved is not None


@pytest.mark.parametrize("act", [changed, deleted, swapped, cut, inserted])
def test_without_the_leaf_log_the_range_of_a_forgery_is_named(sealed: Proof, act: Callable[[Proof], list[str]]) -> None:
    sealed.tamper(*act(sealed), forge=True)
    report = sealed.verify(log=False)
    assert report.first is not None
    assert report.proved is not None
    assert report.proved.size <= BAD, "the sealed must not reach beyond the last head that fits"
    assert report.first.seq is not None
    assert report.proved.size <= report.first.seq <= BAD


@pytest.mark.parametrize("column", ["class", "at"])
def test_a_row_whose_columns_are_not_its_bodys_is_found(sealed: Proof, column: str) -> None:
    record_id, _ = sealed.leaf(BAD)
    value = "'login'" if column == "class" else "(SELECT min(at) FROM audit_record)"
    sealed.tamper(
        f"UPDATE audit_record SET \"{column}\" = {value} WHERE id = '{sealed.key(record_id)}'",
        f"UPDATE audit_leaf SET \"{column}\" = {value} WHERE record_id = '{sealed.key(record_id)}'",
    )
    report = sealed.verify()
    assert report.first is not None
    assert (report.first.what, report.first.seq, report.first.record_id) == ("columns", BAD, record_id)


def test_a_row_under_another_id_than_its_bodys_is_found(sealed: Proof) -> None:
    record_id, _ = sealed.leaf(BAD)
    key, other = sealed.key(record_id), UUID(int=record_id.int ^ 1)
    sealed.tamper(
        f"UPDATE audit_record SET id = '{sealed.key(other)}' WHERE id = '{key}'",
        f"UPDATE audit_leaf SET record_id = '{sealed.key(other)}' WHERE record_id = '{key}'",
    )
    report = sealed.verify(log=False)
    assert [(one.what, one.seq, one.record_id) for one in report.findings] == [("columns", BAD, other)]


def test_a_leaf_whose_hash_is_none_spoils_no_neighbours(sealed: Proof) -> None:
    record_id, _ = sealed.leaf(BAD)
    sealed.tamper(f"UPDATE audit_leaf SET leaf_hash = substr(leaf_hash, 1, 31) WHERE seq = {BAD}")
    report = sealed.verify()
    assert {(one.what, one.seq, one.record_id) for one in report.findings} == {("changed", BAD, record_id)}


def test_a_time_beyond_every_calendar_is_found(sealed: Proof) -> None:
    record_id, _ = sealed.leaf(BAD)
    key, far = sealed.key(record_id), "9223372036854775807" if sealed.world.database.is_sqlite else "'infinity'"
    sealed.tamper(f"UPDATE audit_record SET at = {far} WHERE id = '{key}'")
    report = sealed.verify()
    assert record_id in {one.record_id for one in report.findings}
    sealed.tamper(f"UPDATE audit_leaf SET at = {far} WHERE record_id = '{key}'")
    report = sealed.verify()
    assert report.first is not None
    assert (report.first.what, report.first.seq, report.first.record_id) == ("columns", BAD, record_id)


def test_a_record_moved_to_a_class_that_nobody_reads_is_found(sealed: Proof) -> None:
    record_id, _ = sealed.leaf(BAD)
    sealed.tamper(f"UPDATE audit_record SET \"class\" = 'other' WHERE id = '{sealed.key(record_id)}'")
    report = sealed.verify()
    assert {(one.what, one.record_id) for one in report.findings} == {("deleted", record_id), ("inserted", record_id)}


def test_a_record_put_in_behind_the_sealer_is_found(sealed: Proof) -> None:
    record_id, _ = sealed.leaf(BAD)
    sealed.tamper(f"DELETE FROM audit_leaf WHERE record_id = '{sealed.key(record_id)}'")
    report = sealed.verify()
    assert {one.what for one in report.findings} >= {"gap", "inserted"}
    assert record_id in {one.record_id for one in report.findings}


def test_a_record_that_is_sealed_twice_is_found(sealed: Proof) -> None:
    record_id, _ = sealed.leaf(BAD)
    copy = f'SELECT {sealed.size()}, "class", at, record_id, leaf_hash FROM audit_leaf WHERE seq = {BAD}'
    sealed.tamper(f'INSERT INTO audit_leaf (seq, "class", at, record_id, leaf_hash) {copy}')
    report = sealed.verify()
    assert [(one.what, one.seq, one.record_id) for one in report.findings] == [("twice", sealed.size(), record_id)]


def test_a_sealer_that_was_led_back_is_found(sealed: Proof) -> None:
    """The position lies in the database: whoever lowers it makes the sealer take records again."""
    sealed.tamper("UPDATE audit_seal SET position = 0")
    sealed.seal(datetime.now(UTC) + timedelta(minutes=4))
    report = sealed.verify()
    assert report.first is not None
    assert report.first.what == "twice"


def test_a_wrong_node_is_found(sealed: Proof) -> None:
    sealed.tamper("UPDATE audit_node SET hash = (SELECT leaf_hash FROM audit_leaf WHERE seq = 3)")
    report = sealed.verify()
    assert [(one.what, one.seq) for one in report.findings] == [("node", 0)]


def test_a_head_that_the_sealer_did_not_sign_proves_nothing(sealed: Proof) -> None:
    notes = sealed.outside.file.notes()
    forged = notes[-1].replace("\nat 20", "\nat 21")
    report = sealed.verify([notes[0], forged])
    assert report.proved is not None
    assert report.proved.size < sealed.size()
    assert [one.what for one in report.findings] == ["head"]


def test_two_heads_of_one_size_are_a_fork(sealed: Proof) -> None:
    """A log that shows one auditor this and another one that: together they see it."""
    before = sealed.outside.file.notes()
    sealed.seal(datetime.now(UTC) + timedelta(minutes=4))
    [mine] = sealed.outside.file.notes()[len(before) :]
    theirs = Proof(sealed.world)
    theirs.tamper(*changed(theirs), forge=True)
    sealed.tamper("DELETE FROM audit_head", "DELETE FROM audit_anchor")
    theirs.outside.file.path.unlink()
    theirs.seal(datetime.now(UTC) + timedelta(minutes=5))
    other = theirs.outside.file.notes()
    report = sealed.verify([*before, mine, *other])
    assert report.first is not None
    assert report.proved is not None
    assert report.proved.size < BAD


def test_the_databases_own_heads_are_checked_when_nothing_else_is_there(sealed: Proof) -> None:
    assert sealed.verify([]).ok
    sealed.tamper("UPDATE audit_head SET root = (SELECT root FROM audit_head ORDER BY size LIMIT 1)")
    report = sealed.verify([])
    assert report.first is not None
    assert report.first.what == "head"


def test_personal_values_are_held_by_their_hashes(proof: Proof) -> None:
    [record_id] = proof.record(1, personal={"login": "zhangsan", "mail": "z@example.com"})
    proof.seal()
    assert proof.verify().ok
    key = proof.key(record_id)
    proof.tamper(f"UPDATE audit_personal SET value = 'lisi' WHERE record_id = '{key}' AND field = 'login'")
    assert [(one.what, one.record_id) for one in proof.verify().findings] == [("personal", record_id)]
    proof.tamper(f"DELETE FROM audit_personal WHERE record_id = '{key}' AND field = 'login'")
    assert [(one.what, one.record_id) for one in proof.verify().findings] == [("erased", record_id)]
