"""The form of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from identity.alarms.inputs import AlarmInput
from identity.apps.inputs import ApiInput, ApplicationInput, CasInput, ForwardInput, OidcInput, SamlInput
from identity.core.cron import Cron
from identity.core.errors import Invalid
from identity.directory.settings import CAN_LIVE, DirectoryKind
from identity.people.inputs import Code, Login, OrgUnitInput, Plain
from identity.reports.inputs import ScheduleInput
from identity.roles.inputs import (
    AdminGrantInput,
    AmountInput,
    DutyRuleInput,
    InheritanceInput,
    MappingInput,
    PairInput,
    PermissionInput,
    RoleInput,
    RoleKey,
    RuleSetInput,
    ScopeTransform,
)
from identity.roles.service_duties import library
from identity.shipping.inputs import TargetInput

SecretRef = Annotated[str, StringConstraints(pattern=r"^(file|env):.+$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DirectoryPart(_Part):
    """A directory source; `secret` names the bind secret."""

    code: Code
    name: Plain
    kind: DirectoryKind
    settings: Mapping[str, Any] = {}
    secret: SecretRef | None = None
    precedence: int = Field(default=100, ge=0, description="Of two sources that say the same, the lower number wins.")
    interval_s: int | None = Field(default=None, ge=1)
    cron: Cron | None = Field(default=None, description="When it runs, in the organisation's time zone.")
    live: bool = Field(default=False, description="As soon as the directory changes.")
    check_cron: Cron | None = Field(default=None, description="When everything is compared and drift is reported.")
    check_repairs: bool = Field(default=False, description="What the guard lets through is put right by the check.")
    enabled: bool = True

    @model_validator(mode="after")
    def _runs_one_way(self) -> Self:
        if sum((self.interval_s is not None, self.cron is not None, self.live)) > 1:
            raise ValueError(f"directory {self.code!r} runs by interval_s, by cron or live, one of them")
        if self.live and self.kind not in CAN_LIVE:
            raise ValueError(f"directory {self.code!r} of kind {self.kind} cannot say at once what changed: no live")
        return self


class OidcPart(OidcInput):
    """A client with its secret's reference."""

    secret: SecretRef | None = None


class ApiPart(ApiInput):
    """A resource server with the reference of its introspection secret."""

    secret: SecretRef | None = None


class ApplicationPart(ApplicationInput):
    """An application with its faces; `credential` is the secret with which it asks for decisions."""

    credential: SecretRef | None = None
    oidc: tuple[OidcPart, ...] = ()
    saml: tuple[SamlInput, ...] = ()
    cas: tuple[CasInput, ...] = ()
    forward: tuple[ForwardInput, ...] = ()
    apis: tuple[ApiPart, ...] = ()


class PermissionPart(_Part):
    """Permissions of one role on one type, an entry for each action."""

    role: RoleKey
    application: Code | None = None
    type: Code
    pattern: str = "**"
    actions: tuple[Code, ...]
    effect: Literal["permit", "deny"] = "permit"
    condition: str | None = None
    obligations: tuple[Any, ...] = ()
    inherited: bool = False
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def rows(self) -> list[PermissionInput]:
        values = self.model_dump(exclude={"actions", "application"})
        application = self.application or self.role.partition(":")[0]
        return [PermissionInput(application=application, action=action, **values) for action in self.actions]


class MappingPart(_Part):
    """One mapping row with exactly one of its sources."""

    group: str | None = None
    position: str | None = None
    unit: str | None = None
    business_role: str | None = None
    role: RoleKey
    exclude: bool = False
    condition: str | None = None
    scope: ScopeTransform = ScopeTransform()
    limit: AmountInput = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    @model_validator(mode="after")
    def _one_source(self) -> MappingPart:
        if sum(one is not None for one in (self.group, self.position, self.unit, self.business_role)) != 1:
            raise ValueError("needs exactly one of group, position, unit, business_role")
        return self

    def row(self) -> MappingInput:
        values = self.model_dump(exclude={"group", "position", "unit", "business_role"})
        for kind in ("group", "position", "unit", "business_role"):
            source = getattr(self, kind)
            if source is not None:
                return MappingInput(source_kind=kind, source=source, **values)
        raise AssertionError("validated above")

    @classmethod
    def of(cls, row: MappingInput) -> MappingPart:
        values = row.model_dump(exclude={"source_kind", "source"})
        return cls.model_validate({row.source_kind: row.source, **values})


