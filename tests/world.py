"""One Tessera under test, spoken to through its WSGI application as a client would."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import orjson
from sqlalchemy import select
from werkzeug.test import Client, TestResponse

from identity.access.decide import Access
from identity.access.snapshot import Snapshot
from identity.app import create_app
from identity.audit.models import AuditRecord
from identity.audit.recorder import Recorder
from identity.configuration.apply import apply
from identity.configuration.document import Document
from identity.core import migrate
from identity.core.db import Database
from identity.core.errors import TesseraError
from identity.core.feed import Feed
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Unit, Units
from identity.keys.keyring import ensure_keys
from identity.login.authenticate import DirectoryVerifier, set_password
from identity.people.inputs import GroupInput, NewUser, Profile
from identity.people.models import User
from identity.people.service import create_user
from identity.people.service_groups import change_members, put_group
from tests.payloads import misfits

PASSWORD = "correct horse battery"
CALLBACK = "https://app.example/cb"
API = "https://api.example/"

GROUPS = ("staff", "leads")
COMPANY: dict[str, Any] = {
    "applications": [
        {
            "code": "expense",
            "name": "报销",
            "name_en": "Expenses",
            "credential": "env:TEST_SECRET",
            "released_claims": ["preferred_username", "name", "roles"],
            "oidc": [
                {
                    "client_id": "expense",
                    "secret": "env:TEST_SECRET",
                    "redirect_uris": [CALLBACK],
                    "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
                    "scopes": ["openid", "profile", "roles", "vouchers"],
                    "resources": [API],
                }
            ],
            "apis": [{"identifier": API, "scopes": ["vouchers"]}],
            "cas": [{"url": "https://app.example/cas"}],
        }
    ],
    "roles": [
        {"application": "expense", "name": "employee", "title": "Employee"},
        {"application": "expense", "name": "approver", "title": "Approver"},
    ],
    "permissions": [
        {"role": "expense:employee", "type": "application", "pattern": "expense", "actions": ["sso"]},
        {"role": "expense:employee", "type": "claim", "actions": ["submit", "read"]},
        {"role": "expense:approver", "type": "claim", "actions": ["approve"]},
    ],
    "mappings": [
        {"group": "staff", "role": "expense:employee"},
        {"group": "leads", "role": "expense:approver", "limit": {"value": "5000.00", "currency": "CNY"}},
    ],
    "duties": [
        {
            "id": "P01",
            "kind": "object",
            "title": "submitter ≠ approver",
            "definition": {"application": "expense", "type": "claim", "actions": ["submit", "approve"]},
        }
    ],
}


class World:
    """Tessera with two groups (`staff`, `leads`) and one application; `ahead` moves the time of its requests."""

    def __init__(
        self,
        database_url: str,
        folder: Path,
        company: Mapping[str, Any] = COMPANY,
        groups: tuple[str, ...] = GROUPS,
        *,
        configured: bool = False,
        **settings: Any,
    ) -> None:
        """`configured`: the database has the company and the groups already."""
        make = getattr(database_url, "make", None)  # an address that was only reserved
        if make is not None:
            make()
        self.settings = Settings.model_validate(
            {
                "tessera_demo": True,
                "tessera_var": folder / "var",
                "database_url": database_url,
                "failed_login_min_ms": 0,
                "log_level": "ERROR",
                **settings,
            }
        )
        self.ahead = timedelta()
        self.has_made_up_records = False
        self.app = create_app(self.settings, self._now)
        self.things: dict[type, Any] = self.app.extensions["tessera"]
        self.database: Database = self.things[Database]
        self.units: Units = self.things[Units]
        self.secret = "test-secret"
        (folder / "secret").write_text(self.secret)
        if not configured:
            self._configure(folder, company, groups)

    def _configure(self, folder: Path, company: Mapping[str, Any], groups: tuple[str, ...]) -> None:
        if not migrate.is_current(self.database.engine):
            migrate.upgrade(self.database.engine)
        document = Document.model_validate(with_files(dict(company)))
        with self.unit() as unit:
            ensure_keys(unit, self.app.extensions["tessera_root"])
        with self.unit() as unit:
            apply(unit, document, folder, set_password)
        with self.unit() as unit:
            for name in groups:
                put_group(unit, GroupInput(name=name, display_name=name))

    def close(self) -> None:
        """Stop everything; raises when a record that was made is not as its kind declares."""
        wrong: list[str] = []
        with suppress(TesseraError):  # without a database there is nothing to compare
            try:
                wrong = [] if self.has_made_up_records else misfits(World.records(self))
            finally:
                self._stop()
        assert not wrong, wrong[:5]

    def _stop(self) -> None:
        self.things[DirectoryVerifier].close()
        feed: Feed = self.things[Feed]
        feed.stop()
        recorder: Recorder = self.things[Recorder]
        recorder.stop()
        self.database.engine.dispose()

    def _now(self) -> datetime:
        """When a request comes. Its caches are true then, also where a busy machine lets their poller wait."""
        with suppress(TesseraError):
            self.things[Feed].catch_up()
        return datetime.now(UTC) + self.ahead

    def unit(self) -> Any:
        """A Unit of the test's own."""
        return self.units.open(Actor.system("test"), now=datetime.now(UTC) + self.ahead)

    def fresh(self) -> Snapshot:
        """The snapshot, true now also where a busy machine lets its poller wait."""
        self.things[Feed].follow()
        access: Access = self.things[Access]
        return access.snapshot()

    @contextmanager
    def later(self, **by: float) -> Iterator[None]:
        """Inside, requests come this much later (arguments of `timedelta`)."""
        before, self.ahead = self.ahead, self.ahead + timedelta(**by)
        try:
            yield
        finally:
            self.ahead = before

    def person(self, login: str, *groups: str) -> UUID:
        """A new person who signs in with `PASSWORD`."""
        with self.unit() as unit:
            user = create_user(unit, NewUser(login=login, profile=Profile(name=login.title())))
            set_password(unit, user, PASSWORD)
            user_id: UUID = user.id
        self.join(user_id, *groups)
        return user_id

    def join(self, user_id: UUID, *groups: str) -> None:
        with self.unit() as unit:
            for name in groups:
                group = put_group(unit, GroupInput(name=name, display_name=name))
                change_members(unit, group.id, add=[user_id])

    def sub(self, user_id: UUID) -> str:
        with self.unit() as unit:
            user = _unit(unit).db.get(User, user_id)
            assert user is not None
            return str(user.sub)

    def records(self) -> list[dict[str, Any]]:
        """The bodies of all audit records, in the order in which they were made."""
        with self.database.read() as connection:
            bodies = connection.execute(select(AuditRecord.body).order_by(AuditRecord.id)).scalars().all()
        return [orjson.loads(bytes(body)) for body in bodies]

    def browser(self) -> Browser:
        return Browser(_Client(self, use_cookies=True), self.settings.public_url)

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        """One request without cookies."""
        return _Client(self, use_cookies=False).open(path, method=method, **options)

    def decide(self, user_id: UUID, action: str, resource: str, intent: str = "ask", **properties: Any) -> Any:
        body = {
            "subject": {"type": "user", "id": self.sub(user_id)},
            "action": {"name": action},
            "resource": {"type": "claim", "id": resource, "properties": properties},
            "context": {"intent": intent},
        }
        answer = self.call("POST", "/access/v1/evaluation", json=body, auth=("expense", self.secret))
        assert answer.status_code == 200, answer.text
        return answer.json

    def token(self, **form: str) -> TestResponse:
        return self.call("POST", "/oauth/token", data=form, auth=("expense", self.secret))


