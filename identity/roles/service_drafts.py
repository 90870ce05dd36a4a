"""Drafts: changes of the rules are collected in a version that decides nothing, looked at, and published.

A draft is bound to what was seen: every step names the row version and the digest of the rules that its page showed.
Where the installation asks for it (`service_second_person`), whoever wrote or proposed a draft does not publish it,
by any identity of his; that it was so is looked at again before the commit (`access.publishing`).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, Invalid, NotFound, Refused, Stale
from identity.core.record import Record
from identity.core.unit import Unit
from identity.roles import draft_rows, rules
from identity.roles.draft_rows import Delta
from identity.roles.inputs import RuleSetInput
from identity.roles.models import PolicyVersion, Role
from identity.roles.models_drafts import PolicyCheck, PolicyDraft
from identity.roles.service_policy import digest, load_rules, publish, save_version, version_in_force
from identity.roles.service_second_person import is_required
from identity.roles.summary import summary

EDITING, PROPOSED = "editing", "proposed"


def create_draft(
    unit: Unit, title: str, *, content: RuleSetInput | None = None, restores: int | None = None
) -> PolicyDraft:
    """A draft with this content; without one, with the rules in force, or with those of the version `restores`.

    Raises `NotFound` for an unknown version, `Conflict` for one that holds the rules in force, `Invalid` without a
    title or for rules that may not be stored.
    """
    unit.require("write", "policy", "draft")
    title = title.strip()[:200]
    if not title:
        raise Invalid("Please give the draft a title.", code="form")
    based_on = version_in_force(unit)
    if restores is not None:
        old = unit.db.get(PolicyVersion, restores)
        if old is None or old.state != "published":
            raise NotFound("There is no such policy version.")
        content = load_rules(unit, restores)
        if digest(content) == digest(load_rules(unit, based_on)):
            raise Conflict("These rules are in force already.", code="nothing_to_do")
    content = load_rules(unit, based_on) if content is None else content
    version = save_version(unit, content, based_on=based_on, note=title)
    row = PolicyDraft(
        title=title,
        version=version,
        restores=restores,
        state=EDITING,
        digest=digest(content),
        owner=unit.actor.id,
        owner_person=unit.actor.person,
        writers=[str(unit.actor.person)] if unit.actor.person else [],
        reason=unit.reason or "",
        reference=unit.reference,
        created_at=unit.now,
        changed_at=unit.now,
    )
    unit.db.add(row)
    unit.db.flush()
    _record(unit, Kind.DRAFT_CREATED, row, after={"title": title, "based_on": based_on, "restores": restores})
    return row


def get_draft(unit: Unit, draft_id: UUID) -> PolicyDraft:
    """Raises `NotFound`."""
    row = unit.db.get(PolicyDraft, draft_id)
    if row is None:
        raise NotFound("There is no such draft.")
    return row


def base_of(unit: Unit, draft: PolicyDraft) -> int | None:
    """The version that the draft was made from."""
    return unit.db.get_one(PolicyVersion, draft.version).based_on


def edit_draft(unit: Unit, draft_id: UUID, row_version: int, change: Delta) -> PolicyDraft:
    """One more change in the draft. Removing what is not there changes nothing.

    Raises `Invalid` with what this change makes wrong, `Conflict` unless the draft is being written, `Stale`.
    """
    unit.require("write", "policy", str(draft_id))
    row = _locked(unit, draft_id, row_version)
    content = load_rules(unit, row.version)
    present = draft_rows.by_id(content, change.part)
    change = Delta(
        change.part,
        {key: one for key, one in change.added.items() if key not in present},
        {key: one for key, one in change.removed.items() if key in present and key not in change.added},
    )
    if not change.added and not change.removed:
        raise Conflict("This is so already.", code="nothing_to_do")
    after = draft_rows.changed(content, change)
    known = set(unit.db.execute(select(Role.key)).scalars())
    old = set(rules.problems(content, known))
    problems = [one for one in rules.problems(after, known) if one not in old]
    if problems:
        raise Invalid("The rules are not valid: " + "; ".join(problems[:10]), code="invalid_policy")
    draft_rows.write(unit.db, row.version, change)
    _written(unit, row, after)
    _record(unit, Kind.DRAFT_CHANGED, row, after=rules.difference(content, after))
    return row


def rebase_draft(unit: Unit, draft_id: UUID, row_version: int) -> PolicyDraft:
    """The draft's changes on top of the rules in force now, as a new version.

    Raises `Conflict` with the list of changes that cannot be made any more.
    """
    unit.require("write", "policy", str(draft_id))
    row = _locked(unit, draft_id, row_version)
    current = version_in_force(unit)
    base = base_of(unit, row)
    if base == current:
        raise Conflict("This is so already.", code="nothing_to_do")
    mine = load_rules(unit, row.version)
    merged, conflicts = draft_rows.merge(load_rules(unit, base), mine, load_rules(unit, current))
    if conflicts:
        lines = [f"{part}: {summary(one)}" for part, one in conflicts[:20]]
        raise Conflict(
            "Others changed rules that this draft changes as well; its page lists them.",
            "; ".join(lines),
            code="draft_conflict",
        )
    before = row.version
    row.version = save_version(unit, merged, based_on=current, note=row.title)
    _written(unit, row, merged)
    _record(
        unit,
        Kind.DRAFT_REBASED,
        row,
        before={"version": before, "based_on": base},
        after={"version": row.version, "based_on": current},
    )
    return row


def discard_draft(unit: Unit, draft_id: UUID, row_version: int) -> None:
    """The draft is done with; its rules stay as a version that never was in force."""
    unit.require("write", "policy", str(draft_id))
    row = _locked(unit, draft_id, row_version, EDITING, PROPOSED)
    row.state, row.row_version, row.changed_at = "discarded", row.row_version + 1, unit.now
    _record(unit, Kind.DRAFT_DISCARDED, row)


def propose_draft(unit: Unit, draft_id: UUID, row_version: int, seen: str) -> PolicyDraft:
    """The draft waits for a second person and changes no more.

    Raises `Stale` when the rules in force are no longer those it was made from, or when it is not what `seen` names;
    `Conflict` when nobody has looked at who gains and who loses by it.
    """
    unit.require("write", "policy", str(draft_id))
    row = _locked(unit, draft_id, row_version)
    if unit.actor.person is None:
        raise Refused("A person must propose this.", code="person_needed")
    _check_publishable(unit, row, seen)
    row.state, row.proposed_by, row.proposed_at = PROPOSED, unit.actor.person, unit.now
    row.decided_by, row.decided_at, row.answer = None, None, ""
    row.row_version, row.changed_at = row.row_version + 1, unit.now
    _record(unit, Kind.DRAFT_PROPOSED, row, after={"version": row.version, "digest": row.digest})
    return row


def withdraw_draft(unit: Unit, draft_id: UUID, row_version: int) -> None:
    """A proposed draft is written on."""
    unit.require("write", "policy", str(draft_id))
    row = _locked(unit, draft_id, row_version, PROPOSED)
    row.state, row.row_version, row.changed_at = EDITING, row.row_version + 1, unit.now
    _record(unit, Kind.DRAFT_WITHDRAWN, row)


def decide_draft(unit: Unit, draft_id: UUID, row_version: int, seen: str, *, approve: bool) -> None:
    """A second person publishes exactly what `seen` names, or sends it back with the Unit's reason.

    Raises `Refused` for who proposed it or wrote any of it, by any identity; `Conflict` unless it is proposed; `Stale`.
    """
    unit.require("approve", "policy", str(draft_id))
    row = _locked(unit, draft_id, row_version, PROPOSED)
    person = unit.actor.person
    if person is None or person == row.proposed_by or str(person) in row.writers:
        raise Refused("A second person must decide this.", code="four_eyes")
    if approve:
        _check_publishable(unit, row, seen)
    row.decided_by, row.decided_at = person, unit.now
    row.state, row.row_version, row.changed_at = EDITING, row.row_version + 1, unit.now
    row.answer = "" if approve else (unit.reason or "")
    outcome = {"answer": "approve" if approve else "refuse", "proposed_by": str(row.proposed_by)}
    _record(unit, Kind.DRAFT_DECIDED, row, after={**outcome, "version": row.version, "digest": row.digest})
    if approve:
        _put_in_force(unit, row)


def publish_draft(unit: Unit, draft_id: UUID, row_version: int, seen: str, *, demo: bool) -> None:
    """Publish alone; raises `Refused` where a second person is asked for, and otherwise like `propose_draft`."""
    unit.require("write", "policy", str(draft_id))
    row = _locked(unit, draft_id, row_version, EDITING, PROPOSED)
    if is_required(unit.db.connection(), demo=demo):
        raise Refused("A second person must publish the rules.", code="second_person")
    _check_publishable(unit, row, seen)
    row.row_version, row.changed_at = row.row_version + 1, unit.now
    _put_in_force(unit, row)


def is_compared(unit: Unit, draft: PolicyDraft) -> bool:
    """Whether somebody has looked at who gains and who loses by this draft, as it is, against the rules in force."""
    found = select(PolicyCheck.id).where(
        PolicyCheck.kind == "compare",
        PolicyCheck.state == "done",
        PolicyCheck.before_version == (version_in_force(unit) or 0),
        PolicyCheck.after_version == draft.version,
        PolicyCheck.after_digest == draft.digest,
    )
    return unit.db.execute(found.limit(1)).first() is not None


def _put_in_force(unit: Unit, row: PolicyDraft) -> None:
    row.state = "published"
    unit.db.flush()
    about = {"draft": str(row.id), "digest": row.digest, "restores": row.restores}
    publish(unit, row.version, {name: value for name, value in about.items() if value is not None})


def _check_publishable(unit: Unit, row: PolicyDraft, seen: str) -> None:
    base = base_of(unit, row)
    if base != version_in_force(unit):
        raise Stale("The rules have changed since this draft was made. Bring it up to date first.", code="stale_draft")
    content = load_rules(unit, row.version)
    if not seen == row.digest == digest(content):
        raise Stale("The draft is not the one that you have seen. Please load the page again.", code="stale")
    if row.digest == digest(load_rules(unit, base)):
        raise Conflict("The draft changes nothing.", code="nothing_to_do")
    if not is_compared(unit, row):
        raise Conflict("First look at who gains and who loses by it.", code="not_compared")


def _locked(unit: Unit, draft_id: UUID, row_version: int, *states: str) -> PolicyDraft:
    row = unit.db.get(PolicyDraft, draft_id, with_for_update=True)
    if row is None:
        raise NotFound("There is no such draft.")
    if row.state not in (states or (EDITING,)):
        if row.state == PROPOSED:
            raise Conflict("This draft waits for a second person; withdraw it to change it.", code="draft_proposed")
        raise Conflict("This draft does not wait for that.", code="draft_state")
    if row.row_version != row_version:
        raise Stale("Somebody else has changed this draft. Please load the page again.", code="stale")
    return row


def _written(unit: Unit, row: PolicyDraft, content: RuleSetInput) -> None:
    row.digest, row.changed_at, row.row_version = digest(content), unit.now, row.row_version + 1
    row.restores = None
    if unit.actor.person and str(unit.actor.person) not in row.writers:
        row.writers = [*row.writers, str(unit.actor.person)]


def _record(unit: Unit, kind: Kind, row: PolicyDraft, **parts: Any) -> None:
    unit.record(
        Record(
            kind=kind,
            result="success",
            resource_type="policy",
            resource_id=str(row.version),
            data={"draft": str(row.id), "title": row.title, "state": row.state},
            **parts,
        )
    )
