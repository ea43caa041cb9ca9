"""Waiting for somebody to say something, for a while."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def is_set(event: asyncio.Event, within_s: float) -> bool:
    """Whether `event` is set by then. Costs no task, so loops may ask at each turn."""
    if not event.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await event.wait()
    return event.is_set()  # also if it came together with the time-out
