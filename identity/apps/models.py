"""Tables of applications and their protocol faces."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Json, Keyed


class Face(Keyed, Base):
    """What a protocol knows of an application. A removed face is unknown to its door, but its wire name stays taken."""

    __abstract__ = True

    application_id: Mapped[UUID] = mapped_column(ForeignKey("application.id"), index=True)
    removed_at: Mapped[datetime | None]


class Application(Keyed, Base):
    """A party that employees sign in to and that asks what they may do."""

    __tablename__ = "application"
    __table_args__ = (
        UniqueConstraint("code"),
        CheckConstraint("status IN ('active', 'disabled')", name="status"),
        CheckConstraint("recording IN ('strict', 'buffered')", name="recording"),
        CheckConstraint(
            "subject_id_field IN ('sub', 'account_id', 'name_id', 'pairwise_sub')",
            name="subject_id_field",
        ),
    )

    code: Mapped[str]
    name: Mapped[str]
    name_en: Mapped[str] = mapped_column(default="")
    description: Mapped[str] = mapped_column(default="")
    home_url: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="active")
    in_portal: Mapped[bool] = mapped_column(default=True)
    subject_id_field: Mapped[str] = mapped_column(default="sub")
    recording: Mapped[str] = mapped_column(default="strict")
    released_claims: Mapped[list[str]] = mapped_column(Json, default=list)
    claim_aliases: Mapped[dict[str, str]] = mapped_column(Json, default=dict)
    rights: Mapped[list[str]] = mapped_column(Json, default=list)
    managed_by: Mapped[str] = mapped_column(default="console")
    row_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]


class AppCredential(Keyed, Base):
    """A secret with which an application calls the decision point, as HTTP Basic (application code, secret)."""

    __tablename__ = "app_credential"

    application_id: Mapped[UUID] = mapped_column(ForeignKey("application.id"), index=True)
    label: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]


class AppAccount(Keyed, Base):
    """How one application knows one identity; pairwise and name ids are random and stored."""

    __tablename__ = "app_account"
    __table_args__ = (
        UniqueConstraint("application_id", "user_id"),
        UniqueConstraint("application_id", "account_id"),
        UniqueConstraint("application_id", "name_id"),
        UniqueConstraint("application_id", "pairwise_sub"),
        CheckConstraint("status IN ('active', 'disabled')", name="status"),
    )

    application_id: Mapped[UUID] = mapped_column(ForeignKey("application.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    account_id: Mapped[str | None]
    name_id: Mapped[str | None]
    pairwise_sub: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="active")
    created_at: Mapped[datetime]


class AppResource(Base):
    """An instance of one of the application's resource types, as the application registered it for searches."""

    __tablename__ = "app_resource"

    application_id: Mapped[UUID] = mapped_column(ForeignKey("application.id"), primary_key=True)
    resource_type: Mapped[str] = mapped_column(primary_key=True)
    resource_id: Mapped[str] = mapped_column(primary_key=True)
    properties: Mapped[dict[str, Any]] = mapped_column(Json)
    registered_at: Mapped[datetime]


class ResourceServer(Face):
    """An API that takes our access tokens; `identifier` is their `aud` (RFC 8707, RFC 9068)."""

    __tablename__ = "resource_server"
    __table_args__ = (
        UniqueConstraint("identifier"),
        CheckConstraint("token_format IN ('jwt', 'opaque')", name="token_format"),
    )

    identifier: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(Json)
    token_format: Mapped[str] = mapped_column(default="jwt")
    token_ttl_s: Mapped[int] = mapped_column(default=300)
    secret_hash: Mapped[bytes | None] = mapped_column(LargeBinary)


class OidcClient(Face):
    """An application's OAuth 2 / OpenID Connect client."""

    __tablename__ = "oidc_client"
    __table_args__ = (
        UniqueConstraint("client_id"),
        CheckConstraint("profile IN ('baseline', 'fapi2')", name="profile"),
        CheckConstraint(
            "auth_method IN ('none', 'client_secret_basic', 'client_secret_post')",
            name="auth_method",
        ),
    )

    client_id: Mapped[str]
    profile: Mapped[str] = mapped_column(default="baseline")
    auth_method: Mapped[str] = mapped_column(default="client_secret_basic")
    secret_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    redirect_uris: Mapped[list[str]] = mapped_column(Json)
    post_logout_redirect_uris: Mapped[list[str]] = mapped_column(Json, default=list)
    grant_types: Mapped[list[str]] = mapped_column(Json)
    scopes: Mapped[list[str]] = mapped_column(Json)
    resources: Mapped[list[str]] = mapped_column(Json, default=list)
    backchannel_logout_uri: Mapped[str | None]
    options: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)


class SamlServiceProvider(Face):
    """An application's SAML 2.0 service provider.

    `acs` is [{"url", "index", "default"}]; `options` holds the switches of `apps.registry.SamlSp`.
    """

    __tablename__ = "saml_service_provider"
    __table_args__ = (UniqueConstraint("entity_id"),)

    entity_id: Mapped[str]
    acs: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    name_id_format: Mapped[str]
    signing_certificates: Mapped[list[str]] = mapped_column(Json, default=list)
    encryption_certificate: Mapped[str | None]
    options: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)


class ForwardHost(Face):
    """A host behind a proxy that asks about each request; `routes` is [{"pattern", "methods", "type", "action"}]."""

    __tablename__ = "forward_host"
    __table_args__ = (UniqueConstraint("origin"),)

    origin: Mapped[str]
    resource_type: Mapped[str]
    actions: Mapped[dict[str, str]] = mapped_column(Json)
    routes: Mapped[list[dict[str, Any]]] = mapped_column(Json)


class CasService(Face):
    """An application's CAS service: an exact address, or an anchored template ending in `/**`."""

    __tablename__ = "cas_service"
    __table_args__ = (UniqueConstraint("url"),)

    url: Mapped[str]
    ticket_ttl_s: Mapped[int] = mapped_column(default=10)
    logout_url: Mapped[str | None]
    options: Mapped[dict[str, Any]] = mapped_column(Json, default=dict)
