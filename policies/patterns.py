"""Resource ids and the patterns over them: canonical '/'-separated segments, matched in a trie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

ID_MAX = 1_024
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\?#]|%2[eEfF]|%5[cC]|%00|//|(^|/)\.{1,2}(/|$)")


def is_canonical(resource_id: str) -> bool:
    """Whether an id can be matched as it stands: no empty or dot segments, no encoded slash, no control character."""
    return (
        0 < len(resource_id) <= ID_MAX
        and resource_id == resource_id.strip()
        and not _FORBIDDEN.search(resource_id)
        and not resource_id.endswith("/")
    )


def is_pattern(text: str) -> bool:
    """Whether it is more than an exact id."""
    return "*" in text


def problem(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    if not is_canonical(pattern):
        return "is not canonical"
    segments = pattern.split("/")
    if any("*" in segment and segment not in {"*", "**"} for segment in segments):
        return "has * inside a segment"
    if "**" in segments[:-1]:
        return "has ** before its end"
    return None


@dataclass(slots=True)
class Trie:
    """Patterns by segment; `find` yields the numbers of all patterns that match an id."""

    children: dict[str, Trie] = field(default_factory=dict)
    here: list[int] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)

    def add(self, pattern: str, number: int) -> None:
        node = self
        for segment in pattern.split("/"):
            if segment == "**":
                node.rest.append(number)
                return
            node = node.children.setdefault(segment, Trie())
        node.here.append(number)

    def find(self, resource_id: str) -> Iterator[int]:
        segments = resource_id.split("/")
        last = len(segments)
        stack = [(self, 0)]
        while stack:
            node, index = stack.pop()
            yield from node.rest
            if index == last:
                yield from node.here
                continue
            child = node.children.get(segments[index])
            if child is not None:
                stack.append((child, index + 1))
            star = node.children.get("*")
            if star is not None:
                stack.append((star, index + 1))
