"""Passwords checked by binding: kept connections, one deadline, and a bulkhead around each directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ldap3.utils.conv import escape_filter_chars

from identity.core.errors import Unavailable
from identity.directory.connection import (
    FAULTS,
    INVALID_CREDENTIALS,
    NO_ANSWER,
    OK,
    LdapServers,
    close,
    deadline,
    search_once,
)
from identity.directory.reader import BindResult, ReadIncomplete

# Answers after which the next server is asked.
_NO_WORD = frozenset({"unwilling", "unavailable"})
SLOTS = 4
WAIT_S = 0.25
REST_S = 5.0

# The outcome of a bind, and the state of a found entry that makes a bind needless.
Judge = Callable[[Mapping[str, Any]], BindResult]
State = Callable[[Mapping[str, Any]], BindResult | None]


class Bulkhead:
    """At most `SLOTS` sign-ins wait for one directory at a time; after it failed to answer it rests for `REST_S`
    seconds, in which one of them at a time tries it."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(SLOTS)
        self._probe = threading.Lock()
        self._rests_until = 0.0

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Yields whether the directory may be asked now; waits for a quarter of a second at most."""
        resting = time.monotonic() < self._rests_until
        gate = self._probe if resting else self._slots
        if not gate.acquire(timeout=0 if resting else WAIT_S):
            yield False
            return
        try:
            yield True
        finally:
            gate.release()

    def answered(self, *, well: bool) -> None:
        """Note whether the directory answered."""
        self._rests_until = 0.0 if well else time.monotonic() + REST_S


class Binder:
    """Finds an entry by its id and binds as it. One sign-in makes one bind.

    `state` says from the found entry's raw attributes that no bind is needed; `judge` reads a bind's result, which has
    what the server answers to `controls`.
    """

    def __init__(
        self,
        servers: LdapServers,
        attributes: tuple[str, ...],
        state: State,
        judge: Judge,
        controls: Sequence[Any] = (),
    ) -> None:
        self._controls = list(controls) or None
        self._servers = servers
        self._attributes = attributes
        self._state = state
        self._judge = judge
        self._bulkhead = Bulkhead()

    def bind(self, wanted: str, password: str) -> BindResult:
        """Whether this is the password of the one entry that the filter finds below the users' base."""
        if not password:
            return "wrong_password"  # an empty password is an unauthenticated bind, which succeeds (RFC 4513 §5.1.2)
        with self._bulkhead.enter() as allowed:
            if not allowed:
                return "unavailable"
            result = self._ask(wanted, password)
            self._bulkhead.answered(well=result != "unavailable")
            return result

    def _ask(self, wanted: str, password: str) -> BindResult:
        """The first answer about the password; `unwilling` when there is none but a server would not let it bind."""
        ends = time.monotonic() + self._servers.settings.login_timeout_s
        urls, said = self._servers.urls(), set[BindResult]()
        for position, url in enumerate(urls):
            left = ends - time.monotonic()
            if left <= 0.05:
                break
            try:
                result = self._ask_one(url, wanted, password, time.monotonic() + left / (len(urls) - position))
            except (*FAULTS, Unavailable):
                continue
            if result not in _NO_WORD:
                self._servers.prefer(url)
                return result
            said.add(result)
        return "unwilling" if "unwilling" in said else "unavailable"

    def _ask_one(self, url: str, wanted: str, password: str, ends: float) -> BindResult:
        """The answer of one server."""
        found = self._find(url, wanted, ends)
        if len(found) != 1:
            return "wrong_password"
        state = self._state(found[0]["raw_attributes"])
        if state is not None:
            return state
        connection = self._servers.take("bind", url) or self._servers.open(url, "-", "-", _left(ends))
        connection.user, connection.password = found[0]["dn"], password
        try:
            with deadline(connection, _left(ends)):
                connection.bind(controls=self._controls)
            result = connection.result
        except BaseException:
            close(connection)
            raise
        finally:
            connection.password = None
        if result["result"] in {OK, INVALID_CREDENTIALS}:
            self._servers.keep("bind", url, connection)
        else:
            close(connection)
        return self._judge(result)

    def _find(self, url: str, wanted: str, ends: float) -> list[Any]:
        """At most two entries that the filter finds, asked for with our own account."""
        settings = self._servers.settings
        connection = self._servers.take("search", url) or self._servers.bound(url, _left(ends))
        try:
            search_once(connection, settings.users_base, wanted, self._attributes, _left(ends), size_limit=2)
            found = [one for one in connection.response if one["type"] == "searchResEntry"]
        except ReadIncomplete:
            close(connection)
            if connection.result and connection.result.get("result") == 4:  # sizeLimitExceeded: more than one
                return [None, None]
            raise
        except BaseException:
            close(connection)
            raise
        self._servers.keep("search", url, connection)
        return found


def judge_refusal(result: Mapping[str, Any]) -> BindResult:
    """What a bind that neither succeeded nor failed for its credentials says: busy and unavailable are no answer,
    everything else (unwillingToPerform of an inactivated account, constraintViolation of one locked) is a refusal."""
    return "unavailable" if result["result"] in NO_ANSWER else "unwilling"


def by_key(settings_key: str, value: str) -> str:
    """The filter for an entry by its textual id (RFC 4515 §3)."""
    return f"({settings_key}={escape_filter_chars(value)})"


def _left(ends: float) -> float:
    return max(0.05, ends - time.monotonic())
