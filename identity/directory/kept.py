"""Directories that are used again and again, with the connections that they keep."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

from identity.directory.factory import open_directory, read_secret
from identity.directory.reader import Directory


class KeptDirectories:
    """One directory for each source, made anew when its settings or its secret changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[UUID, tuple[tuple[Any, ...], Directory]] = {}

    def of(self, source_id: UUID, kind: str, settings: dict[str, Any], secret_ref: str | None) -> Directory:
        """The source's directory; raises `Invalid` for settings or a secret that cannot be."""
        made_of = (kind, settings, secret_ref, read_secret(secret_ref) if secret_ref else "")
        with self._lock:
            known = self._open.get(source_id)
            if known is None or known[0] != made_of:
                if known is not None:
                    known[1].close()
                known = made_of, open_directory(kind, settings, secret_ref)
                self._open[source_id] = known
            return known[1]

    def close(self) -> None:
        """End what the directories keep open."""
        with self._lock:
            for _, directory in self._open.values():
                directory.close()
            self._open.clear()
