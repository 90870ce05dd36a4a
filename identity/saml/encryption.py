"""Encrypted assertions (SAML Core §2.3.4): AES-256-GCM under a fresh key, which RSA-OAEP wraps for one receiver."""

from __future__ import annotations

from functools import lru_cache

import xmlsec
from lxml import etree


@lru_cache(maxsize=256)
def _keys(certificate: str) -> xmlsec.KeysManager:
    """The receiver's key in a manager of its own, made once per process (19 ms each time otherwise)."""
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem, None))
    return manager


def encrypt(element: etree._Element, certificate: str) -> etree._Element:
    """The element, which is the root of its document, as xenc:EncryptedData for the holder of a PEM certificate.

    Encrypted inside another document it would lose the namespaces that it inherits.
    """
    data: etree._Element = xmlsec.template.encrypted_data_create(
        element, xmlsec.constants.TransformAes256Gcm, type=xmlsec.constants.TypeEncElement, ns="xenc"
    )
    xmlsec.template.encrypted_data_ensure_cipher_value(data)
    info = xmlsec.template.encrypted_data_ensure_key_info(data, ns="ds")
    wrapped = xmlsec.template.add_encrypted_key(info, xmlsec.constants.TransformRsaOaep)
    xmlsec.template.encrypted_data_ensure_cipher_value(wrapped)
    context = xmlsec.EncryptionContext(_keys(certificate))
    context.key = xmlsec.Key.generate(xmlsec.constants.KeyDataAes, 256, xmlsec.constants.KeyDataTypeSession)
    encrypted: etree._Element = context.encrypt_xml(data, element)
    return encrypted
