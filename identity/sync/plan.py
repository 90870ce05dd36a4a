"""The plan: what must change so that we say what the directory says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from identity.directory.reader import AttributeMap, DirectoryEntry
from identity.people.inputs import fold_login

ChangeKind = Literal[
    "department_put",
    "user_add",
    "user_update",
    "user_disable",
    "user_enable",
    "group_put",
    "group_members",
    "conflict",
]


@dataclass(frozen=True, slots=True)
class KnownUser:
    """What we hold of a source's account."""

    user_id: str
    login: str
    active: bool
    profile: Mapping[str, str | None]
    employment: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class KnownGroup:
    """What we hold of a source's group: direct members by immutable id."""

    name: str
    users: frozenset[str]
    children: frozenset[str]


@dataclass(frozen=True, slots=True)
class KnownDirectory:
    """What we hold of one source, by immutable id; `other_logins` are folded logins of everybody else."""

    users: Mapping[str, KnownUser] = field(default_factory=dict)
    groups: Mapping[str, KnownGroup] = field(default_factory=dict)
    departments: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    other_logins: frozenset[str] = frozenset()

    @property
    def active_users(self) -> int:
        return sum(user.active for user in self.users.values())


@dataclass(frozen=True, slots=True)
class Change:
    """One planned change: of which entry, why, and what it will write."""

    kind: ChangeKind
    immutable_id: str
    title: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "id": self.immutable_id,
            "title": self.title,
            "reason": self.reason,
            "values": dict(self.values),
        }


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """All changes in the order in which they are applied."""

    changes: tuple[Change, ...]
    entries: int

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(change.kind for change in self.changes))


def make(entries: Sequence[DirectoryEntry], known: KnownDirectory, names: AttributeMap) -> SyncPlan:
    """Departments first, then users, then groups; accounts are matched by immutable id, never by DN or mail."""
    users = [entry for entry in entries if entry.kind == "user"]
    departments = [entry for entry in entries if entry.kind == "department"]
    groups = [entry for entry in entries if entry.kind == "group"]
    codes = {entry.first(names.department_code) or "" for entry in departments}
    by_dn = {entry.dn: entry for entry in entries}
    conflicts = _conflicts(users, known, names)
    blocked = {change.immutable_id for change in conflicts}
    changes = [
        *conflicts,
        *_departments(departments, known, names),
        *(
            change
            for entry in users
            if entry.immutable_id not in blocked
            for change in _user(entry, known, names, codes)
        ),
        *_missing(users, known),
        *(change for entry in groups for change in _group(entry, known, names, by_dn, blocked)),
        *_gone_groups(groups, known),
    ]
    return SyncPlan(tuple(changes), len(entries))


def _conflicts(users: Iterable[DirectoryEntry], known: KnownDirectory, names: AttributeMap) -> list[Change]:
    found = []
    logins: dict[str, str] = {}
    numbers: dict[tuple[str | None, str], str] = {}
    for entry in users:
        login = entry.first(names.login)
        reason = ""
        if not login:
            reason = f"has no {names.login}"
        elif fold_login(login) in known.other_logins:
            reason = f"the login {login} belongs to somebody outside this directory"
        elif logins.setdefault(fold_login(login), entry.immutable_id) != entry.immutable_id:
            reason = f"the login {login} stands twice"
        number = entry.first(names.employee_number)
        if (
            number
            and numbers.setdefault((entry.first(names.company), number), entry.immutable_id) != entry.immutable_id
        ):
            reason = f"the employee number {number} stands twice in one company"
        if reason:
            found.append(Change("conflict", entry.immutable_id, login or entry.dn, reason))
    return found


def _departments(entries: Iterable[DirectoryEntry], known: KnownDirectory, names: AttributeMap) -> list[Change]:
    changes = []
    for entry in entries:
        code = entry.first(names.department_code)
        if not code:
            continue
        name = entry.first(names.department_name) or code
        values = {"code": code, "name": name, "company": entry.first(names.department_company)}
        if known.departments.get(code) != values:
            changes.append(
                Change("department_put", entry.immutable_id, name, "new or changed in the directory", values)
            )
    return changes


def _user(entry: DirectoryEntry, known: KnownDirectory, names: AttributeMap, codes: set[str]) -> list[Change]:
    login = entry.first(names.login) or ""
    profile = {
        "name": entry.first(names.name) or entry.first("cn") or login,
        "family_name": entry.first(names.family_name),
        "given_name": entry.first(names.given_name),
        "mail": entry.first(names.mail),
        "phone": entry.first(names.phone),
    }
    department = entry.first(names.department)
    job = {
        "company": entry.first(names.company),
        "department": department if department in codes else None,
        "position": entry.first(names.position),
        "employee_number": entry.first(names.employee_number),
    }
    values = {"login": login, "dn": entry.dn, "profile": profile, "employment": job}
    have = known.users.get(entry.immutable_id)
    if have is None:
        if entry.disabled:
            return []
        return [Change("user_add", entry.immutable_id, login, "new in the directory", values)]
    changes = []
    before = {"login": have.login, **have.profile, **have.employment}
    after = {"login": login, **profile, **job}
    different = sorted(name for name, value in after.items() if before.get(name) != value)
    if different:
        reason = "changed in the directory: " + ", ".join(different)
        changes.append(Change("user_update", entry.immutable_id, login, reason, values))
    if entry.disabled and have.active:
        changes.append(Change("user_disable", entry.immutable_id, login, "disabled in the directory"))
    elif not entry.disabled and not have.active:
        changes.append(Change("user_enable", entry.immutable_id, login, "active in the directory"))
    return changes


def _missing(users: Iterable[DirectoryEntry], known: KnownDirectory) -> list[Change]:
    present = {entry.immutable_id for entry in users}
    return [
        Change("user_disable", immutable_id, user.login, "no longer in the directory")
        for immutable_id, user in known.users.items()
        if immutable_id not in present and user.active
    ]


def _group(
    entry: DirectoryEntry,
    known: KnownDirectory,
    names: AttributeMap,
    by_dn: Mapping[str, DirectoryEntry],
    blocked: set[str],
) -> list[Change]:
    name = entry.first(names.group_name)
    if not name:
        return []
    have = known.groups.get(entry.immutable_id)
    changes = []
    if have is None or have.name != name:
        values = {"name": name, "display_name": entry.first("description") or name, "dn": entry.dn}
        changes.append(Change("group_put", entry.immutable_id, name, "new or renamed in the directory", values))
    members = [by_dn[dn] for dn in entry.members if dn in by_dn and by_dn[dn].immutable_id not in blocked]
    users = frozenset(one.immutable_id for one in members if one.kind == "user")
    children = frozenset(one.immutable_id for one in members if one.kind == "group" and one is not entry)
    before = have or KnownGroup(name, frozenset(), frozenset())
    moves = {
        "add_users": sorted(users - before.users),
        "remove_users": sorted(before.users - users),
        "add_groups": sorted(children - before.children),
        "remove_groups": sorted(before.children - children),
    }
    if any(moves.values()):
        changes.append(Change("group_members", entry.immutable_id, name, "members changed in the directory", moves))
    return changes


def _gone_groups(groups: Iterable[DirectoryEntry], known: KnownDirectory) -> list[Change]:
    present = {entry.immutable_id for entry in groups}
    return [
        Change(
            "group_members",
            immutable_id,
            group.name,
            "no longer in the directory",
            {
                "add_users": [],
                "remove_users": sorted(group.users),
                "add_groups": [],
                "remove_groups": sorted(group.children),
            },
        )
        for immutable_id, group in known.groups.items()
        if immutable_id not in present and (group.users or group.children)
    ]
