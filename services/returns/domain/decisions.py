"""Whether goods may come back, what of them did, and what that is worth.

A return and its purchase decide together: the return's stream tells its story, the purchase's stream says which units
are spoken for and how many were credited, so that no unit comes back twice and all refunds add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never

from ordermill.contracts.base import Fact
from ordermill.contracts.capture import ChannelRefunded, OrderCaptured, OrderLine, OrderLinesCanceled, OrderRevised
from ordermill.contracts.fields import MAX_MINOR, LineQuantity, Money
from ordermill.contracts.returns import (
    ExchangeRequested,
    GoodsWaived,
    InspectedLine,
    PurchaseRevised,
    PurchaseUnitsCanceled,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnAuthorized,
    ReturnClosed,
    ReturnDeclined,
    ReturnEvent,
    ReturnExpired,
    ReturnInspected,
    ReturnReason,
    ReturnReceived,
    ReturnRequested,
    ReturnShare,
    UnitsClaimed,
    UnitsGivenBack,
    UnitsTakenBack,
)
from ordermill.contracts.tracking import ShipmentAnnounced, ShipmentCameBack, ShipmentDelivered, ShipmentLost
from ordermill.decider import Decision, Recorded, decision
from ordermill.ids import derived_id
from ordermill.money import RefundStage
from ordermill.replacing import replace

from ..errors import (
    ArrivedAfterAll,
    NoFailedRefund,
    NotInspected,
    NotReceived,
    PurchaseNotFound,
    RefundUnknown,
    RequestUnclear,
    ReturnNotFound,
    ReturnNotOpen,
    UnexpectedGoods,
    UnknownLocation,
)
from ..policy import ReturnPolicy
from .commands import (
    CloseReceipt,
    Command,
    ExpireReturn,
    InspectReturn,
    ReceiveReturn,
    RecordRefundFailed,
    RecordRefundPaid,
    RefundCommand,
    RequestReturn,
    RetryRefund,
    WaiveGoods,
)
from .life import RETURN, Return, ReturnLine, Stage, evolve, rma_of
from .purchase import (
    PARCEL,
    PURCHASE,
    ExpectParcel,
    ParcelCommand,
    Purchase,
    PurchaseCommand,
    RecordCancellation,
    RecordDelivery,
    RecordPurchase,
    RecordRefundElsewhere,
    RecordUndelivered,
    RevisePurchase,
    SetOff,
    Units,
    decide_parcel,
    decide_purchase,
    drawn,
    evolve_purchase,
    in_window,
    never_arrived,
    paid_after_all,
    returnable,
    shipping_of,
    unpaid_of,
    worth_of,
)

MAX_UNITS = 1_000_000
"""Most units of one line, and of one order."""


def request_return(states: Mapping[str, Any], command: RequestReturn, policy: ReturnPolicy) -> Recorded:
    """A request that makes sense is recorded and answered: authorized, or declined with every reason.

    Raises PurchaseNotFound and RequestUnclear.
    """
    stream, purchase_stream = RETURN.stream(command.return_id), PURCHASE.stream(command.order_id)
    current: Return = states[stream]
    purchase: Purchase = states[purchase_stream]
    if current.stage is not None:
        if current.order_id != command.order_id:
            raise RequestUnclear(command.return_id, f"is taken by a return of order {current.order_id}; use another id")
        return []
    if not purchase.recorded:
        raise PurchaseNotFound(command.order_id)
    wanted = _wanted(command, purchase)
    lines = tuple(LineQuantity(line_id=line.line_id, sku=line.sku, quantity=units) for line, units in wanted)
    at, window = command.requested_at, timedelta(days=policy.window_days)
    undelivered = command.reason is ReturnReason.NOT_DELIVERED
    late = []
    if undelivered:
        reasons = _arrived(purchase, wanted)
    else:
        late = [(line, units) for line, units in wanted if _past_window(purchase.of(line.line_id), units, at, window)]
        reasons = _objections(purchase, wanted, command.reason, policy)
    note = command.note
    if late and command.by == "agent":
        note = f"The {policy.window_days} days to return it are over; an agent let it pass. {note}".strip()[:500]
    else:
        reasons += [_too_late(purchase.of(line.line_id), line, units, at, policy) for line, units in late]
    ids = {"return_id": command.return_id, "order_id": command.order_id}
    requested = ReturnRequested(
        **ids,
        lines=lines,
        reason=command.reason,
        wanted=command.wanted,
        exchange_for=command.exchange_for,
        note=note,
    )
    if reasons:
        return [(stream, requested), (stream, ReturnDeclined(**ids, reasons=tuple(reasons)))]
    expires_at = at + timedelta(days=policy.authorization_days)
    return [
        (stream, requested),
        (purchase_stream, UnitsClaimed(**ids, lines=lines, undelivered=undelivered)),
        (stream, ReturnAuthorized(**ids, rma=rma_of(command.return_id), expires_at=expires_at)),
    ]


def _wanted(command: RequestReturn, purchase: Purchase) -> list[tuple[OrderLine, int]]:
    """The order's lines that are asked for, each once. Raises RequestUnclear."""
    bought = {line.line_id: line for line in purchase.lines}
    units: dict[str, int] = {}
    for line in command.lines:
        known = bought.get(line.line_id)
        if known is None:
            fault = f"order {command.order_id} has no line {line.line_id}; it has {', '.join(bought)[:300]}"
            raise RequestUnclear(command.return_id, fault)
        if known.sku != line.sku:
            fault = f"line {line.line_id} of order {command.order_id} is {known.sku}, not {line.sku}"
            raise RequestUnclear(command.return_id, fault)
        units[line.line_id] = units.get(line.line_id, 0) + line.quantity
    if not units:
        raise RequestUnclear(command.return_id, "names no lines; say which units come back")
    if max(units.values()) > MAX_UNITS:
        raise RequestUnclear(command.return_id, f"more than {MAX_UNITS:,} units of one line; say how many come back")
    if (command.wanted == "exchange") != bool(command.exchange_for):
        raise RequestUnclear(command.return_id, "an exchange needs `exchange_for`, a refund has none")
    for other in command.exchange_for:
        if other.unit_price.currency != purchase.currency or other.unit_price.minor < 0:
            fault = f"{other.sku} at {other.unit_price}: an exchange is priced in {purchase.currency}, from 0 on"
            raise RequestUnclear(command.return_id, fault)
    wanted = sum(other.quantity for other in command.exchange_for)
    price = sum(other.unit_price.minor * other.quantity for other in command.exchange_for)
    if wanted > MAX_UNITS or price > MAX_MINOR:
        raise RequestUnclear(command.return_id, f"{wanted:,} units wanted for it, {price:,} minor units: no such order")
    return [(bought[line_id], count) for line_id, count in units.items()]


