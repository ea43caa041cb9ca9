"""How soon a fact is on an open page, and whether the console's tables keep up with all that six services tell."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from statistics import quantiles
from time import perf_counter, time
from typing import Any

import asyncpg
import httpx
import orjson
from aiokafka import AIOKafkaConsumer

from ordermill.contracts.capture import OrderCaptured
from ordermill.contracts.inventory import StockFact
from ordermill.ids import made_at
from ordermill.names import CONSOLE, SERVICES
from ordermill.service.messages import inbox_key

from .driver import Driver
from .stand import BenchStopped, Place, say, stand
from .usage import cpu_s, difference, machine_s

GOAL_PER_S, GOAL_MS = 100, 300.0
QUEUES = 5
"""Pages of the queue that are open all the time."""
OPEN_EVERY_S = 0.5
"""So often somebody opens the newest order of the queue, and leaves its page open."""
_ROW = re.compile(rb'id="order-([0-9a-f-]{36})"')
_EVENT = re.compile(rb'href="/events/([0-9a-f-]{36})"')
_CAPTURED = OrderCaptured.type
_COUNT = "SELECT count(*) FROM events WHERE source = ANY ($1)"


@dataclass(frozen=True)
class Size:
    """How much to do: orders a second of each step, and seconds of each part."""

    skus: int
    in_flight: int
    rates: tuple[int, ...]
    warm_s: float
    paced_s: float
    full_s: float
    patience_s: float


FULL = Size(2_000, 1_500, (25, 50, 75, GOAL_PER_S), warm_s=10, paced_s=30, full_s=40, patience_s=60)
QUICK = Size(400, 1_500, (25, GOAL_PER_S), warm_s=4, paced_s=8, full_s=8, patience_s=30)


def measure(size: Size, figures: dict[str, Any]) -> None:
    """Adds the figures `console`."""
    with stand() as at:
        at.start(*SERVICES, CONSOLE)
        steps_s = len(size.rates) * (size.warm_s + size.paced_s + size.patience_s)
        limit_s = 240 + steps_s + 2 * size.full_s + 2 * size.patience_s
        figures |= at.measure("console", lambda place: _live(place, size), limit_s)


@dataclass
class _Screen:
    """A page as its reader has it: since when, and when each row or event came onto it, in seconds since 1970."""

    opened_at: float = inf
    shown: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Fact:
    """One fact as Kafka has it. Instants in seconds since 1970; `recorded_at` by its id, so before its commit."""

    key: str
    type: str
    order_id: str | None
    recorded_at: float
    published_at: float


@dataclass(frozen=True)
class _Window:
    """A time that was measured, the CPU seconds used in it, and the pages of orders that were open."""

    began: float
    ended: float
    cpu: dict[str, float]
    delivered: int
    orders: dict[str, _Screen]

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def cores(self) -> dict[str, float]:
        """How many cores were busy, for whom; `others` are programs that are none of ours."""
        found: dict[str, float] = {}
        for name, seconds in self.cpu.items():
            whose = name if name in (CONSOLE, f"postgres {CONSOLE}", "bench", "broker", "others") else "services"
            found[whose] = found.get(whose, 0.0) + seconds / self.seconds
        return found


async def _live(place: Place, size: Size) -> dict[str, Any]:
    async with Driver(place, size.skus, returns_percent=8) as driver, _logged_in(place) as http:
        await driver.until_ready(SERVICES)
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
        say(f"console: stocking {size.skus} articles")
        await driver.stock_up()
        queues = [_Screen() for _ in range(QUEUES)]
        async with _watching(_read(http, screen, "/orders/live", _ROW) for screen in queues):
            while any(screen.opened_at == inf for screen in queues):
                await asyncio.sleep(0.05)
            steps = {rate: await _step(driver, http, queues, rate, size) for rate in size.rates}
        full = await _full_speed(driver, size)
        stopped_at = time()
        await _finished(driver, size.patience_s)
    say("console: comparing its tables with the topics")
    facts = await _facts(place.kafka)
    stored = await _stored(place, {fact.key for fact in facts}, size.patience_s)
    figures: dict[str, Any] = {}
    for rate, step in steps.items():
        figures[f"console.at_{rate}_per_s"] = _on_screen(step, queues, facts, stored, size.patience_s)
    held = [rate for rate in size.rates if _worst(figures[f"console.at_{rate}_per_s"]) < GOAL_MS]
    figures["console.on_screen_p99_ms"] = _worst(figures[f"console.at_{GOAL_PER_S}_per_s"])
    figures["console.orders_per_s_within_goal"] = max(held, default=0)
    return figures | _keeping_up(full, facts, stored, stopped_at)


async def _step(driver: Driver, http: httpx.AsyncClient, queues: Sequence[_Screen], rate: int, size: Size) -> _Window:
    """Orders on a schedule that waits for nothing; then until what is on its way has arrived."""
    say(f"console: {rate} orders a second, {QUEUES} queues and an order each {OPEN_EVERY_S} s open")
    stop, orders = asyncio.Event(), dict[str, _Screen]()
    feeding = asyncio.create_task(driver.send_on_schedule(rate, stop))
    async with _watching([_open_orders(http, queues[0], orders, stop)]):
        await _pass(driver, size.warm_s)
        window = await _window(driver, size.paced_s, orders)
        stop.set()
        await feeding
        await _finished(driver, size.patience_s)
        await _pass(driver, 1)  # what was told last comes onto the pages
    return window


async def _full_speed(driver: Driver, size: Size) -> _Window:
    say(f"console: as fast as six services go, for {size.full_s:g} s after a start")
    stop = asyncio.Event()
    feeding = asyncio.create_task(driver.saturate(size.in_flight, stop))
    await _pass(driver, size.full_s)
    window = await _window(driver, size.full_s, {})
    stop.set()
    await feeding
    return window


async def _window(driver: Driver, seconds: float, orders: dict[str, _Screen]) -> _Window:
    pids = driver.place.pids | {"bench": os.getpid()}
    before, all_before, delivered, began = cpu_s(pids), machine_s(), driver.delivered, time()
    await _pass(driver, seconds)
    used = difference(before, cpu_s(pids))
    used["others"] = machine_s() - all_before - sum(used.values())
    return _Window(began, time(), used, driver.delivered - delivered, orders)


async def _pass(driver: Driver, seconds: float) -> None:
    until = perf_counter() + seconds
    while perf_counter() < until:
        await asyncio.sleep(0.05)
        driver.check()


async def _finished(driver: Driver, patience_s: float) -> None:
    """Until all orders and returns are settled and published, or nothing has been for `patience_s` seconds."""
    moved, seen = perf_counter(), (0, 0)
    while perf_counter() - moved < patience_s:
        if not driver.undelivered and driver.returned == len(driver.returning):
            if not any([await driver.metric(service, "oms_unpublished_events") for service in SERVICES]):
                return
        elif seen != (seen := (driver.parcels, driver.returned)):
            moved = perf_counter()
        await _pass(driver, 0.25)


# What pages show


@asynccontextmanager
async def _logged_in(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    base = f"http://127.0.0.1:{place.environment['OMS_CONSOLE_PORT']}"
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False, limits=limits) as http:
        while True:
            try:
                await http.get("/login", params={"token": place.environment["OMS_CONSOLE_TOKEN"], "name": "bench"})
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        yield http


@asynccontextmanager
async def _watching(work: Iterable[Any]) -> AsyncIterator[None]:
    """Runs beside what is inside; raises what went wrong in it."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _open_orders(
    http: httpx.AsyncClient, queue: _Screen, orders: dict[str, _Screen], stop: asyncio.Event
) -> None:
    """Open the page of the order that came onto the queue last, again and again; the pages stay open."""
    async with asyncio.TaskGroup() as pages:
        while not stop.is_set():
            newest = next(reversed(queue.shown), None)
            if newest is not None and newest not in orders:
                screen = orders[newest] = _Screen()
                pages.create_task(_read(http, screen, f"/orders/{newest}/live?all=1", _EVENT))
            await asyncio.sleep(OPEN_EVERY_S)


