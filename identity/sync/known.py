"""What we hold of one source, as the plan takes it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from identity.people.models import (
    Employment,
    Group,
    GroupEdge,
    Membership,
    OrgPlacement,
    OrgUnit,
    PersonProfile,
    Position,
    SourceAccount,
    User,
    UserState,
)
from identity.sync.plan import KnownDirectory, KnownGroup, KnownUser


def load_known(db: Session, source_id: UUID) -> KnownDirectory:
    """Read the source's accounts, groups and departments."""
    accounts = dict(
        db.execute(
            select(SourceAccount.user_id, SourceAccount.immutable_id).where(SourceAccount.source_id == source_id)
        ).all()
    )
    logins = db.execute(select(User.id, User.login_key)).all()
    return KnownDirectory(
        users=_users(db, accounts),
        groups=_groups(db, source_id, accounts),
        departments=_departments(db, source_id),
        other_logins=frozenset(key for user_id, key in logins if user_id not in accounts),
    )


def _users(db: Session, accounts: dict[UUID, str]) -> dict[str, KnownUser]:
    company, unit = aliased(OrgUnit), aliased(OrgUnit)
    jobs = {
        row.user_id: row
        for row in db.execute(
            select(
                Employment.user_id,
                Employment.employee_number,
                company.code.label("company"),
                unit.code.label("department"),
                Position.code.label("position"),
            )
            .join(company, company.id == Employment.company_id)
            .outerjoin(unit, unit.id == Employment.org_unit_id)
            .outerjoin(Position, Position.id == Employment.position_id)
            .where(Employment.is_primary, Employment.rev_until.is_(None))
        )
    }
    query = (
        select(User.id, User.login, UserState.state, PersonProfile)
        .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
    )
    found = {}
    for user_id, login, state, profile in db.execute(query):
        if user_id not in accounts:
            continue
        job = jobs.get(user_id)
        found[accounts[user_id]] = KnownUser(
            user_id=str(user_id),
            login=login,
            active=state == "active",
            profile={name: getattr(profile, name) for name in ("name", "family_name", "given_name", "mail", "phone")},
            employment={
                name: getattr(job, name, None) for name in ("company", "department", "position", "employee_number")
            },
        )
    return found


def _groups(db: Session, source_id: UUID, accounts: dict[UUID, str]) -> dict[str, KnownGroup]:
    rows = db.execute(select(Group.id, Group.immutable_id, Group.name).where(Group.source_id == source_id)).all()
    ids = {row.id: row.immutable_id or "" for row in rows}
    users: dict[UUID, set[str]] = {}
    children: dict[UUID, set[str]] = {}
    for group_id, user_id in db.execute(
        select(Membership.group_id, Membership.user_id).where(Membership.rev_until.is_(None))
    ):
        if group_id in ids and user_id in accounts:
            users.setdefault(group_id, set()).add(accounts[user_id])
    for parent, child in db.execute(
        select(GroupEdge.parent_id, GroupEdge.child_id).where(GroupEdge.rev_until.is_(None))
    ):
        if parent in ids and child in ids:
            children.setdefault(parent, set()).add(ids[child])
    return {
        row.immutable_id or "": KnownGroup(
            row.name, frozenset(users.get(row.id, ())), frozenset(children.get(row.id, ()))
        )
        for row in rows
    }


def _departments(db: Session, source_id: UUID) -> dict[str, dict[str, str | None]]:
    company = aliased(OrgUnit)
    rows = db.execute(
        select(OrgUnit.code, OrgUnit.name, company.code.label("company"))
        .join(OrgPlacement, (OrgPlacement.org_unit_id == OrgUnit.id) & OrgPlacement.rev_until.is_(None))
        .outerjoin(company, company.id == OrgPlacement.company_id)
        .where(OrgUnit.source_id == source_id, OrgUnit.kind == "department")
    )
    return {row.code: {"code": row.code, "name": row.name, "company": row.company} for row in rows}
