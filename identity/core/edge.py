"""The edge that every request passes: trusted proxy → request id → limits and headers → hot table → Flask.

It is a WSGI application; under granian (`core.serving`) the answers of `prompt` routes leave later than their threads.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from ipaddress import ip_network
from typing import Any

from identity.core.errors import Invalid, TesseraError, Unavailable
from identity.core.hot import JSON_HEADERS, Headers, HotCall, HotResponse, HotRoute, MustWait, inside, is_address
from identity.core.log import speaking_of
from identity.core.record import Origin
from identity.core.secrets import new_id_text
from identity.core.trace import parse_traceparent
from identity.core.unit import RecordSink

QUERY_MAX = 8_192
REQUEST_ID = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")

_log = logging.getLogger(__name__)

StartResponse = Callable[..., Any]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
Reply = Callable[[int, list[tuple[str, str]], bytes], None]
"""Takes the whole answer: status, headers, content."""
Elsewhere = Callable[[Callable[[], None]], Any]
"""Runs it on another thread."""

_STATUS = {
    200: "200 OK",
    201: "201 Created",
    204: "204 No Content",
    302: "302 Found",
    303: "303 See Other",
    304: "304 Not Modified",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    413: "413 Content Too Large",
    414: "414 URI Too Long",
    415: "415 Unsupported Media Type",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error",
    503: "503 Service Unavailable",
}

# Security headers of every answer; a page that needs another policy sets its own and keeps it.
_DEFAULT_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
            "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        ),
    ),
)
_HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
_TOO_LONG = HotResponse.json(414, {"error": "invalid_request"})


class Edge:
    """The WSGI application that the server runs: the hot table in front of Flask."""

    def __init__(
        self,
        flask: WsgiApp,
        routes: Sequence[HotRoute],
        *,
        trusted_proxies: Sequence[str],
        secure: bool,
        start: Callable[[], None],
        fresh: Callable[[], bool],
        clock: Callable[[], datetime],
        sink: RecordSink,
    ) -> None:
        """`fresh`: whether the caches of this process are true, so that nobody has to ask the database first."""
        self._flask = flask
        self.routes: Mapping[str, HotRoute] = {route.path: route for route in routes}
        self._trusted = tuple(ip_network(one) for one in trusted_proxies)
        # Threads are started by the first request, in the process that serves it: a server may fork before.
        self._start = start
        self._fresh = fresh
        self._clock = clock
        self._sink = sink
        self._headers = _DEFAULT_HEADERS + ((_HSTS,) if secure else ())
        self._json_headers = JSON_HEADERS + self._headers

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self._start()
        call = self._enter(environ)
        too_long = len(environ.get("QUERY_STRING", "")) > QUERY_MAX
        route = self.routes.get(environ.get("PATH_INFO", ""))
        if route is None and not too_long:
            environ["tessera.now"] = call.now
            environ["tessera.origin"] = call.origin
            environ["tessera.request_id"] = call.request_id
            return self._flask(environ, self._with_headers(call.request_id, start_response))
        response = _TOO_LONG if route is None or too_long else self._durable(route, call)
        status, headers, body = self._whole(call, response, cors=route is not None and route.cors)
        start_response(_STATUS[status], headers)
        return [body]

    def is_hot(self, environ: Mapping[str, Any]) -> bool:
        """Whether `later` takes this request."""
        return environ["PATH_INFO"] in self.routes and len(environ.get("QUERY_STRING", "")) <= QUERY_MAX

    def is_prompt(self, environ: Mapping[str, Any]) -> bool:
        """Whether `later` takes it on a thread that may not wait."""
        route = self.routes.get(environ["PATH_INFO"])
        return route is not None and route.prompt and self._fresh() and self.is_hot(environ)

    def later(self, environ: dict[str, Any], reply: Reply, elsewhere: Elsewhere | None = None) -> None:
        """Answer this request of a hot route by `reply`, as soon as its records are durable, for which this thread does
        not wait.

        `elsewhere`: this thread may not wait at all, and what turns out to need it is given there, as a function.
        """
        if elsewhere is None:
            self._start()
        call = self._enter(environ)
        call.prompt = elsewhere is not None
        self._later(self.routes[environ["PATH_INFO"]], call, reply, elsewhere)

    def _later(self, route: HotRoute, call: HotCall, reply: Reply, elsewhere: Elsewhere | None) -> None:
        try:
            response = self._handled(route, call)
        except MustWait:
            if elsewhere is None:
                raise
            call.prompt = False
            with suppress(Invalid):
                call.body()  # the server closes it when this thread is done
            elsewhere(partial(self._later, route, call, reply, None))
            return
        ready = self._whole(call, response, cors=route.cors)
        if not call.pending:
            reply(*ready)
            return

        def durable(error: Unavailable | None) -> None:
            reply(*ready) if error is None else reply(*self._whole(call, _unavailable(call, error), cors=route.cors))

        try:
            self._sink.submit_later(call, call.pending, durable)
        except Unavailable as error:
            durable(error)

    def _enter(self, environ: dict[str, Any]) -> HotCall:
        """The request with who sent it, when it came, and what it is called in the log."""
        get = environ.get
        trace = get("HTTP_TRACEPARENT", "")
        trace = parse_traceparent(trace) if trace else ""
        origin = Origin(self._client_ip(environ), get("HTTP_USER_AGENT", "")[:512], trace)
        request_id = get("HTTP_X_REQUEST_ID")
        if not request_id or not REQUEST_ID.fullmatch(request_id):
            request_id = new_id_text()
        cookies = get("HTTP_COOKIE")
        if cookies is not None and not cookies.isascii():
            # Ours are ASCII; another's that is not would not be read at all (RFC 6265 §4.1.1).
            environ["HTTP_COOKIE"] = ";".join(part for part in cookies.split(";") if part.isascii())
        speaking_of(request_id, trace)
        return HotCall(environ, self._clock(), request_id, origin)

    def _durable(self, route: HotRoute, call: HotCall) -> HotResponse:
        """The answer, after what must be durable before it is."""
        response = self._handled(route, call)
        if call.pending:
            try:
                self._sink.submit(call, call.pending)
            except Unavailable as error:
                return _unavailable(call, error)
        return response

    def _handled(self, route: HotRoute, call: HotCall) -> HotResponse:
        method = "GET" if call.method == "HEAD" else call.method
        if method not in route.methods:
            if method == "OPTIONS" and route.cors:
                return HotResponse(
                    204,
                    b"",
                    (("Access-Control-Allow-Methods", ", ".join(route.methods)),),
                )
            return HotResponse.json(405, {"error": "invalid_request"}, ("Allow", ", ".join(route.methods)))
        try:
            return route.handle(call)
        except MustWait:
            raise
        except Unavailable as error:
            return _unavailable(call, error)
        except TesseraError as error:
            status = 413 if error.code == "too_large" else 400
            return HotResponse.json(status, {"error": "invalid_request", "error_description": error.public})
        except Exception:  # noqa: BLE001  a fault of ours is logged and answered, and never kills the worker
            _log.exception("%s %s", call.request_id, route.path)
            return HotResponse.json(500, {"error": "server_error"})

    def _whole(self, call: HotCall, response: HotResponse, *, cors: bool) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and content as they are sent."""
        status, body, own = response
        headers = [
            *(self._json_headers if own is JSON_HEADERS else self._with_ours(own)),
            ("X-Request-ID", call.request_id),
        ]
        # RFC 9110 §8.6: none in a 204, and in a 304 only the length that the 200 would have had.
        if status not in {204, 304}:
            headers.append(("Content-Length", str(len(body))))
        if cors:
            headers.append(("Access-Control-Allow-Origin", "*"))
        # RFC 9110 §9.3.2: the answer to HEAD has the headers of GET and no content.
        return status, headers, b"" if call.method == "HEAD" else body

    def _with_ours(self, headers: Headers) -> Headers:
        """An answer's headers with ours, but for those that it sets itself."""
        present = {name.lower() for name, _ in headers}
        return headers + tuple(pair for pair in self._headers if pair[0].lower() not in present)

    def _with_headers(self, request_id: str, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            present = {name.lower() for name, _ in headers}
            headers.extend(pair for pair in self._headers if pair[0].lower() not in present)
            headers.append(("X-Request-ID", request_id))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return start

    def _client_ip(self, environ: Mapping[str, Any]) -> str:
        """The peer, or what a trusted proxy says of it: the rightmost address that is not itself trusted."""
        peer: str = environ.get("REMOTE_ADDR", "")
        if not self._trusted or not inside(peer, self._trusted):
            return peer
        chain = [part.strip() for part in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if part.strip()]
        for address in reversed(chain):
            if not inside(address, self._trusted):
                return address if is_address(address) else peer
        return peer


def _unavailable(call: HotCall, error: Unavailable) -> HotResponse:
    _log.warning("%s %s: %s", call.request_id, call.environ.get("PATH_INFO"), error)
    return HotResponse.json(
        503,
        {"error": "temporarily_unavailable", "error_description": error.public},
        ("Retry-After", str(error.retry_after_s)),
    )
