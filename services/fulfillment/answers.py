"""Fulfillment orders as fulfillment's HTTP answers with them."""

from __future__ import annotations

from ordermill.contracts.fields import Destination, Instant, LineQuantity, Money
from ordermill.service.http import Answer, Document


class WorkLine(Answer):
    """One line's units: asked for, still open, in hand, and why others are neither."""

    line_id: str
    sku: str
    title: str
    asked: int
    open: int
    picked: int
    short: int
    canceled: int
    rejected: int


class Package(Answer):
    package: int
    weight_g: int
    lines: list[LineQuantity]
    carrier: str
    service: str
    label: str
    label_id: str
    tracking_number: str | None
    cost: Money | None
    failure: str | None


class FulfillmentDocument(Document):
    """One order's part at one location."""

    fulfillment_id: str
    order_id: str
    location: str
    channel: str
    external_id: str
    status: str
    reject_reason: str | None
    carrier: str
    service: str
    ship_by: Instant
    deliver_by: Instant
    shipped_at: Instant | None
    destination: Destination
    lines: list[WorkLine]
    packages: list[Package]
