"""Work that goes on as long as a service does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from ordermill.eventlog.store import LogUnavailable
from ordermill.waiting import is_set

logger = structlog.get_logger(__name__)


async def forever(
    what: str, work: Callable[[], Awaitable[int]], every_s: float, wake: asyncio.Event | None = None
) -> None:
    """Do `work` again at once as long as it finds some, else after `every_s` seconds or a wake; no error ends it."""
    while True:
        try:
            if await work():
                continue
        except LogUnavailable as error:
            logger.warning(f"{what}: waits for the database", error=str(error))
            await asyncio.sleep(1)
        except Exception:
            logger.exception(f"{what} failed")
            await asyncio.sleep(1)
        if wake is None:
            await asyncio.sleep(every_s)
        else:
            await is_set(wake, every_s)


class Parts:
    """What goes on as long as the service does. If one of them fails, the service does not go on without it."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._tasks: list[asyncio.Task[Any]] = []
        self._failed: list[BaseException] = []

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raises what a part failed with."""
        if self._failed:
            raise self._failed[0]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("stopping, for a part of the service failed", exc_info=error)
            self._failed.append(error)
            self._stop.set()
