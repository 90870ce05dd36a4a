"""The service provider's side of SAML 2.0, by python3-saml in strict mode."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from lxml.etree import LxmlError
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.errors import OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from examples.shared.config import Config

TIMEOUT_S = 5
METADATA_KEEP_S = 600
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
# What python3-saml and lxml raise for what is no response, or not ours.
UNREADABLE = (OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError, LxmlError, KeyError, ValueError, TypeError)


class SamlRefused(Exception):
    """The response is not one that may sign anybody in."""


@dataclass(frozen=True)
class SignedIn:
    """What a valid assertion says. `ends_at` is SessionNotOnOrAfter in seconds since 1970, if stated."""

    name_id: str
    attributes: Mapping[str, list[str]]
    session_index: str
    ends_at: int | None


class ServiceProvider:
    """This application towards the identity provider."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._idp: dict[str, Any] = {}
        self._fetched = 0.0
        self._used: dict[str, float] = {}

    def metadata(self) -> str:
        """Our own metadata, for the identity provider's registration."""
        sp_only = OneLogin_Saml2_Settings({"strict": True, "sp": self._sp()}, sp_validation_only=True)
        return str(sp_only.get_sp_metadata().decode())

    def start(self, environ: Mapping[str, Any], return_to: str) -> tuple[str, str]:
        """Where to send the browser (HTTP-Redirect binding), and the request's id to remember."""
        auth = OneLogin_Saml2_Auth(environ, self._settings())
        return auth.login(return_to=return_to), auth.get_last_request_id()

    def finish(self, environ: Mapping[str, Any], pending: list[str]) -> tuple[SignedIn, str | None]:
        """Read the posted response: what it says, and which of the pending requests it answers.

        None = nobody asked (sign-in began at the portal). Raises `SamlRefused`.
        """
        try:
            response = OneLogin_Saml2_Response(
                OneLogin_Saml2_Settings(self._settings()), environ["post_data"]["SAMLResponse"]
            )
            answered = response.get_in_response_to()
            auth = OneLogin_Saml2_Auth(environ, self._settings())
            # A response that names a request must name one that this browser has made.
            auth.process_response(request_id=answered if answered in pending else None)
        except UNREADABLE as error:
            raise SamlRefused(str(error)) from error
        if auth.get_errors() or not auth.is_authenticated():
            raise SamlRefused(auth.get_last_error_reason() or "not authenticated")
        self._use_once(auth.get_last_assertion_id(), auth.get_last_assertion_not_on_or_after())
        found = SignedIn(
            auth.get_nameid(), auth.get_attributes(), auth.get_session_index() or "", auth.get_session_expiration()
        )
        return found, answered

    def _use_once(self, assertion_id: str, until: float | None) -> None:
        now = time.time()
        with self._lock:
            self._used = {one: end for one, end in self._used.items() if end > now}
            if assertion_id in self._used:
                raise SamlRefused("this assertion was used before")
            self._used[assertion_id] = (until or now) + 300

    def _settings(self) -> dict[str, Any]:
        return {
            "strict": True,
            "sp": self._sp(),
            "idp": self._provider(),
            "security": {
                "wantAssertionsSigned": True,
                "wantNameId": True,
                "wantAttributeStatement": True,
                "rejectUnsolicitedResponsesWithInResponseTo": True,
                "rejectDeprecatedAlgorithm": True,
                "requestedAuthnContext": False,
            },
        }

    def _sp(self) -> dict[str, Any]:
        base = self._config.base_url
        return {
            "entityId": f"{base}/saml/metadata",
            "assertionConsumerService": {"url": f"{base}/saml/acs", "binding": POST},
            "NameIDFormat": PERSISTENT,
        }

    def _provider(self) -> dict[str, Any]:
        """The identity provider from its metadata. Fetched, because the demo makes its keys at its first start; a real
        service provider is given the file, or pins the certificate."""
        with self._lock:
            if not self._idp or time.monotonic() - self._fetched > METADATA_KEEP_S:
                response = requests.get(f"{self._config.tessera_url}/saml/metadata", timeout=TIMEOUT_S)
                response.raise_for_status()
                self._idp = OneLogin_Saml2_IdPMetadataParser.parse(response.text)["idp"]
                self._fetched = time.monotonic()
            return self._idp
