"""Who calls: the one place where applications, OAuth clients and resource servers prove themselves."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from identity.apps.registry import Api, App, Apps, Client
from identity.core.errors import Invalid, Refused
from identity.core.record import Actor
from identity.core.secrets import digest, equal

_NOBODY = b"\0" * 32
PROVED_MAX = 1_000


class InvalidClient(Refused):
    """The caller is unknown, disabled, or did not prove itself. `basic` tells whether it tried HTTP Basic."""

    def __init__(self, detail: str, *, basic: bool = True) -> None:
        super().__init__("Client authentication failed.", detail, code="invalid_client")
        self.basic = basic


def application(apps: Apps, authorization: str) -> App:
    """The application behind HTTP Basic (application code, secret); raises `InvalidClient`."""
    sent = digest(authorization)
    proved = apps.proved.get(sent)
    if proved is not None:
        return proved
    app = _prove(apps, authorization)
    # The same credentials can be written in many ways.
    if len(apps.proved) < PROVED_MAX:
        apps.proved[sent] = app
    return app


def _prove(apps: Apps, authorization: str) -> App:
    credentials = _basic(authorization)
    if credentials is None:
        raise InvalidClient("no HTTP Basic credentials")
    code, secret = credentials
    app = apps.application(code)
    hashed = digest(secret)
    known = [equal(hashed, one) for one in (app.secret_hashes if app else ())] or [equal(hashed, _NOBODY)]
    if app is None or not any(known):
        raise InvalidClient(f"application {code[:64]!r} did not prove itself")
    if not app.active:
        raise InvalidClient(f"application {code!r} is disabled")
    return app


def client(apps: Apps, authorization: str, form: Mapping[str, str]) -> Client:
    """The OAuth client of this request, by exactly the method that it registered (RFC 6749 §2.3).

    Raises `InvalidClient`, and `Invalid` (code `invalid_request`) when two methods are used at once.
    """
    credentials = _basic(authorization) if authorization else None
    if authorization and credentials is None:
        raise InvalidClient("unusable Authorization header")
    if "client_assertion" in form or "client_assertion_type" in form:
        raise InvalidClient("client assertions are not registered here")
    if credentials is not None:
        # RFC 6749 §2.3: "The client MUST NOT use more than one authentication method in each request."
        if "client_secret" in form or form.get("client_id", credentials[0]) != credentials[0]:
            raise Invalid(
                "More than one way of client authentication was used.",
                code="invalid_request",
            )
        method, (client_id, secret) = "client_secret_basic", credentials
    else:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        method = "client_secret_post" if "client_secret" in form else "none"
    found = apps.client(client_id)
    hashed = digest(secret)
    proved = equal(hashed, (found.secret_hash if found else None) or _NOBODY)
    if found is None or not found.app.active:
        raise InvalidClient(
            f"client {client_id[:64]!r} is unknown or disabled",
            basic=credentials is not None,
        )
    if found.auth_method != method or not (found.public or proved):
        raise InvalidClient(
            f"client {client_id!r} did not prove itself by {method}",
            basic=credentials is not None,
        )
    return found


def api(apps: Apps, authorization: str) -> tuple[App, tuple[Api, ...]]:
    """The resource servers that the caller may ask about: by the API's own identifier and secret, or all of an
    application's by its credentials (RFC 7662 §2.1). Raises `InvalidClient`."""
    credentials = _basic(authorization)
    if credentials is None:
        raise InvalidClient("no HTTP Basic credentials")
    identifier, secret = credentials
    found = apps.resource_server(identifier)
    if found is not None:
        if not equal(digest(secret), found.secret_hash or _NOBODY) or not found.app.active:
            raise InvalidClient(f"resource server {identifier!r} did not prove itself")
        return found.app, (found,)
    app = application(apps, authorization)
    return app, apps.apis_of(app.id)


def as_actor(app: App) -> Actor:
    """The application as the actor of a call."""
    return Actor("application", app.code, app.name)


def _basic(authorization: str) -> tuple[str, str] | None:
    """User name and password of an HTTP Basic header, both form-urldecoded (RFC 6749 §2.3.1), or None."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic" or len(value) > 4_096:
        return None
    try:
        name, separator, secret = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (unquote_plus(name), unquote_plus(secret)) if separator else None
