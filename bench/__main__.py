"""`python -m bench`: measure, print the table, keep the result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ordermill.embedded import EmbeddedError
from ordermill.service.logs import configure_logging

from . import capture, console, growth, layers, life, lines, partitions, plots, race, soak, start, versus
from .report import result, table
from .stand import BenchStopped, say

RESULT = Path(__file__).parent / "results" / "latest.json"
HEADLINES = ("capture", "race", "versus", "life", "console")
MORE = ("lines", "layers", "growth", "start")
"""Three minutes or less each; not part of a quick run unless named."""
NAMED = ("partitions", "soak")
"""Those take longer, and are measured only when named."""
ONLY = f"Of: {', '.join(HEADLINES + MORE)}; and of those measured only when named: {', '.join(NAMED)}. Can be repeated."
TO = "With growth: events in the logs at last. Ten million take a quarter of an hour and 15 GB."


def main(
    quick: Annotated[bool, typer.Option(help="The headline figures in about three minutes, less steady.")] = False,
    only: Annotated[list[str] | None, typer.Option(help=ONLY)] = None,
    to: Annotated[int, typer.Option(min=1, help=TO)] = growth.MILLION,
    minutes: Annotated[float, typer.Option(min=0.5, help="With soak: for how long.")] = soak.MINUTES,
    output: Annotated[Path | None, typer.Option(help=f"Where the result goes; {RESULT} for a full run.")] = None,
) -> None:
    """Measure Ordermill on this machine: everything in a temporary folder, nothing is left running."""
    parts = tuple(only or (HEADLINES if quick else HEADLINES + MORE))
    for part in parts:
        if part not in HEADLINES + MORE + NAMED:
            raise typer.BadParameter(f"{part!r}: one of {', '.join(HEADLINES + MORE + NAMED)}", param_hint="--only")
    configure_logging("bench", "WARNING")
    load = os.getloadavg()
    figures: dict[str, Any] = {}
    measures: dict[str, Callable[[], None]] = {
        "capture": lambda: figures.update(capture.measure(6_000 if quick else 20_000)),
        "race": lambda: figures.update(race.measure(1 if quick else 5)),
        "versus": lambda: figures.update(versus.measure(200 if quick else 1_000)),
        "life": lambda: life.measure(life.QUICK if quick else life.FULL, figures),
        "lines": lambda: lines.measure(lines.QUICK if quick else lines.FULL, figures),
        "layers": lambda: layers.measure(layers.QUICK if quick else layers.FULL, figures),
        "growth": lambda: growth.measure(growth.QUICK if quick else growth.FULL, to, figures),
        "start": lambda: start.measure(start.QUICK if quick else start.FULL, figures),
        "console": lambda: console.measure(console.QUICK if quick else console.FULL, figures),
        "partitions": lambda: partitions.measure(partitions.QUICK if quick else partitions.FULL, figures),
        "soak": lambda: soak.measure(soak.QUICK if quick else soak.FULL, minutes, figures),
    }
    try:
        for part in parts:
            measures[part]()
    except (BenchStopped, EmbeddedError) as error:
        say(str(error))
        raise typer.Exit(1) from None
    finally:
        if figures:
            print(table(figures))
    path = output or (None if quick or only else RESULT)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = result(figures, "quick" if quick else "full", parts, load)
        path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        for each in (path, *plots.draw(found, path.parent)):
            say(f"written: {each}")


typer.run(main)
