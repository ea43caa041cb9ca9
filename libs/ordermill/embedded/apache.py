"""Apache Kafka from a folder that holds it (its `bin/` and `libs/`): one node in KRaft mode, on loopback, data kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from .broker import cluster_id_of
from .errors import InitFailed, NoKafkaHere
from .ports import require_free
from .processes import Child
from .system import plain_environment, write_private

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENTS://{address}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
"""
"""A broker that died and is back is let in again only when its former life counts as over: three seconds, not nine."""
JVM = "-Xms128m -Xmx512m -XX:TieredStopAtLevel=1"
"""Without the thorough compiler a start costs half the processor time, and so does the first minute under load."""


class ApacheBroker:
    """One broker, which is also its own controller. What it was told is there again after a restart."""

    def __init__(self, home: Path, folder: Path, port: int, controller_port: int, told_port: int | None = None) -> None:
        """`home`: Apache Kafka's files, as KAFKA_HOME names them. `folder`: where data and configuration go.

        `told_port`: where clients are told to come, if that is another: somebody there passes on to `port`.
        """
        self.port = port
        self._told_port = told_port or port
        self._controller_port = controller_port
        self._home = home
        self._folder = folder
        self._cluster = folder / "cluster-id"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._told_port}"

    @property
    def cluster_id(self) -> str:
        """Given once, when the folder is set up."""
        return self._cluster.read_text() if self._cluster.exists() else ""

    def prepare(self) -> None:
        """Raises NoKafkaHere, PortInUse."""
        self._program("kafka-server-start.sh")
        self._program("kafka-storage.sh")
        if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            raise NoKafkaHere(self._home, "no `java` on the PATH and no JAVA_HOME", "install Java 17 or newer")
        require_free("the broker", self.port)
        require_free("the broker's controller", self._controller_port)

    def argv(self) -> Sequence[str]:
        """The command of the next start; sets up an empty folder first. Raises InitFailed."""
        properties = self._folder / "server.properties"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = self._folder / "data"
        ports = {"port": self.port, "controller": self._controller_port, "address": self.address}
        properties.write_text(_PROPERTIES.format(**ports, data=data))
        if not self.cluster_id:
            shutil.rmtree(data, ignore_errors=True)  # a set-up that was cut short
            self._format(properties)
        return [str(self._program("kafka-server-start.sh")), str(properties)]

    def child(self, log: Path | None = None) -> Child:
        return Child("kafka", argv=self.argv, env=self._environment(), log=log, stage=0)

    def is_ready(self) -> bool:
        return bool(self.cluster_id) and cluster_id_of(self.port) == self.cluster_id

    def forget(self) -> None:
        """While it does not run: lose all it was ever told. The next start is that of another cluster."""
        self._cluster.unlink(missing_ok=True)

    def _format(self, properties: Path) -> None:
        cluster_id = "k" + urlsafe_b64encode(uuid4().bytes).decode()[1:22]  # its tools take a leading "-" for an option
        done = subprocess.run(
            [str(self._program("kafka-storage.sh")), "format", "-t", cluster_id, "-c", str(properties)],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise InitFailed("kafka-storage.sh format", self._folder, done.returncode, done.stderr or done.stdout)
        write_private(self._cluster, cluster_id)

    def _program(self, name: str) -> Path:
        found = self._home / "bin" / name
        if not os.access(found, os.X_OK):
            raise NoKafkaHere(self._home, f"no program {found}", "name the folder that holds its bin/ and libs/")
        return found

    def _environment(self) -> dict[str, str]:
        java = {"JAVA_HOME": os.environ["JAVA_HOME"]} if "JAVA_HOME" in os.environ else {}
        return plain_environment() | java | {"KAFKA_HEAP_OPTS": JVM, "LOG_DIR": str(self._folder / "logs")}
