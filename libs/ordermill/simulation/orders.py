"""Orders of a simulation: few articles that all want at once, odd amounts, every kind of payment and haste."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Literal

from ordermill.contracts.channel import Address, ChannelLine, Customer, OrderPlaced, Payment, ServiceLevel
from ordermill.contracts.fields import Money
from ordermill.contracts.personal import Person
from ordermill.demo.baskets import FORMATS, Basket

from .process import MONDAY

CURRENCY = "USD"

_PLACES = (("NY", "10001"), ("CA", "94103"), ("TX", "73301"), ("WA", "98101"), ("FL", "33101"))
FATES = {
    "reject": 100, "short-pick": 150, "cancel": 250, "edit": 400, "unpaid": 200, "risky": 100, "late": 200, "lost": 120,
    "found": 400, "turned-back": 100, "sent-again": 400, "repeat": 200, "reorder": 200, "return": 350, "exchange": 400,
    "several": 600, "in-parts": 500, "unfit": 300, "missing": 200, "scarce": 500, "no-backorder": 400,
}  # fmt: skip
"""How many of a thousand meet what `ordermill.demo.rules` names: many, since few orders must meet all of it."""


def orders(random: Random, count: int) -> list[Basket]:
    """`count` orders within a few days."""
    prefix = f"{random.getrandbits(48):012x}"
    skus = [f"SIM-{prefix[:4]}-{number}" for number in range(1, max(2, count // 2) + 1)]
    return [_order(random, number, f"{prefix}-{number}", skus) for number in range(count)]


def _order(random: Random, number: int, external_id: str, skus: list[str]) -> Basket:
    after = timedelta(hours=random.uniform(0, 40))
    channel = random.choice(tuple(FORMATS))
    region, postal_code = random.choice(_PLACES)
    who = random.choice((number, 0))  # some buy again
    name, city = f"Customer {who}", random.choice(("Sample", "Sample", "Sample", ""))
    person = Person(
        name=name,
        street=("1 Sample Street",),
        city=city,
        email=f"{who}@example.com",
    )
    bought = random.choices(skus, k=random.randint(1, 3))
    lines = tuple(_line(random, str(index), sku) for index, sku in enumerate(bought, 1))
    tax_included = random.random() < 0.3
    shipping = random.choice((0, 499, 1))
    goods = sum(line.unit_price.minor * line.quantity - line.discount.minor for line in lines)
    tax = 0 if tax_included else sum(line.tax.minor for line in lines)
    status: Literal["paid", "pending", "invoice"] = random.choices(("paid", "pending", "invoice"), (7, 2, 1))[0]
    order = OrderPlaced(
        channel=channel,
        external_id=external_id,
        placed_at=MONDAY + after,
        customer=Customer(external_id=str(who), email=person.email),
        ship_to=Address(person=person, country="US", region=region, postal_code=postal_code),
        lines=lines,
        shipping=Money(minor=shipping, currency=CURRENCY),
        shipping_tax=Money.zero(CURRENCY),
        tax_included=tax_included,
        total=Money(minor=goods + tax + shipping + (random.random() < 0.05), currency=CURRENCY),
        payment=Payment(status=status, reference=f"pay-{external_id}"),
        service_level=random.choice((ServiceLevel.STANDARD, ServiceLevel.EXPEDITED)),
        allow_backorder=random.random() < 0.6,
        risk="high" if random.random() < 0.3 else "low",
    )
    return Basket(number, after, order)


def _line(random: Random, line_id: str, sku: str) -> ChannelLine:
    quantity, unit = random.randint(1, 4), random.randint(1, 3_333)
    discount = random.randint(0, unit * quantity // 2)
    return ChannelLine(
        line_id=line_id,
        sku=sku,
        title=f"Article {sku}",
        quantity=quantity,
        unit_price=Money(minor=unit, currency=CURRENCY),
        discount=Money(minor=discount, currency=CURRENCY),
        tax=Money(minor=(unit * quantity - discount) * 7 // 100, currency=CURRENCY),
        weight_g=random.choice((None, 250, 1_999)),
    )
