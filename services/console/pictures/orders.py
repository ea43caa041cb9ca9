"""How the facts of six services come together in one order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ordermill.contracts.base import Message
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
    HoldReleased,
    OrderCaptured,
    OrderChangeRefused,
    OrderChangeSettled,
    OrderHeld,
    OrderLine,
    OrderLinesCanceled,
    OrderRejected,
    OrderReleased,
    OrderRevised,
)
from ordermill.contracts.fields import LineQuantity, Money
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
    PackageLabeled,
)
from ordermill.contracts.inventory import (
    AllocationRecalled,
    OrderAllocated,
    OrderBackordered,
    OrderBackorderFilled,
    OrderDeallocated,
    OrderLetGo,
    OrderRefused,
    OrderReserved,
    OrderShippedOut,
    RecallDeclined,
)
from ordermill.contracts.returns import (
    Disposition,
    GoodsWaived,
    PurchaseDelivered,
    PurchaseRevised,
    PurchaseUndelivered,
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
from ordermill.contracts.routing import (
    OrderDeferred,
    OrderRerouted,
    OrderRouted,
    OrderUnroutable,
    PromiseChanged,
    PromiseMade,
)
from ordermill.contracts.tracking import OrderStatus
from services.console.picture import Picture
from services.console.told import Told

from .order import Order, Package, Promise, ShortageOf, Work


def draw(order: Order, key: str, item: Told) -> None:
    """Fold one message in. Each service's facts touch fields of their own, so their interleaving does not matter."""
    order.order_id = key
    if not item.is_state:
        order.first_at = min(item.happened_at, order.first_at or item.happened_at)
        order.changed_at = max(item.happened_at, order.changed_at or item.happened_at)
    fact = item.message
    match fact:
        case OrderStatus():
            if fact.version >= order.status_version:
                order.status_version, order.status, order.late = fact.version, fact.status, fact.late
                order.parcels = fact.parcels
        case PromiseMade() | PromiseChanged():
            if (item.version or 0) > order.promise_version:
                order.promise_version = item.version or 0
                reason = fact.reason if isinstance(fact, PromiseChanged) else ""
                told = Promise(promised_by=fact.promised_by, said_at=item.happened_at, reason=reason)
                order.promises = (*order.promises, told)
        case _:
            _capture(order, fact)
            _refused_changes(order, fact)
            _inventory(order, fact)
            _routing(order, fact)
            _fulfillment(order, fact)
            _returns(order, fact)


def _capture(order: Order, fact: Message | None) -> None:
    match fact:
        case OrderCaptured():
            order.channel, order.external_id = fact.channel, fact.external_id
            order.placed_at, order.customer_id = fact.placed_at, fact.customer_id or ""
            order.service_level, order.allow_backorder = fact.service_level.value, fact.allow_backorder
            order.buyer, order.destination = fact.buyer, fact.destination
            order.lines, order.revision = fact.lines, 0
            order.shipping, order.shipping_tax, order.tax_included = fact.shipping, fact.shipping_tax, fact.tax_included
            order.total, order.payment = fact.total, fact.payment.status
            order.payment_reference, order.unpaid = fact.payment.reference or "", fact.unpaid
        case OrderRejected():
            order.channel, order.external_id, order.rejected = fact.channel, fact.external_id, fact.reasons
        case OrderRevised():
            order.revision, order.lines, order.destination = fact.revision, fact.lines, fact.destination
            order.total, order.payment, order.unpaid = fact.total, fact.payment.status, fact.unpaid
            order.payment_reference = fact.payment.reference or ""
        case ChannelRefunded():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.paid, order.unpaid = fact.amount, True, fact.unpaid
        case OrderHeld():
            order.holds[fact.reason.value] = fact.note
        case HoldReleased():
            order.holds.pop(fact.reason.value, None)
        case OrderReleased():
            order.released = True
        case CancellationRequested():
            order.calls_off[fact.cancellation_id] = {line.line_id: line.quantity for line in fact.lines}
        case CancellationDeclined():
            _answered(order, fact.cancellation_id, fact.lines)
        case OrderLinesCanceled():
            for line in fact.lines:
                order.canceled[line.line_id] = order.canceled.get(line.line_id, 0) + line.quantity
            _answered(order, fact.cancellation_id, fact.lines)
            order.unpaid = fact.unpaid
            if fact.whole_order:
                order.holds = {}
        case CancellationRefundRequested():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.failure = fact.amount, ""
        case CancellationRefunded():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.paid, refund.failure = fact.amount, True, ""
        case CancellationRefundFailed():
            order.refund(fact.refund_id).failure = fact.reason
        case CustomerForgetRequested():
            order.customer, order.not_forgotten = "forgetting", ""
        case CustomerForgotten():
            order.customer = "forgotten"
        case CustomerForgetFailed():
            order.customer, order.not_forgotten = "kept", fact.reason


