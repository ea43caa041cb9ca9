"""One order at one location. Pure: time and ids come in with the commands."""

from .commands import (
    Accept,
    CancelLines,
    Command,
    CreateFulfillment,
    HandOver,
    Pack,
    Pick,
    RecordLabel,
    RecordLabelFailure,
    Reject,
    RetryLabel,
)
from .decisions import decide
from .fulfillment_order import (
    FULFILLMENT,
    FulfillmentOrder,
    Package,
    Stage,
    fulfillment_summary,
    status_of,
)

__all__ = [
    "FULFILLMENT",
    "Accept",
    "CancelLines",
    "Command",
    "CreateFulfillment",
    "FulfillmentOrder",
    "HandOver",
    "Pack",
    "Package",
    "Pick",
    "RecordLabel",
    "RecordLabelFailure",
    "Reject",
    "RetryLabel",
    "Stage",
    "decide",
    "fulfillment_summary",
    "status_of",
]
