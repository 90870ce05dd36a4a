"""Read-only queries of the pages. Lists are paged by key: a page begins behind the last row of the one before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, func, or_, select
from sqlalchemy.orm import aliased

from identity.apps.models import AppAccount, Application
from identity.directory.models import DirectorySource
from identity.login.models import LoginSession, SessionParticipant
from identity.people.models import (
    Employment,
    Group,
    GroupEdge,
    Membership,
    OrgUnit,
    PersonProfile,
    Position,
    SourceAccount,
    User,
    UserState,
)
from identity.roles.models import Assignment, Role
from identity.sync.models import SyncRun

PAGE = 50


def users(connection: Connection, text: str, state: str, department: str, after: str) -> tuple[Sequence[Any], int]:
    """A page of users by login whose login, name or mail contains `text`, one row too many when more follow; and how
    many there are in all."""
    unit = aliased(OrgUnit)
    query = (
        select(
            User.id,
            User.login,
            User.login_key,
            PersonProfile.name,
            PersonProfile.mail,
            UserState.state,
            unit.name.label("department"),
            Position.name.label("position"),
        )
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
        .outerjoin(
            Employment,
            (Employment.user_id == User.id) & Employment.is_primary & Employment.rev_until.is_(None),
        )
        .outerjoin(unit, unit.id == Employment.org_unit_id)
        .outerjoin(Position, Position.id == Employment.position_id)
    )
    if state:
        query = query.where(UserState.state == state)
    if department:
        query = query.where(unit.code == department)
    if text:
        query = query.where(
            or_(
                User.login_key.contains(text.casefold(), autoescape=True),
                PersonProfile.name.contains(text, autoescape=True),
                PersonProfile.mail.contains(text, autoescape=True),
            )
        )
    total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    page = query.where(User.login_key > after).order_by(User.login_key).limit(PAGE + 1)
    return connection.execute(page).all(), total


def departments(connection: Connection) -> Sequence[Any]:
    """Departments by code, for a choice."""
    return connection.execute(
        select(OrgUnit.code, OrgUnit.name).where(OrgUnit.kind == "department").order_by(OrgUnit.code)
    ).all()


def user(connection: Connection, user_id: UUID) -> Any:
    """One user with profile and state, or None."""
    return connection.execute(
        select(User.id, User.login, User.sub, User.person_id, User.created_at, *_PROFILE, *_STATE)
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
        .where(User.id == user_id)
    ).first()


_PROFILE = (PersonProfile.name, PersonProfile.mail, PersonProfile.phone)
_STATE = (UserState.state, UserState.cause, UserState.valid_until)


def employments(connection: Connection, user_id: UUID) -> Sequence[Any]:
    """Where the user works, the primary employment first."""
    company, unit = aliased(OrgUnit), aliased(OrgUnit)
    return connection.execute(
        select(
            company.name.label("company"),
            unit.name.label("department"),
            unit.code.label("department_code"),
            Position.name.label("position"),
            Employment.employee_number,
            Employment.is_primary,
            Employment.valid_until,
        )
        .join(company, company.id == Employment.company_id)
        .outerjoin(unit, unit.id == Employment.org_unit_id)
        .outerjoin(Position, Position.id == Employment.position_id)
        .where(Employment.user_id == user_id, Employment.rev_until.is_(None))
        .order_by(Employment.is_primary.desc(), company.code)
    ).all()


def source_accounts(connection: Connection, user_id: UUID) -> Sequence[Any]:
    """What directories hold of the user."""
    return connection.execute(
        select(DirectorySource.name, SourceAccount.dn, SourceAccount.status, SourceAccount.last_seen_at)
        .join(DirectorySource, DirectorySource.id == SourceAccount.source_id)
        .where(SourceAccount.user_id == user_id)
        .order_by(DirectorySource.code)
    ).all()


def app_accounts(connection: Connection, user_id: UUID) -> dict[str, Any]:
    """How applications know the user, by application code."""
    query = (
        select(Application.code, AppAccount.account_id, AppAccount.name_id, AppAccount.status)
        .join(AppAccount, AppAccount.application_id == Application.id)
        .where(AppAccount.user_id == user_id)
    )
    return {row.code: row for row in connection.execute(query)}


def live_sessions(connection: Connection, user_id: UUID, now: datetime) -> Sequence[Any]:
    """The user's sessions that are not over, the one used last first."""
    return connection.execute(
        select(LoginSession.__table__)
        .where(LoginSession.user_id == user_id, LoginSession.ended_at.is_(None), LoginSession.expires_at > now)
        .order_by(LoginSession.last_seen_at.desc())
    ).all()


