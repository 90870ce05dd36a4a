"""The record by class and month, append-only in every row, and made ready to be purged by month."""

import sqlalchemy as sa
from alembic import op

from identity.core import db

revision = "0005_audit_partitions"
down_revision = "0004_search"
branch_labels = None
depends_on = None

CLASSES = ("change", "decision", "login", "reading", "sync", "token")
MONTHS_AHEAD = 3


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _upgrade_postgresql()
    else:
        _upgrade_sqlite()


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _downgrade_postgresql()
    else:
        _downgrade_sqlite()


def _statements(*statements: str) -> None:
    for statement in statements:
        op.execute(statement)


# Columns of the two partitioned tables; the defaults stand on the partitioned table and are inherited.
RECORD = '"class" text NOT NULL, at timestamptz NOT NULL, id uuid NOT NULL, body bytea NOT NULL'
PERSONAL = (
    '"class" text NOT NULL, at timestamptz NOT NULL, record_id uuid NOT NULL, field text NOT NULL, '
    "salt bytea NOT NULL, value text"
)


def _upgrade_postgresql() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    _statements(
        "ALTER TABLE audit_record RENAME TO audit_record_old",
        "ALTER TABLE audit_record_old RENAME CONSTRAINT pk_audit_record TO pk_audit_record_old",
        "ALTER INDEX ix_audit_record_xid RENAME TO ix_audit_record_xid_old",
        "ALTER TABLE audit_personal RENAME TO audit_personal_old",
        "ALTER TABLE audit_personal_old RENAME CONSTRAINT pk_audit_personal TO pk_audit_personal_old",
        f"CREATE TABLE audit_record ({RECORD}, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), "
        'CONSTRAINT pk_audit_record PRIMARY KEY ("class", at, id)) PARTITION BY LIST ("class")',
        f"CREATE TABLE audit_personal ({PERSONAL}, "
        'CONSTRAINT pk_audit_personal PRIMARY KEY ("class", at, record_id, field)) PARTITION BY LIST ("class")',
        # BRIN has no operator class for xid8; of the number it has.
        "CREATE INDEX ix_audit_record_xid ON audit_record USING brin ((xid::text::bigint)) "
        "WITH (pages_per_range = 64, autosummarize = on)",
        *REFUSALS,
        "CREATE TRIGGER audit_record_append_only BEFORE UPDATE OR DELETE ON audit_record "
        "FOR EACH ROW EXECUTE FUNCTION refuse_row_change()",
        "CREATE TRIGGER audit_personal_redact_only BEFORE UPDATE OR DELETE ON audit_personal "
        "FOR EACH ROW EXECUTE FUNCTION refuse_unless_redaction()",
        "CREATE TRIGGER audit_head_append_only BEFORE UPDATE OR DELETE ON audit_head "
        "FOR EACH ROW EXECUTE FUNCTION refuse_unless_anchoring()",
        "CREATE TRIGGER audit_head_no_truncate BEFORE TRUNCATE ON audit_head "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
    )
    for table in ("audit_record", "audit_personal"):
        _statements(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
        for name in CLASSES:
            _statements(
                f"CREATE TABLE {table}_{name} PARTITION OF {table} FOR VALUES IN ('{name}') PARTITION BY RANGE (at)",
                f"CREATE TABLE {table}_{name}_rest PARTITION OF {table}_{name} DEFAULT",
            )
        for leaf in (f"{table}_rest", *(f"{table}_{name}_rest" for name in CLASSES)):
            _statements(
                f"CREATE TRIGGER {leaf}_no_truncate BEFORE TRUNCATE ON {leaf} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
    _statements(
        MAKE_PARTITION,
        f"ALTER FUNCTION audit_make_partition(text, text, timestamptz) SET search_path = {schema}, pg_temp",
        "REVOKE ALL ON FUNCTION audit_make_partition(text, text, timestamptz) FROM PUBLIC",
        MAKE_PARTITIONS,
        f"ALTER FUNCTION audit_make_partitions(int) SET search_path = {schema}, pg_temp",
        "REVOKE ALL ON FUNCTION audit_make_partitions(int) FROM PUBLIC",
        SUMMARIZE,
        f"ALTER FUNCTION audit_summarize() SET search_path = {schema}, pg_temp",
        "REVOKE ALL ON FUNCTION audit_summarize() FROM PUBLIC",
        f"SELECT audit_make_partitions({MONTHS_AHEAD})",
        'INSERT INTO audit_record ("class", at, id, body, xid) SELECT "class", at, id, body, xid FROM audit_record_old',
        'INSERT INTO audit_personal ("class", at, record_id, field, salt, value) '
        'SELECT r."class", r.at, p.record_id, p.field, p.salt, p.value '
        "FROM audit_personal_old p JOIN audit_record_old r ON r.id = p.record_id",
        "DROP TABLE audit_record_old",
        "DROP TABLE audit_personal_old",
    )


REFUSALS = (
    "CREATE FUNCTION refuse_row_change() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END $$",
    # Erasing a personal value: the value goes, and the salt may go with it, so that nobody can guess it back.
    """
    CREATE FUNCTION refuse_unless_redaction() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND NEW.value IS NULL AND (NEW.salt = OLD.salt OR NEW.salt = ''::bytea)
           AND (NEW."class", NEW.at, NEW.record_id, NEW.field) = (OLD."class", OLD.at, OLD.record_id, OLD.field) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% takes redaction only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE FUNCTION refuse_unless_anchoring() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.anchored_at IS NULL
           AND (NEW.size, NEW.root, NEW.at, NEW.kid, NEW.signature) = (OLD.size, OLD.root, OLD.at, OLD.kid, OLD.signature) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
)

# Rows that came before their month was made lie in the class's rest; they are moved with their xid, so no reader by
# xid sees them twice or misses them.
MAKE_PARTITION = """
CREATE FUNCTION audit_make_partition(base text, class_name text, month timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    parent text := format('%s_%s', base, class_name);
    rest text := format('%s_%s_rest', base, class_name);
    part text := format('%s_%s_%s', base, class_name, to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'));
    until timestamptz := (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    stray boolean;
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS)', part, parent);
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE at >= $1 AND at < $2)', rest) INTO stray USING month, until;
    IF stray THEN
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', rest);
        EXECUTE format('ALTER TABLE %I DISABLE TRIGGER USER', rest);
        EXECUTE format('WITH moved AS (DELETE FROM %I WHERE at >= $1 AND at < $2 RETURNING *) '
                       'INSERT INTO %I SELECT * FROM moved', rest, part) USING month, until;
        EXECUTE format('ALTER TABLE %I ENABLE TRIGGER USER', rest);
    END IF;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, month, until);
    EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
                   part || '_no_truncate', part);
    RETURN true;
END $$
"""

# The app's role may call it, and it can do nothing but make what is missing.
MAKE_PARTITIONS = """
CREATE FUNCTION audit_make_partitions(months_ahead int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    month timestamp;
    base text;
    class_name text;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_make_partitions', 0));
    FOREACH base IN ARRAY ARRAY['audit_record', 'audit_personal'] LOOP
        FOR class_name IN
            SELECT substr(child.relname, length(base) + 2) FROM pg_inherits
            JOIN pg_class child ON child.oid = inhrelid AND child.relkind = 'p'
            WHERE inhparent = base::regclass ORDER BY 1
        LOOP
            FOR month IN SELECT this_month + n * interval '1 month' FROM generate_series(0, least(months_ahead, 24)) n LOOP
                IF audit_make_partition(base, class_name, month AT TIME ZONE 'UTC') THEN
                    made := made + 1;
                END IF;
            END LOOP;
        END LOOP;
    END LOOP;
    RETURN made;
END $$
"""

# A range of pages that BRIN has not summarized is read by every search for an xid.
SUMMARIZE = """
CREATE FUNCTION audit_summarize() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$
    SELECT coalesce(sum(brin_summarize_new_values(leaf.relid)), 0)
    FROM pg_partition_tree('ix_audit_record_xid') leaf WHERE leaf.isleaf
$$
"""


def _downgrade_postgresql() -> None:
    _statements(
        "ALTER TABLE audit_record RENAME TO audit_record_new",
        "ALTER TABLE audit_record_new RENAME CONSTRAINT pk_audit_record TO pk_audit_record_new",
        "ALTER INDEX ix_audit_record_xid RENAME TO ix_audit_record_xid_new",
        "ALTER TABLE audit_personal RENAME TO audit_personal_new",
        "ALTER TABLE audit_personal_new RENAME CONSTRAINT pk_audit_personal TO pk_audit_personal_new",
        f"CREATE TABLE audit_record ({RECORD}, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), "
        'CONSTRAINT pk_audit_record PRIMARY KEY ("class", at, id))',
        "CREATE INDEX ix_audit_record_xid ON audit_record (xid)",
        "CREATE TABLE audit_personal (record_id uuid NOT NULL, field text NOT NULL, salt bytea NOT NULL, value text, "
        "CONSTRAINT pk_audit_personal PRIMARY KEY (record_id, field))",
        'INSERT INTO audit_record ("class", at, id, body, xid) SELECT "class", at, id, body, xid FROM audit_record_new',
        "INSERT INTO audit_personal SELECT record_id, field, salt, value FROM audit_personal_new",
        "DROP TABLE audit_record_new",
        "DROP TABLE audit_personal_new",
        "CREATE TRIGGER audit_record_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
        "DROP TRIGGER audit_head_append_only ON audit_head",
        "DROP TRIGGER audit_head_no_truncate ON audit_head",
        "DROP FUNCTION audit_summarize()",
        "DROP FUNCTION audit_make_partitions(int)",
        "DROP FUNCTION audit_make_partition(text, text, timestamptz)",
        "DROP FUNCTION refuse_unless_anchoring()",
        "DROP FUNCTION refuse_unless_redaction()",
        "DROP FUNCTION refuse_row_change()",
    )


def _upgrade_sqlite() -> None:
    op.rename_table("audit_personal", "audit_personal_old")
    op.create_table(
        "audit_personal",
        sa.Column("class", sa.Text(), nullable=False),
        sa.Column("at", db.UtcDateTime(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("class", "at", "record_id", "field", name=op.f("pk_audit_personal")),
    )
    _statements(
        'INSERT INTO audit_personal ("class", at, record_id, field, salt, value) '
        'SELECT r."class", r.at, p.record_id, p.field, p.salt, p.value '
        "FROM audit_personal_old p JOIN audit_record r ON r.id = p.record_id",
        "DROP TABLE audit_personal_old",
        "CREATE TRIGGER audit_personal_redact_only BEFORE UPDATE ON audit_personal "
        "WHEN NEW.value IS NOT NULL OR NOT (NEW.salt = OLD.salt OR NEW.salt = x'') "
        'OR (NEW."class", NEW.at, NEW.record_id, NEW.field) <> (OLD."class", OLD.at, OLD.record_id, OLD.field) '
        "BEGIN SELECT RAISE(ABORT, 'audit_personal takes redaction only'); END",
        "CREATE TRIGGER audit_personal_no_delete BEFORE DELETE ON audit_personal "
        "BEGIN SELECT RAISE(ABORT, 'audit_personal takes redaction only'); END",
        "CREATE TRIGGER audit_head_no_update BEFORE UPDATE ON audit_head "
        "WHEN OLD.anchored_at IS NOT NULL OR (NEW.size, NEW.root, NEW.at, NEW.kid, NEW.signature) "
        "<> (OLD.size, OLD.root, OLD.at, OLD.kid, OLD.signature) "
        "BEGIN SELECT RAISE(ABORT, 'audit_head is append-only'); END",
        "CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head "
        "BEGIN SELECT RAISE(ABORT, 'audit_head is append-only'); END",
    )


def _downgrade_sqlite() -> None:
    _statements(
        "DROP TRIGGER audit_head_no_update",
        "DROP TRIGGER audit_head_no_delete",
        "DROP TRIGGER audit_personal_redact_only",
        "DROP TRIGGER audit_personal_no_delete",
    )
    op.rename_table("audit_personal", "audit_personal_new")
    op.create_table(
        "audit_personal",
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("record_id", "field", name=op.f("pk_audit_personal")),
    )
    _statements(
        "INSERT INTO audit_personal SELECT record_id, field, salt, value FROM audit_personal_new",
        "DROP TABLE audit_personal_new",
    )