def _objections(
    purchase: Purchase, wanted: Iterable[tuple[OrderLine, int]], reason: ReturnReason, policy: ReturnPolicy
) -> list[str]:
    reasons = []
    for line, asked in wanted:
        units = purchase.of(line.line_id)
        excused = policy.final_sale_returnable_if_our_fault and reason in policy.our_fault
        if line.final_sale and not excused:
            reasons.append(f"{line.sku}: final sale, can't be returned.")
        if asked > units.delivered:
            reasons.append(f"{line.sku}: {asked} asked for, {units.delivered} delivered so far.")
        elif asked > returnable(line, units):
            reasons.append(
                f"{line.sku}: {asked} asked for, but {units.claimed_delivered} of {units.delivered} delivered are in "
                "a return."
            )
    return reasons


def _arrived(purchase: Purchase, wanted: Iterable[tuple[OrderLine, int]]) -> list[str]:
    """What of it is not known to be lost or back at its sender. No window and no final sale: nothing was had."""
    return [
        f"{line.sku}: {asked} asked for, {there} in parcels that are lost or came back."
        for line, asked in wanted
        if asked > (there := never_arrived(line, purchase.of(line.line_id)))
    ]


def _past_window(units: Units, asked: int, at: datetime, window: timedelta) -> bool:
    return in_window(units, at, window) < min(asked, units.delivered - units.claimed_delivered)


def _too_late(units: Units, line: OrderLine, asked: int, at: datetime, policy: ReturnPolicy) -> str:
    days = policy.window_days
    inside = in_window(units, at, timedelta(days=days))
    last = units.deliveries[-1].delivered_at
    return (
        f"{line.sku}: {asked} asked for, {inside} within the {days} days to return it; last delivered {last:%Y-%m-%d}."
    )


