"""What a record says, as a sentence in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from identity.audit.kinds import SENTENCES
from identity.core.i18n import gettext


def sentence(body: Mapping[str, Any], person: str | None = None) -> str:
    """The record's sentence; `person` is the name of the person whom it is about, if the reader may see it."""
    data = body.get("data", {})
    words: dict[str, Any] = {
        "actor": body.get("actor", {}).get("name"),
        "person": person or body.get("person"),
        "application": body.get("application"),
        "action": body.get("action"),
        "object": body.get("resource_id"),
        "resource": " ".join(filter(None, (body.get("resource_type"), body.get("resource_id")))),
        "login": data.get("login"),
        "group": data.get("group"),
    }
    template = SENTENCES.get(body["kind"], body["kind"])
    return gettext(template).format_map({name: value or gettext("somebody") for name, value in words.items()})
