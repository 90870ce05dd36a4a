"""`/metrics` in the Prometheus text format (0.0.4): what this process counts, and what its database says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_network

from sqlalchemy import Connection

from identity.core.db import Database
from identity.core.errors import TesseraError
from identity.core.hot import HotCall, HotResponse, HotRoute, inside

Counted = Callable[[], Mapping[str, float]]
State = Callable[[Connection, datetime], Mapping[str, object]]

# Names that grow for ever; the others are what is so now.
COUNTERS = frozenset({"records", "commits", "commit_s", "failed", "full"})


def routes(networks: Sequence[str], database: Database, recorder: Counted, state: State) -> list[HotRoute]:
    """`recorder` counts in this process and is labelled with it: each worker process answers for itself. `state` is the
    installation's, the same from everywhere; without a database `tessera_database_up` is 0 and it is left out."""
    allowed = tuple(ip_network(one) for one in networks)

    def metrics(call: HotCall) -> HotResponse:
        # A proxy beside us that TRUSTED_PROXIES does not name would look like this machine itself.
        forwarded = call.header("X-Forwarded-For") or call.header("Forwarded")
        unknown = bool(forwarded) and call.origin.ip == call.environ.get("REMOTE_ADDR")
        if unknown or not inside(call.origin.ip, allowed):
            return HotResponse.json(403, {"error": "access_denied"})
        lines = _lines("tessera_recorder", recorder(), f'{{process="{os.getpid()}"}}')
        try:
            with database.read() as connection:
                seen = state(connection, call.now)
        except TesseraError:
            lines += _lines("tessera", {"database_up": 0.0}, "")
        else:
            numbers = {name: float(value) for name, value in seen.items() if isinstance(value, (int, float))}
            lines += _lines("tessera", {"database_up": 1.0, **numbers}, "")
        body = "".join(f"{line}\n" for line in lines).encode()
        headers = (("Content-Type", "text/plain; version=0.0.4; charset=utf-8"), ("Cache-Control", "no-store"))
        return HotResponse(200, body, headers)

    return [HotRoute("/metrics", ("GET",), metrics, "an address in METRICS_NETWORKS")]


def _lines(prefix: str, values: Mapping[str, float], labels: str) -> list[str]:
    """Seconds end in `_seconds` and counters in `_total`, as the format's conventions have it."""
    lines = []
    for key, value in sorted(values.items()):
        kind = "counter" if key in COUNTERS else "gauge"
        name = f"{prefix}_{key.replace('commit_s', 'commit_seconds').replace('gap_s', 'gap_seconds')}"
        name = f"{name}_total" if kind == "counter" else name
        lines += [f"# TYPE {name} {kind}", f"{name}{labels} {float(value)!r}"]
    return lines
