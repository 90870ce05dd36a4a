"""The tree as it is stored: leaves, and the roots of every 256, 65,536, … of them, so that nothing reads it whole."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from identity.audit import bulk, merkle
from identity.core.errors import Unavailable

STEP = 8
WIDTH = 1 << STEP
TILES_KEPT = 64

Node = tuple[int, int, bytes]


class Tiles:
    """A growing tree that gives out each node of level 8, 16, … when it is complete; O(256 log n) memory."""

    def __init__(self, size: int = 0, edges: Sequence[Sequence[bytes]] = ()) -> None:
        """Take up a tree of `size` leaves; `edges[n]` are the last `size // 256**n % 256` hashes of level 8 n."""
        self.size = size
        self._edges = [list(edge) for edge in edges] or [[]]

    def copy(self) -> Tiles:
        """A tree of its own."""
        return Tiles(self.size, self._edges)

    def extend(self, leaves: Sequence[bytes]) -> list[Node]:
        """Add leaf hashes in their order; the nodes that they complete."""
        made: list[Node] = []
        start = 0
        while start < len(leaves):
            part = leaves[start : start + WIDTH - len(self._edges[0])]
            start += len(part)
            self._edges[0].extend(part)
            self.size += len(part)
            self._carry(made)
        return made

    def _carry(self, made: list[Node]) -> None:
        level = 0
        while len(self._edges[level]) == WIDTH:
            digest = merkle.root_of(self._edges[level])
            self._edges[level] = []
            level += 1
            if level == len(self._edges):
                self._edges.append([])
            self._edges[level].append(digest)
            made.append((level * STEP, (self.size >> level * STEP) - 1, digest))

    def root(self) -> bytes:
        """The root over all leaves so far."""
        roots = []
        for edge in reversed(self._edges):
            roots += [merkle.root_of(edge[a:b]) for a, b in merkle.complete_subtrees(0, len(edge))]
        return merkle.fold(roots) if roots else merkle.EMPTY_ROOT


class StoredTree:
    """Reads subtrees from the database; what it finds is a claim, proved only against a signed root."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[int, int], bytes] = {}
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def subtree(self, start: int, end: int) -> bytes:
        """The root over the leaves [start, end), as proofs ask for them; the same is not read twice."""
        if (start, end) not in self._known:
            self._known[start, end] = self._folded(start, end)
        return self._known[start, end]

    def _folded(self, start: int, end: int) -> bytes:
        return merkle.fold([self._complete(a, b) for a, b in merkle.complete_subtrees(start, end)])

    def root(self, size: int) -> bytes:
        """The root of the first `size` leaves."""
        return self.subtree(0, size) if size else merkle.EMPTY_ROOT

    def tiles(self, size: int) -> Tiles:
        """The tree of the first `size` leaves, ready to grow."""
        edges = []
        level = 0
        while size >> level or not level:
            count = size >> level
            edges.append(self._hashes(level, count - count % WIDTH, count))
            level += STEP
        return Tiles(size, edges)

    def _complete(self, start: int, end: int) -> bytes:
        height = (end - start).bit_length() - 1
        level = height - height % STEP
        return merkle.root_of(self._hashes(level, start >> level, end >> level))

    def _hashes(self, level: int, start: int, end: int) -> list[bytes]:
        if end <= start:
            return []
        tile, first = start // WIDTH, start % WIDTH
        if first + end - start <= WIDTH:
            found = self._tile(level, tile)[first : first + end - start]
        else:
            found = bulk.hashes(self._connection, level, start, end)
        if len(found) != end - start:
            raise Unavailable(
                "The proof cannot be made.", f"level {level} has {len(found)} of [{start}, {end})", code="tree_broken"
            )
        return found

    def _tile(self, level: int, n: int) -> list[bytes]:
        """The hashes of a level that have one parent eight levels up; many proofs ask for the same ones."""
        found = self._tiles.pop((level, n), None)
        if found is None:
            found = bulk.hashes(self._connection, level, n * WIDTH, (n + 1) * WIDTH)
            if len(self._tiles) == TILES_KEPT:
                del self._tiles[next(iter(self._tiles))]
        self._tiles[level, n] = found
        return found
