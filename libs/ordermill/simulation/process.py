"""A process of the simulation: what dies together, stands still together, and shares a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from .nemesis import Fault, Nemesis

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
SPEED = 20_000
"""Seconds of the trade in one of the simulation's: orders take days, calls take milliseconds."""

current: ContextVar[Process | None] = ContextVar("current", default=None)


class Process:
    """All tasks started from within it belong to it, however deep in the product they are started."""

    def __init__(
        self, name: str, nemesis: Nemesis, died: Callable[[Process], None], froze: Callable[[Process, float], None]
    ) -> None:
        """`died` is called once, when it is killed; `froze` with the seconds when it begins to stand still."""
        self._loop = asyncio.get_running_loop()
        self.name = name
        self.alive = True
        self._nemesis = nemesis
        self._died = died
        self._froze = froze
        self._tasks: dict[asyncio.Task[Any], None] = {}
        """In the order in which they began, which the seed alone decides."""
        self._frozen_until = 0.0
        self._skew = timedelta()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        token = current.set(self)
        try:
            return self._loop.create_task(work)
        finally:
            current.reset(token)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        if not self.alive:
            task.cancel()

    def kill(self) -> None:
        """End it where it is. Nothing that it still does on its way out gets anywhere: see `point`."""
        if self.alive:
            self.alive = False
            for task in list(self._tasks):
                task.cancel()
            self._died(self)

    @property
    def stands_still(self) -> bool:
        return self._loop.time() < self._frozen_until

    async def point(self, where: str) -> None:
        """A place where the process meets the rest of the world, and where things go wrong."""
        if not self.alive:
            raise asyncio.CancelledError
        nemesis, loop = self._nemesis, self._loop
        if nemesis.strikes(Fault.FREEZE, self.name, where):
            seconds = nemesis.amount(2, 20)
            self._frozen_until = loop.time() + seconds
            self._froze(self, seconds)
        if nemesis.strikes(Fault.SLOW, self.name, where):
            await asyncio.sleep(nemesis.amount(0.05, 4))
        while self.stands_still:
            await asyncio.sleep(self._frozen_until - loop.time())
        if nemesis.strikes(Fault.CLOCK, self.name):
            self._skew = timedelta(seconds=nemesis.amount(-90, 90))
        if nemesis.strikes(Fault.CRASH, self.name, where):
            self.kill()
        if not self.alive:
            raise asyncio.CancelledError

    def wall(self) -> datetime:
        """The machine's clock, as this process sees it."""
        return MONDAY + timedelta(seconds=self._loop.time()) + self._skew

    def clock(self) -> datetime:
        """The trade's clock: the machine's, sped up."""
        return MONDAY + SPEED * timedelta(seconds=self._loop.time()) + self._skew * 20


def task_factory(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    """Every task belongs to the process that it is started in."""
    task = asyncio.Task(work, loop=loop, **more)
    if (process := current.get()) is not None:
        process.adopt(task)
    return task
