"""Names and contacts changed in the console: who may, what a directory has the say about, what comes of it there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from identity.directory.service import put_directory
from identity.people.models import PersonProfile, User
from identity.people.service_bulk import link_accounts
from identity.sync.write_back import ATTEMPTS_MAX, Writer
from tests.integration.console.conftest import Console

WHY = {"reason": "asked for", "reference": "HR-12"}
FIELDS = ("name", "family_name", "given_name", "mail", "phone")
# Nobody answers there.
SETTINGS = {"urls": ["ldap://127.0.0.1:1"], "tls": "none", "users_base": "ou=people,dc=x", "bind_dn": "cn=us,dc=x"}


def directory(console: Console, code: str, **settings: Any) -> UUID:
    with console.unit() as unit:
        values = {"name": f"Directory {code}", "kind": "openldap", "settings": SETTINGS | settings}
        row = put_directory(unit, code, values | {"secret_ref": "env:NOTHING"})
        unit.db.flush()
        return row.id


def employee(console: Console, login: str, source_id: UUID) -> UUID:
    """Somebody whom a directory names."""
    user_id = console.person(login, "staff")
    with console.unit() as unit:
        seen = {"name": login.title(), "mail": None}
        link_accounts(unit, source_id, [(f"id-{login}", user_id, f"uid={login},ou=people,dc=x", seen)])
    return user_id


def profile(console: Console, user_id: UUID) -> Mapping[str, str | None]:
    with console.database.read() as connection:
        query = select(PersonProfile.__table__).join(User, User.person_id == PersonProfile.person_id)
        row = connection.execute(query.where(User.id == user_id)).one()
    return {name: getattr(row, name) for name in FIELDS}


def shown(page: str) -> dict[str, str]:
    """What the page's form would send."""
    form = page[page.index("/profile") :]
    form = form[: form.index("</form>")]
    fields = re.findall(r'<input (?:type="hidden" )?name="(\w+)" value="([^"]*)"([^>]*)>', form)
    return {name: unescape(value) for name, value, more in fields if "disabled" not in more} | WHY


def test_a_local_person_is_changed_with_a_reason(console: Console) -> None:
    user_id, admin = console.person("local", "staff"), console.visitor("secadmin")
    address = f"/admin/users/{user_id}"
    form = shown(admin.get(address).text)
    assert admin.post(f"{address}/profile", **form | {"mail": "a@b.example", "reason": ""}).status_code == 400
    assert profile(console, user_id)["mail"] is None
    for value in ("a\u200bb", "x" * 257):
        assert admin.post(f"{address}/profile", **form | {"name": value}).status_code == 400
    assert admin.post(f"{address}/profile", **form | {"name": " "}).status_code == 400
    assert admin.post(f"{address}/profile", **form | {"mail": "a@b.example", "name": " 张\t 三 "}).status_code == 303
    assert profile(console, user_id) == dict.fromkeys(FIELDS) | {"mail": "a@b.example", "name": "张 三"}
    [record] = [one for one in console.records() if one["kind"] == "people.profile.changed"]
    assert (record["why"], record["reference"], record["data"]["fields"]) == ("asked for", "HR-12", ["mail", "name"])
    assert "a@b.example" not in str(record)
    assert admin.post(f"{address}/profile", **form | {"mail": "late@b.example"}).status_code == 409, "the form is old"
    assert admin.post(f"{address}/profile", **form | {"phone": "1"}).status_code == 303, "of another field it is not"
    assert profile(console, user_id) | {"mail": "a@b.example", "phone": "1"} == profile(console, user_id)


@pytest.mark.case("ID-05")
def test_nobody_gets_the_mail_address_or_the_login_of_another_as_his_own(console: Console) -> None:
    owner, other = console.person("owner", "staff"), console.person("other", "staff")
    console.person("boss@b.example", "staff")
    admin = console.visitor("secadmin")
    for user_id, mail, status in (
        (owner, "owner@b.example", 303),
        (other, "OWNER@B.example", 409),
        (other, "Boss@b.example", 409),
        (other, "other@b.example", 303),
        (owner, "Owner@b.example", 303),
    ):
        form = shown(admin.get(f"/admin/users/{user_id}").text)
        assert admin.post(f"/admin/users/{user_id}/profile", **form | {"mail": mail}).status_code == status, mail
    assert profile(console, other)["mail"] == "other@b.example"


