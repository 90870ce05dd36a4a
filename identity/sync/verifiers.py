"""Passwords checked by the directory that a person comes from; implements `login.authenticate.DirectoryVerifier`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import case, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from identity.core.db import Database
from identity.core.errors import TesseraError
from identity.directory.kept import KeptDirectories
from identity.directory.models import DirectorySource
from identity.directory.reader import Directory
from identity.sync.models import BindFailure


class _Account(Protocol):
    @property
    def source_id(self) -> UUID: ...
    @property
    def immutable_id(self) -> str: ...
    @property
    def dn(self) -> str: ...


class Verifiers:
    """Asks the right directory, and stops asking about an account before its directory would lock it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._directories = KeptDirectories()

    def __call__(self, account: _Account, password: str) -> str:
        """The directory's answer; `unavailable` when it cannot be asked, `held_back` when it is not asked because one
        failure more could lock the account there (two are left for its owner)."""
        return self._ask(account, lambda directory: directory.bind(account.dn, account.immutable_id, password))

    def change(self, account: _Account, old: str, new: str) -> str:
        """Change the password in the directory: `ok`, `off`, `refused` by its rules, or why not, as at a sign-in."""
        return self._ask(account, lambda directory: directory.change_password(account.immutable_id, old, new))

    def changes(self, account: _Account) -> bool:
        """Whether the account's directory lets people change their password here."""
        row = self._row(account)
        return row is not None and bool(row.settings.get("password_change"))

    def outage_hours(self, account: _Account) -> int | None:
        """How old a password may be that counts while the directory is away; None = none counts."""
        row = self._row(account)
        hours = row.settings.get("outage_hours") if row is not None else None
        return int(hours) if hours else None

    def _row(self, account: _Account) -> Any:
        with self._database.read() as connection:
            return connection.execute(
                select(DirectorySource.__table__).where(
                    DirectorySource.id == account.source_id, DirectorySource.enabled
                )
            ).first()

    def _ask(self, account: _Account, question: Callable[[Directory], str]) -> str:
        row = self._row(account)
        if row is None:
            return "unavailable"
        try:
            directory = self._directories.of(row.id, row.kind, row.settings, row.secret_ref)
            threshold, window_s = directory.lockout()
            if threshold and self._failures(account, window_s) >= max(1, threshold - 2):
                return "held_back"
            result = question(directory)
        except TesseraError:
            return "unavailable"
        if threshold and result == "wrong_password":
            self._count(account, window_s)
        elif threshold and result == "ok":
            self._forget(account)
        return result

    def close(self) -> None:
        """End what the directories keep open."""
        self._directories.close()

    def _failures(self, account: _Account, window_s: int) -> int:
        since = datetime.now(UTC) - timedelta(seconds=window_s)
        query = select(BindFailure.count).where(*_key(account), BindFailure.window_started > since)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none() or 0

    def _count(self, account: _Account, window_s: int) -> None:
        now = datetime.now(UTC)
        fresh = BindFailure.window_started <= now - timedelta(seconds=window_s)
        with self._database.write() as connection:
            maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            connection.execute(
                maker(BindFailure)
                .values(source_id=account.source_id, immutable_id=account.immutable_id, count=1, window_started=now)
                .on_conflict_do_update(
                    index_elements=[BindFailure.source_id, BindFailure.immutable_id],
                    set_={"count": case((fresh, 1), else_=BindFailure.count + 1), "window_started": now},
                )
            )

    def _forget(self, account: _Account) -> None:
        with self._database.read() as connection:
            known = connection.execute(select(BindFailure.count).where(*_key(account))).first()
        if known is not None:
            with self._database.write() as connection:
                connection.execute(delete(BindFailure).where(*_key(account)))


def _key(account: _Account) -> tuple[Any, Any]:
    return BindFailure.source_id == account.source_id, BindFailure.immutable_id == account.immutable_id
