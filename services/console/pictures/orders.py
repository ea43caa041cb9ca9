"""One order as an operations team sees it: what was bought, where each unit is, what needs a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from ordermill.contracts.base import Message
from ordermill.contracts.capture import (
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    HoldReleased,
    OrderCaptured,
    OrderHeld,
    OrderLine,
    OrderLinesCanceled,
    OrderRejected,
    OrderReleased,
    OrderRevised,
)
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import (
    FulfillmentAccepted,
    FulfillmentCreated,
    FulfillmentLinesCanceled,
    FulfillmentPacked,
    FulfillmentPicked,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelFailed,
    PackageLabeled,
)
from ordermill.contracts.inventory import (
    OrderAllocated,
    OrderBackordered,
    OrderBackorderFilled,
    OrderDeallocated,
    OrderLetGo,
    OrderRefused,
    OrderReserved,
    OrderShippedOut,
)
from ordermill.contracts.returns import (
    PurchaseDelivered,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnAuthorized,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnInspected,
    ReturnReceived,
    ReturnRequested,
)
from ordermill.contracts.routing import (
    OrderDeferred,
    OrderRerouted,
    OrderRouted,
    OrderUnroutable,
    PromiseChanged,
    PromiseMade,
)
from ordermill.contracts.tracking import OrderStatus, ParcelStatus
from services.console.picture import Document, Picture
from services.console.told import Told

Need = Literal["rejected", "held", "refused", "unroutable", "short-pick", "late", "lost", "failed-effect"]
ENDED = frozenset({"delivered", "canceled", "partially_returned", "returned"})


class Units(Document):
    """Where the units of one line are by inventory's word; of those shipped, how many came and came back."""

    reserved: int = 0
    backordered: int = 0
    allocated: int = 0
    shipped: int = 0
    let_go: int = 0
    delivered: int = 0
    returned: int = 0


class Package(Document):
    """A packed box of a fulfillment order."""

    weight_g: int = 0
    lines: tuple[LineQuantity, ...] = ()
    carrier: str = ""
    service: str = ""
    tracking_number: str = ""
    failure: str = ""
    """Why the carrier sold no label, until it does."""


class Work(Document):
    """One fulfillment order."""

    location: str = ""
    state: Literal["asked", "accepted", "rejected", "picked", "packed", "labeled", "shipped", "canceled"] = "asked"
    carrier: str = ""
    service: str = ""
    ship_by: datetime | None = None
    deliver_by: datetime | None = None
    lines: dict[str, int] = Field(default_factory=dict)
    """Units still to ship or shipped, by order line."""
    short: dict[str, int] = Field(default_factory=dict)
    packages: dict[int, Package] = Field(default_factory=dict)
    reason: str = ""
    """Why the location turned it down."""


class Refund(Document):
    amount: Money | None = None
    paid: bool = False
    failure: str = ""
    return_id: str = ""


class ReturnOf(Document):
    state: str = "requested"
    rma: str = ""


