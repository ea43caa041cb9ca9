"""Where things are on the earth, how far apart, and in which shipping zone one lies from the other.

The table of postal codes is read at the first question: 5 ms, 1.5 MB of resident memory (measured, Python 3.11).
"""

from __future__ import annotations

import sys
import zlib
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from math import asin, cos, radians, sin, sqrt
from typing import Literal, NamedTuple

import orjson

from ordermill.contracts.routing import Place

EARTH_RADIUS_KM = 6371.0088
KM_PER_MILE = 1.609344

ZONE_BOUNDS_MILES = (50, 150, 300, 600, 1000, 1400, 1800)
"""Farthest miles of zones 1 to 7; zone 8 is all beyond. As the United States Postal Service has them."""

_ZONE_BOUNDS_KM = tuple(miles * KM_PER_MILE for miles in ZONE_BOUNDS_MILES)

DISTANCE_ZONES = len(ZONE_BOUNDS_MILES) + 1
ABROAD = DISTANCE_ZONES + 1
"""The zone of every place in another country."""

UNITED_STATES_POST = frozenset({"US", "PR", "VI", "GU", "AS", "MP"})
"""Countries of ISO 3166-1 that the United States' postal codes and domestic rates reach."""


class Point(NamedTuple):
    """WGS 84, degrees; north and east are positive."""

    lat: float
    lon: float


def great_circle_km(origin: Point, place: Point) -> float:
    """Distance over the earth's surface, in kilometers.

    The earth is taken as a sphere of 6371.0088 km: up to 0.6 % off, less than roads stray from straight lines.
    Source: R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984), p. 159.
    """
    lat, other = radians(origin.lat), radians(place.lat)
    half = sin((other - lat) / 2) ** 2 + cos(lat) * cos(other) * sin(radians(place.lon - origin.lon) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, half)))


def zone_of(km: float) -> int:
    """The shipping zone, 1 to 8, of a place `km` away. A bound belongs to the nearer zone."""
    return bisect_left(_ZONE_BOUNDS_KM, km) + 1


def postal_area(country: str) -> str:
    """The country whose post serves `country` at domestic rates."""
    return "US" if country in UNITED_STATES_POST else country


@dataclass(frozen=True, slots=True)
class _Table:
    codes: array[int]
    lat: array[int]
    lon: array[int]
    zone: array[int]
    state: array[int]
    zones: Sequence[str]
    states: Sequence[str]
    countries: dict[str, tuple[float, float, str]]

    def one(self, code: int) -> tuple[Point, str] | None:
        row = bisect_left(self.codes, code)
        if row == len(self.codes) or self.codes[row] != code:
            return None
        return Point(self.lat[row] / 10_000, self.lon[row] / 10_000), self.zones[self.zone[row]]

    def middle(self, rows: Sequence[int]) -> tuple[Point, str] | None:
        """The mean of these rows and the time zone that most of them have.

        Longitudes are reckoned from the first row's, the shorter way round: some states lie across 180 degrees.
        """
        if not rows:
            return None
        lat = sum(self.lat[row] for row in rows) / len(rows) / 10_000
        first = self.lon[rows[0]]
        east = sum(_around(self.lon[row] - first) for row in rows) / len(rows)
        lon = _around(first + east) / 10_000
        common = Counter(self.zone[row] for row in rows).most_common()
        zone = min(zone for zone, count in common if count == common[0][1])
        return Point(round(lat, 4), round(lon, 4)), self.zones[zone]


def _around(lon: float) -> float:
    """The same longitude, from -180 up to 180 degrees, in ten-thousandths."""
    return (lon + 1_800_000) % 3_600_000 - 1_800_000


@cache
def _table() -> _Table:
    packed = (resources.files("ordermill") / "geo_table.bin").read_bytes()
    head, _, body = zlib.decompress(packed).partition(b"\n")
    about = orjson.loads(head)
    columns: list[array[int]] = []
    start = 0
    for kind in ("I", "i", "i", "B", "B"):
        column: array[int] = array(kind)
        stop = start + about["rows"] * column.itemsize
        column.frombytes(body[start:stop])
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
        start = stop
    places = {country: (lat, lon, zone) for country, (lat, lon, zone) in about["countries"].items()}
    codes, lat, lon, zone, state = columns
    return _Table(codes, lat, lon, zone, state, about["zones"], about["states"], places)


@lru_cache(maxsize=1_000)
def _prefix(prefix: str) -> tuple[Point, str] | None:
    codes = _table().codes
    first = int(prefix) * 100
    return _table().middle(range(bisect_left(codes, first), bisect_left(codes, first + 100)))


@lru_cache(maxsize=100)
def _region(region: str) -> tuple[Point, str] | None:
    table = _table()
    if region not in table.states:
        return None
    number = table.states.index(region)
    return table.middle([row for row, state in enumerate(table.state) if state == number])


def _digits(postal_code: str) -> str:
    """The five digits of `10001`, `10001-1234` or `100011234`, or `501` that a spreadsheet took the zeros from."""
    digits = postal_code.partition("-")[0].replace(" ", "")
    if not (digits.isascii() and digits.isdigit()):
        return ""
    return digits[:5] if len(digits) == 9 else digits.zfill(5) if 3 <= len(digits) <= 5 else ""


FoundBy = Literal["postal-code", "prefix", "region", "country"]


def locate(country: str, region: str, postal_code: str) -> Place | None:
    """Where an address lies, by the closest of: postal code, its first three digits, region, country.

    Postal codes and regions are known for the United States only; a country stands for the city of its largest time
    zone. None for a country that ISO 3166-1 does not know. `found_by` says which it was.
    """
    if country in UNITED_STATES_POST:
        digits = _digits(postal_code)
        state = region.strip().upper().removeprefix("US-") if country == "US" else country
        if digits and (found := _table().one(int(digits))):
            return _place(*found, "postal-code")
        if digits and (found := _prefix(digits[:3])):
            return _place(*found, "prefix")
        if found := _region(state):
            return _place(*found, "region")
    known = _table().countries.get(country)
    return _place(Point(known[0], known[1]), known[2], "country") if known else None


def _place(point: Point, zone: str, found_by: FoundBy) -> Place:
    return Place(lat=point.lat, lon=point.lon, zone=zone, found_by=found_by)
