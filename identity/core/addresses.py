"""Addresses that an admin registers."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

# Percent-encoded characters that could change how an address is read: controls, " # % . / ; @ \\ and DEL.
_HIDDEN = re.compile(r"%(?![0-9A-Fa-f]{2})|^[^?]*%(?:[01][0-9A-Fa-f]|2[2357EeFf]|3[Bb]|40|5[Cc]|7[Ff])|%00")


def has_one_reading(url: str) -> bool:
    """Whether every server reads this address, or path with query, as the same: no dot or empty segments, parameters,
    fragment, backslashes, control characters, or encoded forms of them in its path."""
    if "#" in url or "\\" in url or any(ord(c) < 0x21 or ord(c) == 0x7F for c in url):
        return False
    try:
        path = urlsplit(url if "://" in url.partition("?")[0] else f"https://host{url}").path
    except ValueError:  # for example an open IPv6 bracket
        return False
    return not any(one in path for one in (";", "//", "/.")) and not _HIDDEN.search(url)


def is_loopback(host: str) -> bool:
    """Whether this host name or address is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_web_address(url: str) -> str:
    """An https address, or http on loopback: no fragment, user, backslash or control character."""
    parts = urlsplit(url)
    if any(ord(c) < 0x21 or c in "\\\x7f" for c in url) or parts.fragment or "#" in url or parts.username is not None:
        raise ValueError("must have no fragment, user name, backslash or control character")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise ValueError("must be an https address (http only on loopback)")
    return url


WebAddress = Annotated[str, StringConstraints(max_length=2_048), AfterValidator(check_web_address)]
