"""A SAML service provider for tests: python3-saml in strict mode, and requests by hand where it would refuse."""

from __future__ import annotations

import base64
import re
import zlib
from datetime import UTC, datetime, timedelta
from functools import cache
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.utils import OneLogin_Saml2_Utils
from werkzeug.test import TestResponse

from identity.apps.inputs import ApplicationInput, SamlInput
from identity.apps.service import get_application, put_application, put_saml_sp
from tests.world import Browser, World

BASE = "http://localhost:8000"
ENTITY = "https://sp.example/metadata"
ACS = "https://sp.example/acs"
SSO = f"{BASE}/saml/sso"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
NS = {"samlp": SAMLP, "saml": SAML, "ds": DS}
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
STATUS = "urn:oasis:names:tc:SAML:2.0:status:"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
RSA_SHA1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"


@cache
def key_pair(name: str = "sp", bits: int = 2_048) -> tuple[str, str]:
    """A private key and its certificate in PEM, made once per process for each name."""
    private = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


class Sp:
    """A service provider of the application `expense`, registered at this world."""

    def __init__(self, world: World, **registration: Any) -> None:
        self.world = world
        self.key, self.certificate = key_pair()
        released = registration.pop("released", ("preferred_username", "name", "email", "roles"))
        aliases = registration.pop("aliases", {})
        self.format = registration.get("name_id_format", PERSISTENT)
        given = {
            "entity_id": ENTITY,
            "acs": [{"url": ACS, "index": 0, "default": True}, {"url": f"{ACS}2", "index": 7}],
            "signing_certificates": [self.certificate],
            **registration,
        }
        with world.unit() as unit:
            wanted = ApplicationInput(code="expense", name="报销", released_claims=released, claim_aliases=aliases)
            put_application(unit, wanted)
            put_saml_sp(unit, get_application(unit, "expense"), SamlInput.model_validate(given))
        self.metadata = world.call("GET", "/saml/metadata").text

    def auth(self, post: dict[str, str] | None = None, get: str = "", **security: Any) -> OneLogin_Saml2_Auth:
        """python3-saml as this service provider, which knows the identity provider by its metadata only.

        `post` is the form that came to its consumer service, `get` the address that was called of its logout service.
        """
        settings = {
            "strict": True,
            "sp": {
                "entityId": ENTITY,
                "assertionConsumerService": {"url": ACS, "binding": POST},
                "singleLogoutService": {"url": "https://sp.example/slo", "binding": REDIRECT},
                "NameIDFormat": self.format,
                "x509cert": self.certificate,
                "privateKey": self.key,
            },
            "idp": OneLogin_Saml2_IdPMetadataParser.parse(self.metadata)["idp"],
            "security": {
                "wantAssertionsSigned": True,
                "rejectUnsolicitedResponsesWithInResponseTo": True,
                "rejectDeprecatedAlgorithm": True,
                "requestedAuthnContext": False,
                "failOnAuthnContextMismatch": True,
                "signatureAlgorithm": RSA_SHA256,
                **security,
            },
        }
        asked = {
            "https": "on",
            "http_host": "sp.example",
            "script_name": urlsplit(get).path or "/acs",
            "query_string": urlsplit(get).query,
            "get_data": query_of(get),
            "post_data": post or {},
        }
        return OneLogin_Saml2_Auth(asked, settings)

    def accept(self, answer: TestResponse, request_id: str | None, **security: Any) -> OneLogin_Saml2_Auth:
        """What the strict service provider makes of the posted answer; fails unless it signs the person in."""
        address, fields = posted(answer)
        assert address == ACS
        auth = self.auth(fields, **security)
        auth.process_response(request_id=request_id)
        assert auth.get_errors() == [], auth.get_last_error_reason()
        assert auth.is_authenticated()
        return auth


def posted(answer: TestResponse) -> tuple[str, dict[str, str]]:
    """Where the auto-posting page sends its form, and with what."""
    assert answer.status_code == 200, answer.text
    action = re.search(r'<form[^>]* action="([^"]*)" data-autopost', answer.text)
    assert action, answer.text
    fields = re.findall(
        r'<input type="hidden" name="(SAMLResponse|SAMLRequest|RelayState)" value="([^"]*)"', answer.text
    )
    return unescape(action[1]), {name: unescape(value) for name, value in fields}


