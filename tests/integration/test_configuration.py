"""Configuration as code: applied twice it changes nothing, exported it applies elsewhere, what it drops is pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from identity.apps.inputs import ForwardInput
from identity.configuration.apply import apply
from identity.configuration.document import Document, load
from identity.configuration.export import export
from identity.core.errors import Conflict, Invalid
from identity.login.authenticate import set_password
from tests.integration.forward.wiki import company
from tests.world import CALLBACK, COMPANY, World, with_files

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo" / "company.yaml"


def applied(world: World, document: Document, folder: Path, *, prune: bool = False) -> tuple[str, ...]:
    with world.unit() as unit:
        return apply(unit, document, folder, set_password, prune=prune).lines


def exported(world: World) -> dict[str, Any]:
    with world.unit() as unit:
        return yaml.safe_load(export(unit))


def test_the_same_document_again_changes_nothing(world: World, tmp_path: Path) -> None:
    assert applied(world, Document.model_validate(with_files(COMPANY)), tmp_path) == ()


def test_what_a_later_document_says_otherwise_is_changed_and_recorded_with_both(world: World, tmp_path: Path) -> None:
    [employee, *others] = COMPANY["roles"]
    alarm = {"rule": "brute-force", "threshold": 7}
    changed = {**COMPANY, "roles": [{**employee, "title": "Member of staff"}, *others], "alarms": [alarm]}
    document = Document.model_validate(with_files(changed))
    lines = applied(world, document, tmp_path)
    assert len(lines) == 2
    told = {one["kind"]: one for one in world.records()}
    role, rule = told["roles.role.changed"], told["alarms.rule.changed"]
    assert (role["before"]["title"], role["after"]["title"]) == ("Employee", "Member of staff")
    assert (rule["resource_id"], rule["after"]["threshold"]) == ("brute-force", 7)
    assert applied(world, document, tmp_path) == ()


def test_the_demo_company_applies_exports_and_applies_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DEMO.read_text(encoding="utf-8")
    for name in ("EXPENSE_PDP_SECRET", "EXPENSE_CLIENT_SECRET", "OA_PDP_SECRET", "ERP_PDP_SECRET"):
        monkeypatch.setenv(name, f"{name}-value")
    monkeypatch.setenv("TESSERA_DEMO_PASSWORD", "a demo password 42")
    lines = applied(world, load(DEMO), DEMO.parent)
    assert any(line.startswith("+ apps.application.created: application oa") for line in lines)
    first = exported(world)
    wanted = yaml.safe_load(text)
    assert {one["code"] for one in first["org_units"]} == {one["code"] for one in wanted["org_units"]}
    assert {row["code"] for row in first["applications"]} == {"expense", "oa", "erp"}
    assert sorted(map(str, first["mappings"])) == sorted(
        map(str, Document.model_validate(first).model_dump(mode="json", exclude_defaults=True)["mappings"])
    )
    again = applied(world, Document.model_validate(first), DEMO.parent)
    assert again == ()
    assert exported(world) == first
    assert "secret" not in {key for app in first["applications"] for face in app.get("oidc", ()) for key in face}


def test_what_a_later_document_drops_is_listed_and_pruned_only_when_asked(world: World, tmp_path: Path) -> None:
    world.person("zhang", "staff")
    smaller = with_files(COMPANY)
    smaller["applications"] = [{**smaller["applications"][0], "cas": []}]
    document = Document.model_validate(smaller)
    assert applied(world, document, tmp_path) == ("? cas_service https://app.example/cas of expense",)
    login = "/cas/login?service=https://app.example/cas"
    assert world.call("GET", login).status_code == 303
    assert applied(world, document, tmp_path, prune=True) == ("- cas_service https://app.example/cas of expense",)
    assert world.call("GET", login).status_code == 400
    assert applied(world, document, tmp_path) == ()
    revived = applied(world, Document.model_validate(with_files(COMPANY)), tmp_path)
    assert revived == ("~ apps.protocol.changed: application expense",)
    assert world.call("GET", login).status_code == 303


def test_a_pruned_client_and_application_are_unknown_and_their_tokens_die(world: World, tmp_path: Path) -> None:
    world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    back, verifier = browser.authorize()
    form = {"code": back["code"], "redirect_uri": CALLBACK, "code_verifier": verifier}
    tokens = world.token(grant_type="authorization_code", **form).json or {}
    smaller = with_files(COMPANY)
    smaller["applications"] = [{**smaller["applications"][0], "oidc": []}]
    applied(world, Document.model_validate(smaller), tmp_path, prune=True)
    assert world.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 401
    info = world.call("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert info.status_code == 401
    nothing = Document.model_validate({**smaller, "applications": []})
    assert "- application expense" in applied(world, nothing, tmp_path, prune=True)
    assert world.call("POST", "/access/v1/evaluation", json={}, auth=("expense", world.secret)).status_code == 401


def test_a_file_never_widens_an_installation_that_has_administrators(world: World, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("a long password 1")
    part = {"name": "A", "roles": ["security-admin"], "password": "file:pw"}
    applied(world, Document.model_validate({"administrators": [{"login": "one", **part}]}), tmp_path)
    with pytest.raises(Conflict):
        applied(world, Document.model_validate({"administrators": [{"login": "two", **part}]}), tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("applications: [{code: a}]", "applications.0.name"),
        ("surprise: 1", "surprise"),
        ("roles: [", "cannot be read"),
        ("mappings: [{role: 'a:b'}]", "exactly one"),
        ("permissions: [{role: 'a:b', type: x, actions: [y], condition: 5}]", "permissions.0.condition"),
        ("applications: [{code: a, name: A, oidc: [{client_id: a, redirect_uris: ['javascript:x']}]}]", "redirect"),
        ("directories: [{code: a, name: A, kind: ldif, settings: {path: a.ldif}, live: true}]", "no live"),
    ],
)
def test_a_wrong_document_is_refused_by_the_name_of_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(Invalid) as caught:
        load(path)
    assert named in caught.value.public


def test_a_proxied_host_applies_exports_and_is_pruned(world: World, tmp_path: Path) -> None:
    wanted = with_files(company("https://wiki.example"))
    applied(world, Document.model_validate(wanted), tmp_path)
    [wiki] = [one for one in exported(world)["applications"] if one["code"] == "wiki"]
    assert wiki["forward"] == wanted["applications"][1]["forward"]
    assert applied(world, Document.model_validate(wanted), tmp_path) == ()
    wanted["applications"][1].pop("forward")
    lines = applied(world, Document.model_validate(wanted), tmp_path, prune=True)
    assert lines == ("- forward_host https://wiki.example of wiki",)
    [wiki] = [one for one in exported(world)["applications"] if one["code"] == "wiki"]
    assert "forward" not in wiki


@pytest.mark.parametrize(
    "host",
    [
        {"origin": "http://wiki.example"},
        {"origin": "https://wiki.example/"},
        {"origin": "https://Wiki.example"},
        {"origin": "https://a@wiki.example"},
        {"origin": "https://wiki.example", "actions": {"BREW": "read"}},
        {"origin": "https://wiki.example", "routes": [{"pattern": "/a"}]},
        {"origin": "https://wiki.example", "routes": [{"pattern": "a/**/b"}]},
    ],
)
def test_a_wrong_host_is_refused(host: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ForwardInput.model_validate(host)
