"""RFC 3161: a time-stamping service as an anchor. It says that a head existed at a time; it keeps nothing."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from identity.audit.note import Head
from identity.core.errors import Unavailable
from identity.core.fetch import post_bytes

GRANTED = (0, 1)


class TimestampAnchor:
    """Asks for a stamp over the note (SHA-256, with nonce and certificate) and keeps the whole response as receipt.

    `roots`: the service's root certificates in PEM; what does not lead to one of them is no receipt.
    """

    name = "timestamp"

    def __init__(self, url: str, roots: Path) -> None:
        self._url = url
        self._roots = tuple(x509.load_pem_x509_certificates(roots.read_bytes()))

    def put(self, head: Head, note: str) -> bytes:  # noqa: ARG002  the note holds the head
        request = TimestampRequestBuilder().data(note.encode()).hash_algorithm(HashAlgorithm.SHA256).build()
        answer = post_bytes(self._url, request.as_bytes(), "application/timestamp-query")
        if answer.status != 200:
            raise Unavailable("The time-stamping service refused.", f"status {answer.status}", code="anchor")
        builder = VerifierBuilder.from_request(request)
        for root in self._roots:
            builder = builder.add_root_certificate(root)
        try:
            response = decode_timestamp_response(answer.body)
            if response.status not in GRANTED:
                raise ValueError(f"PKI status {response.status}")
            builder.build().verify_message(response, note.encode())
        except (VerificationError, ValueError) as error:
            raise Unavailable("The time stamp does not hold.", str(error), code="anchor") from error
        return answer.body
