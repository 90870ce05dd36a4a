"""The console's pages that try a directory: its rights, and one entry through the transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from identity.directory.active_directory import ActiveDirectory
from identity.directory.factory import open_directory
from identity.directory.probe import Probe, probe
from identity.directory.settings import DirectorySettings
from tests.integration.sync.company import EVERY_SOURCE, Company
from tests.integration.sync.sources import SambaSource, SlapdSource
from tests.servers.pki import Authority
from tests.servers.samba import Samba
from tests.servers.slapd import Slapd, loopback
from tests.world import PASSWORD

WAYS = {"openldap": "syncrepl", "active_directory": "dirsync", "ldif": "whole", "csv": "whole", "xlsx": "whole"}


def probed(source: Any, folder: Path, secret: str | None = None, **settings: Any) -> Probe:
    values = source.settings() | settings
    path = folder / "probe.secret"
    path.write_text(source.secret if secret is None else secret)
    parsed = DirectorySettings.load(source.kind, values)
    directory = open_directory(source.kind, values, f"file:{path}")
    return probe(parsed, path.read_text(), directory, parsed.write_back or ())


def failed(found: Probe) -> list[str]:
    """What does not work, beside the test servers' certificates, which end soon."""
    return [one.name for one in found.steps if not one.ok and one.name != "certificate"]


@EVERY_SOURCE
def test_a_source_that_gives_everything_passes_and_its_way_is_named(company: Company, tmp_path: Path) -> None:
    source = company.source
    source.department("RD", "研发部", company="XH01")
    source.add("lisi", displayName="李四", o="XH01")
    source.group("staff", "lisi")
    found = probed(source, tmp_path)
    assert (failed(found), found.way) == ([], WAYS[source.kind])


@EVERY_SOURCE
def test_one_entry_is_shown_as_it_is_said_and_taken(company: Company, tmp_path: Path) -> None:
    company.source.add("lisi", displayName="李四", o="XH01")
    secret = tmp_path / "sample.secret"
    secret.write_text(company.source.secret)
    found = open_directory(company.source.kind, company.source.settings(), f"file:{secret}")
    entry = found.sample("lisi")
    assert entry is not None
    assert "李四" in {text for texts in entry.attributes.values() for text in texts}
    assert found.sample("nobody") is None
    assert found.sample("*") is None
    found.close()


@pytest.mark.case("RF-26", "LD-26")
def test_what_a_directory_refuses_is_named_and_no_secret_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    address = loopback()
    with Slapd(tmp_path / "slapd", authority.server(address), address=address) as slapd:
        source = SlapdSource(slapd, "ldaps", authority.ca_file)
        source.add("lisi")
        wrong = probed(source, tmp_path, "not-the-secret")
        assert (failed(wrong), wrong.way) == (["bind"], None)
        assert "not-the-secret" not in repr(wrong)
        ends_soon = next(one for one in wrong.steps if one.name == "certificate")
        assert (ends_soon.ok, int(ends_soon.detail) < 30) == (False, True)
        away = probed(source, tmp_path, urls=[source.slapd.tls_url.replace("1636", "1637"), slapd.tls_url])
        assert failed(away) == ["reach", "read_department", "read_group"]
        assert away.way == "syncrepl"
        elsewhere = probed(source, tmp_path, users_base="ou=nobody,dc=xinghe,dc=example")
        assert "read_user" in failed(elsewhere)
        hidden = probed(source, tmp_path, key="employeeNumber")
        assert "read_user" in failed(hidden)
        strange = Authority(tmp_path / "strange")
        assert failed(probed(source, tmp_path, ca_file=str(strange.ca_file))) == ["reach"]


def test_an_account_with_few_rights_gets_the_way_that_they_allow(samba: Samba, tmp_path: Path) -> None:
    source = SambaSource(samba)
    try:
        for login in ("reader", "lisi", "wangwu"):
            source.add(login)
        source.group("staff", "lisi")
        source.department("RD", "研发部", company="XH01")
        own = probed(source, tmp_path, PASSWORD, bind_dn=source.user_dn("reader"))
        assert failed(own) == []
        assert own.way in {"object-security", "usn-sweep"}
        reader = {"bind_dn": source.user_dn("reader"), "write_back": ["mail"]}
        assert failed(probed(source, tmp_path, PASSWORD, **reader)) == ["write"]
        assert [one.ok for one in probed(source, tmp_path, write_back=["mail"]).steps if one.name == "write"] == [True]
        settings = DirectorySettings.load("active_directory", source.settings() | {"bind_dn": source.user_dn("reader")})
        directory = ActiveDirectory(settings, PASSWORD)
        first = directory.read()
        cursor = {name: value for name, value in first.cursor.items() if name != "dirsync"} | {"mode": "usn-sweep"}
        ids = {one.first("sAMAccountName"): one.immutable_id for one in first.entries if one.kind == "user"}
        source.modify(source.user_dn("wangwu"), "delete")
        source.change("lisi", displayName="李四")
        second = directory.read(cursor)
        assert second.present is not None
        assert ids["lisi"] in second.present
        assert ids["wangwu"] not in second.present
        third = directory.read(second.cursor)
        assert (third.entries, third.cursor["mode"]) == ((), "usn-sweep")
    finally:
        source.clear()
