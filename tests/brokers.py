"""The broker that tests run on. `OMS_TEST_KAFKA` chooses; what the tests say of the product is the same on each.

embedded   (or not set) the one from a wheel
apache     Apache Kafka from the folder that KAFKA_HOME names; needs Java
container  the image apache/kafka, on a Docker engine
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from testcontainers.core.container import DockerContainer

from ordermill.embedded import Supervisor
from ordermill.embedded.apache import ApacheBroker
from ordermill.embedded.broker import EmbeddedBroker, cluster_id_of
from ordermill.embedded.ports import choose_ports

KINDS = ("embedded", "apache", "container")
IMAGE = "apache/kafka:4.3.1"


def kind() -> str:
    found = os.environ.get("OMS_TEST_KAFKA", "embedded")
    if found not in KINDS:
        raise pytest.UsageError(f"OMS_TEST_KAFKA={found}: expected one of {', '.join(KINDS)}")
    return found


def kafka_home() -> Path:
    """Where Apache Kafka lies."""
    if home := os.environ.get("KAFKA_HOME"):
        return Path(home).absolute()
    raise pytest.UsageError("KAFKA_HOME is not set: expected the folder of an Apache Kafka, with bin/ and libs/ in it")


apache_only = pytest.mark.skipif(
    kind() == "embedded", reason="the embedded broker keeps nothing and has no such thing: OMS_TEST_KAFKA=apache"
)


class Server(Protocol):
    """A broker's process. It starts when it is made."""

    address: str

    def kill(self) -> None:
        """As a crash would end it; returns when it is dead."""

    def revive(self, empty: bool) -> None:
        """After `kill`: start again, with what it knew or with nothing; returns when it answers."""

    def tool(self, name: str, *arguments: str) -> str:
        """What one of Kafka's own programs prints, asked about this broker."""

    def stop(self) -> None: ...


class Embedded:
    """Never knows anything from before."""

    def __init__(self, folder: Path) -> None:
        self._broker = EmbeddedBroker(choose_ports({"kafka": None}, folder / "ports.json")["kafka"])
        self.address = self._broker.address
        self._run = _Supervised(self._broker, folder)

    def kill(self) -> None:
        self._run.kill()

    def revive(self, empty: bool) -> None:
        assert empty
        self._run.wait()

    def tool(self, name: str, *arguments: str) -> str:
        raise NotImplementedError(f"{name} comes with Apache Kafka")

    def stop(self) -> None:
        self._run.stop()


class Apache:
    def __init__(self, folder: Path) -> None:
        ports = choose_ports({"kafka": None, "controller": None}, folder / "ports.json")
        self._broker = ApacheBroker(kafka_home(), folder / "kafka", ports["kafka"], ports["controller"])
        self.address = self._broker.address
        self._run = _Supervised(self._broker, folder)

    def kill(self) -> None:
        self._run.kill()

    def revive(self, empty: bool) -> None:
        if empty:
            self._broker.forget()
        self._run.wait()

    def tool(self, name: str, *arguments: str) -> str:
        command = [str(kafka_home() / "bin" / name), "--bootstrap-server", self.address, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def stop(self) -> None:
        self._run.stop()


class _Supervised:
    def __init__(self, broker: EmbeddedBroker | ApacheBroker, folder: Path) -> None:
        self._broker = broker
        self._supervisor = Supervisor()
        self._supervisor.start(broker.child(folder / "kafka.log"))
        self.wait()

    def wait(self) -> None:
        self._supervisor.wait_ready("kafka", lambda _: self._broker.is_ready(), timeout_s=180)

    def kill(self) -> None:
        pid = self._supervisor.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while not self._supervisor.poll():
            pass

    def stop(self) -> None:
        for status in self._supervisor.status():
            if status.pid is not None:
                os.kill(status.pid, signal.SIGKILL)  # nobody wants what it knows
        self._supervisor.stop()


class Container:
    """The port is chosen before: a broker tells its clients where it is."""

    def __init__(self, folder: Path) -> None:
        self._port = choose_ports({"kafka": None}, folder / "ports.json")["kafka"]
        self.address = f"127.0.0.1:{self._port}"
        self._start()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def revive(self, empty: bool) -> None:
        if empty:
            self._container.stop()
            self._start()
        else:
            self._container.get_wrapped_container().start()
            self._wait()

    def tool(self, name: str, *arguments: str) -> str:
        command = [f"/opt/kafka/bin/{name}", "--bootstrap-server", "localhost:19092", *arguments]
        status, said = self._container.exec(command)
        assert status == 0, said
        return said.decode()

    def stop(self) -> None:
        self._container.stop()

    def _start(self) -> None:
        self._cluster = "k" + urlsafe_b64encode(uuid4().bytes).decode()[1:22]
        self._container = DockerContainer(IMAGE).with_envs(**self._environment())
        # Straight to Docker's client, which takes an address too: with_bind_ports would listen beyond loopback.
        self._container.ports["9092/tcp"] = ("127.0.0.1", self._port)  # type: ignore[assignment]
        self._container.start()
        self._wait()

    def _environment(self) -> dict[str, str]:
        return {
            "CLUSTER_ID": self._cluster,
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_LISTENERS": "CLIENTS://:9092,INSIDE://:19092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"CLIENTS://{self.address},INSIDE://localhost:19092",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CLIENTS:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "8",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
            "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": "500",
            "KAFKA_BROKER_SESSION_TIMEOUT_MS": "3000",
            "KAFKA_HEAP_OPTS": "-Xms128m -Xmx512m",
        }

    def _wait(self) -> None:
        until = time.monotonic() + 180
        while cluster_id_of(self._port) != self._cluster:
            assert time.monotonic() < until, self._container.get_logs()
            time.sleep(0.1)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A broker of the chosen kind, with nothing in it."""
    made: Server = {"embedded": Embedded, "apache": Apache, "container": Container}[kind()](folder)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def chosen(folder: Path) -> Iterator[str | None]:
    """What `--kafka` names: nothing, the folder of an Apache Kafka, or where a broker runs."""
    match kind():
        case "embedded":
            yield None
        case "apache":
            yield str(kafka_home())
        case _:
            with server(folder) as one:
                yield one.address


def settings() -> dict[str, Any]:
    """What a service needs to know of it: KafkaSettings, quick to notice a death."""
    real = kind() != "embedded"
    return {"fetch_wait_ms": 5, "session_timeout_ms": 1_500, "static_membership": real, "idempotent": real}


def environment() -> dict[str, str]:
    """The same as OMS_… variables."""
    names = {"idempotent": "OMS_IDEMPOTENT_PRODUCER"}
    return {names.get(name, f"OMS_{name.upper()}"): str(value) for name, value in settings().items()}
