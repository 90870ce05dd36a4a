"""What is peculiar to Active Directory, against a Samba domain controller."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from identity.directory.active_directory import ActiveDirectory, judge
from identity.directory.reader import Reading
from identity.directory.settings import DirectorySettings
from tests.integration.sync.sources import SambaSource
from tests.servers.samba import Samba
from tests.world import PASSWORD


@pytest.fixture
def domain(samba: Samba) -> Iterator[SambaSource]:
    source = SambaSource(samba)
    for login in ("zhangsan", "lisi", "wangwu"):
        source.add(login, displayName=login, department="RD")
    source.department("RD", "研发部", company="XH01")
    source.group("staff", "zhangsan", "lisi")
    yield source
    source.clear()


def directory(source: SambaSource, **settings: Any) -> ActiveDirectory:
    values = source.settings() | settings
    return ActiveDirectory(DirectorySettings.load("active_directory", values), source.secret)


def by_login(reading: Reading) -> dict[str, Any]:
    return {one.first("sAMAccountName"): one for one in reading.entries if one.kind == "user"}


def members(reading: Reading, name: str) -> set[str]:
    group = next(one for one in reading.entries if one.kind == "group" and one.first("sAMAccountName") == name)
    return {one.partition(",")[0].removeprefix("cn=") for one in group.members}


@pytest.mark.case("SY-12")
@pytest.mark.parametrize("mode", ["dirsync", "usn"])
def test_what_changed_moved_or_was_deleted_is_read_alone(domain: SambaSource, mode: str) -> None:
    found = directory(domain)
    first = found.read()
    assert first.complete
    assert first.cursor["mode"] == "dirsync"
    ids = {login: one.immutable_id for login, one in by_login(first).items()}
    cursor = dict(first.cursor)
    if mode == "usn":
        del cursor["dirsync"]
    assert found.read(cursor).entries == ()
    domain.change("lisi", displayName="李四")
    domain.group("staff", "lisi")
    domain.remove("wangwu")
    domain.modify(domain.user_dn("zhangsan"), "delete")
    domain.add("zhaoliu", displayName="赵六")
    second = found.read(cursor)
    assert not second.complete
    assert set(by_login(second)) >= {"lisi", "zhaoliu"}
    assert by_login(second)["lisi"].first("displayName") == "李四"
    assert {ids["wangwu"], ids["zhangsan"]} <= second.gone
    assert members(second, "staff") == {"lisi"}
    third = found.read(second.cursor)
    assert (third.entries, third.gone) == ((), frozenset())


def test_numbers_of_another_controller_and_renamed_units_make_it_read_everything(domain: SambaSource) -> None:
    found = directory(domain)
    cursor = dict(found.read().cursor)
    del cursor["dirsync"]
    other = cursor | {"invocation": "00000000-0000-0000-0000-000000000001"}
    assert found.read(other).complete
    domain.modify(domain.people, "modrdn", "newrdn: OU=staff\ndeleteoldrdn: 1\n")
    renamed = directory(domain, users_base=f"OU=staff,{domain.base}").read(cursor)
    assert renamed.complete
    assert all(",ou=staff," in one.dn for one in by_login(renamed).values())


@pytest.mark.case("LD-19")
def test_the_primary_group_counts_as_a_membership(domain: SambaSource) -> None:
    found = directory(domain)
    first = found.read()
    domain.group("core", "zhangsan", "wangwu")
    sid = domain.server.rid(f"CN=core,{domain.groups}")
    domain.change("wangwu", primaryGroupID=str(sid))
    whole, changed = found.read(), found.read(first.cursor)
    for reading in (whole, changed):
        assert members(reading, "core") == {"zhangsan", "wangwu"}, "though member no longer names wangwu"


@pytest.mark.case("LD-15")
def test_account_control_and_expiry_become_state_and_end(domain: SambaSource) -> None:
    domain.disable("lisi")
    domain.change("wangwu", accountExpires="133485408000000000")
    people = by_login(directory(domain).read())
    assert (people["lisi"].disabled, people["zhangsan"].disabled) == (True, False)
    assert people["wangwu"].valid_until == datetime(2024, 1, 1, tzinfo=UTC)
    assert people["zhangsan"].valid_until is None


@pytest.mark.case("LD-15", "LD-16")
@pytest.mark.parametrize("tls", ["ldaps", "starttls"])
def test_a_bind_says_why_it_is_refused(domain: SambaSource, tls: str) -> None:
    server = domain.server
    found = directory(domain, tls=tls, urls=[server.tls_url if tls == "ldaps" else server.url])
    domain.disable("lisi")
    domain.change("wangwu", accountExpires="133485408000000000")
    domain.add("zhaoliu")
    domain.change("zhaoliu", pwdLastSet="0")
    ids = {login: one.immutable_id for login, one in by_login(found.read()).items()}
    answers = {login: found.bind("", key, PASSWORD) for login, key in ids.items()}
    assert answers == {"zhangsan": "ok", "lisi": "disabled", "wangwu": "expired", "zhaoliu": "must_change"}
    assert [found.bind("", key, "wrong") for key in ids.values()] == ["wrong_password"] * 4
    assert found.bind("", "00000000-0000-0000-0000-000000000000", PASSWORD) == "wrong_password"
    found.close()


def test_the_domain_says_when_it_locks(domain: SambaSource) -> None:
    domain.server.lockout(threshold=3)
    found = directory(domain)
    try:
        assert found.lockout() == (3, 1_800)
        key = by_login(found.read())["lisi"].immutable_id
        for _ in range(3):
            assert found.bind("", key, "wrong") == "wrong_password"
        assert found.bind("", key, PASSWORD) == "locked"
    finally:
        domain.server.lockout(threshold=0)
        found.close()


@pytest.mark.case("LD-16")
@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        *(("525", "wrong_password"), ("52e", "wrong_password"), ("530", "denied"), ("531", "denied")),
        *(("532", "must_change"), ("533", "disabled"), ("701", "expired"), ("773", "must_change"), ("775", "locked")),
    ],
)
def test_every_code_of_a_refused_bind_has_its_meaning(code: str, meaning: str) -> None:
    message = f"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {code}, v1db1"
    assert judge({"result": 49, "message": message}) == meaning
    assert judge({"result": 49, "message": ""}) == "wrong_password"
    assert judge({"result": 51, "message": message}) == "unavailable"
    assert judge({"result": 52, "message": message}) == "unavailable"
    assert judge({"result": 53, "message": message}) == "unwilling"
    assert judge({"result": 19, "message": message}) == "unwilling"
