"""Active Directory: read whole, or by DirSync or uSNChanged what changed; deletions by tombstones.

DirSync and uSNChanged only say *which* objects changed; those are read again whole, because DirSync gives no more than
the changed attributes. A renamed organizational unit changes its own number only, though every DN below it is new, so
it makes everything be read again.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from ldap3 import BASE
from ldap3.protocol.microsoft import dir_sync_control, show_deleted_control

from identity.directory.binding import Binder, judge_refusal
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
from identity.directory.entries import Names, guid, make_entry, wanted_attributes
from identity.directory.passwords import PasswordChanger, change_unicode_pwd
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
from identity.directory.write import write_attribute

DIRSYNC = "1.2.840.113556.1.4.841"
ACCOUNT_DISABLED = 0x2
GUIDS_AT_ONCE = 50
# How changes are found, the best first.
WHOLE_DIRSYNC, OWN_DIRSYNC, USN, SWEEP = "dirsync", "object-security", "usn", "usn-sweep"
LOCKOUT_S = 600.0
# Bind refusals (MS-ADTS §3.1.1.5, AcceptSecurityContext data): which say that the password was right.
_CODES: Mapping[str, BindResult] = {
    "525": "wrong_password",
    "52e": "wrong_password",
    "530": "denied",
    "531": "denied",
    "532": "must_change",
    "533": "disabled",
    "701": "expired",
    "773": "must_change",
    "775": "locked",
}


class ActiveDirectory:
    """A domain, by any of its domain controllers."""

    def __init__(self, settings: DirectorySettings, secret: str) -> None:
        self._settings = settings
        self._servers = LdapServers(settings, secret)
        self._binder = Binder(self._servers, ("objectGUID",), lambda _: None, judge)
        self._changer = PasswordChanger(self._servers, change_unicode_pwd)
        self._lockout = (0, 0)
        self._lockout_at = float("-inf")

    def read(self, cursor: Cursor | None = None) -> Reading:
        """Every department, user and group, or with a cursor what changed since; raises `ReadIncomplete`."""
        with self._servers.service() as (connection, url):
            mark = self._mark(connection)
            if cursor and self._settings.incremental:
                changed = self._changed_since(connection, cursor, mark)
                if changed is not None:
                    reading = self._reading_of(connection, url, *changed)
                    swept = cursor.get("mode") == SWEEP and cursor["usn"] != mark["usn"] and not reading.complete
                    return replace(reading, present=self._present(connection)) if swept else reading
            fresh = {**mark, **self._first_cookie(connection, mark["base"])}
            return self._everything(connection, url, fresh)

    def mark(self) -> Cursor | None:
        """How far the domain controller is now; two equal marks: nothing has changed."""
        with self._servers.service(keep=True) as (connection, _):
            return self._mark(connection)

    def pick(self, login: str | None, ids: Collection[str]) -> Reading:
        """Only these users, their groups, the primary one too, and the departments."""
        names = Names()
        way = Way(
            self._attributes,
            lambda kind, found: self._entry(kind, found, {}, names),
            lambda one: f"(objectGUID={_escaped(UUID(one))})",
            _primary_group,
        )
        with self._servers.service() as (connection, url):
            return pick(connection, self._settings, url, way, login, ids)

    def sample(self, login: str) -> DirectoryEntry | None:
        """The entry of this login; None unless there is exactly one."""
        with self._servers.service() as (connection, _):
            found = find_login(connection, self._settings, login, self._attributes("user"))
            return self._entry("user", found[0], {}, Names()) if len(found) == 1 else None

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:  # noqa: ARG002
        """Find the account by its objectGUID, then bind as it."""
        return self._binder.bind(f"(objectGUID={_escaped(UUID(immutable_id))})", password)

    def change_password(self, immutable_id: str, old: str, new: str) -> ChangeResult:
        """By modifying unicodePwd, which works for an expired password as well; only over TLS."""
        if self._settings.tls == "none":
            return "off"
        return self._changer.change(f"(objectGUID={_escaped(UUID(immutable_id))})", old, new)

    def write(self, immutable_id: str, edit: Edit) -> Written:
        """By deleting the old value and adding the new one in one operation."""
        return write_attribute(self._servers, f"(objectGUID={_escaped(UUID(immutable_id))})", edit)

    def close(self) -> None:
        """End the kept connections."""
        self._servers.close()

    def lockout(self) -> tuple[int, int]:
        """As the settings say, else the domain's lockoutThreshold and lockOutObservationWindow, read now and then."""
        if self._settings.lockout_failures:
            return self._settings.lockout_failures, self._settings.lockout_window_s
        if time.monotonic() - self._lockout_at > LOCKOUT_S:
            self._lockout, self._lockout_at = self._read_lockout(), time.monotonic()
        return self._lockout

    def _read_lockout(self) -> tuple[int, int]:
        with self._servers.service() as (connection, _):
            base = self._mark(connection)["base"]
            names = ["lockoutThreshold", "lockOutObservationWindow"]
            search_once(connection, base, "(objectClass=*)", names, 5.0, search_scope=BASE)
            raw = connection.response[0]["raw_attributes"]
        threshold = int((raw.get("lockoutthreshold") or [b"0"])[0])
        window = abs(int((raw.get("lockoutobservationwindow") or [b"-18000000000"])[0])) // 10_000_000
        return threshold, window

    def way(self) -> str:
        """How changes would be found with the rights of our account: one of the four, the best first."""
        with self._servers.service() as (connection, _):
            return self._first_cookie(connection, self._mark(connection)["base"])["mode"]

    def _mark(self, connection: Any) -> dict[str, str]:
        """The domain's base, this controller's invocationId and its highest update sequence number: numbers of one
        controller mean nothing to another (MS-ADTS §3.1.1.1.9)."""
        names = ["defaultNamingContext", "highestCommittedUSN", "dsServiceName"]
        search_once(connection, "", "(objectClass=*)", names, 5.0, search_scope=BASE)
        root = connection.response[0]["raw_attributes"]
        service = root["dsservicename"][0].decode()
        search_once(connection, service, "(objectClass=*)", ["invocationId"], 5.0, search_scope=BASE)
        ids = connection.response[0]["raw_attributes"].get("invocationid") or [b"\0" * 16]
        return {
            "base": root["defaultnamingcontext"][0].decode(),
            "invocation": guid(ids[0]),
            "usn": root["highestcommittedusn"][0].decode(),
        }

    def _everything(self, connection: Any, url: str, cursor: Cursor) -> Reading:
        ends = time.monotonic() + self._settings.read_timeout_s
        raw: list[tuple[EntryKind, dict[str, Any]]] = [
            (kind, one)
            for kind, base, wanted in self._settings.searches()
            for one in search_all(connection, self._settings, base, wanted, self._attributes(kind), ends)
            if parse(one["dn"]) != parse(base)
        ]
        by_primary: dict[int, list[str]] = {}
        for kind, one in raw:
            primary = one["raw_attributes"].get("primarygroupid")
            if kind == "user" and primary:
                by_primary.setdefault(int(primary[0]), []).append(one["dn"])
        names = Names()
        entries = tuple(self._entry(kind, one, by_primary, names) for kind, one in raw)
        if not any(entry.kind == "user" for entry in entries):
            raise ReadIncomplete("The directory holds no users.", self._settings.users_base, code="read_empty")
        return Reading(entries, cursor=cursor, server=url)

    def _attributes(self, kind: EntryKind) -> list[str]:
        names = wanted_attributes(self._settings, kind)
        more = {"user": ["userAccountControl", "primaryGroupID", "objectSid"], "group": ["objectSid"]}
        return [*names, *more.get(kind, ())]

    def _entry(
        self, kind: EntryKind, found: Mapping[str, Any], by_primary: Mapping[int, Sequence[str]], names: Names
    ) -> DirectoryEntry:
        raw = found["raw_attributes"]
        members: Iterable[str] | None = None
        if kind == "group":
            listed = [one.decode("utf-8", "replace") for one in raw.get(self._settings.attributes.member.lower(), ())]
            members = dict.fromkeys([*listed, *by_primary.get(_rid(raw), ())])
        flags = int((raw.get("useraccountcontrol") or [b"0"])[0])
        disabled = kind == "user" and bool(flags & ACCOUNT_DISABLED)
        return make_entry(
            self._settings, kind, found["dn"], raw, disabled=disabled, members=members, key=guid, names=names
        )

    def _first_cookie(self, connection: Any, base: str) -> dict[str, str]:
        """A DirSync cookie of now; without the right to replicate only what our account may see, else none."""
        for object_security in (False, True):
            found = _dirsync(connection, base, b"", self._settings.page_timeout_s, object_security)
            if found is not None:
                cookie = base64.b64encode(found[1]).decode()
                return {"dirsync": cookie, "mode": OWN_DIRSYNC if object_security else WHOLE_DIRSYNC}
        return {"mode": USN if self.sees_deleted(connection, base) else SWEEP}

    def sees_deleted(self, connection: Any, base: str) -> bool:
        """Whether our account may read tombstones (MS-ADTS §3.1.1.5.5): without them only what is left tells what
        went."""
        try:
            shown = [show_deleted_control(criticality=True)]
            place = f"CN=Deleted Objects,{base}"
            search_once(connection, place, "(objectClass=*)", ["objectGUID"], 5.0, search_scope=BASE, controls=shown)
        except (ReadIncomplete, *FAULTS):
            return False
        return any(one["type"] == "searchResEntry" for one in connection.response)

    def _present(self, connection: Any) -> frozenset[str]:
        """The objectGUIDs of everything that is there."""
        ends = time.monotonic() + self._settings.read_timeout_s
        return frozenset(
            guid(one["raw_attributes"]["objectguid"][0])
            for _, base, wanted in self._settings.searches()
            for one in search_all(connection, self._settings, base, wanted, ["objectGUID"], ends)
        )

    def _changed_since(
        self, connection: Any, cursor: Cursor, mark: Mapping[str, str]
    ) -> tuple[set[str], set[str], Cursor] | None:
        """GUIDs of what changed and of what was deleted, and the new cursor; None = read everything."""
        if "dirsync" in cursor:
            try:
                cookie = base64.b64decode(cursor["dirsync"], validate=True)
            except binascii.Error:
                return None
            security = cursor.get("mode") == OWN_DIRSYNC
            found = _dirsync(connection, cursor["base"], cookie, self._settings.page_timeout_s, security)
            if found is None:
                return None
            objects, fresh = found
            after = {**mark, "dirsync": base64.b64encode(fresh).decode(), "mode": cursor["mode"]}
        elif cursor.get("invocation") == mark["invocation"]:
            if cursor["usn"] == mark["usn"]:
                return set(), set(), dict(cursor)
            objects, after = self._by_usn(connection, cursor), {**mark, "mode": cursor.get("mode", USN)}
        else:
            return None
        deleted = {guid(one["objectguid"][0]) for one in objects if one.get("isdeleted", [b""])[0] == b"TRUE"}
        return {guid(one["objectguid"][0]) for one in objects} - deleted, deleted, after

    def _by_usn(self, connection: Any, cursor: Cursor) -> list[Mapping[str, Sequence[bytes]]]:
        """What has a higher uSNChanged, tombstones with it."""
        ends = time.monotonic() + self._settings.read_timeout_s
        wanted = f"(uSNChanged>={int(cursor['usn']) + 1})"
        names = ["objectGUID", "isDeleted"]
        shown = [show_deleted_control(criticality=True)]
        found = search_all(connection, self._settings, cursor["base"], wanted, names, ends, shown)
        return [one["raw_attributes"] for one in found]

    def _reading_of(self, connection: Any, url: str, changed: set[str], deleted: set[str], cursor: Cursor) -> Reading:
        """The changed objects, read again whole; those that are no longer where we look are gone, too."""
        ends = time.monotonic() + self._settings.read_timeout_s
        entries: dict[str, DirectoryEntry] = {}
        names = Names()
        ordered = sorted(changed)
        for kind, base, wanted in self._settings.searches():
            for start in range(0, len(ordered), GUIDS_AT_ONCE):
                ids = "".join(f"(objectGUID={_escaped(UUID(one))})" for one in ordered[start : start + GUIDS_AT_ONCE])
                chosen = f"(&{wanted}(|{ids}))"
                found = list(search_all(connection, self._settings, base, chosen, self._attributes(kind), ends))
                for one in found:
                    if parse(one["dn"]) == parse(base):
                        continue
                    primary = self._primary_members(connection, one, ends) if kind == "group" else {}
                    entry = self._entry(kind, one, primary, names)
                    entries[entry.immutable_id] = entry
        elsewhere = changed - entries.keys()
        moved = any(entry.kind == "department" for entry in entries.values())
        if moved or self._any_container(connection, cursor["base"], sorted(elsewhere), ends):
            return self._everything(connection, url, cursor)
        gone = deleted | elsewhere
        return Reading(tuple(entries.values()), complete=False, gone=frozenset(gone), cursor=cursor, server=url)

    def _any_container(self, connection: Any, base: str, ids: Sequence[str], ends: float) -> bool:
        """Whether one of these is a container, so that names below it have changed."""
        for start in range(0, len(ids), GUIDS_AT_ONCE):
            wanted = "".join(f"(objectGUID={_escaped(UUID(one))})" for one in ids[start : start + GUIDS_AT_ONCE])
            chosen = f"(&(|(objectClass=organizationalUnit)(objectClass=container))(|{wanted}))"
            if any(search_all(connection, self._settings, base, chosen, ["objectGUID"], ends)):
                return True
        return False

    def _primary_members(self, connection: Any, group: Mapping[str, Any], ends: float) -> dict[int, list[str]]:
        """Users whose primary group this is; they do not stand in its `member`."""
        rid = _rid(group["raw_attributes"])
        wanted = f"(&{self._settings.users_filter}(primaryGroupID={rid}))"
        found = search_all(connection, self._settings, self._settings.users_base, wanted, ["objectGUID"], ends)
        return {rid: [one["dn"] for one in found]}


