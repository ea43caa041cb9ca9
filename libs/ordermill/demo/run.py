"""The world as a process: reads topics, takes its steps, shows how far the orders are, adds up at the end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop

from ordermill.audit import audit_installation
from ordermill.clock import Clock, system_clock
from ordermill.errors import Refused
from ordermill.installation import write_private
from ordermill.names import SERVICES, url_of
from ordermill.network import read_network
from ordermill.service.following import follow
from ordermill.service.logs import configure_logging
from ordermill.service.run import clock_of, kafka_of
from ordermill.service.settings import PlatformSettings

from .baskets import read_baskets
from .doors import Address, Doors
from .state import Batch, DemoState
from .tally import Tally
from .world import World

REPORT = "report.json"
QUIET_FOR_S = 1.5
"""For so long nothing may be under way before all is added up: services measure once a second."""


@dataclass(frozen=True)
class WorldOptions:
    folder: Path
    speed: float
    delays: float
    per_second: float | None = None
    """Orders that the channels send in a real second; None: as the story goes."""


class NoDemo(Refused):
    """The world only plays in installations that were made for it: its carriers deliver what nobody sent."""

    code = "demo.none"

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} is no demo: lay it out with `oms deploy secrets --demo-speed` (OMS_DEMO_SPEED)")


def run_world(options: WorldOptions) -> int:
    """Until all orders are settled and added up. 0 if everything adds up, 1 if not."""
    configure_logging("world", "WARNING")
    return uvloop.run(_run(options))


def run_outside(folder: Path, orders: int, end_when_settled: bool) -> int:
    """The world alone, for services in other places. Keeps the story's time; `oms verify` says whether it adds up."""
    configure_logging("world", "WARNING")
    state = DemoState.load(folder)
    if state.clock is None:
        raise NoDemo(folder)
    state.add_orders(orders)
    state.save(folder)
    return uvloop.run(_outside(WorldOptions(folder, state.clock.speed, 0.0), state, end_when_settled))


async def _outside(options: WorldOptions, state: DemoState, end_when_settled: bool) -> int:
    clock = clock_of(PlatformSettings())

    def note_time() -> None:
        state.now, state.kept_at = clock(), system_clock()
        state.save(options.folder)

    async def keep_time() -> None:
        while True:
            note_time()
            await asyncio.sleep(1)

    keeping = asyncio.create_task(keep_time())
    try:
        tally, _ = await _settle(options)
        state.settled = True
        print(json.dumps(tally.report()), flush=True)
        if not end_when_settled:
            await keeping
        return 0
    finally:
        keeping.cancel()
        note_time()


async def _run(options: WorldOptions) -> int:
    tally, seconds = await _settle(options)
    print("adding up", file=sys.stderr)
    report = await _add_up(tally, seconds)
    write_private(options.folder / REPORT, json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


async def _settle(options: WorldOptions) -> tuple[Tally, float]:
    """Act until nothing is left to do; what was counted, and how many seconds it took."""
    platform = PlatformSettings()
    clock = clock_of(platform)
    state = DemoState.load(options.folder)
    tally = Tally()
    doors = Doors(_address(options.folder), read_network(platform.network_text()), clock)
    world = World(doors, clock, options.speed, tally, options.delays)
    caught_up = asyncio.Event()
    following = asyncio.create_task(follow(kafka_of(platform), world.topics, world.absorb, caught_up))
    try:
        await _until_ready(doors)
        await caught_up.wait()
        expected = sum([await _plan(world, batch, clock, options) for batch in state.batches])
        started = shown = stirred = time.monotonic()
        while not following.done():
            acted = await world.act()
            if time.monotonic() - shown >= 0.5:
                shown = time.monotonic()
                _show(tally.progress(), expected, shown - started)
            if not (world.idle and tally.settled(expected) and await doors.quiet()):
                stirred = time.monotonic()
            elif time.monotonic() - stirred > QUIET_FOR_S:
                break
            await asyncio.sleep(0 if acted else 0.03)
        else:
            await following  # it ends by an error only
        _show(tally.progress(), expected, time.monotonic() - started, end="\n")
        return tally, time.monotonic() - started
    finally:
        following.cancel()
        await doors.close()


async def _plan(world: World, batch: Batch, clock: Clock, options: WorldOptions) -> int:
    """First the goods, then, once they are on the shelves, the orders for them."""
    baskets = await asyncio.to_thread(lambda: list(read_baskets(batch.first, batch.count, batch.starts_at)))
    if not all(world.knows(basket) for basket in baskets):
        world.plan_stock(baskets, str(batch.first))
        while not world.idle:
            await world.act()
            await asyncio.sleep(0.05)
    fresh = not any(world.knows(basket) for basket in baskets)
    every = timedelta(seconds=options.speed / options.per_second) if options.per_second else None
    world.plan_orders(baskets, clock() if fresh else batch.starts_at, baskets[0].after, every)
    return len(baskets)


async def _until_ready(doors: Doors) -> None:
    while not await doors.ready():
        await asyncio.sleep(0.1)


async def _add_up(tally: Tally, seconds: float) -> dict[str, Any]:
    violations = await audit_installation(settled=True)
    return {
        **tally.report(),
        "seconds": round(seconds, 1),
        "violations": [str(violation) for violation in violations],
    }


def _address(folder: Path) -> Address:
    return Address(
        kafka=os.environ["OMS_KAFKA"],
        urls={service: url_of(service, os.environ) or "" for service in SERVICES},
        api_token=os.environ["OMS_API_TOKEN"],
        shopify_secret=os.environ["OMS_CAPTURE_SHOPIFY_SECRET"],
        inbox=Path(os.environ["OMS_CAPTURE_INBOX"]),
    )


def _show(progress: dict[str, int], expected: int, seconds: float, end: str = "") -> None:
    line = "  ".join(f"{name} {count}" for name, count in progress.items())
    text = f"{seconds:5.1f} s  of {expected}: {line}"
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end=end, file=sys.stderr, flush=True)
    elif end or int(seconds * 2) % 10 == 0:
        print(text, file=sys.stderr, flush=True)
