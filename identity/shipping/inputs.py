"""Accepted shapes of shipping targets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from identity.core.addresses import WebAddress

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,200}$")]
Hosts = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}$")], ...], Field(min_length=1)
]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileSettings(_Settings):
    """JSON lines (ECS) in a file that Filebeat or Logstash follows; a new file at `max_mb`, `keep` old ones stay."""

    path: str
    max_mb: int = Field(default=256, ge=1)
    keep: int = Field(default=8, ge=1, le=1_000)


class SyslogSettings(_Settings):
    """RFC 5424 over TLS (RFC 5425), or over plain TCP where `tls` is off: then on loopback only."""

    host: Word
    port: int = Field(default=6514, ge=1, le=65_535)
    tls: bool = True
    ca_file: str | None = None

    @model_validator(mode="after")
    def _never_plain_over_a_network(self) -> SyslogSettings:
        if not self.tls and self.host not in {"127.0.0.1", "localhost"}:
            raise ValueError("without TLS only this machine's own syslog can be reached")
        return self


class KafkaSettings(_Settings):
    """A Kafka topic; the message key is the record's id."""

    brokers: Hosts
    topic: Word
    user: str | None = None
    tls: bool = True
    ca_file: str | None = None


class RabbitSettings(_Settings):
    """A RabbitMQ exchange; the routing key is the record's kind."""

    host: Word
    port: int = Field(default=5671, ge=1, le=65_535)
    virtual_host: str = "/"
    exchange: Word
    user: str | None = None
    tls: bool = True
    ca_file: str | None = None


class OtlpSettings(_Settings):
    """OpenTelemetry logs by OTLP over HTTP in its JSON form; `url` ends in /v1/logs, the secret is a bearer token."""

    url: WebAddress


SETTINGS: dict[str, type[_Settings]] = {
    "file": FileSettings,
    "syslog": SyslogSettings,
    "kafka": KafkaSettings,
    "rabbitmq": RabbitSettings,
    "otlp": OtlpSettings,
}


class TargetInput(_Settings):
    """A target; `secret` is a reference, its meaning depends on the kind (password or token)."""

    code: Word
    kind: Literal["file", "syslog", "kafka", "rabbitmq", "otlp"]
    settings: dict[str, object] = {}
    secret: Annotated[str, StringConstraints(pattern=r"^(file|env):.+$")] | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def _settings_of_the_kind(self) -> TargetInput:
        SETTINGS[self.kind].model_validate(self.settings)
        return self
