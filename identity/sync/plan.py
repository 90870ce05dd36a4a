"""The plan: what must change so that we say what the directory says, each change with its reason. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from identity.directory.dn import parse
from identity.directory.reader import DirectoryEntry, Reading
from identity.directory.settings import DirectorySettings

DepartmentChange = Literal["department_add", "department_update", "department_remove"]
GroupChange = Literal["group_add", "group_update", "group_remove", "group_nest"]
UserChange = Literal[
    "user_disable",
    "user_enable",
    "user_add",
    "user_link",
    "user_update",
    "user_move",
    "user_groups",
    "user_missing",
    "user_delete",
]
ChangeKind = DepartmentChange | GroupChange | UserChange | Literal["conflict"]
Values = Mapping[str, Any]

PROFILE = ("name", "family_name", "given_name", "mail", "phone")
JOB = ("company", "department", "position", "employee_number", "manager")
MISSING = "no longer in the directory"
DISABLED = "disabled in the directory"
ACTIVE = "active in the directory"
UNDONE = "undone"
KEPT_OUT = "active in the directory, but disabled or deleted here by a person"
# Causes of a state that a directory gave; only such a one is taken back by a directory.
GIVEN = frozenset({MISSING, DISABLED, ACTIVE, UNDONE})
PLACE = frozenset({"company", "department"})


@dataclass(frozen=True, slots=True)
class KnownUser:
    """What we hold of a source's account: `values` by the names of `PROFILE` and `JOB`, with `login`, `dn` and
    `valid_until`. `held` are fields that a source of higher precedence says; `led` is false when such a source decides
    whether the identity is active. `missing_since`: when the entry went; `alone` = no other source knows the identity;
    `kept_out` = it is not active because an administrator disabled it or because it was deleted, so no directory makes
    it active."""

    user_id: UUID
    active: bool
    values: dict[str, Any]
    held: frozenset[str] = frozenset()
    led: bool = True
    missing_since: datetime | None = None
    alone: bool = True
    kept_out: bool = False
    overtaken: Mapping[str, frozenset[str | None]] = field(default_factory=dict)
    """By field, values that were changed here and that the directory may still say for a while."""


@dataclass(frozen=True, slots=True)
class KnownGroup:
    """What we hold of a source's group; `children` are immutable ids."""

    name: str
    title: str
    dn: str
    children: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Other:
    """Somebody who has no account in this source yet."""

    user_id: UUID
    login: str
    active: bool
    forests: frozenset[str] = frozenset()
    mail: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about an entry in conflict: link it to `user_id`, make a new identity, or leave it out."""

    action: Literal["link", "new", "ignore"]
    user_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class KnownDirectory:
    """What we hold of one source, by immutable id, and of everybody else what a new entry could collide with; for a
    partial reading only what its entries can touch."""

    users: Mapping[str, KnownUser] = field(default_factory=dict)
    groups: Mapping[str, KnownGroup] = field(default_factory=dict)
    departments: Mapping[str, Values] = field(default_factory=dict)
    logins: Mapping[str, Other] = field(default_factory=dict)
    """Folded logins of everybody outside this source."""
    numbers: Mapping[tuple[str, str], tuple[Other, str | None]] = field(default_factory=dict)
    """(company, employee number) → who has it, and the immutable id when it is an account of this source."""
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Group → who is directly in it, of `users`."""
    group_names: frozenset[str] = frozenset()
    """Names of groups outside this source."""
    unit_codes: frozenset[str] = frozenset()
    """Codes of units outside this source."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    accounts: tuple[int, int] | None = None
    """How many accounts the source has and how many of them are active, where `users` are only some."""

    @property
    def all_users(self) -> int:
        return self.accounts[0] if self.accounts else len(self.users)

    @property
    def active_users(self) -> int:
        return self.accounts[1] if self.accounts else sum(user.active for user in self.users.values())


@dataclass(frozen=True, slots=True)
class Change:
    """One planned change of one entry. `before` and `after` hold only what differs; swapped, they undo it."""

    kind: ChangeKind
    immutable_id: str
    title: str
    reason: str
    before: Values = field(default_factory=dict)
    after: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """All changes in the order in which they are applied; those of one user stand together."""

    changes: tuple[Change, ...]
    entries: int

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(change.kind for change in self.changes))


@dataclass(slots=True)
class Directory:
    """What the plan's parts share: the reading, resolved by DN."""

    settings: DirectorySettings
    known: KnownDirectory
    complete: bool
    departments: dict[str, DirectoryEntry]
    by_dn: dict[str, tuple[str, str]]
    """DN → (kind, immutable id) of everything that is there after this reading."""
    codes: dict[str, str] = field(default_factory=dict)
    """Department DN → its code."""
    companies: dict[str, str | None] = field(default_factory=dict)
    """Department DN → its company."""
    by_code: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def index(reading: Reading, known: KnownDirectory, settings: DirectorySettings) -> Directory:
    """Resolve the reading, with what we hold where it is not complete."""
    by_dn: dict[str, tuple[str, str]] = {}
    if not reading.complete:
        for key, user in known.users.items():
            by_dn[str(user.values["dn"])] = "user", key
        for key, group in known.groups.items():
            by_dn[group.dn] = "group", key
        for key, values in known.departments.items():
            by_dn[str(values["dn"])] = "department", key
        moved = {entry.immutable_id for entry in reading.entries} | reading.gone
        by_dn = {dn: found for dn, found in by_dn.items() if found[1] not in moved}
    found = Directory(settings, known, reading.complete, {}, by_dn)
    for entry in reading.entries:
        by_dn[entry.dn] = entry.kind, entry.immutable_id
        if entry.kind == "department":
            found.departments[entry.dn] = entry
    for dn, (kind, key) in by_dn.items():
        if kind == "department" and dn not in found.departments:
            values = known.departments[key]
            found.codes[dn], found.companies[dn] = str(values["code"]), values["company"]
    names = settings.attributes
    for dn in sorted(found.departments, key=lambda one: one.count(",")):
        entry = found.departments[dn]
        code = entry.first(names.department_code)
        if code:
            found.codes[dn] = code
            above = parent_of(dn, found.codes)
            own = entry.first(names.department_company)
            found.companies[dn] = own or (found.companies.get(above) if above else None)
    return found


