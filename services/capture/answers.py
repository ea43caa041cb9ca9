"""Orders as capture's HTTP answers with them."""

from __future__ import annotations

from ordermill.contracts.fields import Destination, Instant, Money
from ordermill.service.http import Answer, Document


class Hold(Answer):
    reason: str
    note: str


class RefusedChange(Answer):
    """A change by the channel that was refused, the newest of those for this reason, with which no person has dealt."""

    change_id: str
    reason: str


class Line(Answer):
    """What was bought, and what became of it; units."""

    line_id: str
    sku: str
    title: str
    quantity: int
    canceled: int
    cancel_requested: int
    shipped: int


class OrderDocument(Document):
    """An order as capture sees it."""

    order_id: str
    channel: str
    external_id: str
    placed_at: Instant | None
    status: str
    """unknown, rejected, held, released, shipped or canceled."""
    holds: list[Hold]
    reasons: list[str]
    """Why it was rejected."""
    refused_changes: list[RefusedChange]
    revision: int
    lines: list[Line]
    total: Money | None
    payment: str | None
    charged: Money | None
    unpaid: Money | None
    refunded: Money | None
    refunds_pending: Money | None
    refunds_failed: Money | None
    service_level: str
    customer_id: str | None
    customer: str
    """Whether it is known who bought it: kept, forgetting or forgotten."""
    destination: Destination | None
