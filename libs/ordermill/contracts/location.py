"""What locations publish on `oms.location.stock`: what they took in, lost, found and counted."""

from __future__ import annotations

from typing import ClassVar

from .base import Message
from .fields import Count, Delta, ExternalId, Instant, LocationId, Quantity, Sku, Text

TOPIC = "oms.location.stock"


class StockMessage(Message):
    """A feed's line: which SKU, where, when. `reference` is the feed's own id of it; the same twice is one."""

    topic: ClassVar[str] = TOPIC
    location: LocationId
    sku: Sku
    reference: ExternalId
    happened_at: Instant


class StockArrived(StockMessage):
    """Goods came in and may be sold."""

    type: ClassVar[str] = "oms.location.stock-arrived.v1"
    topic: ClassVar[str] = TOPIC
    quantity: Quantity


class StockCorrected(StockMessage):
    """Found or lost: a change by so many units."""

    type: ClassVar[str] = "oms.location.stock-corrected.v1"
    topic: ClassVar[str] = TOPIC
    delta: Delta
    reason: Text


class StockCounted(StockMessage):
    """A person counted what was there at `happened_at`. What has moved since has moved."""

    type: ClassVar[str] = "oms.location.stock-counted.v1"
    topic: ClassVar[str] = TOPIC
    counted: Count


StockFeed = StockArrived | StockCorrected | StockCounted
