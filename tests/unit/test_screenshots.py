"""The pictures in the documents are those that `python -m tests.screenshots` makes, and small."""

from __future__ import annotations

import struct

from tests import screenshots


def test_the_folder_holds_each_kept_page_in_both_languages_and_widths() -> None:
    found = {one.name: one for one in screenshots.FOLDER.glob("*.png")}
    assert found.keys() == screenshots.names()
    for name, path in found.items():
        data = path.read_bytes()
        assert len(data) < screenshots.LARGEST, f"{name} has {len(data)} bytes"
        width, _height = struct.unpack(">II", data[16:24])
        assert name.endswith(f"-{width}.png")
