"""Signed statements of the sealer: tree heads and tombstones as signed notes.

One byte form: a C2SP signed note (https://c2sp.org/signed-note) with Ed25519; a head is a C2SP checkpoint
(https://c2sp.org/tlog-checkpoint): origin, size, root in base64, and one line of ours, the time of the head. The text
that is signed ends with a newline; a blank line and the signature lines follow.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from identity.core.errors import Invalid

NOTE_MAX = 65_536
_ED25519 = b"\x01"
_NAME = re.compile(r"[^\s+]{1,200}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class HeadSigner(Protocol):
    """Port to the key that signs: its public half, and a signature over bytes (Ed25519, 64 bytes)."""

    @property
    def key(self) -> NoteKey: ...
    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key with its name; `str()` is the C2SP verifier key, `name+id+base64`, by which auditors know it."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """The first four bytes of SHA-256(name || 0x0A || 0x01 || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Raises `Invalid` (code `seal_key`) for anything but an Ed25519 verifier key."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = parse_base64(encoded)
        if raw is None or len(raw) != 33 or raw[:1] != _ED25519 or not _NAME.fullmatch(name):
            raise Invalid("This is not a verifier key (name+id+base64).", code="seal_key")
        key = cls(name, raw[1:])
        if key.id.hex() != key_id.lower():
            raise Invalid("The verifier key's id does not fit its name and key.", code="seal_key")
        return key

    def accepts(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature over the message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def signature_lines(text: str, signers: Iterable[HeadSigner]) -> str:
    """A signature line for each signer over a text that ends with a newline."""
    message = text.encode()
    return "".join(
        f"— {signer.key.name} {base64.b64encode(signer.key.id + signer.sign(message)).decode()}\n" for signer in signers
    )


def sign_note(text: str, signers: Iterable[HeadSigner]) -> str:
    """The note over a text that ends with a newline."""
    return f"{text}\n{signature_lines(text, signers)}"


def open_note(note: str, keys: Sequence[NoteKey]) -> str:
    """The signed text; raises `Invalid` (code `note`) unless one of the keys signed it.

    Signatures of unknown keys are passed over; a wrong signature of a known key refuses the note.
    """
    text, found, signatures = note.rpartition("\n\n")
    if not found or len(note) > NOTE_MAX:
        raise Invalid("This is not a signed note.", code="note")
    text += "\n"
    good = False
    for line in signatures.splitlines():
        mark, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        raw = parse_base64(encoded)
        if mark != "—" or raw is None or len(raw) < 5:
            raise Invalid("A signature line of the note is malformed.", code="note")
        for key in keys:
            if key.name == name and key.id == raw[:4]:
                if not key.accepts(text.encode(), raw[4:]):
                    raise Invalid("The note's signature is wrong.", f"key {key.id.hex()}", code="note")
                good = True
    if not good:
        raise Invalid("The note is not signed by a key that is known.", code="note")
    return text


@dataclass(frozen=True, slots=True)
class Head:
    """A tree head: the root over the first `size` leaves, as it was at a time.

    `epoch` says of which history: 0 of the first, n of that which began with the n-th restoration from a backup
    (`identity.audit.restored`); it stands in the text from the first restoration on.
    """

    origin: str
    size: int
    root: bytes
    at: datetime
    epoch: int = 0

    @property
    def text(self) -> str:
        root = base64.b64encode(self.root).decode()
        epoch = f"epoch {self.epoch}\n" if self.epoch else ""
        return f"{self.origin}\n{self.size}\n{root}\nat {stamp(self.at)}\n{epoch}"

    def note(self, signatures: bytes) -> str:
        """The signed form, from the head's signature lines."""
        return f"{self.text}\n{signatures.decode()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises `Invalid` (code `note`) for another text."""
        lines = text.split("\n")
        root = parse_base64(lines[2]) if len(lines) in {5, 6} else None
        if root is None or len(root) != 32 or not _SIZE.fullmatch(lines[1]) or not lines[3].startswith("at "):
            raise Invalid("This is not a tree head.", code="note")
        head = cls(lines[0], int(lines[1]), root, parse_time(lines[3][3:]))
        if len(lines) == 6:
            head = replace(head, epoch=parse_number(lines[4].removeprefix("epoch ")))
        if head.text != text:
            raise Invalid("This is not a tree head.", code="note")
        return head


def stored_note(row: Any) -> tuple[Head, str]:
    """A row of `AuditHead` as head and note; its origin stands in the signature lines."""
    origin = row.signature.decode().split(" ", 2)[1]
    head = Head(origin, row.size, row.root, row.at, row.epoch)
    return head, head.note(row.signature)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The sealer's word on what retention removed: the records of one class with from_at <= at < until_at.

    `count` leaves between `first_seq` and `last_seq` are theirs; `root` is the Merkle root over those leaves alone,
    in their order.
    """

    origin: str
    retention_class: str
    from_at: datetime
    until_at: datetime
    first_seq: int
    last_seq: int
    count: int
    root: bytes
    at: datetime
    reason: str

    @property
    def text(self) -> str:
        root = base64.b64encode(self.root).decode()
        lines = (
            f"{self.origin}/tombstone",
            self.retention_class,
            f"{stamp(self.from_at)} {stamp(self.until_at)}",
            f"{self.first_seq} {self.last_seq} {self.count}",
            root,
            f"at {stamp(self.at)}",
            " ".join(self.reason.split()) or "-",
        )
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Tombstone:
        """Raises `Invalid` (code `note`) for another text."""
        lines = text.split("\n")
        times = lines[2].split(" ") if len(lines) == 8 else []
        numbers = lines[3].split(" ") if len(lines) == 8 else []
        root = parse_base64(lines[4]) if len(lines) == 8 else None
        if (
            root is None
            or len(root) != 32
            or len(times) != 2
            or len(numbers) != 3
            or not all(map(_SIZE.fullmatch, numbers))
            or not lines[0].endswith("/tombstone")
        ):
            raise Invalid("This is not a tombstone.", code="note")
        first, last, count = map(int, numbers)
        start, end = map(parse_time, times)
        origin = lines[0].removesuffix("/tombstone")
        return cls(
            origin, lines[1], start, end, first, last, count, root, parse_time(lines[5].removeprefix("at ")), lines[6]
        )


def claimed_head(note: str) -> Head:
    """The head of a note whose signature is still to be checked; raises `Invalid` (code `note`) for another note."""
    return Head.parse(note.rpartition("\n\n")[0] + "\n")


def split_notes(text: str) -> list[str]:
    """The notes of an anchor file, in their order: each ends at the last of its signature lines."""
    notes, current, signed = [], "", False
    for line in text.splitlines(keepends=True):
        if signed and not line.startswith("— "):
            notes.append(current)
            current, signed = "", False
            if not line.strip():
                continue
        current += line
        signed = line.startswith("— ")
    if current.strip():
        notes.append(current)
    return notes


def stamp(at: datetime) -> str:
    """A time as it stands in notes and records: UTC, microseconds, Z; always 27 characters."""
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    begin = _second(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second)
    return f"{begin}{utc.microsecond:06d}Z"


@lru_cache(64)
def _second(year: int, month: int, day: int, hour: int, minute: int, second: int) -> str:
    """The beginning of all stamps of a second: most are asked for many times."""
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}."


def parse_time(text: str) -> datetime:
    """A time as `stamp` writes it; raises `Invalid` (code `note`) for another text."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        value = None
    if value is None or value.tzinfo is None or stamp(value) != text:
        raise Invalid("A time of the note is malformed.", code="note")
    return value


def parse_number(text: str) -> int:
    """A whole number without leading zeros; raises `Invalid` (code `note`) for another text."""
    if not _SIZE.fullmatch(text):
        raise Invalid("A number of the note is malformed.", code="note")
    return int(text)


def parse_base64(text: str) -> bytes | None:
    """The bytes, or None for what is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
