"""One run: orders come, faults strike for a while, everything comes to its end, and what must hold is looked at."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Collection, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

import structlog

from ordermill.demo.tally import Tally
from ordermill.demo.world import World
from ordermill.names import SERVICES

from .bus import Follower
from .judge import findings
from .loop import AllWait, SimulatedLoop
from .nemesis import Fault, Nemesis, Struck
from .orders import FATES, orders
from .outside import SimulatedDoors
from .people import People
from .place import Place
from .process import MONDAY, SPEED, task_factory

FAULTS_FOR_S = 80.0
"""At most, and until the story is told: weeks of the trade. Then nothing goes wrong any more, and all must end."""
PATIENCE_S = 400.0
LOOK_S = 0.25
PEOPLE = 0.3
"""How long people take, against the demo."""


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    seed: int
    orders: int
    findings: tuple[str, ...]
    struck: tuple[Struck, ...]
    """The faults, in the order in which they struck."""
    events: int
    took_s: float
    """By the simulation's clock."""
    digest: str
    """Of all six logs, every byte."""


def simulate(
    seed: int,
    count: int = 4,
    faults: Collection[Fault] = tuple(Fault),
    only: Collection[str] | None = None,
) -> Run:
    """`count` orders under those kinds of faults. `only`: no others than the faults of these names."""
    random = Random(f"ordermill {seed} {count}")
    loop = SimulatedLoop(Random(random.getrandbits(64)))
    loop.set_task_factory(task_factory)
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _defects() as defects:
            return loop.run_until_complete(_run(seed, count, random, faults, only, defects))
    finally:
        cancel_all(loop)
        loop.close()
        if collecting:
            gc.enable()


async def _run(
    seed: int, count: int, random: Random, faults: Collection[Fault], only: Collection[str] | None, defects: list[str]
) -> Run:
    loop = asyncio.get_running_loop()
    nemesis = Nemesis(random.getrandbits(64), faults, loop.time, FAULTS_FOR_S, only)
    place = Place(random, nemesis)
    doors = SimulatedDoors(place, random, nemesis)
    baskets = orders(random, count)
    tally = Tally()
    world = World(doors, _clock, SPEED, tally, PEOPLE, FATES)
    people = People(doors, place.bus, nemesis, Random(random.getrandbits(64)), baskets, _clock)
    place.start()
    acting = asyncio.create_task(people.act())
    following = asyncio.create_task(_follow(place, world))
    raging = asyncio.create_task(_rage(place, doors, nemesis))
    world.plan_stock(baskets, str(seed))
    world.plan_orders(baskets, _clock(), timedelta())
    settled = False
    while not settled and loop.time() < FAULTS_FOR_S + PATIENCE_S:
        await world.act()
        await asyncio.sleep(LOOK_S)
        told = world.idle and tally.settled(count)
        if told:
            nemesis.rest()
        settled = told and nemesis.over and doors.idle and people.idle and place.quiet()
    if settled:
        await asyncio.sleep(5)  # whatever still comes by itself
        while not (settled := place.quiet()) and loop.time() < FAULTS_FOR_S + PATIENCE_S:
            await asyncio.sleep(LOOK_S)
    for task in (acting, following, raging):
        if not task.cancel():
            task.result()
    found = [*defects, *await findings(place, doors, settled)]
    rows = [row for service in SERVICES for row in place.logs[service]._committed]
    digest = sha256(b"".join(row.hash for row in rows)).hexdigest()
    return Run(seed, count, tuple(found), tuple(nemesis.history), len(rows), loop.time(), digest)


def _clock() -> datetime:
    """The trade's time where no machine's clock is wrong."""
    return MONDAY + SPEED * timedelta(seconds=asyncio.get_running_loop().time())


async def _follow(place: Place, world: World) -> None:
    follower: Follower = place.bus.follow(world.topics)
    while True:
        for record in await follower.poll():
            world.absorb(record)


async def _rage(place: Place, doors: SimulatedDoors, nemesis: Nemesis) -> None:
    """What strikes whatever anybody does: at any await of anybody."""
    while not nemesis.over:
        await asyncio.sleep(nemesis.amount(0.05, 0.6))
        if nemesis.strikes(Fault.AMNESIA, "the broker"):
            place.bus.forget()
            doors.forgotten()
        if nemesis.strikes(Fault.POISON, "a topic"):
            doors.poison_somebody()
        if nemesis.strikes(Fault.CRASH, "somebody") and place.instances:
            names = sorted(place.instances)
            place.instances[names[nemesis.one_of(len(names))]].process.kill()


def cancel_all(loop: SimulatedLoop) -> None:
    """Tasks that are left would complain when they are thrown away."""
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        try:
            loop.run_until_complete(asyncio.wait(tasks))
        except AllWait:
            break


@contextmanager
def _defects() -> Iterator[list[str]]:
    """Errors that the product did not expect of itself: it logs them with their traceback, and goes on."""
    found: list[str] = []

    def note(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        if event.get("exc_info"):
            error = event["exc_info"] if isinstance(event["exc_info"], BaseException) else sys.exception()
            found.append(f"unexpected: {event['event']}: {error!r}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note], cache_logger_on_first_use=False)
    try:
        yield found
    finally:
        structlog.configure(**before)
