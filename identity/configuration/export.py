"""Write the configuration back in the form in which it is applied; secrets never leave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import yaml
from pydantic import BaseModel
from sqlalchemy import select

from identity.alarms.inputs import AlarmInput
from identity.alarms.models import AlarmSetting
from identity.apps.inputs import ApiInput, ApplicationInput, CasInput, ForwardInput, OidcInput, SamlInput
from identity.apps.models import Application, CasService, ForwardHost, OidcClient, ResourceServer, SamlServiceProvider
from identity.configuration.document import MappingPart, PermissionPart
from identity.configuration.grants import admin_grants
from identity.core.unit import Unit
from identity.directory.models import DirectorySource
from identity.people.inputs import OrgUnitInput
from identity.people.models import OrgPlacement, OrgUnit
from identity.reports.inputs import ScheduleInput
from identity.reports.models import ReportSchedule
from identity.roles.inputs import PermissionInput
from identity.roles.models import Role
from identity.roles.service_policy import load_rules, version_in_force
from identity.shipping.models import ShipTarget


def export(unit: Unit) -> str:
    """The installation's configuration as YAML; secrets are references to be filled in."""
    content = load_rules(unit, version_in_force(unit))
    codes = dict(unit.db.execute(select(Application.id, Application.code)).all())
    document = {
        "directories": [_directory(row) for row in _rows(unit, DirectorySource, DirectorySource.code)],
        "org_units": _org_units(unit),
        "applications": [_application(unit, row) for row in _rows(unit, Application, Application.code)],
        "roles": [
            _present({"application": codes.get(row.application_id), "name": row.name, "title": row.title})
            | ({"description": row.description} if row.description else {})
            for row in _rows(unit, Role, Role.key)
            if not row.built_in
        ],
        "permissions": [_dump(part) for part in _joined(content.permissions)],
        "inheritance": [_dump(row) for row in content.inheritance],
        "mappings": [_dump(MappingPart.of(row)) for row in content.mappings],
        "shipping": [
            _present({"code": row.code, "kind": row.kind, "settings": row.settings, "secret": row.secret_ref})
            | ({} if row.enabled else {"enabled": False})
            for row in _rows(unit, ShipTarget, ShipTarget.code)
        ],
        "reports": [_schedule(row) for row in _rows(unit, ReportSchedule, ReportSchedule.code)],
        "alarms": [_alarm(row) for row in _rows(unit, AlarmSetting, AlarmSetting.rule)],
        "duties": [row.model_dump(mode="json") for row in content.duties],
        "admin_grants": [_dump(part) for part in admin_grants(unit)],
    }
    return yaml.safe_dump(
        {name: part for name, part in document.items() if part},
        allow_unicode=True,
        sort_keys=False,
        width=120,
    )


def _rows(unit: Unit, model: Any, order: Any) -> Iterable[Any]:
    return unit.db.execute(select(model).order_by(order)).scalars()


def _dump(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json", exclude_defaults=True)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _directory(row: DirectorySource) -> dict[str, Any]:
    return _present(
        {
            "code": row.code,
            "name": row.name,
            "kind": row.kind,
            "settings": row.settings | _chosen(row),
            "secret": row.secret_ref,
            "precedence": row.precedence,
            "interval_s": row.interval_s,
            "cron": row.cron,
            "check_cron": row.check_cron,
            "enabled": row.enabled,
        }
    ) | {name: True for name in ("live", "check_repairs") if getattr(row, name)}


def _chosen(row: DirectorySource) -> dict[str, Any]:
    """What the console chose where the settings are silent."""
    return {"write_back": row.write_back} if row.write_back and row.settings.get("write_back") is None else {}


def _schedule(row: ReportSchedule) -> dict[str, Any]:
    return _shape(ScheduleInput, row)


def _alarm(row: AlarmSetting) -> dict[str, Any]:
    return _shape(AlarmInput, row)


def _org_units(unit: Unit) -> list[dict[str, Any]]:
    """The units that no directory brought, parents before their children."""
    rows = unit.db.execute(
        select(OrgUnit, OrgPlacement)
        .join(OrgPlacement, OrgPlacement.org_unit_id == OrgUnit.id)
        .where(OrgPlacement.rev_until.is_(None), OrgPlacement.active)
    ).all()
    codes: dict[UUID | None, str] = {row.id: row.code for row, _ in rows}
    parts = {
        row.id: OrgUnitInput.model_validate(
            {name: getattr(row, name) for name in ("tree", "kind", "code", "name", "currency")}
            | {
                "parent_code": codes.get(place.parent_id),
                "company_code": codes.get(place.company_id) if place.company_id != row.id else None,
            }
        )
        for row, place in rows
        if row.source_id is None
    }
    parents = {row.id: place.parent_id for row, place in rows}
    return [_dump(parts[key]) for key in sorted(parts, key=lambda key: (_depth(parents, key), codes[key]))]


def _depth(parents: dict[Any, Any], key: Any) -> int:
    parent = parents.get(key)
    return 0 if parent is None else 1 + _depth(parents, parent)


def _shape(model: type[BaseModel], row: Any) -> dict[str, Any]:
    return _dump(model(**{name: getattr(row, name) for name in model.model_fields}))


def _application(unit: Unit, row: Application) -> dict[str, Any]:
    part = _shape(ApplicationInput, row)
    faces: tuple[tuple[str, Any, type[BaseModel]], ...] = (
        ("oidc", OidcClient, OidcInput),
        ("saml", SamlServiceProvider, SamlInput),
        ("cas", CasService, CasInput),
        ("forward", ForwardHost, ForwardInput),
        ("apis", ResourceServer, ApiInput),
    )
    for name, table, model in faces:
        query = select(table).where(table.application_id == row.id, table.removed_at.is_(None))
        found = unit.db.execute(query).scalars()
        rows = [_shape(model, one) for one in found]
        if rows:
            part[name] = rows
    return part


def _joined(permissions: Iterable[PermissionInput]) -> list[PermissionPart]:
    """Permissions that differ in their action only, as one entry."""
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for row in permissions:
        values = row.model_dump(exclude={"action"})
        found.setdefault(repr(values), (values, []))[1].append(row.action)
    return [PermissionPart(actions=tuple(sorted(actions)), **values) for values, actions in found.values()]
