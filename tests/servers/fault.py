"""Servers that misbehave: a proxy that cuts or drips, and one that answers with given bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tests.servers.slapd import loopback


class _Listener(ABC):
    """Accepts connections on a loopback address of its own while the context is open."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self.address = loopback()
        self._socket.bind((self.address, 0))
        self._socket.listen(16)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"ldap://{self.address}:{self.port}"
        self._open: list[socket.socket] = [self._socket]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _spawn(self, target: object, *words: object) -> None:
        thread = threading.Thread(target=target, args=words, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(client)
            self._spawn(self._serve, client)

    @abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Speak with one client; runs on a thread of its own."""


class Proxy(_Listener):
    """Passes bytes to (host, port). `cut_after`: both ends are closed once so many bytes came back; `drip_s`: each byte
    that comes back waits so long."""

    def __init__(self, target: tuple[str, int], cut_after: int | None = None, drip_s: float = 0) -> None:
        super().__init__()
        self._target = target
        self.cut_after = cut_after
        self.drip_s = drip_s

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        self._open.append(server)
        self._spawn(self._back, server, client)
        try:
            while data := client.recv(4_096):
                server.sendall(data)
        except OSError:
            pass

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        try:
            while data := server.recv(1 if self.drip_s else 1_024):
                time.sleep(self.drip_s)
                passed += len(data)
                if self.cut_after is not None and passed > self.cut_after:
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Canned(_Listener):
    """Answers each message of a client with the next of these bytes, then closes; `received` is what clients said."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__()
        self._answers = answers
        self.received = b""

    def _serve(self, client: socket.socket) -> None:
        try:
            for answer in self._answers:
                data = client.recv(65_536)
                self.received += data
                if not data:
                    return
                client.sendall(answer)
            while data := client.recv(65_536):
                self.received += data
        except OSError:
            pass
        finally:
            client.close()


def ldap_result(message_id: int, operation: int, code: int, more: bytes = b"") -> bytes:
    """An LDAPResult (RFC 4511 §4.1.9) of this operation's tag, without text."""
    body = bytes([0x0A, 1, code, 4, 0, 4, 0]) + more
    inner = bytes([2, 1, message_id, operation, len(body)]) + body
    return bytes([0x30, len(inner)]) + inner
