"""The one way to call out: bounded in time, never redirected."""

from __future__ import annotations

from collections.abc import Mapping

import requests
from urllib3.exceptions import HTTPError

from identity.core.errors import Unavailable

TIMEOUT_S = 3.0


def post_form(url: str, fields: Mapping[str, str]) -> int:
    """POST an urlencoded form to an address that an admin registered; the status. Raises `Unavailable` when it
    cannot be reached within three seconds.

    The answer's body is not read: nobody needs it, and a receiver that drips it could hold the sender for hours.
    Neither proxies nor passwords are taken from the environment.
    """
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.post(url, data=fields, timeout=TIMEOUT_S, allow_redirects=False, stream=True) as answer:
                return answer.status_code
    except (requests.RequestException, HTTPError) as error:
        raise Unavailable("The receiver cannot be reached.", type(error).__name__, code="unreachable") from error
