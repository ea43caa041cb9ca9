"""How soon a service that is started works, and what a long stream costs whoever has nothing of it in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

import asyncpg

from ordermill.clock import system_clock
from ordermill.contracts.base import Message
from ordermill.contracts.capture import CancellationRequested, OrderReleased
from ordermill.contracts.fields import LineQuantity
from ordermill.decider import Decision
from ordermill.eventlog.engine import Cause, Engine, Rules, Task
from ordermill.eventlog.postgres import PostgresStore
from ordermill.installation import declared
from ordermill.names import SERVICES
from ordermill.service.declare import Received
from ordermill.service.settings import settings_of

from . import window
from .goods import sku_name
from .life import Size
from .stand import BenchStopped, Place, say, stand

_STREAM = f"stock-{sku_name(0)}"
_AT_ONCE = 250
Handlers = Mapping[type[Message], Callable[[Any, Received], Iterable[Decision]]]
_LOADS = 5


@dataclass(frozen=True)
class Extent:
    """How much to do. `starts` of each service and kind; `events` on the long stream, about."""

    life: Size
    starts: int
    events: int


FULL = Extent(window.SHORT, starts=3, events=21_000)
QUICK = Extent(window.SHORTEST, starts=1, events=5_000)


def measure(extent: Extent, figures: dict[str, Any]) -> None:
    """Adds the figures `start`."""
    with stand() as at:
        at.start(*SERVICES)
        window.measure_window(at, extent.life, settle=True)
        at.stop(*SERVICES)
        for kind, fresh in (("forked", False), ("alone", True)):
            say(f"start: each service, {kind}")
            seconds: dict[str, float] = {}
            for service in SERVICES:
                found = []
                for _ in range(extent.starts):
                    found.append(at.seconds_to_ready(service, fresh))
                    at.stop(service)
                seconds[service] = median(found)
            figures[f"start.{kind}_s"] = seconds
        say(f"start: a stream of {extent.events} events")
        figures |= at.measure("stream", lambda place: _long_stream(place, extent.events), 30 + extent.events / 100)


async def _long_stream(place: Place, events: int) -> dict[str, Any]:
    """An article that so many orders claimed and let go again, as inventory decides it, on top of its lives."""
    store = await PostgresStore.open(settings_of("inventory").database_url.get_secret_value())
    admin = await asyncpg.connect(place.database("inventory"))
    try:
        service = declared("inventory")
        rules = service.rules()
        handle = {consumed.message: consumed.handle for consumed in service.consumes}
        engine = Engine(store, rules, system_clock)
        order = await _a_released_order(place)
        while (there := (await engine.state(_STREAM)).version) < events:
            tasks = [task for _ in range(min(_AT_ONCE, (events - there + 1) // 2)) for task in _claim(order, handle)]
            for outcome in await engine.run(tasks):
                if outcome.error is not None:
                    raise outcome.error
        snapshot = await admin.fetchval("SELECT version FROM snapshots WHERE stream = $1", _STREAM)
        if snapshot is None:
            raise BenchStopped(f"start: {_STREAM} has {there} events and no snapshot")
        with_snapshot = [await _load_ms(store, rules) for _ in range(_LOADS)]
        await admin.execute("DELETE FROM snapshots WHERE stream = $1", _STREAM)
        without = [await _load_ms(store, rules) for _ in range(_LOADS)]
        return {
            "start.stream_events": there,
            "start.stream_events_after_snapshot": there - snapshot,
            "start.stream_with_snapshot_ms": median(with_snapshot),
            "start.stream_without_snapshot_ms": median(without),
        }
    finally:
        await admin.close()
        await store.close()


async def _a_released_order(place: Place) -> OrderReleased:
    connection = await asyncpg.connect(place.database("capture"))
    try:
        data = await connection.fetchval("SELECT data FROM events WHERE type = $1 LIMIT 1", OrderReleased.type)
    finally:
        await connection.close()
    found = OrderReleased.from_json(data)
    assert isinstance(found, OrderReleased)
    return found


def _claim(like: OrderReleased, handle: Handlers) -> Iterator[Task]:
    """One more order, for one unit of the article, and its cancellation, as inventory handles them."""
    now, order_id = system_clock(), str(uuid4())
    received = Received(order_id, order_id, now, now)
    line = like.lines[0].model_copy(update={"sku": sku_name(0), "quantity": 1})
    released = like.model_copy(update={"order_id": order_id, "lines": (line,)})
    canceled = CancellationRequested(
        order_id=order_id,
        cancellation_id="c-1",
        lines=(LineQuantity(line_id=line.line_id, sku=line.sku, quantity=1),),
        reason="unwanted",
    )
    for message in (released, canceled):
        cause = Cause(order_id, order_id, "bench", now)
        yield Task(cause, tuple(handle[type(message)](message, received)))


async def _load_ms(store: PostgresStore, rules: Rules) -> float:
    """A first look at the stream by an engine that knows nothing, snapshots used if there are any."""
    engine, cause = Engine(store, rules, system_clock), Cause("bench", "bench", "bench", system_clock())
    began = perf_counter()
    await engine.run([Task(cause, (Decision((_STREAM,), lambda states: []),))])
    return 1000 * (perf_counter() - began)
