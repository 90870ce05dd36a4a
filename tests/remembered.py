"""What a test process would compute again and again, always with the same answer, it computes once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from werkzeug.routing import Rule

from identity.directory import ldif
from identity.login import authenticate


class RememberingHasher(PasswordHasher):
    """Answers as its class does, with the same parameters, and remembers its answers: the salt of a password's hash is
    made once."""

    def __init__(self, like: PasswordHasher) -> None:
        super().__init__(like.time_cost, like.memory_cost, like.parallelism)
        self._hashes: dict[str | bytes, str] = {}
        self._answers: dict[tuple[str | bytes, str | bytes], bool] = {}

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        if salt is not None:
            return super().hash(password, salt=salt)
        if password not in self._hashes:
            self._hashes[password] = super().hash(password)
        return self._hashes[password]

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        if (hash, password) not in self._answers:
            try:
                self._answers[hash, password] = super().verify(hash, password)
            except VerifyMismatchError:
                self._answers[hash, password] = False
        if not self._answers[hash, password]:
            raise VerifyMismatchError
        return True


def _passwords() -> None:
    """Each password is hashed once, at production's price."""
    for module in (authenticate, ldif):
        module._hasher = RememberingHasher(module._hasher)


def _routes() -> None:
    """The function that builds a route's addresses, which is compiled from its pattern, is every application's."""
    compile_builder: Callable[..., Any] = Rule._compile_builder
    known: dict[Any, Any] = {}

    def remembered(rule: Rule, append_unknown: bool = True) -> Any:
        if rule.defaults:
            return compile_builder(rule, append_unknown)
        key = append_unknown, tuple(rule._trace)
        if key not in known:
            known[key] = compile_builder(rule, append_unknown)
        return known[key]

    Rule._compile_builder = remembered  # type: ignore[method-assign]


def remember() -> None:
    """From now on in this process."""
    _passwords()
    _routes()
