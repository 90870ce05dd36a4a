"""The record leaves for a SIEM in every wire form, to real receivers; in order, and a failure loses nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pika
import pytest
from confluent_kafka import Consumer
from sqlalchemy import select

from identity.core.errors import Invalid
from identity.shipping.inputs import TargetInput
from identity.shipping.models import ShipTarget
from identity.shipping.run import Shipper, open_sender
from identity.shipping.service import put_target
from tests.servers.brokers import KafkaLike, RabbitMq
from tests.servers.pki import Authority
from tests.servers.slapd import free_port
from tests.world import World

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)


def put(world: World, kind: str, settings: dict[str, Any], **more: Any) -> None:
    with world.unit() as unit:
        put_target(unit, TargetInput(code="siem", kind=kind, settings=settings, **more))  # type: ignore[arg-type]


def target(world: World) -> Any:
    with world.database.read() as connection:
        return connection.execute(select(ShipTarget.__table__)).one()


@pytest.fixture
def shipper(world: World) -> Iterator[Shipper]:
    made = Shipper(world.database)
    yield made
    made.close()


def ids(world: World) -> list[str]:
    return [body["id"] for body in world.records()]


def test_a_file_gets_each_record_once_as_ecs_and_a_half_line_is_cut_off(
    world: World, shipper: Shipper, tmp_path: Path
) -> None:
    person = world.person("zhang", "staff")
    world.decide(person, "pay", "bx-1")
    path = tmp_path / "out" / "audit.ndjson"
    put(world, "file", {"path": str(path)})
    shipper.run(NOW)
    documents = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [one["event"]["id"] for one in documents] == ids(world)
    [decision] = [one for one in documents if one["event"]["action"] == "access.decision.made"]
    assert decision["event"]["outcome"] == "failure"
    assert decision["service"]["name"] == "expense"
    assert decision["user"]["target"]["id"] == str(person)
    assert decision["tessera"]["resource_id"] == "bx-1"
    assert decision["message"].startswith("expense asked whether")
    shipper.close()
    with path.open("ab") as file:
        file.write(b'{"half":')
    world.person("li")
    again = Shipper(world.database)
    again.run(NOW)
    again.close()
    assert [orjson.loads(line)["event"]["id"] for line in path.read_bytes().splitlines()] == ids(world)


def test_a_file_that_cannot_be_written_loses_nothing(world: World, shipper: Shipper, tmp_path: Path) -> None:
    blocked = tmp_path / "folder"
    blocked.write_text("a file where a folder should be")
    put(world, "file", {"path": str(blocked / "audit.ndjson")})
    shipper.run(NOW)
    row = target(world)
    assert (row.position, row.shipped, row.failing_since) == (0, 0, NOW)
    assert row.last_error
    blocked.unlink()
    fresh = Shipper(world.database)
    fresh.run(NOW)
    fresh.close()
    row = target(world)
    assert (row.shipped, row.failing_since, row.last_error) == (len(ids(world)), None, None)


class SyslogReceiver:
    """Takes octet-counted frames over TLS."""

    def __init__(self, authority: Authority) -> None:
        certificate, key = authority.server()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.data = b""
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self) -> None:
        with (
            self.socket,
            self.socket.accept()[0] as plain,
            suppress(ssl.SSLError),
            self.context.wrap_socket(plain, server_side=True) as connection,
        ):
            while part := connection.recv(65_536):
                self.data += part
        self.closed.set()

    def frames(self) -> list[bytes]:
        found, rest = [], self.data
        while rest:
            length, _, rest = rest.partition(b" ")
            found.append(rest[: int(length)])
            rest = rest[int(length) :]
        return found


def test_syslog_over_tls_carries_each_record_in_a_counted_frame(world: World, shipper: Shipper, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    receiver = SyslogReceiver(authority)
    put(world, "syslog", {"host": "127.0.0.1", "port": receiver.port, "ca_file": str(authority.ca_file)})
    shipper.run(NOW)
    shipper.close()
    assert receiver.closed.wait(10)
    frames = receiver.frames()
    assert len(frames) == len(ids(world)) == target(world).shipped
    head, _, text = frames[0].partition(b"\xef\xbb\xbf")
    priority, stamp, _host, app, _pid, kind, *_ = head.split(b" ")
    assert (priority, app) == (b"<109>1", b"tessera")
    assert datetime.fromisoformat(stamp.decode()).tzinfo is not None
    assert orjson.loads(text)["event"]["action"].encode().startswith(kind)
    assert f'[tessera@32473 id="{ids(world)[0]}"'.encode() in head


def test_syslog_to_a_receiver_with_a_foreign_certificate_sends_nothing(
    world: World, shipper: Shipper, tmp_path: Path
) -> None:
    receiver = SyslogReceiver(Authority(tmp_path / "theirs"))
    ours = Authority(tmp_path / "ours")
    put(world, "syslog", {"host": "127.0.0.1", "port": receiver.port, "ca_file": str(ours.ca_file)})
    shipper.run(NOW)
    assert receiver.closed.wait(10)
    assert (receiver.data, target(world).shipped) == (b"", 0)


def test_a_plain_syslog_goes_nowhere_but_this_machine() -> None:
    with pytest.raises(ValueError, match="without TLS"):
        TargetInput(code="a", kind="syslog", settings={"host": "logs.example", "tls": False})


class Collector(BaseHTTPRequestHandler):
    """An OTLP/HTTP collector that can be told to reject."""

    batches: list[Any] = []  # noqa: RUF012
    rejected = 0
    tokens: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.tokens.append(self.headers["Authorization"])
        self.batches.append(orjson.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = orjson.dumps({"partialSuccess": {"rejectedLogRecords": str(type(self).rejected)}})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def test_otlp_sends_log_records_and_a_partial_success_is_a_failure(
    world: World, shipper: Shipper, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = type("Handler", (Collector,), {"batches": [], "tokens": [], "rejected": 1})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("COLLECTOR_TOKEN", "let-me-in")
    put(world, "otlp", {"url": f"http://127.0.0.1:{server.server_port}/v1/logs"}, secret="env:COLLECTOR_TOKEN")
    shipper.run(NOW)
    assert (target(world).shipped, target(world).failing_since) == (0, NOW)
    handler.rejected = 0
    handler.batches.clear()
    fresh = Shipper(world.database)
    fresh.run(NOW)
    fresh.close()
    server.shutdown()
    server.server_close()
    logs = [one for batch in handler.batches for one in batch["resourceLogs"][0]["scopeLogs"][0]["logRecords"]]
    assert [one["attributes"][0]["value"]["stringValue"] for one in logs] == ids(world)
    assert set(handler.tokens) == {"Bearer let-me-in"}
    assert logs[0]["timeUnixNano"].isdigit()
    assert target(world).shipped == len(logs)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_kafka_acknowledges_every_record(world: World, shipper: Shipper, tmp_path: Path) -> None:
    with KafkaLike(tmp_path) as broker:
        broker.topic("audit")
        put(world, "kafka", {"brokers": [f"127.0.0.1:{broker.port}"], "topic": "audit", "tls": False})
        shipper.run(NOW)
        assert target(world).last_error is None
        consumer = Consumer(
            {
                "bootstrap.servers": f"127.0.0.1:{broker.port}",
                "group.id": "siem",
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 6_000,
            }
        )
        consumer.subscribe(["audit"])
        found: set[str] = set()
        while len(found) < len(ids(world)):
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            found.add(orjson.loads(message.value())["event"]["id"])
        consumer.close()
        shipper.close()
    assert found == set(ids(world))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_rabbitmq_confirms_every_record_and_one_that_no_queue_takes_is_kept(
    world: World, shipper: Shipper, tmp_path: Path
) -> None:
    with (
        RabbitMq(tmp_path) as broker,
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port)) as connection,
    ):
        channel = connection.channel()
        channel.exchange_declare("audit", "topic", durable=True)
        put(world, "rabbitmq", {"host": "127.0.0.1", "port": broker.port, "exchange": "audit", "tls": False})
        shipper.run(NOW)
        assert (target(world).shipped, target(world).failing_since) == (0, NOW)
        channel.queue_declare("siem", durable=True)
        channel.queue_bind("siem", "audit", "#")
        fresh = Shipper(world.database)
        fresh.run(NOW)
        fresh.close()
        found = []
        while (message := channel.basic_get("siem", auto_ack=True))[0] is not None:
            found.append(orjson.loads(message[2])["event"]["id"])
    assert found == ids(world)


def test_one_target_that_is_away_holds_up_no_other(world: World, shipper: Shipper, tmp_path: Path) -> None:
    put(world, "file", {"path": str(tmp_path / "a.ndjson")})
    with world.unit() as unit:
        away = {"host": "127.0.0.1", "port": free_port(), "tls": False}
        put_target(unit, TargetInput(code="away", kind="syslog", settings=away))
    shipper.run(NOW)
    with world.database.read() as connection:
        shipped = dict(connection.execute(select(ShipTarget.code, ShipTarget.shipped)).all())
    assert shipped == {"siem": len(ids(world)), "away": 0}


def test_settings_and_secrets_that_cannot_be_are_named() -> None:
    plain = {"url": "http://collector.example/v1/logs"}
    for kind, settings in (("file", {}), ("otlp", plain), ("kafka", {"topic": "a"})):
        with pytest.raises(ValueError, match="validation error"):
            TargetInput(code="a", kind=kind, settings=settings)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="env:NOT_THERE"):
        open_sender("otlp", {"url": "https://collector.example/v1/logs"}, "env:NOT_THERE")
