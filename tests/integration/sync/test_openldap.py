"""The LDAP reader against servers that are broken, hostile, or lie in wait; without a Tessera beside it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity.core.errors import Invalid, Unavailable
from identity.directory.connection import LdapServers
from identity.directory.openldap import OpenLdapDirectory
from identity.directory.reader import ReadIncomplete
from identity.directory.settings import DirectorySettings
from tests.integration.sync.sources import PEOPLE, SlapdSource, user_dn
from tests.servers.fault import Canned, Proxy, ldap_result
from tests.servers.pki import Authority
from tests.servers.slapd import ADMIN_DN, ADMIN_PASSWORD, SUFFIX, Slapd, loopback
from tests.world import PASSWORD

SYNC_DN = f"cn=sync,{SUFFIX}"
BIND, STARTTLS = 0x61, 0x78


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SlapdSource]:
    with Slapd(tmp_path / "slapd") as slapd:
        source = SlapdSource(slapd)
        for login in ("zhangsan", "lisi", "wangwu"):
            source.add(login, displayName=login)
        source.group("staff", "zhangsan", "lisi")
        slapd.add(
            f"dn: {SYNC_DN}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\nuserPassword: sync\n"
        )
        yield source


def directory(source: SlapdSource, secret: str = ADMIN_PASSWORD, **settings: Any) -> OpenLdapDirectory:
    values = source.settings() | {"connect_timeout_s": 1, "login_timeout_s": 1, "page_timeout_s": 1} | settings
    return OpenLdapDirectory(DirectorySettings.load("openldap", values), secret)


def uuid_of(source: SlapdSource, login: str) -> str:
    found = source.slapd.search(user_dn(login), "entryUUID")
    return next(line.split(" ")[1] for line in found.splitlines() if line.startswith("entryUUID"))


def bind(found: OpenLdapDirectory, source: SlapdSource, login: str, password: str) -> str:
    try:
        return found.bind(user_dn(login), uuid_of(source, login), password)
    finally:
        found.close()


def limited(source: SlapdSource, config: str) -> None:
    """Restart slapd with these lines at the end of its database's configuration."""
    source.slapd.stop()
    source.slapd.start(config)


@pytest.mark.case("LD-20", "RF-25")
@pytest.mark.parametrize("page_size", [1, 500])
def test_a_size_limit_is_no_answer(server: SlapdSource, page_size: int) -> None:
    limited(server, f'access to * by * read\nlimits dn.exact="{SYNC_DN}" size=2 size.prtotal=2\n')
    with pytest.raises(ReadIncomplete):
        directory(server, "sync", bind_dn=SYNC_DN, page_size=page_size).read()


@pytest.mark.case("SY-01", "RF-25")
def test_an_account_that_lost_its_rights_reads_nothing(server: SlapdSource) -> None:
    limited(server, "access to attrs=userPassword by anonymous auth\naccess to * by * none\n")
    with pytest.raises(ReadIncomplete):
        directory(server, "sync", bind_dn=SYNC_DN).read()


@pytest.mark.case("SY-01")
def test_a_base_that_is_gone_is_no_answer(server: SlapdSource) -> None:
    with pytest.raises(ReadIncomplete):
        directory(server, groups_base=f"ou=nowhere,{SUFFIX}").read()


@pytest.mark.case("LD-21", "RF-25")
def test_a_server_that_dies_between_pages_is_no_answer(server: SlapdSource) -> None:
    address = server.slapd.address, 1389
    with Proxy(address) as whole:
        assert len(directory(server, urls=[whole.url], page_size=1).read().entries) == 4
    for cut in (200, 500, 900):
        with Proxy(address, cut_after=cut) as cutting, pytest.raises(Unavailable):
            directory(server, urls=[cutting.url], page_size=1).read()


@pytest.mark.case("LD-13", "RF-22")
def test_a_directory_that_hangs_or_drips_is_left_at_the_deadline(server: SlapdSource) -> None:
    one = directory(server)
    assert bind(one, server, "lisi", PASSWORD) == "ok"
    key = uuid_of(server, "lisi")
    with Proxy((server.slapd.address, 1389), drip_s=0.2) as dripping:
        assert directory(server, urls=[dripping.url]).bind("", key, PASSWORD) == "unavailable"
        with pytest.raises(Unavailable):
            directory(server, urls=[dripping.url]).read()
    server.slapd.send(signal.SIGSTOP)
    assert one.bind("", key, PASSWORD) == "unavailable"
    with pytest.raises(Unavailable):
        one.read()
    server.slapd.send(signal.SIGCONT)
    assert one.bind("", key, PASSWORD) == "ok"
    one.close()