def judge(result: Mapping[str, Any]) -> BindResult:
    """What a refused bind says."""
    message = str(result.get("message", ""))
    _, marker, rest = message.partition("data ")
    code = rest.partition(",")[0].strip().lower() if marker else ""
    if result["result"] == OK:
        return "ok"
    if result["result"] != INVALID_CREDENTIALS:
        return judge_refusal(result)
    return _CODES.get(code, "wrong_password")


def _dirsync(
    connection: Any, base: str, cookie: bytes, seconds: float, object_security: bool
) -> tuple[list[Mapping[str, Sequence[bytes]]], bytes] | None:
    """Objects that changed since the cookie, and the next cookie; None when the directory refuses (MS-ADTS
    §3.1.1.3.4.1.3)."""
    found: list[Mapping[str, Sequence[bytes]]] = []
    more = True
    while more:
        control = dir_sync_control(
            criticality=True,
            object_security=object_security,
            ancestors_first=False,
            public_data_only=False,
            incremental_values=True,
            max_length=0x7FFFFFFF,
            cookie=cookie,
        )
        # All attributes: moves and deletions change name, parentGUID, isDeleted and lastKnownParent only.
        names = ["*"] if cookie else ["objectGUID"]
        try:
            result = search_once(connection, base, "(objectClass=*)", names, seconds, controls=[control])
        except (ReadIncomplete, *FAULTS):
            return None
        answer = result.get("controls", {}).get(DIRSYNC)
        if answer is None:
            return None
        found += [one["raw_attributes"] for one in connection.response if one["type"] == "searchResEntry"]
        more, cookie = answer["value"]["more_results"], bytes(answer["value"]["cookie"])
    return [one for one in found if one.get("objectguid")], cookie


def _primary_group(user: Mapping[str, Any]) -> list[str]:
    """The filter for the group of a user's primaryGroupID: its objectSid is the domain's and that number."""
    raw = user["raw_attributes"]
    number, sids = raw.get("primarygroupid"), raw.get("objectsid")
    if not number or not sids:
        return []
    sid = sids[0][:-4] + int(number[0]).to_bytes(4, "little")
    return ["(objectSid=" + "".join(f"\\{byte:02x}" for byte in sid) + ")"]


def _rid(raw: Mapping[str, Sequence[bytes]]) -> int:
    """The last part of an objectSid (MS-DTYP §2.4.2.2)."""
    sids = raw.get("objectsid") or [b"\0" * 8]
    return int.from_bytes(sids[0][-4:], "little")


def _escaped(value: UUID) -> str:
    return "".join(f"\\{byte:02x}" for byte in value.bytes_le)
