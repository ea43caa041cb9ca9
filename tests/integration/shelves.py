"""A service small enough to see through, for tests of the log: shelves of units, told in facts of real contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from ordermill.contracts.base import Fact, Message
from ordermill.contracts.inventory import Availability, StockAdjusted, StockReceived
from ordermill.decider import Decider, Decision
from ordermill.errors import Refused
from ordermill.eventlog.engine import Cause, Rules, Task
from ordermill.eventlog.records import GENESIS, Row, chain
from ordermill.eventlog.store import Timer
from ordermill.eventlog.views import PublishedState, View

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
CAUSE = Cause("scan-1", "order-1", "topic:oms.location.stock", MONDAY)


@dataclass(frozen=True, slots=True)
class Shelf:
    units: int = 0
    moves: int = 0


class NotEnough(Refused):
    code = "test.not-enough"


def evolve(shelf: Shelf, event: Fact) -> Shelf:
    match event:
        case StockReceived():
            return replace(shelf, units=shelf.units + event.quantity)
        case StockAdjusted():
            return Shelf(shelf.units + event.delta, shelf.moves + 1)
    return shelf


SHELVES = Decider("shelf", Shelf(), evolve)
BINS = Decider("bin", Shelf(), evolve)


def received(quantity: int, reference: str = "delivery", sku: str = "teapot") -> StockReceived:
    return StockReceived(sku=sku, location="berlin", quantity=quantity, reference=reference)


def adjusted(delta: int, reference: str = "walk", sku: str = "teapot") -> StockAdjusted:
    return StockAdjusted(sku=sku, location="berlin", delta=delta, reason="moved", reference=reference)


def receive(stream: str, quantity: int = 1, reference: str = "delivery") -> Decision:
    return Decision((stream,), lambda states: [(stream, received(quantity, reference))])


def stock_once(stream: str) -> Decision:
    """A first unit, if there is none."""
    return Decision((stream,), lambda states: [] if states[stream].units else [(stream, received(1))])


def take(stream: str, quantity: int, reference: str = "walk") -> Decision:
    def decide(states: Mapping[str, Any]) -> Iterator[tuple[str, Fact]]:
        if states[stream].units < quantity:
            raise NotEnough(f"{stream} has {states[stream].units}, asked for {quantity}")
        yield stream, adjusted(-quantity, reference)

    return Decision((stream,), decide)


def move(source: str, target: str, quantity: int, declared: Sequence[str] | None = None) -> Decision:
    """From one shelf to another, both or neither. `declared`: the streams it says beforehand that it needs."""

    def decide(states: Mapping[str, Any]) -> Iterator[tuple[str, Fact]]:
        if states[source].units < quantity:
            raise NotEnough(f"{source} has {states[source].units}, asked for {quantity}")
        _ = states[target]
        yield source, adjusted(-quantity)
        yield target, adjusted(quantity)

    return Decision(tuple((source, target) if declared is None else declared), decide)


def task(*decisions: Decision, message: UUID | None = None, key: str = "", **more: Any) -> Task:
    return Task(replace(CAUSE, message=message), decisions, key=key, **more)


def document(shelf: Shelf) -> dict[str, Any]:
    return {"units": shelf.units, "state": "stocked" if shelf.units else "empty", "moves": shelf.moves}


def availability(key: str, version: int, shelf: Shelf) -> Message | None:
    if not shelf.units and not shelf.moves:
        return None
    return Availability(sku=key, version=version, available=shelf.units, locations={})


def timers(stream: str, event: Fact) -> Sequence[Timer | tuple[str, str]]:
    """A delivery is to be counted within a day; a unit taken shows that somebody looked."""
    if isinstance(event, StockReceived):
        return [Timer(stream, "count", MONDAY + timedelta(days=1))]
    return [(stream, "count")]


SHELF_VIEW = View("shelves", "shelf", document, indexed=("state",))
RULES = Rules(
    deciders=(SHELVES, BINS),
    views=(SHELF_VIEW,),
    published=(PublishedState("shelf", availability),),
    timers=timers,
    effects={StockAdjusted: lambda event: f"tell-{event.reference}"},
    snapshot_every=10,
)


def rows_of(stream: str, *events: Fact, after: Row | None = None, recorded_at: datetime = MONDAY) -> list[Row]:
    """Events as the next rows of a stream."""
    rows: list[Row] = []
    for event in events:
        last = rows[-1] if rows else after
        version, previous = (last.version + 1, last.hash) if last else (1, GENESIS)
        origin = ("order-1", "scan-1", "test", MONDAY, recorded_at)
        content = (stream, version, uuid4(), event.type, event.to_json(), *origin)
        rows.append(Row(*content, chain(previous, *content)))
    return rows
