"""What six services recorded in a few runs of the simulation, kept for good: later code must still read and show it.

`python -m tests.contract.history SEED…` records it anew.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from ordermill.simulation import run
from ordermill.simulation.place import Place

FILE = Path(__file__).with_name("history.jsonl.gz")


class Recorded(NamedTuple):
    """One event."""

    service: str
    stream: str
    type: str
    data: str


def recorded() -> list[Recorded]:
    """In the order of each log; runs share no stream."""
    return [Recorded(*orjson.loads(line)) for line in gzip.decompress(FILE.read_bytes()).splitlines()]


def _record(seeds: Sequence[int]) -> Iterator[Recorded]:
    seen: set[tuple[str, str]] = set()
    places: list[Place] = []

    class Kept(Place):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            places.append(self)

    for seed in seeds:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "Place", Kept)
            run.simulate(seed)
        own: set[tuple[str, str]] = set()
        for service, log in places.pop().logs.items():
            for row in log._committed:
                own.add((service, row.stream))
                if (service, row.stream) not in seen:
                    yield Recorded(service, row.stream, row.type, row.data.decode())
        seen |= own


if __name__ == "__main__":
    lines = [orjson.dumps(list(event)) for event in _record([int(seed) for seed in sys.argv[1:]])]
    FILE.write_bytes(gzip.compress(b"\n".join(lines), 9, mtime=0))
