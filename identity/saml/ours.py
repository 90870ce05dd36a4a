"""Ourselves as an identity provider: the name and the key under which every message leaves."""

from __future__ import annotations

from identity.core.errors import Unavailable
from identity.core.settings import Settings
from identity.keys.keyring import CertificateKey, Keyring


def entity_id(settings: Settings) -> str:
    """Our entityID, which is also where our metadata is."""
    return f"{settings.public_url}/saml/metadata"


def current_key(keyring: Keyring) -> CertificateKey:
    """The key that signs now; raises `Unavailable` while there is none."""
    keys = keyring.certificate_keys("saml-sign")
    if not keys:
        raise Unavailable("The service has no key yet.", "no saml-sign key", code="no_key")
    return keys[0]
