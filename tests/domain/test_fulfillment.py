"""The rules of the work at one location: accept, pick, pack, label, hand over, and what may still be called off."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import (
    FulfillmentAccepted,
    FulfillmentCancellationDeclined,
    FulfillmentCreated,
    FulfillmentLinesCanceled,
    FulfillmentPacked,
    FulfillmentPicked,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelFailed,
    LabelRequested,
    LabelUnused,
    PackageLabeled,
    PackedPackage,
    RejectReason,
    ShippedPackage,
)
from ordermill.errors import Refused
from ordermill.keyring import Keyring
from ordermill.network import default_network_text, read_network
from ordermill.simulation.providers import memory_carriers
from services.fulfillment.app import PickWork, RejectWork, command_of
from services.fulfillment.domain import (
    FULFILLMENT,
    Accept,
    CancelLines,
    Command,
    CreateFulfillment,
    FulfillmentOrder,
    HandOver,
    Pack,
    Pick,
    RecordLabel,
    RecordLabelFailure,
    Reject,
    RetryLabel,
    Stage,
    decide,
    fulfillment_summary,
    status_of,
)
from services.fulfillment.effects import labels
from services.fulfillment.errors import (
    FulfillmentIdTaken,
    FulfillmentNotCreated,
    FulfillmentNotFound,
    HandedOverAhead,
    LabelNotWanted,
    LabelsMissing,
    NoSuchPackage,
    PackagesWrong,
    PackedUnitsDiffer,
    TooManyUnits,
    UnknownLine,
    WrongState,
)
from tests.spec import spec, through_json

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
FRIDAY = MONDAY + timedelta(days=4)
HOUR = timedelta(hours=1)
IDS: dict[str, Any] = {"fulfillment_id": "F1", "order_id": "order-1"}
DESTINATION = Destination(country="US", region="OR", postal_code="97201", addressee="sealed.v1.k1.AAAA")
LINES = (
    ReleasedLine(line_id="1", sku="TEAPOT", title="Teapot, blue", quantity=2, weight_g=900),
    ReleasedLine(line_id="2", sku="CUP", title="Cup", quantity=3),
)

CREATE = CreateFulfillment(
    **IDS,
    location="edison",
    channel="shop",
    external_id="#1001",
    destination=DESTINATION,
    carrier="cedar",
    service="ground",
    ship_by=MONDAY + timedelta(hours=7),
    deliver_by=FRIDAY,
    lines=LINES,
)
CREATED = FulfillmentCreated(
    **IDS,
    location="edison",
    channel="shop",
    external_id="#1001",
    destination=DESTINATION,
    carrier="cedar",
    service="ground",
    ship_by=MONDAY + timedelta(hours=7),
    deliver_by=FRIDAY,
    lines=LINES,
)
ACCEPTED = FulfillmentAccepted(**IDS)


def teapots(quantity: int) -> LineQuantity:
    return LineQuantity(line_id="1", sku="TEAPOT", quantity=quantity)


def cups(quantity: int) -> LineQuantity:
    return LineQuantity(line_id="2", sku="CUP", quantity=quantity)


def box(package: int, *lines: LineQuantity, weight_g: int = 1200) -> PackedPackage:
    return PackedPackage(package=package, weight_g=weight_g, lines=lines)


def requested(package: int, label_id: str, carrier: str = "cedar", service: str = "ground") -> LabelRequested:
    return LabelRequested(
        **IDS,
        label_id=label_id,
        package=package,
        location="edison",
        carrier=carrier,
        service=service,
        weight_g=1200,
        destination=DESTINATION,
    )


def labeled(package: int, label_id: str, tracking_number: str, service: str = "ground") -> PackageLabeled:
    return PackageLabeled(
        **IDS,
        label_id=label_id,
        package=package,
        carrier="cedar",
        service=service,
        tracking_number=tracking_number,
        cost=USD_7,
    )


USD_7 = Money(minor=700, currency="USD")
ALL = (teapots(2), cups(3))
PICKED = FulfillmentPicked(**IDS, lines=ALL)
TWO_BOXES = (box(1, teapots(2)), box(2, cups(3)))
PACKED = FulfillmentPacked(**IDS, packages=TWO_BOXES)
REQUESTED = (requested(1, "F1.1"), requested(2, "F1.2"))
LABELED = (labeled(1, "F1.1", "CP1111"), labeled(2, "F1.2", "CP2222"))
TO_PACKED = (CREATED, ACCEPTED, PICKED, PACKED, *REQUESTED)
SHIPPED_AT = datetime(2026, 3, 2, 10, 2, tzinfo=UTC)
SHIPPED = FulfillmentShipped(
    **IDS,
    location="edison",
    shipped_at=SHIPPED_AT,
    deliver_by=FRIDAY,
    packages=(
        ShippedPackage(package=1, carrier="cedar", service="ground", tracking_number="CP1111", lines=(teapots(2),)),
        ShippedPackage(package=2, carrier="cedar", service="ground", tracking_number="CP2222", lines=(cups(3),)),
    ),
)
FAILED = LabelFailed(**IDS, label_id="F1.1", package=1, reason="no such street")
UNANSWERED = LabelFailed(**IDS, label_id="F1.1", package=1, reason="no answer", answered=False)
REJECTED = FulfillmentRejected(**IDS, location="edison", reason=RejectReason.DAMAGED, note="water", lines=ALL)
ALL_SHORT = FulfillmentShortPicked(**IDS, location="edison", lines=ALL)


def canceled(cancellation_id: str, *lines: LineQuantity) -> FulfillmentLinesCanceled:
    return FulfillmentLinesCanceled(**IDS, cancellation_id=cancellation_id, lines=lines)


def declined(cancellation_id: str, *lines: LineQuantity) -> FulfillmentCancellationDeclined:
    return FulfillmentCancellationDeclined(**IDS, cancellation_id=cancellation_id, lines=lines)


FULFILL = spec(FULFILLMENT, decide)

# Asked, accepted, rejected


def test_a_location_is_asked_once_however_often_the_allocation_is_told() -> None:
    FULFILL.given().when(CREATE).then(CREATED)
    FULFILL.given(CREATED, ACCEPTED).when(CREATE).then()


def test_one_id_for_two_different_pieces_of_work_is_an_error() -> None:
    other = CreateFulfillment(**{name: getattr(CREATE, name) for name in CREATE.__slots__} | {"location": "reno"})
    FULFILL.given(CREATED).when(other).then_raises(FulfillmentIdTaken, match="F1")


def test_work_nobody_asked_for_can_not_be_done() -> None:
    FULFILL.given().when(Accept("F1")).then_raises(FulfillmentNotFound, match="F1")
    FULFILL.given().when(CancelLines("F1", "c1", ALL)).then_raises(FulfillmentNotCreated, match="F1")


def test_a_location_accepts_once() -> None:
    FULFILL.given(CREATED).when(Accept("F1")).then(ACCEPTED)
    FULFILL.given(CREATED, ACCEPTED).when(Accept("F1")).then()
    FULFILL.given(CREATED, ACCEPTED, PICKED).when(Accept("F1")).then()


def test_a_location_may_reject_until_the_units_are_packed() -> None:
    reject = Reject("F1", RejectReason.DAMAGED, "water")
    for past in ((CREATED,), (CREATED, ACCEPTED), (CREATED, ACCEPTED, PICKED)):
        FULFILL.given(*past).when(reject).then(REJECTED)
    FULFILL.given(*TO_PACKED).when(reject).then_raises(WrongState, match="it is packed in 2 packages")


def test_a_rejection_gives_back_what_is_left() -> None:
    short = FulfillmentShortPicked(**IDS, location="edison", lines=(cups(1),))
    found = FulfillmentPicked(**IDS, lines=(teapots(2), cups(2)))
    past = (CREATED, ACCEPTED, found, short, canceled("c1", teapots(2)))
    FULFILL.given(*past).when(Reject("F1", RejectReason.OTHER)).then(
        FulfillmentRejected(**IDS, location="edison", reason=RejectReason.OTHER, lines=(cups(2),))
    )


def test_rejected_work_stays_rejected() -> None:
    FULFILL.given(CREATED, REJECTED).when(Reject("F1", RejectReason.CLOSED)).then()
    FULFILL.given(CREATED, REJECTED).when(Accept("F1")).then_raises(
        WrongState, match="it is rejected by the location (damaged)"
    )


def test_a_note_with_control_characters_is_recorded_without_them() -> None:
    (event,) = decide(FULFILLMENT.fold([CREATED]), Reject("F1", RejectReason.OTHER, "wet\x00box\u202e" + "x" * 600))
    assert isinstance(event, FulfillmentRejected)
    assert event.note.startswith("wet box x")
    assert len(event.note) == 500


# Picking


def test_a_full_pick_is_one_event() -> None:
    FULFILL.given(CREATED, ACCEPTED).when(Pick("F1", ALL)).then(PICKED)


def test_units_not_on_the_shelf_are_short_picked_and_the_rest_goes_on() -> None:
    FULFILL.given(CREATED, ACCEPTED).when(Pick("F1", (cups(1), teapots(2), cups(1)))).then(
        FulfillmentPicked(**IDS, lines=(teapots(2), cups(2))),
        FulfillmentShortPicked(**IDS, location="edison", lines=(cups(1),)),
    )


def test_a_pick_and_a_rejection_tell_when_they_were_done() -> None:
    two_cups = Pick("F1", (teapots(2), cups(2)), MONDAY)
    FULFILL.given(CREATED, ACCEPTED).when(two_cups).then(
        FulfillmentPicked(**IDS, lines=(teapots(2), cups(2)), picked_at=MONDAY),
        FulfillmentShortPicked(**IDS, location="edison", lines=(cups(1),), picked_at=MONDAY),
    )
    (rejected,) = decide(FULFILL.given(CREATED).state, Reject("F1", RejectReason.DAMAGED, at=MONDAY))
    assert isinstance(rejected, FulfillmentRejected)
    assert rejected.rejected_at == MONDAY


@pytest.mark.parametrize(("told", "at"), [(None, MONDAY), (MONDAY - HOUR, MONDAY - HOUR), (MONDAY + HOUR, MONDAY)])
def test_what_is_reported_was_done_now_or_before_never_later(told: datetime | None, at: datetime) -> None:
    pick = PickWork(do="pick", fulfillment_id="F1", lines=ALL, picked_at=told)
    assert command_of(pick, MONDAY) == Pick("F1", ALL, at)
    reject = RejectWork(do="reject", fulfillment_id="F1", reason=RejectReason.CLOSED, rejected_at=told)
    assert command_of(reject, MONDAY) == Reject("F1", RejectReason.CLOSED, "", at)


def test_nothing_found_ends_the_fulfillment_order() -> None:
    FULFILL.given(CREATED, ACCEPTED).when(Pick("F1", ())).then(ALL_SHORT)
    ended = FULFILL.given(CREATED, ACCEPTED, ALL_SHORT)
    assert status_of(ended.state) == "short-picked"
    ended.when(Pick("F1", ())).then()
    ended.when(Pick("F1", (cups(1),))).then_raises(WrongState, match="it has ended: nothing of it was found")


def test_a_scanner_that_sends_its_pick_twice_is_heard_once() -> None:
    FULFILL.given(CREATED, ACCEPTED, PICKED).when(Pick("F1", ALL)).then()
    FULFILL.given(*TO_PACKED, *LABELED, SHIPPED).when(Pick("F1", (cups(3), teapots(2)))).then()
    FULFILL.given(CREATED, ACCEPTED, PICKED, canceled("c1", *ALL)).when(Pick("F1", ALL)).then()


def test_a_second_different_pick_is_refused() -> None:
    again = Pick("F1", (teapots(1), cups(3)))
    FULFILL.given(CREATED, ACCEPTED, PICKED).when(again).then_raises(
        WrongState, match="F1: can't be picked: it is picked, not packed yet"
    )
    FULFILL.given(*TO_PACKED, *LABELED, SHIPPED).when(again).then_raises(
        WrongState, match="it is already shipped at 10:02 UTC on 2026-03-02"
    )


def test_work_is_accepted_before_it_is_picked() -> None:
    FULFILL.given(CREATED).when(Pick("F1", ALL)).then_raises(WrongState, match="Accept it first")


def test_what_is_not_asked_for_can_not_be_picked() -> None:
    accepted = FULFILL.given(CREATED, ACCEPTED)
    wrong_line = LineQuantity(line_id="9", sku="CUP", quantity=1)
    wrong_sku = LineQuantity(line_id="2", sku="TEAPOT", quantity=1)
    accepted.when(Pick("F1", (wrong_line,))).then_raises(UnknownLine, match="line 9, SKU CUP: no such line")
    accepted.when(Pick("F1", (wrong_sku,))).then_raises(UnknownLine, match="line 2, SKU TEAPOT: its SKU is CUP")
    accepted.when(Pick("F1", (cups(2), cups(2)))).then_raises(
        TooManyUnits, match="line 2, SKU CUP: 4 picked, 3 to pick. Put 1 back"
    )


def test_units_canceled_before_the_pick_are_not_missing_from_it() -> None:
    past = FULFILL.given(CREATED, ACCEPTED, canceled("c1", cups(1)))
    past.when(Pick("F1", (teapots(2), cups(2)))).then(FulfillmentPicked(**IDS, lines=(teapots(2), cups(2))))
    past.when(Pick("F1", ALL)).then_raises(TooManyUnits, match="3 picked, 2 to pick")


# Packing


def test_packing_asks_for_one_label_a_package() -> None:
    FULFILL.given(CREATED, ACCEPTED, PICKED).when(Pack("F1", TWO_BOXES)).then(PACKED, *REQUESTED)


def test_packing_twice_the_same_is_packing_once() -> None:
    FULFILL.given(*TO_PACKED).when(Pack("F1", TWO_BOXES[::-1])).then()
    FULFILL.given(*TO_PACKED).when(Pack("F1", (box(1, *ALL),))).then_raises(
        WrongState, match="it is packed in 2 packages"
    )


def test_packages_hold_exactly_what_was_picked() -> None:
    picked = FULFILL.given(CREATED, ACCEPTED, PICKED)
    picked.when(Pack("F1", (box(1, teapots(2)),))).then_raises(
        PackedUnitsDiffer, match="line 2, SKU CUP: 0 packed, 3 to pack"
    )
    picked.when(Pack("F1", (box(1, teapots(1)), box(2, teapots(2), cups(3))))).then_raises(
        PackedUnitsDiffer, match="line 1, SKU TEAPOT: 3 packed, 2 to pack"
    )
    wrong = LineQuantity(line_id="1", sku="CUP", quantity=2)
    picked.when(Pack("F1", (box(1, wrong, cups(3)),))).then_raises(UnknownLine, match="line 1, SKU CUP")


def test_units_canceled_after_the_pick_are_not_packed() -> None:
    past = FULFILL.given(CREATED, ACCEPTED, PICKED, canceled("c1", cups(3)))
    past.when(Pack("F1", TWO_BOXES)).then_raises(PackedUnitsDiffer, match="SKU CUP: 3 packed, 0 to pack")
    past.when(Pack("F1", (box(1, teapots(2)),))).then(
        FulfillmentPacked(**IDS, packages=(box(1, teapots(2)),)), requested(1, "F1.1")
    )


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ((box(1, teapots(2)), box(3, cups(3))), "found [1, 3]"),
        ((box(1, teapots(2)), box(1, cups(3))), "found [1, 1]"),
        ((), "line 1, SKU TEAPOT: 0 packed"),
        ((box(1, *ALL), box(2)), "package 2 is empty"),
        ((box(1, *ALL, weight_g=0),), "package 1 has no weight"),
    ],
)
def test_packages_are_numbered_filled_and_weighed(packages: tuple[PackedPackage, ...], reason: str) -> None:
    error = PackagesWrong if packages else PackedUnitsDiffer
    FULFILL.given(CREATED, ACCEPTED, PICKED).when(Pack("F1", packages)).then_raises(error, match=reason)


def test_nothing_is_packed_before_it_is_picked() -> None:
    FULFILL.given(CREATED, ACCEPTED).when(Pack("F1", TWO_BOXES)).then_raises(WrongState, match="Report the pick first")


# Labels


def bought(package: int, label_id: str, tracking_number: str, service: str = "ground") -> RecordLabel:
    return RecordLabel("F1", package, label_id, "cedar", service, tracking_number, USD_7)


def unused(tracking_number: str, reason: str) -> LabelUnused:
    return LabelUnused(
        **IDS,
        label_id="F1.1",
        package=1,
        carrier="cedar",
        service="ground",
        tracking_number=tracking_number,
        cost=USD_7,
        reason=reason,
    )


def test_a_bought_label_is_recorded_once() -> None:
    FULFILL.given(*TO_PACKED).when(bought(1, "F1.1", "CP1111")).then(LABELED[0])
    FULFILL.given(*TO_PACKED, LABELED[0]).when(bought(1, "F1.1", "CP1111")).then()
    FULFILL.given(*TO_PACKED, LABELED[0]).when(bought(1, "F1.1", "CP9999")).then(unused("CP9999", "it has CP1111"))


def test_a_refused_label_is_recorded_once() -> None:
    failure = RecordLabelFailure("F1", 1, "F1.1", "no such street")
    FULFILL.given(*TO_PACKED).when(failure).then(FAILED)
    FULFILL.given(*TO_PACKED, FAILED).when(failure).then()
    FULFILL.given(*TO_PACKED, LABELED[0]).when(failure).then_raises(LabelNotWanted, match="it has CP1111")


def test_after_a_refusal_the_carrier_is_asked_under_a_new_key() -> None:
    FULFILL.given(*TO_PACKED, FAILED).when(RetryLabel("F1", 1)).then(requested(1, "F1.1.2"))
    FULFILL.given(*TO_PACKED, FAILED).when(RetryLabel("F1", 1, service="express")).then(
        requested(1, "F1.1.2", service="express")
    )
    FULFILL.given(*TO_PACKED, FAILED).when(RetryLabel("F1", 1, "swift", "air")).then(
        requested(1, "F1.1.2", "swift", "air")
    )


def test_a_carrier_that_gave_no_answer_is_asked_under_the_same_key_so_that_nothing_is_bought_twice() -> None:
    past = FULFILL.given(*TO_PACKED, UNANSWERED)
    past.when(RetryLabel("F1", 1)).then(requested(1, "F1.1"))
    past.when(RetryLabel("F1", 1, service="express")).then(requested(1, "F1.1.2", service="express"))


def test_a_label_sold_after_we_gave_up_waiting_still_counts() -> None:
    FULFILL.given(*TO_PACKED, UNANSWERED).when(bought(1, "F1.1", "CP1111")).then(LABELED[0])


def test_a_number_that_another_box_has_is_no_label() -> None:
    taken = LabelFailed(
        **IDS,
        label_id="F1.2",
        package=2,
        reason="cedar sold CP1111 again, which package 1 has: two boxes can't travel under one number. "
        "Ask for another label",
    )
    past = (*TO_PACKED, LABELED[0])
    FULFILL.given(*past).when(bought(2, "F1.2", "CP1111")).then(taken)
    FULFILL.given(*past, taken).when(bought(2, "F1.2", "CP1111")).then()
    FULFILL.given(*past, taken).when(RetryLabel("F1", 2)).then(requested(2, "F1.2.2"))
    other_carrier = RecordLabel("F1", 2, "F1.2", "swift", "ground", "CP1111", USD_7)
    (event,) = decide(FULFILLMENT.fold(past), other_carrier)
    assert isinstance(event, PackageLabeled)


def test_every_attempt_has_its_own_label_id() -> None:
    again = requested(1, "F1.1.2", service="express")
    failed_again = LabelFailed(**IDS, label_id="F1.1.2", package=1, reason="no such service")
    past = (*TO_PACKED, FAILED, again)
    FULFILL.given(*past, failed_again).when(RetryLabel("F1", 1, service="ground")).then(requested(1, "F1.1.3"))
    FULFILL.given(*past).when(RecordLabelFailure("F1", 1, "F1.1", "no such street")).then()
    FULFILL.given(*past).when(bought(1, "F1.1", "CP1111")).then(unused("CP1111", "it waits for F1.1.2"))


def test_asking_again_while_the_carrier_is_asked_changes_nothing() -> None:
    FULFILL.given(*TO_PACKED).when(RetryLabel("F1", 1)).then()
    FULFILL.given(*TO_PACKED, LABELED[0]).when(RetryLabel("F1", 1)).then_raises(LabelNotWanted, match="CP1111")


def test_another_carrier_may_be_asked_before_the_first_has_answered_which_may_have_sold_one_unheard() -> None:
    given_up = LabelFailed(
        **IDS,
        label_id="F1.1",
        package=1,
        reason="given up for cedar express before cedar ground had answered",
        answered=False,
    )
    another = requested(1, "F1.1.2", service="express")
    FULFILL.given(*TO_PACKED).when(RetryLabel("F1", 1, service="express")).then(given_up, another)
    past = (*TO_PACKED, given_up, another)
    FULFILL.given(*past).when(RetryLabel("F1", 1, service="express")).then()
    FULFILL.given(*past).when(RecordLabelFailure("F1", 1, "F1.1", "cedar is silent", answered=False)).then()
    in_vain = unused("CP1111", "it waits for F1.1.2")
    FULFILL.given(*past).when(bought(1, "F1.1", "CP1111")).then(in_vain)
    FULFILL.given(*past, in_vain).when(bought(1, "F1.1", "CP1111")).then()
    FULFILL.given(*past, in_vain).when(bought(1, "F1.1.2", "CP2222", "express")).then(
        PackageLabeled(
            **IDS,
            label_id="F1.1.2",
            package=1,
            carrier="cedar",
            service="express",
            tracking_number="CP2222",
            cost=USD_7,
        )
    )


def test_labels_are_for_packages_that_exist() -> None:
    FULFILL.given(*TO_PACKED).when(RetryLabel("F1", 3)).then_raises(NoSuchPackage, match="packages 1 to 2")
    FULFILL.given(CREATED).when(bought(1, "F1.1", "CP1111")).then_raises(NoSuchPackage, match="nothing is packed")


# Handing over


def test_what_is_labeled_is_handed_over_once() -> None:
    FULFILL.given(*TO_PACKED, *LABELED).when(HandOver("F1", SHIPPED_AT, SHIPPED_AT)).then(SHIPPED)
    a_minute_on = SHIPPED_AT + timedelta(minutes=1)
    later = HandOver("F1", a_minute_on, a_minute_on)
    FULFILL.given(*TO_PACKED, *LABELED, SHIPPED).when(later).then()


def test_nothing_is_handed_over_on_a_day_that_has_not_come() -> None:
    next_year = SHIPPED_AT + timedelta(days=365)
    FULFILL.given(*TO_PACKED, *LABELED).when(HandOver("F1", next_year, SHIPPED_AT)).then_raises(
        HandedOverAhead, match="F1: can't be handed over at 2027-03-02 10:02 UTC, 365 days from now"
    )
    FULFILL.given(*TO_PACKED, *LABELED).when(HandOver("F1", SHIPPED_AT, SHIPPED_AT - timedelta(hours=5))).then(SHIPPED)


async def test_a_label_from_a_location_that_the_network_has_no_more_fails_at_once_and_says_so() -> None:
    network = read_network(default_network_text().replace('id = "edison"', 'id = "newark"'))
    asked = requested(1, "F1.1").model_copy(update={"destination": Destination(country="US")})
    effect = labels(memory_carriers(network), network, cast(Keyring, None))
    answer = await effect.perform(asked, asked.label_id, MONDAY)
    packed = FulfillmentPacked(**IDS, packages=(box(1, teapots(2), cups(3)),))
    state = FULFILLMENT.fold([CREATED, ACCEPTED, FulfillmentPicked(**IDS, lines=(teapots(2), cups(3))), packed, asked])
    ((_, failed),) = answer.decide({"fulfillment-F1": state})
    reason = "no location 'edison' in the network any more: its address would be on the label"
    assert failed == LabelFailed(**IDS, label_id="F1.1", package=1, reason=reason, answered=True)


def test_nothing_leaves_without_all_its_labels() -> None:
    FULFILL.given(*TO_PACKED, FAILED).when(HandOver("F1", SHIPPED_AT, SHIPPED_AT)).then_raises(
        LabelsMissing, match="package 2: label not bought yet; package 1: no label (no such street)"
    )
    FULFILL.given(*TO_PACKED, FAILED, LABELED[1]).when(HandOver("F1", SHIPPED_AT, SHIPPED_AT)).then_raises(
        LabelsMissing, match="can't hand over: package 1: no label (no such street)"
    )
    FULFILL.given(CREATED, ACCEPTED, PICKED).when(HandOver("F1", SHIPPED_AT, SHIPPED_AT)).then_raises(
        WrongState, match="can't be handed over: it is picked, not packed yet"
    )


def test_the_way_a_package_went_is_the_way_its_label_says() -> None:
    express = labeled(1, "F1.1.2", "CP3333", service="express")
    past = (*TO_PACKED, FAILED, requested(1, "F1.1.2", service="express"), express, LABELED[1])
    (event,) = decide(FULFILLMENT.fold(past), HandOver("F1", SHIPPED_AT, SHIPPED_AT))
    assert isinstance(event, FulfillmentShipped)
    assert [(each.service, each.tracking_number) for each in event.packages] == [
        ("express", "CP3333"),
        ("ground", "CP2222"),
    ]


# Calling off


@pytest.mark.parametrize("past", [(CREATED,), (CREATED, ACCEPTED), (CREATED, ACCEPTED, PICKED)])
def test_before_packing_units_are_canceled(past: tuple[Any, ...]) -> None:
    FULFILL.given(*past).when(CancelLines("F1", "c1", (cups(2),))).then(canceled("c1", cups(2)))


@pytest.mark.parametrize("past", [TO_PACKED, (*TO_PACKED, *LABELED), (*TO_PACKED, *LABELED, SHIPPED)])
def test_after_packing_it_is_too_late(past: tuple[Any, ...]) -> None:
    FULFILL.given(*past).when(CancelLines("F1", "c1", (cups(2),))).then(declined("c1", cups(2)))


def test_what_no_carrier_will_take_can_be_unpacked_again() -> None:
    """It can't leave without its labels: an address that nobody delivers to must not bind goods and money for good."""
    unpacked = canceled("c1", *ALL)
    for labels_so_far in ((FAILED, LABELED[1]), (UNANSWERED, LABELED[1])):
        work = FULFILL.given(*TO_PACKED, *labels_so_far)
        work.when(CancelLines("F1", "c1", ALL)).then(unpacked)
        work.when(CancelLines("F1", "c1", (cups(3),))).then(declined("c1", cups(3)))  # the rest would be packed anew
    FULFILL.given(*TO_PACKED, FAILED).when(CancelLines("F1", "c1", ALL)).then(declined("c1", *ALL))  # one may yet come
    again = (*TO_PACKED, FAILED, LABELED[1], requested(1, "F1.1.2"))
    FULFILL.given(*again).when(CancelLines("F1", "c1", ALL)).then(declined("c1", *ALL))


