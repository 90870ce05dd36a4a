"""OpenLDAP and other LDAP servers: read whole by pages, or what changed by LDAP Content Synchronization (RFC 4533).

A server without it is asked for what has a newer modifyTimestamp, and for the ids of all that is left.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from typing import Any

from ldap3 import BASE

from identity.directory.binding import Binder, by_key, judge_refusal
from identity.directory.connection import (
    FAULTS,
    INVALID_CREDENTIALS,
    OK,
    LdapServers,
    find_login,
    search_all,
    search_once,
)
from identity.directory.dn import parse
from identity.directory.entries import LOCKED_FOR_EVER, Names, make_entry, wanted_attributes
from identity.directory.passwords import PasswordChanger, modify_password
from identity.directory.pick import Way, pick
from identity.directory.reader import (
    BindResult,
    ChangeResult,
    Cursor,
    DirectoryEntry,
    Edit,
    EntryKind,
    ReadIncomplete,
    Reading,
    Written,
)
from identity.directory.settings import DirectorySettings
from identity.directory.syncrepl import Refresh, refresh
from identity.directory.write import write_attribute

LOCKED = "pwdAccountLockedTime"
PPOLICY = "1.3.6.1.4.1.42.2.27.8.5.1"
EXPIRED, POLICY_LOCKED, RESET = 0, 1, 2
CSN = "contextCSN"
MODIFIED = "modifyTimestamp"
STAMP = re.compile(r"\d{14}(?:\.\d{1,6})?Z")
SYNCREPL, STAMPS, WHOLE = "syncrepl", "stamps", "whole"


class OpenLdapDirectory:
    """A directory server with entryUUID; ppolicy marks disabled accounts."""

    def __init__(self, settings: DirectorySettings, secret: str) -> None:
        self._settings = settings
        self._servers = LdapServers(settings, secret)
        self._binder = Binder(self._servers, (settings.key, LOCKED), _state, _judge, [(PPOLICY, False, None)])
        self._changer = PasswordChanger(self._servers, modify_password)

    def read(self, cursor: Cursor | None = None) -> Reading:
        """Every department, user and group, or with a cursor what changed since; raises `ReadIncomplete`."""
        with self._servers.service() as (connection, url):
            csn = self._context_csn(connection)
            if cursor and self._settings.incremental:
                if csn and cursor.get("csn"):
                    return self._changes(connection, url, cursor["csn"], csn)
                if not csn and STAMP.fullmatch(cursor.get("modified", "")):
                    return self._modified_since(connection, url, cursor["modified"])
            return self._everything(connection, url, csn)

    def mark(self) -> Cursor | None:
        """How far the directory is now; None when it does not say. Two equal marks: nothing has changed."""
        with self._servers.service(keep=True) as (connection, _):
            csn = self._context_csn(connection)
        return {"csn": csn} if csn else None

    def pick(self, login: str | None, ids: Collection[str]) -> Reading:
        """Only these users, their groups and the departments."""
        names = Names()
        way = Way(
            self._attributes,
            lambda kind, found: self._entry(kind, found, names),
            lambda one: by_key(self._settings.key, one),
        )
        with self._servers.service() as (connection, url):
            return pick(connection, self._settings, url, way, login, ids)

    def sample(self, login: str) -> DirectoryEntry | None:
        """The entry of this login; None unless there is exactly one."""
        with self._servers.service() as (connection, _):
            found = find_login(connection, self._settings, login, self._attributes("user"))
            return self._entry("user", found[0], Names()) if len(found) == 1 else None

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:  # noqa: ARG002
        """Find the entry by its id (its DN may have changed), then bind as it."""
        return self._binder.bind(by_key(self._settings.key, immutable_id), password)

    def change_password(self, immutable_id: str, old: str, new: str) -> ChangeResult:
        """By the password modify operation (RFC 3062), which checks the old one."""
        return self._changer.change(by_key(self._settings.key, immutable_id), old, new)

    def write(self, immutable_id: str, edit: Edit) -> Written:
        """By deleting the old value and adding the new one in one operation."""
        return write_attribute(self._servers, by_key(self._settings.key, immutable_id), edit)

    def lockout(self) -> tuple[int, int]:
        """As the settings say; the password policy of OpenLDAP is not readable by everybody."""
        return self._settings.lockout_failures, self._settings.lockout_window_s

    def close(self) -> None:
        """End the kept connections."""
        self._servers.close()

    def way(self) -> str:
        """How changes are found: by content synchronization where the server has it, else everything is read."""
        with self._servers.service() as (connection, _):
            csn = self._context_csn(connection)
            if not csn:
                _, base, wanted = self._settings.searches()[0]
                search_once(connection, base, wanted, [MODIFIED], 5.0, paged_size=10)
                return STAMPS if any(_stamp(one) for one in connection.response) else WHOLE
            _, base, wanted = self._settings.searches()[-1]
            cookie = f"rid=000,csn={csn}"
            found = refresh(connection, base, wanted, [self._settings.key], cookie, self._settings.page_timeout_s)
            return SYNCREPL if isinstance(found, Refresh) else WHOLE

    def _everything(self, connection: Any, url: str, csn: str) -> Reading:
        ends = time.monotonic() + self._settings.read_timeout_s
        names, newest = Names(), ""
        entries = []
        for kind, base, wanted in self._settings.searches():
            for one in search_all(connection, self._settings, base, wanted, self._attributes(kind), ends):
                if not _is_base(one["dn"], base):
                    newest = max(newest, _stamp(one))
                    entries.append(self._entry(kind, one, names))
        if not any(entry.kind == "user" for entry in entries):
            raise ReadIncomplete("The directory holds no users.", self._settings.users_base, code="read_empty")
        cursor = {"csn": csn} if csn else {"modified": newest} if newest else {}
        return Reading(tuple(entries), cursor=cursor, server=url)

    def _modified_since(self, connection: Any, url: str, since: str) -> Reading:
        """What was modified in that second or later, and the ids of everything that is there: nothing else tells what
        went."""
        ends = time.monotonic() + self._settings.read_timeout_s
        names, newest = Names(), since
        entries: list[DirectoryEntry] = []
        present: set[str] = set()
        for kind, base, wanted in self._settings.searches():
            newer = f"(&{wanted}(modifyTimestamp>={since}))"
            for one in search_all(connection, self._settings, base, newer, self._attributes(kind), ends):
                if not _is_base(one["dn"], base):
                    newest = max(newest, _stamp(one))
                    entries.append(self._entry(kind, one, names))
            key = self._settings.key
            for one in search_all(connection, self._settings, base, wanted, [key], ends):
                ids: list[bytes] = one["raw_attributes"].get(key.lower()) or []
                if len(ids) != 1:
                    raise ReadIncomplete(f"The directory hides {key} from our account.", one["dn"], code="no_key")
                if not _is_base(one["dn"], base):
                    present.add(ids[0].decode())
        cursor, found = {"modified": newest}, frozenset(present)
        return Reading(tuple(entries), complete=False, present=found, cursor=cursor, server=url)

    def _changes(self, connection: Any, url: str, since: str, csn: str) -> Reading:
        if since == csn:
            return Reading((), complete=False, cursor={"csn": csn}, server=url)
        entries: list[DirectoryEntry] = []
        gone: set[str] = set()
        names = Names()
        for kind, base, wanted in self._settings.searches():
            cookie = f"rid=000,csn={since}"
            found = refresh(connection, base, wanted, self._attributes(kind), cookie, self._settings.page_timeout_s)
            if not isinstance(found, Refresh):
                return self._everything(connection, url, csn)
            entries += [self._entry(kind, one, names) for one in found.changed if not _is_base(one["dn"], base)]
            gone |= found.deleted
        gone -= {entry.immutable_id for entry in entries}
        return Reading(tuple(entries), complete=False, gone=frozenset(gone), cursor={"csn": csn}, server=url)

    def _attributes(self, kind: EntryKind) -> list[str]:
        names = [*wanted_attributes(self._settings, kind), MODIFIED]
        return [*names, LOCKED] if kind == "user" else names

    def _entry(self, kind: EntryKind, found: Mapping[str, Any], names: Names) -> DirectoryEntry:
        raw = {name: values for name, values in found["raw_attributes"].items() if name != MODIFIED.lower()}
        return make_entry(self._settings, kind, found["dn"], raw, disabled=_state(raw) == "disabled", names=names)

    def _context_csn(self, connection: Any) -> str:
        """The suffix's contextCSN, one for each writing server; "" where there is none."""
        suffix = self._settings.users_base
        for _ in range(len(parse(suffix))):
            try:
                search_once(connection, suffix, "(objectClass=*)", [CSN], 5.0, search_scope=BASE)
            except (ReadIncomplete, *FAULTS):
                return ""
            values = [
                value.decode("ascii", "replace")
                for one in connection.response
                if one["type"] == "searchResEntry"
                for value in one["raw_attributes"].get(CSN.lower(), ())
            ]
            if values:
                return ";".join(sorted(values))
            suffix = suffix.partition(",")[2]
        return ""


