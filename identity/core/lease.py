"""Leases with fencing numbers: one holder at a time across nodes, and a late holder can be told apart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Update, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from identity.core.db import Base
from identity.core.ending import ending
from identity.core.errors import Conflict, Stale, TesseraError
from identity.core.record import Actor
from identity.core.unit import Units

_log = logging.getLogger(__name__)


class Lease(Base):
    """Who holds a name until when; `fence` grows with each new holder."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    fence: Mapped[int]
    expires_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class Held:
    """A lease in hand."""

    name: str
    holder: str
    fence: int


def acquire(session: Session, name: str, holder: str, now: datetime, ttl_s: int) -> Held:
    """Take the lease if it is free or expired; raises `Conflict` while another holds it."""
    row = session.execute(select(Lease).where(Lease.name == name).with_for_update()).scalar_one_or_none()
    until = now + timedelta(seconds=ttl_s)
    if row is None:
        row = Lease(name=name, holder=holder, fence=1, expires_at=until)
        session.add(row)
    elif row.expires_at > now and row.holder != holder:
        raise Conflict(
            "Somebody else is doing this right now.",
            f"lease {name} held by {row.holder}",
            code="lease_held",
        )
    else:
        row.holder, row.fence, row.expires_at = holder, row.fence + 1, until
    session.flush()
    return Held(name, holder, row.fence)


def renew(session: Session, held: Held, now: datetime, ttl_s: int) -> None:
    """Hold it longer; raises `Stale` when it was lost to another holder."""
    done = session.execute(
        update(Lease)
        .where(
            Lease.name == held.name,
            Lease.holder == held.holder,
            Lease.fence == held.fence,
        )
        .values(expires_at=now + timedelta(seconds=ttl_s))
        .returning(Lease.fence)
    ).first()
    if done is None:
        raise Stale(
            "This work was taken over by another process.",
            f"lease {held.name} lost",
            code="lease_lost",
        )


def release(session: Session, held: Held, now: datetime) -> None:
    """Give it back at once; nothing happens when it was lost before."""
    session.execute(
        update(Lease)
        .where(
            Lease.name == held.name,
            Lease.holder == held.holder,
            Lease.fence == held.fence,
        )
        .values(expires_at=now)
    )


@contextmanager
def kept(units: Units, actor: Actor, held: Held, ttl_s: int) -> Iterator[None]:
    """Renew the lease while the work inside takes its time, and give it back at the end."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(ttl_s / 3):
            try:
                with units.open(actor) as unit:
                    renew(unit.db, held, unit.now, ttl_s)
            except TesseraError as error:
                # A lost lease shows at the next write, which it refuses.
                _log.warning("%s was not renewed: %s", held.name, error)

    keeper = threading.Thread(target=keep, name=held.name, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        with units.open(actor) as unit:
            release(unit.db, held, unit.now)


class Standing:
    """The leases that a process keeps from one run of its jobs to the next, renewed together: taken and given back for
    each run, they would cost two commits a second each."""

    def __init__(self, units: Units, actor: Actor, holder: str, ttl_s: int) -> None:
        self._units, self._actor, self._holder, self._ttl_s = units, actor, holder, ttl_s
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, float]] = {}
        """Their fences, and until when they are certainly ours, by this process's clock."""

    def take(self, name: str) -> bool:
        """Whether it is ours, now or since before: not while another holds it, nor when this work was asked to end
        while it waited for its turn."""
        with self._lock:
            _, until = self._held.get(name, (0, 0.0))
        if until > time.monotonic():
            return True
        ended, until = ending(), self._until()
        try:
            with self._units.open(self._actor) as unit:
                if ended():
                    return False
                held = acquire(unit.db, name, self._holder, unit.now, self._ttl_s)
        except Conflict:
            return False
        with self._lock:
            self._held[name] = (held.fence, until)
        return True

    def renew(self) -> None:
        """Hold all of them longer; one that another has taken is no longer ours."""
        with self._lock:
            before = dict(self._held)
        if not before:
            return
        until = self._until()
        with self._units.open(self._actor) as unit:
            renewed = self._set(before, unit.now + timedelta(seconds=self._ttl_s)).returning(Lease.name, Lease.fence)
            fences = dict(unit.db.execute(renewed).all())
        with self._lock:
            for name, (fence, _) in before.items():
                if fences.get(name) == fence:
                    self._held[name] = (fence, until)
                else:
                    _log.warning("lease %s lost", name)
                    del self._held[name]

    def keep(self, until: threading.Event) -> None:
        """Renew them, several times in their life, until told to end; then give them back."""
        while not until.wait(self._ttl_s / 4):
            self._quietly(self.renew)
        self._quietly(self._give_back)

    def _give_back(self) -> None:
        if self._held:
            with self._units.open(self._actor) as unit:
                unit.db.execute(self._set(self._held, unit.now))

    def _quietly(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  what is not renewed ends by itself, and is taken again
            _log.warning("leases of %s: %s", self._holder, error)

    def _set(self, names: Iterable[str], expires_at: datetime) -> Update:
        return (
            update(Lease)
            .where(Lease.name.in_(list(names)), Lease.holder == self._holder)
            .values(expires_at=expires_at)
            .execution_options(synchronize_session=False)
        )

    def _until(self) -> float:
        return time.monotonic() + self._ttl_s
