"""The authorization request, checked step by step (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2, RFC 9700).

Whatever fails before the redirect URI is proven is a page; whatever fails later goes back to the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from identity.apps.registry import Apps, Client
from identity.claims.release import CATALOGUE
from identity.core.errors import Invalid
from identity.core.hot import parse_json
from identity.login.request import AcrRequest

CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43,128}")
STATE_MAX, SCOPE_MAX, NONCE_MAX, CLAIMS_MAX = 4_096, 2_048, 512, 4_096
LOOPBACK = re.compile(r"(?P<host>http://(?:127\.0\.0\.1|\[::1\])):(?P<port>[0-9]{1,5})(?P<rest>/[!-~]*)?")
CLAIM_PLACES = ("id_token", "userinfo")
PROMPTS = frozenset({"none", "login", "consent", "select_account"})


class RedirectError(Exception):
    """An error that the client is told of at its redirect URI."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


@dataclass(slots=True)
class AuthorizationRequest:
    """What the checks have found so far."""

    parameters: Mapping[str, str]
    client: Client
    redirect_uri: str
    repeated: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = ()
    prompts: frozenset[str] = frozenset()
    max_age_s: int | None = None
    nonce: str | None = None
    code_challenge: str | None = None
    resource: str | None = None
    acr: AcrRequest | None = None
    claims: dict[str, Any] = field(default_factory=dict)

    def claim_names(self, place: str) -> list[str]:
        """The claims asked for by name in this place (OpenID Connect Core §5.5)."""
        return sorted(set(self.claims.get(place, {})) & set(CATALOGUE))


def prove_redirect(
    apps: Apps, parameters: Mapping[str, str], repeated: frozenset[str] = frozenset()
) -> AuthorizationRequest:
    """The client and its proven redirect URI; raises `Invalid` (→ page) for anything else."""
    if repeated & {"client_id", "redirect_uri"}:
        raise Invalid("The application's request is not valid.", "repeated parameter", code="invalid_request")
    # RFC 6749 §3.1: "Parameters sent without a value MUST be treated as if they were omitted from the request."
    parameters = {name: value for name, value in parameters.items() if value}
    client = apps.client(parameters.get("client_id", ""))
    if client is None or not client.app.active or "authorization_code" not in client.grant_types:
        raise Invalid("This application is not registered here.", code="unknown_client")
    asked = parameters.get("redirect_uri")
    if asked is None:
        raise Invalid("The application did not say where to return to.", code="redirect_uri")
    if not any(_same_redirect(registered, asked) for registered in client.redirect_uris):
        raise Invalid("The application asked to return to an address that is not registered.", code="redirect_uri")
    return AuthorizationRequest(parameters, client, asked, repeated)


def _same_redirect(registered: str, asked: str) -> bool:
    """RFC 9700 §2.1: "authorization servers MUST utilize exact string matching except for port numbers in
    localhost redirection URIs of native apps" (RFC 8252 §7.3: loopback IP literals), there those registered without
    a port."""
    if registered == asked:
        return True
    found = LOOPBACK.fullmatch(asked)
    return found is not None and int(found["port"]) <= 65_535 and registered == found["host"] + (found["rest"] or "")


def check(request: AuthorizationRequest, apps: Apps) -> None:
    """Run the later checks in their order; raises `RedirectError`."""
    for one in _CHECKS:
        one(request)
    _check_resource(request, apps)


def _check_repeated(request: AuthorizationRequest) -> None:
    """RFC 6749 §3.1: "Request and response parameters MUST NOT be included more than once." """
    if request.repeated:
        only_resource = request.repeated == {"resource"}
        error = "invalid_target" if only_resource else "invalid_request"
        raise RedirectError(error, "one resource at a time" if only_resource else "a parameter is repeated")


def _check_state(request: AuthorizationRequest) -> None:
    if len(request.parameters.get("state", "")) > STATE_MAX:
        raise RedirectError("invalid_request", "state is too long")


def _check_unsupported(request: AuthorizationRequest) -> None:
    for name, error in (
        ("request", "request_not_supported"),
        ("request_uri", "request_uri_not_supported"),
        ("registration", "registration_not_supported"),
    ):
        if name in request.parameters:
            raise RedirectError(error, f"{name} is not supported")
    if request.parameters.get("response_mode", "query") != "query":
        raise RedirectError("invalid_request", "response_mode is not supported")


