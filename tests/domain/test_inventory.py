"""The rules of inventory, one test each: what is on hand, who may have it, who waits, who gives way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ordermill.audit import InventoryBook
from ordermill.contracts.base import Fact
from ordermill.contracts.capture import CancellationRequested, OrderReleased, ReleasedLine
from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import FulfillmentRejected, FulfillmentShortPicked, RejectReason
from ordermill.contracts.inventory import (
    Allocation,
    AllocationRecalled,
    AllocationRefused,
    Availability,
    BackorderFilled,
    CancellationTooLate,
    LocationAvailability,
    OrderAllocated,
    OrderBackordered,
    OrderBackorderFilled,
    OrderDeallocated,
    OrderLetGo,
    OrderRefused,
    OrderReserved,
    OrderShippedOut,
    RecallDeclined,
    ReservationOpened,
    Shortage,
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
from ordermill.decider import Folded
from ordermill.service.declare import Received
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
    decision,
    reservation_summary,
    stock_summary,
    streams,
    units_claimed,
)
from services.inventory.domain.stock import REFERENCES_KEPT
from services.inventory.errors import FulfillmentNotAllocated, NothingToReroute, OrderNotReserved
from services.inventory.handlers import cancellation_requested, rejected, short_picked

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
SHIP_BY, DELIVER_BY = MONDAY + timedelta(hours=8), MONDAY + timedelta(days=3)
AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
PORTLAND = Destination(country="US", region="OR", postal_code="97201")
KNOWN = frozenset({"east", "west"})
CAP = 100
FREE = Money.zero("USD")


class States(dict[str, Any]):
    def __missing__(self, stream: str) -> Any:
        return STOCK.initial if stream.startswith("stock-") else RESERVATION.initial


@dataclass(frozen=True)
class When:
    states: Mapping[str, Any]
    command: Command

    def then(self, *expected: Fact) -> None:
        recorded = decide(self.states, self.command)
        assert [event for _, event in recorded] == list(expected)
        for stream, event in recorded:
            key = f"stock-{event.sku}" if isinstance(event, StockFact) else f"reservation-{event.order_id}"
            assert stream == key

    def then_raises(self, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            decide(self.states, self.command)


class Given:
    """States after these commands. What they cause is tested where they are the ones asked."""

    def __init__(self, *commands: Command) -> None:
        self.states = States()
        for command in commands:
            events = decide(self.states, command)
            assert events, f"{command} has no effect: a history must not hold idle commands"
            for stream, event in events:
                decider = STOCK if stream.startswith("stock-") else RESERVATION
                self.states[stream] = decider.evolve(self.states[stream], event)

    def when(self, command: Command) -> When:
        return When(self.states, command)

    def stock(self, sku: str = "TEAPOT") -> Stock:
        return self.states[STOCK.stream(sku)]

    def check(self) -> list[str]:
        stocks = {stream[len("stock-") :]: s for stream, s in self.states.items() if stream.startswith("stock-")}
        claims = {stream.partition("-")[2]: r for stream, r in self.states.items() if stream.startswith("reservation-")}
        wrong = [fault for stock in stocks.values() for fault in check_stock(stock)]
        wrong += [fault for claim in claims.values() for fault in check_reservation(claim)]
        return wrong + check_agreement(units_claimed(stocks), claims)


def teapots(n: int, line_id: str = "1", sku: str = "TEAPOT") -> ReleasedLine:
    return ReleasedLine(line_id=line_id, sku=sku, title="Teapot", quantity=n, weight_g=900)


def some(n: int, line_id: str = "1", sku: str = "TEAPOT") -> LineQuantity:
    return LineQuantity(line_id=line_id, sku=sku, quantity=n)


def received(n: int, location: str = "east", reference: str = "po-1", sku: str = "TEAPOT") -> ReceiveStock:
    return ReceiveStock(sku, location, n, reference, AT, KNOWN)


def counted(n: int, location: str = "east", reference: str = "count-1") -> CountStock:
    return CountStock("TEAPOT", location, n, reference, AT, KNOWN)


def reserve(order_id: str, *lines: ReleasedLine, may_wait: bool = False, cap: int = CAP) -> ReserveOrder:
    order = OrderReleased(
        order_id=order_id,
        channel="web",
        external_id=f"#{order_id}",
        placed_at=MONDAY,
        destination=PORTLAND,
        lines=lines,
        service_level=ServiceLevel.STANDARD,
        allow_backorder=may_wait,
    )
    return ReserveOrder(order, cap)


def shipment(fulfillment_id: str, location: str, *lines: ReleasedLine) -> PlannedShipment:
    return PlannedShipment(
        fulfillment_id=fulfillment_id,
        location=location,
        carrier="ups",
        service="ground",
        distance_km=12,
        ship_by=SHIP_BY,
        deliver_by=DELIVER_BY,
        cost=CostParts(shipping=FREE, handling=FREE, delay=FREE, total=FREE),
        lines=lines,
    )


def allocate(order_id: str, *shipments: PlannedShipment, plan_id: str = "plan-1") -> AllocatePlan:
    return AllocatePlan(order_id, plan_id, shipments)


def from_east(order_id: str, n: int) -> AllocatePlan:
    return allocate(order_id, shipment(f"{order_id}.east", "east", teapots(n)))


def cancel(order_id: str, n: int, cancellation_id: str = "c-1", line_id: str = "1") -> CancelUnits:
    return CancelUnits(order_id, cancellation_id, "canceled", (some(n, line_id),))


def opened(order_id: str, *lines: ReleasedLine, may_wait: bool = False) -> ReservationOpened:
    return ReservationOpened(
        order_id=order_id,
        channel="web",
        external_id=f"#{order_id}",
        placed_at=MONDAY,
        destination=PORTLAND,
        service_level=ServiceLevel.STANDARD,
        allow_backorder=may_wait,
        lines=lines,
    )


def order_reserved(order_id: str, *lines: ReleasedLine) -> OrderReserved:
    return OrderReserved(
        order_id=order_id,
        placed_at=MONDAY,
        destination=PORTLAND,
        service_level=ServiceLevel.STANDARD,
        lines=lines,
    )


def order_filled(order_id: str, *lines: ReleasedLine) -> OrderBackorderFilled:
    return OrderBackorderFilled(
        order_id=order_id,
        placed_at=MONDAY,
        destination=PORTLAND,
        service_level=ServiceLevel.STANDARD,
        lines=lines,
    )


def claim(fact: Any, order_id: str, n: int, line_id: str = "1", **more: Any) -> Any:
    """A fact about one line's claim on teapots."""
    return fact(sku="TEAPOT", order_id=order_id, line_id=line_id, quantity=n, **more)


# Stock feeds


def test_goods_that_come_in_are_on_hand() -> None:
    Given().when(received(5)).then(
        StockReceived(sku="TEAPOT", location="east", quantity=5, reference="po-1", happened_at=AT)
    )


def test_a_feed_that_repeats_a_reference_is_taken_once() -> None:
    Given(received(5)).when(received(5)).then()
    Given(received(5)).when(received(5, location="west")).then(
        StockReceived(sku="TEAPOT", location="west", quantity=5, reference="po-1", happened_at=AT)
    )


def test_only_the_newest_references_are_remembered() -> None:
    stock = Given(*(received(1, reference=f"po-{n}") for n in range(REFERENCES_KEPT + 1))).stock()
    assert len(stock.references.places) == len(stock.references.marks) == REFERENCES_KEPT
    assert "east/po-0" not in stock.references
    assert "east/po-1" in stock.references


