"""Logging for people and for log shippers: one JSON object a line, without secrets."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

import orjson

_about: ContextVar[tuple[str, str]] = ContextVar("about", default=("", ""))


def speaking_of(request_id: str, trace: str) -> None:
    """What this thread logs from now on belongs to this request and trace (`core.trace`)."""
    _about.set((request_id, trace))


class JsonLines(logging.Formatter):
    """ECS field names (`@timestamp`, `log.level`, `log.logger`, `message`, `http.request.id`, `trace.id`,
    `error.stack_trace`)."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "message": record.getMessage()[:4_000],
        }
        request_id, trace = _about.get()
        if request_id:
            line["http.request.id"] = request_id
        if trace:
            line["trace.id"] = trace.partition("-")[0]
        if record.exc_info:
            line["error.stack_trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def configure(level: str) -> None:
    """Send the log of `identity` to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("identity")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
