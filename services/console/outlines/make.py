"""Make `states.json` and `countries.json` from the TopoJSON of two npm packages: see README.md beside this.

python make.py states-10m.json countries-110m.json
"""

from __future__ import annotations

import itertools
import json
import sys
from math import hypot
from pathlib import Path
from typing import Any

NOT_CONTIGUOUS = {"02", "15", "60", "66", "69", "72", "78"}
"""FIPS codes of Alaska, Hawaii and the territories."""

Point = tuple[float, float]


def arcs_of(topology: dict[str, Any]) -> list[list[Point]]:
    """Longitude and latitude in degrees, from the deltas that TopoJSON keeps."""
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]
    found = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((x * sx + tx, y * sy + ty))
        found.append(points)
    return found


def simplified(points: list[Point], tolerance: float) -> list[Point]:
    """Douglas and Peucker's: the ends and whatever is farther off their line than `tolerance` degrees."""
    first, last = points[0], points[-1]
    farthest, index = 0.0, 0
    for number, point in enumerate(points[1:-1], 1):
        away = distance(point, first, last)
        if away > farthest:
            farthest, index = away, number
    if farthest <= tolerance:
        return [first, last]
    return simplified(points[: index + 1], tolerance)[:-1] + simplified(points[index:], tolerance)


def distance(point: Point, first: Point, last: Point) -> float:
    dx, dy = last[0] - first[0], last[1] - first[1]
    length = hypot(dx, dy)
    if not length:
        return hypot(point[0] - first[0], point[1] - first[1])
    return abs(dx * (point[1] - first[1]) - dy * (point[0] - first[0])) / length


def rings_of(geometry: dict[str, Any], arcs: list[list[Point]]) -> list[list[Point]]:
    polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
    rings = []
    for polygon in polygons:
        for ring in polygon:
            points: list[Point] = []
            for number in ring:
                arc = arcs[number] if number >= 0 else arcs[~number][::-1]
                points += arc if not points else arc[1:]
            rings.append(points)
    return rings


def packed(ring: list[Point], scale: float) -> list[int]:
    """The first point, then steps, in units of `scale` degrees."""
    grid = [(round(x / scale), round(y / scale)) for x, y in ring]
    kept = [point for number, point in enumerate(grid) if not number or point != grid[number - 1]]
    flat = list(kept[0])
    for (x, y), (nx, ny) in itertools.pairwise(kept):
        flat += [nx - x, ny - y]
    return flat


def outlines(topology: dict[str, Any], name: str, tolerance: float, scale: float) -> dict[str, Any]:
    arcs = [simplified(arc, tolerance) for arc in arcs_of(topology)]
    areas = {}
    for geometry in topology["objects"][name]["geometries"]:
        if not geometry.get("arcs") or (name == "states" and geometry["id"] in NOT_CONTIGUOUS):
            continue
        rings = [packed(ring, scale) for ring in rings_of(geometry, arcs)]
        areas[geometry["properties"]["name"]] = [ring for ring in rings if len(ring) >= 8]
    return {"scale": scale, "areas": {area: rings for area, rings in sorted(areas.items()) if rings}}


if __name__ == "__main__":
    here = Path(__file__).parent
    for source, name, tolerance, scale in ((sys.argv[1], "states", 0.03, 0.01), (sys.argv[2], "countries", 0.15, 0.1)):
        made = outlines(json.loads(Path(source).read_text()), name, tolerance, scale)
        (here / f"{name}.json").write_text(json.dumps(made, separators=(",", ":"), ensure_ascii=False) + "\n")
