"""One data folder, one PostgreSQL, one broker."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from .apache import ApacheBroker
from .broker import Broker, EmbeddedBroker, OutsideBroker
from .errors import FolderInUse, FolderNotOurs, NotRunning
from .leftovers import clear_leftovers
from .ports import Claims, choose_ports
from .postgres import SUPERUSER, EmbeddedPostgres
from .processes import ChildStatus, Supervisor

logger = structlog.get_logger(__name__)


class EmbeddedStack:
    """PostgreSQL and a broker for one installation; `with`, `async with`, or `start` and `stop`.

    Starting blocks for a moment, also in `async with`: children get their death signal when the thread that made
    them ends, so no helper thread may make them.
    """

    def __init__(
        self,
        folder: Path = Path(".ordermill"),
        preferred_ports: Mapping[str, int | None] | None = None,
        *,
        kafka: str | None = None,
        postgres_port: int | None = None,
        kafka_port: int | None = None,
        through: Mapping[str, int] | None = None,
        throwaway: bool = False,
        grace_s: float = 10.0,
    ) -> None:
        """`preferred_ports`: names that get a port in `ports` too. The named two are taken as given or refused.

        `kafka`: the folder of an Apache Kafka to run, or host:port of a broker that runs; else the embedded one runs.
        `through`: the ports at which others look for `postgres` and `kafka`, where somebody stands between.
        `throwaway`: see EmbeddedPostgres.
        """
        self.folder = folder.resolve()
        self.ports: dict[str, int] = {}
        self._claims = Claims()
        self._run_file = self.folder / "run.json"
        self.supervisor = Supervisor(self._run_file, grace_s)
        # A lock and a claim are held as long as anyone has them open.
        self.supervisor.after_fork += [self._unlock, self._claims.release]
        self._preferred: dict[str, int | None] = {"postgres": None, "kafka": None, **(preferred_ports or {})}
        wanted = {"postgres": postgres_port, "kafka": kafka_port}
        self._wanted = {name: port for name, port in wanted.items() if port is not None}
        self._lock: int | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._kafka = kafka
        self._throwaway = throwaway
        self._through = through or {}
        self._broker: Broker | None = None

    @property
    def postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            raise NotRunning(self.folder)
        return self._postgres

    @property
    def broker(self) -> Broker:
        if self._broker is None:
            raise NotRunning(self.folder)
        return self._broker

    @property
    def kafka(self) -> str:
        """host:port of the broker, as others see it."""
        return self.broker.address

    @property
    def postgres_address(self) -> str:
        """host:port of PostgreSQL, as others see it."""
        return f"127.0.0.1:{self._through.get('postgres', self.postgres.port)}"

    def postgres_dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """By default the superuser's, password included; for others give the password."""
        return self.postgres.dsn(database, user, password)

    def log(self, name: str) -> Path:
        """Where the child of that name logs to."""
        return self.folder / "logs" / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[Self]:
        """Hold the folder for longer than from `start` to `stop`. Raises FolderInUse, FolderNotOurs."""
        self._take_lock()
        try:
            yield self
        finally:
            self._unlock()

    def start(self) -> Self:
        """Raises an EmbeddedError; then nothing is left running."""
        with ExitStack() as undo:
            if self._lock is None:
                self._take_lock()
                undo.callback(self._unlock)
            clear_leftovers(self._run_file)
            undo.callback(self._claims.release)
            self.ports = choose_ports(self._preferred, self.folder / "ports.json", self._wanted, self._claims)
            self._postgres = EmbeddedPostgres(self.folder / "postgres", self.ports["postgres"], self._throwaway)
            self._broker = self._chosen_broker()
            self._postgres.prepare()
            self._broker.prepare()
            undo.callback(self.supervisor.stop)
            self.supervisor.start(self._postgres.child(self.log("postgres")))
            if (child := self._broker.child(self.log("kafka"))) is not None:
                self.supervisor.start(child)
            self.supervisor.wait_ready("postgres", self._postgres_ready, timeout_s=120.0)  # may replay its log first
            if child is not None:
                self.supervisor.wait_ready("kafka", lambda _: self.broker.is_ready(), timeout_s=120.0)
            undo.pop_all()
        logger.info("embedded stack runs", postgres=self.postgres.address, kafka=self.kafka)
        return self

    def _chosen_broker(self) -> Broker:
        told = self._through.get("kafka")
        if self._kafka is None:
            return EmbeddedBroker(self.ports["kafka"], told_port=told)
        home = Path(self._kafka)
        if not home.is_dir():
            return OutsideBroker(self._kafka)
        wanted = {"kafka": None, "kafka-controller": None}
        controller = choose_ports(wanted, self.folder / "ports.json", self.ports, self._claims)
        ports = (self.ports["kafka"], controller["kafka-controller"], told)
        return ApacheBroker(home.absolute(), self.folder / "kafka", *ports)

    def stop(self) -> None:
        """Stop every child of the supervisor, also those that others gave it, and leave the folder."""
        try:
            self.supervisor.stop()
        finally:
            self._claims.release()
            self._unlock()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def _postgres_ready(self, status: ChildStatus) -> bool:
        return status.pid is not None and self.postgres.is_ready(status.pid)

    def _take_lock(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise FolderNotOurs(self.folder, str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip() or "unknown"
            os.close(descriptor)
            raise FolderInUse(self.folder, holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def running_stack(folder: Path, throwaway: bool = False) -> EmbeddedStack:
    """For fixtures: `with running_stack(folder) as stack`, or `async with`; stopped at the end."""
    return EmbeddedStack(folder, throwaway=throwaway)
