"""The names by which applications know people: random, stored, one person's only, and the same for ever (ID-04)."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from identity.apps.inputs import ApplicationInput
from identity.apps.models import AppAccount, Application
from identity.apps.service import app_account, put_application
from identity.keys.rotate import rotate
from identity.people.inputs import Profile
from identity.people.service import rename_login, update_profile
from tests.integration.saml.sp import PERSISTENT, Sp
from tests.servers.postgres import Postgres
from tests.world import World

pytestmark = pytest.mark.case("ID-04")


def saml_name(world: World, sp: Sp, login: str) -> str:
    """The persistent NameID with which the person comes to the service provider."""
    browser, auth = world.browser(), sp.auth()
    browser.sign_in(login)
    answer = browser.follow(browser.go(f"/saml/sso?{urlsplit(auth.login()).query}"))
    found = sp.accept(answer, auth.get_last_request_id())
    assert found.get_nameid_format() == PERSISTENT
    name: str = found.get_nameid()
    return name


def account(world: World, user_id: UUID, code: str = "expense") -> Any:
    """How the application knows the person; made at first use."""
    with world.database.write() as connection:
        app_id = connection.execute(select(Application.id).where(Application.code == code)).scalar_one()
        return app_account(connection, app_id, user_id, datetime.now(UTC))


def permitted(world: World, subject: str) -> bool:
    """What the decision point answers about the person whom the application names so."""
    body = {
        "subject": {"type": "user", "id": subject},
        "action": {"name": "submit"},
        "resource": {"type": "claim", "id": "1"},
    }
    answer = world.call("POST", "/access/v1/evaluation", json=body, auth=("expense", world.secret))
    assert answer.status_code == 200, answer.text
    return bool(answer.json["decision"])


def restored(world: World, request: pytest.FixtureRequest, folder: Path) -> World:
    """Another installation from a copy of the database and of the root key; the first one is closed."""
    url = world.database.engine.url
    var = folder / "var"
    var.mkdir(parents=True, mode=0o700)
    shutil.copy2(world.settings.tessera_var / "root.key", var)
    if url.get_backend_name() == "sqlite":
        target = folder / "tessera.db"
        with closing(sqlite3.connect(str(url.database))) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
        world.close()
        return World(f"sqlite:///{target}", folder)
    world.close()
    server: Postgres = request.getfixturevalue("postgres")
    return World(server.database(template=str(url.database)), folder)


def test_names_of_people_without_attributes_differ_and_outlive_everything(
    world: World, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    zhang, li = world.person("zhang", "staff"), world.person("li", "staff")
    with world.unit() as unit:
        put_application(unit, ApplicationInput(code="wiki", name="Wiki"))
    sp = Sp(world)
    mine, hers = saml_name(world, sp, "zhang"), saml_name(world, sp, "li")
    elsewhere = account(world, zhang, "wiki")
    said = account(world, zhang)
    assert said.name_id == mine
    told = [mine, hers, said.pairwise_sub, account(world, li).pairwise_sub, elsewhere.name_id, elsewhere.pairwise_sub]
    assert len(set(told)) == len(told)
    assert not [one for one in told if world.sub(zhang) in one or world.sub(li) in one or "zhang" in one]
    with world.unit() as unit:
        rename_login(unit, zhang, "zhangsan")
        update_profile(unit, zhang, Profile(name="张三", mail="li@example.com"))
        update_profile(unit, li, Profile(name="张三", phone="1"))
    for days in (0, 2, 4):
        with world.later(days=days), world.unit() as unit:
            rotate(unit, world.app.extensions["tessera_root"])
    again = restored(world, request, tmp_path / "restored")
    try:
        sp = Sp(again)
        assert (saml_name(again, sp, "zhangsan"), saml_name(again, sp, "li")) == (mine, hers)
        assert account(again, zhang) == said
        assert account(again, zhang, "wiki") == elsewhere
        new = account(again, again.person("zhang", "staff"))
        assert {new.name_id, new.pairwise_sub}.isdisjoint(told), "who gets a login that is free again is somebody else"
    finally:
        again.close()


def test_a_name_means_one_person_of_one_application(world: World) -> None:
    zhang, li = world.person("zhang", "staff"), world.person("li", "staff")
    with world.unit() as unit:
        put_application(unit, ApplicationInput(code="wiki", name="Wiki"))
        put_application(unit, ApplicationInput(code="expense", name="报销", subject_id_field="pairwise_sub"))
    world.fresh()
    mine, hers, elsewhere = account(world, zhang), account(world, li), account(world, zhang, "wiki")
    assert permitted(world, mine.pairwise_sub)
    for other in (elsewhere.pairwise_sub, mine.name_id, world.sub(zhang), "zhang", mine.pairwise_sub.upper()):
        assert not permitted(world, other), other
    assert hers != mine
    for column in ("name_id", "pairwise_sub"):
        with pytest.raises(IntegrityError), world.database.write() as connection:
            connection.execute(
                update(AppAccount).where(AppAccount.user_id == li).values({column: getattr(mine, column)})
            )


def test_first_uses_at_once_end_with_one_name(world: World) -> None:
    zhang = world.person("zhang", "staff")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: account(world, zhang), range(12)))
    assert len(set(found)) == 1
