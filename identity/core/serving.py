"""Granian's threads and ours.

Granian gives each WSGI request to one of its blocking threads and takes the answer when that returns: a decision that
waits for its commit then holds a thread, and sixteen threads that wake by turns cost twice what they do. Here a hot
route is answered by the recorder's thread when its records are durable. Those that are `prompt` are handled at once on
granian's few threads; everything else runs on threads of our own, which may wait.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any

from identity.core.edge import Edge
from identity.core.hot import BODY_MAX, read_input

THREADS = 16
HELD_MAX = 64 * BODY_MAX
_ENVIRON = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "Granian",
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.multiprocess": True,
    "wsgi.multithread": True,
    "wsgi.run_once": False,
    "wsgi.version": (1, 0),
}

_log = logging.getLogger(__name__)


class Serving:
    """What granian calls for each request: with the object that takes the answer, from any thread and once, and with
    its part of the environ (PEP 3333)."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self._lock = threading.Lock()
        self._held = 0

    def __call__(self, protocol: Any, environ: dict[str, Any]) -> None:
        environ.update(_ENVIRON)
        if self._edge.is_prompt(environ):
            self._edge.later(
                environ, protocol.response_bytes, lambda act: self._pool.submit(self._run, protocol, 0, act)
            )
        else:
            self._hand_over(protocol, environ)

    def _hand_over(self, protocol: Any, environ: dict[str, Any]) -> None:
        """Read the content, as much as any door takes, for granian closes it when its thread is done; give the request
        to a thread of ours. While too much content waits for one, none is read."""
        size = _size_of(environ)
        with self._lock:
            full = bool(size) and self._held + size > HELD_MAX
            self._held += 0 if full else size
        if full:
            protocol.response_bytes(503, [("Retry-After", "1"), ("Content-Length", "0")], b"")
            return
        environ["wsgi.input"] = BytesIO(read_input(environ, size) if size else b"")
        self._pool.submit(self._run, protocol, size, partial(self._answer, protocol, environ))

    def _answer(self, protocol: Any, environ: dict[str, Any]) -> None:
        if self._edge.is_hot(environ):
            self._edge.later(environ, protocol.response_bytes)
            return
        started = _Started()
        content = self._edge(environ, started)
        if isinstance(content, list):
            protocol.response_bytes(started.status, started.headers, b"".join(content))
        else:
            protocol.response_iter(started.status, started.headers, _Chunks(content))

    def _run(self, protocol: Any, size: int, act: Callable[[], None]) -> None:
        """On a thread of ours; `size` = of the content that it holds."""
        try:
            act()
        except BaseException:  # noqa: BLE001  nobody else would answer
            _log.exception("a request could not be answered")
            protocol.response_bytes(500, [], b"")
        finally:
            with self._lock:
                self._held -= size


def _size_of(environ: Mapping[str, Any]) -> int:
    """How much content to read: what is announced, or one byte too much where that is not known. What is announced as
    larger than any door takes is refused unread."""
    stated: str = environ.get("CONTENT_LENGTH", "")
    if not stated:
        return BODY_MAX + 1 if "HTTP_TRANSFER_ENCODING" in environ else 0
    size = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 10 else 0
    return size if size <= BODY_MAX else 0


class _Started:
    """The `start_response` of one request."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[str, str]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        self.status = int(status[:3])
        self.headers = headers


class _Chunks:
    """The content of an answer as granian takes it: part by part, closed at the end."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._content = content
        self._parts: Iterator[bytes] = iter(content)

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        close: Callable[[], None] | None = getattr(self._content, "close", None)
        if close is not None:
            close()


def install() -> None:
    """Have granian, where it is what loads this process's application, serve an `Edge` so.

    Granian has no public place for this: what it wraps every application in is replaced. An access log and a path
    prefix are granian's own; with them, and with any other server, an `Edge` is the WSGI application that it is.
    """
    server: Any = sys.modules.get("granian.server.mp")
    plain = getattr(server, "_wsgi_call_wrap", None)
    if plain is None:
        if server is not None:
            _log.warning("this granian is not known: each request holds one of its threads until it is answered")
        return

    def wrapped(application: Any, scope: dict[str, Any], access_log: Any = None) -> Any:
        ours = isinstance(application, Edge) and not access_log and not scope.get("url_path_prefix")
        return Serving(application) if ours else plain(application, scope, access_log)

    server._wsgi_call_wrap = wrapped
