"""An order: what it is after its events so far, and what of it anyone is shown.

Money follows the units. An order owes the exact share of its units that are not canceled; shipping and its tax go
with the last of them. What was paid beyond that goes back, so charged = held + refunded, and an order that is paid,
authorized or invoiced holds what it owes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any, assert_never

from immutables import Map

from ordermill.contracts.capture import (
    CancellationDeclined,
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    CancellationRequested,
    ChannelRefunded,
    CustomerForgetFailed,
    CustomerForgetRequested,
    CustomerForgotten,
    Event,
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
)
from ordermill.contracts.channel import LineChange, Payment, ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity, Money, key_of
from ordermill.decider import Decider
from ordermill.money import RefundStage, first_units, goods_of, range_of_units
from ordermill.pmap import PMap
from ordermill.replacing import replace

from .funds import Fund, Funds, added, held_in, renamed, without


class Stage(StrEnum):
    UNKNOWN = "unknown"
    REJECTED = "rejected"
    HELD = "held"
    RELEASED = "released"
    CANCELED = "canceled"


class Memory(StrEnum):
    """What is left of who bought it."""

    KEPT = "kept"
    FORGETTING = "forgetting"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class Hold:
    reason: HoldReason
    note: str


@dataclass(frozen=True, slots=True)
class Parked:
    change_id: str
    change_type: str
    change: str


@dataclass(frozen=True, slots=True)
class Cancellation:
    """One calling-off, and the units of it that are not answered yet, by line."""

    reason: str
    pending: PMap[str, int] = field(default_factory=Map)


@dataclass(frozen=True, slots=True)
class Refund:
    """`minor` is what was asked for, and what was paid once it is; `payment_reference` what it is taken from."""

    minor: int
    stage: RefundStage
    payment_reference: str | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One order after its events so far; `Order()` is an order nobody has heard of."""

    stage: Stage = Stage.UNKNOWN
    order_id: str = ""
    channel: str = ""
    external_id: str = ""
    content_hash: str = ""
    placed_at: datetime | None = None
    customer_id: str | None = None
    destination: Destination | None = None
    lines: tuple[OrderLine, ...] = ()
    places: PMap[str, int] = field(default_factory=Map)
    """Where in `lines` a line is."""
    shipping: Money | None = None
    shipping_tax: Money | None = None
    tax_included: bool = False
    total: Money | None = None
    payment: Payment | None = None
    service_level: ServiceLevel = ServiceLevel.STANDARD
    allow_backorder: bool = False
    holds: tuple[Hold, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why it was rejected."""
    revision: int = 0
    parked: tuple[Parked, ...] = ()
    refused: PMap[str, str] = field(default_factory=Map)
    """Why, by change."""
    to_settle: PMap[str, str] = field(default_factory=Map)
    """The newest change that was refused for a reason and that no person has dealt with, by reason."""
    settled: PMap[str, bool] = field(default_factory=Map)
    """Reasons with which a person has dealt."""
    wanted: PMap[str, int] = field(default_factory=Map)
    """By line, the units that the channel last said it wants. It need not know what was called off here."""
    called_off: PMap[str, tuple[tuple[datetime, int], ...]] = field(default_factory=Map)
    """By line, when the channel called off how many."""
    canceled: PMap[str, int] = field(default_factory=Map)
    """Units by line, as are the next two."""
    requested: PMap[str, int] = field(default_factory=Map)
    """Called off, not answered yet."""
    shipped: PMap[str, int] = field(default_factory=Map)
    open_units: int = 0
    """Ordered and not canceled; those that have shipped are among them."""
    shipped_units: int = 0
    owed_minor: int = 0
    """The open units' share of the total."""
    funds: Funds = ()
    """What was charged and not refunded: all of what is owed, unless some of it is unpaid."""
    ahead_minor: int = 0
    """What the channel gave back by itself for units that are not canceled."""
    refund_minor: int = 0
    """All refunds asked for, whatever became of them, and the channel's own."""
    cancellations: PMap[str, Cancellation] = field(default_factory=Map)
    refunds: PMap[str, Refund] = field(default_factory=Map)
    sources: PMap[str, bool] = field(default_factory=Map)
    """Events of others that have had their effect."""
    keys: tuple[str, ...] = ()
    """Under which something personal of it is sealed, or was."""
    customer: Memory = Memory.KEPT

    def open_of(self, line: OrderLine) -> int:
        return line.quantity - self.canceled.get(line.line_id, 0)

    def here_of(self, line: OrderLine) -> int:
        """Units neither canceled nor shipped."""
        return self.open_of(line) - self.shipped.get(line.line_id, 0)

    def cancelable_of(self, line: OrderLine) -> int:
        return self.here_of(line) - self.requested.get(line.line_id, 0)

    @property
    def charged(self) -> bool:
        """Whether money was taken or will be for all that is owed; while it is pending, for a part of it at most."""
        return self.payment is not None and self.payment.status != "pending"

    @property
    def held_minor(self) -> int:
        return held_in(self.funds)

    @property
    def charged_minor(self) -> int:
        return self.refund_minor + self.held_minor

    @property
    def unpaid_minor(self) -> int:
        return max(0, self.owed_minor - self.held_minor)


def moved_funds(order: Order) -> Funds:
    """All that is held, but for what the newest payment has authorized and not moved."""
    payment, funds = order.payment, order.funds
    if (
        payment is None
        or payment.status in ("paid", "pending")
        or not funds
        or funds[-1].reference != payment.reference
    ):
        return funds
    return funds[:-1]


def refund_of(order: Order, lines: Iterable[LineQuantity]) -> Money:
    """What goes back when these open units are canceled next, to the minor unit: what is held beyond what is then owed.

    The units are the last open ones of their lines. Goods and tax are shared by unit; shipping and its tax go back
    with the last open unit of the order. Any way of canceling an order unit by unit adds up to what was charged.
    """
    currency = order.total.currency if order.total else "XXX"
    owed = order.owed_minor - worth_of(order, lines)
    return Money(minor=max(0, order.held_minor - owed), currency=currency)


def worth_of(order: Order, lines: Iterable[LineQuantity]) -> int:
    units = minor = 0
    for part in lines:
        line = order.lines[order.places[part.line_id]]
        stop = order.open_of(line)
        start = stop - part.quantity
        units += part.quantity
        minor += range_of_units(goods_of(line), start, stop, line.quantity).minor
        if not order.tax_included:
            minor += range_of_units(line.tax, start, stop, line.quantity).minor
    return order.owed_minor if units == order.open_units else minor


def beyond_reach(
    order: Order, lines: Iterable[LineQuantity], newest: str | None = None
) -> dict[str, tuple[LineQuantity, ...]]:
    """By cancellation: requested units of these lines that are no longer there to cancel, none of the `newest`."""
    found: dict[str, tuple[LineQuantity, ...]] = {}
    for part in lines:
        excess = -order.cancelable_of(order.lines[order.places[part.line_id]])
        if excess <= 0:
            continue
        for cancellation_id in sorted(order.cancellations):
            units = min(excess, order.cancellations[cancellation_id].pending.get(part.line_id, 0))
            if units and cancellation_id != newest:
                less = LineQuantity(line_id=part.line_id, sku=part.sku, quantity=units)
                found[cancellation_id] = (*found.get(cancellation_id, ()), less)
                excess -= units
    return found


def status_of(order: Order) -> str:
    """unknown (only changes of it are known), rejected, held, released, shipped (all that is left), canceled."""
    shipped = order.stage is Stage.RELEASED and order.shipped_units == order.open_units
    return "shipped" if shipped else order.stage.value


def summary(order: Order) -> dict[str, Any]:
    """The order as a list or a page shows it; JSON-able, the same for the same state, personal data sealed."""
    by_stage = dict.fromkeys(RefundStage, 0)
    for refund in order.refunds.values():
        by_stage[refund.stage] += refund.minor
    currency = order.total.currency if order.total else None

    def money(minor: int) -> dict[str, Any] | None:
        return {"minor": minor, "currency": currency} if currency else None

    return {
        "order_id": order.order_id,
        "channel": order.channel,
        "external_id": order.external_id,
        "placed_at": order.placed_at.isoformat() if order.placed_at else None,
        "status": status_of(order),
        "holds": [{"reason": hold.reason.value, "note": hold.note} for hold in order.holds],
        "reasons": list(order.reasons),
        "refused_changes": [
            {"change_id": change_id, "reason": reason} for reason, change_id in sorted(order.to_settle.items())
        ],
        "revision": order.revision,
        "lines": [
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "title": line.title,
                "quantity": line.quantity,
                "canceled": order.canceled.get(line.line_id, 0),
                "cancel_requested": order.requested.get(line.line_id, 0),
                "shipped": order.shipped.get(line.line_id, 0),
            }
            for line in order.lines
        ],
        "total": order.total.model_dump() if order.total else None,
        "payment": order.payment.status if order.payment else None,
        "charged": money(order.charged_minor),
        "unpaid": money(order.unpaid_minor),
        "refunded": money(by_stage[RefundStage.PAID]),
        "refunds_pending": money(by_stage[RefundStage.PENDING]),
        "refunds_failed": money(by_stage[RefundStage.FAILED]),
        "refunds": [
            {
                "refund_id": refund_id,
                "amount": money(refund.minor),
                "status": refund.stage.value,
                "failure": refund.failure or None,
            }
            for refund_id, refund in sorted(order.refunds.items())
        ],
        "service_level": order.service_level.value,
        "customer_id": order.customer_id,
        "customer": order.customer.value,
        "destination": order.destination.model_dump() if order.destination else None,
    }


