"""Settings, read once from the environment; a wrong one refuses the start, all faults listed together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class SettingsError(Exception):
    """The environment does not make a valid configuration; the message lists every fault."""


class Settings(BaseModel):
    """One installation's settings.

    Each field is the environment variable of the same name in capitals; `NAME_FILE` names a file that holds
    the value, for secrets. Durations are seconds (`_s`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tessera_demo: bool = Field(
        False,
        description="Demo mode: plain http on loopback, demo accounts, no second factor asked.",
    )
    tessera_var: Path = Field(Path("var"), description="Folder of the embedded database, keys and lock files.")
    public_url: str = Field(
        "http://localhost:8000",
        description="Issuer and base of every link; never taken from Host.",
    )
    admin_url: str | None = Field(None, description="Origin of the console where it has one of its own.")
    admin_networks: tuple[str, ...] = Field((), description="CIDRs that may reach the console; empty = any.")
    trusted_proxies: tuple[str, ...] = Field((), description="CIDRs whose X-Forwarded-For is believed.")
    metrics_networks: tuple[str, ...] = Field(("127.0.0.0/8", "::1/128"), description="CIDRs that may read /metrics.")
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; default is SQLite under TESSERA_VAR.")
    database_sealer_url: SecretStr | None = Field(None, description="The sealer's own role on the same database.")
    database_owner_url: SecretStr | None = Field(
        None, description="The role that owns the tables: migration and retention. The app then needs no such right."
    )
    root_key_file: Path | None = Field(None, description="32 random bytes, mode 0600; made at first start in the demo.")
    org_time_zone: str = Field("Asia/Shanghai", description="Reads dates, cron and reports.")
    session_idle_s: int = Field(1_800, ge=60, le=86_400)
    session_absolute_s: int = Field(36_000, ge=300, le=604_800)
    admin_idle_s: int = Field(900, ge=60, le=3_600)
    admin_absolute_s: int = Field(28_800, ge=300, le=86_400)
    access_token_ttl_s: int = Field(300, ge=30, le=300)
    code_ttl_s: int = Field(60, ge=10, le=60)
    refresh_idle_s: int = Field(604_800, ge=300)
    refresh_absolute_s: int = Field(2_592_000, ge=300)
    cas_ticket_ttl_s: int = Field(10, ge=5, le=300)
    failed_login_min_ms: int = Field(400, ge=0, le=5_000, description="A failed sign-in never answers sooner.")
    audit_retention_days: int = Field(1_095, ge=183, description="Floor six months.")
    seal_key_file: Path | None = Field(None, description="Ed25519 PEM of the sealer, mode 0600, its own account's.")
    audit_head_s: int = Field(60, ge=1, le=3_600, description="A signed head at least this often, when records came.")
    audit_gap_s: int = Field(600, ge=10, description="Alarm when a record waits longer for its anchored head.")
    audit_anchor_file: Path | None = Field(None, description="Heads are appended here; best on other storage.")
    audit_anchor_leaves: bool = Field(True, description="48 bytes a record beside it, to name the one that changed.")
    audit_anchor_webhook: str | None = Field(None, description="Heads are POSTed to this https address.")
    audit_anchor_mail: str | None = Field(None, description="Heads are mailed to this address; needs SMTP_URL.")
    audit_anchor_tsa: str | None = Field(None, description="RFC 3161 time-stamping service for heads.")
    audit_anchor_tsa_roots: Path | None = Field(None, description="PEM of its root certificates; needed with it.")
    smtp_url: SecretStr | None = Field(None, description="smtp://user:password@host:port (STARTTLS) or smtps://…")
    mail_from: str = Field("tessera@localhost", description="Sender of our mail.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("admin_networks", "trusted_proxies", "metrics_networks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("admin_networks", "trusted_proxies", "metrics_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("public_url", "admin_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise ValueError("must be an http(s) address without query, fragment or user")
        return value.rstrip("/")

    @field_validator("org_time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"unknown time zone {value!r}") from error
        return value

    @model_validator(mode="after")
    def _safe(self) -> Self:
        host = urlsplit(self.public_url).hostname or ""
        if self.tessera_demo and host not in LOOPBACK_HOSTS and not _is_loopback(host):
            raise ValueError("TESSERA_DEMO serves loopback only; PUBLIC_URL must name localhost")
        if not self.tessera_demo:
            if not self.public_url.startswith("https://"):
                raise ValueError("PUBLIC_URL must be https outside the demo")
            if self.root_key_file is None:
                raise ValueError("ROOT_KEY_FILE must be set outside the demo")
        if self.audit_anchor_tsa and self.audit_anchor_tsa_roots is None:
            raise ValueError("AUDIT_ANCHOR_TSA needs AUDIT_ANCHOR_TSA_ROOTS")
        if self.audit_anchor_mail and self.smtp_url is None:
            raise ValueError("AUDIT_ANCHOR_MAIL needs SMTP_URL")
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings of this process; raises `SettingsError` that lists every fault."""
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for name in cls.model_fields:
            key = name.upper()
            if f"{key}_FILE" in env and f"{key}_FILE".lower() not in cls.model_fields:
                values[name] = Path(env[f"{key}_FILE"]).read_text(encoding="utf-8").strip()
            elif env.get(key, "") != "":
                values[name] = env[key]
        try:
            return cls(**values)
        except ValidationError as error:
            lines = [
                f"  {'.'.join(str(p) for p in e['loc']).upper() or 'SETTINGS'}: {e['msg']}" for e in error.errors()
            ]
            raise SettingsError("Tessera cannot start:\n" + "\n".join(lines)) from None

    @property
    def secure(self) -> bool:
        """Whether browsers reach us over TLS: cookies carry Secure and the `__Host-` prefix."""
        return self.public_url.startswith("https://")

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address in SQLAlchemy's form."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.tessera_var / 'tessera.db').resolve()}"

    @property
    def owner_url(self) -> str:
        """The address to migrate by; the app's own where the rights are not separated."""
        return self.database_owner_url.get_secret_value() if self.database_owner_url else self.sqlalchemy_url

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.org_time_zone)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.endswith(".localhost")