class Order(Document):
    """One order after all that was told of it."""

    order_id: str = ""
    channel: str = ""
    external_id: str = ""
    customer_id: str = ""
    placed_at: datetime | None = None
    service_level: str = ""
    allow_backorder: bool = False
    buyer: str | None = None
    """Sealed."""
    destination: Destination | None = None
    lines: tuple[OrderLine, ...] = ()
    revision: int = -1
    shipping: Money | None = None
    shipping_tax: Money | None = None
    tax_included: bool = False
    total: Money | None = None
    payment: str = ""
    payment_reference: str = ""
    holds: dict[str, str] = Field(default_factory=dict)
    """By reason, the note."""
    released: bool = False
    rejected: tuple[str, ...] = ()
    refused: bool = False
    canceled: dict[str, int] = Field(default_factory=dict)
    units: dict[str, Units] = Field(default_factory=dict)
    allocations: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By fulfillment order, units by line."""
    plan: Literal["", "routed", "deferred", "unroutable"] = ""
    plan_id: str = ""
    plan_reason: str = ""
    plan_cost: Money | None = None
    promised_by: datetime | None = None
    promise_version: int = 0
    work: dict[str, Work] = Field(default_factory=dict)
    refunds: dict[str, Refund] = Field(default_factory=dict)
    returns: dict[str, ReturnOf] = Field(default_factory=dict)
    status: str = "received"
    status_version: int = 0
    late: bool = False
    parcels: tuple[ParcelStatus, ...] = ()
    changed_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def needs(self) -> list[Need]:
        """What a person should look at first, most pressing first."""
        found: list[Need] = []
        if self.rejected:
            found.append("rejected")
        if self.holds and not self.ended:
            found.append("held")
        if self.refused and not self.ended:
            found.append("refused")
        if self.plan == "unroutable" and not self.ended:
            found.append("unroutable")
        if any(work.short for work in self.work.values()) and self.status in ("received", "confirmed", "backordered"):
            found.append("short-pick")
        if any(parcel.lost for parcel in self.parcels):
            found.append("lost")
        if self.late and not self.ended:
            found.append("late")
        if any(p.failure for work in self.work.values() for p in work.packages.values()) or any(
            refund.failure for refund in self.refunds.values()
        ):
            found.append("failed-effect")
        return found

    def line_units(self, line_id: str) -> Units:
        return self.units.setdefault(line_id, Units())

    def part(self, fulfillment_id: str) -> Work:
        return self.work.setdefault(fulfillment_id, Work())

    def refund(self, refund_id: str) -> Refund:
        return self.refunds.setdefault(refund_id, Refund())

    def returning(self, return_id: str) -> ReturnOf:
        return self.returns.setdefault(return_id, ReturnOf())


def draw(order: Order, key: str, item: Told) -> None:
    """Fold one message in. Each service's facts touch fields of their own, so their interleaving does not matter."""
    order.order_id = key
    if not item.is_state:
        order.changed_at = max(item.happened_at, order.changed_at or item.happened_at)
    fact = item.message
    match fact:
        case OrderStatus():
            if fact.version >= order.status_version:
                order.status_version, order.status, order.late = fact.version, fact.status, fact.late
                order.parcels = fact.parcels
        case PromiseMade() | PromiseChanged():
            if (item.version or 0) >= order.promise_version:
                order.promise_version, order.promised_by = item.version or 0, fact.promised_by
        case _:
            _capture(order, fact)
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
            order.payment_reference = fact.payment.reference or ""
        case OrderRejected():
            order.channel, order.external_id, order.rejected = fact.channel, fact.external_id, fact.reasons
        case OrderRevised():
            order.revision, order.lines, order.destination = fact.revision, fact.lines, fact.destination
            order.total, order.payment = fact.total, fact.payment.status
        case OrderHeld():
            order.holds[fact.reason.value] = fact.note
        case HoldReleased():
            order.holds.pop(fact.reason.value, None)
        case OrderReleased():
            order.released = True
        case OrderLinesCanceled():
            for line in fact.lines:
                order.canceled[line.line_id] = order.canceled.get(line.line_id, 0) + line.quantity
        case CancellationRefundRequested():
            order.refund(fact.refund_id).amount = fact.amount
        case CancellationRefunded():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.paid, refund.failure = fact.amount, True, ""
        case CancellationRefundFailed():
            order.refund(fact.refund_id).failure = fact.reason


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
            order.refused = True
        case OrderAllocated():
            for part in fact.allocations:
                held = order.allocations.setdefault(part.fulfillment_id, {})
                for line in part.lines:
                    held[line.line_id] = held.get(line.line_id, 0) + line.quantity
                    order.line_units(line.line_id).reserved -= line.quantity
                    order.line_units(line.line_id).allocated += line.quantity
        case OrderDeallocated():
            for line in fact.lines:
                _take(order, fact.fulfillment_id, line)
                order.line_units(line.line_id).reserved += line.quantity
        case OrderLetGo():
            waiting = {each.line_id: each.quantity for each in fact.backordered}
            for each in fact.lines:
                units = order.line_units(each.line_id)
                units.let_go += each.quantity
                units.backordered -= waiting.get(each.line_id, 0)
                rest = each.quantity - waiting.get(each.line_id, 0)
                if rest and fact.fulfillment_id is not None:
                    _take(order, fact.fulfillment_id, each.model_copy(update={"quantity": rest}))
                else:
                    units.reserved -= rest
        case OrderShippedOut():
            for each in fact.lines:
                _take(order, fact.fulfillment_id, each)
                order.line_units(each.line_id).shipped += each.quantity


