"""Read-only queries of the pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, or_, select
from sqlalchemy.orm import aliased

from identity.directory.models import DirectorySource
from identity.login.models import LoginSession
from identity.people.models import (
    Employment,
    Group,
    GroupEdge,
    Membership,
    OrgUnit,
    PersonProfile,
    User,
    UserState,
)
from identity.sync.models import SyncRun

PAGE = 50


def users(connection: Connection, text: str, after: str) -> Sequence[Any]:
    """A page of users by login, whose login, name or mail contains `text`."""
    unit = aliased(OrgUnit)
    query = (
        select(
            User.id,
            User.login,
            PersonProfile.name,
            PersonProfile.mail,
            UserState.state,
            unit.name.label("department"),
        )
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
        .outerjoin(
            Employment,
            (Employment.user_id == User.id) & Employment.is_primary & Employment.rev_until.is_(None),
        )
        .outerjoin(unit, unit.id == Employment.org_unit_id)
        .where(User.login_key > after)
        .order_by(User.login_key)
        .limit(PAGE + 1)
    )
    if text:
        query = query.where(
            or_(
                User.login_key.contains(text.casefold(), autoescape=True),
                PersonProfile.name.contains(text, autoescape=True),
                PersonProfile.mail.contains(text, autoescape=True),
            )
        )
    return connection.execute(query).all()


def user(connection: Connection, user_id: UUID) -> Any:
    """One user with profile and state, or None."""
    return connection.execute(
        select(User.id, User.login, User.sub, User.person_id, PersonProfile, UserState.state, UserState.cause)
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
        .where(User.id == user_id)
    ).first()


def live_sessions(connection: Connection, user_id: UUID, now: Any) -> Sequence[Any]:
    """The user's sessions that are not over."""
    return connection.execute(
        select(LoginSession.__table__)
        .where(LoginSession.user_id == user_id, LoginSession.ended_at.is_(None), LoginSession.expires_at > now)
        .order_by(LoginSession.last_seen_at.desc())
    ).all()


def groups(connection: Connection, text: str) -> Sequence[Any]:
    """All groups with the number of their direct members and nested groups."""
    members = (
        select(Membership.group_id, func.count().label("n"))
        .where(Membership.rev_until.is_(None))
        .group_by(Membership.group_id)
        .subquery()
    )
    nested = (
        select(GroupEdge.parent_id, func.count().label("n"))
        .where(GroupEdge.rev_until.is_(None))
        .group_by(GroupEdge.parent_id)
        .subquery()
    )
    query = (
        select(Group.id, Group.name, Group.display_name, members.c.n.label("members"), nested.c.n.label("nested"))
        .outerjoin(members, members.c.group_id == Group.id)
        .outerjoin(nested, nested.c.parent_id == Group.id)
        .order_by(Group.name)
    )
    if text:
        query = query.where(Group.name.contains(text, autoescape=True))
    return connection.execute(query).all()


def group_members(connection: Connection, group_id: UUID) -> tuple[Sequence[Any], Sequence[Any]]:
    """Direct members (at most 500) and nested groups."""
    people = connection.execute(
        select(User.id, User.login, PersonProfile.name)
        .join(Membership, (Membership.user_id == User.id) & Membership.rev_until.is_(None))
        .join(PersonProfile, PersonProfile.person_id == User.person_id)
        .where(Membership.group_id == group_id)
        .order_by(User.login_key)
        .limit(500)
    ).all()
    nested = connection.execute(
        select(Group.id, Group.name, Group.display_name)
        .join(GroupEdge, (GroupEdge.child_id == Group.id) & GroupEdge.rev_until.is_(None))
        .where(GroupEdge.parent_id == group_id)
        .order_by(Group.name)
    ).all()
    return people, nested


def sync_runs(connection: Connection) -> Sequence[Any]:
    """The newest runs of all directories."""
    return connection.execute(
        select(SyncRun.__table__, DirectorySource.code)
        .join(DirectorySource, DirectorySource.id == SyncRun.source_id)
        .order_by(SyncRun.started_at.desc())
        .limit(PAGE)
    ).all()


def names(connection: Connection, persons: set[UUID]) -> dict[UUID, str]:
    """Names of persons."""
    query = select(PersonProfile.person_id, PersonProfile.name).where(PersonProfile.person_id.in_(persons))
    return dict(connection.execute(query).all())
