"""A fresh installation to measure: PostgreSQL, a broker and services, each a process, in a temporary folder."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import uvloop

from ordermill.demo.launch import APACHE, EMBEDDED, niceness
from ordermill.embedded import Child, EmbeddedStack
from ordermill.installation import Installation, runner
from ordermill.names import CONSOLE, SERVICES, SIMULATOR


class BenchStopped(Exception):
    """A measurement could not be finished; nothing is left running."""


@dataclass(frozen=True)
class Place:
    """Where things are, for who measures: forked before, so all of it is known."""

    kafka: str
    admin_dsn: str
    api_token: str
    ports: dict[str, int]
    pids: dict[str, int]
    environment: dict[str, str]

    def url(self, service: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}{path}"

    def database(self, service: str) -> str:
        """The superuser's DSN of a service's database."""
        return self.admin_dsn.rpartition("/")[0] + f"/oms_{service}"


class Stand:
    """Starts and stops services, and runs measurements beside them, each in a process of its own."""

    def __init__(self, folder: Path, stack: EmbeddedStack, environment: dict[str, str], api_token: str) -> None:
        self._folder = folder
        self._stack = stack
        self._environment = environment
        self._api_token = api_token
        self._children: dict[str, Child] = {}

    def start(self, *services: str) -> None:
        """`inventory-2` is one more instance of inventory."""
        for name in services:
            nice = niceness(name.partition("-")[0])
            child = Child(name, function=self._runner(name), log=self._stack.log(name), essential=False, nice=nice)
            self._children[name] = child
            self._stack.supervisor.start(child)

    def seconds_to_ready(self, service: str, fresh: bool, limit_s: float = 60) -> float:
        """Start a service and wait until it says that it is ready. `fresh`: as `oms run` in a process of its own, which
        imports all anew; else forked from here, as `oms up` does it. Raises BenchStopped after `limit_s` seconds.
        """
        oms = str(Path(sys.executable).with_name("oms"))
        child = Child(
            service,
            function=None if fresh else self._runner(service),
            argv=(lambda: [oms, "run", service]) if fresh else None,
            log=self._stack.log(service),
            essential=False,
        )
        self._children[service] = child
        url, began = f"http://127.0.0.1:{self._stack.ports[service]}/readyz", time.monotonic()
        self._stack.supervisor.start(child)
        while not _answers(url):
            self._stack.supervisor.poll()
            if self._dead() or self._stack.supervisor.stop_requested or time.monotonic() - began > limit_s:
                raise BenchStopped(f"{service} did not get ready: {child.log_tail(4)}")
            time.sleep(0.005)
        return time.monotonic() - began

    def stop(self, *services: str) -> None:
        for service in services:
            self._stack.supervisor.stop_child(self._children.pop(service))

    @property
    def place(self) -> Place:
        running = {status.name: status.pid for status in self._stack.supervisor.status() if status.pid is not None}
        pids = {"broker" if name == "kafka" else name: pid for name, pid in running.items()}
        return Place(
            self._stack.kafka,
            self._stack.postgres_dsn(),
            self._api_token,
            {name: port for name, port in self._stack.ports.items() if name.partition("-")[0] in SERVICES},
            pids,
            self._environment,
        )

    def measure(self, name: str, work: Callable[[Place], Coroutine[Any, Any, Any]], limit_s: float) -> Any:
        """What `work` returns, through JSON. Raises BenchStopped if it or a service ends badly, or takes too long."""
        place, result = self.place, self._folder / f"{name}.json"

        def run() -> None:
            os.environ.update(place.environment)
            result.write_text(json.dumps(uvloop.run(work(place))))

        child = Child(f"measure-{name}", function=run, essential=False, stage=2)
        supervisor = self._stack.supervisor
        supervisor.start(child)
        until = time.monotonic() + limit_s
        supervisor.wait(lambda: child.status is not None or bool(self._dead()) or time.monotonic() > until, tick_s=0.1)
        if child.status == 0 and not self._dead():
            return json.loads(result.read_text())
        if child.pid is not None:
            supervisor.stop_child(child)
        dead = "; ".join(f"{each.name} ended with {each.status}: {each.log_tail(4)}" for each in self._dead())
        if supervisor.stop_requested:
            raise BenchStopped("stopped by a signal")
        raise BenchStopped(
            f"{name}: {dead or (f'ended with {child.status}' if child.status else f'took over {limit_s} s')}"
        )

    def warnings(self) -> dict[str, int]:
        """Lines of the services' logs that are warnings or worse, by event and service, the most frequent first."""
        found: dict[str, int] = {}
        for service in SERVICES:
            log = self._stack.log(service)
            for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict) and str(entry.get("level", "")).lower() in ("warning", "error", "critical"):
                    what = f"{service}: {entry.get('event')}"
                    found[what] = found.get(what, 0) + 1
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def _runner(self, name: str) -> Callable[[], None]:
        service, _, number = name.partition("-")
        if not number:
            return runner(service)

        def run() -> None:
            port = str(self._stack.ports[name])
            os.environ.update({"OMS_INSTANCE": number, f"OMS_{service.upper()}_PORT": port})
            runner(service)()

        return run

    def _dead(self) -> list[Child]:
        return [child for child in self._children.values() if child.status is not None]


@contextmanager
def stand(settings: dict[str, str] | None = None, more: Sequence[str] = ()) -> Iterator[Stand]:
    """`settings`: OMS_… variables beside those of the embedded installation. `more`: instances beside the first ones,
    such as `inventory-2`, that are to get a port.
    """
    with tempfile.TemporaryDirectory(prefix="ordermill-bench-") as name:
        folder = Path(name)
        stack = EmbeddedStack(folder, dict.fromkeys((*SERVICES, CONSOLE, SIMULATOR, *more)), kafka=apache_kafka())
        with stack.supervisor.handling_signals(), stack:
            installation = Installation.open(folder)
            environment = installation.environment(stack.kafka, stack.postgres.address, stack.ports)
            environment |= APACHE if apache_kafka() else EMBEDDED
            environment |= settings or {}
            os.environ.update(environment)
            server = stack.postgres_dsn().rpartition("/")[0]
            asyncio.run(installation.prepare(server, stack.postgres.address))
            stack.supervisor.start(Child(SIMULATOR, function=runner(SIMULATOR), log=stack.log(SIMULATOR)))
            yield Stand(folder, stack, environment, installation.secrets["api_token"])


def _answers(url: str) -> bool:
    """With status 200."""
    try:
        with urlopen(url, timeout=1) as answer:  # noqa: S310
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def apache_kafka() -> str | None:
    """The folder of the Apache Kafka to measure with; None: the embedded broker."""
    return os.environ.get("KAFKA_HOME")


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)