def _take(order: Order, fulfillment_id: str | None, line: Any) -> None:
    """Units leave a location's allocation."""
    order.line_units(line.line_id).allocated -= line.quantity
    held = order.allocations.get(fulfillment_id or "", {})
    if line.line_id in held:
        held[line.line_id] -= line.quantity
        if held[line.line_id] <= 0:
            del held[line.line_id]


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
            order.part(fact.fulfillment_id).state = "shipped"
        case FulfillmentLinesCanceled():
            part = order.part(fact.fulfillment_id)
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
            for each in fact.lines:
                order.line_units(each.line_id).delivered += each.quantity
        case ReturnRequested():
            order.returning(fact.return_id)
        case ReturnAuthorized():
            each_return = order.returning(fact.return_id)
            each_return.state, each_return.rma = "authorized", fact.rma
        case ReturnDeclined():
            order.returning(fact.return_id).state = "declined"
        case ReturnReceived():
            order.returning(fact.return_id).state = "received"
            for each in fact.lines:
                order.line_units(each.line_id).returned += each.quantity
        case ReturnInspected():
            order.returning(fact.return_id).state = "inspected"
        case ReturnExpired():
            order.returning(fact.return_id).state = "expired"
        case ReturnClosed():
            order.returning(fact.return_id).state = "closed"
        case RefundRequested():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.return_id = fact.amount, fact.return_id
        case RefundPaid():
            refund = order.refund(fact.refund_id)
            refund.amount, refund.paid, refund.failure, refund.return_id = fact.amount, True, "", fact.return_id
        case RefundFailed():
            refund = order.refund(fact.refund_id)
            refund.failure, refund.return_id = fact.reason, fact.return_id


def columns(order: Order) -> Mapping[str, Any]:
    return {
        "channel": order.channel,
        "external_id": order.external_id,
        "status": "rejected" if order.rejected else order.status,
        "attention": order.needs(),
        "locations": sorted({part.location for part in order.work.values() if part.lines and part.location}),
        "placed_at": order.placed_at,
        "promised_by": order.promised_by,
        "total_minor": order.total.minor if order.total else None,
        "currency": order.total.currency if order.total else "",
        "units": sum(line.quantity for line in order.lines) - sum(order.canceled.values()),
        "changed_at": order.changed_at,
    }


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
    CancellationRefundRequested, CancellationRefunded, CancellationRefundFailed,
    OrderReserved, OrderBackordered, OrderBackorderFilled, OrderRefused, OrderAllocated, OrderDeallocated, OrderLetGo,
    OrderShippedOut,
    OrderRouted, OrderRerouted, OrderDeferred, OrderUnroutable, PromiseMade, PromiseChanged,
    FulfillmentCreated, FulfillmentAccepted, FulfillmentRejected, FulfillmentPicked, FulfillmentShortPicked,
    FulfillmentPacked, PackageLabeled, LabelFailed, FulfillmentShipped, FulfillmentLinesCanceled,
    PurchaseDelivered, ReturnRequested, ReturnAuthorized, ReturnDeclined, ReturnReceived, ReturnInspected,
    ReturnExpired, ReturnClosed, RefundRequested, RefundPaid, RefundFailed,
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
