"""From what a directory says to what we take: an expression and a table for each field, tried in the console.

Expressions are CEL over `entry` (attribute in small letters → its texts) and `value` (the mapped attribute's first
text, "" where there is none), with `lower`, `upper`, `before`, `after` and `replace`. They give a text; null or ""
means that the source says nothing. What cannot be evaluated is no answer: the run fails and nothing changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import cel

from identity.core.errors import Invalid
from identity.directory.reader import DirectoryEntry, ReadIncomplete, Reading
from identity.directory.settings import AttributeMap, DirectorySettings, FieldName, Transform

RESULT_MAX = 4_096
# Each of these runs its body once for every element, one inside another without bound.
_COMPREHENSION = re.compile(r"\.\s*(all|exists|exists_one|existsOne|map|filter)\s*\(")


class Transformer:
    """A source's transforms, compiled; raises `Invalid` for an expression that is none."""

    def __init__(self, settings: DirectorySettings) -> None:
        self._settings = settings
        self._steps = [(one, _compiled(one.expression)) for one in settings.transforms]

    @property
    def settings(self) -> DirectorySettings:
        """The source's settings with the transformed fields under names of their own: two fields may be made of one
        attribute."""
        made = {one.field: _name(one.field) for one in self._settings.transforms}
        names: dict[str, Any] = self._settings.attributes.model_dump() | made
        attributes = AttributeMap.model_construct(**names)
        return self._settings.model_copy(update={"attributes": attributes}) if made else self._settings

    def apply(self, reading: Reading) -> Reading:
        """The reading with every field transformed; raises `ReadIncomplete` for the first that cannot be."""
        if not self._steps:
            return reading
        return replace(reading, entries=tuple(self.entry(one) for one in reading.entries))

    def entry(self, entry: DirectoryEntry) -> DirectoryEntry:
        """One entry with its fields transformed."""
        made: dict[str, tuple[str, ...]] = {}
        for step, program in self._steps:
            if step.kind != entry.kind:
                continue
            value = _run(step, program, entry, self._settings)
            if value:
                made[_name(step.field)] = (value,)
        return replace(entry, attributes={**entry.attributes, **made}) if made else entry


def try_one(step: Transform, entry: DirectoryEntry, settings: DirectorySettings) -> str | None:
    """What this transform makes of an entry; raises `Invalid` or `ReadIncomplete`, which say why it makes nothing."""
    return _run(step, _compiled(step.expression), entry, settings)


def _name(field: str) -> str:
    return f"tessera-{field.replace('_', '-')}"


def _compiled(source: str | None) -> Any:
    if source is None:
        return None
    if _COMPREHENSION.search(source):
        raise Invalid("An expression has no comprehension.", code="transform")
    try:
        return cel.compile(source)
    except (ValueError, RuntimeError, TypeError) as error:
        raise Invalid(f"Not a CEL expression: {error}", code="transform") from None


def _run(step: Transform, program: Any, entry: DirectoryEntry, settings: DirectorySettings) -> str | None:
    value = entry.first(getattr(settings.attributes, step.field)) or ""
    if program is not None:
        value = _evaluate(step, program, entry, value)
    if not step.lookup or not value:
        return value or None
    found = step.lookup.get(value)
    if found is not None:
        return found or None
    if step.otherwise == "error":
        raise _failed(step, entry, f"{value[:64]!r} stands in no line of its table")
    return value if step.otherwise == "keep" else None


def _evaluate(step: Transform, program: Any, entry: DirectoryEntry, value: str) -> str:
    try:
        context = cel.Context(
            {"entry": {name: list(texts) for name, texts in entry.attributes.items()}, "value": value}
        )
        for name, function in _FUNCTIONS.items():
            context.add_function(name, function)
        result = program.execute(context)
    except Exception as error:  # noqa: BLE001  whatever goes wrong inside, it is an error of the expression
        raise _failed(step, entry, str(error)[:200]) from None
    if result is None:
        return ""
    if not isinstance(result, str) or len(result) > RESULT_MAX:
        raise _failed(step, entry, "the result is not a text")
    return " ".join(result.split())


def _failed(step: Transform, entry: DirectoryEntry, why: str) -> ReadIncomplete:
    return ReadIncomplete(f"The transform of {step.field} failed.", f"{entry.dn}: {why}", code="transform_failed")


_FUNCTIONS: Mapping[str, Any] = {
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "before": lambda text, mark: text.partition(mark)[0],
    "after": lambda text, mark: text.partition(mark)[2],
    "replace": lambda text, old, new: text.replace(old, new),
}

FIELDS: Sequence[str] = get_args(FieldName)
