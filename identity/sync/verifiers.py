"""Passwords checked by the directory that a person comes from; implements `login.authenticate.DirectoryVerifier`."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from sqlalchemy import select

from identity.core.db import Database
from identity.directory.factory import open_directory
from identity.directory.models import DirectorySource


class _Account(Protocol):
    @property
    def source_id(self) -> UUID: ...
    @property
    def immutable_id(self) -> str: ...
    @property
    def dn(self) -> str: ...


class Verifiers:
    """Asks the right directory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self, account: _Account, password: str) -> str:
        """The directory's answer; `unavailable` when it cannot be asked."""
        with self._database.read() as connection:
            row = connection.execute(
                select(DirectorySource.__table__).where(
                    DirectorySource.id == account.source_id, DirectorySource.enabled
                )
            ).first()
        if row is None:
            return "unavailable"
        directory = open_directory(row.kind, row.settings, row.secret_ref)
        return directory.bind(account.dn, account.immutable_id, password)
