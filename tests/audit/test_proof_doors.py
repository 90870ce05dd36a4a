"""Proofs by HTTP and in the console: for auditors and for applications with the right, and each of them holds."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from sqlalchemy import select

from identity.audit import merkle
from identity.audit.models import AuditRecord
from identity.audit.note import Head, open_note
from identity.audit.restored import Restored
from identity.core.db import Database
from tests.audit.proof import Proof
from tests.audit.test_restored import state
from tests.servers.templates import Templates
from tests.world import COMPANY, World

READER = {"code": "auditing", "name": "Audit tool", "credential": "env:TEST_SECRET", "rights": ["audit"]}


@pytest.fixture
def proof(database_url: str, tmp_path: Any) -> Any:
    company = {**COMPANY, "applications": [*COMPANY["applications"], READER]}
    world = World(database_url, tmp_path, company)
    yield Proof(world)
    world.close()


def get(proof: Proof, path: str, user: str = "auditing", **query: Any) -> Any:
    world = proof.world
    assert isinstance(world, World)
    return world.call("GET", f"/api/v1/audit/{path}", query_string=query, auth=(user, world.secret))


def test_a_machine_reads_heads_and_proofs_that_hold(proof: Proof) -> None:
    ids = proof.record(300)
    proof.seal()
    proof.record(5)
    proof.seal()
    answer = get(proof, "heads").json
    new, old = (Head.parse(open_note(one["note"], [key.key for key in proof.keys])) for one in answer["heads"])
    assert answer["anchored"]["size"] == answer["sealed"]["size"] == new.size
    assert set(answer["heads"][0]["anchored"]) == {"file"}
    for record_id in (ids[0], ids[255], ids[-1]):
        told = get(proof, "inclusion", record=str(record_id), size=str(old.size)).json
        path = [b64decode(one) for one in told["path"]]
        with database(proof).read() as connection:
            body = connection.execute(select(AuditRecord.body).where(AuditRecord.id == record_id)).scalar_one()
        assert merkle.inclusion_holds(merkle.leaf_hash(bytes(body)), told["seq"], old.size, path, old.root)
        assert Head.parse(open_note(told["note"], [key.key for key in proof.keys])) == old
    told = get(proof, "consistency", first=str(old.size), second=str(new.size)).json
    path = [b64decode(one) for one in told["path"]]
    assert merkle.consistency_holds(old.size, old.root, new.size, new.root, path)


def test_a_restoration_is_told_to_machines(proof: Proof) -> None:
    proof.record(5)
    proof.seal()
    cut(proof, 2)
    made = state(proof)
    answer = get(proof, "heads").json
    [told] = answer["restored"]
    assert (told["epoch"], told["kept"], told["lost"], told["by"]) == (1, made.kept, 2, "Wang")
    assert Restored.parse(open_note(told["note"], [key.key for key in proof.keys])) == made
    proof.seal(made.at)
    assert get(proof, "heads").json["heads"][0]["epoch"] == 1


def cut(proof: Proof, count: int) -> None:
    """The log without its last leaves and without heads, as an older state of the database has it."""
    kept = proof.size() - count
    seal, leaves = f"UPDATE audit_seal SET size = {kept}", f"DELETE FROM audit_leaf WHERE seq >= {kept}"
    proof.tamper(leaves, seal, "DELETE FROM audit_anchor", "DELETE FROM audit_head")


def test_whoever_may_not_read_the_proof_gets_nothing(proof: Proof) -> None:
    proof.seal()
    assert get(proof, "heads", user="expense").status_code == 403
    assert get(proof, "heads", user="nobody").status_code == 401
    world = proof.world
    assert isinstance(world, World)
    assert world.call("GET", "/api/v1/audit/heads").status_code == 401
    page = world.browser().go("/admin/audit/proof")
    assert page.status_code == 303
    assert "/console/enter" in page.headers["Location"]


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("inclusion", {"record": "x"}, 400),
        ("inclusion", {}, 400),
        ("inclusion", {"record": "01a214b7-634c-77a6-971b-f371d903cac0"}, 404),
        ("inclusion", {"record": "01a214b7-634c-77a6-971b-f371d903cac0", "size": "999999"}, 404),
        ("consistency", {"first": "0", "second": "1"}, 400),
        ("consistency", {"first": "2", "second": "1"}, 400),
        ("consistency", {"first": "1", "second": "999999999"}, 404),
        ("consistency", {"first": "-1", "second": "1e3"}, 400),
        ("heads", {"limit": "9" * 30}, 400),
    ],
)
def test_what_makes_no_sense_is_answered_so(one_proof: Proof, path: str, query: dict[str, str], status: int) -> None:
    assert get(one_proof, path, **query).status_code == status


@pytest.fixture(scope="module")
def one_proof(tmp_path_factory: pytest.TempPathFactory, templates: Templates) -> Any:
    folder = tmp_path_factory.mktemp("doors")
    company = {**COMPANY, "applications": [*COMPANY["applications"], READER]}
    world = World(templates.copy(None, folder), folder, company)
    made = Proof(world)
    made.seal()
    yield made
    world.close()


def database(proof: Proof) -> Database:
    return proof.world.database
