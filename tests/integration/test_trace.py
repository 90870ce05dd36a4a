"""A caller's trace goes through: into the records, the log and the messages to others, and decides nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import orjson

from identity.core.log import JsonLines
from identity.core.record import Actor, Origin
from identity.core.trace import parse_traceparent
from identity.events.deliver import Composers, deliver_due
from identity.events.outbox import send
from tests.world import World

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADER = f"00-{TRACE}-00f067aa0ba902b7-01"


class Receiver(BaseHTTPRequestHandler):
    """Remembers the traces of its callers."""

    traces: list[str]

    def do_POST(self) -> None:
        self.traces.append(self.headers.get("traceparent", ""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def listening() -> Iterator[str]:
    Receiver.traces = []
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(world: World, resource: str, header: str | None) -> str:
    body = {
        "subject": {"type": "user", "id": "nobody"},
        "action": {"name": "read"},
        "resource": {"type": "claim", "id": resource},
    }
    headers = {"traceparent": header, "tracestate": "vendor=value"} if header else {}
    answer = world.call("POST", "/access/v1/evaluation", json=body, auth=("expense", world.secret), headers=headers)
    assert answer.status_code == 200
    return str(answer.headers["X-Request-ID"])


def test_a_record_has_the_trace_of_its_request_and_only_a_valid_one(world: World) -> None:
    for resource, header in (("valid", HEADER), ("wrong", HEADER.upper()), ("none", None)):
        assert ask(world, resource, header) != TRACE, "a request's own name is never the caller's trace"
    traces = {one["resource_id"]: one.get("trace_id") for one in world.records() if "resource_id" in one}
    assert (traces["valid"], traces["wrong"], traces["none"]) == (TRACE, None, None)


def test_a_line_of_the_log_has_request_and_trace(world: World) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(JsonLines().format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("identity")
    logger.addHandler(handler)
    try:
        request = ask(world, "logged", HEADER)
        logger.error("a fault")
        ask(world, "without", None)
        logger.error("another")
    finally:
        logger.removeHandler(handler)
    first, second = (orjson.loads(line) for line in lines[-2:])
    assert (first["http.request.id"], first["trace.id"]) == (request, TRACE)
    assert "trace.id" not in second
    assert second["http.request.id"] != request


def test_messages_to_others_go_on_in_the_trace_of_their_act(world: World) -> None:
    with listening() as address:
        for kind, trace in (("alarm", f"{TRACE}-01"), ("http", f"{TRACE}-00"), ("alarm", "")):
            with world.units.open(Actor.system("test"), origin=Origin(trace=trace)) as unit:
                send(unit, kind, address, {"n": "1"}, "a")
        while deliver_due(world.units, datetime.now(UTC), Composers()):
            pass
    assert [parse_traceparent(one) for one in Receiver.traces] == [f"{TRACE}-01", f"{TRACE}-00", ""]
