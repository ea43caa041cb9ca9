"""What an event costs, layer by layer: a service's own messages of a short life, taken the way they were taken then.

Each layer is measured by itself, with what the layers before it left, in one process that does nothing else. Only what
a service decides is what is left when all that is measured within a poll's handling is taken off.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import process_time
from typing import Any, TypeVar

import asyncpg

from ordermill.clock import system_clock
from ordermill.contracts import location
from ordermill.contracts.base import Fact, decode
from ordermill.eventlog.engine import Engine, buffered_random
from ordermill.eventlog.postgres import PostgresStore, view_table
from ordermill.eventlog.records import GENESIS, Row, SequencedRow, chain
from ordermill.eventlog.relay import LONGEST_PACE_S
from ordermill.eventlog.store import Transaction
from ordermill.ids import uuid7
from ordermill.installation import declared
from ordermill.names import SERVICES
from ordermill.service.consuming import Subscriptions
from ordermill.service.declare import Service
from ordermill.service.metrics import Metrics
from ordermill.service.publisher import KafkaPublisher
from ordermill.service.run import kafka_of, spare_the_collector
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings, settings_of
from ordermill.service.topics import all_topics, topics_told_by

from . import window
from .life import Size
from .stand import BenchStopped, Place, say, stand
from .usage import cpu_s

FULL, QUICK = window.SHORT, window.SHORTEST
MEASURED = ("capture", "inventory")
DESIGNED = {"append": 10.0, "sequence": 3.0, "read": 5.0, "produce": 17.0, "consume": 16.0, "python": 35.0}
"""What the design reckons with, in microseconds an event, both ends of each."""
GROUPS = {
    "append": ("load", "write", "postgres"),
    "sequence": ("sequence", "sequence postgres"),
    "read": ("read", "read postgres"),
    "produce": ("publish", "publish broker", "states", "states postgres", "states broker"),
    "consume": ("deliver", "deliver broker"),
    "python": ("parse", "prepare", "decide", "documents", "row"),
}
"""Which layers the design has in one figure. `keyring postgres` is in none: the design knew no keyring."""
_QUIET_S = 2.0
_LIMIT_S = 150
T = TypeVar("T")


def grouped(layers: Mapping[str, float]) -> dict[str, float]:
    """Layers as the design reckons."""
    return {group: sum(layers.get(layer, 0.0) for layer in of_it) for group, of_it in GROUPS.items()}


def measure(size: Size, figures: dict[str, Any]) -> None:
    """Adds the figures `layers`, in microseconds of CPU an event that the service records."""
    with stand() as at:
        at.start(*SERVICES)
        life = window.measure_window(at, size, settle=True)
        at.stop(*SERVICES)
        for name in MEASURED:
            say(f"layers: what {name} was told, once more")
            polled = max(1, round(life.batch_messages[name]))
            page = max(1, round(life.events[name] * life.figures["orders_per_s"] * LONGEST_PACE_S))
            work = partial(_replay, name=name, polls=life.polls[name], polled=polled, page=page)
            layers = at.measure("layers", work, _LIMIT_S)
            counts = {each: layers.pop(each) for each in ("messages", "messages a poll", "events")}
            figures[f"layers.{name}"] = layers
            figures[f"layers.{name}_as_designed"] = grouped(layers)
            figures[f"layers.{name}_in_sum"] = {
                "all": sum(layers.values()),
                "without broker": sum(each for layer, each in layers.items() if not layer.endswith("broker")),
                "in life, without broker": 1000 * _of_service(life.cpu_ms, name) / life.events[name],
                "messages an event": counts["messages"] / counts["events"],
                "events": counts["events"],
                "messages a poll": counts["messages a poll"],
                "messages a transaction": polled,
                "events a page": page,
                "cores others had in life": life.figures["cores_others"],
            }
        figures["layers.designed"] = DESIGNED


def _of_service(cpu_ms: Mapping[str, float], name: str) -> float:
    return cpu_ms[name] + cpu_ms.get(f"postgres {name}", 0.0)


@dataclass
class _Meter:
    """CPU microseconds by layer: of this process, of PostgreSQL for one database, of the broker."""

    place: Place
    service: str
    us: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def here(self, layer: str, began: float) -> None:
        """`began`: what process_time() was."""
        self.us[layer] += 1e6 * (process_time() - began)

    def sync(self, layer: str, work: Callable[..., T]) -> Callable[..., T]:
        """`work`, measured."""

        def measured(*given: Any, **more: Any) -> T:
            began = process_time()
            try:
                return work(*given, **more)
            finally:
                self.here(layer, began)

        return measured

    def awaited(self, layer: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, measured; nothing else goes on in this process meanwhile."""

        async def measured(*given: Any, **more: Any) -> Any:
            began = process_time()
            try:
                return await work(*given, **more)
            finally:
                self.here(layer, began)

        return measured

    @asynccontextmanager
    async def beyond(self, **layers: str) -> AsyncIterator[None]:
        """What others use meanwhile: `postgres`, `keyring` and `broker` say as which layer that counts."""
        names = {"postgres": f"postgres {self.service}", "keyring": "postgres keyring", "broker": "broker"}
        before = cpu_s(self.place.pids)
        yield
        after = cpu_s(self.place.pids)
        for whose, layer in layers.items():
            self.us[layer] += 1e6 * (after.get(names[whose], 0.0) - before.get(names[whose], 0.0))


