"""LDAP messages read off the wire (RFC 4511 §4.1.1, §5.1): entries by the shortest way, all others by ldap3.

ldap3 makes a dozen objects of each attribute and decodes every value; a company of a hundred thousand people has
millions. An entry here is a DN and its attributes' bytes, names in small letters.
"""

from __future__ import annotations

from typing import Any

from ldap3.core.exceptions import LDAPSocketReceiveError
from ldap3.strategy.base import RESPONSE_COMPLETE, SESSION_TERMINATED_BY_SERVER
from ldap3.utils.asn1 import decode_message_fast

CHUNK = 256 * 1024
MESSAGE_MAX = 64 * 1024 * 1024
NAMES_MAX = 10_000
SEQUENCE, SET, OCTETS, INTEGER = 0x30, 0x31, 0x04, 0x02
ENTRY, REFERENCE, INTERMEDIATE = 0x64, 0x73, 0x79
NOT_LAST = ("searchResEntry", "searchResRef", "intermediateResponse")

_names: dict[bytes, str] = {}


def read_lean(connection: Any) -> None:
    """Let this ldap3 connection (strategy SYNC) read its answers by `_responses`."""
    strategy = connection.strategy

    def get(message_id: int, _timeout: float | None = None) -> Any:
        return _responses(strategy, message_id)

    strategy._get_response = get


def _responses(strategy: Any, message_id: int) -> Any:
    """All messages of one answer and ldap3's mark of its end, or its mark of an ended session; raises
    `LDAPSocketReceiveError`, and `ValueError` or `IndexError` for bytes that are no LDAP."""
    receive = strategy.connection.socket.recv
    found: list[Any] = []
    data = b""
    while True:
        try:
            more = receive(CHUNK)
        except OSError as error:
            strategy.connection.last_error = str(error)
            raise LDAPSocketReceiveError(str(error)) from error
        if not more:
            return SESSION_TERMINATED_BY_SERVER
        data += more
        start = 0
        while (end := _end(data, start)) is not None:
            one = _message(strategy, data, start, end, message_id)
            if one is None:
                return SESSION_TERMINATED_BY_SERVER
            found.append(one)
            start = end
            if one["type"] not in NOT_LAST:
                found.append(RESPONSE_COMPLETE)
                return found
        data = data[start:]


def _end(data: bytes, start: int) -> int | None:
    """Where the message that begins here ends; None while it is not whole."""
    if len(data) < start + 2:
        return None
    if data[start] != SEQUENCE:
        raise ValueError("not an LDAP message")
    size, first = data[start + 1], start + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("a length that LDAP does not have")
        if len(data) < first + count:
            return None
        size, first = int.from_bytes(data[first : first + count], "big"), first + count
    if size > MESSAGE_MAX:
        raise ValueError("a message is too large")
    return first + size if len(data) >= first + size else None


def _message(strategy: Any, data: bytes, start: int, end: int, message_id: int) -> dict[str, Any] | None:
    """One message as ldap3 gives it; None for a notice of disconnection."""
    _, at = _length(data, start + 1)
    tag, number, at = _value(data, at)
    if tag != INTEGER:
        raise ValueError("a message without its number")
    got = int.from_bytes(number, "big")
    if data[at] == ENTRY and got == message_id:
        size, first = _length(data, at + 1)
        found = _entry(data, first, first + size)
        if first + size != end:
            # Controls beside an entry are rare: those of content synchronization.
            whole = strategy.decode_response_fast(decode_message_fast(data[start:end]))
            found["controls"] = whole.get("controls", {})
        return found
    if got == 0:
        return None
    if got != message_id:
        raise ValueError("an answer to another question")
    answer: dict[str, Any] = strategy.decode_response_fast(decode_message_fast(data[start:end]))
    return answer


def _entry(data: bytes, at: int, stop: int) -> dict[str, Any]:
    """A searchResEntry: LDAPDN, then PartialAttributes of a type and a set of values."""
    _, dn, at = _value(data, at)
    size, at = _length(data, at + 1)
    attributes: dict[str, list[bytes]] = {}
    ranged = False
    while at < stop:
        _, at = _length(data, at + 1)
        size = data[at + 1]
        if size & 0x80:
            size, at = _length(data, at + 1)
        else:
            at += 2
        raw = data[at : at + size]
        at += size
        name = _names.get(raw) or _name(raw)
        ranged = ranged or ";range=" in name
        size = data[at + 1]
        if size & 0x80:
            size, at = _length(data, at + 1)
        else:
            at += 2
        end = at + size
        values = attributes[name] = []
        while at < end:
            size = data[at + 1]
            if size & 0x80:
                size, at = _length(data, at + 1)
            else:
                at += 2
            values.append(data[at : at + size])
            at += size
        if at != end:
            raise ValueError("a value longer than its set")
    if at != stop:
        raise ValueError("an attribute longer than its entry")
    # ldap3 looks for cut member lists in both.
    decoded = {name: list(values) for name, values in attributes.items()} if ranged else {}
    return {"type": "searchResEntry", "dn": dn.decode("utf-8", "replace"), "raw_attributes": attributes} | (
        {"attributes": decoded} if ranged else {}
    )


def _name(raw: bytes) -> str:
    if len(_names) >= NAMES_MAX:
        _names.clear()
    return _names.setdefault(raw, raw.decode("ascii", "replace").lower())


def _value(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and the place behind it."""
    size, first = _length(data, at + 1)
    return data[at], data[first : first + size], first + size


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length (X.690 §8.1.3, the definite forms only) and the place behind it."""
    size = data[at]
    if not size & 0x80:
        return size, at + 1
    count = size & 0x7F
    if not 1 <= count <= 4:
        raise ValueError("a length that LDAP does not have")
    return int.from_bytes(data[at + 1 : at + 1 + count], "big"), at + 1 + count
