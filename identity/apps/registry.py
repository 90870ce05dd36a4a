"""The application registry: what every door knows of its callers, in memory, fed by the change feed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection, select

from identity.apps.models import (
    AppCredential,
    Application,
    CasService,
    Face,
    ForwardHost,
    OidcClient,
    ResourceServer,
    SamlServiceProvider,
)
from identity.core.addresses import has_one_reading
from identity.core.db import Database
from identity.core.errors import Unavailable
from identity.core.feed import Feed
from policies.patterns import matches

SubjectIdField = Literal["sub", "account_id", "name_id", "pairwise_sub"]


@dataclass(frozen=True, slots=True)
class App:
    """An application as the doors see it."""

    id: UUID
    code: str
    name: str
    name_en: str
    description: str
    home_url: str | None
    status: str
    in_portal: bool
    subject_id_field: SubjectIdField
    recording: str
    released_claims: tuple[str, ...]
    claim_aliases: Mapping[str, str]
    secret_hashes: tuple[bytes, ...] = ()
    rights: frozenset[str] = frozenset()

    @property
    def active(self) -> bool:
        return self.status == "active"


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth 2 client."""

    id: UUID
    app: App
    client_id: str
    profile: str
    auth_method: str
    secret_hash: bytes | None
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    backchannel_logout_uri: str | None
    options: Mapping[str, Any]

    @property
    def public(self) -> bool:
        return self.auth_method == "none"


@dataclass(frozen=True, slots=True)
class Acs:
    """An assertion consumer service address of a service provider."""

    url: str
    index: int
    default: bool


@dataclass(frozen=True, slots=True)
class Sp:
    """A SAML service provider. `options`: want_signed_requests, sign_response, encrypt, idp_initiated,
    attribute_format (basic | uri), slo_url (SingleLogoutService, Redirect)."""

    id: UUID
    app: App
    entity_id: str
    acs: tuple[Acs, ...]
    name_id_format: str
    signing_certificates: tuple[str, ...]
    encryption_certificate: str | None
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cas:
    """A CAS service."""

    id: UUID
    app: App
    url: str
    ticket_ttl_s: int
    logout_url: str | None
    options: Mapping[str, Any]

    def matches(self, service: str) -> bool:
        """Whether `service` is this service: the exact address, or below an anchored `…/**` template.

        Below a template the path must have one reading only: no dot segments, empty segments, parameters, backslashes
        or encoded forms of them. The query is the application's own.
        """
        if not self.url.endswith("/**"):
            return service == self.url
        try:
            base, parts = urlsplit(self.url[:-2]), urlsplit(service)
        except ValueError:  # for example an open IPv6 bracket
            return False
        same = (parts.scheme, parts.netloc) == (base.scheme, base.netloc)
        return has_one_reading(service) and same and (parts.path + "/").startswith(base.path)


@dataclass(frozen=True, slots=True)
class Route:
    """What requests below a pattern of paths ask for; None = as elsewhere on the host."""

    pattern: str
    methods: frozenset[str]
    type: str | None
    action: str | None


@dataclass(frozen=True, slots=True)
class Forward:
    """A host behind a proxy that asks about each request."""

    id: UUID
    app: App
    origin: str
    resource_type: str
    actions: Mapping[str, str]
    routes: tuple[Route, ...]

    def asks(self, method: str, resource_id: str) -> tuple[str, str] | None:
        """(resource type, action) of a request; None for a method without an action."""
        route = next((one for one in self.routes if method in one.methods and matches(one.pattern, resource_id)), None)
        action = (route.action if route else None) or self.actions.get(method)
        return None if action is None else ((route.type if route else None) or self.resource_type, action)


@dataclass(frozen=True, slots=True)
class Api:
    """A resource server: an API that takes our access tokens."""

    id: UUID
    app: App
    identifier: str
    scopes: tuple[str, ...]
    token_format: str
    token_ttl_s: int
    secret_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Apps:
    """An immutable view of all applications."""

    by_code: Mapping[str, App] = field(default_factory=dict)
    by_id: Mapping[UUID, App] = field(default_factory=dict)
    clients: Mapping[str, Client] = field(default_factory=dict)
    sps: Mapping[str, Sp] = field(default_factory=dict)
    cas_services: tuple[Cas, ...] = ()
    forwards: Mapping[str, Forward] = field(default_factory=dict)
    apis: Mapping[str, Api] = field(default_factory=dict)
    # Who has proved itself to this view, by the digest of what it sent; it ends with the view.
    proved: dict[bytes, App] = field(default_factory=dict, compare=False, repr=False)

    def application(self, code: str) -> App | None:
        return self.by_code.get(code)

    def application_by_id(self, app_id: UUID) -> App | None:
        return self.by_id.get(app_id)

    def client(self, client_id: str) -> Client | None:
        return self.clients.get(client_id)

    def sp(self, entity_id: str) -> Sp | None:
        return self.sps.get(entity_id)

    def sp_of(self, code: str) -> Sp | None:
        """The service provider of this application, if it has one."""
        return next((sp for sp in self.sps.values() if sp.app.code == code), None)

    def cas(self, service: str) -> Cas | None:
        """The service registered for this address; exact addresses stand before templates."""
        ordered = sorted(self.cas_services, key=lambda one: (one.url.endswith("/**"), -len(one.url)))
        return next((one for one in ordered if one.matches(service)), None)

    def resource_server(self, identifier: str) -> Api | None:
        return self.apis.get(identifier)

    def apis_of(self, app_id: UUID) -> tuple[Api, ...]:
        return tuple(api for api in self.apis.values() if api.app.id == app_id)