def participants(connection: Connection, sessions: Iterable[UUID]) -> dict[UUID, list[str]]:
    """The codes of the applications that took part in each of these sessions."""
    query = (
        select(SessionParticipant.session_id, Application.code)
        .join(Application, Application.id == SessionParticipant.application_id)
        .where(SessionParticipant.session_id.in_(list(sessions)))
        .order_by(SessionParticipant.joined_at)
    )
    found: dict[UUID, list[str]] = {}
    for session_id, code in connection.execute(query):
        found.setdefault(session_id, [])
        if code not in found[session_id]:
            found[session_id].append(code)
    return found


def groups(connection: Connection, text: str, after: str) -> Sequence[Any]:
    """A page of groups by name with the number of their direct members and nested groups."""

    def counted(column: Any, table: Any) -> Any:
        return (
            select(column.label("id"), func.count().label("n"))
            .where(table.rev_until.is_(None))
            .group_by(column)
            .subquery()
        )

    members, nested = counted(Membership.group_id, Membership), counted(GroupEdge.parent_id, GroupEdge)
    query: Select[Any] = (
        select(
            Group.id,
            Group.name,
            Group.display_name,
            DirectorySource.name.label("source"),
            members.c.n.label("members"),
            nested.c.n.label("nested"),
        )
        .outerjoin(members, members.c.id == Group.id)
        .outerjoin(nested, nested.c.id == Group.id)
        .outerjoin(DirectorySource, DirectorySource.id == Group.source_id)
        .where(Group.name > after)
        .order_by(Group.name)
        .limit(PAGE + 1)
    )
    if text:
        query = query.where(
            or_(Group.name.contains(text, autoescape=True), Group.display_name.contains(text, autoescape=True))
        )
    return connection.execute(query).all()


def group_members(connection: Connection, group_id: UUID, after: str) -> Sequence[Any]:
    """A page of direct members by login."""
    return connection.execute(
        select(User.id, User.login, User.login_key, PersonProfile.name)
        .join(Membership, (Membership.user_id == User.id) & Membership.rev_until.is_(None))
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .where(Membership.group_id == group_id, User.login_key > after)
        .order_by(User.login_key)
        .limit(PAGE + 1)
    ).all()


def neighbours(connection: Connection, group_id: UUID) -> tuple[Sequence[Any], Sequence[Any]]:
    """The groups in this one, and the groups that it is in."""
    nested = select(Group.id, Group.name, Group.display_name).join(
        GroupEdge, (GroupEdge.child_id == Group.id) & GroupEdge.rev_until.is_(None)
    )
    above = select(Group.id, Group.name, Group.display_name).join(
        GroupEdge, (GroupEdge.parent_id == Group.id) & GroupEdge.rev_until.is_(None)
    )
    return (
        connection.execute(nested.where(GroupEdge.parent_id == group_id).order_by(Group.name)).all(),
        connection.execute(above.where(GroupEdge.child_id == group_id).order_by(Group.name)).all(),
    )


def group_ids(connection: Connection, wanted: Iterable[str]) -> dict[str, UUID]:
    """Ids of groups by name."""
    query = select(Group.name, Group.id).where(Group.name.in_(list(wanted)))
    return {row.name: row.id for row in connection.execute(query)}


def sync_runs(connection: Connection, source: str = "", before: datetime | None = None) -> Sequence[Any]:
    """A page of runs, newest first, of one directory or of all."""
    query = (
        select(*SyncRun.__table__.columns, DirectorySource.code, DirectorySource.name)
        .join(DirectorySource, DirectorySource.id == SyncRun.source_id)
        .order_by(SyncRun.started_at.desc(), SyncRun.id.desc())
        .limit(PAGE + 1)
    )
    if source:
        query = query.where(DirectorySource.code == source)
    if before is not None:
        query = query.where(SyncRun.started_at < before)
    return connection.execute(query).all()


def role_titles(connection: Connection) -> dict[str, str]:
    """Titles of all roles by key."""
    return {row.key: row.title for row in connection.execute(select(Role.key, Role.title))}


def assigned_by(connection: Connection, user_id: UUID) -> dict[str, str]:
    """Who assigned what the user holds directly, by assignment id."""
    query = select(Assignment.assignment_id, Assignment.granted_by).where(
        Assignment.holder_kind == "user", Assignment.holder_id == user_id, Assignment.rev_until.is_(None)
    )
    return {str(row.assignment_id): row.granted_by for row in connection.execute(query)}


def names(connection: Connection, persons: Iterable[UUID]) -> dict[UUID, str]:
    """Names of persons."""
    found: dict[UUID, str] = {}
    wanted = list(set(persons))
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        query = select(PersonProfile.person_id, PersonProfile.name).where(PersonProfile.person_id.in_(chunk))
        found |= {row.person_id: row.name for row in connection.execute(query)}
    return found
