"""The shelves as a service: `python -m tests.integration.shelf_service` runs it as the product runs its own.

It breaks where a test wants it to. A SKU says how: `die-deciding`, `die-committed` and `die-acting` end the process by
kill -9 the first time, in the middle of a batch, between its commit and Kafka's, and after the outside has acted.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop

from ordermill.clock import system_clock
from ordermill.contracts.base import Fact
from ordermill.contracts.inventory import StockAdjusted, StockReceived
from ordermill.contracts.location import StockArrived, StockCorrected
from ordermill.decider import Decision
from ordermill.errors import Transient
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.relay import Relay
from ordermill.eventlog.store import Changes, Store, Timer
from ordermill.service.consuming import Subscriptions
from ordermill.service.declare import EffectOf, Received, Service, on
from ordermill.service.kafka import KafkaSettings, put_away
from ordermill.service.logs import configure_logging
from ordermill.service.metrics import Metrics
from ordermill.service.publisher import KafkaPublisher
from ordermill.service.run import SERVICES, _serve
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings, ServiceSettings
from ordermill.service.topics import all_topics, topics_told_by
from tests.integration.shelves import SHELF_VIEW, SHELVES, adjusted, received

VIEWS = (SHELF_VIEW,)
SECRET = "Ada Lovelace"
"""Stands in messages that fail; no log line may hold it."""


class NotYet(Transient):
    code = "test.not-yet"


class ProviderAway(Transient):
    code = "test.provider-away"


class Shelves:
    """The handlers. `fails`: how often a SKU's messages are refused as not yet possible."""

    def __init__(self, folder: Path | None = None, fails: Mapping[str, int] | None = None) -> None:
        self.folder = folder
        self.fails = dict(fails or {})
        self.acted: list[str] = []
        self.batches: list[int] = []
        self.answers: list[Callable[[], None]] = []

    def arrived(self, message: StockArrived, received_: Received) -> Iterable[Decision]:
        self._die("deciding", message.sku)
        if message.sku.startswith("defect"):
            raise ZeroDivisionError(SECRET)
        stream = SHELVES.stream(message.sku)

        def decide(states: Mapping[str, Any]) -> Iterable[tuple[str, Fact]]:
            if self.fails.get(message.reference, 0) > 0:
                self.fails[message.reference] -= 1
                raise NotYet(f"{message.sku}: not yet")
            _ = states[stream]
            return [(stream, received(message.quantity, message.reference, message.sku))]

        return [Decision((stream,), decide)]

    def corrected(self, message: StockCorrected, received_: Received) -> Iterable[Decision]:
        stream = SHELVES.stream(message.sku)
        event = adjusted(message.delta, message.reference, message.sku)
        return [Decision((stream,), lambda states: [(stream, event)])]

    async def tell(self, event: StockAdjusted, key: str, now: datetime) -> Decision:
        """The outside acts, once per key, and its answer is recorded."""
        if event.sku.startswith("away"):
            raise ProviderAway(SECRET)
        self.acted.append(key)
        if self.folder is not None:
            with (self.folder / "acted").open("a") as file:
                file.write(f"{key}\n")
        self._die("acting", event.sku)
        stream = SHELVES.stream(event.sku)
        answer = received(1, f"answer-{event.reference}", event.sku)
        return Decision((stream,), lambda states: [(stream, answer)])

    def give_up(self, event: StockAdjusted, error: Exception) -> Decision:
        stream = SHELVES.stream(event.sku)
        return Decision((stream,), lambda states: [(stream, received(1, "gave-up", event.sku))])

    def committed(self, changes: Changes) -> None:
        self._die("committed", "die-committed" if self._wants("committed") else "")

    async def alongside(self, running: RunningService) -> None:
        while not self._wants("alongside"):
            await asyncio.sleep(0.05)
        raise ZeroDivisionError(SECRET)

    def ring(self, timer: Timer) -> Iterable[Decision]:
        sku = timer.stream.partition("-")[2]
        return [Decision((timer.stream,), lambda states: [(timer.stream, adjusted(1, "counted", sku))])]

    def service(self) -> Service:
        return Service(
            name="inventory",
            deciders=(SHELVES,),
            consumes=(on(StockArrived, self.arrived), on(StockCorrected, self.corrected)),
            effects=(EffectOf(StockAdjusted, lambda e: f"tell-{e.sku}-{e.reference}", self.tell, self.give_up, 3),),
            set_timers=self._timers,
            timers={"count": self.ring},
            views=VIEWS,
            background=(self.alongside,),
        )

    def _timers(self, stream: str, event: Fact) -> list[Timer | tuple[str, str]]:
        rings = isinstance(event, StockReceived) and event.sku.startswith("ring")
        return [Timer(stream, "count", datetime.fromisoformat("2026-03-02T09:00Z"))] if rings else []

    def _wants(self, when: str) -> bool:
        return self.folder is not None and (self.folder / f"die-{when}").exists()

    def _die(self, when: str, sku: str) -> None:
        if sku == f"die-{when}" and self._wants(when):
            assert self.folder is not None
            (self.folder / f"die-{when}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)


class Instance:
    """One instance of the service in this process, without HTTP."""

    def __init__(self, store: Store, shelves: Shelves, retries: int = 5, **more: Any) -> None:
        self.store = store
        self.shelves = shelves
        self.engine = Engine(store, shelves.service().rules(), system_clock)
        self.running = RunningService(shelves.service(), self.engine, Metrics(), retries, **more)
        self.polls: list[list[Any]] = []
        self.settled: list[list[Any]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._subscriptions: Subscriptions | None = None
        self._publisher: KafkaPublisher | None = None

    @classmethod
    async def open(cls, dsn: str, shelves: Shelves | None = None, **more: Any) -> Instance:
        return cls(await PostgresStore.open(dsn), shelves or Shelves(), **more)

    async def consume(self, settings: KafkaSettings, instance: str = "1", workers: int = 1) -> None:
        topics = ["oms.location.stock"]
        self._subscriptions = Subscriptions(settings, "inventory", instance, topics, workers, self._handle)
        await self._subscriptions.start()
        self._tasks.append(asyncio.create_task(self._subscriptions.watch(lambda consuming: None)))

    def generation(self) -> int:
        """How often this instance's group has shared out its partitions, as far as its first worker knows."""
        assert self._subscriptions is not None
        consumer: Any = self._subscriptions._workers[0].consumer
        return int(consumer._coordinator.generation)

    async def publish(self, settings: KafkaSettings) -> None:
        self._publisher = KafkaPublisher(settings, system_clock, all_topics(SERVICES), topics_told_by("inventory"))
        await self._publisher.start()
        self.running.relay = Relay(self.store, self._publisher, "inventory")
        self.engine.on_commit.append(self.running.relay.wake)
        self._tasks.append(asyncio.create_task(self.running.relay.run()))

    async def stop_consuming(self) -> None:
        if self._subscriptions is not None:
            await self._subscriptions.stop()
            self._subscriptions = None

    async def vanish(self) -> None:
        """Close what it has without a word to its group, as a crash does."""
        if self._subscriptions is not None:
            await put_away(self._subscriptions._broker)
            self._subscriptions = None
        await self.close()

    async def close(self) -> None:
        await self.stop_consuming()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._publisher is not None:
            await self._publisher.stop()
        if isinstance(self.store, PostgresStore):
            await self.store.close()

    async def _handle(self, records: Any) -> None:
        self.polls.append(list(records))
        await self.running.handle(records)
        self.settled.append(list(records))


def main() -> None:
    platform = PlatformSettings()
    configure_logging("inventory", platform.log_level)
    shelves = Shelves(Path(os.environ["SHELVES_FOLDER"]))
    remember = Engine.__init__

    def init(self: Engine, *arguments: Any, **more: Any) -> None:
        remember(self, *arguments, **more)
        self.on_commit.append(shelves.committed)

    Engine.__init__ = init  # type: ignore[method-assign]
    own = ServiceSettings(database_url=os.environ["SHELVES_DATABASE"], port=int(os.environ["SHELVES_PORT"]))
    uvloop.run(_serve(shelves.service(), platform, own))


if __name__ == "__main__":
    main()
