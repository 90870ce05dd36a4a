"""Responses: a pure function from a sign-in to signed XML (SAML Core §3.3.3, Profiles §4.1.4)."""

from __future__ import annotations

import re
import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lxml import etree
from lxml.builder import ElementMaker

from identity.keys.keyring import CertificateKey
from identity.saml import names
from identity.saml.encryption import encrypt
from identity.saml.signature import sign

ASSERTION_S = 300
SESSION_S = 28_800
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_P = ElementMaker(namespace=names.SAMLP, nsmap={"samlp": names.SAMLP, "saml": names.SAML})
_A = ElementMaker(namespace=names.SAML, nsmap={"saml": names.SAML})

# urn:oid names of the X.500, inetOrgPerson and eduMember attributes behind our canonical names (SAML Profiles §8.2).
_OIDS = {
    "preferred_username": "urn:oid:0.9.2342.19200300.100.1.1",
    "name": "urn:oid:2.16.840.1.113730.3.1.241",
    "given_name": "urn:oid:2.5.4.42",
    "family_name": "urn:oid:2.5.4.4",
    "email": "urn:oid:0.9.2342.19200300.100.1.3",
    "phone_number": "urn:oid:2.5.4.20",
    "employee_number": "urn:oid:2.16.840.1.113730.3.1.3",
    "dept_code": "urn:oid:2.16.840.1.113730.3.1.2",
    "position": "urn:oid:2.5.4.12",
    "groups": "urn:oid:1.3.6.1.4.1.5923.1.5.1.1",
    "locale": "urn:oid:2.16.840.1.113730.3.1.39",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """What an assertion says. `in_response_to` None = IdP-initiated; `attributes` by canonical name, `aliases` the
    names that this application gave some of them; `encrypt_for` a PEM certificate."""

    issuer: str
    audience: str
    acs_url: str
    in_response_to: str | None
    name_id: str
    name_id_format: str
    session_index: str
    session_expires_at: datetime
    auth_time: datetime
    context_class: str
    attributes: Mapping[str, Any]
    aliases: Mapping[str, str]
    attribute_format: str
    sign_response: bool
    encrypt_for: str | None


def build(statement: Statement, key: CertificateKey, now: datetime) -> bytes:
    """The Response with one signed assertion, which is encrypted after it is signed."""
    assertion = _assertion(statement, now)
    sign(assertion, key)
    if statement.encrypt_for is not None:
        assertion = _A.EncryptedAssertion(encrypt(assertion, statement.encrypt_for))
    response = _response(statement.issuer, statement.acs_url, statement.in_response_to, now)
    response.append(_P.Status(_P.StatusCode(Value=f"{names.STATUS}Success")))
    response.append(assertion)
    if statement.sign_response:
        sign(response, key)
    return etree.tostring(response, xml_declaration=True, encoding="UTF-8")


def build_error(
    issuer: str,
    acs_url: str,
    in_response_to: str | None,
    status: str,
    second: str | None,
    key: CertificateKey,
    now: datetime,
) -> bytes:
    """A signed Response without an assertion (Core §3.2.2.2)."""
    response = _response(issuer, acs_url, in_response_to, now)
    code = _P.StatusCode(Value=f"{names.STATUS}{status}")
    if second:
        code.append(_P.StatusCode(Value=f"{names.STATUS}{second}"))
    response.append(_P.Status(code))
    sign(response, key)
    return etree.tostring(response, xml_declaration=True, encoding="UTF-8")


def _response(issuer: str, acs_url: str, in_response_to: str | None, now: datetime) -> etree._Element:
    attributes = {"ID": _id(), "Version": "2.0", "IssueInstant": _time(now), "Destination": acs_url}
    if in_response_to:
        attributes["InResponseTo"] = in_response_to
    response: etree._Element = _P.Response(_A.Issuer(issuer), **attributes)
    return response


def _assertion(statement: Statement, now: datetime) -> etree._Element:
    until = _time(now + timedelta(seconds=ASSERTION_S))
    confirmation = {"NotOnOrAfter": until, "Recipient": statement.acs_url}
    if statement.in_response_to:
        confirmation["InResponseTo"] = statement.in_response_to
    session_until = min(now + timedelta(seconds=SESSION_S), statement.session_expires_at)
    assertion: etree._Element = _A.Assertion(
        _A.Issuer(statement.issuer),
        _A.Subject(
            _A.NameID(_text(statement.name_id), Format=statement.name_id_format, SPNameQualifier=statement.audience),
            _A.SubjectConfirmation(_A.SubjectConfirmationData(**confirmation), Method=names.BEARER),
        ),
        _A.Conditions(
            _A.AudienceRestriction(_A.Audience(statement.audience)),
            NotBefore=_time(now - timedelta(seconds=60)),
            NotOnOrAfter=until,
        ),
        _A.AuthnStatement(
            _A.AuthnContext(_A.AuthnContextClassRef(statement.context_class)),
            AuthnInstant=_time(statement.auth_time),
            SessionIndex=statement.session_index,
            SessionNotOnOrAfter=_time(session_until),
        ),
        ID=_id(),
        Version="2.0",
        IssueInstant=_time(now),
    )
    if statement.attributes:
        assertion.append(_A.AttributeStatement(*_attributes(statement)))
    return assertion


def _attributes(statement: Statement) -> list[etree._Element]:
    found = []
    for name, value in statement.attributes.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        oid = _OIDS.get(name) if statement.attribute_format == "uri" else None
        stated = statement.aliases.get(name) or oid or name
        form = names.URI_NAME if ":" in stated else names.BASIC_NAME
        element = _A.Attribute(Name=stated, NameFormat=form, FriendlyName=name)
        element.extend(_A.AttributeValue(_text(_plain(one))) for one in values)
        found.append(element)
    return found


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(value: str) -> str:
    return _ILLEGAL.sub("", value)


def _id() -> str:
    return f"_{random.token_hex(20)}"


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
