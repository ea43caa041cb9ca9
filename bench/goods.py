"""What is sent: orders and the goods for them. The same number is the same order, but for the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

import orjson

from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.channel import OrderPlaced
from ordermill.contracts.location import StockArrived
from ordermill.ids import order_id_of
from ordermill.network import default_network_text, read_network

CHANNEL = "bench"
CUSTOMERS = 5_000
LINES = 5
_PLACES = (
    ("10001", "New York", "NY"), ("02108", "Boston", "MA"), ("19103", "Philadelphia", "PA"),
    ("20001", "Washington", "DC"), ("21201", "Baltimore", "MD"), ("15222", "Pittsburgh", "PA"),
    ("27601", "Raleigh", "NC"), ("30303", "Atlanta", "GA"), ("32801", "Orlando", "FL"), ("33130", "Miami", "FL"),
    ("37203", "Nashville", "TN"), ("40202", "Louisville", "KY"), ("43215", "Columbus", "OH"),
    ("44114", "Cleveland", "OH"), ("46204", "Indianapolis", "IN"), ("48226", "Detroit", "MI"),
    ("53202", "Milwaukee", "WI"), ("55401", "Minneapolis", "MN"), ("60602", "Chicago", "IL"),
    ("63101", "St. Louis", "MO"), ("64106", "Kansas City", "MO"), ("68102", "Omaha", "NE"),
    ("70112", "New Orleans", "LA"), ("73102", "Oklahoma City", "OK"), ("75201", "Dallas", "TX"),
    ("77002", "Houston", "TX"), ("78701", "Austin", "TX"), ("80202", "Denver", "CO"),
    ("84101", "Salt Lake City", "UT"), ("85004", "Phoenix", "AZ"), ("87102", "Albuquerque", "NM"),
    ("89101", "Las Vegas", "NV"), ("90012", "Los Angeles", "CA"), ("92101", "San Diego", "CA"),
    ("94103", "San Francisco", "CA"), ("95814", "Sacramento", "CA"), ("97204", "Portland", "OR"),
    ("98101", "Seattle", "WA"), ("83702", "Boise", "ID"), ("59101", "Billings", "MT"),
)  # fmt: skip
Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Order:
    """An order and the record that announces it."""

    order_id: str
    units: int
    key: bytes
    value: bytes
    headers: Headers


def order(number: int, skus: int, count: int = LINES) -> Order:
    """`count` lines of `skus` SKUs, a few of them in much demand (the first tenth gets about a third of it)."""
    chance = Random(number)  # noqa: S311
    place = chance.choice(_PLACES)
    customer = chance.randrange(CUSTOMERS)
    chosen = {int(skus * chance.random() ** 2) for _ in range(count * 3)}
    lines = []
    for index, sku in enumerate(chance.sample(sorted(chosen), count), 1):
        quantity, price = chance.choice((1, 1, 1, 2, 3)), 299 + sku * 7 % 4000
        lines.append(_line(index, sku_name(sku), f"Article {sku}, the usual size", quantity, price))
        lines[-1]["weight_g"] = 150 + sku * 37 % 1500
    return _placed(number, place, customer, lines)


def order_of_one(number: int, sku: str) -> Order:
    """One unit of `sku`."""
    return _placed(
        number, _PLACES[number % len(_PLACES)], number % CUSTOMERS, [_line(1, sku, "The last ones", 1, 1999)]
    )


def _line(index: int, sku: str, title: str, quantity: int, price: int) -> dict[str, Any]:
    return {
        "line_id": str(index),
        "sku": sku,
        "title": title,
        "quantity": quantity,
        "unit_price": _usd(price),
        "discount": _usd(0),
        "tax": _usd(price * quantity * 6 // 100),
    }


def _placed(number: int, place: tuple[str, str, str], customer: int, lines: list[dict[str, Any]]) -> Order:
    external_id = f"B{number:08d}"
    now = _now()
    zip_code, city, region = place
    units = sum(line["quantity"] for line in lines)
    total = sum(line["unit_price"]["minor"] * line["quantity"] + line["tax"]["minor"] for line in lines)
    person = {"name": f"Customer {customer}", "street": [f"{customer} Sample Street"], "city": city}
    email = f"customer-{customer}@example.com"
    body = {
        "channel": CHANNEL,
        "external_id": external_id,
        "placed_at": now,
        "customer": {"external_id": str(customer), "email": email},
        "ship_to": {
            "person": {**person, "email": email},
            "country": "US",
            "region": region,
            "postal_code": zip_code,
        },
        "lines": lines,
        "shipping": _usd(499),
        "shipping_tax": _usd(0),
        "total": _usd(total + 499),
        "payment": {"status": "paid", "reference": f"pay-{external_id}"},
        "service_level": "expedited" if number % 7 == 3 else "standard",
    }
    headers = _headers(f"placed-{external_id}", f"/channels/{CHANNEL}", OrderPlaced.type, now)
    return Order(order_id_of(CHANNEL, external_id), units, external_id.encode(), orjson.dumps(body), headers)


def stock(skus: int) -> Iterator[tuple[bytes, bytes, Headers]]:
    """Plenty of every SKU at four of the five warehouses; which four differs, so that some orders must be split."""
    warehouses = [each.id for each in read_network(default_network_text()).locations if each.kind == "warehouse"]
    for sku in range(skus):
        for index, location in enumerate(warehouses):
            if index != sku * 7 % 11 % len(warehouses):
                yield arrived(sku_name(sku), location, 1_000_000)


def arrived(sku: str, location: str, quantity: int) -> tuple[bytes, bytes, Headers]:
    """The first goods of `sku` at `location`."""
    now = _now()
    reference = f"opening-{sku}-{location}"
    body = {"location": location, "sku": sku, "reference": reference, "happened_at": now, "quantity": quantity}
    headers = _headers(reference, f"/locations/{location}", StockArrived.type, now)
    return sku.encode(), orjson.dumps(body), headers


CODES = {
    "cedar": ("label.created", "hub.departed", "hub.arrived", "courier.loaded", "delivered.door"),
    "swift": ("010", "100", "120", "210", "300"),
}
"""The scans of a parcel, by carrier: the last one delivers it."""


def scan(carrier: str, number: str, index: int) -> tuple[bytes, bytes, Headers]:
    now = _now()
    scan_id = f"{number}-{index}"
    body = {
        "carrier": carrier,
        "tracking_number": number,
        "scan_id": scan_id,
        "code": CODES[carrier][index],
        "scanned_at": now,
    }
    return number.encode(), orjson.dumps(body), _headers(scan_id, f"/carriers/{carrier}", ParcelScanned.type, now)


@cache
def sku_name(number: int) -> str:
    return f"BENCH-{number:05d}"


def _usd(minor: int) -> dict[str, int | str]:
    return {"minor": minor, "currency": "USD"}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _headers(message_id: str, source: str, type_name: str, at: str) -> Headers:
    return [
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        ("ce_id", message_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", type_name.encode()),
        ("ce_time", at.encode()),
    ]
