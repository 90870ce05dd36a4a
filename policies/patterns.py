"""Resource ids and the patterns over them: canonical '/'-separated segments, matched in a trie."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ID_MAX = 1_024
# What most ids are made of; nothing in it can be read in two ways.
_PLAIN = re.compile(r"[\w:@~+=,-]+(?:/[\w:@~+=,-]+)*")
# What one system reads as a separator, a step upwards or nothing at all while another does not: control characters,
# backslash, query and fragment, percent-encoding, empty and dot segments, a dot or space at a segment's end, and the
# characters that NFKC turns into '/', '\', '.' or '%', invisible ones and those that turn the direction of writing.
_FORBIDDEN = re.compile(
    r"[\x00-\x1f\x7f\\?#]|%[0-9A-Fa-f]{2}|//|(^|/)\.{1,2}(/|$)|[. ](/|$)|(^|/) "
    r"|[\u2024-\u2026\u2100\u2101\u2105\u2106\u2488-\u249b\u33c2\u33c7\u33d8\ufe19\ufe30\ufe52\ufe68\ufe6a]"
    r"|[\uff05\uff0e\uff0f\uff3c\U0001f100]"
    r"|[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)

T = TypeVar("T")


def is_canonical(resource_id: str) -> bool:
    """Whether an id can be matched as it stands, because no system reads it as another one."""
    if not 0 < len(resource_id) <= ID_MAX:
        return False
    if resource_id.isascii() and _PLAIN.fullmatch(resource_id):
        return True
    return (
        not _FORBIDDEN.search(resource_id)
        and resource_id[0] != "/"
        and resource_id[-1] != "/"
        and resource_id == resource_id.strip()
        and unicodedata.is_normalized("NFC", resource_id)
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


def matches(pattern: str, resource_id: str) -> bool:
    """Whether one pattern matches a canonical id; the index asks many at once."""
    parts, segments = pattern.split("/"), resource_id.split("/")
    if parts[-1] == "**":
        parts, segments = parts[:-1], segments[: len(parts) - 1]
    return len(parts) == len(segments) and all(one in {"*", other} for one, other in zip(parts, segments, strict=True))


@dataclass(slots=True)
class Trie(Generic[T]):
    """Patterns by segment, each with one value; `find` gives the values of all patterns that match an id."""

    children: dict[str, Trie[T]] = field(default_factory=dict)
    star: Trie[T] | None = None
    here: T | None = None
    rest: T | None = None

    def node(self, pattern: str) -> tuple[Trie[T], bool]:
        """The node that stands for a pattern, made when it is new, and whether the pattern ends with `**`."""
        node = self
        for segment in pattern.split("/"):
            if segment == "**":
                return node, True
            if segment == "*":
                node.star = node.star or Trie()
                node = node.star
            else:
                node = node.children.setdefault(segment, Trie())
        return node, False

    def find(self, resource_id: str) -> list[T]:
        """The values of all patterns that match; the id must be canonical."""
        found = [] if self.rest is None else [self.rest]
        nodes = [self]
        for segment in resource_id.split("/"):
            below = []
            for node in nodes:
                child = node.children.get(segment)
                if child is not None:
                    below.append(child)
                    if child.rest is not None:
                        found.append(child.rest)
                child = node.star
                if child is not None:
                    below.append(child)
                    if child.rest is not None:
                        found.append(child.rest)
            if not below:
                return found
            nodes = below
        for node in nodes:
            if node.here is not None:
                found.append(node.here)  # noqa: PERF401  a generator costs more than these one or two
        return found