def fold(order: Order, events: Iterable[Event]) -> Order:
    for event in events:
        order = evolve(order, event)
    return order


def evolve(order: Order, event: Event) -> Order:
    """Fold one event in. Never refuses: it happened, whatever today's rules say."""
    match event:
        case OrderCaptured():
            return replace(
                order,
                stage=Stage.HELD,
                order_id=event.order_id,
                channel=event.channel,
                external_id=event.external_id,
                content_hash=event.content_hash,
                placed_at=event.placed_at,
                customer_id=event.customer_id,
                destination=event.destination,
                lines=event.lines,
                places=_places(event.lines),
                wanted=Map((line.line_id, line.quantity) for line in event.lines),
                shipping=event.shipping,
                shipping_tax=event.shipping_tax,
                tax_included=event.tax_included,
                total=event.total,
                payment=event.payment,
                service_level=event.service_level,
                allow_backorder=event.allow_backorder,
                parked=(),
                open_units=sum(line.quantity for line in event.lines),
                owed_minor=event.total.minor,
                funds=tuple(Fund(share.reference, share.amount.minor) for share in event.funds)
                or added((), max(0, event.total.minor - event.unpaid.minor), event.payment.reference),
                keys=_keys(order, event.buyer, event.destination.addressee),
            )
        case OrderRejected():
            return replace(
                order,
                stage=Stage.REJECTED,
                order_id=event.order_id,
                channel=event.channel,
                external_id=event.external_id,
                content_hash=event.content_hash,
                reasons=event.reasons,
                parked=(),
            )
        case OrderChangeParked():
            waiting = Parked(event.change_id, event.change_type, event.change)
            return replace(order, order_id=event.order_id, parked=(*order.parked, waiting))
        case OrderRevised():
            return _with_revision(order, event)
        case OrderChangeRefused():
            order = _called_off(order, event.called_off_at, event.off_before)
            order = replace(order, refused=order.refused.set(event.change_id, event.reason))
            if not event.waits_for_a_person or event.reason in order.settled:
                return order
            return replace(order, to_settle=order.to_settle.set(event.reason, event.change_id))
        case OrderChangeSettled(reason=reason):
            left = order.to_settle.delete(reason) if reason in order.to_settle else order.to_settle
            return replace(order, to_settle=left, settled=order.settled.set(reason, True))
        case OrderHeld():
            return replace(order, holds=(*order.holds, Hold(event.reason, event.note)))
        case HoldReleased():
            return replace(order, holds=tuple(hold for hold in order.holds if hold.reason is not event.reason))
        case OrderReleased():
            return replace(order, stage=Stage.RELEASED)
        case CancellationRequested():
            asked = Cancellation(event.reason, Map((part.line_id, part.quantity) for part in event.lines))
            by_channel = event.lines if event.by_channel else ()
            order = replace(
                _called_off(order, event.called_off_at, by_channel, event.off_before),
                requested=_add(order.requested, event.lines),
                cancellations=order.cancellations.set(event.cancellation_id, asked),
                revision=max(order.revision, event.revision or 0),
            )
            for earlier, lines in beyond_reach(order, event.lines, newest=event.cancellation_id).items():
                order = _answered(order, earlier, lines)
            return order
        case CancellationDeclined():
            return _answered(_seen(order, event.source_id), event.cancellation_id, event.lines)
        case OrderLinesCanceled():
            return _with_canceled_lines(order, event)
        case ChannelRefunded():
            minor = event.amount.minor
            return replace(
                order,
                funds=without(order.funds, minor),
                ahead_minor=order.ahead_minor + minor,
                refunds=order.refunds.set(event.refund_id, Refund(minor, RefundStage.PAID)),
                refund_minor=order.refund_minor + minor,
            )
        case OrderUnitsShipped():
            return replace(
                _seen(order, event.source_id),
                shipped=_add(order.shipped, event.lines),
                shipped_units=order.shipped_units + sum(part.quantity for part in event.lines),
            )
        case CancellationRefundRequested():
            again = event.refund_id in order.refunds
            asked_for = Refund(event.amount.minor, RefundStage.PENDING, event.payment_reference)
            return replace(
                order,
                refunds=order.refunds.set(event.refund_id, asked_for),
                refund_minor=order.refund_minor + (0 if again else event.amount.minor),
                funds=order.funds if again else without(order.funds, event.amount.minor, event.payment_reference),
            )
        case CancellationRefunded():
            paid = Refund(event.amount.minor, RefundStage.PAID)
            return replace(order, refunds=order.refunds.set(event.refund_id, paid))
        case CancellationRefundFailed():
            asked_for = order.refunds.get(event.refund_id, Refund(0, RefundStage.PENDING))
            failed = replace(asked_for, stage=RefundStage.FAILED, failure=event.reason)
            return replace(order, refunds=order.refunds.set(event.refund_id, failed))
        case CustomerForgetRequested():
            return replace(order, customer=Memory.FORGETTING)
        case CustomerForgotten():
            return replace(order, customer=Memory.FORGOTTEN)
        case CustomerForgetFailed():
            return replace(order, customer=Memory.KEPT)
        case _:
            assert_never(event)


