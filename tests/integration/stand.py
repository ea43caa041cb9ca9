"""What several integration tests stand on: a log to ask, instances of the shelves, patience."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from ordermill.contracts.base import decode
from ordermill.contracts.service import DeadLettered
from tests.conftest import LogDatabase
from tests.integration.shelf_service import Instance

Open = Callable[..., Awaitable[Instance]]


async def eventually(condition: Callable[[], Awaitable[Any]], timeout_s: float = 60.0) -> Any:
    """What `condition` answers once that is true."""
    until = asyncio.get_running_loop().time() + timeout_s
    while not (answer := await condition()):
        assert asyncio.get_running_loop().time() < until, "did not come about"
        await asyncio.sleep(0.02)
    return answer


class Log:
    """What a test wants to know of a log."""

    def __init__(self, database: LogDatabase) -> None:
        self.dsn = database.dsn

    async def query(self, statement: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def references(self, prefix: str = "shelf-") -> list[str]:
        """Of all events on shelves, in the order of their commits."""
        rows = await self.query(
            "SELECT type, data FROM events WHERE stream LIKE $1 ORDER BY tx, position", f"{prefix}%"
        )
        return [decode(row["type"], row["data"]).reference for row in rows]

    async def letters(self) -> list[DeadLettered]:
        rows = await self.query("SELECT data FROM events WHERE type = $1 ORDER BY position", DeadLettered.type)
        return [DeadLettered.from_json(row["data"]) for row in rows]

    def has(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def condition() -> bool:
            return len(await self.references()) >= count

        return condition

    def has_letters(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def condition() -> bool:
            return len(await self.letters()) >= count

        return condition