class Registry:
    """Keeps one `Apps` view true; raises `Unavailable` when it cannot be confirmed."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed
        self._apps: Apps | None = None
        feed.subscribe(["app"], self._reload)

    def current(self) -> Apps:
        self._feed.confirm()
        if self._apps is None:
            raise Unavailable(
                "The service is starting.",
                "application registry is not loaded",
                code="starting",
            )
        return self._apps

    def _reload(self, _ids: object) -> None:
        with self._database.read() as connection:
            self._apps = load_apps(connection)


def load_apps(connection: Connection) -> Apps:
    """Read every application with its faces."""
    secrets: dict[UUID, list[bytes]] = {}
    for app_id, hashed in connection.execute(select(AppCredential.application_id, AppCredential.secret_hash)):
        secrets.setdefault(app_id, []).append(hashed)
    by_id = {row.id: _app(row, tuple(secrets.get(row.id, ()))) for row in _rows(connection, Application)}
    return Apps(
        by_code={app.code: app for app in by_id.values()},
        by_id=by_id,
        clients={row.client_id: _client(row, by_id) for row in _faces(connection, OidcClient)},
        sps={row.entity_id: _sp(row, by_id) for row in _faces(connection, SamlServiceProvider)},
        cas_services=tuple(
            Cas(
                row.id,
                by_id[row.application_id],
                row.url,
                row.ticket_ttl_s,
                row.logout_url,
                row.options,
            )
            for row in _faces(connection, CasService)
        ),
        forwards={row.origin: _forward(row, by_id) for row in _faces(connection, ForwardHost)},
        apis={
            row.identifier: Api(
                row.id,
                by_id[row.application_id],
                row.identifier,
                tuple(row.scopes),
                row.token_format,
                row.token_ttl_s,
                row.secret_hash,
            )
            for row in _faces(connection, ResourceServer)
        },
    )


def _rows(connection: Connection, model: Any) -> Any:
    return connection.execute(select(model.__table__)).all()


def _faces(connection: Connection, model: type[Face]) -> Any:
    return connection.execute(select(model.__table__).where(model.removed_at.is_(None))).all()


def _app(row: Any, secret_hashes: tuple[bytes, ...]) -> App:
    return App(
        row.id,
        row.code,
        row.name,
        row.name_en or row.name,
        row.description,
        row.home_url,
        row.status,
        row.in_portal,
        cast(SubjectIdField, row.subject_id_field),
        row.recording,
        tuple(row.released_claims),
        row.claim_aliases,
        secret_hashes,
        frozenset(row.rights),
    )


def _client(row: Any, by_id: Mapping[UUID, App]) -> Client:
    return Client(
        row.id,
        by_id[row.application_id],
        row.client_id,
        row.profile,
        row.auth_method,
        row.secret_hash,
        tuple(row.redirect_uris),
        tuple(row.post_logout_redirect_uris),
        tuple(row.grant_types),
        tuple(row.scopes),
        tuple(row.resources),
        row.backchannel_logout_uri,
        row.options,
    )


def _forward(row: Any, by_id: Mapping[UUID, App]) -> Forward:
    routes = (Route(one["pattern"], frozenset(one["methods"]), one["type"], one["action"]) for one in row.routes)
    return Forward(row.id, by_id[row.application_id], row.origin, row.resource_type, row.actions, tuple(routes))


def _sp(row: Any, by_id: Mapping[UUID, App]) -> Sp:
    return Sp(
        row.id,
        by_id[row.application_id],
        row.entity_id,
        tuple(Acs(one["url"], int(one["index"]), bool(one.get("default"))) for one in row.acs),
        row.name_id_format,
        tuple(row.signing_certificates),
        row.encryption_certificate,
        row.options,
    )
