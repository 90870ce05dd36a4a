"""Whether our account may write an attribute, asked without writing: Active Directory says which attributes it may
(MS-ADTS §3.1.1.4.5.20), OpenLDAP tries a change and takes it back itself (its No-Op control)."""

from __future__ import annotations

from typing import Any

from ldap3 import BASE, MODIFY_REPLACE

from identity.directory.connection import deadline, search_once
from identity.directory.dn import parse
from identity.directory.settings import DirectorySettings

NO_OP, NO_OPERATION, NO_RIGHT = "1.3.6.1.4.1.4203.666.5.2", 0x410E, 50


def may_write(connection: Any, settings: DirectorySettings, attribute: str, seconds: float) -> bool | None:
    """Whether the attribute of some user may be written; None = the server does not say. Nothing is changed. Raises
    what the connection does, and `ValueError` when there is no user."""
    search_once(connection, settings.users_base, settings.users_filter, [attribute], seconds, paged_size=2)
    base = parse(settings.users_base)
    found = [one for one in connection.response if one["type"] == "searchResEntry" and parse(one["dn"]) != base]
    if not found:
        raise ValueError("no user")
    dn, raw = found[0]["dn"], found[0]["raw_attributes"].get(attribute.lower()) or []
    if settings.kind == "active_directory":
        name = "allowedAttributesEffective"
        search_once(connection, dn, "(objectClass=*)", [name], seconds, search_scope=BASE)
        allowed = connection.response[0]["raw_attributes"].get(name.lower()) or []
        return attribute.lower() in {one.decode("ascii", "replace").lower() for one in allowed}
    return _tried(connection, dn, attribute, raw, seconds)


def _tried(connection: Any, dn: str, attribute: str, values: list[bytes], seconds: float) -> bool | None:
    """The values that it has put in their own place, with the control as critical: who does not know it does nothing
    (RFC 4511 §4.1.11)."""
    try:
        with deadline(connection, seconds):
            connection.modify(dn, {attribute: [(MODIFY_REPLACE, values)]}, controls=[(NO_OP, True, None)])
    except KeyError as error:
        # ldap3 has no word for this result, which is the good one.
        if error.args == (NO_OPERATION,):
            return True
        raise
    return False if connection.result["result"] == NO_RIGHT else None
