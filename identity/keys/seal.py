"""The sealer's key set: Ed25519 keys in a file of their own, which only the sealer's account can read.

Not in the database, and not under the root key: whoever takes the database, or a web process, cannot sign a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from identity.audit.note import NoteKey
from identity.core.jose import SigningKey, raw_public, sign_raw
from identity.core.settings import Settings, SettingsError
from identity.keys.keyring import Keyring
from identity.keys.wrap import make_private_file, read_private_file

_END = b"-----END PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class SealKey:
    """A private key that signs heads; implements `audit.note.HeadSigner`."""

    key: NoteKey
    private: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)


@dataclass(frozen=True, slots=True)
class EvidenceKey:
    """The key that signs the manifests of evidence packs: one of the keyring, since it says only who made a selection.
    Implements `audit.note.HeadSigner`."""

    key: NoteKey
    signing: SigningKey

    def sign(self, message: bytes) -> bytes:
        return sign_raw(self.signing, message)


def evidence_key(settings: Settings, keyring: Keyring) -> EvidenceKey:
    """The key that signs manifests now."""
    signing = keyring.sign_key("evidence-sign", "EdDSA")
    name = f"{seal_origin(settings).removesuffix('/audit')}/evidence"
    return EvidenceKey(NoteKey(name, raw_public(signing)), signing)


def seal_origin(settings: Settings) -> str:
    """The name of this installation's audit: host and path of its public address."""
    parts = urlsplit(settings.public_url)
    return f"{parts.netloc}{parts.path}/audit"


def seal_key_path(settings: Settings) -> Path:
    return settings.seal_key_file or settings.tessera_var / "seal.key"


def load_seal_keys(settings: Settings) -> tuple[SealKey, ...]:
    """The keys of the file (PEM, one after the other); every head is signed by all, so that a new key can be handed to
    the auditors while the old one still counts. Raises `SettingsError`.

    In the demo the file is made at first start. The public halves are written beside it (`.pub`), for the verifier.
    """
    path = seal_key_path(settings)
    if not path.exists() and settings.tessera_demo:
        key = Ed25519PrivateKey.generate()
        make_private_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    data = read_private_file(path, "SEAL_KEY_FILE")
    name = seal_origin(settings)
    keys = []
    for block in data.split(_END)[:-1]:
        try:
            private = load_pem_private_key(block.strip() + b"\n" + _END + b"\n", None)
        except (ValueError, TypeError):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise SettingsError(f"Tessera cannot start:\n  SEAL_KEY_FILE: {path} must hold Ed25519 keys in PEM")
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        keys.append(SealKey(NoteKey(name, public), private))
    if not keys:
        raise SettingsError(f"Tessera cannot start:\n  SEAL_KEY_FILE: {path} holds no key")
    _publish(path.with_name(f"{path.name}.pub"), "".join(f"{one.key}\n" for one in keys))
    return tuple(keys)


def published_keys(settings: Settings) -> tuple[NoteKey, ...]:
    """The public halves as the sealer of this machine wrote them; none where it never ran."""
    path = seal_key_path(settings)
    beside = path.with_name(f"{path.name}.pub")
    if not beside.exists():
        return ()
    return tuple(NoteKey.parse(line) for line in beside.read_text(encoding="utf-8").splitlines() if line.strip())


def _publish(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
