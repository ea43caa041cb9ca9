"""Makes `geo_table.bin`, the postal codes that `geo` knows. Run `python -m ordermill.geo_table` when sources change.

`zipcodes` keeps 40 MB once asked, whatever the question, so services read this table instead (0.6 MB). Sources: the
`zipcodes` package (MIT) for United States postal codes, `zone.tab` of tzdata (public domain) for countries.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import orjson

TABLE = Path(__file__).with_name("geo_table.bin")

MILITARY_GATEWAYS = {
    "AA": (25.7959, -80.2870, "America/New_York"),
    "AE": (40.6413, -73.7781, "America/New_York"),
    "AP": (37.6213, -122.3790, "America/Los_Angeles"),
}
"""Where carriers hand parcels for forces abroad to the military: Miami, New York, San Francisco."""

MAIN_ZONES = {
    "AR": "America/Argentina/Buenos_Aires", "AU": "Australia/Sydney", "BR": "America/Sao_Paulo",
    "CA": "America/Toronto", "CD": "Africa/Kinshasa", "CL": "America/Santiago", "CN": "Asia/Shanghai",
    "EC": "America/Guayaquil", "ES": "Europe/Madrid", "ID": "Asia/Jakarta", "KZ": "Asia/Almaty",
    "MX": "America/Mexico_City", "MY": "Asia/Kuala_Lumpur", "NZ": "Pacific/Auckland", "PT": "Europe/Lisbon",
    "RU": "Europe/Moscow", "UA": "Europe/Kyiv", "US": "America/Chicago", "UZ": "Asia/Tashkent",
}  # fmt: skip
"""Which of a country's time zones holds most of its people, where `zone.tab` does not list it first."""


def _degrees(text: str) -> float:
    """ISO 6709, `±DDMM[SS]` or `±DDDMM[SS]`."""
    sign, digits = text[0], text[1:]
    whole = 2 if len(digits) in (4, 6) else 3
    degrees = int(digits[:whole]) + int(digits[whole : whole + 2]) / 60 + int(digits[whole + 2 :] or 0) / 3600
    return round(-degrees if sign == "-" else degrees, 4)


def countries() -> dict[str, tuple[float, float, str]]:
    """Each country's largest time zone's city, by ISO 3166-1 code: latitude, longitude, zone."""
    found: dict[str, tuple[float, float, str]] = {}
    for row in (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text("utf-8").splitlines():
        if row.startswith("#"):
            continue
        country, where, zone, *_ = row.split("\t")
        if country not in found or MAIN_ZONES.get(country) == zone:
            split = max(where.rfind("+"), where.rfind("-"))
            found[country] = (_degrees(where[:split]), _degrees(where[split:]), zone)
    return found


def postal_codes() -> Iterator[tuple[int, float, float, str, str]]:
    """United States postal codes in ascending order: code, latitude, longitude, time zone, state."""
    import zipcodes

    for entry in sorted(zipcodes.list_all(), key=lambda entry: str(entry["zip_code"])):
        lat, lon, zone, state = float(entry["lat"]), float(entry["long"]), entry["timezone"], entry["state"]
        if (lat, lon) == (0, 0):
            if state not in MILITARY_GATEWAYS:
                continue
            lat, lon, zone = MILITARY_GATEWAYS[state]
        if "/" not in zone:
            zone = MILITARY_GATEWAYS[state][2] if state in MILITARY_GATEWAYS else "America/Anchorage"
        yield int(entry["zip_code"]), lat, lon, zone, state


def make() -> bytes:
    """The table: one line of JSON, then five columns (little endian), all compressed."""
    rows = list(postal_codes())
    zones = sorted({row[3] for row in rows})
    states = sorted({row[4] for row in rows})
    columns = (
        array("I", (row[0] for row in rows)),
        array("i", (round(row[1] * 10_000) for row in rows)),
        array("i", (round(row[2] * 10_000) for row in rows)),
        array("B", (zones.index(row[3]) for row in rows)),
        array("B", (states.index(row[4]) for row in rows)),
    )
    if sys.byteorder == "big":
        for column in columns:
            column.byteswap()
    head = orjson.dumps({"rows": len(rows), "zones": zones, "states": states, "countries": countries()})
    return zlib.compress(head + b"\n" + b"".join(column.tobytes() for column in columns), 9)


if __name__ == "__main__":
    print(TABLE, TABLE.write_bytes(make()), "bytes")
