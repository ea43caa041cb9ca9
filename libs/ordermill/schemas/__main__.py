"""`python -m ordermill.schemas`: write `schemas/`, unless that would break somebody."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from .breaks import Broken, breaks
from .files import FOLDER, OldVersionLost, generate, read, write
from .history import NoHistory, committed_states

Json = dict[str, Any]
ACCEPTED = "accepted-breaks.toml"


def main(
    folder: Annotated[Path, typer.Option(help="Where the schemas stand.")] = FOLDER,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if anything is stale.")] = False,
) -> None:
    """Make the published contracts from the models, hold them against all that was committed, and write them.

    Exit status: 0 done, 1 a change would break a consumer or, with --check, a file is stale; 2 can't tell.
    """
    try:
        made = generate(folder)
        broken = new_breaks(folder, made)
    except (NoHistory, OldVersionLost) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    for each in broken:
        print(each, file=sys.stderr)
    if broken:
        print(f"{len(broken)} breaking, nothing written. Deliberate? {folder / ACCEPTED} tells how.", file=sys.stderr)
        raise typer.Exit(1)
    if check:
        there = read(folder)
        stale = sorted(path for path in made.keys() | there.keys() if made.get(path) != there.get(path))
        for path in stale:
            print(f"{folder / path} is stale: run make schemas and commit", file=sys.stderr)
        raise typer.Exit(1 if stale else 0)
    changed = write(folder, made)
    for path in changed:
        print(folder / path)
    print(f"{len(made)} documents, {len(changed)} changed", file=sys.stderr)


def new_breaks(folder: Path, made: dict[str, Json]) -> list[Broken]:
    """What `made` breaks of what stands in `folder` or was ever committed there, less what was accepted.

    An accepted break that is none any more is reported too. Raises NoHistory.
    """
    before = {(path, ""): content for path, content in read(folder).items()} | committed_states(folder)
    found = dict.fromkeys(each for (path, _), old in before.items() for each in breaks(path, old, made.get(path)))
    accepted = _accepted(folder)
    unused = [
        Broken(file, path, rule, "accepted, but nothing of the kind is broken")
        for file, path, rule in accepted
        if not any((each.file, each.path, each.rule) == (file, path, rule) for each in found)
    ]
    return [each for each in found if (each.file, each.path, each.rule) not in accepted] + unused


def _accepted(folder: Path) -> set[tuple[str, str, str]]:
    path = folder / ACCEPTED
    if not path.exists():
        return set()
    listed = tomllib.loads(path.read_text()).get("accepted", [])
    return {(each["file"], each["path"], each["rule"]) for each in listed if each["because"]}


if __name__ == "__main__":
    typer.run(main)
