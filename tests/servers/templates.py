"""Databases to copy: the revisions run, the keys are made and a company is configured once a test process, not once a
test."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self, TypeVar

from identity.app import create_app
from identity.core import migrate
from identity.core.db import Database
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Units
from identity.keys.keyring import ensure_keys
from tests.servers.postgres import Postgres
from tests.world import COMPANY, GROUPS, World

W = TypeVar("W", bound=World)


class Address(str):
    """A database's address, at which it is made when somebody needs it: then what is to be in it is known."""

    __slots__ = ("folder", "made", "server", "templates")
    templates: Templates
    server: Postgres | None
    folder: Path
    made: bool

    def make(self, content: str = "keys") -> Self:
        """There is a database: migrated and with its keys, if there was none before."""
        if not self.made:
            self.templates.fill(self, content)
        return self


class Templates:
    """One template of each kind of database and content, made at the first copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._known: dict[tuple[bool, str], tuple[str, Path]] = {}

    def address(self, server: Postgres | None, folder: Path) -> Address:
        """Of a database to come, on this server or as a SQLite file in `folder`; `folder/var` will get its root key."""
        made = Address(server.address() if server else f"sqlite:///{folder / 'tessera.db'}")
        made.templates, made.server, made.folder, made.made = self, server, folder, False
        return made

    def copy(self, server: Postgres | None, folder: Path) -> str:
        """The address of a new database with its keys."""
        return self.address(server, folder).make()

    def empty(self, server: Postgres | None, folder: Path) -> str:
        """The address of a new database: migrated, without keys."""
        return self.address(server, folder).make("empty")

    def world(
        self,
        address: Address,
        folder: Path,
        company: Mapping[str, Any] = COMPANY,
        groups: tuple[str, ...] = GROUPS,
        *,
        kind: type[W] = World,  # type: ignore[assignment]
        **settings: Any,
    ) -> W:
        """A new World with this company and these groups, as `World` itself makes it; the `settings` concern none of
        what is stored."""
        address.make(json.dumps([company, groups], sort_keys=True))
        return kind(address, folder, company, groups, configured=True, **settings)

    def fill(self, address: Address, content: str) -> None:
        """Make the database at this address."""
        server, folder = address.server, address.folder
        key = server is not None, content
        if key not in self._known:
            self._number += 1
            source = self._folder / str(self._number)
            source.mkdir()
            self._known[key] = self._make(server, content, source), source
        url, source = self._known[key]
        address.made = True
        shutil.copytree(source / "var", folder / "var", dirs_exist_ok=True)
        if server:
            server.database(address, url)
        else:
            shutil.copyfile(source / "tessera.db", folder / "tessera.db")

    def _make(self, server: Postgres | None, content: str, folder: Path) -> str:
        if content not in {"empty", "keys"}:
            company, groups = json.loads(content)
            url = self.copy(server, folder)
            World(url, folder, company, tuple(groups)).close()
            _flush(url, folder)
            return url
        url = server.database() if server else f"sqlite:///{folder / 'tessera.db'}"
        settings = {"tessera_demo": True, "tessera_var": folder / "var", "database_url": url, "log_level": "ERROR"}
        app = create_app(Settings.model_validate(settings))
        things = app.extensions["tessera"]
        engine = things[Database].engine
        migrate.upgrade(engine)
        if content == "keys":
            with things[Units].open(Actor.system("test")) as unit:
                ensure_keys(unit, app.extensions["tessera_root"])
        engine.dispose()
        _flush(url, folder)
        return url


def _flush(url: str, folder: Path) -> None:
    """Everything is in the one file that is copied."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(folder / "tessera.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
