"""A large mapping that changes a little at a time: each version shares almost everything with the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

FOLD = 500


class Overlay(Mapping[K, V]):
    """An immutable mapping: a base that versions share, and the entries that differ from it.

    A version costs a copy of its differences, and once in five hundred changes one of everything. Keys keep their
    order; new ones come last.
    """

    __slots__ = ("_base", "_changed", "_length")

    def __init__(self, base: dict[K, V], changed: dict[K, V] | None = None, length: int | None = None) -> None:
        self._base = base
        self._changed = changed or {}
        self._length = len(base) if length is None else length

    @classmethod
    def of(cls, mapping: Mapping[K, V]) -> Overlay[K, V]:
        """The mapping itself where it is one already."""
        return mapping if isinstance(mapping, Overlay) else cls(dict(mapping))

    def __getitem__(self, key: K) -> V:
        return self._changed[key] if key in self._changed else self._base[key]

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]
        """As of any mapping; the one that decisions use."""
        changed = self._changed
        return changed[key] if changed and key in changed else self._base.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._changed or key in self._base

    def __iter__(self) -> Iterator[K]:
        yield from self._base
        yield from (key for key in self._changed if key not in self._base)

    def __len__(self) -> int:
        return self._length

    def with_entries(self, entries: Mapping[K, V]) -> Overlay[K, V]:
        """The same mapping with these entries; this one stays as it is."""
        changed = {**self._changed, **entries}
        if len(changed) > FOLD:
            return Overlay({**self._base, **changed})
        return Overlay(self._base, changed, self._length + sum(key not in self for key in entries))
