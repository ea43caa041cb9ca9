"""One command starts it all: PostgreSQL, broker, six services, the console and, for the demo, the world around them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ordermill.deployment import OUTSIDE
from ordermill.embedded.processes import Child, Supervisor
from ordermill.embedded.stack import EmbeddedStack
from ordermill.installation import Installation, home, runner, throwaway
from ordermill.names import CONSOLE, SERVICES, SIMULATOR
from ordermill.wrong_settings import check_settings

from .run import REPORT, WorldOptions, run_world
from .settings import demo_settings
from .show import show_ready, show_report
from .state import DemoClock, DemoState

SERVICE_PORTS = {name: 8_100 + number for number, name in enumerate((CONSOLE, *SERVICES, SIMULATOR))}
EMBEDDED = {
    "OMS_FETCH_WAIT_MS": "50",
    "OMS_PARTITIONS": "4",
    "OMS_SESSION_TIMEOUT_MS": "3000",
    "OMS_STATIC_MEMBERSHIP": "false",
    "OMS_IDEMPOTENT_PRODUCER": "false",
}
"""What suits the embedded broker: docs/decisions tell why."""
APACHE = {"OMS_FETCH_WAIT_MS": "250", "OMS_PARTITIONS": "2", "OMS_INSTANCE": "1"}
"""For Apache Kafka. A service that is started again joins under its name and goes on at once."""
SERVICES_NICE = 5
"""Services stand back where all want the processors, so that who looks at a page sees what is."""


@dataclass(frozen=True)
class Options:
    """How to run. `speed` None: the real clock."""

    orders: int = 0
    speed: float | None = None
    hurry: bool = False
    end_when_settled: bool = False
    as_json: bool = False
    kafka: str | None = None
    """The folder of an Apache Kafka to run, or host:port of a broker; else the embedded one."""
    per_second: float | None = None
    """Orders that the channels send in a real second; None: as the story goes."""
    through: Mapping[str, int] = field(default_factory=dict)
    """The ports at which services look for `postgres` and `kafka`, where somebody stands between."""


def launch(options: Options) -> int:
    """Run until Ctrl-C or, if wanted, until all orders are settled. Exit status 1 if something does not add up.

    Raises EmbeddedError where a part can't be started.
    """
    folder = home()
    stack = EmbeddedStack(folder, SERVICE_PORTS, kafka=options.kafka, through=options.through, throwaway=throwaway())
    with stack.locked():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stack.supervisor.stop_soon)
        began = time.monotonic()
        try:
            stack.start()
            return _run(stack, options, folder, began)
        finally:
            stack.stop()


def _run(stack: EmbeddedStack, options: Options, folder: Path, began: float) -> int:
    installation = Installation.open(folder)
    environment = installation.environment(stack.kafka, stack.postgres_address, stack.ports)
    environment |= EMBEDDED if options.kafka is None else APACHE
    environment["OMS_CAPTURE_INBOX"] = str(folder / "inbox")
    environment |= {name: value for name, value in os.environ.items() if name.startswith(OUTSIDE) and value}
    clock = None
    state = DemoState.load(folder)
    if options.speed is not None:
        clock = DemoClock(state.now, options.speed)
        environment |= clock.environment() | demo_settings(folder, options.speed)
        state.add_orders(options.orders)
        state.save(folder)
    os.environ.update(environment)
    check_settings((*SERVICES, CONSOLE))
    asyncio.run(installation.prepare(stack.postgres_dsn().removesuffix("/postgres"), stack.postgres_address))
    installation.remember(environment)
    supervisor = stack.supervisor
    for name in (SIMULATOR, *SERVICES, CONSOLE):
        log = folder / "logs" / f"{name}.log"
        supervisor.start(Child(name, function=runner(name), log=log, nice=niceness(name)))
    if clock is None:
        show_ready(environment, time.monotonic() - began)
        supervisor.wait(lambda: False)
        return 0
    return _demo(stack, options, folder, state, clock, began)


def _demo(
    stack: EmbeddedStack, options: Options, folder: Path, state: DemoState, clock: DemoClock, began: float
) -> int:
    supervisor = stack.supervisor
    report_file = folder / REPORT
    report_file.unlink(missing_ok=True)
    world_options = WorldOptions(folder, clock.speed, 0.0 if options.hurry else 1.0, options.per_second)
    world = Child("world", function=lambda: sys.exit(run_world(world_options)), essential=False)
    supervisor.start(world)
    show_ready(dict(os.environ), time.monotonic() - began)
    saved = time.monotonic()

    def keep_time() -> None:
        nonlocal saved
        if time.monotonic() - saved > 1:
            saved = time.monotonic()
            state.now = clock.now()
            state.save(folder)

    def watch() -> None:
        keep_time()
        if world.status is not None and not report_file.exists():
            supervisor.start(world)  # it was killed; what it had in mind is in the product's facts

    finished = supervisor.wait(lambda: world.status is not None and report_file.exists(), watch)
    status = world.status if finished and world.status is not None else 130
    state.now = clock.now()
    state.settled = finished
    state.save(folder)
    if state.settled:
        report = json.loads(report_file.read_text())
        if options.as_json:
            print(json.dumps(report), flush=True)
        show_report(report, sys.stderr if options.as_json else sys.stdout)
        if not options.end_when_settled:
            print("The services keep running. Ctrl-C stops them; the next start goes on with the same data.")
            supervisor.wait(lambda: False, keep_time)
            status = 0
    return status


def run_all() -> int:
    """All six services and the console under the settings in the environment, until a signal."""
    supervisor = Supervisor(home() / "run-all.json")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, supervisor.stop_soon)
    for name in (*SERVICES, CONSOLE):
        supervisor.start(Child(name, function=runner(name), nice=niceness(name)))
    supervisor.wait(lambda: False)
    supervisor.stop()
    return 0


def niceness(name: str) -> int:
    return SERVICES_NICE if name in SERVICES else 0
