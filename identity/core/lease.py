"""Leases with fencing numbers: one holder at a time across nodes, and a late holder can be told apart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from identity.core.db import Base
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
