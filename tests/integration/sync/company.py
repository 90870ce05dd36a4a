"""A source and the Tessera that reads it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from identity.core.record import Actor
from identity.core.secrets import new_id
from identity.directory.models import DirectorySource
from identity.people.inputs import OrgUnitInput
from identity.people.models import User, UserState
from identity.people.service_org import put_org_unit
from identity.sync.run import Outcome, run_source
from tests.integration.sync.sources import Source
from tests.world import World

KINDS = [
    ("ldif", "sqlite"),
    ("slapd", "postgresql"),
    ("slapd-starttls", "sqlite"),
    ("slapd-ldaps", "postgresql"),
    ("samba", "sqlite"),
    ("csv", "postgresql"),
    ("xlsx", "sqlite"),
]


EVERY_SOURCE = pytest.mark.parametrize(
    ("source", "database_url"), KINDS, indirect=True, ids=[f"{kind}-{database}" for kind, database in KINDS]
)


class Company:
    """A source and the Tessera that reads it."""

    def __init__(self, world: World, source: Source) -> None:
        self.world = world
        self.source = source
        with world.unit() as unit:
            for code in ("XH01", "XH02"):
                put_org_unit(unit, OrgUnitInput(code=code, name=code, kind="company", currency="CNY"))
        self.connect("hq", source)

    def connect(self, code: str, source: Source, **columns: Any) -> None:
        """Make the source known, or give it new settings."""
        (self.world.settings.tessera_var / f"{code}.secret").write_text(source.secret)
        values: dict[str, Any] = {
            "name": code,
            "kind": source.kind,
            "settings": source.settings() | columns.pop("settings", {}),
            "secret_ref": f"file:{self.world.settings.tessera_var / f'{code}.secret'}",
            **columns,
        }
        with self.world.unit() as unit:
            row = unit.db.execute(select(DirectorySource).where(DirectorySource.code == code)).scalar_one_or_none()
            if row is None:
                unit.db.add(DirectorySource(id=new_id(), code=code, created_at=unit.now, **values))
            else:
                for name, value in values.items():
                    setattr(row, name, value)

    def configure(self, **settings: Any) -> None:
        """Change settings of the source."""
        self.connect("hq", self.source, settings=settings)

    def sync(self, code: str = "hq", **options: Any) -> Outcome:
        return run_source(self.world.units, code, Actor.system("test"), **options)

    def fill(self, staff: int) -> None:
        """Eight people of whom so many are staff, in the books."""
        for n in range(8):
            self.source.add(f"user{n}", displayName=f"用户{n}", mail=f"user{n}@xinghe.example", o="XH01")
        self.source.group("staff", *(f"user{n}" for n in range(staff)))
        assert self.sync().state == "applied"

    def state(self, login: str) -> str | None:
        """The state of the identity with this login; None when there is none."""
        return self.states().get(login)

    def user(self, login: str) -> Any:
        with self.world.database.read() as connection:
            return connection.execute(select(User.id, User.sub, User.person_id).where(User.login == login)).one()

    def may(self, login: str, action: str, **properties: Any) -> bool:
        """What the decision point answers about this person."""
        return bool(self.world.decide(self.user(login).id, action, "c1", **properties)["decision"])

    def states(self) -> dict[str, str]:
        """Everybody's state, by login."""
        query = select(User.login, UserState.state).join(UserState, User.id == UserState.user_id)
        with self.world.database.read() as connection:
            return dict(connection.execute(query.where(UserState.rev_until.is_(None))).all())
