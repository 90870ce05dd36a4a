"""Migrated databases to copy: the revisions run and the keys are made once a test process, not once a test."""

from __future__ import annotations

import shutil
from pathlib import Path

from identity.app import create_app
from identity.core import migrate
from identity.core.db import Database
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Units
from identity.keys.keyring import ensure_keys
from tests.servers.postgres import Postgres


class Templates:
    """One template of each kind, made at the first copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._urls: dict[str, str] = {}

    def copy(self, server: Postgres | None, folder: Path) -> str:
        """The address of a new copy, on this server or as a SQLite file in `folder`; `folder/var` gets its root key."""
        kind = "postgresql" if server else "sqlite"
        if kind not in self._urls:
            url = server.database() if server else f"sqlite:///{self._folder / 'template.db'}"
            self._make(url, self._folder / kind)
            self._urls[kind] = url
        var = folder / "var"
        var.mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(self._folder / kind / "root.key", var)
        if server:
            return server.database(template=self._urls[kind].rpartition("/")[2])
        shutil.copyfile(self._folder / "template.db", folder / "tessera.db")
        return f"sqlite:///{folder / 'tessera.db'}"

    def _make(self, url: str, var: Path) -> None:
        settings = {"tessera_demo": True, "tessera_var": var, "database_url": url, "log_level": "ERROR"}
        app = create_app(Settings.model_validate(settings))
        things = app.extensions["tessera"]
        engine = things[Database].engine
        migrate.upgrade(engine)
        with things[Units].open(Actor.system("test")) as unit:
            ensure_keys(unit, app.extensions["tessera_root"])
        if engine.dialect.name == "sqlite":
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
