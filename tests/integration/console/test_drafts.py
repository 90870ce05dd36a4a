"""Drafts of the rules through the console: written in steps, looked at, published by one or by two persons."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from html import unescape

import pytest
from sqlalchemy import delete, select, update

from identity.access.checks import carry_out_waiting
from identity.access.decide import Access
from identity.audit.csv import BOM
from identity.core.errors import Refused
from identity.core.unit import Unit
from identity.people.inputs import NewUser, Profile
from identity.people.models import User
from identity.people.service import create_user
from identity.roles.inputs import PermissionInput
from identity.roles.models import PermissionRow
from identity.roles.models_drafts import PolicyDraft
from identity.roles.service_policy import change_rules, load_rules, publish, version_in_force
from tests.integration.console.conftest import Console, Visitor
from tests.world import PASSWORD, set_password

WHY = {"reason": "quarterly review", "reference": "CHG-7"}
AUDITOR = {"part": "permissions", "role": "expense:employee", "type": "claim", "action": "audit, print"}


def draft_address(answer: object) -> str:
    location: str = answer.headers["Location"]  # type: ignore[attr-defined]
    assert location.startswith("/admin/policy/drafts/"), location
    return location


def hidden(visitor: Visitor, address: str) -> dict[str, str]:
    """What the page binds its forms to."""
    page = visitor.get(address).text
    fields = dict(re.findall(r'name="(row_version|digest)" value="([^"]*)"', page))
    assert set(fields) == {"row_version", "digest"}, page[:2000]
    return fields


def begin(visitor: Visitor, title: str = "Print claims") -> str:
    return draft_address(visitor.post("/admin/policy/drafts", title=title, **WHY))


def step(visitor: Visitor, address: str, verb: str, **form: str) -> int:
    bound = {**hidden(visitor, address), **form}
    return visitor.post(f"{address}/{verb}", **bound).status_code


def version_of(visitor: Visitor, address: str) -> str:
    found = re.search(r'name="to" value="(\d+)"', visitor.get(address).text)
    assert found
    return found.group(1)


def compared(visitor: Visitor, address: str) -> str:
    """Look at who gains and who loses; the check's address."""
    answer = visitor.post("/admin/policy/checks", kind="compare", to=version_of(visitor, address))
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def in_force(console: Console) -> int:
    with console.unit() as unit:
        return version_in_force(unit) or 0


def security_administrator(console: Console, login: str) -> None:
    """One more, as it is done: proposed by one, approved by another."""
    console.person(login)
    wanted = {"login": login, "role": "tessera:security-admin", "action": "assign", **WHY}
    assert console.visitor("secadmin").post("/admin/administrators", **wanted).status_code == 303
    system = console.visitor("sysadmin")
    [proposal] = set(
        re.findall(
            r"/admin/administrators/([0-9a-f-]{36})", console.visitor("secadmin").get("/admin/administrators").text
        )
    )
    assert system.post(f"/admin/administrators/{proposal}", answer="approve", **WHY).status_code == 303


@pytest.fixture(scope="module")
def pair(console: Console) -> tuple[Visitor, Visitor]:
    """Two security administrators where a second person publishes."""
    security_administrator(console, "second")
    one, two = console.visitor("secadmin"), console.visitor("second")
    assert one.post("/admin/policy/second-person", required="yes", **WHY).status_code == 303
    page = one.get("/admin/policy").text
    assert "Another security administrator must decide this." in page
    [row_version] = set(
        re.findall(r'second-person/decide.*?name="row_version" value="(\d+)"', two.get("/admin/policy").text, re.DOTALL)
    )
    own = one.post("/admin/policy/second-person/decide", answer="approve", row_version=row_version, **WHY)
    assert own.status_code == 403
    assert two.post("/admin/policy/second-person/decide", answer="approve", row_version="0", **WHY).status_code == 409
    good = two.post("/admin/policy/second-person/decide", answer="approve", row_version=row_version, **WHY)
    assert good.status_code == 303
    return one, two


