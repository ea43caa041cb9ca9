"""An event loop without time and without chance of its own: a clock that jumps to what is due next, and a seed that
says which of the callbacks that are ready runs first.

Nothing in here waits for the machine, so days pass in milliseconds, and one seed is one order of events.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from random import Random
from typing import Any


class AllWait(Exception):
    """Everybody waits for somebody, and nothing is due at any time."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs one ready callback at a time, drawn from all that are ready.

    The interpreter's own loop runs them in the order in which they became ready; programs may not rely on that where
    the order comes from the network.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._chance = random.random
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._scheduled: list[Any] = []

    def time(self) -> float:
        """Seconds since the start of the simulation."""
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """At once: a thread would bring the machine's own time in."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and (scheduled[0]._cancelled or not ready or scheduled[0]._when <= self._now):
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._now = max(self._now, timer._when)
                ready.append(timer)
        if not ready:
            raise AllWait
        handle = ready.pop(int(self._chance() * len(ready)))
        if not handle._cancelled:
            handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is left out when its time comes."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken from."""
