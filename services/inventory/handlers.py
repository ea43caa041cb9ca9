"""Messages in, decisions out; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from ordermill.contracts.capture import CancellationRequested, OrderReleased
from ordermill.contracts.fulfillment import (
    FulfillmentCancellationDeclined,
    FulfillmentLinesCanceled,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
)
from ordermill.contracts.location import StockArrived, StockCorrected, StockCounted, StockMessage
from ordermill.contracts.returns import ReturnInspected
from ordermill.contracts.routing import OrderRerouted, OrderRouted
from ordermill.decider import Decision
from ordermill.network import Network
from ordermill.service.declare import Received

from .domain import (
    AllocatePlan,
    CancelUnits,
    Command,
    CorrectStock,
    CountStock,
    HeedNetwork,
    KeepRecalled,
    LetGoRecalled,
    ReceiveStock,
    ReserveOrder,
    ShipOut,
    TakeBackRejected,
    TakeBackShortPicked,
    TakeInReturn,
    decision,
)

UNROUTABLE = "unroutable"
"""Why capture cancels what routing has given up, and how the ids of these cancellations begin."""


class Feeds:
    """What locations say of their stock, and what else needs to know the network or the settings."""

    def __init__(self, network: Network, backorder_cap: int) -> None:
        self._locations = network.location_ids
        self._shipping = network.shipping_ids
        self._backorder_cap = backorder_cap

    def arrived(self, feed: StockArrived, received: Received) -> Iterable[Decision]:
        return [decision(self.receive(feed, received.now))]

    def corrected(self, feed: StockCorrected, received: Received) -> Iterable[Decision]:
        return [decision(self.correct(feed, received.now))]

    def counted(self, feed: StockCounted, received: Received) -> Iterable[Decision]:
        return [decision(self.count(feed, received.now))]

    def receive(self, feed: StockArrived, now: datetime) -> Command:
        return ReceiveStock(feed.sku, feed.location, feed.quantity, feed.reference, *self._about(feed, now))

    def correct(self, feed: StockCorrected, now: datetime) -> Command:
        return CorrectStock(feed.sku, feed.location, feed.delta, feed.reason, feed.reference, *self._about(feed, now))

    def count(self, feed: StockCounted, now: datetime) -> Command:
        return CountStock(feed.sku, feed.location, feed.counted, feed.reference, *self._about(feed, now))

    def _about(self, feed: StockMessage, now: datetime) -> tuple[datetime, frozenset[str], bool]:
        return min(feed.happened_at, now), self._locations, self._ships(feed.location)

    def inspected(self, fact: ReturnInspected, received: Received) -> Iterable[Decision]:
        at, ships = _at(received), self._ships(fact.location)
        return [decision(TakeInReturn(fact.return_id, received.message_id, fact.location, fact.lines, at, ships))]

    def at_start(self, stocks: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Decision]:
        """What the network says otherwise of SKUs' locations than their stock does (documents of its view)."""
        return [
            decision(HeedNetwork(sku, self._shipping))
            for sku, stock in stocks
            if any(shelf.get("ships", True) != self._ships(at) for at, shelf in stock["locations"].items())
        ]

    def _ships(self, location: str) -> bool:
        return location in self._shipping

    def released(self, fact: OrderReleased, received: Received) -> Iterable[Decision]:
        return [decision(ReserveOrder(fact, self._backorder_cap))]


def routed(fact: OrderRouted | OrderRerouted, received: Received) -> Iterable[Decision]:
    return [decision(AllocatePlan(fact.order_id, fact.plan_id, fact.shipments))]


def rejected(fact: FulfillmentRejected, received: Received) -> Iterable[Decision]:
    at = min(fact.rejected_at or received.happened_at, received.now)
    return [decision(TakeBackRejected(fact.order_id, fact.fulfillment_id, fact.reason, fact.lines, at))]


def short_picked(fact: FulfillmentShortPicked, received: Received) -> Iterable[Decision]:
    at = min(fact.picked_at or received.happened_at, received.now)
    return [decision(TakeBackShortPicked(fact.order_id, fact.fulfillment_id, fact.lines, at))]


def shipped(fact: FulfillmentShipped, received: Received) -> Iterable[Decision]:
    lines = tuple(line for package in fact.packages for line in package.lines)
    at = min(fact.shipped_at, received.now)
    return [decision(ShipOut(fact.order_id, fact.fulfillment_id, lines, at))]


def _at(received: Received) -> datetime:
    """When it happened. Nothing has happened that is still to come, whatever a sender's clock says."""
    return min(received.happened_at, received.now)


def cancellation_requested(fact: CancellationRequested, received: Received) -> Iterable[Decision]:
    # A channel words its reasons as it likes.
    ours = fact.reason == UNROUTABLE and fact.cancellation_id.startswith(f"{UNROUTABLE}:")
    cause: Literal["canceled", "unroutable"] = "unroutable" if ours else "canceled"
    return [decision(CancelUnits(fact.order_id, fact.cancellation_id, cause, fact.lines))]


def recall_answered(fact: FulfillmentLinesCanceled, received: Received) -> Iterable[Decision]:
    return [decision(LetGoRecalled(fact.order_id, fact.fulfillment_id, fact.cancellation_id, fact.lines))]


def recall_declined(fact: FulfillmentCancellationDeclined, received: Received) -> Iterable[Decision]:
    return [decision(KeepRecalled(fact.order_id, fact.fulfillment_id, fact.cancellation_id, fact.lines))]
