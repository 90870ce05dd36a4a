"""A wiki behind a proxy: staff read its documents."""

from __future__ import annotations

from typing import Any

from tests.world import COMPANY


def company(origin: str, *more: dict[str, Any]) -> dict[str, Any]:
    wiki = {
        "code": "wiki",
        "name": "Wiki",
        "credential": "env:TEST_SECRET",
        "released_claims": ["preferred_username", "name", "roles"],
        "forward": [
            {
                "origin": origin,
                "routes": [
                    {"pattern": "admin/**", "type": "administration"},
                    {"pattern": "vouchers/**", "type": "voucher", "methods": ["POST"], "action": "enter"},
                    {"pattern": "vouchers/**", "type": "voucher", "methods": ["PUT"], "action": "approve"},
                ],
            }
        ],
    }
    return {
        **COMPANY,
        "applications": [*COMPANY["applications"], wiki, *more],
        "roles": [*COMPANY["roles"], {"application": "wiki", "name": "reader", "title": "Reader"}],
        "permissions": [
            *COMPANY["permissions"],
            {"role": "wiki:reader", "type": "application", "pattern": "wiki", "actions": ["sso"]},
            {"role": "wiki:reader", "type": "page", "pattern": "docs/**", "actions": ["read"]},
            {
                "role": "wiki:reader",
                "type": "page",
                "pattern": "bound/**",
                "actions": ["read"],
                "obligations": [{"mask": "amounts"}],
            },
            {"role": "wiki:reader", "type": "voucher", "pattern": "vouchers/**", "actions": ["enter", "approve"]},
        ],
        "duties": [
            *COMPANY["duties"],
            {
                "id": "W1",
                "kind": "object",
                "title": "who enters does not approve",
                "definition": {"application": "wiki", "type": "voucher", "actions": ["enter", "approve"]},
            },
        ],
        "mappings": [*COMPANY["mappings"], {"group": "staff", "role": "wiki:reader"}],
    }