def _keys(order: Order, *sealed: str | None) -> tuple[str, ...]:
    return tuple(sorted({*order.keys, *(key_of(text) for text in sealed if text)}))


def _places(lines: tuple[OrderLine, ...]) -> Map[str, int]:
    return Map((line.line_id, place) for place, line in enumerate(lines))


def _with_revision(before: Order, event: OrderRevised) -> Order:
    order = replace(
        before,
        revision=event.revision,
        destination=event.destination,
        lines=event.lines,
        places=_places(event.lines),
        wanted=before.wanted.update({change.line_id: change.quantity for change in event.wanted}),
        total=event.total,
        payment=event.payment,
        keys=_keys(before, event.destination.addressee),
    )
    carriage = sum(amount.minor for amount in (order.shipping, order.shipping_tax) if amount)
    open_units = owed = 0
    for line in event.lines:
        units = order.open_of(line)
        open_units += units
        owed += first_units(goods_of(line), units, line.quantity).minor
        if not order.tax_included:
            owed += first_units(line.tax, units, line.quantity).minor
    order = _owing(order, owed + carriage)
    order = replace(order, open_units=open_units, funds=_funds(order, before, event))
    return replace(order, ahead_minor=min(order.ahead_minor, order.unpaid_minor))


def _owing(order: Order, minor: int) -> Order:
    """What is owed for less is no longer ahead of it."""
    less = max(0, order.owed_minor - minor)
    return replace(order, owed_minor=minor, ahead_minor=max(0, order.ahead_minor - less))


