"""Whether what a channel sent is an order: its address, its amounts, and whether it is the same one again."""

from __future__ import annotations

import re
from hashlib import sha256

import orjson

from ordermill.contracts.capture import OrderCaptured, OrderLine
from ordermill.contracts.channel import Address, ChannelLine, Payment
from ordermill.contracts.fields import MAX_MINOR, Money

from .addresses import CUT, kept
from .commands import CaptureExchange, CaptureOrder

MAX_UNITS = 1_000_000
"""Most units in one order."""


POSTAL_CODES = {
    "AT": r"\d{4}",
    "AU": r"\d{4}",
    "BE": r"\d{4}",
    "BR": r"\d{5}-?\d{3}",
    "CA": r"[A-Z]\d[A-Z] ?\d[A-Z]\d",
    "CH": r"\d{4}",
    "CN": r"\d{6}",
    "DE": r"\d{5}",
    "DK": r"\d{4}",
    "ES": r"\d{5}",
    "FR": r"\d{5}",
    "GB": r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}",
    "IN": r"\d{3} ?\d{3}",
    "IT": r"\d{5}",
    "JP": r"\d{3}-?\d{4}",
    "MX": r"\d{5}",
    "NL": r"\d{4} ?[A-Z]{2}",
    "NO": r"\d{4}",
    "PL": r"\d{2}-?\d{3}",
    "SE": r"\d{3} ?\d{2}",
    "US": r"\d{5}(-?\d{4})?",
}
"""Shapes by country. Of other countries nothing is asked: many have no postal codes."""

_SHAPES = {country: re.compile(shape, re.ASCII | re.IGNORECASE) for country, shape in POSTAL_CODES.items()}


def address_faults(address: Address) -> tuple[str, ...]:
    """What keeps a parcel from this address, in words that quote nothing personal; () if nothing was found.

    Looks at presence and shape only. Whether the street exists is the carrier's knowledge.
    """
    person, country = address.person, address.country
    faults: list[str] = []
    if not (person.name.strip() or person.company.strip()):
        faults.append("no name or company")
    if not any(part.strip() for part in person.street):
        faults.append("no street")
    if not person.city.strip():
        faults.append("no city")
    if shape := _SHAPES.get(country):
        code = address.postal_code.strip()
        if not code:
            faults.append("no postal code")
        elif not shape.fullmatch(code):
            faults.append(f"{code!r} does not look like a postal code of {country}")
    if kept(person) != person:
        faults.append(f"too long to be kept: its texts are cut to {CUT} characters")
    return tuple(faults)


def content_hash_of(command: CaptureOrder) -> str:
    """Of all that is in the clear and matters. What is sealed looks different each time it is sealed."""
    destination, payment = command.destination, command.payment
    content = (
        command.placed_at.timestamp(),
        [
            (line.line_id, line.sku, line.quantity, line.unit_price.minor, line.discount.minor, line.tax.minor)
            for line in command.lines
        ],
        (command.shipping.minor, command.shipping_tax.minor, command.tax_included),
        (command.total.minor, command.total.currency),
        (destination.country, destination.region, destination.postal_code),
        (payment.status, payment.reference),
        (command.service_level.value, command.allow_backorder),
    )
    return sha256(orjson.dumps(content)).hexdigest()


