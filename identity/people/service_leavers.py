"""Identities whose time is over: deleted as a state, personal data erased; `sub`, login and facts stay."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select, update

from identity.audit.kinds import Kind
from identity.core.record import Record
from identity.core.unit import Unit
from identity.people.models import PersonProfile, SourceAccount, User, UserState
from identity.people.service import set_user_state
from identity.people.service_write_back import forget_written

CAUSE = "quarantine over"


def delete_identities(unit: Unit, source_id: UUID, keys: Sequence[str]) -> list[UUID]:
    """The identities of these accounts of a source (immutable ids) are deleted, unless they have another account or
    were made active meanwhile; those that are. The profile of a person without any other identity is erased."""
    mine = select(SourceAccount.user_id).where(
        SourceAccount.source_id == source_id, SourceAccount.immutable_id.in_(list(keys))
    )
    users = list(unit.db.execute(select(User).where(User.id.in_(mine.scalar_subquery()))).scalars())
    deleted = []
    for user in users:
        accounts = select(func.count()).select_from(SourceAccount).where(SourceAccount.user_id == user.id)
        active = select(UserState.id).where(
            UserState.user_id == user.id, UserState.rev_until.is_(None), UserState.state == "active"
        )
        if unit.db.execute(accounts).scalar_one() > 1 or unit.db.execute(active).first():
            continue
        set_user_state(unit, user.id, "deleted", cause=CAUSE)
        forget_written(unit, [user.id])
        unit.db.execute(delete(SourceAccount).where(SourceAccount.user_id == user.id))
        _erase_profile(unit, user)
        deleted.append(user.id)
    return deleted


def _erase_profile(unit: Unit, user: User) -> None:
    others = (
        select(User.id)
        .join(UserState, (UserState.user_id == User.id) & UserState.rev_until.is_(None))
        .where(User.person_id == user.person_id, User.id != user.id, UserState.state != "deleted")
    )
    if unit.db.execute(others).first():
        return
    fields = ("family_name", "given_name", "mail", "phone", "locale")
    unit.db.execute(
        update(PersonProfile)
        .where(PersonProfile.person_id == user.person_id)
        .values(name="", **dict.fromkeys(fields), erased_at=unit.now)
    )
    unit.record(
        Record(
            kind=Kind.USER_PROFILE_CHANGED,
            result="success",
            user=user.id,
            person=user.person_id,
            resource_type="user",
            resource_id=str(user.id),
            data={"login": user.login, "fields": ["name", *fields], "erased": True},
        )
    )
