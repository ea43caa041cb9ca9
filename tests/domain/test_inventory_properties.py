"""Inventory's promises over any sequence of commands: 3 SKUs, 3 locations, 9 orders, repeats and nonsense included."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ordermill.contracts.base import Fact
from ordermill.contracts.capture import OrderReleased, ReleasedLine
from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import RejectReason
from ordermill.contracts.inventory import (
    AllocationRecalled,
    BackorderFilled,
    CancellationTooLate,
    ClaimFact,
    OrderBackordered,
    OrderDeallocated,
    OrderLetGo,
    OrderRefused,
    OrderShippedOut,
    RecallDeclined,
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
from ordermill.contracts.returns import Disposition, InspectedLine
from ordermill.contracts.routing import CostParts, PlannedShipment
from services.inventory.domain import (
    RESERVATION,
    STOCK,
    AllocatePlan,
    CancelUnits,
    Command,
    CorrectStock,
    CountStock,
    HeedNetwork,
    KeepRecalled,
    LetGoRecalled,
    ReceiveStock,
    RerouteUnits,
    Reservation,
    ReserveOrder,
    ShipOut,
    Stock,
    TakeBackRejected,
    TakeBackShortPicked,
    TakeInReturn,
    availability,
    check_agreement,
    check_reservation,
    check_stock,
    decide,
    reservation_summary,
    stock_summary,
    streams,
    units_claimed,
)
from services.inventory.domain.turns import Turns
from services.inventory.errors import NothingToReroute
from tests.spec import through_json

SKUS = ("CUP", "SAUCER", "TEAPOT")
LOCATIONS = ("east", "shop", "west")
KNOWN = frozenset(LOCATIONS)
AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
ORDERS = tuple(f"order-{n}" for n in range(9))
BACKORDER_CAP = 12
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FREE = Money.zero("USD")
NO_COST = CostParts(shipping=FREE, handling=FREE, delay=FREE, total=FREE)


class NotLoaded(Exception):
    """A decision asked for a stream that is not here yet."""


class Loaded(dict[str, Any]):
    def __missing__(self, stream: str) -> Any:
        raise NotLoaded(stream)


@dataclass
class Tally:
    """One SKU, counted independently of the domain by adding up its facts."""

    on_hand: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    claims: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    """By order and line, in the order in which they came."""

    @property
    def available(self) -> int:
        claimed = sum(n for claim in self.claims.values() for state, n in claim.items() if state != "backordered")
        return sum(self.on_hand.values()) - sum(self.set_aside.values()) - claimed

    def free(self, location: str) -> int:
        return self.on_hand[location] - sum(claim[f"at {location}"] for claim in self.claims.values())

    def add(self, event: StockFact) -> None:
        match event:
            case StockReceived() | StockRestocked():
                self.on_hand[event.location] += event.quantity
            case StockAdjusted() | StockCountRecorded():
                self.on_hand[event.location] += event.delta
            case StockSetAside():
                self.set_aside[event.location] += event.delta
            case ClaimFact():
                key = (event.order_id, event.line_id)
                claim = self.claims.setdefault(key, Counter())
                for state, sign in self.moves(event):
                    claim[state] += sign * event.quantity
                if isinstance(event, StockShippedOut):
                    self.on_hand[event.location] -= event.quantity
                if not any(claim.values()):
                    del self.claims[key]

    @staticmethod
    def moves(event: ClaimFact) -> list[tuple[str, int]]:
        match event:
            case StockReserved():
                return [("reserved", 1)]
            case StockBackordered():
                return [("backordered", 1)]
            case BackorderFilled():
                return [("backordered", -1), ("reserved", 1)]
            case StockAllocated():
                return [("reserved", -1), (f"at {event.location}", 1)]
            case StockDeallocated():
                return [(f"at {event.location}", -1), ("reserved", 1)]
            case StockLetGo(was="allocated"):
                return [(f"at {event.location}", -1)]
            case StockLetGo():
                return [(event.was, -1)]
            case StockShippedOut():
                return [(f"at {event.location}", -1)]
        raise AssertionError(event)


class World:
    """Runs commands as the log would, and looks at everything after each."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.history: dict[str, list[Fact]] = {}
        self.tallies = {sku: Tally() for sku in SKUS}
        self.shipping = dict.fromkeys(SKUS, KNOWN)
        self.done: list[Command] = []
        self.recalls: list[AllocationRecalled] = []
        self.open_recalls: dict[tuple[str, str, str], dict[str, int]] = {}
        """Units that a location has not let go yet, counted by the facts, by order, fulfillment order and line."""
        self.called_off: Counter[str] = Counter()
        """Units that any cancellation called off at a location, by line; those asked for anew count once."""

    def stock(self, sku: str) -> Stock:
        return self.states.get(STOCK.stream(sku), Stock())

    def reservation(self, order_id: str) -> Reservation:
        return self.states.get(RESERVATION.stream(order_id), Reservation())

    def decide(self, command: Command) -> list[tuple[str, Fact]]:
        loaded = Loaded()
        wanted = list(streams(command))
        while True:
            for stream in wanted:
                initial = Stock() if stream.startswith("stock-") else Reservation()
                loaded[stream] = self.states.get(stream, initial)
            try:
                return decide(loaded, command)
            except NotLoaded as absent:
                wanted = [str(absent)]

    def run(self, command: Command) -> list[Fact]:
        available = {sku: tally.available for sku, tally in self.tallies.items()}
        recorded = self.decide(command)
        events = [event for _, event in recorded]
        for stream, event in recorded:
            assert through_json(event) == event
            if isinstance(event, StockFact):
                assert stream == f"stock-{event.sku}"
                self.tallies[event.sku].add(event)
            else:
                assert stream == f"reservation-{event.order_id}"
            decider = STOCK if isinstance(event, StockFact) else RESERVATION
            self.states[stream] = decider.evolve(self.states.get(stream, decider.initial), event)
            self.history.setdefault(stream, []).append(event)
        if isinstance(command, HeedNetwork):
            self.shipping[command.sku] = command.shipping
        self.check_recalls(events)
        if events:
            self.done.append(command)
        if isinstance(command, ReserveOrder):
            self.check_grant(command, events, available)
        elif isinstance(command, AllocatePlan):
            self.check_allocation(command, events)
        else:
            self.check_turns(command, events)
        self.check()
        return events

    def check(self) -> None:
        stocks = {sku: self.stock(sku) for sku in SKUS}
        reservations = {order_id: self.reservation(order_id) for order_id in ORDERS}
        for sku, stock in stocks.items():
            assert check_stock(stock) == [], sku
            tally = self.tallies[sku]
            assert {place: n for place, n in tally.on_hand.items() if n} == {
                place: shelf.on_hand for place, shelf in stock.shelves.items() if shelf.on_hand
            }
            assert stock.available == tally.available
            for place in LOCATIONS:
                aside = 0 if place in self.shipping[sku] else max(0, tally.free(place))
                assert tally.set_aside[place] == aside, "what no one has claimed is for sale where it ships, only there"
        for order_id, reservation in reservations.items():
            assert check_reservation(reservation) == [], order_id
        assert check_agreement(units_claimed(stocks), reservations) == []

    def check_recalls(self, events: list[Fact]) -> None:
        """What comes back from a location is let go as far as cancellations call it off there, none more, none less.

        Only units beyond those are offered for routing again or give way.
        """
        called_off = {key: sum(units.values()) for key, units in self.open_recalls.items()}
        came_back: Counter[tuple[str, str, str]] = Counter()
        let_go: Counter[tuple[str, str, str]] = Counter()
        taken_over: Counter[tuple[str, str]] = Counter()
        told: Counter[tuple[str, str]] = Counter()
        for event in events:
            if isinstance(event, CancellationTooLate) and event.taken_over_by is not None:
                told.update({(event.cancellation_id, line.line_id): line.quantity for line in event.lines})
            elif isinstance(event, AllocationRecalled):
                self.recalls.append(event)
                for line in event.lines if event.reroute is None else ():
                    recalls = self.open_recalls.setdefault((event.order_id, event.fulfillment_id, line.line_id), {})
                    held = self.reservation(event.order_id).held[event.fulfillment_id].units[line.line_id]
                    asked_anew = line.quantity - (held - sum(recalls.values()))
                    for earlier in reversed(recalls):
                        less = min(recalls[earlier], max(0, asked_anew))
                        recalls[earlier] -= less
                        taken_over[earlier, line.line_id] += less
                        asked_anew -= less
                        self.called_off[line.line_id] -= less
                    self.called_off[line.line_id] += line.quantity
                    recalls[event.cancellation_id] = recalls.get(event.cancellation_id, 0) + line.quantity
            elif isinstance(event, RecallDeclined):
                for line in event.lines:
                    recalls = self.open_recalls.get((event.order_id, event.fulfillment_id, line.line_id), {})
                    if event.cancellation_id in recalls:
                        recalls[event.cancellation_id] -= line.quantity
                        self.called_off[line.line_id] -= line.quantity
            elif isinstance(event, OrderLetGo | OrderDeallocated | OrderBackordered) and event.fulfillment_id:
                for line in event.lines:
                    key = (event.order_id, event.fulfillment_id, line.line_id)
                    came_back[key] += line.quantity
                    if isinstance(event, OrderLetGo) and event.cancellation_id is not None:
                        assert event.cause == "canceled"
                        self.open_recalls[key][event.cancellation_id] -= line.quantity
                        assert self.open_recalls[key][event.cancellation_id] >= 0, "let go twice under one recall"
                        let_go[key] += line.quantity
            elif isinstance(event, OrderShippedOut):
                for line in event.lines:
                    key = (event.order_id, event.fulfillment_id, line.line_id)
                    held = self.reservation(event.order_id).held[event.fulfillment_id].units.get(line.line_id, 0)
                    recalls = self.open_recalls.get(key, {})
                    for cancellation_id in reversed(recalls):
                        recalls[cancellation_id] -= min(recalls[cancellation_id], max(0, sum(recalls.values()) - held))
        assert told == +taken_over, "a cancellation is told what another has taken over"
        for key, units in came_back.items():
            assert let_go[key] == min(units, called_off.get(key, 0))
        for (order_id, fulfillment_id, line_id), recalls in self.open_recalls.items():
            now = self.reservation(order_id).held[fulfillment_id].recalls
            assert {r.cancellation_id: r.units[line_id] for r in now if line_id in r.units} == {
                cancellation_id: units for cancellation_id, units in recalls.items() if units
            }

    def check_grant(self, command: ReserveOrder, events: list[Fact], available: dict[str, int]) -> None:
        """All lines or none; nothing that is not there; nobody refused what is there."""
        order = command.released
        wanted: Counter[str] = Counter()
        for line in order.lines:
            wanted[line.sku] += line.quantity
        granted: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        for event in events:
            if isinstance(event, StockReserved):
                granted[event.sku] += event.quantity
            elif isinstance(event, StockBackordered):
                waiting[event.sku] += event.quantity
        assert all(units <= available[sku] for sku, units in granted.items())
        assert all(self.stock(sku).backordered <= command.backorder_cap for sku in waiting)
        if any(isinstance(event, OrderRefused) for event in events):
            assert len(events) == 1
            assert any(units > available[sku] for sku, units in wanted.items())
        elif events:
            assert granted + waiting == wanted
            assert order.allow_backorder or not waiting

    def check_allocation(self, command: AllocatePlan, events: list[Fact]) -> None:
        """No location promises more than it has; a plan is allocated whole, as far as its units are reserved."""
        allocated: Counter[tuple[str, str]] = Counter()
        for event in events:
            if isinstance(event, StockAllocated):
                allocated[event.location, event.line_id] += event.quantity
                assert self.stock(event.sku).shelf(event.location).unallocated >= 0
                assert event.location in self.shipping[event.sku]
        if allocated:
            for line_id, claim in self.reservation(command.order_id).lines.items():
                asked = sum(
                    line.quantity for part in command.shipments for line in part.lines if line.line_id == line_id
                )
                got = sum(n for (_, of_line), n in allocated.items() if of_line == line_id)
                assert got == min(asked, claim.reserved + got)

    def check_turns(self, command: Command, events: list[Fact]) -> None:
        """First come, first served; last come, first to give way. The order whose units are missing goes before."""
        own = getattr(command, "order_id", None)
        moved_nothing = (StockRejected, StockWrittenOff)
        touched = {
            e.sku
            for e in events
            if isinstance(e, StockFact)
            and not isinstance(e, moved_nothing)
            and not (isinstance(e, StockSetAside) and not e.delta)  # only learned that nothing ships from there
        }
        for sku, tally in self.tallies.items():
            if sku in touched:
                assert self.stock(sku).available <= 0 or not self.stock(sku).backordered, "free units, and who waits"
            filled = [(e.order_id, e.line_id) for e in events if isinstance(e, BackorderFilled) and e.sku == sku]
            came = list(tally.claims)
            assert [came.index(key) for key in filled] == sorted(came.index(key) for key in filled)
            if filled:
                older = came[: came.index(filled[-1])]
                assert not any(tally.claims[key]["backordered"] for key in older)
            gave_way = [
                (e.order_id, e.line_id)
                for e in events
                if isinstance(e, StockLetGo) and e.sku == sku and e.was == "reserved" and e.order_id != own
            ]
            arrived = self.arrivals(sku)
            if gave_way:
                assert tally.available <= 0
                oldest = min(arrived.index(key) for key in gave_way)
                newer = [key for key in arrived[oldest + 1 :] if key in tally.claims]
                assert not any(tally.claims[key]["reserved"] for key in newer)
                if isinstance(command, TakeBackShortPicked):
                    kept = [line.sku for e in events if isinstance(e, OrderDeallocated) for line in e.lines]
                    assert sku not in kept, "the order whose units are missing gives way before others"

    def arrivals(self, sku: str) -> list[tuple[str, str]]:
        facts = self.history.get(STOCK.stream(sku), [])
        return list(dict.fromkeys((e.order_id, e.line_id) for e in facts if isinstance(e, ClaimFact)))

    def line(self, order_id: str, index: int, units: int) -> LineQuantity:
        opened = self.reservation(order_id).opened
        if opened is None:
            return LineQuantity(line_id="1", sku=SKUS[0], quantity=units)
        line = opened.lines[index % len(opened.lines)]
        return LineQuantity(line_id=line.line_id, sku=line.sku, quantity=units)

    def decided(self) -> list[str]:
        return [o for o in ORDERS if self.reservation(o).opened or self.reservation(o).refused]

    def routable(self) -> list[str]:
        return [o for o in ORDERS if any(claim.reserved for claim in self.reservation(o).lines.values())]

    def at_work(self) -> list[tuple[str, str]]:
        return [(o, f) for o in ORDERS for f, held in sorted(self.reservation(o).held.items()) if held.units]

    def held_lines(self, order_id: str, fulfillment_id: str) -> tuple[LineQuantity, ...]:
        reservation = self.reservation(order_id)
        return tuple(
            LineQuantity(line_id=line_id, sku=reservation.lines[line_id].line.sku, quantity=units)
            for line_id, units in sorted(reservation.held[fulfillment_id].units.items())
        )


