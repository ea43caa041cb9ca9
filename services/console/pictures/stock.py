"""One SKU over all locations: what is there, who has a claim on it, and what each fact moved. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from ordermill.contracts.base import Message
from ordermill.contracts.capture import OrderCaptured
from ordermill.contracts.inventory import (
    BackorderFilled,
    StockAdjusted,
    StockAllocated,
    StockBackordered,
    StockCountRecorded,
    StockDeallocated,
    StockFact,
    StockLetGo,
    StockReceived,
    StockRejected,
    StockReserved,
    StockRestocked,
    StockSetAside,
    StockShippedOut,
    StockWrittenOff,
)
from services.console.picture import Document, Picture
from services.console.told import Told

Number = Literal[
    "on_hand",
    "set_aside",
    "reserved",
    "allocated",
    "backordered",
    "available",
    "unallocated",
    "shipped_out",
    "written_off",
]


@dataclass(frozen=True, slots=True)
class Move:
    """By how many units one fact changed each number. `location` is None for claims on the whole network."""

    location: str | None = None
    received: int = 0
    adjusted: int = 0
    restocked: int = 0
    shipped_out: int = 0
    written_off: int = 0
    reserved: int = 0
    allocated: int = 0
    backordered: int = 0
    set_aside: int = 0

    @property
    def on_hand(self) -> int:
        return self.received + self.adjusted + self.restocked - self.shipped_out

    @property
    def available(self) -> int:
        """Of what new orders may claim (ATP)."""
        return self.on_hand - self.set_aside - self.reserved - self.allocated

    @property
    def unallocated(self) -> int:
        return self.on_hand - self.allocated

    def of(self, number: Number) -> int:
        return int(getattr(self, number))


def move(fact: Message | None) -> Move:
    """What a stock fact moved; nothing for one that was refused, or is not of stock."""
    match fact:
        case StockReceived(quantity=units):
            return Move(fact.location, received=units)
        case StockAdjusted(delta=units) | StockCountRecorded(delta=units):
            return Move(fact.location, adjusted=units)
        case StockRestocked(quantity=units):
            return Move(fact.location, restocked=units)
        case StockWrittenOff(quantity=units):
            return Move(fact.location, written_off=units)
        case StockSetAside(delta=units):
            return Move(fact.location, set_aside=units)
        case StockReserved(quantity=units):
            return Move(reserved=units)
        case StockBackordered(quantity=units):
            return Move(backordered=units)
        case BackorderFilled(quantity=units):
            return Move(reserved=units, backordered=-units)
        case StockAllocated(quantity=units):
            return Move(fact.location, reserved=-units, allocated=units)
        case StockDeallocated(quantity=units):
            return Move(fact.location, reserved=units, allocated=-units)
        case StockShippedOut(quantity=units):
            return Move(fact.location, allocated=-units, shipped_out=units)
        case StockLetGo(was="reserved", quantity=units):
            return Move(reserved=-units)
        case StockLetGo(was="backordered", quantity=units):
            return Move(backordered=-units)
        case StockLetGo(quantity=units):
            return Move(fact.location, allocated=-units)
        case _:
            return Move()


def in_words(fact: StockFact) -> str:
    """What happened, as a person would say it."""
    match fact:
        case StockReceived():
            return f"{_units(fact.quantity)} came in"
        case StockAdjusted():
            found = "found" if fact.delta > 0 else "lost"
            return f"{_units(abs(fact.delta))} {found}: {fact.reason}" if fact.delta else f"No change: {fact.reason}"
        case StockCountRecorded():
            if not fact.delta:
                return f"Counted {fact.counted}, as the books had it"
            return f"Counted {fact.counted}, the books had {fact.counted - fact.delta}"
        case StockRejected():
            return f"A line was refused and changed nothing: {fact.reason}"
        case StockReserved():
            return f"{_units(fact.quantity)} claimed, no location yet"
        case StockBackordered():
            return f"{_units(fact.quantity)} waited for"
        case BackorderFilled():
            return f"{_units(fact.quantity)} waited for became there, and claimed"
        case StockAllocated():
            return f"{_units(fact.quantity)} claimed at this location"
        case StockDeallocated():
            return f"{_units(fact.quantity)} given back by this location, to be routed again"
        case StockLetGo():
            return f"Claim on {_units(fact.quantity)} ended without a shipment (was {fact.was})"
        case StockShippedOut():
            return f"{_units(fact.quantity)} left the building"
        case StockRestocked():
            return f"{_units(fact.quantity)} came back and can be sold again (return {fact.return_id})"
        case StockWrittenOff():
            reason = f": {fact.reason}" if fact.reason else ""
            return f"{_units(fact.quantity)} came back unfit for sale (return {fact.return_id}){reason}"
        case StockSetAside():
            return _set_aside(fact)
        case _:
            return type(fact).type


def _set_aside(fact: StockSetAside) -> str:
    if fact.ships:
        return f"This location ships again: {_units(-fact.delta)} for sale again"
    if fact.delta < 0:
        return f"{_units(-fact.delta)} less set aside: this location does not ship"
    return f"{_units(fact.delta)} set aside, not for sale: this location does not ship"


def _units(count: int) -> str:
    return f"{count:,} unit{'' if count == 1 else 's'}"


class Shelf(Document):
    """The SKU at one location."""

    on_hand: int = 0
    allocated: int = 0
    set_aside: int = 0
    ships: bool = True
    received: int = 0
    adjusted: int = 0
    restocked: int = 0
    shipped_out: int = 0
    written_off: int = 0
    counted_version: int = 0
    counted_at: datetime | None = None

    @property
    def unallocated(self) -> int:
        """Units there that no order has a claim on at this location; negative after a count that found too few."""
        return self.on_hand - self.allocated


class Sku(Document):
    """One SKU after all that was told of it."""

    known: bool = False
    """Some of it once came to a location, or was counted there."""
    version: int = 0
    title: str = ""
    titled_at: datetime | None = None
    reserved: int = 0
    backordered: int = 0
    locations: dict[str, Shelf] = Field(default_factory=dict)
    changed_at: datetime | None = None

    def _sum(self, name: str) -> int:
        return sum(getattr(shelf, name) for shelf in self.locations.values())

    @property
    def on_hand(self) -> int:
        return self._sum("on_hand")

    @property
    def allocated(self) -> int:
        return self._sum("allocated")

    @property
    def set_aside(self) -> int:
        return self._sum("set_aside")

    @property
    def unallocated(self) -> int:
        return self.on_hand - self.allocated

    @property
    def available(self) -> int:
        """What a new order may claim (ATP)."""
        return self.on_hand - self.set_aside - self.reserved - self.allocated

    @property
    def shipped_out(self) -> int:
        return self._sum("shipped_out")

    @property
    def written_off(self) -> int:
        return self._sum("written_off")

    @property
    def negative(self) -> bool:
        """More is claimed than is there: over all locations, or at one of them."""
        return self.available < 0 or any(shelf.unallocated < 0 for shelf in self.locations.values())

    def number(self, number: Number, location: str | None = None) -> int:
        """One of its numbers, or of a location's; a location has no part in what is reserved or waited for."""
        if location is None:
            return int(getattr(self, number))
        return int(getattr(self.locations.get(location, Shelf()), number, 0))


