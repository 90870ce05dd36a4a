"""Addresses that an admin registers."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints


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
