"""Stock and claims as inventory's HTTP answers with them. Numbers are units."""

from __future__ import annotations

from ordermill.contracts.fields import Destination, Instant
from ordermill.service.http import Answer, Document


class Shelf(Answer):
    on_hand: int
    allocated: int
    unallocated: int
    set_aside: int
    """Those of `unallocated` that are not for sale: the location does not ship."""
    ships: bool


class StockDocument(Document):
    """One SKU over all locations; `key` is the SKU."""

    known: bool
    on_hand: int
    available: int
    """What a new order may claim (ATP); negative if more is claimed than there is."""
    reserved: int
    allocated: int
    backordered: int
    set_aside: int
    """On hand where nothing ships from, and so not for sale."""
    open_claims: int
    received: int
    adjusted: int
    restocked: int
    shipped_out: int
    written_off: int
    locations: dict[str, Shelf]


class Shortage(Answer):
    line_id: str
    sku: str
    wanted: int
    available: int
    reason: str


class ClaimedLine(Answer):
    line_id: str
    sku: str
    title: str
    quantity: int
    reserved: int
    backordered: int
    allocated: int
    shipped: int
    let_go: int


class HeldAt(Answer):
    """What one location holds for the order, by line."""

    location: str
    units: dict[str, int]


class ReservationDocument(Document):
    """One order's claim. What stands in the order itself is missing where it was refused."""

    order_id: str
    refused: bool
    shortages: list[Shortage]
    lines: list[ClaimedLine]
    fulfillments: dict[str, HeldAt]
    channel: str | None = None
    external_id: str | None = None
    placed_at: Instant | None = None
    service_level: str | None = None
    allow_backorder: bool | None = None
    destination: Destination | None = None