def response_of(answer: TestResponse) -> etree._Element:
    """The Response of the auto-posting page."""
    return etree.fromstring(base64.b64decode(posted(answer)[1]["SAMLResponse"]))


def statuses(answer: TestResponse) -> list[str]:
    """The status codes of the posted Response, outer first."""
    codes = response_of(answer).iter(f"{{{SAMLP}}}StatusCode")
    return [str(one.get("Value")).removeprefix(STATUS) for one in codes]


def request_xml(inner: str = "", *, now: datetime | None = None, **attributes: str | None) -> bytes:
    """An AuthnRequest as text; an attribute of None is left out. `inner` stands behind the Issuer."""
    stated = {
        "ID": "_r1",
        "Version": "2.0",
        "IssueInstant": (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Destination": SSO,
        "AssertionConsumerServiceURL": ACS,
        **attributes,
    }
    issuer = stated.pop("Issuer", ENTITY)
    written = " ".join(f'{name}="{value}"' for name, value in stated.items() if value is not None)
    issuer_xml = f"<saml:Issuer>{issuer}</saml:Issuer>" if issuer is not None else ""
    root = f'samlp:AuthnRequest xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" {written}'
    return f"<{root}>{issuer_xml}{inner}</samlp:AuthnRequest>".encode()


def deflated(message: bytes) -> str:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return base64.b64encode(packer.compress(message) + packer.flush()).decode()


def redirect_query(message: bytes, relay_state: str | None = None, **more: str) -> str:
    fields = {"SAMLRequest": deflated(message)}
    if relay_state is not None:
        fields["RelayState"] = relay_state
    return urlencode({**fields, **more})


def signed_query(message: bytes, key: str, relay_state: str | None = None, algorithm: str = RSA_SHA256) -> str:
    """A Redirect signed over its octets."""
    query = redirect_query(message, relay_state, SigAlg=algorithm)
    signature = OneLogin_Saml2_Utils.sign_binary(query, key, _transform(algorithm))
    return f"{query}&{urlencode({'Signature': base64.b64encode(signature).decode()})}"


def signed_xml(message: bytes, key: str, certificate: str, algorithm: str = RSA_SHA256) -> bytes:
    """A message with an enveloped signature behind its Issuer, as xmlsec makes it."""
    root = etree.fromstring(message)
    signature = xmlsec.template.create(root, xmlsec.constants.TransformExclC14N, _transform(algorithm), ns="ds")
    root.insert(1, signature)
    digest = xmlsec.constants.TransformSha1 if algorithm == RSA_SHA1 else xmlsec.constants.TransformSha256
    reference = xmlsec.template.add_reference(signature, digest, uri=f"#{root.get('ID')}")
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformEnveloped)
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformExclC14N)
    xmlsec.template.add_x509_data(xmlsec.template.ensure_key_info(signature))
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(key, xmlsec.constants.KeyDataFormatPem, None)
    context.key.load_cert_from_memory(certificate, xmlsec.constants.KeyDataFormatPem)
    context.register_id(root, "ID")
    context.sign(signature)
    return etree.tostring(root)


def _transform(algorithm: str) -> Any:
    return xmlsec.constants.TransformRsaSha1 if algorithm == RSA_SHA1 else xmlsec.constants.TransformRsaSha256


def send(browser: Browser, message: bytes, relay_state: str | None = None) -> TestResponse:
    """By Redirect; what the browser sees at the end."""
    return browser.follow(browser.go(f"/saml/sso?{redirect_query(message, relay_state)}"))


def send_post(browser: Browser, message: bytes, relay_state: str | None = None) -> TestResponse:
    """By POST from the service provider's page: without cookies, then on by GET with them."""
    data = {"SAMLRequest": base64.b64encode(message).decode()}
    if relay_state is not None:
        data["RelayState"] = relay_state
    headers = {"Origin": "https://sp.example", "Sec-Fetch-Site": "cross-site"}
    return browser.follow(browser.client.post("/saml/sso", data=data, headers=headers, base_url=BASE))


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
