"""Applications and their faces; secrets are made here, shown once, and stored as digests."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from identity.apps.inputs import (
    ApiInput,
    ApplicationInput,
    CasInput,
    ForwardInput,
    OidcInput,
    SamlInput,
)
from identity.apps.models import (
    AppAccount,
    AppCredential,
    Application,
    CasService,
    Face,
    ForwardHost,
    OidcClient,
    ResourceServer,
    SamlServiceProvider,
)
from identity.audit.kinds import Kind
from identity.core.errors import Conflict, NotFound, Stale
from identity.core.record import Record
from identity.core.rows import set_values
from identity.core.secrets import digest, new_id, new_secret
from identity.core.unit import Unit

AnyFace = TypeVar("AnyFace", OidcClient, SamlServiceProvider, CasService, ForwardHost, ResourceServer)
# Each face's table, with the name by which its protocol knows it.
WIRE_NAMES: Mapping[type[Face], str] = {
    OidcClient: "client_id",
    SamlServiceProvider: "entity_id",
    CasService: "url",
    ForwardHost: "origin",
    ResourceServer: "identifier",
}


@dataclass(frozen=True, slots=True)
class Account:
    """How an application knows an identity."""

    account_id: str | None
    name_id: str
    pairwise_sub: str
    status: str


def put_application(unit: Unit, wanted: ApplicationInput, *, managed_by: str = "console") -> Application:
    """The application with this code is as given; made when it is new."""
    unit.require("write", "application", wanted.code)
    row = find_application(unit, wanted.code)
    values = wanted.model_dump(exclude={"code"})
    values["released_claims"] = list(wanted.released_claims)
    values["claim_aliases"] = dict(wanted.claim_aliases)
    values["rights"] = list(wanted.rights)
    if row is None:
        row = Application(code=wanted.code, created_at=unit.now, managed_by=managed_by, **values)
        unit.db.add(row)
        unit.db.flush()
        _record(unit, Kind.APPLICATION_CREATED, row, after=values)
    elif before := set_values(row, values):
        row.row_version += 1
        _record(
            unit,
            Kind.APPLICATION_CHANGED,
            row,
            before=before,
            after={name: values[name] for name in before},
        )
    else:
        return row
    unit.facts.touch("app")
    return row


def find_application(unit: Unit, code: str) -> Application | None:
    """The application with this code."""
    return unit.db.execute(select(Application).where(Application.code == code)).scalar_one_or_none()


def get_application(unit: Unit, code: str) -> Application:
    """The application with this code; raises `NotFound`."""
    row = find_application(unit, code)
    if row is None:
        raise NotFound(f"There is no application {code!r}.")
    return row


def set_application_status(unit: Unit, code: str, status: str, row_version: int) -> None:
    """Disable an application (its callers, sign-ins and tokens end with the next use) or enable it again.

    Raises `Stale` when somebody changed it since `row_version` was read.
    """
    unit.require("write", "application", code)
    row = get_application(unit, code)
    if row.row_version != row_version:
        raise Stale("Somebody else has changed this application. Load the page again.")
    if row.status != status:
        before, row.status = row.status, status
        row.row_version += 1
        unit.facts.touch("app")
        _record(
            unit,
            Kind.APPLICATION_CHANGED,
            row,
            before={"status": before},
            after={"status": status},
        )


def put_oidc_client(unit: Unit, app: Application, wanted: OidcInput, secret: str | None = None) -> OidcClient:
    """The application's client with this id is as given; `secret` is its new secret, if one is set."""
    values: dict[str, Any] = {
        "application_id": app.id,
        **wanted.model_dump(mode="json", exclude={"client_id"}),
    }
    if secret is not None:
        values["secret_hash"] = digest(secret)
    return _put_face(unit, app, OidcClient, {"client_id": wanted.client_id}, values)


def put_saml_sp(unit: Unit, app: Application, wanted: SamlInput) -> SamlServiceProvider:
    """The application's service provider with this entity id is as given."""
    values = {
        "application_id": app.id,
        **wanted.model_dump(mode="json", exclude={"entity_id"}),
    }
    return _put_face(unit, app, SamlServiceProvider, {"entity_id": wanted.entity_id}, values)


def put_cas_service(unit: Unit, app: Application, wanted: CasInput) -> CasService:
    """The application's CAS service with this address is as given."""
    values = {
        "application_id": app.id,
        **wanted.model_dump(mode="json", exclude={"url"}),
    }
    return _put_face(unit, app, CasService, {"url": wanted.url}, values)


def put_forward_host(unit: Unit, app: Application, wanted: ForwardInput) -> ForwardHost:
    """The application's host with this origin is as given."""
    values = {"application_id": app.id, **wanted.model_dump(mode="json", exclude={"origin"})}
    return _put_face(unit, app, ForwardHost, {"origin": wanted.origin}, values)


def put_api(unit: Unit, app: Application, wanted: ApiInput, secret: str | None = None) -> ResourceServer:
    """The application's resource server with this identifier is as given."""
    values: dict[str, Any] = {
        "application_id": app.id,
        **wanted.model_dump(mode="json", exclude={"identifier"}),
    }
    if secret is not None:
        values["secret_hash"] = digest(secret)
    return _put_face(unit, app, ResourceServer, {"identifier": wanted.identifier}, values)


def faces_of(unit: Unit, app: Application) -> list[tuple[Face, str]]:
    """The application's faces that are in use, each with its wire name."""
    return [
        (row, getattr(row, wire_name))
        for model, wire_name in WIRE_NAMES.items()
        for row in unit.db.execute(
            select(model).where(model.application_id == app.id, model.removed_at.is_(None)).order_by(wire_name)
        ).scalars()
    ]


