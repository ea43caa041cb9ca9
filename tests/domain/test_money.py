"""An order's money in both hands: capture, which charges it, and returns, which hears of it and gives some back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from ordermill.audit import Auditor
from ordermill.contracts.base import Fact
from ordermill.contracts.capture import CancellationRefundRequested, HoldReason
from ordermill.contracts.channel import Payment
from ordermill.contracts.fields import LineQuantity, Money, PaymentShare
from ordermill.contracts.returns import (
    Disposition,
    ExchangeLine,
    ExchangeRequested,
    InspectedLine,
    RefundRequested,
    ReturnReason,
)
from services.capture.domain import (
    CaptureExchange,
    CaptureOrder,
    Order,
    RecordLetGo,
    RecordShipped,
    ReleaseHold,
    Stage,
    decide,
    orders,
)
from services.returns.domain import InspectReturn, ReceiveReturn, RequestReturn, command_of
from services.returns.domain.purchase import ExpectParcel, Purchase, RecordDelivery
from tests.domain.test_capture import (
    MONDAY,
    ORDER,
    PAID,
    PENDING,
    PLACED,
    cancel,
    change,
    changed,
    changes,
    placed_orders,
    units,
    usd,
)
from tests.domain.test_returns import POLICY, Log

DAY = timedelta(days=1)


class Both:
    """Capture's order, and returns, to which all that capture says is told at once."""

    def __init__(self, *commands: Any) -> None:
        self.order = Order()
        self.returns = Log(POLICY.model_copy(update={"restocking_fee_percent": 0}))
        self.told: list[Fact] = []
        self.most_charged = 0
        self.brought: Counter[str | None] = Counter()
        """By payment, the most that it was ever said to have brought."""
        self._steps = 0
        self.capture(*commands)

    def capture(self, *commands: Any) -> None:
        for command in commands:
            for fact in decide(self.order, command):
                self.told.append(fact)
                self.order = orders.fold([fact], self.order)
                self.most_charged = max(self.most_charged, self.order.charged_minor)
                self._bring()
                if (heard := command_of(fact, f"m-{len(self.told)}")) is not None:
                    self.returns.do(heard)

    def _bring(self) -> None:
        held: Counter[str | None] = Counter()
        for fund in self.order.funds:
            held[fund.reference] += fund.minor
        asked = Counter[str | None]()
        for fact in self.told:
            if isinstance(fact, CancellationRefundRequested):
                asked[fact.payment_reference] += fact.amount.minor
        for reference, minor in held.items():
            self.brought[reference] = max(self.brought[reference], minor + asked[reference])

    @property
    def asked(self) -> Counter[str | None]:
        """By payment, what is to go back or pays for other goods."""
        found = Counter[str | None]()
        for fact in (*self.told, *self.returns.of(RefundRequested)):
            if isinstance(fact, CancellationRefundRequested | RefundRequested):
                found[fact.payment_reference] += fact.amount.minor
        for exchange in self.returns.of(ExchangeRequested):
            for share in exchange.funds or (
                PaymentShare(reference=exchange.payment_reference, amount=exchange.credit),
            ):
                found[share.reference] += share.amount.minor
        return found

    def deliver(self, *lines: LineQuantity) -> None:
        self._steps += 1
        parcel = f"p-{self._steps}"
        self.capture(RecordShipped(ORDER, f"s-{self._steps}", f"f-{self._steps}", lines))
        self.returns.do(ExpectParcel(parcel, ORDER, lines), RecordDelivery(parcel, MONDAY))

    def bring_back(
        self, *lines: LineQuantity, reason: ReturnReason = ReturnReason.UNWANTED, other: tuple[ExchangeLine, ...] = ()
    ) -> None:
        self._steps += 1
        name = f"r-{self._steps}"
        wanted = "exchange" if other else "refund"
        restocked = tuple(InspectedLine(**line.model_dump(), disposition=Disposition.RESTOCK) for line in lines)
        self.returns.do(
            RequestReturn(name, ORDER, lines, reason, wanted, MONDAY + DAY, "agent", exchange_for=other),  # type: ignore[arg-type]
            ReceiveReturn(name, "g", "hamburg", lines, frozenset({"hamburg"})),
            InspectReturn(name, "i", "hamburg", restocked, MONDAY + 2 * DAY),
        )

    @property
    def purchase(self) -> Purchase:
        found: Purchase = self.returns[f"purchase-{ORDER}"]
        return found

    @property
    def by_capture(self) -> int:
        return sum(fact.amount.minor for fact in self.told if isinstance(fact, CancellationRefundRequested))

    @property
    def by_returns(self) -> int:
        return sum(event.amount.minor for event in self.returns.of(RefundRequested))


