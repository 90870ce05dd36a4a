"""From a stored source to the directory that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from identity.core.errors import Invalid
from identity.directory.ldif import LdifDirectory
from identity.directory.openldap import OpenLdapDirectory
from identity.directory.reader import Directory, DirectorySettings


def open_directory(kind: str, settings: Mapping[str, Any], secret_ref: str | None) -> Directory:
    """The directory of a source; raises `Invalid` for settings that cannot be."""
    try:
        parsed = DirectorySettings.from_json(kind, settings)
    except ValueError as error:
        raise Invalid(str(error), code="directory_settings") from None
    if kind == "ldif":
        return LdifDirectory(parsed)
    return OpenLdapDirectory(parsed, _secret(secret_ref))


def _secret(reference: str | None) -> str:
    kind, _, name = (reference or "").partition(":")
    try:
        return os.environ.get(name, "") if kind == "env" else Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Invalid("The directory's secret cannot be read.", str(error), code="directory_secret") from None