@pytest.mark.case("LD-14")
def test_a_kept_connection_carries_nobodys_identity_to_the_next(server: SlapdSource) -> None:
    found = directory(server)
    keys = {login: uuid_of(server, login) for login in ("lisi", "wangwu")}
    for _ in range(3):
        assert found.bind("", keys["lisi"], PASSWORD) == "ok"
        assert found.bind("", keys["wangwu"], "wrong") == "wrong_password"
        assert found.bind("", keys["wangwu"], PASSWORD) == "ok"
        assert found.bind("", keys["lisi"], "wrong") == "wrong_password"
    server.slapd.stop()
    server.slapd.start()
    assert found.bind("", keys["lisi"], PASSWORD) == "ok", "kept connections that died are not used"
    found.close()


@pytest.mark.case("LD-02", "LD-06")
def test_an_entry_is_bound_only_when_exactly_one_is_found(server: SlapdSource) -> None:
    found = directory(server)
    for key in ("", "*", "*)(uid=*", "00000000-0000-0000-0000-000000000000", "\\2a", "x" * 10_000):
        assert found.bind(user_dn("lisi"), key, PASSWORD) == "wrong_password"
    assert found.bind("", uuid_of(server, "lisi"), "") == "wrong_password"
    found.close()
    every = directory(server, key="objectClass")
    assert every.bind("", "inetOrgPerson", PASSWORD) == "wrong_password"
    every.close()


@pytest.mark.case("LD-17")
def test_an_account_that_the_policy_locks_for_ever_is_disabled(server: SlapdSource) -> None:
    server.disable("lisi")
    found = directory(server)
    assert bind(found, server, "lisi", PASSWORD) == "disabled"
    assert {one.dn: one.disabled for one in found.read().entries if one.kind == "user"}[user_dn("lisi")]


@pytest.mark.case("LD-08")
def test_referrals_and_aliases_are_not_followed(server: SlapdSource) -> None:
    with Canned() as elsewhere:
        server.slapd.add(
            f"dn: ou=far,{PEOPLE}\nobjectClass: referral\nobjectClass: extensibleObject\nou: far\n"
            f"ref: {elsewhere.url}/ou=far,{PEOPLE}\n"
        )
        server.slapd.add(
            f"dn: uid=shadow,{PEOPLE}\nobjectClass: alias\nobjectClass: extensibleObject\nuid: shadow\n"
            f"aliasedObjectName: {ADMIN_DN}\n"
        )
        found = directory(server).read()
        assert sum(one.kind == "user" for one in found.entries) == 3
        with pytest.raises(ReadIncomplete):
            directory(server, users_base=f"ou=far,{PEOPLE}").read()
        assert elsewhere.received == b""


def secure(source: SlapdSource, tls: str, ca_file: Path, **settings: Any) -> OpenLdapDirectory:
    urls = [source.slapd.tls_url if tls == "ldaps" else source.slapd.url]
    return directory(source, tls=tls, urls=urls, ca_file=str(ca_file), **settings)


@pytest.mark.case("RF-26")
@pytest.mark.parametrize("tls", ["ldaps", "starttls"])
def test_a_certificate_must_be_valid_for_this_server_by_our_authority(tmp_path: Path, tls: str) -> None:
    address = loopback()
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    cases = {
        "valid": (ours.server(address), True),
        "expired": (ours.server(address, days=-1), False),
        "of another name": (ours.server("127.9.9.9"), False),
        "of another authority": (other.server(address), False),
    }
    for name, (files, good) in cases.items():
        with Slapd(tmp_path / name.replace(" ", "-"), files, address=address) as slapd:
            source = SlapdSource(slapd)
            source.add("lisi")
            found = secure(source, tls, ours.ca_file)
            if good:
                assert len(found.read().entries) == 1, name
            else:
                with pytest.raises(Unavailable):
                    found.read()
            assert bind(found, source, "lisi", PASSWORD) == ("ok" if good else "unavailable"), name
            if good:
                strange = secure(source, tls, ours.ca_file, pins=["sha256/" + "A" * 43 + "="])
                with pytest.raises(Unavailable):
                    strange.read()


@pytest.mark.case("LD-11", "LD-12")
def test_no_password_crosses_the_network_before_tls() -> None:
    refused = ldap_result(1, STARTTLS, 52)
    injected = ldap_result(1, STARTTLS, 0) + ldap_result(2, BIND, 0)
    for answer in (refused, injected, b""):
        with Canned(answer) as server:
            values = {
                "urls": [server.url],
                "tls": "starttls",
                "bind_dn": SYNC_DN,
                "users_base": PEOPLE,
                "login_timeout_s": 1,
            }
            found = OpenLdapDirectory(DirectorySettings.load("openldap", values), "very-secret")
            with pytest.raises(Unavailable):
                found.read()
            assert found.bind("", "x", "other-secret") == "unavailable"
            assert b"secret" not in server.received


