"""Parts on their own: what appending costs."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.records import GENESIS, Row
from ordermill.eventlog.store import Changes
from ordermill.ids import uuid7
from ordermill.service.settings import settings_of

from .stand import Place
from .usage import cpu_s, difference

_BATCH, _BYTES = 500, 600


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