def receive_return(states: Mapping[str, Any], command: ReceiveReturn) -> Recorded:
    """Book goods in, in one go or several. Raises ReturnNotFound, ReturnNotOpen, UnknownLocation and
    UnexpectedGoods.
    """
    stream = RETURN.stream(command.return_id)
    current = _open(states[stream], command.return_id)
    if command.receipt_id in current.receipts:
        return []
    if current.stage not in (Stage.AUTHORIZED, Stage.RECEIVED):
        raise ReturnNotOpen(command.return_id, str(current.stage))
    if command.location not in command.locations:
        raise UnknownLocation(command.return_id, command.location, command.locations)
    lines, faults = merged(command.lines)
    expected = {line.line_id: line for line in current.lines}
    for line in lines:
        due = expected.get(line.line_id)
        if due is None or due.sku != line.sku:
            faults.append(f"{line.quantity} {line.sku} as line {line.line_id} is not part of it")
        elif line.quantity > due.to_come:
            faults.append(f"{line.quantity} {line.sku} came, {due.to_come} more were asked for")
    if faults or not lines:
        still = (f"{due.to_come} {due.sku}" for due in current.lines if due.to_come)
        raise UnexpectedGoods(command.return_id, faults or ["nothing was named"], still)
    received = ReturnReceived(
        return_id=command.return_id,
        order_id=current.order_id,
        location=command.location,
        lines=lines,
        receipt_id=command.receipt_id,
    )
    return [(stream, received)]


def inspect_return(states: Mapping[str, Any], command: InspectReturn, policy: ReturnPolicy) -> Recorded:
    """Record what received goods are fit for; with the last of them, settle. Raises ReturnNotFound and NotReceived."""
    stream = RETURN.stream(command.return_id)
    current = _open(states[stream], command.return_id)
    if command.inspection_id in current.inspections:
        return []
    if current.stage not in (Stage.AUTHORIZED, Stage.RECEIVED):
        raise ReturnNotOpen(command.return_id, str(current.stage))
    lines, faults = merged(command.lines)
    skus = {line.line_id: line.sku for line in current.lines}
    for line in lines:
        here = current.to_inspect.get(f"{command.location}/{line.line_id}", 0)
        at_hand = here if skus.get(line.line_id) == line.sku else 0
        if line.quantity > at_hand:
            faults.append(f"{line.quantity} {line.sku} inspected, {at_hand} to inspect at {command.location}")
    if faults or not lines:
        raise NotReceived(command.return_id, faults or ["nothing was named"])
    inspected = ReturnInspected(
        return_id=command.return_id,
        order_id=current.order_id,
        location=command.location,
        lines=command.lines,
        inspection_id=command.inspection_id,
    )
    current = evolve(current, inspected)
    if any(line.inspected < line.asked for line in current.lines):
        return [(stream, inspected)]
    purchase = states[PURCHASE.stream(current.order_id)]
    return [(stream, inspected), *_settle(current, purchase, command.inspected_at, policy)]


def waive_goods(states: Mapping[str, Any], command: WaiveGoods, policy: ReturnPolicy) -> Recorded:
    """Credit what has not come as if it had, and settle: goods that are lost, or not worth their way back.

    Raises ReturnNotFound, ReturnNotOpen, NotInspected, and ArrivedAfterAll for a lost parcel that is not lost.
    """
    stream = RETURN.stream(command.return_id)
    current = _open(states[stream], command.return_id)
    if any(line.waived for line in current.lines):
        return []
    if current.stage not in (Stage.AUTHORIZED, Stage.RECEIVED):
        raise ReturnNotOpen(command.return_id, str(current.stage))
    _all_inspected(current)
    purchase: Purchase = states[PURCHASE.stream(current.order_id)]
    if current.undelivered:
        counts = ((line, purchase.of(line.line_id)) for line in current.lines)
        if arrived := [line.sku for line, of in counts if line.to_come > of.undelivered - of.taken_undelivered]:
            raise ArrivedAfterAll(command.return_id, arrived)
    waived = GoodsWaived(
        return_id=command.return_id,
        order_id=current.order_id,
        lines=_quantities((line, line.to_come) for line in current.lines),
        undelivered=current.undelivered,
    )
    current = evolve(current, waived)
    return [(stream, waived), *_settle(current, purchase, command.waived_at, policy)]


def _all_inspected(current: Return) -> None:
    if waiting := sum(line.received - line.inspected for line in current.lines):
        raise NotInspected(current.return_id, waiting)


def close_receipt(states: Mapping[str, Any], command: CloseReceipt, policy: ReturnPolicy) -> Recorded:
    """Settle with what has come; the rest stays with the customer. Raises ReturnNotFound and NotInspected."""
    current = _open(states[RETURN.stream(command.return_id)], command.return_id)
    if current.stage not in (Stage.AUTHORIZED, Stage.RECEIVED):
        return []
    _all_inspected(current)
    return _settle(current, states[PURCHASE.stream(current.order_id)], command.closed_at, policy)


