"""Work that goes on as long as a service does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ordermill.eventlog.store import LogUnavailable

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
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), every_s)