def _refused_changes(order: Order, fact: Message | None) -> None:
    match fact:
        case OrderChangeRefused():
            if fact.waits_for_a_person and fact.reason not in order.settled:
                order.refused_changes[fact.reason] = fact.change_id
        case OrderChangeSettled():
            order.refused_changes.pop(fact.reason, None)
            order.settled.append(fact.reason)


def _answered(order: Order, cancellation_id: str, lines: Iterable[LineQuantity]) -> None:
    """These units of a cancellation are canceled, or will not be."""
    asked = order.calls_off.get(cancellation_id, {})
    for line in lines:
        asked[line.line_id] = asked.get(line.line_id, 0) - line.quantity
    left = {line_id: units for line_id, units in asked.items() if units > 0}
    order.calls_off.pop(cancellation_id, None)
    if left:
        order.calls_off[cancellation_id] = left


def _inventory(order: Order, fact: Message | None) -> None:
    match fact:
        case OrderReserved():
            for line in fact.lines:
                order.line_units(line.line_id).reserved += line.quantity
        case OrderBackordered():
            for each in fact.lines:
                units = order.line_units(each.line_id)
                units.backordered += each.quantity
                if fact.was == "reserved":
                    units.reserved -= each.quantity
                elif fact.was == "allocated":
                    _take(order, fact.fulfillment_id, each)
        case OrderBackorderFilled():
            for line in fact.lines:
                units = order.line_units(line.line_id)
                units.backordered -= line.quantity
                units.reserved += line.quantity
        case OrderRefused():
            order.shortages = tuple(
                ShortageOf(sku=each.sku, wanted=each.wanted, available=each.available) for each in fact.shortages
            )
        case OrderAllocated():
            for part in fact.allocations:
                order.part(part.fulfillment_id).location = part.location
                held = order.allocations.setdefault(part.fulfillment_id, {})
                for line in part.lines:
                    held[line.line_id] = held.get(line.line_id, 0) + line.quantity
                    order.line_units(line.line_id).reserved -= line.quantity
                    order.line_units(line.line_id).allocated += line.quantity
        case OrderDeallocated():
            for line in fact.lines:
                _take(order, fact.fulfillment_id, line)
                order.line_units(line.line_id).reserved += line.quantity
        case AllocationRecalled(reroute=str()):
            order.part(fact.fulfillment_id).reroutes[fact.cancellation_id] = True
        case AllocationRecalled():
            units_off = {each.line_id: each.quantity for each in fact.lines}
            order.part(fact.fulfillment_id).recalls[fact.cancellation_id] = units_off
        case RecallDeclined():
            for each in fact.lines:
                order.part(fact.fulfillment_id).answer_recalls(each.line_id, each.quantity, of=fact.cancellation_id)
        case OrderLetGo():
            waiting = {each.line_id: each.quantity for each in fact.backordered}
            for each in fact.lines:
                units = order.line_units(each.line_id)
                units.let_go += each.quantity
                units.backordered -= waiting.get(each.line_id, 0)
                rest = each.quantity - waiting.get(each.line_id, 0)
                if rest and fact.fulfillment_id is not None:
                    _take(order, fact.fulfillment_id, each.model_copy(update={"quantity": rest}), fact.cancellation_id)
                else:
                    units.reserved -= rest
        case OrderShippedOut():
            for each in fact.lines:
                _take(order, fact.fulfillment_id, each)
                order.line_units(each.line_id).shipped += each.quantity


def _take(order: Order, fulfillment_id: str | None, line: Any, cancellation_id: str | None = None) -> None:
    """Units leave a location's allocation: those that `cancellation_id` called off, if it did."""
    order.line_units(line.line_id).allocated -= line.quantity
    held = order.allocations.get(fulfillment_id or "", {})
    if line.line_id in held:
        held[line.line_id] -= line.quantity
        if held[line.line_id] <= 0:
            del held[line.line_id]
    part = order.work.get(fulfillment_id or "", Work())
    if cancellation_id is not None:
        part.answer_recalls(line.line_id, line.quantity, of=cancellation_id)
    part.answer_recalls(line.line_id, part.called_off(line.line_id) - held.get(line.line_id, 0))


def _routing(order: Order, fact: Message | None) -> None:
    match fact:
        case OrderRouted() | OrderRerouted():
            order.plan, order.plan_id, order.plan_reason = "routed", fact.plan_id, ""
            order.plan_cost = fact.cost.total
        case OrderDeferred():
            order.plan, order.plan_id, order.plan_reason = "deferred", fact.plan_id, fact.reason
        case OrderUnroutable():
            order.plan, order.plan_id, order.plan_reason = "unroutable", fact.plan_id, fact.reason