ALL = (units("1", 3), units("2", 1))


def wrong_money(both: Both) -> list[str]:
    """What an audit says of it."""
    auditor = Auditor(settled=False, events=100)
    for seq, event in enumerate(both.told, 1):
        auditor.read("capture", seq, f"order-{ORDER}", event.type, event.to_json())
    for seq, (stream, event) in enumerate(both.returns.events, 1):
        auditor.read("returns", seq, stream, event.type, event.to_json())
    return [found.text for found in auditor.close().violations if found.check == "money"]


def mug(price: int) -> ExchangeLine:
    return ExchangeLine(sku="MUG", quantity=1, unit_price=usd(price))


def ordered_instead(both: Both) -> CaptureExchange:
    (asked,) = both.returns.of(ExchangeRequested)
    return CaptureExchange(
        ORDER, asked.return_id, asked.requested_at, asked.destination, asked.lines, asked.credit,
        payment_reference=asked.payment_reference, funds=asked.funds,
    )  # fmt: skip


def test_nothing_goes_back_of_what_was_never_charged() -> None:
    lifted = Both(replace(PLACED, payment=PENDING), ReleaseHold(ORDER, HoldReason.PAYMENT, "will pay later"))
    fell_through = Both(replace(PLACED, payment=Payment(status="authorized", reference="pay-1")))
    fell_through.capture(change(1, payment=PENDING))
    for both in (lifted, fell_through):
        both.deliver(*ALL)
        both.bring_back(*ALL)
        assert (both.order.charged_minor, both.by_returns) == (0, 0)


def test_once_it_is_paid_returned_goods_are_worth_what_they_cost() -> None:
    both = Both(replace(PLACED, payment=PENDING), ReleaseHold(ORDER, HoldReason.PAYMENT, "will pay later"))
    both.deliver(*ALL)
    both.capture(change(1, payment=PAID))
    both.bring_back(units("2", 1))
    assert both.by_returns == 540


def test_the_worth_of_returned_goods_is_set_off_against_what_is_unpaid_first() -> None:
    deposit = Payment(status="pending", reference="pay-1", paid=usd(4000))
    both = Both(replace(PLACED, payment=deposit), ReleaseHold(ORDER, HoldReason.PAYMENT, "a deposit is enough"))
    assert both.purchase.unpaid_minor == both.order.unpaid_minor == 340
    both.deliver(*ALL)
    both.bring_back(units("2", 1))
    assert both.by_returns == 540 - 340
    both.bring_back(units("1", 3))
    assert both.by_returns == 540 - 340 + 3150


TWO_CARDS = (
    replace(PLACED, payment=Payment(status="pending", reference="pay-1", paid=usd(4000))),
    change(1, payment=Payment(status="paid", reference="pay-2")),
)
"""Of 43.40, 40.00 are paid by one card and 3.40 by another."""


def test_what_a_return_is_worth_goes_back_to_each_payment_no_more_than_it_brought() -> None:
    both = Both(*TWO_CARDS)
    both.deliver(*ALL)
    both.bring_back(*ALL, reason=ReturnReason.DAMAGED)
    assert [(each.payment_reference, each.amount.minor) for each in both.returns.of(RefundRequested)] == [
        ("pay-1", 4000), ("pay-2", 340),
    ]  # fmt: skip
    assert len({each.refund_id for each in both.returns.of(RefundRequested)}) == 2
    assert wrong_money(both) == []


@pytest.mark.parametrize("first", ["canceled", "returned"])
def test_a_return_and_a_cancellation_never_ask_one_payment_for_the_same_money(first: str) -> None:
    both = Both(*TWO_CARDS)
    both.deliver(units("1", 3))
    for what in sorted(("canceled", "returned"), key=lambda what: what != first):
        if what == "canceled":
            both.capture(RecordLetGo(ORDER, "e1", (units("2", 1),), "shortage"))
        else:
            both.bring_back(units("1", 3))
    assert both.asked == {"pay-1": 3150 + 540 - 340, "pay-2": 340}


