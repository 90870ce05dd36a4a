"""From a stored source to the directory that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from identity.core.errors import Invalid
from identity.directory.active_directory import ActiveDirectory
from identity.directory.ldif import LdifDirectory
from identity.directory.openldap import OpenLdapDirectory
from identity.directory.reader import Directory
from identity.directory.settings import DirectorySettings
from identity.directory.table import TableDirectory


def open_directory(kind: str, settings: Mapping[str, Any], secret_ref: str | None) -> Directory:
    """The directory of a source; raises `Invalid` for settings that cannot be."""
    parsed = DirectorySettings.load(kind, settings)
    if parsed.kind == "ldif":
        return LdifDirectory(parsed)
    if parsed.kind in {"csv", "xlsx"}:
        return TableDirectory(parsed)
    if parsed.kind == "active_directory":
        return ActiveDirectory(parsed, read_secret(secret_ref))
    return OpenLdapDirectory(parsed, read_secret(secret_ref))


def read_secret(reference: str | None) -> str:
    """The bind secret that a `file:` or `env:` reference names; raises `Invalid` when it cannot be read."""
    kind, _, name = (reference or "").partition(":")
    try:
        return os.environ.get(name, "") if kind == "env" else Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Invalid("The directory's secret cannot be read.", str(error), code="directory_secret") from None
