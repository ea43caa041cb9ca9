"""The claim of one order on stock (stream `reservation-<order>`): every unit of it in exactly one state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from immutables import Map

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.inventory import (
    AllocationRecalled,
    AllocationRefused,
    CancellationTooLate,
    OrderAllocated,
    OrderBackordered,
    OrderBackorderFilled,
    OrderDeallocated,
    OrderLetGo,
    OrderRefused,
    OrderReserved,
    OrderShippedOut,
    RecallDeclined,
    ReservationEvent,
    ReservationOpened,
)
from ordermill.decider import Decider
from ordermill.pmap import PMap
from ordermill.replacing import replace

from .stock import Stock

Units = ReleasedLine | LineQuantity


@dataclass(frozen=True, slots=True)
class LineClaim:
    """One order line's units by state; what is in none of them is only asked for."""

    line: ReleasedLine
    reserved: int = 0
    backordered: int = 0
    allocated: int = 0
    shipped: int = 0
    let_go: int = 0

    @property
    def asked(self) -> int:
        return self.line.quantity - (self.reserved + self.backordered + self.allocated + self.shipped + self.let_go)

    def moved(
        self, reserved: int = 0, backordered: int = 0, allocated: int = 0, shipped: int = 0, let_go: int = 0
    ) -> LineClaim:
        return LineClaim(
            self.line,
            self.reserved + reserved,
            self.backordered + backordered,
            self.allocated + allocated,
            self.shipped + shipped,
            self.let_go + let_go,
        )


@dataclass(frozen=True, slots=True)
class Recall:
    """Units that one cancellation has called off at a location which still holds them, by line."""

    cancellation_id: str
    units: PMap[str, int]


