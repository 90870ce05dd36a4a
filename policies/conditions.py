"""Conditions in CEL: compiled once, bounded, and never permitting by an error.

Amounts are given to CEL as scaled integers and compared only with `money("5000.00", "CNY")`, which refuses another
currency than the request's: the refusal is an error of the condition, so nothing is permitted by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import cel

from policies.types import Amount

SOURCE_MAX = 1_024
LIST_MAX = 1_000
_COMPREHENSION = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(")


class ConditionError(ValueError):
    """The source is no condition that may be used."""


class Condition:
    """A compiled condition over `subject`, `resource`, `action` and `context`."""

    __slots__ = ("_program", "source")

    def __init__(self, source: str) -> None:
        if len(source.encode()) > SOURCE_MAX:
            raise ConditionError("a condition has at most 1,024 bytes")
        if _nested_comprehension(source):
            raise ConditionError("a condition has no comprehension inside another")
        try:
            self._program = cel.compile(source)
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConditionError(f"not a CEL expression: {error}") from None
        self.source = source

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true; raises `ConditionError` when it cannot be evaluated to a boolean."""
        currencies: set[str] = set()
        try:
            plain = {name: _plain(value, currencies) for name, value in values.items()}
            context = cel.Context(plain)
            context.add_function("money", lambda value, currency: _money(value, currency, currencies))
            result = self._program.execute(context)
        except Exception as error:  # noqa: BLE001  whatever goes wrong inside, it is an error of the condition
            raise ConditionError(str(error)) from None
        if result is not True and result is not False:
            raise ConditionError("the condition is not a boolean")
        return bool(result)


def compile_condition(source: str) -> Condition:
    """Compile; raises `ConditionError`."""
    return Condition(source)


def _money(value: Any, currency: Any, currencies: set[str]) -> int:
    amount = Amount.parse({"value": value, "currency": currency})
    if currencies - {amount.currency}:
        raise ValueError("an amount in another currency")
    return amount.value


def _plain(value: Any, currencies: set[str]) -> Any:
    if isinstance(value, Amount):
        currencies.add(value.currency)
        return value.value
    if isinstance(value, Mapping):
        return {str(name): _plain(one, currencies) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        if len(value) > LIST_MAX:
            raise ConditionError("a list is longer than 1,000")
        return [_plain(one, currencies) for one in value]
    return value


def _nested_comprehension(source: str) -> bool:
    """Whether one comprehension stands inside the brackets of another (three of them hold a core for a second)."""
    text = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'', '""', source)
    for match in _COMPREHENSION.finditer(text):
        depth, position = 1, match.end()
        while position < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[position], 0)
            position += 1
        if _COMPREHENSION.search(text, match.end(), position):
            return True
    return False
