"""The AuthnRequest (SAML Core §3.4), read out of either binding and checked against the registration."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_plus

from lxml import etree

from identity.apps.registry import Acs, Apps, Sp
from identity.core.errors import Invalid
from identity.core.xml import inflate, parse
from identity.login.request import ACR_MFA, ACR_PASSWORD, AcrRequest
from identity.saml.names import MFA_CLASS, NS, PASSWORD_CLASS, POST, SAML, SAMLP
from identity.saml.signature import verify_element, verify_query

SKEW = timedelta(minutes=3)
MESSAGE_MAX = 262_144
RELAY_STATE_MAX = 1_024
_CLASSES = {PASSWORD_CLASS: ACR_PASSWORD, MFA_CLASS: ACR_MFA}


@dataclass(frozen=True, slots=True)
class AuthnRequest:
    """A checked request of a registered service provider."""

    sp: Sp
    id: str
    acs: Acs
    force_authn: bool
    is_passive: bool
    acr: AcrRequest | None
    relay_state: str | None


def from_redirect(raw_query: str, apps: Apps, destination: str, now: datetime) -> AuthnRequest:
    """HTTP-Redirect (Bindings §3.4); the signature is checked over the octets as they came."""
    parts: dict[str, str] = {}
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        if name in parts:
            raise _bad(f"{name[:32]} stands twice")
        parts[name] = value
    fields = {name: unquote_plus(value) for name, value in parts.items()}
    root = parse(inflate(_base64(fields.get("SAMLRequest", ""))))

    def check(sp: Sp) -> etree._Element:
        if "Signature" in fields:
            names = [name for name in ("SAMLRequest", "RelayState", "SigAlg") if name in parts]
            signed = "&".join(f"{name}={parts[name]}" for name in names).encode()
            verify_query(signed, fields.get("SigAlg", ""), fields["Signature"], sp.signing_certificates)
        elif sp.options.get("want_signed_requests"):
            raise _bad("the request must be signed")
        return root

    return _read(root, check, "Signature" in fields, fields.get("RelayState"), apps, destination, now)


def from_post(message: str, relay_state: str | None, apps: Apps, destination: str, now: datetime) -> AuthnRequest:
    """HTTP-POST (Bindings §3.5); the signature is in the message."""
    root = parse(_base64(message))
    signed = root.find("ds:Signature", NS) is not None

    def check(sp: Sp) -> etree._Element:
        if signed:
            return verify_element(root, sp.signing_certificates)
        if sp.options.get("want_signed_requests") or root.find(".//ds:Signature", NS) is not None:
            raise _bad("the request must be signed")
        return root

    return _read(root, check, signed, relay_state, apps, destination, now)


def _read(
    root: etree._Element,
    check: Callable[[Sp], etree._Element],
    signed: bool,
    relay_state: str | None,
    apps: Apps,
    destination: str,
    now: datetime,
) -> AuthnRequest:
    if root.tag != f"{{{SAMLP}}}AuthnRequest":
        raise _bad("not an AuthnRequest")
    issuers = root.findall("saml:Issuer", NS)
    sp = apps.sp((issuers[0].text or "").strip()) if len(issuers) == 1 else None
    if sp is None or not sp.app.active:
        raise Invalid("This application is not registered here.", "unknown issuer", code="unknown_sp")
    root = check(sp)
    if relay_state is not None and len(relay_state.encode()) > RELAY_STATE_MAX:
        raise _bad("RelayState is too long")
    if root.get("Version") != "2.0":
        raise _bad("Version is not 2.0")
    request_id = root.get("ID", "")
    if not request_id or len(request_id) > 256:
        raise _bad("ID is missing")
    stated = root.get("Destination")
    if (stated is None and signed) or (stated is not None and stated != destination):
        raise _bad("Destination is another")
    _check_instant(root.get("IssueInstant", ""), now)
    return AuthnRequest(
        sp=sp,
        id=request_id,
        acs=_acs(root, sp),
        force_authn=_flag(root, "ForceAuthn"),
        is_passive=_flag(root, "IsPassive"),
        acr=_acr(root),
        relay_state=relay_state,
    )


def _acs(root: etree._Element, sp: Sp) -> Acs:
    """The registered consumer address that is asked for, else the default one (Core §3.4.1)."""
    url, index = root.get("AssertionConsumerServiceURL"), root.get("AssertionConsumerServiceIndex")
    binding = root.get("ProtocolBinding", POST)
    if binding != POST or (url is not None and index is not None):
        raise _bad("binding is not supported, or address and index together")
    if url is not None:
        found = next((one for one in sp.acs if one.url == url), None)
    elif index is not None:
        found = next((one for one in sp.acs if str(one.index) == index), None)
    else:
        found = next((one for one in sp.acs if one.default), sp.acs[0] if sp.acs else None)
    if found is None:
        raise _bad("the address to answer to is not registered")
    return found


def _acr(root: etree._Element) -> AcrRequest | None:
    context = root.find("samlp:RequestedAuthnContext", NS)
    if context is None:
        return None
    comparison = context.get("Comparison", "exact")
    if comparison not in {"exact", "minimum", "maximum", "better"}:
        raise _bad("Comparison is not known")
    refs = [(one.text or "").strip() for one in context.findall(f"{{{SAML}}}AuthnContextClassRef")]
    values = tuple(_CLASSES.get(ref, ref) for ref in refs)
    # A password over TLS satisfies who asks for it exactly; a stronger factor used does so as well.
    if comparison == "exact" and ACR_PASSWORD in values:
        comparison = "minimum"
    return AcrRequest(values, comparison, essential=True)  # type: ignore[arg-type]


def _flag(root: etree._Element, name: str) -> bool:
    value = root.get(name, "false")
    if value not in {"true", "false", "1", "0"}:
        raise _bad(f"{name} is not a boolean")
    return value in {"true", "1"}


def _check_instant(text: str, now: datetime) -> None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise _bad("IssueInstant is not a time") from None
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    if abs(instant - now) > SKEW:
        raise _bad("IssueInstant is too far from now")


def _base64(text: str) -> bytes:
    if not text or len(text) > MESSAGE_MAX:
        raise _bad("SAMLRequest is missing or too large")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _bad("SAMLRequest is not base64") from None


def _bad(detail: str) -> Invalid:
    return Invalid("The sign-in request of the application is not valid.", detail, code="invalid_saml")
