"""The six books: counts, and what is wrong within one log alone."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import Any

from ordermill.contracts.capture import (
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    ChannelRefunded,
    CustomerForgetFailed,
    CustomerForgetRequested,
    CustomerForgotten,
    OrderCaptured,
    OrderLine,
    OrderLinesCanceled,
    OrderRejected,
    OrderReleased,
    OrderRevised,
    OrderUnitsShipped,
)
from ordermill.contracts.fields import PaymentShare
from ordermill.contracts.fulfillment import (
    FulfillmentCreated,
    FulfillmentLinesCanceled,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelFailed,
    LabelRequested,
    LabelUnused,
    PackageLabeled,
)
from ordermill.contracts.inventory import (
    OrderAllocated,
    OrderBackordered,
    OrderLetGo,
    OrderShippedOut,
    ReservationOpened,
    StockLetGo,
    StockRestocked,
    StockShippedOut,
    StockWrittenOff,
)
from ordermill.contracts.returns import (
    Disposition,
    ExchangeRequested,
    GoodsWaived,
    PurchaseDelivered,
    PurchaseRecorded,
    PurchaseRevised,
    PurchaseUndelivered,
    PurchaseUnitsCanceled,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnInspected,
    UnitsClaimed,
    UnitsGivenBack,
    UnitsTakenBack,
)
from ordermill.contracts.routing import OrderRerouted, OrderRouted, OrderUnroutable, PolicyAdopted
from ordermill.contracts.tracking import (
    ShipmentAnnounced,
    ShipmentCameBack,
    ShipmentDelivered,
    ShipmentLost,
    ShipmentScanned,
)
from ordermill.errors import OrdermillError
from ordermill.money import goods_of, range_of_units

from .book import Book, Effects, Line, Names, count_units

Paid = tuple[str, str | None]
"""An order and one of the payments that it is paid with."""


class CaptureBook(Book):
    """Orders: what was bought, called off and charged."""

    service = "capture"

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.domain = import_module("services.capture.domain.order")
        self.orders: dict[str, Any] = {}
        self.released: Counter[Line] = Counter()
        self.canceled: Counter[Line] = Counter()
        self.shipped: Counter[Line] = Counter()
        self.refunds = Effects(self, "refund", names)
        self.forgetting = Effects(self, "forgetting", names)
        self._forgotten: Counter[str] = Counter()
        """By order, how often that was asked for: an older backup of the keys may have been restored."""
        self.canceled_minor: Counter[str] = Counter()
        self.asked_minor: Counter[str] = Counter()
        self.due_minor: Counter[str] = Counter()
        """By order: what was held beyond what was owed for it, each time that became less."""
        self.charged_minor: Counter[str] = Counter()
        """By order, the most that was ever charged."""
        self.brought_minor: Counter[Paid] = Counter()
        """The most that a payment was ever said to have brought."""
        self.asked_of: Counter[Paid] = Counter()
        self.exchange_orders: set[str] = set()
        self.simple: dict[str, bool] = {}
        """Whether the order was charged at once and never revised: then its refunds can be worked out anew."""
        self.came_before: dict[str, tuple[int, tuple[Any, ...]]] = {}
        """By stream, changes that came before their order, and where that came."""

    def take(self, seq: int, stream: str, event: Any) -> None:
        state = self.orders.get(stream, self.domain.Order())
        if state.parked and isinstance(event, OrderCaptured | OrderRejected):
            self.came_before[stream] = seq, state.parked
        match event:
            case OrderCaptured():
                if state.total is not None:
                    self.wrong("lines", stream, "the order is captured a second time", seq)
                self.simple[event.order_id] = event.payment.status != "pending"
                if event.channel == "exchange":
                    self.exchange_orders.add(event.order_id)
            case OrderRevised():
                self.simple[event.order_id] = False
                asked_for = f"revision:{event.revision}" in state.cancellations  # its fewer units, the moment before
                if event.revision < state.revision + (not asked_for):
                    text = f"revision {event.revision} is applied after revision {state.revision}"
                    self.wrong("lines", stream, text, seq)
            case OrderReleased():
                count_units(self.released, event.order_id, event.lines)
            case OrderLinesCanceled():
                count_units(self.canceled, event.order_id, event.lines)
                self.canceled_minor[event.order_id] += event.refund.minor
            case ChannelRefunded():
                self.simple[event.order_id] = False
            case OrderUnitsShipped():
                count_units(self.shipped, event.order_id, event.lines)
            case CancellationRefundRequested():
                if self.refunds.ask(event.refund_id, stream, seq, event.amount):
                    self.asked_minor[event.order_id] += event.amount.minor
                    self.asked_of[event.order_id, event.payment_reference] += event.amount.minor
            case CancellationRefunded():
                self.refunds.done(event.refund_id, stream, seq, event.provider_reference, event.amount)
            case CancellationRefundFailed():
                self.refunds.failed(event.refund_id, stream, seq)
            case CustomerForgetRequested():
                self._forgotten[event.order_id] += 1
                self.forgetting.ask(self._forgetting(event), stream, seq)
            case CustomerForgotten():
                self.forgetting.done(self._forgetting(event), stream, seq, "")
            case CustomerForgetFailed():
                self.forgetting.failed(self._forgetting(event), stream, seq)
        after = self.orders[stream] = self.domain.evolve(state, event)
        self.charged_minor[after.order_id] = max(self.charged_minor[after.order_id], after.charged_minor)
        if isinstance(event, OrderRevised | OrderLinesCanceled):
            self.due_minor[after.order_id] += max(0, after.held_minor - after.owed_minor)
        if isinstance(event, OrderCaptured | OrderRevised):
            self._bring(after)

    def _bring(self, order: Any) -> None:
        held: Counter[Paid] = Counter()
        for fund in order.funds:
            held[order.order_id, fund.reference] += fund.minor
        for payment, minor in held.items():
            self.brought_minor[payment] = max(self.brought_minor[payment], minor + self.asked_of[payment])

    def _forgetting(self, event: CustomerForgetRequested | CustomerForgotten | CustomerForgetFailed) -> str:
        return f"forget-{event.order_id}-{self._forgotten[event.order_id]}"


class InventoryBook(Book):
    """Claims of orders, and what their SKUs' streams tell of them."""

    service = "inventory"

    def __init__(self) -> None:
        super().__init__()
        self.domain = import_module("services.inventory.domain")
        self.reservations: dict[str, Any] = {}
        self.opened: Counter[Line] = Counter()
        self.left_stock: Counter[Line] = Counter()
        """Shipped out, as the SKUs' streams tell it; the next as the orders' streams do."""
        self.shipped: Counter[Line] = Counter()
        self.stock_let_go: Counter[Line] = Counter()
        self.let_go: Counter[Line] = Counter()
        self.allocated: dict[str, tuple[OrderAllocated, Any, str, int]] = {}
        self.from_returns: Counter[tuple[str, str, Disposition]] = Counter()

    def take(self, seq: int, stream: str, event: Any) -> None:
        category, _, key = stream.partition("-")
        if category == "stock":
            self._take_stock(event)
            return
        before = self.reservations.get(key, self.domain.RESERVATION.initial)
        self.reservations[key] = self.domain.RESERVATION.evolve(before, event)
        match event:
            case ReservationOpened():
                count_units(self.opened, event.order_id, event.lines)
            case OrderShippedOut():
                count_units(self.shipped, event.order_id, event.lines)
            case OrderLetGo():
                count_units(self.let_go, event.order_id, event.lines)
            case OrderBackordered() if event.was != "asked":  # the SKU lets its claim go and it waits again
                count_units(self.let_go, event.order_id, event.lines)
            case OrderAllocated():
                for part in event.allocations:
                    if part.fulfillment_id in self.allocated:
                        self.wrong("lines", stream, f"{part.fulfillment_id} is allocated a second time", seq)
                    self.allocated[part.fulfillment_id] = (event, part, stream, seq)

    def _take_stock(self, event: Any) -> None:
        match event:
            case StockRestocked(quantity=units):
                self.from_returns[event.return_id, event.sku, Disposition.RESTOCK] += units
            case StockWrittenOff(quantity=units):
                self.from_returns[event.return_id, event.sku, Disposition.WRITE_OFF] += units
            case StockShippedOut(quantity=units):
                self.left_stock[event.order_id, event.line_id] += units
            case StockLetGo(quantity=units):
                self.stock_let_go[event.order_id, event.line_id] += units


