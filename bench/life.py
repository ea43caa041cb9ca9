"""Whole lives of orders through all six services, then what can be measured on the log that they leave."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter, time
from typing import Any

import asyncpg

from ordermill.eventlog.aggregates import Aggregates
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.rebuild import rebuild_view
from ordermill.installation import declared
from ordermill.names import SERVICES
from ordermill.service.settings import settings_of

from . import micro
from .driver import Driver
from .goods import LINES
from .stand import Place, say, stand
from .usage import cpu_s, difference, machine_s, memory_mb


@dataclass(frozen=True)
class Size:
    """How much to do. `warm_s` is the longest wait for a steady state; `sample`: orders replayed for `decide`."""

    skus: int
    in_flight: int
    warm_s: float
    life_s: float
    routed_s: float
    patience_s: float
    appended: int
    sample: int


FULL = Size(skus=2_000, in_flight=1_500, warm_s=60, life_s=40, routed_s=30, patience_s=15, appended=40_000, sample=500)
QUICK = Size(skus=400, in_flight=1_500, warm_s=15, life_s=10, routed_s=4, patience_s=5, appended=10_000, sample=0)
RETURNS_PERCENT = 8
LOADS_PERCENT = (25, 50, 75, 90)
"""Of full speed, at which the way of an order to its plan is timed."""
ROUTED_PATIENCE_S = 5
"""So long after the last was sent, orders without a plan are waited for."""
_SAMPLED = "sampled between"
_DRAIN_AT_MOST_S = 90


def measure(size: Size, figures: dict[str, Any]) -> None:
    """Adds the figures `idle`, `life`, `routed`, `memory`, `rebuild`, `append` and `decide`, each once it is known."""
    with stand() as at:
        at.start(*SERVICES)
        loads_s = len(LOADS_PERCENT) * (size.routed_s + _DRAIN_AT_MOST_S)
        limit_s = 60 + 2 * (size.warm_s + _DRAIN_AT_MOST_S) + size.life_s + loads_s
        figures |= at.measure("life", lambda place: _live(place, size), limit_s)
        sampled = tuple(figures.pop(_SAMPLED))
        at.stop(*SERVICES)
        figures["life.warnings"] = at.warnings()
        say("rebuild: every view of every service")
        figures |= at.measure("rebuild", _rebuild, 120)
        say("append: one log")
        figures |= at.measure("append", lambda place: micro.append(place, size.appended), 60)
        if size.sample:
            say("decide: the first messages again, with logs in memory")
            figures |= at.measure("decide", lambda place: micro.decide(place, size.sample, sampled), 120)


async def _live(place: Place, size: Size) -> dict[str, Any]:
    async with Driver(place, size.skus, RETURNS_PERCENT) as driver:
        await driver.until_ready(SERVICES)
        say(f"life: stocking {size.skus} articles")
        await driver.stock_up()
        figures = await _idle(driver.place)
        figures[_SAMPLED] = await _sample(driver, size)
        figures |= await saturated(driver, size)
        await drain(driver, figures, size.patience_s)
        figures |= await _troubles(driver)
        figures["memory.mb"] = memory_mb(place.pids)
        for percent in LOADS_PERCENT:
            load = await _routed(driver, size, percent / 100 * figures["life.orders_per_s"])
            figures[f"routed.at_{percent}_percent"] = load
            if percent == 50:
                figures |= {f"routed.{name}": load[name] for name in ("p50_ms", "p99_ms")}
            await drain(driver, figures, size.patience_s)
        figures["life.orders"] = driver.sent
        return figures


async def _sample(driver: Driver, size: Size) -> tuple[float, float]:
    """Whole lives of a few orders, returns included; between which milliseconds since 1970."""
    began = 1000 * time()
    if size.sample:
        say(f"decide: {size.sample} orders from end to end")
        await driver.send_orders([0.0] * size.sample)
        until = perf_counter() + size.warm_s
        while (driver.undelivered or driver.returned < len(driver.returning)) and perf_counter() < until:
            await asyncio.sleep(0.1)
            driver.check()
        await asyncio.sleep(1)
    return began, 1000 * time()


async def _idle(place: Place) -> dict[str, Any]:
    say("idle: all six services, nothing to do")
    began, before = perf_counter(), cpu_s(place.pids)
    await asyncio.sleep(2)
    seconds, used = perf_counter() - began, difference(before, cpu_s(place.pids))
    percent = {name: 100 * each / seconds for name, each in used.items()}
    return {"idle.cpu_percent": sum(percent.values()), "idle.cpu_percent_by_process": percent}


async def saturated(driver: Driver, size: Size, lines: int = LINES) -> dict[str, Any]:
    """The figures `life` of a steady window at full speed."""
    say(f"life: {size.in_flight} orders of {lines} lines on their way, warming up")
    stop = asyncio.Event()
    feeding = asyncio.create_task(driver.saturate(size.in_flight, stop))
    until = perf_counter() + size.warm_s
    while len(driver.undelivered) < 0.98 * size.in_flight and perf_counter() < until:
        await _tick(driver, feeding)
    full = driver.delivered + size.in_flight // 2
    while driver.delivered < full and perf_counter() < until:
        await _tick(driver, feeding)
    say(f"life: measuring for {size.life_s:g} s")
    pids = driver.place.pids | {"driver": os.getpid()}
    machine, before = machine_s(), await _Moment.now(driver, pids)
    while perf_counter() - before.at < size.life_s:
        await _tick(driver, feeding)
    after, machine = await _Moment.now(driver, pids), machine_s() - machine
    stop.set()
    await feeding
    orders = after.delivered - before.delivered
    cpu = {name: 1000 * seconds / orders for name, seconds in difference(before.cpu, after.cpu).items()}
    own = cpu.pop("driver")
    return {
        "life.orders_per_s": orders / (after.at - before.at),
        "life.orders_per_s_if_all_cores_were_free": 1000 * (os.cpu_count() or 1) / (sum(cpu.values()) + own),
        "life.cpu_ms_per_order": sum(cpu.values()),
        "life.driver_cpu_ms_per_order": own,
        "life.cpu_ms_by_process": cpu,
        "life.in_flight": len(driver.undelivered),
        "life.events_per_s": (sum(after.events.values()) - sum(before.events.values())) / (after.at - before.at),
        "life.events_per_order": (sum(after.events.values()) - sum(before.events.values())) / orders,
        "life.events_by_service": {name: (after.events[name] - before.events[name]) / orders for name in SERVICES},
        "life.parcels_per_order": (after.parcels - before.parcels) / orders,
        "life.returned_percent": 100 * (after.returned - before.returned) / orders,
        "life.cores_busy": (sum(cpu.values()) + own) / 1000 * orders / (after.at - before.at),
        "life.cores_others": (machine - (sum(cpu.values()) + own) / 1000 * orders) / (after.at - before.at),
    }


@dataclass(frozen=True)
class _Moment:
    at: float
    delivered: int
    parcels: int
    returned: int
    cpu: Mapping[str, float]
    events: Mapping[str, int]

    @classmethod
    async def now(cls, driver: Driver, pids: dict[str, int]) -> _Moment:
        events = dict(zip(SERVICES, await asyncio.gather(*(_head(driver.place, one) for one in SERVICES)), strict=True))
        return cls(perf_counter(), driver.delivered, driver.parcels, driver.returned, cpu_s(pids), events)


async def _tick(driver: Driver, feeding: asyncio.Task[None]) -> None:
    await asyncio.sleep(0.05)
    driver.check()
    if feeding.done():
        feeding.result()


async def drain(driver: Driver, figures: dict[str, Any], patience_s: float) -> None:
    """Wait for what is on its way, as long as something moves; what does not arrive is stuck."""
    moved, seen = perf_counter(), (0, 0, 0)
    until = moved + _DRAIN_AT_MOST_S
    while driver.undelivered or driver.returned < len(driver.returning):
        await asyncio.sleep(0.1)
        driver.check()
        now, done = perf_counter(), (driver.delivered, driver.parcels, driver.returned)
        if done != seen:
            moved, seen = now, done
        if now > min(until, moved + patience_s):
            break
    stuck = figures.get("life.stuck", {"orders": 0, "returns": 0})
    figures["life.stuck"] = {
        "orders": max(stuck["orders"], len(driver.undelivered)),
        "returns": max(stuck["returns"], len(driver.returning) - driver.returned),
    }


async def _troubles(driver: Driver) -> dict[str, Any]:
    """What a run without trouble has none of."""
    found: dict[str, Any] = {"life.refused_reports": driver.refused}
    for what, name in {
        "life.conflicts": "oms_conflicts",
        "life.retries": "oms_retries_total",
        "life.dead_letters": 'oms_messages_total{result="dead-lettered"}',
    }.items():
        found[what] = {service: int(await driver.metric(service, name)) for service in SERVICES}
    return found


async def _routed(driver: Driver, size: Size, per_s: float) -> dict[str, Any]:
    say(f"routed: {per_s:.0f} orders a second on schedule, for {size.routed_s:g} s")
    stop = asyncio.Event()
    feeding = asyncio.create_task(driver.send_on_schedule(per_s, stop))
    warm_until = perf_counter() + min(5.0, size.routed_s / 3)
    while perf_counter() < warm_until:
        await _tick(driver, feeding)
    driver.latencies, driver.routed = {}, []
    until = perf_counter() + size.routed_s
    while perf_counter() < until:
        await _tick(driver, feeding)
    stop.set()
    await feeding
    until = perf_counter() + ROUTED_PATIENCE_S
    while driver.latencies and perf_counter() < until:
        await asyncio.sleep(0.05)
    now, waiting, driver.latencies = perf_counter(), driver.latencies, None
    latencies = [1000 * each for each in (*driver.routed, *(now - due for due in waiting.values()))]
    cuts = quantiles(latencies, n=1_000, method="inclusive")
    return {
        "p50_ms": cuts[499],
        "p95_ms": cuts[949],
        "p99_ms": cuts[989],
        "p99.9_ms": cuts[998],
        "max_ms": max(latencies),
        "orders": len(latencies),
        "unrouted": len(waiting),
        "orders_per_s": per_s,
    }


async def _rebuild(place: Place) -> dict[str, Any]:
    events, seconds, by_view = 0, 0.0, {}
    for name in SERVICES:
        service = declared(name)
        store = await PostgresStore.open(settings_of(name).database_url.get_secret_value())
        try:
            for view in service.views:
                owner = place.environment[f"OMS_{name.upper()}_OWNER_URL"]
                report = await rebuild_view(owner, store, Aggregates(service.deciders), view)
                if report.events > 1_000:
                    events, seconds = events + report.events, seconds + report.seconds
                    by_view[view.name] = report.events / report.seconds
        finally:
            await store.close()
    return {"rebuild.events_per_s": events / seconds, "rebuild.events": events, "rebuild.events_per_s_by_view": by_view}


async def _head(place: Place, service: str) -> int:
    connection = await asyncpg.connect(place.database(service))
    try:
        return int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM sequenced"))
    finally:
        await connection.close()
