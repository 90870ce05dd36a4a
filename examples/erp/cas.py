"""The client's side of CAS 3.0: send the browser, validate its ticket, hear of logouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import requests

TIMEOUT_S = 5
TICKET = re.compile(r"ST-[A-Za-z0-9-]{1,250}")
_SESSION_INDEX = re.compile(r"<(?:[A-Za-z0-9]+:)?SessionIndex>\s*(ST-[A-Za-z0-9-]{1,250})\s*</")


@dataclass(frozen=True)
class Principal:
    """Whom a ticket stands for; an attribute is a text or a list of texts."""

    user: str
    attributes: Mapping[str, Any]

    def first(self, name: str) -> str:
        value = self.attributes.get(name, "")
        return str(value[0] if isinstance(value, list) and value else value or "")

    def all(self, name: str) -> list[str]:
        value = self.attributes.get(name, [])
        return [str(one) for one in value] if isinstance(value, list) else [str(value)]


class CasClient:
    """One service of one CAS server."""

    def __init__(self, server: str, service: str) -> None:
        self._server = server
        self._service = service

    @property
    def login_address(self) -> str:
        return f"{self._server}/login?{urlencode({'service': self._service})}"

    def logout_address(self, after: str) -> str:
        return f"{self._server}/logout?{urlencode({'service': after})}"

    def validate(self, ticket: str) -> Principal | None:
        """Whom the ticket stands for, or None for a bad one. Tickets are good once and for some seconds."""
        if not TICKET.fullmatch(ticket):
            return None
        query = {"service": self._service, "ticket": ticket, "format": "JSON"}
        response = requests.get(f"{self._server}/p3/serviceValidate", params=query, timeout=TIMEOUT_S)
        response.raise_for_status()
        success = response.json().get("serviceResponse", {}).get("authenticationSuccess")
        return Principal(success["user"], success.get("attributes", {})) if success else None


def logged_out_ticket(logout_request: str) -> str | None:
    """The ticket whose session a `logoutRequest` ends. It is not signed: knowing the ticket is the proof."""
    found = _SESSION_INDEX.search(logout_request[:10_000])
    return found[1] if found else None
