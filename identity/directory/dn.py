"""Distinguished names, compared as RFC 4514 strings with the case and space rules of RFC 4518."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from identity.core.errors import Invalid

MAX_LENGTH = 8_192

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_HEX_VALUE = re.compile(r"#(?:[0-9A-Fa-f]{2})+")
_HEX_PAIR = re.compile(r"[0-9A-Fa-f]{2}")
_PLAIN = re.compile(r'[^\\"+;<>#\x00\ud800-\udfff]+')
_SAFE = re.compile(r"[^\"+,;<>\\=#\x00]*")
_FORBIDDEN = frozenset('"<>\0')
_ESCAPABLE = frozenset(' "#+,;<=>\\')

# Short names of RFC 4514 §3; directories may answer with the object identifier or the long name.
_SHORT = {
    "2.5.4.3": "cn",
    "commonname": "cn",
    "2.5.4.7": "l",
    "localityname": "l",
    "2.5.4.8": "st",
    "stateorprovincename": "st",
    "2.5.4.10": "o",
    "organizationname": "o",
    "2.5.4.11": "ou",
    "organizationalunitname": "ou",
    "2.5.4.6": "c",
    "countryname": "c",
    "2.5.4.9": "street",
    "streetaddress": "street",
    "0.9.2342.19200300.100.1.25": "dc",
    "domaincomponent": "dc",
    "0.9.2342.19200300.100.1.1": "uid",
    "userid": "uid",
}

Rdns = tuple[str, ...]


def parse(dn: str) -> Rdns:
    """The relative names of a DN, leaf first, each in one canonical form; () for the empty DN.

    Two DNs name the same entry when their results are equal (RFC 4514 §2–3; values fold case and spaces as
    caseIgnoreMatch does, RFC 4518). Raises `Invalid` for anything that is not a DN.
    """
    if len(dn) > MAX_LENGTH:
        raise _broken("is too long")
    if not dn.strip(" "):
        return ()
    if _PLAIN.fullmatch(dn):
        return tuple(_plain_pair(part) for part in dn.split(","))
    rdns: list[str] = []
    pairs: list[str] = []
    position = 0
    while True:
        pair, position = _pair(dn, position)
        pairs.append(pair)
        separator = dn[position : position + 1]
        if separator != "+":
            rdns.append("+".join(sorted(pairs)))
            pairs = []
        if not separator:
            return tuple(rdns)
        position += 1


def normalise(dn: str) -> str:
    """The DN in its one canonical form; raises `Invalid`."""
    leaf, comma, above = dn.partition(",")
    if comma and len(dn) <= MAX_LENGTH and _PLAIN.fullmatch(dn):
        return f"{_plain_pair(leaf)},{_plain_tail(above)}"
    return ",".join(parse(dn))


def normalise_or_empty(said: str) -> str:
    """As `normalise`; "" for what is no DN and so names nobody."""
    try:
        return normalise(said)
    except Invalid:
        return ""


def is_below(rdns: Rdns, base: Rdns) -> bool:
    """Whether a parsed DN is the base or lies under it."""
    return len(rdns) >= len(base) and rdns[len(rdns) - len(base) :] == base


def fold(value: str) -> str:
    """A value as caseIgnoreMatch sees it: NFKC, case folded, outer spaces gone, inner runs of spaces one."""
    if value.isascii():
        return " ".join(value.lower().split())
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).split())


def _broken(what: str) -> Invalid:
    return Invalid(f"A distinguished name {what}.", code="dn")


def _plain_pair(part: str) -> str:
    """As `_pair`, for the many names without any escape."""
    kind, equals, value = part.partition("=")
    if not equals:
        raise _broken("has a part without =")
    return f"{_type(kind)}={_escape(fold(value))}"


@lru_cache(maxsize=4_096)
def _plain_tail(above: str) -> str:
    """What many names have in common."""
    return ",".join(_plain_pair(part) for part in above.split(","))


@lru_cache(maxsize=512)
def _type(text: str) -> str:
    kind = text.strip(" ").lower().removeprefix("oid.")
    if not _TYPE.fullmatch(kind):
        raise _broken("has a part whose attribute type is not one")
    return _SHORT.get(kind, kind)


def _pair(dn: str, start: int) -> tuple[str, int]:
    """One `type=value` from `start`, canonical, and the place of the separator behind it."""
    equals = dn.find("=", start)
    if equals < 0:
        raise _broken("has a part without =")
    value, end = _value(dn, equals + 1)
    return f"{_type(dn[start:equals])}={value}", end


def _value(dn: str, start: int) -> tuple[str, int]:
    """The canonical value from `start`, and where it ends."""
    end = start
    while end < len(dn) and dn[end] not in ",+;":
        end += 2 if dn[end] == "\\" else 1
    if end > len(dn):
        raise _broken("ends inside an escape")
    text = dn[start:end].lstrip(" ")
    if text.startswith("#"):
        text = text.rstrip(" ")
        if not _HEX_VALUE.fullmatch(text):
            raise _broken("has a value that is not hexadecimal behind #")
        return text.lower(), end
    return _escape(fold(_unescape(text))), end


def _unescape(text: str) -> str:
    out = bytearray()
    position = 0
    try:
        while position < len(text):
            char = text[position]
            if char != "\\":
                if char in _FORBIDDEN:
                    raise _broken("has a character that must be escaped")
                out += char.encode()
                position += 1
            elif _HEX_PAIR.fullmatch(text, position + 1, position + 3):
                out.append(int(text[position + 1 : position + 3], 16))
                position += 3
            elif text[position + 1 : position + 2] in _ESCAPABLE:
                out += text[position + 1].encode()
                position += 2
            else:
                raise _broken("has an unknown escape")
        return out.decode()
    except UnicodeError as error:
        raise _broken("is not UTF-8") from error


def _escape(value: str) -> str:
    """A folded value with the escapes of RFC 4514 §2.4."""
    if _SAFE.fullmatch(value):
        return value
    out = "".join(f"\\{char}" if char in '"+,;<>\\=' else "\\00" if char == "\0" else char for char in value)
    return f"\\{out}" if out.startswith("#") else out
