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
# Random 32 bytes have about 30 values among them; fewer than this by chance once in 10^12 keys.
DISTINCT_MIN = 20


def wrap(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt; the nonce stands in front."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def unwrap(key: bytes, wrapped: bytes, aad: bytes) -> bytes:
    """Decrypt; raises `Invalid` when the value, its place or the key is another."""
    try:
        return AESGCM(key).decrypt(wrapped[:NONCE], wrapped[NONCE:], aad)
    except (InvalidTag, ValueError):  # ValueError: too short to be one
        raise Invalid("A stored value cannot be decrypted.", "wrong root key or moved value", code="unwrap") from None


def load_root(settings: Settings) -> bytes:
    """The root key: 32 bytes in a file that only its owner can read.

    In the demo it is made at first start; elsewhere a missing file refuses the start, since a new key could read
    nothing that is stored. Raises `SettingsError`.
    """
    path = settings.root_key_file or settings.tessera_var / "root.key"
    if not path.exists() and settings.tessera_demo:
        make_private_file(path, secrets.token_bytes(32))
    root = read_private_file(path, "ROOT_KEY_FILE")
    if len(root) != 32:
        raise SettingsError(f"Tessera cannot start:\n  ROOT_KEY_FILE: {path} must hold 32 bytes")
    if len(set(root)) < DISTINCT_MIN:
        raise SettingsError(f"Tessera cannot start:\n  ROOT_KEY_FILE: {path} is not random; take 32 of /dev/urandom")
    return root


def read_private_file(path: Path, setting: str) -> bytes:
    """A key file that only its owner can read; raises `SettingsError` for a missing or an open one."""
    if not path.exists():
        raise SettingsError(f"Tessera cannot start:\n  {setting}: {path} does not exist")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SettingsError(f"Tessera cannot start:\n  {setting}: {path} is readable by others (mode {mode:o})")
    return path.read_bytes()


def make_private_file(path: Path, data: bytes) -> None:
    """Write a new key file, mode 0600, durable; a process that was first keeps its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(temporary, path)  # the first process wins; the others read its key
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