def faults_of(command: CaptureOrder) -> tuple[str, ...]:
    """Why this can't be an order; all reasons, in words."""
    currency = command.total.currency
    amounts = [command.total, command.shipping, command.shipping_tax]
    reasons: list[str] = []
    seen: set[str] = set()
    units = expected = largest = 0
    for line in command.lines:
        price, discount, tax = line.unit_price.minor, line.discount.minor, line.tax.minor
        amounts += (line.unit_price, line.discount, line.tax)
        before_discount = price * line.quantity
        units += line.quantity
        expected += before_discount - discount + (0 if command.tax_included else tax)
        largest = max(largest, before_discount)
        if line.line_id in seen:
            reasons.append(f"line {line.line_id} is there more than once")
        seen.add(line.line_id)
        for name, amount in (("unit price", line.unit_price), ("discount", line.discount), ("tax", line.tax)):
            if amount.minor < 0:
                reasons.append(f"line {line.line_id}: {name} is below zero, {amount}")
        if discount > max(before_discount, 0):
            reasons.append(f"line {line.line_id}: discount {line.discount} is more than the line costs")
    for name, amount in (("shipping", command.shipping), ("shipping tax", command.shipping_tax)):
        expected += amount.minor
        if amount.minor < 0:
            reasons.append(f"{name} is below zero, {amount}")
    if not command.lines:
        reasons.append("no lines")
    if units > MAX_UNITS:
        reasons.append(f"{units} units, at most {MAX_UNITS} can be one order")
    if command.payment.paid is not None:
        amounts.append(command.payment.paid)
        if command.payment.paid.minor < 0:
            reasons.append(f"paid is below zero, {command.payment.paid}")
    if others := sorted({amount.currency for amount in amounts} - {currency}):
        reasons.append(f"amounts in {currency} and {', '.join(others)}; an order has one currency")
    elif max(expected, largest) > MAX_MINOR:
        reasons.append(f"amounts beyond {MAX_MINOR} minor units")
    elif expected != command.total.minor:
        adds_up = Money(minor=max(expected, -MAX_MINOR), currency=currency)
        reasons.append(f"total is {command.total}, but lines and shipping add up to {adds_up}")
    return tuple(reason[:500] for reason in reasons)


def captured(command: CaptureOrder, content_hash: str) -> OrderCaptured:
    lines = tuple(
        OrderLine(
            line_id=line.line_id,
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            unit_price=line.unit_price,
            discount=line.discount,
            tax=line.tax,
            weight_g=line.weight_g,
            final_sale=line.final_sale,
        )
        for line in command.lines
    )
    return OrderCaptured(
        order_id=command.order_id,
        channel=command.channel,
        external_id=command.external_id,
        placed_at=command.placed_at,
        customer_id=command.customer_id,
        buyer=command.buyer,
        destination=command.destination,
        lines=lines,
        shipping=command.shipping,
        shipping_tax=command.shipping_tax,
        tax_included=command.tax_included,
        total=command.total,
        payment=command.payment,
        service_level=command.service_level,
        allow_backorder=command.allow_backorder,
        content_hash=content_hash,
        funds=command.funds,
    )


def as_order(exchange: CaptureExchange) -> CaptureOrder:
    """Prices are final: nothing off, no tax or shipping on top. What the credit does not cover waits for payment."""
    currency = exchange.lines[0].unit_price.currency if exchange.lines else exchange.credit.currency
    nothing = Money.zero(currency)
    cost = sum(line.unit_price.minor * line.quantity for line in exchange.lines)
    ours = exchange.credit.currency == currency
    covered = ours and exchange.credit.minor >= cost
    lines = tuple(
        ChannelLine(
            line_id=str(number),
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            unit_price=line.unit_price,
            discount=nothing,
            tax=nothing,
        )
        for number, line in enumerate(exchange.lines, start=1)
    )
    payment = Payment(
        status="paid" if covered else "pending",
        reference=exchange.payment_reference,
        paid=exchange.credit if ours and not covered else None,
    )
    return CaptureOrder(
        order_id=exchange.order_id,
        channel="exchange",
        external_id=exchange.return_id,
        placed_at=exchange.placed_at,
        destination=exchange.destination,
        lines=lines,
        shipping=nothing,
        shipping_tax=nothing,
        tax_included=True,
        total=Money(minor=max(-MAX_MINOR, min(cost, MAX_MINOR)), currency=currency),
        payment=payment,
        customer_id=exchange.customer_id,
        address_faults=exchange.address_faults,
        funds=exchange.funds if ours else (),
    )
