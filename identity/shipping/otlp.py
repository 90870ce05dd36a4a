"""OpenTelemetry logs by OTLP/HTTP in the JSON encoding (OTLP 1.x: the bytes of ids as hex, 64-bit integers as text)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from identity.core.db import to_micros
from identity.core.errors import Unavailable
from identity.core.fetch import post_json
from identity.shipping.inputs import OtlpSettings

INFO, WARN = 9, 13


def request(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An ExportLogsServiceRequest with these ECS documents as log records."""
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": [_attribute("service.name", "tessera")]},
                "scopeLogs": [{"scope": {"name": "tessera.audit"}, "logRecords": [_record(one) for one in documents]}],
            }
        ]
    }


def _record(document: Mapping[str, Any]) -> dict[str, Any]:
    failed = document["event"]["outcome"] == "failure"
    nanos = str(to_micros(datetime.fromisoformat(document["@timestamp"])) * 1_000)
    found: dict[str, Any] = {
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": WARN if failed else INFO,
        "severityText": "WARN" if failed else "INFO",
        "eventName": document["event"]["action"],
        "body": {"stringValue": document["message"]},
        "attributes": [
            _attribute("event.id", document["event"]["id"]),
            _attribute("event.outcome", document["event"]["outcome"]),
            _attribute("tessera.record", orjson.dumps(document).decode()),
        ],
    }
    if "trace" in document:
        found["traceId"] = document["trace"]["id"]
    return found


def _attribute(name: str, value: str) -> dict[str, Any]:
    return {"key": name, "value": {"stringValue": value}}


class OtlpSender:
    """Posts batches; a collector's partial success counts as a failure, so that nothing is left out in silence."""

    def __init__(self, settings: OtlpSettings, token: str) -> None:
        self._settings = settings
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Raises `Unavailable` when the collector does not take them all."""
        answer = post_json(self._settings.url, request(documents), self._headers)
        if answer.status != 200:
            raise Unavailable("The collector did not take the records.", f"status {answer.status}", code="refused")
        rejected = answer.json().get("partialSuccess", {}).get("rejectedLogRecords", 0)
        if int(rejected):
            raise Unavailable("The collector left records out.", f"{rejected} rejected", code="refused")

    def close(self) -> None:
        """Nothing is kept open."""
