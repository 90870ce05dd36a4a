"""An example application's documents: JSON in one SQLite table."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class Stale(Exception):
    """The document is no longer in the state in which it was shown."""


class Store:
    """Documents by id. Ids are never used twice, also after the file was deleted: the decision point remembers
    who acted on which id."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._open() as db:
            db.execute("CREATE TABLE IF NOT EXISTS document (id TEXT PRIMARY KEY, type TEXT, status TEXT, body TEXT)")

    @staticmethod
    def new_id(prefix: str) -> str:
        """For example BX-20261124-3f9a1c."""
        return f"{prefix}-{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(3)}"

    def add(self, kind: str, document_id: str, status: str, body: Mapping[str, Any]) -> None:
        with self._open() as db:
            db.execute("INSERT INTO document VALUES (?, ?, ?, ?)", (document_id, kind, status, json.dumps(body)))

    def find(self, kind: str, document_id: str) -> Document | None:
        with self._open() as db:
            row = db.execute("SELECT * FROM document WHERE type = ? AND id = ?", (kind, document_id)).fetchone()
        return _document(row) if row else None

    def latest(self, kind: str, count: int = 50) -> list[Document]:
        """The newest documents first."""
        query = "SELECT * FROM document WHERE type = ? ORDER BY rowid DESC LIMIT ?"
        with self._open() as db:
            return [_document(row) for row in db.execute(query, (kind, count))]

    def change(self, document: Document, status: str, **changes: Any) -> None:
        """Move the document on; raises `Stale` when somebody else has done so since it was read."""
        body = {name: value for name, value in document.items() if name not in {"id", "type", "status"}} | changes
        query = "UPDATE document SET status = ?, body = ? WHERE id = ? AND status = ?"
        with self._open() as db:
            done = db.execute(query, (status, json.dumps(body), document["id"], document["status"]))
            if done.rowcount != 1:
                raise Stale

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10)) as db:
            db.row_factory = sqlite3.Row
            with db:
                yield db


def _document(row: sqlite3.Row) -> Document:
    return {**json.loads(row["body"]), "id": row["id"], "type": row["type"], "status": row["status"]}
