"""User name and password: verified by a local argon2id hash or by the directory, always at the same price."""

from __future__ import annotations

import hashlib
import threading
import unicodedata
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

from identity.audit.kinds import Kind
from identity.core.errors import Invalid, Unavailable
from identity.core.record import Record
from identity.core.unit import Unit
from identity.login.models import LocalPassword, LoginFailure
from identity.people.inputs import fold_login
from identity.people.models import SourceAccount, User

PASSWORD_MAX = 1_024
PASSWORD_MIN = 12
DIFFERENT_MIN = 5
WINDOW_S = 900
LOGIN_FREE, ADDRESS_FREE = 5, 50
DELAY_MAX_S = 60

# OWASP's minimum: 19 MiB, two passes; 20 ms a hash.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_DUMMY = _hasher.hash("no such user has this password")

# A process serves 16 requests at once. At most eight of them try a sign-in and four more wait for their turn, so that
# guessing, which is slow by design, cannot keep everybody else out. Of the eight, two hash and six ask a directory.
WAIT_S = 2.0
_attempts, _attempts_and_waiting = threading.BoundedSemaphore(8), threading.BoundedSemaphore(12)
_hash_slots, _directory_slots = threading.BoundedSemaphore(2), threading.BoundedSemaphore(6)


@dataclass(frozen=True, slots=True)
class AccountRef:
    """An identity's account in a directory."""

    source_id: UUID
    immutable_id: str
    dn: str


class DirectoryVerifier(Protocol):
    """Port: asks the directory; answers ok, wrong_password, locked, disabled, expired, must_change, denied, unwilling,
    held_back (not asked, so that it locks nobody) or unavailable."""

    def __call__(self, account: AccountRef, password: str) -> str: ...

    def change(self, account: AccountRef, old: str, new: str) -> str:
        """Change the password there: ok, off, refused, or why not."""
        ...

    def outage_hours(self, account: AccountRef) -> int | None:
        """For how many hours a password counts that the directory accepted, while it is away; None = it does not."""
        ...

    def changes(self, account: AccountRef) -> bool:
        """Whether people change their password of this directory here."""
        ...


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
    key = fold_login(login.replace("\0", ""))[:256]
    blocked = must_wait(connection, key, ip, now)
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


def must_wait(connection: Connection, login_key: str, ip: str, now: datetime) -> bool:
    """Whether this login or this address failed too often a moment ago."""
    waits = select(LoginFailure.blocked_until).where(LoginFailure.key.in_(failure_keys(login_key, ip)))
    return any(until is not None and now < until for until in connection.execute(waits).scalars())


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
    with _directory_slots:
        result = directory(candidate.account, password)
    if result == "unavailable":
        raise Unavailable("Sign-in is temporarily unavailable.", "directory did not answer", code="directory")
    return result


def change(candidate: Candidate, old: str, new: str, directory: DirectoryVerifier) -> str:
    """Change the password of a directory's account: `ok`, `refused` by its rules, or a reason as `verify`."""
    if candidate.blocked or candidate.account is None or not old:
        check_hash(_DUMMY, old)
        return "blocked" if candidate.blocked else "unknown_user"
    with _directory_slots:
        result = directory.change(candidate.account, old, new)
    if result == "unavailable":
        raise Unavailable("Sign-in is temporarily unavailable.", "directory did not answer", code="directory")
    return result


@contextmanager
def attempt() -> Iterator[None]:
    """One try to sign in; raises `Unavailable` when too many are under way."""
    busy = Unavailable("Too many sign-ins at once. Please try again.", "sign-in queue is full", code="sign_in_queue")
    if not _attempts_and_waiting.acquire(blocking=False):
        raise busy
    try:
        if not _attempts.acquire(timeout=WAIT_S):
            raise busy
        try:
            yield
        finally:
            _attempts.release()
    finally:
        _attempts_and_waiting.release()


def check_hash(stored: str, password: str) -> bool:
    """Whether the password has this argon2id hash; at most two are worked on at once."""
    with _hash_slots:
        try:
            return _hasher.verify(stored, _normal(password))
        except (VerificationError, InvalidHashError):
            return False


def hash_password(login: str, password: str) -> str:
    """The argon2id hash of a new password. Raises `Invalid` for one of fewer than 12 or more than 1,024 characters,
    one that contains the login, or one of fewer than five different characters."""
    text = _normal(password)
    if not PASSWORD_MIN <= len(text) <= PASSWORD_MAX:
        raise Invalid(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters.", code="password_length")
    if fold_login(login) in text.casefold():
        raise Invalid("A password must not contain the login.", code="password_login")
    if len(set(text.casefold())) < DIFFERENT_MIN:
        raise Invalid("A password needs more different characters.", code="password_simple")
    with _hash_slots:
        return _hasher.hash(text)


def hash_accepted(password: str) -> str:
    """The argon2id hash of a password that is right, whatever it is like."""
    with _hash_slots:
        return _hasher.hash(_normal(password))


def renewed_hash(stored: str, password: str) -> str | None:
    """A hash of today's cost for a password that was right, where the stored one was cheaper; else None."""
    if not _hasher.check_needs_rehash(stored):
        return None
    with _hash_slots:
        return _hasher.hash(_normal(password))


def set_password(unit: Unit, user: Any, password: str) -> None:
    """Give the identity a local password; raises `Invalid` as `hash_password` does."""
    store_hash(unit, user.id, hash_password(user.login, password))
    record = Record(kind=Kind.PASSWORD_CHANGED, result="success", user=user.id, person=user.person_id)
    unit.record(record)


def store_hash(unit: Unit, user_id: UUID, hashed: str) -> None:
    """Keep this hash as the identity's."""
    row = unit.db.get(LocalPassword, user_id)
    if row is None:
        unit.db.add(LocalPassword(user_id=user_id, hash=hashed, changed_at=unit.now))
    else:
        row.hash, row.changed_at = hashed, unit.now


def _normal(password: str) -> str:
    """One form for what keyboards write in several (NIST SP 800-63B §3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


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
