"""Counting what the product tells, as an analyst would from its topics: how far it is, and the table at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from ordermill.contracts.base import Message
from ordermill.contracts.capture import (
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    OrderCaptured,
    OrderLinesCanceled,
    OrderRejected,
    OrderReleased,
    OrderRevised,
)
from ordermill.contracts.fields import Money
from ordermill.contracts.fulfillment import FulfillmentRejected, FulfillmentShipped, FulfillmentShortPicked
from ordermill.contracts.inventory import OrderAllocated, OrderBackordered, OrderReserved
from ordermill.contracts.returns import (
    ExchangeRequested,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnRequested,
)
from ordermill.contracts.routing import OrderRouted, PromiseChanged, PromiseMade
from ordermill.contracts.tracking import ShipmentAnnounced, ShipmentCameBack, ShipmentDelivered, ShipmentLost


@dataclass(slots=True)
class OrderCount:
    """One order in units."""

    channel: str
    ordered: int
    canceled: int = 0
    shipped: int = 0
    delivered: int = 0
    lost: int = 0
    came_back: int = 0
    shipments: int = 0
    promised_by: datetime | None = None
    delivered_at: datetime | None = None

    @property
    def settled(self) -> bool:
        """Nothing of it is under way any more."""
        return self.channel != "" and self.ordered - self.canceled <= self.delivered + self.lost + self.came_back

    @property
    def in_time(self) -> bool:
        """All that arrived did so by the last promise."""
        return bool(self.delivered_at and self.promised_by and self.delivered_at <= self.promised_by)


@dataclass
class Tally:
    """All orders, counted from facts that may come twice: each fact's subject is counted once."""

    done: set[str] = field(default_factory=set)
    """Steps of the world that facts show as taken."""
    orders: dict[str, OrderCount] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    reserved: set[str] = field(default_factory=set)
    backordered: set[str] = field(default_factory=set)
    routed: set[str] = field(default_factory=set)
    allocated: set[str] = field(default_factory=set)
    rejections: set[str] = field(default_factory=set)
    short_picks: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    open_returns: set[str] = field(default_factory=set)
    exchanges: set[str] = field(default_factory=set)
    open_refunds: set[str] = field(default_factory=set)
    failed_refunds: set[str] = field(default_factory=set)
    refunds: dict[str, Money] = field(default_factory=dict)
    _parcels: dict[str, ShipmentAnnounced] = field(default_factory=dict)
    _early: dict[str, ShipmentDelivered] = field(default_factory=dict)
    """Deliveries of parcels that nobody has announced yet: carriers are sometimes faster than the counter."""
    _early_back: set[str] = field(default_factory=set)
    """The same of parcels that came back."""
    _seen: set[tuple[str, str]] = field(default_factory=set)

    wants: ClassVar[frozenset[type[Message]]] = frozenset({
        OrderCaptured, OrderRejected, OrderReleased, OrderRevised, OrderLinesCanceled, OrderReserved, OrderBackordered,
        OrderRouted, OrderAllocated, FulfillmentRejected, FulfillmentShortPicked, FulfillmentShipped, PromiseMade,
        PromiseChanged, ShipmentAnnounced, ShipmentDelivered, ShipmentLost, ShipmentCameBack, ReturnRequested,
        ReturnDeclined, ReturnExpired, ReturnClosed, ExchangeRequested, CancellationRefundRequested,
        CancellationRefunded, CancellationRefundFailed, RefundRequested, RefundPaid, RefundFailed,
    })  # fmt: skip

    def count(self, fact: Message, at: datetime) -> None:
        match fact:
            case OrderCaptured():
                if self._first("captured", fact.order_id):
                    order = self._order(fact.order_id)
                    order.channel, order.ordered = fact.channel, sum(line.quantity for line in fact.lines)
            case OrderRejected():
                self.rejected.add(fact.order_id)
            case OrderRevised():
                self.orders[fact.order_id].ordered = sum(line.quantity for line in fact.lines)
            case OrderReleased():
                self.released.add(fact.order_id)
            case OrderReserved():
                self.reserved.add(fact.order_id)
            case OrderBackordered():
                self.backordered.add(fact.order_id)
            case OrderRouted():
                self.routed.add(fact.order_id)
            case OrderAllocated():
                self.allocated.add(fact.order_id)
            case OrderLinesCanceled():
                if self._first("canceled", f"{fact.order_id}|{fact.cancellation_id}|{fact.source_id}"):
                    self.orders[fact.order_id].canceled += sum(line.quantity for line in fact.lines)
            case FulfillmentRejected():
                self.rejections.add(fact.fulfillment_id)
            case FulfillmentShortPicked():
                self.short_picks.add(fact.fulfillment_id)
            case FulfillmentShipped():
                if self._first("shipped", fact.fulfillment_id):
                    order = self._order(fact.order_id)
                    order.shipments += 1
                    order.shipped += sum(line.quantity for package in fact.packages for line in package.lines)
            case PromiseMade() | PromiseChanged():
                self._order(fact.order_id).promised_by = fact.promised_by
            case ShipmentAnnounced():
                self._parcels[fact.shipment_id] = fact
                if fact.shipment_id in self._early:
                    self._arrived(self._early.pop(fact.shipment_id))
                elif fact.shipment_id in self._early_back:
                    self._came_back(fact.shipment_id)
            case ShipmentDelivered():
                self._arrived(fact)
            case ShipmentLost():
                parcel = self._parcels[fact.shipment_id]
                if self._first("lost", fact.shipment_id) and ("delivered", fact.shipment_id) not in self._seen:
                    self._order(parcel.order_id).lost += sum(line.quantity for line in parcel.lines)
            case ShipmentCameBack():
                self._came_back(fact.shipment_id)
            case _:
                self._money(fact)

    def _money(self, fact: Message) -> None:
        match fact:
            case ReturnRequested():
                self.returned.add(fact.order_id)
                if ("return-closed", fact.return_id) not in self._seen:
                    self.open_returns.add(fact.return_id)
            case ReturnDeclined() | ReturnExpired() | ReturnClosed():
                self._first("return-closed", fact.return_id)
                self.open_returns.discard(fact.return_id)
            case ExchangeRequested():
                self.exchanges.add(fact.return_id)
            case CancellationRefundRequested() | RefundRequested():
                if ("refund", fact.refund_id) not in self._seen:
                    self.open_refunds.add(fact.refund_id)
            case CancellationRefunded() | RefundPaid():
                if self._first("refund", fact.refund_id):
                    self.refunds[fact.refund_id] = fact.amount
                self.open_refunds.discard(fact.refund_id)
            case CancellationRefundFailed() | RefundFailed():
                self._first("refund", fact.refund_id)
                self.failed_refunds.add(fact.refund_id)
                self.open_refunds.discard(fact.refund_id)

    def _arrived(self, fact: ShipmentDelivered) -> None:
        parcel = self._parcels.get(fact.shipment_id)
        if parcel is None:
            self._early[fact.shipment_id] = fact
            return
        if not self._first("delivered", fact.shipment_id):
            return
        order, units = self._order(parcel.order_id), sum(line.quantity for line in parcel.lines)
        order.delivered += units
        if ("lost", fact.shipment_id) in self._seen:
            order.lost -= units
        elif ("came back", fact.shipment_id) in self._seen:
            order.came_back -= units
        order.delivered_at = max(filter(None, (order.delivered_at, fact.delivered_at)))

    def _came_back(self, shipment_id: str) -> None:
        """Of a parcel that counted as lost before it is not told again."""
        parcel = self._parcels.get(shipment_id)
        if parcel is None:
            self._early_back.add(shipment_id)
        elif self._seen.isdisjoint({("delivered", shipment_id), ("lost", shipment_id), ("came back", shipment_id)}):
            self._seen.add(("came back", shipment_id))
            self._order(parcel.order_id).came_back += sum(line.quantity for line in parcel.lines)

    def _order(self, order_id: str) -> OrderCount:
        """Topics are read side by side: word of an order may overtake its capture."""
        return self.orders.setdefault(order_id, OrderCount("", 0))

    def _first(self, what: str, subject: str) -> bool:
        if (what, subject) in self._seen:
            return False
        self._seen.add((what, subject))
        return True

    def settled(self, expected: int) -> bool:
        """All expected orders came, and nothing of any is under way."""
        came = sum(1 for order in self.orders.values() if order.channel not in ("", "exchange")) + len(self.rejected)
        moving = self.open_returns or self.open_refunds
        return came >= expected and not moving and all(order.settled for order in self.orders.values())

    def progress(self) -> dict[str, int]:
        """How many orders have come how far."""
        orders = self.orders.values()
        return {
            "captured": len(self.orders),
            "reserved": len(self.reserved),
            "routed": len(self.routed),
            "shipped": sum(1 for order in orders if order.shipped),
            "delivered": sum(1 for order in orders if order.delivered),
            "settled": sum(1 for order in orders if order.settled),
            "returns": len(self.returned),
        }

    def report(self) -> dict[str, Any]:
        orders = self.orders.values()
        arrived = [order for order in orders if order.delivered_at is not None and order.promised_by is not None]
        in_time = sum(1 for order in arrived if order.in_time)
        by_channel: dict[str, int] = {}
        for order in orders:
            by_channel[order.channel] = by_channel.get(order.channel, 0) + 1
        return {
            "orders": len(self.orders),
            "by_channel": dict(sorted(by_channel.items())),
            "turned_away": len(self.rejected),
            "split": sum(1 for order in orders if order.shipments > 1),
            "backordered": len(self.backordered),
            "rejected_by_a_location": len(self.rejections),
            "short_picked": len(self.short_picks),
            "canceled": sum(1 for order in orders if order.canceled >= order.ordered),
            "shipped": sum(1 for order in orders if order.shipped),
            "delivered": sum(1 for order in orders if order.delivered),
            "delivered_by_promise": in_time,
            "delivered_by_promise_percent": round(100 * in_time / len(arrived), 1) if arrived else None,
            "lost": sum(1 for order in orders if order.lost),
            "came_back": sum(1 for order in orders if order.came_back),
            "returned": len(self.returned),
            "exchanged": len(self.exchanges),
            "refunds": len(self.refunds),
            "refunded": Money.sum(self.refunds.values(), "USD").model_dump() if self.refunds else None,
            "refunds_failed": len(self.failed_refunds),
            "settled": all(order.settled for order in orders),
        }
