"""The anchors that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from identity.audit.anchors import Anchor, FileAnchor, LeafLog, MailAnchor, WebhookAnchor
from identity.audit.seal import Outside
from identity.audit.timestamp import TimestampAnchor
from identity.core.settings import Settings


def anchor_path(settings: Settings) -> Path:
    """The anchor file."""
    return settings.audit_anchor_file or settings.tessera_var / "audit-anchor.txt"


def leaf_log(settings: Settings) -> LeafLog | None:
    """The leaf log beside it, if it is kept."""
    if not settings.audit_anchor_leaves:
        return None
    path = anchor_path(settings)
    return LeafLog(path.with_name(f"{path.name}.leaves"))


def outside(settings: Settings, mail: Callable[[str, str], None]) -> Outside:
    """Where heads go; `mail(subject, text)` sends to the configured address."""
    others: list[Anchor] = []
    if settings.audit_anchor_webhook:
        others.append(WebhookAnchor(settings.audit_anchor_webhook))
    if settings.audit_anchor_mail:
        others.append(MailAnchor(mail))
    if settings.audit_anchor_tsa and settings.audit_anchor_tsa_roots:
        others.append(TimestampAnchor(settings.audit_anchor_tsa, settings.audit_anchor_tsa_roots))
    return Outside(FileAnchor(anchor_path(settings)), leaf_log(settings), tuple(others))
