"""Logout: a session ends at once, and every application that took part is told by its own protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from identity.access.snapshot import Snapshot
from identity.audit.kinds import Kind
from identity.core.record import Record
from identity.core.unit import Unit
from identity.login.models import LoginSession, SessionParticipant
from identity.people.models import User
from identity.roles.service_duties import end_activations


@dataclass(frozen=True, slots=True)
class Participant:
    """An application that took part in the session that ends."""

    session_id: UUID
    user_id: UUID
    app_id: UUID
    protocol: str
    sid: str
    data: Mapping[str, Any]


Notifier = Callable[[Unit, Participant], None]
# Ends what a door gave one application, or (None) what it gave any to use without the person's session.
OfflineEnder = Callable[[Unit, UUID, UUID | None], None]
Onward = Callable[[Unit, UUID], str | None]


@dataclass(slots=True)
class LogoutNotifiers:
    """Each door's way to tell its application, by protocol; bound in `app.py`.

    `onward` says where the browser that ended a session goes next, when there are applications that only it can tell.
    """

    by_protocol: dict[str, Notifier] = field(default_factory=dict)
    offline: list[OfflineEnder] = field(default_factory=list)
    onward: Onward = lambda _unit, _session_id: None

    def register(self, protocol: str, notifier: Notifier, offline: OfflineEnder | None = None) -> None:
        self.by_protocol[protocol] = notifier
        if offline is not None:
            self.offline.append(offline)

    def end_offline(self, unit: Unit, user_id: UUID, app_id: UUID | None = None) -> None:
        """What applications hold for use without a session of this identity, or all that this one holds, is over with
        the commit."""
        for ender in self.offline:
            ender(unit, user_id, app_id)


def end_session(unit: Unit, session_id: UUID, reason: str, notifiers: LogoutNotifiers) -> bool:
    """The session is over with the commit; False when it was over before."""
    row = unit.db.get(LoginSession, session_id)
    if row is None or row.ended_at is not None:
        return False
    row.ended_at, row.end_reason = unit.now, reason
    told = []
    sids = [str(session_id)]
    for one in unit.db.execute(select(SessionParticipant).where(SessionParticipant.session_id == session_id)).scalars():
        sids.append(one.sid)
        notifier = notifiers.by_protocol.get(one.protocol)
        if notifier is not None:
            notifier(
                unit,
                Participant(session_id, row.user_id, one.application_id, one.protocol, one.sid, one.data),
            )
            told.append(one.protocol)
    end_activations(unit.db.connection(), sids, unit.now)
    person = unit.db.execute(select(User.person_id).where(User.id == row.user_id)).scalar_one()
    unit.record(
        Record(
            kind=Kind.SESSION_ENDED,
            result="success",
            reason=reason,
            user=row.user_id,
            person=person,
            session=session_id,
            data={"surface": row.surface, "told": told},
        )
    )
    return True


def takes_part(unit: Unit, session_id: UUID, sid: str) -> bool:
    """Whether an application takes part in this session under this `sid`."""
    found = select(SessionParticipant.id).where(
        SessionParticipant.session_id == session_id, SessionParticipant.sid == sid
    )
    return unit.db.execute(found).first() is not None


def end_sessions_of_user(
    unit: Unit, user_id: UUID, reason: str, notifiers: LogoutNotifiers, keep: UUID | None = None
) -> int:
    """Every session of the identity but `keep` is over with the commit; how many."""
    ids = unit.db.execute(
        select(LoginSession.id).where(LoginSession.user_id == user_id, LoginSession.ended_at.is_(None))
    ).scalars()
    return sum(end_session(unit, one, reason, notifiers) for one in list(ids) if one != keep)


def end_sessions_of_inactive(unit: Unit, snapshot: Snapshot, notifiers: LogoutNotifiers, now: datetime) -> int:
    """End what disabled and expired identities still have; their use is refused already, this tells the
    applications."""
    users = unit.db.execute(
        select(LoginSession.user_id).where(LoginSession.ended_at.is_(None), LoginSession.expires_at > now).distinct()
    ).scalars()
    gone = [user_id for user_id in list(users) if not snapshot.is_active(user_id, now)]
    return sum(end_sessions_of_user(unit, user_id, "user_inactive", notifiers) for user_id in gone)
