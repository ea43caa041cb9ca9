"""Rules of tracking: what scans mean for a parcel, what steps mean for an order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ordermill.contracts.base import Message
from ordermill.contracts.capture import (
    CancellationRefunded,
    HoldReason,
    HoldReleased,
    OrderCaptured,
    OrderHeld,
    OrderLine,
    OrderLinesCanceled,
    OrderReleased,
    OrderRevised,
    ReleasedLine,
)
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.channel import Payment, ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import FulfillmentShipped, ShippedPackage
from ordermill.contracts.inventory import OrderBackordered, OrderBackorderFilled, OrderLetGo, OrderReserved
from ordermill.contracts.returns import (
    Disposition,
    GoodsWaived,
    InspectedLine,
    RefundPaid,
    ReturnAuthorized,
    ReturnInspected,
    ReturnReceived,
)
from ordermill.contracts.routing import PromiseChanged, PromiseMade
from ordermill.contracts.tracking import (
    Milestone,
    OrderProgressed,
    ParcelStatus,
    ShipmentAnnounced,
    ShipmentCameBack,
    ShipmentDelivered,
    ShipmentFellLate,
    ShipmentLost,
    ShipmentScanned,
    Step,
    TrackingNumberReused,
)
from ordermill.customer import customer_token, in_words, order_of_token
from ordermill.eventlog.store import Timer
from ordermill.service.declare import Received
from services.tracking.domain import (
    SHIPMENT,
    AnnounceShipment,
    CheckLost,
    CheckPromise,
    Command,
    RecordScan,
    Shipment,
    announcements,
    decide,
    follow,
    moves,
    scan_of,
    shipment_id_of,
    shipment_summary,
)
from services.tracking.errors import OrderNotTracked, ParcelNameTooLong, ScanAhead
from services.tracking.handlers import Deadlines, record_scan
from services.tracking.status import (
    STATUS,
    CheckOrderPromise,
    RecordStep,
    Status,
    order_status,
    steps_of,
)
from services.tracking.status import decide as decide_status
from tests.spec import spec, through_json

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FRIDAY = MONDAY + 4 * DAY
PARCEL = "cedar-TEAPOT1"
TEAPOTS = LineQuantity(line_id="1", sku="TEAPOT", quantity=2)
USD = "USD"

parcel = spec(SHIPMENT, decide)
order = spec(STATUS, decide_status)

ANNOUNCE = AnnounceShipment(
    shipment_id=PARCEL,
    order_id="o-1",
    fulfillment_id="f-1",
    carrier="cedar",
    tracking_number="TEAPOT1",
    shipped_at=MONDAY,
    promised_by=FRIDAY,
    lines=(TEAPOTS,),
)
ANNOUNCED = ShipmentAnnounced(
    shipment_id=PARCEL,
    order_id="o-1",
    fulfillment_id="f-1",
    carrier="cedar",
    tracking_number="TEAPOT1",
    shipped_at=MONDAY,
    promised_by=FRIDAY,
    lines=(TEAPOTS,),
)


def scan(number: int, milestone: Milestone, at: datetime) -> RecordScan:
    return RecordScan(PARCEL, f"s{number}", milestone, "raw", at, "Hamburg", "photo")


def scanned(number: int, milestone: Milestone, at: datetime, last_seen_at: datetime | None = None) -> ShipmentScanned:
    return ShipmentScanned(
        shipment_id=PARCEL,
        scan_id=f"s{number}",
        milestone=milestone,
        code="raw",
        scanned_at=at,
        place="Hamburg",
        last_seen_at=last_seen_at or at,
    )


def delivered(number: int, at: datetime) -> ShipmentDelivered:
    return ShipmentDelivered(
        shipment_id=PARCEL, scan_id=f"s{number}", code="raw", delivered_at=at, place="Hamburg", proof="photo"
    )


LATE = ShipmentFellLate(shipment_id=PARCEL, due_at=FRIDAY)


# Parcels


def test_a_parcel_is_announced_once() -> None:
    parcel.given().when(ANNOUNCE).then(ANNOUNCED)
    parcel.given(ANNOUNCED).when(ANNOUNCE).then()


def test_a_scan_of_a_parcel_nobody_announced_yet_is_recorded_all_the_same() -> None:
    parcel.given().when(scan(1, Milestone.IN_TRANSIT, MONDAY)).then(scanned(1, Milestone.IN_TRANSIT, MONDAY))


def test_a_repeated_scan_is_no_news() -> None:
    seen = scanned(1, Milestone.IN_TRANSIT, MONDAY)
    parcel.given(ANNOUNCED, seen).when(scan(1, Milestone.IN_TRANSIT, MONDAY)).then()


def test_a_scan_that_comes_late_is_recorded_but_does_not_move_the_parcel_back() -> None:
    past = (ANNOUNCED, scanned(2, Milestone.OUT_FOR_DELIVERY, MONDAY + DAY))
    late = scanned(1, Milestone.IN_TRANSIT, MONDAY, last_seen_at=MONDAY + DAY)
    parcel.given(*past).when(scan(1, Milestone.IN_TRANSIT, MONDAY)).then(late)
    assert parcel.given(*past, late).state.milestone is Milestone.OUT_FOR_DELIVERY


def test_a_newer_scan_may_bring_the_parcel_from_the_van_back_to_the_depot() -> None:
    out, back = scanned(1, Milestone.OUT_FOR_DELIVERY, MONDAY), scanned(2, Milestone.IN_TRANSIT, MONDAY + DAY)
    assert parcel.given(out, back).state.milestone is Milestone.IN_TRANSIT


def test_a_code_nobody_can_read_does_not_move_the_parcel() -> None:
    known, unknown = scanned(1, Milestone.IN_TRANSIT, MONDAY), scanned(2, Milestone.UNKNOWN, FRIDAY)
    state = parcel.given(known, unknown).state
    assert (state.milestone, state.last_seen_at) == (Milestone.IN_TRANSIT, FRIDAY)


def test_a_delivery_tells_its_proof() -> None:
    parcel.given(ANNOUNCED).when(scan(1, Milestone.DELIVERED, MONDAY + DAY)).then(delivered(1, MONDAY + DAY))


def test_a_second_delivery_scan_is_a_scan_and_no_second_delivery() -> None:
    again = scanned(2, Milestone.DELIVERED, MONDAY + 2 * DAY)
    past = (ANNOUNCED, delivered(1, MONDAY + DAY))
    parcel.given(*past).when(scan(2, Milestone.DELIVERED, MONDAY + 2 * DAY)).then(again)
    assert parcel.given(*past, again).state.delivered_at == MONDAY + DAY


def test_a_delivery_is_not_undone_by_a_newer_scan_on_the_way() -> None:
    state = parcel.given(ANNOUNCED, delivered(1, MONDAY), scanned(2, Milestone.IN_TRANSIT, FRIDAY)).state
    assert state.milestone is Milestone.DELIVERED


def test_a_parcel_back_at_its_sender_was_not_delivered_by_a_newer_delivery_scan() -> None:
    back = scanned(1, Milestone.RETURNED, MONDAY)
    parcel.given(ANNOUNCED, back).when(scan(2, Milestone.DELIVERED, MONDAY + HOUR)).then(
        scanned(2, Milestone.DELIVERED, MONDAY + HOUR)
    )
    parcel.given(ANNOUNCED, back).when(scan(3, Milestone.DELIVERED, MONDAY - DAY)).then(delivered(3, MONDAY - DAY))
    assert parcel.given(ANNOUNCED, delivered(4, MONDAY), back).state.milestone is Milestone.RETURNED


def test_a_parcel_scanned_twice_at_its_sender_was_not_delivered_in_between() -> None:
    back, still_there = scanned(1, Milestone.RETURNED, MONDAY), scanned(2, Milestone.RETURNED, FRIDAY)
    at_sender = scanned(3, Milestone.DELIVERED, MONDAY + HOUR, last_seen_at=FRIDAY)
    for past in ((back, still_there), (still_there, back)):
        parcel.given(ANNOUNCED, *past).when(scan(3, Milestone.DELIVERED, MONDAY + HOUR)).then(at_sender)


def test_that_a_parcel_came_back_is_told_once() -> None:
    first, again = scanned(1, Milestone.RETURNED, MONDAY), scanned(2, Milestone.RETURNED, FRIDAY)
    came_back = ShipmentCameBack(shipment_id=PARCEL, came_back_at=MONDAY)
    parcel.given(ANNOUNCED).when(scan(1, Milestone.RETURNED, MONDAY)).then(first, came_back)
    parcel.given(ANNOUNCED, first, came_back).when(scan(2, Milestone.RETURNED, FRIDAY)).then(again)


def test_a_parcel_on_its_way_back_may_turn_around_and_be_delivered() -> None:
    returning = scanned(1, Milestone.RETURNING, MONDAY)
    parcel.given(ANNOUNCED, returning).when(scan(2, Milestone.DELIVERED, FRIDAY)).then(delivered(2, FRIDAY))


def test_a_delivery_that_was_told_stays_told_when_an_earlier_return_is_heard_of() -> None:
    told, back = delivered(1, MONDAY + HOUR), scanned(2, Milestone.RETURNED, MONDAY, last_seen_at=MONDAY + HOUR)
    came_back = ShipmentCameBack(shipment_id=PARCEL, came_back_at=MONDAY)
    parcel.given(ANNOUNCED, told).when(scan(2, Milestone.RETURNED, MONDAY)).then(back, came_back)
    state = parcel.given(ANNOUNCED, told, back).state
    assert (state.milestone, state.delivered_at) == (Milestone.RETURNED, MONDAY + HOUR)


def test_a_parcel_not_delivered_by_its_promise_falls_late_once() -> None:
    parcel.given(ANNOUNCED).when(CheckPromise(PARCEL, FRIDAY)).then(LATE)
    parcel.given(ANNOUNCED, LATE).when(CheckPromise(PARCEL, FRIDAY + DAY)).then()


def test_a_parcel_is_late_against_what_was_promised_not_against_when_it_was_looked_at() -> None:
    (timer, _) = Deadlines(late_after=4 * HOUR, lost_after=10 * DAY).of("shipment-" + PARCEL, ANNOUNCED)
    assert isinstance(timer, Timer)
    assert timer.due_at == FRIDAY + 4 * HOUR
    parcel.given(ANNOUNCED).when(CheckPromise(PARCEL, timer.due_at)).then(LATE)


def test_a_parcel_is_not_late_before_its_promise_nor_after_its_delivery_nor_before_it_is_ours() -> None:
    parcel.given(ANNOUNCED).when(CheckPromise(PARCEL, FRIDAY - HOUR)).then()
    parcel.given(ANNOUNCED, delivered(1, MONDAY)).when(CheckPromise(PARCEL, FRIDAY)).then()
    parcel.given(scanned(1, Milestone.IN_TRANSIT, MONDAY)).when(CheckPromise(PARCEL, FRIDAY)).then()


def test_a_delivery_after_the_promise_is_late_as_well_unless_that_was_said_before() -> None:
    too_late = FRIDAY + HOUR
    parcel.given(ANNOUNCED).when(scan(1, Milestone.DELIVERED, too_late)).then(delivered(1, too_late), LATE)
    parcel.given(ANNOUNCED, LATE).when(scan(1, Milestone.DELIVERED, too_late)).then(delivered(1, too_late))
    parcel.given(delivered(1, too_late)).when(ANNOUNCE).then(
        ANNOUNCED.model_copy(update={"last_seen_at": too_late}), LATE
    )


def test_a_delivery_in_time_that_we_only_heard_of_later_was_not_late() -> None:
    assert parcel.given(ANNOUNCED, LATE).state.late
    assert not parcel.given(ANNOUNCED, LATE, delivered(1, FRIDAY)).state.late


def test_a_parcel_silent_for_too_long_counts_as_lost() -> None:
    lost = ShipmentLost(shipment_id=PARCEL, due_at=MONDAY + 10 * DAY)
    check = CheckLost(PARCEL, MONDAY + 10 * DAY, after=10 * DAY)
    parcel.given(ANNOUNCED).when(check).then(lost)
    parcel.given(ANNOUNCED, lost).when(check).then()
    parcel.given(ANNOUNCED, scanned(1, Milestone.IN_TRANSIT, MONDAY + HOUR)).when(check).then()
    parcel.given(ANNOUNCED, delivered(1, MONDAY)).when(check).then()
    parcel.given(scanned(1, Milestone.IN_TRANSIT, MONDAY)).when(check).then()


@pytest.mark.parametrize("before", [timedelta(minutes=5), DAY])
def test_a_parcel_scanned_before_its_handover_was_told_may_be_silent_from_the_handover_on(before: timedelta) -> None:
    picked_up = scan(1, Milestone.IN_TRANSIT, MONDAY - before)
    seen = scanned(1, Milestone.IN_TRANSIT, picked_up.scanned_at, last_seen_at=MONDAY)
    parcel.given(ANNOUNCED).when(picked_up).then(seen)
    (timer,) = Deadlines(late_after=HOUR, lost_after=10 * DAY).of("shipment-" + PARCEL, seen)
    assert isinstance(timer, Timer)
    lost = ShipmentLost(shipment_id=PARCEL, due_at=MONDAY + 10 * DAY)
    parcel.given(ANNOUNCED, seen).when(CheckLost(PARCEL, timer.due_at, after=10 * DAY)).then(lost)
    assert parcel.given(ANNOUNCED, lost, seen).state.lost


def test_a_lost_parcel_that_is_scanned_or_delivered_is_found() -> None:
    lost = ShipmentLost(shipment_id=PARCEL, due_at=MONDAY + 10 * DAY)
    past = (ANNOUNCED, scanned(1, Milestone.IN_TRANSIT, MONDAY), lost)
    assert parcel.given(*past).state.lost
    assert not parcel.given(*past, scanned(2, Milestone.IN_TRANSIT, MONDAY + 11 * DAY)).state.lost
    assert parcel.given(*past, scanned(2, Milestone.LABEL_CREATED, MONDAY - DAY)).state.lost
    arrived = MONDAY + 12 * DAY
    parcel.given(*past).when(scan(3, Milestone.DELIVERED, arrived)).then(delivered(3, arrived), LATE)


def handed_over(*boxes: tuple[str, LineQuantity]) -> FulfillmentShipped:
    """`boxes`: tracking number and content."""
    return FulfillmentShipped(
        fulfillment_id="f-1",
        order_id="o-1",
        location="hamburg",
        shipped_at=MONDAY,
        deliver_by=FRIDAY,
        packages=tuple(
            ShippedPackage(package=at, carrier="cedar", service="ground", tracking_number=number, lines=(content,))
            for at, (number, content) in enumerate(boxes, start=1)
        ),
    )


def test_each_package_of_a_fulfillment_order_is_a_parcel() -> None:
    first, second = announcements(handed_over(("TEAPOT1", TEAPOTS), ("TEAPOT2", TEAPOTS)))
    assert first == ANNOUNCE
    assert second.shipment_id == "cedar-TEAPOT2"


def test_boxes_under_one_number_are_one_parcel_with_all_that_is_in_them() -> None:
    cup = LineQuantity(line_id="2", sku="CUP", quantity=1)
    (both,) = announcements(handed_over(("TEAPOT1", TEAPOTS), ("TEAPOT1", TEAPOTS), ("TEAPOT1", cup)))
    assert both.lines == (TEAPOTS.model_copy(update={"quantity": 4}), cup)
    streams = Streams()
    streams.do(both)
    assert streams["status-o-1"].shipped == 5


def test_a_carriers_message_becomes_a_scan_of_the_parcel_it_names() -> None:
    message = ParcelScanned(
        carrier="cedar",
        tracking_number="TEAPOT1",
        scan_id="s1",
        code="raw",
        scanned_at=MONDAY,
        place="Hamburg",
        proof="photo",
    )
    assert scan_of(message, Milestone.IN_TRANSIT, MONDAY) == scan(1, Milestone.IN_TRANSIT, MONDAY)
    with pytest.raises(ParcelNameTooLong, match="more than 115 characters"):
        shipment_id_of("c" * 80, "N" * 40)


def test_a_scan_from_next_year_is_kept_for_a_person_and_moves_nothing() -> None:
    """Counted, it would be the newest for a year: the parcel would stand still, and could not be lost."""
    message = ParcelScanned(
        carrier="cedar", tracking_number="TEAPOT1", scan_id="s1", code="hub.arrived", scanned_at=MONDAY + 365 * DAY
    )
    with pytest.raises(ScanAhead, match="cedar-TEAPOT1: scanned at 2027-03-02 09:00 UTC, 365 days from now"):
        list(record_scan(message, Received("m1", "r1", MONDAY, now=MONDAY)))
    fast = message.model_copy(update={"scanned_at": MONDAY + 14 * HOUR})  # local time that was taken for UTC
    assert len(list(record_scan(fast, Received("m1", "r1", MONDAY, now=MONDAY)))) == 1


# Parcels and their order


class Streams:
    """Streams in memory: decides as the engine does, and loads a stream when it is looked up."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    def __getitem__(self, stream: str) -> Any:
        initial = STATUS.initial if stream.startswith("status-") else SHIPMENT.initial
        return self.states.get(stream, initial)

    def do(self, command: Command) -> list[tuple[str, Any]]:
        told = follow(self, command).events  # type: ignore[arg-type]
        for stream, event in told:
            decider = STATUS if stream.startswith("status-") else SHIPMENT
            self.states[stream] = decider.evolve(self[stream], through_json(event))
        return told

    def steps(self, command: Command) -> list[OrderProgressed]:
        return [event for stream, event in self.do(command) if stream == "status-o-1"]


