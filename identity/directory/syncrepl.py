"""LDAP Content Synchronization (RFC 4533), refreshOnly: what changed since a cookie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pyasn1.codec.ber import decoder, encoder
from pyasn1.type.namedtype import NamedType, NamedTypes
from pyasn1.type.univ import Boolean, Enumerated, OctetString, Set, SetOf
from pyasn1.type.univ import Sequence as Asn1Sequence

from identity.directory.connection import deadline

REQUEST, STATE, DONE = (f"1.3.6.1.4.1.4203.1.9.1.{n}" for n in (1, 2, 3))
INFO = "1.3.6.1.4.1.4203.1.9.1.4"
OK, REFRESH_REQUIRED = 0, 4096
PRESENT, ADD, MODIFY, DELETE = range(4)


class _RequestValue(Asn1Sequence):  # type: ignore[misc]
    """syncRequestValue (§2.2): mode refreshOnly (1) and a cookie."""

    componentType = NamedTypes(NamedType("mode", Enumerated()), NamedType("cookie", OctetString()))  # noqa: N815


@dataclass(slots=True)
class Refresh:
    """What changed: entries as ldap3 gives them, and the entryUUIDs of those that went."""

    changed: list[dict[str, Any]] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)


def refresh(
    connection: Any, base: str, wanted: str, attributes: Sequence[str], cookie: str, seconds: float
) -> Refresh | None:
    """The changes since `cookie`; None when the server cannot say them and everything must be read.

    That is so for e-syncRefreshRequired (§2.7) and for a present phase (§3.3.1), in which a server that has
    forgotten its deletes lists what is left.
    """
    value = _RequestValue()
    value["mode"], value["cookie"] = 1, cookie.encode()
    with deadline(connection, seconds):
        connection.search(
            base,
            wanted,
            dereference_aliases="NEVER",  # the control is refused beside alias dereferencing (RFC 4533 §3)
            attributes=list(attributes),
            controls=[(REQUEST, True, encoder.encode(value))],
        )
    if connection.result["result"] != OK:
        return None
    done = connection.result.get("controls", {}).get(DONE)
    if done is None or not _refresh_deletes(done["value"]):
        return None
    found = Refresh()
    for one in connection.response:
        if one["type"] == "intermediateResponse":
            found.deleted |= _deleted_ids(one)
        elif one["type"] == "searchResEntry":
            state, entry_id = _state(one)
            if state == DELETE:
                found.deleted.add(entry_id)
            elif state in {ADD, MODIFY}:
                found.changed.append(one)
    return found


def _refresh_deletes(value: bytes) -> bool:
    """syncDoneValue (§2.4): whether deletes were named, so that what is not named is still there."""
    parts, _ = decoder.decode(value)
    return any(isinstance(part, Boolean) and bool(part) for part in _parts(parts))


def _parts(value: Any) -> list[Any]:
    return [value.getComponentByPosition(n) for n in range(len(value))]


def _state(found: dict[str, Any]) -> tuple[int, str]:
    """syncStateValue (§2.3): state and entryUUID."""
    parts, _ = decoder.decode(found["controls"][STATE]["value"])
    return int(parts[0]), str(UUID(bytes=bytes(parts[1])))


def _deleted_ids(message: dict[str, Any]) -> set[str]:
    """The ids of a syncIdSet with refreshDeletes (syncInfoValue, §2.5)."""
    if message.get("responseName") != INFO:
        return set()
    value = bytes(message["responseValue"])
    if not value or value[0] != 0xA3:
        return set()
    body, _ = decoder.decode(bytes([0x30]) + value[1:])
    parts = _parts(body)
    deletes = any(isinstance(part, Boolean) and bool(part) for part in parts)
    ids = next((part for part in parts if isinstance(part, SetOf | Set)), None)
    if not deletes or ids is None:
        return set()
    return {str(UUID(bytes=bytes(one))) for one in _parts(ids)}
