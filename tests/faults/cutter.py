"""A proxy in front of PostgreSQL that knows its protocol well enough to cut a connection at the commit."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal

from tests.servers.fault import _Listener

Moment = Literal["before", "after"]


class CommitCutter(_Listener):
    """Passes everything on until `arm`; then the next commit of any connection is its last message.

    "before": the commit never reaches the server. "after": the server has committed and said so, and the client never
    hears of it. A commit is a COMMIT of either protocol, or the recorder's prepared INSERT, which is a transaction by
    itself (PostgreSQL documentation, 55.7 Message Formats: type, length in 4 bytes, body).
    """

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__()
        self._target = target
        self._arming = threading.Lock()
        self._moment: Moment | None = None
        self._alone = False
        self.cut = threading.Event()

    def arm(self, moment: Moment, *, alone: bool) -> None:
        """Cut at the next commit; `alone`: at the recorder's next INSERT instead."""
        with self._arming:
            self.cut.clear()
            self._moment, self._alone = moment, alone

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        self._open.append(server)
        heard = threading.Event()
        deaf = threading.Event()
        self._spawn(self._back, server, client, deaf, heard)
        try:
            self._forward(client, server, deaf, heard)
        except (OSError, EOFError):
            pass
        finally:
            for one in (client, server):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _forward(
        self, client: socket.socket, server: socket.socket, deaf: threading.Event, heard: threading.Event
    ) -> None:
        begun = False
        while True:
            if not begun:
                head = _exactly(client, 4)
                body = _exactly(client, int.from_bytes(head, "big") - 4)
                # 80877103 and 80877104 ask for TLS or GSS before the start message proper.
                begun = body[:4] not in {b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"}
                server.sendall(head + body)
                continue
            head = _exactly(client, 5)
            body = _exactly(client, int.from_bytes(head[1:], "big") - 4)
            moment = self._is_it(head[:1], body)
            if moment == "before":
                self.cut.set()
                return
            if moment == "after":
                deaf.set()
                heard.clear()
                server.sendall(head + body)
                self._until_answered(client, server, heard)
                self.cut.set()
                return
            server.sendall(head + body)

    def _is_it(self, kind: bytes, body: bytes) -> Moment | None:
        with self._arming:
            if self._moment is None:
                return None
            words = body.split(b"\0", 2)  # Parse: name, statement; Bind: portal, name
            commit = kind in {b"Q", b"P"} and b"COMMIT" in words
            insert = kind == b"B" and words[1] == b"audit_record"
            if insert if self._alone else commit:
                moment, self._moment = self._moment, None
                return moment
        return None

    def _until_answered(self, client: socket.socket, server: socket.socket, heard: threading.Event) -> None:
        """Pass on what belongs to the commit (its Execute and Sync) until the server has answered it."""
        client.settimeout(0.05)
        while not heard.is_set():
            try:
                data = client.recv(4_096)
            except TimeoutError:
                continue
            if not data:
                return
            server.sendall(data)

    def _back(
        self, server: socket.socket, client: socket.socket, deaf: threading.Event, heard: threading.Event
    ) -> None:
        try:
            while data := server.recv(65_536):
                if not deaf.is_set():
                    client.sendall(data)
                elif b"COMMIT\x00" in data or b"INSERT 0 " in data:  # the tag of CommandComplete
                    heard.set()
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = source.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
