"""What an application may decide by itself: its rules and its people out of the snapshot, in the form that it takes.

Every form may only be stricter than a decision here; what a form cannot tell it lists (`policies.export`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from identity.access.search import chunks, subject_ids
from identity.access.snapshot import Snapshot
from identity.apps.registry import App
from policies import bundle, export
from policies.casbin_form import casbin_form
from policies.export import ExportSubject
from policies.shiro_form import ID_FORM, shiro_form

FORMS = ("bundle", "casbin", "shiro")


def content(connection: Connection, snapshot: Snapshot, app: App, form: str) -> dict[str, Any]:
    """The application's policy in this form as JSON-able data, the same as long as nothing of it changes."""
    people = own_people(connection, snapshot, app)
    rules = export.own_rules(snapshot.engine.rules, app.code)
    if form == "bundle":
        return bundle.pack(rules, app.code, people, snapshot.org)
    if form == "casbin":
        lasting = [(one.id, one.grants) for one in people if one.valid_until is None]
        made = casbin_form(rules, lasting)
        unsaid = {*made.ask_subjects, *(one.id for one in people if one.valid_until is not None)}
        return {
            "model": made.model,
            "policy": [list(line) for line in made.policy],
            "ask": _asked({(kind, action): why for (_, kind, action), why in made.ask.items()}),
            "ask_subjects": sorted(unsaid),
        }
    shiro = shiro_form(rules, app.code, people)
    return {
        "roles": {role: list(texts) for role, texts in shiro.roles.items()},
        "users": {name: list(roles) for name, roles in shiro.users.items()},
        "case_sensitive": True,
        "ids": ID_FORM,
        "ask": _asked(shiro.ask),
        "ask_subjects": sorted(shiro.ask_subjects),
    }


def own_people(connection: Connection, snapshot: Snapshot, app: App) -> list[ExportSubject]:
    """The active people who hold something of this application, as it calls them, with those of their grants; sorted.

    Whom the application does not know by its `subject_id_field` is left out.
    """
    rules = snapshot.engine.rules
    relevant = export.carriers(rules, export.permissions_of(rules, app.code))
    holding = (
        user
        for user in snapshot.users.values()
        if user.subject.state == "active" and any(grant.role in relevant for grant in user.subject.grants)
    )
    found = []
    for chunk in chunks(holding):
        named = subject_ids(connection, app, chunk)
        for user in chunk:
            if user.id in named:
                grants = tuple(grant for grant in user.subject.grants if grant.role in relevant)
                found.append(ExportSubject(named[user.id], grants, user.subject.valid_until))
    return sorted(found, key=lambda one: one.id)


def asked(snapshot: Snapshot, application: str) -> list[dict[str, Any]]:
    """What a bundle leaves to the decision point, with why, for people to read."""
    rules = export.own_rules(snapshot.engine.rules, application)
    grants = (grant for user in snapshot.users.values() for grant in user.subject.grants)
    return _asked(export.ask(rules, application, grants))


def _asked(why: Mapping[export.Key, tuple[str, ...]]) -> list[dict[str, Any]]:
    return [{"type": kind, "action": action, "why": list(reasons)} for (kind, action), reasons in sorted(why.items())]
