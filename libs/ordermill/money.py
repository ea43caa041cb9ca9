"""Sharing amounts over units so that the shares always add up to the amount, to the minor unit; and refunds of them."""

from __future__ import annotations

from enum import StrEnum

from ordermill.contracts.capture import OrderLine
from ordermill.contracts.fields import Money


class RefundStage(StrEnum):
    """How far a payment provider is with a refund."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"


def first_units(amount: Money, units: int, of: int) -> Money:
    """The share of the first `units` of `of` units in `amount`: cumulative, rounded down.

    Shares of neighboring ranges are differences of these, so any partition of the units adds up to `amount`.
    Returned units are counted from the first, canceled ones from the last, so the two never overlap.
    """
    if not 0 <= units <= of:
        raise ValueError(f"{units} of {of} units: a share is of 0 to all units")
    return Money(minor=amount.minor * units // of if of else 0, currency=amount.currency)


def range_of_units(amount: Money, start: int, stop: int, of: int) -> Money:
    """The share of units number `start` (counted from 0) up to, not including, `stop`."""
    return first_units(amount, stop, of) - first_units(amount, start, of)


def goods_of(line: OrderLine) -> Money:
    """What the line's goods cost after its discounts, before tax (or with it, where prices include it)."""
    return line.unit_price * line.quantity - line.discount


def total_of(line: OrderLine, tax_included: bool) -> Money:
    """What the line adds to the order's total."""
    return goods_of(line) if tax_included else goods_of(line) + line.tax
