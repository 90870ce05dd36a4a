"""The Merkle tree of RFC 9162 §2.1 (the tree of RFC 6962): hashing, an incremental frontier, proofs and their checks.

Pure. A tree of n leaves is never held in memory: whoever builds a proof passes `subtree(start, end)`, the root over the
leaves [start, end), asked only for complete subtrees (a power of two of leaves, aligned) and for the ragged right edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
Subtree = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """RFC 9162 §2.1.1: HASH(0x00 || entry)."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162 §2.1.1: HASH(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, widest first; O(log n) memory.

    Appending a leaf costs one hash on average. A copy is a value of its own.
    """

    __slots__ = ("_roots", "size")

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        """Take up a tree of `size` leaves; `roots` are the roots of its complete subtrees, one for each set bit of
        `size`, widest first. Raises ValueError when their number does not fit."""
        if size < 0 or len(roots) != size.bit_count():
            raise ValueError("the roots do not fit the size")
        self.size = size
        self._roots = list(roots)

    def copy(self) -> Frontier:
        return Frontier(self.size, self._roots)

    @property
    def roots(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, widest first."""
        return tuple(self._roots)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in their order."""
        roots, size = self._roots, self.size
        for leaf in leaves:
            node, bits = leaf, size
            while bits & 1:
                node = sha256(b"\x01" + roots.pop() + node).digest()
                bits >>= 1
            roots.append(node)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """The tree's root; of no leaves it is HASH() (RFC 9162 §2.1.1)."""
        if not self._roots:
            return EMPTY_ROOT
        node = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            node = node_hash(left, node)
        return node


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    row = list(leaves)
    while len(row) > 1:
        pairs = iter(row)
        # A last one without a partner goes up as it is: so the wider part stands to the left (RFC 9162 §2.1.1).
        last = row[-1:] if len(row) & 1 else []
        row = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)] + last
    return row[0] if row else EMPTY_ROOT


def complete_subtrees(start: int, end: int) -> list[tuple[int, int]]:
    """The aligned complete subtrees that [start, end) falls into, left to right; `start` must be aligned for the range
    to be a subtree of a tree, as the ranges that proofs ask for are."""
    parts = []
    while start < end:
        width = 1 << (end - start).bit_length() - 1
        if start:
            width = min(width, start & -start)
        parts.append((start, start + width))
        start += width
    return parts


def fold(roots: Sequence[bytes]) -> bytes:
    """The root over neighbouring complete subtrees, widest first."""
    node = roots[-1]
    for left in reversed(roots[:-1]):
        node = node_hash(left, node)
    return node


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (RFC 9162 §2.1.1: k < n <= 2k)."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The nodes that lead from leaf `index` to the root of the tree of `size` leaves, from the leaf up
    (RFC 9162 §2.1.3.1). Raises ValueError for an index outside the tree."""
    if not 0 <= index < size:
        raise ValueError("the leaf is not in the tree")
    start, end = 0, size
    path = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, subtree: Subtree) -> list[bytes]:
    """The nodes that prove that the tree of `first` leaves is the beginning of the tree of `second` leaves
    (RFC 9162 §2.1.4.1). Raises ValueError unless 0 < first <= second."""
    if not 0 < first <= second:
        raise ValueError("the first tree must be a beginning of the second")
    start, end = 0, second
    path = []
    whole = True
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(subtree(start, end))
    return path[::-1]


def inclusion_holds(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the path proves the leaf hash at `index` of the tree with this size and root (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, node = index, size - 1, leaf
    for part in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(part, node)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            node = node_hash(node, part)
        fn >>= 1
        sn >>= 1
    return sn == 0 and node == root


def consistency_holds(first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the path proves that the second tree grew out of the first (RFC 9162 §2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    parts = list(path)
    if first & (first - 1) == 0:
        parts.insert(0, first_root)
    if not parts:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    left = right = parts[0]
    for part in parts[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            left, right = node_hash(part, left), node_hash(part, right)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            right = node_hash(right, part)
        fn >>= 1
        sn >>= 1
    return sn == 0 and left == first_root and right == second_root