class RoutingBook(Book):
    """Decisions, each made again from its record."""

    service = "routing"

    def __init__(self) -> None:
        super().__init__()
        self._domain = import_module("services.routing.domain")
        self._policies: dict[str, PolicyAdopted] = {}
        self.planned: dict[str, Any] = {}
        """Shipments by fulfillment id."""
        self.decisions = 0

    def take(self, seq: int, stream: str, event: Any) -> None:
        match event:
            case PolicyAdopted():
                self._policies[event.policy_hash] = event
            case OrderRouted() | OrderRerouted():
                self.planned.update({shipment.fulfillment_id: shipment for shipment in event.shipments})
                self._again(seq, stream, event)
            case OrderUnroutable():
                self._again(seq, stream, event)

    def _again(self, seq: int, stream: str, event: OrderRouted | OrderRerouted | OrderUnroutable) -> None:
        self.decisions += 1
        policy = self._policies.get(event.inputs.policy_hash)
        if policy is None:
            text = f"plan {event.plan_id} was made under the policy {event.inputs.policy_hash[:12]}…, never adopted"
            self.wrong("routing", stream, text, seq)
            return
        try:
            found = self._domain.recompute(event, policy.content, policy.network)
        except OrdermillError as error:
            self.wrong("routing", stream, f"plan {event.plan_id} can't be made again: {error}", seq)
            return
        if isinstance(event, OrderUnroutable):
            given_up = event.attempt > self._domain.read_rules(policy.content, policy.network).policy.attempts
            if not given_up and getattr(found, "reason", None) != event.reason:
                text = f"plan {event.plan_id} says {event.reason!r}; made again there is {_in_short(found)}"
                self.wrong("routing", stream, text, seq)
        elif _plan(found) != _plan(event):
            text = f"plan {event.plan_id} was {_in_short(event)}; made again it is {_in_short(found)}"
            self.wrong("routing", stream, text, seq)