def test_word_from_a_location_that_is_not_ours_is_rejected() -> None:
    elsewhere = ReceiveStock("TEAPOT", "atlantis", 5, "po-1", AT, KNOWN)
    rejected = StockRejected(sku="TEAPOT", location="atlantis", reference="po-1", reason="no location of ours")
    Given().when(elsewhere).then(rejected)
    Given(elsewhere).when(elsewhere).then()


def test_what_was_rejected_is_taken_once_the_location_is_ours() -> None:
    Given(ReceiveStock("TEAPOT", "west", 5, "po-1", AT, frozenset({"east"}))).when(received(5, "west")).then(
        StockReceived(sku="TEAPOT", location="west", quantity=5, reference="po-1", happened_at=AT)
    )


def test_a_correction_to_less_than_nothing_is_rejected() -> None:
    Given(received(5)).when(CorrectStock("TEAPOT", "east", -6, "broken", "fix-1", AT, KNOWN)).then(
        StockRejected(
            sku="TEAPOT",
            location="east",
            reference="fix-1",
            reason="-6 would leave less than nothing: 5 on hand",
        )
    )


def test_more_than_a_count_could_ever_put_right_is_rejected() -> None:
    typo = CorrectStock("TEAPOT", "east", 1_000_000_000, "found", "fix-1", AT, KNOWN)
    Given(received(5)).when(typo).then(
        StockRejected(
            sku="TEAPOT",
            location="east",
            reference="fix-1",
            reason="+1000000000 would leave more than can be counted: 5 on hand, at most 1000000000",
        )
    )
    Given(typo).when(received(5)).then(
        StockRejected(
            sku="TEAPOT",
            location="east",
            reference="po-1",
            reason="+5 would leave more than can be counted: 1000000000 on hand, at most 1000000000",
        )
    )
    Given(typo).when(counted(5)).then(
        StockCountRecorded(
            sku="TEAPOT", location="east", counted=5, delta=-999_999_995, reference="count-1", happened_at=AT
        )
    )


def test_units_found_or_lost_change_what_is_on_hand() -> None:
    Given(received(5)).when(CorrectStock("TEAPOT", "east", -5, "broken", "fix-1", AT, KNOWN)).then(
        StockAdjusted(sku="TEAPOT", location="east", delta=-5, reason="broken", reference="fix-1", happened_at=AT)
    )


def test_a_count_says_what_it_changes() -> None:
    Given(received(5)).when(counted(7)).then(
        StockCountRecorded(sku="TEAPOT", location="east", counted=7, delta=2, reference="count-1", happened_at=AT)
    )


# Locations that do not ship

EAST_CLOSED = HeedNetwork("TEAPOT", frozenset({"west"}))
ALL_OPEN = HeedNetwork("TEAPOT", KNOWN)


def set_aside(delta: int, location: str = "east", ships: bool = False) -> StockSetAside:
    return StockSetAside(sku="TEAPOT", location=location, delta=delta, ships=ships)


def test_units_at_a_location_that_does_not_ship_are_on_hand_and_not_for_sale() -> None:
    closed = Given(received(5), received(1, "west"))
    closed.when(EAST_CLOSED).then(set_aside(5))
    closed = Given(received(5), received(1, "west"), EAST_CLOSED)
    assert (closed.stock().on_hand, closed.stock().available) == (6, 1)
    assert availability("TEAPOT", 4, closed.stock()).locations == {
        "east": LocationAvailability(on_hand=5, unallocated=0),
        "west": LocationAvailability(on_hand=1, unallocated=1),
    }
    closed.when(EAST_CLOSED).then()
    closed.when(reserve("anna", teapots(2))).then(
        OrderRefused(
            order_id="anna",
            shortages=(Shortage(line_id="1", sku="TEAPOT", wanted=2, available=1, reason="out-of-stock"),),
        )
    )


def test_a_location_that_the_network_no_longer_names_does_not_ship() -> None:
    Given(received(5)).when(HeedNetwork("TEAPOT", frozenset())).then(set_aside(5))


def test_where_a_location_closes_the_newest_of_those_who_have_no_location_yet_give_way() -> None:
    history = (received(3), received(1, "west"), reserve("zoe", teapots(2)), reserve("anna", teapots(1), may_wait=True))
    Given(*history).when(EAST_CLOSED).then(
        set_aside(3),
        claim(StockBackordered, "anna", 1),
        claim(StockLetGo, "anna", 1, was="reserved"),
        claim(StockLetGo, "zoe", 1, was="reserved"),
        OrderBackordered(order_id="anna", lines=(some(1),), was="reserved"),
        OrderLetGo(order_id="zoe", cause="shortage", lines=(some(1),)),
    )
    assert Given(*history, EAST_CLOSED).check() == []


def test_where_it_opens_again_those_who_waited_are_served() -> None:
    history = (received(3), EAST_CLOSED, reserve("anna", teapots(2), may_wait=True))
    Given(*history).when(ALL_OPEN).then(
        set_aside(-3, ships=True), claim(BackorderFilled, "anna", 2), order_filled("anna", teapots(2))
    )
    assert Given(*history, ALL_OPEN).stock().available == 1


def test_what_comes_to_a_location_that_does_not_ship_serves_nobody() -> None:
    waiting = (counted(0, "west"), reserve("anna", teapots(2), may_wait=True))
    arrived = ReceiveStock("TEAPOT", "east", 5, "po-1", AT, KNOWN, ships=False)
    came = StockReceived(sku="TEAPOT", location="east", quantity=5, reference="po-1", happened_at=AT)
    Given(*waiting).when(arrived).then(came, set_aside(5))
    Given(*waiting, arrived).when(counted(3)).then(
        StockCountRecorded(sku="TEAPOT", location="east", counted=3, delta=-2, reference="count-1", happened_at=AT),
        set_aside(-2),
    )
    back = (InspectedLine(line_id="1", sku="TEAPOT", quantity=2, disposition=Disposition.RESTOCK),)
    Given(*waiting).when(TakeInReturn("return-1", "inspection-1", "east", back, AT, ships=False)).then(
        StockRestocked(
            sku="TEAPOT", location="east", quantity=2, return_id="return-1", reference="inspection-1", happened_at=AT
        ),
        set_aside(2),
    )


def test_a_plan_is_refused_that_wants_units_of_a_location_that_does_not_ship() -> None:
    history = (received(5), received(2, "west"), reserve("anna", teapots(2)), EAST_CLOSED)
    Given(*history).when(from_east("anna", 2)).then(
        AllocationRefused(order_id="anna", plan_id="plan-1", short=(("east", "TEAPOT"),), lines=(some(2),))
    )


def test_what_a_location_holds_when_it_closes_it_may_still_ship() -> None:
    history = (received(5), reserve("anna", teapots(3)), from_east("anna", 3), EAST_CLOSED)
    Given(*history[:-1]).when(EAST_CLOSED).then(set_aside(2))
    shipped = ShipOut("anna", "anna.east", (some(3),), AT)
    Given(*history).when(shipped).then(
        claim(StockShippedOut, "anna", 3, location="east", happened_at=AT),
        OrderShippedOut(order_id="anna", fulfillment_id="anna.east", lines=(some(3),)),
    )
    assert Given(*history, shipped).check() == []


