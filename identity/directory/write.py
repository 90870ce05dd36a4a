"""One attribute of one entry written, unless the directory has a newer value of its own.

The value is read and compared, then the old one deleted and the new one added in one operation, which the server
refuses when the old one is no longer there (RFC 4511 §4.6). Where there was none, an assertion says so to servers that
know it (RFC 4528). An answer that was lost is no harm: the next attempt finds what it wanted to write.
"""

from __future__ import annotations

from typing import Any

from ldap3 import MODIFY_ADD, MODIFY_DELETE

from identity.core.errors import Unavailable
from identity.directory.connection import FAULTS, OK, LdapServers, deadline, search_once
from identity.directory.entries import clean
from identity.directory.reader import Edit, ReadIncomplete, Written

ASSERTION = "1.3.6.1.1.12"
# noSuchAttribute, attributeOrValueExists, assertionFailed: somebody was faster; what he wrote is seen the next time.
RACED = frozenset({16, 20, 122})
# timeLimitExceeded, adminLimitExceeded, busy, unavailable (RFC 4511 appendix A).
NOT_NOW = frozenset({3, 11, 51, 52})


def write_attribute(servers: LdapServers, wanted: str, edit: Edit) -> Written:
    """Make the edit in the one entry that the filter finds. Raises nothing; the value is never part of a filter or a
    name."""
    settings = servers.settings
    seconds = float(settings.login_timeout_s)
    chosen = f"(&{settings.users_filter}{wanted})"
    try:
        with servers.service(keep=True) as (connection, _):
            search_once(connection, settings.users_base, chosen, [edit.attribute], seconds, size_limit=2)
            found = [one for one in connection.response if one["type"] == "searchResEntry"]
            if len(found) != 1:
                return Written("missing")
            raw = found[0]["raw_attributes"].get(edit.attribute.lower()) or []
            if len(raw) > 1:
                return Written("refused", detail="several_values")
            present = clean(raw[0]) if raw else None
            if present == edit.value:
                return Written("ok", present)
            if present not in edit.expected:
                return Written("newer", present)
            with deadline(connection, seconds):
                _modify(connection, found[0]["dn"], edit, raw)
            return _judge(connection.result, present)
    except (Unavailable, ReadIncomplete, *FAULTS) as error:
        return Written("unavailable", detail=getattr(error, "code", "") or "unavailable")


def _modify(connection: Any, dn: str, edit: Edit, old: list[bytes]) -> None:
    new = [] if edit.value is None else [(MODIFY_ADD, [edit.value.encode()])]
    if old:
        connection.modify(dn, {edit.attribute: [(MODIFY_DELETE, old), *new]})
    else:
        connection.modify(dn, {edit.attribute: new}, controls=[(ASSERTION, False, _absent(edit.attribute))])


def _judge(result: dict[str, Any], present: str | None) -> Written:
    code, said = result["result"], str(result["description"])
    if code == OK:
        return Written("ok", present)
    if code in RACED or code in NOT_NOW:
        return Written("unavailable", present, said)
    return Written("refused", present, said)


def _absent(attribute: str) -> bytes:
    """The filter (!(attribute=*)) in BER (RFC 4511 §4.5.1: not [2], present [7])."""
    name = attribute.encode()
    return bytes([0xA2, len(name) + 2, 0x87, len(name)]) + name
