"""The Flask glue: what a route may use, who protects it, cookies, forms, Units of a request, error pages."""

from __future__ import annotations

import hashlib
import logging
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote, urlsplit

from flask import Flask, Response, current_app, g, make_response, redirect, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from identity.core.errors import (
    Conflict,
    Invalid,
    NotFound,
    Refused,
    Stale,
    TesseraError,
    Unavailable,
)
from identity.core.i18n import gettext_noop as _
from identity.core.record import ANONYMOUS, Actor, Origin
from identity.core.secrets import equal, new_secret
from identity.core.settings import Settings
from identity.core.unit import Unit, Units

_log = logging.getLogger(__name__)

FIELDS_MAX = 1_000
_NEVER_IN_ADDRESSES = frozenset({"access_token", "client_assertion", "client_secret", "password", "refresh_token"})

HEADINGS: Mapping[int, str] = {
    400: _("This does not work"),
    403: _("This is not allowed"),
    404: _("This is not here"),
    409: _("This does not fit any more"),
    413: _("This is too large"),
    500: _("Something went wrong"),
    503: _("Not available just now"),
}

T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])

STATUS: Mapping[type[TesseraError], int] = {
    Invalid: 400,
    NotFound: 404,
    Conflict: 409,
    Refused: 403,
    Stale: 409,
    Unavailable: 503,
}


def provide(app: Flask, thing: object, *, as_type: type | None = None) -> None:
    """Make `thing` available to routes under its class (or the port that it implements)."""
    app.extensions.setdefault("tessera", {})[as_type or type(thing)] = thing


def use(kind: type[T]) -> T:
    """What `app.py` provided under this class."""
    return cast(T, current_app.extensions["tessera"][kind])


@dataclass(frozen=True, slots=True)
class Protection:
    """How a route is protected: `public` with its reason, `signed_in`, or a console permission."""

    kind: str
    reason: str = ""
    action: str = ""
    resource_type: str = ""
    csrf: bool = True
    fresh: bool = False


def _mark(protection: Protection) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        view.protection = protection  # type: ignore[attr-defined]
        return view

    return decorate


def public(reason: str, *, csrf: bool = True) -> Callable[[View], View]:
    """Anybody may call this route. `csrf=False` only for protocol endpoints that never read the session."""
    return _mark(Protection("public", reason, csrf=csrf))


def signed_in(*, fresh: bool = False) -> Callable[[View], View]:
    """The route needs an SSO session; `fresh` asks for a sign-in of at most five minutes ago."""
    return _mark(Protection("signed_in", fresh=fresh))


def permission(action: str, resource_type: str, *, fresh: bool = False) -> Callable[[View], View]:
    """The route needs an administration session that may do `action` on `resource_type` of the console.

    `fresh` asks for a sign-in of at most five minutes ago.
    """
    return _mark(Protection("permission", action=action, resource_type=resource_type, fresh=fresh))


class Gate(Protocol):
    """Port to login: let the request through (None) or answer in its place (to the login page, refusal)."""

    def __call__(self, protection: Protection) -> BaseResponse | None: ...


def cookie_name(name: str) -> str:
    """`__Host-name` over TLS; a name of its own in the demo, where plain http cannot carry that prefix."""
    return f"__Host-{name}" if use(Settings).secure else f"tessera_demo_{name}"


def set_cookie(response: BaseResponse, name: str, value: str, max_age_s: int | None = None) -> None:
    response.set_cookie(
        cookie_name(name),
        value,
        max_age=max_age_s,
        secure=use(Settings).secure,
        httponly=True,
        samesite="Lax",
        path="/",
    )


def delete_cookie(response: BaseResponse, name: str) -> None:
    response.delete_cookie(
        cookie_name(name),
        path="/",
        secure=use(Settings).secure,
        httponly=True,
        samesite="Lax",
    )


def read_cookie(name: str) -> str:
    """The cookie's value, or an empty string for none or an oversized one."""
    value = request.cookies.get(cookie_name(name), "")
    return value if len(value) <= 256 else ""


def csrf_token() -> str:
    """The token that a form of this browser and session must carry.

    It is a digest of HttpOnly cookies, so nobody who cannot read them can make it, and it dies with the session.
    """
    if not g.get("form_cookie"):
        g.form_cookie = read_cookie("form") or new_secret("form")
        g.form_cookie_new = not read_cookie("form")
    return _form_token(read_cookie("sid"), read_cookie("admin"))


def _form_token(sid: str, admin: str) -> str:
    bound = "\0".join(("csrf", g.get("form_cookie") or read_cookie("form"), sid, admin))
    return urlsafe_b64encode(hashlib.sha256(bound.encode()).digest()).decode()


def check_csrf(*, before_sign_in: bool = False) -> None:
    """Raise `Refused` unless a state-changing request came from a page of ours for this session.

    `before_sign_in` also takes the token of this browser without a session: a login page that waits in one tab while
    the person signs in in another.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {
        "same-origin",
        "none",
    }:
        raise Refused("This request came from another site.", code="csrf")
    origin = request.headers.get("Origin")
    allowed = {
        _origin_of(use(Settings).public_url),
        _origin_of(use(Settings).admin_url or ""),
    }
    if origin is not None and origin != "null" and origin not in allowed:
        raise Refused("This request came from another site.", code="csrf")
    sent = request.form.get("csrf_token") or request.headers.get("X-CSRF-Token", "")
    good = equal(sent, csrf_token()) or (before_sign_in and equal(sent, _form_token("", "")))
    if not read_cookie("form") or not good:
        raise Refused("This form has expired. Please load the page again.", code="csrf")


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def request_origin() -> Origin:
    return cast(Origin, request.environ.get("tessera.origin", Origin(request.remote_addr or "")))


def request_id() -> str:
    return str(request.environ.get("tessera.request_id", ""))


def request_now() -> datetime:
    """This request's time, taken once."""
    if "now" not in g:
        g.now = request.environ.get("tessera.now") or datetime.now(UTC)
    return cast(datetime, g.now)


