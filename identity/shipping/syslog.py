"""Syslog: RFC 5424 messages over TLS with octet counting (RFC 5425 §4.3)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from identity.core.errors import Unavailable
from identity.shipping.inputs import SyslogSettings

FACILITY = 13  # log audit (RFC 5424 §6.2.1)
NOTICE, WARNING = 5, 4
TIMEOUT_S = 10.0


def message(document: Mapping[str, Any], host: str) -> bytes:
    """One RFC 5424 message: the ECS document as its text, the record's id and request as structured data."""
    severity = WARNING if document["event"]["outcome"] == "failure" else NOTICE
    kind = document["event"]["action"][:32]
    data = (
        f'[tessera@32473 id="{_value(document["event"]["id"])}" request="{_value(document["http"]["request"]["id"])}"]'
    )
    head = f"<{FACILITY * 8 + severity}>1 {document['@timestamp']} {host} tessera {os.getpid()} {kind} {data} "
    return head.encode() + b"\xef\xbb\xbf" + orjson.dumps(document)


def _value(text: str) -> str:
    """A parameter value (RFC 5424 §6.3.3: '"', '\\' and ']' MUST be escaped)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


class SyslogSender:
    """Sends over one connection; it is opened anew after a failure. TCP tells of a lost peer late: a batch counts as
    taken when its connection is still whole after it (RFC 5425 has no acknowledgement)."""

    def __init__(self, settings: SyslogSettings) -> None:
        self._settings = settings
        self._host = socket.gethostname()[:255] or "-"
        self._socket: socket.socket | None = None

    def send(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Raises `Unavailable` when the receiver does not take them all."""
        frames = b"".join(
            str(len(one)).encode() + b" " + one for one in (message(document, self._host) for document in documents)
        )
        try:
            connection = self._socket or self._connect()
            self._socket = connection
            connection.sendall(frames)
            self._check_open(connection)
        except OSError as error:
            self.close()
            raise Unavailable("The syslog receiver cannot be reached.", repr(error), code="unreachable") from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        address = (self._settings.host, self._settings.port)
        plain = socket.create_connection(address, timeout=TIMEOUT_S)
        if not self._settings.tls:
            return plain
        context = ssl.create_default_context(cafile=self._settings.ca_file)
        try:
            return context.wrap_socket(plain, server_hostname=self._settings.host)
        except OSError:
            plain.close()
            raise

    def _check_open(self, connection: socket.socket) -> None:
        """A receiver never speaks: readable means that it closed."""
        connection.settimeout(0.0)
        try:
            if connection.recv(1) == b"":
                raise ConnectionResetError("closed by the receiver")
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        finally:
            connection.settimeout(TIMEOUT_S)
