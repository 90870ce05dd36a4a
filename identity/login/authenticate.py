"""User name and password: verified by a local argon2id hash or by the directory, always at the same price."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, Protocol
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from identity.core.errors import Invalid, Unavailable
from identity.core.unit import Unit
from identity.login.models import LocalPassword, LoginFailure
from identity.people.inputs import fold_login
from identity.people.models import SourceAccount, User

PASSWORD_MAX = 1_024
PASSWORD_MIN = 12
WINDOW_S = 900
LOGIN_FREE, ADDRESS_FREE = 5, 50
DELAY_MAX_S = 60

# OWASP's minimum: 19 MiB, two passes; 20 ms a hash.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_DUMMY = _hasher.hash("no such user has this password")
_hash_slots = threading.BoundedSemaphore(2)
_waiting = threading.BoundedSemaphore(32)


@dataclass(frozen=True, slots=True)
class AccountRef:
    """An identity's account in a directory."""

    source_id: UUID
    immutable_id: str
    dn: str


class DirectoryVerifier(Protocol):
    """Port: asks the directory; answers ok, wrong_password, locked, disabled, expired, must_change or unavailable."""

    def __call__(self, account: AccountRef, password: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who a login name could be, and how the password is verified; all None for an unknown name."""

    login_key: str
    user_id: UUID | None = None
    person_id: UUID | None = None
    local_hash: str | None = None
    account: AccountRef | None = None
    blocked: bool = False


def find_candidate(connection: Connection, login: str, ip: str, now: datetime) -> Candidate:
    """Look up the name (all its spellings are one) and whether it or the address must wait."""
    key = fold_login(login)[:256]
    blocked = any(
        until is not None and now < until
        for until in connection.execute(
            select(LoginFailure.blocked_until).where(LoginFailure.key.in_(failure_keys(key, ip)))
        ).scalars()
    )
    row = connection.execute(select(User.id, User.person_id).where(User.login_key == key)).first()
    if row is None:
        return Candidate(key, blocked=blocked)
    local = connection.execute(select(LocalPassword.hash).where(LocalPassword.user_id == row.id)).scalar_one_or_none()
    source = connection.execute(
        select(SourceAccount.source_id, SourceAccount.immutable_id, SourceAccount.dn)
        .where(SourceAccount.user_id == row.id, SourceAccount.status == "present")
        .limit(1)
    ).first()
    account = AccountRef(source.source_id, source.immutable_id, source.dn) if source else None
    return Candidate(key, row.id, row.person_id, local, account, blocked)


def verify(candidate: Candidate, password: str, directory: DirectoryVerifier) -> str:
    """`ok` or a reason. Unknown and waiting names cost a hash as well, so that time tells nothing.

    Raises `Unavailable` when the directory or the hashing pool cannot answer: that is not a wrong password.
    """
    if candidate.blocked or candidate.user_id is None or (candidate.local_hash is None and candidate.account is None):
        check_hash(_DUMMY, password)
        return "blocked" if candidate.blocked else "unknown_user"
    if candidate.local_hash is not None:
        return "ok" if check_hash(candidate.local_hash, password) else "wrong_password"
    if not password or candidate.account is None:
        return "wrong_password"  # an empty password is an anonymous bind, which succeeds (RFC 4513 §5.1.2)
    result = directory(candidate.account, password)
    if result == "unavailable":
        raise Unavailable("Sign-in is temporarily unavailable.", "directory did not answer", code="directory")
    return result


def check_hash(stored: str, password: str) -> bool:
    """Whether the password has this argon2id hash; at most two hashes at once, a full queue is `Unavailable`."""
    with _slot():
        try:
            return _hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def set_password(unit: Unit, user: Any, password: str) -> None:
    """Give the identity a local password. Raises `Invalid` for one of fewer than 12 or more than 1,024 characters or
    one that contains the login."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise Invalid(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters.", code="password_length")
    if fold_login(user.login) in password.casefold():
        raise Invalid("A password must not contain the login.", code="password_login")
    with _slot():
        hashed = _hasher.hash(password)
    row = unit.db.get(LocalPassword, user.id)
    if row is None:
        unit.db.add(LocalPassword(user_id=user.id, hash=hashed, changed_at=unit.now))
    else:
        row.hash, row.changed_at = hashed, unit.now


@contextmanager
def _slot() -> Iterator[None]:
    if not _waiting.acquire(blocking=False):
        raise Unavailable("Too many sign-ins at once. Please try again.", "hashing queue is full", code="hash_queue")
    try:
        with _hash_slots:
            yield
    finally:
        _waiting.release()


def failure_keys(login_key: str, ip: str) -> tuple[bytes, bytes]:
    """The counters of a login and of an address (of an IPv6 address its /64)."""
    try:
        address = ip_address(ip)
        network = str(ip_network(f"{ip}/64", strict=False)) if address.version == 6 else ip
    except ValueError:
        network = ip
    return tuple(hashlib.sha256(one.encode()).digest() for one in (f"login:{login_key}", f"ip:{network}"))  # type: ignore[return-value]


def count_failure(connection: Connection, login_key: str, ip: str, now: datetime) -> None:
    """Count exactly, also when many fail at once; each failure beyond the free ones doubles the wait."""
    maker: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    cutoff = now - timedelta(seconds=WINDOW_S)
    for key, free in zip(failure_keys(login_key, ip), (LOGIN_FREE, ADDRESS_FREE), strict=True):
        fresh = LoginFailure.window_started < cutoff
        count = connection.execute(
            maker(LoginFailure)
            .values(key=key, count=1, window_started=now, blocked_until=None)
            .on_conflict_do_update(
                index_elements=[LoginFailure.key],
                set_={
                    "count": case((fresh, 1), else_=LoginFailure.count + 1),
                    "window_started": case((fresh, now), else_=LoginFailure.window_started),
                },
            )
            .returning(LoginFailure.count)
        ).scalar_one()
        if count >= free:
            wait = min(2 ** min(count - free, 10), DELAY_MAX_S)
            connection.execute(
                update(LoginFailure).where(LoginFailure.key == key).values(blocked_until=now + timedelta(seconds=wait))
            )


def forget_failures(connection: Connection, login_key: str) -> None:
    """A successful sign-in clears the login's counter, not the address's."""
    connection.execute(delete(LoginFailure).where(LoginFailure.key == failure_keys(login_key, "")[0]))