class _Client(Client):
    """Asks once more when the caches could not be confirmed in time, as any client does: on a machine that runs the
    suite beside other work, the feed's thread may wait for more than its second."""

    def __init__(self, world: World, *, use_cookies: bool) -> None:
        super().__init__(world.app.extensions["tessera_edge"], use_cookies=use_cookies)
        self._feed: Feed = world.things[Feed]

    def open(self, *args: Any, **options: Any) -> TestResponse:
        answer = super().open(*args, **options)
        if answer.status_code == 503:
            self._feed.follow()
            answer = super().open(*args, **options)
        return answer


class Browser:
    """A browser that follows our own redirects."""

    def __init__(self, client: Client, base: str) -> None:
        self.client = client
        self.base = base

    def go(self, path: str) -> TestResponse:
        return self.client.get(path, base_url=self.base, follow_redirects=False)

    def follow(self, answer: TestResponse) -> TestResponse:
        while answer.status_code in {302, 303} and answer.headers["Location"].startswith("/"):
            answer = self.go(answer.headers["Location"])
        return answer

    def sign_in(self, login: str, password: str = PASSWORD, start: str = "/") -> TestResponse:
        page = self.follow(self.go(start))
        form = dict(re.findall(r'<input type="hidden" name="(csrf_token|tx)" value="([^"]*)"', page.text))
        data = {name: unescape(value) for name, value in form.items()} | {"login": login, "password": password}
        return self.follow(self.client.post("/login", data=data, base_url=self.base))

    def authorize(self, scope: str = "openid roles", **extra: str) -> tuple[dict[str, str], str]:
        """Ask for a code; the fields that came back and the PKCE verifier."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": "expense",
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": scope,
            "state": "s",
            "nonce": "n",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **extra,
        }
        answer = self.follow(self.go(f"/oauth/authorize?{urlencode(query)}"))
        back = parse_qs(urlsplit(answer.headers.get("Location", "")).query)
        return {name: values[0] for name, values in back.items()}, verifier


def _unit(unit: Unit) -> Unit:
    return unit


def with_files(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: with_files(one) for name, one in value.items()}
    if isinstance(value, list):
        return [with_files(one) for one in value]
    return "file:secret" if value == "env:TEST_SECRET" else value