def remove_face(unit: Unit, app: Application, face: Face) -> None:
    """Its door knows this face no more: what was issued to it dies with the commit. Putting it again revives it."""
    unit.require("write", "application", app.code)
    face.removed_at = unit.now
    unit.facts.touch("app")
    name = {WIRE_NAMES[type(face)]: getattr(face, WIRE_NAMES[type(face)])}
    _record(
        unit,
        Kind.APPLICATION_FACE_CHANGED,
        app,
        before={"face": face.__tablename__, **name},
        after={"face": face.__tablename__, "removed": True},
    )


def _put_face(
    unit: Unit, app: Application, model: type[AnyFace], key: Mapping[str, Any], values: dict[str, Any]
) -> AnyFace:
    """One protocol face of an application, by its wire name; raises `Conflict` when another application has it."""
    unit.require("write", "application", app.code)
    values = {**values, "removed_at": None}
    row: Any = unit.db.execute(select(model).filter_by(**key)).scalar_one_or_none()
    if row is None:
        row = model(**key, **values)
        unit.db.add(row)
        unit.db.flush()
        before: dict[str, Any] = {}
    else:
        if row.application_id != app.id:
            raise Conflict(
                f"{next(iter(key.values()))!r} belongs to another application.",
                code="face_taken",
            )
        before = set_values(row, values)
        if not before:
            return cast(AnyFace, row)
    unit.facts.touch("app")
    shown = {name: value for name, value in {**key, **values}.items() if name not in _UNSHOWN}
    if "secret_hash" in values:
        shown["secret"] = "changed"  # noqa: S105  says that it changed, not what it is
    before.pop("secret_hash", None)
    _record(
        unit,
        Kind.APPLICATION_FACE_CHANGED,
        app,
        before=before or None,
        after={"face": model.__tablename__, **shown},
    )
    return cast(AnyFace, row)


def set_credential(unit: Unit, app: Application, label: str, secret: str | None = None) -> str:
    """A credential of this label with which the application asks for decisions; the secret is returned once.

    An earlier credential of the label is replaced, so this is also how a secret is rotated.
    """
    unit.require("write", "application", app.code)
    value = secret or new_secret("app")
    row = unit.db.execute(
        select(AppCredential).where(AppCredential.application_id == app.id, AppCredential.label == label)
    ).scalar_one_or_none()
    if row is not None and row.secret_hash == digest(value):
        return value
    if row is None:
        unit.db.add(
            AppCredential(
                application_id=app.id,
                label=label,
                secret_hash=digest(value),
                created_at=unit.now,
            )
        )
    else:
        row.secret_hash, row.created_at = digest(value), unit.now
    unit.facts.touch("app")
    _record(unit, Kind.APPLICATION_SECRET_SET, app, after={"credential": label})
    return value


def rotate_client_secret(unit: Unit, app: Application, client_id: str) -> str:
    """A new secret of the application's client, returned once; the old one ends with the commit."""
    unit.require("write", "application", app.code)
    row = unit.db.execute(
        select(OidcClient).where(OidcClient.application_id == app.id, OidcClient.client_id == client_id)
    ).scalar_one_or_none()
    if row is None or row.auth_method == "none":
        raise NotFound("There is no such client with a secret.")
    value = new_secret("cs")
    row.secret_hash = digest(value)
    unit.facts.touch("app")
    _record(unit, Kind.APPLICATION_SECRET_SET, app, after={"credential": client_id})
    return value


def app_account(connection: Connection, app_id: UUID, user_id: UUID, now: Any) -> Account:
    """How the application knows the identity; made at first use, with random name id and pairwise subject.

    Two first uses at once end with the same account: the database decides who made it.
    """
    query = select(
        AppAccount.account_id,
        AppAccount.name_id,
        AppAccount.pairwise_sub,
        AppAccount.status,
    ).where(AppAccount.application_id == app_id, AppAccount.user_id == user_id)
    row = connection.execute(query).first()
    if row is None:
        maker = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(
            maker(AppAccount)
            .values(
                id=new_id(),
                application_id=app_id,
                user_id=user_id,
                name_id=f"_{random.token_hex(20)}",
                pairwise_sub=str(uuid4()),
                status="active",
                created_at=now,
            )
            .on_conflict_do_nothing()
        )
        row = connection.execute(query).one()
    return Account(row.account_id, row.name_id or "", row.pairwise_sub or "", row.status)


_UNSHOWN = frozenset({"secret_hash", "application_id", "removed_at"})


def put_account_id(unit: Unit, app: Application, user_id: UUID, account_id: str) -> None:
    """The application knows the identity by this id; raises `Conflict` when it is another identity's there."""
    unit.require("write", "application", app.code)
    app_account(unit.db.connection(), app.id, user_id, unit.now)
    row = unit.db.execute(
        select(AppAccount).where(AppAccount.application_id == app.id, AppAccount.user_id == user_id)
    ).scalar_one()
    if row.account_id == account_id:
        return
    before, row.account_id = row.account_id, account_id
    unit.db.flush()
    _record(
        unit, Kind.ACCOUNT_LINKED, app, user=user_id, before={"account_id": before}, after={"account_id": account_id}
    )


def _record(unit: Unit, kind: Kind, app: Application, **parts: Any) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            application=app.code,
            resource_type="application",
            resource_id=app.code,
            data={"application": app.code},
            **parts,
        )
    )
