"""The rules by which an order is taken in, held, released, changed and called off."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ordermill.contracts.base import Fact
from ordermill.contracts.capture import (
    CancellationDeclined,
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    CancellationRequested,
    ChannelRefunded,
    HoldReason,
    HoldReleased,
    OrderCaptured,
    OrderChangeParked,
    OrderChangeRefused,
    OrderChangeSettled,
    OrderHeld,
    OrderLine,
    OrderLinesCanceled,
    OrderRejected,
    OrderReleased,
    OrderRevised,
    OrderUnitsShipped,
    ReleasedLine,
)
from ordermill.contracts.channel import Address, ChannelLine, LineChange, Payment, ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.inventory import CancellationTooLate
from ordermill.contracts.personal import Person
from ordermill.contracts.returns import ExchangeLine
from ordermill.ids import derived_id
from ordermill.money import RefundStage, first_units, goods_of, range_of_units, total_of
from ordermill.service.declare import Received
from services.capture.domain import (
    MAX_PARKED,
    CancelOrder,
    CaptureExchange,
    CaptureOrder,
    ChangeOrder,
    Command,
    HoldOrder,
    Order,
    RecordCancellationDeclined,
    RecordLetGo,
    RecordRefunded,
    RecordRefundFailed,
    RecordRefusal,
    RecordShipped,
    RecordUnroutable,
    ReleaseHold,
    RetryRefund,
    SettleChange,
    Stage,
    address_faults,
    decide,
    orders,
    refund_of,
    summary,
)
from services.capture.errors import (
    AlreadyReleased,
    ChangeNotRefused,
    OrderEnded,
    OrderUnknown,
    RefundPaidAlready,
    RefundUnknown,
    TooManyParked,
)
from services.capture.handlers import declined
from tests.spec import spec, through_json

given = spec(orders, decide).given

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
ORDER = "order-of-teapots"
HOME = Destination(country="US", region="NY", postal_code="10001", addressee="sealed.v1.k1.aG9tZQ")
OFFICE = Destination(country="US", region="CA", postal_code="94103", addressee="sealed.v1.k1.b2ZmaWNl")
PAID = Payment(status="paid", reference="pay-1")
PENDING = Payment(status="pending", reference="pay-1")


def usd(minor: int) -> Money:
    return Money(minor=minor, currency="USD")


TEAPOTS = ChannelLine(
    line_id="1", sku="TEAPOT", title="Teapot", quantity=3, unit_price=usd(1000), discount=usd(100), tax=usd(250)
)
CUPS = ChannelLine(line_id="2", sku="CUP", quantity=1, unit_price=usd(500), discount=usd(0), tax=usd(40))
PLACED = CaptureOrder(
    order_id=ORDER,
    channel="web",
    external_id="#1001",
    placed_at=MONDAY,
    destination=HOME,
    lines=(TEAPOTS, CUPS),
    shipping=usd(600),
    shipping_tax=usd(50),
    tax_included=False,
    total=usd(4340),
    payment=PAID,
    customer_id="customer-1",
)
UNPAID = replace(PLACED, payment=PENDING)
RISKY = replace(PLACED, risk="high")


def line_of(line: ChannelLine) -> OrderLine:
    return OrderLine(**line.model_dump())


def units(line_id: str, quantity: int) -> LineQuantity:
    return LineQuantity(line_id=line_id, sku={"1": "TEAPOT", "2": "CUP"}[line_id], quantity=quantity)


def changed(line_id: str, quantity: int) -> LineChange:
    return LineChange(line_id=line_id, quantity=quantity)


def history(*commands: Command) -> tuple[Fact, ...]:
    """The events that these commands cause, one after the other."""
    order, events = Order(), []
    for command in commands:
        more = decide(order, command)
        order = orders.fold(more, order)
        events += more
    return tuple(events)


def the_hash_of(command: CaptureOrder) -> str:
    first = history(command)[0]
    assert isinstance(first, OrderCaptured | OrderRejected)
    return first.content_hash


def captured(command: CaptureOrder) -> OrderCaptured:
    return OrderCaptured(
        order_id=ORDER,
        channel="web",
        external_id="#1001",
        placed_at=MONDAY,
        customer_id="customer-1",
        destination=HOME,
        lines=tuple(line_of(line) for line in command.lines),
        shipping=usd(600),
        shipping_tax=usd(50),
        tax_included=False,
        total=command.total,
        payment=command.payment,
        service_level=ServiceLevel.STANDARD,
        allow_backorder=False,
        content_hash=the_hash_of(command),
    )


def released(teapots: int = 3, cups: int = 1, destination: Destination = HOME) -> OrderReleased:
    lines = (
        ReleasedLine(line_id="1", sku="TEAPOT", title="Teapot", quantity=teapots) if teapots else None,
        ReleasedLine(line_id="2", sku="CUP", quantity=cups) if cups else None,
    )
    return OrderReleased(
        order_id=ORDER,
        channel="web",
        external_id="#1001",
        placed_at=MONDAY,
        destination=destination,
        lines=tuple(line for line in lines if line),
        service_level=ServiceLevel.STANDARD,
        allow_backorder=False,
    )


def held(reason: HoldReason, note: str) -> OrderHeld:
    return OrderHeld(order_id=ORDER, reason=reason, note=note)


def refused(change_id: str, reason: str, **about: Any) -> OrderChangeRefused:
    return OrderChangeRefused(order_id=ORDER, change_id=change_id, reason=reason, **about)


def canceled(
    cancellation_id: str,
    lines: tuple[LineQuantity, ...],
    refund: int,
    reason: str = "",
    whole: bool = False,
    **more: Any,
) -> OrderLinesCanceled:
    return OrderLinesCanceled(
        order_id=ORDER,
        cancellation_id=cancellation_id,
        lines=lines,
        reason=reason,
        whole_order=whole,
        refund=usd(refund),
        **more,
    )


def refund(amount: int, *cause: str) -> CancellationRefundRequested:
    return CancellationRefundRequested(
        order_id=ORDER, refund_id=derived_id("refund", ORDER, *cause), payment_reference="pay-1", amount=usd(amount)
    )


def requested(
    cancellation_id: str, *lines: LineQuantity, reason: str = "", revision: int | None = None
) -> CancellationRequested:
    return CancellationRequested(
        order_id=ORDER,
        cancellation_id=cancellation_id,
        lines=lines,
        reason=reason,
        revision=revision,
        by_channel=revision is not None,
    )


def change(revision: int, *lines: LineChange, **more: Any) -> ChangeOrder:
    return ChangeOrder(ORDER, revision, MONDAY + timedelta(hours=revision), lines, **more)


def cancel(
    cancellation_id: str, *lines: LineChange, hours: int = 1, reason: str = "", refunded: Money | None = None
) -> CancelOrder:
    return CancelOrder(ORDER, cancellation_id, MONDAY + timedelta(hours=hours), lines, reason, refunded)


RELEASED = history(PLACED)
HELD = history(RISKY)
HELD_UNPAID = history(replace(RISKY, payment=PENDING))


class TestCapture:
    def test_a_sound_paid_order_is_released_at_once(self) -> None:
        given().when(PLACED).then(captured(PLACED), released())

    def test_a_channel_may_want_a_person_to_look_at_an_order_first(self) -> None:
        given().when(replace(PLACED, hold="a test")).then(
            captured(replace(PLACED, hold="a test")), held(HoldReason.MANUAL, "a test")
        )

    def test_an_order_is_held_for_every_reason_there_is(self) -> None:
        doubtful = replace(UNPAID, risk="high", address_faults=("no street", "no city"))
        given().when(doubtful).then(
            captured(doubtful),
            held(HoldReason.PAYMENT, "payment is pending"),
            held(HoldReason.FRAUD_RISK, "the channel rates the risk high"),
            held(HoldReason.BAD_ADDRESS, "no street; no city"),
        )

    def test_an_order_on_invoice_or_authorized_waits_for_no_payment(self) -> None:
        for status in ("invoice", "authorized"):
            order = replace(PLACED, payment=Payment(status=status))
            given().when(order).then(captured(order), released())

    def test_an_order_placed_twice_is_one_order(self) -> None:
        sealed_anew = HOME.model_copy(update={"addressee": "sealed.v1.k1.YWdhaW4"})
        given(*RELEASED).when(replace(PLACED, destination=sealed_anew)).then()
        given(*HELD_UNPAID).when(replace(RISKY, payment=PENDING)).then()

    def test_another_order_under_a_taken_id_is_refused_once_with_the_reason(self) -> None:
        other = replace(PLACED, shipping=usd(700), total=usd(4440))
        no = refused(
            f"placed:{the_hash_of(other)[:32]}",
            "web placed its order #1001 again with other content (total 44.40 USD). It is taken once and stands as it "
            "is, whose total is 43.40 USD. Send a change with a revision, or a new external id.",
        )
        given(*RELEASED).when(other).then(no)
        given(*RELEASED, no).when(other).then()

    def test_a_rejected_order_stays_rejected(self) -> None:
        wrong = replace(PLACED, total=usd(1))
        given(*history(wrong)).when(wrong).then()
        (no,) = decide(orders.fold(history(wrong)), PLACED)
        assert isinstance(no, OrderChangeRefused)
        assert "which was rejected" in no.reason

    def test_what_does_not_add_up_is_rejected_with_all_reasons(self) -> None:
        wrong = replace(
            PLACED,
            lines=(
                TEAPOTS,
                TEAPOTS.model_copy(update={"discount": usd(3001)}),
                CUPS.model_copy(update={"unit_price": usd(-500), "tax": usd(-1)}),
            ),
            shipping=usd(-5),
            shipping_tax=usd(-6),
        )
        given().when(wrong).then(
            OrderRejected(
                order_id=ORDER,
                channel="web",
                external_id="#1001",
                reasons=(
                    "line 1 is there more than once",
                    "line 1: discount 30.01 USD is more than the line costs",
                    "line 2: unit price is below zero, -5.00 USD",
                    "line 2: tax is below zero, -0.01 USD",
                    "shipping is below zero, -0.05 USD",
                    "shipping tax is below zero, -0.06 USD",
                    "total is 43.40 USD, but lines and shipping add up to 28.87 USD",
                ),
                content_hash=the_hash_of(wrong),
            )
        )

    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            (replace(PLACED, lines=()), "no lines"),
            (replace(PLACED, total=usd(4339)), "total is 43.39 USD, but lines and shipping add up to 43.40 USD"),
            (
                replace(PLACED, shipping=Money(minor=600, currency="EUR")),
                "amounts in USD and EUR; an order has one currency",
            ),
            (
                replace(PLACED, lines=(TEAPOTS.model_copy(update={"quantity": 1_000_000}), CUPS)),
                "1000001 units, at most 1000000 can be one order",
            ),
            (
                replace(PLACED, lines=(TEAPOTS.model_copy(update={"unit_price": usd(10**15)}),)),
                "amounts beyond 1000000000000000 minor units",
            ),
        ],
    )
    def test_an_unsound_order_is_rejected(self, wrong: CaptureOrder, reason: str) -> None:
        (rejected,) = history(wrong)
        assert isinstance(rejected, OrderRejected)
        assert reason in rejected.reasons

    def test_tax_that_is_in_the_prices_does_not_add_to_the_total(self) -> None:
        order = replace(PLACED, tax_included=True, total=usd(4050))
        assert [type(event) for event in history(order)] == [OrderCaptured, OrderReleased]

    def test_all_but_captures_and_changes_need_an_order(self) -> None:
        given().when(HoldOrder(ORDER, HoldReason.MANUAL)).then_raises(OrderUnknown, ORDER)
        given().when(RecordRefusal(ORDER)).then_raises(OrderUnknown, "oms orders list")


class TestHolds:
    def test_the_last_hold_to_go_releases_the_order(self) -> None:
        fraud = HoldReleased(order_id=ORDER, reason=HoldReason.FRAUD_RISK, note="called the customer")
        given(*HELD_UNPAID).when(ReleaseHold(ORDER, HoldReason.FRAUD_RISK, "called the customer")).then(fraud)
        given(*HELD_UNPAID, fraud).when(ReleaseHold(ORDER, HoldReason.PAYMENT)).then(
            HoldReleased(order_id=ORDER, reason=HoldReason.PAYMENT), released()
        )

    def test_a_hold_that_is_not_there_needs_no_release(self) -> None:
        given(*HELD).when(ReleaseHold(ORDER, HoldReason.MANUAL)).then()
        given(*RELEASED).when(ReleaseHold(ORDER, HoldReason.MANUAL)).then()

    def test_a_person_holds_an_order_once_for_a_reason(self) -> None:
        by_hand = held(HoldReason.MANUAL, "ask about engraving")
        given(*HELD).when(HoldOrder(ORDER, HoldReason.MANUAL, "ask about engraving")).then(by_hand)
        given(*HELD, by_hand).when(HoldOrder(ORDER, HoldReason.MANUAL, "again")).then()

    def test_a_released_order_can_not_be_held(self) -> None:
        given(*RELEASED).when(HoldOrder(ORDER, HoldReason.MANUAL)).then_raises(AlreadyReleased, ORDER)

    def test_an_order_that_ended_can_not_be_held(self) -> None:
        hold = HoldOrder(ORDER, HoldReason.MANUAL)
        given(*history(RISKY, cancel("c1"))).when(hold).then_raises(OrderEnded, "canceled")
        given(*history(replace(PLACED, total=usd(1)))).when(hold).then_raises(OrderEnded, "rejected")

    def test_a_payment_hold_released_by_hand_does_not_come_back_with_old_news(self) -> None:
        let_through = HoldReleased(order_id=ORDER, reason=HoldReason.PAYMENT)
        events = decide(orders.fold((*HELD_UNPAID, let_through)), change(1, payment=PENDING))
        assert [type(event) for event in events] == [OrderRevised]


class TestParking:
    def test_a_change_before_its_order_waits_for_it(self) -> None:
        events = history(change(2, changed("1", 2)))
        assert [type(event) for event in events] == [OrderChangeParked]
        given(*events).when(change(2, changed("1", 2))).then()

    def test_parked_changes_are_read_as_they_were_written(self) -> None:
        """Rows of this form are in logs. A new field of the command needs a default."""
        text = (
            '{"order_id":"order-of-teapots","revision":2,"changed_at":"2026-03-02T11:00:00Z",'
            '"lines":[{"line_id":"1","quantity":2}],"destination":null,"address_faults":[],"payment":null}'
        )
        parked = OrderChangeParked(
            order_id=ORDER, change_id="revision:2", change_type="oms.channel.order-changed.v1", change=text
        )
        given().when(change(2, changed("1", 2))).then(parked)
        assert orders.fold(decide(orders.fold([parked]), RISKY), orders.fold([parked])).revision == 2

    def test_a_cancellation_before_its_order_ends_it_before_release(self) -> None:
        given(*history(cancel("c1", reason="changed my mind"))).when(PLACED).then(
            captured(PLACED),
            canceled("c1", (units("1", 3), units("2", 1)), 4340, "changed my mind", whole=True),
            refund(4340, "cancellation", "c1", ""),
        )

    def test_parked_changes_apply_by_revision_before_release(self) -> None:
        early = history(change(2, changed("1", 1)), change(1, changed("1", 2)))
        events = decide(orders.fold(early), PLACED)
        assert [event.revision for event in events if isinstance(event, OrderRevised)] == [1, 2]
        assert events[-1] == released(teapots=1)

    def test_a_channels_clock_does_not_outweigh_its_revisions(self) -> None:
        early = history(change(1, destination=OFFICE), replace(change(2, changed("1", 1)), changed_at=MONDAY))
        assert decide(orders.fold(early), PLACED)[-1] == released(teapots=1, destination=OFFICE)

    def test_parked_cancellations_apply_among_the_changes_when_they_were_made(self) -> None:
        early = history(change(5, changed("1", 2)), cancel("c1", changed("1", 1), hours=2))
        assert decide(orders.fold(early), PLACED)[-1] == released(teapots=2)

    def test_a_change_of_a_rejected_order_is_refused(self) -> None:
        wrong = replace(PLACED, total=usd(1))
        early = history(change(1, changed("1", 2)))
        no = refused("revision:1", "the order is rejected")
        assert decide(orders.fold(early), wrong)[1:] == [no]
        given(*history(wrong)).when(change(1, changed("1", 2))).then(no)
        given(*history(wrong)).when(cancel("c1")).then()

    def test_too_many_changes_for_an_order_that_never_came_are_dead_letters(self) -> None:
        full = history(*(change(revision) for revision in range(1, MAX_PARKED + 1)))
        given(*full).when(change(MAX_PARKED + 1)).then_raises(TooManyParked, "50 changes")
        given(*full).when(change(7)).then()


class TestRefusedChanges:
    """They wait for a person until one says that nothing is left to be done."""

    TOO_MANY = change(1, changed("1", 9))
    MORE = "line 1: 9 wanted, 3 ordered; no more can be had after release"
    PAST = (*RELEASED, *history(PLACED, TOO_MANY)[len(RELEASED) :])

    def waiting(self, *events: Fact) -> list[dict[str, str]]:
        return summary(orders.fold((*self.PAST, *events)))["refused_changes"]

    def test_one_that_was_dealt_with_waits_no_longer(self) -> None:
        assert self.waiting() == [{"change_id": "revision:1", "reason": self.MORE}]
        done = OrderChangeSettled(order_id=ORDER, change_id="revision:1", reason=self.MORE, note="sent by hand")
        given(*self.PAST).when(SettleChange(ORDER, "revision:1", "sent by hand")).then(done)
        given(*self.PAST, done).when(SettleChange(ORDER, "revision:1")).then()
        assert self.waiting(done) == []

    def test_what_the_channel_says_again_is_one_with_what_it_said(self) -> None:
        again = refused("revision:4", self.MORE)
        assert self.waiting(again) == [{"change_id": "revision:4", "reason": self.MORE}]
        (done,) = decide(orders.fold((*self.PAST, again)), SettleChange(ORDER, "revision:1"))
        assert self.waiting(again, done) == self.waiting(done, again) == []

    def test_what_was_called_off_here_before_waits_for_nobody(self) -> None:
        theirs = replace(cancel("theirs", changed("1", 1)), by_channel=True)
        off = history(PLACED, cancel("ours", changed("1", 1)), theirs)
        assert isinstance(off[-1], OrderChangeRefused)
        assert summary(orders.fold(off))["refused_changes"] == []

    def test_what_a_person_asked_for_was_told_to_them(self) -> None:
        past = (*RELEASED, RecordShipped(ORDER, "e-1", "f-1", (units("1", 3),)))
        gone = history(PLACED, past[-1])
        for by_channel, waiting in ((False, 0), (True, 1)):
            late = replace(cancel("c1", changed("1", 1)), by_channel=by_channel)
            (no,) = decide(orders.fold(gone), late)
            assert isinstance(no, OrderChangeRefused)
            assert len(summary(orders.fold((*gone, no)))["refused_changes"]) == waiting

    def test_only_what_was_refused_is_settled(self) -> None:
        given(*self.PAST).when(SettleChange(ORDER, "revision:9")).then_raises(
            ChangeNotRefused, "no change revision:9 of it was refused; those still to be dealt with: revision:1"
        )


class TestChanges:
    def test_fewer_units_keep_the_exact_share_of_the_first_and_refund_the_rest(self) -> None:
        line = line_of(TEAPOTS.model_copy(update={"quantity": 2, "discount": usd(67), "tax": usd(166)}))
        given(*HELD).when(change(1, changed("1", 2))).then(
            OrderRevised(
                order_id=ORDER,
                revision=1,
                destination=HOME,
                lines=(line, line_of(CUPS)),
                total=usd(3289),
                payment=PAID,
                wanted=(changed("1", 2),),
            ),
            refund(4340 - 3289, "revision", "1"),
        )

    def test_fewer_units_of_an_unpaid_order_refund_nothing(self) -> None:
        events = decide(orders.fold(history(UNPAID)), change(1, changed("1", 2)))
        assert [type(event) for event in events] == [OrderRevised]

    def test_canceled_units_keep_their_place_when_the_others_change(self) -> None:
        """Of 3 teapots 1 is canceled, 1 more taken off, then the last: the refunds add up to all teapots."""
        order = orders.fold(history(RISKY, cancel("c1", changed("1", 1)), change(1, changed("1", 1))))
        assert order.lines[0].quantity == 2
        events = decide(order, change(2, changed("1", 0)))
        revised, back = events
        assert isinstance(revised, OrderRevised)
        assert revised.lines[0].quantity == 1
        assert back == refund(966 + 83, "revision", "2")
        assert orders.fold(events, order).refund_minor == 3150

    def test_what_is_refunded_for_fewer_units_is_exact_beside_canceled_ones(self) -> None:
        """Tax 250 over 4 units: 62, 63, 62, 63. The last goes, then the third: 2 units keep 125, then 62 and 63."""
        four = replace(RISKY, lines=(TEAPOTS.model_copy(update={"quantity": 4}), CUPS), total=usd(5340))
        order = orders.fold(history(four, cancel("c1", changed("1", 1))))
        assert order.refund_minor == 975 + 63
        order = orders.fold(decide(order, change(1, changed("1", 2))), order)
        assert order.refund_minor == 975 + 63 + 975 + 62
        assert refund_of(order, (units("1", 1),)) == usd(975 + 63)

    def test_more_units_cost_the_unit_price_and_tax_in_proportion(self) -> None:
        line = line_of(TEAPOTS.model_copy(update={"quantity": 5, "tax": usd(416)}))
        given(*HELD).when(change(1, changed("1", 5))).then(
            OrderRevised(
                order_id=ORDER,
                revision=1,
                destination=HOME,
                lines=(line, line_of(CUPS)),
                total=usd(4340 + 2000 + 166),
                payment=PAID,
                wanted=(changed("1", 5),),
            )
        )

    def test_a_dropped_line_is_gone(self) -> None:
        revised, _ = decide(orders.fold(HELD), change(1, changed("2", 0)))
        assert isinstance(revised, OrderRevised)
        assert revised.lines == (line_of(TEAPOTS),)

    def test_an_older_revision_is_no_news(self) -> None:
        past = (*HELD, *decide(orders.fold(HELD), change(3, changed("1", 2))))
        given(*past).when(change(3, changed("1", 1))).then()
        given(*past).when(change(2, changed("1", 1))).then()

    def test_payment_that_comes_releases_its_hold(self) -> None:
        given(*history(UNPAID)).when(change(1, payment=PAID)).then(
            OrderRevised(
                order_id=ORDER,
                revision=1,
                destination=HOME,
                lines=(line_of(TEAPOTS), line_of(CUPS)),
                total=usd(4340),
                payment=PAID,
            ),
            HoldReleased(order_id=ORDER, reason=HoldReason.PAYMENT, note="payment has come"),
            released(),
        )

    def test_a_hold_stays_when_a_change_says_nothing_of_its_cause(self) -> None:
        past = history(replace(UNPAID, address_faults=("no street",)))
        events = decide(orders.fold(past), change(1, changed("1", 2)))
        assert [type(event) for event in events] == [OrderRevised]
        events = decide(orders.fold(past), change(1, destination=OFFICE, address_faults=("no city",)))
        assert [type(event) for event in events] == [OrderRevised]

    def test_payment_that_falls_through_holds_the_order(self) -> None:
        assert decide(orders.fold(HELD), change(1, payment=PENDING))[1:] == [
            held(HoldReason.PAYMENT, "payment is pending")
        ]

    def test_a_corrected_address_releases_its_hold(self) -> None:
        past = history(replace(PLACED, address_faults=("no street",)))
        assert decide(orders.fold(past), change(1, destination=OFFICE))[1:] == [
            HoldReleased(order_id=ORDER, reason=HoldReason.BAD_ADDRESS, note="the address was corrected"),
            released(destination=OFFICE),
        ]

    def test_a_new_address_with_faults_holds_the_order(self) -> None:
        events = decide(orders.fold(HELD), change(1, destination=OFFICE, address_faults=("no city",)))
        assert events[1:] == [held(HoldReason.BAD_ADDRESS, "no city")]

    def test_a_change_to_nothing_cancels_the_order(self) -> None:
        to_nothing = change(1, changed("1", 0), changed("2", 0))
        ended = canceled("revision:1", (units("1", 3), units("2", 1)), 4340, "changed to nothing", whole=True)
        given(*HELD).when(to_nothing).then(ended, refund(4340, "cancellation", "revision:1", ""))
        given(*HELD, ended).when(to_nothing).then()

    @pytest.mark.parametrize(
        ("no_good", "reason"),
        [
            (change(1, changed("1", 2), changed("9", 1)), "the order has no line 9"),
            (change(1, changed("1", 2), changed("1", 1)), "a line is named more than once"),
            (change(1, changed("1", 1_000_000)), "beyond the size of any order"),
            (change(1, changed("3", 1_000)), "line 3: 1000 units are beyond any order"),
        ],
    )
    def test_a_change_that_makes_no_sense_is_refused_whole(self, no_good: ChangeOrder, reason: str) -> None:
        no = refused("revision:1", reason)
        castle = ChannelLine(
            line_id="3", sku="CASTLE", quantity=9, unit_price=usd(10**13), discount=usd(9 * 10**13), tax=usd(0)
        )
        past = history(replace(RISKY, lines=(TEAPOTS, CUPS, castle)))
        given(*past).when(no_good).then(no)
        given(*past, no).when(no_good).then()

    def test_a_canceled_line_does_not_come_back(self) -> None:
        past = history(RISKY, replace(cancel("c1", changed("2", 1)), by_channel=True))
        given(*past).when(change(1, changed("2", 1))).then(
            refused("revision:1", "line 2: canceled, it does not come back; order it anew")
        )

    @pytest.mark.parametrize("placed", [RISKY, PLACED])
    def test_what_was_called_off_here_stays_off_when_the_channel_says_again_what_it_said(self, placed: Any) -> None:
        """A shop tells all of its order with each update, and knows nothing of a customer's telephone call."""
        order = orders.fold(history(placed, cancel("by-phone", changed("1", 1))))
        left = order.cancelable_of(order.lines[0])
        assert left == 2
        for revision, told, wanted in ((1, 3, left), (2, 2, left), (3, 1, 1)):
            events = decide(order, change(revision, changed("1", told)))
            assert not [event for event in events if isinstance(event, OrderChangeRefused)]
            order = orders.fold(events, order)
            assert order.cancelable_of(order.lines[0]) == wanted

    @pytest.mark.parametrize("placed", [RISKY, PLACED])
    def test_a_unit_that_is_called_off_here_and_by_the_channel_is_called_off_once(self, placed: Any) -> None:
        """The customer telephones, and then cancels in the shop, which still counts three."""
        order = orders.fold(history(placed, cancel("by-phone", changed("1", 1))))
        for shop, now in (("c1", 2), ("c1", 2), ("c2", 1), ("c3", 0)):
            order = orders.fold(decide(order, replace(cancel(shop, changed("1", 1)), by_channel=True)), order)
            assert order.cancelable_of(order.lines[0]) == now

    @pytest.mark.parametrize("placed", [RISKY, PLACED])
    def test_what_the_channel_calls_off_beyond_that_is_called_off_too(self, placed: Any) -> None:
        order = orders.fold(history(placed, cancel("by-phone", changed("1", 1))))
        order = orders.fold(decide(order, change(1, changed("1", 1))), order)
        assert order.wanted["1"] == order.cancelable_of(order.lines[0]) == 1
        by_shop = replace(cancel("c1", changed("1", 1), changed("2", 1)), by_channel=True)
        order = orders.fold(decide(order, by_shop), order)
        assert [order.cancelable_of(line) for line in order.lines] == [0, 0]

    @pytest.mark.parametrize("placed", [RISKY, PLACED])
    def test_what_the_channel_wanted_before_it_called_units_off_brings_none_back(self, placed: Any) -> None:
        """The cancellation is heard first, then what the shop had said earlier, of all three."""
        off = replace(cancel("c1", changed("1", 1)), by_channel=True, canceled_at=MONDAY + timedelta(hours=2))
        order = orders.fold(history(placed, off))
        earlier = decide(order, replace(change(1, changed("1", 3)), changed_at=MONDAY + timedelta(hours=1)))
        assert not [event for event in earlier if isinstance(event, OrderChangeRefused | CancellationRefundRequested)]
        order = orders.fold(earlier, order)
        assert order.wanted["1"] == order.cancelable_of(order.lines[0]) == 2
        later = decide(order, replace(change(2, changed("1", 3)), changed_at=MONDAY + timedelta(hours=3)))
        assert bool([event for event in later if isinstance(event, OrderChangeRefused)]) == (placed is PLACED)

    def test_the_channel_that_wants_more_than_it_did_gets_so_many_more(self) -> None:
        order = orders.fold(history(RISKY, cancel("by-phone", changed("1", 1)), change(1, changed("1", 5))))
        assert order.open_of(order.lines[0]) == 4

    def test_fewer_units_after_release_are_called_off(self) -> None:
        fewer = requested("revision:1", units("1", 2), reason="changed by the channel", revision=1)
        given(*RELEASED).when(change(1, changed("1", 1), changed("2", 1))).then(fewer)
        given(*RELEASED, fewer).when(change(1, changed("1", 1))).then()
        later = history(PLACED, change(3, changed("1", 2)))
        given(*later).when(change(2, changed("1", 1))).then()
        given(*RELEASED, fewer).when(change(2, changed("1", 1))).then(
            OrderRevised(
                order_id=ORDER,
                revision=2,
                destination=HOME,
                lines=(line_of(TEAPOTS), line_of(CUPS)),
                total=usd(4340),
                payment=PAID,
                wanted=(changed("1", 1),),
            )
        )

    def test_more_units_or_another_address_after_release_are_refused(self) -> None:
        given(*RELEASED).when(change(1, changed("1", 4), changed("2", 0))).then(
            refused("revision:1", "line 1: 4 wanted, 3 ordered; no more can be had after release")
        )
        given(*RELEASED).when(change(1, destination=OFFICE)).then(
            refused("revision:1", "the address can't change after release; cancel and order anew")
        )

    def test_the_same_address_said_again_after_release_is_no_change_of_it(self) -> None:
        at_home = HOME.model_copy(update={"fingerprint": "0" * 32})
        sealed_anew = at_home.model_copy(update={"addressee": "sealed.v1.k1.YWdhaW4"})
        past = history(replace(PLACED, destination=at_home))
        (revised,) = decide(orders.fold(past), change(1, destination=sealed_anew))
        assert isinstance(revised, OrderRevised)
        elsewhere = sealed_anew.model_copy(update={"fingerprint": "1" * 32})
        (answer,) = decide(orders.fold(past), change(1, destination=elsewhere))
        assert isinstance(answer, OrderChangeRefused)

    def test_units_that_have_shipped_can_not_be_taken_off(self) -> None:
        gone = OrderUnitsShipped(order_id=ORDER, source_id="e1", fulfillment_id="f1", lines=(units("2", 1),))
        given(*RELEASED, gone).when(change(1, changed("2", 0))).then(
            refused("revision:1", "the units to take off have shipped; they can be returned")
        )

    def test_nor_where_we_hear_that_they_shipped_while_the_order_is_held(self) -> None:
        """A location may hear of what we have not decided: what it says it did, it did."""
        past = history(RISKY, RecordShipped(ORDER, "e1", "f1", (units("1", 2),)))
        given(*past).when(change(1, changed("1", 1))).then(
            refused("revision:1", "line 1: 2 units have shipped; they can be returned")
        )
        revised, *_ = decide(orders.fold(past), change(1, changed("1", 2)))
        assert isinstance(revised, OrderRevised)

    def test_an_authorized_payment_may_be_captured_after_release(self) -> None:
        authorized = replace(PLACED, payment=Payment(status="authorized"))
        (revised,) = decide(orders.fold(history(authorized)), change(1, payment=PAID))
        assert isinstance(revised, OrderRevised)
        assert revised.payment == PAID
        events = decide(orders.fold(history(authorized)), change(1, changed("1", 2), payment=PAID))
        assert [type(event) for event in events] == [CancellationRequested, OrderRevised]


