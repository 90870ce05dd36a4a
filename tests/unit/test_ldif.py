"""LDIF is read strictly: a bad line is named and nothing is taken."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from identity.core.errors import Invalid
from identity.directory.entries import clean, parse_end
from identity.directory.ldif import LdifDirectory
from identity.directory.reader import ReadIncomplete, Reading
from identity.directory.settings import DirectorySettings

GOOD = "dn: uid=a,dc=x\nobjectClass: inetOrgPerson\nuid: a\nentryUUID: 1\n"


def read(tmp_path: Path, content: str | bytes) -> Reading:
    path = tmp_path / "people.ldif"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return LdifDirectory(DirectorySettings.load("ldif", {"path": str(path)})).read()


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.case("LD-05")
@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("uid: a\n", 1),
        (f"{GOOD}nonsense\n", 5),
        (f"{GOOD}: empty name\n", 5),
        (f"{GOOD}cn:: not base64!\n", 5),
        (f"{GOOD}jpegPhoto:< file:///etc/passwd\n", 5),
        (f"{GOOD}\n{GOOD}", 6),
        (f"{GOOD}\n{GOOD.replace('uid=a', 'uid=b')}", 6),
        (f"{GOOD}dn: uid=b,dc=x\n", 5),
        ("dn: uid=a,dc=x\nchangetype: delete\n", 2),
        (GOOD.replace("dn: uid=a,dc=x", "dn: uid=a,,dc=x"), 1),
        (f"{GOOD}member:: {b64(bytes([255]))}\n", 5),
        (GOOD.encode() + b"cn: \xff\xfe\n", 5),
        (f"# note\nversion: 1\n\n{GOOD}\n\nuid: b\n", 10),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(tmp_path: Path, content: str | bytes, line: int) -> None:
    with pytest.raises(Invalid, match=rf"people\.ldif, line {line}: "):
        read(tmp_path, content)


@pytest.mark.case("LD-22")
def test_values_come_clean_and_what_is_no_text_is_left_out_by_name(tmp_path: Path) -> None:
    name = "张\r\n三\u202e <b>".encode()
    lines = (
        f"displayName:: {b64(name)}\n"
        f"sn:: {b64(bytes([0xC0, 0x80]))}\n"
        f"title: {'x' * 5_000}\n"
        "o: XH\n 01\n"
        "description: a\u2028b\n"
    )
    entry = read(tmp_path, GOOD + lines.replace("o: XH\n 01", "o: XH\r\n 01\r")).entries[0]
    assert entry.first("displayName") == "张 三 <b>"
    assert entry.first("o") == "XH01"
    assert entry.first("sn") is None
    assert set(entry.skipped) == {"sn", "title"}


def test_a_file_without_users_or_without_a_file_is_no_answer(tmp_path: Path) -> None:
    for content in ("", "version: 1\n", "dn: cn=g,dc=x\nobjectClass: groupOfNames\ncn: g\n"):
        with pytest.raises(ReadIncomplete):
            read(tmp_path, content)
    with pytest.raises(ReadIncomplete):
        LdifDirectory(DirectorySettings.load("ldif", {"path": str(tmp_path / "none")})).read()


@pytest.mark.parametrize(
    ("value", "end"),
    [
        ("20261231235959Z", "2026-12-31T23:59:59+00:00"),
        ("20261231235959.0Z", "2026-12-31T23:59:59+00:00"),
        ("2026-12-31", "2026-12-31T16:00:00+00:00"),
        ("20261231", "2026-12-31T16:00:00+00:00"),
        ("133485408000000000", "2024-01-01T00:00:00+00:00"),
        ("0", None),
        ("9223372036854775807", None),
    ],
)
def test_an_end_is_read_in_each_of_its_forms(value: str, end: str | None) -> None:
    found = parse_end(value, "Asia/Shanghai")
    assert (found.isoformat() if found else None) == end


@pytest.mark.parametrize("value", ["soon", "2026-13-01", "31.12.2026", "20261399"])
def test_an_end_that_cannot_be_read_is_not_for_ever(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_end(value, "Asia/Shanghai")


def test_clean_keeps_ordinary_text() -> None:
    assert [clean(one) for one in (b"abc", "李四 (IT)".encode(), b"  a  b ", b"", b" ")] == [
        *("abc", "李四 (IT)", "a  b"),
        None,
        None,
    ]
