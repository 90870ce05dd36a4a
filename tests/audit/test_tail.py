"""Who reads on from where it was gets every record once, in the order of the commits, a transaction whole."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import text

from identity.audit.bulk import ids_behind, records_of_transactions
from identity.audit.tail import TailReader
from tests.audit.proof import Proof

LIMIT = 5


def read_on(proof: Proof, position: int = 0) -> list[list[UUID]]:
    """The ids of each reading until there is no more."""
    reader, found, more = TailReader(LIMIT), [], True
    while more:
        with proof.world.database.read() as connection:
            tail = reader.read(connection, position, datetime.now(UTC))
        assert tail.position > position or not tail.more
        position, more = tail.position, tail.more
        found.append([row.id for row in tail.rows])
    return found


def test_every_record_comes_once_in_order_and_in_small_parts(proof: Proof) -> None:
    made = [proof.record(size) for size in (1, 1, 2, 30, 1, 4, 4, 4, 12, 1, 1, 1)]
    parts = read_on(proof)
    assert [one for part in parts for one in part] == [one for records in made for one in records]
    assert all(len(part) <= max(2 * LIMIT, 30) for part in parts)
    assert len(parts) > 3


def test_transactions_without_a_record_hide_none_behind_them(proof: Proof) -> None:
    """Numbers of transactions that recorded nothing, more than are looked at in one reading."""
    made = proof.record(2)
    if not proof.world.database.is_sqlite:
        with proof.world.database.write() as connection:
            connection.execute(
                text("DO $$ BEGIN FOR n IN 1..3000 LOOP BEGIN INSERT INTO audit_seal (slot, position, size) "
                     "VALUES (1, 0, 0); EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; END $$")
            )  # fmt: skip
    made += proof.record(2)
    assert [one for part in read_on(proof) for one in part] == made


def test_a_month_that_was_never_analyzed_is_read_by_its_index(proof: Proof) -> None:
    """On PostgreSQL: finder and sealer look several times a second, and would read the whole month each time."""
    if proof.world.database.is_sqlite:
        return
    made = proof.record(30)
    with proof.world.database.read() as connection:
        tail = TailReader(len(made)).plain(connection, 0, datetime.now(UTC))
        assert len(tail.rows) == len(made)
        low = tail.position
        assert list(records_of_transactions(connection, low, low + 1)) == []
        assert ids_behind(connection, low) == set()
        scans = text(
            "SELECT sum(seq_scan), sum(idx_scan) FROM pg_stat_xact_user_tables WHERE relname ~ '^audit_record'"
        )
        whole, by_index = connection.execute(scans).one()
    assert whole == 0
    assert by_index > 0
