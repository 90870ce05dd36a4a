"""A run of one person, or of a few entries: what is read for it, and which changes are its."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import Connection, select

from identity.directory.pick import PICKED_MAX
from identity.directory.reader import Directory, DirectoryEntry, Reading
from identity.directory.settings import DirectorySettings
from identity.people.inputs import fold_login
from identity.people.models import Group, Membership, SourceAccount, User
from identity.sync.plan import Change


@dataclass(frozen=True, slots=True)
class Only:
    """What a run is limited to: one login, or these entries."""

    login: str | None = None
    entries: frozenset[str] = frozenset()

    def has(self, change: Change) -> bool:
        """Whether the change is one of the run's."""
        if change.immutable_id in self.entries:
            return True
        about = change.kind.startswith("user_") or change.kind == "conflict"
        return self.login is not None and about and fold_login(change.title) == fold_login(self.login)


def known_as(connection: Connection, source_id: UUID, only: Only) -> Only | None:
    """The same with the accounts that the source's people of this login have, so that a renamed or missing entry is
    theirs; None where the entries are not all people whom we know, so that everything must be read."""
    accounts = select(SourceAccount.immutable_id).where(SourceAccount.source_id == source_id)
    if only.login is not None:
        by_login = accounts.join(User, User.id == SourceAccount.user_id).where(User.login_key == fold_login(only.login))
        return replace(only, entries=only.entries | set(connection.execute(by_login).scalars()))
    if not 0 < len(only.entries) <= PICKED_MAX:
        return None
    found = connection.execute(accounts.where(SourceAccount.immutable_id.in_(only.entries))).scalars()
    return only if set(found) == only.entries else None


def read_only(directory: Directory, settings: DirectorySettings, known: Only | None) -> Reading:
    """What the directory says about these people; everything where it cannot be asked for so little."""
    # A login that a transform makes stands nowhere in the directory.
    made = any(one.field == "login" for one in settings.transforms)
    if known is None or (made and not known.entries):
        return directory.read()
    return directory.pick(None if made else known.login, known.entries)


def with_left(connection: Connection, source_id: UUID, only: Only, reading: Reading) -> Reading:
    """The reading with the groups that these accounts are in here and in the directory no longer, as groups without
    them."""
    if reading.complete:
        return reading
    there = {entry.immutable_id for entry in reading.entries if entry.kind == "group"}
    query = (
        select(Group.immutable_id, Group.dn)
        .join(Membership, (Membership.group_id == Group.id) & Membership.rev_until.is_(None))
        .join(SourceAccount, SourceAccount.user_id == Membership.user_id)
        .where(Group.source_id == source_id, SourceAccount.source_id == source_id)
        .where(SourceAccount.immutable_id.in_(only.entries))
        .distinct()
    )
    left = [
        DirectoryEntry("group", row.immutable_id or "", row.dn or "", {})
        for row in connection.execute(query)
        if row.immutable_id not in there
    ]
    return replace(reading, entries=(*reading.entries, *left))
