"""Drafts of the rules through the console: written in steps, looked at, published by one."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta

from identity.access.checks import carry_out_waiting, forget_rows
from identity.access.decide import Access
from identity.audit.csv import BOM
from identity.core.unit import Units
from identity.roles.inputs import PermissionInput
from identity.roles.service_policy import change_rules, load_rules, version_in_force
from tests.integration.console.conftest import Console, Visitor
from tests.integration.console.drafts import (
    AUDITOR,
    WHY,
    begin,
    compared,
    draft_address,
    hidden,
    in_force,
    step,
    version_of,
)


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


def test_who_gains_and_loses_is_kept_for_a_while_and_while_somebody_must_look_at_it(console: Console) -> None:
    admin = console.visitor("secadmin")
    answer = admin.post("/admin/policy/checks", kind="compare", before="0", to=str(in_force(console)))
    ended = answer.headers["Location"]
    address = begin(admin, "Waits for long")
    assert step(admin, address, "edit", **{**AUDITOR, "action": "wait"}) == 303
    waits = compared(admin, address)
    forget_rows(console.things[Units], datetime.now(UTC) + timedelta(days=89))
    assert "zhang" in admin.get(ended).text
    forget_rows(console.things[Units], datetime.now(UTC) + timedelta(days=91))
    page = admin.get(ended).text
    assert "zhang" not in page
    assert "The list was kept for 90 days" in page
    assert "Nobody gains or loses anything" not in page
    assert ">Gains<" in page
    assert "zhang" in admin.get(waits).text
    assert step(admin, address, "discard", **WHY) == 303


def work(console: Console) -> None:
    """What the worker does in its turn."""
    console.fresh()
    carry_out_waiting(console.units, console.database, console.things[Access], datetime.now(UTC) + console.ahead)