def step(what: Step, at: datetime, source: str, units: int = 0, **parcel_fields: Any) -> OrderProgressed:
    known = {"shipment_id": PARCEL, "milestone": Milestone.LABEL_CREATED, "late": False, "updated_at": MONDAY}
    status = ParcelStatus(carrier="cedar", tracking_number="TEAPOT1", **known | parcel_fields)
    return OrderProgressed(
        order_id="o-1", step=what, happened_at=at, units=units, reference=PARCEL, source=source, parcel=status
    )


def test_an_announced_parcel_moves_its_order() -> None:
    shipped = step(Step.SHIPPED, MONDAY, "f-1", units=2)
    assert follow(Streams(), ANNOUNCE).events == [("shipment-cedar-TEAPOT1", ANNOUNCED), ("status-o-1", shipped)]  # type: ignore[arg-type]


def test_scans_before_the_announcement_reach_the_order_with_it() -> None:
    streams = Streams()
    assert streams.steps(scan(1, Milestone.IN_TRANSIT, MONDAY)) == []
    assert streams.steps(scan(2, Milestone.DELIVERED, FRIDAY + HOUR)) == []
    parcel_now = {"milestone": Milestone.DELIVERED, "late": True, "updated_at": FRIDAY + HOUR}
    assert streams.steps(ANNOUNCE) == [
        step(Step.SHIPPED, MONDAY, "f-1", units=2, **parcel_now),
        step(Step.DELIVERED, FRIDAY + HOUR, "f-1", units=2, **parcel_now),
        step(Step.LATE, MONDAY, "f-1", **parcel_now),
    ]