def test_what_was_unpacked_gets_no_label_and_does_not_leave() -> None:
    gone = FULFILL.given(*TO_PACKED, UNANSWERED, LABELED[1], canceled("c1", *ALL))
    assert status_of(gone.state) == "canceled"
    gone.when(RetryLabel("F1", 1)).then_raises(WrongState, match="can't be labeled: it is canceled")
    gone.when(HandOver("F1", SHIPPED_AT, SHIPPED_AT)).then_raises(WrongState, match="it is canceled")
    gone.when(bought(1, "F1.1", "CP1111")).then(unused("CP1111", "it is canceled"))
    gone.when(bought(2, "F1.2", "CP2222")).then()


def test_a_recall_is_answered_once() -> None:
    recall = CancelLines("F1", "c1", (cups(1),))
    FULFILL.given(CREATED, canceled("c1", cups(1))).when(recall).then()
    FULFILL.given(*TO_PACKED, declined("c1", cups(1))).when(recall).then()
    FULFILL.given(CREATED, canceled("c1", cups(1))).when(CancelLines("F1", "c2", (cups(1),))).then(
        canceled("c2", cups(1))
    )


def test_all_units_gone_is_a_canceled_fulfillment_order() -> None:
    past = FULFILL.given(CREATED, ACCEPTED, canceled("c1", teapots(2)), canceled("c2", cups(3)))
    assert status_of(past.state) == "canceled"
    past.when(Pick("F1", ())).then_raises(WrongState, match="it is canceled")
    past.when(Accept("F1")).then_raises(WrongState, match="it is canceled")


