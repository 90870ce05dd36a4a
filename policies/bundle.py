"""The bundle: what one application may decide by itself for a minute, as plain data and as an engine.

`pack` leaves out what only the decision point may answer and lists it; `unpack` reads what `pack` wrote. Signing,
fetching and sending back are the application's (`docs/policy.md`, `examples/edge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from policies.engine import Engine
from policies.export import ExportSubject, ask, carriers, permissions_of
from policies.types import Action, Amount, Decision, Grant, Permission, Request, Resource, RuleSet, Scope

FORMAT = "tessera-bundle/1"
LIFETIME_MAX_S = 60
# A clock that is further behind than this would keep a bundle longer than its time.
SKEW = timedelta(seconds=2)
TEXT_MAX = 1_024


class BundleError(ValueError):
    """The data is no bundle that may be used."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One application's rules and people, from `issued_at` until `not_after`; immutable.

    `ask` is (type, action) → why the decision point must be asked.
    """

    issuer: str
    application: str
    digest: str
    issued_at: datetime
    not_after: datetime
    policy_version: int
    facts_revision: int
    engine: Engine
    subjects: Mapping[str, ExportSubject]
    ask: Mapping[tuple[str, str], tuple[str, ...]]

    def renewed(self, renewal: Mapping[str, Any]) -> Bundle:
        """The same bundle for the time of a renewal; raises `BundleError` when it is not this bundle's."""
        same = (renewal.get("iss"), renewal.get("aud"), renewal.get("digest"))
        if same != (self.issuer, self.application, self.digest):
            raise BundleError("the renewal belongs to another bundle")
        revision = renewal.get("facts_revision")
        if type(revision) is not int or revision < self.facts_revision:
            raise BundleError("the renewal is of older facts")
        issued_at, not_after = _times(renewal)
        if issued_at < self.issued_at:
            raise BundleError("the renewal is older than what is held")
        return replace(self, issued_at=issued_at, not_after=not_after, facts_revision=revision)

    def decide(
        self,
        subject_id: str,
        action: Action,
        resource_type: str,
        resource_id: str,
        now: datetime,
        *,
        properties: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Decide as the decision point would, or deny: `bundle_expired`, `ask_pdp`, `request_invalid` and
        `subject_unknown` say that this copy cannot tell; every other reason is the decision point's own.

        `properties` are the resource's, its amount as on the wire: {"value": "123.45", "currency": "CNY"}.
        """
        if not self.issued_at - SKEW <= now < self.not_after:
            return self._denied("bundle_expired")
        said = dict(context or {})
        if (resource_type, action.name) in self.ask or "on_behalf_of" in said:
            return self._denied("ask_pdp")
        known = self.subjects.get(subject_id)
        if known is None:
            return self._denied("subject_unknown")
        stated = dict(properties or {})
        try:
            if "amount" in stated:
                stated["amount"] = Amount.parse(stated["amount"])
        except ValueError:
            return self._denied("request_invalid")
        told = all(
            said.get(name) is None or (isinstance(said[name], str) and len(said[name]) <= TEXT_MAX)
            for name in ("acr", "sid")
        )
        texts = (subject_id, action.name, resource_type, resource_id)
        if not told or not all(map(_is_text, texts)) or said.get("intent", "ask") not in {"ask", "perform"}:
            return self._denied("request_invalid")
        subject = self.engine.subject(known.id, known.id, grants=known.grants, valid_until=known.valid_until)
        # What the decision point takes out of the context before a condition sees it.
        heard = {
            name: value for name, value in said.items() if name not in {"intent", "sid"} and (name != "acr" or value)
        }
        resource = Resource(self.application, resource_type, resource_id, stated)
        return self.engine.evaluate(Request(subject, action, resource, heard, now))

    def _denied(self, reason: str) -> Decision:
        return Decision.denied(reason, self.policy_version)


def pack(
    rules: RuleSet, application: str, subjects: Iterable[ExportSubject], org: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The content of an application's bundle as JSON-able data without times, the same for the same input.

    Of the company's tree it holds which of the granted units each unit lies in, and that only where a grant needs it.
    """
    people = list(subjects)
    asked = ask(rules, application, (grant for one in people for grant in one.grants))
    shipped = [one for one in permissions_of(rules, application) if (one.resource_type, one.action) not in asked]
    relevant = carriers(rules, shipped)
    permitting = carriers(rules, (one for one in shipped if one.effect == "permit"))
    table: dict[tuple[Any, ...], int] = {}
    rows = []
    for one in people:
        held = [grant for grant in one.grants if grant.role in relevant]
        if any(grant.role in permitting for grant in held):
            numbers = {table.setdefault(_grant_row(grant), len(table)): None for grant in held}
            rows.append([one.id, _text(one.valid_until), list(numbers)])
    units = {row[2] for row in table if row[2] is not None}
    return {
        "format": FORMAT,
        "permissions": [_permission_row(one) for one in shipped],
        "inheritance": [list(edge) for edge in rules.inheritance if relevant.issuperset(edge)],
        "grants": [list(row) for row in table],
        "subjects": rows,
        "org": [[code, [one for one in above if one in units]] for code, above in sorted(org.items())] if units else [],
        "ask": [{"type": kind, "action": action, "why": list(why)} for (kind, action), why in asked.items()],
    }


def unpack(payload: Mapping[str, Any]) -> Bundle:
    """The bundle of a payload whose signature was verified; raises `BundleError` for anything that is not one whole
    bundle of at most a minute."""
    try:
        if payload["format"] != FORMAT:
            raise BundleError("the bundle has another format")
        issued_at, not_after = _times(payload)
        application = payload["aud"]
        grants = [_grant(row) for row in payload["grants"]]
        subjects = {
            name: ExportSubject(name, tuple(grants[number] for number in numbers), _time(until))
            for name, until, numbers in payload["subjects"]
        }
        if len(subjects) != len(payload["subjects"]):
            raise BundleError("a subject stands twice")
        rules = RuleSet(
            payload["policy_version"],
            tuple(_permission(row, application) for row in payload["permissions"]),
            tuple((senior, junior) for senior, junior in payload["inheritance"]),
        )
        return Bundle(
            issuer=payload["iss"],
            application=application,
            digest=payload["digest"],
            issued_at=issued_at,
            not_after=not_after,
            policy_version=payload["policy_version"],
            facts_revision=payload["facts_revision"],
            engine=Engine(rules, {code: (code, *above) for code, above in payload["org"]}),
            subjects=subjects,
            ask={(one["type"], one["action"]): tuple(one["why"]) for one in payload["ask"]},
        )
    except BundleError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"not a bundle: {error!r}") from None


