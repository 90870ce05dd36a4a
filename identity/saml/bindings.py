"""HTTP-Redirect and HTTP-POST (SAML Bindings §3.4, §3.5): from the wire to one parsed message."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import unquote_plus

from lxml import etree

from identity.core.errors import Invalid
from identity.core.xml import inflate, parse
from identity.saml.names import NS
from identity.saml.signature import verify_element, verify_query

SKEW = timedelta(minutes=3)
MESSAGE_MAX = 262_144
RELAY_STATE_MAX = 1_024
DEFLATE = "urn:oasis:names:tc:SAML:2.0:bindings:URL-Encoding:DEFLATE"

Field = Literal["SAMLRequest", "SAMLResponse"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came. `root` is not proven to be anybody's until `verified`."""

    field: Field
    root: etree._Element
    relay_state: str | None
    signed: bool
    query: tuple[bytes, str, str] | None
    """Of a signed Redirect: the octets that are signed, the algorithm and the signature."""

    def verified(self, certificates: tuple[str, ...], *, required: bool) -> etree._Element:
        """The message, its signature checked with these certificates; a Redirect's covers the octets as they came.

        Raises `Invalid` for a wrong signature, and for none where one is `required`.
        """
        if self.query is not None:
            verify_query(*self.query, certificates)
            return self.root
        if self.signed:
            return verify_element(self.root, certificates)
        if required or self.root.find(".//ds:Signature", NS) is not None:
            raise bad("the message must be signed")
        return self.root


def from_redirect(raw_query: str) -> Message:
    """The message of a query. A parameter that stands twice is refused, so that nobody can read another one."""
    parts: dict[str, str] = {}
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        if name in parts:
            raise bad(f"{name[:32]} stands twice")
        parts[name] = value
    try:
        fields = {name: unquote_plus(value, errors="strict") for name, value in parts.items()}
    except UnicodeDecodeError:
        raise bad("the query is not UTF-8") from None
    field = _field(fields)
    if fields.get("SAMLEncoding", DEFLATE) != DEFLATE:
        raise bad("SAMLEncoding is not DEFLATE")
    if ("Signature" in fields) != ("SigAlg" in fields):
        raise bad("Signature and SigAlg stand together or not at all")
    root = parse(inflate(_base64(fields[field])))
    query = None
    if "Signature" in fields:
        signed = "&".join(f"{name}={parts[name]}" for name in (field, "RelayState", "SigAlg") if name in parts)
        query = (signed.encode("latin-1"), fields["SigAlg"], fields["Signature"])
    return Message(field, root, _relay_state(fields), query is not None, query)


def from_post(form: Mapping[str, str]) -> Message:
    """The message of a form; its signature is inside."""
    field = _field(form)
    root = parse(_base64(form[field]))
    return Message(field, root, _relay_state(form), root.find("ds:Signature", NS) is not None, None)


def check_destination(root: etree._Element, destination: str, *, signed: bool) -> None:
    """A signed message MUST name where it was sent (Bindings §3.4.5.2, §3.5.5.2); another's is not ours to read."""
    stated = root.get("Destination")
    if (stated is None and signed) or (stated is not None and stated != destination):
        raise bad("Destination is another")


def check_instant(text: str, now: datetime) -> None:
    """IssueInstant is within three minutes of now."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise bad("IssueInstant is not a time") from None
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    if abs(instant - now) > SKEW:
        raise bad("IssueInstant is too far from now")


def bad(detail: str) -> Invalid:
    """A fault for which there is nobody to answer to but the browser."""
    return Invalid("The sign-in request of the application is not valid.", detail, code="invalid_saml")


def _field(fields: Mapping[str, str]) -> Field:
    if ("SAMLRequest" in fields) == ("SAMLResponse" in fields):
        raise bad("not exactly one of SAMLRequest and SAMLResponse")
    return "SAMLRequest" if "SAMLRequest" in fields else "SAMLResponse"


def _relay_state(fields: Mapping[str, str]) -> str | None:
    """Opaque and given back as it is; only its size and NUL, which no form can carry, are refused."""
    value = fields.get("RelayState")
    if value is not None and (len(value.encode("utf-8", "surrogatepass")) > RELAY_STATE_MAX or "\0" in value):
        raise bad("RelayState is too long or has a NUL")
    return value


def _base64(text: str) -> bytes:
    if not text or len(text) > MESSAGE_MAX:
        raise bad("the message is missing or too large")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise bad("the message is not base64") from None
