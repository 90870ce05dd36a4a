"""Envelope encryption: the root key wraps a key per purpose, which wraps that purpose's keys and values.

AES-256-GCM with a fresh 96-bit nonce; purpose, id and version are authenticated with each value, so that nothing can
be moved from one place to another.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from identity.core.errors import Invalid
from identity.core.settings import Settings, SettingsError

NONCE = 12


def wrap(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt; the nonce stands in front."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def unwrap(key: bytes, wrapped: bytes, aad: bytes) -> bytes:
    """Decrypt; raises `Invalid` when the value, its place or the key is another."""
    try:
        return AESGCM(key).decrypt(wrapped[:NONCE], wrapped[NONCE:], aad)
    except InvalidTag:
        raise Invalid("A stored value cannot be decrypted.", "wrong root key or moved value", code="unwrap") from None


def load_root(settings: Settings) -> bytes:
    """The root key: 32 bytes in a file that only its owner can read.

    In the demo it is made at first start; elsewhere a missing file refuses the start, since a new key could read
    nothing that is stored. Raises `SettingsError`.
    """
    path = settings.root_key_file or settings.tessera_var / "root.key"
    if not path.exists():
        if not settings.tessera_demo:
            raise SettingsError(f"Tessera cannot start:\n  ROOT_KEY_FILE: {path} does not exist")
        _make(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SettingsError(f"Tessera cannot start:\n  ROOT_KEY_FILE: {path} is readable by others (mode {mode:o})")
    root = path.read_bytes()
    if len(root) != 32:
        raise SettingsError(f"Tessera cannot start:\n  ROOT_KEY_FILE: {path} must hold 32 bytes")
    return root


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(secrets.token_bytes(32))
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(temporary, path)  # the first process wins; the others read its key
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
