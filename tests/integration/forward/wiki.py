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
        "forward": [{"origin": origin, "routes": [{"pattern": "admin/**", "type": "administration"}]}],
    }
    return {
        **COMPANY,
        "applications": [*COMPANY["applications"], wiki, *more],
        "roles": [*COMPANY["roles"], {"application": "wiki", "name": "reader", "title": "Reader"}],
        "permissions": [
            *COMPANY["permissions"],
            {"role": "wiki:reader", "type": "application", "pattern": "wiki", "actions": ["sso"]},
            {"role": "wiki:reader", "type": "page", "pattern": "docs/**", "actions": ["read"]},
        ],
        "mappings": [*COMPANY["mappings"], {"group": "staff", "role": "wiki:reader"}],
    }