def test_units_given_back_before_are_left_out_of_the_answer() -> None:
    short = FulfillmentShortPicked(**IDS, location="edison", lines=(cups(2),))
    past = (CREATED, ACCEPTED, FulfillmentPicked(**IDS, lines=(teapots(2), cups(1))), short)
    FULFILL.given(*past).when(CancelLines("F1", "c1", (cups(3),))).then(canceled("c1", cups(1)))


def test_a_recall_of_nothing_that_is_still_here_is_answered_all_the_same() -> None:
    recall = CancelLines("F1", "c1", ALL)
    for past in ((CREATED, REJECTED), (CREATED, ACCEPTED, ALL_SHORT)):
        FULFILL.given(*past).when(recall).then(declined("c1"))
        FULFILL.given(*past, declined("c1")).when(recall).then()
    no_cups = FulfillmentShortPicked(**IDS, location="edison", lines=(cups(3),))
    past = (CREATED, ACCEPTED, FulfillmentPicked(**IDS, lines=(teapots(2),)), no_cups)
    FULFILL.given(*past).when(CancelLines("F1", "c1", (cups(3),))).then(declined("c1"))


def test_a_recall_names_lines_that_exist() -> None:
    wrong = LineQuantity(line_id="9", sku="CUP", quantity=1)
    FULFILL.given(CREATED).when(CancelLines("F1", "c1", (wrong,))).then_raises(UnknownLine, match="line 9")


