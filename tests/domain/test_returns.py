"""Rules of returns: what may come back, what it is worth, and that it never adds up to more than was paid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ordermill.contracts.capture import OrderCaptured, OrderLine, OrderLinesCanceled, OrderReleased, OrderRevised
from ordermill.contracts.channel import Payment, ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity, Money, PaymentShare
from ordermill.contracts.returns import (
    Disposition,
    ExchangeLine,
    ExchangeRequested,
    InspectedLine,
    ParcelArrived,
    ParcelExpected,
    PurchaseDelivered,
    PurchaseRecorded,
    PurchaseRevised,
    PurchaseUnitsCanceled,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnAuthorized,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnInspected,
    ReturnReason,
    ReturnReceived,
    ReturnRequested,
    UnitsClaimed,
    UnitsGivenBack,
    UnitsTakenBack,
)
from ordermill.contracts.tracking import ShipmentAnnounced, ShipmentDelivered
from ordermill.errors import OrdermillError, Refused
from ordermill.ids import derived_id
from ordermill.money import goods_of, range_of_units, total_of
from services.returns.domain import (
    RETURN,
    CloseReceipt,
    Command,
    ExpireReturn,
    InspectReturn,
    ReceiveReturn,
    RecordRefundFailed,
    RecordRefundPaid,
    RequestReturn,
    RetryRefund,
    Return,
    Stage,
    WaiveGoods,
    command_of,
    return_summary,
    rma_of,
    to_decision,
)
from services.returns.domain.purchase import (
    PARCEL,
    PURCHASE,
    ExpectParcel,
    Parcel,
    Purchase,
    RecordCancellation,
    RecordDelivery,
    RecordPurchase,
    RecordUndelivered,
    RevisePurchase,
    decide_purchase,
    purchase_summary,
)
from services.returns.errors import (
    NoFailedRefund,
    NotInspected,
    NotReceived,
    PolicyInvalid,
    PurchaseNotFound,
    PurchaseNotRecorded,
    RefundUnknown,
    RequestUnclear,
    ReturnNotFound,
    ReturnNotOpen,
    UnexpectedGoods,
    UnknownLocation,
)
from services.returns.policy import BUILT_IN, ReturnPolicy, parse_policy, read_policy
from tests.spec import spec, through_json

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
DAY = timedelta(days=1)
BERLIN = Destination(country="DE")
POLICY = ReturnPolicy(
    window_days=30,
    authorization_days=14,
    our_fault=frozenset({ReturnReason.DAMAGED, ReturnReason.LATE}),
    restocking_fee_percent=10,
    final_sale_returnable_if_our_fault=False,
    refund_shipping=True,
)
DECIDERS = {"purchase": PURCHASE, "parcel": PARCEL, "return": RETURN}


def usd(minor: int) -> Money:
    return Money(minor=minor, currency="USD")


def order_line(line_id: str, sku: str, quantity: int, price: int, tax: int, **more: Any) -> OrderLine:
    return OrderLine(
        line_id=line_id,
        sku=sku,
        quantity=quantity,
        unit_price=usd(price),
        tax=usd(tax),
        **{"discount": usd(0)} | more,
    )


def units(line_id: str, sku: str, quantity: int) -> LineQuantity:
    return LineQuantity(line_id=line_id, sku=sku, quantity=quantity)


class Log:
    """Streams in memory: decides as the engine does, and looks a stream up when it is asked for."""

    def __init__(self, policy: ReturnPolicy = POLICY) -> None:
        self.policy = policy
        self.states: dict[str, Any] = {}
        self.events: list[tuple[str, Any]] = []

    def __getitem__(self, stream: str) -> Any:
        return self.states.get(stream, DECIDERS[stream.partition("-")[0]].initial)

    def do(self, *commands: Command) -> list[tuple[str, Any]]:
        """What the last of `commands` came to."""
        told: list[tuple[str, Any]] = []
        for command in commands:
            told = list(to_decision(command, self.policy).decide(self))  # type: ignore[arg-type]
            for stream, event in told:
                decider = DECIDERS[stream.partition("-")[0]]
                self.states[stream] = decider.evolve(self[stream], event)
            self.events += told
        return told

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kind)]

    @property
    def purchase(self) -> Purchase:
        return self["purchase-o-1"]  # type: ignore[no-any-return]

    def back(self, return_id: str = "r-1") -> Return:
        return self["return-" + return_id]  # type: ignore[no-any-return]


TEAPOTS, TOWEL = order_line("1", "TEAPOT", 3, 1000, 100), order_line("2", "TOWEL", 1, 500, 0, final_sale=True)
BOUGHT = RecordPurchase("o-1", "shop", "c-1", BERLIN, (TEAPOTS, TOWEL), usd(499), usd(41), False, "pay-1")
ALL = (units("1", "TEAPOT", 3), units("2", "TOWEL", 1))


def delivered_order(policy: ReturnPolicy = POLICY, bought: RecordPurchase = BOUGHT) -> Log:
    log = Log(policy)
    lines = tuple(units(line.line_id, line.sku, line.quantity) for line in bought.lines)
    log.do(bought, ExpectParcel("p-1", "o-1", lines), RecordDelivery("p-1", MONDAY))
    return log


OURS = frozenset({"hamburg", "munich"})


def ask(return_id: str = "r-1", teapots: int = 1, at: datetime = MONDAY + DAY, **more: Any) -> RequestReturn:
    more = {"reason": ReturnReason.UNWANTED, "wanted": "refund", "by": "customer"} | more
    lines = more.pop("lines", (units("1", "TEAPOT", teapots),))
    return RequestReturn(return_id=return_id, order_id="o-1", lines=lines, requested_at=at, **more)


def receive(return_id: str = "r-1", teapots: int = 1, receipt: str = "g-1", at: str = "hamburg") -> ReceiveReturn:
    return ReceiveReturn(return_id, receipt, at, (units("1", "TEAPOT", teapots),), OURS)


def graded(teapots: int, disposition: Disposition = Disposition.RESTOCK) -> InspectedLine:
    return InspectedLine(line_id="1", sku="TEAPOT", quantity=teapots, disposition=disposition)


def inspect(*lines: InspectedLine, return_id: str = "r-1", by: str = "i-1", at: str = "hamburg") -> InspectReturn:
    return InspectReturn(return_id, by, at, lines, MONDAY + 2 * DAY)


IDS = {"return_id": "r-1", "order_id": "o-1"}


# Purchases


def test_a_purchase_is_recorded_once_and_revised_by_newer_revisions_only() -> None:
    purchase = spec(PURCHASE, decide_purchase)
    recorded = PurchaseRecorded(
        order_id="o-1",
        channel="shop",
        customer_id="c-1",
        destination=BERLIN,
        lines=(TEAPOTS, TOWEL),
        shipping=usd(499),
        shipping_tax=usd(41),
        tax_included=False,
        payment_reference="pay-1",
    )
    revise = RevisePurchase("o-1", 2, BERLIN, (TEAPOTS,), "pay-2")
    revised = PurchaseRevised(
        order_id="o-1", revision=2, destination=BERLIN, lines=(TEAPOTS,), payment_reference="pay-2"
    )
    purchase.given().when(BOUGHT).then(recorded)
    purchase.given(recorded).when(BOUGHT).then()
    purchase.given(recorded).when(revise).then(revised)
    purchase.given(recorded, revised).when(revise).then()
    purchase.given().when(revise).then_raises(PurchaseNotRecorded, match="o-1: changed before it was captured")


def test_canceled_units_are_counted_once_for_each_message_that_says_so() -> None:
    purchase = spec(PURCHASE, decide_purchase)
    canceled = PurchaseUnitsCanceled(order_id="o-1", lines=(units("1", "TEAPOT", 1),), source="m-1")
    purchase.given().when(RecordCancellation("o-1", canceled.lines, "m-1")).then(canceled)
    purchase.given(canceled).when(RecordCancellation("o-1", canceled.lines, "m-1")).then()


@pytest.mark.parametrize("announced_first", [True, False])
def test_a_purchase_is_delivered_when_its_parcel_is_known_and_arrived_whichever_comes_first(
    announced_first: bool,
) -> None:
    log = Log()
    expect, arrive = ExpectParcel("p-1", "o-1", ALL), RecordDelivery("p-1", MONDAY)
    expected = ("parcel-p-1", ParcelExpected(shipment_id="p-1", order_id="o-1", lines=ALL))
    arrived = ("parcel-p-1", ParcelArrived(shipment_id="p-1", delivered_at=MONDAY))
    delivered = PurchaseDelivered(order_id="o-1", shipment_id="p-1", delivered_at=MONDAY, lines=ALL)
    first, second = (expect, arrive) if announced_first else (arrive, expect)
    assert log.do(first) == [expected if announced_first else arrived]
    assert log.do(second) == [arrived if announced_first else expected, ("purchase-o-1", delivered)]
    assert log.do(expect) == log.do(arrive) == []


def test_facts_of_capture_and_tracking_become_commands() -> None:
    paid = Payment(status="paid", reference="pay-1")
    captured = OrderCaptured(
        order_id="o-1",
        channel="shop",
        external_id="1001",
        placed_at=MONDAY,
        customer_id="c-1",
        destination=BERLIN,
        lines=(TEAPOTS, TOWEL),
        shipping=usd(499),
        shipping_tax=usd(41),
        tax_included=False,
        total=usd(4140),
        payment=paid,
        service_level=ServiceLevel.STANDARD,
        allow_backorder=False,
    )
    revised = OrderRevised(order_id="o-1", revision=2, destination=BERLIN, lines=(TEAPOTS,), total=usd(1), payment=paid)
    canceled = OrderLinesCanceled(
        order_id="o-1", cancellation_id="c", lines=ALL, reason="", whole_order=True, refund=usd(1)
    )
    announced = ShipmentAnnounced(
        shipment_id="p-1",
        order_id="o-1",
        fulfillment_id="f",
        carrier="cedar",
        tracking_number="TEAPOT1",
        shipped_at=MONDAY,
        promised_by=MONDAY,
        lines=ALL,
    )
    arrived = ShipmentDelivered(shipment_id="p-1", scan_id="s", code="x", delivered_at=MONDAY, proof="none")
    released = OrderReleased(
        order_id="o-1",
        channel="shop",
        external_id="1001",
        placed_at=MONDAY,
        destination=BERLIN,
        lines=(),
        service_level=ServiceLevel.STANDARD,
        allow_backorder=True,
    )
    assert command_of(captured, "m") == BOUGHT
    assert command_of(revised, "m") == RevisePurchase("o-1", 2, BERLIN, (TEAPOTS,), "pay-1")
    assert command_of(canceled, "m") == RecordCancellation("o-1", ALL, "m")
    assert command_of(announced, "m") == ExpectParcel("p-1", "o-1", ALL)
    assert command_of(arrived, "m") == RecordDelivery("p-1", MONDAY)
    assert command_of(released, "m") is None


# Requests


def test_delivered_units_within_the_window_may_come_back() -> None:
    log = delivered_order()
    requested = ReturnRequested(
        **IDS, lines=(units("1", "TEAPOT", 2),), reason=ReturnReason.UNWANTED, wanted="refund", note="too small"
    )
    assert log.do(ask(teapots=2, note="too small")) == [
        ("return-r-1", requested),
        ("purchase-o-1", UnitsClaimed(**IDS, lines=(units("1", "TEAPOT", 2),))),
        ("return-r-1", ReturnAuthorized(**IDS, rma=rma_of("r-1"), expires_at=MONDAY + 15 * DAY)),
    ]
    assert log.do(ask(teapots=2, note="too small")) == []


def declined(log: Log, command: RequestReturn) -> tuple[str, ...]:
    _, (stream, answer) = log.do(command)
    assert stream == "return-" + command.return_id
    assert isinstance(answer, ReturnDeclined)
    assert log.back(command.return_id).stage is Stage.DECLINED
    return answer.reasons


def test_a_return_is_declined_with_every_reason() -> None:
    log = delivered_order()
    log.do(ask("r-0", teapots=2))
    both = ask(lines=(units("1", "TEAPOT", 2), units("2", "TOWEL", 1)), at=MONDAY + 31 * DAY)
    assert declined(log, both) == (
        "TEAPOT: 2 asked for, but 2 of 3 delivered are in a return.",
        "TOWEL: final sale, can't be returned.",
        "TEAPOT: 2 asked for, 0 within the 30 days to return it; last delivered 2026-03-02.",
        "TOWEL: 1 asked for, 0 within the 30 days to return it; last delivered 2026-03-02.",
    )


def test_units_that_have_not_arrived_can_not_come_back() -> None:
    log = Log()
    log.do(BOUGHT)
    assert declined(log, ask()) == ("TEAPOT: 1 asked for, 0 delivered so far.",)


def test_the_window_is_counted_from_each_units_own_delivery_and_ends_with_its_last_day() -> None:
    log = Log()
    log.do(BOUGHT, ExpectParcel("p-1", "o-1", (units("1", "TEAPOT", 1),)), RecordDelivery("p-1", MONDAY))
    log.do(ExpectParcel("p-2", "o-1", (units("1", "TEAPOT", 2),)), RecordDelivery("p-2", MONDAY + 10 * DAY))
    late = MONDAY + 35 * DAY
    assert declined(log, ask("r-1", teapots=3, at=late)) == (
        "TEAPOT: 3 asked for, 2 within the 30 days to return it; last delivered 2026-03-12.",
    )
    assert len(log.do(ask("r-2", teapots=2, at=MONDAY + 40 * DAY))) == 3
    log = delivered_order()
    assert len(log.do(ask("r-3", at=MONDAY + 30 * DAY))) == 3


def test_units_in_a_return_count_as_the_oldest_so_newer_ones_keep_their_time() -> None:
    log = Log()
    log.do(BOUGHT, ExpectParcel("p-1", "o-1", (units("1", "TEAPOT", 1),)), RecordDelivery("p-1", MONDAY))
    log.do(ExpectParcel("p-2", "o-1", (units("1", "TEAPOT", 2),)), RecordDelivery("p-2", MONDAY + 10 * DAY))
    log.do(ask("r-1", teapots=1, at=MONDAY + 20 * DAY))
    assert len(log.do(ask("r-2", teapots=2, at=MONDAY + 35 * DAY))) == 3


def test_deliveries_heard_of_in_the_wrong_order_count_by_when_they_were_made() -> None:
    log = Log()
    log.do(BOUGHT, ExpectParcel("p-2", "o-1", (units("1", "TEAPOT", 1),)), RecordDelivery("p-2", MONDAY + 10 * DAY))
    log.do(ExpectParcel("p-1", "o-1", (units("1", "TEAPOT", 2),)), RecordDelivery("p-1", MONDAY))
    log.do(ask("r-1", teapots=2, at=MONDAY + 20 * DAY))
    assert len(log.do(ask("r-2", teapots=1, at=MONDAY + 35 * DAY))) == 3


def test_an_agent_may_let_a_late_return_pass_and_nothing_else() -> None:
    log = delivered_order()
    log.do(ask("r-1", at=MONDAY + 60 * DAY, by="agent", note="a regular"))
    assert log.back().note == "The 30 days to return it are over; an agent let it pass. a regular"
    assert log.back().stage is Stage.AUTHORIZED
    towel = ask("r-2", lines=(units("2", "TOWEL", 1),), by="agent", at=MONDAY + 60 * DAY)
    assert declined(log, towel) == ("TOWEL: final sale, can't be returned.",)


def test_the_policy_may_let_final_sales_come_back_for_our_fault() -> None:
    log = delivered_order(POLICY.model_copy(update={"final_sale_returnable_if_our_fault": True}))
    towel = (units("2", "TOWEL", 1),)
    assert declined(log, ask("r-1", lines=towel)) == ("TOWEL: final sale, can't be returned.",)
    assert len(log.do(ask("r-2", lines=towel, reason=ReturnReason.DAMAGED))) == 3


MUG = ExchangeLine(sku="MUG", quantity=1, unit_price=usd(700))


@pytest.mark.parametrize(
    ("command", "error", "fault"),
    [
        (ask(lines=(units("9", "TEAPOT", 1),)), RequestUnclear, "order o-1 has no line 9; it has 1, 2"),
        (ask(lines=(units("1", "MUG", 1),)), RequestUnclear, "line 1 of order o-1 is TEAPOT, not MUG"),
        (ask(lines=()), RequestUnclear, "names no lines"),
        (ask(wanted="exchange"), RequestUnclear, "an exchange needs `exchange_for`"),
        (ask(exchange_for=(MUG,)), RequestUnclear, "a refund has none"),
        (
            ask(
                wanted="exchange",
                exchange_for=(MUG.model_copy(update={"unit_price": Money(minor=1, currency="EUR")}),),
            ),
            RequestUnclear,
            "an exchange is priced in USD",
        ),
        (
            RequestReturn("r", "o-9", ALL, ReturnReason.OTHER, "refund", MONDAY, "agent"),
            PurchaseNotFound,
            "o-9: no such order",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_not_recorded(
    command: RequestReturn, error: type[Refused], fault: str
) -> None:
    log = delivered_order()
    with pytest.raises(error, match=fault):
        log.do(command)


def test_an_id_names_one_return_only() -> None:
    log = delivered_order()
    log.do(ask())
    with pytest.raises(RequestUnclear, match="is taken by a return of order o-1"):
        log.do(RequestReturn("r-1", "o-2", ALL, ReturnReason.OTHER, "refund", MONDAY, "agent"))


def test_lines_named_twice_are_one_line() -> None:
    log = delivered_order()
    log.do(ask(lines=(units("1", "TEAPOT", 1), units("1", "TEAPOT", 1))))
    assert log.of(UnitsClaimed) == [UnitsClaimed(**IDS, lines=(units("1", "TEAPOT", 2),))]


# Receipts and inspections


def test_goods_may_come_in_several_parcels_and_at_several_places() -> None:
    log = delivered_order()
    log.do(ask(teapots=3))
    came = ReturnReceived(**IDS, location="hamburg", lines=(units("1", "TEAPOT", 1),), receipt_id="g-1")
    assert log.do(receive()) == [("return-r-1", came)]
    assert log.do(receive()) == []
    log.do(receive(teapots=2, receipt="g-2", at="munich"))
    with pytest.raises(NotReceived, match="2 TEAPOT inspected, 1 to inspect at hamburg"):
        log.do(inspect(graded(2)))
    seen = ReturnInspected(**IDS, location="hamburg", lines=(graded(1),), inspection_id="i-1")
    assert log.do(inspect(graded(1))) == [("return-r-1", seen)]
    assert log.do(inspect(graded(1))) == []
    log.do(inspect(graded(2), by="i-2", at="munich"))
    assert log.back().stage is Stage.REFUNDING


def test_other_goods_or_more_of_them_are_refused_with_what_was_expected() -> None:
    log = delivered_order()
    log.do(ask(teapots=2), receive(teapots=1))
    with pytest.raises(UnexpectedGoods, match=r"2 TEAPOT came, 1 more were asked for\. Expected still: 1 TEAPOT"):
        log.do(receive(teapots=2, receipt="g-2"))
    wrong = ReceiveReturn("r-1", "g-3", "hamburg", (units("1", "MUG", 1),), OURS)
    with pytest.raises(UnexpectedGoods, match="1 MUG as line 1 is not part of it"):
        log.do(wrong)
    twice = ReceiveReturn("r-1", "g-3", "hamburg", (units("1", "TEAPOT", 1), units("1", "MUG", 1)), OURS)
    with pytest.raises(UnexpectedGoods, match="line 1 is named as TEAPOT and as MUG"):
        log.do(twice)
    with pytest.raises(UnexpectedGoods, match="nothing was named"):
        log.do(ReceiveReturn("r-1", "g-3", "hamburg", (), OURS))


def test_goods_are_taken_in_at_a_location_of_ours_only() -> None:
    log = delivered_order()
    log.do(ask())
    with pytest.raises(UnknownLocation, match=r"'hamburk' is no location of ours\. Name one of these: hamburg, munich"):
        log.do(receive(at="hamburk"))
    assert log.back().stage is Stage.AUTHORIZED
    assert log.do(receive())


def test_goods_are_taken_in_for_open_returns_only() -> None:
    log = delivered_order()
    with pytest.raises(ReturnNotFound, match="r-1: no such return"):
        log.do(receive())
    log.do(ask(lines=(units("2", "TOWEL", 1),)))
    with pytest.raises(ReturnNotOpen, match="r-1: is declined"):
        log.do(receive())


def test_only_received_goods_can_be_inspected() -> None:
    log = delivered_order()
    log.do(ask())
    with pytest.raises(NotReceived, match="1 TEAPOT inspected, 0 to inspect at hamburg"):
        log.do(inspect(graded(1)))


# Settlement


def refund(goods: int, tax: int, shipping: int, fee: int | None = None, **more: Any) -> RefundRequested:
    fields = IDS | {"payment_reference": "pay-1"} | more
    return RefundRequested(
        **fields,
        refund_id=derived_id("return-refund", fields["return_id"]),
        goods=usd(goods),
        tax=usd(tax),
        shipping=usd(shipping),
        amount=usd(goods + tax + shipping),
        restocking_fee=None if fee is None else usd(fee),
    )


ONE_BACK = UnitsTakenBack(
    **IDS, lines=(units("1", "TEAPOT", 1),), our_fault=False, given=usd(933), restocking_fee=usd(100)
)


def test_what_is_kept_as_a_fee_is_told_also_where_nothing_is_given_back() -> None:
    log = delivered_order(bought=replace(BOUGHT, unpaid=usd(4_140)))
    log.do(ask(), receive())
    assert log.do(inspect(graded(1)))[1:] == [
        ("purchase-o-1", ONE_BACK.model_copy(update={"given": None, "set_off": usd(933), "set_off_tax": usd(33)})),
        ("return-r-1", ReturnClosed(**IDS)),
    ]


def test_with_the_last_unit_inspected_the_refund_is_asked_for_less_the_restocking_fee() -> None:
    log = delivered_order()
    log.do(ask(teapots=2), receive(teapots=2))
    back = UnitsTakenBack(
        **IDS, lines=(units("1", "TEAPOT", 2),), our_fault=False, given=usd(1866), restocking_fee=usd(200)
    )
    assert log.do(inspect(graded(2, Disposition.WRITE_OFF))) == [
        (
            "return-r-1",
            ReturnInspected(**IDS, location="hamburg", lines=(graded(2, Disposition.WRITE_OFF),), inspection_id="i-1"),
        ),
        ("purchase-o-1", back),
        ("return-r-1", refund(1800, 66, 0, fee=200)),
    ]


def test_returns_of_one_line_share_its_tax_to_the_cent() -> None:
    log = delivered_order()
    for number in (1, 2, 3):
        return_id = f"r-{number}"
        log.do(ask(return_id, reason=ReturnReason.DAMAGED), receive(return_id), inspect(graded(1), return_id=return_id))
    assert [each.tax.minor for each in log.of(RefundRequested)] == [33, 33, 34]


def test_units_missing_from_the_box_are_not_paid_for_and_may_be_returned_again() -> None:
    log = delivered_order()
    log.do(ask(teapots=3), receive(teapots=3))
    events = log.do(inspect(graded(1), graded(2, Disposition.MISSING)))
    assert events[1:] == [
        ("purchase-o-1", UnitsGivenBack(**IDS, lines=(units("1", "TEAPOT", 2),))),
        ("purchase-o-1", ONE_BACK),
        ("return-r-1", refund(900, 33, 0, fee=100)),
    ]
    assert len(log.do(ask("r-2", teapots=2))) == 3


def test_a_return_of_nothing_but_missing_units_closes_without_money() -> None:
    log = delivered_order()
    log.do(ask(), receive())
    assert log.do(inspect(graded(1, Disposition.MISSING)))[1:] == [
        ("purchase-o-1", UnitsGivenBack(**IDS, lines=(units("1", "TEAPOT", 1),))),
        ("return-r-1", ReturnClosed(**IDS)),
    ]


def test_a_person_may_settle_with_what_has_come() -> None:
    log = delivered_order()
    log.do(ask(teapots=3), receive(teapots=1))
    close = CloseReceipt("r-1", MONDAY + 3 * DAY)
    with pytest.raises(NotInspected, match="1 received units are not inspected"):
        log.do(close)
    log.do(inspect(graded(1)))
    assert log.back().stage is Stage.RECEIVED
    assert log.do(close) == [
        ("purchase-o-1", UnitsGivenBack(**IDS, lines=(units("1", "TEAPOT", 2),))),
        ("purchase-o-1", ONE_BACK),
        ("return-r-1", refund(900, 33, 0, fee=100)),
    ]
    assert log.do(close) == []
    with pytest.raises(ReturnNotOpen, match="r-1: is refunding"):
        log.do(receive(receipt="g-9"))


ONLY_TEAPOTS = RecordPurchase("o-1", "shop", "c-1", BERLIN, (TEAPOTS,), usd(499), usd(41), False, "pay-1")


def test_shipping_is_refunded_when_all_of_the_order_comes_back_for_our_fault() -> None:
    log = delivered_order(bought=ONLY_TEAPOTS)
    log.do(ask("r-1", 2, reason=ReturnReason.DAMAGED), receive("r-1", 2), inspect(graded(2)))
    assert log.of(RefundRequested)[-1].shipping == usd(0)
    log.do(ask("r-2", 1, reason=ReturnReason.LATE), receive("r-2"), inspect(graded(1), return_id="r-2"))
    assert log.of(RefundRequested)[-1].shipping == usd(540)


def test_shipping_stays_paid_if_any_of_it_came_back_unwanted_or_the_policy_says_so() -> None:
    for policy, first_reason in (
        (POLICY, ReturnReason.UNWANTED),
        (POLICY.model_copy(update={"refund_shipping": False}), ReturnReason.DAMAGED),
    ):
        log = delivered_order(policy, ONLY_TEAPOTS)
        log.do(ask("r-1", 2, reason=first_reason), receive("r-1", 2), inspect(graded(2)))
        log.do(ask("r-2", 1, reason=ReturnReason.LATE), receive("r-2"), inspect(graded(1), return_id="r-2"))
        assert [each.shipping for each in log.of(RefundRequested)] == [usd(0), usd(0)]


def test_canceled_units_need_not_come_back_for_the_shipping() -> None:
    log = Log()
    log.do(ONLY_TEAPOTS, RecordCancellation("o-1", (units("1", "TEAPOT", 1),), "m-1"))
    log.do(ExpectParcel("p-1", "o-1", (units("1", "TEAPOT", 2),)), RecordDelivery("p-1", MONDAY))
    log.do(ask("r-1", 2, reason=ReturnReason.DAMAGED), receive("r-1", 2), inspect(graded(2)))
    assert log.of(RefundRequested)[-1].shipping == usd(540)


def test_where_prices_include_the_tax_it_is_taken_out_of_them() -> None:
    gross = RecordPurchase("o-1", "shop", None, BERLIN, (TEAPOTS,), usd(0), usd(0), True, None)
    log = delivered_order(bought=gross)
    log.do(ask("r-1", 3, reason=ReturnReason.DAMAGED), receive("r-1", 3), inspect(graded(3)))
    assert log.of(RefundRequested) == [refund(2900, 100, 0, payment_reference=None)]


def test_goods_that_cost_nothing_come_back_without_a_refund() -> None:
    gift = RecordPurchase(
        "o-1", "shop", None, BERLIN, (order_line("1", "TEAPOT", 1, 0, 0),), usd(0), usd(0), True, None
    )
    log = delivered_order(bought=gift)
    log.do(ask("r-1"), receive("r-1"))
    assert [type(event) for _, event in log.do(inspect(graded(1)))] == [ReturnInspected, UnitsTakenBack, ReturnClosed]


def exchange(credit: int, *lines: ExchangeLine) -> ExchangeRequested:
    return ExchangeRequested(
        **IDS,
        channel="shop",
        customer_id="c-1",
        destination=BERLIN,
        lines=lines,
        credit=usd(credit),
        requested_at=MONDAY + 2 * DAY,
        payment_reference="pay-1",
    )


def test_an_exchange_is_paid_with_the_returned_goods_and_what_they_are_worth_beyond_it_is_refunded() -> None:
    log = delivered_order()
    log.do(ask(reason=ReturnReason.DAMAGED, wanted="exchange", exchange_for=(MUG,)), receive())
    assert log.do(inspect(graded(1)))[2:] == [
        ("return-r-1", exchange(700, MUG)),
        ("return-r-1", refund(300, 33, 0)),
    ]


def test_an_exchange_for_dearer_goods_takes_all_the_credit_and_closes_the_return() -> None:
    log = delivered_order()
    dear = ExchangeLine(sku="SAMOVAR", quantity=2, unit_price=usd(5000))
    log.do(ask(reason=ReturnReason.DAMAGED, wanted="exchange", exchange_for=(dear,)), receive())
    assert log.do(inspect(graded(1)))[2:] == [
        ("return-r-1", exchange(1033, dear)),
        ("return-r-1", ReturnClosed(**IDS)),
    ]


def test_a_difference_beyond_the_goods_price_is_refunded_out_of_tax() -> None:
    log = delivered_order()
    almost = ExchangeLine(sku="MUG", quantity=1, unit_price=usd(1020))
    log.do(ask(reason=ReturnReason.DAMAGED, wanted="exchange", exchange_for=(almost,)), receive(), inspect(graded(1)))
    assert log.of(RefundRequested) == [refund(0, 13, 0)]


# The end of a return

REFUND_ID = derived_id("return-refund", "r-1")
PAY = RecordRefundPaid("r-1", REFUND_ID, "provider-7", MONDAY + 3 * DAY)
PAID = RefundPaid(
    **IDS, refund_id=REFUND_ID, amount=usd(933), provider_reference="provider-7", refunded_at=MONDAY + 3 * DAY
)


def settled() -> Log:
    log = delivered_order()
    log.do(ask(), receive(), inspect(graded(1)))
    return log


def test_a_paid_refund_closes_the_return() -> None:
    log = settled()
    assert log.do(PAY) == [("return-r-1", PAID), ("return-r-1", ReturnClosed(**IDS))]
    assert log.do(PAY) == []
    assert log.do(RecordRefundFailed("r-1", REFUND_ID, "too late")) == []


def test_a_failed_refund_waits_for_a_person_who_pays_it() -> None:
    log = settled()
    fail = RecordRefundFailed("r-1", REFUND_ID, "card closed")
    assert log.do(fail) == [("return-r-1", RefundFailed(**IDS, refund_id=REFUND_ID, reason="card closed"))]
    assert log.do(fail) == []
    assert return_summary(log.back())["failure"] == "card closed"
    assert log.do(PAY) == [("return-r-1", PAID), ("return-r-1", ReturnClosed(**IDS))]


def test_a_failed_refund_is_asked_for_again_word_for_word() -> None:
    log = settled()
    log.do(RecordRefundFailed("r-1", REFUND_ID, "no answer"))
    asked = log.of(RefundRequested)[-1]
    assert log.do(RetryRefund("r-1")) == [("return-r-1", asked)]
    assert log.do(RetryRefund("r-1")) == []
    assert return_summary(log.back())["status"] == "refunding"
    assert log.do(PAY) == [("return-r-1", PAID), ("return-r-1", ReturnClosed(**IDS))]


def test_a_return_paid_back_to_two_payments_is_closed_once_both_have_their_money() -> None:
    shares = (PaymentShare(reference="gift-card", amount=usd(900)), PaymentShare(reference="pay-1", amount=usd(3240)))
    log = delivered_order(bought=replace(BOUGHT, funds=shares))
    log.do(ask(), receive(), inspect(graded(1)))
    refunds = log.of(RefundRequested)
    assert [(each.payment_reference, each.goods, each.tax, each.restocking_fee) for each in refunds] == [
        ("gift-card", usd(900), usd(0), usd(100)), ("pay-1", usd(0), usd(33), None),
    ]  # fmt: skip
    first, second = (each.refund_id for each in refunds)
    log.do(RecordRefundFailed("r-1", first, "card closed"))
    assert (log.back().stage, log.do(RetryRefund("r-1"))[0][1].refund_id) == (Stage.REFUNDING, first)
    log.do(RecordRefundFailed("r-1", first, "card closed"))
    assert [event.type for _, event in log.do(RecordRefundPaid("r-1", second, "p-2", MONDAY))] == [RefundPaid.type]
    found = return_summary(log.back())
    assert (found["status"], found["failure"], found["refund"]["minor"]) == ("refund failed", "card closed", 933)
    assert [event.refund_id for _, event in log.do(RetryRefund("r-1"))] == [first], "the other one is paid"
    log.do(RecordRefundPaid("r-1", first, "p-1", MONDAY))
    assert log.back().stage is Stage.CLOSED


def test_only_a_refund_that_failed_is_tried_again() -> None:
    log = settled()
    assert log.do(RetryRefund("r-1")) == []
    log.do(PAY)
    with pytest.raises(NoFailedRefund, match="r-1: is closed"):
        log.do(RetryRefund("r-1"))
    with pytest.raises(ReturnNotFound):
        log.do(RetryRefund("r-9"))


def test_word_of_a_refund_nobody_asked_for_is_refused() -> None:
    with pytest.raises(RefundUnknown, match="word of refund x"):
        settled().do(RecordRefundPaid("r-1", "x", "p", MONDAY))
    with pytest.raises(RefundUnknown, match="it asked for none"):
        delivered_order().do(RecordRefundFailed("r-1", "x", "p"))


def test_a_return_of_which_nothing_came_expires_and_its_units_may_be_returned_again() -> None:
    log = delivered_order()
    log.do(ask(teapots=2))
    due = MONDAY + 15 * DAY
    assert log.do(ExpireReturn("r-1", due - DAY)) == []
    assert log.do(ExpireReturn("r-1", due)) == [
        ("return-r-1", ReturnExpired(**IDS, due_at=due)),
        ("purchase-o-1", UnitsGivenBack(**IDS, lines=(units("1", "TEAPOT", 2),))),
        ("return-r-1", ReturnClosed(**IDS)),
    ]
    assert log.back().stage is Stage.EXPIRED
    assert log.do(ExpireReturn("r-1", due)) == []
    assert len(log.do(ask("r-2", teapots=3))) == 3


def test_a_return_of_which_something_came_does_not_expire() -> None:
    log = delivered_order()
    log.do(ask(teapots=2), receive(teapots=1))
    assert log.do(ExpireReturn("r-1", MONDAY + 99 * DAY)) == []


def test_summaries_tell_where_the_units_are() -> None:
    log = delivered_order()
    log.do(ask(teapots=2), receive(teapots=1))
    assert purchase_summary(log.purchase)["lines"][0] == {
        "line_id": "1",
        "sku": "TEAPOT",
        "title": "",
        "quantity": 3,
        "final_sale": False,
        "canceled": 0,
        "delivered": 3,
        "undelivered": 0,
        "in_returns": 2,
        "returned": 0,
        "returnable": 1,
        "creditable": 0,
        "last_delivered_at": MONDAY.isoformat(),
    }
    told = return_summary(log.back())
    assert (told["status"], told["rma"]) == ("received", rma_of("r-1"))
    assert told["to_inspect"] == [{"location": "hamburg", "line_id": "1", "units": 1}]


# The policy


def test_the_built_in_policy_is_whole() -> None:
    policy = read_policy()
    assert (policy.window_days, policy.restocking_fee_percent) == (30, 0)
    assert ReturnReason.UNWANTED not in policy.our_fault


@pytest.mark.parametrize(
    ("was", "now", "fault"),
    [
        ("window_days = 30", "window_days = -1", "window_days: Input should be greater than or equal to 0"),
        ("window_days = 30", 'window_days = "thirty"', "window_days: Input should be a valid integer"),
        ("window_days = 30", "", "window_days: Field required"),
        ("window_days = 30", "window_days = ", "not TOML: "),
        ("window_days = 30", "window_days = 30\nwindow_day = 1", "window_day: Extra inputs are not permitted"),
        ('"damaged", ', '"scratched", ', "our_fault.0: Input should be 'unwanted', 'damaged'"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_key_at_fault(was: str, now: str, fault: str) -> None:
    text = BUILT_IN.read_text(encoding="utf-8").replace(was, now)
    with pytest.raises(PolicyInvalid) as refused:
        parse_policy(text, "mine.toml")
    assert str(refused.value).startswith("mine.toml: ")
    assert fault in str(refused.value)


def test_a_policy_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match=r"nowhere\.toml: can't be read"):
        read_policy(tmp_path / "nowhere.toml")


# Whatever happens

ADAPTERS = {"purchase": TypeAdapter(Purchase), "parcel": TypeAdapter(Parcel), "return": TypeAdapter(Return)}
AMOUNT = st.integers(0, 2_000)


@st.composite
def purchases(draw: st.DrawFn) -> RecordPurchase:
    tax_included = draw(st.booleans())
    lines = []
    for number in range(draw(st.integers(1, 3))):
        quantity, price = draw(st.integers(1, 5)), draw(AMOUNT)
        discount = draw(st.integers(0, price * quantity))
        limit = price * quantity - discount if tax_included else 500
        tax = draw(st.integers(0, limit))
        lines.append(order_line(str(number), f"SKU{number}", quantity, price, tax, discount=usd(discount)))
    shipping, shipping_tax = usd(draw(AMOUNT)), usd(draw(AMOUNT))
    return RecordPurchase("o-1", "shop", None, BERLIN, tuple(lines), shipping, shipping_tax, tax_included, "pay-1")


def charged_for(bought: RecordPurchase) -> int:
    lines = sum(total_of(line, bought.tax_included).minor for line in bought.lines)
    return lines + bought.shipping.minor + bought.shipping_tax.minor


def canceled_share(bought: RecordPurchase, canceled: Mapping[str, int]) -> int:
    """What capture gives back for units canceled, counted from the last of each line."""
    minor = 0
    for line in bought.lines:
        start = line.quantity - canceled.get(line.line_id, 0)
        minor += range_of_units(goods_of(line), start, line.quantity, line.quantity).minor
        if not bought.tax_included:
            minor += range_of_units(line.tax, start, line.quantity, line.quantity).minor
    return minor


def refunded(log: Log) -> int:
    """Asked again for the same refund, the same money is meant."""
    return sum({event.refund_id: event.amount.minor for event in log.of(RefundRequested)}.values())


def credited(log: Log) -> int:
    return sum(event.credit.minor for event in log.of(ExchangeRequested))


def some(data: st.DataObject, most: Mapping[str, int]) -> tuple[LineQuantity, ...]:
    """Some of the units that `most` holds by line."""
    drawn = {line_id: data.draw(st.integers(0, count)) for line_id, count in most.items()}
    return tuple(units(line_id, f"SKU{line_id}", count) for line_id, count in drawn.items() if count)


def cancel_some(log: Log, bought: RecordPurchase, data: st.DataObject) -> dict[str, int]:
    canceled = some(data, {line.line_id: line.quantity for line in bought.lines})
    if canceled and sum(line.quantity for line in canceled) < sum(line.quantity for line in bought.lines):
        log.do(RecordCancellation("o-1", canceled, "m-1"))
        return {line.line_id: line.quantity for line in canceled}
    return {}


@settings(max_examples=100, deadline=None)
@over(purchases(), st.sampled_from([ReturnReason.DAMAGED, ReturnReason.UNWANTED]), st.data())
def test_when_every_unit_comes_back_for_our_fault_all_that_was_charged_goes_back(
    bought: RecordPurchase, reason: ReturnReason, data: st.DataObject
) -> None:
    log = Log(POLICY.model_copy(update={"restocking_fee_percent": 0}))
    log.do(bought)
    canceled = cancel_some(log, bought, data)
    left = {line.line_id: line.quantity - canceled.get(line.line_id, 0) for line in bought.lines}
    all_left = tuple(units(line_id, f"SKU{line_id}", count) for line_id, count in left.items() if count)
    log.do(ExpectParcel("p-1", "o-1", all_left), RecordDelivery("p-1", MONDAY))
    number = 0
    while any(left.values()):
        number += 1
        lines = some(data, left) or tuple(line for line in all_left if left[line.line_id])
        lines = tuple(units(line.line_id, line.sku, min(line.quantity, left[line.line_id])) for line in lines)
        return_id = f"r-{number}"
        graded_lines = tuple(
            InspectedLine(line_id=line.line_id, sku=line.sku, quantity=line.quantity, disposition=Disposition.RESTOCK)
            for line in lines
        )
        log.do(
            ask(return_id, lines=lines, reason=reason),
            ReceiveReturn(return_id, "g", "hamburg", lines, OURS),
            InspectReturn(return_id, "i", "hamburg", graded_lines, MONDAY + DAY),
        )
        for line in lines:
            left[line.line_id] -= line.quantity
    back = refunded(log) + canceled_share(bought, canceled)
    kept = 0 if reason is ReturnReason.DAMAGED else bought.shipping.minor + bought.shipping_tax.minor
    assert back == charged_for(bought) - kept


def mixed_commands(data: st.DataObject, most: Mapping[str, int]) -> Iterable[Command]:
    """Any commands to any of three returns, sensible or not."""
    for step in range(data.draw(st.integers(0, 14))):
        return_id = data.draw(st.sampled_from(["r-1", "r-2", "r-3"]))
        lines = some(data, most)
        at = MONDAY + data.draw(st.integers(0, 40)) * DAY
        location = data.draw(st.sampled_from(["hamburg", "munich"]))
        wants_other = data.draw(st.booleans())
        yield data.draw(
            st.sampled_from(
                [
                    RequestReturn(
                        return_id,
                        "o-1",
                        lines,
                        data.draw(st.sampled_from(ReturnReason)),
                        "exchange" if wants_other else "refund",
                        at,
                        data.draw(st.sampled_from(["customer", "agent"])),
                        (MUG,) if wants_other else (),
                    ),
                    ReceiveReturn(return_id, f"g-{step}", location, lines, OURS),
                    InspectReturn(
                        return_id,
                        f"i-{step}",
                        location,
                        tuple(
                            InspectedLine(
                                line_id=line.line_id,
                                sku=line.sku,
                                quantity=line.quantity,
                                disposition=data.draw(st.sampled_from(Disposition)),
                            )
                            for line in lines
                        ),
                        at,
                    ),
                    WaiveGoods(return_id, at),
                    CloseReceipt(return_id, at),
                    ExpireReturn(return_id, at),
                    RecordRefundPaid(return_id, derived_id("return-refund", return_id), "p", at),
                    RecordRefundFailed(return_id, derived_id("return-refund", return_id), "no"),
                    RetryRefund(return_id),
                    ExpectParcel("p-2", "o-1", lines),
                    RecordDelivery(data.draw(st.sampled_from(["p-1", "p-2"])), at),
                    RecordUndelivered(
                        data.draw(st.sampled_from(["p-1", "p-2"])), data.draw(st.sampled_from(["lost", "came-back"]))
                    ),
                ]
            )
        )


@settings(max_examples=100, deadline=None)
@over(purchases(), st.data())
def test_no_unit_comes_back_twice_and_never_more_goes_back_than_was_charged(
    bought: RecordPurchase, data: st.DataObject
) -> None:
    log = Log()
    log.do(bought)
    canceled = cancel_some(log, bought, data)
    left = {line.line_id: line.quantity - canceled.get(line.line_id, 0) for line in bought.lines}
    all_left = tuple(units(line_id, f"SKU{line_id}", count) for line_id, count in left.items() if count)
    log.do(ExpectParcel("p-1", "o-1", all_left))
    if data.draw(st.booleans()):
        log.do(RecordDelivery("p-1", MONDAY))
    else:
        log.do(RecordUndelivered("p-1", "lost"))
    for command in mixed_commands(data, {line_id: count for line_id, count in left.items() if count}):
        try:
            log.do(command)
        except OrdermillError:
            continue
        assert log.do(command) == []
        for line in bought.lines:
            count = log.purchase.of(line.line_id)
            assert 0 <= count.taken <= count.claimed <= left[line.line_id]
            assert 0 <= count.taken_undelivered <= count.claimed_undelivered <= max(count.undelivered, 0)
            assert count.claimed_delivered >= 0
        assert refunded(log) + credited(log) + canceled_share(bought, canceled) <= charged_for(bought)
        assert all(event.amount == event.goods + event.tax + event.shipping for event in log.of(RefundRequested))
    for stream, event in log.events:
        assert through_json(event) == event
        assert stream.partition("-")[0] in DECIDERS
    for stream, state in log.states.items():
        adapter: TypeAdapter[Any] = ADAPTERS[stream.partition("-")[0]]
        assert adapter.validate_json(adapter.dump_json(state)) == state
        refolded = DECIDERS[stream.partition("-")[0]].fold(event for to, event in log.events if to == stream)
        assert refolded == state


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 5_000])
def test_a_policy_that_is_a_bomb_is_invalid(value: str) -> None:
    with pytest.raises(PolicyInvalid, match="not TOML"):
        parse_policy(f"window_days = {value}", "mine.toml")