def parent_of(dn: str, departments: Mapping[str, Any]) -> str | None:
    """The DN of the nearest department above an entry."""
    if "\\" in dn:
        parts = parse(dn)
        above = [",".join(parts[n:]) for n in range(1, len(parts))]
    else:
        above = []
        rest = dn
        while "," in rest:
            rest = rest.partition(",")[2]
            above.append(rest)
    return next((one for one in above if one in departments), None)


def difference(before: Values, after: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs of the fields of `after`."""
    names = [name for name, value in after.items() if before.get(name) != value]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def departments(found: Directory, gone: Iterable[str]) -> list[Change]:
    """Units to make, rename, move and abolish; parents first."""
    known, names = found.known, found.settings.attributes
    changes: list[Change] = []
    taken: dict[str, str] = {
        str(values["code"]): key for key, values in known.departments.items() if values.get("active", True)
    }
    for dn in sorted(found.departments, key=lambda one: one.count(",")):
        entry = found.departments[dn]
        code = found.codes.get(dn)
        if not code:
            continue
        key = entry.immutable_id
        if code in known.unit_codes or taken.setdefault(code, key) != key:
            changes.append(Change("conflict", key, code, f"another unit has the code {code}"))
            continue
        above = parent_of(dn, found.codes)
        after: dict[str, Any] = {
            "code": code,
            "name": entry.first(names.department_name) or code,
            "company": found.companies.get(dn),
            "parent": (found.codes[above] if above else None) or found.companies.get(dn),
            "dn": dn,
            "active": True,
        }
        have = known.departments.get(key)
        if have is None:
            changes.append(Change("department_add", key, after["name"] or code, "new in the directory", {}, after))
            continue
        old, new = difference(have, after)
        if new:
            reason = "changed in the directory: " + ", ".join(sorted(new))
            changes.append(Change("department_update", key, after["name"] or code, reason, old, new))
    for key in gone:
        values = known.departments.get(key)
        if values is not None and values.get("active", True):
            title = str(values["name"])
            changes.append(Change("department_remove", key, title, MISSING, {"active": True}, {"active": False}))
    return changes


def groups(
    found: Directory, entries: Sequence[DirectoryEntry], gone: Sequence[str]
) -> tuple[list[Change], list[Change]]:
    """Groups to make, rename and empty, and behind all others the groups to nest."""
    known, names = found.known, found.settings.attributes
    changes: list[Change] = []
    nests: list[Change] = []
    removed = set(gone)
    taken = {group.name: key for key, group in known.groups.items() if key not in removed}
    for entry in entries:
        name, key = entry.first(names.group_name), entry.immutable_id
        if not name:
            continue
        if name in known.group_names or taken.setdefault(name, key) != key:
            changes.append(Change("conflict", key, name, f"another group has the name {name}"))
            continue
        have = known.groups.get(key)
        after = {"name": name, "title": entry.first(names.group_title) or name, "dn": entry.dn}
        if have is None:
            changes.append(Change("group_add", key, name, "new in the directory", {}, after))
        else:
            old, new = difference({"name": have.name, "title": have.title, "dn": have.dn}, after)
            if new:
                reason = "changed in the directory: " + ", ".join(sorted(new))
                changes.append(Change("group_update", key, name, reason, old, new))
        inside = {found.by_dn[dn][1] for dn in entry.members if found.by_dn.get(dn, ("", ""))[0] == "group"} - {key}
        before = have.children if have else frozenset()
        nests += _nest(key, name, inside, before, "members changed in the directory")
    for key in gone:
        group = known.groups.get(key)
        if group is None or group.name.endswith(f"~{key}"):
            continue
        after = {"name": f"{group.name}~{key}"}
        nests += _nest(key, group.name, set(), group.children, MISSING)
        changes.append(Change("group_remove", key, group.name, MISSING, {"name": group.name}, after))
    return sorted(changes, key=lambda one: one.kind != "group_remove"), nests


def _nest(key: str, name: str, inside: set[str], before: frozenset[str], reason: str) -> list[Change]:
    add, remove = sorted(inside - before), sorted(before - inside)
    if not add and not remove:
        return []
    return [Change("group_nest", key, name, reason, {"add": remove, "remove": add}, {"add": add, "remove": remove})]


def is_kept_out(state: str, cause: str) -> bool:
    """Whether an identity of this state is not active for another reason than that a directory said so."""
    return state != "active" and not (state == "disabled" and cause in GIVEN)


def end_of(value: datetime | None) -> str | None:
    """An end as it stands in a plan."""
    return value.isoformat() if value else None