def draw(sku: Sku, key: str, item: Told) -> None:
    """Fold one message in. Facts of the SKU's stream come in order; titles come with orders, whose newest counts."""
    fact = item.message
    if isinstance(fact, OrderCaptured):
        for line in fact.lines:
            if line.sku == key and line.title:
                _entitle(sku, line.title, fact.placed_at)
        return
    sku.version = item.version or sku.version
    sku.changed_at = max(item.happened_at, sku.changed_at or item.happened_at)
    moved = move(fact)
    sku.reserved += moved.reserved
    sku.backordered += moved.backordered
    if moved.location is None:
        return
    shelf = sku.locations.setdefault(moved.location, Shelf())
    shelf.on_hand += moved.on_hand
    shelf.allocated += moved.allocated
    shelf.set_aside += moved.set_aside
    if isinstance(fact, StockSetAside):
        shelf.ships = fact.ships
    for name in ("received", "adjusted", "restocked", "shipped_out", "written_off"):
        setattr(shelf, name, getattr(shelf, name) + getattr(moved, name))
    if isinstance(fact, StockReceived | StockAdjusted | StockCountRecorded | StockRestocked | StockWrittenOff):
        sku.known = True
    if isinstance(fact, StockCountRecorded):
        shelf.counted_version, shelf.counted_at = sku.version, item.happened_at


def _entitle(sku: Sku, title: str, at: datetime) -> None:
    if sku.titled_at is None or (at, title) > (sku.titled_at, sku.title):
        sku.title, sku.titled_at = title, at


def columns(sku: Sku) -> Mapping[str, Any]:
    return {
        "title": sku.title,
        "locations": sorted(sku.locations),
        "on_hand": sku.on_hand,
        "available": sku.available,
        "backordered": sku.backordered,
        "negative": sku.negative,
        "changed_at": sku.changed_at,
    }


def keys(item: Told) -> Iterable[str]:
    match item.message:
        case StockFact() as fact:
            return (fact.sku,)
        case OrderCaptured() as order:
            return dict.fromkeys(line.sku for line in order.lines)
        case _:
            return ()


FACTS: frozenset[type[Message]] = frozenset({
    StockReceived, StockAdjusted, StockCountRecorded, StockRejected, StockReserved, StockBackordered, BackorderFilled,
    StockAllocated, StockDeallocated, StockLetGo, StockShippedOut, StockRestocked, StockWrittenOff, StockSetAside,
})  # fmt: skip

STOCK = Picture(
    table="stock",
    document=Sku,
    messages=FACTS | {OrderCaptured},
    keys=keys,
    draw=draw,
    columns=columns,
)