class TestCancellations:
    def test_before_release_the_last_units_go_with_their_exact_share(self) -> None:
        """Goods 2900 over 3 units: 966, 967, 967. Tax 250: 83, 83, 84."""
        past = (*HELD, *decide(orders.fold(HELD), cancel("c1", changed("1", 1))))
        given(*HELD).when(cancel("c1", changed("1", 1))).then(
            canceled("c1", (units("1", 1),), 967 + 84), refund(967 + 84, "cancellation", "c1", "")
        )
        given(*past).when(cancel("c2", changed("1", 2))).then(
            canceled("c2", (units("1", 2),), 1933 + 166), refund(1933 + 166, "cancellation", "c2", "")
        )

    def test_a_cancellation_counts_once(self) -> None:
        past = history(RISKY, cancel("c1", changed("1", 1)))
        given(*past).when(cancel("c1", changed("1", 1))).then()
        given(*RELEASED, requested("c1", units("1", 1))).when(cancel("c1", changed("1", 2))).then()

    def test_shipping_goes_back_with_the_last_unit(self) -> None:
        past = history(RISKY, cancel("c1", changed("1", 3)))
        given(*past).when(cancel("c2")).then(
            canceled("c2", (units("2", 1),), 540 + 650, whole=True), refund(540 + 650, "cancellation", "c2", "")
        )

    def test_money_that_was_never_charged_does_not_go_back(self) -> None:
        given(*history(UNPAID)).when(cancel("c1", reason="unpaid")).then(
            canceled("c1", (units("1", 3), units("2", 1)), 0, "unpaid", whole=True, unpaid=usd(0))
        )

    def test_more_than_is_left_cancels_what_is_left(self) -> None:
        events = decide(orders.fold(HELD), cancel("c1", changed("1", 2), changed("1", 5)))
        assert events[0] == canceled("c1", (units("1", 3),), 3150)
        events = decide(orders.fold(HELD), cancel("c1", changed("1", 1), changed("1", 1)))
        assert events[0] == canceled("c1", (units("1", 2),), 1934 + 167)

    def test_a_line_the_order_has_not_is_refused(self) -> None:
        given(*HELD).when(cancel("c1", changed("9", 1))).then(
            refused("c1", "the order has no line 9", by_channel=False)
        )

    def test_no_unit_named_cancels_none(self) -> None:
        given(*HELD).when(cancel("c1", changed("1", 0))).then()

    def test_after_release_units_are_asked_for_and_only_once(self) -> None:
        first = requested("c1", units("1", 2), reason="too slow")
        given(*RELEASED).when(cancel("c1", changed("1", 2), reason="too slow")).then(first)
        given(*RELEASED, first).when(cancel("c2")).then(requested("c2", units("1", 1), units("2", 1)))
        given(*RELEASED, first).when(cancel("c2", changed("1", 0))).then()

    def test_units_that_inventory_lets_go_are_canceled_and_refunded(self) -> None:
        asked = requested("c1", units("1", 2), reason="too slow")
        let_go = RecordLetGo(ORDER, "e1", (units("1", 2),), "canceled", "c1")
        done = canceled("c1", (units("1", 2),), 1934 + 167, "too slow", source_id="e1")
        given(*RELEASED, asked).when(let_go).then(done, refund(1934 + 167, "cancellation", "c1", "e1"))
        given(*RELEASED, asked, done).when(let_go).then()
        assert summary(orders.fold((*RELEASED, asked, done)))["lines"][0]["cancel_requested"] == 0

    def test_a_cancellation_may_be_answered_in_parts(self) -> None:
        asked = requested("c1", units("1", 2), reason="too slow")
        part = canceled("c1", (units("1", 1),), 967 + 84, "too slow", source_id="e1")
        given(*RELEASED, asked).when(RecordLetGo(ORDER, "e1", (units("1", 1),), "canceled", "c1")).then(
            part, refund(967 + 84, "cancellation", "c1", "e1")
        )
        no = CancellationDeclined(order_id=ORDER, cancellation_id="c1", lines=(units("1", 1),), source_id="e2")
        decline = RecordCancellationDeclined(ORDER, "e2", "c1", (units("1", 1),))
        given(*RELEASED, asked, part).when(decline).then(no)
        given(*RELEASED, asked, part, no).when(decline).then()

    def test_an_answer_counts_once(self) -> None:
        asked = requested("c1", units("1", 3))
        no = CancellationDeclined(order_id=ORDER, cancellation_id="c1", lines=(units("1", 1),), source_id="e2")
        decline = RecordCancellationDeclined(ORDER, "e2", "c1", (units("1", 1),))
        given(*RELEASED, asked, no).when(decline).then()
        ship = RecordShipped(ORDER, "e1", "f1", (units("1", 1),))
        given(*history(PLACED, ship)).when(ship).then()

    def test_units_that_shipped_are_not_let_go(self) -> None:
        past = history(PLACED, RecordShipped(ORDER, "e1", "f1", (units("1", 2),)))
        (first, _) = decide(orders.fold(past), RecordLetGo(ORDER, "e2", (units("1", 3),), "shortage"))
        assert isinstance(first, OrderLinesCanceled)
        assert first.lines == (units("1", 1),)

    def test_declined_units_can_be_asked_for_again(self) -> None:
        asked = requested("c1", units("2", 1))
        no = CancellationDeclined(order_id=ORDER, cancellation_id="c1", lines=(units("2", 1),), source_id="e2")
        given(*RELEASED, asked, no).when(cancel("c2", changed("2", 1))).then(requested("c2", units("2", 1)))

    def test_units_that_another_cancellation_took_over_are_waited_for_under_that_one_alone(self) -> None:
        """Else the first would wait for ever, and its units could be called off by nobody any more."""
        one = (units("2", 1),)
        told = CancellationTooLate(order_id=ORDER, cancellation_id="c1", lines=one, taken_over_by="c2")
        (asked,) = declined(told, Received("m1", "m1", MONDAY, MONDAY))
        ((_, event),) = asked.decide({orders.stream(ORDER): orders.fold([*RELEASED, requested("c1", *one)])})
        assert event == CancellationDeclined(
            order_id=ORDER, cancellation_id="c1", lines=one, source_id="m1", taken_over_by="c2"
        )

    def test_units_lost_at_a_location_are_canceled_for_shortage(self) -> None:
        short = canceled("shortage:e1", (units("2", 1),), 540, "shortage", source_id="e1")
        let_go = RecordLetGo(ORDER, "e1", (units("2", 1),), "shortage")
        given(*RELEASED).when(let_go).then(short, refund(540, "cancellation", "shortage:e1", "e1"))
        given(*RELEASED, short).when(let_go).then()

    def test_units_lost_for_shortage_settle_a_cancellation_that_asked_for_them(self) -> None:
        order = orders.fold(history(PLACED, cancel("c1"), RecordLetGo(ORDER, "e1", (units("1", 2),), "shortage")))
        assert summary(order)["lines"][0] | {"title": ""} == {
            "line_id": "1",
            "sku": "TEAPOT",
            "title": "",
            "quantity": 3,
            "canceled": 2,
            "cancel_requested": 1,
            "shipped": 0,
        }

    def test_goods_that_are_not_to_be_had_cancel_the_whole_order(self) -> None:
        gone = canceled("out-of-stock", (units("1", 3), units("2", 1)), 4340, "out-of-stock", whole=True)
        given(*RELEASED).when(RecordRefusal(ORDER)).then(gone, refund(4340, "cancellation", "out-of-stock", ""))
        given(*RELEASED, gone).when(RecordRefusal(ORDER)).then()

    def test_units_that_no_location_can_ship_are_called_off(self) -> None:
        asked = requested("unroutable:plan-1", units("1", 3), reason="unroutable")
        unroutable = RecordUnroutable(ORDER, "plan-1", (units("1", 3),))
        given(*RELEASED).when(unroutable).then(asked)
        given(*RELEASED, asked).when(unroutable).then()

    def test_units_called_off_before_that_no_location_can_ship_are_called_off_as_such(self) -> None:
        """An answer to the earlier cancellation may never come: nobody holds the units."""
        unroutable = RecordUnroutable(ORDER, "plan-1", (units("1", 3),))
        earlier = requested("c1", units("1", 2), units("2", 1))
        asked = requested("unroutable:plan-1", units("1", 3), reason="unroutable")
        given(*RELEASED, earlier).when(unroutable).then(asked)
        given(*RELEASED, earlier, asked).when(unroutable).then()
        order = given(*RELEASED, earlier, asked).state
        assert dict(order.requested) == {"1": 3, "2": 1}
        assert dict(order.cancellations["c1"].pending) == {"2": 1}
        assert dict(order.cancellations["unroutable:plan-1"].pending) == {"1": 3}

    @pytest.mark.parametrize("first", ["c1", "unroutable:plan-1"])
    def test_units_called_off_twice_are_canceled_and_refunded_once_whichever_is_answered(self, first: str) -> None:
        past = history(PLACED, cancel("c1"), RecordUnroutable(ORDER, "plan-1", (units("1", 3),)))
        all_units = (units("1", 3), units("2", 1))
        answers = [
            RecordLetGo(ORDER, "e1", all_units, "canceled", first),
            RecordLetGo(ORDER, "e2", all_units, "canceled", "c1"),
            RecordLetGo(ORDER, "e3", all_units, "unroutable", "unroutable:plan-1"),
            RecordCancellationDeclined(ORDER, "e4", "c1", all_units),
        ]
        order = orders.fold(past)
        refunded = 0
        for answer in answers:
            events = decide(order, answer)
            refunded += sum(e.amount.minor for e in events if isinstance(e, CancellationRefundRequested))
            order = orders.fold(events, order)
        assert (order.stage, order.open_units, dict(order.requested)) == (Stage.CANCELED, 0, {})
        assert refunded == PLACED.total.minor

    def test_shipped_units_are_returned_not_canceled(self) -> None:
        gone = OrderUnitsShipped(order_id=ORDER, source_id="e1", fulfillment_id="f1", lines=(units("1", 3),))
        ship = RecordShipped(ORDER, "e1", "f1", (units("1", 3),))
        given(*RELEASED).when(ship).then(gone)
        given(*RELEASED, gone).when(ship).then()
        given(*RELEASED, gone).when(cancel("c1")).then(requested("c1", units("2", 1)))
        given(*RELEASED, gone).when(cancel("c1", changed("1", 1))).then(
            refused("c1", "these units have shipped; they can be returned", by_channel=False)
        )
        given(*RELEASED, gone).when(cancel("c1", changed("1", 0))).then()

    def test_shipping_answers_a_cancellation_that_came_too_late(self) -> None:
        asked = requested("c1", units("1", 2))
        given(*RELEASED, asked).when(RecordShipped(ORDER, "e1", "f1", (units("1", 2),))).then(
            OrderUnitsShipped(order_id=ORDER, source_id="e1", fulfillment_id="f1", lines=(units("1", 2),)),
            CancellationDeclined(order_id=ORDER, cancellation_id="c1", lines=(units("1", 1),), source_id="e1"),
        )

    def test_shipping_answers_no_more_than_came_too_late(self) -> None:
        past = history(PLACED, cancel("c1", changed("1", 1)), cancel("c2", changed("1", 2)))
        events = decide(orders.fold(past), RecordShipped(ORDER, "e1", "f1", (units("1", 1),)))
        assert events[1:] == [
            CancellationDeclined(order_id=ORDER, cancellation_id="c1", lines=(units("1", 1),), source_id="e1")
        ]


