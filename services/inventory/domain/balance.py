"""Who gets what comes free, and who gives way to what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.inventory import (
    BackorderFilled,
    OrderBackordered,
    OrderBackorderFilled,
    OrderLetGo,
    ReservationOpened,
    StockBackordered,
    StockLetGo,
    StockSetAside,
)

from ..errors import OrderNotReserved
from .reservation import Reservation
from .stock import Claim, Stock
from .work import ByLine, Work, part_of, units_of


@dataclass(slots=True)
class Outcome:
    """What `balance` did to the claims of each order: units by order id and line id."""

    filled: dict[str, ByLine]
    gave_way: dict[str, ByLine]

    def tell(self, work: Work) -> None:
        """Record it on the reservation streams: one event per order and kind."""
        for order_id, units in self.gave_way.items():
            claims = work.reservation(order_id).lines
            lines = tuple(units_of(claims[line_id].line, n) for line_id, n in units.items() if n)
            if lines:
                tell_gave_way(work, order_id, lines)
        for order_id, units in self.filled.items():
            reservation = work.reservation(order_id)
            opened = _opened(reservation, order_id)
            work.record(
                OrderBackorderFilled(
                    order_id=order_id,
                    placed_at=opened.placed_at,
                    destination=opened.destination,
                    service_level=opened.service_level,
                    lines=tuple(part_of(reservation.lines[line_id].line, n) for line_id, n in units.items()),
                )
            )


def balance(work: Work, skus: Iterable[str], first: Mapping[str, int] | None = None) -> Outcome:
    """Bring claims and units together again, on the stock streams.

    What is free where nothing ships from is set aside before anyone can have it. Free units go to those who wait, by
    their turn, a part of a line if there is no more. Where more is claimed than there is, reserved units give way:
    those of `first` (claim key to units), then the newest.
    """
    outcome = Outcome({}, {})
    touched: list[tuple[str, bool, Claim, int]] = []
    for sku in skus:
        for location, shelf in sorted(work.stock(sku).shelves.items()):
            if not shelf.ships:
                set_aside(work, sku, location, ships=False)
        stock = work.stock(sku)
        if stock.available > 0:
            touched.extend((sku, True, claim, units) for claim, units in _next_served(stock))
        elif stock.available < 0:
            touched.extend((sku, False, claim, units) for claim, units in _first_to_yield(stock, first or {}))
    # All are looked up before the first is used, so that those that must be loaded are known together.
    orders = {claim.order_id: work.reservation(claim.order_id) for _, _, claim, _ in touched}
    for sku, serve, claim, units in touched:
        order_id, line_id = claim.order_id, claim.line_id
        told = outcome.filled if serve else outcome.gave_way
        by_line = told.setdefault(order_id, {})
        by_line[line_id] = by_line.get(line_id, 0) + units
        if serve:
            work.record(BackorderFilled(sku=sku, order_id=order_id, line_id=line_id, quantity=units))
            continue
        if _opened(orders[order_id], order_id).allow_backorder:
            # Before the units are let go, so that the claim stays open and keeps its turn.
            work.record(StockBackordered(sku=sku, order_id=order_id, line_id=line_id, quantity=units))
        work.record(StockLetGo(sku=sku, order_id=order_id, line_id=line_id, quantity=units, was="reserved"))
    return outcome


def set_aside(work: Work, sku: str, location: str, ships: bool) -> None:
    """Set aside what is free at a location that does not ship, and no more; nothing at one that ships."""
    shelf = work.stock(sku).shelf(location)
    delta = shelf.to_set_aside(ships)
    if delta or ships != shelf.ships:
        work.record(StockSetAside(sku=sku, location=location, delta=delta, ships=ships))


def _next_served(stock: Stock) -> list[tuple[Claim, int]]:
    free, turns = stock.available, stock.claims.waiting
    served: list[tuple[Claim, int]] = []
    while free > 0 and (turn := turns.first()) is not None:
        claim = stock.claims.by_turn[turn]
        units = min(free, claim.backordered)
        served.append((claim, units))
        free -= units
        turns = turns.discard(turn)
    return served


def _first_to_yield(stock: Stock, first: Mapping[str, int]) -> list[tuple[Claim, int]]:
    short, turns = -stock.available, stock.claims.reserved
    yielding: dict[int, int] = {}
    for key, most in first.items():
        turn = stock.claims.turn_of.get(key)
        if turn is not None and short > 0:
            yielding[turn] = min(stock.claims.by_turn[turn].reserved, most, short)
            short -= yielding[turn]
    while short > 0 and (turn := turns.last()) is not None:
        units = min(stock.claims.by_turn[turn].reserved - yielding.get(turn, 0), short)
        yielding[turn] = yielding.get(turn, 0) + units
        short -= units
        turns = turns.discard(turn)
    return [(stock.claims.by_turn[turn], units) for turn, units in yielding.items() if units]


def tell_gave_way(
    work: Work, order_id: str, lines: tuple[LineQuantity, ...], fulfillment_id: str | None = None
) -> None:
    if _opened(work.reservation(order_id), order_id).allow_backorder:
        was: Literal["reserved", "allocated"] = "allocated" if fulfillment_id else "reserved"
        work.record(OrderBackordered(order_id=order_id, lines=lines, was=was, fulfillment_id=fulfillment_id))
    else:
        work.record(OrderLetGo(order_id=order_id, cause="shortage", lines=lines, fulfillment_id=fulfillment_id))


def _opened(reservation: Reservation, order_id: str) -> ReservationOpened:
    if reservation.opened is None:
        raise OrderNotReserved(order_id)
    return reservation.opened
