"""AuthZEN requests and answers: JSON to values and back (AuthZEN Authorization API 1.0 §5–7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

import orjson

from identity.access.ask import STATED_ACTS, Resolve, stated_acts
from identity.access.decide import AccessRequest, Decided
from identity.access.snapshot import Snapshot
from identity.apps.registry import App
from identity.core.errors import Invalid
from policies import Amount

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]
Sought = Literal["subject", "resource", "action"]
SEMANTICS = ("execute_all", "deny_on_first_deny", "permit_on_first_permit")
EVALUATIONS_MAX = 1_000
TEXT_MAX = 1_024

_OURS = frozenset({"intent", "sid", "acr", "on_behalf_of"})
# No user has this id, so acting in the place of somebody unknown is denied.
_NOBODY = UUID(int=0)
_ACTED = frozenset(STATED_ACTS)
_TYPE, _TYPE_ID, _NAME = ("type",), ("type", "id"), ("name",)
_EMPTY: dict[str, Any] = {}

REASONS = {
    "permitted": ("Permitted.", "允许。"),
    "no_permission": ("None of your roles allows this.", "您的角色没有这项权限。"),
    "denied": ("A rule forbids this.", "规则禁止此操作。"),
    "scope": ("Your role does not cover this company or department.", "您的角色不包含该公司或部门。"),
    "scope_missing": ("The application did not say where this belongs.", "应用没有说明所属公司或部门。"),
    "limit": ("The amount is over your limit.", "金额超出您的限额。"),
    "limit_missing": ("The application did not say the amount.", "应用没有说明金额。"),
    "currency": ("The amount is in another currency than your limit.", "金额币种与您的限额不同。"),
    "expired": ("Your role is not valid at this time.", "您的角色目前不在有效期内。"),
    "condition": ("A condition of your role is not met.", "不满足角色的条件。"),
    "sod_object": (
        "You have already acted on this document in another duty.",
        "您已在另一职责中处理过此单据。",
    ),
    "sod_evidence_missing": ("An earlier step of this document is not known.", "此单据缺少前一步骤的记录。"),
    "sod_dynamic": ("Another duty of this session excludes this one.", "本次会话中的另一职责与此互斥。"),
    "subject_unknown": ("This person is not known to the application.", "该应用中没有此人。"),
    "subject_disabled": ("This account is disabled.", "账号已停用。"),
    "subject_expired": ("This account has expired.", "账号已过期。"),
    "resource_invalid": ("The resource's id is not valid.", "资源标识无效。"),
}


# With one of these an application may ask about people who have no role in it.
ANYBODY = frozenset({"subjects", "explain", "audit"})


def parse(body: Any, app: App, snapshot: Snapshot, resolve: Resolve, sought: Sought | None = None) -> AccessRequest:
    """One question of the calling application; raises `Invalid` (→ 400) for a malformed one.

    It is about the application itself and about people whom its rules concern: anybody else is nobody to it, unless
    the application has a right of `ANYBODY` (foundations §5).

    A search leaves out what is `sought`: an id that is there all the same is ignored (§8.4–8.6). Unknown members are
    ignored; the caller's `subject.properties` never reach the decision.
    """
    if not isinstance(body, dict):
        raise Invalid("The request must be an object.", code="invalid_request")
    subject = entity(body, "subject", _TYPE if sought == "subject" else _TYPE_ID)
    action = {"name": ""} if sought == "action" else entity(body, "action", _NAME)
    resource = entity(body, "resource", _TYPE if sought == "resource" else _TYPE_ID)
    context = body.get("context", _EMPTY)
    if not isinstance(context, dict):
        raise Invalid("context must be an object.", code="invalid_request")
    stated = amount(properties(resource, "resource"), "resource")
    about = _known_to(app, snapshot, resolve)
    user = about(subject["id"]) if subject["type"] == "user" and sought != "subject" else None
    plain = AccessRequest(
        app.code,
        user,
        resource["type"],
        "" if sought == "resource" else resource["id"],
        action["name"],
        stated,
        properties(action, "action"),
        subject_id=subject["id"][:256] if user is None and sought != "subject" else "",
    )
    if not context and _ACTED.isdisjoint(stated):
        return plain
    intent = context.get("intent", "ask")
    if intent not in {"ask", "perform"}:
        raise Invalid("context.intent must be ask or perform.", code="invalid_request")
    return plain._replace(
        context={name: value for name, value in context.items() if name not in _OURS},
        intent=intent,
        acr=_text_or_none(context, "acr"),
        sid=_text_or_none(context, "sid"),
        stated=stated_acts(stated, snapshot, resolve),
        stands_for=_stands_for(context, about),
    )


def _known_to(app: App, snapshot: Snapshot, resolve: Resolve) -> Resolve:
    """As `resolve`, for those about whom the application may ask."""
    if not app.rights.isdisjoint(ANYBODY):
        return resolve

    def about(subject_id: str) -> UUID | None:
        user_id = resolve(subject_id)
        user = snapshot.users.get(user_id) if user_id is not None else None
        return user.id if user is not None and snapshot.engine.concerns(user.subject, app.code) else None

    return about


def amount(stated: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """These properties with their amount as a `policies.Amount`; raises `Invalid` for a malformed one."""
    if "amount" not in stated:
        return stated
    try:
        return {**stated, "amount": Amount.parse(stated["amount"])}
    except ValueError as error:
        raise Invalid(f"{name}.properties.amount: {error}.", code="invalid_request") from None


def item_parser(
    body: Mapping[str, Any], app: App, snapshot: Snapshot, resolve: Resolve
) -> Callable[[Any], AccessRequest]:
    """`parse` for the items of `evaluations`, with what the request says for those that do not say it themselves
    (§7.1.1)."""
    common = {name: body[name] for name in ("subject", "action", "resource", "context") if name in body}
    first: AccessRequest | None = None

    def parse_item(item: Any) -> AccessRequest:
        nonlocal first
        if not isinstance(item, dict):
            raise Invalid("Each evaluation must be an object.", code="invalid_request")
        if first is None or len(item) != 1 or "resource" not in item:
            parsed = parse({**common, **item}, app, snapshot, resolve)
            # As plain as most: of the same user, action and context as this, and of another resource only.
            if len(item) == 1 and "resource" in item and not common.get("context") and parsed.user:
                first = parsed
            return parsed
        resource = entity(item, "resource", _TYPE_ID)
        stated = amount(properties(resource, "resource"), "resource") if "properties" in resource else _EMPTY
        if not _ACTED.isdisjoint(stated):
            return parse({**common, **item}, app, snapshot, resolve)
        application, user, _, _, action, _, action_properties, *_ = first
        return AccessRequest(application, user, resource["type"], resource["id"], action, stated, action_properties)

    return parse_item


def semantic(body: Mapping[str, Any]) -> Semantic:
    """The evaluations semantic that the caller chose (§6.1.2.1); raises `Invalid` for an unknown one."""
    options = body.get("options", {})
    chosen = options.get("evaluations_semantic", "execute_all") if isinstance(options, dict) else None
    if chosen not in SEMANTICS:
        raise Invalid("options.evaluations_semantic is not known.", code="invalid_request")
    return chosen  # type: ignore[no-any-return]


def answer(decided: Decided, record_id: UUID, app: App) -> bytes:
    """The response to one evaluation as JSON; the reason is a code and a sentence for the person, the id that of the
    record that holds the decision. Which rules decided is told to an application with the right `explain`."""
    permit, reason, obligations, policy_version, facts_revision, _, rules, *_ = decided
    told = orjson.dumps(obligations) if obligations else b""
    named = rules if "explain" in app.rights else None
    begin = b'{"decision":true,"context":{"id":%b' if permit else b'{"decision":false,"context":{"id":%b'
    return begin % orjson.dumps(record_id) + _why(reason, policy_version, facts_revision, told, named)


@lru_cache(1_024)
def _why(
    reason: str, policy_version: int, facts_revision: int, obligations: bytes, rules: tuple[str, ...] | None
) -> bytes:
    """An answer from behind its id on: of many answers the same."""
    english, chinese = REASONS.get(reason, REASONS["no_permission"])
    context: dict[str, Any] = {
        "reason": reason,
        "reason_user": {"en": english, "zh": chinese},
        "policy_version": policy_version,
        "facts_revision": facts_revision,
    }
    if rules is not None:
        context["reason_admin"] = {"code": reason, "rules": rules}
    if obligations:
        context["obligations"] = orjson.Fragment(obligations)
    return b"," + orjson.dumps(context)[1:] + b"}"


def item_error(error: Invalid) -> bytes:
    """The answer to a malformed item of a batch: denied, with what was wrong (§7.2.1)."""
    return orjson.dumps({"decision": False, "context": {"error": {"status": 400, "message": error.public}}})


def entity(body: Mapping[str, Any], name: str, members: tuple[str, ...]) -> dict[str, Any]:
    """This member as an object with these members as strings; raises `Invalid`."""
    value = body.get(name)
    if not isinstance(value, dict):
        raise Invalid(f"{name} must be an object.", code="invalid_request")
    for member in members:
        text = value.get(member)
        if not text or not isinstance(text, str) or text != text.strip() or len(text) > TEXT_MAX:
            raise Invalid(f"{name}.{member} must be a non-empty string.", code="invalid_request")
    return value


def properties(one: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Its properties, an empty object for none; raises `Invalid`."""
    value = one.get("properties", _EMPTY)
    if not isinstance(value, dict):
        raise Invalid(f"{name}.properties must be an object.", code="invalid_request")
    return value


def _text_or_none(context: Mapping[str, Any], name: str) -> str | None:
    value = context.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise Invalid(f"context.{name} must be a string.", code="invalid_request")
    return value


def _stands_for(context: Mapping[str, Any], resolve: Resolve) -> UUID | None:
    """`context.on_behalf_of`: the subject id of the person in whose place the subject acts (代理审批)."""
    subject_id = _text_or_none(context, "on_behalf_of")
    return None if subject_id is None else resolve(subject_id) or _NOBODY
