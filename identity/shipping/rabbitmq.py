"""RabbitMQ, by the optional package `pika` (`pip install tessera[rabbitmq]`)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pika
from pika.exceptions import AMQPError

from identity.core.errors import Unavailable
from identity.shipping.inputs import RabbitSettings

TIMEOUT_S = 10.0
PERSISTENT = 2


class RabbitSender:
    """Publishes persistent messages with publisher confirms, mandatory: one that reaches no queue is a failure."""

    def __init__(self, settings: RabbitSettings, password: str) -> None:
        self._settings = settings
        self._password = password
        self._connection: Any = None
        self._channel: Any = None

    def send(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Raises `Unavailable` unless the broker confirmed every message."""
        try:
            if self._channel is None:
                self._open()
            for document in documents:
                self._channel.basic_publish(
                    self._settings.exchange,
                    document["event"]["action"],
                    orjson.dumps(document),
                    pika.BasicProperties(
                        content_type="application/json",
                        delivery_mode=PERSISTENT,
                        message_id=document["event"]["id"],
                    ),
                    mandatory=True,
                )
        except (AMQPError, OSError) as error:
            self.close()
            raise Unavailable("RabbitMQ does not take the records.", repr(error), code="unreachable") from error

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            connection.close()

    def _open(self) -> None:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.ca_file) if settings.tls else None
        credentials = pika.PlainCredentials(settings.user, self._password) if settings.user else None
        self._connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                settings.host,
                settings.port,
                settings.virtual_host,
                **({"credentials": credentials} if credentials else {}),
                ssl_options=pika.SSLOptions(context, settings.host) if context else None,
                socket_timeout=TIMEOUT_S,
                blocked_connection_timeout=TIMEOUT_S,
            )
        )
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
