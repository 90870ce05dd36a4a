"""Groups in groups."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

G = TypeVar("G", bound=Hashable)


def containing(parents: Mapping[G, Iterable[G]]) -> dict[G, frozenset[G]]:
    """For each group all groups that contain it, at any depth.

    `parents` maps a group to the groups that it is a direct member of. Each containing group is named once; a
    group on a cycle contains itself. Ends on any graph: work is at most groups x edges.
    """
    direct = {group: tuple(found) for group, found in parents.items()}
    return {group: _reach(group, direct) for group in direct}


def _reach(start: G, direct: Mapping[G, tuple[G, ...]]) -> frozenset[G]:
    seen: set[G] = set()
    waiting = list(direct[start])
    while waiting:
        group = waiting.pop()
        if group not in seen:
            seen.add(group)
            waiting.extend(direct.get(group, ()))
    return frozenset(seen)
