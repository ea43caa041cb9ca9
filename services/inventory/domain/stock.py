"""The stock of one SKU over all locations (stream `stock-<sku>`): what is there, and who has a claim on it.

    available = on hand - set aside - reserved - allocated
    on hand   = received + adjusted + restocked - shipped out

A backordered unit is part of neither: it does not exist yet. Set aside is what no one has claimed at locations that do
not ship.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from immutables import Map

from ordermill.contracts.inventory import (
    Availability,
    BackorderFilled,
    ClaimFact,
    LocationAvailability,
    StockAdjusted,
    StockAllocated,
    StockBackordered,
    StockCountRecorded,
    StockDeallocated,
    StockEvent,
    StockLetGo,
    StockReceived,
    StockRejected,
    StockReserved,
    StockRestocked,
    StockSetAside,
    StockShippedOut,
    StockWrittenOff,
)
from ordermill.decider import Decider
from ordermill.pmap import PMap
from ordermill.replacing import replace

from .turns import Turns

REFERENCES_KEPT = 256
"""So many of a SKU's newest feed references are remembered; one repeated later than that counts again."""


MOVES_KEPT = 32
"""So many movements at a location are remembered; a count from before them comes too late."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The SKU at one location. A count below what is allocated leaves `unallocated` negative for now."""

    on_hand: int = 0
    allocated: int = 0
    set_aside: int = 0
    ships: bool = True
    counted_at: datetime | None = None
    moves: tuple[tuple[datetime, int], ...] = ()
    """The newest, by their time, which is not the order in which they were heard."""

    def moved(self, units: int, at: datetime | None, allocated: int = 0) -> Shelf:
        """After `units` came or left at that time."""
        moves = self.moves
        if at is not None and units:
            in_turn = not moves or at >= moves[-1][0]
            moves = (*moves, (at, units)) if in_turn else tuple(sorted((*moves, (at, units))))
            moves = moves[-MOVES_KEPT:]
        return Shelf(
            self.on_hand + units, self.allocated + allocated, self.set_aside, self.ships, self.counted_at, moves
        )

    def counted(self, delta: int, at: datetime | None) -> Shelf:
        """After a count of that time changed what is on hand by `delta`."""
        return Shelf(self.on_hand + delta, self.allocated, self.set_aside, self.ships, at, self.moves)

    def counted_since(self, at: datetime) -> bool:
        """Whether a later count knew what became of the units of that time."""
        return self.counted_at is not None and at < self.counted_at

    def moved_since(self, at: datetime) -> int | None:
        """Units that came since, less those that left; None if that is not known any more."""
        if len(self.moves) == MOVES_KEPT and at < self.moves[0][0]:
            return None
        return sum(units for moved_at, units in self.moves if moved_at > at)

    @property
    def unallocated(self) -> int:
        return self.on_hand - self.allocated

    @property
    def free(self) -> int:
        """What may be allocated here."""
        return self.unallocated - self.set_aside

    def to_set_aside(self, ships: bool) -> int:
        """By how many units what is set aside is less than it ought to be."""
        return (0 if ships else max(self.unallocated, 0)) - self.set_aside


@dataclass(frozen=True, slots=True)
class Claim:
    """What one order line has of the SKU, or waits for. `allocated` by location."""

    order_id: str
    line_id: str
    reserved: int = 0
    backordered: int = 0
    allocated: tuple[tuple[str, int], ...] = ()

    @property
    def key(self) -> str:
        return claim_key(self.order_id, self.line_id)


