"""The plan: pure, from what a directory says and what we hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from identity.directory.reader import DirectoryEntry, ReadIncomplete, Reading
from identity.directory.settings import DirectorySettings
from identity.sync import guard
from identity.sync.plan import Change, Decision, KnownDirectory, KnownGroup, KnownUser, Other, SyncPlan
from identity.sync.plan_users import make

BASE = "ou=people,dc=x"
SETTINGS = DirectorySettings.load("ldif", {"path": "x.ldif"})


def user(key: str, login: str | None = None, *, disabled: bool = False, **attributes: str) -> DirectoryEntry:
    values = {"uid": login or key, "displayname": login or key, **attributes}
    kept = {name: (value,) for name, value in values.items()}
    return DirectoryEntry("user", key, f"uid={key},{BASE}", kept, disabled)


def group(key: str, *members: str) -> DirectoryEntry:
    return DirectoryEntry("group", key, f"cn={key},dc=x", {"cn": (key,)}, members=members)


def unit(code: str, above: str = "dc=x", company: str | None = None) -> DirectoryEntry:
    place = {"l": (company,)} if company else {}
    return DirectoryEntry("department", code, f"ou={code.lower()},{above}", {"ou": (code,), **place})


def known(*entries: DirectoryEntry, active: bool = True, **more: Any) -> KnownDirectory:
    """What we hold once these entries were applied."""
    plan = make(Reading(entries), KnownDirectory(), SETTINGS)
    users = {
        one.immutable_id: KnownUser(
            uuid4(), active, {name: value for name, value in one.after.items() if name != "groups"}
        )
        for one in plan.changes
        if one.kind == "user_add"
    }
    joined = [
        (group, one.immutable_id) for one in plan.changes if one.kind == "user_add" for group in one.after["groups"]
    ]
    members = {group: frozenset(key for name, key in joined if name == group) for group, _ in joined}
    groups = {
        one.immutable_id: KnownGroup(one.after["name"], one.after["title"], one.after["dn"])
        for one in plan.changes
        if one.kind == "group_add"
    }
    units = {one.immutable_id: dict(one.after) for one in plan.changes if one.kind == "department_add"}
    return KnownDirectory(users=users, groups=groups, departments=units, members=members, **more)


def plan_of(*entries: DirectoryEntry, held: KnownDirectory | None = None, **reading: Any) -> SyncPlan:
    return make(Reading(entries, **reading), held or KnownDirectory(), SETTINGS)


def kinds(plan: SyncPlan) -> list[tuple[str, str]]:
    return [(one.kind, one.immutable_id) for one in plan.changes]


def change(plan: SyncPlan, kind: str) -> Change:
    return next(one for one in plan.changes if one.kind == kind)


def test_what_is_known_already_is_no_change() -> None:
    entries = (unit("RD", company="XH01"), user("a", departmentnumber="RD", o="XH01"), group("g", f"uid=a,{BASE}"))
    assert plan_of(*entries, held=known(*entries)).changes == ()


def test_a_change_names_each_attribute_with_before_and_after() -> None:
    plan = plan_of(user("a", mail="new@x"), held=known(user("a", mail="old@x")))
    one = change(plan, "user_update")
    assert (one.before, one.after, one.reason) == (
        {"mail": "old@x"},
        {"mail": "new@x"},
        "changed in the directory: mail",
    )


def test_another_department_is_a_move() -> None:
    units = unit("RD", company="XH01"), unit("FIN", company="XH01")
    plan = plan_of(*units, user("a", departmentnumber="FIN"), held=known(*units, user("a", departmentnumber="RD")))
    assert change(plan, "user_move").after == {"department": "FIN"}


def test_departments_come_parents_first_and_take_the_company_from_above() -> None:
    sub, top = unit("SW", "ou=rd,dc=x"), unit("RD", company="XH01")
    plan = plan_of(sub, top, user("a", departmentnumber="SW"))
    assert [one.title for one in plan.changes if one.kind == "department_add"] == ["RD", "SW"]
    assert plan.changes[1].after["parent"] == "RD"
    assert (change(plan, "user_add").after["company"], change(plan, "user_add").after["department"]) == ("XH01", "SW")


@pytest.mark.case("SY-12")
def test_those_who_are_missing_or_disabled_are_disabled_first() -> None:
    held = known(user("a"), user("b"), user("c"))
    plan = plan_of(user("a"), user("b", disabled=True), user("d"), held=held)
    assert kinds(plan) == [("user_disable", "b"), ("user_disable", "c"), ("user_add", "d")]


def test_what_is_not_whole_concludes_nothing_from_absence() -> None:
    held = known(user("a"), user("b"), group("g", f"uid=a,{BASE}"))
    plan = plan_of(user("b", mail="b@x"), held=held, complete=False)
    assert kinds(plan) == [("user_update", "b")]
    assert kinds(plan_of(held=held, complete=False, gone=frozenset({"a"}))) == [("user_disable", "a")]


def test_membership_follows_the_id_when_the_dn_changes() -> None:
    held = known(user("a"), group("g", f"uid=a,{BASE}"))
    moved = replace(user("a"), dn="uid=a,ou=elsewhere,dc=x")
    plan = plan_of(moved, group("g", moved.dn), held=held)
    assert kinds(plan) == [("user_update", "a")]
    assert change(plan, "user_update").after == {"dn": moved.dn}


@pytest.mark.case("LD-18")
def test_groups_nest_in_any_shape() -> None:
    chain = [group(f"g{n}", f"cn=g{(n + 1) % 50},dc=x") for n in range(50)]
    many = [user(f"u{n}") for n in range(10_000)]
    wide = group("wide", *(one.dn for one in many), "cn=wide,dc=x", "cn=unknown,dc=x")
    plan = plan_of(*chain, *many, wide)
    assert plan.counts == {"group_add": 51, "user_add": 10_000, "group_nest": 50}
    assert all(one.after["groups"] == ["wide"] for one in plan.changes if one.kind == "user_add")


def test_managers_are_made_before_those_they_manage_and_circles_are_closed_behind() -> None:
    boss = f"uid=c,{BASE}"
    plan = plan_of(user("a", manager=f"uid=b,{BASE}"), user("b", manager=boss), user("c"))
    assert [key for _, key in kinds(plan)] == ["c", "b", "a"]
    circle = plan_of(user("a", manager=f"uid=b,{BASE}"), user("b", manager=f"uid=a,{BASE}"))
    assert [kind for kind, _ in kinds(circle)] == ["user_add", "user_add", "user_update"]


def test_two_who_swap_their_logins_are_no_conflict() -> None:
    plan = plan_of(user("1", "b"), user("2", "a"), held=known(user("1", "a"), user("2", "b")))
    assert [kind for kind, _ in kinds(plan)] == ["user_update", "user_update"]


@pytest.mark.case("ID-01", "ID-02", "ID-05")
@pytest.mark.parametrize("login", ["LISI", "ｌｉｓｉ", "li si", "li\u200bsi", "admin", "root\u00a0", "\u202ename"])
def test_a_login_that_could_be_taken_for_another_is_a_conflict(login: str) -> None:
    plan = plan_of(user("1", "lisi"), user("2", login))
    assert [kind for kind, _ in kinds(plan)].count("user_add") == 1
    assert [kind for kind, _ in kinds(plan)].count("conflict") == 1


@pytest.mark.parametrize("field", ["uid", "displayname", "employeenumber", "title"])
def test_what_is_longer_than_we_hold_is_a_conflict_that_names_the_field(field: str) -> None:
    plan = plan_of(user("1", **{field: "a" * 256}), user("2", **{field: "a" * 257}))
    named = [one.reason for one in plan.changes if one.kind == "conflict"]
    assert len(named) == (2 if field in {"uid", "employeenumber"} else 1)
    assert all(reason.startswith(f"{FIELDS[field]} 'aaaa") and len(reason) < 200 for reason in named)


FIELDS = {"uid": "login", "displayname": "name", "employeenumber": "employee_number", "title": "position"}


def somebody(login: str, **more: Any) -> Other:
    return Other(uuid4(), login, more.pop("active", True), **more)


@pytest.mark.case("SY-06")
def test_nobody_is_merged_by_login_mail_or_number_alone() -> None:
    zhang = somebody("zhangsan", mail="z@x", name="zhangsan")
    by_login = KnownDirectory(logins={"zhangsan": zhang})
    assert [kind for kind, _ in kinds(plan_of(user("1", "zhangsan"), held=by_login))] == ["conflict"]
    by_number = KnownDirectory(numbers={("XH01", "7"): (zhang, None)})
    other_name = user("1", "zs", o="XH01", employeenumber="7", mail="z@x")
    assert [kind for kind, _ in kinds(plan_of(other_name, held=by_number))] == ["conflict"]
    by_mail = plan_of(user("1", "zs", mail="z@x"), held=KnownDirectory(logins={"zhangsan": zhang}))
    assert [kind for kind, _ in kinds(by_mail)] == ["user_add"]


def test_the_employee_number_links_with_a_second_proof() -> None:
    zhang = somebody("zhangsan", mail="z@x", name="张三")
    entry = user("1", "zs", o="XH01", employeenumber="7", mail="z@x", displayname="张三")
    plan = plan_of(entry, held=KnownDirectory(numbers={("XH01", "7"): (zhang, None)}))
    assert change(plan, "user_link").after["user_id"] == str(zhang.user_id)


def test_a_rehire_and_a_recreated_account_wait_for_a_person() -> None:
    left = somebody("zhangsan", active=False, mail="z@x", name="张三")
    entry = user("2", "zs", o="XH01", employeenumber="7", mail="z@x", displayname="张三")
    numbers = {("XH01", "7"): (left, "1")}
    plan = plan_of(entry, held=KnownDirectory(numbers=numbers))
    assert "a rehire is a person's decision" in change(plan, "conflict").reason
    decided = KnownDirectory(numbers=numbers, decisions={"2": Decision("link", left.user_id)})
    assert change(plan_of(entry, held=decided), "user_link").after["user_id"] == str(left.user_id)
    ignored = KnownDirectory(numbers=numbers, decisions={"2": Decision("ignore")})
    assert not plan_of(entry, held=ignored).counts.get("user_add")


def test_sources_of_one_forest_share_people_by_login() -> None:
    forest = DirectorySettings.load("ldif", {"path": "x.ldif", "forest": "corp"})
    same = somebody("zhangsan", forests=frozenset({"corp"}))
    plan = make(Reading((user("1", "zhangsan"),)), KnownDirectory(logins={"zhangsan": same}), forest)
    assert change(plan, "user_link").after["user_id"] == str(same.user_id)


def test_a_source_of_higher_precedence_keeps_what_it_says_and_the_state() -> None:
    held = known(user("a", mail="hr@x", title="Engineer"))
    led = {key: replace(one, held=frozenset({"mail"}), led=False) for key, one in held.users.items()}
    held = replace(held, users=led)
    plan = plan_of(user("a", mail="ad@x", title="Lead", disabled=True), held=held)
    assert change(plan, "user_update").after == {"position": "Lead"}
    assert plan.counts == {"user_update": 1}


def test_an_end_in_the_directory_becomes_valid_until() -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    settings = DirectorySettings.load("ldif", {"path": "x", "attributes": {"valid_until": "accountExpires"}})
    entry = replace(user("a"), valid_until=end)
    assert (
        change(make(Reading((entry,)), KnownDirectory(), settings), "user_add").after["valid_until"] == end.isoformat()
    )


def test_a_group_that_goes_gives_its_name_and_its_members_free() -> None:
    held = known(user("a"), group("g", f"uid=a,{BASE}"), group("h", f"uid=a,{BASE}"))
    plan = plan_of(user("a"), group("h", f"uid=a,{BASE}"), held=held)
    assert kinds(plan) == [("group_remove", "g"), ("user_groups", "a")]
    assert change(plan, "user_groups").after == {"add": [], "remove": ["g"]}
    again = replace(group("g2", f"uid=a,{BASE}"), attributes={"cn": ("g",)})
    assert ("conflict", "g2") not in kinds(plan_of(user("a"), again, group("h"), held=held))


def test_a_group_of_somebody_elses_name_is_a_conflict() -> None:
    plan = plan_of(group("staff"), held=KnownDirectory(group_names=frozenset({"staff"})))
    assert kinds(plan) == [("conflict", "staff")]


@pytest.mark.parametrize(
    ("disabled", "total", "held"), [(5, 20, False), (6, 20, True), (10, 100, False), (11, 100, True)]
)
def test_the_guard_holds_more_than_five_or_a_tenth(disabled: int, total: int, held: bool) -> None:
    everybody = [user(f"u{n}") for n in range(total)]
    before = known(*everybody)
    plan = plan_of(*everybody[disabled:], held=before)
    assert bool(guard.check(plan, before, SETTINGS)) is held


def test_the_guard_holds_when_a_field_or_groups_vanish_for_many() -> None:
    everybody = [user(f"u{n}", mail="x@x") for n in range(20)]
    before = known(*everybody, group("g", *(one.dn for one in everybody)))
    no_mail = plan_of(*[user(f"u{n}") for n in range(20)], group("g", *(one.dn for one in everybody)), held=before)
    assert "clear a field of 20 of 20" in "".join(guard.check(no_mail, before, SETTINGS))
    no_members = plan_of(*everybody, group("g"), held=before)
    assert "take 20 of 20 accounts out of groups" in "".join(guard.check(no_members, before, SETTINGS))


@pytest.mark.case("SY-01")
def test_a_kind_of_entry_that_is_gone_altogether_is_no_answer() -> None:
    before = known(user("a"), group("g", f"uid=a,{BASE}"))
    with pytest.raises(ReadIncomplete):
        guard.check_reading(Reading((user("a"),)), before)
    guard.check_reading(Reading((), complete=False), before)


def test_how_many_accounts_there_are_is_asked_only_where_a_limit_depends_on_it() -> None:
    people = [user(f"u{n}") for n in range(9)]
    before = known(*people)
    for gone, asks in ((5, False), (6, True)):
        plan = make(Reading((), complete=False, gone=frozenset(f"u{n}" for n in range(gone))), before, SETTINGS)
        assert plan.counts == {"user_disable": gone}
        assert guard.asks_for_totals(plan, SETTINGS) is asks
        assert bool(guard.check(plan, replace(before, accounts=(0, 0)), SETTINGS)) is asks
        assert not guard.check(plan, replace(before, accounts=(100, 100)), SETTINGS)
