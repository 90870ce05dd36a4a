"""Granian's threads and ours, with what granian gives: a protocol object and an environ."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from identity.core.hot import BODY_MAX
from identity.core.serving import HELD_MAX, Serving
from tests.unit.test_hot import edge_of


class Protocol:
    """Takes one answer, as granian's does."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.status = 0
        self.content = b""

    def response_bytes(self, status: int, _headers: list[tuple[str, str]], content: bytes) -> None:
        self.status, self.content = status, content
        self.answered.set()

    def response_iter(self, status: int, headers: list[tuple[str, str]], content: Any) -> None:
        parts = []
        try:
            while True:
                parts.append(next(content))
        except StopIteration:
            content.close()
        self.response_bytes(status, headers, b"".join(parts))


class Pages:
    """A Flask's place: answers with what it was sent, when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.closed = 0

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        assert self.may.wait(60)
        if environ["PATH_INFO"] == "/fault":
            raise RuntimeError("a fault")
        start("200 OK", [("Content-Type", "text/plain")])
        return Parts(self, environ["wsgi.input"].read())


class Parts:
    def __init__(self, pages: Pages, data: bytes) -> None:
        self._pages = pages
        self._parts = iter([data[:1], data[1:]])

    def __iter__(self) -> Any:
        return self._parts

    def close(self) -> None:
        self._pages.closed += 1


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def serving(pages: Pages) -> Serving:
    return Serving(edge_of(pages))


def send(serving: Serving, data: bytes = b"", path: str = "/", **more: str) -> Protocol:
    protocol = Protocol()
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "QUERY_STRING": "", "REMOTE_ADDR": "127.0.0.1", **more}
    if "HTTP_TRANSFER_ENCODING" not in more:
        environ.setdefault("CONTENT_LENGTH", str(len(data)))
    serving(protocol, {**environ, "wsgi.input": io.BytesIO(data)})
    return protocol


def test_content_is_read_before_the_thread_is_given_back(serving: Serving, pages: Pages) -> None:
    whole, chunked = send(serving, b"content"), send(serving, b"parts", HTTP_TRANSFER_ENCODING="chunked")
    fault = send(serving, path="/fault")
    pages.may.set()
    for one in (whole, chunked, fault):
        assert one.answered.wait(60)
    assert (whole.status, whole.content) == (200, b"content")
    assert (chunked.status, chunked.content) == (200, b"parts")
    assert (fault.status, fault.content, pages.closed) == (500, b"", 2)


def test_only_so_much_content_waits_for_a_thread(serving: Serving, pages: Pages) -> None:
    data = b"x" * BODY_MAX
    taken = [send(serving, data) for _ in range(HELD_MAX // BODY_MAX)]
    assert not any(one.answered.is_set() for one in taken)
    for refused in (send(serving, data), send(serving, b"x"), send(serving, b"x", HTTP_TRANSFER_ENCODING="chunked")):
        assert (refused.answered.is_set(), refused.status) == (True, 503)
    without = send(serving)
    pages.may.set()
    for one in (*taken, without):
        assert one.answered.wait(60)
        assert one.status == 200
    after = send(serving, b"again")
    assert after.answered.wait(60)
    assert (after.status, after.content) == (200, b"again")


@pytest.mark.parametrize("length", [str(BODY_MAX + 1), "9" * 30, "-1", "x", "\u0663"])
def test_what_is_announced_too_large_or_wrong_is_not_read(serving: Serving, pages: Pages, length: str) -> None:
    pages.may.set()
    sent = send(serving, b"content", CONTENT_LENGTH=length)
    assert sent.answered.wait(60)
    assert (sent.status, sent.content) == (200, b"")
