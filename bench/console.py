"""How soon a fact is on an open page, and whether the console keeps up with all that six services tell."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from time import perf_counter, time
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer

from ordermill.contracts.capture import OrderCaptured
from ordermill.ids import made_at
from ordermill.names import CONSOLE, SERVICES

from .driver import Driver
from .stand import Place, say, stand
from .usage import cpu_s, difference

ORDERS_PER_S = 100
OPEN_PAGES = 5
_ROW = re.compile(rb'id="order-([0-9a-f-]{36})"')
_CAPTURED = OrderCaptured.type.encode()


@dataclass(frozen=True)
class Size:
    """How much to do, in seconds of each part."""

    skus: int
    in_flight: int
    warm_s: float
    paced_s: float
    full_s: float
    patience_s: float


FULL = Size(skus=2_000, in_flight=1_500, warm_s=10, paced_s=40, full_s=40, patience_s=60)
QUICK = Size(skus=400, in_flight=1_500, warm_s=3, paced_s=8, full_s=8, patience_s=30)


def measure(size: Size, figures: dict[str, Any]) -> None:
    """Adds the figures `console`."""
    with stand() as at:
        at.start(*SERVICES, CONSOLE)
        limit_s = 120 + size.warm_s + size.paced_s + 2 * size.full_s + 2 * size.patience_s
        figures |= at.measure("console", lambda place: _live(place, size), limit_s)


@dataclass
class _Seen:
    """When orders were captured, by the log's own time and by Kafka's, and when an open page had them."""

    recorded: dict[str, tuple[float, float]] = field(default_factory=dict)
    shown: list[dict[str, float]] = field(default_factory=list)
    opened: int = 0
    bytes: int = 0


async def _live(place: Place, size: Size) -> dict[str, Any]:
    async with Driver(place, size.skus, returns_percent=8) as driver, _logged_in(place) as http:
        while not all([await driver.metric(service, "oms_ready") for service in SERVICES]):
            await asyncio.sleep(0.1)
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
        say(f"console: stocking {size.skus} articles")
        await driver.stock_up()
        await _caught_up(http, size.patience_s)
        async with _watching(place, http) as seen:
            figures = await _paced(driver, seen, size)
            figures |= await _full_speed(driver, http, size)
        return figures


async def _paced(driver: Driver, seen: _Seen, size: Size) -> dict[str, Any]:
    say(f"console: {ORDERS_PER_S} orders a second, {OPEN_PAGES} pages open, for {size.warm_s + size.paced_s:g} s")
    stop = asyncio.Event()
    feeding = asyncio.create_task(driver.send_on_schedule(ORDERS_PER_S, stop))
    await _pass(driver, size.warm_s)
    began = time()
    await _pass(driver, size.paced_s)
    ended = time()
    await _pass(driver, 2)  # what was captured last comes onto the pages
    stop.set()
    await feeding
    from_log, from_kafka, unseen = [], [], 0
    for order_id, (recorded_at, published_at) in seen.recorded.items():
        if not began <= recorded_at < ended:
            continue
        for shown in seen.shown:
            if order_id in shown:
                from_log.append(1_000 * (shown[order_id] - recorded_at))
                from_kafka.append(1_000 * (shown[order_id] - published_at))
            else:
                unseen += 1
    cuts, kafka_cuts = quantiles(from_log, n=100), quantiles(from_kafka, n=100)
    return {
        "console.on_screen_p50_ms": cuts[49],
        "console.on_screen_p99_ms": cuts[98],
        "console.on_screen_max_ms": max(from_log),
        "console.on_screen_from_kafka_p99_ms": kafka_cuts[98],
        "console.on_screen_samples": len(from_log),
        "console.scrolled_off_unseen": unseen,
    }


async def _full_speed(driver: Driver, http: httpx.AsyncClient, size: Size) -> dict[str, Any]:
    say(f"console: as fast as six services go, for {size.full_s:g} s after a start")
    stop = asyncio.Event()
    feeding = asyncio.create_task(driver.saturate(size.in_flight, stop))
    await _pass(driver, size.full_s / 2)
    pids = driver.place.pids
    before, delivered, began = cpu_s(pids), driver.delivered, perf_counter()
    told = (await _metrics(http))["oms_console_messages"]
    delays = []
    while perf_counter() - began < size.full_s:
        await _pass(driver, 0.5)
        delays.append((await _metrics(http))["oms_console_delay_seconds"])
    seconds, orders = perf_counter() - began, max(1, driver.delivered - delivered)
    used = difference(before, cpu_s(pids))
    read = (await _metrics(http))["oms_console_messages"] - told
    stop.set()
    await feeding
    return {
        "console.orders_per_s_beside_it": orders / seconds,
        "console.messages_per_s": read / seconds,
        "console.cpu_ms_per_order": 1_000 * used[CONSOLE] / orders,
        "console.database_cpu_ms_per_order": 1_000 * used.get(f"postgres {CONSOLE}", 0.0) / orders,
        "console.delay_at_full_speed_s": {"median": sorted(delays)[len(delays) // 2], "last": delays[-1]},
        "console.caught_up_after_s": await _caught_up(http, size.patience_s, driver),
    }


async def _caught_up(http: httpx.AsyncClient, patience_s: float, driver: Driver | None = None) -> float:
    """Seconds until what comes is no older than two seconds when it is in the tables, or nothing comes any more."""
    began, last = perf_counter(), -1.0
    while perf_counter() - began < patience_s:
        found = await _metrics(http)
        if found["oms_console_messages"] == last or (driver is not None and found["oms_console_delay_seconds"] < 2):
            break
        last = found["oms_console_messages"]
        await asyncio.sleep(0.5)
        if driver is not None:
            driver.check()
    return perf_counter() - began


async def _pass(driver: Driver, seconds: float) -> None:
    until = perf_counter() + seconds
    while perf_counter() < until:
        await asyncio.sleep(0.05)
        driver.check()


async def _metrics(http: httpx.AsyncClient) -> dict[str, float]:
    text = (await http.get("/metrics")).text
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


@asynccontextmanager
async def _logged_in(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    base = f"http://127.0.0.1:{place.environment['OMS_CONSOLE_PORT']}"
    limits = httpx.Limits(max_connections=OPEN_PAGES + 5)
    async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False, limits=limits) as http:
        while True:
            try:
                await http.get("/login", params={"token": place.environment["OMS_CONSOLE_TOKEN"], "name": "bench"})
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        yield http


@asynccontextmanager
async def _watching(place: Place, http: httpx.AsyncClient) -> AsyncIterator[_Seen]:
    """Open pages, and beside them the facts as Kafka has them."""
    seen = _Seen(shown=[{} for _ in range(OPEN_PAGES)])
    tasks = [asyncio.create_task(_read_facts(place, seen))]
    tasks += [asyncio.create_task(_read_page(http, seen, number)) for number in range(OPEN_PAGES)]
    try:
        while seen.opened < OPEN_PAGES:
            await asyncio.sleep(0.05)
            for task in tasks:
                if task.done():
                    task.result()
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_page(http: httpx.AsyncClient, seen: _Seen, number: int) -> None:
    """Rows of the queue as a browser gets them. A row counts once all of its event is here."""
    shown = seen.shown[number]
    async with http.stream("GET", "/orders/live", headers={"Accept": "text/event-stream"}, timeout=None) as answer:
        answer.raise_for_status()
        seen.opened += 1
        waiting = b""
        async for chunk in answer.aiter_bytes():
            seen.bytes += len(chunk)
            waiting += chunk
            while b"\n\n" in waiting:
                event, _, waiting = waiting.partition(b"\n\n")
                now = time()
                for order_id in _ROW.findall(event):
                    shown.setdefault(order_id.decode(), now)


async def _read_facts(place: Place, seen: _Seen) -> None:
    consumer = AIOKafkaConsumer(
        "oms.capture.events", bootstrap_servers=place.kafka, auto_offset_reset="latest", fetch_max_wait_ms=20
    )
    await consumer.start()
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    headers = dict(record.headers)
                    recorded_at = made_at(headers["ce_id"].decode())
                    if headers["ce_type"] == _CAPTURED and recorded_at is not None:
                        order_id = record.key.decode().removeprefix("order-")
                        seen.recorded[order_id] = (recorded_at.timestamp(), record.timestamp / 1_000)
    finally:
        await consumer.stop()
