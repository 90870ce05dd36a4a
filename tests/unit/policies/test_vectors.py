"""The decisions of `tests/vectors/policies.yaml`, each as data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies import (
    Act,
    Action,
    Activation,
    Amount,
    DynamicDuty,
    Engine,
    Grant,
    ObjectDuty,
    Permission,
    Request,
    Resource,
    RuleSet,
    Scope,
)

DATA: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "vectors" / "policies.yaml").read_text("utf-8"))
NOW = datetime.fromisoformat(DATA["now"])


def at(seconds: int | None) -> datetime | None:
    return None if seconds is None else NOW + timedelta(seconds=seconds)


def amount(text: str | None) -> Amount | None:
    return Amount.parse(dict(zip(("value", "currency"), text.split(), strict=True))) if text else None


def grant(data: Any) -> Grant:
    data = {"role": data} if isinstance(data, str) else data
    scope = Scope(data.get("company"), data.get("org_unit"), data.get("business_type"))
    return Grant(
        data["role"], scope, amount(data.get("limit")), at(data.get("valid_from")), at(data.get("valid_until"))
    )


def permission(number: int, data: dict[str, Any]) -> Permission:
    fixed = {"id": str(number), "application": "app", "resource_type": "claim", "action": "do"}
    times = {name: at(data.get(name)) for name in ("valid_from", "valid_until")}
    return Permission(**{**fixed, **data, **times})


def rules(case: dict[str, Any]) -> RuleSet:
    return RuleSet(
        1,
        tuple(permission(number, one) for number, one in enumerate(case["permissions"])),
        tuple((senior, junior) for senior, junior in case.get("inheritance", ())),
        dynamic_duties=tuple(
            DynamicDuty(one["id"], tuple(one["roles"]), one["n"]) for one in case.get("dynamic_duties", ())
        ),
        object_duties=tuple(
            ObjectDuty(one["id"], "app", "claim", tuple(one["actions"])) for one in case.get("object_duties", ())
        ),
    )


def questions() -> Iterator[Any]:
    for case in DATA["cases"]:
        for number, asked in enumerate(case["questions"]):
            yield pytest.param(case, asked, id=f"{case['title']} {number}")


@pytest.mark.parametrize(("case", "asked"), list(questions()))
def test_a_decision_is_as_written(case: dict[str, Any], asked: dict[str, Any]) -> None:
    engine = Engine(rules(case), {code: tuple(above) for code, above in DATA["org"].items()})
    held = [grant(one) for one in case["grants"]]
    subject = engine.subject("s", "p", asked.get("state", "active"), held, valid_until=at(asked.get("until")))
    properties = dict(asked.get("properties", {}))
    if "amount" in asked:
        properties["amount"] = amount(asked["amount"])
    request = Request(
        subject,
        Action(asked.get("action", "do")),
        Resource(asked.get("application", "app"), asked.get("type", "claim"), asked.get("id", "a"), properties),
        asked.get("context", {}),
        at(asked.get("at", 0)) or NOW,
        acts=tuple(Act(*one) for one in asked.get("acts", ())),
        activations=tuple(Activation(*one) for one in asked.get("activations", ())),
        stands_for=asked.get("stands_for"),
    )
    decision = engine.evaluate(request)
    assert (decision.reason, decision.permit) == (asked["expect"], asked["expect"] == "permitted")