class TestRefunds:
    PAST = history(RISKY, cancel("c1"))
    REFUND_ID = derived_id("refund", ORDER, "cancellation", "c1", "")
    SENT = RecordRefunded(ORDER, REFUND_ID, usd(4340), "psp-9", MONDAY)
    BACK = CancellationRefunded(
        order_id=ORDER, refund_id=REFUND_ID, amount=usd(4340), provider_reference="psp-9", refunded_at=MONDAY
    )
    FAILED = CancellationRefundFailed(order_id=ORDER, refund_id=REFUND_ID, reason="card expired")

    def test_the_providers_answer_counts_once(self) -> None:
        given(*self.PAST).when(self.SENT).then(self.BACK)
        given(*self.PAST, self.BACK).when(self.SENT).then()
        given(*self.PAST, self.BACK).when(RecordRefundFailed(ORDER, self.REFUND_ID, "late no")).then()

    def test_a_failed_refund_may_be_paid_by_hand(self) -> None:
        given(*self.PAST).when(RecordRefundFailed(ORDER, self.REFUND_ID, "card expired")).then(self.FAILED)
        given(*self.PAST, self.FAILED).when(self.SENT).then(self.BACK)

    def test_a_failed_refund_is_asked_for_again_word_for_word(self) -> None:
        again = RetryRefund(ORDER, self.REFUND_ID)
        (asked,) = (event for event in self.PAST if isinstance(event, CancellationRefundRequested))
        given(*self.PAST, self.FAILED).when(again).then(asked)
        given(*self.PAST, self.FAILED, asked).when(again).then()
        given(*self.PAST, self.FAILED, asked).when(self.SENT).then(self.BACK)
        given(*self.PAST, self.FAILED, asked).when(RecordRefundFailed(ORDER, self.REFUND_ID, "card expired")).then(
            self.FAILED
        )

    def test_a_refund_is_taken_from_the_payment_it_was_first_asked_of(self) -> None:
        other = orders.fold((*self.PAST, self.FAILED))
        other = replace(other, payment=Payment(status="paid", reference="another"))
        (asked,) = decide(other, RetryRefund(ORDER, self.REFUND_ID))
        assert asked in self.PAST

    def test_only_a_refund_that_failed_is_tried_again(self) -> None:
        again = RetryRefund(ORDER, self.REFUND_ID)
        given(*self.PAST).when(again).then()
        given(*self.PAST, self.BACK).when(again).then_raises(RefundPaidAlready, f"refund {self.REFUND_ID} is paid")
        given(*self.PAST).when(RetryRefund(ORDER, "r-9")).then_raises(RefundUnknown, "r-9")

    def test_a_refund_nobody_asked_for_is_refused(self) -> None:
        given(*self.PAST).when(replace(self.SENT, refund_id="r-9")).then_raises(RefundUnknown, "r-9")

    def test_the_summary_says_where_the_money_is(self) -> None:
        def money(*events: Fact) -> list[int]:
            seen = summary(orders.fold((*self.PAST, *events)))
            return [seen[key]["minor"] for key in ("charged", "refunded", "refunds_pending", "refunds_failed")]

        assert money() == [4340, 0, 4340, 0]
        assert money(self.BACK) == [4340, 4340, 0, 0]
        assert money(self.FAILED) == [4340, 0, 0, 4340]


