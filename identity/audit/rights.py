"""What each database role may do, on PostgreSQL: the app records, the sealer seals, the owner migrates and redacts.

`identity migrate` applies this after the revisions. An installation with one role works too; then only the triggers
and the proof stand against whoever holds it, and `identity check` says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

_ORDINARY = "SELECT, INSERT, UPDATE, DELETE"

# Derived from the records and rebuilt at will.
_DERIVED = frozenset({"audit_find", "audit_find_progress", "audit_word"})

# The app's rights on the tables of the record; any other `audit_…` table that is not derived it may only read.
_APP: Mapping[str, str] = {
    "audit_record": "SELECT, INSERT",
    "audit_personal": "SELECT, INSERT",
    "alembic_version": "SELECT",
}

# The sealer's rights; it has none on any other table.
_SEALER: Mapping[str, str] = {
    "audit_record": "SELECT, INSERT",
    "audit_personal": "SELECT, INSERT",
    "audit_leaf": "SELECT, INSERT",
    "audit_head": "SELECT, INSERT, UPDATE (anchored_at)",
    "audit_node": "SELECT, INSERT",
    "audit_seal": "SELECT, UPDATE",
    "audit_anchor": "SELECT, INSERT",
    "audit_purge": "SELECT",
    "audit_tombstone": "SELECT, INSERT",
    "audit_restored": "SELECT, INSERT",
    "alembic_version": "SELECT",
    "lease": _ORDINARY,
}

_FUNCTIONS = ("audit_make_partitions(int)", "audit_summarize()")


def role_of(url: str) -> str:
    """The role that a database address signs in as."""
    return make_url(url).username or ""


def grant(connection: Connection, app: str, sealer: str | None) -> None:
    """Give the roles exactly their rights, as the owner; nothing happens on SQLite or for the owner's own role."""
    if connection.dialect.name != "postgresql":
        return
    owner = connection.execute(text("SELECT current_user")).scalar_one()
    schema = connection.execute(text("SELECT current_schema()")).scalar_one()
    # A partition is read and written through its table, by the table's rights.
    names = connection.execute(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(:schema)) "
            "AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
        ),
        {"schema": schema},
    )
    tables = list(names.scalars())
    if app not in {"", owner}:
        _give(connection, schema, app, {name: _of_app(name) for name in tables})
    if sealer not in {None, "", owner, app}:
        _give(connection, schema, str(sealer), {name: _SEALER[name] for name in tables if name in _SEALER})


def _of_app(table: str) -> str:
    if table in _APP:
        return _APP[table]
    return "SELECT" if table.startswith("audit_") and table not in _DERIVED else _ORDINARY


def _give(connection: Connection, schema: str, role: str, rights: Mapping[str, str]) -> None:
    quote = connection.dialect.identifier_preparer.quote_identifier
    to, inside = quote(role), quote(schema)
    statements = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {inside} FROM {to}",
        f"GRANT USAGE ON SCHEMA {inside} TO {to}",
        *(f"GRANT {what} ON {inside}.{quote(table)} TO {to}" for table, what in rights.items()),
        *(f"GRANT EXECUTE ON FUNCTION {inside}.{function} TO {to}" for function in _FUNCTIONS),
    ]
    for statement in statements:
        connection.exec_driver_sql(statement)


def faults(connection: Connection) -> list[str]:
    """Why the database itself would let this connection's role change the record; empty when it would not."""
    if connection.dialect.name != "postgresql":
        return ["SQLite has no roles: whoever can write its file can change the record"]
    found = []
    superuser, owns = connection.execute(
        text(
            "SELECT role.rolsuper, pg_has_role(role.rolname, record.relowner, 'MEMBER') "
            "FROM pg_roles role, pg_class record "
            "WHERE role.rolname = current_user AND record.oid = 'audit_record'::regclass"
        )
    ).one()
    if superuser:
        found.append("the app's role is a superuser")
    elif owns:
        found.append("the app's role owns the tables; set DATABASE_OWNER_URL and give DATABASE_URL a role of its own")
    for table in ("audit_record", "audit_personal", "audit_leaf", "audit_head", "audit_node", "audit_seal"):
        for right in ("UPDATE", "DELETE", "TRUNCATE"):
            query = text("SELECT has_table_privilege(:table, :right)")
            if not found and connection.execute(query, {"table": table, "right": right}).scalar_one():
                found.append(f"the app's role has {right} on {table}; run `identity migrate`")
    return found
