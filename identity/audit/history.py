"""Whether the database still holds what was anchored."""

from __future__ import annotations

from collections.abc import Sequence

from identity.audit.anchors import LeafLog
from identity.audit.note import Head, NoteKey, open_note
from identity.audit.restored import Epochs
from identity.audit.tree import StoredTree
from identity.core.errors import Invalid


def last_heads(notes: Sequence[str], epochs: Epochs, keys: Sequence[NoteKey]) -> list[Head]:
    """The last of the notes' heads that one of these keys signed and that still speaks of the log, and what the last
    restoration kept, where that is wider."""
    found = [one.start for one in epochs.all[-1:]]
    for note in reversed(notes):
        try:
            head = Head.parse(open_note(note, keys))
        except Invalid:
            continue
        if epochs.superseding(head) is None:
            return [head, *(one for one in found if one.size > head.size)]
    return found


def missing_from(tree: StoredTree, size: int, heads: Sequence[Head], leaf_log: LeafLog | None) -> str:
    """What of these heads and of the leaf log the stored tree of `size` leaves does not hold; empty when it does."""
    for head in heads:
        if head.size > size or tree.root(head.size) != head.root:
            return f"anchored: {head.size} leaves at {head.at.isoformat()}; database: {size}"
    logged = leaf_log.size if leaf_log is not None else 0
    return f"in the leaf log: {logged} leaves; database: {size}" if logged > size else ""
