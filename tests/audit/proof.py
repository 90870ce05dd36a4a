"""A sealer of a test's own, and a forger who holds the whole database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, create_engine, delete, insert, select, text

from identity.audit.findings import Report
from identity.audit.kinds import Kind
from identity.audit.merkle import leaf_hash
from identity.audit.models import AuditLeaf, AuditNode, AuditRecord, AuditSeal
from identity.audit.note import Head, open_note
from identity.audit.outside import leaf_log, outside
from identity.audit.recorder import Recorder
from identity.audit.seal import Sealer
from identity.audit.testimony import Evidence
from identity.audit.tree import Tiles
from identity.audit.verify import verify
from identity.core.db import engine_options, prepare_engine
from identity.core.feed import Feed
from identity.core.record import Actor, Record
from identity.core.settings import Settings
from identity.core.unit import Units
from identity.keys.seal import load_seal_keys
from tests.payloads import misfits
from tests.world import World

ENDINGS = ("/tombstone", "/restored")


def no_mail(subject: str, text: str) -> None:
    raise AssertionError("nothing is mailed here")


class Ledger:
    """What the proof needs of Tessera: settings, a database, and Units that record into it."""

    def __init__(self, database_url: str, folder: Path) -> None:
        values = {"tessera_demo": True, "tessera_var": folder / "var", "database_url": database_url}
        self.settings = Settings.model_validate(values)
        self.database = prepare_engine(create_engine(database_url, **engine_options(database_url)))
        self._recorder = Recorder(self.database)
        self.units = Units(self.database, self._recorder, Feed(self.database), lambda *_: None)

    def unit(self, **more: Any) -> Any:
        return self.units.open(Actor.system("test"), **more)

    def close(self) -> None:
        self._recorder.stop()
        self.database.engine.dispose()


class Proof:
    """The audit's proof of a ledger."""

    def __init__(self, world: Ledger | World) -> None:
        self.world = world
        self.keys = load_seal_keys(world.settings)
        self.outside = outside(world.settings, no_mail)

    def sealer(self, holder: str = "test", head_s: int = 60) -> Sealer:
        return Sealer(self.world.database, self.keys, self.outside, holder, head_s)

    def record(self, count: int, **more: Any) -> list[UUID]:
        """That many records, one Unit for each fifty."""
        made: list[UUID] = []
        while len(made) < count:
            with self.world.unit() as unit:
                for n in range(min(50, count - len(made))):
                    one = Record(kind="people.user.created", result="success", resource_id=f"u{n}", **more)
                    unit.record(one)
                    made.append(one.id)
        return made

    def told(self, kind: Kind) -> list[dict[str, Any]]:
        """The records of this kind, which are as it declares, in their order."""
        with self.world.database.read() as connection:
            bodies = connection.execute(select(AuditRecord.body).order_by(AuditRecord.id)).scalars().all()
        found = [one for one in (orjson.loads(bytes(body)) for body in bodies) if one["kind"] == kind]
        assert misfits(found) == []
        return found

    def seal(self, now: datetime | None = None) -> Head:
        """Seal everything, sign a head, anchor it, and stop."""
        sealer = self.sealer()
        now = now or datetime.now(UTC)
        sealer.take(now)
        while sealer.seal(now):
            pass
        sealer.stop(now)
        return self.heads()[-1]

    def heads(self) -> list[Head]:
        """Those that were anchored, in their order."""
        notes = [note for note in self.outside.file.notes() if not note.partition("\n")[0].endswith(ENDINGS)]
        return [Head.parse(open_note(note, [one.key for one in self.keys])) for note in notes]

    def verify(self, notes: Sequence[str] | None = None, *, log: bool = True) -> Report:
        """Against what was anchored, as an auditor holds it."""
        said = tuple(self.outside.file.notes() if notes is None else notes)
        evidence = Evidence(tuple(one.key for one in self.keys), said, leaf_log(self.world.settings) if log else None)
        with self.world.database.read(consistent=True) as connection:
            return verify(connection, evidence)

    def leaf(self, seq: int) -> tuple[UUID, str]:
        """Record id and class of a leaf."""
        with self.world.database.read() as connection:
            row = connection.execute(
                select(AuditLeaf.record_id, AuditLeaf.retention_class).where(AuditLeaf.seq == seq)
            ).one()
        return row[0], row[1]

    def size(self) -> int:
        with self.world.database.read() as connection:
            return connection.execute(select(AuditSeal.size)).scalar_one()

    def key(self, record_id: UUID) -> str:
        """The id as this database writes it."""
        return record_id.hex if self.world.database.is_sqlite else str(record_id)

    def tamper(self, *statements: str, forge: bool = False) -> None:
        """Change the database as whoever owns it can; `forge` makes leaves and nodes fit afterwards."""
        with self.world.database.write() as connection:
            unguarded(connection)
            for statement in statements:
                connection.execute(text(statement))
            if forge:
                fit(connection)


def unguarded(connection: Connection) -> None:
    """Lift the triggers."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        return
    names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
    for name in names:
        connection.execute(text(f"DROP TRIGGER {name}"))


def fit(connection: Connection) -> None:
    """Rewrite leaves and nodes so that they agree with the records, in the order in which the leaves stand."""
    bodies = dict(connection.execute(select(AuditRecord.id, AuditRecord.body)).all())
    rows = connection.execute(select(AuditLeaf.__table__).order_by(AuditLeaf.seq)).mappings().all()
    kept = [row for row in rows if row["record_id"] in bodies]
    connection.execute(delete(AuditLeaf))
    connection.execute(delete(AuditNode))
    values = [{**row, "seq": n, "leaf_hash": leaf_hash(bytes(bodies[row["record_id"]]))} for n, row in enumerate(kept)]
    connection.execute(insert(AuditLeaf.__table__), values)
    nodes = Tiles().extend([one["leaf_hash"] for one in values])
    if nodes:
        connection.execute(
            insert(AuditNode.__table__), [{"level": level, "index": n, "hash": one} for level, n, one in nodes]
        )
    connection.execute(text(f"UPDATE audit_seal SET size = {len(values)}"))
