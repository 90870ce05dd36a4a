"""The form of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from identity.apps.inputs import ApiInput, ApplicationInput, CasInput, OidcInput, SamlInput
from identity.core.errors import Invalid
from identity.directory.settings import DirectoryKind
from identity.people.inputs import Code, Login, OrgUnitInput, Plain
from identity.roles.inputs import (
    AmountInput,
    DutyRuleInput,
    InheritanceInput,
    MappingInput,
    PermissionInput,
    RoleInput,
    RoleKey,
    RuleSetInput,
    ScopeTransform,
)
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
    enabled: bool = True


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
    duties: tuple[DutyRuleInput, ...] = ()
    administrators: tuple[AdministratorPart, ...] = ()
    shipping: tuple[TargetInput, ...] = ()

    def rules(self) -> RuleSetInput:
        """The policy version that this document describes."""
        return RuleSetInput(
            permissions=tuple(row for part in self.permissions for row in part.rows()),
            inheritance=self.inheritance,
            mappings=tuple(part.row() for part in self.mappings),
            duties=self.duties,
        )


def load(path: Path) -> Document:
    """Read a file; raises `Invalid` that names every wrong entry."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Document.model_validate(data or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Invalid(f"{path} cannot be read: {error}", code="invalid_configuration") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise Invalid(f"{path} is not valid:\n  " + "\n  ".join(lines), code="invalid_configuration") from None
