"""The rules of a document as a draft: they decide nothing until somebody publishes it."""

from __future__ import annotations

from sqlalchemy import select

from identity.apps.models import Application
from identity.configuration.document import Document
from identity.core.errors import Conflict
from identity.core.unit import Unit
from identity.roles import rules
from identity.roles.inputs import RuleSetInput
from identity.roles.models import PolicyVersion
from identity.roles.models_drafts import PolicyDraft
from identity.roles.service_drafts import EDITING, PROPOSED, create_draft
from identity.roles.service_policy import digest, load_rules, put_role, version_in_force

RULES = frozenset({"roles", "permissions", "inheritance", "mappings", "duties", "duty_pairs"})


def put_roles(unit: Unit, document: Document) -> None:
    """The document's roles are in the catalogue; a role without rules gives nothing."""
    ids = dict(unit.db.execute(select(Application.code, Application.id)).all())
    for role in document.roles:
        put_role(unit, role, application_id=ids.get(role.application or ""), managed_by="file")


def draft_of(unit: Unit, document: Document, title: str) -> tuple[PolicyDraft, tuple[str, ...]]:
    """A draft whose rules are the document's, and one line for each change and for each part that is left out.

    Raises `Conflict` when these rules are in force already.
    """
    put_roles(unit, document)
    current = load_rules(unit, version_in_force(unit))
    wanted = document.rules()
    if digest(current) == digest(wanted):
        raise Conflict("These rules are in force already.", code="nothing_to_do")
    draft = put_draft(unit, wanted, title)
    left = [name for name in type(document).model_fields if name not in RULES and getattr(document, name)]
    return draft, (*changes(current, wanted), *(f"? {name}: not part of a draft" for name in left))


def put_draft(unit: Unit, wanted: RuleSetInput, title: str) -> PolicyDraft:
    """An open draft with this content, of the rules in force: the one that is there, or a new one."""
    known = (
        select(PolicyDraft)
        .join(PolicyVersion, PolicyVersion.version == PolicyDraft.version)
        .where(
            PolicyDraft.digest == digest(wanted),
            PolicyDraft.state.in_((EDITING, PROPOSED)),
            PolicyVersion.based_on == version_in_force(unit),
        )
    )
    return unit.db.execute(known.limit(1)).scalar_one_or_none() or create_draft(unit, title, content=wanted)


def changes(old: RuleSetInput, new: RuleSetInput) -> list[str]:
    """One line for each added and each removed rule."""
    return [
        f"{'+' if name.endswith('_added') else '-'} {name.rpartition('_')[0]}: {row}"
        for name, rows in rules.difference(old, new).items()
        for row in rows
    ]
