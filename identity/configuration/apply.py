"""Apply a document: show what differs, then make it so in one Unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from identity.alarms.check import put_setting
from identity.apps import service as apps
from identity.apps.inputs import ApiInput, ApplicationInput, OidcInput
from identity.configuration.absent import absent
from identity.configuration.document import ApplicationPart, DirectoryPart, Document
from identity.configuration.drafts import changes, put_draft, put_roles
from identity.configuration.grants import put_admin_grants
from identity.core.record import Record
from identity.core.secrets import read_secret
from identity.core.unit import Unit
from identity.directory.service import put_directory
from identity.directory.settings import DirectorySettings
from identity.directory.transform import Transformer
from identity.people.service_org import put_org_unit
from identity.reports.service import put_schedule
from identity.roles.service_assignments import bootstrap_administrator
from identity.roles.service_policy import change_rules, digest, load_rules, version_in_force
from identity.shipping.service import put_target

SetPassword = Callable[[Unit, Any, str], None]


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying did, or would do: one line a change."""

    lines: tuple[str, ...]
    policy_version: int | None


def apply(
    unit: Unit,
    document: Document,
    base: Path,
    set_password: SetPassword,
    *,
    prune: bool = False,
    second_person: bool = False,
) -> Applied:
    """The installation is as the document says; a second run changes nothing.

    The lines are the changes in the order in which they happen. A dry run is the same in a Unit that is rolled back.
    What an earlier document made and this one does not name is listed, and with `prune` it is put out of use:
    directories and applications are disabled, faces removed; a role without rules gives nothing and is only listed.
    Where a `second_person` publishes rules, other rules than those in force become a draft.
    Raises `Invalid` for anything that may not be stored.
    """
    start = len(unit.records)
    for directory in document.directories:
        _put_directory(unit, directory, base)
    for org_unit in document.org_units:
        put_org_unit(unit, org_unit)
    for part in document.applications:
        _put_application(unit, part, base)
    put_roles(unit, document)
    before = version_in_force(unit)
    wanted, current = document.rules(), load_rules(unit, before)
    version, proposed = None, []
    if any((wanted.permissions, wanted.mappings, wanted.inheritance, wanted.duties)):
        if second_person and before is not None and digest(wanted) != digest(current):
            draft = put_draft(unit, wanted, "configuration file")
            proposed = [f"? policy {draft.version}: a draft, to be published by a second person"]
        else:
            version = change_rules(unit, wanted, based_on=before, note="configuration file")
    for administrator in document.administrators:
        user = bootstrap_administrator(unit, administrator.login, administrator.name, administrator.roles)
        if user is not None:
            set_password(unit, user, read_secret(administrator.password, base))
    _put_outward(unit, document, base)
    lines = [_line(record) for record in unit.records[start:]]
    if version is not None:
        lines += changes(current, wanted)
    return Applied((*lines, *proposed, *absent(unit, document, prune=prune)), version)


def _put_outward(unit: Unit, document: Document, base: Path) -> None:
    """What leaves the installation: the shipped record, reports by mail, alarms."""
    for target in document.shipping:
        put_target(unit, target.model_copy(update={"secret": _resolved(target.secret, base)}), managed_by="file")
    put_admin_grants(unit, document.admin_grants)
    for schedule in document.reports:
        put_schedule(unit, schedule, managed_by="file")
    for alarm in document.alarms:
        put_setting(unit, alarm, managed_by="file")


def _put_directory(unit: Unit, part: DirectoryPart, base: Path) -> None:
    settings = dict(part.settings)
    for name in ("path", "ca_file"):
        if settings.get(name):
            settings[name] = str((base / settings[name]).resolve())
    Transformer(DirectorySettings.load(part.kind, settings))
    values = {
        "name": part.name,
        "kind": part.kind,
        "settings": settings,
        "secret_ref": _resolved(part.secret, base),
        "precedence": part.precedence,
        **{name: getattr(part, name) for name in ("interval_s", "cron", "live", "check_cron", "check_repairs")},
        "enabled": part.enabled,
        "managed_by": "file",
    }
    put_directory(unit, part.code, values)


def _put_application(unit: Unit, part: ApplicationPart, base: Path) -> None:
    shape = {name: getattr(part, name) for name in ApplicationInput.model_fields}
    app = apps.put_application(unit, ApplicationInput(**shape), managed_by="file")
    if part.credential:
        apps.set_credential(unit, app, "decision point", read_secret(part.credential, base))
    for client in part.oidc:
        value = read_secret(client.secret, base) if client.secret else None
        apps.put_oidc_client(unit, app, OidcInput(**client.model_dump(exclude={"secret"})), value)
    for provider in part.saml:
        apps.put_saml_sp(unit, app, provider)
    for service in part.cas:
        apps.put_cas_service(unit, app, service)
    for host in part.forward:
        apps.put_forward_host(unit, app, host)
    for api in part.apis:
        value = read_secret(api.secret, base) if api.secret else None
        apps.put_api(unit, app, ApiInput(**api.model_dump(exclude={"secret"})), value)


def _resolved(reference: str | None, base: Path) -> str | None:
    """A `file:` reference with its whole path: it is read later, from elsewhere."""
    if reference is None or not reference.startswith("file:"):
        return reference
    return f"file:{(base / reference.removeprefix('file:')).resolve()}"


def _line(record: Record) -> str:
    sign = "+" if record.before is None else "~"
    return f"{sign} {record.kind}: {record.resource_type} {record.resource_id}"