def test_the_credit_of_an_exchange_comes_from_the_payments_that_bought_the_first_goods() -> None:
    both = Both(*TWO_CARDS)
    both.deliver(*ALL)
    both.bring_back(*ALL, reason=ReturnReason.DAMAGED, other=(mug(4340),))
    instead = orders.fold(decide(Order(), ordered_instead(both)))
    assert [(fund.reference, fund.minor) for fund in instead.funds] == [("pay-1", 4000), ("pay-2", 340)]
    lost = decide(instead, RecordLetGo(ORDER, "e1", (LineQuantity(line_id="1", sku="MUG", quantity=1),), "shortage"))
    assert [(each.payment_reference, each.amount.minor) for each in lost[1:]] == [("pay-2", 340), ("pay-1", 4000)]


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_set_off_goes_back_once_it_is_paid_after_all(whole: bool) -> None:
    deposit = Payment(status="pending", reference="pay-1", paid=usd(1000))
    both = Both(replace(PLACED, payment=deposit), ReleaseHold(ORDER, HoldReason.PAYMENT, "a deposit is enough"))
    both.deliver(*ALL)
    both.bring_back(units("2", 1))
    both.bring_back(units("1", 3))
    assert both.by_returns == 350, "of 36.90 that came back, 33.40 are unpaid"
    both.capture(change(1, payment=Payment(status="pending", reference="pay-1", paid=usd(4340 if whole else 2000))))
    assert both.by_returns == (3690 if whole else 1350)
    both.capture(change(2, payment=Payment(status="paid", reference="pay-2")))
    assert (both.by_returns, both.purchase.set_off_minor) == (3690, 0)
    assert both.asked <= both.brought
    refunds = both.returns.of(RefundRequested)
    assert (sum(each.goods.minor for each in refunds), sum(each.tax.minor for each in refunds)) == (3400, 290)
    assert wrong_money(both) == []


def test_what_was_set_off_goes_back_once_so_much_is_not_owed_any_more() -> None:
    deposit = Payment(status="pending", reference="pay-1", paid=usd(3800))
    both = Both(replace(PLACED, payment=deposit), ReleaseHold(ORDER, HoldReason.PAYMENT, "a deposit is enough"))
    both.deliver(units("2", 1))
    both.bring_back(units("2", 1))
    assert both.by_returns == 0
    both.capture(RecordLetGo(ORDER, "e1", (units("1", 1),), "shortage"))
    assert (both.by_capture, both.by_returns) == (511, 540), "of 10.51 that are canceled and 5.40 that came back"


def test_a_payment_that_gives_way_to_another_takes_no_money_of_an_earlier_one_with_it() -> None:
    deposit = replace(PLACED, payment=Payment(status="pending", reference="pay-1", paid=usd(4000)))
    both = Both(deposit, change(1, payment=Payment(status="authorized", reference="pay-2")))
    both.capture(change(2, payment=Payment(status="paid", reference="pay-3")))
    assert [(fund.reference, fund.minor) for fund in both.order.funds] == [("pay-1", 4000), ("pay-3", 340)]


def test_what_was_paid_before_an_authorization_that_fell_through_is_held_all_the_same() -> None:
    deposit = replace(PLACED, payment=Payment(status="pending", reference="pay-1", paid=usd(4000)))
    both = Both(deposit, change(1, payment=Payment(status="authorized", reference="pay-2")))
    both.capture(change(2, payment=Payment(status="pending")))
    assert (both.order.held_minor, both.order.unpaid_minor) == (4000, 340)
    both.capture(RecordLetGo(ORDER, "e1", (units("1", 3), units("2", 1)), "shortage"))
    assert both.asked == {"pay-1": 4000}


def test_what_the_channel_gave_back_for_units_that_shipped_all_the_same_is_not_given_back_for_their_return() -> None:
    both = Both(PLACED, cancel("c1", changed("2", 1), refunded=usd(540)))
    both.deliver(*ALL)
    assert both.purchase.unpaid_minor == 540
    both.bring_back(units("2", 1))
    assert both.by_returns == 0
    both.bring_back(units("1", 1))
    assert both.by_returns == 1049


def test_the_goods_of_an_exchange_are_refunded_to_the_payment_that_bought_the_first_ones() -> None:
    both = Both(PLACED)
    both.deliver(*ALL)
    both.bring_back(units("2", 1), other=(mug(540),))
    instead = orders.fold(decide(Order(), ordered_instead(both)))
    assert [
        each.payment_reference for each in decide(instead, cancel("c1")) if hasattr(each, "payment_reference")
    ] == []
    refused = decide(instead, RecordLetGo(ORDER, "e1", (LineQuantity(line_id="1", sku="MUG", quantity=1),), "shortage"))
    assert [(each.payment_reference, each.amount.minor) for each in refused[1:]] == [("pay-1", 540)]


def test_the_credit_of_a_dearer_exchange_is_not_lost_with_it() -> None:
    both = Both(PLACED)
    both.deliver(*ALL)
    both.bring_back(units("2", 1), other=(mug(2000),))
    assert both.by_returns == 0
    instead = orders.fold(decide(Order(), ordered_instead(both)))
    assert (instead.charged_minor, instead.unpaid_minor) == (540, 1460)
    assert [each.amount.minor for each in decide(instead, cancel("c1"))[1:]] == [540]


