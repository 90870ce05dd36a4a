"""Set a row's columns and know what they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def set_values(row: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Set what differs; the values that it had before, empty when nothing did."""
    before = {name: getattr(row, name) for name, value in values.items() if getattr(row, name) != value}
    for name in before:
        setattr(row, name, values[name])
    return before
