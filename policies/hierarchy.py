"""Role inheritance (NIST RBAC1): closure of any depth, and its cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def juniors(edges: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Senior role → the roles directly below it."""
    below: dict[str, set[str]] = {}
    for senior, junior in edges:
        below.setdefault(senior, set()).add(junior)
    return below


def closure(role: str, below: Mapping[str, set[str]]) -> set[str]:
    """The role and every role below it, at any depth; ends on cycles."""
    found = {role}
    queue = [role]
    while queue:
        for junior in below.get(queue.pop(), ()):
            if junior not in found:
                found.add(junior)
                queue.append(junior)
    return found


def cycle(edges: Iterable[tuple[str, str]]) -> list[str]:
    """The roles of one cycle in order, or an empty list."""
    below = juniors(edges)
    done: set[str] = set()
    for start in below:
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            role, leaving = stack.pop()
            if leaving:
                path.pop()
                done.add(role)
            elif role in path:
                return path[path.index(role) :]
            elif role not in done:
                path.append(role)
                stack.append((role, True))
                stack.extend((junior, False) for junior in below.get(role, ()))
    return []
