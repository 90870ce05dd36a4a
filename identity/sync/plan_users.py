"""The plan's part about people. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any

from identity.directory.dn import normalise_or_empty
from identity.directory.reader import DirectoryEntry, Reading
from identity.directory.settings import DirectorySettings
from identity.people.inputs import fold_login
from identity.sync.fit import unfit
from identity.sync.plan import (
    ACTIVE,
    DISABLED,
    JOB,
    KEPT_OUT,
    MISSING,
    PLACE,
    PROFILE,
    Change,
    Directory,
    KnownDirectory,
    KnownUser,
    Other,
    SyncPlan,
    departments,
    difference,
    end_of,
    groups,
    index,
    parent_of,
)

_NOBODY = ("", "")
LEFT = " who has left: a rehire is a person's decision"


def make(reading: Reading, known: KnownDirectory, settings: DirectorySettings, now: datetime | None = None) -> SyncPlan:
    """The plan for one reading: units, groups, those who leave, nested groups, then everybody else:
    who is new has all roles with one step.

    Accounts are matched by immutable id; a new entry may belong to somebody we know only by the rules of `_correlate`
    or by a person's decision. Never by mail or phone. Identities whose quarantine is over at `now` are deleted; without
    it none is.
    """
    found = index(reading, known, settings)
    by_kind: dict[str, list[DirectoryEntry]] = defaultdict(list)
    for entry in reading.entries:
        by_kind[entry.kind].append(entry)
    gone_units = _gone(reading, by_kind["department"], known.departments)
    gone_groups = _gone(reading, by_kind["group"], known.groups)
    group_changes, nests = groups(found, by_kind["group"], gone_groups)
    people = _People(found, reading, now)
    people.plan(by_kind["user"], by_kind["group"], gone_groups)
    changes = (
        *departments(found, gone_units),
        *group_changes,
        *people.conflicts,
        *people.leaving,
        *nests,
        *people.staying,
    )
    return SyncPlan(changes, len(reading.entries))


def _gone(reading: Reading, entries: Iterable[DirectoryEntry], known: Mapping[str, Any]) -> list[str]:
    if not reading.complete and reading.present is None:
        return [key for key in known if key in reading.gone]
    present = {entry.immutable_id for entry in entries} if reading.present is None else reading.present
    return [key for key in known if key not in present]


class _People:
    def __init__(self, found: Directory, reading: Reading, now: datetime | None) -> None:
        self._now = now
        self._found = found
        self._reading = reading
        self._known = found.known
        self._names = found.settings.attributes
        self._mapped = mapped_fields(found.settings)
        self.conflicts: list[Change] = []
        self.leaving: list[Change] = []
        self.staying: list[Change] = []
        self._joins: dict[str, list[str]] = defaultdict(list)
        self._leaves: dict[str, list[str]] = defaultdict(list)
        self._logins: dict[str, str] = {}
        self._numbers: dict[tuple[str, str], str] = {}
        # A login that its holder gives up in this very reading is free.
        moving = {entry.immutable_id for entry in reading.entries if entry.kind == "user"}
        for key, user in self._known.users.items():
            if key not in moving:
                self._logins[fold_login(str(user.values["login"]))] = key

    def plan(
        self, users: Sequence[DirectoryEntry], group_entries: Sequence[DirectoryEntry], gone_groups: Iterable[str]
    ) -> None:
        self._memberships(group_entries, gone_groups)
        renamed: list[Change] = []
        others: list[Change] = []
        for entry in users:
            changes = self._entry(entry)
            first = any("login" in change.before for change in changes)
            (renamed if first else others).extend(changes)
        for key in _gone(self._reading, users, self._known.users):
            self._missing(key)
        for key in sorted(self._joins.keys() | self._leaves.keys()):
            user = self._known.users.get(key)
            if user is not None:
                others += self._groups(key, str(user.values["login"]))
        self.staying = renamed + managers_first(others)

    def _memberships(self, entries: Iterable[DirectoryEntry], gone: Iterable[str]) -> None:
        members, by_dn = self._known.members, self._found.by_dn
        for entry in entries:
            before = members.get(entry.immutable_id, frozenset())
            after = {key for kind, key in map(by_dn.get, entry.members, repeat(_NOBODY)) if kind == "user"}
            for key in after - before:
                self._joins[key].append(entry.immutable_id)
            for key in before - after:
                self._leaves[key].append(entry.immutable_id)
        for group in gone:
            for key in members.get(group, ()):
                self._leaves[key].append(group)

    def _groups(self, key: str, login: str) -> list[Change]:
        join, leave = sorted(self._joins.pop(key, ())), sorted(self._leaves.pop(key, ()))
        if not join and not leave:
            return []
        before, after = {"add": leave, "remove": join}, {"add": join, "remove": leave}
        return [Change("user_groups", key, login, "members changed in the directory", before, after)]

    def _missing(self, key: str) -> None:
        user = self._known.users[key]
        title = str(user.values["login"])
        if user.active and user.led:
            self.leaving.append(_state(key, title, MISSING, active=False))
        elif user.missing_since is None:
            self.leaving.append(
                Change("user_missing", key, title, MISSING, {"status": "present"}, {"status": "missing"})
            )
        elif self._is_over(user):
            reason = f"missing since {user.missing_since.date()}"
            self.leaving.append(Change("user_delete", key, title, reason, {"state": "disabled"}, {"state": "deleted"}))

    def _is_over(self, user: KnownUser) -> bool:
        """Whether the quarantine of a missing account is over, and nobody else speaks for its identity."""
        days = self._found.settings.delete_after_days
        if self._now is None or days is None or user.missing_since is None or user.active or not user.alone:
            return False
        return self._now - user.missing_since >= timedelta(days=days)

    def _entry(self, entry: DirectoryEntry) -> list[Change]:
        key = entry.immutable_id
        have = self._known.users.get(key)
        values = wanted_values(self._found, entry)
        problem = self._problem(entry, values, have)
        login = str(values.get("login") or entry.dn)
        if problem:
            self.conflicts.append(Change("conflict", key, login, problem))
            self._joins.pop(key, None)
            self._leaves.pop(key, None)
            return []
        values = self._without_taken_number(key, login, values, have)
        if have is None:
            return self._new(entry, values, login)
        changes = []
        fields = {
            name: value
            for name, value in values.items()
            if (name in self._mapped or name == "dn")
            and name not in have.held
            and value not in have.overtaken.get(name, ())
        }
        before, after = difference(have.values, fields)
        for kind, chosen in (("user_move", PLACE & after.keys()), ("user_update", after.keys() - PLACE)):
            if chosen:
                reason = "changed in the directory: " + ", ".join(sorted(chosen))
                old = {name: before[name] for name in sorted(chosen)}
                new = {name: after[name] for name in sorted(chosen)}
                changes.append(Change(kind, key, login, reason, old, new))  # type: ignore[arg-type]
        if have.led and entry.disabled and have.active:
            self.leaving.append(_state(key, login, DISABLED, active=False))
        elif have.led and not entry.disabled and not have.active and not have.kept_out:
            changes.append(_state(key, login, ACTIVE, active=True))
        elif have.missing_since is not None:
            back = {"status": "missing"}, {"status": "present"}
            changes.append(Change("user_missing", key, login, "back in the directory", *back))
        if have.led and not entry.disabled and have.kept_out:
            self.conflicts.append(Change("conflict", key, login, KEPT_OUT, {}, {"state": "active"}))
        return changes + self._groups(key, login)

    def _new(self, entry: DirectoryEntry, values: Mapping[str, Any], login: str) -> list[Change]:
        key = entry.immutable_id
        decision = self._known.decisions.get(key)
        if decision is not None and decision.action == "ignore":
            self._joins.pop(key, None)
            return []
        other = _correlate(self._known, self._found.settings, values)
        if decision is not None and decision.user_id is not None:
            after = {**values, "user_id": str(decision.user_id), "groups": sorted(self._joins.pop(key, ()))}
            return [Change("user_link", key, login, "linked by a person's decision", {}, after)]
        if isinstance(other, Other):
            after = {**values, "user_id": str(other.user_id), "groups": sorted(self._joins.pop(key, ()))}
            return [Change("user_link", key, login, f"is {other.login} of another source", {}, after)]
        if entry.disabled:
            self._joins.pop(key, None)
            return []
        after = {**values, "groups": sorted(self._joins.pop(key, ()))}
        return [Change("user_add", key, login, "new in the directory", {}, after)]

    def _problem(self, entry: DirectoryEntry, values: Mapping[str, Any], have: KnownUser | None) -> str | None:
        """Why this entry can be nobody's, or None."""
        key, login = entry.immutable_id, values.get("login")
        if not login:
            return f"has no {self._names.login}"
        fault = unfit(values, have.values if have else {})
        if fault:
            return fault
        folded = fold_login(login)
        if self._logins.setdefault(folded, key) != key:
            return f"the login {login} stands twice"
        company, number = values.get("company"), values.get("employee_number")
        if company and number:
            if self._numbers.setdefault((company, number), key) != key:
                return f"the employee number {number} stands twice in {company}"
            owner, owner_key = self._known.numbers.get((company, number), (None, None))
            if owner is not None and owner_key is not None and have is None:
                left = "" if owner.active else LEFT
                return self._undecided(key, f"the employee number {number} belongs to {owner.login}{left}")
        other = self._known.logins.get(folded)
        if have is not None:
            if other is not None and other.user_id != have.user_id:
                return f"the login {login} belongs to somebody outside this directory"
            return None
        found = _correlate(self._known, self._found.settings, values)
        return self._undecided(key, found) if isinstance(found, str) else None

    def _without_taken_number(
        self, key: str, login: str, values: dict[str, Any], have: KnownUser | None
    ) -> dict[str, Any]:
        """The values without an employee number that another person has or had; that one field waits for a person."""
        number = (str(values.get("company")), str(values.get("employee_number")))
        owner, _ = self._known.numbers.get(number, (None, None))
        if owner is None or (owner.user_id == have.user_id if have else key not in self._known.decisions):
            return values
        problem = f"the employee number {number[1]} belongs to {owner.login}"
        self.conflicts.append(Change("conflict", key, login, problem))
        return {name: value for name, value in values.items() if name != "employee_number"}

    def _undecided(self, key: str, problem: str) -> str | None:
        return None if key in self._known.decisions else problem