# Views


def test_the_summary_shows_each_unit_in_one_state() -> None:
    short = FulfillmentShortPicked(**IDS, location="edison", lines=(cups(1),))
    found = FulfillmentPicked(**IDS, lines=(teapots(2), cups(2)))
    boxes = (box(1, teapots(2), cups(1)),)
    past = [CREATED, ACCEPTED, found, short, canceled("c1", cups(1)), FulfillmentPacked(**IDS, packages=boxes)]
    past += [requested(1, "F1.1"), LABELED[0]]
    summary = fulfillment_summary(FULFILLMENT.fold(past))
    assert json.loads(json.dumps(summary)) == summary
    assert summary["status"] == "labeled"
    assert summary["destination"]["addressee"] == "sealed.v1.k1.AAAA"
    assert summary["lines"][1] == {
        "line_id": "2",
        "sku": "CUP",
        "title": "Cup",
        "asked": 3,
        "open": 0,
        "picked": 1,
        "short": 1,
        "canceled": 1,
        "rejected": 0,
    }
    assert summary["packages"][0]["tracking_number"] == "CP1111"
    assert summary["packages"][0]["cost"] == {"minor": 700, "currency": "USD"}


def test_the_status_follows_the_work() -> None:
    past: list[Any] = [CREATED, ACCEPTED, PICKED, PACKED, *REQUESTED, *LABELED, SHIPPED]
    statuses = [status_of(FULFILLMENT.fold(past[:length])) for length in range(len(past) + 1)]
    assert list(dict.fromkeys(statuses)) == [
        "unknown",
        "created",
        "accepted",
        "picked",
        "packed",
        "labeled",
        "shipped",
    ]
    assert fulfillment_summary(FulfillmentOrder()) == {"status": "unknown"}


