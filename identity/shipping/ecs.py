"""A record as an Elastic Common Schema document (ECS 8.17). Pure.

Personal values stay here: what has left cannot be erased. The salted hashes in the body go along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = "8.17"

_CATEGORY = {
    "login": "authentication",
    "oauth": "authentication",
    "saml": "authentication",
    "cas": "authentication",
    "access": "iam",
    "people": "iam",
    "roles": "iam",
    "apps": "configuration",
    "keys": "configuration",
    "shipping": "configuration",
    "reports": "database",
    "alarms": "configuration",
    "sync": "iam",
    "audit": "database",
}
_TYPE = {
    "created": "creation",
    "added": "creation",
    "changed": "change",
    "disabled": "change",
    "removed": "deletion",
    "deleted": "deletion",
    "revoked": "deletion",
    "started": "start",
    "ended": "end",
    "refused": "denied",
}
_OUTCOME = {"success": "success", "permit": "success", "deny": "failure", "refused": "failure", "failed": "failure"}
_MOVED = frozenset({"actor", "at", "id", "ip", "kind", "reason", "request_id", "trace_id", "user_agent", "v"})


def document(body: Mapping[str, Any], sentence: str) -> dict[str, Any]:
    """The record's body (its canonical JSON, parsed) as an ECS document; `sentence` is its English reading.

    What ECS has no name for stands under `tessera`, by our names.
    """
    area, _, verb = body["kind"].partition(".")
    actor = body["actor"]
    found: dict[str, Any] = {
        "@timestamp": body["at"],
        "ecs": {"version": VERSION},
        "message": sentence,
        "event": {
            "id": body["id"],
            "kind": "event",
            "module": "tessera",
            "dataset": "tessera.audit",
            "action": body["kind"],
            "category": [_CATEGORY.get(area, "iam")],
            "type": [_TYPE.get(verb.rpartition(".")[2], "info")],
            "outcome": _OUTCOME.get(body["result"], "unknown"),
        },
        "http": {"request": {"id": body["request_id"]}},
        "tessera": {name: value for name, value in body.items() if name not in _MOVED},
    }
    if body.get("reason"):
        found["event"]["reason"] = body["reason"]
    if body.get("trace_id"):
        found["trace"] = {"id": body["trace_id"]}
    if body.get("ip"):
        found["source"] = {"ip": body["ip"]}
    if body.get("user_agent"):
        found["user_agent"] = {"original": body["user_agent"]}
    found["user" if actor["kind"] == "user" else "client"] = (
        {"id": actor["id"], "name": actor["name"]} if actor["kind"] == "user" else {"user": {"name": actor["id"]}}
    )
    if body.get("user"):
        found.setdefault("user", {})["target"] = {"id": body["user"]}
    if body.get("application"):
        found["service"] = {"name": body["application"]}
    if body.get("rules"):
        found["rule"] = {"id": body["rules"]}
    return found