class TestPartlyPaid:
    """An order may hold less than it owes; what it holds beyond that goes back."""

    def test_a_paid_order_that_waits_for_the_difference_gives_back_what_was_paid(self) -> None:
        past = history(RISKY, change(1, changed("2", 2), payment=Payment(status="pending")))
        assert orders.fold(past).unpaid_minor == 540
        given(*past).when(cancel("c1")).then(
            canceled("c1", (units("1", 3), units("2", 2)), 4340, whole=True, unpaid=usd(0)),
            refund(4340, "cancellation", "c1", ""),
        )

    def test_units_called_off_lessen_what_is_unpaid_first(self) -> None:
        past = history(RISKY, change(1, changed("2", 2), payment=PENDING))
        given(*past).when(cancel("c1", changed("2", 1))).then(canceled("c1", (units("2", 1),), 0, unpaid=usd(0)))

    def test_a_deposit_is_what_an_order_holds(self) -> None:
        deposit = replace(RISKY, payment=Payment(status="pending", reference="pay-1", paid=usd(1000)))
        order = orders.fold(history(deposit))
        assert (order.charged_minor, order.unpaid_minor) == (1000, 3340)
        more = Payment(status="pending", reference="pay-2", paid=usd(3000))
        order = orders.fold(decide(order, change(1, payment=more)), order)
        assert (order.charged_minor, order.unpaid_minor) == (3000, 1340)
        _, *back = decide(order, cancel("c1"))
        assert [(each.payment_reference, each.amount) for each in back] == [("pay-2", usd(2000)), ("pay-1", usd(1000))]

    def test_a_deposit_in_other_money_is_no_deposit(self) -> None:
        euros = Payment(status="pending", paid=Money(minor=1000, currency="EUR"))
        (rejected,) = history(replace(PLACED, payment=euros))
        assert isinstance(rejected, OrderRejected)
        given(*HELD).when(change(1, payment=euros)).then(
            refused("revision:1", "10.00 EUR are said to be paid, of an order in USD")
        )

    def test_an_authorization_that_fell_through_brought_nothing(self) -> None:
        authorized = Payment(status="authorized", reference="pay-1")
        past = history(replace(RISKY, payment=authorized), change(1, payment=PENDING))
        assert orders.fold(past).charged_minor == 0
        assert decide(orders.fold(past), cancel("c1"))[1:] == []

    def test_a_payment_that_moved_no_money_gives_way_to_the_next(self) -> None:
        authorized = Payment(status="authorized", reference="pay-1")
        paid = Payment(status="paid", reference="pay-2")
        past = history(replace(RISKY, payment=authorized), change(1, changed("2", 2), payment=paid))
        assert [each.payment_reference for each in decide(orders.fold(past), cancel("c1"))[1:]] == ["pay-2"]

    def test_word_of_a_payment_without_its_reference_speaks_of_the_one_that_is_known(self) -> None:
        past = history(RISKY, change(1, payment=Payment(status="paid")))
        assert decide(orders.fold(past), cancel("c1"))[1] == refund(4340, "cancellation", "c1", "")

    def test_the_whole_of_a_change_must_fit_into_money(self) -> None:
        big = ChannelLine(
            line_id="1", sku="TEAPOT", quantity=1, unit_price=usd(10**15 - 1000), discount=usd(0), tax=usd(0)
        )
        small = ChannelLine(line_id="2", sku="CUP", quantity=1, unit_price=usd(100), discount=usd(0), tax=usd(0))
        placed = replace(RISKY, lines=(big, small), total=usd(10**15 - 900 + 650))
        given(*history(placed)).when(change(1, changed("2", 9))).then(
            refused("revision:1", "beyond the size of any order")
        )