async def _read(http: httpx.AsyncClient, screen: _Screen, path: str, things: re.Pattern[bytes]) -> None:
    """A page's news as a browser gets them. A thing counts once all of the event that brings it is here."""
    async with http.stream("GET", path, headers={"Accept": "text/event-stream"}, timeout=None) as answer:
        answer.raise_for_status()
        waiting = bytearray()
        async for chunk in answer.aiter_bytes():
            waiting += chunk
            while (end := waiting.find(b"\n\n", max(0, len(waiting) - len(chunk) - 1))) >= 0:
                now = time()
                screen.opened_at = min(screen.opened_at, now)
                for thing in things.findall(waiting, 0, end):
                    screen.shown.setdefault(thing.decode(), now)
                del waiting[: end + 2]


# What was told, read once it is over: nothing of this runs beside what is measured


async def _facts(kafka: str) -> list[_Fact]:
    """All facts on all services' topics to their ends, each once."""
    consumer = AIOKafkaConsumer(
        *(f"oms.{service}.events" for service in SERVICES),
        StockFact.topic,
        bootstrap_servers=kafka,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 1024 * 1024,
        check_crcs=False,
    )
    found: dict[str, tuple[str, str, str | None, float, float]] = {}
    order_of: dict[str, str] = {}
    await consumer.start()
    try:
        while polled := await consumer.getmany(timeout_ms=2_000, max_records=5_000):
            for record in (record for records in polled.values() for record in records):
                headers = dict(record.headers)
                message_id, stream = headers["ce_id"].decode(), headers["ce_subject"].decode()
                recorded_at = made_at(message_id)
                if recorded_at is None:
                    raise BenchStopped(f"{record.topic} has a message whose id holds no time: {message_id}")
                order_id = orjson.loads(record.value).get("order_id")
                if order_id is not None:
                    order_of[stream] = order_id
                key = str(inbox_key(headers["ce_source"].decode(), message_id))
                type_name = headers["ce_type"].decode()
                found.setdefault(key, (type_name, stream, order_id, recorded_at.timestamp(), record.timestamp / 1_000))
    finally:
        await consumer.stop()
    return [
        _Fact(key, type_name, order_id or _order_of(stream, order_of), recorded_at, published_at)
        for key, (type_name, stream, order_id, recorded_at, published_at) in found.items()
    ]


