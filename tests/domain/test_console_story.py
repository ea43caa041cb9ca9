"""What a customer reads on the page behind their link."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ordermill.contracts.base import Fact
from ordermill.contracts.capture import CancellationRefunded, ChannelRefunded, OrderLine
from ordermill.contracts.fields import LineQuantity, Money
from ordermill.contracts.returns import (
    GoodsWaived,
    PurchaseDelivered,
    PurchaseUndelivered,
    RefundPaid,
    ReturnAuthorized,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnReason,
    ReturnReceived,
    ReturnRequested,
    UnitsClaimed,
    UnitsGivenBack,
)
from ordermill.contracts.routing import PromiseChanged, PromiseMade
from ordermill.contracts.tracking import (
    Milestone,
    ShipmentAnnounced,
    ShipmentDelivered,
    ShipmentEvent,
    ShipmentFellLate,
    ShipmentLost,
    ShipmentScanned,
)
from services.console.pictures.order import Order, Units
from services.console.story import REASONS, SCANS, Parcel, Story, tell
from services.tracking.domain import SHIPMENT, parcel_status

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def usd(minor: int) -> Money:
    return Money(minor=minor, currency="USD")


def line(line_id: str, quantity: int, **more: Any) -> OrderLine:
    sku = f"sku-{line_id}"
    price = usd(1000)
    return OrderLine(
        line_id=line_id, sku=sku, title=f"Thing {line_id}", quantity=quantity, unit_price=price, discount=usd(0),
        tax=usd(0), **more,
    )  # fmt: skip


def units(line_id: str, quantity: int) -> LineQuantity:
    return LineQuantity(line_id=line_id, sku=f"sku-{line_id}", quantity=quantity)


def story(*facts: Fact, **order: Any) -> Story:
    lines = (line("1", 3), line("2", 1, final_sale=True))
    return tell(Order.model_validate({"order_id": "o-1", "external_id": "T-1", "lines": lines} | order), facts)


ANNOUNCED = ShipmentAnnounced(
    shipment_id="s-1", order_id="o-1", fulfillment_id="f-1", carrier="cedar", tracking_number="CED1234",
    shipped_at=MONDAY, promised_by=MONDAY + 3 * DAY, lines=(units("1", 2),),
)  # fmt: skip
ARRIVED = PurchaseDelivered(
    order_id="o-1", shipment_id="s-1", delivered_at=MONDAY, lines=(units("1", 2), units("2", 1))
)
IDS = {"order_id": "o-1", "return_id": "r-1"}
REQUESTED = ReturnRequested(**IDS, lines=(units("1", 1),), reason=ReturnReason.UNWANTED, wanted="refund")


def scan(milestone: Milestone, after: timedelta, place: str = "") -> ShipmentScanned:
    return ShipmentScanned(
        shipment_id="s-1", scan_id=f"{milestone}{after}", milestone=milestone, code="x", scanned_at=MONDAY + after,
        place=place,
    )  # fmt: skip


DELIVERED = ShipmentDelivered(
    shipment_id="s-1", scan_id="d", code="x", delivered_at=MONDAY + 2 * DAY, place="Columbus, OH", proof="none"
)


def test_what_was_bought_is_told_by_title_and_quantity() -> None:
    told = story(canceled={"1": 1})
    assert [(item.title, item.quantity, item.canceled) for item in told.items] == [("Thing 1", 3, 1), ("Thing 2", 1, 0)]


def test_all_that_went_back_for_what_was_canceled_is_told_whoever_sent_it() -> None:
    ids = {"order_id": "o-1", "refund_id": "f-1"}
    told = story(
        ChannelRefunded(**ids, cancellation_id="c-1", amount=usd(400), unpaid=usd(0)),
        CancellationRefunded(**ids, amount=usd(600), provider_reference="p-1", refunded_at=MONDAY),
    )
    assert told.refunds == [usd(400), usd(600)]


def test_a_promise_that_changed_tells_why_in_plain_words() -> None:
    told = story(
        PromiseMade(order_id="o-1", promised_by=MONDAY),
        PromiseChanged(order_id="o-1", promised_by=MONDAY + DAY, was=MONDAY, reason="short-pick"),
    )
    assert [promise.promised_by for promise in told.promises] == [MONDAY, MONDAY + DAY]
    assert told.promises[1].because == "an item was not where it should be, so it comes from another place"


def parcel_of(*facts: ShipmentEvent) -> Parcel:
    """The parcel on the page, once tracking has published what came of `facts`."""
    (told,) = story(*facts, parcels=(parcel_status(SHIPMENT.fold(facts)),)).parcels
    return told


def test_a_parcels_way_is_told_newest_first_with_places() -> None:
    parcel = parcel_of(ANNOUNCED, scan(Milestone.IN_TRANSIT, DAY, "Reno, NV"), DELIVERED)
    assert [(one.text, one.place) for one in parcel.scans] == [
        ("Delivered", "Columbus, OH"),
        ("On its way", "Reno, NV"),
    ]
    assert (parcel.state, parcel.contents) == ("Delivered", [("Thing 1", 2)])


def test_a_scan_that_comes_late_does_not_undo_a_newer_one_or_a_delivery() -> None:
    newer, older = scan(Milestone.OUT_FOR_DELIVERY, 2 * DAY), scan(Milestone.IN_TRANSIT, DAY)
    assert parcel_of(ANNOUNCED, newer, older).state == SCANS[Milestone.OUT_FOR_DELIVERY]
    assert parcel_of(ANNOUNCED, DELIVERED, scan(Milestone.IN_TRANSIT, 3 * DAY)).state == "Delivered"


def test_a_parcel_handed_over_and_not_scanned_since_is_with_the_carrier() -> None:
    (not_heard_of_by_tracking,) = story(ANNOUNCED).parcels
    assert not_heard_of_by_tracking.state == parcel_of(ANNOUNCED).state == "Handed to the carrier"
    assert parcel_of(ANNOUNCED, scan(Milestone.UNKNOWN, DAY)).state == "Handed to the carrier"


def test_a_scan_before_the_handover_is_told_too() -> None:
    assert parcel_of(scan(Milestone.LABEL_CREATED, -DAY), ANNOUNCED).state == SCANS[Milestone.LABEL_CREATED]


@pytest.mark.parametrize(
    ("scans", "state"),
    [
        ((scan(Milestone.IN_TRANSIT, DAY), scan(Milestone.LABEL_CREATED, 2 * DAY)), "On its way"),
        ((scan(Milestone.RETURNED, DAY), scan(Milestone.DELIVERED, 2 * DAY)), "Back with us"),
        ((DELIVERED, scan(Milestone.RETURNED, 5 * DAY)), "Back with us"),
        ((scan(Milestone.READY_FOR_PICKUP, DAY), scan(Milestone.UNKNOWN, 2 * DAY)), "Ready to be picked up"),
        ((scan(Milestone.IN_TRANSIT, DAY), scan(Milestone.OUT_FOR_DELIVERY, DAY)), "Out for delivery"),
        ((scan(Milestone.OUT_FOR_DELIVERY, DAY), scan(Milestone.IN_TRANSIT, DAY)), "Out for delivery"),
    ],
)
def test_a_parcel_is_where_tracking_says_it_is(scans: tuple[ShipmentEvent, ...], state: str) -> None:
    assert parcel_of(ANNOUNCED, *scans).state == state


def test_a_lost_parcel_that_is_seen_again_or_came_back_is_not_lost() -> None:
    lost = ShipmentLost(shipment_id="s-1", due_at=MONDAY + 20 * DAY)
    assert parcel_of(ANNOUNCED, lost).lost
    assert not parcel_of(ANNOUNCED, lost, scan(Milestone.IN_TRANSIT, 21 * DAY)).lost
    back = scan(Milestone.RETURNING, 2 * DAY), scan(Milestone.UNKNOWN, 4 * DAY), lost, scan(Milestone.RETURNED, 3 * DAY)
    assert not parcel_of(ANNOUNCED, *back).lost


def test_a_parcel_is_late_until_it_arrives() -> None:
    late = ShipmentFellLate(shipment_id="s-1", due_at=ANNOUNCED.promised_by)
    assert parcel_of(ANNOUNCED, late).late
    assert not parcel_of(ANNOUNCED, late, DELIVERED).late


def test_only_units_that_arrived_and_are_in_no_return_may_come_back() -> None:
    def offered(*facts: Fact, **order: Any) -> dict[str, int]:
        return {item.line_id: item.may_return for item in story(*facts, **order).may_return}

    assert offered() == {}
    assert offered(ARRIVED) == {"1": 2}  # line 2 was a final sale
    claimed = UnitsClaimed(**IDS, lines=(units("1", 1),))
    assert offered(ARRIVED, claimed) == {"1": 1}
    assert offered(ARRIVED, claimed, UnitsGivenBack(**IDS, lines=(units("1", 1),))) == {"1": 2}
    assert offered(ARRIVED, canceled={"1": 2}) == {"1": 1}


def test_a_return_tells_its_number_its_deadline_and_its_refund() -> None:
    accepted = ReturnAuthorized(**IDS, rma="R-ABCDE-FGHIJ", expires_at=MONDAY + 14 * DAY)
    (back,) = story(REQUESTED, accepted).returns
    assert (back.rma, back.send_by, back.contents) == ("R-ABCDE-FGHIJ", MONDAY + 14 * DAY, [("Thing 1", 1)])
    (ended,) = story(REQUESTED, accepted, ReturnExpired(**IDS, due_at=MONDAY)).returns
    assert ended.send_by is None
    paid = RefundPaid(**IDS, refund_id="x", amount=usd(1000), provider_reference="p", refunded_at=MONDAY)
    assert story(REQUESTED, accepted, paid).returns[0].refunded == usd(1000)


def test_a_customer_has_nothing_to_do_about_what_never_arrived_and_is_offered_no_return_of_it() -> None:
    lost = PurchaseUndelivered(order_id="o-1", shipment_id="s-1", why="lost", lines=(units("1", 2),))
    asked = REQUESTED.model_copy(update={"reason": ReturnReason.NOT_DELIVERED})
    claimed = UnitsClaimed(**IDS, lines=(units("1", 1),), undelivered=True)
    accepted = ReturnAuthorized(**IDS, rma="R-ABCDE-FGHIJ", expires_at=MONDAY + 14 * DAY)
    (back,) = story(lost, asked, claimed, accepted).returns
    assert (back.rma, back.send_by) == ("", None)
    assert back.state == "It did not reach you, so we are making up for it. You need not do anything."
    (over,) = story(lost, asked, claimed, accepted, ReturnClosed(**IDS)).returns
    assert over.state == "It did not reach you, and we have looked into it."
    found = story(lost, asked, claimed, accepted, ARRIVED)
    assert {item.line_id: item.may_return for item in found.may_return} == {"1": 2}, "of three bought, one is credited"
    assert ReturnReason.NOT_DELIVERED not in REASONS


@pytest.mark.parametrize(
    "then",
    [
        ReturnReceived(**IDS, location="sparks", lines=(units("1", 1),)),
        GoodsWaived(**IDS, lines=(units("1", 1),), undelivered=True),
    ],
)
def test_a_parcel_that_is_back_with_us_is_not_told_as_arrived_nor_its_goods_as_kept(then: Fact) -> None:
    asked = REQUESTED.model_copy(update={"reason": ReturnReason.NOT_DELIVERED})
    accepted = ReturnAuthorized(**IDS, rma="R-ABCDE-FGHIJ", expires_at=MONDAY + 14 * DAY)
    (back,) = story(asked, accepted, then).returns
    assert back.state == "It did not reach you, so we are making up for it. You need not do anything."


def test_a_customer_who_may_keep_the_goods_reads_so() -> None:
    accepted = ReturnAuthorized(**IDS, rma="R-ABCDE-FGHIJ", expires_at=MONDAY + 14 * DAY)
    waived = GoodsWaived(**IDS, lines=(units("1", 1),), undelivered=False)
    (back,) = story(REQUESTED, accepted, waived).returns
    assert (back.state, back.send_by) == ("You need not send it back.", None)


def test_a_declined_return_tells_every_reason() -> None:
    declined = ReturnDeclined(**IDS, reasons=("too late", "final sale"))
    assert story(REQUESTED, declined).returns[0].reasons == ("too late", "final sale")


@pytest.mark.parametrize(
    ("status", "step"), [("received", 0), ("backordered", 1), ("shipped", 2), ("returned", 3), ("canceled", None)]
)
def test_how_far_an_order_is(status: str, step: int | None) -> None:
    assert story(status=status).step == step


def test_an_order_partly_returned_is_open_until_the_rest_arrived() -> None:
    came = Units(shipped=1, delivered=1, returned=1)
    told = story(status="partially_returned", units={"1": came.model_copy(update={"reserved": 2})}, late=True)
    assert (told.open, told.step) == (True, 2)
    assert told.headline == "We have 1 of 4 items of your order back. The rest is late, and we are sorry."
    ended = story(status="partially_returned", units={"1": came}, canceled={"1": 2, "2": 1})
    assert (ended.open, ended.step) == (False, 3)


def test_an_order_on_its_way_back_to_us_is_awaited_no_longer() -> None:
    facts = ANNOUNCED, scan(Milestone.RETURNING, DAY)
    back, units = parcel_status(SHIPMENT.fold(facts)), {"1": Units(shipped=3), "2": Units(shipped=1)}
    told = story(*facts, status="shipped", units=units, parcels=(back,))
    assert (told.headline, told.open) == ("Your order is on its way back to us.", False)


def test_a_rejected_order_is_not_told_as_on_its_way() -> None:
    told = story(rejected=("totals do not add up",))
    assert told.step is None
    assert "could not take" in told.headline
    assert "totals" not in told.headline
