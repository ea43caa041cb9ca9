"""Waiting for somebody to say something, for a while."""

from __future__ import annotations

import asyncio


async def is_set(event: asyncio.Event, within_s: float) -> bool:
    """Whether `event` is set by then. Costs no task, so loops may ask at each turn."""
    if not event.is_set():
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
        except TimeoutError:
            return False
    return True
