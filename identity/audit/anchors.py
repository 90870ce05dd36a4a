"""Where heads go so that whoever owns the database cannot take them back."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from sqlalchemy import Connection

from identity.audit import bulk
from identity.audit.note import Head, split_notes
from identity.core.errors import Unavailable
from identity.core.fetch import post_bytes

ENTRY = 48
_CATCH_UP = 50_000


class Anchor(Protocol):
    """A place outside: `put` returns its receipt, if it gives one, and raises `Unavailable` when it was not reached."""

    @property
    def name(self) -> str: ...
    def put(self, head: Head, note: str) -> bytes | None: ...


class FileAnchor:
    """Notes in an append-only file, best on other storage (a mount that this machine cannot rewrite)."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, head: Head, note: str) -> None:  # noqa: ARG002  the note holds the head
        """Durable when it returns."""
        self.append(note)

    def append(self, note: str) -> None:
        """Add any signed note."""
        _append(self.path, f"{note}\n".encode())

    def notes(self) -> list[str]:
        """All that was written, in its order."""
        return split_notes(self.path.read_text(encoding="utf-8")) if self.path.exists() else []


class LeafLog:
    """Record id and leaf hash of each leaf, 48 bytes, in their order: with it a verifier names the one record that was
    changed even when the whole database was rewritten to fit. The signed heads prove the log itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of_epoch(self, epoch: int) -> LeafLog:
        """The log of that history: each has a file of its own, so that what a restoration lost stays readable. This
        one where there is no such file, and for the first history."""
        path = self.path.with_name(f"{self.path.name}.{epoch}")
        return LeafLog(path) if epoch and path.exists() else self

    def begin(self, epoch: int) -> LeafLog:
        """The log of that history, to be written."""
        return LeafLog(self.path.with_name(f"{self.path.name}.{epoch}")) if epoch else self

    @property
    def size(self) -> int:
        """How many leaves it holds; a torn last entry does not count."""
        return self.path.stat().st_size // ENTRY if self.path.exists() else 0

    def append(self, start: int, ids: Sequence[bytes], hashes: Sequence[bytes]) -> bool:
        """Add the leaves from `start` on; False when the log is not just there (it must catch up first)."""
        if self.size != start:
            return False
        with self._open() as handle:
            handle.truncate(start * ENTRY)
            handle.seek(start * ENTRY)
            handle.write(b"".join(chain.from_iterable(zip(ids, hashes, strict=True))))
        return True

    def catch_up(self, connection: Connection, size: int) -> None:
        """Take what is missing from the database and make the log durable."""
        while (have := self.size) < size:
            found = bulk.leaves(connection, have, min(size, have + _CATCH_UP))
            self.append(have, found.ids, found.hashes)
        with self._open() as handle:
            os.fsync(handle.fileno())

    def read(self, start: int, end: int) -> list[tuple[bytes, bytes]]:
        """(record id, leaf hash) of the leaves start <= seq < end, as far as the log reaches."""
        with self.path.open("rb") as handle:
            handle.seek(start * ENTRY)
            data = handle.read((end - start) * ENTRY)
        return [(data[n : n + 16], data[n + 16 : n + ENTRY]) for n in range(0, len(data) - ENTRY + 1, ENTRY)]

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        return os.fdopen(descriptor, "r+b")


class WebhookAnchor:
    """POSTs the note; it is signed itself, so the receiver needs nothing but the public key."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    def put(self, head: Head, note: str) -> None:  # noqa: ARG002  the note holds the head
        status = post_bytes(self._url, note.encode(), "text/plain; charset=utf-8").status
        if not 200 <= status < 300:
            raise Unavailable("The anchor did not take the head.", f"status {status}", code="anchor")


class MailAnchor:
    """Mails the note."""

    name = "mail"

    def __init__(self, send: Callable[[str, str], None]) -> None:
        self._send = send

    def put(self, head: Head, note: str) -> None:
        self._send(f"{head.origin}: {head.size} records", note)


def _append(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError("short write")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    except OSError as error:
        raise Unavailable("The anchor file cannot be written.", str(error), code="anchor") from error
