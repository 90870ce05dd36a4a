"""The edge by itself: bodies, methods and headers before any endpoint sees them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from identity.core.edge import Edge, WsgiApp
from identity.core.errors import Invalid
from identity.core.hot import HotCall, HotResponse, HotRoute, parse_json
from identity.core.record import Origin


class Trickle(io.RawIOBase):
    """A body that comes three bytes at a time, as a socket may give it."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 3) if size >= 0 else 3)


class NoRecords:
    """The audit of routes that leave nothing in it."""

    def submit(self, *_: Any) -> None:
        raise AssertionError("nothing is recorded here")

    write = submit_later = submit


def edge_of(flask: WsgiApp, routes: Sequence[HotRoute] = ()) -> Edge:
    """An edge in front of this application, over TLS."""
    return Edge(
        flask,
        routes,
        trusted_proxies=(),
        secure=True,
        start=lambda: None,
        fresh=lambda: True,
        clock=lambda: datetime.now(UTC),
        sink=NoRecords(),
    )


def call(data: bytes, **environ: Any) -> HotCall:
    whole = {"REQUEST_METHOD": "POST", "wsgi.input": Trickle(data), **environ}
    return HotCall(whole, datetime.now(UTC), "r", Origin())


@pytest.mark.case("HD-07", "DO-01")
def test_a_body_is_read_as_far_as_it_is_stated() -> None:
    assert call(b"0123456789", CONTENT_LENGTH="10").body() == b"0123456789"
    assert call(b"0123456789NEXT", CONTENT_LENGTH="10").body() == b"0123456789"
    assert call(b"0123456789", **{"wsgi.input_terminated": True}).body() == b"0123456789"
    assert call(b"0123456789", HTTP_TRANSFER_ENCODING="chunked").body() == b"0123456789"
    assert call(b"another request").body() == b""
    assert call(b"", CONTENT_LENGTH="0").body() == b""


@pytest.mark.case("HD-07", "DO-01")
@pytest.mark.parametrize(
    "environ",
    [
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "1_0"},
        {"CONTENT_LENGTH": "+5"},
        {"CONTENT_LENGTH": " 5"},
        {"CONTENT_LENGTH": "٣"},
        {"CONTENT_LENGTH": "9" * 400},
        {"CONTENT_LENGTH": "101"},
        {"CONTENT_LENGTH": "50"},
        {"wsgi.input_terminated": True},
    ],
    ids=str,
)
def test_a_body_that_is_too_long_or_ends_early_is_refused(environ: dict[str, Any]) -> None:
    data = b"x" * 200 if "CONTENT_LENGTH" not in environ else b"x" * 20
    with pytest.raises(Invalid):
        call(data, **environ).body(limit=100)


@pytest.mark.case("HD-02", "DO-03")
def test_json_of_more_than_32_levels_is_refused() -> None:
    good, bad = ("[" * depth + "]" * depth for depth in (32, 33))
    assert call(good.encode(), CONTENT_LENGTH="64").json()
    for text in (bad, "[" * 100_000, '{"a":' * 40 + "1" + "}" * 40, "{", "NaN", '"\\ud800"'):
        with pytest.raises(Invalid) as refused:
            call(text.encode(), CONTENT_LENGTH=str(len(text))).json()
        assert refused.value.code == "invalid_json"


def send(edge: Edge, method: str, path: str) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        started.extend((status, headers))

    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "wsgi.input": io.BytesIO()}
    body: Iterable[bytes] = edge({**environ, "REMOTE_ADDR": "127.0.0.1"}, start)
    return started[0], started[1], b"".join(body)


@pytest.mark.parametrize("more", [b"", b'"}{]["', b'"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["'])
@pytest.mark.parametrize(("levels", "taken"), [(1, True), (31, True), (32, False), (40, False), (900, False)])
def test_json_of_many_levels_is_refused_whatever_stands_in_its_strings(levels: int, taken: bool, more: bytes) -> None:
    # Beside the nested list stand forty flat ones, so that its brackets are counted.
    text = b"[%s, %s%s%s]" % (b", ".join([b"[]"] * 40), b"[" * levels, more, b"]" * levels)
    if taken:
        assert len(parse_json(text)) == 41
    else:
        with pytest.raises(Invalid, match="nested"):
            parse_json(text)


@pytest.mark.case("HD-09")
def test_head_is_get_without_content_and_a_header_is_sent_once_whatever_its_case() -> None:
    def answer(_: HotCall) -> HotResponse:
        return HotResponse(200, b"body", (("referrer-policy", "origin"), ("Content-Type", "text/plain")))

    routes = [HotRoute("/a", ("GET",), answer, "public: test"), HotRoute("/b", ("POST",), answer, "public: test")]

    def flask(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        raise AssertionError(environ)

    edge = edge_of(flask, routes)
    get, head = send(edge, "GET", "/a"), send(edge, "HEAD", "/a")
    assert (get[0], get[2], head[0], head[2]) == ("200 OK", b"body", "200 OK", b"")
    names = sorted(name.lower() for name, _ in head[1])
    assert names == sorted(set(names))
    assert ("Content-Length", "4") in head[1]
    assert ("referrer-policy", "origin") in head[1]
    assert {"x-content-type-options", "strict-transport-security", "content-security-policy"} <= set(names)
    refused = send(edge, "HEAD", "/b")
    assert refused[0].startswith("405")
    assert ("Allow", "POST") in refused[1]