def test_what_it_gives_back_is_set_aside_and_routed_again_only_if_another_has_it() -> None:
    held = (received(3), reserve("anna", teapots(3), may_wait=True), from_east("anna", 3), EAST_CLOSED)
    turned_down = TakeBackRejected("anna", "anna.east", RejectReason.CLOSED, (some(3),), AT)
    Given(*held, received(1, "west")).when(turned_down).then(
        claim(StockDeallocated, "anna", 3, location="east"),
        set_aside(3),
        claim(StockBackordered, "anna", 2),
        claim(StockLetGo, "anna", 2, was="reserved"),
        OrderDeallocated(
            order_id="anna", fulfillment_id="anna.east", location="east", cause="rejected", lines=(teapots(1),)
        ),
        OrderBackordered(order_id="anna", lines=(some(2),), was="allocated", fulfillment_id="anna.east"),
    )


# Reserve


def test_an_order_that_can_be_had_is_reserved_over_the_whole_network() -> None:
    Given(received(2), received(1, "west")).when(reserve("anna", teapots(3))).then(
        opened("anna", teapots(3)),
        claim(StockReserved, "anna", 3),
        order_reserved("anna", teapots(3)),
    )


def test_an_order_is_reserved_once() -> None:
    Given(received(5), reserve("anna", teapots(3))).when(reserve("anna", teapots(3))).then()
    Given(received(2), reserve("anna", teapots(3))).when(reserve("anna", teapots(3))).then()


def test_an_order_that_may_not_wait_gets_all_its_lines_or_none() -> None:
    Given(received(5), received(1, sku="CUP")).when(
        reserve("anna", teapots(5), teapots(2, "2", "CUP"), teapots(1, "3"))
    ).then(
        OrderRefused(
            order_id="anna",
            shortages=(
                Shortage(line_id="2", sku="CUP", wanted=2, available=1, reason="out-of-stock"),
                Shortage(line_id="3", sku="TEAPOT", wanted=1, available=0, reason="out-of-stock"),
            ),
        )
    )


def test_a_line_that_cannot_be_had_in_full_waits_if_the_order_may_wait() -> None:
    lines = (teapots(2), teapots(3, "2", "CUP"))
    Given(received(5), received(1, sku="CUP")).when(reserve("anna", *lines, may_wait=True)).then(
        opened("anna", *lines, may_wait=True),
        claim(StockReserved, "anna", 2),
        StockBackordered(sku="CUP", order_id="anna", line_id="2", quantity=3, cap=CAP),
        order_reserved("anna", teapots(2)),
        OrderBackordered(order_id="anna", lines=(some(3, "2", "CUP"),)),
    )


def test_two_lines_of_one_sku_do_not_oversell() -> None:
    Given(received(5)).when(reserve("anna", teapots(3), teapots(3, "2"), may_wait=True)).then(
        opened("anna", teapots(3), teapots(3, "2"), may_wait=True),
        claim(StockReserved, "anna", 3),
        claim(StockBackordered, "anna", 3, "2", cap=CAP),
        order_reserved("anna", teapots(3)),
        OrderBackordered(order_id="anna", lines=(some(3, "2"),)),
    )


def test_two_lines_of_one_sku_wait_under_one_cap() -> None:
    full = Shortage(line_id="2", sku="TEAPOT", wanted=2, available=1, reason="backorders-full")
    Given(received(1)).when(reserve("ben", teapots(2), teapots(2, "2"), may_wait=True, cap=3)).then(
        OrderRefused(order_id="ben", shortages=(full,))
    )


def test_no_more_units_wait_than_the_cap_allows() -> None:
    waiting = Given(received(1), reserve("anna", teapots(4), may_wait=True, cap=6))
    full = Shortage(line_id="2", sku="TEAPOT", wanted=2, available=0, reason="backorders-full")
    waiting.when(reserve("ben", teapots(1), teapots(2, "2"), teapots(1, "3"), may_wait=True, cap=5)).then(
        OrderRefused(order_id="ben", shortages=(full,))
    )


def test_a_sku_nobody_has_heard_of_is_never_waited_for() -> None:
    unknown = Shortage(line_id="1", sku="TEAPOT", wanted=1, available=0, reason="unknown-sku")
    nowhere = ReceiveStock("TEAPOT", "atlantis", 5, "po-1", AT, KNOWN)
    for history in (Given(), Given(nowhere)):
        history.when(reserve("anna", teapots(1), may_wait=True)).then(
            OrderRefused(order_id="anna", shortages=(unknown,))
        )


def test_units_too_few_for_who_waits_are_free_for_who_needs_less() -> None:
    Given(received(3), reserve("anna", teapots(5), may_wait=True)).when(reserve("ben", teapots(2))).then(
        opened("ben", teapots(2)), claim(StockReserved, "ben", 2), order_reserved("ben", teapots(2))
    )


# Backorders


def test_goods_that_come_in_go_to_those_who_have_waited_longest() -> None:
    empty = (received(1), reserve("zoe", teapots(1)))
    waiting = (
        reserve("anna", teapots(2), teapots(1, "2"), may_wait=True),
        reserve("ben", teapots(4), may_wait=True),
    )
    history = Given(*empty, *waiting, reserve("carl", teapots(1), may_wait=True))
    history.when(received(5, reference="po-2")).then(
        StockReceived(sku="TEAPOT", location="east", quantity=5, reference="po-2", happened_at=AT),
        claim(BackorderFilled, "anna", 2),
        claim(BackorderFilled, "anna", 1, "2"),
        claim(BackorderFilled, "ben", 2),
        order_filled("anna", teapots(2), teapots(1, "2")),
        order_filled("ben", teapots(2)),
    )


def test_units_let_go_fill_backorders_at_once() -> None:
    Given(received(3), reserve("anna", teapots(3)), reserve("ben", teapots(2), may_wait=True)).when(
        cancel("anna", 1)
    ).then(
        claim(StockLetGo, "anna", 1, was="reserved"),
        OrderLetGo(order_id="anna", cause="canceled", lines=(some(1),), cancellation_id="c-1"),
        claim(BackorderFilled, "ben", 1),
        order_filled("ben", teapots(1)),
    )


# Fewer than claimed


def test_after_a_count_finds_too_few_the_newest_claims_give_way() -> None:
    history = Given(
        received(6),
        reserve("anna", teapots(2)),
        reserve("ben", teapots(2)),
        reserve("carl", teapots(2), may_wait=True),
    )
    history.when(counted(3)).then(
        StockCountRecorded(sku="TEAPOT", location="east", counted=3, delta=-3, reference="count-1", happened_at=AT),
        claim(StockBackordered, "carl", 2),
        claim(StockLetGo, "carl", 2, was="reserved"),
        claim(StockLetGo, "ben", 1, was="reserved"),
        OrderBackordered(order_id="carl", lines=(some(2),), was="reserved"),
        OrderLetGo(order_id="ben", cause="shortage", lines=(some(1),)),
    )


def test_who_gave_way_keeps_the_turn_of_the_first_claim() -> None:
    history = Given(
        received(2),
        reserve("anna", teapots(2), may_wait=True),
        reserve("ben", teapots(1), may_wait=True),
        counted(0),
    )
    history.when(received(2, reference="po-2")).then(
        StockReceived(sku="TEAPOT", location="east", quantity=2, reference="po-2", happened_at=AT),
        claim(BackorderFilled, "anna", 2),
        order_filled("anna", teapots(2)),
    )