def planned(order_id: str, plan_id: str, parts: list[tuple[LineQuantity, str]]) -> AllocatePlan:
    by_place: dict[str, list[ReleasedLine]] = {}
    for line, location in parts:
        released = ReleasedLine(line_id=line.line_id, sku=line.sku, quantity=line.quantity)
        by_place.setdefault(location, []).append(released)
    shipments = tuple(
        PlannedShipment(
            fulfillment_id=f"{order_id}.{plan_id}.{location}",
            location=location,
            carrier="ups",
            service="ground",
            distance_km=10,
            ship_by=NOON,
            deliver_by=NOON,
            cost=NO_COST,
            lines=tuple(lines),
        )
        for location, lines in by_place.items()
    )
    return AllocatePlan(order_id, plan_id, shipments)


skus, locations, orders = st.sampled_from(SKUS), st.sampled_from(LOCATIONS), st.sampled_from(ORDERS)
units, which = st.integers(1, 6), st.integers(0, 11)
picks = st.lists(st.tuples(which, units), min_size=1, max_size=3)
wanted = st.lists(st.tuples(skus, st.integers(1, 5)), min_size=1, max_size=3)
reserve = st.tuples(st.just("reserve"), orders, wanted, st.sampled_from([True, True, False]))
route_well_ = st.tuples(st.just("route well"), which)
ship = st.tuples(st.just("ship"), which, st.none() | picks)
short_pick = st.tuples(st.just("short-pick"), which, picks)
cancel = st.tuples(st.just("cancel"), which, st.sampled_from(["canceled", "unroutable"]), picks)
answer = st.tuples(st.just("answer recall"), which, st.booleans() | st.none())
steps = st.one_of(
    reserve,
    route_well_,
    reserve,
    route_well_,
    reserve,
    st.tuples(st.just("receive"), skus, locations, units),
    st.tuples(st.just("correct"), skus, locations, st.integers(-6, 2)),
    st.tuples(st.just("count"), skus, locations, st.integers(0, 3)),
    st.tuples(st.just("feed from nowhere"), skus),
    st.tuples(st.just("network"), skus, st.frozensets(locations)),
    st.tuples(st.just("route"), which, st.lists(st.tuples(which, units, locations), min_size=1, max_size=4)),
    st.tuples(st.just("reject"), which, st.sampled_from(RejectReason), picks),
    short_pick,
    short_pick,
    ship,
    cancel,
    answer,
    cancel,
    answer,
    st.tuples(st.just("return"), skus, locations, st.just(1), st.sampled_from(Disposition)),
    st.tuples(st.just("repeat"), which),
)
COUNTED_IN_PARTS = (ShipOut, TakeBackRejected, TakeBackShortPicked)
"""Only the inbox knows a repeat of these from a second part, while units are left."""


