"""Signatures: made with a key parsed once, verified with keys pinned in the registration."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache

import xmlsec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from lxml import etree

from identity.apps.inputs import read_certificate
from identity.core.errors import Invalid
from identity.core.xml import parse
from identity.keys.keyring import CertificateKey
from identity.saml.names import DS, NS, RSA_SHA256, SAML

_HASHES: dict[str, hashes.HashAlgorithm] = {
    RSA_SHA256: hashes.SHA256(),
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384": hashes.SHA384(),
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512": hashes.SHA512(),
}
_DIGESTS = {
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512",
}
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
_TRANSFORMS = ["http://www.w3.org/2000/09/xmldsig#enveloped-signature", _EXCLUSIVE]


@lru_cache(maxsize=8)
def _private(kid: str, pem: bytes, certificate: str) -> xmlsec.Key:
    """The key, parsed once per process (31 ms each time otherwise); `kid` is part of the cache's key."""
    key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem, None)
    key.load_cert_from_memory(certificate.encode(), xmlsec.constants.KeyDataFormatPem)
    key.name = kid
    return key


def sign(element: etree._Element, key: CertificateKey) -> None:
    """Sign the element by its ID: enveloped, exclusive C14N, RSA-SHA256, one Reference; behind its Issuer."""
    signature = xmlsec.template.create(
        element, xmlsec.constants.TransformExclC14N, xmlsec.constants.TransformRsaSha256, ns="ds"
    )
    issuer = element.find(f"{{{SAML}}}Issuer")
    if issuer is None:
        raise ValueError("an element without Issuer is not signed")
    issuer.addnext(signature)
    reference = xmlsec.template.add_reference(signature, xmlsec.constants.TransformSha256, uri=f"#{element.get('ID')}")
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformEnveloped)
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformExclC14N)
    xmlsec.template.add_x509_data(xmlsec.template.ensure_key_info(signature))
    context = xmlsec.SignatureContext()
    context.key = _private(key.kid, key.private_pem, key.certificate_pem)
    context.register_id(element, "ID")
    context.sign(signature)


def sign_query(query: bytes, key: CertificateKey) -> bytes:
    """The RSA-SHA256 signature of a Redirect binding's query octets (Bindings §3.4.4.1)."""
    context = xmlsec.SignatureContext()
    context.key = _private(key.kid, key.private_pem, key.certificate_pem)
    signature: bytes = context.sign_binary(query, xmlsec.constants.TransformRsaSha256)
    return signature


def verify_query(signed: bytes, algorithm: str, signature: str, certificates: tuple[str, ...]) -> None:
    """A Redirect binding signature over the raw query octets (Bindings §3.4.4.1); raises `Invalid`."""
    chosen = _HASHES.get(algorithm)
    if chosen is None:
        raise _bad("signature algorithm is not accepted")
    try:
        value = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise _bad("signature is not base64") from None
    for certificate in certificates:
        try:
            _registered(certificate)[0].verify(value, signed, padding.PKCS1v15(), chosen)
        except InvalidSignature:
            continue
        return
    raise _bad("no registered key made this signature")


def verify_element(root: etree._Element, certificates: tuple[str, ...]) -> etree._Element:
    """Verify the enveloped signature of a whole message and return it re-parsed from the verified bytes.

    Exactly one Signature with one Reference to the root, only the two usual transforms, no ds:Object; the key comes
    from the registration and never from KeyInfo. Raises `Invalid`.
    """
    signatures = root.findall(f".//{{{DS}}}Signature")
    if len(signatures) != 1 or signatures[0].getparent() is not root or not root.get("ID"):
        raise _bad("not exactly one signature of the message")
    signature = signatures[0]
    _check_shape(root, signature)
    for certificate in certificates:
        try:
            context = xmlsec.SignatureContext()
            context.key = _registered(certificate)[1]
            context.register_id(root, "ID")
            context.verify(signature)
        except xmlsec.Error:
            continue
        root.remove(signature)
        return parse(etree.tostring(root, method="c14n", exclusive=True))
    raise _bad("no registered key made this signature")


def _check_shape(root: etree._Element, signature: etree._Element) -> None:
    references = signature.findall("ds:SignedInfo/ds:Reference", NS)
    algorithm = signature.find("ds:SignedInfo/ds:SignatureMethod", NS)
    c14n = signature.find("ds:SignedInfo/ds:CanonicalizationMethod", NS)
    if len(signature.findall("ds:SignedInfo", NS)) != 1 or signature.find("ds:Object", NS) is not None:
        raise _bad("unusual signature")
    if len(references) != 1 or references[0].get("URI") != f"#{root.get('ID')}":
        raise _bad("the signature covers something else")
    if sum(node.get("ID") == root.get("ID") for node in root.iter()) != 1 or _has_xml_id(root):
        raise _bad("an ID stands twice")
    transforms = [one.get("Algorithm") for one in references[0].findall("ds:Transforms/ds:Transform", NS)]
    digest = references[0].find("ds:DigestMethod", NS)
    if transforms != _TRANSFORMS or c14n is None or c14n.get("Algorithm") != _EXCLUSIVE:
        raise _bad("unusual transforms")
    if algorithm is None or algorithm.get("Algorithm") not in _HASHES:
        raise _bad("signature algorithm is not accepted")
    if digest is None or digest.get("Algorithm") not in _DIGESTS:
        raise _bad("digest algorithm is not accepted")


def _has_xml_id(root: etree._Element) -> bool:
    """Whether a second kind of ID could compete with the message's own (libxml2 knows xml:id without being told)."""
    return any(node.get(_XML_ID) is not None for node in root.iter())


@lru_cache(maxsize=512)
def _registered(certificate: str) -> tuple[rsa.RSAPublicKey, xmlsec.Key]:
    """The public key of a registered certificate, for either binding, parsed once per process."""
    try:
        pem = read_certificate(certificate)
    except ValueError as error:
        raise _bad(f"a registered certificate {error}") from None
    public = x509.load_pem_x509_certificate(pem.encode()).public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise _bad("the registered key is not an RSA key")
    return public, xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem, None)


def _bad(detail: str) -> Invalid:
    return Invalid("The signature of the request is not valid.", detail, code="invalid_signature")
