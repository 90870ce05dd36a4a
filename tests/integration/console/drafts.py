"""What tests do with drafts of the rules in the console."""

from __future__ import annotations

import re

from identity.roles.service_policy import version_in_force
from tests.integration.console.conftest import Console, Visitor

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