@dataclass(frozen=True, slots=True)
class Claims:
    """The open claims by their turn: the order of their arrival, theirs until they close."""

    by_turn: PMap[int, Claim] = field(default_factory=Map)
    turn_of: PMap[str, int] = field(default_factory=Map)
    next_turn: int = 0
    reserved: Turns = field(default_factory=Turns)
    waiting: Turns = field(default_factory=Turns)

    def get(self, key: str) -> Claim | None:
        turn = self.turn_of.get(key)
        return None if turn is None else self.by_turn[turn]

    def put(self, claim: Claim) -> Claims:
        by_turn, turn_of, next_turn, key = self.by_turn, self.turn_of, self.next_turn, claim.key
        turn = turn_of.get(key)
        if turn is None:
            turn, next_turn = next_turn, next_turn + 1
            turn_of = turn_of.set(key, turn)
        if claim.reserved or claim.backordered or claim.allocated:
            by_turn = by_turn.set(turn, claim)
        else:
            turn_of = turn_of.delete(key)
            by_turn = by_turn.delete(turn) if turn in by_turn else by_turn
        return Claims(
            by_turn,
            turn_of,
            next_turn,
            self.reserved.add(turn) if claim.reserved > 0 else self.reserved.discard(turn),
            self.waiting.add(turn) if claim.backordered > 0 else self.waiting.discard(turn),
        )


@dataclass(frozen=True, slots=True)
class Flows:
    """All units that ever came and went, by how. Written-off ones were never on hand again."""

    received: int = 0
    adjusted: int = 0
    restocked: int = 0
    shipped_out: int = 0
    written_off: int = 0


@dataclass(frozen=True, slots=True)
class References:
    """The newest feed references by location: feeds repeat themselves, sometimes under new message ids."""

    places: PMap[str, int] = field(default_factory=Map)
    marks: PMap[int, str] = field(default_factory=Map)
    count: int = 0

    def __contains__(self, mark: str) -> bool:
        return mark in self.places

    def add(self, mark: str) -> References:
        if mark in self.places:
            return self
        places, marks = self.places.set(mark, self.count), self.marks.set(self.count, mark)
        oldest = self.count - REFERENCES_KEPT
        if oldest >= 0:
            places, marks = places.delete(marks[oldest]), marks.delete(oldest)
        return References(places, marks, self.count + 1)


@dataclass(frozen=True, slots=True)
class Stock:
    """One SKU after its events so far; `Stock()` is a SKU nobody has heard of."""

    known: bool = False
    on_hand: int = 0
    reserved: int = 0
    allocated: int = 0
    backordered: int = 0
    shelves: PMap[str, Shelf] = field(default_factory=Map)
    claims: Claims = field(default_factory=Claims)
    flows: Flows = field(default_factory=Flows)
    references: References = field(default_factory=References)
    set_aside: int = 0

    @property
    def available(self) -> int:
        """What a new order may claim. Negative while fewer units are there than locations have allocated."""
        return self.on_hand - self.set_aside - self.reserved - self.allocated

    def shelf(self, location: str) -> Shelf:
        return self.shelves.get(location, _EMPTY)


_EMPTY = Shelf()


def claim_key(order_id: str, line_id: str) -> str:
    return f"{order_id}/{line_id}"


def taken_mark(location: str, reference: str) -> str:
    return f"{location}/{reference}"


def rejected_mark(location: str, reference: str) -> str:
    """Apart from those taken: what was rejected may be sent again once the reason has gone."""
    return f"rejected:{location}/{reference}"


