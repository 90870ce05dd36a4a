"""Payloads of what is done with the proof (`identity.audit.payloads`)."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class EvidenceAsked(TypedDict):
    """The search form's fields, and whether the personal values are wanted too."""

    filter: dict[str, str]
    personal: bool


class EvidenceMade(TypedDict):
    """Size of the pack and of the head that proves it, its SHA-256, and the key of its manifest (name+id+base64)."""

    records: int
    head_size: NotRequired[int]
    sha256: NotRequired[str]
    signed_by: NotRequired[str]


class EvidenceRead(TypedDict):
    """Which pack was downloaded."""

    records: int
    sha256: str


class HistoryRestored(TypedDict):
    """The history's number, how many records it keeps and how many sealed ones are lost, the times of the backup and of
    the last head over what was lost, who says so, and the SHA-256 of the signed statement."""

    epoch: int
    kept: int
    lost: int
    backup: str
    last_head: str
    by: str
    statement: str
