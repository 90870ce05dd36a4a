"""What a directory lets our account do, right by right, and the way of finding changes that follows."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from identity.core.errors import TesseraError
from identity.directory.connection import FAULTS, LdapServers, close, search_once
from identity.directory.dn import parse
from identity.directory.entries import wanted_attributes
from identity.directory.probe_write import may_write
from identity.directory.settings import FILES, DirectorySettings

STEP_S = 5.0
EXPIRES_SOON_DAYS = 30


@dataclass(frozen=True, slots=True)
class Step:
    """One thing tried at one place; `detail` says what was found or why it failed, without secrets."""

    name: str
    place: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """All steps, and how changes will be found (None where it cannot be read at all)."""

    steps: tuple[Step, ...]
    way: str | None


def probe(settings: DirectorySettings, secret: str, directory: Any, written: Collection[str] = ()) -> Probe:
    """Try everything that a source needs, on each of its servers, with the right to write these fields back. Nothing is
    changed anywhere; raises nothing."""
    if settings.kind in FILES:
        step = _tried("read", settings.path, lambda: f"{len(directory.read().entries)}")
        return Probe((step,), "whole" if step.ok else None)
    servers = LdapServers(settings, secret)
    steps = [step for url in settings.urls for step in _server(servers, settings, url, written)]
    if not any(one.name == "read_user" and one.ok for one in steps):
        return Probe(tuple(steps), None)
    last = _tried("changes", "", directory.way)
    return Probe((*steps, last), last.detail.partition(" ")[0] if last.ok else None)


def _server(servers: LdapServers, settings: DirectorySettings, url: str, written: Collection[str]) -> Iterator[Step]:
    """Reach, certificate, bind, and each kind of entry at one server; ends at the first step without which the next
    cannot be tried."""
    connection: Any = None
    try:
        try:
            connection = servers.reach(url, STEP_S)
        except (*FAULTS, TesseraError) as error:
            yield Step("reach", url, ok=False, detail=_why(error))
            return
        yield Step("reach", url, ok=True)
        if settings.tls != "none":
            yield _certificate(connection, url)
        try:
            servers.bind(connection, STEP_S)
        except (*FAULTS, TesseraError) as error:
            yield Step("bind", url, ok=False, detail=_why(error))
            return
        yield Step("bind", url, ok=True, detail=settings.bind_dn)
        for kind, base, wanted in settings.searches():
            yield _tried(f"read_{kind}", url, lambda k=kind, b=base, w=wanted: _read(connection, settings, k, b, w))
        yield from _writes(connection, settings, url, written)
    finally:
        if connection is not None:
            close(connection)


def _writes(connection: Any, settings: DirectorySettings, url: str, written: Collection[str]) -> Iterator[Step]:
    """Each field that is written back, where the server says whether we may."""
    for field in sorted(written):
        attribute = getattr(settings.attributes, field)
        try:
            may = may_write(connection, settings, attribute, STEP_S)
        except (*FAULTS, TesseraError) as error:
            yield Step("write", url, ok=False, detail=f"{attribute}: {_why(error)}")
            return
        if may is not None:
            yield Step("write", url, ok=may, detail=attribute)


def _read(connection: Any, settings: DirectorySettings, kind: Any, base: str, wanted: str) -> str:
    """The first entries of a kind; raises when there is none, or when the key is hidden."""
    names = wanted_attributes(settings, kind)
    search_once(connection, base, wanted, names, STEP_S, paged_size=50)
    found = [
        one["raw_attributes"]
        for one in connection.response
        if one["type"] == "searchResEntry" and parse(one["dn"]) != parse(base)
    ]
    if not found:
        raise ValueError(f"nothing below {base} that {wanted} finds")
    if not any(settings.key.lower() in one for one in found):
        raise ValueError(f"{settings.key} is hidden from our account")
    seen = sorted({name for one in found for name in one})
    return ", ".join(seen)


def _certificate(connection: Any, url: str) -> Step:
    inner = connection.socket.inner
    certificate = x509.load_der_x509_certificate(inner.getpeercert(binary_form=True))
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    return Step("certificate", url, ok=left >= EXPIRES_SOON_DAYS, detail=f"{left}")


def _tried(name: str, place: str, act: Any) -> Step:
    started = time.monotonic()
    try:
        detail = act()
    except (*FAULTS, TesseraError) as error:
        return Step(name, place, ok=False, detail=_why(error))
    took = time.monotonic() - started
    return Step(name, place, ok=True, detail=detail if took < 1 else f"{detail} ({took:.1f} s)")


def _why(error: BaseException) -> str:
    if isinstance(error, TesseraError):
        return f"{error.public} {error.detail or ''}".strip()
    return str(error)[:300] or type(error).__name__
