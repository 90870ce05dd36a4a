"""The tree against the known answers of RFC 6962's test data and against its definition, written recursively."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from identity.audit import merkle

# The eight inputs and the roots of the trees of their first n, as the reference implementations of RFC 6962 test them.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)

trees = st.lists(st.binary(max_size=8), min_size=1, max_size=70, unique=True)


def naive_root(entries: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def naive_inclusion(m: int, entries: list[bytes]) -> list[bytes]:
    """RFC 9162 §2.1.3.1."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m < k:
        return [*naive_inclusion(m, entries[:k]), naive_root(entries[k:])]
    return [*naive_inclusion(m - k, entries[k:]), naive_root(entries[:k])]


def naive_consistency(m: int, entries: list[bytes], whole: bool = True) -> list[bytes]:
    """RFC 9162 §2.1.4.1."""
    if m == len(entries):
        return [] if whole else [naive_root(entries)]
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m <= k:
        return [*naive_consistency(m, entries[:k], whole), naive_root(entries[k:])]
    return [*naive_consistency(m - k, entries[k:], False), naive_root(entries[:k])]


def subtree(entries: list[bytes]) -> merkle.Subtree:
    return lambda start, end: naive_root(entries[start:end])


def test_the_roots_are_those_of_the_known_answers() -> None:
    hashes = [merkle.leaf_hash(one) for one in INPUTS]
    assert [merkle.root_of(hashes[:n]).hex() for n in range(9)] == list(ROOTS)


def test_the_proofs_are_those_of_the_known_answers() -> None:
    def hexes(path: list[bytes]) -> list[str]:
        return [one.hex() for one in path]

    assert hexes(merkle.inclusion_proof(0, 8, subtree(INPUTS))) == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert hexes(merkle.inclusion_proof(5, 8, subtree(INPUTS))) == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert hexes(merkle.inclusion_proof(1, 5, subtree(INPUTS))) == [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]
    assert hexes(merkle.consistency_proof(6, 8, subtree(INPUTS))) == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(trees)
def test_the_frontier_grows_to_the_root_of_the_definition(entries: list[bytes]) -> None:
    frontier = merkle.Frontier()
    for n, entry in enumerate(entries, 1):
        frontier.append(merkle.leaf_hash(entry))
        taken_up = merkle.Frontier(frontier.size, frontier.roots)
        assert frontier.root() == taken_up.root() == naive_root(entries[:n])
        parts = merkle.complete_subtrees(0, n)
        assert list(frontier.roots) == [naive_root(entries[start:end]) for start, end in parts]


@given(trees, st.data())
def test_an_inclusion_proof_holds_for_its_leaf_alone(entries: list[bytes], data: st.DataObject) -> None:
    size = len(entries)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_proof(index, size, subtree(entries))
    assert path == naive_inclusion(index, entries)
    leaf, root = merkle.leaf_hash(entries[index]), naive_root(entries)
    assert merkle.inclusion_holds(leaf, index, size, path, root)
    assert not merkle.inclusion_holds(merkle.leaf_hash(entries[index] + b"!"), index, size, path, root)
    assert not merkle.inclusion_holds(leaf, index, size, [*path, root], root)
    assert not merkle.inclusion_holds(leaf, size, size, path, root)
    assert not merkle.inclusion_holds(leaf, index, size, path, merkle.leaf_hash(root))
    if path:
        assert not merkle.inclusion_holds(leaf, index, size, path[:-1], root)
        assert not merkle.inclusion_holds(leaf, index ^ 1, size, path, root)


@given(trees, st.data())
def test_a_consistency_proof_holds_for_its_two_trees_alone(entries: list[bytes], data: st.DataObject) -> None:
    second = len(entries)
    first = data.draw(st.integers(1, second))
    path = merkle.consistency_proof(first, second, subtree(entries))
    assert path == naive_consistency(first, entries)
    old, new = naive_root(entries[:first]), naive_root(entries)
    assert merkle.consistency_holds(first, old, second, new, path)
    assert not merkle.consistency_holds(first, merkle.leaf_hash(old), second, new, path)
    assert not merkle.consistency_holds(first, old, second, merkle.leaf_hash(new), path)
    assert not merkle.consistency_holds(first, old, second, new, [*path, new])
    assert not merkle.consistency_holds(0, old, second, new, path)
    if path:
        assert not merkle.consistency_holds(first, old, second, new, path[:-1])


@given(trees)
def test_a_proof_asks_for_subtrees_of_complete_parts_only(entries: list[bytes]) -> None:
    def folded(start: int, end: int) -> bytes:
        return merkle.fold([naive_root(entries[a:b]) for a, b in merkle.complete_subtrees(start, end)])

    for index in range(len(entries)):
        assert merkle.inclusion_proof(index, len(entries), folded) == naive_inclusion(index, entries)
