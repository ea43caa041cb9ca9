"""Returns and purchases as returns' HTTP answers with them. Numbers are units."""

from __future__ import annotations

from ordermill.contracts.fields import Instant, Money
from ordermill.contracts.returns import ExchangeLine
from ordermill.service.http import Answer, Document


class ReturnedLine(Answer):
    line_id: str
    sku: str
    asked: int
    received: int
    inspected: int
    missing: int
    waived: int


class ToInspect(Answer):
    location: str
    line_id: str
    units: int


class ReturnDocument(Document):
    """A return as it stands."""

    return_id: str
    order_id: str
    status: str | None
    rma: str | None
    reason: str | None
    wanted: str
    exchange_for: list[ExchangeLine]
    note: str
    declined_for: list[str]
    expires_at: Instant | None
    lines: list[ReturnedLine]
    to_inspect: list[ToInspect]
    refund_id: str | None
    refund: Money | None
    credit: Money | None
    failure: str | None


class BoughtLine(Answer):
    line_id: str
    sku: str
    title: str
    quantity: int
    final_sale: bool
    canceled: int
    delivered: int
    undelivered: int
    in_returns: int
    returned: int
    returnable: int
    creditable: int
    """Never arrived, and in no return."""
    last_delivered_at: Instant | None


class PurchaseDocument(Document):
    """What was bought with an order, and what of it may still come back."""

    order_id: str
    channel: str | None
    customer_id: str | None
    currency: str | None
    lines: list[BoughtLine]
    returns: list[str]
    shipments: list[str]