def managers_first(changes: Sequence[Change]) -> list[Change]:
    """The same changes with new people behind their new managers; in a circle of managers one is told last."""
    adds = {change.immutable_id: change for change in changes if change.kind == "user_add"}
    placed: dict[str, Change] = {}
    late: list[Change] = []
    for start in adds:
        path: list[str] = []
        key: str | None = start
        while key in adds and key not in placed and key not in path:
            path.append(key)
            key = adds[key].after["manager"]
        for one in reversed(path):
            change = adds[one]
            manager = change.after["manager"]
            if manager in adds and manager not in placed and manager != one:
                change = replace(change, after={**change.after, "manager": None})
                told = {"manager": manager}
                late.append(Change("user_update", one, change.title, "manager", {"manager": None}, told))
            placed[one] = change
    return [*placed.values(), *(change for change in changes if change.kind != "user_add"), *late]


def _correlate(known: KnownDirectory, settings: DirectorySettings, values: Mapping[str, Any]) -> Other | str | None:
    """Whose account a new entry is: somebody's by (company, employee number) and the same name and mail, or by login
    within one forest; a text says why it is undecided; None = a new person."""
    company, number = values.get("company"), values.get("employee_number")
    owner, _ = known.numbers.get((company, number), (None, None)) if company and number else (None, None)
    if owner is not None:
        proven = owner.name == values.get("name") and owner.mail is not None and owner.mail == values.get("mail")
        if not owner.active:
            return (
                f"the employee number {number} belongs to {owner.login} who has left: a rehire is a person's decision"
            )
        return owner if proven else f"the employee number {number} belongs to {owner.login}; nothing else proves it"
    other = known.logins.get(fold_login(str(values["login"])))
    if other is None:
        return None
    if settings.forest and settings.forest in other.forests and other.active:
        return other
    return f"the login {values['login']} belongs to somebody outside this directory"


