"""Conditions in CEL: compiled once, bounded, and never permitting by an error.

An amount is compared with `money("5000.00", "CNY")` and nothing else: both travel as CEL durations, a type that CEL
compares with no number. `money` refuses another currency than the request's. Either refusal is an error of the
condition, so nothing is permitted by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import cel

from policies.types import Amount

SOURCE_MAX = 1_024
LIST_MAX = 1_000
_PATH = re.compile(r"(?<![\w.])(subject|resource|action|context)\b((?:\s*\.\s*[A-Za-z_]\w*)*)")
# String literals as CEL has them (raw ones know no escapes; three quotes may hold one), and comments.
_QUOTED = re.compile(
    r'[rR]?[bB]?[rR]?(?P<triple>"""|\'\'\')(?:.|\n)*?(?P=triple)'
    r"|(?:[rR][bB]?|[bB][rR])(?:\"[^\"\n]*\"|'[^'\n]*')"
    r"|[bB]?(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|//[^\n]*"
)
_COMPREHENSION = re.compile(r"\.\s*(all|exists|exists_one|existsOne|map|filter)\s*\(")


class ConditionError(ValueError):
    """The source is no condition that may be used."""


class Condition:
    """A compiled condition over `subject`, `resource`, `action` and `context`."""

    __slots__ = ("_money", "_needs", "_program", "source")

    def __init__(self, source: str) -> None:
        if len(source.encode()) > SOURCE_MAX:
            raise ConditionError("a condition has at most 1,024 bytes")
        text = _QUOTED.sub(" ", source)
        if _nested_comprehension(text):
            raise ConditionError("a condition has no comprehension inside another")
        try:
            self._program = cel.compile(source)
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConditionError(f"not a CEL expression: {error}") from None
        self._money = "money" in text
        self._needs = _needs(text)
        self.source = source

    @property
    def reads(self) -> frozenset[str]:
        """Which of `subject`, `resource`, `action` and `context` it names."""
        return frozenset(self._needs)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true; raises `ConditionError` when it cannot be evaluated to a boolean."""
        currencies: set[str] = set()
        try:
            context = cel.Context(
                {
                    name: _chosen(values[name], members, currencies)
                    for name, members in self._needs.items()
                    if name in values
                }
            )
            if self._money:
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


def _money(value: Any, currency: Any, currencies: set[str]) -> timedelta:
    amount = Amount.parse({"value": value, "currency": currency})
    if currencies - {amount.currency}:
        raise ValueError("an amount in another currency")
    return timedelta(microseconds=amount.value)


def _plain(value: Any, currencies: set[str]) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return value
    if isinstance(value, Amount):
        currencies.add(value.currency)
        return timedelta(microseconds=value.value)
    if isinstance(value, Mapping):
        if len(value) > LIST_MAX:
            raise ConditionError("an object has more than 1,000 members")
        return {str(name): _plain(one, currencies) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        if len(value) > LIST_MAX:
            raise ConditionError("a list is longer than 1,000")
        return [_plain(one, currencies) for one in value]
    return value


def _needs(text: str) -> dict[str, dict[str, frozenset[str] | None] | None]:
    """What a source without its strings can read: value → member → members of `properties`; None = all of it.

    Handing CEL a value costs a microsecond a member, so only what is named is handed over. Whatever is not a plain
    path (an index, the value itself) needs all of it.
    """
    found: dict[str, dict[str, frozenset[str] | None] | None] = {}
    for root, path in _PATH.findall(text):
        members = found.setdefault(root, {})
        names = [one.strip() for one in path.split(".")[1:]]
        if members is None or not names:
            found[root] = None
        elif names[0] != "properties":
            members[names[0]] = None
        elif len(names) == 1:
            members["properties"] = None
        else:
            known = members.get("properties", frozenset())
            members["properties"] = None if known is None else known | {names[1]}
    return found


def _chosen(value: Any, members: dict[str, frozenset[str] | None] | None, currencies: set[str]) -> Any:
    if members is None:
        return _plain(value, currencies)
    chosen = {}
    for name, inner in members.items():
        if name in value:
            one = value[name]
            if inner is not None:
                one = {each: one[each] for each in inner if each in one}
            chosen[name] = _plain(one, currencies)
    return chosen


def _nested_comprehension(text: str) -> bool:
    """Whether one comprehension stands inside the brackets of another (three of them hold a core for a second)."""
    for match in _COMPREHENSION.finditer(text):
        depth, position = 1, match.end()
        while position < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[position], 0)
            position += 1
        if _COMPREHENSION.search(text, match.end(), position):
            return True
    return False
