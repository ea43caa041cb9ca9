"""Waiting for somebody to say something, for a while."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ordermill.simulation.loop import SimulatedLoop
from ordermill.waiting import is_set


async def _waited(news: asyncio.Event, within_s: float) -> tuple[bool, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await is_set(news, within_s), loop.time() - began


@pytest.mark.parametrize(
    ("said_after_s", "heard"), [(0.0, (True, 0.0)), (2.0, (True, 2.0)), (7.0, (False, 5.0)), (None, (False, 5.0))]
)
def test_what_is_said_in_time_is_heard_at_once(said_after_s: float | None, heard: tuple[bool, float]) -> None:
    async def listen() -> tuple[bool, float]:
        news = asyncio.Event()
        if said_after_s == 0:
            news.set()
        elif said_after_s is not None:
            asyncio.get_running_loop().call_later(said_after_s, news.set)
        return await _waited(news, 5.0)

    loop = SimulatedLoop(Random(1))
    assert loop.run_until_complete(listen()) == heard
    loop.close()


@pytest.mark.parametrize("seed", range(20))
def test_what_is_said_at_the_last_moment_is_not_lost(seed: int) -> None:
    """Whoever clears the event after asking would never hear of it."""

    async def listen() -> tuple[bool, bool]:
        news = asyncio.Event()
        asyncio.get_running_loop().call_later(5.0, news.set)
        return await is_set(news, 5.0), news.is_set()

    loop = SimulatedLoop(Random(seed))
    heard, said = loop.run_until_complete(listen())
    loop.close()
    assert heard == said


def test_who_is_canceled_meanwhile_waits_no_longer() -> None:
    async def give_up() -> None:
        waiting = asyncio.create_task(is_set(asyncio.Event(), 1_000.0))
        asyncio.get_running_loop().call_later(1, waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}

    loop = SimulatedLoop(Random(1))
    loop.run_until_complete(give_up())
    assert loop.time() == 1
    loop.close()
