"""The tree in tiles of 256 is the same tree."""

from __future__ import annotations

import hashlib

from identity.audit import merkle
from identity.audit.tree import Tiles

LEAVES = [hashlib.sha256(bytes([n % 251, n // 251 % 251, n // 63_001])).digest() for n in range(66_100)]


def test_the_root_does_not_depend_on_how_the_leaves_came() -> None:
    tiles, frontier = Tiles(), merkle.Frontier()
    at = 0
    for step in (0, 1, 254, 1, 1, 255, 256, 257, 3, 1_000, 4_096):
        tiles.extend(LEAVES[at : at + step])
        frontier.extend(LEAVES[at : at + step])
        at += step
        assert tiles.size == frontier.size == at
        assert tiles.root() == frontier.root()


def test_each_complete_tile_is_given_out_once() -> None:
    tiles = Tiles()
    nodes = tiles.extend(LEAVES[:1_000]) + tiles.extend(LEAVES[1_000:])
    assert tiles.root() == merkle.root_of(LEAVES)
    assert [(level, index) for level, index, _ in nodes if level == 8] == [(8, n) for n in range(66_100 // 256)]
    assert [(level, index) for level, index, _ in nodes if level > 8] == [(16, 0)]
    for level, index, digest in nodes:
        assert digest == merkle.root_of(LEAVES[index << level : index + 1 << level])
