"""An application decides by itself with a bundle, is never looser for it, and tells the server what it decided."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from examples.edge.pep import BATCH_MAX, Edge
from examples.shared.pdp import Question
from identity.audit.index import index_new
from identity.audit.models import AuditFind
from identity.people.service import set_user_state
from tests.servers.slapd import free_port
from tests.world import COMPANY, World

EXPENSE = {**COMPANY["applications"][0], "rights": ["bundle"]}
ROOT = Path(__file__).resolve().parents[3]


class Quiet(WSGIRequestHandler):
    def log(self, *args: Any, **options: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[World]:
    """A world that is reached over HTTP at its public URL."""
    port = free_port()
    company = {**COMPANY, "applications": [EXPENSE]}
    world = World(database_url, tmp_path, company, public_url=f"http://127.0.0.1:{port}")
    server = make_server("127.0.0.1", port, world.app.extensions["tessera_edge"], threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield world
    server.shutdown()
    thread.join()
    server.server_close()
    world.close()


class Clock:
    def __init__(self) -> None:
        self.mono = self.wall = 1_000.0

    def __call__(self) -> tuple[float, float]:
        return self.mono, self.wall

    def pass_(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds


READ = Question("read", "claim", "c1", {})


def edge_of(world: World, clock: Clock, **options: int) -> Edge:
    edge = Edge(world.settings.public_url, "expense", world.secret, clock=clock, **options)
    world.fresh()
    assert edge.refresh()
    return edge


def reported(world: World) -> list[dict[str, Any]]:
    return [one for one in world.records() if one["kind"] == "access.decisions.reported"]


def asked(world: World) -> int:
    return sum(one["kind"] == "access.decision.made" for one in world.records())


def test_it_decides_here_what_it_may_and_asks_the_rest(served: World) -> None:
    zhang = served.person("zhang", "staff")
    sub = served.sub(zhang)
    edge = edge_of(served, Clock())
    assert edge.ask(sub, READ).permit
    assert edge.ask(sub, Question("approve", "other", "c1", {})).reason == "no_permission"
    assert asked(served) == 0
    assert edge.ask(sub, Question("submit", "claim", "c1", {})).permit, "a duty: asked at the decision point"
    assert asked(served) == 1
    assert edge.ask("nobody", READ).reason == "subject_unknown"
    assert edge.send()
    [record] = reported(served)
    assert (record["data"]["origin"], record["actor"]["id"], record["result"]) == ("edge", "expense", "deny")
    assert [(one["result"], one["reason"]) for one in record["data"]["items"]] == [
        ("permit", "permitted"),
        ("deny", "no_permission"),
        ("deny", "subject_unknown"),
    ]
    assert [one["user"] for one in record["data"]["items"]] == [str(zhang), str(zhang), None]
    assert asked(served) == 1, "its decisions are not ours"


@pytest.mark.parametrize("stops", ["mono", "wall", "neither"])
def test_a_bundle_that_is_not_confirmed_runs_out_on_any_clock(served: World, stops: str) -> None:
    sub = served.sub(served.person("zhang", "staff"))
    clock = Clock()
    edge = edge_of(served, clock)
    clock.pass_(57)
    assert edge.ask(sub, READ).permit
    assert asked(served) == 0
    before = (clock.mono, clock.wall)
    clock.pass_(3)
    if stops != "neither":
        setattr(clock, stops, before[stops == "wall"])
    assert edge.ask(sub, READ).permit, "the decision point was asked"
    assert asked(served) == 1
    assert edge.refresh()
    assert edge.ask(sub, READ).permit
    assert asked(served) == 1


def test_who_is_disabled_is_out_at_the_next_look(served: World) -> None:
    zhang = served.person("zhang", "staff")
    sub = served.sub(zhang)
    clock = Clock()
    edge = edge_of(served, clock)
    with served.unit() as unit:
        set_user_state(unit, zhang, "disabled", cause="test")
    assert edge.ask(sub, READ).permit, "within its minute"
    assert edge.refresh()
    assert not edge.ask(sub, READ).permit


def test_without_a_server_nothing_is_decided_beyond_the_minute(served: World) -> None:
    sub = served.sub(served.person("zhang", "staff"))
    clock = Clock()
    edge = edge_of(served, clock)
    with served.unit() as unit:
        unit.db.connection().exec_driver_sql("UPDATE application SET status = 'disabled'")
        unit.facts.touch("app")
    assert not edge.refresh()
    assert edge.ask(sub, READ).permit
    assert not edge.send()
    clock.pass_(60)
    answer = edge.ask(sub, READ)
    assert (answer.permit, answer.available) == (False, False)


def test_a_bundle_signed_by_another_key_is_none(served: World, tmp_path: Path) -> None:
    edge = edge_of(served, Clock())
    oa = Edge(served.settings.public_url, "oa", served.secret, clock=Clock())
    assert not oa.refresh(), "it is not this application"
    impostor = Edge(served.settings.public_url + "/", "expense", served.secret, clock=Clock())
    assert not impostor.refresh(), "another issuer"
    assert edge.refresh()


def test_with_too_much_unsent_it_asks(served: World) -> None:
    sub = served.sub(served.person("zhang", "staff"))
    most = BATCH_MAX + 20
    edge = edge_of(served, Clock(), unsent_max=most)
    for _ in range(most):
        edge.ask(sub, READ)
    assert asked(served) == 0
    edge.ask(sub, READ)
    assert asked(served) == 1
    assert edge.send()
    assert sum(len(one["data"]["items"]) for one in reported(served)) == most
    index_new(served.database, datetime.now(UTC))
    with served.database.read() as connection:
        found = connection.execute(AuditFind.__table__.select().where(AuditFind.kind == "access.decisions.reported"))
        assert sum(row.resource_id == "c1" for row in found) == most


def test_a_decision_that_the_server_cannot_read_does_not_keep_the_others_back(served: World) -> None:
    sub = served.sub(served.person("zhang", "staff"))
    edge = edge_of(served, Clock(), unsent_max=6)
    too_large = {"note": "x" * 1_048_576}
    assert [edge.ask(sub, READ, context).permit for context in ({}, too_large, {}, {})] == [True] * 4
    for unspeakable in (object(), float("nan")):
        answer = edge.ask(sub, Question("read", "claim", "c1", {"note": unspeakable}))
        assert (answer.permit, answer.reason) == (False, "request_invalid"), "nobody could be told of a yes"
    assert edge.send()
    assert sum(len(one["data"]["items"]) for one in reported(served)) == 3
    assert len(edge.aside) == 1
    assert edge.ask(sub, READ, too_large).permit
    assert edge.send()
    for _ in range(5):
        edge.ask(sub, READ)
    assert asked(served) == 1, "what was set aside still counts as unsent"


def test_policies_alone_need_no_server_package(tmp_path: Path) -> None:
    """As `docs/policy.md` says: the folder and one package."""
    shutil.copytree(ROOT / "policies", tmp_path / "policies", ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import sys
from policies import Action, Engine, Grant, Permission, Request, Resource, RuleSet
from policies.bundle import pack, unpack
from policies.export import ExportSubject
rules = RuleSet(1, (Permission("p", "app:r", "app", "t", "**", "do"),))
head = {"iss": "i", "aud": "app", "digest": "d", "iat": 0, "exp": 59, "policy_version": 1, "facts_revision": 1}
bundle = unpack({**pack(rules, "app", [ExportSubject("u", (Grant("app:r"),))], {}), **head})
assert bundle.decide("u", Action("do"), "t", "a", bundle.issued_at).permit
top = {name.partition(".")[0] for name in sys.modules}
assert not top & {"identity", "flask", "sqlalchemy", "casbin", "pydantic", "orjson"}, top
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONPATH": str(tmp_path)})
