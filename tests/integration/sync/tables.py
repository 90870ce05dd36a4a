"""The small company as tables, written anew at each change: CSV files, or one workbook."""

from __future__ import annotations

import csv
import uuid
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.integration.sync.sources import ARGON2

NAMES = {
    "displayName": "name",
    "departmentNumber": "department",
    "o": "company",
    "title": "position",
    "employeeNumber": "employee_number",
}
USERS = (
    *("id", "login", "name", "mail", "company", "department", "position", "employee_number", "manager", "disabled"),
    *("valid_until", "password_hash"),
)
GROUPS = ("id", "name", "members")
DEPARTMENTS = ("id", "code", "name", "company", "parent")


class TableSource:
    """`kind` is csv or xlsx."""

    secret = ""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.path = folder / f"people.{kind}"
        self._users: dict[str, dict[str, str]] = {}
        self._gone: dict[str, dict[str, str]] = {}
        self._groups: dict[str, dict[str, str]] = {}
        self._units: dict[str, dict[str, str]] = {}
        self.write()

    def settings(self) -> dict[str, Any]:
        names = {"groups": "groups", "departments": "departments"}
        if self.kind == "csv":
            names = {name: f"{name}.csv" for name in names}
        return {"path": str(self.path), "tables": names}

    def add(self, login: str, **attributes: str) -> None:
        self._users[login] = {"id": str(uuid.uuid4()), "password_hash": ARGON2}
        self.change(login, **attributes)

    def change(self, login: str, **attributes: str) -> None:
        self._users[login] |= {NAMES.get(name, name): value for name, value in attributes.items()}
        self.write()

    def user_dn(self, login: str) -> str:
        return login

    def rename(self, login: str, new: str) -> None:
        self._users = {new if name == login else name: values for name, values in self._users.items()}
        for group in self._groups.values():
            group["members"] = ";".join(new if one == login else one for one in group["members"].split(";"))
        for values in self._users.values():
            if values.get("manager") == login:
                values["manager"] = new
        self.write()

    def disable(self, login: str) -> None:
        self.change(login, disabled="true")

    def enable(self, login: str) -> None:
        self.change(login, disabled="")

    def remove(self, login: str) -> None:
        self._gone[login] = self._users.pop(login)
        for group in self._groups.values():
            group["members"] = ";".join(one for one in group["members"].split(";") if one != login)
        self.write()

    def restore(self, login: str) -> None:
        self._users[login] = self._gone.pop(login)
        self.write()

    def group(self, name: str, *members: str) -> None:
        row = self._groups.setdefault(name, {"id": str(uuid.uuid4()), "name": name})
        row["members"] = ";".join(members)
        self.write()

    def department(self, code: str, name: str, company: str | None = None, under: str | None = None) -> None:
        key = str(uuid.uuid5(uuid.NAMESPACE_DNS, code))
        row = {"id": key, "code": code, "name": name, "company": company or "", "parent": under or ""}
        self._units[code] = row
        self.write()

    def write(self) -> None:
        users = [{"login": login, **values} for login, values in self._users.items()]
        tables = {
            "users": (USERS, users),
            "groups": (GROUPS, list(self._groups.values())),
            "departments": (DEPARTMENTS, list(self._units.values())),
        }
        rows = {
            name: [list(columns), *([row.get(one, "") for one in columns] for row in found)]
            for name, (columns, found) in tables.items()
        }
        if self.kind == "xlsx":
            workbook(self.path, rows)
            return
        for name, lines in rows.items():
            path = self.path if name == "users" else self.path.with_name(f"{name}.csv")
            with path.open("w", encoding="utf-8-sig", newline="") as out:
                csv.writer(out).writerows(lines)


def workbook(path: Path, sheets: dict[str, list[list[str]]]) -> None:
    """A workbook of these sheets, every cell a text of its own."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    listed = linked = typed = ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts:
        for n, (name, rows) in enumerate(sheets.items(), 1):
            listed += f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>'
            linked += f'<Relationship Id="rId{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            typed += f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{types}.worksheet+xml"/>'
            lines = "".join(
                "<row>" + "".join(f'<c t="inlineStr"><is><t>{escape(cell)}</t></is></c>' for cell in row) + "</row>"
                for row in rows
            )
            sheet = f"<worksheet {space}><sheetData>{lines}</sheetData></worksheet>"
            parts.writestr(f"xl/worksheets/sheet{n}.xml", sheet)
        book = f'<workbook {space} xmlns:r="{office}"><sheets>{listed}</sheets></workbook>'
        parts.writestr("xl/workbook.xml", book)
        parts.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships">{linked}</Relationships>'
        )
        first = f'<Relationship Id="r" Type="{office}/officeDocument" Target="xl/workbook.xml"/>'
        parts.writestr("_rels/.rels", f'<Relationships xmlns="{package}/relationships">{first}</Relationships>')
        main = f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
        parts.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types">{main}{typed}</Types>')
