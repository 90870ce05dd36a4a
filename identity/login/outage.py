"""While a directory cannot be asked: the password that it last accepted, where its source allows that.

The hash is kept at each sign-in that the directory accepts and forgotten with anything else that it says about the
account or that password, and with its age. Such a sign-in is weaker: its acr lies below that of a password
(`ACR_CACHED`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select

from identity.core.errors import Unavailable
from identity.core.unit import Unit
from identity.directory.models import DirectorySource
from identity.login import authenticate
from identity.login.authenticate import Candidate, DirectoryVerifier
from identity.login.models import AcceptedPassword
from identity.login.request import CACHED

# A directory that was not asked, or judged another password, says nothing against the one that it accepted before.
_SAYS_NOTHING = frozenset({"ok", "blocked", "held_back", "unknown_user", "wrong_password", CACHED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """`reason` as of `authenticate.verify`, or `cached`: the directory was away and its last word was this password.
    `hash` is to be kept from now on, where it is new. `disproved`: the kept one is of a password that the directory
    accepts no more."""

    reason: str
    hash: str | None = None
    disproved: bool = False


def accepted(connection: Connection, candidate: Candidate) -> AcceptedPassword | None:
    """The password that the candidate's directory last accepted."""
    if candidate.user_id is None or candidate.account is None:
        return None
    query = select(AcceptedPassword.__table__).where(
        AcceptedPassword.user_id == candidate.user_id, AcceptedPassword.source_id == candidate.account.source_id
    )
    return connection.execute(query).first()  # type: ignore[return-value]


def verify(
    candidate: Candidate,
    kept: AcceptedPassword | None,
    password: str,
    directory: DirectoryVerifier,
    now: datetime,
    *,
    weaker: bool,
) -> Outcome:
    """As `authenticate.verify`; where the directory does not answer, by what it accepted at most so long ago as its
    source says, if a `weaker` sign-in will do. Raises `Unavailable` where that says nothing either."""
    hours = directory.outage_hours(candidate.account) if candidate.account else None
    try:
        reason = authenticate.verify(candidate, password, directory)
    except Unavailable:
        if not weaker or hours is None or kept is None or now - kept.accepted_at >= timedelta(hours=hours):
            raise
        return Outcome(CACHED if authenticate.check_hash(kept.hash, password) else "wrong_password")
    if reason == "wrong_password" and kept is not None and candidate.local_hash is None:
        return Outcome(reason, disproved=authenticate.check_hash(kept.hash, password))
    if reason != "ok" or hours is None or candidate.local_hash is not None:
        return Outcome(reason)
    if kept is not None and authenticate.check_hash(kept.hash, password):
        return Outcome(reason, kept.hash)
    return Outcome(reason, authenticate.hash_accepted(password))


def keep(unit: Unit, candidate: Candidate, outcome: Outcome) -> None:
    """Keep or forget the accepted password, as the outcome says."""
    if candidate.user_id is None or candidate.account is None:
        return
    if outcome.hash is not None:
        row = unit.db.get(AcceptedPassword, candidate.user_id)
        if row is None:
            row = AcceptedPassword(user_id=candidate.user_id)
            unit.db.add(row)
        row.source_id, row.hash, row.accepted_at = candidate.account.source_id, outcome.hash, unit.now
    elif outcome.disproved or outcome.reason not in _SAYS_NOTHING:
        unit.db.execute(delete(AcceptedPassword).where(AcceptedPassword.user_id == candidate.user_id))


def forget_old(connection: Connection, now: datetime) -> None:
    """Passwords that can count no more go: accepted longer ago than their source allows, or of a source that allows
    none."""
    for source in connection.execute(select(DirectorySource.id, DirectorySource.enabled, DirectorySource.settings)):
        hours = source.settings.get("outage_hours") if source.enabled else None
        gone = delete(AcceptedPassword).where(AcceptedPassword.source_id == source.id)
        if hours:
            gone = gone.where(AcceptedPassword.accepted_at <= now - timedelta(hours=hours))
        connection.execute(gone)
