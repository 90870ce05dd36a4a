"""The same requests put to other engines, call against call in one process, each in its fastest known form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import cedarpy
import regorus

from benchmarks.figure import figure, rate
from benchmarks.rules import build
from policies import Engine, Request, RuleSet
from policies.casbin_form import casbin_form, enforcer
from policies.hierarchy import closure, juniors

ASKED = 2_000
CASBIN_ASKED = {"1k": 200, "10k": 12}

CEDAR = """permit(principal, action == Action::"read", resource) when { principal in resource.readers };"""
REGO = """package app
import rego.v1
default allow := false
allow if { some role in data.roles[input.sub]; data.readers[input.type][input.id][role] }
"""


def _ours(engine: Engine, requests: list[Request]) -> Callable[[], int]:
    def act() -> int:
        for request in requests:
            engine.evaluate(request)
        return len(requests)

    return act


def _check(name: str, engine: Engine, requests: list[Request], theirs: Callable[[Request], bool]) -> None:
    """A faster wrong answer is no answer."""
    for request in requests[:300]:
        if engine.evaluate(request).permit != theirs(request):
            raise RuntimeError(f"{name} answers differently: {request.resource}")


def _compare(
    name: str, engine: Engine, requests: list[Request], asked: list[Request], theirs: Callable[[Request], bool]
) -> dict[str, Any]:
    _check(name, engine, asked, theirs)

    def their_act() -> int:
        for request in asked:
            theirs(request)
        return len(asked)

    base, _ = rate(their_act, runs=3)
    ours, n = rate(_ours(engine, requests))
    return figure(name, ours, "decisions/s", n, base)


def casbin(size: str) -> Iterator[dict[str, Any]]:
    """Casbin's Enforcer; it knows only the people whom it is asked about, which favours it."""
    engine, requests, content = build(size, mixed=False)
    asked = requests[: CASBIN_ASKED[size]]
    people = {request.subject.id: request.subject.grants for request in asked}
    made = enforcer(casbin_form(content, people.items()))

    def theirs(request: Request) -> bool:
        return bool(made.enforce(request.subject.id, "app", request.resource.type, request.resource.id, "read"))

    yield _compare(f"policy.vs.casbin.{size}", engine, requests, asked, theirs)


def cedar() -> Iterator[dict[str, Any]]:
    """Cedar with rights as entities: a resource knows its readers, a principal is in its roles and those below."""
    engine, requests, content = build("10k", mixed=False)
    readers, roles = _rights(content)
    entities = [
        {
            "uid": {"type": "Doc", "id": f"{kind}/{name}"},
            "attrs": {"readers": [{"__entity": {"type": "Role", "id": role}} for role in found]},
            "parents": [],
        }
        for (kind, name), found in readers.items()
    ]
    people = {request.subject.id: request.subject for request in requests}
    entities += [
        {
            "uid": {"type": "User", "id": name},
            "attrs": {},
            "parents": [{"type": "Role", "id": role} for grant in subject.grants for role in roles[grant.role]],
        }
        for name, subject in people.items()
    ]
    policies, known = cedarpy.PolicySet.from_str(CEDAR), cedarpy.Entities.from_json_str(json.dumps(entities))

    def theirs(request: Request) -> bool:
        wanted = {
            "principal": f'User::"{request.subject.id}"',
            "action": 'Action::"read"',
            "resource": f'Doc::"{request.resource.type}/{request.resource.id}"',
            "context": {},
        }
        return bool(cedarpy.is_authorized(wanted, policies, known).allowed)

    yield _compare("policy.vs.cedar", engine, requests, requests[:ASKED], theirs)


def opa() -> Iterator[dict[str, Any]]:
    """OPA's language in Rust (regorus), with the closure of roles computed before."""
    engine, requests, content = build("10k", mixed=False)
    readers, roles = _rights(content)
    tree: dict[str, dict[str, dict[str, bool]]] = {}
    for (kind, name), found in readers.items():
        tree.setdefault(kind, {})[name] = dict.fromkeys(found, True)
    people = {request.subject.id: request.subject.grants for request in requests}
    held = {name: sorted({role for grant in grants for role in roles[grant.role]}) for name, grants in people.items()}
    rego = regorus.Engine()
    rego.add_policy("app.rego", REGO)
    rego.add_data({"readers": tree, "roles": held})

    def theirs(request: Request) -> bool:
        rego.set_input({"sub": request.subject.id, "type": request.resource.type, "id": request.resource.id})
        return bool(rego.eval_rule("data.app.allow"))

    yield _compare("policy.vs.opa", engine, requests, requests[:ASKED], theirs)


def _rights(content: RuleSet) -> tuple[dict[tuple[str, str], list[str]], dict[str, set[str]]]:
    """(type, id) → the roles that may read it; role → itself and the roles below."""
    below = juniors(content.inheritance)
    readers: dict[tuple[str, str], list[str]] = {}
    for one in content.permissions:
        readers.setdefault((one.resource_type, one.pattern), []).append(one.role)
    names = {role for edge in content.inheritance for role in edge} | {one.role for one in content.permissions}
    return readers, {role: closure(role, below) for role in names}


FIGURES = {
    "policy.vs.casbin.1k": lambda: casbin("1k"),
    "policy.vs.casbin.10k": lambda: casbin("10k"),
    "policy.vs.cedar": cedar,
    "policy.vs.opa": opa,
}