def expire_return(states: Mapping[str, Any], command: ExpireReturn) -> Recorded:
    """End a return of which nothing has come."""
    stream = RETURN.stream(command.return_id)
    current: Return = states[stream]
    if current.stage is not Stage.AUTHORIZED or current.expires_at is None or command.due_at < current.expires_at:
        return []
    ids = {"return_id": command.return_id, "order_id": current.order_id}
    given_back = _quantities((line, line.asked) for line in current.lines)
    return [
        (stream, ReturnExpired(**ids, due_at=command.due_at)),
        (PURCHASE.stream(current.order_id), UnitsGivenBack(**ids, lines=given_back, undelivered=current.undelivered)),
        (stream, ReturnClosed(**ids)),
    ]


def decide_refund(current: Return, command: RefundCommand) -> list[ReturnEvent]:
    """What became of the refund. A person may still pay one that failed, or have it tried again.

    Tried again it is word for word the same: under its id a provider that did act says so, and pays nothing twice.
    Raises RefundUnknown, NoFailedRefund.
    """
    if isinstance(command, RetryRefund):
        return _retry_refund(current, command)
    refund = current.refunds.get(command.refund_id)
    if refund is None:
        raise RefundUnknown(command.return_id, command.refund_id, ", ".join(sorted(current.refunds)))
    ids = {"return_id": command.return_id, "order_id": current.order_id}
    match command:
        case RecordRefundPaid() if refund.stage is not RefundStage.PAID:
            paid = RefundPaid(
                **ids,
                refund_id=command.refund_id,
                amount=refund.asked.amount,
                provider_reference=command.provider_reference,
                refunded_at=command.refunded_at,
            )
            others = (other.stage for refund_id, other in current.refunds.items() if refund_id != command.refund_id)
            all_paid = all(stage is RefundStage.PAID for stage in others)
            return [paid, ReturnClosed(**ids)] if all_paid else [paid]
        case RecordRefundFailed() if refund.stage is RefundStage.PENDING:
            return [RefundFailed(**ids, refund_id=command.refund_id, reason=command.reason)]
        case _:
            return []


def _retry_refund(current: Return, command: RetryRefund) -> list[ReturnEvent]:
    if current.stage is None:
        raise ReturnNotFound(command.return_id)
    failed = {id_: refund.asked for id_, refund in current.refunds.items() if refund.stage is RefundStage.FAILED}
    if not failed and current.stage is not Stage.REFUNDING:
        raise NoFailedRefund(command.return_id, current.stage)
    return [failed[refund_id] for refund_id in sorted(failed)]


def _settle(current: Return, purchase: Purchase, at: datetime, policy: ReturnPolicy) -> Recorded:
    """What the goods that came back, or need not, are worth, and what becomes of the others."""
    stream, purchase_stream = RETURN.stream(current.return_id), PURCHASE.stream(current.order_id)
    ids = {"return_id": current.return_id, "order_id": current.order_id}
    events: list[tuple[str, Fact]] = []
    kept = _quantities((line, line.asked - line.credited) for line in current.lines)
    back = _quantities((line, line.credited) for line in current.lines)
    if kept:
        given_back = UnitsGivenBack(**ids, lines=kept, undelivered=current.undelivered)
        events.append((purchase_stream, given_back))
    if not back:
        return [*events, (stream, ReturnClosed(**ids))]
    our_fault = current.reason in policy.our_fault

    worth = _worth(purchase, back, our_fault, policy)
    unpaid = min(worth.amount, unpaid_of(purchase))
    set_off = SetOff(current.return_id, worth.goods, worth.tax, worth.shipping).first(unpaid)
    worth = worth.less(unpaid)
    taken = UnitsTakenBack(
        **ids,
        lines=back,
        our_fault=our_fault,
        set_off=_money(purchase, unpaid) if unpaid else None,
        set_off_tax=_money(purchase, set_off.tax) if set_off.tax else None,
        set_off_shipping=_money(purchase, set_off.shipping) if set_off.shipping else None,
        undelivered=current.undelivered,
        given=_money(purchase, worth.amount) if worth.amount else None,
        restocking_fee=_money(purchase, worth.fee) if worth.fee else None,
    )
    events.append((purchase_stream, taken))
    credit = 0
    if current.wanted == "exchange" and purchase.destination is not None:
        price = sum(line.unit_price.minor * line.quantity for line in current.exchange_for)
        credit = min(price, worth.amount)
        paid_by = drawn(purchase, credit)
        exchange = ExchangeRequested(
            **ids,
            channel=purchase.channel,
            customer_id=purchase.customer_id,
            destination=purchase.destination,
            lines=current.exchange_for,
            credit=_money(purchase, credit),
            requested_at=at,
            payment_reference=paid_by[-1].reference if paid_by else purchase.payment_reference,
            funds=paid_by if len(paid_by) > 1 else (),
        )
        events.append((stream, exchange))
    if worth.amount <= credit:
        return [*events, (stream, ReturnClosed(**ids))]
    purchase = replace(purchase, given_minor=purchase.given_minor + credit)
    refunds = _refunds(current, purchase, worth.less(credit))
    return [*events, *((stream, refund) for refund in refunds)]