def _funds(order: Order, before: Order, event: OrderRevised) -> Funds:
    """What is held after word of how it is paid. A payment that moved no money yet gives way to the next one."""
    payment = event.payment
    held, moved = order.held_minor, moved_funds(before)
    funds = order.funds if moved is before.funds else added(moved, held - held_in(moved), payment.reference)
    if payment.status == "pending":
        unpaid = order.owed_minor if event.unpaid is None else event.unpaid.minor
        wanted = order.owed_minor - unpaid if unpaid else max(held, order.owed_minor)
    else:
        wanted = max(held, order.owed_minor - order.ahead_minor)
        funds = funds if wanted > held else renamed(funds, payment.reference)
    return added(funds, wanted - held, payment.reference) if wanted > held else without(funds, held - wanted)


def _with_canceled_lines(order: Order, event: OrderLinesCanceled) -> Order:
    asked = order.cancellations.get(event.cancellation_id, Cancellation(event.reason))
    owing = _owing(order, order.owed_minor - worth_of(order, event.lines))
    owing = _called_off(owing, event.called_off_at, event.lines if event.by_channel else (), event.off_before)
    order = replace(
        _seen(owing, event.source_id),
        stage=Stage.CANCELED if event.whole_order else order.stage,
        holds=() if event.whole_order else order.holds,
        canceled=_add(order.canceled, event.lines),
        open_units=order.open_units - sum(part.quantity for part in event.lines),
        cancellations=order.cancellations.set(event.cancellation_id, asked),
    )
    order = _answered(order, event.cancellation_id, event.lines)
    for cancellation_id, lines in beyond_reach(order, event.lines).items():
        order = _answered(order, cancellation_id, lines)
    return order