def test_a_scan_moves_the_order_when_it_moves_the_parcel_and_only_then() -> None:
    streams = Streams()
    streams.do(ANNOUNCE)
    moved = {"milestone": Milestone.IN_TRANSIT, "updated_at": MONDAY + HOUR}
    assert streams.steps(scan(1, Milestone.IN_TRANSIT, MONDAY + HOUR)) == [
        step(Step.MOVED, MONDAY + HOUR, "s1", **moved)
    ]
    assert streams.steps(scan(2, Milestone.IN_TRANSIT, MONDAY + 2 * HOUR)) == []
    assert streams.steps(scan(3, Milestone.LABEL_CREATED, MONDAY + 3 * HOUR)) == []


def test_a_first_scan_that_nobody_can_read_tells_the_customer_nothing() -> None:
    streams = Streams()
    streams.do(ANNOUNCE)
    assert streams.steps(scan(1, Milestone.UNKNOWN, MONDAY + HOUR)) == []


def test_late_lost_and_delivered_are_told_to_the_order() -> None:
    streams = Streams()
    streams.do(ANNOUNCE)
    assert [each.step for each in streams.steps(CheckPromise(PARCEL, FRIDAY))] == [Step.LATE]
    lost = streams.steps(CheckLost(PARCEL, MONDAY + 10 * DAY, after=10 * DAY))
    assert lost == [step(Step.LOST, MONDAY + 10 * DAY, (MONDAY + 10 * DAY).isoformat(), late=True, lost=True)]
    arrived = MONDAY + 12 * DAY
    found = {"milestone": Milestone.DELIVERED, "late": True, "updated_at": arrived}
    assert streams.steps(scan(9, Milestone.DELIVERED, arrived)) == [
        step(Step.DELIVERED, arrived, "s9", units=2, **found)
    ]


