"""Our metadata as an identity provider (SAML Metadata §2.4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from lxml import etree
from lxml.builder import ElementMaker

from identity.keys.keyring import CertificateKey
from identity.saml import names

_M = ElementMaker(namespace=names.MD, nsmap={"md": names.MD, "ds": names.DS})
_D = ElementMaker(namespace=names.DS, nsmap={"ds": names.DS})
VALID_DAYS = 30


def build(public_url: str, keys: Sequence[CertificateKey], now: datetime) -> bytes:
    """The document: the current and the next signing certificate, so that service providers can be ready."""
    descriptor = _M.IDPSSODescriptor(
        *(_key(key) for key in keys if key.state in {"current", "next"}),
        *(
            _M.SingleLogoutService(Binding=binding, Location=f"{public_url}/saml/slo")
            for binding in (names.REDIRECT, names.POST)
        ),
        *(_M.NameIDFormat(one) for one in (names.PERSISTENT, names.TRANSIENT, names.EMAIL, names.UNSPECIFIED)),
        *(
            _M.SingleSignOnService(Binding=binding, Location=f"{public_url}/saml/sso")
            for binding in (names.REDIRECT, names.POST)
        ),
        protocolSupportEnumeration=names.SAMLP,
        WantAuthnRequestsSigned="false",
    )
    root = _M.EntityDescriptor(
        descriptor,
        entityID=f"{public_url}/saml/metadata",
        validUntil=(now + timedelta(days=VALID_DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _key(key: CertificateKey) -> etree._Element:
    body = "".join(line for line in key.certificate_pem.splitlines() if "CERTIFICATE" not in line)
    described: etree._Element = _M.KeyDescriptor(_D.KeyInfo(_D.X509Data(_D.X509Certificate(body))), use="signing")
    return described