def to_command(world: World, step: Any, number: int) -> Any:
    """The step as a command that fits the world as it is; None if nothing there fits."""
    reference = f"ref-{number}"
    match step:
        case "receive", sku, location, n:
            return ReceiveStock(sku, location, n, reference, AT, KNOWN, location in world.shipping[sku])
        case "correct", sku, location, n:
            return CorrectStock(
                sku, location, n, "found or lost", reference, AT, KNOWN, location in world.shipping[sku]
            )
        case "count", sku, location, n:
            return CountStock(sku, location, n, reference, AT, KNOWN, location in world.shipping[sku])
        case "network", sku, shipping:
            return HeedNetwork(sku, shipping)
        case "feed from nowhere", sku:
            return CountStock(sku, "atlantis", 1000, reference, AT, KNOWN)
        case "reserve", order_id, wanted, may_wait:
            lines = tuple(
                ReleasedLine(line_id=str(place), sku=sku, title=sku.title(), quantity=n, weight_g=100)
                for place, (sku, n) in enumerate(wanted, start=1)
            )
            return ReserveOrder(released(order_id, lines, may_wait), BACKORDER_CAP)
        case "route well", at:
            order_id = nth(world.routable(), at)
            return order_id and route_well(world, order_id, f"plan-{number}")
        case "route", at, parts:
            order_id = nth(world.routable(), at)
            plan = [(world.line(order_id, i, n), location) for i, n, location in parts] if order_id else []
            return order_id and planned(order_id, f"plan-{number}", plan)
        case "return", sku, location, n, disposition:
            line = InspectedLine(line_id="1", sku=sku, quantity=n, disposition=disposition)
            return TakeInReturn(
                f"return-{number}", reference, location, (line, line), AT, location in world.shipping[sku]
            )
        case "cancel", at, cause, parts:
            order_id = nth(world.decided(), at)
            lines = tuple(world.line(order_id, i, n) for i, n in parts) if order_id else ()
            return order_id and CancelUnits(order_id, f"cancellation-{number}", cause, lines)
        case "answer recall", at, None:
            recall = nth(world.recalls, at)
            return recall and KeepRecalled(
                recall.order_id, recall.fulfillment_id, recall.cancellation_id, recall.lines[number % 2 :]
            )
        case "answer recall", at, in_full:
            recall = nth(world.recalls, at)
            called_off = recall and (recall.lines if in_full else recall.lines[:1])
            return recall and LetGoRecalled(recall.order_id, recall.fulfillment_id, recall.cancellation_id, called_off)
        case "repeat", at:
            return nth([done for done in world.done if not isinstance(done, HeedNetwork)], at)
    kind, at, *rest = step
    order_id, fulfillment_id = nth(world.at_work(), at) or (None, None)
    if order_id is None:
        return None
    if rest[-1] is None:
        return ShipOut(order_id, fulfillment_id, world.held_lines(order_id, fulfillment_id), AT)
    lines = tuple(world.line(order_id, i, n) for i, n in rest[-1])
    if kind == "ship":
        return ShipOut(order_id, fulfillment_id, lines, AT)
    if kind == "short-pick":
        return TakeBackShortPicked(order_id, fulfillment_id, lines, AT)
    return TakeBackRejected(order_id, fulfillment_id, rest[0], lines, AT)


