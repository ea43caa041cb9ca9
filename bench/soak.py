"""Memory of each process over a long time at half of full speed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import fmean
from time import perf_counter
from typing import Any

from ordermill.names import SERVICES

from .driver import Driver
from .life import RETURNS_PERCENT, Size
from .stand import BenchStopped, Place, say, stand
from .usage import available_mb, machine_s, memory_mb
from .window import SHORT, SHORTEST, measure_window

FULL, QUICK = SHORT, SHORTEST
MINUTES = 60
TWELVE = 12
_EVERY_S = 5.0
_TOLD_EVERY = 60
_SPARE_MB = 2_000
"""With less to spare it ends: the embedded broker keeps all topics in memory."""
Sample = tuple[float, dict[str, float]]
"""Seconds since the beginning, and megabytes by process."""


def thirds(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The first and the last. Raises BenchStopped for fewer than three samples."""
    if len(samples) < 3:
        raise BenchStopped(f"soak: {len(samples)} samples make no thirds: more minutes, please")
    count = len(samples) // 3
    return samples[:count], samples[-count:]


def means(samples: Sequence[Sample]) -> dict[str, float]:
    """Megabytes by process."""
    return {process: fmean(used[process] for _, used in samples) for process in samples[0][1]}


def mb_an_hour(samples: Sequence[Sample]) -> dict[str, float]:
    """By process, from the mean of the first third to that of the last, over the time between their middles."""
    first, last = thirds(samples)
    hours = (fmean(at for at, _ in last) - fmean(at for at, _ in first)) / 3600
    before, after = means(first), means(last)
    return {process: (after[process] - before[process]) / hours for process in before}


def over_time(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Megabytes by process and by minute: the mean of each twelfth of the time, named by its middle."""
    size = max(1, len(samples) // TWELVE)
    parts = [samples[first : first + size] for first in range(0, len(samples) - size + 1, size)]
    named = [(f"{fmean(at for at, _ in part) / 60:.1f} min", means(part)) for part in parts]
    return {process: {name: used[process] for name, used in named} for process in samples[0][1]}


def measure(size: Size, minutes: float, figures: dict[str, Any]) -> None:
    """Adds the figures `soak`, of fewer minutes where memory runs out."""
    with stand() as at:
        at.start(*SERVICES)
        found = measure_window(at, size, settle=True)
        per_s = found.figures["orders_per_s"] / 2
        seconds = 60 * minutes
        soaked = at.measure(
            "soak", lambda place: _soak(place, size, per_s, seconds, found.next_order), 60 + 1.1 * seconds
        )
    samples = [(each[0], each[1]) for each in soaked.pop("samples")]
    first, last = thirds(samples)
    figures |= {f"soak.{name}": each for name, each in soaked.items()}
    figures["soak.orders_per_s_sent"] = per_s
    figures["soak.memory_mb_first_third"] = means(first)
    figures["soak.memory_mb_last_third"] = means(last)
    figures["soak.memory_mb_an_hour"] = mb_an_hour(samples)
    figures["soak.memory_mb_over_time"] = over_time(samples)


async def _soak(place: Place, size: Size, per_s: float, seconds: float, first: int) -> dict[str, Any]:
    """`undelivered`: orders on their way when it was over. Memory is counted with shared pages counted once."""
    samples: list[Sample] = []
    stop = asyncio.Event()
    async with Driver(place, size.skus, RETURNS_PERCENT, first=first) as driver:
        await driver.until_ready(SERVICES)
        began, machine = perf_counter(), machine_s()
        feeding = asyncio.create_task(driver.send_on_schedule(per_s, stop))
        while (at := perf_counter() - began) < seconds and available_mb() > _SPARE_MB:
            samples.append((at, {name: used["pss"] for name, used in memory_mb(place.pids).items()}))
            if len(samples) % _TOLD_EVERY == 0:
                say(f"soak: {at / 60:.0f} of {seconds / 60:.0f} minutes, {driver.delivered:,} orders delivered")
            await asyncio.sleep(_EVERY_S)
            driver.check()
            if feeding.done():
                feeding.result()
        stop.set()
        await feeding
        if at < seconds:
            say(f"soak: over after {at / 60:.0f} minutes, for memory runs out")
        return {
            "samples": samples,
            "minutes": at / 60,
            "orders_per_s": driver.delivered / at,
            "undelivered": len(driver.undelivered),
            "cores_busy_by_anyone": (machine_s() - machine) / (perf_counter() - began),
        }