def _check_response_type(request: AuthorizationRequest) -> None:
    response_type = request.parameters.get("response_type")
    if response_type is None:
        raise RedirectError("invalid_request", "response_type is missing")
    if response_type != "code":
        raise RedirectError("unsupported_response_type", "only response_type=code is supported")


def _check_scope(request: AuthorizationRequest) -> None:
    """Scopes that the client may not have are left out; the token answer says which were granted (RFC 6749 §3.3)."""
    scope = request.parameters.get("scope", "")
    if len(scope) > SCOPE_MAX:
        raise RedirectError("invalid_scope", "scope is too long")
    asked = dict.fromkeys(scope.split())
    request.scopes = tuple(one for one in asked if one in request.client.scopes)
    if not request.scopes:
        raise RedirectError("invalid_scope", "none of these scopes may be asked for")


def _check_nonce(request: AuthorizationRequest) -> None:
    request.nonce = request.parameters.get("nonce")
    if request.nonce is not None and len(request.nonce) > NONCE_MAX:
        raise RedirectError("invalid_request", "nonce is too long")


def _check_pkce(request: AuthorizationRequest) -> None:
    """RFC 9700 §2.1.1: public clients MUST use PKCE; here also confidential ones without a nonce, and only S256.

    A nonce protects only a client that gets an ID token.
    """
    challenge = request.parameters.get("code_challenge")
    if challenge is None:
        protected = request.nonce is not None and "openid" in request.scopes
        if request.client.public or request.client.profile == "fapi2" or not protected:
            raise RedirectError("invalid_request", "code_challenge is missing")
        return
    if request.parameters.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise RedirectError("invalid_request", "code_challenge must be made by S256")
    request.code_challenge = challenge


def _check_prompt(request: AuthorizationRequest) -> None:
    prompts = frozenset(request.parameters.get("prompt", "").split())
    if not prompts <= PROMPTS or ("none" in prompts and len(prompts) > 1):
        raise RedirectError("invalid_request", "prompt is not valid")
    request.prompts = prompts


def _check_max_age(request: AuthorizationRequest) -> None:
    value = request.parameters.get("max_age")
    if value is None:
        return
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise RedirectError("invalid_request", "max_age must be a number of seconds")
    request.max_age_s = int(value)


def _check_claims(request: AuthorizationRequest) -> None:
    text = request.parameters.get("claims")
    if text is None:
        return
    try:
        claims = parse_json(text) if len(text) <= CLAIMS_MAX else None
    except Invalid:
        claims = None
    if not isinstance(claims, dict) or not all(isinstance(claims.get(part, {}), dict) for part in CLAIM_PLACES):
        raise RedirectError("invalid_request", "claims must be a JSON object (OpenID Connect Core §5.5)")
    request.claims = claims


def _check_acr(request: AuthorizationRequest) -> None:
    values = tuple(request.parameters.get("acr_values", "").split())
    wanted = request.claims.get("id_token", {}).get("acr")
    if isinstance(wanted, dict) and (wanted.get("values") or wanted.get("value")):
        listed = wanted.get("values") or [wanted["value"]]
        if not isinstance(listed, list):
            raise RedirectError("invalid_request", "claims.id_token.acr.values must be a list")
        request.acr = AcrRequest(tuple(map(str, listed)), "exact", wanted.get("essential") is True)
    elif values:
        request.acr = AcrRequest(values, "exact", False)


_CHECKS: tuple[Callable[[AuthorizationRequest], None], ...] = (
    _check_repeated,
    _check_state,
    _check_unsupported,
    _check_response_type,
    _check_scope,
    _check_nonce,
    _check_pkce,
    _check_prompt,
    _check_max_age,
    _check_claims,
    _check_acr,
)


def _check_resource(request: AuthorizationRequest, apps: Apps) -> None:
    resource = request.parameters.get("resource")
    if resource is not None:
        if resource not in request.client.resources or apps.resource_server(resource) is None:
            raise RedirectError("invalid_target", "this resource may not be asked for")
        request.resource = resource
