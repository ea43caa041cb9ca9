"""Facts of tracking: each parcel's way, and each order's status as the customer is told it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Any, ClassVar, Literal

from .base import Fact, Message
from .carrier import TrackingNumber
from .fields import ChannelId, ExternalId, Id, Instant, LineQuantity, Part, Text

STATUS_TOPIC = "oms.orders.status"


class Milestone(StrEnum):
    """What a carrier's scan means to us. The raw code stands beside it."""

    LABEL_CREATED = "label_created"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    ATTEMPT_FAILED = "attempt_failed"
    READY_FOR_PICKUP = "ready_for_pickup"
    DELIVERED = "delivered"
    EXCEPTION = "exception"
    RETURNING = "returning"
    RETURNED = "returned"
    UNKNOWN = "unknown"


class ShipmentFact(Fact):
    shipment_id: Id


class ShipmentAnnounced(ShipmentFact):
    """Fulfillment handed this parcel to the carrier."""

    type: ClassVar[str] = "oms.tracking.shipment-announced.v1"
    order_id: Id
    fulfillment_id: Id
    carrier: Id
    tracking_number: TrackingNumber
    shipped_at: Instant
    promised_by: Instant
    lines: tuple[LineQuantity, ...]
    last_seen_at: Instant | None = None
    """The newest scan known by then, if any. How long a parcel may be silent counts from it."""


class ShipmentScanned(ShipmentFact):
    """The carrier saw the parcel."""

    type: ClassVar[str] = "oms.tracking.shipment-scanned.v1"
    scan_id: ExternalId
    milestone: Milestone
    code: str
    scanned_at: Instant
    place: Text = ""
    last_seen_at: Instant | None = None
    """The newest scan known by then, this one included, or the handover if that is newer. How long a parcel may be
    silent counts from it."""


class ShipmentDelivered(ShipmentFact):
    """The carrier says that the parcel reached its address."""

    type: ClassVar[str] = "oms.tracking.shipment-delivered.v2"
    class_version: ClassVar[int] = 2
    scan_id: ExternalId
    code: str
    delivered_at: Instant
    place: Text = ""
    proof: Literal["signature", "photo", "none", "unknown"]

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """v2 adds `proof`. v1 adapters never read that field, so the truth is "unknown", not "none"."""
        state["proof"] = "unknown"


class ShipmentFellLate(ShipmentFact):
    """The promise passed without a delivery."""

    type: ClassVar[str] = "oms.tracking.shipment-fell-late.v1"
    due_at: Instant
    """What was promised."""


class ShipmentLost(ShipmentFact):
    """No scan for so long that the parcel counts as lost."""

    type: ClassVar[str] = "oms.tracking.shipment-lost.v1"
    due_at: Instant


class ShipmentCameBack(ShipmentFact):
    """The parcel is back at its sender, not with the customer."""

    type: ClassVar[str] = "oms.tracking.shipment-came-back.v1"
    came_back_at: Instant


class TrackingNumberReused(ShipmentFact):
    """The carrier has given this parcel's number to another one. What it scans under the number from `since` on is that
    parcel's; what was scanned before stays this one's.
    """

    type: ClassVar[str] = "oms.tracking.tracking-number-reused.v1"
    reused_by: Id
    """The other parcel's id."""
    since: Instant


class Step(StrEnum):
    """What moved an order on, as a customer would tell it."""

    RECEIVED = "received"
    HELD = "held"
    HOLD_RELEASED = "hold_released"
    REVISED = "revised"
    CONFIRMED = "confirmed"
    BACKORDERED = "backordered"
    BACKORDER_FILLED = "backorder_filled"
    CANCELED = "canceled"
    PROMISED = "promised"
    SHIPPED = "shipped"
    MOVED = "moved"
    DELIVERED = "delivered"
    LATE = "late"
    LOST = "lost"
    RETURN_STARTED = "return_started"
    RETURNED = "returned"
    REFUNDED = "refunded"


class ParcelStatus(Part):
    """One parcel of an order, as its customer is told it."""

    shipment_id: Id
    carrier: Id
    tracking_number: TrackingNumber
    milestone: Milestone
    late: bool
    updated_at: Instant
    lost: bool = False


class OrderProgressed(Fact):
    """One step of an order. `units` counts what moved, below zero for units of which an earlier step no longer holds;
    `reference` names the parcel, hold, return or refund.

    `source` is the message or scan that it follows from: the same step from the same source is one step.
    """

    type: ClassVar[str] = "oms.tracking.order-progressed.v1"
    order_id: Id
    step: Step
    happened_at: Instant
    units: int = 0
    reference: str = ""
    source: str = ""
    channel: ChannelId | None = None
    external_id: ExternalId | None = None
    promised_by: Instant | None = None
    promised_on: date | None = None
    waived: bool = False
    """Of units that count as returned: they were lost, and credited without coming back."""
    parcel: ParcelStatus | None = None
    """The parcel that moved, as it is after this step."""


class OrderStatus(Message):
    """Where an order is, as its customer is told; the latest by key is all that counts."""

    type: ClassVar[str] = "oms.tracking.order-status.v1"
    topic: ClassVar[str] = STATUS_TOPIC

    order_id: Id
    version: int
    channel: ChannelId | None
    external_id: ExternalId | None
    status: Literal[
        "received", "on_hold", "confirmed", "backordered", "partially_shipped", "shipped",
        "partially_delivered", "delivered", "canceled", "partially_returned", "returned",
    ]  # fmt: skip
    late: bool
    ordered: int
    canceled: int
    shipped: int
    delivered: int
    returned: int
    promised_by: Instant | None
    parcels: tuple[ParcelStatus, ...]
    updated_at: Instant
    promised_on: date | None = None
    """The day that `promised_by` is where the order goes, as far as routing told it: the one to tell the customer."""
    waived: int = 0
    """Of those returned: units that were lost, and credited without coming back."""


ShipmentEvent = (
    ShipmentAnnounced | ShipmentScanned | ShipmentDelivered | ShipmentFellLate | ShipmentLost | ShipmentCameBack
    | TrackingNumberReused
)  # fmt: skip