class DutyPart(_Part):
    """A pair of the duty library between what has its sides here: role keys, or [application, type, action].

    A pair by object names `application`, `type` and the `actions` in their order instead of `a` and `b`.
    """

    pair: Code
    id: Code | None = None
    a: tuple[RoleKey | tuple[Code, Code, Code], ...] = ()
    b: tuple[RoleKey | tuple[Code, Code, Code], ...] = ()
    application: Code | None = None
    type: Code | None = None
    actions: tuple[Code, ...] = ()

    def rule(self, pairs: Mapping[str, PairInput]) -> DutyRuleInput:
        """Raises `Invalid` for an unknown pair or one that is not told what it is about."""
        pair = pairs.get(self.pair)
        if pair is None:
            raise Invalid(f"The duty library has no pair {self.pair!r}.", code="invalid_configuration")
        if pair.kind == "object":
            definition: dict[str, Any] = {
                "application": self.application,
                "type": self.type,
                "actions": list(self.actions),
            }
            complete = bool(self.application and self.type and self.actions)
        else:
            definition = {"sides": [_side(self.a), _side(self.b)], "n": 2, "scope": pair.scope}
            complete = bool(self.a and self.b)
        if not complete:
            raise Invalid(f"The pair {self.pair} is not told what it separates here.", code="invalid_configuration")
        return DutyRuleInput(
            id=self.id or self.pair,
            kind=pair.kind,
            title=f"{pair.a} ≠ {pair.b}",
            level=pair.level,
            definition=definition,
        )


def _side(entries: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "roles": [one for one in entries if isinstance(one, str)],
        "permissions": [list(one) for one in entries if not isinstance(one, str)],
    }


class AdminGrantPart(_Part):
    """A right to grant roles, of a user (by login) or of those who hold a role."""

    user: Login | None = None
    role: RoleKey | None = None
    powers: tuple[Literal["assign", "revoke"], ...]
    roles: tuple[RoleKey, ...]
    company: Code | None = None
    org_unit: Code | None = None
    business_type: Code | None = None
    limit: AmountInput = None
    max_days: int | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    @model_validator(mode="after")
    def _one_holder(self) -> AdminGrantPart:
        if (self.user is None) == (self.role is None):
            raise ValueError("needs exactly one of user, role")
        return self

    def grant(self, holder: str) -> AdminGrantInput:
        values = self.model_dump(exclude={"user", "role"})
        return AdminGrantInput(holder_kind="user" if self.user else "role", holder=holder, **values)


class AdministratorPart(_Part):
    """A local identity with built-in console roles, made on an empty installation."""

    login: Login
    name: Plain
    roles: tuple[Literal["system-admin", "security-admin", "audit-admin"], ...]
    password: SecretRef


class Document(_Part):
    """The whole configuration. Parts that are absent are left alone."""

    directories: tuple[DirectoryPart, ...] = ()
    org_units: tuple[OrgUnitInput, ...] = ()
    applications: tuple[ApplicationPart, ...] = ()
    roles: tuple[RoleInput, ...] = ()
    permissions: tuple[PermissionPart, ...] = ()
    inheritance: tuple[InheritanceInput, ...] = ()
    mappings: tuple[MappingPart, ...] = ()
    duties: tuple[DutyRuleInput | DutyPart, ...] = ()
    duty_pairs: tuple[PairInput, ...] = ()
    admin_grants: tuple[AdminGrantPart, ...] = ()
    administrators: tuple[AdministratorPart, ...] = ()
    shipping: tuple[TargetInput, ...] = ()
    reports: tuple[ScheduleInput, ...] = ()
    alarms: tuple[AlarmInput, ...] = ()

    def rules(self) -> RuleSetInput:
        """The policy version that this document describes; its own pairs stand before the library's."""
        pairs = {**library(), **{one.id: one for one in self.duty_pairs}}
        return RuleSetInput(
            permissions=tuple(row for part in self.permissions for row in part.rows()),
            inheritance=self.inheritance,
            mappings=tuple(part.row() for part in self.mappings),
            duties=tuple(one if isinstance(one, DutyRuleInput) else one.rule(pairs) for one in self.duties),
        )


def load(path: Path) -> Document:
    """Read a file; raises `Invalid` that names every wrong entry."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        return Document.model_validate(data or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Invalid(f"{path} cannot be read: {error}", code="invalid_configuration") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise Invalid(f"{path} is not valid:\n  " + "\n  ".join(lines), code="invalid_configuration") from None