def test_what_the_directory_says_is_changed_where_it_lets_us(console: Console) -> None:
    source_id = directory(console, "plain", write_back=["mail"])
    user_id, admin = employee(console, "named", source_id), console.visitor("secadmin")
    address = f"/admin/users/{user_id}"
    page = admin.get(address).text
    form = shown(page)
    assert set(form) & set(FIELDS) == {"mail"}
    assert page.count("Changed in Directory plain only") == 4
    forged = form | {"name": "Forged", "was_name": "Named"}
    assert admin.post(f"{address}/profile", **forged).status_code == 409
    assert admin.post(f"{address}/profile", **form | {"mail": "named@b.example"}).status_code == 303
    assert (profile(console, user_id)["name"], profile(console, user_id)["mail"]) == ("Named", "named@b.example")
    assert "is being written to Directory plain" in admin.get(address).text
    assert "1 on the way" in admin.get("/admin/sync").text
    assert "named@b.example" in console.visitor("auditor").get("/admin/sync/plain/write-back").text


def test_what_was_not_written_is_written_again_or_dropped_by_the_system_administrator(console: Console) -> None:
    source_id = directory(console, "away", write_back=["mail", "phone"])
    user_id, admin = employee(console, "waiting", source_id), console.visitor("secadmin")
    address, place = f"/admin/users/{user_id}", "/admin/sync/away/write-back"
    form = shown(admin.get(address).text)
    assert admin.post(f"{address}/profile", **form | {"mail": "waiting@b.example", "phone": "1"}).status_code == 303
    writer, system = Writer(console.units), console.visitor("sysadmin")
    writer.run(datetime.now(UTC) + timedelta(minutes=1))
    waiting = system.get(place).text
    assert "Tried 1 times" in waiting
    assert 'name="act"' not in waiting
    for hour in range(ATTEMPTS_MAX):
        writer.run(datetime.now(UTC) + timedelta(hours=2 * hour + 2))
    writer.close()
    page = system.get(place).text
    assert "The directory cannot be reached." in page
    assert "was not written to Directory away" in admin.get(address).text
    one, other = re.findall(rf'action="({place}/[0-9a-f-]+)"', page)
    assert admin.post(one, act="retry", **WHY).status_code == 403
    assert system.post(one, act="retry").status_code == 400
    assert system.post(one, act="other", **WHY).status_code == 400
    assert system.post(one.replace("away", "plain"), act="retry", **WHY).status_code == 404
    assert system.post(one, act="retry", **WHY).status_code == 303
    assert system.post(one, act="drop", **WHY).status_code == 409, "it waits again"
    assert system.post(other, act="drop", **WHY).status_code == 303
    assert system.get(place).text.count("<tr><th") == 1 + 1
    told = [one for one in console.records() if one["kind"] in {"sync.write_back.retried", "sync.write_back.dropped"}]
    assert [(one["why"], one["data"]["login"]) for one in told] == [("asked for", "waiting")] * 2


def test_the_fields_are_chosen_by_the_system_administrator(console: Console) -> None:
    directory(console, "chosen", attributes={"phone": None})
    place, system = "/admin/sync/chosen/write-back", console.visitor("sysadmin")
    page = system.get(place).text
    assert page.count(" checked") == 0, "everything is off"
    assert 'by dn.exact="cn=us,dc=x" write' in unescape(page)
    for fields in ("phone", "employee_number"):
        assert system.post(place, fields=fields, **WHY).status_code == 400
    assert system.post(place, fields="mail").status_code == 400, "without a reason"
    assert system.post(place, fields="mail", **WHY).status_code == 303
    assert system.get(place).text.count(" checked") == 1
    [record] = [one for one in console.records() if one["kind"] == "sync.directory.changed" and one.get("why")]
    assert (record["before"], record["after"]) == ({"write_back": []}, {"write_back": ["mail"]})
    assert console.visitor("secadmin").post(place, fields="mail", **WHY).status_code == 403
    directory(console, "filed", write_back=[])
    filed = "/admin/sync/filed/write-back"
    assert "The configuration file says what is written back." in system.get(filed).text
    assert system.post(filed, fields="mail", **WHY).status_code == 409


@pytest.mark.parametrize("kind", ["ldif", "active_directory"])
def test_a_page_says_what_a_directory_needs(console: Console, kind: str) -> None:
    settings: dict[str, Any] = {"path": "x.ldif"} if kind == "ldif" else SETTINGS
    with console.unit() as unit:
        values = {"name": kind, "kind": kind, "settings": settings, "secret_ref": None}
        put_directory(unit, kind.replace("_", "-"), values)
    page = unescape(console.visitor("sysadmin").get(f"/admin/sync/{kind.replace('_', '-')}/write-back").text)
    assert ("A file is only read." in page) is (kind == "ldif")
    assert ('/G "cn=us,dc=x:WP;displayName;user"' in page) is (kind == "active_directory")