class TestChannelRefunds:
    """What the channel has given back by itself nobody gives back again."""

    def told(self, amount: int, unpaid: int, cancellation_id: str = "c1") -> ChannelRefunded:
        return ChannelRefunded(
            order_id=ORDER,
            refund_id=derived_id("refund", ORDER, "channel", cancellation_id),
            cancellation_id=cancellation_id,
            amount=usd(amount),
            unpaid=usd(unpaid),
        )

    def test_before_release_nothing_is_left_to_give_back(self) -> None:
        given(*HELD).when(cancel("c1", changed("2", 1), refunded=usd(540))).then(
            self.told(540, 540), canceled("c1", (units("2", 1),), 0, unpaid=usd(0))
        )

    def test_of_less_than_the_units_are_worth_the_rest_goes_back(self) -> None:
        given(*HELD).when(cancel("c1", changed("2", 1), refunded=usd(500))).then(
            self.told(500, 500),
            canceled("c1", (units("2", 1),), 40, unpaid=usd(0)),
            refund(40, "cancellation", "c1", ""),
        )

    def test_after_release_too_however_the_cancellation_is_answered(self) -> None:
        wanted = cancel("c1", changed("2", 1), refunded=usd(540))
        past = (*RELEASED, *decide(orders.fold(RELEASED), wanted))
        assert past[-2:] == (self.told(540, 540), requested("c1", units("2", 1)))
        given(*past).when(wanted).then()
        let_go = RecordLetGo(ORDER, "e1", (units("2", 1),), "canceled", "c1")
        given(*past).when(let_go).then(canceled("c1", (units("2", 1),), 0, source_id="e1", unpaid=usd(0)))
        kept = orders.fold(
            decide(orders.fold(past), RecordShipped(ORDER, "e2", "f1", (units("2", 1),))), orders.fold(past)
        )
        assert (kept.charged_minor, kept.unpaid_minor) == (4340, 540)

    def test_word_that_the_order_is_paid_does_not_bring_it_back(self) -> None:
        past = history(PLACED, cancel("c1", changed("2", 1), refunded=usd(540)), change(1, payment=PAID))
        assert orders.fold(past).unpaid_minor == 540

    def test_no_more_is_counted_than_was_charged(self) -> None:
        order = orders.fold(history(RISKY, cancel("c1", refunded=usd(9999))))
        assert (order.charged_minor, order.refund_minor, order.stage) == (4340, 4340, Stage.CANCELED)

    def test_what_comes_before_its_order_waits_with_its_cancellation(self) -> None:
        early = history(cancel("c1", changed("2", 1), refunded=usd(540)))
        events = decide(orders.fold(early), RISKY)
        assert self.told(540, 540) in events
        assert not [event for event in events if isinstance(event, CancellationRefundRequested)]


