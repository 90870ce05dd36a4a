"""The keyring: every key of this installation, unwrapped and parsed once per process, fed by the change feed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from sqlalchemy import Connection, insert, select

from identity.audit.kinds import Kind
from identity.core.db import Database
from identity.core.errors import Unavailable
from identity.core.feed import Feed
from identity.core.jose import SigningKey, parse_private, public_jwk
from identity.core.record import Record
from identity.core.unit import Unit
from identity.keys.models import KeyRow, PurposeKey
from identity.keys.wrap import unwrap, wrap

CERTIFICATE_DAYS = 1_826
RSA_BITS = 2_048

# (purpose, algorithm) of the sets that an installation begins with.
INITIAL = (
    *(("oidc-sign", "RS256"), ("oidc-sign", "ES256"), ("saml-sign", "RSA")),
    *(("evidence-sign", "EdDSA"), ("bundle-sign", "ES256")),
)
FIELD = "field"


@dataclass(frozen=True, slots=True)
class CertificateKey:
    """A private key with its certificate."""

    kid: str
    state: str
    private_pem: bytes
    certificate_pem: str


@dataclass(frozen=True, slots=True)
class _Ring:
    signing: Mapping[str, Mapping[str, SigningKey]] = field(default_factory=dict)
    """Purpose → kid → key; current first."""
    certificates: Mapping[str, tuple[CertificateKey, ...]] = field(default_factory=dict)
    purposes: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)
    jwks: Mapping[str, Any] = field(default_factory=dict)


class Keyring:
    """Keys by purpose; raises `Unavailable` while none is loaded."""

    def __init__(self, database: Database, feed: Feed, root: bytes) -> None:
        self._database = database
        self._root = root
        self._feed = feed
        self._ring = _Ring()
        feed.subscribe(["key"], lambda _: self.reload())

    def sign_key(self, purpose: str, alg: str = "RS256") -> SigningKey:
        """The key that signs now."""
        self._feed.confirm()
        for key in self._ring.signing.get(purpose, {}).values():
            if key.alg == alg:
                return key
        raise Unavailable("The service has no key yet.", f"no {alg} key for {purpose}", code="no_key")

    def verify_keys(self, purpose: str) -> Mapping[str, SigningKey]:
        """Every key whose signatures still count, by its id."""
        self._feed.confirm()
        return self._ring.signing.get(purpose, {})

    def jwks(self) -> Mapping[str, Any]:
        """The public JWK set of `oidc-sign`: next, current and previous keys."""
        self._feed.confirm()
        if not self._ring.jwks.get("keys"):
            raise Unavailable("The service has no key yet.", "no oidc-sign key", code="no_key")
        return self._ring.jwks

    def public_keys(self, purpose: str) -> Mapping[str, Any]:
        """The public JWK set of another purpose: next, current and previous keys."""
        return {"keys": [public_jwk(key) for key in self.verify_keys(purpose).values()]}

    def certificate_keys(self, purpose: str) -> tuple[CertificateKey, ...]:
        """Keys with certificates, current first, then next."""
        return self._ring.certificates.get(purpose, ())

    def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """Encrypt a stored field; `aad` names where it belongs."""
        version, key = self._purpose(FIELD)
        return version.to_bytes(2, "big") + wrap(key, plaintext, FIELD.encode() + b"|" + aad)

    def decrypt(self, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a stored field; raises `Invalid` when it was moved or changed."""
        _, key = self._purpose(FIELD)
        return unwrap(key, wrapped[2:], FIELD.encode() + b"|" + aad)

    def derive(self, label: str, data: str) -> bytes:
        """A keyed digest that only this installation can make; the label separates its uses."""
        _, key = self._purpose(FIELD)
        return hmac.new(key, f"{label}|{data}".encode(), hashlib.sha256).digest()

    def reload(self) -> None:
        """Read, unwrap and parse what is new; keys that are known stay parsed."""
        with self._database.read(consistent=True) as connection:
            self._ring = _load(connection, self._root, self._ring)

    def _purpose(self, purpose: str) -> tuple[int, bytes]:
        found = self._ring.purposes.get(purpose)
        if found is None:
            raise Unavailable("The service has no key yet.", f"no key for {purpose}", code="no_key")
        return found