def nth(things: list[Any], at: int) -> Any:
    """One of the newest, so that histories meet what they have begun."""
    return things[-1 - at % len(things)] if things else None


def released(order_id: str, lines: tuple[ReleasedLine, ...], may_wait: bool) -> OrderReleased:
    return OrderReleased(
        order_id=order_id,
        channel="web",
        external_id=order_id.upper(),
        placed_at=NOON,
        destination=Destination(country="US", region="OR", postal_code="97201"),
        lines=lines,
        service_level=ServiceLevel.STANDARD,
        allow_backorder=may_wait,
    )


def route_well(world: World, order_id: str, plan_id: str) -> AllocatePlan | None:
    """A plan for all reserved units from where there are some, over several locations if need be."""
    parts: list[tuple[LineQuantity, str]] = []
    left = {(sku, at): world.stock(sku).shelf(at).free for sku in SKUS for at in LOCATIONS}
    for line_id, claim in sorted(world.reservation(order_id).lines.items()):
        sku, open_units = claim.line.sku, claim.reserved
        for location in LOCATIONS:
            n = min(open_units, left[sku, location])
            if n > 0:
                parts.append((LineQuantity(line_id=line_id, sku=sku, quantity=n), location))
                open_units -= n
                left[sku, location] -= n
    return planned(order_id, plan_id, parts) if parts else None


