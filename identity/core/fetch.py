"""The one way to call out: bounded in time and size, never redirected."""

from __future__ import annotations

from collections.abc import Mapping

import requests

from identity.core.errors import Unavailable

TIMEOUT_S = 5.0
ANSWER_MAX = 65_536


def post_form(url: str, fields: Mapping[str, str]) -> int:
    """POST an urlencoded form to an address that an admin registered; the status. Raises `Unavailable` when it
    cannot be reached."""
    try:
        with requests.post(url, data=fields, timeout=TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            answer.raw.read(ANSWER_MAX)
            return answer.status_code
    except requests.RequestException as error:
        raise Unavailable("The receiver cannot be reached.", type(error).__name__, code="unreachable") from error
