"""JSON lines in a file, for Filebeat or Logstash."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from identity.core.errors import Unavailable
from identity.shipping.inputs import FileSettings


class FileSender:
    """Appends whole lines and flushes them to the disk; a half line of a crash is cut off at the next start."""

    def __init__(self, settings: FileSettings) -> None:
        self._path = Path(settings.path)
        self._max_bytes = settings.max_mb * 1_048_576
        self._keep = settings.keep
        self._file: Any = None

    def send(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Raises `Unavailable` when the file cannot take them."""
        lines = b"".join(orjson.dumps(document) + b"\n" for document in documents)
        try:
            file = self._file or self._open()
            self._file = file
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
            if file.tell() >= self._max_bytes:
                self.close()
                self._rotate()
        except OSError as error:
            self.close()
            raise Unavailable("The file cannot be written.", str(error), code="unwritable") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> Any:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o640), "ab")
        size = file.tell()
        if size:
            with self._path.open("rb") as reader:
                whole = _whole_lines(reader, size)
            if whole < size:
                file.truncate(whole)
        return file

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.rename(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.rename(self._path.with_name(f"{self._path.name}.1"))
        self._path.with_name(f"{self._path.name}.{self._keep + 1}").unlink(missing_ok=True)


def _whole_lines(reader: Any, size: int) -> int:
    """Bytes up to and with the last line end."""
    position = size
    while position:
        start = max(0, position - 65_536)
        reader.seek(start)
        found = reader.read(position - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        position = start
    return 0
