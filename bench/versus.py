"""The `eventsourcing` library with its PostgreSQL recorder and ours, side by side: the same lives, the same server."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from ordermill.clock import system_clock
from ordermill.contracts.base import Fact
from ordermill.decider import Decider, Decision, decision
from ordermill.eventlog.engine import Cause, Engine, Rules, Task
from ordermill.eventlog.postgres import PostgresStore
from ordermill.service.settings import settings_of

from .stand import BenchStopped, Place, say, stand
from .usage import cpu_s, difference

STEPS = ("released", "reserved", "routed", "allocated", "labeled", "shipped", "delivered")
EVENTS = 1 + len(STEPS)
LINES = [{"line_id": str(index), "sku": f"BENCH-{index:05d}", "quantity": index} for index in range(1, 6)]
_ROUNDS, _BATCH = 5, 500
_SCHEMA = "library"
Way = Callable[[int], Awaitable[None]]


def measure(orders: int) -> dict[str, Any]:
    """`versus.…` figures, of `orders` lives each way, in turns."""
    with stand() as at:
        say(f"versus: {orders} orders of {EVENTS} events, each way")
        return at.measure("versus", lambda place: _versus(place, orders // _ROUNDS), 60 + orders / 5)  # type: ignore[no-any-return]


async def _versus(place: Place, orders: int) -> dict[str, Any]:
    connection = await asyncpg.connect(place.database("capture"))
    await connection.execute(f"CREATE SCHEMA {_SCHEMA}")
    await connection.close()
    store = await PostgresStore.open(settings_of("capture").database_url.get_secret_value())
    cached, uncached = Engine(store, RULES, system_clock), Engine(store, RULES, system_clock, cache_size=0)
    try:
        with Orders(_library_settings(place)) as library:
            ways: dict[str, Way] = {
                "library": lambda count: _by_library(library, count),
                "one at a time, loaded": lambda count: _one_at_a_time(uncached, count),
                "one at a time": lambda count: _one_at_a_time(cached, count),
                "batched": lambda count: _batched(cached, count),
            }
            return await _in_turns(ways, orders, {"here": os.getpid(), "postgres": place.pids["postgres"]})
    finally:
        await store.close()


async def _in_turns(ways: dict[str, Way], orders: int, pids: dict[str, int]) -> dict[str, Any]:
    cpu, seconds = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for way in ways.values():
        await way(5)
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            began, before = perf_counter(), cpu_s(pids)
            await way(orders)
            seconds[name] += perf_counter() - began
            cpu[name] += sum(difference(before, cpu_s(pids)).values())
    lives = orders * _ROUNDS
    ours = [name for name in ways if name != "library"]
    return {
        "versus.cpu_ms_per_order": {name: 1000 * each / lives for name, each in cpu.items()},
        "versus.ms_per_order": {name: 1000 * each / lives for name, each in seconds.items()},
        "versus.times_less_cpu": {name: cpu["library"] / cpu[name] for name in ours},
        "versus.times_faster": {name: seconds["library"] / seconds[name] for name in ours},
    }


# The library


class LibraryOrder(Aggregate):
    @event("Placed")
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.lines = lines
        self.step = "placed"

    @event("Advanced")
    def advance(self, step: str, reference: str) -> None:
        self.step = step


class Orders(Application[UUID]):
    pass


def _library_settings(place: Place) -> dict[str, str]:
    at = urlsplit(place.database("capture"))
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": at.path[1:],
        "POSTGRES_HOST": str(at.hostname),
        "POSTGRES_PORT": str(at.port),
        "POSTGRES_USER": str(at.username),
        "POSTGRES_PASSWORD": str(at.password),
        "POSTGRES_SCHEMA": _SCHEMA,
    }


async def _by_library(library: Orders, orders: int) -> None:
    for _ in range(orders):
        order = LibraryOrder(lines=LINES)
        library.save(order)
        for step in STEPS:
            loaded: LibraryOrder = library.repository.get(order.id)
            loaded.advance(step, f"{step}-1")
            library.save(loaded)
        last: LibraryOrder = library.repository.get(order.id)
        _check(last.version, last.step)


# Ours: with the numbers that a relay gives, for the library's inserts give them too


class LifeBegun(Fact):
    type: ClassVar[str] = "oms.bench.life-begun.v1"
    lines: list[dict[str, Any]]


class LifeAdvanced(Fact):
    type: ClassVar[str] = "oms.bench.life-advanced.v1"
    step: str
    reference: str


def _evolve(step: str, fact: Fact) -> str:
    return fact.step if isinstance(fact, LifeAdvanced) else "placed"


LIVES = Decider("life", "", _evolve)
RULES = Rules((LIVES,))


def _step(stream: str, step: str) -> Task:
    """As a service does a message of its own: its key goes into the inbox."""
    cause = Cause(stream, stream, "bench", system_clock(), uuid4())
    fact = LifeAdvanced(step=step, reference=f"{step}-1") if step else LifeBegun(lines=LINES)
    made: Decision = decision(stream, lambda state, command: [command], fact)
    return Task(cause, (made,))


async def _one_at_a_time(engine: Engine, orders: int) -> None:
    for _ in range(orders):
        stream = LIVES.stream(str(uuid4()))
        for step in ("", *STEPS):
            await _run(engine, [_step(stream, step)])
        await engine.store.sequence()
        await _check_ours(engine, stream)


async def _batched(engine: Engine, orders: int) -> None:
    """As services do polls: one step of many orders in a transaction."""
    for first in range(0, orders, _BATCH):
        streams = [LIVES.stream(str(uuid4())) for _ in range(first, min(first + _BATCH, orders))]
        for step in ("", *STEPS):
            await _run(engine, [_step(stream, step) for stream in streams])
            await engine.store.sequence()
        for stream in streams:
            await _check_ours(engine, stream)


async def _run(engine: Engine, tasks: list[Task]) -> None:
    for outcome in await engine.run(tasks):
        if outcome.error is not None:
            raise outcome.error


async def _check_ours(engine: Engine, stream: str) -> None:
    found = await engine.state(stream)
    _check(found.version, found.state)


def _check(version: int, step: str) -> None:
    if (version, step) != (EVENTS, STEPS[-1]):
        raise BenchStopped(f"versus: a life ended with version {version}, {step}")
