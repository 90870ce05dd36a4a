"""Hot routes: endpoints mounted in front of Flask (`core.edge`), and what their handlers read and answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import orjson

from identity.core.errors import Invalid
from identity.core.record import ANONYMOUS, Actor, Origin, Record

BODY_MAX = 1_048_576
JSON_DEPTH_MAX = 32
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))

Headers = tuple[tuple[str, str], ...]

JSON_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class MustWait(Exception):
    """What was begun on a thread that may not wait is begun again on one that may; see `HotCall.may_wait`."""


class HotResponse(NamedTuple):
    """A whole answer; `body` is sent as it is."""

    status: int
    body: bytes = b""
    headers: Headers = ()

    @classmethod
    def json(cls, status: int, value: Any, *headers: tuple[str, str]) -> HotResponse:
        """A JSON answer that nobody may cache."""
        return cls(status, orjson.dumps(value), (*JSON_HEADERS, *headers) if headers else JSON_HEADERS)

    @classmethod
    def made_json(cls, body: bytes) -> HotResponse:
        """A 200 that nobody may cache; `body` is JSON already."""
        return cls(200, body, JSON_HEADERS)

    @classmethod
    def public_json(cls, value: Any, max_age_s: int) -> HotResponse:
        """A JSON answer that is the same for everybody and may be kept for a while."""
        kept = ("Cache-Control", f"public, max-age={max_age_s}")
        return cls(200, orjson.dumps(value), (("Content-Type", "application/json"), kept))


@dataclass(slots=True)
class HotCall:
    """One request on a hot route; also the `Call` that its decision and its records belong to.

    `pending` is what must be durable before the answer leaves: the edge sees to it. `prompt` = handled on one of the
    server's few threads, which may not wait.
    """

    environ: dict[str, Any]
    now: datetime
    request_id: str
    origin: Origin
    actor: Actor = ANONYMOUS
    records: list[Record] = field(default_factory=list)
    reason: str | None = None
    reference: str | None = None
    pending: list[Record] = field(default_factory=list)
    prompt: bool = False
    _body: bytes | None = None

    def may_wait(self) -> None:
        """Said by a handler of a `prompt` route where it is about to wait (for the database, say), before it records
        anything: it is called again on a thread where it may."""
        if self.prompt:
            raise MustWait

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
        if self._body is None:
            self._body = self._read(limit)
        return self._body

    def _read(self, limit: int) -> bytes:
        environ = self.environ
        stated = environ.get("CONTENT_LENGTH")
        if not stated:
            if not environ.get("wsgi.input_terminated") and not environ.get("HTTP_TRANSFER_ENCODING"):
                return b""
            data = read_input(environ, limit + 1)
            if len(data) > limit:
                raise Invalid("The request is too large.", code="too_large")
            return data
        if not (stated.isascii() and stated.isdigit()):
            raise Invalid("The Content-Length header is not a number.", code="invalid_request")
        if len(stated) > 15 or (length := int(stated)) > limit:
            raise Invalid("The request is too large.", code="too_large")
        data = read_input(environ, length)
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
    # No more brackets than levels are no more levels either.
    many = data.count(b"{") + data.count(b"[") > JSON_DEPTH_MAX
    if many and not _is_shallow(data) and _deeper_than(value, JSON_DEPTH_MAX):
        raise Invalid("The JSON is nested too deeply.", code="invalid_json")
    if b"\\u0000" in data:
        raise Invalid("The JSON has a NUL character.", code="invalid_json")
    return value


@cache
def _key(name: str) -> str:
    """A header's name in the environ; asked only for names that stand in our code."""
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def read_input(environ: Mapping[str, Any], length: int) -> bytes:
    """`length` bytes of the content, or all there are: a WSGI `read` may return fewer than it was asked for."""
    source = environ["wsgi.input"]
    data: bytes = source.read(length)
    while (missing := length - len(data)) > 0 and (part := source.read(missing)):
        data += part
    return data


def _is_shallow(data: bytes) -> bool:
    """Whether the text is seen to have few levels without walking through it: by its brackets alone, of which each turn
    takes the innermost away. Those in strings may hide it."""
    brackets = data.translate(None, _NO_BRACKETS)
    for _ in range(JSON_DEPTH_MAX):
        if not brackets:
            return True
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return not brackets


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
    """An endpoint in front of Flask. `guard` says what protects it: `public: reason` or the credentials it takes.

    `prompt` = its handler waits for nothing but its `pending` records, or says so first (`HotCall.may_wait`).
    """

    path: str
    methods: tuple[str, ...]
    handle: Callable[[HotCall], HotResponse]
    guard: str
    cors: bool = False
    prompt: bool = False


def is_address(text: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def inside(text: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether the text is an address of one of these networks."""
    return is_address(text) and any(ip_address(text) in network for network in networks)


def parse_uuid(text: str) -> UUID | None:
    """The id, or None when it is none; used for ids that a client sends."""
    try:
        return UUID(text)
    except (ValueError, AttributeError):
        return None