class TestExchange:
    WANTED = CaptureExchange(
        order_id=ORDER,
        return_id="return-1",
        placed_at=MONDAY,
        destination=HOME,
        lines=(ExchangeLine(sku="TEAPOT-BLUE", quantity=2, unit_price=usd(900)),),
        credit=usd(1800),
        customer_id="customer-1",
        payment_reference="pay-1",
    )

    def test_an_exchange_that_the_credit_covers_is_a_paid_order(self) -> None:
        first, last = history(self.WANTED)
        assert isinstance(first, OrderCaptured)
        assert (first.channel, first.external_id, first.total) == ("exchange", "return-1", usd(1800))
        assert first.payment == Payment(status="paid", reference="pay-1")
        assert isinstance(last, OrderReleased)
        given(first, last).when(self.WANTED).then()

    def test_an_exchange_that_costs_more_waits_for_the_difference(self) -> None:
        events = history(replace(self.WANTED, credit=usd(1799)))
        assert events[1:] == (held(HoldReason.PAYMENT, "payment is pending"),)
        order = orders.fold(events)
        assert (order.charged_minor, order.unpaid_minor) == (1799, 1)

    @pytest.mark.parametrize("lifted", [False, True])
    def test_a_credit_goes_back_if_the_dearer_goods_never_come(self, lifted: bool) -> None:
        order = orders.fold(history(replace(self.WANTED, credit=usd(500))))
        if lifted:
            order = orders.fold(decide(order, ReleaseHold(ORDER, HoldReason.PAYMENT, "will pay later")), order)
        last = decide(order, RecordRefusal(ORDER))[-1]
        assert last == refund(500, "cancellation", "out-of-stock", "")

    def test_what_credit_and_payment_brought_goes_back_to_each_its_own(self) -> None:
        second = Payment(status="paid", reference="pay-2")
        order = orders.fold(history(replace(self.WANTED, credit=usd(500)), change(1, payment=second)))
        assert (order.charged_minor, order.unpaid_minor) == (1800, 0)
        _, *back = decide(order, RecordRefusal(ORDER))
        assert [(each.payment_reference, each.amount) for each in back] == [("pay-2", usd(1300)), ("pay-1", usd(500))]
        assert len({each.refund_id for each in back}) == 2

    def test_no_payment_gives_back_more_than_it_brought_however_the_units_are_called_off(self) -> None:
        second = Payment(status="paid", reference="pay-2")
        doubtful = HoldOrder(ORDER, HoldReason.MANUAL)
        order = orders.fold(history(replace(self.WANTED, credit=usd(500)), doubtful, change(1, payment=second)))
        back: list[tuple[str, int]] = []
        for cancellation_id in ("c1", "c2"):
            events = decide(order, cancel(cancellation_id, changed("1", 1)))
            order = orders.fold(events, order)
            back += [(each.payment_reference, each.amount.minor) for each in events[1:]]
        assert back == [("pay-2", 900), ("pay-2", 400), ("pay-1", 500)]

    def test_an_exchange_for_nothing_is_rejected(self) -> None:
        (rejected,) = history(replace(self.WANTED, lines=()))
        assert isinstance(rejected, OrderRejected)


