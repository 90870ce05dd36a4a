"""JSON Web Signatures, compact form only (RFC 7515, RFC 7519); the one place that knows the JOSE library."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from identity.core.errors import Invalid

TOKEN_MAX = 16_384
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")

Key = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, parsed once, with its id and the one algorithm that it is used with."""

    kid: str
    alg: str
    key: Key


def parse_private(pem: bytes, alg: str, kid: str) -> SigningKey:
    """Parse a PEM private key that we made and that came out of its seal unchanged: that its numbers are an RSA key's
    is not proven again, which takes a tenth of a second."""
    raw: Any = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    parameters: Any = {"kid": kid, "use": "sig", "alg": alg}
    kinds: dict[str, type[RSAKey | ECKey | OKPKey]] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}
    return SigningKey(kid, alg, kinds[alg[:2]](raw, pem, parameters))


def public_jwk(key: SigningKey) -> dict[str, Any]:
    """The public half as a JWK (RFC 7517): no private member."""
    return {str(name): value for name, value in key.key.as_dict(private=False).items()}


def raw_public(key: SigningKey) -> bytes:
    """The 32 bytes of an Ed25519 public key (RFC 8032 §5.1.5)."""
    return _ed25519(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign_raw(key: SigningKey, message: bytes) -> bytes:
    """An Ed25519 signature over the message itself, outside JOSE (RFC 8032 §5.1.6)."""
    return _ed25519(key).sign(message)


def _ed25519(key: SigningKey) -> Ed25519PrivateKey:
    private = key.key.private_key
    if not isinstance(private, Ed25519PrivateKey):
        raise TypeError(f"{key.kid} is not an Ed25519 key")
    return private


def sign(key: SigningKey, claims: Mapping[str, Any], typ: str) -> str:
    """A signed JWT of this `typ`."""
    return sign_bytes(key, orjson.dumps(claims), typ)


def sign_bytes(key: SigningKey, payload: bytes, typ: str) -> str:
    """A compact JWS of this `typ` over the payload as it is."""
    header = {"alg": key.alg, "kid": key.kid, "typ": typ}
    return jws.serialize_compact(header, payload, key.key, algorithms=[key.alg])


def verify(
    token: str,
    keys: Mapping[str, SigningKey],
    *,
    typ: Collection[str],
    iss: str,
    aud: str | None,
    now: datetime,
    leeway_s: int = 0,
    check_exp: bool = True,
) -> dict[str, Any]:
    """The claims of a token of ours; raises `Invalid` (code `invalid_token`) for anything else.

    Only compact tokens of at most 16 kB, a known `kid` with that key's one algorithm, no `crit`, `b64`, `jwk` or
    `x5c` (RFC 8725 §3). `aud` None = any audience.
    """
    header = _header(token)
    key = keys.get(header["kid"]) if isinstance(header.get("kid"), str) else None
    unusual = {"crit", "b64", "jwk", "x5c", "jku", "x5u"} & header.keys()
    if key is None or unusual or header.get("alg") != key.alg or header.get("typ") not in typ:
        raise _invalid("header")
    try:
        payload = jws.deserialize_compact(token, key.key, algorithms=[key.alg]).payload
        claims = orjson.loads(payload)
    except (JoseError, ValueError, TypeError) as error:
        raise _invalid(str(error)) from None
    if not isinstance(claims, dict) or claims.get("iss") != iss:
        raise _invalid("issuer")
    audience = claims.get("aud")
    if aud is not None and aud != audience and not (isinstance(audience, list) and aud in audience):
        raise _invalid("audience")
    exp, at = claims.get("exp"), now.timestamp()
    if not isinstance(exp, int) or isinstance(exp, bool) or (check_exp and at >= exp + leeway_s):
        raise _invalid("expired")
    return claims


def _header(token: str) -> dict[str, Any]:
    if len(token) > TOKEN_MAX or token.count(".") != 2:
        raise _invalid("not a compact token")
    try:
        header_part, *_ = [_decode(part) for part in token.split(".")]
        header = orjson.loads(header_part)
    except ValueError:
        raise _invalid("unreadable header") from None
    if not isinstance(header, dict):
        raise _invalid("unreadable header")
    return header


def _decode(part: str) -> bytes:
    """The bytes of one part; raises `ValueError` unless it is their one unpadded base64url form (RFC 7515 §2)."""
    decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode("ascii"):
        raise ValueError("not canonical base64url")
    return decoded


def _invalid(detail: str) -> Invalid:
    return Invalid("The token is not valid.", detail, code="invalid_token")
