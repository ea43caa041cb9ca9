"""One decision as it goes on: the states it has reached, the events that led there, and units as events carry them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ordermill.contracts.base import Fact
from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.inventory import OrderFact, StockFact
from ordermill.decider import Folded

from .reservation import RESERVATION, Reservation
from .stock import STOCK, Stock

Events = list[tuple[str, Fact]]
ByLine = dict[str, int]
"""Units by line id."""


class Work:
    """The states as one decision goes on, and its events so far."""

    __slots__ = ("_now", "_states", "events")

    def __init__(self, states: Mapping[str, Any]) -> None:
        self._states = states
        self._now: dict[str, Any] = {}
        self.events: Events = []

    def stock(self, sku: str) -> Stock:
        state: Stock = self._state(STOCK.stream(sku))
        return state

    def reservation(self, order_id: str) -> Reservation:
        state: Reservation = self._state(RESERVATION.stream(order_id))
        return state

    def _state(self, stream: str) -> Any:
        if stream not in self._now:
            self._now[stream] = self._states[stream]
        return self._now[stream]

    def record(self, event: StockFact | OrderFact) -> None:
        if isinstance(event, StockFact):
            stream = STOCK.stream(event.sku)
            self._now[stream] = STOCK.evolve(self._state(stream), event)
        else:
            stream = RESERVATION.stream(event.order_id)
            self._now[stream] = RESERVATION.evolve(self._state(stream), event)
        self.events.append((stream, event))

    def folded(self) -> Folded:
        return Folded(self.events, self._now)


def units_of(line: ReleasedLine, units: int) -> LineQuantity:
    return LineQuantity(line_id=line.line_id, sku=line.sku, quantity=units)


def part_of(line: ReleasedLine, units: int) -> ReleasedLine:
    """So many units of the line as it was released."""
    if units == line.quantity:
        return line
    return ReleasedLine(line_id=line.line_id, sku=line.sku, title=line.title, quantity=units, weight_g=line.weight_g)
