"""Rotation of the keys that sign tokens and bundles: shown before they sign, kept as long as what they signed lives."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from identity.audit.kinds import Kind
from identity.core.errors import NotFound
from identity.core.record import Record
from identity.core.unit import Unit
from identity.keys.keyring import make_key
from identity.keys.models import KeyRow

PURPOSES = ("oidc-sign", "bundle-sign")
# A client may keep the key set for a day before it looks again, so a key signs a day after it was first shown.
SHOWN_S = 86_400
# No token that needs its key lives as long; ID tokens are taken as hints after their end (RP-Initiated Logout §2).
KEPT_S = 7 * 86_400
PERIOD_S = 90 * 86_400


def rotate(unit: Unit, root: bytes, *, due_only: bool = False) -> list[str]:
    """Take the next step of each key that rotates; what was done or is waited for, a line each.

    Without a next key one is made and shown. One that was shown for a day becomes the current key, the current one
    the previous, and another next key is made. A previous key goes a week later. `due_only`: a current key stays for
    90 days; that is what the worker does.
    """
    _retire_old(unit)
    lines = []
    for current in _keys(unit, "current"):
        following, name = _next(unit, current), f"{current.purpose} {current.algorithm}"
        if following is None:
            kid = make_key(unit, root, current.purpose, current.algorithm, "next")
            lines.append(f"{name}: {kid} is shown and can sign in a day")
            continue
        if due_only and unit.now - current.since < timedelta(seconds=PERIOD_S):
            continue
        ready = following.since + timedelta(seconds=SHOWN_S)
        if unit.now < ready:
            lines.append(f"{name}: {following.kid} can sign from {ready:%Y-%m-%d %H:%M}Z")
            continue
        _promote(unit, current, following, "previous")
        kid = make_key(unit, root, current.purpose, current.algorithm, "next")
        lines.append(f"{name}: {following.kid} signs, {current.kid} is kept for a week, {kid} is next")
    return lines


def revoke(unit: Unit, root: bytes, kid: str) -> list[str]:
    """Nothing that this key signed counts from the commit on; the next key signs at once in place of a current one.

    Clients see it when they look at the key set again. Raises `NotFound` for a key that does not count anyway.
    """
    key = unit.db.get(KeyRow, kid)
    if key is None or key.purpose not in PURPOSES or key.state == "retired":
        raise NotFound("There is no such key in use.", kid)
    if key.state != "current":
        _change(unit, key, "retired")
        return [f"{key.purpose} {key.algorithm}: {kid} is worth nothing"]
    following = _next(unit, key)
    if following is None:
        _change(unit, key, "retired")
        successor = make_key(unit, root, key.purpose, key.algorithm, "current")
    else:
        _promote(unit, key, following, "retired")
        successor = following.kid
    make_key(unit, root, key.purpose, key.algorithm, "next")
    return [f"{key.purpose} {key.algorithm}: {kid} is worth nothing, {successor} signs"]


def _keys(unit: Unit, state: str) -> list[KeyRow]:
    wanted = (
        select(KeyRow)
        .where(KeyRow.purpose.in_(PURPOSES), KeyRow.state == state)
        .order_by(KeyRow.purpose, KeyRow.algorithm)
    )
    return list(unit.db.execute(wanted.with_for_update()).scalars())


def _next(unit: Unit, key: KeyRow) -> KeyRow | None:
    """The next key of this one's purpose and algorithm."""
    same = (key.purpose, key.algorithm)
    return next((one for one in _keys(unit, "next") if (one.purpose, one.algorithm) == same), None)


def _retire_old(unit: Unit) -> None:
    for key in _keys(unit, "previous"):
        if unit.now - key.since >= timedelta(seconds=KEPT_S):
            _change(unit, key, "retired")


def _promote(unit: Unit, current: KeyRow, following: KeyRow, becomes: str) -> None:
    _change(unit, current, becomes)  # first, since only one may be current
    _change(unit, following, "current")


def _change(unit: Unit, key: KeyRow, state: str) -> None:
    before, key.state, key.since = key.state, state, unit.now
    unit.db.flush()
    unit.facts.touch("key")
    unit.record(
        Record(
            kind=Kind.KEY_ROTATED,
            result="success",
            resource_type="key",
            resource_id=key.purpose,
            before={"kid": key.kid, "state": before},
            after={"kid": key.kid, "state": state},
        )
    )