def _order_of(stream: str, order_of: dict[str, str]) -> str | None:
    """Only a parcel's facts leave out their order though all of them are of one."""
    return order_of.get(stream) if stream.startswith(("shipment-", "parcel-")) else None


async def _stored(place: Place, keys: set[str], patience_s: float) -> dict[str, float]:
    """When the console took in each of these; what has not come in `patience_s` seconds is missing."""
    connection = await asyncpg.connect(place.database(CONSOLE))
    until = perf_counter() + patience_s
    try:
        while True:
            missing = len(keys) - await connection.fetchval(_COUNT, [f"/ordermill/{name}" for name in SERVICES])
            if missing <= 0 or perf_counter() > until:
                break
            say(f"console: {missing} of {len(keys)} facts to come")
            await asyncio.sleep(2)
        rows = await connection.fetch("SELECT message, extract(epoch FROM seen_at)::float8 FROM events")
        return {str(message): at for message, at in rows}
    finally:
        await connection.close()


# Figures


def _on_screen(
    window: _Window, queues: Sequence[_Screen], facts: Sequence[_Fact], stored: dict[str, float], patience_s: float
) -> dict[str, Any]:
    """What never came onto a page counts as having taken `patience_s` seconds."""
    rows: list[float] = []
    events: list[float] = []
    parts: dict[str, list[float]] = {"to_kafka": [], "to_console": [], "to_screen": []}
    for fact in facts:
        if not window.began <= fact.recorded_at < window.ended or fact.order_id is None:
            continue
        if fact.type == _CAPTURED:
            rows += [screen.shown.get(fact.order_id, inf) - fact.recorded_at for screen in queues]
        screen = window.orders.get(fact.order_id)
        if screen is None or fact.recorded_at < screen.opened_at:
            continue
        shown_at = screen.shown.get(fact.key, inf)
        events.append(shown_at - fact.recorded_at)
        parts["to_kafka"].append(fact.published_at - fact.recorded_at)
        stored_at = stored.get(fact.key, inf)
        parts["to_console"].append(stored_at - fact.published_at)
        parts["to_screen"].append(shown_at - stored_at if stored_at < inf else 0.0)
    figures: dict[str, Any] = {
        "delivered_per_s": window.delivered / window.seconds,
        "rows": len(rows),
        "events": len(events),
        "unseen": sum(each == inf for each in rows + events),
    }
    for name, waits in {"row": rows, "event": events, **parts}.items():
        cuts = _percentiles([1_000 * min(each, patience_s) for each in waits])
        figures |= {f"{name}_p50_ms": cuts[49], f"{name}_p99_ms": cuts[98]}
    return figures | {f"cores_{name.replace(' ', '_')}": each for name, each in window.cores().items()}


def _percentiles(waits: Sequence[float]) -> Sequence[float]:
    return quantiles(waits, n=100) if len(waits) > 1 else [inf] * 99


def _worst(step: dict[str, float]) -> float:
    return max(step["row_p99_ms"], step["event_p99_ms"])


def _keeping_up(window: _Window, facts: Sequence[_Fact], stored: dict[str, float], stopped_at: float) -> dict[str, Any]:
    delays: list[list[float]] = [[], [], [], []]
    for fact in facts:
        if window.began <= fact.published_at < window.ended:
            quarter = int(4 * (fact.published_at - window.began) / window.seconds)
            delays[quarter].append(stored.get(fact.key, inf) - fact.published_at)
    orders = max(1, window.delivered)
    last = max(fact.published_at for fact in facts)
    return {
        "console.orders_per_s_beside_it": window.delivered / window.seconds,
        "console.facts_per_s": sum(map(len, delays)) / window.seconds,
        "console.cpu_ms_per_order": 1_000 * window.cpu[CONSOLE] / orders,
        "console.database_cpu_ms_per_order": 1_000 * window.cpu.get(f"postgres {CONSOLE}", 0.0) / orders,
        "console.bench_cpu_ms_per_order": 1_000 * window.cpu["bench"] / orders,
        "console.delay_at_full_speed_s": {
            f"p99, quarter {number}": _percentiles(quarter)[98] for number, quarter in enumerate(delays, 1)
        },
        "console.services_done_after_s": last - stopped_at,
        "console.caught_up_after_s": max(stored.get(fact.key, 0.0) for fact in facts) - last,
        "console.facts": len(facts),
        "console.facts_missing": sum(fact.key not in stored for fact in facts),
    }
