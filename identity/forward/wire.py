"""What a proxy says of a request, what a browser holds, and what the upstream is told."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from werkzeug.http import parse_cookie

from identity.apps.registry import App, Apps, Forward
from identity.core.addresses import has_one_reading
from identity.core.errors import Invalid
from identity.core.hot import HotCall
from identity.core.secrets import new_secret
from policies.patterns import is_canonical

CALLBACK = "/_tessera/callback"
STATE_S = 600
PATH_MAX = 2_048
# `/` as a resource; `/index` is the same one.
ROOT = "index"
_STATE = re.compile(r"fst_[A-Za-z0-9_-]{20,80}")
_PRINTABLE = "!#$&'()*+-./:;<=>?@[]^_`{|}~ "


@dataclass(frozen=True, slots=True)
class Target:
    """The request that the proxy asks about: its host, path as a resource id, method, and where it was to go."""

    host: Forward
    resource_id: str
    method: str
    return_to: str


def target(call: HotCall, apps: Apps, app: App) -> Target:
    """The request of the `X-Forwarded-…` headers, which only a proxy that proved itself may send.

    Raises `Invalid`: a host that is not this application's, or a path that two servers could read differently (FA-01).
    """
    said = {name: call.header(f"X-Forwarded-{name}") for name in ("Proto", "Host", "Uri", "Method")}
    host = apps.forwards.get(f"{said['Proto']}://{said['Host'].lower()}")
    if host is None or host.app.id != app.id:
        raise Invalid("This host is not registered for the application.", str(said), code="forward_host")
    return Target(host, resource_of(said["Uri"]), said["Method"].upper(), said["Uri"])


def resource_of(uri: str) -> str:
    """The path of a request as a resource id: decoded, without its first and last slash; raises `Invalid`."""
    if len(uri) > PATH_MAX or not uri.startswith("/") or not uri.isascii() or not has_one_reading(uri):
        raise Invalid("The address is not in its normal form.", uri[:512], code="resource_invalid")
    try:
        path = unquote(urlsplit(f"https://host{uri}").path, errors="strict")
    except UnicodeDecodeError:
        path = "//"
    found = path.strip("/") or ROOT
    if not is_canonical(found):
        raise Invalid("The address is not in its normal form.", uri[:512], code="resource_invalid")
    return found


def cookie_name(host: Forward, name: str) -> str:
    """`__Host-…` over TLS, which no other host can set or read (RFC 6265bis §4.1.3.2)."""
    return f"__Host-tessera-{name}" if host.origin.startswith("https:") else f"tessera-{name}"


def cookie(host: Forward, name: str, value: str, max_age_s: int | None) -> tuple[str, str]:
    """The header that sets (or with an age of 0 drops) a cookie of the proxied host."""
    parts = [f"{cookie_name(host, name)}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if host.origin.startswith("https:"):
        parts.append("Secure")
    if max_age_s is not None:
        parts.append(f"Max-Age={max_age_s}")
    return "Set-Cookie", "; ".join(parts)


def read_cookie(call: HotCall, host: Forward, name: str) -> str:
    """The cookie's value; empty for none, an oversized one, or one that stands there twice."""
    found = parse_cookie(call.header("Cookie")).getlist(cookie_name(host, name))
    return found[0] if len(found) == 1 and len(found[0]) <= 128 else ""


def state_of(call: HotCall, host: Forward) -> str:
    """The browser's state: that of a sign-in begun in another tab, or a new one."""
    known = read_cookie(call, host, "state")
    return known if _STATE.fullmatch(known) else new_secret("fst")


def state_hash(state: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(state.encode()).digest()).decode().rstrip("=")


def sign_in_address(public_url: str, asked: Target, state: str) -> str:
    """Where a browser without a session goes."""
    query = {"host": asked.host.origin, "path": asked.return_to, "state": state_hash(state)}
    return f"{public_url}/forward/start?{urlencode(query)}"


def wants_page(call: HotCall, asked: Target) -> bool:
    """Whether a person sits before this request and can be sent to sign in."""
    return asked.method == "GET" and call.header("Sec-Fetch-Mode") in {"", "navigate"}


def identity_headers(released: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The headers for the upstream: all of them, empty where nothing is known or released, so that a client's own copy
    is always replaced. What is not ASCII is percent-encoded UTF-8."""
    values = {
        "X-Auth-User": released.get("preferred_username") or released.get("sub") or "",
        "X-Auth-Subject": released.get("sub", ""),
        "X-Auth-Name": released.get("name", ""),
        "X-Auth-Email": released.get("email", ""),
    }
    roles = ",".join(quote(str(one), safe=_PRINTABLE) for one in released.get("roles", ()))
    return (
        *((name, quote(str(value), safe=f"{_PRINTABLE},")) for name, value in values.items()),
        ("X-Auth-Roles", roles),
    )
