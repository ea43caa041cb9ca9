"""The sums that must come out, for whoever has the numbers: an audit of the logs, or a reader of the topics. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ordermill.contracts.capture import OrderLine
from ordermill.contracts.fields import Money
from ordermill.money import first_units, goods_of


class Bought(Protocol):
    """An order as far as its money needs it."""

    @property
    def lines(self) -> Sequence[OrderLine]: ...
    @property
    def canceled(self) -> Mapping[str, int]: ...
    @property
    def total(self) -> Money | None: ...
    @property
    def tax_included(self) -> bool: ...


def canceled_share(order: Bought) -> int:
    """What the canceled units of an order cost, in minor units: the last of each line; with all of them, everything."""
    assert order.total is not None, "an order that was captured has a total"
    if all(order.canceled.get(line.line_id, 0) == line.quantity for line in order.lines):
        return order.total.minor
    share = 0
    for line in order.lines:
        left = line.quantity - order.canceled.get(line.line_id, 0)
        share += (goods_of(line) - first_units(goods_of(line), left, line.quantity)).minor
        if not order.tax_included:
            share += (line.tax - first_units(line.tax, left, line.quantity)).minor
    return share


def shipped_too_much(line_id: str, ordered: int, canceled: int, shipped: int) -> str | None:
    """Ordered = canceled + shipped + still open."""
    if canceled + shipped <= ordered:
        return None
    return f"line {line_id}: {ordered} units ordered, {canceled} canceled and {shipped} shipped"


def left_open(line_id: str, ordered: int, canceled: int, shipped: int) -> str | None:
    """Once an order has ended nothing is open."""
    if canceled + shipped >= ordered:
        return None
    return f"line {line_id}: {ordered} units ordered, {canceled} canceled, {shipped} shipped"


def wrong_share(order: Bought, asked: int) -> str | None:
    """`asked`: minor units refunded for what was canceled of an order charged at once and never revised."""
    if any(order.canceled.get(line.line_id, 0) > line.quantity for line in order.lines):
        return None  # there is no such share; the units tell
    share = canceled_share(order)
    if share == asked:
        return None
    return f"{share} minor units are the share of what was canceled, {asked} are refunded"