def _plan(plan: Any) -> tuple[Any, ...]:
    return tuple(getattr(plan, name, None) for name in ("shipments", "cost", "proven_best"))


def _in_short(plan: Any) -> str:
    shipments = getattr(plan, "shipments", None)
    if shipments is None:
        return f"no plan ({plan.reason})"
    return f"{', '.join(f'{one.location} by {one.carrier} {one.service}' for one in shipments)} for {plan.cost.total}"


class FulfillmentBook(Book):
    """The work of locations."""

    service = "fulfillment"

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.created: dict[str, tuple[FulfillmentCreated, str, int]] = {}
        self.asked: Counter[Line] = Counter()
        """By fulfillment order and line, as is the next: units that left it, whichever way."""
        self.gone: Counter[Line] = Counter()
        self.shipped: Counter[Line] = Counter()
        self.shipped_ids: set[str] = set()
        self.parcels: dict[tuple[str, str, str], tuple[FulfillmentShipped, Any]] = {}
        """By fulfillment order, carrier and tracking number."""
        self.labels = Effects(self, "label", names)
        self._label_of: dict[tuple[str, int], str] = {}

    def take(self, seq: int, stream: str, event: Any) -> None:
        match event:
            case FulfillmentCreated():
                self.created[event.fulfillment_id] = (event, stream, seq)
                count_units(self.asked, event.fulfillment_id, event.lines)
            case FulfillmentRejected() | FulfillmentShortPicked() | FulfillmentLinesCanceled():
                count_units(self.gone, event.fulfillment_id, event.lines)
            case FulfillmentShipped():
                self._ship(seq, stream, event)
            case LabelRequested():
                self.labels.ask(event.label_id, stream, seq)
            case PackageLabeled():
                self._label(seq, stream, event)
            case LabelUnused():
                self.labels.done(event.label_id, stream, seq, event.tracking_number)
            case LabelFailed():
                self.labels.failed(event.label_id, stream, seq, unheard=not event.answered)

    def _ship(self, seq: int, stream: str, event: FulfillmentShipped) -> None:
        if event.fulfillment_id in self.shipped_ids:
            self.wrong("lines", stream, "the fulfillment order is shipped a second time", seq)
        self.shipped_ids.add(event.fulfillment_id)
        for package in event.packages:
            count_units(self.gone, event.fulfillment_id, package.lines)
            count_units(self.shipped, event.order_id, package.lines)
            self.parcels[event.fulfillment_id, package.carrier, package.tracking_number] = (event, package)

    def _label(self, seq: int, stream: str, event: PackageLabeled) -> None:
        self.labels.done(event.label_id, stream, seq, event.tracking_number)
        package = (event.fulfillment_id, event.package)
        known = self._label_of.setdefault(package, event.label_id)
        if known != event.label_id:
            text = f"package {event.package} was labeled as {known} and again as {event.label_id}"
            self.wrong("effects", stream, text, seq)


