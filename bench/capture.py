"""Orders that lie ready on the channel topic, through the capture service alone into its log."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import asyncpg

from ordermill.contracts import channel
from ordermill.contracts.capture import OrderCaptured, OrderReleased
from ordermill.service.kafka import ensure_topics
from ordermill.service.run import SERVICES, kafka_of
from ordermill.service.settings import PlatformSettings
from ordermill.service.topics import all_topics

from .driver import Sender
from .goods import order
from .stand import BenchStopped, Place, say, stand
from .usage import cpu_s, difference

SKUS = 2_000
_CHUNK = 2_000
_EVENTS = 2
"""What an order that is clean to release leaves: captured, released."""
_FROM, _TO = 0.15, 0.9
"""The part of the orders that counts: after the start, before the last polls, which are not full."""


def measure(orders: int) -> dict[str, Any]:
    """`capture.…` figures."""
    with stand() as at:
        say(f"capture: publishing {orders} orders")
        at.measure("publish", lambda place: _publish(place, orders), 60)
        at.start("capture")
        return at.measure("capture", lambda place: _watch(place, orders), 30 + orders / 100)  # type: ignore[no-any-return]


async def _publish(place: Place, orders: int) -> None:
    await ensure_topics(kafka_of(PlatformSettings()), all_topics(SERVICES))
    async with Sender(place.kafka) as sender:
        for first in range(0, orders, _CHUNK):
            made = (order(number, SKUS) for number in range(first, min(first + _CHUNK, orders)))
            await sender.send(channel.TOPIC, ((each.key, each.value, each.headers) for each in made))


async def _watch(place: Place, orders: int) -> dict[str, Any]:
    connection = await asyncpg.connect(place.database("capture"))
    try:
        samples = [(perf_counter(), 0, cpu_s(place.pids))]
        while samples[-1][1] < orders * _EVENTS:
            await asyncio.sleep(0.1)
            # Committed, and numbered by the relay on top.
            seen = await connection.fetchval("SELECT coalesce(max(seq), 0) FROM sequenced")
            samples.append((perf_counter(), seen, cpu_s(place.pids)))
        kinds = dict(await connection.fetch("SELECT type, count(*) FROM events GROUP BY type"))
        if kinds != {OrderCaptured.type: orders, OrderReleased.type: orders}:
            raise BenchStopped(f"capture: of {orders} orders the log holds {kinds}")
    finally:
        await connection.close()
    began, first, used = next(each for each in samples if each[1] >= orders * _EVENTS * _FROM)
    ended, last, then = next(each for each in samples if each[1] >= orders * _EVENTS * _TO)
    counted = (last - first) / _EVENTS
    cpu = {name: 1000 * seconds / counted for name, seconds in difference(used, then).items()}
    return {
        "capture.orders_per_s": counted / (ended - began),
        "capture.cpu_ms_per_order": sum(cpu.values()),
        "capture.cpu_ms_by_process": cpu,
    }