def test_several_edits_are_collected_compared_and_published_by_one(console: Console) -> None:
    admin = console.visitor("secadmin")
    before = in_force(console)
    address = begin(admin)
    assert step(admin, address, "edit", **AUDITOR) == 303
    mapping = {"part": "mappings", "source": "group|staff", "role": "expense:approver", "limit": "100.00"}
    assert step(admin, address, "edit", **mapping) == 303
    edge = {"part": "inheritance", "senior": "expense:approver", "junior": "expense:employee"}
    assert step(admin, address, "edit", **edge) == 303
    duty = {"part": "duties", "id": "X9", "title": "two hands", "kind": "object", "application": "expense"}
    assert step(admin, address, "edit", type="voucher", actions="post pay", **duty) == 303
    page = admin.get(address).text
    for text in (
        "audit expense/claim **",
        "group staff → expense:approver · ≤ 100.00 CNY",
        "X9 two hands",
        "Not looked at",
    ):
        assert text in page, text
    taken = re.search(r'name="part" value="duties"><input type="hidden" name="undo" value="([0-9a-f]+)"', page)
    assert taken
    assert step(admin, address, "edit", part="duties", undo=taken.group(1)) == 303
    assert "X9" not in admin.get(address).text
    # Nothing has been decided by it, and nobody publishes what nobody has looked at.
    assert console.decide(console.people["zhang"], "print", "BX-1")["decision"] is False
    assert admin.post(f"{address}/publish", **hidden(admin, address), **WHY).status_code == 409
    check = compared(admin, address)
    found = admin.get(check).text
    assert found.count(">gains<") >= 4
    assert "≤ 100.00 CNY" in found
    rows = admin.get(f"{check}?kind=role&q=zhang").text
    assert "/admin/roles/expense%3Aapprover" in rows
    assert ">Li<" not in rows
    assert admin.post(f"{address}/publish", **hidden(admin, address), **WHY).status_code == 303
    assert in_force(console) > before
    assert console.decide(console.people["zhang"], "print", "BX-1")["decision"] is True
    console.find()
    published = console.visitor("auditor").get("/admin/audit?kind=roles.policy.published").text
    assert "secadmin published policy version" in published


def test_what_was_compared_is_a_file_that_opens_safely(console: Console) -> None:
    admin = console.visitor("secadmin")
    address = begin(admin, "Everybody approves")
    assert (
        step(admin, address, "edit", part="mappings", source="group|staff", role="expense:approver", limit="7.00")
        == 303
    )
    check = compared(admin, address)
    answer = admin.get(f"{check}/file?kind=role")
    assert answer.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix(BOM), newline="")))
    assert {row["User name"] for row in rows} >= {"zhang", "li"}
    assert {row["Change"] for row in rows} <= {"gains", "changes"}
    assert step(admin, address, "discard", **WHY) == 303
    assert step_refused(admin, address) == 409
    with console.later(minutes=6):
        assert admin.get(f"{check}/file").status_code == 303  # asks to sign in again


def step_refused(visitor: Visitor, address: str) -> int:
    return visitor.post(f"{address}/edit", row_version="99", **AUDITOR).status_code


def test_a_draft_that_others_overtook_is_brought_up_to_date_or_says_what_stands_in_the_way(console: Console) -> None:
    admin = console.visitor("secadmin")
    address = begin(admin, "Overtaken")
    assert (
        step(admin, address, "edit", part="permissions", role="expense:employee", type="claim", action="export") == 303
    )
    compared(admin, address)
    bound = hidden(admin, address)
    with console.unit() as unit:
        content = load_rules(unit, version_in_force(unit))
        other = PermissionInput(role="expense:approver", application="expense", type="claim", action="recall")
        change_rules(
            unit,
            content.model_copy(update={"permissions": (*content.permissions, other)}),
            based_on=version_in_force(unit),
            note="other",
        )
    # An old draft never takes newer rules back.
    assert admin.post(f"{address}/publish", **bound, **WHY).status_code == 409
    assert "out of date" in admin.get(address).text
    compared(admin, address)
    late = admin.post(f"{address}/publish", **bound, **WHY)
    assert late.status_code == 409
    assert "Bring it up to date first." in late.text
    assert step(admin, address, "rebase") == 303
    compared(admin, address)
    assert admin.post(f"{address}/publish", **hidden(admin, address), **WHY).status_code == 303
    with console.unit() as unit:
        actions = {one.action for one in load_rules(unit, version_in_force(unit)).permissions}
    assert {"export", "recall"} <= actions

    second = begin(admin, "In the way")
    rules = admin.get(f"{second}/rules?part=permissions&q=recall").text
    [key] = re.findall(r'name="remove" value="([0-9a-f]+)"', rules)
    assert step(admin, second, "edit", part="permissions", remove=key) == 303
    with console.unit() as unit:
        content = load_rules(unit, version_in_force(unit))
        rest = tuple(one for one in content.permissions if one.action != "recall")
        change_rules(
            unit, content.model_copy(update={"permissions": rest}), based_on=version_in_force(unit), note="other"
        )
    page = admin.get(second).text
    assert "were changed by others" in page
    assert step(admin, second, "rebase") == 409
    assert step(admin, second, "edit", part="permissions", undo=key) == 303
    assert step(admin, second, "rebase") == 303


