"""Random values, their stored form, and the one comparison in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from uuid import UUID

import uuid_utils
from uuid_utils import compat

from identity.core.errors import Invalid


def new_id() -> UUID:
    """A UUIDv7: the key of every row; its order is the order of creation (RFC 9562 §5.7)."""
    return compat.uuid7()


def new_id_text() -> str:
    """A UUIDv7 as text, where nobody needs it otherwise: a fifth of the cost."""
    return str(uuid_utils.uuid7())


def new_secret(prefix: str) -> str:
    """A bearer secret of 256 bits with its type in front, for example `rt_…`; only its digest is stored."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> bytes:
    """SHA-256 of a high-entropy secret: the form in which it is stored and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def equal(left: str | bytes, right: str | bytes) -> bool:
    """Whether two secrets are the same, in time that does not depend on where they differ."""
    a = left.encode("utf-8", "surrogatepass") if isinstance(left, str) else left
    b = right.encode("utf-8", "surrogatepass") if isinstance(right, str) else right
    return hmac.compare_digest(a, b)


def read_secret(reference: str, base: Path = Path()) -> str:
    """What `env:NAME` or `file:PATH` (relative to `base`) holds; raises `Invalid` when that is nothing."""
    kind, _, name = reference.partition(":")
    try:
        value = os.environ.get(name, "") if kind == "env" else (base / name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Invalid(f"The secret {reference} cannot be read.", str(error), code="secret_unreadable") from None
    if not value:
        raise Invalid(f"The secret {reference} is empty.", code="secret_empty")
    return value