def test_the_audit_sees_more_go_back_than_was_charged() -> None:
    both = Both(replace(PLACED, payment=PENDING), ReleaseHold(ORDER, HoldReason.PAYMENT, "will pay later"))
    auditor = Auditor(settled=False, events=100)
    for seq, event in enumerate(both.told, 1):
        auditor.read("capture", seq, f"order-{ORDER}", event.type, event.to_json())
    paid = Both(PLACED)
    paid.deliver(*ALL)
    paid.bring_back(*ALL)
    for seq, (stream, event) in enumerate(paid.returns.events, 1):
        auditor.read("returns", seq, stream, event.type, event.to_json())
    assert "charged 0, 3690 minor units went back" in [v.text for v in auditor.close().violations if v.check == "money"]


payments = st.sampled_from(
    (
        PAID, PENDING, Payment(status="invoice"), Payment(status="authorized", reference="pay-2"),
        Payment(status="pending", reference="pay-3", paid=usd(900)), Payment(status="paid"),
    )
)  # fmt: skip
STEPS = ("change", "pay", "cancel", "given back", "release", "let go", "ship", "return", "return")


@settings(max_examples=150)
@over(placed_orders(), payments, st.data())
def test_whatever_is_changed_called_off_paid_and_returned_no_more_goes_back_than_was_charged(
    placed: CaptureOrder, payment: Payment, data: st.DataObject
) -> None:
    both = Both(replace(placed, payment=payment, risk=data.draw(st.sampled_from(("low", "high"))), address_faults=()))
    for step in range(1, data.draw(st.integers(1, 14))):
        take(both, step, data)
        order, purchase = both.order, both.purchase
        assert purchase.bought == order.open_units
        assert purchase.unpaid_minor == order.unpaid_minor
        assert both.by_returns + order.refund_minor <= both.most_charged
        assert both.asked <= both.brought
        for line in order.lines:
            of = purchase.of(line.line_id)
            assert of.taken <= of.claimed <= of.delivered <= order.open_of(line)
        assert purchase.set_off_minor <= purchase.unpaid_minor
        if order.open_units and purchase.taken == order.open_units:
            carriage = placed.shipping.minor + placed.shipping_tax.minor
            assert order.unpaid_minor or order.owed_minor - both.by_returns in (0, carriage)


def take(both: Both, step: int, data: st.DataObject) -> None:
    order = both.order
    line, units_of_it = data.draw(st.sampled_from(order.lines)), data.draw(st.integers(1, 4))
    some = LineQuantity(line_id=line.line_id, sku=line.sku, quantity=units_of_it)
    released = order.stage is Stage.RELEASED
    match data.draw(st.sampled_from(STEPS)):
        case "change":
            both.capture(replace(data.draw(changes), revision=step, payment=None, destination=None))
        case "pay":
            both.capture(change(step, payment=data.draw(payments)))
        case "cancel":
            both.capture(cancel(f"c{step}", changed(line.line_id, units_of_it)))
        case "given back" if not both.purchase.taken:
            amount: Money = data.draw(st.sampled_from((usd(1), usd(700), usd(9_000))))
            both.capture(cancel(f"c{step}", changed(line.line_id, units_of_it), refunded=amount))
        case "release":
            both.capture(ReleaseHold(ORDER, HoldReason.FRAUD_RISK), ReleaseHold(ORDER, HoldReason.PAYMENT))
        case "let go" if released:
            both.capture(RecordLetGo(ORDER, f"e{step}", (some,), "shortage"))
        case "ship" if released and order.here_of(line):
            both.deliver(some.model_copy(update={"quantity": min(units_of_it, order.here_of(line))}))
        case "return":
            of = both.purchase.of(line.line_id)
            if back := min(units_of_it, of.delivered - of.claimed):
                why = data.draw(st.sampled_from((ReturnReason.DAMAGED, ReturnReason.UNWANTED)))
                both.bring_back(some.model_copy(update={"quantity": back}), reason=why)


def test_two_lines_of_one_article_are_counted_together_where_too_many_are_refused() -> None:
    both = Both(PLACED)
    both.deliver(*ALL)
    twice = (units("1", 600_000), units("1", 600_000))
    with pytest.raises(Exception, match="more than 1,000,000 units"):
        both.returns.do(RequestReturn("r-9", ORDER, twice, ReturnReason.UNWANTED, "refund", MONDAY + DAY, "customer"))
    both.returns.do(RequestReturn("r-9", ORDER, (units("1", 3),), ReturnReason.UNWANTED, "refund", MONDAY, "customer"))
    with pytest.raises(Exception, match="more than 1,000,000 units"):
        both.returns.do(ReceiveReturn("r-9", "g", "hamburg", twice, frozenset({"hamburg"})))