@dataclass(frozen=True, slots=True)
class Held:
    """What one fulfillment order still has to ship, by line, and what of that is called off, oldest first."""

    location: str
    units: PMap[str, int] = field(default_factory=Map)
    recalls: tuple[Recall, ...] = ()
    reroutes: PMap[str, bool] = field(default_factory=Map)
    """Recalls for routing again, and whether elsewhere. They take nothing from cancellations, which may come later."""

    def recalled(self, line_id: str) -> int:
        return sum(recall.units.get(line_id, 0) for recall in self.recalls)

    def recallable(self, line_id: str) -> int:
        return self.units.get(line_id, 0) - self.recalled(line_id)

    def without(self, asked: Mapping[str, int]) -> tuple[Recall, ...]:
        """The recalls that are left once so many units of each line are called off: free ones first, then newest."""
        recalls = self.recalls
        for line_id, units in asked.items():
            recalls = _fewer(recalls, line_id, units - self.recallable(line_id))
        return recalls

    def taken_over(self, asked: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """By cancellation: units that it had called off, and that calling off `asked` takes from it; by line."""
        left = {recall.cancellation_id: recall.units for recall in self.without(asked)}
        taken: dict[str, dict[str, int]] = {}
        for recall in self.recalls:
            kept = left.get(recall.cancellation_id, Map[str, int]())
            for line_id in asked:
                if less := recall.units.get(line_id, 0) - kept.get(line_id, 0):
                    taken.setdefault(recall.cancellation_id, {})[line_id] = less
        return taken


@dataclass(frozen=True, slots=True)
class Reservation:
    """One order's claim after its events so far; `Reservation()` is an order nobody has heard of."""

    opened: ReservationOpened | None = None
    refused: OrderRefused | None = None
    lines: PMap[str, LineClaim] = field(default_factory=Map)
    held: PMap[str, Held] = field(default_factory=Map)
    """By fulfillment id; one that has shipped or given up everything stays, with no units."""
    settled: PMap[str, bool] = field(default_factory=Map)
    """Plans, cancellations and answers to recalls that were decided: `plan_mark` and its like."""


def plan_mark(plan_id: str) -> str:
    return f"plan/{plan_id}"


def cancellation_mark(cancellation_id: str) -> str:
    return f"cancellation/{cancellation_id}"


def answer_mark(fulfillment_id: str, cancellation_id: str) -> str:
    return f"answer/{fulfillment_id}/{cancellation_id}"


def evolve(reservation: Reservation, event: ReservationEvent) -> Reservation:
    """Fold one event in. Never refuses: `check_reservation` says what does not add up."""
    opened, refused = reservation.opened, reservation.refused
    lines, held = reservation.lines, reservation.held
    match event:
        case OrderReserved():
            lines = _moved(lines, event.lines, lambda claim, units: claim.moved(reserved=units))
        case OrderAllocated():
            for part in event.allocations:
                lines = _moved(lines, part.lines, lambda c, units: c.moved(reserved=-units, allocated=units))
                taken = held.get(part.fulfillment_id) or Held(part.location)
                held = held.set(part.fulfillment_id, _taken(taken, part.lines))
        case OrderShippedOut():
            lines = _moved(lines, event.lines, lambda c, units: c.moved(allocated=-units, shipped=units))
            held = _given_up(held, event.fulfillment_id, event.lines)
        case ReservationOpened():
            opened = event
            lines = lines.update({line.line_id: LineClaim(line) for line in event.lines})
        case OrderRefused():
            refused = event
        case OrderBackordered(was="reserved"):
            lines = _moved(lines, event.lines, lambda c, units: c.moved(reserved=-units, backordered=units))
        case OrderBackordered(fulfillment_id=str(fulfillment_id)):
            lines = _moved(lines, event.lines, lambda c, units: c.moved(allocated=-units, backordered=units))
            held = _given_up(held, fulfillment_id, event.lines)
        case OrderBackordered():
            lines = _moved(lines, event.lines, lambda claim, units: claim.moved(backordered=units))
        case OrderBackorderFilled():
            lines = _moved(lines, event.lines, lambda c, units: c.moved(backordered=-units, reserved=units))
        case OrderDeallocated():
            lines = _moved(lines, event.lines, lambda c, units: c.moved(allocated=-units, reserved=units))
            held = _given_up(held, event.fulfillment_id, event.lines)
        case AllocationRecalled():
            held = _recalled(held, event)
        case RecallDeclined():
            held = _kept(held, event)
        case OrderLetGo(fulfillment_id=str(fulfillment_id)):
            lines = _moved(lines, event.lines, lambda c, units: c.moved(allocated=-units, let_go=units))
            held = _given_up(held, fulfillment_id, event.lines, event.cancellation_id)
        case OrderLetGo():
            lines = _moved(lines, event.lines, lambda c, units: c.moved(reserved=-units, let_go=units))
            lines = _moved(lines, event.backordered, lambda c, units: c.moved(reserved=units, backordered=-units))
        case AllocationRefused() | CancellationTooLate():
            pass  # no unit moves
        case _:
            assert_never(event)
    mark = _settles(event)
    settled = reservation.settled if mark is None else reservation.settled.set(mark, True)
    return Reservation(opened, refused, lines, held, settled)


def _settles(event: ReservationEvent) -> str | None:
    """The mark of what this event decides: a plan, a cancellation, or the answer to a recall."""
    match event:
        case OrderAllocated() | AllocationRefused():
            return plan_mark(event.plan_id)
        case RecallDeclined():
            return answer_mark(event.fulfillment_id, event.cancellation_id)
        case OrderDeallocated(answers=str(answers)):
            return answer_mark(event.fulfillment_id, answers)
        case OrderLetGo(fulfillment_id=str(fulfillment_id), answers=answers):
            return None if answers is None else answer_mark(fulfillment_id, answers)
        case AllocationRecalled() | CancellationTooLate():
            return cancellation_mark(event.cancellation_id)
        case OrderLetGo(cancellation_id=str(cancellation_id)):
            return cancellation_mark(cancellation_id)
        case _:
            return None


def _moved(
    lines: Map[str, LineClaim], units: Iterable[Units], move: Callable[[LineClaim, int], LineClaim]
) -> Map[str, LineClaim]:
    for part in units:
        claim = lines.get(part.line_id)
        if claim is None:
            line = ReleasedLine(line_id=part.line_id, sku=part.sku, quantity=part.quantity)
            claim = LineClaim(line)
        lines = lines.set(part.line_id, move(claim, part.quantity))
    return lines


def _taken(held: Held, units: Iterable[Units]) -> Held:
    there = held.units
    for part in units:
        there = there.set(part.line_id, there.get(part.line_id, 0) + part.quantity)
    return replace(held, units=there)


def _given_up(
    held: Map[str, Held], fulfillment_id: str, units: Iterable[Units], cancellation_id: str | None = None
) -> Map[str, Held]:
    """`held` without `units` of one fulfillment order, those of `cancellation_id` if it had called them off."""
    before = held.get(fulfillment_id) or Held("")
    there, recalls = before.units, before.recalls
    for part in units:
        line_id, left = part.line_id, there.get(part.line_id, 0) - part.quantity
        there = there.set(line_id, left) if left else there.delete(line_id)
        if recalls and cancellation_id is not None:
            recalls = _fewer(recalls, line_id, part.quantity, cancellation_id)
        if recalls:
            recalls = _fewer(recalls, line_id, sum(recall.units.get(line_id, 0) for recall in recalls) - left)
    return held.set(fulfillment_id, replace(before, units=there, recalls=recalls))


def _fewer(
    recalls: tuple[Recall, ...], line_id: str, by: int, cancellation_id: str | None = None
) -> tuple[Recall, ...]:
    """`recalls` with so many units of a line fewer: those of one cancellation, or the newest first."""
    kept: list[Recall] = []
    for recall in reversed(recalls):
        there = recall.units.get(line_id, 0)
        less = min(there, by) if cancellation_id in (None, recall.cancellation_id) else 0
        if less > 0:
            by -= less
            units = recall.units.set(line_id, there - less) if there > less else recall.units.delete(line_id)
            if units:
                kept.append(Recall(recall.cancellation_id, units))
        else:
            kept.append(recall)
    return tuple(reversed(kept))


def _recalled(held: Map[str, Held], event: AllocationRecalled) -> Map[str, Held]:
    before = held.get(event.fulfillment_id) or Held("")
    if event.reroute is not None:
        reroutes = before.reroutes.set(event.cancellation_id, event.reroute == "elsewhere")
        return held.set(event.fulfillment_id, replace(before, reroutes=reroutes))
    units = Map({part.line_id: part.quantity for part in event.lines})
    recalls = (*before.without(units), Recall(event.cancellation_id, units))
    return held.set(event.fulfillment_id, replace(before, recalls=recalls))


def _kept(held: Map[str, Held], event: RecallDeclined) -> Map[str, Held]:
    before = held.get(event.fulfillment_id) or Held("")
    recalls = before.recalls
    for part in event.lines:
        recalls = _fewer(recalls, part.line_id, part.quantity, event.cancellation_id)
    return held.set(event.fulfillment_id, replace(before, recalls=recalls))


def reservation_summary(reservation: Reservation) -> dict[str, Any]:
    """The order's claim for views, as JSON can hold it; the same for the same state."""
    opened, refused = reservation.opened, reservation.refused
    summary: dict[str, Any] = {
        "order_id": opened.order_id if opened else refused.order_id if refused else "",
        "refused": refused is not None,
        "shortages": [shortage.model_dump(mode="json") for shortage in refused.shortages] if refused else [],
        "lines": [],
        "fulfillments": {
            fulfillment_id: {"location": held.location, "units": dict(sorted(held.units.items()))}
            for fulfillment_id, held in sorted(reservation.held.items())
        },
    }
    if opened is None:
        return summary
    summary["channel"] = opened.channel
    summary["external_id"] = opened.external_id
    summary["placed_at"] = opened.placed_at.isoformat()
    summary["service_level"] = opened.service_level.value
    summary["allow_backorder"] = opened.allow_backorder
    summary["destination"] = opened.destination.model_dump(mode="json", exclude={"addressee", "fingerprint"})
    for line in opened.lines:
        claim = reservation.lines[line.line_id]
        summary["lines"].append(
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "title": line.title,
                "quantity": line.quantity,
                "reserved": claim.reserved,
                "backordered": claim.backordered,
                "allocated": claim.allocated,
                "shipped": claim.shipped,
                "let_go": claim.let_go,
            }
        )
    return summary