# A carrier's number that is used again

SECOND = f"{PARCEL}:2"
LATER = MONDAY + 200 * DAY
AGAIN = AnnounceShipment(PARCEL, "o-2", "f-2", "cedar", "TEAPOT1", LATER, LATER + 4 * DAY, (TEAPOTS,))


def delivered_long_ago() -> Streams:
    streams = Streams()
    for command in (ANNOUNCE, scan(1, Milestone.IN_TRANSIT, MONDAY + HOUR), scan(2, Milestone.DELIVERED, FRIDAY)):
        streams.do(command)
    return streams


def test_a_number_that_is_used_again_is_another_parcel() -> None:
    streams = delivered_long_ago()
    first = streams["status-o-1"]
    reused = TrackingNumberReused(shipment_id=PARCEL, reused_by=SECOND, since=LATER - 14 * DAY)
    announced = ANNOUNCED.model_copy(
        update={
            "shipment_id": SECOND,
            "order_id": "o-2",
            "fulfillment_id": "f-2",
            "shipped_at": LATER,
            "promised_by": LATER + 4 * DAY,
        }
    )
    told = streams.do(AGAIN)
    assert told[:2] == [(f"shipment-{PARCEL}", reused), (f"shipment-{SECOND}", announced)]
    assert streams.do(AGAIN) == []
    streams.do(scan(3, Milestone.DELIVERED, LATER + DAY))
    assert order_status(streams["status-o-2"], 1).delivered == 2
    assert streams["status-o-1"] == first
    assert streams[f"shipment-{SECOND}"].delivered_at == LATER + DAY


def test_what_was_scanned_before_a_number_was_used_again_is_the_first_parcels() -> None:
    streams = delivered_long_ago()
    streams.do(AGAIN)
    ((stream, _),) = streams.do(scan(3, Milestone.OUT_FOR_DELIVERY, FRIDAY - HOUR))
    assert stream == f"shipment-{PARCEL}"


def test_a_number_may_be_used_a_third_time() -> None:
    streams = delivered_long_ago()
    streams.do(AGAIN)
    streams.do(scan(3, Milestone.DELIVERED, LATER + DAY))
    much_later = LATER + 200 * DAY
    streams.do(AnnounceShipment(PARCEL, "o-3", "f-3", "cedar", "TEAPOT1", much_later, much_later + DAY, (TEAPOTS,)))
    streams.do(scan(4, Milestone.DELIVERED, much_later + HOUR))
    delivered = {life: streams[f"shipment-{life}"].delivered_at for life in (PARCEL, SECOND, f"{PARCEL}:3")}
    assert delivered == {PARCEL: FRIDAY, SECOND: LATER + DAY, f"{PARCEL}:3": much_later + HOUR}


def test_a_parcel_that_nobody_has_seen_for_long_is_still_the_same_unless_it_had_arrived() -> None:
    streams = Streams()
    streams.do(ANNOUNCE)
    streams.do(CheckLost(PARCEL, MONDAY + 10 * DAY, after=10 * DAY))
    assert [each.step for each in streams.steps(scan(1, Milestone.DELIVERED, LATER))] == [Step.DELIVERED, Step.LATE]


def test_of_two_parcels_under_one_number_at_once_the_newer_has_what_is_scanned_from_its_handover_on() -> None:
    streams = Streams()
    streams.do(ANNOUNCE)
    streams.do(replace(AGAIN, shipped_at=MONDAY + DAY, promised_by=FRIDAY))
    streams.do(scan(1, Milestone.IN_TRANSIT, MONDAY + HOUR))
    streams.do(scan(2, Milestone.DELIVERED, FRIDAY))
    assert streams[f"shipment-{PARCEL}"].milestone is Milestone.IN_TRANSIT
    assert streams[f"shipment-{SECOND}"].milestone is Milestone.DELIVERED


SECOND_LIFE = (
    AGAIN,
    scan(11, Milestone.LABEL_CREATED, LATER - DAY),
    scan(12, Milestone.IN_TRANSIT, LATER + HOUR),
    scan(13, Milestone.OUT_FOR_DELIVERY, LATER + DAY),
    scan(14, Milestone.DELIVERED, LATER + DAY + HOUR),
)