class _MeasuredStore:
    """A log's storage; what its transactions cost on our side is added up."""

    def __init__(self, store: PostgresStore, meter: _Meter) -> None:
        self._store = store
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        began = process_time()
        async with self._store.transaction() as transaction:
            self._meter.here("load", began)
            yield _MeasuredTransaction(transaction, self._meter)


class _MeasuredTransaction:
    def __init__(self, transaction: Transaction, meter: _Meter) -> None:
        self._transaction = transaction
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return self._meter.awaited("write" if name == "commit" else "load", getattr(self._transaction, name))


async def _replay(place: Place, name: str, polls: float, polled: int, page: int) -> dict[str, float]:
    """Microseconds an event by layer; and how many `events` were recorded, because of how many `messages`.

    There were so many `polls` in the life, and `polled` messages in a transaction. `page`: what a relay takes at once.
    """
    meter = _Meter(place, name)
    plain = declared(name)
    spare_the_collector()  # as a service does
    everything = await _deliver(meter, plain, 500)
    at_once = max(1, round(len(everything) / polls))
    records = sorted(await _deliver(meter, plain, at_once), key=lambda record: record.timestamp)
    await _empty(place, plain)
    store = await PostgresStore.open(settings_of(name).database_url.get_secret_value())
    try:
        service = replace(
            plain,
            prepare=meter.awaited("prepare", plain.prepare),
            views=tuple(replace(view, document=meter.sync("documents", view.document)) for view in plain.views),
            published=tuple(replace(each, message=meter.sync("documents", each.message)) for each in plain.published),
        )
        engine = Engine(_MeasuredStore(store, meter), service.rules(), system_clock)
        running = RunningService(service, engine, Metrics(), retries=0)
        goods = [record for record in records if record.topic == location.TOPIC]
        records = [record for record in records if record.topic != location.TOPIC]
        await _handle(running, goods, 500)
        await store.sequence(100_000)
        before = await store.head()
        for layer in meter.us.keys() - {"deliver", "deliver broker"}:
            del meter.us[layer]
        spare_the_collector()  # of what no service would have in memory: all of its messages
        began = process_time()
        mine = [record for record in records if running._look_at(record) is not None]
        meter.here("parse", began)
        again = process_time()
        for record in mine:
            running._look_at(record)
        parsed_again = 1e6 * (process_time() - again)
        async with meter.beyond(postgres="postgres", keyring="keyring postgres"):
            began = process_time()
            await _handle(running, mine, polled)
            handled = 1e6 * (process_time() - began)
        async with meter.beyond(postgres="sequence postgres"):
            began = process_time()
            while await store.sequence(page):
                pass
            meter.here("sequence", began)
        rows = await _read(meter, store, before, page)
        _make_rows(meter, [each.row for each in rows])
        within = sum(meter.us[layer] for layer in ("prepare", "load", "write", "documents", "row"))
        meter.us["decide"] = handled - parsed_again - within
        await _publish(meter, service, store, rows, page)
    finally:
        await store.close()
    if not rows:
        raise BenchStopped(f"layers: {name} recorded nothing of {len(mine)} messages")
    counts = {"events": len(rows), "messages": len(records), "messages a poll": at_once}
    return {layer: us / len(rows) for layer, us in meter.us.items()} | counts