def test_allocated_units_stay_whatever_a_count_says() -> None:
    history = Given(received(4), reserve("anna", teapots(3)), from_east("anna", 3))
    history.when(counted(1)).then(
        StockCountRecorded(sku="TEAPOT", location="east", counted=1, delta=-3, reference="count-1", happened_at=AT)
    )
    after = Given(received(4), reserve("anna", teapots(3)), from_east("anna", 3), counted(1))
    assert (after.stock().available, after.stock().shelf("east").unallocated) == (-2, -2)
    assert after.check() == []


# Allocate


def test_a_plan_is_allocated_at_its_locations_one_line_over_several_if_need_be() -> None:
    history = Given(received(2), received(2, "west"), reserve("anna", teapots(3)))
    split = (shipment("f-1", "east", teapots(2)), shipment("f-2", "west", teapots(1)))
    history.when(allocate("anna", *split)).then(
        claim(StockAllocated, "anna", 2, location="east"),
        claim(StockAllocated, "anna", 1, location="west"),
        OrderAllocated(
            order_id="anna",
            plan_id="plan-1",
            channel="web",
            external_id="#anna",
            destination=PORTLAND,
            allocations=(
                Allocation(
                    fulfillment_id="f-1",
                    location="east",
                    carrier="ups",
                    service="ground",
                    ship_by=SHIP_BY,
                    deliver_by=DELIVER_BY,
                    lines=(teapots(2),),
                ),
                Allocation(
                    fulfillment_id="f-2",
                    location="west",
                    carrier="ups",
                    service="ground",
                    ship_by=SHIP_BY,
                    deliver_by=DELIVER_BY,
                    lines=(teapots(1),),
                ),
            ),
        ),
    )


def test_if_one_location_is_short_nothing_of_the_plan_is_allocated() -> None:
    history = Given(
        received(2), received(2, "west"), reserve("zoe", teapots(1)), from_east("zoe", 1), reserve("anna", teapots(3))
    )
    plan = allocate("anna", shipment("f-1", "east", teapots(2)), shipment("f-2", "west", teapots(1)))
    history.when(plan).then(
        AllocationRefused(order_id="anna", plan_id="plan-1", short=(("east", "TEAPOT"),), lines=(some(3),))
    )


def test_a_plan_that_is_refused_is_told_which_of_its_units_are_still_wanted() -> None:
    history = Given(received(3), reserve("anna", teapots(3)), cancel("anna", 1))
    history.when(allocate("anna", shipment("f-1", "west", teapots(3)))).then(
        AllocationRefused(order_id="anna", plan_id="plan-1", short=(("west", "TEAPOT"),), lines=(some(2),))
    )


def test_lines_of_one_plan_share_what_a_location_has() -> None:
    history = Given(received(3), received(1, "west"), reserve("anna", teapots(2), teapots(2, "2")))
    history.when(allocate("anna", shipment("f-1", "east", teapots(2), teapots(2, "2")))).then(
        AllocationRefused(
            order_id="anna", plan_id="plan-1", short=(("east", "TEAPOT"),), lines=(some(2), some(2, line_id="2"))
        )
    )


def test_a_plan_is_decided_once() -> None:
    allocated = Given(received(3), reserve("anna", teapots(2)), from_east("anna", 2))
    allocated.when(from_east("anna", 2)).then()
    plan = allocate("anna", shipment("f-1", "west", teapots(2)))
    Given(received(3), reserve("anna", teapots(2)), plan, received(2, "west")).when(plan).then()


def test_a_plan_is_cut_down_to_what_is_still_reserved() -> None:
    def allocated_lines(history: Given) -> Iterator[ReleasedLine]:
        for _, event in decide(history.states, from_east("anna", 3)):
            if isinstance(event, OrderAllocated):
                yield from event.allocations[0].lines

    one_canceled = Given(received(3), reserve("anna", teapots(3)), cancel("anna", 1))
    assert list(allocated_lines(one_canceled)) == [teapots(2)]
    Given(received(3), reserve("anna", teapots(3)), cancel("anna", 3)).when(from_east("anna", 3)).then()


def test_a_plan_that_names_units_twice_gets_them_once() -> None:
    history = Given(received(5), received(5, "west"), reserve("anna", teapots(3)))
    plan = allocate("anna", shipment("f-1", "east", teapots(2)), shipment("f-2", "west", teapots(2)))
    allocated = [event for _, event in decide(history.states, plan) if isinstance(event, StockAllocated)]
    assert allocated == [
        claim(StockAllocated, "anna", 2, location="east"),
        claim(StockAllocated, "anna", 1, location="west"),
    ]


def test_a_plan_for_an_order_nobody_reserved_is_tried_again_for_a_refused_one_dropped() -> None:
    Given().when(from_east("anna", 1)).then_raises(OrderNotReserved, match="anna: no reservation")
    Given(received(1), reserve("anna", teapots(2))).when(from_east("anna", 2)).then()


# What becomes of allocated units

AT_WORK = (received(5), reserve("anna", teapots(3)), from_east("anna", 3))


def test_units_of_a_location_that_will_not_ship_are_reserved_again() -> None:
    Given(*AT_WORK).when(TakeBackRejected("anna", "anna.east", RejectReason.NO_CAPACITY, (some(3),), AT)).then(
        claim(StockDeallocated, "anna", 3, location="east"),
        OrderDeallocated(
            order_id="anna", fulfillment_id="anna.east", location="east", cause="rejected", lines=(teapots(3),)
        ),
    )


def test_units_that_a_location_says_it_does_not_have_are_taken_off_its_stock() -> None:
    Given(*AT_WORK).when(TakeBackRejected("anna", "anna.east", RejectReason.OUT_OF_STOCK, (some(3),), AT)).then(
        claim(StockDeallocated, "anna", 3, location="east"),
        StockAdjusted(
            sku="TEAPOT",
            location="east",
            delta=-3,
            reason="rejected: out of stock",
            reference="anna.east",
            happened_at=AT,
        ),
        claim(StockLetGo, "anna", 1, was="reserved"),
        OrderDeallocated(
            order_id="anna", fulfillment_id="anna.east", location="east", cause="rejected", lines=(teapots(2),)
        ),
        OrderLetGo(order_id="anna", cause="shortage", lines=(some(1),), fulfillment_id="anna.east"),
    )


def test_units_that_a_location_finds_damaged_are_promised_to_nobody_else() -> None:
    damaged = TakeBackRejected("anna", "anna.east", RejectReason.DAMAGED, (some(1),), AT)
    history = (received(1), reserve("anna", teapots(1)), from_east("anna", 1))
    Given(*history).when(damaged).then(
        claim(StockDeallocated, "anna", 1, location="east"),
        StockAdjusted(
            sku="TEAPOT", location="east", delta=-1, reason="rejected: damaged", reference="anna.east", happened_at=AT
        ),
        claim(StockLetGo, "anna", 1, was="reserved"),
        OrderLetGo(order_id="anna", cause="shortage", lines=(some(1),), fulfillment_id="anna.east"),
    )
    Given(*history, damaged).when(reserve("ben", teapots(1))).then(
        OrderRefused(
            order_id="ben",
            shortages=(Shortage(line_id="1", sku="TEAPOT", wanted=1, available=0, reason="out-of-stock"),),
        )
    )


