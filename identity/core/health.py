"""Liveness and readiness."""

from __future__ import annotations

from sqlalchemy import text

from identity.core.db import Database
from identity.core.feed import Feed
from identity.core.hot import HotCall, HotResponse, HotRoute


def routes(database: Database, feed: Feed) -> list[HotRoute]:
    """`/healthz`: the process runs; `/readyz`: it has its database and its caches are true."""

    def ready(_: HotCall) -> HotResponse:
        with database.read() as connection:
            connection.execute(text("SELECT 1"))
        feed.confirm()
        return HotResponse.json(200, {"status": "ready"})

    return [
        HotRoute("/healthz", ("GET",), lambda _: HotResponse.json(200, {"status": "ok"}), "public: liveness"),
        HotRoute("/readyz", ("GET",), ready, "public: readiness"),
    ]
