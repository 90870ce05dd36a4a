"""What is changed here goes back to the directory that says it, where its source lets us; it never overwrites what is
newer there, and it comes back as no change."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from identity.alarms.check import check
from identity.alarms.models import Alarm
from identity.audit.index import index_new
from identity.core.errors import Conflict
from identity.directory.factory import open_directory
from identity.people.inputs import Profile
from identity.people.models import PersonProfile, SourceAccount, WriteBack
from identity.people.service import set_user_state, update_profile
from identity.people.service_leavers import delete_identities
from identity.sync.models import SyncState
from identity.sync.trials import probe_source
from identity.sync.work import find_source
from identity.sync.write_back import ATTEMPTS_MAX, Writer, drop, forget_ended, retry
from tests.integration.sync.company import Company
from tests.integration.sync.sources import LdifSource, SlapdSource
from tests.servers.slapd import SUFFIX

DIRECTORIES = pytest.mark.parametrize(
    ("source", "database_url"), [("slapd", "sqlite"), ("samba", "postgresql")], indirect=True, ids=["slapd", "samba"]
)
SLAPD = pytest.mark.parametrize(("source", "database_url"), [("slapd", "sqlite")], indirect=True)
BOTH_DATABASES = pytest.mark.parametrize(
    ("source", "database_url"), [("slapd", "sqlite"), ("slapd", "postgresql")], indirect=True
)
WRITER = f"cn=writer,{SUFFIX}"
NEW = {"name": "李四 (new)", "mail": "Li.Si+1@example.org", "phone": "+86 139 0000 0000"}


@pytest.fixture
def staffed(company: Company) -> Company:
    """Li Si with name and mail and without a phone; names, mail and phone are written back."""
    company.source.add("lisi", displayName="李四", sn="李", mail="lisi@example.org", o="XH01")
    company.source.add("wangwu", displayName="王五", sn="王", o="XH01")
    company.configure(write_back=["name", "family_name", "mail", "phone"])
    assert company.sync().state == "applied"
    return company


def profile(company: Company, login: str = "lisi") -> dict[str, Any]:
    with company.world.database.read() as connection:
        query = select(PersonProfile.__table__).where(PersonProfile.person_id == company.user(login).person_id)
        row = connection.execute(query).one()
    return {name: getattr(row, name) for name in Profile.model_fields}


def edit(company: Company, login: str = "lisi", **values: str | None) -> None:
    with company.world.unit() as unit:
        update_profile(unit, company.user(login).id, Profile(**{**profile(company, login), **values}))


def write(company: Company, **later: float) -> int:
    writer = Writer(company.world.units)
    try:
        return writer.run(datetime.now(UTC) + timedelta(**later))
    finally:
        writer.close()


def said(company: Company, login: str = "lisi") -> dict[str, str | None]:
    """What the directory says now, read anew."""
    secret = company.world.settings.tessera_var / "said.secret"
    secret.write_text(type(company.source).secret)
    directory = open_directory(company.source.kind, company.source.settings(), f"file:{secret}")
    entry = directory.sample(login)
    directory.close()
    assert entry is not None
    return {one: entry.first(one) for one in ("displayName", "sn", "mail", "mobile")}


def items(company: Company) -> list[Any]:
    with company.world.database.read() as connection:
        return list(connection.execute(select(WriteBack.__table__).order_by(WriteBack.field)))


def kinds(company: Company, area: str = "sync.write_back") -> list[str]:
    return [one["kind"].rpartition(".")[2] for one in company.world.records() if one["kind"].startswith(area)]


@DIRECTORIES
def test_a_change_is_written_and_comes_back_as_no_change(staffed: Company) -> None:
    edit(staffed, **NEW)
    assert write(staffed) == 3
    assert said(staffed) == {"displayName": NEW["name"], "sn": "李", "mail": NEW["mail"], "mobile": NEW["phone"]}
    assert staffed.sync(full=True).counts == {}
    assert profile(staffed) == profile(staffed) | NEW
    assert kinds(staffed) == ["done", "done", "done"]
    told = next(one for one in staffed.world.records() if one["kind"] == "people.profile.changed")
    assert told["data"]["written_to"] == {"hq": ["mail", "name", "phone"]}
    for value in NEW.values():
        assert value not in str(staffed.world.records()), "records name fields, never values"
    edit(staffed, phone=None)
    assert write(staffed) == 1
    assert said(staffed)["mobile"] is None
    assert staffed.sync(full=True).counts == {}
    assert write(staffed) == 0


@DIRECTORIES
def test_a_newer_value_of_the_directory_is_never_overwritten(staffed: Company) -> None:
    edit(staffed, mail="here@example.org", phone="1")
    staffed.source.change("lisi", mail="there@example.org")
    assert write(staffed) == 1, "the phone"
    assert said(staffed) | {"mail": "there@example.org", "mobile": "1"} == said(staffed)
    [item] = [one for one in items(staffed) if one.field == "mail"]
    assert (item.state, item.found) == ("newer", "there@example.org")
    assert sorted(kinds(staffed)) == ["done", "overtaken"]
    assert staffed.sync(full=True).counts == {"user_update": 1}
    assert profile(staffed)["mail"] == "there@example.org"
    with pytest.raises(Conflict), staffed.world.unit() as unit:
        retry(unit, "hq", item.id)
    with staffed.world.unit() as unit:
        drop(unit, "hq", item.id)
    assert [one.field for one in items(staffed)] == ["phone"]
    assert kinds(staffed)[-1] == "dropped"


@SLAPD
def test_a_newer_value_that_a_run_saw_first_counts_at_once(staffed: Company) -> None:
    edit(staffed, mail="here@example.org")
    staffed.source.change("lisi", mail="there@example.org")
    assert staffed.sync().counts == {"user_update": 1}
    assert profile(staffed)["mail"] == "there@example.org"
    assert write(staffed) == 0
    assert (items(staffed)[0].state, said(staffed)["mail"]) == ("newer", "there@example.org")


@BOTH_DATABASES
def test_a_run_does_not_take_back_what_waits(staffed: Company) -> None:
    edit(staffed, name="李五", phone="1")
    for full in (True, False):
        assert staffed.sync(full=full).counts == {}
        assert profile(staffed)["name"] == "李五"
    staffed.source.change("lisi", title="head")
    assert staffed.sync().counts == {"user_update": 1}
    assert (profile(staffed)["name"], profile(staffed)["phone"]) == ("李五", "1")
    assert write(staffed) == 2
    assert staffed.sync().counts == staffed.sync(full=True).counts == {}


@SLAPD
def test_a_run_that_had_read_before_the_write_does_not_take_it_back(staffed: Company) -> None:
    edit(staffed, name="李五")
    written = []
    outcome = staffed.sync(
        full=True, progress=lambda stage, _: written.append(write(staffed)) if stage == "plan" else None
    )
    assert (written, outcome.counts) == ([1], {})
    assert profile(staffed)["name"] == said(staffed)["displayName"] == "李五"
    staffed.source.change("lisi", displayName="李四")
    assert staffed.sync().counts == {"user_update": 1}, "the same old value, said by the directory later, is news"
    forget_ended(staffed.world.units, datetime.now(UTC) + timedelta(hours=3))
    assert items(staffed) == []


@SLAPD
def test_of_two_changes_the_last_is_written_whatever_came_of_the_first(staffed: Company) -> None:
    edit(staffed, mail="never@example.org")
    edit(staffed, mail="zero@example.org")
    assert write(staffed) == 1
    assert said(staffed)["mail"] == "zero@example.org"
    edit(staffed, mail="one@example.org")
    edit(staffed, mail="two@example.org")
    # The first was written, and its worker died before it said so.
    staffed.source.change("lisi", mail="one@example.org")
    assert staffed.sync().counts == {}
    assert write(staffed) == 1
    assert said(staffed)["mail"] == profile(staffed)["mail"] == "two@example.org"
    edit(staffed, mail="three@example.org")
    staffed.source.change("lisi", mail="three@example.org")  # so was this
    assert write(staffed) == 1
    edit(staffed, mail="four@example.org")
    edit(staffed, mail="three@example.org")
    assert write(staffed) == 1
    assert items(staffed)[0].state == "done"


@SLAPD
def test_a_change_that_is_made_while_an_earlier_one_is_written_is_written_next(staffed: Company) -> None:
    source = staffed.source
    assert isinstance(source, SlapdSource)
    edit(staffed, mail="one@example.org")
    source.slapd.send(signal.SIGSTOP)
    writing = threading.Thread(target=write, args=(staffed,))
    writing.start()
    while not any(one.name.startswith("write-back") for one in threading.enumerate()):
        writing.join(0.01)
    edit(staffed, mail="two@example.org")
    source.slapd.send(signal.SIGCONT)
    writing.join()
    assert said(staffed)["mail"] == "one@example.org"
    assert profile(staffed)["mail"] == "two@example.org"
    assert write(staffed) == 1
    assert said(staffed)["mail"] == "two@example.org"
    assert kinds(staffed) == ["done", "done"]


@pytest.mark.case("LD-03", "LD-04")
@DIRECTORIES
def test_a_value_is_only_ever_a_value(staffed: Company) -> None:
    nasty = '*)(uid=*))(|(mail=\\2a,ou=x+cn=y"#;<>'
    others = said(staffed, "wangwu")
    edit(staffed, name=nasty, family_name=f"{nasty} - add: description")
    assert write(staffed) == 2
    assert (said(staffed)["displayName"], said(staffed)["sn"]) == (nasty, f"{nasty} - add: description")
    assert said(staffed, "wangwu") == others
    assert staffed.sync(full=True).counts == {}


@pytest.fixture
def limited(staffed: Company) -> Company:
    """Our account may read everything and write mail only."""
    source = staffed.source
    assert isinstance(source, SlapdSource)
    source.slapd.add(
        f"dn: {WRITER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\nuserPassword: writer\n"
    )
    restart(source, "mail")
    source.secret = "writer"
    staffed.connect(
        "hq", source, settings={"write_back": ["name", "mail", "phone"], "bind_dn": WRITER}, interval_s=3_600
    )
    return staffed


def restart(source: SlapdSource, attributes: str) -> None:
    source.slapd.stop()
    source.slapd.start(
        f'access to attrs={attributes} by dn.exact="{WRITER}" write by * read\n'
        f"access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n"
        f'limits dn.exact="{WRITER}" size=unlimited\n'
    )


@SLAPD
def test_the_rights_to_write_are_tried_and_nothing_is_changed(limited: Company) -> None:
    source = limited.source
    assert isinstance(source, SlapdSource)
    before = [source.slapd.search(source.user_dn(login), "*", "+") for login in ("lisi", "wangwu")]
    with limited.world.unit() as unit:
        row = find_source(unit, "hq")
        unit.db.expunge(row)
    tried = [(one.detail, one.ok) for one in probe_source(row).steps if one.name == "write"]
    assert tried == [("mail", True), ("displayName", False), ("mobile", False)]
    assert before == [source.slapd.search(source.user_dn(login), "*", "+") for login in ("lisi", "wangwu")]


@SLAPD
def test_what_the_directory_refuses_is_shown_and_does_not_stay_here(limited: Company) -> None:
    edit(limited, mail="here@example.org", phone="1")
    assert write(limited) == 1
    [failed] = [one for one in items(limited) if one.state != "done"]
    assert (failed.field, failed.state, failed.detail) == ("phone", "failed", "insufficientAccessRights")
    assert sorted(kinds(limited)) == ["done", "failed"]
    now = datetime.now(UTC)
    index_new(limited.world.database, now)
    check(limited.world.units, now, limited.world.settings.zone)
    with limited.world.database.read() as connection:
        alarm = connection.execute(select(Alarm.__table__).where(Alarm.rule == "not-written")).one()
    assert (alarm.key, alarm.detail) == ("directory:hq", {"field": "phone", "error": "insufficientAccessRights"})
    assert (profile(limited)["phone"], profile(limited)["mail"]) == (None, "here@example.org")
    assert isinstance(limited.source, SlapdSource)
    restart(limited.source, "mail,mobile")
    with limited.world.unit() as unit:
        retry(unit, "hq", failed.id)
    assert limited.sync(full=True).counts == {}
    assert write(limited) == 1
    assert profile(limited)["phone"] == said(limited)["mobile"] == "1"
    assert kinds(limited)[-1] == "done"
    assert limited.sync(full=True).counts == {}


@pytest.mark.parametrize(("source", "database_url"), [("samba", "sqlite")], indirect=True)
def test_what_active_directory_refuses_is_shown(staffed: Company) -> None:
    edit(staffed, phone="1" * 100)
    assert write(staffed) == 0
    assert (items(staffed)[0].state, items(staffed)[0].detail) == ("failed", "invalidAttributeSyntax")
    assert said(staffed)["mobile"] is None


@BOTH_DATABASES
def test_a_directory_that_is_away_is_tried_again_and_given_up_visibly(staffed: Company) -> None:
    source = staffed.source
    assert isinstance(source, SlapdSource)
    edit(staffed, mail="here@example.org")
    source.slapd.stop()
    assert write(staffed) == write(staffed) == 0
    assert [one.attempts for one in items(staffed)] == [1], "there is a pause"
    assert write(staffed, seconds=4) == 0
    assert [(one.attempts, one.state) for one in items(staffed)] == [(2, "waiting")]
    source.slapd.start()
    assert write(staffed, minutes=1) == 1
    edit(staffed, mail="again@example.org")
    source.slapd.stop()
    for hour in range(1, ATTEMPTS_MAX + 1):
        write(staffed, hours=2 * hour)
    source.slapd.start()
    [item] = items(staffed)
    assert (item.state, item.attempts, item.detail) == ("failed", ATTEMPTS_MAX, "directory_unreachable")
    assert kinds(staffed) == ["done", "failed"]


@SLAPD
def test_several_values_and_an_entry_that_went_are_nobody_s_to_guess(staffed: Company) -> None:
    source = staffed.source
    assert isinstance(source, SlapdSource)
    source.slapd.modify(f"dn: {source.user_dn('lisi')}\nchangetype: modify\nadd: mail\nmail: second@example.org\n")
    edit(staffed, mail="here@example.org")
    edit(staffed, "wangwu", phone="1")
    source.remove("wangwu")
    assert write(staffed) == 0
    assert [(one.field, one.detail) for one in items(staffed)] == [("mail", "several_values"), ("phone", "missing")]
    assert said(staffed)["mail"] == "lisi@example.org"


@SLAPD
def test_a_field_that_its_directory_does_not_let_us_write_is_changed_there(staffed: Company) -> None:
    for values in ({"given_name": "四"}, {"given_name": "四", "mail": "x@example.org"}):
        with pytest.raises(Conflict) as refused:
            edit(staffed, **values)
        assert refused.value.code == "field_mastered"
    staffed.configure()
    with pytest.raises(Conflict):
        edit(staffed, mail="x@example.org")
    assert items(staffed) == []
    edit(staffed, locale="zh")
    staffed.world.person("local")
    edit(staffed, "local", mail="x@example.org", given_name="x")
    assert write(staffed) == 0


@SLAPD
def test_of_several_sources_the_one_that_has_the_say_is_written(staffed: Company, tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    hr = LdifSource(tmp_path / "hr")
    hr.add("lisi", displayName="人事名", o="XH01")
    hr.add("wangwu", displayName="人事名", mail="hr@example.org", o="XH01")
    written = {"forest": "corp", "write_back": ["name", "mail", "phone"]}
    staffed.connect("hq", staffed.source, settings=written, precedence=200)
    staffed.connect("hr", hr, settings={"forest": "corp"}, precedence=100)
    assert staffed.sync("hr").counts == {"user_link": 2}
    assert staffed.sync("hr", full=True).state == "applied"
    for login, field in (("lisi", "name"), ("wangwu", "name"), ("wangwu", "mail")):
        with pytest.raises(Conflict):
            edit(staffed, login, **{field: "mine"})
    edit(staffed, mail="here@example.org")
    edit(staffed, "wangwu", phone="1")
    for code in ("hr", "hq"):
        assert staffed.sync(code, full=True).counts == {}, "the other source is silent about what only one says"
    assert write(staffed) == 2
    assert (said(staffed)["mail"], said(staffed, "wangwu")["mobile"]) == ("here@example.org", "1")
    for code in ("hr", "hq"):
        assert staffed.sync(code, full=True).counts == {}
    assert (profile(staffed)["mail"], profile(staffed, "wangwu")["phone"]) == ("here@example.org", "1")
    staffed.connect("hr", hr, settings={"forest": "corp"}, precedence=100, enabled=False)
    edit(staffed, name="李六")
    assert write(staffed) == 1, "a source out of use has no say"


@SLAPD
def test_a_paused_source_is_not_written_to_and_a_deleted_person_leaves_nothing(staffed: Company) -> None:
    edit(staffed, mail="here@example.org")
    with staffed.world.unit() as unit:
        state = unit.db.execute(select(SyncState)).scalar_one()
        state.paused = "run undone"
    assert write(staffed) == 0
    who = staffed.user("lisi")
    with staffed.world.unit() as unit:
        set_user_state(unit, who.id, "disabled", cause="test")
    with staffed.world.unit() as unit:
        key = unit.db.execute(select(SourceAccount).where(SourceAccount.user_id == who.id)).scalar_one()
        delete_identities(unit, key.source_id, [key.immutable_id])
    assert items(staffed) == []
    with pytest.raises(Conflict), staffed.world.unit() as unit:
        update_profile(unit, who.id, Profile(name="somebody"))


@SLAPD
def test_what_was_queued_is_not_written_once_the_source_says_no(staffed: Company) -> None:
    edit(staffed, mail="here@example.org")
    staffed.configure(write_back=["phone"])
    assert write(staffed) == 0
    assert (items(staffed)[0].state, items(staffed)[0].detail) == ("failed", "off")
    staffed.connect("hq", staffed.source, settings={"write_back": None}, write_back=["mail"])
    edit(staffed, mail="there@example.org")
    assert write(staffed) == 1, "the console's choice counts where the file says nothing"
    assert said(staffed)["mail"] == "there@example.org"