@pytest.mark.case("LD-25")
@pytest.mark.parametrize(
    "answer",
    [
        b"\x30\x84\xff\xff\xff\xff" + b"a" * 1_000,
        b"\x30\x80\x02\x01\x01\x61\x80\x0a\x01\x00",
        b"\x30\x82\x10\x00" + b"\x30\x82\x0f\xf0" * 1_024,
        b"\x30\x05\x02\x01\x01\x61\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["length-of-4-GB", "indefinite-length", "nested", "cut-short", "not-ldap"],
)
def test_nonsense_from_a_server_is_an_unreachable_directory(answer: bytes) -> None:
    with Canned(answer) as server:
        values = {"urls": [server.url], "tls": "none", "bind_dn": SYNC_DN, "users_base": PEOPLE, "login_timeout_s": 1}
        found = OpenLdapDirectory(DirectorySettings.load("openldap", values), "x")
        with pytest.raises(Unavailable):
            found.read()
        assert found.bind("", "x", "y") == "unavailable"


@pytest.mark.case("RF-23")
def test_a_busy_server_is_passed_over_and_never_means_a_wrong_password(server: SlapdSource) -> None:
    key = uuid_of(server, "lisi")
    for code in (51, 52, 53):
        with Canned(ldap_result(1, BIND, code)) as busy:
            both = directory(server, urls=[busy.url, server.slapd.url])
            assert both.bind("", key, PASSWORD) == "ok"
            both.close()
            assert directory(server, urls=[busy.url]).bind("", key, PASSWORD) == "unavailable"
            assert len(directory(server, urls=[busy.url, server.slapd.url]).read().entries) == 4


def test_what_changed_is_read_by_content_synchronization(server: SlapdSource) -> None:
    found = directory(server)
    first = found.read()
    gone = uuid_of(server, "wangwu")
    assert not found.read(first.cursor).entries
    server.change("lisi", displayName="李四")
    server.remove("wangwu")
    server.group("staff", "lisi", "zhangsan")
    second = found.read(first.cursor)
    assert second.complete is False
    assert {one.dn for one in second.entries if one.kind == "user"} == {user_dn("lisi")}
    assert second.gone == {gone}
    third = found.read({"csn": "20200101000000.000000Z#000000#000#000000"})
    assert third.complete, "a server that has forgotten its deletions is read whole"


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"urls": ["ldap://dc.example"], "tls": "none"}, "loopback"),
        ({"urls": ["ldap://dc.example"], "tls": "ldaps"}, "ldaps://"),
        ({"urls": ["ldaps://dc.example"], "pins": ["sha1/x"]}, "pins"),
        ({"urls": ["ldaps://dc.example"], "users_filter": "(uid=*"}, "users_filter"),
        ({"urls": ["ldaps://dc.example"], "users_base": "ou=,,"}, "users_base"),
        ({"urls": ["ldaps://dc.example"], "unheard_of": 1}, "unheard_of"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(Invalid, match=fault):
        DirectorySettings.load("openldap", {"users_base": PEOPLE, **values})


@pytest.mark.case("LD-26")
def test_the_secret_stands_in_no_message(server: SlapdSource) -> None:
    wrong = directory(server, "not-the-secret")
    with pytest.raises(Unavailable) as refused:
        wrong.read()
    assert "not-the-secret" not in f"{refused.value} {refused.value.public} {refused.value.detail} {wrong!r}"
    assert "not-the-secret" not in repr(LdapServers(wrong._settings, "not-the-secret"))


def test_a_server_without_content_synchronization_is_asked_for_newer_stamps_and_what_is_left(tmp_path: Path) -> None:
    address = loopback()
    with Slapd(tmp_path / "slapd", address=address, syncprov=False) as slapd:
        source = SlapdSource(slapd)
        for login in ("zhangsan", "lisi", "wangwu"):
            source.add(login)
        source.group("staff", "zhangsan", "lisi", "wangwu")
        found = OpenLdapDirectory(DirectorySettings.load("ldap", source.settings()), source.secret)
        first = found.read()
        assert first.complete
        assert found.way() == "stamps"
        ids = {one.first("uid"): one.immutable_id for one in first.entries if one.kind == "user"}
        source.change("lisi", displayName="李四")
        source.group("staff", "zhangsan", "lisi")
        source.remove("wangwu")
        second = found.read(first.cursor)
        assert not second.complete
        assert second.present is not None
        assert ids["wangwu"] not in second.present
        assert {ids["lisi"], ids["zhangsan"]} <= second.present
        changed = {one.first("uid"): one for one in second.entries if one.kind == "user"}
        assert changed["lisi"].first("displayName") == "李四"
        assert found.read({"modified": "*)(uid=*"}).complete, "a cursor is never part of a filter unchecked"