@over(st.permutations(SECOND_LIFE), st.lists(st.sampled_from(SECOND_LIFE), max_size=4))
def test_whatever_is_heard_first_of_a_number_used_again_the_two_parcels_stay_apart(
    order: list[Command], again: list[Command]
) -> None:
    streams = delivered_long_ago()
    first = streams[f"shipment-{PARCEL}"]
    for command in (*order, *again):
        streams.do(command)
    now = streams[f"shipment-{PARCEL}"]
    assert replace(now, reused_by="", reused_since=None) == first
    assert now.reused_by == SECOND
    second = streams[f"shipment-{SECOND}"]
    assert (second.order_id, len(second.scans), second.delivered_at) == ("o-2", 4, LATER + DAY + HOUR)
    assert order_status(streams["status-o-2"], 1).delivered == 2
    assert order_status(streams["status-o-1"], 1).delivered == 2


# Orders


def progressed(what: Step, units: int = 0, reference: str = "", **more: Any) -> OrderProgressed:
    more = {"happened_at": MONDAY, "source": f"m-{what}-{reference}"} | more
    return OrderProgressed(order_id="o-1", step=what, units=units, reference=reference, **more)


RECEIVED = progressed(Step.RECEIVED, 5, channel="shop", external_id="1001")
CONFIRMED = progressed(Step.CONFIRMED, 5)


def word(*steps: OrderProgressed) -> str:
    return order_status(STATUS.fold(steps), 1).status


def test_the_same_step_from_the_same_source_is_one_step() -> None:
    order.given().when(RecordStep(RECEIVED)).then(RECEIVED)
    order.given(RECEIVED).when(RecordStep(RECEIVED)).then()
    part = progressed(Step.CANCELED, 1, "c-1", source="m1")
    other_part = progressed(Step.CANCELED, 1, "c-1", source="m2")
    order.given(part).when(RecordStep(other_part)).then(other_part)


def test_an_order_is_told_as_what_most_of_it_has_come_to() -> None:
    shipped, arrived = progressed(Step.SHIPPED, 2, "p1"), progressed(Step.DELIVERED, 2, "p1")
    shipped_2, arrived_2 = progressed(Step.SHIPPED, 3, "p2"), progressed(Step.DELIVERED, 3, "p2")
    returned = progressed(Step.RETURNED, 1, "r1")
    way = [RECEIVED, CONFIRMED, shipped, shipped_2, arrived, arrived_2, returned]
    way.append(progressed(Step.RETURNED, 4, "r2"))
    assert [word(*way[: count + 1]) for count in range(len(way))] == [
        "received",
        "confirmed",
        "partially_shipped",
        "shipped",
        "partially_delivered",
        "delivered",
        "partially_returned",
        "returned",
    ]


def test_an_order_is_on_hold_until_every_reason_has_gone() -> None:
    fraud, address = progressed(Step.HELD, reference="fraud-risk"), progressed(Step.HELD, reference="bad-address")
    freed = progressed(Step.HOLD_RELEASED, reference="fraud-risk")
    assert word(RECEIVED, fraud, address, freed) == "on_hold"
    assert word(RECEIVED, fraud, freed) == "received"
    again = progressed(Step.HELD, reference="fraud-risk", source="another day")
    assert word(RECEIVED, fraud, freed, again) == "on_hold"


def test_an_order_is_backordered_until_what_it_waits_for_came_or_is_canceled() -> None:
    part, waits = progressed(Step.CONFIRMED, 3), progressed(Step.BACKORDERED, 2)
    assert word(RECEIVED, part, waits) == "backordered"
    assert word(RECEIVED, part, waits, progressed(Step.BACKORDER_FILLED, 2)) == "confirmed"
    assert word(RECEIVED, part, waits, progressed(Step.CANCELED, 2, "c1")) == "confirmed"


def test_an_order_whose_units_turned_out_missing_waits_for_stock() -> None:
    part = progressed(Step.CONFIRMED, 2), progressed(Step.RECEIVED, 2)
    missing = OrderBackordered(**LINES, was="allocated", fulfillment_id="f-1")
    waits = steps_of(missing, MONDAY, "m9")
    assert word(*part, *waits) == "backordered"
    filled = progressed(Step.BACKORDER_FILLED, 2)
    assert word(*part, *waits, filled) == "confirmed"
    assert word(*part, *waits, filled, *steps_of(missing, MONDAY, "missing again")) == "backordered"


def test_an_order_of_which_only_waiting_units_are_left_waits_for_stock() -> None:
    part = progressed(Step.RECEIVED, 4), progressed(Step.CONFIRMED, 2), progressed(Step.BACKORDERED, 2)
    canceled = progressed(Step.CANCELED, 2, "c1")
    reserved = OrderLetGo(**LINES, cause="canceled", cancellation_id="c1")
    waiting = reserved.model_copy(update={"backordered": (TEAPOTS,)})
    assert word(*part, *steps_of(reserved, MONDAY, "m9"), canceled) == "backordered"
    assert word(*part, *steps_of(waiting, MONDAY, "m9"), canceled) == "confirmed"


def test_an_order_of_which_no_unit_is_left_on_the_shelf_is_not_confirmed() -> None:
    let_go = OrderLetGo(**LINES, cause="shortage")
    part = progressed(Step.RECEIVED, 2), progressed(Step.CONFIRMED, 2)
    assert word(*part, *steps_of(let_go, MONDAY, "m9")) == "received"


def test_an_order_is_complete_without_its_canceled_units() -> None:
    assert word(RECEIVED, progressed(Step.CANCELED, 5, "c1")) == "canceled"
    assert word(RECEIVED, progressed(Step.CANCELED, 3, "c1"), progressed(Step.SHIPPED, 2, "p1")) == "shipped"


def test_how_much_was_ordered_is_what_the_latest_revision_says() -> None:
    second, third = progressed(Step.REVISED, 3, "2"), progressed(Step.REVISED, 2, "3")
    assert order_status(STATUS.fold([third, second, RECEIVED]), 1).ordered == 2


def test_units_that_were_not_in_the_box_are_not_returned() -> None:
    back, missing = progressed(Step.RETURNED, 1, "r1"), progressed(Step.RETURNED, -1, "r1", source="inspection")
    assert word(RECEIVED, progressed(Step.DELIVERED, 5, "p1"), back, missing) == "delivered"


