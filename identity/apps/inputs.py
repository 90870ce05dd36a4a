"""Accepted shapes of applications and their protocol faces."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    model_validator,
)

from identity.core.addresses import WebAddress, check_web_address
from identity.people.inputs import Code, Plain
from policies.patterns import problem

_FORBIDDEN_SCHEMES = frozenset({"javascript", "data", "vbscript", "file", "blob", "about"})


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def check_redirect_uri(url: str) -> str:
    """A redirect URI: a web address, or a private-use scheme of a native app (RFC 8252 §7.1)."""
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"}:
        return check_web_address(url)
    unclean = any(ord(c) < 0x21 or ord(c) > 0x7E or c in "#\\" for c in url)
    if parts.scheme in _FORBIDDEN_SCHEMES or "." not in parts.scheme or unclean:
        raise ValueError("must be https, http on loopback, or a reverse-domain scheme")
    return url


def _check_pattern(pattern: str) -> str:
    wrong = problem(pattern)
    if wrong:
        raise ValueError(wrong)
    return pattern


def read_certificate(text: str) -> str:
    """A certificate as PEM, given with or without its first and last line; its key is RSA of 2,048 bits or more."""
    body = "".join(line.strip() for line in text.splitlines() if "CERTIFICATE" not in line)
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(body, validate=True))
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be an X.509 certificate in PEM form") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2_048:
        raise ValueError("must hold an RSA key of at least 2,048 bits")
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


RedirectUri = Annotated[str, StringConstraints(max_length=2_048), AfterValidator(check_redirect_uri)]
Certificate = Annotated[str, StringConstraints(max_length=16_384), AfterValidator(read_certificate)]
AppCode = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,40}$")]


class ApplicationInput(_Input):
    """An application and what it may learn of a person."""

    code: AppCode
    name: Plain
    name_en: str = ""
    description: str = ""
    home_url: WebAddress | None = None
    status: Literal["active", "disabled"] = "active"
    in_portal: bool = True
    subject_id_field: Literal["sub", "account_id", "name_id", "pairwise_sub"] = "sub"
    recording: Literal["strict", "buffered"] = "strict"
    released_claims: tuple[Code, ...] = ("name", "preferred_username", "roles")
    claim_aliases: Mapping[str, str] = {}
    rights: tuple[Literal["search", "subjects", "explain", "audit", "bundle"], ...] = ()


class OidcOptions(_Input):
    """Switches of a client. `offline_without_consent`: an administrator grants offline access for everybody."""

    require_consent: bool = False
    offline_without_consent: bool = False


class OidcInput(_Input):
    """An OAuth 2 / OpenID Connect client."""

    client_id: Code
    profile: Literal["baseline", "fapi2"] = "baseline"
    auth_method: Literal["none", "client_secret_basic", "client_secret_post"] = "client_secret_basic"
    redirect_uris: tuple[RedirectUri, ...] = ()
    post_logout_redirect_uris: tuple[RedirectUri, ...] = ()
    grant_types: tuple[Literal["authorization_code", "refresh_token", "client_credentials"], ...] = (
        "authorization_code",
        "refresh_token",
    )
    scopes: tuple[Code, ...] = ("openid", "profile")
    resources: tuple[str, ...] = ()
    backchannel_logout_uri: WebAddress | None = None
    options: OidcOptions = OidcOptions()

    @model_validator(mode="after")
    def _fits(self) -> OidcInput:
        if "authorization_code" in self.grant_types and not self.redirect_uris:
            raise ValueError("the authorization code grant needs a redirect URI")
        if self.auth_method == "none" and "client_credentials" in self.grant_types:
            raise ValueError("a public client cannot use client_credentials")
        return self


class AcsInput(_Input):
    """An assertion consumer service address."""

    url: WebAddress
    index: int = 0
    default: bool = False


class SamlOptions(_Input):
    """Switches of a service provider; each weakening one is off by default."""

    want_signed_requests: bool = False
    sign_response: bool = False
    encrypt: bool = False
    idp_initiated: bool = False
    attribute_format: Literal["basic", "uri"] = "basic"
    slo_url: WebAddress | None = None


class SamlInput(_Input):
    """A SAML 2.0 service provider."""

    entity_id: Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
    acs: tuple[AcsInput, ...]
    name_id_format: Literal[
        "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        "urn:oasis:names:tc:SAML:2.0:nameid-format:transient",
        "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
        "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
    ] = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
    signing_certificates: tuple[Certificate, ...] = ()
    encryption_certificate: Certificate | None = None
    options: SamlOptions = SamlOptions()

    @model_validator(mode="after")
    def _fits(self) -> SamlInput:
        if not self.acs:
            raise ValueError("a service provider needs an assertion consumer service")
        if len({one.index for one in self.acs}) != len(self.acs) or sum(one.default for one in self.acs) > 1:
            raise ValueError("the consumer services need an index each, and one default at most")
        if (self.options.want_signed_requests or self.options.slo_url) and not self.signing_certificates:
            raise ValueError("signed requests and logout need the certificate that messages are signed with")
        if self.options.encrypt and self.encryption_certificate is None:
            raise ValueError("encryption needs the certificate to encrypt for")
        return self


class CasInput(_Input):
    """A CAS service: an exact address, or a template that ends in `/**`."""

    url: WebAddress
    ticket_ttl_s: Annotated[int, AfterValidator(lambda value: min(max(value, 5), 300))] = 10
    logout_url: WebAddress | None = None
    options: Mapping[str, Any] = {}


Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
_ACTIONS: Mapping[Method, str] = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS"), "read"),
    **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), "write"),
}


def _check_origin(url: str) -> str:
    parts = urlsplit(url)
    if url != f"{parts.scheme}://{parts.netloc}" or parts.netloc != parts.netloc.lower():
        raise ValueError("must be a scheme and a host in small letters, without path")
    return url


class ForwardRoute(_Input):
    """What requests below a pattern of paths ask for; methods that are not named are not concerned."""

    pattern: Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_check_pattern)]
    methods: tuple[Method, ...] = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
    type: Code | None = None
    action: Code | None = None


class ForwardInput(_Input):
    """A host behind a proxy that asks about each request: a path is a resource, a method an action.

    The first route that matches names the type and action; where there is none, `resource_type` and `actions` do. A
    method without an action is refused.
    """

    origin: Annotated[WebAddress, AfterValidator(_check_origin)]
    resource_type: Code = "page"
    actions: Mapping[Method, Code] = _ACTIONS
    routes: tuple[ForwardRoute, ...] = ()


class ApiInput(_Input):
    """A resource server."""

    identifier: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    scopes: tuple[Code, ...] = ()
    token_format: Literal["jwt", "opaque"] = "jwt"  # noqa: S105
    token_ttl_s: int = 300
