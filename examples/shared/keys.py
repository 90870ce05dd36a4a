"""The server's public signing keys (JWKS), kept and fetched again when an unknown key id turns up."""

from __future__ import annotations

import threading
import time
from typing import Any

import requests
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import Key, KeySet

TIMEOUT_S = 5
KEEP_S = 3_600
AGAIN_S = 30


class KeysUnavailable(Exception):
    """The server's keys cannot be read now, so no token can be judged."""


class ServerKeys:
    """The keys of one issuer, from the address that its metadata names."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched = 0.0

    def find(self, token: Any) -> Key:
        """The key that this token names (joserfc's key resolver); raises `InvalidKeyIdError` or `KeysUnavailable`."""
        kid = token.headers().get("kid")
        if not isinstance(kid, str):
            raise InvalidKeyIdError("The token names no key.")
        with self._lock:
            age = time.monotonic() - self._fetched
            if self._keys is None or age > KEEP_S or (age > AGAIN_S and not self._has(kid)):
                self._keys = self._fetch()
                self._fetched = time.monotonic()
            return self._keys.get_by_kid(kid)

    def _has(self, kid: str) -> bool:
        return self._keys is not None and any(key.kid == kid for key in self._keys.keys)

    def _fetch(self) -> KeySet:
        try:
            metadata = requests.get(f"{self._issuer}/.well-known/openid-configuration", timeout=TIMEOUT_S)
            metadata.raise_for_status()
            document = metadata.json()
            if document["issuer"] != self._issuer:
                raise ValueError("another issuer's metadata")
            keys = requests.get(document["jwks_uri"], timeout=TIMEOUT_S)
            keys.raise_for_status()
            return KeySet.import_key_set(keys.json())
        except (requests.RequestException, KeyError, ValueError) as error:
            raise KeysUnavailable from error