def test_an_order_still_open_when_its_promise_passes_is_late_until_a_later_promise() -> None:
    promised = progressed(Step.PROMISED, promised_by=FRIDAY)
    late = OrderProgressed(order_id="o-1", step=Step.LATE, happened_at=FRIDAY, source=FRIDAY.isoformat())
    check = CheckOrderPromise("o-1", FRIDAY)
    order.given(RECEIVED, promised).when(check).then(late)
    order.given(RECEIVED, promised, late).when(check).then()
    order.given(RECEIVED, promised, progressed(Step.DELIVERED, 5, "p1")).when(check).then()
    order.given(RECEIVED, promised).when(CheckOrderPromise("o-1", FRIDAY - HOUR)).then()
    new_promise = progressed(Step.PROMISED, promised_by=FRIDAY + DAY, happened_at=FRIDAY, source="changed")
    assert order_status(STATUS.fold([RECEIVED, promised, late]), 1).late
    assert not order_status(STATUS.fold([RECEIVED, promised, late, new_promise]), 1).late
    assert not order_status(STATUS.fold([new_promise, RECEIVED, late, promised]), 1).late
    assert not order_status(STATUS.fold([RECEIVED, promised, late, progressed(Step.CANCELED, 5, "c")]), 1).late


def test_an_order_nobody_told_us_of_has_no_status() -> None:
    with pytest.raises(OrderNotTracked, match="No step of this order"):
        order_status(Status(), 0)


def _money(minor: int) -> Money:
    return Money(minor=minor, currency=USD)


BERLIN = Destination(country="DE")
LINE = OrderLine(line_id="1", sku="TEAPOT", quantity=2, unit_price=_money(500), discount=_money(0), tax=_money(0))
RELEASED = ReleasedLine(line_id="1", sku="TEAPOT", quantity=2)
PAID = Payment(status="paid")
LINES = {"order_id": "o-1", "lines": (TEAPOTS,)}
STANDARD = ServiceLevel.STANDARD
CAPTURED = OrderCaptured(
    order_id="o-1",
    channel="shop",
    external_id="1001",
    placed_at=MONDAY - DAY,
    destination=BERLIN,
    lines=(LINE,),
    shipping=_money(0),
    shipping_tax=_money(0),
    tax_included=False,
    total=_money(1000),
    payment=PAID,
    service_level=STANDARD,
    allow_backorder=True,
)


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (
            OrderRevised(order_id="o-1", revision=3, destination=BERLIN, lines=(LINE,), total=_money(9), payment=PAID),
            (Step.REVISED, 2, "3"),
        ),
        (OrderHeld(order_id="o-1", reason=HoldReason.FRAUD_RISK), (Step.HELD, 0, "fraud-risk")),
        (HoldReleased(order_id="o-1", reason=HoldReason.FRAUD_RISK), (Step.HOLD_RELEASED, 0, "fraud-risk")),
        (
            OrderLinesCanceled(cancellation_id="c1", reason="", whole_order=False, refund=_money(1), **LINES),
            (Step.CANCELED, 2, "c1"),
        ),
        (
            CancellationRefunded(
                order_id="o-1", refund_id="x", amount=_money(1), provider_reference="p", refunded_at=MONDAY
            ),
            (Step.REFUNDED, 0, "x"),
        ),
        (
            OrderReserved(
                order_id="o-1",
                placed_at=MONDAY,
                destination=BERLIN,
                service_level=STANDARD,
                lines=(RELEASED,),
            ),
            (Step.CONFIRMED, 2, ""),
        ),
        (OrderBackordered(**LINES), (Step.BACKORDERED, 2, "")),
        (
            OrderBackorderFilled(
                order_id="o-1",
                placed_at=MONDAY,
                destination=BERLIN,
                service_level=STANDARD,
                lines=(RELEASED,),
            ),
            (Step.BACKORDER_FILLED, 2, ""),
        ),
        (
            ReturnAuthorized(return_id="r1", order_id="o-1", rma="R1", expires_at=FRIDAY),
            (Step.RETURN_STARTED, 0, "r1"),
        ),
        (ReturnReceived(return_id="r1", location="hamburg", **LINES), (Step.RETURNED, 2, "r1")),
        (
            ReturnInspected(
                return_id="r1",
                order_id="o-1",
                location="hamburg",
                lines=(
                    InspectedLine(line_id="1", sku="TEAPOT", quantity=1, disposition=Disposition.RESTOCK),
                    InspectedLine(line_id="1", sku="TEAPOT", quantity=1, disposition=Disposition.MISSING),
                ),
            ),
            (Step.RETURNED, -1, "r1"),
        ),
        (
            RefundPaid(
                return_id="r1",
                order_id="o-1",
                refund_id="x",
                amount=_money(1),
                provider_reference="p",
                refunded_at=MONDAY,
            ),
            (Step.REFUNDED, 0, "x"),
        ),
    ],
)
def test_facts_of_other_services_are_steps(fact: Message, expected: tuple[Step, int, str]) -> None:
    what, units, reference = expected
    assert steps_of(fact, MONDAY, "m1") == [
        OrderProgressed(order_id="o-1", step=what, happened_at=MONDAY, units=units, reference=reference, source="m1")
    ]


def test_what_was_lost_and_credited_counts_as_returned_and_as_waived() -> None:
    waived = GoodsWaived(return_id="r1", undelivered=True, **LINES)
    (step,) = steps_of(waived, MONDAY, "m1")
    assert step == progressed(Step.RETURNED, 2, "r1", source="m1", waived=True)
    status = STATUS.fold([RECEIVED, step])
    assert (status.returned, status.waived) == (2, 2)


def test_units_that_are_no_longer_reserved_or_waited_for_are_counted_off() -> None:
    def steps(fact: Message) -> list[tuple[Step, int]]:
        return [(each.step, each.units) for each in steps_of(fact, MONDAY, "m1")]

    one = TEAPOTS.model_copy(update={"quantity": 1})
    missing = OrderBackordered(**LINES, was="reserved")
    assert steps(missing) == [(Step.BACKORDERED, 2), (Step.CONFIRMED, -2)]
    let_go = OrderLetGo(**LINES, cause="canceled", cancellation_id="c1", backordered=(one,))
    assert steps(let_go) == [(Step.BACKORDERED, -1), (Step.CONFIRMED, -1)]
    assert steps(let_go.model_copy(update={"backordered": ()})) == [(Step.CONFIRMED, -2)]


