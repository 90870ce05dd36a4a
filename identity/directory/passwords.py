"""A person's own password changed in the directory: by modifying unicodePwd (MS-ADTS §3.1.1.3.1.5), or by the password
modify operation (RFC 3062). Both name the old password, so that the directory's own rules hold as for its own pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ldap3 import MODIFY_ADD, MODIFY_DELETE

from identity.core.errors import Unavailable
from identity.directory.binding import Bulkhead
from identity.directory.connection import FAULTS, INVALID_CREDENTIALS, OK, LdapServers, deadline, search_once
from identity.directory.reader import ChangeResult, ReadIncomplete

CONSTRAINT_VIOLATION, UNWILLING = 19, 53
# What a controller says of a refused change: ERROR_INVALID_PASSWORD, ERROR_ACCOUNT_LOCKED_OUT (MS-ERREF §2.2).
AD_WRONG, AD_LOCKED = "00000056", "00000775"

Change = Callable[[Any, str, str, str], ChangeResult]


class PasswordChanger:
    """Changes one account's password, found by its id, over our own connection within one deadline."""

    def __init__(self, servers: LdapServers, change: Change) -> None:
        self._servers = servers
        self._change = change
        self._bulkhead = Bulkhead()

    def change(self, wanted: str, old: str, new: str) -> ChangeResult:
        """Change the password of the one entry that the filter finds; it is asked of one server only, because a change
        that nobody answered may have been made."""
        settings = self._servers.settings
        if not settings.password_change:
            return "off"
        if not old or not new:
            return "wrong_password"
        with self._bulkhead.enter() as allowed:
            if not allowed:
                return "unavailable"
            result: ChangeResult = "unavailable"
            try:
                with self._servers.service() as (connection, _):
                    base, seconds = settings.users_base, float(settings.login_timeout_s)
                    search_once(connection, base, wanted, [settings.key], seconds, size_limit=2)
                    found = [one["dn"] for one in connection.response if one["type"] == "searchResEntry"]
                    if len(found) != 1:
                        return "wrong_password"
                    with deadline(connection, seconds):
                        result = self._change(connection, found[0], old, new)
            except (Unavailable, ReadIncomplete, *FAULTS):
                result = "unavailable"
            self._bulkhead.answered(well=result != "unavailable")
            return result


def change_unicode_pwd(connection: Any, dn: str, old: str, new: str) -> ChangeResult:
    """Active Directory: the old value deleted and the new one added in one operation is a change, not a reset."""
    changes = {"unicodePwd": [(MODIFY_DELETE, [_quoted(old)]), (MODIFY_ADD, [_quoted(new)])]}
    connection.modify(dn, changes)
    code, message = connection.result["result"], str(connection.result.get("message", "")).upper()
    if code == OK:
        return "ok"
    if message.startswith(AD_WRONG):
        return "wrong_password"
    if message.startswith(AD_LOCKED):
        return "locked"
    return "refused" if code in {CONSTRAINT_VIOLATION, UNWILLING} else "unavailable"


def modify_password(connection: Any, dn: str, old: str, new: str) -> ChangeResult:
    """OpenLDAP and others: the password modify extended operation."""
    connection.extend.standard.modify_password(user=dn, old_password=old, new_password=new)
    code, message = connection.result["result"], str(connection.result.get("message", "")).lower()
    if code == OK:
        return "ok"
    if code == INVALID_CREDENTIALS or (code == UNWILLING and "old password" in message):
        return "wrong_password"
    return "refused" if code in {CONSTRAINT_VIOLATION, UNWILLING} else "unavailable"


def _quoted(password: str) -> bytes:
    return f'"{password}"'.encode("utf-16-le")