def _stamp(found: Mapping[str, Any]) -> str:
    """When the entry was modified, as a generalized time in UTC (RFC 4517 §3.3.13); "" where the server hides it or
    says it otherwise."""
    values = found["raw_attributes"].get(MODIFIED.lower(), ())
    text = values[0].decode("ascii", "replace") if values else ""
    return text if STAMP.fullmatch(text) else ""


def _is_base(dn: str, base: str) -> bool:
    return len(dn) <= len(base) + 8 and parse(dn) == parse(base)


def _state(raw: Mapping[str, Any]) -> BindResult | None:
    return "disabled" if LOCKED_FOR_EVER.encode() in raw.get(LOCKED.lower(), ()) else None


def _judge(result: Mapping[str, Any]) -> BindResult:
    """What a bind says, with what the password policy adds (draft-behera-ldap-password-policy-10 §6.2): that the
    password is right but has expired or was reset."""
    policy = _policy_error(result)
    if result["result"] == OK:
        return "must_change" if policy == RESET else "ok"
    if result["result"] != INVALID_CREDENTIALS:
        return judge_refusal(result)
    return {EXPIRED: "must_change", POLICY_LOCKED: "locked"}.get(policy, "wrong_password")  # type: ignore[return-value]


def _policy_error(result: Mapping[str, Any]) -> int:
    """The error of the response control, [1] ENUMERATED; -1 for none, and for a control that is not well formed."""
    value: bytes = (result.get("controls") or {}).get(PPOLICY, {}).get("value") or b""
    # Behind the sequence's two bytes an optional warning [0] of at most eight bytes, then the error.
    at = 2
    if len(value) > at + 1 and value[at] == 0xA0:
        at += 2 + value[at + 1]
    well = len(value) == at + 3 and value[0] == 0x30 and value[at : at + 2] == b"\x81\x01"
    return value[-1] if well else -1