def check_reservation(reservation: Reservation) -> list[str]:
    """The invariants that do not hold, each in a sentence; `[]` if all is well. True after every decision."""
    wrong: list[str] = []
    held: dict[str, int] = {}
    for fulfillment_id, part in sorted(reservation.held.items()):
        for line_id, units in part.units.items():
            held[line_id] = held.get(line_id, 0) + units
            if units < 0 or not 0 <= part.recalled(line_id) <= units:
                wrong.append(f"{fulfillment_id}, line {line_id}: {units} held, {part.recalled(line_id)} recalled")
        if any(line_id not in part.units for recall in part.recalls for line_id in recall.units):
            wrong.append(f"{fulfillment_id}: units are recalled that it does not hold")
    for line_id, claim in sorted(reservation.lines.items()):
        units_by_state = (claim.reserved, claim.backordered, claim.allocated, claim.shipped, claim.let_go)
        if min(units_by_state) < 0 or claim.asked != 0:
            wrong.append(f"line {line_id}: {units_by_state} are not the {claim.line.quantity} units asked for")
        if claim.allocated != held.get(line_id, 0):
            wrong.append(f"line {line_id}: {claim.allocated} allocated, {held.get(line_id, 0)} held")
    return wrong


Claimed = Mapping[tuple[str, str, str], Mapping[str, int]]
"""Units by order, line and SKU, and by what they are: reserved, backordered, allocated at a location."""