def _refunds(current: Return, purchase: Purchase, worth: _Worth) -> Iterator[RefundRequested]:
    """One for each payment that makes up what goes back."""

    fee = worth.fee
    for number, share in enumerate(drawn(purchase, worth.amount), len(current.refunds)):
        rest = worth.less(share.amount.minor)
        yield RefundRequested(
            return_id=current.return_id,
            order_id=current.order_id,
            refund_id=derived_id("return-refund", current.return_id, *([str(number)] if number else [])),
            payment_reference=share.reference,
            goods=_money(purchase, worth.goods - rest.goods),
            tax=_money(purchase, worth.tax - rest.tax),
            shipping=_money(purchase, worth.shipping - rest.shipping),
            amount=share.amount,
            restocking_fee=_money(purchase, fee) if fee else None,
        )
        worth, fee = rest, 0


def record_purchase(states: Mapping[str, Any], command: PurchaseCommand) -> Iterator[tuple[str, Fact]]:
    """What capture says of an order. What was set off and is paid after all goes back.

    Raises PurchaseNotRecorded.
    """
    stream = PURCHASE.stream(command.order_id)
    purchase: Purchase = states[stream]
    for event in decide_purchase(purchase, command):
        after = evolve_purchase(purchase, event)
        back = paid_after_all(after) if isinstance(event, PurchaseRevised | PurchaseUnitsCanceled) else ()
        if not back:
            yield stream, event
            continue
        shares = (ReturnShare(return_id=each.return_id, amount=_money(after, each.minor)) for each in back)
        yield stream, event.model_copy(update={"given_back": tuple(shares)})
        for each in back:
            returned = RETURN.stream(each.return_id)
            worth = _Worth(each.goods, each.tax, each.shipping, fee=0)
            for refund in _refunds(states[returned], after, worth):
                yield returned, refund
            after = replace(after, given_minor=after.given_minor + each.minor)


def _money(purchase: Purchase, minor: int) -> Money:
    return Money(minor=minor, currency=purchase.currency)


@dataclass(frozen=True, slots=True)
class _Worth:
    """In minor units; `fee` is what was kept of the goods."""

    goods: int
    tax: int
    shipping: int
    fee: int

    @property
    def amount(self) -> int:
        return self.goods + self.tax + self.shipping

    def less(self, minor: int) -> _Worth:
        """Without what goes elsewhere: drawn from the goods first, then the tax, then the shipping."""
        from_goods = min(self.goods, minor)
        from_tax = min(self.tax, minor - from_goods)
        from_shipping = minor - from_goods - from_tax
        return replace(
            self,
            goods=self.goods - from_goods,
            tax=self.tax - from_tax,
            shipping=self.shipping - from_shipping,
        )


def _worth(purchase: Purchase, back: tuple[LineQuantity, ...], our_fault: bool, policy: ReturnPolicy) -> _Worth:
    goods, tax = worth_of(purchase, {line.line_id: line.quantity for line in back})
    fee = 0 if our_fault else max(goods.minor, 0) * policy.restocking_fee_percent // 100
    units = sum(line.quantity for line in back)
    # Asked of all returns, or nine unwanted units and one damaged one would bring the shipping back.
    all_back = our_fault and purchase.taken_for_our_fault + units >= purchase.bought
    shipping = shipping_of(purchase).minor if all_back and policy.refund_shipping else 0
    return _Worth(goods.minor - fee, tax.minor, shipping, fee)


def _open(current: Return, return_id: str) -> Return:
    if current.stage is None:
        raise ReturnNotFound(return_id)
    return current