def evolve(stock: Stock, event: StockEvent) -> Stock:
    """Fold one event in. Never refuses: `check_stock` says what does not add up."""
    match event:
        case StockReserved():
            return _claimed(stock, event, reserved=event.quantity)
        case StockAllocated(quantity=units):
            return _claimed(stock, event, reserved=-units, allocated=units, location=event.location)
        case StockShippedOut(quantity=units):
            location, at = event.location, event.happened_at
            return _claimed(stock, event, allocated=-units, location=location, shipped=units, shipped_at=at)
        case StockBackordered():
            return _claimed(stock, event, backordered=event.quantity)
        case BackorderFilled(quantity=units):
            return _claimed(stock, event, reserved=units, backordered=-units)
        case StockDeallocated(quantity=units):
            return _claimed(stock, event, reserved=units, allocated=-units, location=event.location)
        case StockLetGo(was="reserved"):
            return _claimed(stock, event, reserved=-event.quantity)
        case StockLetGo(was="backordered"):
            return _claimed(stock, event, backordered=-event.quantity)
        case StockLetGo():
            return _claimed(stock, event, allocated=-event.quantity, location=event.location or "")
        case StockReceived(quantity=units):
            return _came(stock, event, received=units)
        case StockAdjusted(delta=units) | StockCountRecorded(delta=units):
            return _came(stock, event, adjusted=units)
        case StockRestocked(quantity=units):
            return _came(stock, event, restocked=units)
        case StockWrittenOff(quantity=units):
            return _came(stock, event, written_off=units)
        case StockSetAside(location=location, delta=units):
            shelf = stock.shelf(location)
            shelf = replace(shelf, set_aside=shelf.set_aside + units, ships=event.ships)
            return replace(stock, shelves=stock.shelves.set(location, shelf), set_aside=stock.set_aside + units)
        case StockRejected():
            references = stock.references.add(rejected_mark(event.location, event.reference))
            return Stock(
                stock.known,
                stock.on_hand,
                stock.reserved,
                stock.allocated,
                stock.backordered,
                stock.shelves,
                stock.claims,
                stock.flows,
                references,
                stock.set_aside,
            )
        case _:
            assert_never(event)


def _claimed(
    stock: Stock,
    event: ClaimFact,
    *,
    reserved: int = 0,
    backordered: int = 0,
    allocated: int = 0,
    location: str | None = None,
    shipped: int = 0,
    shipped_at: datetime | None = None,
) -> Stock:
    """`stock` after units of one claim changed their state."""
    claim = stock.claims.get(claim_key(event.order_id, event.line_id)) or Claim(event.order_id, event.line_id)
    places, shelves, flows = claim.allocated, stock.shelves, stock.flows
    if location is not None:
        places = _placed(places, location, allocated)
        shelves = shelves.set(location, stock.shelf(location).moved(-shipped, shipped_at, allocated))
    if shipped:
        flows = Flows(flows.received, flows.adjusted, flows.restocked, flows.shipped_out + shipped, flows.written_off)
    after = Claim(claim.order_id, claim.line_id, claim.reserved + reserved, claim.backordered + backordered, places)
    return Stock(
        stock.known,
        stock.on_hand - shipped,
        stock.reserved + reserved,
        stock.allocated + allocated,
        stock.backordered + backordered,
        shelves,
        stock.claims.put(after),
        flows,
        stock.references,
        stock.set_aside,
    )


def _placed(places: tuple[tuple[str, int], ...], location: str, units: int) -> tuple[tuple[str, int], ...]:
    units += sum(there for place, there in places if place == location)
    others = tuple(pair for pair in places if pair[0] != location)
    return (*others, (location, units)) if units else others


def _came(
    stock: Stock,
    event: StockReceived | StockAdjusted | StockCountRecorded | StockRestocked | StockWrittenOff,
    *,
    received: int = 0,
    adjusted: int = 0,
    restocked: int = 0,
    written_off: int = 0,
) -> Stock:
    """`stock` after units came to a location or were found missing there, without a claim being touched."""
    units, flows, shelf = received + adjusted + restocked, stock.flows, stock.shelf(event.location)
    match event:
        case StockCountRecorded():
            shelf = shelf.counted(units, event.happened_at)
        case StockReceived() | StockAdjusted() | StockRestocked():
            shelf = shelf.moved(units, event.happened_at)
    return Stock(
        True,
        stock.on_hand + units,
        stock.reserved,
        stock.allocated,
        stock.backordered,
        stock.shelves.set(event.location, shelf),
        stock.claims,
        Flows(
            flows.received + received,
            flows.adjusted + adjusted,
            flows.restocked + restocked,
            flows.shipped_out,
            flows.written_off + written_off,
        ),
        stock.references.add(taken_mark(event.location, event.reference)),
        stock.set_aside,
    )