def current_actor() -> Actor:
    """Who the gate found behind this request."""
    return cast(Actor, g.get("actor", ANONYMOUS))


def open_unit(
    *,
    write: bool = True,
    actor: Actor | None = None,
    reason: str | None = None,
    reference: str | None = None,
) -> AbstractContextManager[Unit]:
    """A Unit of this request."""
    return use(Units).open(
        actor or current_actor(),
        write=write,
        now=request_now(),
        request_id=request_id(),
        origin=request_origin(),
        reason=reason,
        reference=reference,
    )


def redirect_to(address: str) -> BaseResponse:
    """303: the next request is a GET, whatever this one was (RFC 9700 §4.12: never 307)."""
    return redirect(address, code=303)


def csv_response(content: str, name: str) -> BaseResponse:
    """A CSV file to be saved as `name`.csv."""
    response = make_response(content.encode())
    response.headers["Content-Type"] = "text/csv; charset=utf-8"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def local_path(value: str | None, default: str = "/") -> str:
    """`value` if it is a plain path on this server, else `default` (attack cases RL-01, RL-02)."""
    if not value or not value.startswith("/") or value.startswith(("//", "/\\")) or len(value) > 2_048:
        return default
    if any(ord(c) < 0x21 or c in "\\\x7f" for c in value):
        return default
    parts = urlsplit(value)
    return default if parts.scheme or parts.netloc or "//" in parts.path or "/.." in parts.path else value


def heading(status: int) -> str:
    """The title of an error page, as a message id."""
    return HEADINGS.get(status, HEADINGS[400])


def this_page() -> str:
    """The address of the page that is being read, ready for a link; empty when it could lead elsewhere.

    What never belongs into an address (RFC 6749 §2.3.1, RFC 9700 §4.3.2) is left out: it is not said again.
    """
    parts = request.query_string.decode("latin-1").split("&")
    query = "&".join(part for part in parts if part.partition("=")[0] not in _NEVER_IN_ADDRESSES)
    return local_path(quote(request.path) + (f"?{query}" if query else ""), "")


def way_back() -> str:
    """The page of the form that was sent, as the form names it; empty when it names none or is too large to read."""
    try:
        return local_path(request.form.get("back"), "") if request.method == "POST" else ""
    except RequestEntityTooLarge:
        return ""


def page_policy(response: BaseResponse, form_targets: tuple[str, ...] = (), *, any_https: bool = False) -> None:
    """Let this page's form end at these origins: browsers apply form-action to the redirects that follow a POST."""
    origins = {*filter(None, map(_origin_of, form_targets)), *(("https:",) if any_https else ())}
    targets = " ".join(("'self'", *sorted(origins)))
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self'; form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
    )


def _check_characters() -> None:
    """Raise `Invalid` for what no page of ours sends: a thousand fields, or a NUL, which PostgreSQL does not take."""
    request.get_data()  # kept, so that a view can still read the body as it came
    fields = [*request.args.items(multi=True), *request.form.items(multi=True)]
    if len(fields) > FIELDS_MAX or "\0" in request.path or any("\0" in text for field in fields for text in field):
        raise Invalid("The request is not valid.", "too many fields or a NUL", code="invalid_request")


def install(app: Flask, error_page: Callable[[TesseraError, int], str]) -> None:
    """Hook the gate, form protection, page headers and error pages into the Flask app."""

    @app.before_request
    def protect() -> BaseResponse | None:
        if request.endpoint is None:
            return None
        _check_characters()
        view = app.view_functions[request.endpoint]
        protection: Protection | None = getattr(view, "protection", None)
        if request.endpoint == "static" or protection is None:
            protection = Protection("public", "static file") if request.endpoint == "static" else None
        if protection is None:
            raise Refused("This page is not open.", f"{request.endpoint} declares no protection")
        answer = use(Gate)(protection)  # type: ignore[type-abstract]
        if answer is None and protection.csrf and request.method not in {"GET", "HEAD", "OPTIONS"}:
            check_csrf(before_sign_in=protection.kind == "public")
        return answer

    @app.after_request
    def finish(response: Response) -> Response:
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "no-store")
            response.headers.add("Vary", "Cookie, Accept-Language")
        if g.get("form_cookie_new"):
            set_cookie(response, "form", g.form_cookie)
        return response

    def show(error: TesseraError) -> BaseResponse:
        status = STATUS.get(type(error), 400)
        response = make_response(error_page(error, status), status)
        if isinstance(error, Unavailable):
            _log.warning("%s %s: %s", request_id(), request.path, error)
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    app.register_error_handler(TesseraError, show)
    app.register_error_handler(404, lambda _error: show(NotFound("There is no such page.")))
    app.register_error_handler(405, lambda _error: (error_page(Invalid("This page does not take that."), 405), 405))
    app.register_error_handler(413, lambda _error: (error_page(Invalid("The request is too large."), 413), 413))
    app.register_error_handler(400, lambda _error: show(Invalid("The request is not valid.")))
    app.register_error_handler(
        500,
        lambda _error: (
            error_page(
                Unavailable("Something went wrong on our side. It has been logged."),
                500,
            ),
            500,
        ),
    )
