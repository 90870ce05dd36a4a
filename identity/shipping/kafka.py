"""Kafka, by the optional package `confluent-kafka` (`pip install tessera[kafka]`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from confluent_kafka import KafkaException, Producer

from identity.core.errors import Unavailable
from identity.shipping.inputs import KafkaSettings

TIMEOUT_S = 30.0


class KafkaSender:
    """Produces with acknowledgement of all in-sync replicas; a batch is taken when each message was."""

    def __init__(self, settings: KafkaSettings, password: str) -> None:
        self._topic = settings.topic
        options: dict[str, Any] = {
            "bootstrap.servers": ",".join(settings.brokers),
            "acks": "all",
            "enable.idempotence": True,
            "delivery.timeout.ms": int(TIMEOUT_S * 1_000),
            "security.protocol": ("SASL_SSL" if settings.user else "SSL")
            if settings.tls
            else ("SASL_PLAINTEXT" if settings.user else "PLAINTEXT"),
        }
        if settings.ca_file:
            options["ssl.ca.location"] = settings.ca_file
        if settings.user:
            options |= {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": settings.user, "sasl.password": password}
        self._producer = Producer(options)

    def send(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Raises `Unavailable` unless the brokers acknowledged every message."""
        failures: list[str] = []

        def delivered(error: Any, _message: Any) -> None:
            if error is not None:
                failures.append(str(error))

        try:
            for document in documents:
                key = document["event"]["id"].encode()
                self._producer.produce(self._topic, orjson.dumps(document), key, on_delivery=delivered)
                self._producer.poll(0)
            left = self._producer.flush(TIMEOUT_S)
        except (KafkaException, BufferError) as error:
            raise Unavailable("Kafka does not take the records.", str(error), code="unreachable") from error
        if left or failures:
            self._producer.purge()
            self._producer.flush(1.0)
            detail = failures[0] if failures else f"{left} messages were not acknowledged"
            raise Unavailable("Kafka does not take the records.", detail, code="unreachable")

    def close(self) -> None:
        self._producer.flush(1.0)
