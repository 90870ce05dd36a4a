"""Names never lead around a directory: logins in DNs, spellings of DNs; and a large company is read by parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from identity.directory.dn import normalise
from identity.directory.factory import open_directory
from identity.directory.openldap import OpenLdapDirectory
from identity.directory.reader import Reading
from identity.directory.settings import DirectorySettings
from identity.sync.known import count_accounts, load_known, scope_of
from identity.sync.work import find_source
from tests.integration.sync.company import Company
from tests.integration.sync.sources import PEOPLE, SlapdSource
from tests.servers.slapd import Slapd, loopback
from tests.world import PASSWORD

SLAPD = pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)


@SLAPD
@pytest.mark.case("LD-04")
@pytest.mark.parametrize(
    "login",
    ["lisi,dc=evil", "lisi+cn=admin", "#lisi", " lisi", "lisi\\", f"lisi,{PEOPLE}", "uid=lisi", "lisi\r\n"],
)
def test_a_login_is_never_part_of_a_dn(company: Company, login: str) -> None:
    company.source.add("lisi", displayName="李四", o="XH01")
    company.source.add("wangwu", displayName="王五", o="XH01")
    company.sync()
    browser = company.world.browser()
    browser.sign_in(login)
    signed_in = 'name="password"' not in browser.follow(browser.go("/")).text
    assert signed_in is (login.strip("\r\n\0 ") == "lisi"), "a spelling of lisi signs lisi in, nothing else does"


@SLAPD
@pytest.mark.case("LD-07")
@pytest.mark.parametrize(
    "said", ["UID=Zhang\\, San,OU=People,DC=xinghe,DC=example", "uid=zhang\\2C  san , ou=people,dc=XINGHE,dc=example"]
)
def test_another_spelling_of_a_dn_names_the_same_person(company: Company, said: str) -> None:
    source = company.source
    assert isinstance(source, SlapdSource)
    source.slapd.add(
        f"dn: uid=zhang\\, san,{PEOPLE}\nobjectClass: inetOrgPerson\nuid: zhangsan\ncn: z\nsn: z\no: XH01\n"
        f"userPassword: {PASSWORD}\n"
    )
    company.configure(attributes={"login": "sn"})
    source.slapd.modify(f"dn: uid=zhang\\, san,{PEOPLE}\nchangetype: modify\nreplace: sn\nsn: zhangsan\n")
    source.add("lisi", displayName="李四", o="XH01", manager=said)
    source.change("lisi", sn="lisi")
    assert normalise(said) == normalise(f"uid=zhang\\, san,{PEOPLE}")
    assert company.sync().state == "applied"
    assert company.sync(full=True).counts == {}, "and says it again without a change"
    with company.world.database.read() as connection:
        manager = connection.exec_driver_sql(
            "SELECT manager_person_id FROM employment WHERE user_id = ? AND rev_until IS NULL",
            (company.user("lisi").id.hex,),
        ).scalar_one()
    assert manager == company.user("zhangsan").person_id.hex


@pytest.mark.parametrize(("source", "database_url"), [("ldif", "sqlite"), ("ldif", "postgresql")], indirect=True)
@pytest.mark.case("SY-11")
def test_a_change_of_one_reads_few_of_many(company: Company) -> None:
    """Rows read for one changed person do not grow with the company: the figures are of the same code."""
    counts = []
    for many in (20, 200):
        for n in range(many):
            company.source._users[f"u{many}x{n}"] = {  # type: ignore[attr-defined]
                "entryUUID": f"00000000-0000-4000-8000-{many:04}{n:08}",
                "sn": "x",
                "cn": "x",
                "o": "XH01",
            }
        company.source.add(f"marker{many}", displayName="甲", o="XH01")
        company.sync(full=True)
        counts.append(_rows_of_one_change(company, f"u{many}x0"))
    assert counts[1] <= counts[0] + 5, counts


def _rows_of_one_change(company: Company, login: str) -> int:
    """How many accounts the plan looks at for a partial reading of one entry."""
    settings = DirectorySettings.load(company.source.kind, company.source.settings())
    entry = open_directory(company.source.kind, company.source.settings(), None).sample(login)
    assert entry is not None
    with company.world.unit() as unit:
        source = find_source(unit, "hq")
        known = load_known(unit.db.connection(), source.id, scope_of(Reading((entry,), complete=False), settings))
        assert count_accounts(unit.db.connection(), source.id)[0] > len(known.users)
    return len(known.users) + len(known.logins) + len(known.numbers)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[SlapdSource, SlapdSource]]:
    """Two servers of one directory; the second has not heard of lisi's new password yet."""
    with Slapd(tmp_path / "a", address=loopback()) as a, Slapd(tmp_path / "b", address=loopback()) as b:
        fresh, stale = SlapdSource(a), SlapdSource(b)
        for source in (fresh, stale):
            source.slapd.add(
                f"dn: uid=lisi,{PEOPLE}\nobjectClass: inetOrgPerson\nuid: lisi\ncn: l\nsn: l\nemployeeNumber: 7\n"
                f"userPassword: {PASSWORD}\n"
            )
        fresh.change("lisi", userPassword="the new one")
        yield fresh, stale


def asking(pair: tuple[SlapdSource, SlapdSource], **more: str) -> OpenLdapDirectory:
    urls = [one.slapd.url for one in pair]
    values = pair[0].settings() | {"urls": urls, "key": "employeeNumber", "login_timeout_s": 2} | more
    return OpenLdapDirectory(DirectorySettings.load("openldap", values), pair[0].secret)


@pytest.mark.case("RF-24")
def test_of_two_servers_the_one_that_answered_is_asked_again_and_a_stale_one_costs_one_bind(
    pair: tuple[SlapdSource, SlapdSource],
) -> None:
    found = asking(pair)
    assert found.bind("", "7", "the new one") == "ok"
    assert found.bind("", "7", PASSWORD) == "wrong_password", "the stale server is not asked for a second opinion"
    pair[0].slapd.stop()
    assert found.bind("", "7", "the new one") == "wrong_password"
    pair[0].slapd.start()
    assert found.bind("", "7", PASSWORD) == "ok", "who answered last is asked first"
    found.close()


def test_a_server_that_lets_nobody_bind_is_no_last_word_while_another_one_answers(
    pair: tuple[SlapdSource, SlapdSource],
) -> None:
    pair[0].slapd.stop()
    pair[0].slapd.start("restrict bind\n")
    found = asking(pair, bind_dn="")
    assert found.bind("", "7", PASSWORD) == "ok"
    pair[1].slapd.stop()
    assert found.bind("", "7", PASSWORD) == "unwilling"
    found.close()
