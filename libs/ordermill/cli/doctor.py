"""What is wrong with this installation, and what to do about it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from ordermill.doctor import Finding, examine

from .place import adopt
from .terminal import DONE, WRONG, JsonOption, cell, print_json

app = typer.Typer()


@app.command()
def doctor(
    show_all: Annotated[bool, typer.Option("--all", help="Also settings that are as they are by default.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at everything this installation needs: settings, databases, Kafka, services, lag, dead letters, disk, clock.

    With --json one line for each thing. Exit status: 0 nothing is bad, 1 something is, 3 there is no installation.
    """
    adopt()
    bad = 0

    async def work() -> None:
        nonlocal bad
        async for finding in examine(show_all):
            bad += finding.verdict == "bad"
            if as_json:
                print_json(asdict(finding))
            else:
                _print(finding)

    asyncio.run(work())
    raise typer.Exit(WRONG if bad else DONE)


def _print(finding: Finding) -> None:
    word = finding.verdict.ljust(4)
    if sys.stdout.isatty():
        color = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "bad": typer.colors.RED}[finding.verdict]
        word = typer.style(word, fg=color)
    remedy = f"  -> {cell(finding.remedy)}" if finding.remedy else ""
    typer.echo(f"{word}  {finding.what:<24}  {cell(finding.text)}{remedy}")
