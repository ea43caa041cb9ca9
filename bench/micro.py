"""Parts on their own: what appending costs, and what is left of a service without Kafka and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from time import perf_counter, process_time
from typing import Any

from aiokafka import AIOKafkaConsumer

from ordermill.clock import system_clock
from ordermill.contracts.base import decode
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.records import GENESIS, Row
from ordermill.eventlog.store import Changes
from ordermill.ids import uuid7
from ordermill.installation import declared
from ordermill.service.messages import envelope_of
from ordermill.service.metrics import Metrics
from ordermill.service.run import spare_the_collector
from ordermill.service.running import RunningService
from ordermill.service.settings import settings_of

from .stand import Place
from .usage import cpu_s, difference

_BATCH, _BYTES = 500, 600
REPLAYED = ("capture", "inventory", "routing", "tracking", "returns")
"""Not fulfillment: most of its work comes by HTTP and is on no topic."""


async def append(place: Place, count: int) -> dict[str, Any]:
    """Rows of 600 bytes in batches of 500, each a stream's first: CPU at both ends, and time."""
    store = await PostgresStore.open(settings_of("capture").database_url.get_secret_value())
    pids = {"here": os.getpid(), "postgres": place.pids["postgres"]}
    now = datetime.now(UTC)
    data = b'{"text":"%s"}' % (b"x" * (_BYTES - 11))
    try:
        began, before = perf_counter(), cpu_s(pids)
        for first in range(0, count, _BATCH):
            rows = [
                Row(
                    f"bench-{number:09d}", 1, uuid7(now, os.urandom), "oms.bench.appended.v1", data,
                    "correlation", "causation", "bench", now, now, GENESIS,
                )
                for number in range(first, first + _BATCH)
            ]  # fmt: skip
            async with store.transaction() as transaction:
                await transaction.commit(Changes(rows=rows))
        seconds, used = perf_counter() - began, sum(difference(before, cpu_s(pids)).values())
    finally:
        await store.close()
    return {"append.us_per_event": 1e6 * seconds / count, "append.cpu_us_per_event": 1e6 * used / count}


async def decide(place: Place, orders: int, between: tuple[float, float]) -> dict[str, Any]:
    """What each service consumed for `orders` orders, handled again in polls of 500 with a log in memory.

    That is headers, decoding, deciding, folding, encoding, hashing and documents. `between`: when the orders went
    through, in milliseconds since 1970; what came before (goods) is handled too, and not counted.
    """
    per_order: dict[str, float] = {}
    polled: dict[str, float] = {}
    for name in REPLAYED:
        service = declared(name)
        for followed in service.follows:
            for record in await _records(place, (followed.message.topic,)):
                followed.absorb(decode(envelope_of(record.headers).type, record.value))
        running = RunningService(service, Engine(MemoryStore(), service.rules(), system_clock), Metrics(), retries=0)
        if service.startup is not None:
            await service.startup(running)
        records = [record for record in await _records(place, service.topics) if record.timestamp <= between[1]]
        start = sum(record.timestamp < between[0] for record in records)
        await _handle(running, records[:start])
        spare_the_collector()  # of what no service would have in memory: all of its messages
        began = process_time()
        await _handle(running, records[start:])
        per_order[name] = 1e6 * (process_time() - began) / orders
        polled[name] = (len(records) - start) / orders
    return {"decide.us_per_order": per_order, "decide.polled_messages_per_order": polled}


async def _handle(running: RunningService, records: list[Any]) -> None:
    for first in range(0, len(records), _BATCH):
        await running.handle(records[first : first + _BATCH])


async def _records(place: Place, topics: Iterable[str]) -> list[Any]:
    """All that is on these topics, in the order in which it was published."""
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=place.kafka,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )
    await consumer.start()
    found: list[Any] = []
    try:
        empty = 0
        while empty < 3:
            polled = await consumer.getmany(timeout_ms=200)
            empty = 0 if polled else empty + 1
            for records in polled.values():
                found += records
    finally:
        await consumer.stop()
    return sorted(found, key=lambda record: record.timestamp)
