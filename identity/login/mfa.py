"""The second factor: TOTP (RFC 6238) and recovery codes."""

from __future__ import annotations

import secrets as random
from datetime import datetime, timedelta
from uuid import UUID

import pyotp
import segno
from sqlalchemy import Connection, delete, select, update

from identity.access.console import CONSOLE_ROLES
from identity.access.snapshot import Snapshot
from identity.audit.kinds import Kind
from identity.core.errors import Invalid, NotFound, Refused
from identity.core.once import consume_once
from identity.core.record import Record
from identity.core.secrets import digest
from identity.core.settings import Settings
from identity.core.unit import Unit
from identity.keys.keyring import Keyring
from identity.login.models import RecoveryCode, TotpFactor
from identity.roles.mapping import CONSOLE_APPLICATION
from identity.roles.service_administrators import is_administrator

PERIOD_S = 30
RECOVERY_CODES = 10
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def has_factor(connection: Connection, user_id: UUID) -> bool:
    """Whether the identity has a confirmed second factor."""
    return (
        connection.execute(
            select(TotpFactor.id).where(TotpFactor.user_id == user_id, TotpFactor.confirmed_at.is_not(None))
        ).first()
        is not None
    )


def factor_owed(connection: Connection, snapshot: Snapshot, settings: Settings, user_id: UUID, now: datetime) -> bool:
    """Whether a sign-in of this identity needs a second factor: it has one, or it holds a console role outside the
    demo."""
    if has_factor(connection, user_id):
        return True
    held = {f"{CONSOLE_APPLICATION}:{name}" for name in snapshot.roles_in(user_id, CONSOLE_APPLICATION, now)}
    return not settings.tessera_demo and bool(held & CONSOLE_ROLES.keys())


def begin_enrolment(unit: Unit, keyring: Keyring, user_id: UUID) -> str:
    """A new seed, not yet confirmed; an unconfirmed one is replaced. Raises `Invalid` when one is confirmed."""
    if has_factor(unit.db.connection(), user_id):
        raise Invalid("You have a second factor already.", code="factor_exists")
    unit.db.execute(delete(TotpFactor).where(TotpFactor.user_id == user_id))
    seed = pyotp.random_base32()
    sealed = keyring.encrypt(seed.encode(), _aad(user_id))
    unit.db.add(TotpFactor(user_id=user_id, seed=sealed, created_at=unit.now))
    unit.db.flush()
    return seed


def picture(seed: str, login: str, issuer: str) -> str:
    """The seed as a QR code in a `data:` address."""
    uri = pyotp.TOTP(seed).provisioning_uri(name=login, issuer_name=issuer)
    return str(segno.make(uri, error="m").svg_data_uri(scale=5, border=2))


def pending_seed(connection: Connection, keyring: Keyring, user_id: UUID) -> str | None:
    """The seed of an enrolment under way."""
    row = connection.execute(
        select(TotpFactor.seed).where(TotpFactor.user_id == user_id, TotpFactor.confirmed_at.is_(None))
    ).scalar_one_or_none()
    return keyring.decrypt(row, _aad(user_id)).decode() if row is not None else None


def confirm_enrolment(unit: Unit, keyring: Keyring, user_id: UUID, code: str) -> list[str] | None:
    """Confirm with a first code; the recovery codes, shown this once, or None for a wrong code."""
    seed = pending_seed(unit.db.connection(), keyring, user_id)
    if seed is None or not _accept(unit, user_id, seed, code):
        return None
    unit.db.execute(update(TotpFactor).where(TotpFactor.user_id == user_id).values(confirmed_at=unit.now))
    unit.record(Record(kind=Kind.FACTOR_ENROLLED, result="success", user=user_id, data={"factor": "totp"}))
    return make_recovery_codes(unit, user_id)


def make_recovery_codes(unit: Unit, user_id: UUID) -> list[str]:
    """New recovery codes, shown this once; older ones are worth nothing from now on."""
    unit.db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    codes = [
        "-".join("".join(random.choice(_ALPHABET) for _ in range(5)) for _ in range(4)) for _ in range(RECOVERY_CODES)
    ]
    unit.db.add_all(RecoveryCode(user_id=user_id, code_hash=digest(one)) for one in codes)
    unit.record(Record(kind=Kind.RECOVERY_CODES_MADE, result="success", user=user_id))
    return codes


def verify_code(unit: Unit, keyring: Keyring, user_id: UUID, code: str) -> str | None:
    """`otp` or `recovery` when the code is right and was never used; else None."""
    row = unit.db.execute(
        select(TotpFactor.seed).where(TotpFactor.user_id == user_id, TotpFactor.confirmed_at.is_not(None))
    ).scalar_one_or_none()
    if row is not None and _accept(unit, user_id, keyring.decrypt(row, _aad(user_id)).decode(), code):
        return "otp"
    used = unit.db.execute(
        update(RecoveryCode)
        .where(
            RecoveryCode.user_id == user_id,
            RecoveryCode.code_hash == digest(code.strip().lower()),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=unit.now)
        .returning(RecoveryCode.id)
    ).first()
    if used is None:
        return None
    unit.record(Record(kind=Kind.RECOVERY_CODE_USED, result="success", user=user_id))
    return "recovery"


def remove_factor(unit: Unit, user_id: UUID) -> None:
    """The identity has no second factor from now on."""
    unit.db.execute(delete(TotpFactor).where(TotpFactor.user_id == user_id))
    unit.db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    unit.record(Record(kind=Kind.FACTOR_REMOVED, result="success", user=user_id, data={"factor": "totp"}))


def take_factor(unit: Unit, user_id: UUID) -> None:
    """An administrator takes a lost second factor away.

    Raises `NotFound` where there is none, and `Refused` for one's own and for that of an administrator, whose console
    only this factor and a password keep shut: his role is taken first, which two persons decide.
    """
    if user_id == unit.actor.user:
        raise Refused("Your own second factor is changed in your account.", code="own_factor")
    if is_administrator(unit, user_id):
        raise Refused("This is an administrator: take the administration role away first.", code="target_rank")
    if not has_factor(unit.db.connection(), user_id):
        raise NotFound("This user has no second factor.")
    remove_factor(unit, user_id)


def _accept(unit: Unit, user_id: UUID, seed: str, code: str) -> bool:
    """Whether this is the code of the step now or a neighbour's, used by nobody before (RFC 6238 §5.2)."""
    code = code.replace(" ", "")
    if len(code) != 6 or not code.isascii() or not code.isdigit():
        return False
    totp = pyotp.TOTP(seed)
    step = int(unit.now.timestamp()) // PERIOD_S
    for one in (step - 1, step, step + 1):
        if pyotp.utils.strings_equal(totp.at(one * PERIOD_S), code):
            until = unit.now + timedelta(seconds=PERIOD_S * 4)
            return consume_once(unit.db.connection(), "totp", f"{user_id}:{one}", until)
    return False


def _aad(user_id: UUID) -> bytes:
    return b"totp:" + user_id.bytes
