"""Parcels and orders as tracking's HTTP answers with them."""

from __future__ import annotations

from datetime import date

from ordermill.contracts.fields import Instant, LineQuantity
from ordermill.contracts.tracking import ParcelStatus
from ordermill.service.http import Answer, Document


class ShipmentDocument(Document):
    """One parcel's way. What fulfillment tells of it is null until it does."""

    shipment_id: str
    order_id: str | None
    fulfillment_id: str | None
    carrier: str | None
    tracking_number: str | None
    milestone: str
    place: str
    late: bool
    lost: bool
    shipped_at: Instant | None
    promised_by: Instant | None
    last_seen_at: Instant | None
    delivered_at: Instant | None
    scans: int
    lines: list[LineQuantity]


class OrderState(Answer):
    """Where an order is, as its customer is told. Numbers are units."""

    order_id: str
    channel: str | None
    external_id: str | None
    status: str
    late: bool
    ordered: int
    canceled: int
    shipped: int
    delivered: int
    returned: int
    waived: int
    promised_by: Instant | None
    promised_on: date | None
    parcels: list[ParcelStatus]
    updated_at: Instant


class OrderStatusDocument(Document, OrderState):
    """The order's status, as the team sees it."""


class CustomersOrder(OrderState):
    """The order as its customer sees it."""

    in_words: str


class Link(Answer):
    path: str
    """Below the address at which tracking can be reached."""