def availability(sku: str, version: int, stock: Stock) -> Availability:
    """The message for those who offer the SKU for sale; `version` is that of the stock stream."""
    return Availability(
        sku=sku,
        version=version,
        available=stock.available,
        locations={
            location: LocationAvailability(on_hand=shelf.on_hand, unallocated=shelf.free)
            for location, shelf in sorted(stock.shelves.items())
        },
    )


def stock_summary(stock: Stock) -> dict[str, Any]:
    """The SKU's numbers for views, as JSON can hold them; the same for the same state. O(locations)."""
    flows = stock.flows
    return {
        "known": stock.known,
        "on_hand": stock.on_hand,
        "available": stock.available,
        "reserved": stock.reserved,
        "allocated": stock.allocated,
        "backordered": stock.backordered,
        "set_aside": stock.set_aside,
        "open_claims": len(stock.claims.by_turn),
        "received": flows.received,
        "adjusted": flows.adjusted,
        "restocked": flows.restocked,
        "shipped_out": flows.shipped_out,
        "written_off": flows.written_off,
        "locations": {
            location: {
                "on_hand": shelf.on_hand,
                "allocated": shelf.allocated,
                "unallocated": shelf.unallocated,
                "set_aside": shelf.set_aside,
                "ships": shelf.ships,
            }
            for location, shelf in sorted(stock.shelves.items())
        },
    }


def check_stock(stock: Stock) -> list[str]:
    """The invariants that do not hold, each in a sentence; `[]` if all is well. O(claims).

    They hold after every decision; between two events of one, availability may be negative for a moment.
    """
    wrong: list[str] = []

    def equal(what: str, found: int, expected: int) -> None:
        if found != expected:
            wrong.append(f"{what}: {found}, expected {expected}")

    shelves, claims, flows = stock.shelves, stock.claims, stock.flows
    open_claims = list(claims.by_turn.values())
    equal("on hand over all locations", sum(shelf.on_hand for shelf in shelves.values()), stock.on_hand)
    equal("allocated over all locations", sum(shelf.allocated for shelf in shelves.values()), stock.allocated)
    equal("set aside over all locations", sum(shelf.set_aside for shelf in shelves.values()), stock.set_aside)
    equal(
        "on hand by what came and went",
        flows.received + flows.adjusted + flows.restocked - flows.shipped_out,
        stock.on_hand,
    )
    equal("reserved over all claims", sum(claim.reserved for claim in open_claims), stock.reserved)
    equal("backordered over all claims", sum(claim.backordered for claim in open_claims), stock.backordered)
    by_place: dict[str, int] = {}
    for claim in open_claims:
        for place, units in claim.allocated:
            by_place[place] = by_place.get(place, 0) + units
    for location in sorted(shelves.keys() | by_place.keys()):
        shelf = stock.shelf(location)
        equal(f"allocated at {location} over all claims", by_place.get(location, 0), shelf.allocated)
        equal(f"set aside at {location}", shelf.set_aside, shelf.set_aside + shelf.to_set_aside(shelf.ships))
        if shelf.on_hand < 0:
            wrong.append(f"on hand at {location}: {shelf.on_hand}, less than nothing")
    equal("claims that know their turn", len(claims.turn_of), len(open_claims))
    for turn, claim in sorted(claims.by_turn.items()):
        states = (claim.reserved, claim.backordered, *(there for _, there in claim.allocated))
        if min(states) < 0 or not any(states):
            wrong.append(f"claim {claim.key}: units {states} are negative or none")
        if claims.turn_of.get(claim.key) != turn or turn >= claims.next_turn:
            wrong.append(f"claim {claim.key}: turn {turn} is not the one it is found by")
        if (turn in claims.reserved) != (claim.reserved > 0) or (turn in claims.waiting) != (claim.backordered > 0):
            wrong.append(f"claim {claim.key}: missing in a queue, or in one too many")
    if stock.available < 0 and stock.reserved > 0:
        wrong.append(f"available: {stock.available} although {stock.reserved} reserved units could give way")
    return wrong


STOCK = Decider("stock", Stock(), evolve, shared=True)