def played(script: list[Any]) -> World:
    world = World()
    for sku in SKUS:
        world.run(ReceiveStock(sku, "east", 5, "opening", AT, KNOWN))
        world.run(ReceiveStock(sku, "west", 2, "opening", AT, KNOWN))
    for number, step in enumerate(script):
        command = to_command(world, step, number)
        if command is None:
            continue
        world.run(command)
        if not isinstance(command, COUNTED_IN_PARTS):
            assert world.run(command) == [], "a repeat is no news"
    return world


histories = st.lists(steps, min_size=60, max_size=90)
quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@quick
@given(histories)
def test_stock_adds_up_after_every_decision(script: list[Any]) -> None:
    played(script)


@quick
@given(histories)
def test_any_history_folds_to_the_same_state_and_survives_json(script: list[Any]) -> None:
    world = played(script)
    for stream, events in world.history.items():
        decider, summary = (STOCK, stock_summary) if stream.startswith("stock-") else (RESERVATION, reservation_summary)
        adapter = TypeAdapter(type(decider.initial))
        state = world.states[stream]
        assert decider.fold([through_json(event) for event in events]) == state
        as_json = adapter.dump_json(state)
        again = adapter.validate_json(as_json)
        assert again == state
        assert adapter.dump_json(again) == as_json
        assert summary(again) == summary(state)
        if isinstance(state, Stock):
            assert through_json(availability("CUP", 7, state)) == availability("CUP", 7, again)


