"""Whole lives on logs that hold little, and on logs that hold millions of events."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from math import ceil
from time import perf_counter
from typing import Any

from ordermill.eventlog.aggregates import Aggregates
from ordermill.installation import declared
from ordermill.names import SERVICES

from .filling import check_log, fill, sizes
from .life import Size
from .stand import BenchStopped, Place, Stand, say, stand
from .window import SHORT, SHORTEST, Window, measure_window

FULL, QUICK = SHORT, SHORTEST
MILLION = 1_000_000
MOST_BYTES = 25 * 10**9
"""On disk, of all databases together, the write-ahead log and copied lives on top."""
_SPARE_BYTES = 5 * 10**9
_EVENTS_PER_S = 5_000
"""Copies come faster than this."""


def steps(to: int) -> list[int]:
    """The sizes at which there is a window, after the one on new logs."""
    return sorted({min(to, MILLION), to})


def copies_to(events: int, present: int, of_one: int) -> int:
    """How many copies of lives of `of_one` events make at least `events` of those that are `present`."""
    return max(0, ceil((events - present) / of_one))


def measure(size: Size, to: int, figures: dict[str, Any]) -> None:
    """Adds the figures `growth`, up to logs of `to` events in all."""
    with stand() as at:
        at.start(*SERVICES)
        found = measure_window(at, size, settle=True)
        at.stop(*SERVICES)
        lives = present = at.measure("sizes", sizes, 30)
        _add(figures, 0, lives, found)
        copied = 0
        for events in steps(to):
            more = copies_to(events, present["events"], lives["events"])
            _check_disk(events * present["bytes"] / present["events"])
            _fill(at, copied, more, events)
            copied += more
            present = at.measure("sizes", sizes, 30)
            at.start(*SERVICES)
            found = measure_window(at, size, first=found.next_order, settle=True)
            at.stop(*SERVICES)
            _add(figures, events, present, found)


def _fill(at: Stand, copied: int, more: int, events: int) -> None:
    say(f"growth: to {events:,} events, by {more} copies of the lives that are there")
    began, limit_s = perf_counter(), 60 + events / _EVENTS_PER_S
    at.measure("fill", lambda place: fill(place, copied, more), limit_s)
    checked = at.measure("check", lambda place: _check(place, copied + more), 60)
    say(f"growth: filled in {perf_counter() - began:.0f} s; {checked} copied streams fold to their documents")


async def _check(place: Place, copy: int) -> int:
    found = []
    for name in SERVICES:
        service = declared(name)
        found.append(check_log(place.database(name), Aggregates(service.deciders), service.views, copy))
    return sum(await asyncio.gather(*found))


def _check_disk(expected: float) -> None:
    """Raises BenchStopped where so many bytes are more than there should be."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if expected > min(MOST_BYTES, free - _SPARE_BYTES):
        raise BenchStopped(f"growth: the logs would take {expected / 1e9:.0f} GB of {free / 1e9:.0f} that are free")


def _add(figures: dict[str, Any], events: int, present: dict[str, int], found: Window) -> None:
    """`present` is what the logs held when the window began; new logs: when it was over."""
    name = f"growth.at_{events}"
    figures[name] = {"events": present["events"], "database_mb": present["bytes"] / 1e6} | found.figures
    figures[f"{name}_cpu_ms_by_process"] = found.cpu_ms
    figures[f"{name}_memory_mb"] = found.memory_mb