async def _deliver(meter: _Meter, service: Service, at_once: int) -> list[Any]:
    """All that is on the service's topics, polled as the service polls it, `at_once` at most, by a group of our own."""
    records: list[Any] = []
    ended: list[tuple[float, float]] = []

    def used() -> tuple[float, float]:
        return process_time(), cpu_s({"broker": meter.place.pids["broker"]})["broker"]

    async def take(polled: Sequence[Any]) -> None:
        records.extend(polled)
        ended.append(used())

    kafka = replace(kafka_of(PlatformSettings()), batch_max=at_once)
    subscriptions = Subscriptions(kafka, f"bench-{service.name}-{at_once}", "bench", service.topics, 1, take)
    await subscriptions.start()
    began, seen = used(), -1
    while not records or len(records) != seen:
        seen = len(records)
        await asyncio.sleep(_QUIET_S)
    await subscriptions.stop()
    meter.us["deliver"] = 1e6 * (ended[-1][0] - began[0])
    meter.us["deliver broker"] = 1e6 * (ended[-1][1] - began[1])
    return records


async def _empty(place: Place, service: Service) -> None:
    """The log as it was before the first message."""
    tables = ["events", "sequenced", "inbox", "timers", "effects", "snapshots", "publications", "relay_cursors"]
    connection = await asyncpg.connect(place.database(service.name))
    try:
        await connection.execute(f"TRUNCATE {', '.join(tables + [view_table(view.name) for view in service.views])}")
    finally:
        await connection.close()


async def _handle(running: RunningService, records: list[Any], polled: int) -> None:
    for first in range(0, len(records), polled):
        await running.handle(records[first : first + polled])


async def _read(meter: _Meter, store: PostgresStore, after: int, limit: int) -> list[SequencedRow]:
    rows: list[SequencedRow] = []
    async with meter.beyond(postgres="read postgres"):
        began = process_time()
        while page := await store.read(rows[-1].seq if rows else after, limit):
            rows += page
        meter.here("read", began)
    return rows


def _make_rows(meter: _Meter, rows: list[Row]) -> None:
    """The id, the JSON, the hash and the row of each event, as the engine makes them."""
    facts = [(row, decode(row.type, row.data)) for row in rows]
    random_bytes, now = buffered_random(), system_clock()
    began = process_time()
    for row, fact in facts:
        assert isinstance(fact, Fact)
        event_id, data = uuid7(now, random_bytes), fact.to_json()
        about = (row.correlation_id, row.causation_id, row.actor, row.happened_at, now)
        digest = chain(GENESIS, row.stream, row.version, event_id, fact.type, data, *about)
        Row(row.stream, row.version, event_id, fact.type, data, *about, digest)
    meter.here("row", began)


async def _publish(meter: _Meter, service: Service, store: PostgresStore, rows: list[SequencedRow], page: int) -> None:
    """The events, and the states that they left, onto the topics once more."""
    kafka = kafka_of(PlatformSettings())
    publisher = KafkaPublisher(kafka, system_clock, all_topics(SERVICES), topics_told_by(service.name))
    await publisher.start()
    try:
        await publisher.cluster()
        async with meter.beyond(broker="publish broker"):
            began = process_time()
            for first in range(0, len(rows), page):
                await publisher.send_events(service.name, rows[first : first + page])
            meter.here("publish", began)
        async with meter.beyond(broker="states broker", postgres="states postgres"):
            began = process_time()
            while service.published and (states := await store.unpublished(page)):
                await publisher.send_states(service.name, states)
                await store.published(states)
            meter.here("states", began)
    finally:
        await publisher.stop()
