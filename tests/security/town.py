"""One Tessera for many attacks: an application with every protocol face, and a second one beside it."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from uuid import UUID

import orjson
from sqlalchemy import select
from werkzeug.test import TestResponse

from identity.access.decide import Access
from identity.access.snapshot import Snapshot
from identity.audit.models import AuditRecord
from tests.world import COMPANY, PASSWORD, Browser, World

BASE = "http://localhost:8000"
DESK = "https://desk.example"
BACK = f"{DESK}/cb"
BYE = f"{DESK}/bye"
SP = f"{DESK}/saml"
CAS = f"{DESK}/cas"
DESK_API = f"{DESK}/api"
SHOP_API = "https://shop.example/api"

_CODE = ["authorization_code", "refresh_token"]
_SCOPES = ["openid", "profile", "email", "phone", "roles", "org", "offline_access", "desk.read", "shop.read"]
_DESK = {"redirect_uris": [BACK, f"{DESK}/query?x=1"], "scopes": _SCOPES, "resources": [DESK_API, SHOP_API]}
_KNOWN = ["preferred_username", "name", "email", "email_verified", "phone_number", "employee_number", "roles"]

TOWN: dict[str, Any] = {
    **COMPANY,
    "applications": [
        *COMPANY["applications"],
        {
            "code": "desk",
            "name": "服务台",
            "name_en": "Desk",
            "credential": "env:TEST_SECRET",
            "released_claims": _KNOWN,
            "oidc": [
                {
                    "client_id": "desk",
                    "secret": "env:TEST_SECRET",
                    "grant_types": [*_CODE, "client_credentials"],
                    "post_logout_redirect_uris": [BYE],
                    "options": {"offline_without_consent": True},
                    **_DESK,
                },
                {
                    "client_id": "desk-post",
                    "secret": "env:TEST_SECRET",
                    "auth_method": "client_secret_post",
                    "grant_types": _CODE,
                    **_DESK,
                },
                {
                    "client_id": "desk-asking",
                    "secret": "env:TEST_SECRET",
                    "grant_types": _CODE,
                    "options": {"require_consent": True},
                    **_DESK,
                },
                {
                    "client_id": "desk-native",
                    "auth_method": "none",
                    "grant_types": _CODE,
                    "scopes": _SCOPES,
                    "redirect_uris": ["http://127.0.0.1/cb", "http://[::1]/cb", "com.example.desk:/cb", BACK],
                },
                {
                    "client_id": "desk-service",
                    "secret": "env:TEST_SECRET",
                    "grant_types": ["client_credentials"],
                    "scopes": ["desk.read"],
                    "resources": [DESK_API],
                },
            ],
            "saml": [{"entity_id": SP, "acs": [{"url": f"{SP}/acs"}], "options": {"idp_initiated": True}}],
            "cas": [{"url": CAS, "ticket_ttl_s": 300}],
            "apis": [{"identifier": DESK_API, "scopes": ["desk.read"], "secret": "env:TEST_SECRET"}],
        },
        {
            "code": "shop",
            "name": "商城",
            "name_en": "Shop",
            "credential": "env:TEST_SECRET",
            "released_claims": ["name"],
            "oidc": [
                {
                    "client_id": "shop",
                    "secret": "env:TEST_SECRET",
                    "grant_types": [*_CODE, "client_credentials"],
                    "redirect_uris": ["https://shop.example/cb"],
                    "post_logout_redirect_uris": ["https://shop.example/bye"],
                    "scopes": ["openid", "profile", "shop.read"],
                    "resources": [SHOP_API],
                }
            ],
            "apis": [{"identifier": SHOP_API, "scopes": ["shop.read"], "secret": "env:TEST_SECRET"}],
        },
    ],
    "roles": [
        *COMPANY["roles"],
        {"application": "desk", "name": "clerk", "title": "Clerk"},
        {"application": "shop", "name": "buyer", "title": "Buyer"},
    ],
    "permissions": [
        *COMPANY["permissions"],
        {"role": "desk:clerk", "type": "application", "pattern": "desk", "actions": ["sso"]},
        {"role": "desk:clerk", "type": "ticket", "actions": ["read"]},
        {"role": "shop:buyer", "type": "application", "pattern": "shop", "actions": ["sso"]},
    ],
    "mappings": [
        *COMPANY["mappings"],
        {"group": "staff", "role": "desk:clerk"},
        {"group": "staff", "role": "shop:buyer"},
    ],
}


class Town(World):
    """A `World` that many tests share: each makes its own people."""

    def someone(self, *groups: str) -> tuple[str, UUID]:
        """A new person's login and id, in `staff` unless said otherwise."""
        login = f"p{secrets.token_hex(5)}"
        return login, self.person(login, *(groups or ("staff",)))

    def signed_in(self, *groups: str) -> tuple[Browser, UUID]:
        """The browser of a new person who has signed in."""
        login, user_id = self.someone(*groups)
        browser = self.browser()
        assert browser.sign_in(login).status_code == 200
        return browser, user_id

    def ask(self, browser: Browser, client_id: str = "desk", **changed: str | None) -> TestResponse:
        """An authorization request, followed as far as our own pages go; None leaves a parameter out."""
        query = {
            "client_id": client_id,
            "response_type": "code",
            "redirect_uri": BACK,
            "scope": "openid",
            "state": "s-1",
            "nonce": "n-1",
            "code_challenge": challenge(VERIFIER),
            "code_challenge_method": "S256",
            **changed,
        }
        sent = {name: value for name, value in query.items() if value is not None}
        return browser.follow(browser.go(f"/oauth/authorize?{urlencode(sent)}"))

    def code(self, browser: Browser, client_id: str = "desk", **changed: str | None) -> str:
        return fields(self.ask(browser, client_id, **changed))["code"]

    def redeem(self, code: str, client_id: str = "desk", **changed: str | None) -> TestResponse:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "code_verifier": VERIFIER,
            **changed,
        }
        return self.as_client(client_id, **form)

    def as_client(self, client_id: str = "desk", **form: str | None) -> TestResponse:
        """A token request of this client by HTTP Basic, of a native one by its id."""
        sent = {name: value for name, value in form.items() if value is not None}
        if client_id.endswith("-native"):
            return self.call("POST", "/oauth/token", data={"client_id": client_id, **sent})
        return self.call("POST", "/oauth/token", data=sent, auth=(client_id, self.secret))

    def tokens(self, browser: Browser, client_id: str = "desk", **changed: str | None) -> dict[str, Any]:
        """The token answer of a whole code flow."""
        answer = self.redeem(self.code(browser, client_id, **changed), client_id)
        assert answer.status_code == 200, answer.text
        return answer.json or {}

    def refresh(self, token: str, client_id: str = "desk", **more: str) -> TestResponse:
        return self.as_client(client_id, grant_type="refresh_token", refresh_token=token, **more)

    def userinfo(self, token: str) -> TestResponse:
        return self.call("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {token}"})

    def introspect(self, token: str, api: str = DESK_API) -> dict[str, Any]:
        answer = self.call("POST", "/oauth/introspect", data={"token": token}, auth=(quote(api, safe=""), self.secret))
        assert answer.status_code == 200, answer.text
        return answer.json or {}

    def snapshot(self) -> Snapshot:
        found: Snapshot = self.things[Access].snapshot()
        return found

    def records(self, kind: str, **having: Any) -> list[dict[str, Any]]:
        """The audit records of this kind that have these members."""
        with self.database.read() as connection:
            bodies = connection.execute(select(AuditRecord.body).order_by(AuditRecord.id)).scalars().all()
        found = [orjson.loads(bytes(body)) for body in bodies]
        return [one for one in found if one["kind"] == kind and having.items() <= one.items()]


VERIFIER = "a-verifier-of-the-tests-0123456789-0123456789-abc"


def challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def fields(answer: TestResponse) -> dict[str, str]:
    """What came back to the client in the redirect."""
    assert answer.status_code in {302, 303}, (answer.status_code, answer.text[:500])
    query = parse_qs(urlsplit(answer.headers["Location"]).query, keep_blank_values=True)
    return {name: values[0] for name, values in query.items()}


def form_of(page: TestResponse) -> dict[str, str]:
    """The hidden fields of a page's first form with a token."""
    found = re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', page.text)
    return {name: unescape(value) for name, value in found}


def submit(browser: Browser, path: str, page: TestResponse, **values: str) -> TestResponse:
    """Send the page's form with these values, and follow our own redirects."""
    return browser.follow(browser.client.post(path, data={**form_of(page), **values}, base_url=browser.base))


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, not verified."""
    part = token.split(".")[1]
    found: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


__all__ = ["PASSWORD"]


def error(answer: TestResponse) -> tuple[int, str]:
    """Status and code of an OAuth error."""
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.content_type == "application/json"
    return answer.status_code, (answer.json or {})["error"]
