"""The six services under faults that a seed decides, in one process and without any database or broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import DONE, WRONG, JsonOption, print_json

if TYPE_CHECKING:
    from ordermill.simulation import Fault, Run

app = typer.Typer()


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(min=0, help="The first seed. Same seed, same run, to the byte.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the first on.")] = 1,
    orders: Annotated[int, typer.Option(min=1, max=200, help="Orders in each run.")] = 4,
    faults: Annotated[str, typer.Option(help="Kinds of faults, with commas between; all, or none.")] = "all",
    only: Annotated[str, typer.Option(help="Only these faults of that seed, with commas between: crash#1,slow#7")] = "",
    shrink: Annotated[bool, typer.Option(help="Look for the fewest faults that break the first bad seed.")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at work; 0: one a core.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Run all six services on a simulated clock, broker and log, with faults at every await, and check what must hold.

    Exit status: 0 all held, 1 something did not; then the seed, how to repeat it, and what is needed for it are shown.
    """
    from ordermill.simulation import Fault, simulate
    from ordermill.simulation import shrink as shorter

    kinds = _kinds(faults, Fault)
    names = frozenset(filter(None, only.split(","))) or None
    began = perf_counter()
    first: Run | None = None
    bad = events = struck = 0
    for run in _runs(
        partial(simulate, count=orders, faults=kinds, only=names),
        range(seed, seed + seeds),
        jobs or os.cpu_count() or 1,
    ):
        events += run.events
        struck += len(run.struck)
        if as_json:
            print_json(asdict(run))
        if run.findings:
            bad += 1
            first = first or run
            if not as_json:
                _print(run)
    seconds = perf_counter() - began
    if not as_json:
        digest = f", {run.digest[:16]}" if seeds == 1 else ""
        text = f"{seeds} seeds, {events:,} events, {struck:,} faults, {seconds:.1f} s{digest}: "
        typer.echo(text + (f"{bad} did not hold" if bad else "all held"))
    if first is not None and shrink and not as_json:
        print("looking for the fewest faults that break it", file=sys.stderr)
        _print_story(shorter(first, kinds))
    raise typer.Exit(WRONG if bad else DONE)


def _kinds(text: str, kinds: type[Fault]) -> tuple[Fault, ...]:
    if text in ("all", "none"):
        return tuple(kinds) if text == "all" else ()
    try:
        return tuple(kinds(name.strip()) for name in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{error}; there are {', '.join(kind.value for kind in kinds)}") from None


def _runs(one: partial[Run], seeds: Collection[int], jobs: int) -> Iterator[Run]:
    """One run a seed, in the order of the seeds."""
    if jobs == 1 or len(seeds) == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(min(jobs, len(seeds))) as pool:
        yield from pool.map(one, seeds, chunksize=max(1, min(20, len(seeds) // (4 * jobs))))


def _print(run: Run) -> None:
    typer.echo(f"seed {run.seed}: {len(run.findings)} findings after {len(run.struck)} faults")
    for finding in run.findings[:5]:
        typer.echo(f"  {finding}")
    typer.echo(f"  again: oms simulate --seed {run.seed} --orders {run.orders}")


def _print_story(run: Run) -> None:
    typer.echo(f"seed {run.seed} needs {run.orders} orders and these faults:")
    for fault in run.struck:
        typer.echo(f"  {fault}")
    for finding in run.findings[:10]:
        typer.echo(f"  {finding}")
    names = ",".join(fault.name for fault in run.struck)
    which = f"--only {names}" if names else "--faults none"
    typer.echo(f"  again: oms simulate --seed {run.seed} --orders {run.orders} {which}")
