"""OpenLDAP: read whole by pages, bind to check a password. TLS with certificate check, time-outs, no referrals."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from ldap3 import DEREF_NEVER, NONE, SUBTREE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars

from identity.core.errors import Invalid, Unavailable
from identity.directory.dn import normalise
from identity.directory.reader import BindResult, DirectoryEntry, DirectorySettings, ReadIncomplete

PAGED = "1.2.840.113556.1.4.319"
OK, INVALID_CREDENTIALS = 0, 49
BIND_SLOTS = threading.BoundedSemaphore(6)
VALUE_MAX = 4_096


class OpenLdapDirectory:
    """A directory server; each login binds on a connection of its own, so no identity bleeds into another."""

    def __init__(self, settings: DirectorySettings, secret: str) -> None:
        self._settings = settings
        self._secret = secret
        for url in settings.urls:
            _check_transport(url, settings.tls)

    def read(self) -> tuple[DirectoryEntry, ...]:
        """Every department, user and group; raises `ReadIncomplete` for anything less."""
        s = self._settings
        entries: list[DirectoryEntry] = []
        with self._service() as connection:
            for kind, base, wanted in (
                ("department", s.departments_base, s.departments_filter),
                ("user", s.users_base, s.users_filter),
                ("group", s.groups_base, s.groups_filter),
            ):
                if base:
                    found = list(self._search(connection, base, wanted))
                    entries += [_entry(kind, one) for one in found if normalise(one["dn"]) != normalise(base)]
        if not any(entry.kind == "user" for entry in entries):
            raise ReadIncomplete("The directory holds no users.", s.users_base, code="read_empty")
        return tuple(entries)

    def bind(self, dn: str, immutable_id: str, password: str) -> BindResult:  # noqa: ARG002
        """Find the entry by its id (its DN may have changed), then bind as it. One sign-in, one bind."""
        if not password:
            return "wrong_password"
        if not BIND_SLOTS.acquire(timeout=1):
            return "unavailable"
        try:
            with self._service() as connection:
                wanted = f"(entryUUID={escape_filter_chars(immutable_id)})"
                found = list(self._search(connection, self._settings.users_base, wanted))
            if len(found) != 1:
                return "wrong_password"
            if _disabled(found[0]["raw_attributes"]):
                return "disabled"
            return self._bind_as(found[0]["dn"], password)
        except (Unavailable, LDAPException, OSError):
            return "unavailable"
        finally:
            BIND_SLOTS.release()

    def _bind_as(self, dn: str, password: str) -> BindResult:
        for connection in self._connections(dn, password):
            try:
                self._start(connection)
                connection.bind()
                code = connection.result["result"]
            finally:
                connection.unbind()
            if code == OK:
                return "ok"
            return "wrong_password" if code == INVALID_CREDENTIALS else "unavailable"
        return "unavailable"

    @contextmanager
    def _service(self) -> Iterator[Connection]:
        """A connection of the service account to the first server that answers."""
        problems = []
        for connection in self._connections(self._settings.bind_dn, self._secret):
            try:
                self._start(connection)
                connection.bind()
                if connection.result["result"] != OK:
                    raise Unavailable("The directory refused our account.", str(connection.result["description"]))
            except (LDAPException, OSError) as error:
                problems.append(f"{connection.server.host}: {error}")
                continue
            try:
                yield connection
            except (LDAPException, OSError) as error:
                raise ReadIncomplete("The directory stopped answering.", str(error)) from error
            finally:
                connection.unbind()
            return
        raise Unavailable("The directory cannot be reached.", "; ".join(problems), code="directory_unreachable")

    def _connections(self, user: str, password: str) -> Iterator[Connection]:
        s = self._settings
        tls = Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=s.ca_file, version=ssl.PROTOCOL_TLS_CLIENT)
        for url in s.urls:
            server = Server(url, use_ssl=s.tls == "ldaps", tls=tls, get_info=NONE, connect_timeout=s.connect_timeout_s)
            yield Connection(
                server,
                user=user,
                password=password,
                receive_timeout=s.receive_timeout_s,
                auto_referrals=False,
                return_empty_attributes=False,
                raise_exceptions=False,
                auto_bind=False,
            )

    def _start(self, connection: Connection) -> None:
        connection.open()
        if self._settings.tls == "starttls" and not connection.start_tls():
            raise Unavailable("The directory did not start TLS.", str(connection.result), code="no_tls")

    def _search(self, connection: Connection, base: str, wanted: str) -> Iterator[dict[str, Any]]:
        cookie: bytes | None = None
        while True:
            connection.search(
                base,
                wanted,
                search_scope=SUBTREE,
                dereference_aliases=DEREF_NEVER,
                attributes=["*", "entryUUID", "pwdAccountLockedTime"],
                paged_size=self._settings.page_size,
                paged_cookie=cookie,
            )
            result = connection.result
            if result["result"] != OK:
                raise ReadIncomplete("The directory did not give everything.", str(result["description"]))
            yield from (one for one in connection.response if one["type"] == "searchResEntry")
            cookie = result.get("controls", {}).get(PAGED, {}).get("value", {}).get("cookie")
            if not cookie:
                return


def _entry(kind: str, found: dict[str, Any]) -> DirectoryEntry:
    attributes = {
        name.lower(): tuple(text for one in values if (text := _text(one)) is not None)
        for name, values in found["raw_attributes"].items()
        if name.lower() not in {"userpassword", "jpegphoto", "usercertificate"}
    }
    ids = attributes.get("entryuuid", ())
    if not ids:
        raise ReadIncomplete("The directory hides entryUUID from our account.", found["dn"], code="no_entry_uuid")
    return DirectoryEntry(
        kind=kind,  # type: ignore[arg-type]
        immutable_id=ids[0],
        dn=normalise(found["dn"]),
        attributes=attributes,
        disabled=_disabled(found["raw_attributes"]),
        members=tuple(normalise(one) for one in attributes.get("member", ())),
    )


def _text(value: bytes) -> str | None:
    """The value as text, or None for binary or oversized ones."""
    if len(value) > VALUE_MAX:
        return None
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "".join(char for char in text if char.isprintable())


def _disabled(raw: dict[str, list[bytes]]) -> bool:
    return b"000001010000Z" in raw.get("pwdAccountLockedTime", [])


def _check_transport(url: str, tls: Literal["ldaps", "starttls", "none"]) -> None:
    """Nothing but loopback may be spoken to in clear."""
    parts = urlsplit(url)
    if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname or (tls == "ldaps") != (parts.scheme == "ldaps"):
        raise Invalid(f"{url} does not fit the TLS mode {tls}.", code="directory_url")
    if tls == "none":
        try:
            loopback = ip_address(parts.hostname).is_loopback
        except ValueError:
            loopback = parts.hostname == "localhost"
        if not loopback:
            raise Invalid("A directory must be read over TLS.", code="directory_tls")