def _fulfillment(order: Order, fact: Message | None) -> None:
    match fact:
        case FulfillmentCreated():
            part = order.part(fact.fulfillment_id)
            part.location, part.carrier, part.service = fact.location, fact.carrier, fact.service
            part.ship_by, part.deliver_by = fact.ship_by, fact.deliver_by
            part.lines = {line.line_id: line.quantity for line in fact.lines}
        case FulfillmentAccepted():
            order.part(fact.fulfillment_id).state = "accepted"
        case FulfillmentRejected():
            part = order.part(fact.fulfillment_id)
            part.state, part.reason, part.lines = "rejected", fact.note or fact.reason.value, {}
        case FulfillmentPicked():
            order.part(fact.fulfillment_id).state = "picked"
        case FulfillmentShortPicked():
            part = order.part(fact.fulfillment_id)
            for each in fact.lines:
                part.short[each.line_id] = part.short.get(each.line_id, 0) + each.quantity
                _less(part, each)
        case FulfillmentPacked():
            part = order.part(fact.fulfillment_id)
            part.state = "packed"
            part.packages = {p.package: Package(weight_g=p.weight_g, lines=p.lines) for p in fact.packages}
        case LabelRequested():
            package = order.part(fact.fulfillment_id).packages.setdefault(fact.package, Package())
            package.carrier, package.service, package.failure = fact.carrier, fact.service, ""
        case PackageLabeled():
            part = order.part(fact.fulfillment_id)
            package = part.packages.setdefault(fact.package, Package())
            package.carrier, package.service = fact.carrier, fact.service
            package.tracking_number, package.failure = fact.tracking_number, ""
            if all(each.tracking_number for each in part.packages.values()):
                part.state = "labeled"
        case LabelFailed():
            order.part(fact.fulfillment_id).packages.setdefault(fact.package, Package()).failure = fact.reason
        case FulfillmentShipped():
            part = order.part(fact.fulfillment_id)
            part.state, part.shipped_at = "shipped", fact.shipped_at
        case FulfillmentCancellationDeclined():
            order.part(fact.fulfillment_id).answered[fact.cancellation_id] = False
        case FulfillmentLinesCanceled():
            part = order.part(fact.fulfillment_id)
            part.answered[fact.cancellation_id] = True
            for each in fact.lines:
                _less(part, each)
            if not part.lines:
                part.state = "canceled"


def _less(part: Work, line: LineQuantity) -> None:
    part.lines[line.line_id] = part.lines.get(line.line_id, 0) - line.quantity
    if part.lines[line.line_id] <= 0:
        del part.lines[line.line_id]


def _returns(order: Order, fact: Message | None) -> None:
    match fact:
        case PurchaseDelivered():
            found = order.astray.pop(fact.shipment_id, False)
            for each in fact.lines:
                units = order.line_units(each.line_id)
                units.delivered += each.quantity
                if found:
                    units.undelivered -= each.quantity
                    units.claimed_undelivered = min(units.claimed_undelivered, units.undelivered)
        case PurchaseUndelivered():
            order.astray[fact.shipment_id] = True
            for each in fact.lines:
                order.line_units(each.line_id).undelivered += each.quantity
        case UnitsClaimed():
            _claim(order, fact, 1)
        case UnitsGivenBack():
            _claim(order, fact, -1)
        case UnitsTakenBack(set_off=Money() as set_off):
            order.set_off += set_off.minor
        case PurchaseRevised() | PurchaseUnitsCanceled():
            order.set_off -= sum(share.amount.minor for share in fact.given_back)
        case ReturnRequested():
            asked = order.returning(fact.return_id)
            asked.lines, asked.undelivered = fact.lines, fact.reason is ReturnReason.NOT_DELIVERED
        case ReturnAuthorized():
            each_return = order.returning(fact.return_id)
            each_return.state, each_return.rma = "authorized", fact.rma
        case ReturnDeclined():
            each_return = order.returning(fact.return_id)
            each_return.state, each_return.reasons = "declined", fact.reasons
        case ReturnReceived():
            order.returning(fact.return_id).state = "received"
            for each in fact.lines:
                _came_back(order, fact.return_id, each.line_id, each.quantity)
        case ReturnInspected():
            order.returning(fact.return_id).state = "inspected"
            for seen in fact.lines:  # the box was counted in, but these were not in the box
                if seen.disposition is Disposition.MISSING:
                    _came_back(order, fact.return_id, seen.line_id, -seen.quantity)
        case GoodsWaived(undelivered=True):
            for each in fact.lines:
                _came_back(order, fact.return_id, each.line_id, each.quantity)
        case ReturnExpired():
            order.returning(fact.return_id).state = "expired"
        case ReturnClosed():
            order.returning(fact.return_id).state = "closed"
        case RefundRequested():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.return_id, refund.failure = fact.amount, fact.return_id, ""
        case RefundPaid():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.paid, refund.failure, refund.return_id = fact.amount, True, "", fact.return_id
        case RefundFailed():
            refund = order.refund(fact.refund_id)
            refund.failure, refund.return_id = fact.reason, fact.return_id


