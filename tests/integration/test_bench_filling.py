"""Logs that the bench fills with copies of lives must be logs like any other: else it measures something else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from bench.filling import check_log, fill_log
from bench.stand import BenchStopped
from ordermill.eventlog.aggregates import Aggregates
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.verify import verify_store
from tests.conftest import LogDatabase

from .shelves import MONDAY, RULES, SHELF_VIEW, receive, take, task

AGGREGATES = Aggregates(RULES.deciders)
ORDER = "6f2d6d6e-8a1c-5c1e-9d0b-0d3c2f7b6a10"
STREAMS = (f"shelf-{ORDER}", "shelf-berlin-1", "bin-7")
COPIES = 3
EVENTS = 2 * len(STREAMS) * (1 + COPIES)


@pytest.fixture
async def filled(make_log: Callable[..., Awaitable[LogDatabase]]) -> LogDatabase:
    """Three streams of two events, and three copies of each."""
    log = await make_log([SHELF_VIEW])
    store = await PostgresStore.open(log.dsn)
    try:
        engine = Engine(store, RULES, lambda: MONDAY)
        await engine.run([task(receive(stream, 5)) for stream in STREAMS])
        await engine.run([task(take(stream, 2)) for stream in STREAMS])
        await store.sequence()
    finally:
        await store.close()
    await fill_log(log.admin_dsn, (SHELF_VIEW,), 0, COPIES - 1)
    await fill_log(log.admin_dsn, (SHELF_VIEW,), COPIES - 1, 1)
    return log


async def test_copies_pass_every_check_that_a_log_must_pass(filled: LogDatabase) -> None:
    store = await PostgresStore.open(filled.dsn)
    try:
        assert await verify_store(store, RULES) == []
        counts = await store.counts()
        assert (counts["events"], counts["sequenced"]) == (EVENTS, EVENTS)
    finally:
        await store.close()


async def test_a_copy_that_does_not_hold_together_is_found(filled: LogDatabase) -> None:
    assert await check_log(filled.admin_dsn, AGGREGATES, (SHELF_VIEW,), COPIES) == len(STREAMS)
    admin = await asyncpg.connect(filled.admin_dsn)
    try:
        await admin.execute("UPDATE events SET data = '{}' WHERE stream LIKE 'bin-7.%'")
    finally:
        await admin.close()
    with pytest.raises(BenchStopped, match=r"bin-7\.3: its copy does not hold together at version 1"):
        await check_log(filled.admin_dsn, AGGREGATES, (SHELF_VIEW,), COPIES)
