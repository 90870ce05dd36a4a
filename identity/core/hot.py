"""Hot routes: endpoints mounted in front of Flask, and the edge that every request passes.

Outside in: trusted proxy → request id → limits and headers → hot table → Flask.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import orjson

from identity.core.errors import Invalid, TesseraError, Unavailable
from identity.core.log import speaking_of
from identity.core.record import ANONYMOUS, Actor, Origin, Record
from identity.core.secrets import new_id_text
from identity.core.trace import parse_traceparent

BODY_MAX = 1_048_576
QUERY_MAX = 8_192
JSON_DEPTH_MAX = 32
REQUEST_ID = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")

_log = logging.getLogger(__name__)

StartResponse = Callable[..., Any]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
Headers = tuple[tuple[str, str], ...]

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
_JSON_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")


class HotResponse(NamedTuple):
    """A whole answer; `body` is sent as it is."""

    status: int
    body: bytes = b""
    headers: Headers = ()

    @classmethod
    def json(cls, status: int, value: Any, *headers: tuple[str, str]) -> HotResponse:
        """A JSON answer that nobody may cache."""
        return cls(status, orjson.dumps(value), (*_JSON_HEADERS, *headers) if headers else _JSON_HEADERS)

    @classmethod
    def made_json(cls, body: bytes) -> HotResponse:
        """A 200 that nobody may cache; `body` is JSON already."""
        return cls(200, body, _JSON_HEADERS)

    @classmethod
    def public_json(cls, value: Any, max_age_s: int) -> HotResponse:
        """A JSON answer that is the same for everybody and may be kept for a while."""
        kept = ("Cache-Control", f"public, max-age={max_age_s}")
        return cls(200, orjson.dumps(value), (("Content-Type", "application/json"), kept))


@dataclass(slots=True)
class HotCall:
    """One request on a hot route; also the `Call` that its decision and its records belong to."""

    environ: dict[str, Any]
    now: datetime
    request_id: str
    origin: Origin
    actor: Actor = ANONYMOUS
    records: list[Record] = field(default_factory=list)
    reason: str | None = None
    reference: str | None = None

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    @property
    def query_string(self) -> str:
        return str(self.environ.get("QUERY_STRING", ""))

    def header(self, name: str) -> str:
        """The request header's value, or an empty string."""
        return str(self.environ.get(_key(name), ""))

    @property
    def media_type(self) -> str:
        return str(self.environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()

    def body(self, limit: int = BODY_MAX) -> bytes:
        """The whole request body; raises `Invalid` with code `too_large` above `limit` bytes.

        A body without Content-Length is read only where the server says that it ends by itself (chunked): anywhere
        else there is none, and reading on would wait for the next request.
        """
        environ = self.environ
        stated = environ.get("CONTENT_LENGTH")
        if not stated:
            if not environ.get("wsgi.input_terminated") and not environ.get("HTTP_TRANSFER_ENCODING"):
                return b""
            data = _read(environ["wsgi.input"], limit + 1)
            if len(data) > limit:
                raise Invalid("The request is too large.", code="too_large")
            return data
        if not (stated.isascii() and stated.isdigit()):
            raise Invalid("The Content-Length header is not a number.", code="invalid_request")
        if len(stated) > 15 or (length := int(stated)) > limit:
            raise Invalid("The request is too large.", code="too_large")
        data = _read(environ["wsgi.input"], length)
        if len(data) != length:
            raise Invalid("The body ended early.", code="invalid_request")
        return data

    def form(self, limit: int = 65_536) -> dict[str, str]:
        """The urlencoded body's fields; raises `Invalid` for a repeated field (RFC 6749 §3.2) or bad encoding."""
        try:
            return parse_fields(self.body(limit).decode("ascii"))
        except UnicodeDecodeError:
            raise Invalid("The request's encoding is not valid.", code="invalid_request") from None

    def query(self) -> dict[str, str]:
        """The query's fields; raises `Invalid` as `form` does."""
        return parse_fields(self.query_string)

    def json(self, limit: int = BODY_MAX) -> Any:
        """The body as JSON, at most 32 levels deep; raises `Invalid` for anything else."""
        return parse_json(self.body(limit))


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text of at most `JSON_DEPTH_MAX` levels without NUL, which PostgreSQL cannot store; raises
    `Invalid` (code `invalid_json`)."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid("The body is not valid JSON.", str(error), code="invalid_json") from None
    data = text.encode() if isinstance(text, str) else text
    # No more brackets than levels are no more levels either; most are counted faster than they are walked.
    if data.count(b"{") + data.count(b"[") > JSON_DEPTH_MAX and _deeper_than(value, JSON_DEPTH_MAX):
        raise Invalid("The JSON is nested too deeply.", code="invalid_json")
    if b"\\u0000" in data:
        raise Invalid("The JSON has a NUL character.", code="invalid_json")
    return value


@cache
def _key(name: str) -> str:
    """A header's name in the environ; asked only for names that stand in our code."""
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def _read(source: Any, length: int) -> bytes:
    """`length` bytes, or all there are: a WSGI `read` may return fewer than it was asked for."""
    data: bytes = source.read(length)
    while (missing := length - len(data)) > 0 and (part := source.read(missing)):
        data += part
    return data


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        layer = [
            part
            for one in layer
            for part in (one.values() if type(one) is dict else one)
            if type(part) is dict or type(part) is list
        ]
        if not layer:
            return False
    return True


def parse_fields(text: str) -> dict[str, str]:
    """Urlencoded fields, each at most once (RFC 6749 §3.1: parameters MUST NOT be included more than once)."""
    fields, repeated = parse_pairs(text)
    if repeated:
        raise Invalid(f"The parameter {min(repeated)[:64]!r} is repeated.", code="invalid_request")
    return fields


def parse_pairs(text: str) -> tuple[dict[str, str], frozenset[str]]:
    """Urlencoded fields and the names of those that are repeated; raises `Invalid` for bad encoding or a NUL."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=1_000, errors="strict")
    except ValueError as error:
        raise Invalid("The request's encoding is not valid.", str(error), code="invalid_request") from None
    fields: dict[str, str] = {}
    repeated = set()
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise Invalid("The request has a NUL character.", code="invalid_request")
        if name in fields:
            repeated.add(name)
        fields[name] = value
    return fields, frozenset(repeated)


@dataclass(frozen=True, slots=True)
class HotRoute:
    """An endpoint in front of Flask. `guard` says what protects it: `public: reason` or the credentials it takes."""

    path: str
    methods: tuple[str, ...]
    handle: Callable[[HotCall], HotResponse]
    guard: str
    cors: bool = False


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
        clock: Callable[[], datetime],
    ) -> None:
        self._flask = flask
        self.routes: Mapping[str, HotRoute] = {route.path: route for route in routes}
        self._trusted = tuple(ip_network(one) for one in trusted_proxies)
        # Threads are started by the first request, in the process that serves it: a server may fork before.
        self._start = start
        self._clock = clock
        self._headers = _DEFAULT_HEADERS + ((_HSTS,) if secure else ())
        self._json_headers = _JSON_HEADERS + self._headers

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self._start()
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
        now = self._clock()
        if len(get("QUERY_STRING", "")) > QUERY_MAX:
            return self._send(HotResponse.json(414, {"error": "invalid_request"}), request_id, start_response)
        route = self.routes.get(get("PATH_INFO", ""))
        if route is None:
            environ["tessera.now"] = now
            environ["tessera.origin"] = origin
            environ["tessera.request_id"] = request_id
            return self._flask(environ, self._with_headers(request_id, start_response))
        answer = self._answer(route, HotCall(environ, now, request_id, origin))
        sent = self._send(answer, request_id, start_response, cors=route.cors)
        # RFC 9110 §9.3.2: the answer to HEAD has the headers of GET and no content.
        return [] if environ["REQUEST_METHOD"] == "HEAD" else sent

    def _answer(self, route: HotRoute, call: HotCall) -> HotResponse:
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
        except Unavailable as error:
            _log.warning("%s %s: %s", call.request_id, route.path, error)
            return HotResponse.json(
                503,
                {"error": "temporarily_unavailable", "error_description": error.public},
                ("Retry-After", str(error.retry_after_s)),
            )
        except TesseraError as error:
            status = 413 if error.code == "too_large" else 400
            return HotResponse.json(status, {"error": "invalid_request", "error_description": error.public})
        except Exception:  # noqa: BLE001  a fault of ours is logged and answered, and never kills the worker
            _log.exception("%s %s", call.request_id, route.path)
            return HotResponse.json(500, {"error": "server_error"})

    def _send(
        self,
        response: HotResponse,
        request_id: str,
        start_response: StartResponse,
        *,
        cors: bool = False,
    ) -> Iterable[bytes]:
        status, body, own = response
        headers = [
            *(self._json_headers if own is _JSON_HEADERS else self._with_ours(own)),
            ("X-Request-ID", request_id),
        ]
        # RFC 9110 §8.6: none in a 204, and in a 304 only the length that the 200 would have had.
        if status not in {204, 304}:
            headers.append(("Content-Length", str(len(body))))
        if cors:
            headers.append(("Access-Control-Allow-Origin", "*"))
        start_response(_STATUS[status], headers)
        return [body]

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
                return address if _is_address(address) else peer
        return peer


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def inside(text: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether the text is an address of one of these networks."""
    return _is_address(text) and any(ip_address(text) in network for network in networks)


def parse_uuid(text: str) -> UUID | None:
    """The id, or None when it is none; used for ids that a client sends."""
    try:
        return UUID(text)
    except (ValueError, AttributeError):
        return None
