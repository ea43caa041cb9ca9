"""`python -m bench`: measure, print the table, keep the result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ordermill.embedded import EmbeddedError
from ordermill.service.logs import configure_logging

from . import capture, console, life, lines, plots, race, versus
from .report import result, table
from .stand import BenchStopped, say

RESULT = Path(__file__).parent / "results" / "latest.json"
PARTS = ("capture", "race", "versus", "life", "lines", "console")


def main(
    quick: Annotated[bool, typer.Option(help="The headline figures in about three minutes, less steady.")] = False,
    only: Annotated[str | None, typer.Option(help=f"One of: {', '.join(PARTS)}.")] = None,
    output: Annotated[Path | None, typer.Option(help=f"Where the result goes; {RESULT} for a full run.")] = None,
) -> None:
    """Measure Ordermill on this machine: everything in a temporary folder, nothing is left running."""
    if only is not None and only not in PARTS:
        raise typer.BadParameter(f"{only!r}: one of {', '.join(PARTS)}", param_hint="--only")
    configure_logging("bench", "WARNING")
    load = os.getloadavg()
    figures: dict[str, Any] = {}
    try:
        if only in (None, "capture"):
            figures |= capture.measure(6_000 if quick else 20_000)
        if only in (None, "race"):
            figures |= race.measure(1 if quick else 5)
        if only in (None, "versus"):
            figures |= versus.measure(200 if quick else 1_000)
        if only in (None, "life"):
            life.measure(life.QUICK if quick else life.FULL, figures)
        if only in (None, "lines"):
            lines.measure(lines.QUICK if quick else lines.FULL, figures)
        if only in (None, "console"):
            console.measure(console.QUICK if quick else console.FULL, figures)
    except (BenchStopped, EmbeddedError) as error:
        say(str(error))
        raise typer.Exit(1) from None
    finally:
        if figures:
            print(table(figures))
    path = output or (None if quick or only else RESULT)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = result(figures, "quick" if quick else "full", load)
        path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        for each in (path, *plots.draw(found, path.parent)):
            say(f"written: {each}")


typer.run(main)