@quick
@given(histories)
def test_in_the_end_every_claim_is_settled_exactly_once(script: list[Any]) -> None:
    world = played(script)
    for sku in SKUS:
        world.run(HeedNetwork(sku, KNOWN))
        world.run(ReceiveStock(sku, "west", 500, "plenty", AT, KNOWN))
    for order_id in ORDERS:
        plan = route_well(world, order_id, "last-plan")
        if plan is not None:
            world.run(plan)
        for fulfillment_id in sorted(world.reservation(order_id).held):
            lines = world.held_lines(order_id, fulfillment_id)
            if lines:
                world.run(ShipOut(order_id, fulfillment_id, lines, AT))
                assert world.run(ShipOut(order_id, fulfillment_id, lines, AT)) == []
        for claim in world.reservation(order_id).lines.values():
            assert claim.shipped + claim.let_go == claim.line.quantity
    for sku in SKUS:
        stock = world.stock(sku)
        assert (len(stock.claims.by_turn), stock.reserved, stock.allocated, stock.backordered) == (0, 0, 0, 0)
        assert stock.available == stock.on_hand


class Location:
    """A location as fulfillment has it: it hears late of recalls, and what it says is heard late, each in order."""

    def __init__(self, world: World, order_id: str, fulfillment_id: str) -> None:
        self.world, self.order_id, self.fulfillment_id = world, order_id, fulfillment_id
        self.left = {line.line_id: line for line in world.held_lines(order_id, fulfillment_id)}
        self.heard, self.packed, self.shipped = 0, False, 0
        self.said: list[Command] = []

    def lines(self, units: dict[str, int]) -> tuple[LineQuantity, ...]:
        """Takes these units out of the work."""
        taken = []
        for line_id, n in units.items():
            line = self.left.pop(line_id, None)
            if line is None or n == 0:
                continue
            gone = min(n, line.quantity)
            taken.append(LineQuantity(line_id=line_id, sku=line.sku, quantity=gone))
            if gone < line.quantity:
                self.left[line_id] = LineQuantity(line_id=line_id, sku=line.sku, quantity=line.quantity - gone)
        return tuple(taken)

    def all(self) -> dict[str, int]:
        return {line_id: line.quantity for line_id, line in self.left.items()}

    def do(self, what: str, n: int) -> None:
        order_id, fulfillment_id = self.order_id, self.fulfillment_id
        if what == "hear" and self.heard < len(self.world.recalls):
            recall = self.world.recalls[self.heard]
            self.heard += 1
            left, called_off = dict(self.left), {part.line_id: part.quantity for part in recall.lines}
            lines = self.lines(called_off)
            if not self.packed and lines:
                self.said.append(LetGoRecalled(order_id, fulfillment_id, recall.cancellation_id, lines))
            else:
                self.left = left
                self.said.append(KeepRecalled(order_id, fulfillment_id, recall.cancellation_id, lines))
        elif what == "be heard" and self.said:
            self.world.run(self.said.pop(0))
        elif what == "cancel":
            lines = tuple(self.world.line(order_id, i, n) for i in range(n % 3 + 1))
            self.world.run(CancelUnits(order_id, f"c-{len(self.world.done)}", "canceled", lines))
        elif what == "reroute":
            with suppress(NothingToReroute):
                reroute_id = f"r-{len(self.world.done)}"
                self.world.run(RerouteUnits(order_id, fulfillment_id, reroute_id, elsewhere=n > 1))
        elif what == "pack":
            self.packed = True
        elif self.packed:
            return
        elif what == "short-pick" and (lines := self.lines(dict.fromkeys(list(self.left)[: n % 3 + 1], n))):
            self.said.append(TakeBackShortPicked(order_id, fulfillment_id, lines, AT))
        elif what == "reject" and (lines := self.lines(self.all())):
            reason = RejectReason.OUT_OF_STOCK if n % 2 else RejectReason.CLOSED
            self.said.append(TakeBackRejected(order_id, fulfillment_id, reason, lines, AT))

    def finish(self) -> None:
        self.packed = True
        if lines := self.lines(self.all()):
            self.shipped = sum(line.quantity for line in lines)
            self.said.append(ShipOut(self.order_id, self.fulfillment_id, lines, AT))
        while self.said:
            self.do("be heard", 0)