def test_rules_go_back_to_an_earlier_version_as_a_new_one(console: Console) -> None:
    admin = console.visitor("secadmin")
    first, before = 1, in_force(console)
    answer = admin.post(f"/admin/policy/versions/{first}/restore", **WHY)
    address = draft_address(answer)
    assert "rules of 1" in admin.get(address).text
    compared(admin, address)
    assert admin.post(f"{address}/publish", **hidden(admin, address), **WHY).status_code == 303
    now = in_force(console)
    assert now > before
    with console.unit() as unit:
        assert load_rules(unit, now) == load_rules(unit, first)
    assert "rules of 1" in admin.get("/admin/policy").text
    # Once more there is nothing to do, and what never was in force is no place to go back to.
    assert admin.post(f"/admin/policy/versions/{first}/restore", **WHY).status_code == 409
    assert admin.post("/admin/policy/versions/999/restore", **WHY).status_code == 404
    assert console.decide(console.people["zhang"], "print", "BX-1")["decision"] is False


def test_any_two_versions_are_compared_and_the_rules_of_one_are_shown(console: Console) -> None:
    admin = console.visitor("auditor")
    now = in_force(console)
    answer = admin.post("/admin/policy/checks", kind="compare", before="0", to=str(now))
    page = admin.get(answer.headers["Location"]).text
    assert "gains" in page
    back = admin.get(admin.post("/admin/policy/checks", kind="compare", before=str(now), to="1").headers["Location"])
    assert "Nobody gains or loses anything" in back.text
    assert "P01" in admin.get(f"/admin/policy/versions/{now}?part=duties").text
    assert admin.get("/admin/policy/versions/99999999999").status_code == 404
    assert admin.post("/admin/policy/checks", kind="compare", before="1", to="99").status_code == 404
    assert admin.post("/admin/policy/checks", kind="nonsense", to="1").status_code == 400


def test_recorded_decisions_that_would_flip_are_listed_with_what_was_replayed(console: Console) -> None:
    admin = console.visitor("secadmin")
    for number in range(5):
        assert console.decide(console.people["zhang"], "submit", f"RP-{number}")["decision"] is True
        assert console.decide(console.people["zhang"], "shred", f"RP-{number}")["decision"] is False
    console.find()
    address = begin(admin, "Shred")
    [key] = re.findall(
        r'submit expense/claim.*?name="remove" value="([0-9a-f]+)"',
        admin.get(f"{address}/rules?part=permissions&q=submit").text,
        re.DOTALL,
    )
    assert step(admin, address, "edit", part="permissions", remove=key) == 303
    assert (
        step(admin, address, "edit", part="permissions", role="expense:employee", type="claim", action="shred") == 303
    )
    answer = admin.post("/admin/policy/checks", kind="replay", days="7", to=version_of(admin, address))
    check = answer.headers["Location"]
    # The page does not wait for it: the worker does it.
    assert "It is being worked out." in admin.get(check).text
    work(console)
    page = admin.get(f"{check}?q=RP-").text
    assert page.count("permit → deny</span>") >= 5
    assert page.count("deny → permit</span>") >= 5
    assert "recorded decisions of the period were replayed" in page
    assert "no_permission" in page
    assert step(admin, address, "discard", **WHY) == 303


