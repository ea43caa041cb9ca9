"""Whole lives of orders of one, five and twenty lines."""

from __future__ import annotations

from typing import Any

from ordermill.names import SERVICES

from .life import Size
from .stand import stand
from .window import SHORT, SHORTEST, measure_window

FULL, QUICK = SHORT, SHORTEST
COUNTS = (1, 5, 20)


def measure(size: Size, figures: dict[str, Any]) -> None:
    """Adds the figures `lines`, a window on an installation of its own for each number of lines."""
    for lines in COUNTS:
        with stand() as at:
            at.start(*SERVICES)
            found = measure_window(at, size, lines)
        figures[f"lines.{lines:02}"] = found.figures
        figures[f"lines.{lines:02}_cpu_ms_by_process"] = found.cpu_ms
