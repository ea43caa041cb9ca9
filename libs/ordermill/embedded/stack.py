"""One data folder, one PostgreSQL, one broker."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from .broker import EmbeddedBroker, cluster_id_of
from .errors import EmbeddedError, FolderInUse, FolderNotOurs
from .leftovers import clear_leftovers
from .ports import choose_ports
from .postgres import SUPERUSER, EmbeddedPostgres
from .processes import ChildStatus, Program, Supervisor
from .system import plain_environment

logger = structlog.get_logger(__name__)


class EmbeddedStack:
    """PostgreSQL and a broker for one installation; `with`, `async with`, or `start` and `stop`.

    Starting blocks for less than a second once the data is there, also in `async with`: children get their
    death signal when the thread that made them ends, so no helper thread may make them.
    """

    def __init__(
        self,
        folder: Path = Path(".ordermill"),
        *,
        postgres_port: int | None = None,
        kafka_port: int | None = None,
        grace_s: float = 10.0,
    ) -> None:
        self.folder = folder.absolute()
        self.supervisor = Supervisor(run_file=self.folder / "run.json", grace_s=grace_s)
        self.supervisor.after_fork.append(self._unlock)
        wanted = {"postgres": postgres_port, "kafka": kafka_port}
        self._wanted = {name: port for name, port in wanted.items() if port is not None}
        self._lock: int | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._kafka_port = 0

    @property
    def postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            raise EmbeddedError(
                f"{self.folder}: not started, so its addresses are not known. Call start() first"
            )
        return self._postgres

    @property
    def postgres_address(self) -> str:
        return self.postgres.address

    def postgres_dsn(
        self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None
    ) -> str:
        """By default the superuser's; for others give the password."""
        return self.postgres.dsn(database, user, password)

    @property
    def kafka(self) -> str:
        """host:port of the broker."""
        return f"127.0.0.1:{self.postgres and self._kafka_port}"

    @property
    def cluster_id(self) -> str | None:
        """As the broker itself says; new whenever it has started, so has forgotten everything."""
        return cluster_id_of(self._kafka_port)

    def log(self, name: str) -> Path:
        """Where the child of that name logs to."""
        return self.folder / "log" / f"{name}.log"

    def start(self) -> Self:
        """Raises an EmbeddedError; then nothing is left running."""
        with ExitStack() as undo:
            self._take_lock()
            undo.callback(self._unlock)
            clear_leftovers(self.supervisor.run_file or self.folder / "run.json")
            ports = choose_ports(["postgres", "kafka"], self.folder / "ports.json", self._wanted)
            self._postgres = EmbeddedPostgres(self.folder / "postgres", ports["postgres"])
            self._kafka_port = ports["kafka"]
            self._postgres.prepare()
            self._broker().prepare()
            undo.callback(self.supervisor.stop)
            self.supervisor.start(self._postgres.program(self.log("postgres")))
            self.supervisor.start(self._broker_program())
            self.supervisor.wait_until(
                "postgres", self._postgres_ready, timeout_s=120.0
            )  # may replay a log first
            self.supervisor.wait_until("kafka", lambda _: self.cluster_id is not None)
            undo.pop_all()
        logger.info("embedded stack runs", postgres=self.postgres_address, kafka=self.kafka)
        return self

    def stop(self) -> None:
        """Stop every child of the supervisor, also those that others gave it."""
        try:
            self.supervisor.stop()
        finally:
            self._unlock()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def _broker(self) -> EmbeddedBroker:
        return EmbeddedBroker(self._kafka_port, f"embedded-{uuid4().hex[:12]}")

    def _broker_program(self) -> Program:
        """Each start, also a restart after a crash, gets a new cluster id."""
        return Program(
            name="kafka", argv=lambda: self._broker().argv(), env=plain_environment(), log=self.log("kafka")
        )

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
        """Also in forked children: a lock is held as long as anyone has it open."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def running_stack(folder: Path) -> EmbeddedStack:
    """For fixtures: `with running_stack(folder) as stack` or `async with`; runs inside, stopped after."""
    return EmbeddedStack(folder)