class TestAddresses:
    SOUND = Address(
        person=Person(name="Ada", street=("1 Main St",), city="New York"),
        country="US",
        region="NY",
        postal_code="10001",
    )

    def test_a_whole_address_has_no_faults(self) -> None:
        assert address_faults(self.SOUND) == ()
        assert address_faults(self.SOUND.model_copy(update={"postal_code": "10001-1234"})) == ()

    def test_all_that_is_missing_is_told_without_what_is_there(self) -> None:
        empty = Address(person=Person(name=" ", street=("",), phone="555"), country="US")
        assert address_faults(empty) == ("no name or company", "no street", "no city", "no postal code")

    @pytest.mark.parametrize(
        ("country", "code", "fine"),
        [
            ("US", "1000", False),
            ("US", "100011", False),
            ("US", "ABCDE", False),
            ("CA", "k1a 0b1", True),
            ("CA", "K1A", False),
            ("GB", "SW1A 1AA", True),
            ("GB", "12345", False),
            ("AE", "", True),
        ],
    )
    def test_a_postal_code_has_the_shape_of_its_country(self, country: str, code: str, fine: bool) -> None:
        address = self.SOUND.model_copy(update={"country": country, "postal_code": code})
        assert (address_faults(address) == ()) is fine


class TestSummary:
    def test_an_order_as_the_list_shows_it(self) -> None:
        order = orders.fold(history(RISKY, cancel("c1", changed("1", 1))))
        seen = summary(order)
        assert orjson.loads(orjson.dumps(seen)) == seen
        assert seen == {
            "order_id": ORDER,
            "channel": "web",
            "external_id": "#1001",
            "placed_at": "2026-03-02T09:00:00+00:00",
            "status": "held",
            "holds": [{"reason": "fraud-risk", "note": "the channel rates the risk high"}],
            "reasons": [],
            "revision": 0,
            "lines": [
                {
                    "line_id": "1",
                    "sku": "TEAPOT",
                    "title": "Teapot",
                    "quantity": 3,
                    "canceled": 1,
                    "cancel_requested": 0,
                    "shipped": 0,
                },
                {
                    "line_id": "2",
                    "sku": "CUP",
                    "title": "",
                    "quantity": 1,
                    "canceled": 0,
                    "cancel_requested": 0,
                    "shipped": 0,
                },
            ],
            "total": {"minor": 4340, "currency": "USD"},
            "refused_changes": [],
            "payment": "paid",
            "charged": {"minor": 4340, "currency": "USD"},
            "unpaid": {"minor": 0, "currency": "USD"},
            "refunded": {"minor": 0, "currency": "USD"},
            "refunds_pending": {"minor": 1051, "currency": "USD"},
            "refunds_failed": {"minor": 0, "currency": "USD"},
            "refunds": [
                {
                    "refund_id": "87b7aef9-ff02-508d-bc31-927929f05a0d",
                    "amount": {"minor": 1051, "currency": "USD"},
                    "status": "pending",
                    "failure": None,
                }
            ],
            "service_level": "standard",
            "customer_id": "customer-1",
            "customer": "kept",
            "destination": HOME.model_dump(),
        }

    @pytest.mark.parametrize(
        ("events", "status"),
        [
            (history(change(1)), "unknown"),
            (history(replace(PLACED, total=usd(1))), "rejected"),
            (RELEASED, "released"),
            (history(RISKY, cancel("c1")), "canceled"),
            (
                history(
                    PLACED,
                    RecordLetGo(ORDER, "e1", (units("2", 1),), "shortage"),
                    RecordShipped(ORDER, "e2", "f1", (units("1", 3),)),
                ),
                "shipped",
            ),
        ],
    )
    def test_every_order_has_a_status(self, events: tuple[Fact, ...], status: str) -> None:
        assert summary(orders.fold(events))["status"] == status


LINE_IDS = ("1", "2", "3")
amounts = st.one_of(st.integers(0, 7), st.integers(0, 10**6))


@st.composite
def placed_orders(draw: st.DrawFn) -> CaptureOrder:
    lines = []
    for line_id in LINE_IDS[: draw(st.integers(1, 3))]:
        quantity, price = draw(st.integers(1, 7)), draw(amounts)
        lines.append(
            ChannelLine(
                line_id=line_id,
                sku=f"SKU-{line_id}",
                quantity=quantity,
                unit_price=usd(price),
                discount=usd(draw(st.integers(0, quantity * price))),
                tax=usd(draw(amounts)),
            )
        )
    included = draw(st.booleans())
    shipping, shipping_tax = usd(draw(amounts)), usd(draw(amounts))
    goods = (total_of(line_of(line), included) for line in lines)
    return CaptureOrder(
        order_id=ORDER,
        channel="web",
        external_id="#1",
        placed_at=MONDAY,
        destination=HOME,
        lines=tuple(lines),
        shipping=shipping,
        shipping_tax=shipping_tax,
        tax_included=included,
        total=Money.sum((*goods, shipping, shipping_tax), "USD"),
        payment=draw(st.sampled_from((PAID, PAID, Payment(status="invoice"), PENDING))),
        risk=draw(st.sampled_from(("low", "high"))),
        address_faults=draw(st.sampled_from(((), (), ("no city",)))),
    )


def parts(of: type[Any], least: int, most: int = 4) -> st.SearchStrategy[tuple[Any, ...]]:
    def part(line_id: str, quantity: int) -> Any:
        sku = {"sku": f"SKU-{line_id}"} if of is LineQuantity else {}
        return of(line_id=line_id, quantity=quantity, **sku)

    one = st.builds(part, st.sampled_from(LINE_IDS), st.integers(least, most))
    return st.lists(one, max_size=3).map(tuple)


reasons = st.sampled_from(HoldReason)
cancellation_ids = st.sampled_from(("c1", "c2", "c3", "c4"))
source_ids = st.integers(1, 8).map("e{}".format)
unit_lists = parts(LineQuantity, 1)
changes = st.builds(
    lambda revision, lines, destination, faults, payment: change(
        revision, *{part.line_id: part for part in lines}.values(), destination=destination, address_faults=faults,
        payment=payment,
    ),
    st.integers(1, 6),
    parts(LineChange, 0, 9),
    st.sampled_from((None, None, None, OFFICE)),
    st.sampled_from(((), (), ("no street",))),
    st.sampled_from(
        (
            None, None, PAID, PENDING, Payment(status="paid"), Payment(status="paid", reference="pay-2"),
            Payment(status="authorized"), Payment(status="pending", reference="pay-2", paid=usd(700)),
        )
    ),
)  # fmt: skip
cancels = st.builds(
    lambda cancellation_id, lines, hours, refunded: cancel(cancellation_id, *lines, hours=hours, refunded=refunded),
    cancellation_ids,
    parts(LineChange, 0),
    st.integers(0, 7),
    st.none() | st.sampled_from((usd(1), usd(500), usd(5_000))),
)
later = st.one_of(
    changes,
    cancels,
    st.builds(HoldOrder, st.just(ORDER), reasons),
    st.builds(ReleaseHold, st.just(ORDER), reasons),
    st.builds(
        RecordLetGo,
        st.just(ORDER),
        source_ids,
        unit_lists,
        st.sampled_from(("canceled", "shortage")),
        st.one_of(st.none(), cancellation_ids),
    ),
    st.just(RecordRefusal(ORDER)),
    st.builds(RecordUnroutable, st.just(ORDER), st.sampled_from(("p1", "p2")), unit_lists),
    st.builds(RecordCancellationDeclined, st.just(ORDER), source_ids, cancellation_ids, unit_lists),
    st.builds(RecordShipped, st.just(ORDER), source_ids, st.just("f1"), unit_lists),
)
ADAPTER = TypeAdapter(Order)


