"""`python -m tests.chaos`: real faults, one after another, each on an installation of its own with orders flowing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .faults import SCENARIOS, Scenario
from .running import CannotBeDone, Installation, NotSettled

GOAL_S = 10.0


@dataclass
class Outcome:
    name: str
    did: str = ""
    before_s: float | None = None
    recovered_s: float | None = None
    read: str = ""
    wrong: str = ""
    skipped: str = ""

    @property
    def good(self) -> bool:
        return bool(self.skipped) or (not self.wrong and self.recovered_s is not None and self.recovered_s < GOAL_S)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Only scenarios whose name holds this.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides who is killed when; the time if not given.")] = None,
    orders: Annotated[int | None, typer.Option(min=20, help="How many flow, in place of each scenario's own.")] = None,
) -> None:
    """Exit status 1 if an order is stuck, something does not add up, or recovery took ten seconds or more."""
    names = [each.name for each in SCENARIOS]
    for part in only or ():
        if not any(part in name for name in names):
            raise typer.BadParameter(f"{part!r} is in no name of: {', '.join(names)}", param_hint="--only")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # stops what it started
    seed = int(time.time()) if seed is None else seed
    say(f"seed {seed}")
    chosen = [each for each in SCENARIOS if not only or any(part in each.name for part in only)]
    outcomes = []
    for scenario in chosen:
        outcomes.append(run(scenario, random.Random(f"{seed} {scenario.name}"), orders or scenario.orders))
        say(shown(outcomes[-1]))
    print(*map(shown, outcomes), sep="\n")
    raise typer.Exit(0 if all(each.good for each in outcomes) else 1)


def run(scenario: Scenario, chance: random.Random, orders: int) -> Outcome:
    """What came of it. The folder is kept if something was wrong."""
    outcome = Outcome(scenario.name)
    folder = Path(tempfile.mkdtemp(prefix="ordermill-chaos-"))
    at = Installation(folder / "home", orders, os.environ.get("KAFKA_HOME"))
    with ExitStack() as stage:
        try:
            stage.enter_context(scenario.stage(at))
            stage.callback(at.stop)
            say(f"{scenario.name}: starting, {orders} orders")
            at.start()
            outcome.before_s = at.flow_s()
            outcome.did = scenario.fault(at, chance)
            say(f"{scenario.name}: {outcome.did}")
            outcome.recovered_s = at.flow_s()
            say(f"{scenario.name}: recovered in {outcome.recovered_s:.1f} s, settling")
            outcome.read = at.settle(timeout_s=120 + orders / 4)
        except NotSettled as error:
            outcome.wrong = f"{error} (kept: {folder})"
        except CannotBeDone as error:
            outcome.skipped = str(error)
    if not outcome.wrong:
        shutil.rmtree(folder)
    return outcome


def shown(outcome: Outcome) -> str:
    def seconds(value: float | None) -> str:
        return "never" if value is None else f"{value:.1f} s"

    if outcome.skipped:
        return f"{outcome.name:30} | SKIPPED: {outcome.skipped}"
    before, after = seconds(outcome.before_s), seconds(outcome.recovered_s)
    end = f"WRONG: {outcome.wrong}" if outcome.wrong else f"all adds up, {outcome.read}"
    return f"{outcome.name:30} | {outcome.did} | order at its location: before {before}, after {after} | {end}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


typer.run(main)
