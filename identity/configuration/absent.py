"""What an earlier document made and the present one does not name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from identity.apps import service as apps
from identity.apps.models import Application
from identity.configuration.document import ApplicationPart, Document
from identity.configuration.grants import absent_admin_grants
from identity.core.unit import Unit
from identity.directory.models import DirectorySource
from identity.directory.service import put_directory
from identity.roles.models import Role
from identity.roles.service_admin_grants import revoke_admin_grant
from identity.shipping.inputs import TargetInput
from identity.shipping.models import ShipTarget
from identity.shipping.service import put_target


def absent(unit: Unit, document: Document, *, prune: bool) -> list[str]:
    """One line for each such object, `-` where it was put out of use and `?` where it stands."""
    lines: list[str] = []
    sign = "-" if prune else "?"
    for directory in _gone(unit, DirectorySource, "code", {one.code for one in document.directories}):
        if directory.enabled:
            lines.append(f"{sign} directory {directory.code}")
            if prune:
                put_directory(unit, directory.code, {"enabled": False})
    lines += _absent_outward(unit, document, prune=prune)
    parts = {part.code: part for part in document.applications}
    for app in _gone(unit, Application, "code", set(parts)):
        if app.status == "active":
            lines.append(f"{sign} application {app.code}")
            if prune:
                apps.set_application_status(unit, app.code, "disabled", app.row_version)
    for part in parts.values():
        lines += _absent_faces(unit, part, prune=prune)
    roles = {f"{role.application or 'business'}:{role.name}" for role in document.roles}
    lines += [f"? role {role.key}" for role in _gone(unit, Role, "key", roles)]
    return lines


def _absent_outward(unit: Unit, document: Document, *, prune: bool) -> list[str]:
    """Where the record is shipped to, and rights to grant."""
    lines: list[str] = []
    sign = "-" if prune else "?"
    for target in _gone(unit, ShipTarget, "code", {one.code for one in document.shipping}):
        if target.enabled:
            lines.append(f"{sign} shipping {target.code}")
            if prune:
                kept = {"kind": target.kind, "settings": target.settings, "secret": target.secret_ref}
                put_target(unit, TargetInput(code=target.code, enabled=False, **kept), managed_by="file")
    for grant in absent_admin_grants(unit, document.admin_grants):
        lines.append(f"{sign} admin_grant {grant.holder_kind} {grant.holder_id}: {', '.join(grant.role_keys)}")
        if prune:
            revoke_admin_grant(unit, grant.grant_id)
    return lines


def _gone(unit: Unit, model: Any, key: str, named: set[str]) -> Iterator[Any]:
    rows = unit.db.execute(select(model).where(model.managed_by == "file").order_by(key)).scalars()
    return (row for row in list(rows) if getattr(row, key) not in named)


def _absent_faces(unit: Unit, part: ApplicationPart, *, prune: bool) -> list[str]:
    app = apps.get_application(unit, part.code)
    named = {
        *(one.client_id for one in part.oidc),
        *(one.entity_id for one in part.saml),
        *(one.url for one in part.cas),
        *(one.origin for one in part.forward),
        *(one.identifier for one in part.apis),
    }
    lines = []
    for face, name in apps.faces_of(unit, app):
        if name in named:
            continue
        lines.append(f"{'-' if prune else '?'} {face.__tablename__} {name} of {app.code}")
        if prune:
            apps.remove_face(unit, app, face)
    return lines