# Whatever happens

part_units = st.one_of(st.builds(teapots, st.integers(1, 3)), st.builds(cups, st.integers(1, 4)))
some_units = st.lists(part_units, max_size=3).map(tuple)
nearly_all = st.sampled_from([ALL, (teapots(2),), (teapots(1), cups(3)), (teapots(2), cups(1)), (cups(3),), ()])
label_ids = st.sampled_from(["F1.1", "F1.2", "F1.1.2"])
commands: st.SearchStrategy[Command] = st.one_of(
    st.just(CREATE),
    st.just(Accept("F1")),
    st.builds(Reject, st.just("F1"), st.sampled_from(RejectReason)),
    st.builds(Pick, st.just("F1"), nearly_all | some_units),
    st.builds(
        lambda lines, split: Pack(
            "F1", (box(1, *lines[:split]), *((box(2, *lines[split:]),) if lines[split:] else ()))
        ),
        nearly_all | some_units,
        st.integers(1, 2),
    ),
    st.builds(bought, st.integers(1, 2), label_ids, st.sampled_from(["CP1111", "CP2222"])),
    st.builds(RecordLabelFailure, st.just("F1"), st.integers(1, 2), label_ids, st.text(max_size=5), st.booleans()),
    st.builds(RetryLabel, st.just("F1"), st.integers(1, 2), st.none(), st.sampled_from([None, "express"])),
    st.just(HandOver("F1", SHIPPED_AT, SHIPPED_AT)),
    st.builds(CancelLines, st.just("F1"), st.sampled_from(["c1", "c2", "c3"]), some_units),
)
states = TypeAdapter(FulfillmentOrder)


