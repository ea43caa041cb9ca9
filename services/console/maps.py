"""A map of places and the ways between them, drawn from outlines that lie here. Pure but for reading those once.

The contiguous United States in Albers' equal-area conic projection, everything else in the equirectangular one, on
a sphere. Source: J. P. Snyder, "Map Projections: A Working Manual", USGS Professional Paper 1395 (1987), p. 100 and 91.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, hypot, radians, sin, sqrt
from pathlib import Path

import orjson

from ordermill.geo import Point

WIDTH, HEIGHT = 760, 470
_MARGIN = 14
_SOUTH, _NORTH = radians(29.5), radians(45.5)
"""Standard parallels that suit the contiguous states."""
_MIDDLE = Point(23.0, -96.0)
_N = (sin(_SOUTH) + sin(_NORTH)) / 2
_C = cos(_SOUTH) ** 2 + 2 * _N * sin(_SOUTH)
_LEAST_SPAN = 40.0
"""Degrees of longitude that a map of other parts of the earth shows at least."""

Flat = tuple[float, float]
Projection = Callable[[Point], Flat]


def albers(point: Point) -> Flat:
    """East and north of 23 N 96 W, in radii of the earth."""
    rho = sqrt(_C - 2 * _N * sin(radians(point.lat))) / _N
    rho_0 = sqrt(_C - 2 * _N * sin(radians(_MIDDLE.lat))) / _N
    theta = _N * radians(point.lon - _MIDDLE.lon)
    return rho * sin(theta), rho_0 - rho * cos(theta)


def equirectangular(point: Point) -> Flat:
    """East and north of 0 N 0 E, in radii of the earth along the equator."""
    return radians(point.lon), radians(point.lat)


def is_contiguous_us(point: Point) -> bool:
    """Whether a map of the contiguous states shows this place."""
    if not (24.0 <= point.lat <= 49.6 and -125.0 <= point.lon <= -66.5):
        return False
    x, y = place(albers(point), _states_frame())
    return 0 <= x <= WIDTH and 0 <= y <= HEIGHT


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the map, in its units."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Map:
    """`areas`: outlines, each an SVG path. `spots`: the places asked for, in their order."""

    width: int
    height: int
    areas: tuple[tuple[str, str], ...]
    spots: tuple[Spot, ...]


def draw_map(points: Sequence[Point]) -> Map:
    """A map that shows all of `points`."""
    if all(is_contiguous_us(point) for point in points):
        return Map(WIDTH, HEIGHT, _states(), tuple(_spot(place(albers(point), _states_frame())) for point in points))
    frame = _frame_around([equirectangular(point) for point in points])
    areas = _drawn(_outlines("countries"), equirectangular, frame)
    return Map(WIDTH, HEIGHT, areas, tuple(_spot(place(equirectangular(point), frame)) for point in points))


def way(start: Spot, end: Spot) -> str:
    """A slightly bent line as an SVG path, so that ways from neighbors do not lie on each other."""
    dx, dy = end.x - start.x, end.y - start.y
    bend = 0.12 if hypot(dx, dy) > 30 else 0.0
    middle_x, middle_y = (start.x + end.x) / 2 + dy * bend, (start.y + end.y) / 2 - abs(dx) * bend
    return f"M{start.x} {start.y}Q{middle_x:.1f} {middle_y:.1f} {end.x} {end.y}"


@dataclass(frozen=True, slots=True)
class Label:
    """A place's name beside it. `anchor` as SVG has it."""

    x: float
    y: float
    anchor: str
    text: str


_LINE, _LONG = 15.0, 130.0


def labels(named: Sequence[tuple[Spot, str]]) -> tuple[Label, ...]:
    """Each beside its spot, toward the map's middle, and below whatever lies there already."""
    found: list[Label] = []
    for spot, text in named:
        left = spot.x < WIDTH * 0.7
        x, y = round(spot.x + (11 if left else -11), 1), spot.y + 5
        while any(abs(y - other.y) < _LINE and abs(x - other.x) < _LONG for other in found):
            y += _LINE
        found.append(Label(x, round(min(y, HEIGHT - 4.0), 1), "start" if left else "end", text))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Frame:
    """What part of the projected plane the map shows: its west and north ends, and map units per radius."""

    west: float
    north: float
    scale: float


def place(flat: Flat, frame: Frame) -> Flat:
    return _MARGIN + (flat[0] - frame.west) * frame.scale, _MARGIN + (frame.north - flat[1]) * frame.scale


def _spot(at: Flat) -> Spot:
    return Spot(round(at[0], 1), round(at[1], 1))


def _fitting(flat: Sequence[Flat]) -> Frame:
    xs, ys = [x for x, _ in flat], [y for _, y in flat]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    scale = min((WIDTH - 2 * _MARGIN) / width, (HEIGHT - 2 * _MARGIN) / height)
    west = min(xs) - ((WIDTH - 2 * _MARGIN) / scale - width) / 2
    north = max(ys) + ((HEIGHT - 2 * _MARGIN) / scale - height) / 2
    return Frame(west, north, scale)


def _frame_around(flat: Sequence[Flat]) -> Frame:
    """All of them with room around, and never less than a good part of a continent."""
    xs, ys = [x for x, _ in flat], [y for _, y in flat]
    half_width = max((max(xs) - min(xs)) * 0.6, radians(_LEAST_SPAN) / 2)
    half_height = max((max(ys) - min(ys)) * 0.6, half_width * HEIGHT / WIDTH)
    x, y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return _fitting([(x - half_width, y - half_height), (x + half_width, y + half_height)])


Outlines = tuple[tuple[str, tuple[tuple[Point, ...], ...]], ...]


@cache
def _outlines(name: str) -> Outlines:
    read = orjson.loads((Path(__file__).parent / "outlines" / f"{name}.json").read_bytes())
    return tuple(
        (area, tuple(tuple(_points(ring, read["scale"])) for ring in rings)) for area, rings in read["areas"].items()
    )


def _points(ring: Sequence[int], scale: float) -> Iterable[Point]:
    x = y = 0
    for number in range(0, len(ring), 2):
        x, y = x + ring[number], y + ring[number + 1]
        yield Point(y * scale, x * scale)


@cache
def _states_frame() -> Frame:
    return _fitting([albers(point) for _, rings in _outlines("states") for ring in rings for point in ring])


@cache
def _states() -> tuple[tuple[str, str], ...]:
    return _drawn(_outlines("states"), albers, _states_frame())


def _drawn(outlines: Outlines, project: Projection, frame: Frame) -> tuple[tuple[str, str], ...]:
    """Each area's path; rings wholly outside the map are left out."""
    drawn = []
    for area, rings in outlines:
        parts = []
        for ring in rings:
            flat = [place(project(point), frame) for point in ring]
            if _is_seen(flat):
                first, *rest = [f"{x:.1f} {y:.1f}" for x, y in flat]
                parts.append(f"M{first}L{' '.join(rest)}Z")
        if parts:
            drawn.append((area, "".join(parts)))
    return tuple(drawn)


def _is_seen(flat: Sequence[Flat]) -> bool:
    xs, ys = [x for x, _ in flat], [y for _, y in flat]
    return min(xs) < WIDTH and max(xs) > 0 and min(ys) < HEIGHT and max(ys) > 0
