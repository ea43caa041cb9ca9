"""Whether what the console was told adds up: each order's units and money, each SKU's stock. Pure.

The arithmetic is that of `oms verify`, which reads the logs themselves; this reads what came over the topics, as any
outsider could, and asks inventory what it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ordermill.audit.arithmetic import left_open, shipped_too_much, wrong_share
from ordermill.contracts.base import Message
from ordermill.contracts.inventory import (
    StockAdjusted,
    StockCountRecorded,
    StockReceived,
    StockRestocked,
    StockShippedOut,
)

from .pictures.order import Order, Units

MOVES: tuple[type[Message], ...] = (StockReceived, StockRestocked, StockAdjusted, StockCountRecorded, StockShippedOut)
"""The facts that change what is on hand."""
_ALL_DONE = frozenset({"delivered", "canceled", "returned"})
"""Statuses of an order of which nothing is to come."""


def order_faults(order: Order) -> list[str]:
    """What does not add up in one order; nothing while it is told of too little to say."""
    if order.total is None:
        return []
    handed_over: Counter[str] = Counter()
    for part in order.work.values():
        if part.state == "shipped":
            handed_over.update(part.lines)
    at_locations: Counter[str] = Counter()
    for held in order.allocations.values():
        at_locations.update(held)
    found: list[str] = []
    for line in order.lines:
        units, canceled = order.units.get(line.line_id, Units()), order.canceled.get(line.line_id, 0)
        found += _line_faults(
            line.line_id, line.quantity, canceled, units, handed_over[line.line_id], at_locations[line.line_id]
        )
        if order.status in _ALL_DONE and (text := left_open(line.line_id, line.quantity, canceled, units.shipped)):
            found.append(text)
    found += _money_faults(order)
    return found


def _line_faults(
    line_id: str, ordered: int, canceled: int, units: Units, handed_over: int, at_locations: int
) -> Iterator[str]:
    for name, count in units.model_dump().items():
        if count < 0:
            yield f"line {line_id}: {count} units {name.replace('_', ' ')}"
    if text := shipped_too_much(line_id, ordered, canceled, units.shipped):
        yield text
    claimed = units.reserved + units.backordered + units.allocated + units.shipped
    if claimed > ordered:
        yield f"line {line_id}: {ordered} units ordered, {claimed} claimed or shipped"
    if units.allocated != at_locations:
        yield f"line {line_id}: {units.allocated} units allocated, {at_locations} at locations"
    if units.shipped != handed_over:
        yield f"line {line_id}: {handed_over} units handed over, {units.shipped} taken off stock"
    if units.delivered > units.shipped:
        yield f"line {line_id}: {units.shipped} units shipped, {units.delivered} delivered"
    if units.returned > units.delivered:
        yield f"line {line_id}: {units.delivered} units delivered, {units.returned} came back"


def _money_faults(order: Order) -> Iterator[str]:
    """Charged = kept + refunded. What a revision changed is for `oms verify`, which knows each amount's history."""
    assert order.total is not None
    if order.payment == "pending" or (order.unpaid is not None and order.unpaid.minor) or order.revision != 0:
        return
    asked = sum(one.amount.minor for one in order.refunds.values() if one.amount and not one.return_id)
    given = sum(one.amount.minor for one in order.refunds.values() if one.amount and one.return_id)
    if text := wrong_share(order, asked):
        yield text
    if asked + given > order.total.minor:
        yield f"charged {order.total.minor} minor units, refunded {asked + given}"


def on_hand(moves: Iterable[Message]) -> dict[str, int]:
    """What the movements of one SKU leave, by location; locations with nothing are left out."""
    found: Counter[str] = Counter()
    for fact in moves:
        match fact:
            case StockReceived() | StockRestocked():
                found[fact.location] += fact.quantity
            case StockAdjusted() | StockCountRecorded():
                found[fact.location] += fact.delta
            case StockShippedOut():
                found[fact.location] -= fact.quantity
    return {location: units for location, units in found.items() if units}


def stock_fault(moves: Iterable[Message], told: Mapping[str, int]) -> str | None:
    """`told`: what inventory says is on hand, by location."""
    left = on_hand(moves)
    there = {location: units for location, units in told.items() if units}
    if left == there:
        return None
    return f"on hand are {_places(there)}; what came and went leaves {_places(left)}"


def _places(units: Mapping[str, int]) -> str:
    return ", ".join(f"{count} at {location}" for location, count in sorted(units.items())) or "none"
