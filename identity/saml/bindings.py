"""HTTP-Redirect and HTTP-POST (SAML Bindings §3.4, §3.5): from the wire to one parsed message, and back."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote_plus, unquote_plus

from lxml import etree

from identity.core.errors import Invalid
from identity.core.xml import inflate, parse
from identity.keys.keyring import CertificateKey
from identity.saml.names import NS, RSA_SHA256
from identity.saml.signature import sign_query, verify_element, verify_query

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


def to_redirect(location: str, field: Field, message: bytes, relay_state: str | None, key: CertificateKey) -> str:
    """The signed address of a message."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    fields: dict[str, str] = {field: base64.b64encode(packer.compress(message) + packer.flush()).decode()}
    if relay_state is not None:
        fields["RelayState"] = relay_state
    fields["SigAlg"] = RSA_SHA256
    query = "&".join(f"{name}={quote_plus(value)}" for name, value in fields.items())
    signature = base64.b64encode(sign_query(query.encode(), key)).decode()
    return f"{location}{'&' if '?' in location else '?'}{query}&Signature={quote_plus(signature)}"


def check_destination(root: etree._Element, destination: str, *, signed: bool) -> None:
    """A signed message MUST name where it was sent (Bindings §3.4.5.2, §3.5.5.2); another's is not ours to read."""
    stated = root.get("Destination")
    if (stated is None and signed) or (stated is not None and stated != destination):
        raise bad("Destination is another")


def check_instant(text: str, now: datetime) -> None:
    """IssueInstant is within three minutes of now."""
    if abs(parse_time(text) - now) > SKEW:
        raise bad("IssueInstant is too far from now")


def parse_time(text: str) -> datetime:
    """A time of a message; all are UTC (Core §1.3.3)."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise bad("a time cannot be read") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def bad(detail: str) -> Invalid:
    """A fault for which there is nobody to answer to but the browser."""
    return Invalid("The message of the application is not valid.", detail, code="invalid_saml")


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
