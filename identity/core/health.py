"""Liveness and readiness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from identity.core.db import Database
from identity.core.feed import Feed
from identity.core.hot import HotCall, HotResponse, HotRoute

State = Callable[[Connection, datetime], Mapping[str, Any]]


def routes(database: Database, feed: Feed, state: State) -> list[HotRoute]:
    """`/healthz`: the process runs; `/readyz`: it has its database and its caches are true; `state` adds what an
    operator should watch and what makes nobody unready."""

    def ready(call: HotCall) -> HotResponse:
        with database.read() as connection:
            connection.execute(text("SELECT 1"))
            seen = state(connection, call.now)
        feed.confirm()
        return HotResponse.json(200, {"status": "ready", **seen})

    return [
        HotRoute(
            "/healthz", ("GET",), lambda _: HotResponse.json(200, {"status": "ok"}), "public: liveness", prompt=True
        ),
        HotRoute("/readyz", ("GET",), ready, "public: readiness"),
    ]