def money_owed(order: Order) -> int:
    """What the open units owe, worked out anew from the lines."""
    if order.open_units == 0:
        return 0
    owed = sum(amount.minor for amount in (order.shipping, order.shipping_tax) if amount)
    for line in order.lines:
        owed += first_units(goods_of(line), order.open_of(line), line.quantity).minor
        owed += 0 if order.tax_included else first_units(line.tax, order.open_of(line), line.quantity).minor
    return owed


def check(order: Order) -> None:
    """What holds of an order at any time."""
    assert order.open_units == sum(order.open_of(line) for line in order.lines)
    assert order.shipped_units == sum(order.shipped.get(line.line_id, 0) for line in order.lines)
    for line in order.lines:
        pending = sum(asked.pending.get(line.line_id, 0) for asked in order.cancellations.values())
        assert order.requested.get(line.line_id, 0) == pending
        assert min(order.open_of(line), order.here_of(line), order.cancelable_of(line), goods_of(line).minor) >= 0
        assert min(line.discount.minor, line.tax.minor) >= 0
    assert order.owed_minor == money_owed(order)
    assert 0 <= order.held_minor <= max(order.owed_minor, 0)
    assert not order.charged or order.unpaid_minor == order.ahead_minor
    if order.stage in (Stage.HELD, Stage.RELEASED):
        amounts = (*(total_of(line, order.tax_included) for line in order.lines), order.shipping, order.shipping_tax)
        assert order.total == Money.sum(amounts, "USD")  # type: ignore[arg-type]
    assert all(line_id in order.places for line_id in order.canceled)
    assert order.stage in (Stage.HELD, Stage.RELEASED) or not order.holds
    assert (order.stage is Stage.CANCELED) == (order.open_units == 0 and bool(order.lines))
    assert ADAPTER.validate_json(ADAPTER.dump_json(order)) == order
    assert orjson.dumps(summary(order)) == orjson.dumps(summary(ADAPTER.validate_json(ADAPTER.dump_json(order))))


def answer(order: Order, command: Command) -> list[Fact]:
    try:
        return list(decide(order, command))
    except (AlreadyReleased, OrderEnded, OrderUnknown):
        return []


@settings(max_examples=100, deadline=None)
@for_all(placed_orders(), st.lists(later, max_size=3), st.lists(later, max_size=12))
def test_whatever_is_asked_units_and_money_add_up(placed: CaptureOrder, early: list[Any], late: list[Any]) -> None:
    order, past, was_held, asked = Order(), [], set[HoldReason](), []
    for command in (*early, placed, *late):
        events = answer(order, command)
        before, order = order, orders.fold(events, order)
        past += events
        check(order)
        assert answer(order, command) == []
        assert [through_json(event) for event in events] == events
        assert not any(isinstance(event, OrderHeld) for event in events) or before.stage in (Stage.UNKNOWN, Stage.HELD)
        for event in events:
            if isinstance(event, OrderHeld):
                assert event.reason not in was_held or isinstance(command, HoldOrder | ChangeOrder | CaptureOrder)
                was_held.add(event.reason)
        if before.stage in (Stage.HELD, Stage.RELEASED) and before.charged and order.charged:
            back = order.refund_minor - before.refund_minor
            grown = max(0, order.owed_minor - before.owed_minor)
            assert before.held_minor + grown == order.held_minor + back
        told = [event for event in events if isinstance(event, OrderRevised | OrderLinesCanceled | ChannelRefunded)]
        if told:
            assert order.unpaid_minor == (told[-1].unpaid.minor if told[-1].unpaid else 0)
        asked += [event for event in events if isinstance(event, CancellationRefundRequested)]
        assert len({event.refund_id for event in asked}) == len(asked)
    assert orders.fold(past) == order
    assert sum(isinstance(event, OrderReleased) for event in past) <= 1
    theirs = sum(refund.minor for refund in order.refunds.values() if refund.stage is RefundStage.PAID)
    assert sum(event.amount.minor for event in asked) + theirs == order.refund_minor
    if not any(isinstance(event, OrderRevised) for event in past):
        assert order.refund_minor <= placed.total.minor


@settings(max_examples=100, deadline=None)
@for_all(
    placed_orders(),
    st.lists(st.sampled_from((RecordRefunded, RecordRefundFailed, RetryRefund)), max_size=12),
)
def test_whatever_the_provider_says_and_however_often_it_is_asked_a_refund_is_paid_once(
    placed: CaptureOrder, steps: list[Any]
) -> None:
    placed = replace(placed, payment=PAID, address_faults=(), risk="high")
    past = list(history(placed, cancel("c1")))
    first = [event for event in past if isinstance(event, CancellationRefundRequested)]
    order, asked_minor = orders.fold(past), orders.fold(past).refund_minor
    for refund_of_it in first:
        refund_id = refund_of_it.refund_id
        commands = {
            RecordRefunded: RecordRefunded(ORDER, refund_id, refund_of_it.amount, "psp-1", MONDAY),
            RecordRefundFailed: RecordRefundFailed(ORDER, refund_id, "no"),
            RetryRefund: RetryRefund(ORDER, refund_id),
        }
        for step in steps:
            try:
                events = decide(order, commands[step])
            except RefundPaidAlready:
                assert order.refunds[refund_id].stage is RefundStage.PAID
                continue
            order = orders.fold(events, order)
            past += events
            assert decide(order, commands[step]) == []
            assert order.refund_minor == asked_minor
            check(order)
    assert {event for event in past if isinstance(event, CancellationRefundRequested)} == set(first)
    paid = Counter(event.refund_id for event in past if isinstance(event, CancellationRefunded))
    assert set(paid.values()) <= {1}
    assert orders.fold(past) == order


@settings(max_examples=100, deadline=None)
@for_all(placed_orders(), st.booleans(), st.data())
def test_an_order_canceled_in_any_parts_refunds_exactly_its_total(
    placed: CaptureOrder, after_release: bool, data: st.DataObject
) -> None:
    """Before release, after it, and with units taken off by the channel in between."""
    placed = replace(placed, payment=PAID, address_faults=(), risk="low" if after_release else "high")
    order = orders.fold(history(placed))
    back = step = 0
    while order.open_units:
        step += 1
        line = data.draw(st.sampled_from([line for line in order.lines if order.open_of(line)]))
        fewer = data.draw(st.integers(1, order.open_of(line)))
        lines = (LineQuantity(line_id=line.line_id, sku=line.sku, quantity=fewer),)
        share = refund_of(order, lines).minor
        if after_release:
            events = decide(order, RecordLetGo(ORDER, f"e{step}", lines, "shortage"))
        elif data.draw(st.booleans()):
            events = decide(order, cancel(f"c{step}", changed(line.line_id, fewer)))
        else:
            events = decide(order, change(step, changed(line.line_id, order.open_of(line) - fewer)))
        refunds = [event.amount.minor for event in events if isinstance(event, CancellationRefundRequested)]
        assert sum(refunds) == share
        back += share
        order = orders.fold(events, order)
        check(order)
    assert back == placed.total.minor
    assert summary(order)["charged"]["minor"] == placed.total.minor


@settings(max_examples=100, deadline=None)
@for_all(placed_orders(), st.data())
def test_a_unit_costs_what_the_units_around_it_leave(placed: CaptureOrder, data: st.DataObject) -> None:
    placed = replace(placed, payment=PAID, risk="high")
    order = orders.fold(history(placed))
    line = data.draw(st.sampled_from(order.lines))
    last = LineQuantity(line_id=line.line_id, sku=line.sku, quantity=1)
    expected = range_of_units(goods_of(line), line.quantity - 1, line.quantity, line.quantity).minor
    if not order.tax_included:
        expected += range_of_units(line.tax, line.quantity - 1, line.quantity, line.quantity).minor
    assert refund_of(order, (last,)).minor == (placed.total.minor if order.open_units == 1 else expected)


@settings(max_examples=100, deadline=None)
@for_all(placed_orders(), st.lists(st.one_of(changes, cancels), max_size=6))
def test_parked_then_captured_is_captured_then_changed(placed: CaptureOrder, news: list[Any]) -> None:
    """Of an order that is held; news that comes in the order in which it was made."""
    placed = replace(placed, risk="high")
    made, latest = [], 0
    for hour, one in enumerate(news):
        if isinstance(one, ChangeOrder):
            latest += 1
            made.append(replace(one, revision=latest, changed_at=MONDAY + timedelta(hours=hour)))
        else:
            made.append(replace(one, canceled_at=MONDAY + timedelta(hours=hour), cancellation_id=f"c{hour}"))
    parked_first = orders.fold(history(*made, placed))
    assert parked_first == orders.fold(history(placed, *made))