def _claim(order: Order, fact: UnitsClaimed | UnitsGivenBack, sign: int) -> None:
    for each in fact.lines:
        units = order.line_units(each.line_id)
        units.claimed += sign * each.quantity
        if fact.undelivered:
            units.claimed_undelivered = max(0, units.claimed_undelivered + sign * each.quantity)


def _came_back(order: Order, return_id: str, line_id: str, count: int) -> None:
    units = order.line_units(line_id)
    if order.returning(return_id).undelivered:
        units.made_up += count
    else:
        units.returned += count


NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def columns(order: Order) -> Mapping[str, Any]:
    needs = order.needs()
    return {
        "channel": order.channel,
        "external_id": order.external_id,
        "status": order.word,
        "attention": [need for need, _ in needs],
        "why": [why for _, why in needs],
        "what": _what(order.lines),
        "locations": sorted({part.location for part in order.work.values() if part.lines and part.location}),
        "placed_at": order.placed_at or order.first_at or NEVER,
        "promised_by": order.promised_by,
        "total_minor": order.total.minor if order.total else None,
        "currency": order.total.currency if order.total else "",
        "units": sum(line.quantity for line in order.lines) - sum(order.canceled.values()),
        "changed_at": order.changed_at or NEVER,
    }


def _what(lines: Sequence[OrderLine]) -> str:
    """The first lines in a few words."""
    named = ", ".join(f"{line.title or line.sku} ×{line.quantity}"[:60] for line in lines[:2])
    return f"{named} and {len(lines) - 2} more" if len(lines) > 2 else named


def names(item: Told) -> Iterable[tuple[str, str]]:
    """Ids by which a person may look for this order: its own, what is in it, who bought, each parcel and return."""
    fact = item.message
    yield "order", item.order_id or ""
    match fact:
        case OrderCaptured():
            yield "external", fact.external_id
            yield "customer", fact.customer_id or ""
            yield from _skus(fact.lines)
        case OrderRejected():
            yield "external", fact.external_id
        case OrderRevised():
            yield from _skus(fact.lines)
        case FulfillmentCreated():
            yield "fulfillment", fact.fulfillment_id
        case PackageLabeled():
            yield "tracking", fact.tracking_number
        case FulfillmentShipped():
            for package in fact.packages:
                yield "tracking", package.tracking_number
        case ReturnRequested():
            yield "return", fact.return_id
        case ReturnAuthorized():
            yield "rma", fact.rma


def _skus(lines: Sequence[OrderLine]) -> Iterable[tuple[str, str]]:
    return (("sku", line.sku) for line in lines)


MESSAGES: frozenset[type[Message]] = frozenset({
    OrderCaptured, OrderRejected, OrderRevised, OrderHeld, HoldReleased, OrderReleased, OrderLinesCanceled,
    CancellationRequested, CancellationDeclined, ChannelRefunded, OrderChangeRefused, OrderChangeSettled,
    CancellationRefundRequested, CancellationRefunded, CancellationRefundFailed,
    CustomerForgetRequested, CustomerForgotten, CustomerForgetFailed,
    OrderReserved, OrderBackordered, OrderBackorderFilled, OrderRefused, OrderAllocated, OrderDeallocated, OrderLetGo,
    OrderShippedOut, AllocationRecalled, RecallDeclined,
    OrderRouted, OrderRerouted, OrderDeferred, OrderUnroutable, PromiseMade, PromiseChanged,
    FulfillmentCreated, FulfillmentAccepted, FulfillmentRejected, FulfillmentPicked, FulfillmentShortPicked,
    FulfillmentPacked, LabelRequested, PackageLabeled, LabelFailed, FulfillmentShipped, FulfillmentLinesCanceled,
    FulfillmentCancellationDeclined,
    PurchaseRevised, PurchaseUnitsCanceled, PurchaseDelivered, PurchaseUndelivered,
    UnitsClaimed, UnitsGivenBack, UnitsTakenBack,
    ReturnRequested, ReturnAuthorized, ReturnDeclined, ReturnReceived, ReturnInspected, GoodsWaived, ReturnExpired,
    ReturnClosed,
    RefundRequested, RefundPaid, RefundFailed,
    OrderStatus,
})  # fmt: skip

ORDERS = Picture(
    table="orders",
    document=Order,
    messages=MESSAGES,
    keys=lambda item: (item.order_id,) if item.order_id else (),
    draw=draw,
    columns=columns,
    names=names,
)