def tally(events: list[Any]) -> dict[str, Counter[str]]:
    """Units by what the events, and nothing else, say happened to them."""
    units: dict[str, Counter[str]] = {key: Counter() for key in ("short", "canceled", "rejected", "packed", "shipped")}
    for event in events:
        match event:
            case FulfillmentShortPicked():
                moved, parts = "short", event.lines
            case FulfillmentLinesCanceled():
                moved, parts = "canceled", event.lines
            case FulfillmentRejected():
                moved, parts = "rejected", event.lines
            case FulfillmentPacked():
                moved, parts = "packed", tuple(line for each in event.packages for line in each.lines)
            case FulfillmentShipped():
                moved, parts = "shipped", tuple(line for each in event.packages for line in each.lines)
            case _:
                continue
        for line in parts:
            units[moved][line.line_id] += line.quantity
    return units


def check(state: FulfillmentOrder, events: list[Any]) -> None:
    units = tally(events)
    ended = state.stage in (Stage.REJECTED, Stage.CANCELED, Stage.SHORT_PICKED)
    for asked in LINES:
        key = asked.line_id
        gone = units["short"][key] + units["canceled"][key] + units["rejected"][key]
        left = asked.quantity - gone
        assert left >= 0
        assert left == state.lines[key].left
        if ended:
            assert left == 0
        if state.packages and not ended:
            assert units["packed"][key] == left
        if state.stage is Stage.SHIPPED:
            assert units["shipped"][key] == left
    summary = fulfillment_summary(state)
    for line in summary["lines"]:
        in_states = ("open", "picked", "short", "canceled", "rejected")
        assert line["asked"] == sum(line[key] for key in in_states)
        assert min(line[key] for key in in_states) >= 0
    assert json.loads(json.dumps(summary)) == summary


