"""Whole lives on topics of one, two and four partitions, and with one, two and four instances of inventory."""

from __future__ import annotations

from typing import Any

from ordermill.names import SERVICES

from .life import Size
from .stand import say, stand
from .window import SHORT, SHORTEST, measure_window

FULL, QUICK = SHORT, SHORTEST
SETUPS = ((1, 1), (2, 1), (4, 1), (4, 2), (4, 4))
"""Partitions, and instances of inventory: more of those than of partitions would have nothing to do."""


def measure(size: Size, figures: dict[str, Any]) -> None:
    """Adds the figures `partitions`, a window on an installation of its own for each setup."""
    for partitions, instances in SETUPS:
        say(f"partitions: {partitions}, instances of inventory: {instances}")
        more = tuple(f"inventory-{number}" for number in range(2, instances + 1))
        with stand({"OMS_PARTITIONS": str(partitions)}, more) as at:
            at.start(*SERVICES, *more)
            found = measure_window(at, size)
        name = f"partitions.{partitions}_inventory_{instances}"
        figures[name] = found.figures
        figures[f"{name}_cpu_ms_by_process"] = found.cpu_ms