def _quantities(lines: Iterable[tuple[ReturnLine, int]]) -> tuple[LineQuantity, ...]:
    return tuple(LineQuantity(line_id=line.line_id, sku=line.sku, quantity=units) for line, units in lines if units)


def merged(lines: Iterable[LineQuantity | InspectedLine]) -> tuple[tuple[LineQuantity, ...], list[str]]:
    """Each line once, with all its units, and what is wrong with the lines as they were named."""
    units: dict[str, tuple[str, int]] = {}
    faults = []
    for line in lines:
        sku, count = units.get(line.line_id, (line.sku, 0))
        if sku != line.sku:
            faults.append(f"line {line.line_id} is named as {sku} and as {line.sku}")
        units[line.line_id] = (sku, count + line.quantity)
    if too_many := [line_id for line_id, (_, count) in units.items() if count > MAX_UNITS]:
        return (), [*faults, f"more than {MAX_UNITS:,} units of line {', '.join(too_many)}"]
    whole = tuple(LineQuantity(line_id=line_id, sku=sku, quantity=count) for line_id, (sku, count) in units.items())
    return whole, faults


def to_decision(command: Command, policy: ReturnPolicy) -> Decision:
    """`command` with the streams it needs, as far as they are known before it is decided."""
    match command:
        case RecordPurchase() | RevisePurchase() | RecordCancellation() | RecordRefundElsewhere():
            told = command
            return Decision((PURCHASE.stream(told.order_id),), lambda states: tuple(record_purchase(states, told)))
        case ExpectParcel() | RecordDelivery() | RecordUndelivered():
            parcel = command
            return Decision((PARCEL.stream(parcel.shipment_id),), lambda states: decide_parcel(states, parcel))
        case RequestReturn():
            request = command
            streams = (RETURN.stream(request.return_id), PURCHASE.stream(request.order_id))
            return Decision(streams, lambda states: request_return(states, request, policy))
        case ReceiveReturn():
            receipt = command
            return Decision((RETURN.stream(receipt.return_id),), lambda states: receive_return(states, receipt))
        case InspectReturn():
            inspection = command
            return Decision(
                (RETURN.stream(inspection.return_id),),
                lambda states: inspect_return(states, inspection, policy),
            )
        case WaiveGoods():
            waiver = command
            return Decision((RETURN.stream(waiver.return_id),), lambda states: waive_goods(states, waiver, policy))
        case CloseReceipt():
            close = command
            return Decision((RETURN.stream(close.return_id),), lambda states: close_receipt(states, close, policy))
        case ExpireReturn():
            expiry = command
            return Decision((RETURN.stream(expiry.return_id),), lambda states: expire_return(states, expiry))
        case RecordRefundPaid() | RecordRefundFailed() | RetryRefund():
            return decision(RETURN.stream(command.return_id), decide_refund, command)
        case _:
            assert_never(command)


def command_of(fact: Fact, source: str) -> PurchaseCommand | ParcelCommand | None:
    """What a fact of capture or tracking asks of returns; None for most. `source` is the message's id."""
    match fact:
        case OrderCaptured():
            return RecordPurchase(
                order_id=fact.order_id,
                channel=fact.channel,
                customer_id=fact.customer_id,
                destination=fact.destination,
                lines=fact.lines,
                shipping=fact.shipping,
                shipping_tax=fact.shipping_tax,
                tax_included=fact.tax_included,
                payment_reference=fact.payment.reference,
                unpaid=fact.unpaid if fact.unpaid.minor else None,
                funds=fact.funds,
            )
        case OrderRevised():
            return RevisePurchase(
                order_id=fact.order_id,
                revision=fact.revision,
                destination=fact.destination,
                lines=fact.lines,
                payment_reference=fact.payment.reference,
                unpaid=fact.unpaid or (fact.total if fact.payment.status == "pending" else None),
                funds=fact.funds,
            )
        case OrderLinesCanceled():
            return RecordCancellation(fact.order_id, fact.lines, source, fact.unpaid)
        case ChannelRefunded():
            return RecordRefundElsewhere(fact.order_id, fact.refund_id, fact.unpaid)
        case ShipmentAnnounced():
            return ExpectParcel(fact.shipment_id, fact.order_id, fact.lines)
        case ShipmentDelivered():
            return RecordDelivery(fact.shipment_id, fact.delivered_at)
        case ShipmentLost():
            return RecordUndelivered(fact.shipment_id, "lost")
        case ShipmentCameBack():
            return RecordUndelivered(fact.shipment_id, "came-back")
        case _:
            return None