def test_a_short_pick_takes_units_off_and_the_rest_of_the_network_serves_the_order() -> None:
    Given(*AT_WORK).when(TakeBackShortPicked("anna", "anna.east", (some(2),), AT)).then(
        claim(StockDeallocated, "anna", 2, location="east"),
        StockAdjusted(
            sku="TEAPOT", location="east", delta=-2, reason="short-pick", reference="anna.east", happened_at=AT
        ),
        OrderDeallocated(
            order_id="anna", fulfillment_id="anna.east", location="east", cause="short-pick", lines=(teapots(2),)
        ),
    )


def test_after_a_short_pick_the_order_concerned_gives_way_before_newer_ones() -> None:
    history = Given(
        received(3), reserve("anna", teapots(2), may_wait=True), from_east("anna", 2), reserve("ben", teapots(1))
    )
    history.when(TakeBackShortPicked("anna", "anna.east", (some(2),), AT)).then(
        claim(StockDeallocated, "anna", 2, location="east"),
        StockAdjusted(
            sku="TEAPOT", location="east", delta=-2, reason="short-pick", reference="anna.east", happened_at=AT
        ),
        claim(StockBackordered, "anna", 2),
        claim(StockLetGo, "anna", 2, was="reserved"),
        OrderBackordered(order_id="anna", lines=(some(2),), was="allocated", fulfillment_id="anna.east"),
    )


def test_a_short_pick_does_not_take_off_again_what_a_count_has_taken_off() -> None:
    history = Given(
        received(5),
        reserve("anna", teapots(3)),
        from_east("anna", 3),
        reserve("ben", teapots(2)),
        from_east("ben", 2),
        counted(3),
    )
    history.when(TakeBackShortPicked("ben", "ben.east", (some(2),), AT)).then(
        claim(StockDeallocated, "ben", 2, location="east"),
        claim(StockLetGo, "ben", 2, was="reserved"),
        OrderLetGo(order_id="ben", cause="shortage", lines=(some(2),), fulfillment_id="ben.east"),
    )


def test_shipped_units_leave_stock_and_claim() -> None:
    shipped = ShipOut("anna", "anna.east", (some(1), some(2)), AT)
    Given(*AT_WORK).when(shipped).then(
        claim(StockShippedOut, "anna", 3, location="east", happened_at=AT),
        OrderShippedOut(order_id="anna", fulfillment_id="anna.east", lines=(some(3),)),
    )
    Given(*AT_WORK, shipped).when(shipped).then()


def test_units_that_ship_although_a_count_missed_them_are_found_again() -> None:
    Given(*AT_WORK, counted(1)).when(ShipOut("anna", "anna.east", (some(3),), AT)).then(
        StockAdjusted(
            sku="TEAPOT",
            location="east",
            delta=2,
            reason="shipped although not on hand by our count",
            reference="anna.east",
            happened_at=AT,
        ),
        claim(StockShippedOut, "anna", 3, location="east", happened_at=AT),
        OrderShippedOut(order_id="anna", fulfillment_id="anna.east", lines=(some(3),)),
    )


def test_units_found_when_others_ship_go_to_those_who_wait() -> None:
    history = Given(*AT_WORK, counted(1), received(2, "west"), reserve("ben", teapots(1), may_wait=True))
    shipped = claim(StockShippedOut, "anna", 3, location="east", happened_at=AT)
    history.when(ShipOut("anna", "anna.east", (some(3),), AT)).then(
        StockAdjusted(
            sku="TEAPOT",
            location="east",
            delta=2,
            reason="shipped although not on hand by our count",
            reference="anna.east",
            happened_at=AT,
        ),
        shipped,
        OrderShippedOut(order_id="anna", fulfillment_id="anna.east", lines=(some(3),)),
        claim(BackorderFilled, "ben", 1),
        order_filled("ben", teapots(1)),
    )


@pytest.mark.parametrize(
    "command",
    [
        ShipOut("anna", "other", (some(1),), AT),
        TakeBackShortPicked("anna", "other", (some(1),), AT),
        TakeBackRejected("anna", "other", RejectReason.CLOSED, (some(1),), AT),
        LetGoRecalled("anna", "other", "c-1", (some(1),)),
    ],
)
def test_word_of_a_fulfillment_order_that_never_got_stock_is_poison(command: Command) -> None:
    Given(*AT_WORK).when(command).then_raises(FulfillmentNotAllocated, match="other: order anna has no units")


# Cancel


def test_units_that_wait_are_let_go_before_reserved_ones() -> None:
    lines = (teapots(2),)
    half = (
        received(2),
        reserve("anna", *lines, may_wait=True),
        counted(1),
    )
    Given(*half).when(cancel("anna", 2)).then(
        claim(StockLetGo, "anna", 1, was="reserved"),
        claim(StockLetGo, "anna", 1, was="backordered"),
        OrderLetGo(order_id="anna", cause="canceled", lines=(some(2),), cancellation_id="c-1", backordered=(some(1),)),
    )
    Given(*half).when(cancel("anna", 1)).then(
        claim(StockLetGo, "anna", 1, was="backordered"),
        OrderLetGo(order_id="anna", cause="canceled", lines=(some(1),), cancellation_id="c-1", backordered=(some(1),)),
    )


def test_units_no_location_can_ship_are_reserved_ones_not_those_that_wait() -> None:
    half = (received(2), reserve("anna", teapots(2), may_wait=True), counted(1))
    Given(*half).when(CancelUnits("anna", "u-1", "unroutable", (some(1),))).then(
        claim(StockLetGo, "anna", 1, was="reserved"),
        OrderLetGo(order_id="anna", cause="unroutable", lines=(some(1),), cancellation_id="u-1"),
        claim(BackorderFilled, "anna", 1),
        order_filled("anna", teapots(1)),
    )


def test_units_no_location_can_ship_are_never_taken_from_a_location_that_holds_others_of_the_line() -> None:
    unroutable = CancelUnits("anna", "u-1", "unroutable", (some(1),))
    too_late = CancellationTooLate(order_id="anna", cancellation_id="u-1", lines=(some(1),))
    Given(*AT_WORK).when(unroutable).then(too_late)
    Given(*AT_WORK, unroutable).when(unroutable).then()


def test_units_no_location_could_ship_that_wait_for_stock_by_now_go_on_waiting() -> None:
    late = (received(2), reserve("anna", teapots(2), may_wait=True), counted(1))
    Given(*late).when(CancelUnits("anna", "u-1", "unroutable", (some(2),))).then(
        claim(StockLetGo, "anna", 1, was="reserved"),
        OrderLetGo(order_id="anna", cause="unroutable", lines=(some(1),), cancellation_id="u-1"),
        CancellationTooLate(order_id="anna", cancellation_id="u-1", lines=(some(1),)),
        claim(BackorderFilled, "anna", 1),
        order_filled("anna", teapots(1)),
    )


@pytest.mark.parametrize(
    ("cancellation_id", "reason", "cause"),
    [
        ("unroutable:plan-1", "unroutable", "unroutable"),
        ("cancel-7", "unroutable", "canceled"),
        ("unroutable:7", "changed my mind", "canceled"),
    ],
)
def test_only_capture_calls_units_off_as_unroutable_whatever_a_channel_gives_as_its_reason(
    cancellation_id: str, reason: str, cause: str
) -> None:
    asked = CancellationRequested(order_id="anna", cancellation_id=cancellation_id, lines=(some(1),), reason=reason)
    history = Given(received(1), reserve("anna", teapots(1)))
    (asks,) = cancellation_requested(asked, Received("m1", "m1", MONDAY, MONDAY))
    told = asks.decide(history.states)
    assert isinstance(told, Folded)
    assert [event.cause for _, event in told.events if isinstance(event, OrderLetGo)] == [cause]


