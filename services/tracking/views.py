"""What tracking shows: parcels, and orders as their customers are told of them."""

from __future__ import annotations

from ordermill.contracts.base import Message
from ordermill.eventlog.views import PublishedState, View

from .domain import SHIPMENT, shipment_summary
from .status import STATUS, Status, order_status


def status_message(key: str, version: int, status: Status) -> Message:
    return order_status(status, version)


SHIPMENTS = View("shipments", SHIPMENT.category, shipment_summary, indexed=("order_id", "tracking_number", "milestone"))
ORDER_STATUS = View(
    "order_status",
    STATUS.category,
    lambda status: order_status(status, 0).model_dump(mode="json", exclude={"version"}),
    indexed=("status", "external_id"),
)
PUBLISHED_STATUS = PublishedState(STATUS.category, status_message)