def ensure_keys(unit: Unit, root: bytes) -> None:
    """Make the key sets that are missing; called when the database is migrated."""
    known = set(unit.db.execute(select(PurposeKey.purpose)).scalars())
    for purpose in dict.fromkeys([*(purpose for purpose, _ in INITIAL), FIELD]):
        if purpose not in known:
            _make_purpose(unit, root, purpose)
    have = set(unit.db.execute(select(KeyRow.purpose, KeyRow.algorithm)))
    for purpose, algorithm in INITIAL:
        if (purpose, algorithm) not in have:
            make_key(unit, root, purpose, algorithm, "current")


def make_key(unit: Unit, root: bytes, purpose: str, algorithm: str, state: str) -> str:
    """A new key of a set in this state; its kid."""
    row = unit.db.execute(
        select(PurposeKey).where(PurposeKey.purpose == purpose).order_by(PurposeKey.version.desc()).limit(1)
    ).scalar_one()
    key = unwrap(root, row.wrapped, f"purpose|{purpose}|{row.version}".encode())
    kid = secrets.token_urlsafe(12)
    pem, certificate = _generate(algorithm, unit.now)
    unit.db.add(
        KeyRow(
            kid=kid,
            purpose=purpose,
            algorithm=algorithm,
            state=state,
            since=unit.now,
            purpose_version=row.version,
            wrapped=wrap(key, pem, f"key|{purpose}|{kid}|{row.version}".encode()),
            certificate=certificate,
            created_at=unit.now,
            not_after=unit.now + timedelta(days=CERTIFICATE_DAYS) if certificate else None,
        )
    )
    unit.db.flush()
    unit.facts.touch("key")
    unit.record(
        Record(
            kind=Kind.KEY_CREATED,
            result="success",
            resource_type="key",
            resource_id=purpose,
            data={"kid": kid, "algorithm": algorithm, "state": state},
        )
    )
    return kid


def _make_purpose(unit: Unit, root: bytes, purpose: str) -> None:
    wrapped = wrap(root, secrets.token_bytes(32), f"purpose|{purpose}|1".encode())
    unit.db.execute(insert(PurposeKey).values(purpose=purpose, version=1, wrapped=wrapped, created_at=unit.now))
    unit.facts.touch("key")


def _generate(algorithm: str, now: datetime) -> tuple[bytes, str | None]:
    if algorithm == "ES256":
        return _pem(ec.generate_private_key(ec.SECP256R1())), None
    if algorithm == "EdDSA":
        return _pem(ed25519.Ed25519PrivateKey.generate()), None
    private = rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS)
    if algorithm != "RSA":
        return _pem(private), None
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tessera SAML signing")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .sign(private, hashes.SHA256())
    )
    return _pem(private), certificate.public_bytes(serialization.Encoding.PEM).decode()


def _pem(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


_ORDER = {"current": 0, "next": 1, "previous": 2}


def _load(connection: Connection, root: bytes, before: _Ring) -> _Ring:
    purposes: dict[str, tuple[int, bytes]] = {}
    versions: dict[tuple[str, int], bytes] = {}
    for row in connection.execute(select(PurposeKey.__table__).order_by(PurposeKey.version)):
        key = unwrap(root, row.wrapped, f"purpose|{row.purpose}|{row.version}".encode())
        versions[row.purpose, row.version] = key
        purposes[row.purpose] = (row.version, key)
    signing: dict[str, dict[str, SigningKey]] = {}
    certificates: dict[str, list[CertificateKey]] = {}
    rows = connection.execute(select(KeyRow.__table__).where(KeyRow.state != "retired")).all()
    for row in sorted(rows, key=lambda one: (_ORDER[one.state], one.created_at)):
        key = versions[row.purpose, row.purpose_version]
        pem = unwrap(key, row.wrapped, f"key|{row.purpose}|{row.kid}|{row.purpose_version}".encode())
        if row.certificate is not None:
            certificates.setdefault(row.purpose, []).append(CertificateKey(row.kid, row.state, pem, row.certificate))
        else:
            known = before.signing.get(row.purpose, {}).get(row.kid)
            signing.setdefault(row.purpose, {})[row.kid] = known or parse_private(pem, row.algorithm, row.kid)
    return _Ring(
        signing=signing,
        certificates={purpose: tuple(keys) for purpose, keys in certificates.items()},
        purposes=purposes,
        jwks={"keys": [public_jwk(key) for key in signing.get("oidc-sign", {}).values()]},
    )