class TrackingBook(Book):
    """Parcels."""

    service = "tracking"
    skips = frozenset({"status"})

    def __init__(self) -> None:
        super().__init__()
        self._domain = import_module("services.tracking.domain")
        self.shipments: dict[str, Any] = {}
        self.announced: dict[str, tuple[ShipmentAnnounced, str, int]] = {}
        self.astray: set[str] = set()
        """Shipments that were once lost, or came back."""

    def take(self, seq: int, stream: str, event: Any) -> None:
        shipment = self._domain.SHIPMENT
        before = self.shipments.get(stream, shipment.initial)
        if isinstance(event, ShipmentScanned | ShipmentDelivered) and event.scan_id in before.scans:
            self.wrong("lines", stream, f"scan {event.scan_id} counts a second time", seq)
        self.shipments[stream] = shipment.evolve(before, event)
        if isinstance(event, ShipmentLost | ShipmentCameBack):
            self.astray.add(event.shipment_id)
        if isinstance(event, ShipmentAnnounced):
            if event.shipment_id in self.announced:
                self.wrong("lines", stream, "the parcel is announced a second time", seq)
            self.announced[event.shipment_id] = (event, stream, seq)


class ReturnsBook(Book):
    """Goods that came back, or never arrived, and their worth."""

    service = "returns"
    skips = frozenset({"parcel"})

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.domain = import_module("services.returns.domain")
        self.returns: dict[str, Any] = {}
        self.delivered: Counter[Line] = Counter()
        self.undelivered: Counter[Line] = Counter()
        """In parcels that were lost or came back, delivered after all or not."""
        self.astray: dict[str, tuple[PurchaseUndelivered, str, int]] = {}
        """By shipment."""
        self._astray_now: Counter[Line] = Counter()
        """The same, less what was delivered after all or credited."""
        self.taken: Counter[Line] = Counter()
        self.claimed: Counter[Line] = Counter()
        """In a return, or back for good."""
        self.inspected: Counter[tuple[str, str, Disposition]] = Counter()
        self._there: Counter[Line] = Counter()
        """By return and line: inspected and not missing, or not wanted back."""
        self.refunds = Effects(self, "refund", names)
        self.given_minor: Counter[str] = Counter()
        """By order: refunds asked for, and credit for exchanges."""
        self.given_of: Counter[Paid] = Counter()
        self._refunded: dict[str, tuple[str, int, int]] = {}
        """By return: where its last refund is asked for, and what all of them come to, the fee counted in."""
        self.exchanges: dict[str, tuple[str, int]] = {}
        self._bought: dict[str, tuple[OrderLine, ...]] = {}
        self._carriage: dict[str, int] = {}
        self._tax_included: dict[str, bool] = {}
        self._worth: dict[str, int] = {}
        self._fee_kept: set[str] = set()
        """Returns of which that is less the fee. Older ones tell their fee with their refund only."""
        self._credit: dict[str, int] = {}

    def take(self, seq: int, stream: str, event: Any) -> None:
        if stream.startswith("return-"):
            returns = self.domain.RETURN
            self.returns[stream] = returns.evolve(self.returns.get(stream, returns.initial), event)
        match event:
            case PurchaseRecorded():
                self._bought[event.order_id] = event.lines
                self._carriage[event.order_id] = (event.shipping + event.shipping_tax).minor
                self._tax_included[event.order_id] = event.tax_included
            case PurchaseRevised():
                self._bought[event.order_id] = event.lines
                self._give_back(event)
            case PurchaseUnitsCanceled():
                self._give_back(event)
            case PurchaseDelivered():
                count_units(self.delivered, event.order_id, event.lines)
                if event.shipment_id in self.astray:
                    self._less_astray(event)
            case PurchaseUndelivered():
                if event.shipment_id in self.astray:
                    self.wrong("lines", stream, f"{event.shipment_id} never arrived a second time", seq)
                self.astray[event.shipment_id] = (event, stream, seq)
                count_units(self.undelivered, event.order_id, event.lines)
                count_units(self._astray_now, event.order_id, event.lines)
            case UnitsClaimed():
                count_units(self.claimed, event.order_id, event.lines)
            case UnitsGivenBack():
                for given in event.lines:
                    self.claimed[event.order_id, given.line_id] -= given.quantity
            case UnitsTakenBack():
                self._take_back(seq, stream, event)
            case ReturnInspected():
                for line in event.lines:
                    self.inspected[event.return_id, line.sku, line.disposition] += line.quantity
                    if line.disposition is not Disposition.MISSING:
                        self._there[event.return_id, line.line_id] += line.quantity
            case GoodsWaived():
                count_units(self._there, event.return_id, event.lines)
                if event.undelivered:
                    self._give_up(seq, stream, event)
            case ExchangeRequested():
                self._exchange(seq, stream, event)
            case RefundRequested():
                self._refund(seq, stream, event)
            case RefundPaid():
                self.refunds.done(event.refund_id, stream, seq, event.provider_reference, event.amount)
            case RefundFailed():
                self.refunds.failed(event.refund_id, stream, seq)

    def _give_back(self, event: PurchaseRevised | PurchaseUnitsCanceled) -> None:
        for share in event.given_back:
            self._worth[share.return_id] = self._worth.get(share.return_id, 0) + share.amount.minor

    def _less_astray(self, event: PurchaseDelivered | UnitsTakenBack) -> None:
        for line in event.lines:
            key = event.order_id, line.line_id
            self._astray_now[key] = max(0, self._astray_now[key] - line.quantity)

    def _give_up(self, seq: int, stream: str, event: GoodsWaived) -> None:
        for line in event.lines:
            if line.quantity > (astray := self._astray_now[event.order_id, line.line_id]):
                text = f"line {line.line_id}: {line.quantity} units given up as lost, {astray} are lost"
                self.wrong("lines", stream, text, seq)

    def _take_back(self, seq: int, stream: str, event: UnitsTakenBack) -> None:
        worth = 0
        lines = {line.line_id: line for line in self._bought.get(event.order_id, ())}
        for part in event.lines:
            there = self._there[event.return_id, part.line_id]
            if part.quantity > there:
                text = f"line {part.line_id}: {there} units are back or waived, {part.quantity} are taken back"
                self.wrong("lines", stream, text, seq)
            line, start = lines.get(part.line_id), self.taken[event.order_id, part.line_id]
            if line is not None and start + part.quantity <= line.quantity:
                stop = start + part.quantity
                worth += range_of_units(goods_of(line), start, stop, line.quantity).minor
                if not self._tax_included[event.order_id]:
                    worth += range_of_units(line.tax, start, stop, line.quantity).minor
        count_units(self.taken, event.order_id, event.lines)
        if event.undelivered:
            self._less_astray(event)
        kept = sum(part.minor for part in (event.set_off, event.restocking_fee) if part)
        self._worth[event.return_id] = worth - kept
        if event.restocking_fee:
            self._fee_kept.add(event.return_id)

    def _exchange(self, seq: int, stream: str, event: ExchangeRequested) -> None:
        self.exchanges[event.return_id] = (stream, seq)
        self._credit[event.return_id] = event.credit.minor
        self.given_minor[event.order_id] += event.credit.minor
        for share in event.funds or (PaymentShare(reference=event.payment_reference, amount=event.credit),):
            self.given_of[event.order_id, share.reference] += share.amount.minor
        if event.funds and sum(share.amount.minor for share in event.funds) != event.credit.minor:
            self.wrong("money", stream, f"credit of {event.credit} is not what its payments come to", seq)
        price = sum(line.unit_price.minor * line.quantity for line in event.lines)
        if event.credit.minor > price:
            self.wrong("money", stream, f"credit of {event.credit} for goods that cost {price}", seq)

    def _refund(self, seq: int, stream: str, event: RefundRequested) -> None:
        if not self.refunds.ask(event.refund_id, stream, seq, event.amount):
            return
        self.given_minor[event.order_id] += event.amount.minor
        self.given_of[event.order_id, event.payment_reference] += event.amount.minor
        if event.amount != event.goods + event.tax + event.shipping:
            text = f"refund of {event.amount}, its parts are {event.goods}, {event.tax} and {event.shipping}"
            self.wrong("money", stream, text, seq)
        told_before = event.return_id in self._fee_kept
        fee = event.restocking_fee.minor if event.restocking_fee and not told_before else 0
        before = self._refunded[event.return_id][2] if event.return_id in self._refunded else 0
        self._refunded[event.return_id] = stream, seq, before + event.amount.minor + fee

    def worths(self) -> None:
        """What was given for a return is what its goods are worth."""
        for return_id, (stream, seq, refunded) in self._refunded.items():
            given, worth = refunded + self._credit.get(return_id, 0), self._worth.get(return_id, 0)
            carriage = self._carriage.get(self.returns[stream].order_id, 0)
            if given - worth not in (0, carriage):
                text = f"refund, credit and fee come to {given} minor units, the goods that came back to {worth}"
                self.wrong("money", stream, text, seq)