def work(console: Console) -> None:
    """What the worker does in its turn."""
    console.fresh()
    carry_out_waiting(console.units, console.database, console.things[Access], datetime.now(UTC) + console.ahead)


@pytest.mark.case("PE-09")
def test_pe_09_who_wrote_or_proposed_a_draft_does_not_publish_it_by_any_identity(
    console: Console, pair: tuple[Visitor, Visitor]
) -> None:
    one, two = pair
    address = begin(one, "Mine alone")
    assert step(one, address, "edit", **AUDITOR) == 303
    compared(one, address)
    bound = hidden(one, address)
    # Alone he neither publishes it, nor by the mapping page, which makes a draft now.
    assert one.post(f"{address}/publish", **bound, **WHY).status_code == 403
    version = in_force(console)
    direct = one.post("/admin/mappings", source="group|leads", role="expense:employee", based_on=str(version), **WHY)
    assert direct.headers["Location"].startswith("/admin/policy/drafts/")
    assert one.post(f"{address}/propose", **bound, **WHY).status_code == 303
    proposed = hidden(one, address)
    assert one.post(f"{address}/decide", answer="approve", **proposed, **WHY).status_code == 403
    # A second account of the same person is the same person.
    with console.unit() as unit:
        person = unit.db.execute(select(User.person_id).where(User.login == "secadmin")).scalar_one()
        twin = create_user(unit, NewUser(login="secadmin-2", profile=Profile(name="Twin"), person_id=person))
        set_password(unit, twin, PASSWORD)
    wanted = {"login": "secadmin-2", "role": "tessera:security-admin", "action": "assign", **WHY}
    assert two.post("/admin/administrators", **wanted).status_code == 303
    [proposal] = set(re.findall(r"/admin/administrators/([0-9a-f-]{36})", two.get("/admin/administrators").text))
    assert (
        console.visitor("sysadmin").post(f"/admin/administrators/{proposal}", answer="approve", **WHY).status_code
        == 303
    )
    twin_visitor = console.visitor("secadmin-2")
    assert twin_visitor.get(address).status_code == 200
    refused = twin_visitor.post(f"{address}/decide", answer="approve", **proposed, **WHY)
    assert refused.status_code == 403
    assert "A second person must decide this." in refused.text
    assert in_force(console) == version
    # The second person does.
    assert two.post(f"{address}/decide", answer="approve", **proposed, **WHY).status_code == 303
    assert in_force(console) > version
    assert "approved by Second" in one.get(address).text
    console.find()
    found = console.visitor("auditor").get("/admin/audit?kind=roles.draft.decided").text
    assert "second decided on the draft" in found


def test_what_is_published_is_what_the_second_person_saw(console: Console, pair: tuple[Visitor, Visitor]) -> None:
    one, two = pair
    version = in_force(console)
    address = begin(one, "Harmless")
    assert step(one, address, "edit", part="permissions", role="expense:employee", type="claim", action="look") == 303
    compared(one, address)
    assert one.post(f"{address}/propose", **hidden(one, address), **WHY).status_code == 303
    seen = hidden(two, address)
    # A proposed draft changes no more …
    more = {"part": "permissions", "role": "expense:employee", "type": "claim", "action": "delete"}
    assert step(one, address, "edit", **more) == 409
    # … and one that was withdrawn, changed and proposed again is not the one that was seen.
    assert step(one, address, "withdraw") == 303
    assert step(one, address, "edit", **more) == 303
    compared(one, address)
    assert one.post(f"{address}/propose", **hidden(one, address), **WHY).status_code == 303
    assert two.post(f"{address}/decide", answer="approve", **seen, **WHY).status_code == 409
    mixed = {**hidden(two, address), "digest": seen["digest"]}
    assert two.post(f"{address}/decide", answer="approve", **mixed, **WHY).status_code == 409
    assert in_force(console) == version
    # Rows that were changed behind its back are not published either.
    seen = hidden(two, address)
    with console.database.write() as connection:
        draft = connection.execute(select(PolicyDraft.version).where(PolicyDraft.state == "proposed")).scalar_one()
        connection.execute(delete(PermissionRow).where(PermissionRow.version == draft, PermissionRow.action == "look"))
    assert two.post(f"{address}/decide", answer="approve", **seen, **WHY).status_code == 409
    assert in_force(console) == version
    assert two.post(f"{address}/decide", answer="refuse", **seen, reason="not like this").status_code == 303
    assert "not like this" in one.get(address).text
    assert step(one, address, "discard", **WHY) == 303


