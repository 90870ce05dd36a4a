"""Drafts of the rules that a second person publishes."""

from __future__ import annotations

import re
from html import unescape

import pytest
from sqlalchemy import delete, select, update

from identity.core.errors import Refused
from identity.core.unit import Unit
from identity.people.inputs import NewUser, Profile
from identity.people.models import User
from identity.people.service import create_user
from identity.roles.inputs import PermissionInput
from identity.roles.models import PermissionRow
from identity.roles.models_drafts import PolicyDraft
from identity.roles.service_policy import change_rules, load_rules, publish
from tests.integration.console.conftest import Console, Visitor
from tests.integration.console.drafts import (
    AUDITOR,
    WHY,
    begin,
    compared,
    hidden,
    in_force,
    security_administrator,
    step,
)
from tests.world import PASSWORD, set_password


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
