"""How often the interpreter looks for reference cycles.

It searches all objects again whenever a quarter more has come. Work that makes millions of objects, all of them still
needed, spends a third of its time on that and finds nothing.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 70_000

_lock = threading.Lock()
_inside: list[tuple[int, int, int]] = []


@contextmanager
def seldom() -> Iterator[None]:
    """Inside, on any thread, cycles are looked for after seventy thousand new objects instead of seven hundred."""
    with _lock:
        _inside.append(gc.get_threshold())
        gc.set_threshold(OBJECTS, 10, 10)
    try:
        yield
    finally:
        with _lock:
            usual = _inside[0]
            _inside.pop()
            if not _inside:
                gc.set_threshold(*usual)