def next_step(state: FulfillmentOrder) -> Command:
    """What a location that makes no mistakes does next."""
    match state.stage:
        case Stage.CREATED:
            return Accept("F1")
        case Stage.ACCEPTED:
            return Pick("F1", tuple(units_left(state)))
        case Stage.PICKED:
            return Pack("F1", tuple(box(n, line) for n, line in enumerate(units_left(state), 1)))
        case Stage.PACKED if waiting := [p for p in state.packages.values() if p.label == "requested"]:
            package = waiting[0].packed.package
            return bought(package, waiting[0].label_id, f"CP{package}111")
        case _:
            return HandOver("F1", SHIPPED_AT, SHIPPED_AT)


def units_left(state: FulfillmentOrder) -> list[LineQuantity]:
    left = [(line, state.lines[line.line_id].left) for line in LINES]
    return [LineQuantity(line_id=line.line_id, sku=line.sku, quantity=units) for line, units in left if units]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), commands), min_size=6, max_size=25))
def test_no_unit_is_ever_lost_or_in_two_states(asked: list[tuple[int, Command]]) -> None:
    events: list[Any] = [CREATED]
    state = FULFILLMENT.fold(events)
    for at_random, random_command in asked:
        command = random_command if at_random == 1 else next_step(state)
        try:
            decided = decide(state, command)
        except Refused:
            continue
        assert [through_json(event) for event in decided] == decided
        events += decided
        state = FULFILLMENT.fold(decided, state)
        check(state, events)
        assert states.validate_json(states.dump_json(state)) == state
        assert decide(state, command) == []
    assert FULFILLMENT.fold(events) == state


def test_a_large_order_is_picked_and_packed_in_linear_time() -> None:
    lines = tuple(ReleasedLine(line_id=str(n), sku=f"S{n}", quantity=1) for n in range(1000))
    created = CREATED.model_copy(update={"lines": lines})
    found = tuple(LineQuantity(line_id=line.line_id, sku=line.sku, quantity=1) for line in lines)
    state = FULFILLMENT.fold([created, ACCEPTED])
    (picked,) = decide(state, Pick("F1", found))
    state = FULFILLMENT.evolve(state, picked)
    boxes = tuple(box(n + 1, *found[n::100]) for n in range(100))
    events = decide(state, Pack("F1", boxes))
    assert len(events) == 101
    assert status_of(FULFILLMENT.fold(events, state)) == "packed"
