"""Long work that ends at its next safe point when its process is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

Ending = Callable[[], bool]

_asked: ContextVar[Ending] = ContextVar("ending", default=lambda: False)


def ending() -> Ending:
    """Says whether this thread's work was asked to end; who starts other threads for it takes the answer along."""
    return _asked.get()


def end_when(asked: Ending) -> None:
    """What this thread does from now on ends at its next safe point once `asked` says so."""
    _asked.set(asked)
