"""The three roles on PostgreSQL: what the app's role cannot do, even where no trigger stands in its way."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from identity.app import create_app
from identity.audit import rights
from identity.core.db import Database
from identity.core.record import Actor, Record
from identity.core.settings import Settings
from identity.core.unit import Units
from tests.servers.postgres import Postgres
from tests.servers.templates import Address


@pytest.fixture
def urls(postgres: Postgres) -> dict[str, str]:
    """Addresses of a fresh database for its owner, the app and the sealer, each with a role of its own."""
    admin = make_url(postgres.database())
    assert admin.database
    made = {}
    with create_engine(admin, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        for name in ("owner", "app", "sealer"):
            role = f"{admin.database}_{name}"
            connection.execute(text(f'CREATE ROLE "{role}" LOGIN'))
            made[name] = admin.set(username=role).render_as_string(hide_password=False)
        connection.execute(text(f'GRANT CREATE ON SCHEMA public TO "{admin.database}_owner"'))
        connection.execute(text(f'GRANT CREATE ON DATABASE "{admin.database}" TO "{admin.database}_owner"'))
    return made


def test_au_01_each_role_has_its_rights_and_no_more(urls: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "tessera_demo": True,
            "tessera_var": tmp_path,
            "database_url": urls["app"],
            "database_sealer_url": urls["sealer"],
            "database_owner_url": urls["owner"],
            "log_level": "ERROR",
        }
    )
    app = create_app(settings)
    for _ in range(2):
        result = app.test_cli_runner().invoke(args=["identity", "migrate"])
        assert result.exit_code == 0, result.output
    assert "audit rights: separated" in app.test_cli_runner().invoke(args=["identity", "check"]).output

    units: Units = app.extensions["tessera"][Units]
    with units.open(Actor.system("test")) as unit:
        unit.record(Record(kind="people.user.created", result="success", personal={"login": "zhang"}))
    database: Database = app.extensions["tessera"][Database]
    for table in ("audit_record", "audit_personal", "audit_leaf", "audit_head"):
        for statement in (f"UPDATE {table} SET at = at", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            assert denied(database, statement), statement
    assert denied(database, "DROP TABLE audit_record")
    assert denied(database, "ALTER TABLE audit_record DISABLE TRIGGER ALL")
    assert denied(database, LEAF)
    with database.write() as connection:
        connection.execute(text("SELECT audit_make_partitions(3), audit_summarize()"))
        connection.execute(text("DELETE FROM audit_find"))
    database.engine.dispose()

    sealer = Database(create_engine(urls["sealer"]))
    with sealer.write() as connection:
        connection.execute(text(LEAF))
    assert denied(sealer, "DELETE FROM audit_leaf")
    assert denied(sealer, "UPDATE audit_record SET at = at")
    assert denied(sealer, "SELECT * FROM local_password")
    sealer.engine.dispose()


def test_the_sealers_role_seals_and_the_apps_role_verifies(urls: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "tessera_demo": True,
            "tessera_var": tmp_path,
            "database_url": urls["app"],
            "database_sealer_url": urls["sealer"],
            "database_owner_url": urls["owner"],
            "log_level": "ERROR",
        }
    )
    app = create_app(settings)
    runner = app.test_cli_runner()
    assert runner.invoke(args=["identity", "migrate"]).exit_code == 0
    sealed = runner.invoke(args=["identity", "seal", "--once"])
    assert sealed.exit_code == 0, sealed.output
    verified = runner.invoke(args=["identity", "verify-audit"])
    assert verified.exit_code == 0, verified.output
    assert "the audit holds" in verified.output

    # A restore from a backup, as it leaves the leaves and the records; the sealer's role states it, no other could.
    assert runner.invoke(args=["identity", "migrate"]).exit_code == 0
    assert runner.invoke(args=["identity", "seal", "--once"]).exit_code == 0
    superuser = make_url(urls["owner"]).set(username="postgres")
    with create_engine(superuser, poolclass=NullPool).begin() as connection:
        for statement in CUT:
            connection.execute(text(statement))
    stopped = runner.invoke(args=["identity", "seal", "--once"])
    assert stopped.exit_code == 1
    assert "audit-restored" in stopped.output
    words = ["identity", "audit-restored", "--by", "王五", "--reason", "disk failure", "--reference", "CHG-9"]
    assert "needs a zone" in runner.invoke(args=[*words, "--backup", "2026-01-31T02:00"]).output
    now = datetime.now(UTC).isoformat()
    looked = runner.invoke(args=[*words, "--backup", now, "--dry-run"])
    assert looked.output.startswith("would state: restored at "), looked.output
    assert runner.invoke(args=["identity", "verify-audit"]).exit_code == 1
    stated = runner.invoke(args=[*words, "--backup", now])
    assert stated.exit_code == 0, stated.output
    assert runner.invoke(args=[*words, "--backup", now]).exit_code == 1, "nothing is lost any more"
    assert runner.invoke(args=["identity", "seal", "--once"]).exit_code == 0
    verified = runner.invoke(args=["identity", "verify-audit"])
    assert verified.exit_code == 0, verified.output
    assert "by 王五: 2 records are lost" in verified.output
    assert "the audit holds, but for the 2 records that 1 stated restorations lost" in verified.output
    app.extensions["tessera"][Database].engine.dispose()


# What a state before the last two records looks like.
CUT = (
    "SET LOCAL session_replication_role = replica",
    "CREATE TEMP TABLE lost ON COMMIT DROP AS SELECT record_id, seq FROM audit_leaf ORDER BY seq DESC LIMIT 2",
    "DELETE FROM audit_record WHERE id IN (SELECT record_id FROM lost)",
    "DELETE FROM audit_leaf WHERE seq IN (SELECT seq FROM lost)",
    "DELETE FROM audit_anchor WHERE size = (SELECT max(size) FROM audit_head)",
    "DELETE FROM audit_head WHERE size = (SELECT max(size) FROM audit_head)",
    "UPDATE audit_seal SET size = size - 2",
)


LEAF = (
    'INSERT INTO audit_leaf (seq, "class", at, record_id, leaf_hash) '
    'SELECT 0, "class", at, id, body FROM audit_record LIMIT 1'
)


def denied(database: Database, statement: str) -> bool:
    try:
        with database.write() as connection:
            connection.execute(text(statement))
    except ProgrammingError as error:
        return "permission denied" in str(error) or "must be owner" in str(error)
    return False


def test_one_role_for_everything_works_and_is_said(database_url: Address, tmp_path: Path) -> None:
    values = {"tessera_demo": True, "tessera_var": tmp_path, "database_url": database_url.make(), "log_level": "ERROR"}
    app = create_app(Settings.model_validate(values))
    result = app.test_cli_runner().invoke(args=["identity", "migrate"])
    assert result.exit_code == 0, result.output
    assert "not separated" in app.test_cli_runner().invoke(args=["identity", "check"]).output
    database: Database = app.extensions["tessera"][Database]
    with database.read() as connection:
        assert one_fault(connection)
    database.engine.dispose()


def one_fault(connection: Connection) -> bool:
    return len(rights.faults(connection)) == 1
