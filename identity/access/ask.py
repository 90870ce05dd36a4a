"""A question about now, as an administrator puts it: in plain fields of a form or a command line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from identity.access.decide import Access, AccessRequest
from identity.access.replay import Question
from identity.core.errors import Invalid
from identity.core.hot import parse_json
from identity.core.i18n import gettext_noop as _
from identity.people.inputs import fold_login
from identity.people.models import User
from policies import Amount

FIELDS = ("person", "application", "action", "type", "object")
"""What must be said: a login, an application's code, an action, a resource's type and id."""
STATED = ("company", "org_unit", "business_type")
TEXT_MAX = 1_024


def put(connection: Connection, access: Access, fields: Mapping[str, str], now: datetime) -> Question:
    """The question of these fields, with the acts and roles in use that are known now.

    Beside `FIELDS`: `STATED`, `amount` ("5000.00") with `currency`, `acr`, and `properties` and `context` as JSON
    objects for whatever else the application would say. Raises `Invalid`.
    """
    said = {name: fields.get(name, "").strip() for name in FIELDS}
    if not all(said.values()) or any(len(one) > TEXT_MAX for one in said.values()):
        raise Invalid(_("Say who, in which application, which action, and on what."), code="question")
    login = fold_login(said["person"])
    user_id = connection.execute(select(User.id).where(User.login_key == login)).scalar_one_or_none()
    if user_id is None:
        raise Invalid(_("Nobody has this user name."), code="unknown_user")
    stated: dict[str, Any] = _object(fields.get("properties", ""))
    stated |= {name: fields[name].strip() for name in STATED if fields.get(name, "").strip()}
    stated |= _amount(fields, stated)
    request = AccessRequest(
        application=said["application"],
        user=user_id,
        resource_type=said["type"],
        resource_id=said["object"],
        action=said["action"],
        properties=stated,
        context=_object(fields.get("context", "")),
        acr=fields.get("acr", "").strip() or None,
    )
    acts, activations = access.known(connection, request, now)
    return Question(access.snapshot(), request, now, acts, activations)


def _object(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    value = parse_json(text)
    if not isinstance(value, dict):
        raise Invalid(_("Further properties are a JSON object."), code="invalid_json")
    return value


def _amount(fields: Mapping[str, str], stated: Mapping[str, Any]) -> dict[str, Amount]:
    """The amount of the form, else the one among the further properties."""
    value, currency = fields.get("amount", "").strip(), fields.get("currency", "").strip() or "CNY"
    wanted = {"value": value, "currency": currency} if value else stated.get("amount")
    if wanted is None:
        return {}
    try:
        return {"amount": Amount.parse(wanted)}
    except ValueError:
        raise Invalid(_("An amount is written as 5000.00, its currency as CNY."), code="amount") from None