def _times(payload: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """From `iat` to `exp`, whole seconds; raises `BundleError` for a longer time than a bundle may live."""
    issued_at, not_after = payload.get("iat"), payload.get("exp")
    if type(issued_at) is not int or type(not_after) is not int or not 0 < not_after - issued_at <= LIFETIME_MAX_S:
        raise BundleError("the bundle's time is not one of at most a minute")
    return datetime.fromtimestamp(issued_at, UTC), datetime.fromtimestamp(not_after, UTC)


def _is_text(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= TEXT_MAX and text == text.strip()


def _grant_row(grant: Grant) -> tuple[Any, ...]:
    """[role, company, org unit, business type, valid from, valid until]: a limit never reaches a bundle."""
    scope = grant.scope
    return (
        *(grant.role, scope.company, scope.org_unit, scope.business_type),
        *(_text(grant.valid_from), _text(grant.valid_until)),
    )


def _grant(row: Sequence[Any]) -> Grant:
    role, company, org_unit, business_type, since, until = row
    return Grant(role, Scope(company, org_unit, business_type), None, _time(since), _time(until))


def _permission_row(one: Permission) -> dict[str, Any]:
    return {
        "id": one.id,
        "role": one.role,
        "type": one.resource_type,
        "pattern": one.pattern,
        "action": one.action,
        "effect": one.effect,
        "condition": one.condition,
        "inherited": one.inherited,
        "valid_from": _text(one.valid_from),
        "valid_until": _text(one.valid_until),
    }


def _permission(row: Mapping[str, Any], application: str) -> Permission:
    if row["effect"] not in {"permit", "deny"}:
        raise BundleError("a permission has an unknown effect")
    return Permission(
        id=row["id"],
        role=row["role"],
        application=application,
        resource_type=row["type"],
        pattern=row["pattern"],
        action=row["action"],
        effect=row["effect"],
        condition=row["condition"],
        inherited=row["inherited"],
        valid_from=_time(row["valid_from"]),
        valid_until=_time(row["valid_until"]),
    )


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise BundleError("a time has no zone")
    return at