def publish_forged(unit: Unit) -> None:
    draft = unit.db.execute(select(PolicyDraft).where(PolicyDraft.title == "Forged")).scalar_one()
    values = {"state": "published", "proposed_by": draft.owner_person, "decided_by": draft.owner_person}
    unit.db.execute(update(PolicyDraft).where(PolicyDraft.id == draft.id).values(**values))
    publish(unit, draft.version)


def test_no_path_goes_round_the_second_person(console: Console, pair: tuple[Visitor, Visitor]) -> None:
    one, _two = pair
    version = in_force(console)
    with console.unit() as unit:
        content = load_rules(unit, version)
    wider = PermissionInput(role="expense:employee", application="expense", type="claim", action="all")
    changed = content.model_copy(update={"permissions": (*content.permissions, wider)})
    with pytest.raises(Refused, match="second person"), console.unit() as unit:
        change_rules(unit, changed, based_on=version, note="by the command line")
    # A draft that says that it was approved, by who wrote it, is not believed.
    address = begin(one, "Forged")
    assert step(one, address, "edit", part="permissions", role="expense:employee", type="claim", action="all") == 303
    with pytest.raises(Refused, match="second person"), console.unit() as unit:
        publish_forged(unit)
    assert in_force(console) == version
    assert step(one, address, "discard", **WHY) == 303


def test_rules_that_leave_no_administrator_able_to_act_are_refused(
    console: Console, pair: tuple[Visitor, Visitor]
) -> None:
    one, two = pair
    address = begin(one, "Locked out")
    duty = {"part": "duties", "id": "LOCK", "title": "lock", "kind": "object", "application": "tessera"}
    assert step(one, address, "edit", type="policy", actions="read write approve", **duty) == 303
    compared(one, address)
    assert one.post(f"{address}/propose", **hidden(one, address), **WHY).status_code == 303
    answer = two.post(f"{address}/decide", answer="approve", **hidden(two, address), **WHY)
    assert answer.status_code == 409
    assert "No security administrator could act any more." in unescape(answer.text)
    assert two.post(f"{address}/decide", answer="refuse", **hidden(two, address), **WHY).status_code == 303
    assert step(one, address, "discard", **WHY) == 303


def test_forms_of_drafts_come_from_our_own_pages_and_from_a_fresh_sign_in(
    console: Console, pair: tuple[Visitor, Visitor]
) -> None:
    one, _two = pair
    address = begin(one, "Cross-site")
    assert step(one, address, "edit", **{**AUDITOR, "action": "forge"}) == 303
    compared(one, address)
    bound = {**hidden(one, address), **WHY}
    client = one.browser.client
    for verb in ("edit", "propose", "publish", "decide", "rebase", "discard", "withdraw"):
        forged = client.post(f"{address}/{verb}", data=bound, base_url="http://localhost:8000")
        assert forged.status_code == 403, verb
    for path in (
        "/admin/policy/second-person",
        "/admin/policy/second-person/decide",
        "/admin/policy/drafts",
        "/admin/policy/checks",
    ):
        assert client.post(path, data=bound, base_url="http://localhost:8000").status_code == 403, path
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert (
        client.post(f"{address}/propose", data=bound, headers=headers, base_url="http://localhost:8000").status_code
        == 403
    )
    with console.later(minutes=6):
        late = one.post(f"{address}/propose", **bound)
        assert late.headers["Location"].startswith("/console/enter")
    assert step(one, address, "discard", **WHY) == 303