def test_a_captured_order_is_received_when_it_was_placed_and_promises_are_kept_in_mind() -> None:
    assert steps_of(CAPTURED, MONDAY, "m1") == [
        progressed(Step.RECEIVED, 2, happened_at=MONDAY - DAY, source="m1", channel="shop", external_id="1001")
    ]
    made = PromiseMade(order_id="o-1", promised_by=FRIDAY)
    changed = PromiseChanged(order_id="o-1", promised_by=FRIDAY, was=MONDAY, reason="rejected")
    for fact in (made, changed):
        assert steps_of(fact, MONDAY, "m1") == [progressed(Step.PROMISED, source="m1", promised_by=FRIDAY)]
        dated = fact.model_copy(update={"promised_on": FRIDAY.date()})
        (step,) = steps_of(dated, MONDAY, "m1")
        assert step.promised_on == FRIDAY.date()


def test_other_facts_are_no_step() -> None:
    released = OrderReleased(
        order_id="o-1",
        channel="shop",
        external_id="1001",
        placed_at=MONDAY,
        destination=BERLIN,
        lines=(RELEASED,),
        service_level=STANDARD,
        allow_backorder=True,
    )
    assert steps_of(released, MONDAY, "m1") == []
    stays_with_the_customer = GoodsWaived(return_id="r1", undelivered=False, **LINES)
    assert steps_of(stays_with_the_customer, MONDAY, "m1") == []


# Customers


def test_a_customers_link_opens_their_order_and_no_other() -> None:
    token = customer_token(b"secret", "o-1")
    assert order_of_token(b"secret", token) == "o-1"
    assert len(token.removeprefix("o-1.")) == 22  # 128 bits
    other = customer_token(b"secret", "o-2")
    forged = "o-2." + token.removeprefix("o-1.")
    for wrong in (forged, other[:-1], other + "A", "o-1", "", ".", "o-1.", "ö.ü", token + "=", "." + token):
        assert order_of_token(b"secret", wrong) is None
    assert order_of_token(b"another secret", token) is None


def test_the_customer_is_told_in_plain_words() -> None:
    def words(*steps: OrderProgressed) -> str:
        return in_words(order_status(STATUS.fold(steps), 1))

    promised = progressed(Step.PROMISED, promised_by=FRIDAY)
    late = step(Step.LATE, FRIDAY, "late", late=True)
    shipped = progressed(Step.SHIPPED, 2, "p1")
    assert words(RECEIVED) == "We have your order and are getting it ready."
    assert words(RECEIVED, CONFIRMED, promised) == (
        "Your order is confirmed and will be packed soon. It should be with you by Friday, March 6."
    )
    assert words(RECEIVED, progressed(Step.CANCELED, 1, "c"), shipped, late) == (
        "2 of 4 items of your order are on their way. 1 item was canceled. It is late, and we are sorry."
    )
    assert words(RECEIVED, progressed(Step.DELIVERED, 5, "p1"), late) == (
        "Your order has been delivered. It came late, and we are sorry."
    )
    back = [RECEIVED, progressed(Step.DELIVERED, 3, "p1"), progressed(Step.RETURNED, 1, "r1"), promised]
    assert words(*back) == "We have 1 of 5 items of your order back. The rest should be with you by Friday, March 6."
    assert words(*back, progressed(Step.DELIVERED, 2, "p2")) == "We have 1 of 5 items of your order back."
    assert words(shipped) == "Part of your order is on its way."
    assert words(RECEIVED, step(Step.LOST, FRIDAY, "x", units=0, lost=True), shipped) == (
        "2 of 5 items of your order are on their way. A parcel seems to be lost; we are looking into it."
    )


def test_a_customer_is_promised_the_day_that_it_is_where_they_live() -> None:
    """Six in the evening in Reno is the next day in UTC."""
    evening = datetime(2026, 3, 7, 2, tzinfo=UTC)
    at_home = progressed(Step.PROMISED, promised_by=evening, promised_on=FRIDAY.date())
    status = order_status(STATUS.fold([RECEIVED, CONFIRMED, at_home]), 1)
    assert status.promised_on == FRIDAY.date()
    assert in_words(status).endswith("It should be with you by Friday, March 6.")
    moved = progressed(Step.PROMISED, happened_at=MONDAY + HOUR, promised_by=evening + DAY, source="m2")
    later = order_status(STATUS.fold([moved, RECEIVED, CONFIRMED, at_home]), 1)
    assert (later.promised_by, later.promised_on) == (evening + DAY, None)  # of an older release's word


def test_a_customer_is_told_what_is_on_its_way_back_to_us_and_promised_no_day_for_it() -> None:
    def words(*steps: OrderProgressed) -> str:
        promised = progressed(Step.PROMISED, promised_by=FRIDAY)
        return in_words(order_status(STATUS.fold([RECEIVED, promised, *steps]), 1))

    all_of_it, part = progressed(Step.SHIPPED, 5, "p1"), progressed(Step.SHIPPED, 2, "p1")
    returning = step(Step.MOVED, MONDAY, "s1", milestone=Milestone.RETURNING)
    returned = step(Step.MOVED, FRIDAY, "s2", milestone=Milestone.RETURNED)
    late = step(Step.LATE, FRIDAY, "late", milestone=Milestone.RETURNING, late=True)
    other = step(Step.MOVED, MONDAY, "s3", shipment_id="cedar-TEAPOT2", milestone=Milestone.IN_TRANSIT)
    rest = "The rest should be with you by Friday, March 6."
    assert words(all_of_it, returning) == words(all_of_it, late) == "Your order is on its way back to us."
    assert words(all_of_it, returning, returned) == "Your order came back to us."
    assert words(all_of_it, returning, other) == (
        f"Your order is on its way. Part of it is on its way back to us. {rest}"
    )
    assert words(part, returning) == f"Part of your order is on its way back to us. {rest}"
    assert words(all_of_it, progressed(Step.DELIVERED, 5, "p1"), returned) == (
        "Your order has been delivered. It came back to us."
    )
    given_back = progressed(Step.DELIVERED, 3, "p2"), progressed(Step.RETURNED, 3, "r1")
    assert words(all_of_it, *given_back, returned) == "We have 3 of 5 items of your order back."


def test_a_customer_whose_order_was_lost_and_made_up_for_reads_that_not_that_it_came_late() -> None:
    def words(*steps: OrderProgressed) -> str:
        return in_words(order_status(STATUS.fold([RECEIVED, *steps]), 1))

    shipped, late = progressed(Step.SHIPPED, 5, "p1"), step(Step.LATE, FRIDAY, "late", late=True)
    lost = step(Step.LOST, FRIDAY, "x", units=0, lost=True, late=True)
    assert words(shipped, late, lost).endswith("A parcel seems to be lost; we are looking into it.")
    made_up_for = progressed(Step.RETURNED, 5, "r1")
    assert words(shipped, late, lost, made_up_for) == "Your order did not reach you, and we have made up for it."


