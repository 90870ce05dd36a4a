"""A Tessera with its three administrators and two people, spoken to as a browser without scripts would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from identity.audit.index import index_new
from identity.people.models import User
from tests.conftest import KINDS, server_of
from tests.servers.templates import Templates
from tests.world import COMPANY, PASSWORD, World

ADMINISTRATORS = {"system": "sysadmin", "security": "secadmin", "audit": "auditor"}


class Visitor:
    """One browser; `login` None is somebody who is not signed in."""

    def __init__(self, world: World, login: str | None, start: str = "/admin") -> None:
        self.browser = world.browser()
        if login is not None:
            self.browser.sign_in(login, PASSWORD, start)

    def get(self, path: str) -> TestResponse:
        return self.browser.go(path)

    def post(self, path: str, /, **form: str) -> TestResponse:
        """Send a form with this browser's token."""
        page = self.browser.go("/logout")
        token = re.search(r'name="csrf_token" value="([^"]*)"', page.text)
        assert token
        data = {"csrf_token": unescape(token.group(1)), **form}
        return self.browser.client.post(path, data=data, base_url="http://localhost:8000")


class Console(World):
    """`people` are staff member `zhang` and lead `li`."""

    def __init__(self, database_url: str, folder: Path) -> None:
        (folder / "password").write_text(PASSWORD)
        admins = [
            {"login": login, "name": login.title(), "roles": [f"{role}-admin"], "password": "file:password"}
            for role, login in ADMINISTRATORS.items()
        ]
        super().__init__(database_url, folder, {**COMPANY, "administrators": admins})
        self.people: dict[str, Any] = {
            "zhang": self.person("zhang", "staff"),
            "li": self.person("li", "staff", "leads"),
        }

    def visitor(self, login: str | None, start: str = "/admin") -> Visitor:
        return Visitor(self, login, start)

    def find(self) -> None:
        """Make everything that was recorded findable."""
        index_new(self.database, datetime.now(UTC))

    def user_id(self, login: str) -> str:
        with self.database.read() as connection:
            return str(connection.execute(select(User.id).where(User.login == login)).scalar_one())


@pytest.fixture(scope="module", params=KINDS)
def console(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, templates: Templates
) -> Iterator[Console]:
    """One for all tests of a module, on each database; a test changes people of its own and leaves rules as found."""
    folder = tmp_path_factory.mktemp("console")
    made = Console(templates.copy(server_of(request), folder), folder)
    yield made
    made.close()