def _answered(order: Order, cancellation_id: str, lines: Iterable[LineQuantity]) -> Order:
    """These units are pending no longer under that cancellation, as far as they were."""
    asked = order.cancellations.get(cancellation_id)
    if asked is None:
        return order
    pending, requested = asked.pending, order.requested
    for part in lines:
        units = min(pending.get(part.line_id, 0), part.quantity)
        if units:
            pending = _less(pending, part.line_id, units)
            requested = _less(requested, part.line_id, units)
    if pending is asked.pending:
        return order
    return replace(
        order,
        requested=requested,
        cancellations=order.cancellations.set(cancellation_id, replace(asked, pending=pending)),
    )


def _seen(order: Order, source_id: str | None) -> Order:
    return order if source_id is None else replace(order, sources=order.sources.set(source_id, True))


def _add(units: Map[str, int], lines: Iterable[LineQuantity]) -> Map[str, int]:
    for part in lines:
        units = units.set(part.line_id, units.get(part.line_id, 0) + part.quantity)
    return units


def _called_off(order: Order, at: datetime | None, *fewer: Iterable[LineQuantity | LineChange]) -> Order:
    """These units the channel wants no more, since `at`."""
    wanted, called_off = order.wanted, order.called_off
    for part in chain(*fewer):
        wanted = wanted.set(part.line_id, max(0, wanted.get(part.line_id, 0) - part.quantity))
        if at is not None:
            called_off = called_off.set(part.line_id, (*called_off.get(part.line_id, ()), (at, part.quantity)))
    return replace(order, wanted=wanted, called_off=called_off)


def _less(units: Map[str, int], line_id: str, by: int) -> Map[str, int]:
    left = units[line_id] - by
    return units.set(line_id, left) if left else units.delete(line_id)


orders: Decider[Order] = Decider("order", Order(), evolve)
