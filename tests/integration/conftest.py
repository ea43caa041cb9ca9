"""A broker, a log and instances for every test that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ordermill.eventlog.postgres import PostgresStore
from ordermill.service.deadletters import LETTER_VIEW
from tests.brokers import server
from tests.conftest import LogDatabase
from tests.integration.kafka import Broker
from tests.integration.shelf_service import VIEWS, Instance, Shelves
from tests.integration.shelves import SHELF_VIEW
from tests.integration.stand import Log, Open


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """With all topics and nothing in them."""
    with server(tmp_path) as one:
        made = Broker(one)
        try:
            await made.make_topics()
            yield made
        finally:
            await made.close()


@pytest.fixture
async def log(make_log: Callable[..., Awaitable[LogDatabase]]) -> LogDatabase:
    """With the shelves' view and nothing in it."""
    return await make_log([SHELF_VIEW])


@pytest.fixture
async def store(log: LogDatabase) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(log.dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def shelf_log(make_log: Callable[..., Awaitable[LogDatabase]]) -> Log:
    return Log(await make_log((*VIEWS, LETTER_VIEW)))


@pytest.fixture
async def instance(shelf_log: Log) -> AsyncIterator[Open]:
    opened: list[Instance] = []

    async def open_one(shelves: Shelves | None = None, **more: Any) -> Instance:
        opened.append(await Instance.open(shelf_log.dsn, shelves, **more))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()
