"""Hot routes: endpoints mounted in front of Flask, and the edge that every request passes.

Outside in: trusted proxy → request id → limits and headers → hot table → Flask.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import orjson

from identity.core.errors import Invalid, TesseraError, Unavailable
from identity.core.record import ANONYMOUS, Actor, Origin, Record
from identity.core.secrets import new_id

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


@dataclass(frozen=True, slots=True)
class HotResponse:
    """A whole answer; `body` is sent as it is."""

    status: int
    body: bytes = b""
    headers: Headers = ()

    @classmethod
    def json(cls, status: int, value: Any, *headers: tuple[str, str]) -> HotResponse:
        """A JSON answer that nobody may cache."""
        return cls(
            status,
            orjson.dumps(value),
            (
                ("Content-Type", "application/json"),
                ("Cache-Control", "no-store"),
                *headers,
            ),
        )


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
        key = name.upper().replace("-", "_")
        if key in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            return str(self.environ.get(key, ""))
        return str(self.environ.get(f"HTTP_{key}", ""))

    @property
    def media_type(self) -> str:
        return self.header("Content-Type").partition(";")[0].strip().lower()

    def body(self, limit: int = BODY_MAX) -> bytes:
        """The whole request body; raises `Invalid` with code `too_large` above `limit` bytes."""
        try:
            length = int(self.environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            raise Invalid("The Content-Length header is not a number.", code="invalid_request") from None
        if length > limit or length < 0:
            raise Invalid("The request is too large.", code="too_large")
        data: bytes = self.environ["wsgi.input"].read(length or limit + 1)
        if len(data) > limit:
            raise Invalid("The request is too large.", code="too_large")
        return data

    def form(self, limit: int = 65_536) -> dict[str, str]:
        """The urlencoded body's fields; raises `Invalid` for a repeated field (RFC 6749 §3.2) or bad encoding."""
        return parse_fields(self.body(limit).decode("latin-1"))

    def query(self) -> dict[str, str]:
        """The query's fields; raises `Invalid` as `form` does."""
        return parse_fields(self.query_string)

    def json(self, limit: int = BODY_MAX) -> Any:
        """The body as JSON; raises `Invalid` for anything else."""
        try:
            return orjson.loads(self.body(limit))
        except orjson.JSONDecodeError as error:
            raise Invalid("The body is not valid JSON.", str(error), code="invalid_json") from None


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            part
            for one in layer
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, (dict, list))
        ]
        if not layer:
            return False
    return True


def parse_fields(text: str) -> dict[str, str]:
    """Urlencoded fields, each at most once (RFC 6749 §3.1: parameters MUST NOT be included more than once)."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=1_000, errors="strict")
    except ValueError as error:
        raise Invalid("The request's encoding is not valid.", str(error), code="invalid_request") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise Invalid(f"The parameter {name[:64]!r} is repeated.", code="invalid_request")
        if "\0" in value:
            raise Invalid("The request has a NUL character.", code="invalid_request")
        fields[name] = value
    return fields


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
    ) -> None:
        self._flask = flask
        self.routes: Mapping[str, HotRoute] = {route.path: route for route in routes}
        self._trusted = tuple(ip_network(one) for one in trusted_proxies)
        # Threads are started by the first request, in the process that serves it: a server may fork before.
        self._start = start
        self._headers = _DEFAULT_HEADERS + ((_HSTS,) if secure else ())

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self._start()
        origin = Origin(self._client_ip(environ), environ.get("HTTP_USER_AGENT", "")[:512])
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = str(new_id())
        environ["tessera.origin"] = origin
        environ["tessera.request_id"] = request_id
        if len(environ.get("QUERY_STRING", "")) > QUERY_MAX:
            return self._send(
                HotResponse.json(414, {"error": "invalid_request"}),
                request_id,
                start_response,
            )
        route = self.routes.get(environ.get("PATH_INFO", ""))
        if route is None:
            return self._flask(environ, self._with_headers(request_id, start_response))
        call = HotCall(environ, datetime.now(UTC), request_id, origin)
        return self._send(self._answer(route, call), request_id, start_response, cors=route.cors)

    def _answer(self, route: HotRoute, call: HotCall) -> HotResponse:
        method = call.method
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
        headers = [
            *response.headers,
            ("Content-Length", str(len(response.body))),
            ("X-Request-ID", request_id),
        ]
        if cors:
            headers.append(("Access-Control-Allow-Origin", "*"))
        headers += [pair for pair in self._headers if not any(pair[0] == name for name, _ in response.headers)]
        start_response(_STATUS[response.status], headers)
        return [response.body]

    def _with_headers(self, request_id: str, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            present = {name.lower() for name, _ in headers}
            headers.extend(pair for pair in self._headers if pair[0].lower() not in present)
            headers.append(("X-Request-ID", request_id))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return start

    def _client_ip(self, environ: Mapping[str, Any]) -> str:
        """The peer, or what a trusted proxy says of it: the rightmost address that is not itself trusted."""
        peer = str(environ.get("REMOTE_ADDR", ""))
        if not self._trusted or not _inside(peer, self._trusted):
            return peer
        chain = [part.strip() for part in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if part.strip()]
        for address in reversed(chain):
            if not _inside(address, self._trusted):
                return address if _is_address(address) else peer
        return peer


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _inside(text: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return _is_address(text) and any(ip_address(text) in network for network in networks)


def parse_uuid(text: str) -> UUID | None:
    """The id, or None when it is none; used for ids that a client sends."""
    try:
        return UUID(text)
    except (ValueError, AttributeError):
        return None
