"""The AuthnRequest (SAML Core §3.4), read out of either binding and checked against the registration.

Until the issuer, its signature and the address to answer to are proven, every fault is a page; from there on it is
a status that the service provider gets (`Answerable`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lxml import etree

from identity.apps.registry import Acs, Apps, Sp
from identity.core.errors import Invalid
from identity.core.xml import text_of
from identity.login.request import ACR_MFA, ACR_PASSWORD, ACR_RANK, AcrRequest
from identity.saml import names
from identity.saml.bindings import Message, bad, check_destination, check_instant
from identity.saml.errors import Answerable
from identity.saml.names import NS, POST, SAMLP

# Classes that a sign-in here can meet. Of several that a service provider lists, the answer states one of its own.
UNSPECIFIED_CLASS = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"
_CLASSES: Mapping[str, str] = {
    names.PASSWORD_CLASS: ACR_PASSWORD,
    "urn:oasis:names:tc:SAML:2.0:ac:classes:Password": ACR_PASSWORD,
    UNSPECIFIED_CLASS: ACR_PASSWORD,
    names.MFA_CLASS: ACR_MFA,
    "https://refeds.org/profile/mfa": ACR_MFA,
}


@dataclass(frozen=True, slots=True)
class RequestedContext:
    """RequestedAuthnContext (Core §3.3.2.2.1): what the login must reach, and the classes by which it may be told."""

    acr: AcrRequest
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuthnRequest:
    """A checked request of a registered service provider. `subject` is (format, value) of the NameID it asks for."""

    sp: Sp
    id: str
    acs: Acs
    force_authn: bool
    is_passive: bool
    context: RequestedContext | None
    name_id_format: str
    allow_create: bool
    subject: tuple[str, str] | None
    relay_state: str | None


def read(message: Message, apps: Apps, destination: str, now: datetime) -> AuthnRequest:
    """The request of a message; raises `Invalid` (a page) or `Answerable` (a status for the service provider)."""
    if message.field != "SAMLRequest" or message.root.tag != f"{{{SAMLP}}}AuthnRequest":
        raise bad("not an AuthnRequest")
    sp = issuer_of(message, apps)
    root = message.verified(sp.signing_certificates, required=bool(sp.options.get("want_signed_requests")))
    request_id = root.get("ID", "")
    if not request_id or len(request_id) > 256:
        raise bad("ID is missing")
    check_destination(root, destination, signed=message.signed)
    check_instant(root.get("IssueInstant", ""), now)
    acs = _acs(root, sp)
    reply = {
        "entity_id": sp.entity_id,
        "acs": acs.url,
        "request_id": request_id,
        "relay_state": message.relay_state,
    }

    def refuse(code: str, detail: str) -> Answerable:
        return Answerable(code, detail, reply)

    if root.get("Version") != "2.0":
        raise refuse("version", "Version is not 2.0")
    if root.get("ProtocolBinding", POST) != POST:
        raise refuse("binding", "ProtocolBinding is not HTTP-POST")
    name_id_format, allow_create = _name_id_policy(root, sp, refuse)
    return AuthnRequest(
        sp=sp,
        id=request_id,
        acs=acs,
        force_authn=_flag(root, "ForceAuthn"),
        is_passive=_flag(root, "IsPassive"),
        context=_context(root, refuse),
        name_id_format=name_id_format,
        allow_create=allow_create,
        subject=_subject(root, sp, refuse),
        relay_state=message.relay_state,
    )


def issuer_of(message: Message, apps: Apps) -> Sp:
    """The registered service provider that a message says to be from; raises `Invalid` for any other."""
    issuers = message.root.findall("saml:Issuer", NS)
    sp = apps.sp(text_of(issuers[0])) if len(issuers) == 1 else None
    if sp is None or not sp.app.active:
        raise Invalid("This application is not registered here.", "unknown issuer", code="unknown_sp")
    return sp


def _acs(root: etree._Element, sp: Sp) -> Acs:
    """The registered consumer address that is asked for, else the default one (Core §3.4.1)."""
    url, index = root.get("AssertionConsumerServiceURL"), root.get("AssertionConsumerServiceIndex")
    if url is not None and index is not None:
        raise bad("address and index together")
    if url is not None:
        found = next((one for one in sp.acs if one.url == url), None)
    elif index is not None:
        found = next((one for one in sp.acs if str(one.index) == index), None)
    else:
        found = next((one for one in sp.acs if one.default), sp.acs[0] if sp.acs else None)
    if found is None:
        raise bad("the address to answer to is not registered")
    return found


Refuse = Callable[[str, str], Answerable]


def _name_id_policy(root: etree._Element, sp: Sp, refuse: Refuse) -> tuple[str, bool]:
    """The format of the NameID to give, and whether a new one may be made (Core §3.4.1.1).

    A service provider gets the format of its registration, or a transient one, which names nobody. Absent AllowCreate
    is taken as true, as everywhere in practice: the registration allows it; a stated "false" is kept.
    """
    policy = root.find("samlp:NameIDPolicy", NS)
    if policy is None:
        return sp.name_id_format, True
    asked = policy.get("Format", names.UNSPECIFIED)
    if asked not in {names.UNSPECIFIED, names.TRANSIENT, sp.name_id_format}:
        raise refuse("name_id_policy", "NameIDPolicy Format is not the registered one")
    if policy.get("SPNameQualifier", sp.entity_id) != sp.entity_id:
        raise refuse("name_id_policy", "SPNameQualifier is another")
    return sp.name_id_format if asked == names.UNSPECIFIED else asked, _flag(policy, "AllowCreate", "true")


def _subject(root: etree._Element, sp: Sp, refuse: Refuse) -> tuple[str, str] | None:
    """The NameID of Subject: the only person that the answer may be about (Core §3.4.1.4)."""
    subject = root.find("saml:Subject", NS)
    if subject is None:
        return None
    name_ids = subject.findall("saml:NameID", NS)
    if len(subject) != 1 or len(name_ids) != 1 or not text_of(name_ids[0]):
        raise refuse("subject", "Subject is not one plain NameID")
    if name_ids[0].get("SPNameQualifier", sp.entity_id) != sp.entity_id:
        raise refuse("subject", "SPNameQualifier is another")
    asked = name_ids[0].get("Format", names.UNSPECIFIED)
    return sp.name_id_format if asked == names.UNSPECIFIED else asked, text_of(name_ids[0])


def _context(root: etree._Element, refuse: Refuse) -> RequestedContext | None:
    context = root.find("samlp:RequestedAuthnContext", NS)
    if context is None:
        return None
    comparison = context.get("Comparison", "exact")
    if comparison not in {"exact", "minimum", "maximum", "better"}:
        raise bad("Comparison is not known")
    asked = [text_of(one) for one in context.findall("saml:AuthnContextClassRef", NS)]
    classes = tuple(one for one in asked if one in _CLASSES)
    if not classes:
        raise refuse("unmet_acr", "no requested class can be met here")
    values = tuple(_CLASSES[one] for one in classes)
    if comparison == "exact":
        # Who gave a password and a second factor has given a password: the answer then states the class asked for.
        return RequestedContext(AcrRequest(values, "minimum", essential=True), classes)
    return RequestedContext(AcrRequest(values, comparison, essential=True), ())  # type: ignore[arg-type]


def stated_class(acr: str, asked: Any) -> str:
    """The AuthnContextClassRef for a sign-in of this level: of the classes `asked` for exactly, the first reached."""
    for one in asked or ():
        if ACR_RANK[_CLASSES[one]] <= ACR_RANK[acr]:
            return str(one)
    return {ACR_MFA: names.MFA_CLASS, ACR_PASSWORD: names.PASSWORD_CLASS}.get(acr, UNSPECIFIED_CLASS)


def _flag(element: etree._Element, name: str, default: str = "false") -> bool:
    value = element.get(name, default)
    if value not in {"true", "false", "1", "0"}:
        raise bad(f"{name} is not a boolean")
    return value in {"true", "1"}