whats = st.sampled_from(
    (
        "cancel",
        "cancel",
        "reroute",
        "hear",
        "hear",
        "be heard",
        "be heard",
        "short-pick",
        "short-pick",
        "reject",
        "pack",
    )
)


@settings(quick, max_examples=300)
@given(
    st.lists(st.integers(3, 6), min_size=1, max_size=3),
    st.booleans(),
    st.lists(st.tuples(whats, st.integers(1, 3)), min_size=6, max_size=14),
)
def test_whenever_a_location_hears_of_recalls_every_unit_is_let_go_shipped_or_routed_again(
    wanted: list[int], may_wait: bool, script: list[tuple[str, int]]
) -> None:
    world = World()
    for sku in SKUS:
        world.run(ReceiveStock(sku, "east", 9, "opening", AT, KNOWN))
    lines = tuple(
        ReleasedLine(line_id=str(place), sku=SKUS[place % 2], quantity=n) for place, n in enumerate(wanted, start=1)
    )
    world.run(ReserveOrder(released("order-0", lines, may_wait), BACKORDER_CAP))
    plan = route_well(world, "order-0", "plan")
    if plan is None:
        return
    world.run(plan)
    location = Location(world, "order-0", "order-0.plan.east")
    for what, n in script:
        location.do(what, n)
    location.finish()
    facts = world.history[RESERVATION.stream("order-0")]
    assert world.held_lines("order-0", location.fulfillment_id) == (), "no unit is left where nobody works on it"
    assert world.reservation("order-0").held[location.fulfillment_id].recalls == ()
    assert sum(claim.shipped for claim in world.reservation("order-0").lines.values()) == location.shipped
    called_off: Counter[tuple[str, str]] = Counter()
    let_go: Counter[tuple[str, str]] = Counter()
    for fact in facts:
        if isinstance(fact, AllocationRecalled) and fact.reroute is None:
            called_off.update({(fact.cancellation_id, line.line_id): line.quantity for line in fact.lines})
        elif isinstance(fact, OrderLetGo) and fact.cancellation_id and fact.fulfillment_id:
            let_go.update({(fact.cancellation_id, line.line_id): line.quantity for line in fact.lines})
    assert let_go <= called_off
    if not location.shipped:
        by_line: Counter[str] = Counter()
        for (_, line_id), units in let_go.items():
            by_line[line_id] += units
        assert by_line == world.called_off, "what came back was let go as far as it was called off"


@quick
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**35 - 1) | st.integers(0, 100)), max_size=60))
def test_turns_are_an_ordered_set(changes: list[tuple[bool, int]]) -> None:
    turns, expected = Turns(), set[int]()
    for put, turn in changes:
        turns = turns.add(turn) if put else turns.discard(turn)
        expected = expected | {turn} if put else expected - {turn}
        assert turns.first() == min(expected, default=None)
        assert turns.last() == max(expected, default=None)
        assert all((other in turns) == (other in expected) for _, other in changes)
    assert turns == Turns() or expected