@pytest.mark.parametrize(("told", "at"), [(None, MONDAY), (MONDAY - HOUR, MONDAY - HOUR), (MONDAY + HOUR, MONDAY)])
def test_what_was_missed_or_turned_down_was_so_when_the_location_says(told: datetime | None, at: datetime) -> None:
    heard = Received("m1", "m1", MONDAY, MONDAY)
    history = Given(*AT_WORK)
    about: dict[str, Any] = {"fulfillment_id": "anna.east", "order_id": "anna", "location": "east", "lines": (some(1),)}
    for asks in (
        *short_picked(FulfillmentShortPicked(**about, picked_at=told), heard),
        *rejected(FulfillmentRejected(**about, reason=RejectReason.DAMAGED, rejected_at=told), heard),
    ):
        told_of = asks.decide(history.states)
        assert isinstance(told_of, Folded)
        assert [event.happened_at for _, event in told_of.events if isinstance(event, StockAdjusted)] == [at]


def test_allocated_units_are_recalled_once_per_cancellation() -> None:
    Given(*AT_WORK).when(cancel("anna", 2)).then(
        AllocationRecalled(order_id="anna", fulfillment_id="anna.east", cancellation_id="c-1", lines=(some(2),))
    )
    Given(*AT_WORK, cancel("anna", 2)).when(cancel("anna", 2)).then()


def test_units_that_a_location_did_not_give_back_are_asked_for_anew() -> None:
    """They were packed when it heard of the first cancellation. Then no carrier took them, so it can unpack them."""
    Given(*AT_WORK, cancel("anna", 2)).when(cancel("anna", 3, "c-2")).then(
        AllocationRecalled(order_id="anna", fulfillment_id="anna.east", cancellation_id="c-2", lines=(some(3),)),
        CancellationTooLate(order_id="anna", cancellation_id="c-1", lines=(some(2),), taken_over_by="c-2"),
    )
    answer = LetGoRecalled("anna", "anna.east", "c-2", (some(3),))
    Given(*AT_WORK, cancel("anna", 2), cancel("anna", 3, "c-2")).when(answer).then(
        claim(StockLetGo, "anna", 3, was="allocated", location="east"),
        OrderLetGo(
            order_id="anna",
            cause="canceled",
            lines=(some(3),),
            cancellation_id="c-2",
            fulfillment_id="anna.east",
            answers="c-2",
        ),
    )


def test_for_units_that_left_it_is_too_late() -> None:
    Given(*AT_WORK, ShipOut("anna", "anna.east", (some(3),), AT)).when(cancel("anna", 3)).then(
        CancellationTooLate(order_id="anna", cancellation_id="c-1", lines=(some(3),))
    )


def test_a_location_that_answers_in_time_lets_units_go_once() -> None:
    answer = LetGoRecalled("anna", "anna.east", "c-1", (some(2),))
    Given(*AT_WORK, cancel("anna", 2)).when(answer).then(
        claim(StockLetGo, "anna", 2, was="allocated", location="east"),
        OrderLetGo(
            order_id="anna",
            cause="canceled",
            lines=(some(2),),
            cancellation_id="c-1",
            fulfillment_id="anna.east",
            answers="c-1",
        ),
    )
    Given(*AT_WORK, cancel("anna", 2), answer).when(answer).then()


def test_units_a_location_lets_go_fill_backorders_at_once() -> None:
    history = Given(*AT_WORK, reserve("ben", teapots(3), may_wait=True), cancel("anna", 1))
    freed = [event for _, event in decide(history.states, LetGoRecalled("anna", "anna.east", "c-1", (some(1),)))]
    assert freed[-2:] == [claim(BackorderFilled, "ben", 3), order_filled("ben", teapots(3))]


def test_units_still_held_after_an_answer_can_be_recalled_again() -> None:
    answer = LetGoRecalled("anna", "anna.east", "c-1", (some(2),))
    Given(*AT_WORK, cancel("anna", 2), answer).when(cancel("anna", 1, "c-2")).then(
        AllocationRecalled(order_id="anna", fulfillment_id="anna.east", cancellation_id="c-2", lines=(some(1),))
    )


def given_back(n: int, cancellation_id: str = "c-1", answers: str | None = None) -> OrderLetGo:
    return OrderLetGo(
        order_id="anna",
        cause="canceled",
        lines=(some(n),),
        cancellation_id=cancellation_id,
        fulfillment_id="anna.east",
        answers=answers,
    )


def to_route_again(n: int, cause: Any = "short-pick", answers: str | None = None) -> OrderDeallocated:
    lines = (teapots(n),)
    return OrderDeallocated(
        order_id="anna", fulfillment_id="anna.east", location="east", cause=cause, lines=lines, answers=answers
    )


def missing(n: int, reason: str = "short-pick") -> StockAdjusted:
    return StockAdjusted(sku="TEAPOT", location="east", delta=-n, reason=reason, reference="anna.east", happened_at=AT)


def short(n: int) -> TakeBackShortPicked:
    return TakeBackShortPicked("anna", "anna.east", (some(n),), AT)


def in_time(n: int, cancellation_id: str = "c-1") -> LetGoRecalled:
    return LetGoRecalled("anna", "anna.east", cancellation_id, (some(n),))


def test_units_short_picked_under_recall_are_let_go_by_the_cancellation_and_not_routed_again() -> None:
    Given(*AT_WORK, cancel("anna", 3)).when(short(2)).then(
        claim(StockLetGo, "anna", 2, was="allocated", location="east"), missing(2), given_back(2)
    )
    history = Given(*AT_WORK, cancel("anna", 3), short(2))
    assert history.check() == []
    history.when(in_time(1)).then(
        claim(StockLetGo, "anna", 1, was="allocated", location="east"), given_back(1, answers="c-1")
    )
    Given(*AT_WORK, cancel("anna", 3), short(2), in_time(1)).when(in_time(1)).then()


def test_units_rejected_under_recall_are_let_go_and_only_the_others_routed_again() -> None:
    Given(*AT_WORK, cancel("anna", 2)).when(
        TakeBackRejected("anna", "anna.east", RejectReason.NO_CAPACITY, (some(3),), AT)
    ).then(
        claim(StockLetGo, "anna", 2, was="allocated", location="east"),
        claim(StockDeallocated, "anna", 1, location="east"),
        given_back(2),
        to_route_again(1, "rejected"),
    )
    Given(*AT_WORK, cancel("anna", 3)).when(
        TakeBackRejected("anna", "anna.east", RejectReason.OUT_OF_STOCK, (some(3),), AT)
    ).then(
        claim(StockLetGo, "anna", 3, was="allocated", location="east"),
        missing(3, "rejected: out of stock"),
        given_back(3),
    )


def test_units_let_go_by_a_cancellation_give_way_before_any_others() -> None:
    history = (received(3), reserve("anna", teapots(2)), from_east("anna", 2), reserve("ben", teapots(1)))
    Given(*history, cancel("anna", 2)).when(short(2)).then(
        claim(StockLetGo, "anna", 2, was="allocated", location="east"), missing(2), given_back(2)
    )
    Given(*history, cancel("anna", 1)).when(short(2)).then(
        claim(StockLetGo, "anna", 1, was="allocated", location="east"),
        claim(StockDeallocated, "anna", 1, location="east"),
        missing(2),
        given_back(1),
        claim(StockLetGo, "anna", 1, was="reserved"),
        OrderLetGo(order_id="anna", cause="shortage", lines=(some(1),), fulfillment_id="anna.east"),
    )


