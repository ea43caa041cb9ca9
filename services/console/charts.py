"""Step lines over time, as the numbers an SVG is made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from math import ceil, floor, log10

WIDTH, HEIGHT = 760, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 28
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Chart:
    """Coordinates in a box of `width` by `height`. `paths` has one step line a series."""

    width: int
    height: int
    paths: tuple[str, ...]
    across: tuple[tuple[float, str], ...]
    """(x, label) along the time axis."""
    up: tuple[tuple[float, str], ...]
    """(y, label) along the axis of units."""
    left: float
    right: float
    bottom: float


def thinned(points: Sequence[tuple[datetime, tuple[int, ...]]]) -> list[tuple[datetime, tuple[int, ...]]]:
    """At most about a few hundred points: of each stretch the last, and those where a series was lowest or highest."""
    size = ceil(len(points) / (_MOST_POINTS // 4))
    if size <= 4:
        return list(points)
    kept: set[int] = {0}
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        kept.add(stretch[-1])
        for series in range(len(points[0][1])):
            kept.add(min(stretch, key=lambda at, series=series: points[at][1][series]))  # type: ignore[misc]
            kept.add(max(stretch, key=lambda at, series=series: points[at][1][series]))  # type: ignore[misc]
    return [points[at] for at in sorted(kept)]


def step_chart(
    points: Sequence[tuple[datetime, tuple[int, ...]]], since: datetime, until: datetime, zone: tzinfo
) -> Chart:
    """`points`: at least one, in order of time; a value holds until the next. Both axes are labeled, units from 0."""
    values = [value for _, series in points for value in series]
    low, high, step = _scale(min(0, *values), max(1, *values))
    span = max((until - since).total_seconds(), 1.0)
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def x(at: datetime) -> float:
        share = min(max((at - since).total_seconds() / span, 0.0), 1.0)
        return round(_LEFT + share * (right - _LEFT), 1)

    def y(value: int) -> float:
        return round(bottom - (value - low) / (high - low) * (bottom - _TOP), 1)

    shown = thinned(points)
    paths = []
    for number in range(len(points[0][1])):
        first_at, first = shown[0]
        parts = [f"M{x(first_at)} {y(first[number])}"]
        for at, series in shown[1:]:
            parts.append(f"H{x(at)}V{y(series[number])}")
        paths.append("".join(parts) + f"H{x(until)}")
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        paths=tuple(paths),
        across=tuple((x(at), label) for at, label in _times(since, until, zone)),
        up=tuple((y(value), f"{value:,}") for value in range(low, high + 1, step)),
        left=_LEFT,
        right=right,
        bottom=bottom,
    )


def _scale(low: int, high: int) -> tuple[int, int, int]:
    """Round ends and steps for an axis of whole units."""
    rough = max((high - low) / 4, 1)
    power = 10 ** floor(log10(rough))
    step = next(int(power * times) for times in (1, 2, 5, 10) if power * times >= rough)
    return floor(low / step) * step, ceil(high / step) * step, step


def _times(since: datetime, until: datetime, zone: tzinfo) -> list[tuple[datetime, str]]:
    span = until - since
    found = []
    for number in range(5):
        at = since + span * number / 4
        local = at.astimezone(zone)
        if span < timedelta(hours=1):
            label = f"{local:%H:%M:%S}"
        elif span <= timedelta(days=2):
            label = f"{local:%H:%M}"
        else:
            label = f"{local:%b} {local.day}"
        found.append((at, label))
    return found
