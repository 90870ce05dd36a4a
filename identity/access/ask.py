"""Questions: what their properties tell of acts, and one about now as an administrator puts it, in plain fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from identity.access.decide import Access, AccessRequest
from identity.access.replay import Question
from identity.access.snapshot import Snapshot
from identity.core.errors import Invalid
from identity.core.hot import parse_json
from identity.core.i18n import gettext_noop as _
from identity.people.inputs import fold_login
from identity.people.models import User
from policies import Act, Amount

Resolve = Callable[[str], UUID | None]

FIELDS = ("person", "application", "action", "type", "object")
"""What must be said: a login, an application's code, an action, a resource's type and id."""
STATED_ACTS = {"submitter": "submit", "reviewer": "review", "approver": "approve", "payer": "pay"}
"""Who a resource's properties say has acted on it, and the action that this is."""
STATED = ("company", "org_unit", "business_type")
TEXT_MAX = 1_024


def put(connection: Connection, access: Access, fields: Mapping[str, str], now: datetime) -> Question:
    """The question of these fields, with the acts and roles in use that are known now.

    Beside `FIELDS`: `STATED`, `submitter` (a login), `amount` ("5000.00") with `currency`, `acr`, and `properties` and
    `context` as JSON objects for whatever else the application would say. Raises `Invalid`.
    """
    said = {name: fields.get(name, "").strip() for name in FIELDS}
    if not all(said.values()) or any(len(one) > TEXT_MAX for one in said.values()):
        raise Invalid(_("Say who, in which application, which action, and on what."), code="question")
    user_id = _user(connection, said["person"])
    stated: dict[str, Any] = _object(fields.get("properties", ""))
    stated |= {name: fields[name].strip() for name in STATED if fields.get(name, "").strip()}
    stated |= _amount(fields, stated)
    snapshot = access.snapshot()
    if fields.get("submitter", "").strip():
        submitter = snapshot.user(_user(connection, fields["submitter"]))
        if submitter is None:
            raise Invalid(_("Nobody has this user name."), code="unknown_user")
        stated["submitter"] = submitter.sub
    request = AccessRequest(
        application=said["application"],
        user=user_id,
        resource_type=said["type"],
        resource_id=said["object"],
        action=said["action"],
        properties=stated,
        context=_object(fields.get("context", "")),
        acr=fields.get("acr", "").strip() or None,
        stated=stated_acts(stated, snapshot, snapshot.by_sub.get),
    )
    acts, activations = access.known(connection, snapshot, request, now)
    return Question(snapshot, request, now, acts, activations)


def stated_acts(properties: Mapping[str, Any], snapshot: Snapshot, resolve: Resolve) -> tuple[Act, ...]:
    """Acts that these properties tell of; persons that nobody knows are no evidence."""
    acts = []
    for name, action in STATED_ACTS.items():
        said = properties.get(name)
        if said is None:
            continue
        for one in said if isinstance(said, list) else [said]:
            user_id = resolve(one) if isinstance(one, str) and one else None
            user = snapshot.user(user_id) if user_id else None
            if user is not None:
                acts.append(Act(str(user.person_id), action))
    return tuple(acts)


def _user(connection: Connection, login: str) -> UUID:
    query = select(User.id).where(User.login_key == fold_login(login.strip()))
    user_id: UUID | None = connection.execute(query).scalar_one_or_none()
    if user_id is None:
        raise Invalid(_("Nobody has this user name."), code="unknown_user")
    return user_id


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
