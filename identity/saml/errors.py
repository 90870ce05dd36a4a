"""What a service provider is told when a request of its own cannot be answered with an assertion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from identity.core.errors import Invalid

# A refusal's stable reason → the two status codes of the answer (SAML Core §3.2.2.2).
STATUS: Mapping[str, tuple[str, str | None]] = {
    "version": ("VersionMismatch", None),
    "binding": ("Requester", "UnsupportedBinding"),
    "name_id_policy": ("Requester", "InvalidNameIDPolicy"),
    "subject": ("Requester", "RequestUnsupported"),
    "login_required": ("Responder", "NoPassive"),
    "interaction_required": ("Responder", "NoPassive"),
    "unmet_acr": ("Responder", "NoAuthnContext"),
    "wrong_user": ("Responder", "UnknownPrincipal"),
    "access_denied": ("Responder", "RequestDenied"),
    "account_disabled": ("Responder", "RequestDenied"),
}


class Answerable(Invalid):
    """A refusal that goes back to the service provider, because who asks and where to answer are proven.

    `code` is a key of `STATUS`; `reply` says where the answer goes.
    """

    def __init__(self, code: str, detail: str, reply: Mapping[str, Any]) -> None:
        super().__init__("The sign-in request of the application cannot be met.", detail, code=code)
        self.reply = reply