def test_an_answer_beyond_what_is_left_of_its_recall_gives_the_other_units_back() -> None:
    """The location had not heard of the recall when it came up short, so it has put more back than was left of it."""
    before = (*AT_WORK, cancel("anna", 1), short(2))
    Given(*AT_WORK, cancel("anna", 1)).when(short(2)).then(
        claim(StockLetGo, "anna", 1, was="allocated", location="east"),
        claim(StockDeallocated, "anna", 1, location="east"),
        missing(2),
        given_back(1),
        to_route_again(1),
    )
    Given(*before).when(in_time(1)).then(
        claim(StockDeallocated, "anna", 1, location="east"), to_route_again(1, answers="c-1")
    )
    history = Given(*before, in_time(1))
    history.when(in_time(1)).then()
    assert history.check() == []


def test_units_put_back_for_one_cancellation_are_let_go_by_another_that_calls_them_off() -> None:
    before = (*AT_WORK, cancel("anna", 2, "c-2"), cancel("anna", 1, "c-1"), short(2))
    Given(*before).when(in_time(1, "c-2")).then(
        claim(StockLetGo, "anna", 1, was="allocated", location="east"), given_back(1, "c-1", answers="c-2")
    )
    history = Given(*before, in_time(1, "c-2"))
    history.when(in_time(1, "c-2")).then()
    assert history.check() == []


def test_the_cancellation_that_came_first_gets_the_units_that_come_back() -> None:
    Given(*AT_WORK, cancel("anna", 2, "c-2"), cancel("anna", 1, "c-1")).when(short(3)).then(
        claim(StockLetGo, "anna", 3, was="allocated", location="east"),
        missing(3),
        given_back(2, "c-2"),
        given_back(1, "c-1"),
    )


def test_units_put_back_that_a_count_missed_may_give_way_and_are_answered_for_once() -> None:
    history = Given(*AT_WORK, cancel("anna", 1), short(2), counted(0))
    history.when(in_time(1)).then(
        claim(StockDeallocated, "anna", 1, location="east"),
        claim(StockLetGo, "anna", 1, was="reserved"),
        to_route_again(1, answers="c-1"),
        OrderLetGo(order_id="anna", cause="shortage", lines=(some(1),)),
    )


def test_of_units_under_recall_that_ship_the_oldest_recall_keeps_its_claim_on_the_rest() -> None:
    before = (*AT_WORK, cancel("anna", 1, "c-2"), cancel("anna", 2, "c-1"))
    history = Given(*before, ShipOut("anna", "anna.east", (some(2),), AT))
    assert history.check() == []
    history.when(short(1)).then(
        claim(StockLetGo, "anna", 1, was="allocated", location="east"), missing(1), given_back(1, "c-2")
    )


def test_of_units_already_let_go_there_is_nothing_to_say() -> None:
    Given(received(3), reserve("anna", teapots(3)), cancel("anna", 3)).when(cancel("anna", 3, "c-2")).then()


def test_a_cancellation_before_the_reservation_is_tried_again_of_a_refused_order_dropped() -> None:
    Given().when(cancel("anna", 1)).then_raises(OrderNotReserved, match="anna: no reservation")
    Given(received(1), reserve("anna", teapots(2))).when(cancel("anna", 2)).then()


# Routed again because a person wants it


def reroute(reroute_id: str = "r-1", elsewhere: bool = True, fulfillment_id: str = "anna.east") -> RerouteUnits:
    return RerouteUnits("anna", fulfillment_id, reroute_id, elsewhere)


def asked_back(n: int, how: Any = "elsewhere") -> AllocationRecalled:
    return AllocationRecalled(
        order_id="anna", fulfillment_id="anna.east", cancellation_id="reroute:r-1", lines=(some(n),), reroute=how
    )


def test_a_location_is_asked_for_all_units_that_no_cancellation_calls_off_there() -> None:
    Given(*AT_WORK).when(reroute()).then(asked_back(3))
    Given(*AT_WORK, cancel("anna", 2)).when(reroute(elsewhere=False)).then(asked_back(1, "anywhere"))
    Given(*AT_WORK, reroute()).when(reroute()).then()


def test_lines_are_asked_back_in_one_order_whatever_process_decides() -> None:
    """A map of texts has another order in each process; what is decided has not."""
    lines = tuple(teapots(1, line_id=str(number)) for number in range(10, 22))
    history = Given(received(12), reserve("anna", *lines), allocate("anna", shipment("anna.east", "east", *lines)))
    asked = AllocationRecalled(
        order_id="anna",
        fulfillment_id="anna.east",
        cancellation_id="reroute:r-1",
        lines=tuple(some(1, line_id=line.line_id) for line in lines),
        reroute="elsewhere",
    )
    history.when(reroute()).then(asked)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_units_given_back_for_a_person_are_routed_again_elsewhere_or_anywhere(elsewhere: bool) -> None:
    again = Given(*AT_WORK, reroute(elsewhere=elsewhere))
    again.when(in_time(3, "reroute:r-1")).then(
        claim(StockDeallocated, "anna", 3, location="east"),
        OrderDeallocated(
            order_id="anna",
            fulfillment_id="anna.east",
            location="east",
            cause="manual",
            lines=(teapots(3),),
            answers="reroute:r-1",
            avoid=elsewhere,
        ),
    )
    Given(*AT_WORK, reroute(), in_time(3, "reroute:r-1")).when(in_time(3, "reroute:r-1")).then()


def test_a_cancellation_that_comes_while_units_are_asked_back_is_served_first() -> None:
    history = Given(*AT_WORK, reroute(), cancel("anna", 2))
    assert history.check() == []
    history.when(in_time(3, "reroute:r-1")).then(
        claim(StockLetGo, "anna", 2, was="allocated", location="east"),
        claim(StockDeallocated, "anna", 1, location="east"),
        given_back(2, answers="reroute:r-1"),
        to_route_again(1, "manual", answers="reroute:r-1"),
    )


@pytest.mark.parametrize(
    ("history", "command", "why"),
    [
        ((), reroute(fulfillment_id="other"), "no units of order anna were ever allocated to it"),
        ((cancel("anna", 3),), reroute(), "all its units have left it, or are being canceled"),
        ((ShipOut("anna", "anna.east", (some(3),), AT),), reroute(), "all its units have left it"),
        ((reroute(),), reroute("r-2"), "east was asked for them already"),
    ],
)
def test_where_there_is_nothing_to_take_back_the_person_is_told_why(
    history: tuple[Command, ...], command: Command, why: str
) -> None:
    Given(*AT_WORK, *history).when(command).then_raises(NothingToReroute, match=why)


def too_late(n: int, cancellation_id: str = "c-1") -> KeepRecalled:
    return KeepRecalled("anna", "anna.east", cancellation_id, (some(n),) if n else ())


def kept(n: int, cancellation_id: str = "c-1") -> RecallDeclined:
    return RecallDeclined(
        order_id="anna", fulfillment_id="anna.east", cancellation_id=cancellation_id, lines=(some(n),)
    )


