"""One installation with orders flowing through it: what can be done to it, and whether it has recovered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from ordermill.demo.rules import happens
from ordermill.embedded.leftovers import Note
from ordermill.names import CONSOLE, SERVICES

ROOT = Path(__file__).parents[2]
READER = ROOT / "tests/independent/read_topics.py"
SKU = "CHAOS-TEAPOT"
NEVER_S = 120.0
"""Not recovered after so long: never."""


class NotSettled(AssertionError):
    """An order is stuck, or something does not add up."""


class CannotBeDone(Exception):
    """This machine or this broker does not let it happen; the text says why."""


PER_SECOND = 8.0
"""Orders that the world sends in a second: half of what goes through, so that a fault meets them on their way."""


@dataclass
class Installation:
    """`oms demo`, its world sending `orders` orders at a steady pace."""

    home: Path
    orders: int
    kafka: str | None
    per_second: float = PER_SECOND
    asked_second: str = ""
    """The service whose added instance is asked over HTTP, not the first."""
    networks: dict[str, Network] = field(default_factory=dict)
    """What stands between services and `postgres`, `kafka`, if anything does."""
    _second: dict[str, str] = field(default_factory=dict)
    """Where the added instance of a service is asked."""
    _launcher: subprocess.Popen[str] | None = None
    _others: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Returns when it is ready, and knows the goods of the orders that `flow_s` sends."""
        self.launch()
        self.until(lambda: "world" in self.notes() and all(map(self.is_ready, (*SERVICES, CONSOLE))), "started")
        self.receive(100)

    def launch(self) -> None:
        if self.networks:
            arguments = [self.orders, self.per_second, *(self.networks[name].port for name in ("postgres", "kafka"))]
            command = [sys.executable, "-m", "tests.chaos.behind", *map(str, arguments)]
            command += [self.kafka] if self.kafka else []
        else:
            options = ["--orders", str(self.orders), "--speed", "max", "--json", "--per-second", str(self.per_second)]
            options += ["--kafka", self.kafka] if self.kafka else []
            command = self._oms("demo", *options)
        self._launcher = subprocess.Popen(
            command, env=self._environment, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self.home.with_name("launcher.log").open("a"), text=True,
        )  # fmt: skip

    def kill_launcher(self) -> None:
        """kill -9; none of what it started outlives it."""
        before = self.notes()
        assert self._launcher is not None
        self._launcher.kill()
        self._launcher.wait()
        while any(note.alive for note in before.values()):
            time.sleep(0.02)

    def stop(self) -> None:
        for process in self._others.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._others.values():
            process.wait(30)
        if self._launcher is not None and self._launcher.poll() is None:
            self._launcher.send_signal(signal.SIGINT)
            self._launcher.wait(90)

    # What runs

    def notes(self) -> dict[str, Note]:
        """Living processes by name, as the launcher notes them."""
        with suppress(OSError, ValueError):
            every = [Note(**each) for each in json.loads((self.home / "run.json").read_text())]
            return {note.name: note for note in every if note.alive}
        return {}

    def kill(self, name: str) -> bool:
        """kill -9, if it runs just now."""
        note = self.notes().get(name)
        if note is not None:
            with suppress(ProcessLookupError):
                os.kill(note.pid, signal.SIGKILL)
                return True
        return False

    def pids(self, name: str) -> list[int]:
        """Of a process and all its children: PostgreSQL has one for each session. "second …": an added instance."""
        found = [self._others[name.partition(" ")[2]].pid if name.startswith("second ") else self.notes()[name].pid]
        for pid in found:
            with suppress(OSError):
                found += [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return found

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end of the block."""
        pids = self.pids(name)
        _send(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(pids, signal.SIGCONT)

    def add_instance(self, service: str, **environment: str) -> None:
        """A second one of the service, ready to work; it stops with the installation."""
        port = free_port()
        settings = {f"OMS_{service.upper()}_PORT": str(port), "OMS_INSTANCE": "second"} | environment
        self._others[service] = subprocess.Popen(
            self._oms("run", service), env=self._environment | self.known | settings, cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=self.home.with_name(f"second-{service}.log").open("a"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._second[service] = f"http://127.0.0.1:{port}"
        self.until(lambda: _ready(self._second[service]), f"second {service} ready")

    def stop_instance(self, service: str) -> None:
        process = self._others.pop(service)
        process.terminate()
        process.wait(30)

    # PostgreSQL

    def sql(self, statement: str, database: str = "postgres") -> list[Any]:
        """As the superuser."""

        async def run() -> list[Any]:
            connection = await self.connect(database)
            try:
                return list(await connection.fetch(statement))
            finally:
                await connection.close()

        return asyncio.run(run())

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        port = json.loads((self.home / "ports.json").read_text())["postgres"]
        password = (self.home / "postgres").resolve().with_name("postgres.password").read_text()
        connection: asyncpg.Connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="postgres", password=password, database=database, timeout=5
        )
        return connection

    def end_leader(self, service: str) -> int:
        """End the session that holds the lock of the service's relay; how many did."""
        return len(
            self.sql(
                "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid "
                "WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() "
                "AND a.application_name LIKE 'ordermill relay-%'",
                f"oms_{service}",
            )
        )

    # The broker

    def administer(self, work: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
        """What a Kafka administrator does. Raises KafkaError."""

        async def run() -> Any:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.known["OMS_KAFKA"])
            await admin.start()
            try:
                return await work(admin)
            finally:
                await admin.close()

        return asyncio.run(run())

    def records(self, *topics: str) -> list[Any]:
        """All that is on these topics by now, each partition in its order."""

        async def run() -> list[Any]:
            # Not by seeking to the beginning: that is forgotten if the client learns of a partition only now.
            servers = self.known["OMS_KAFKA"]
            consumer = AIOKafkaConsumer(*topics, bootstrap_servers=servers, auto_offset_reset="earliest")
            await consumer.start()
            try:
                found = []
                while not (places := consumer.assignment()):
                    await asyncio.sleep(0.05)
                ends = await consumer.end_offsets(places)
                behind = True
                while behind:
                    behind = any([await consumer.position(each) < end for each, end in ends.items()])
                    # Once more at the ends: the embedded broker's leave out most of the last batch.
                    polled = await consumer.getmany(timeout_ms=1_000)
                    found += [record for several in polled.values() for record in several]
                return sorted(found, key=lambda each: (each.topic, each.partition, each.offset))
            finally:
                await consumer.stop()

        return asyncio.run(run())

    def states_agree(self) -> None:
        """The last message of each key is the state that the log has. Raises NotSettled.

        A key may lie on two partitions where some were added; then the newer one counts.
        """
        for service, topic in (("inventory", "oms.inventory.availability"), ("tracking", "oms.orders.status")):
            rows = self.sql(f"SELECT key, revision FROM publications WHERE topic = '{topic}'", f"oms_{service}")
            last: dict[str, dict[int, int]] = {}
            for record in self.records(topic):
                key, _, revision = id_of(record).rpartition("@")
                last.setdefault(key, {})[record.partition] = int(revision)
            told = {key: max(by_partition.values()) for key, by_partition in last.items()}
            known = {row["key"]: row["revision"] for row in rows}
            if told != known:
                wrong = sorted(key for key in told.keys() | known.keys() if told.get(key) != known.get(key))
                raise NotSettled(
                    f"{topic}: {len(wrong)} states are not the log's, the first: {wrong[0]}, revision "
                    f"{told.get(wrong[0])} told last, {known.get(wrong[0])} in the log"
                )

    # What comes in and what comes of it

    @property
    def known(self) -> dict[str, str]:
        """The OMS_… variables of this installation."""
        found: dict[str, str] = json.loads((self.home / "environment.json").read_text())
        return found

    def url(self, service: str) -> str:
        if service == self.asked_second:
            return self._second[service]
        return f"http://127.0.0.1:{self.known[f'OMS_{service.upper()}_PORT']}"

    def is_ready(self, service: str) -> bool:
        return _ready(self.url(service))

    def ask(self, method: str, service: str, path: str, body: Any = None, **query: str) -> Any:
        """Raises httpx.HTTPError."""
        headers = {"Authorization": f"Bearer {self.known['OMS_API_TOKEN']}"}
        answer = httpx.request(
            method, self.url(service) + path, json=body, params=query, headers=headers, timeout=2, trust_env=False
        )
        answer.raise_for_status()
        return answer.json()

    def receive(self, quantity: int) -> None:
        line = {
            "location": "edison", "sku": SKU, "reference": uuid4().hex, "happened_at": "2026-03-02T08:00:00Z",
            "quantity": quantity,
        }  # fmt: skip
        self.until(lambda: self.ask("POST", "inventory", "/stock/receive", [line]), "goods received")

    def flow_s(self) -> float:
        """Seconds until everything is ready and an order that is sent now has been asked of a location and promised.

        Raises NotSettled if a step of it takes longer than NEVER_S.
        """
        began = time.monotonic()
        self.route_one()
        self.until(lambda: all(map(self.is_ready, (*SERVICES, CONSOLE))), "all ready")
        return time.monotonic() - began

    def route_one(self, patience_s: float = NEVER_S) -> None:
        """Send an order that its customer will not call off, wait until it was asked of a location and promised.

        Raises NotSettled.
        """
        self._still_flows()
        order = json.loads((ROOT / "docs/examples/order.json").read_text())
        del order["type"], order["risk"]
        names = (f"chaos-{uuid4().hex}" for _ in count())
        order["external_id"] = next(name for name in names if not happens("cancel", name))
        order["lines"][0]["sku"] = SKU
        order_id = str(self.until(lambda: self.ask("POST", "capture", "/orders", order)["key"], "an order taken"))
        order_id = order_id if order_id.startswith("order-") else f"order-{order_id}"
        self.until(lambda: self._routed(order_id), "the order at a location and promised", patience_s)
        self._still_flows()

    def _still_flows(self) -> None:
        """Raises NotSettled once the world has begun to add up: an order that is sent then would be found unsettled."""
        if "adding up" in self.home.with_name("launcher.log").read_text():
            raise NotSettled("all orders were settled before the fault was over: it needs more --orders")

    def _routed(self, order_id: str) -> bool:
        bare = order_id.removeprefix("order-")
        asked = self.ask("GET", "fulfillment", "/fulfillments", order_id=bare)["items"]
        return bool(asked) and self.ask("GET", "tracking", f"/order-status/{bare}")["promised_by"] is not None

    def settle(self, timeout_s: float) -> str:
        """Wait until every order is settled; then all must add up, and the independent reader must agree: what it read.

        Raises NotSettled.
        """
        assert self._launcher is not None and self._launcher.stdout is not None
        lines: list[str] = []
        with _alarm(timeout_s):
            lines.append(self._launcher.stdout.readline())
        if not lines or not lines[0]:
            raise NotSettled(f"not settled after {timeout_s:g} s: {self._talk()}")
        if wrong := json.loads(lines[0])["violations"]:
            raise NotSettled(f"{len(wrong)} violations, the first: {wrong[0]}")
        self._agrees(self._oms("verify", "--settled"))
        self.states_agree()
        token = self.known["OMS_API_TOKEN"]
        return self._agrees([sys.executable, str(READER), self.known["OMS_KAFKA"], self.url("tracking"), token])

    def _agrees(self, command: list[str]) -> str:
        done = subprocess.run(
            command, env=self._environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        said = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
        if done.returncode:
            self.home.with_name("wrong.log").write_text(done.stdout + done.stderr)
            raise NotSettled(f"{' '.join(command[1:4])}: {said[0]} … {said[-1]} {done.stderr[-500:]}")
        return said[-1]

    def until(self, look: Callable[[], Any], what: str, patience_s: float = NEVER_S) -> Any:
        """What `look` finds, as soon as it is something; a service that can't be asked says nothing."""
        until = time.monotonic() + patience_s
        found = None
        while not found:
            if self._launcher is None or self._launcher.poll() is not None:
                raise NotSettled(f"the launcher ended: {self._talk()}")
            if time.monotonic() > until:
                raise NotSettled(f"{what}: not after {patience_s:g} s")
            with suppress(httpx.HTTPError, OSError, ValueError, KeyError):
                found = look()
            if not found:
                time.sleep(0.05)
        return found

    def _talk(self) -> str:
        lines = self.home.with_name("launcher.log").read_text().strip().splitlines()
        return " | ".join(lines[-2:])

    def _oms(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ordermill.cli", *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMS_", "OTEL_"))}
        return kept | {"OMS_HOME": str(self.home), "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}"}


def id_of(record: Any) -> str:
    """Of a message that a service published: the same, whenever it is published again."""
    return str(next(value.decode() for name, value in record.headers if name == "ce_id"))


class Network:
    """Between 127.0.0.1:`port` and a server of this machine, made to be cut: tests/chaos/proxy.py."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", str(port), str(target)], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._expect("ready")

    def do(self, what: str) -> None:
        """`cut`, `mend` or `reset`; returns when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._expect(what)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said != word:
            raise CannotBeDone(f"the proxy said {said!r}, not {word!r}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _ready(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    return False


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Leave the block after so long; only in the main thread."""

    class Rang(Exception):
        pass

    def ring(number: int, frame: Any) -> None:
        raise Rang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with suppress(Rang):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