def mapped_fields(settings: DirectorySettings) -> frozenset[str]:
    """The fields that this source says."""
    names = settings.attributes
    found = {name for name in (*PROFILE, *JOB, "login", "valid_until") if getattr(names, name) is not None}
    return frozenset(found | {"department"})


def wanted_values(found: Directory, entry: DirectoryEntry) -> dict[str, Any]:
    """An entry in our words; units by code, the manager by immutable id."""
    names = found.settings.attributes
    login = entry.first(names.login)
    manager = entry.first(names.manager)
    department, company = _place(found, entry)
    return {
        "login": login,
        "name": entry.first(names.name) or entry.first("cn") or login,
        "family_name": entry.first(names.family_name),
        "given_name": entry.first(names.given_name),
        "mail": entry.first(names.mail),
        "phone": entry.first(names.phone),
        "company": company,
        "department": department,
        "position": entry.first(names.position),
        "employee_number": entry.first(names.employee_number),
        "manager": _manager(found, manager),
        "valid_until": end_of(entry.valid_until),
        "dn": entry.dn,
    }


def _place(found: Directory, entry: DirectoryEntry) -> tuple[str | None, str | None]:
    """Department and company: by attribute, the department else by the subtree, the company else by the department.
    Without a company there is no employment, so no department either."""
    names = found.settings.attributes
    dn: str | None
    if names.department is None:
        dn = parent_of(entry.dn, found.codes)
    else:
        said = entry.first(names.department)
        dn = next((one for one, code in _codes(found).get(said or "", ())), None) if said else None
        if dn is None and said and "=" in said:
            dn = normalise_or_empty(said) if normalise_or_empty(said) in found.codes else None
    company = entry.first(names.company) or (found.companies.get(dn) if dn else None)
    return (found.codes[dn] if dn and company else None), company


def _codes(found: Directory) -> Mapping[str, Sequence[tuple[str, str]]]:
    if not found.by_code:
        for dn, code in found.codes.items():
            found.by_code.setdefault(code, []).append((dn, code))
    return found.by_code


def _manager(found: Directory, said: str | None) -> str | None:
    if said is None:
        return None
    kind, key = found.by_dn.get(normalise_or_empty(said), ("", ""))
    return key if kind == "user" else None


def _state(key: str, title: str, reason: str, *, active: bool) -> Change:
    words = ("disabled", "active")
    kind = "user_enable" if active else "user_disable"
    return Change(kind, key, title, reason, {"state": words[not active]}, {"state": words[active]})  # type: ignore[arg-type]