def test_what_was_lost_and_credited_is_never_said_to_be_back_with_us() -> None:
    def words(*steps: OrderProgressed) -> str:
        return in_words(order_status(STATUS.fold([RECEIVED, progressed(Step.SHIPPED, 5, "p1"), *steps]), 1))

    def waived(units: int) -> OrderProgressed:
        lines = (TEAPOTS.model_copy(update={"quantity": units}),)
        (step,) = steps_of(GoodsWaived(order_id="o-1", return_id="r1", undelivered=True, lines=lines), MONDAY, "m9")
        return step

    lost = step(Step.LOST, FRIDAY, "x", units=0, lost=True)
    some, rest = progressed(Step.DELIVERED, 3, "p2"), progressed(Step.DELIVERED, 2, "p3")
    sent_back = progressed(Step.RETURNED, 3, "r2")
    did_not = "2 of 5 items of your order did not reach you, and we have made up for that."
    assert words(lost, waived(2)) == did_not
    assert words(some, lost, waived(2)) == (
        "3 of 5 items of your order have been delivered. 2 items did not reach you, and we have made up for that."
    )
    assert words(some, lost, waived(2), sent_back) == (
        "We have everything you sent back. 2 items did not reach you, and we have made up for that."
    )
    assert words(lost, waived(5)) == "Your order did not reach you, and we have made up for it."
    turned_up = "Your order has been delivered. We had made up for what did not reach you in time."
    assert words(lost, waived(5), some, rest) == turned_up


def test_every_status_has_words() -> None:
    told = order_status(STATUS.fold([RECEIVED]), 1)
    statuses = type(told).model_fields["status"].annotation.__args__  # type: ignore[union-attr]
    sentences = [in_words(told.model_copy(update={"status": each})) for each in statuses]
    assert len(set(sentences)) == len(statuses) == 11


# Whatever happens

SCANS = st.lists(
    st.builds(
        scan,
        st.integers(1, 12),
        st.sampled_from(Milestone),
        st.integers(0, 8 * 24).map(lambda hours: MONDAY + hours * HOUR),
    ),
    max_size=12,
    unique_by=lambda each: each.scan_id,
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.just(ANNOUNCE),
    SCANS.filter(bool).map(lambda scans: scans[0]),
    st.integers(0, 8).map(lambda day: CheckPromise(PARCEL, MONDAY + day * DAY)),
    st.integers(0, 20).map(lambda day: CheckLost(PARCEL, MONDAY + day * DAY, after=10 * DAY)),
)


def fold_all(commands: list[RecordScan]) -> Shipment:
    state = SHIPMENT.initial
    for command in commands:
        state = SHIPMENT.fold(decide(state, command), state)
    return state


@settings(max_examples=100)
@over(SCANS, st.data())
def test_scans_in_any_order_and_any_duplication_come_to_the_same_milestone(
    scans: list[RecordScan], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(scans + scans[: len(scans) // 2]))
    one, other = fold_all(scans), fold_all(shuffled)
    assert (one.milestone, one.milestone_at, one.last_seen_at) == (
        other.milestone,
        other.milestone_at,
        other.last_seen_at,
    )
    assert one.scans == other.scans


@settings(max_examples=100)
@over(SCANS, st.data())
def test_whether_a_parcel_was_delivered_follows_from_the_scans_once_its_return_is_known(
    scans: list[RecordScan], data: st.DataObject
) -> None:
    def at(milestone: Milestone) -> list[datetime]:
        return [each.scanned_at for each in scans if each.milestone is milestone]

    first_back = min(at(Milestone.RETURNED), default=None)
    arrivals = [each for each in at(Milestone.DELIVERED) if first_back is None or each < first_back]
    shuffled = data.draw(st.permutations(scans))
    heard = sorted(shuffled, key=lambda each: each.milestone is not Milestone.RETURNED)
    assert fold_all(heard).delivered_at == min(arrivals, default=None)


@settings(max_examples=100)
@over(st.lists(COMMANDS, max_size=15))
def test_a_parcel_never_goes_back_and_every_history_folds_and_survives_json(commands: list[Command]) -> None:
    streams = Streams()
    adapters = {"shipment": TypeAdapter(Shipment), "status": TypeAdapter(Status)}
    for command in commands:
        before: Shipment = streams["shipment-" + PARCEL]
        told = streams.do(command)
        after: Shipment = streams["shipment-" + PARCEL]
        if after.milestone_at != before.milestone_at or after.milestone is not before.milestone:
            assert after.milestone_at is not None
            assert moves(before, after.milestone, after.milestone_at)
        for _, event in told:
            assert through_json(event) == event
        for stream, state in streams.states.items():
            adapter = adapters[stream.partition("-")[0]]
            assert adapter.validate_json(adapter.dump_json(state)) == state
        assert streams.do(command) == []
        if streams["status-o-1"].updated_at:
            told_now = order_status(streams["status-o-1"], 1)
            assert through_json(told_now) == told_now  # type: ignore[arg-type]
            assert told_now.delivered <= told_now.shipped == 2
        shipment_summary(after)


STEPS = st.lists(
    st.builds(
        progressed,
        st.sampled_from([each for each in Step if each is not Step.RECEIVED]),
        st.integers(0, 5),
        st.sampled_from(["1", "2", "3"]),
        source=st.integers().map(str),
        happened_at=st.integers(0, 300).map(lambda hours: MONDAY + hours * HOUR),
        promised_by=st.integers(0, 300).map(lambda hours: MONDAY + hours * HOUR),
    ),
    max_size=12,
    unique_by=lambda each: (each.step, each.reference if each.step is Step.REVISED else each.source),
)


@settings(max_examples=100)
@over(STEPS, st.data())
def test_an_orders_status_does_not_depend_on_the_order_in_which_its_steps_arrive(
    steps: list[OrderProgressed], data: st.DataObject
) -> None:
    steps.append(RECEIVED)
    shuffled = data.draw(st.permutations(steps))
    assert order_status(STATUS.fold(steps), 1) == order_status(STATUS.fold(shuffled), 1)