def units_claimed(stocks: Mapping[str, Stock]) -> dict[tuple[str, str, str], dict[str, int]]:
    """What is promised of these SKUs' stocks. O(claims)."""
    claimed: dict[tuple[str, str, str], dict[str, int]] = {}
    for sku, stock in stocks.items():
        for claim in stock.claims.by_turn.values():
            units = {"reserved": claim.reserved, "backordered": claim.backordered}
            units.update((f"allocated at {place}", there) for place, there in claim.allocated)
            claimed[claim.order_id, claim.line_id, sku] = units
    return claimed


def check_agreement(claimed: Claimed, reservations: Mapping[str, Reservation]) -> list[str]:
    """Where stock streams (`claimed`) and reservation streams (by order) tell different stories, line by line.

    Both must be complete for their orders and as of one moment. O(claims).
    """
    by_order: dict[tuple[str, str, str], dict[str, int]] = {}
    for order_id, reservation in reservations.items():
        for line_id, line in reservation.lines.items():
            units = {"reserved": line.reserved, "backordered": line.backordered}
            for part in reservation.held.values():
                there = f"allocated at {part.location}"
                units[there] = units.get(there, 0) + part.units.get(line_id, 0)
            by_order[order_id, line_id, line.line.sku] = units
    wrong: list[str] = []
    for key in sorted(claimed.keys() | by_order.keys()):
        mine = {state: units for state, units in claimed.get(key, {}).items() if units}
        theirs = {state: units for state, units in by_order.get(key, {}).items() if units}
        if mine != theirs:
            wrong.append(f"order {key[0]}, line {key[1]}, SKU {key[2]}: stock says {mine}, reservation {theirs}")
    return wrong


RESERVATION = Decider("reservation", Reservation(), evolve)
