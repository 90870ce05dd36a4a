"""Persons, their identities and profiles. Every function is one act of a Unit and leaves its record."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select

from identity.audit.kinds import Kind
from identity.core.errors import Conflict, NotFound
from identity.core.record import Record
from identity.core.unit import Unit
from identity.people.inputs import NewUser, Profile, fold_login
from identity.people.models import Person, PersonProfile, User, UserAttribute, UserState
from identity.people.service_write_back import queue


def create_user(unit: Unit, new: NewUser) -> User:
    """A new identity that may act at once; raises `Conflict` when the login is taken (in any spelling)."""
    unit.require("write", "user", new.login)
    key = fold_login(new.login)
    if unit.db.execute(select(User.id).where(User.login_key == key)).first():
        raise Conflict(f"The login {new.login!r} is taken.", code="login_taken")
    person_id = new.person_id
    if person_id is None:
        person = Person(created_at=unit.now)
        unit.db.add(person)
        unit.db.flush()
        person_id = person.id
        unit.db.add(PersonProfile(person_id=person_id, **new.profile.model_dump()))
    user = User(
        person_id=person_id,
        sub=uuid4(),
        login=new.login,
        login_key=key,
        created_at=unit.now,
    )
    unit.db.add(user)
    unit.db.flush()
    unit.facts.put(
        unit.db,
        UserState,
        {"user_id": user.id},
        {"state": new.state, "cause": "created", "valid_until": new.valid_until},
    )
    _state_login(unit, user)
    unit.facts.touch("user", [user.id])
    unit.record(_changed(Kind.USER_CREATED, user, after={"login": user.login, "state": new.state}))
    return user


def get_user(unit: Unit, user_id: UUID) -> User:
    """The identity; raises `NotFound`."""
    user = unit.db.get(User, user_id)
    if user is None:
        raise NotFound("There is no such user.")
    return user


def find_user_by_login(unit: Unit, login: str) -> User | None:
    """The identity with this login in any spelling."""
    return unit.db.execute(select(User).where(User.login_key == fold_login(login))).scalar_one_or_none()


def set_user_state(
    unit: Unit,
    user_id: UUID,
    state: str,
    *,
    cause: str,
    valid_until: datetime | None = None,
) -> bool:
    """The identity is active, disabled or deleted from now on; False when it was so already, for the same cause.

    A disabled or deleted identity's sessions, tokens and decisions end with the next use. The cause tells who may make
    it active again: what a person disabled, no directory enables.
    """
    unit.require("write", "user", str(user_id))
    user = get_user(unit, user_id)
    before = current_state(unit, user_id)
    same = before is not None and (before.state, before.valid_until) == (state, valid_until)
    if before is not None and same and (state == "active" or before.cause == cause):
        return False
    was = before.state if before else None
    unit.facts.put(
        unit.db,
        UserState,
        {"user_id": user_id},
        {"state": state, "cause": cause, "valid_until": valid_until},
    )
    unit.facts.touch("user", [user_id])
    kind = {"active": Kind.USER_ENABLED, "disabled": Kind.USER_DISABLED}.get(state, Kind.USER_DELETED)
    unit.record(
        _changed(
            kind,
            user,
            before={"state": was},
            after={
                "state": state,
                "cause": cause,
                "valid_until": valid_until.isoformat() if valid_until else None,
            },
        )
    )
    return True


def current_state(unit: Unit, user_id: UUID) -> UserState | None:
    """The known state of an identity, as this Unit leaves it."""
    return unit.facts.current(unit.db, UserState, {"user_id": user_id})


def update_profile(unit: Unit, user_id: UUID, profile: Profile) -> bool:
    """Names and contacts of the identity's person are these; False when they were so already.

    What a directory says of them goes back there, after the commit. Raises `Conflict` for a field that its directory
    does not let us write, for another person's mail address, and for a person whose profile was erased.
    """
    unit.require("write", "user", str(user_id))
    user = get_user(unit, user_id)
    row = unit.db.get(PersonProfile, user.person_id, with_for_update=True)
    if row is None:
        raise NotFound("This person has no profile.")
    wanted = profile.model_dump()
    changed = sorted(name for name, value in wanted.items() if getattr(row, name) != value)
    if not changed:
        return False
    if row.erased_at is not None:
        raise Conflict("The profile of this person was erased.", code="erased")
    if "mail" in changed and wanted["mail"] is not None:
        _check_mail(unit, user.person_id, wanted["mail"])
    sent = queue(unit, user_id, {name: (getattr(row, name), wanted[name]) for name in changed})
    for name in changed:
        setattr(row, name, wanted[name])
    unit.facts.touch("user", [user_id])
    data = {"login": user.login, "fields": changed, **({"written_to": sent} if sent else {})}
    unit.record(_changed(Kind.USER_PROFILE_CHANGED, user, data=data))
    return True


def _check_mail(unit: Unit, person_id: UUID, mail: str) -> None:
    """Applications may know people by their mail address: raises `Conflict` for another's, or another's login."""
    taken = select(PersonProfile.person_id).where(
        func.lower(PersonProfile.mail) == mail.lower(), PersonProfile.person_id != person_id
    )
    login = select(User.id).where(User.login_key == fold_login(mail), User.person_id != person_id)
    if unit.db.execute(taken).first() or unit.db.execute(login).first():
        raise Conflict("Another person has this mail address.", code="mail_taken")


def rename_login(unit: Unit, user_id: UUID, login: str) -> bool:
    """The identity signs in as `login`; `sub` stays. Raises `Conflict` when another has it."""
    unit.require("write", "user", str(user_id))
    user = get_user(unit, user_id)
    if user.login == login:
        return False
    key = fold_login(login)
    taken = unit.db.execute(select(User.id).where(User.login_key == key, User.id != user_id)).first()
    if taken:
        raise Conflict(f"The login {login!r} is taken.", code="login_taken")
    before, user.login, user.login_key = user.login, login, key
    _state_login(unit, user)
    unit.facts.touch("user", [user_id])
    unit.record(_changed(Kind.USER_RENAMED, user, before={"login": before}, after={"login": login}))
    return True


def _state_login(unit: Unit, user: User) -> None:
    """Conditions may read the login, so that it is a fact as well."""
    unit.facts.put(unit.db, UserAttribute, {"user_id": user.id, "name": "login"}, {"value": user.login})


def _changed(kind: Kind, user: User, **parts: Any) -> Record:
    return Record(
        kind=kind,
        result="success",
        user=user.id,
        person=user.person_id,
        resource_type="user",
        resource_id=str(user.id),
        **{"data": {"login": user.login}, **parts},
    )
