"""Where an application takes its policy along: as a signed bundle, as Casbin's model and policy, as Shiro's strings."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from identity.access import distribution
from identity.access.decide import Access
from identity.access.snapshot import Snapshot
from identity.apps.registry import App, Registry
from identity.audit.kinds import Kind
from identity.audit.recorder import Recorder
from identity.authzen.caller import Callers
from identity.authzen.edge import EdgeDoor
from identity.core.db import Database
from identity.core.errors import Refused, Unavailable
from identity.core.hot import HotCall, HotResponse, HotRoute
from identity.core.jose import sign_bytes
from identity.core.record import Record
from identity.keys.keyring import Keyring

RIGHT = "bundle"
GUARD = "application credentials (HTTP Basic) with the right bundle"
PURPOSE, ALGORITHM = "bundle-sign", "ES256"
# A minute from the change to its effect: the snapshot may be a second old when the bundle is made of it.
LIFETIME_S = 59
REFRESH_S = 20
KEYS_CACHE_S = 300
_CANONICAL = orjson.OPT_SORT_KEYS
# Making one walks everybody: two at a time in a process.
_places = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class _Made:
    """A form of one application's policy: its canonical bytes and their digest, made from these facts."""

    app: App
    policy_version: int
    facts_revision: int
    content: bytes
    digest: str
    subjects: int


def routes(
    public_url: str, keyring: Keyring, registry: Registry, access: Access, database: Database, recorder: Recorder
) -> list[HotRoute]:
    """`/access/v1/bundle`, `…/casbin`, `…/shiro` and the bundle's keys; `/access/v1/decisions` takes back what was
    decided with them."""
    callers = Callers(registry, database, recorder)
    door = _Door(public_url, keyring, callers, access, database, recorder)
    edge = EdgeDoor(callers, access, database, recorder)

    def keys(_: HotCall) -> HotResponse:
        return HotResponse.public_json(dict(keyring.public_keys(PURPOSE)), KEYS_CACHE_S)

    return [
        HotRoute("/access/v1/bundle", ("GET",), door.handler("bundle"), GUARD),
        HotRoute("/access/v1/bundle/casbin", ("GET",), door.handler("casbin"), GUARD),
        HotRoute("/access/v1/bundle/shiro", ("GET",), door.handler("shiro"), GUARD),
        HotRoute("/access/v1/bundle/jwks", ("GET",), keys, "public: public keys"),
        HotRoute("/access/v1/decisions", ("POST",), edge.report, "application credentials (HTTP Basic)"),
    ]


class _Door:
    def __init__(
        self,
        public_url: str,
        keyring: Keyring,
        callers: Callers,
        access: Access,
        database: Database,
        recorder: Recorder,
    ) -> None:
        self._issuer = public_url
        self._keyring = keyring
        self._callers = callers
        self._access = access
        self._database = database
        self._recorder = recorder
        self._made: dict[tuple[str, str], _Made] = {}

    def handler(self, form: str) -> Callable[[HotCall], HotResponse]:
        """GET of one form, answered 304 while the caller's copy (If-None-Match) is still the same."""
        return lambda call: self._callers.guarded(call, lambda call, app: self._answer(call, app, form))

    def _answer(self, call: HotCall, app: App, form: str) -> HotResponse:
        if RIGHT not in app.rights:
            self._record(call, Record(kind=Kind.BUNDLE_READ, result="refused", reason="no_right", application=app.code))
            raise Refused("This application may not take its policy along.", code="bundle_not_allowed")
        snapshot = self._access.snapshot()
        made = self._make(app, snapshot, form)
        same = _matches(call.header("If-None-Match"), made.digest)
        answer = self._signed(call, made, snapshot, same=same) if form == "bundle" else _plain(made, same=same)
        self._record(
            call,
            Record(
                kind=Kind.BUNDLE_READ,
                result="success",
                application=app.code,
                policy_version=snapshot.policy_version,
                facts_revision=snapshot.facts_revision,
                data={"form": form, "digest": made.digest, "subjects": made.subjects, "changed": not same},
            ),
        )
        return answer

    def _make(self, app: App, snapshot: Snapshot, form: str) -> _Made:
        """The form as of this snapshot. It is kept where the feed says of everything in it whether it changed, which
        it does not of the accounts by which an application may know people."""
        known = self._made.get((app.code, form))
        current = (snapshot.policy_version, snapshot.facts_revision)
        kept = known is not None and known.app == app and (known.policy_version, known.facts_revision) == current
        if known is not None and kept and app.subject_id_field == "sub":
            return known
        if not _places.acquire(timeout=1):
            raise Unavailable("The service is busy.", "bundles are being made", code="busy")
        try:
            with self._database.read() as connection:
                content = distribution.content(connection, snapshot, app, form)
        finally:
            _places.release()
        whole = {
            **content,
            "application": app.code,
            "policy_version": snapshot.policy_version,
            "subject_id_field": app.subject_id_field,
        }
        data = orjson.dumps(whole, option=_CANONICAL)
        people: Any = content.get("subjects", content.get("users", content.get("policy", ())))
        made = _Made(app, *current, data, hashlib.sha256(data).hexdigest(), len(people))
        self._made[app.code, form] = made
        return made

    def _signed(self, call: HotCall, made: _Made, snapshot: Snapshot, *, same: bool) -> HotResponse:
        """The bundle, or what prolongs the caller's: both are JWS that end a minute after the facts they rest on."""
        key = self._keyring.sign_key(PURPOSE, ALGORITHM)
        at = int(call.now.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": made.app.code,
            "iat": at,
            "exp": at + LIFETIME_S,
            "digest": made.digest,
            "facts_revision": snapshot.facts_revision,
        }
        # From a cache it would seem younger than it is.
        headers = (("ETag", f'W/"{made.digest}"'), ("Cache-Control", "private, no-cache"))
        if same:
            renewal = sign_bytes(key, orjson.dumps(claims, option=_CANONICAL), "bundle-renewal+jwt")
            return HotResponse(304, b"", (*headers, ("Bundle-Renewal", renewal)))
        payload = orjson.dumps({**orjson.loads(made.content), **claims}, option=_CANONICAL)
        body = sign_bytes(key, payload, "bundle+jwt").encode()
        return HotResponse(200, body, (("Content-Type", "application/jwt"), *headers))

    def _record(self, call: HotCall, record: Record) -> None:
        call.records.append(record)
        self._recorder.submit(call, call.records)


def _plain(made: _Made, *, same: bool) -> HotResponse:
    headers = (("ETag", f'"{made.digest}"'), ("Cache-Control", f"private, max-age={REFRESH_S}"))
    if same:
        return HotResponse(304, b"", headers)
    return HotResponse(200, made.content, (("Content-Type", "application/json"), *headers))


def _matches(sent: str, digest: str) -> bool:
    """Whether one of the caller's entity tags is ours, by the weak comparison (RFC 9110 §13.1.2)."""
    return any(one.strip().removeprefix("W/") in {f'"{digest}"', "*"} for one in sent.split(","))
