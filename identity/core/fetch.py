"""The one way to call out: bounded in time and size, never redirected."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
import requests
from urllib3.exceptions import HTTPError

from identity.core.errors import Unavailable

TIMEOUT_S = 3.0
ANSWER_MAX = 65_536
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: its status and its body as far as it was asked for."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty for anything else."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


def post_form(url: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None) -> int:
    """POST an urlencoded form to an address that an admin registered; the status. Raises `Unavailable` when it
    cannot be reached within three seconds.

    The answer's body is not read: nobody needs it, and a receiver that drips it could hold the sender for hours.
    """
    form = {**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"}
    return _post(url, urlencode(fields).encode(), form).status


def post_json(url: str, value: Any, headers: Mapping[str, str]) -> Fetched:
    """POST JSON to an address that an admin registered; the answer, of at most 64 kB within ten seconds.

    Raises `Unavailable` when it cannot be reached or says more, or says it more slowly.
    """
    return _post(url, orjson.dumps(value), {**headers, "Content-Type": "application/json"}, answer_max=ANSWER_MAX)


def post_bytes(url: str, body: bytes, content_type: str) -> Fetched:
    """POST bytes to an address that an admin registered; the answer as for `post_json`."""
    return _post(url, body, {"Content-Type": content_type}, answer_max=ANSWER_MAX)


def _post(url: str, body: bytes, headers: Mapping[str, str], answer_max: int = 0) -> Fetched:
    """Neither proxies nor passwords are taken from the environment."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.post(
                url, data=body, headers=dict(headers), timeout=TIMEOUT_S, allow_redirects=False, stream=True
            ) as answer:
                return Fetched(answer.status_code, _read(answer, answer_max) if answer_max else b"")
    except (requests.RequestException, HTTPError) as error:
        raise Unavailable("The receiver cannot be reached.", type(error).__name__, code="unreachable") from error


def _read(answer: requests.Response, limit: int) -> bytes:
    until = time.monotonic() + ANSWER_S
    found = b""
    for part in answer.iter_content(4_096):
        found += part
        if len(found) > limit or time.monotonic() > until:
            raise Unavailable("The receiver's answer is too long.", answer.url, code="unreachable")
    return found
