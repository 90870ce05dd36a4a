"""The page that says why: reached from a record or by a question, for the auditor and the security administrator."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from tests.integration.console.conftest import Console


def question(**more: str) -> str:
    fields = {"person": "li", "application": "expense", "action": "approve", "type": "claim", "object": "BX-1", **more}
    return f"/admin/explain?{urlencode(fields)}"


def test_a_question_is_answered_with_the_whole_chain(console: Console) -> None:
    page = console.visitor("secadmin").get(question(amount="4000.00"))
    assert page.status_code == 200
    steps = re.findall(r'<li class="(\w*)"><span class="kind">([^<]*)</span>', page.text)
    kinds = [kind for _, kind in steps]
    assert kinds == ["Person", "Group", "Mapping", "Role", "Permission", "Decision"]
    assert "sod_evidence_missing" in page.text
    assert "since version" in page.text
    page = console.visitor("secadmin").get(question(amount="4000.00", submitter="zhang"))
    assert ">Permit</p>" in page.text
    assert re.search(r"submit</span> Zhang</span>", page.text)
    assert re.search(r"≤ 5000.00 CNY.*stated: 4000.00 CNY", page.text, re.DOTALL)


def test_what_was_missing_names_the_mapping_that_would_give_it(console: Console) -> None:
    page = console.visitor("auditor").get(question(person="zhang")).text
    assert "What was missing" in page
    assert "leads" in page.partition("What was missing")[2]
    assert "The person is not in its source." in page


def test_a_record_leads_to_its_explanation_and_reading_it_is_recorded(console: Console) -> None:
    answer = console.decide(console.people["li"], "approve", "BX-9", amount={"value": "9000.00", "currency": "CNY"})
    record = answer["context"]["id"]
    console.find()
    auditor = console.visitor("auditor")
    assert f'href="/admin/audit/{record}/why"' in auditor.get(f"/admin/audit/{record}").text
    page = auditor.get(f"/admin/audit/{record}/why").text
    assert "the same answer and the same reason" in page
    assert "The amount exceeds the role" in page
    assert f'href="/admin/audit/{record}"' in page
    [read] = [one for one in console.records() if one.get("data") == {"record": record, "item": None}]
    assert read["kind"] == "audit.decision.explained"
    assert read["actor"]["name"] == "auditor"
    other = [one["id"] for one in console.records() if one["kind"] == "login.session.started"]
    console.find()
    assert auditor.get(f"/admin/audit/{other[0]}/why").status_code == 404
    assert auditor.get(f"/admin/audit/{record}/why?item=0").status_code == 404


def test_a_question_that_cannot_be_put_is_said_and_shown_again(console: Console) -> None:
    visitor = console.visitor("secadmin")
    for more, said in (
        ({"person": "nobody"}, "Nobody has this user name."),
        ({"amount": "much"}, "An amount is written as"),
        ({"properties": "["}, "not valid JSON"),
        ({"context": "[]"}, "JSON object"),
        ({"object": ""}, "Say who"),
    ):
        page = visitor.get(question(**more))
        assert page.status_code == 400, more
        assert said in page.text, more
        assert 'value="claim"' in page.text


def test_nothing_that_is_asked_runs_in_the_page(console: Console) -> None:
    page = console.visitor("secadmin").get(question(object='"><script>x</script>', properties='{"<b>": "<i>"}')).text
    assert "<script>x" not in page
    assert "<b>" not in page
    assert "<i>" not in page
