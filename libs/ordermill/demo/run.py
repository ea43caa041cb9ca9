"""The world as a process: reads topics, takes its steps, shows how far the orders are, adds up at the end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from ordermill.audit import audit_installation
from ordermill.clock import Clock
from ordermill.installation import Installation, write_private
from ordermill.names import SERVICES
from ordermill.network import read_network
from ordermill.service.kafka import follow
from ordermill.service.logs import configure_logging
from ordermill.service.run import clock_of, kafka_of
from ordermill.service.settings import PlatformSettings

from .baskets import read_baskets
from .doors import Address, Doors
from .state import Batch, DemoState
from .tally import Tally
from .world import World

REPORT = "report.json"


@dataclass(frozen=True)
class WorldOptions:
    folder: Path
    speed: float
    delays: float


def run_world(options: WorldOptions) -> int:
    """Until all orders are settled and added up. 0 if everything adds up, 1 if not."""
    configure_logging("world", "WARNING")
    return uvloop.run(_run(options))


async def _run(options: WorldOptions) -> int:
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
        expected = sum([await _plan(world, batch, clock) for batch in state.batches])
        started = shown = time.monotonic()
        while True:
            acted = await world.act()
            if time.monotonic() - shown >= 0.5:
                shown = time.monotonic()
                _show(tally.progress(), expected, shown - started)
            if world.idle and tally.settled(expected) and await doors.quiet():
                break
            await asyncio.sleep(0 if acted else 0.03)
        _show(tally.progress(), expected, time.monotonic() - started, end="\n")
        print("adding up", file=sys.stderr)
        report = await _add_up(tally, time.monotonic() - started)
        write_private(options.folder / REPORT, json.dumps(report, indent=1))
        return 1 if report["violations"] else 0
    finally:
        following.cancel()
        await doors.close()


async def _plan(world: World, batch: Batch, clock: Clock) -> int:
    """First the goods, then, once they are on the shelves, the orders for them."""
    baskets = await asyncio.to_thread(lambda: list(read_baskets(batch.first, batch.count, batch.starts_at)))
    if not all(world.knows(basket) for basket in baskets):
        world.plan_stock(baskets, str(batch.first))
        while not world.idle:
            await world.act()
            await asyncio.sleep(0.05)
    fresh = not any(world.knows(basket) for basket in baskets)
    world.plan_orders(baskets, clock() if fresh else batch.starts_at, baskets[0].after)
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
    secrets = Installation.open(folder).secrets
    return Address(
        kafka=os.environ["OMS_KAFKA"],
        ports={service: int(os.environ[f"OMS_{service.upper()}_PORT"]) for service in SERVICES},
        api_token=secrets["api_token"],
        shopify_secret=secrets["shopify_secret"],
        inbox=folder / "inbox",
    )


def _show(progress: dict[str, int], expected: int, seconds: float, end: str = "") -> None:
    line = "  ".join(f"{name} {count}" for name, count in progress.items())
    text = f"{seconds:5.1f} s  of {expected}: {line}"
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end=end, file=sys.stderr, flush=True)
    elif end or int(seconds * 2) % 10 == 0:
        print(text, file=sys.stderr, flush=True)