def test_what_a_location_keeps_is_called_off_no_longer() -> None:
    Given(*AT_WORK, cancel("anna", 2)).when(too_late(2)).then(kept(2))
    Given(*AT_WORK, cancel("anna", 2)).when(too_late(3)).then(kept(2))
    Given(*AT_WORK, cancel("anna", 2), too_late(2)).when(too_late(2)).then()
    back = too_late(3, "reroute:r-1")
    Given(*AT_WORK, reroute()).when(back).then(kept(3, "reroute:r-1"))
    Given(*AT_WORK, reroute(), back).when(back).then()
    Given(*AT_WORK).when(too_late(2)).then()
    Given(*AT_WORK, cancel("anna", 2)).when(too_late(2, "c-2")).then()


@pytest.mark.parametrize("asked", [cancel("anna", 3), reroute()])
def test_what_a_location_kept_can_be_routed_again_once_no_carrier_takes_it(asked: Command) -> None:
    declined = too_late(3, "c-1" if isinstance(asked, CancelUnits) else "reroute:r-1")
    again = asked_back(3).model_copy(update={"cancellation_id": "reroute:r-2"})
    Given(*AT_WORK, asked, declined).when(reroute("r-2")).then(again)


def test_what_a_location_kept_and_comes_back_after_all_is_routed_again_and_not_canceled() -> None:
    """The customer was told that the cancellation came too late."""
    rejected = TakeBackRejected("anna", "anna.east", RejectReason.CLOSED, (some(3),), AT)
    Given(*AT_WORK, cancel("anna", 2), too_late(2)).when(rejected).then(
        claim(StockDeallocated, "anna", 3, location="east"), to_route_again(3, "rejected")
    )


def test_what_a_location_had_given_back_before_it_heard_of_the_cancellation_is_canceled() -> None:
    """It has none of it left to keep, so it keeps nothing; its word of what it gave back comes late."""
    rejected = TakeBackRejected("anna", "anna.east", RejectReason.CLOSED, (some(3),), AT)
    Given(*AT_WORK, cancel("anna", 2)).when(too_late(0)).then()
    Given(*AT_WORK, cancel("anna", 3), too_late(1)).when(rejected).then(
        claim(StockLetGo, "anna", 2, was="allocated", location="east"),
        claim(StockDeallocated, "anna", 1, location="east"),
        given_back(2),
        to_route_again(1, "rejected"),
    )


# Returns


def inspected(n: int, disposition: Disposition, note: str = "") -> InspectedLine:
    return InspectedLine(line_id="1", sku="TEAPOT", quantity=n, disposition=disposition, note=note)


def test_returned_goods_are_for_sale_again_written_off_or_missing() -> None:
    lines = (
        inspected(1, Disposition.RESTOCK),
        inspected(2, Disposition.RESTOCK),
        inspected(1, Disposition.WRITE_OFF, "chipped"),
        inspected(4, Disposition.MISSING),
    )
    command = TakeInReturn("return-1", "inspection-1", "west", lines, AT)
    waiting = (received(1), reserve("zoe", teapots(1)), reserve("anna", teapots(2), may_wait=True))
    ids = {"return_id": "return-1", "reference": "inspection-1"}
    Given(*waiting).when(command).then(
        StockRestocked(sku="TEAPOT", location="west", quantity=3, **ids, happened_at=AT),
        StockWrittenOff(sku="TEAPOT", location="west", quantity=1, reason="chipped", **ids),
        claim(BackorderFilled, "anna", 2),
        order_filled("anna", teapots(2)),
    )
    Given(*waiting, command).when(command).then()


# What others see


def test_availability_is_what_a_new_order_may_claim() -> None:
    history = Given(*AT_WORK, received(1, "west"), reserve("ben", teapots(2)))
    assert availability("TEAPOT", 9, history.stock()) == Availability(
        sku="TEAPOT",
        version=9,
        available=1,
        locations={
            "east": LocationAvailability(on_hand=5, unallocated=2),
            "west": LocationAvailability(on_hand=1, unallocated=1),
        },
    )


def test_summaries_hold_every_number_for_the_views() -> None:
    history = Given(*AT_WORK, ShipOut("anna", "anna.east", (some(1),), AT))
    assert stock_summary(history.stock()) == {
        "known": True,
        "on_hand": 4,
        "available": 2,
        "reserved": 0,
        "allocated": 2,
        "backordered": 0,
        "set_aside": 0,
        "open_claims": 1,
        "received": 5,
        "adjusted": 0,
        "restocked": 0,
        "shipped_out": 1,
        "written_off": 0,
        "locations": {"east": {"on_hand": 4, "allocated": 2, "unallocated": 2, "set_aside": 0, "ships": True}},
    }
    assert reservation_summary(history.states["reservation-anna"]) == {
        "order_id": "anna",
        "refused": False,
        "shortages": [],
        "channel": "web",
        "external_id": "#anna",
        "placed_at": "2026-03-02T09:00:00+00:00",
        "service_level": "standard",
        "allow_backorder": False,
        "destination": {"country": "US", "region": "OR", "postal_code": "97201"},
        "lines": [
            {
                "line_id": "1",
                "sku": "TEAPOT",
                "title": "Teapot",
                "quantity": 3,
                "reserved": 0,
                "backordered": 0,
                "allocated": 2,
                "shipped": 1,
                "let_go": 0,
            }
        ],
        "fulfillments": {"anna.east": {"location": "east", "units": {"1": 2}}},
    }


def test_a_stock_that_does_not_add_up_is_named() -> None:
    lost = STOCK.fold([claim(StockShippedOut, "anna", 2, location="east", happened_at=AT)])
    assert check_stock(lost) == [
        "on hand at east: -2, less than nothing",
        "claim anna/1: units (0, 0, -2) are negative or none",
    ]
    assert check_agreement(units_claimed({"TEAPOT": lost}), {}) == [
        "order anna, line 1, SKU TEAPOT: stock says {'allocated at east': -2}, reservation {}"
    ]


def test_a_decision_declares_the_streams_it_is_known_to_touch() -> None:
    order = reserve("anna", teapots(1), teapots(1, "2", "CUP"), teapots(2, "3"))
    assert streams(order) == ("reservation-anna", "stock-CUP", "stock-TEAPOT")
    assert streams(received(1)) == ("stock-TEAPOT",)
    assert streams(from_east("anna", 1)) == ("reservation-anna", "stock-TEAPOT")
    assert streams(cancel("anna", 1)) == ("reservation-anna", "stock-TEAPOT")
    command = received(5)
    told = decision(command).decide(States())
    assert isinstance(told, Folded)
    assert told.events == decide(States(), command)
    stock = STOCK.fold(event for stream, event in told.events if stream == "stock-TEAPOT")
    assert told.states["stock-TEAPOT"] == stock


def test_the_auditor_counts_a_claim_that_gave_way_alike_on_both_sides() -> None:
    """A unit that is not found goes back to waiting: the SKU lets the claim go, the order's stream says it waits."""
    book = InventoryBook()
    states = States()
    short = TakeBackShortPicked("anna", "anna.east", (some(1),), AT)
    for command in (received(2), reserve("anna", teapots(2), may_wait=True), from_east("anna", 2), short):
        for seq, (stream, event) in enumerate(decide(states, command), 1):
            states[stream] = (STOCK if stream.startswith("stock-") else RESERVATION).evolve(states[stream], event)
            book.take(seq, stream, event)
    assert sum(book.stock_let_go.values()) == 1
    assert book.let_go == book.stock_let_go
