"""Tables as a source: strict, bounded, and what people write in them."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from identity.core.errors import Invalid
from identity.directory import tables
from identity.directory.dn import parse
from identity.directory.reader import ReadIncomplete, Reading
from identity.directory.settings import DirectorySettings
from identity.directory.table import TableDirectory
from tests.integration.sync.tables import workbook


def directory(path: Path, kind: str = "csv", **settings: Any) -> TableDirectory:
    return TableDirectory(DirectorySettings.load(kind, {"path": str(path), **settings}))


def read(folder: Path, text: str | bytes, **settings: Any) -> Reading:
    path = folder / "people.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory(path, **settings).read()


def test_quoted_cells_empty_lines_and_the_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = '\ufeffid,login,name,valid_until,Note\r\n\r\n1,lisi,"李 ""四"", 经理",2026-11-30,x\r\n'
    (entry,) = read(tmp_path, text).entries
    assert (entry.immutable_id, entry.first("login"), entry.first("name")) == ("1", "lisi", '李 "四", 经理')
    assert entry.valid_until == datetime(2026, 11, 30, 16, tzinfo=UTC)
    assert entry.dn == "uid=1,ou=people"


def test_files_of_a_chinese_excel_are_read_when_the_settings_say_so(tmp_path: Path) -> None:
    text = "id;login;name\n1;lisi;李四\n".encode("gb18030")
    (entry,) = read(tmp_path, text, encoding="gb18030", delimiter=";").entries
    assert entry.first("name") == "李四"
    with pytest.raises(Invalid, match="line 2: not utf-8"):
        read(tmp_path, text, delimiter=";")


@pytest.mark.case("LD-24")
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id,login\n1,a\n1,b\n", "line 3: the same id"),
        ("id,login\n,a\n", "line 2: has no id"),
        ("id,login,LOGIN\n1,a,b\n", "a column stands twice"),
        ("id,login\n1,a,b\n", "line 2: more cells"),
        ("id,login\n1\n", "line 2: fewer cells"),
        ('id,login\n1,"a\n', "line 2"),
        ('id,login\n1,"a"b\n', "line 2"),
        ("id,login,valid_until\n1,a,soon\n", "line 2"),
        (b"id,login\n1,\xff\n", "line 2: not utf-8"),
    ],
)
def test_the_first_bad_line_is_named_and_nothing_is_taken(tmp_path: Path, text: str | bytes, fault: str) -> None:
    with pytest.raises(Invalid, match=fault):
        read(tmp_path, text)


def test_a_table_without_people_or_file_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(ReadIncomplete):
        read(tmp_path, "id,login\n")
    with pytest.raises(ReadIncomplete):
        read(tmp_path, "")
    with pytest.raises(ReadIncomplete):
        directory(tmp_path / "nowhere.csv").read()


def test_members_and_parents_that_are_not_there_are_named(tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("id,login,manager\n1,a,b\n2,b,\n")
    (tmp_path / "g.csv").write_text("id,name,members\nx,staff,a;@boss;2\ny,boss,b\n")
    (tmp_path / "d.csv").write_text("id,code,parent\n1,RD,\n2,SW,RD\n")
    found = directory(people, tables={"groups": "g.csv", "departments": "d.csv"})
    entries = {(one.kind, one.immutable_id): one for one in found.read().entries}
    assert entries["group", "x"].members == ("uid=1,ou=people", "cn=y,ou=groups", "uid=2,ou=people")
    assert entries["user", "1"].first("manager") == "uid=2,ou=people"
    assert entries["department", "2"].dn == "ou=sw,ou=rd,ou=departments"
    (tmp_path / "g.csv").write_text("id,name,members\nx,staff,a;nobody\n")
    with pytest.raises(Invalid, match="there is no 'nobody'"):
        found.read()
    (tmp_path / "g.csv").write_text("id,name,members\n")
    (tmp_path / "d.csv").write_text("id,code,parent\n1,RD,SW\n2,SW,RD\n")
    with pytest.raises(Invalid, match="hangs below itself"):
        found.read()


def test_keys_and_names_cannot_leave_their_place_in_a_dn(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, 'id,login\n"1,ou=admins+cn=\\x","a"\n').entries
    assert parse(entry.dn)[1:] == ("ou=people",)
    with pytest.raises(Invalid, match="plain name"):
        directory(tmp_path / "x.csv", tables={"groups": "../secret.csv"})


def test_a_workbook_is_read_by_its_sheets(tmp_path: Path) -> None:
    path = tmp_path / "people.xlsx"
    workbook(path, {"人员": [["id", "login"], ["1", "lisi"]], "groups": [["id", "name", "members"], ["g", "s", "1"]]})
    found = directory(path, "xlsx", tables={"users": "人员", "groups": "groups"}).read()
    assert [one.kind for one in found.entries] == ["user", "group"]
    assert directory(path, "xlsx", tables={"users": "人员"}).read(found.cursor).entries == ()
    with pytest.raises(Invalid, match="there is no sheet 'users'"):
        directory(path, "xlsx").read()


@pytest.mark.case("DO-13")
def test_bombs_document_types_and_nonsense_are_no_workbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "people.xlsx"
    path.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(Invalid, match="not a workbook"):
        directory(path, "xlsx").read()
    workbook(path, {"users": [["id", "login"], ["1", "lisi"]]})
    with zipfile.ZipFile(path, "a") as parts:
        parts.writestr("xl/extra.xml", b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y "z">]><x/>')
    with pytest.raises(Invalid, match="DOCTYPE"):
        directory(path, "xlsx").read()
    workbook(path, {"users": [["id", "login"], ["1", "a" * 3_000_000]]})
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(tables, "UNPACKED_MAX", 1_000_000)
    with pytest.raises(Invalid, match="unpacks to more"):
        directory(path, "xlsx").read()


@pytest.mark.parametrize(
    ("cell", "text"),
    [(1001.0, "1001"), (1.5, "1.5"), (True, "true"), (None, ""), (datetime(2026, 1, 2), "2026-01-02")],
)
def test_cells_become_what_they_mean(cell: Any, text: str) -> None:
    assert tables._text(cell) == text
