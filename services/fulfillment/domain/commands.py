"""What may be asked of a fulfillment order, or told about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import (
    PackedPackage,
    RejectReason,
)


@dataclass(frozen=True, slots=True)
class CreateFulfillment:
    """Ask a location to ship its part of an order; one for each allocation of inventory's OrderAllocated."""

    fulfillment_id: str
    order_id: str
    location: str
    channel: str
    external_id: str
    destination: Destination
    carrier: str
    service: str
    ship_by: datetime
    deliver_by: datetime
    lines: tuple[ReleasedLine, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    fulfillment_id: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The location gives all units back; possible until they are packed. `at`: when it did."""

    fulfillment_id: str
    reason: RejectReason
    note: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """What the picker found, all of it, and when. What is asked for and not in `lines` was not there."""

    fulfillment_id: str
    lines: tuple[LineQuantity, ...]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pack:
    fulfillment_id: str
    packages: tuple[PackedPackage, ...]


@dataclass(frozen=True, slots=True)
class RecordLabel:
    """The carrier sold the label that was asked for as `label_id`."""

    fulfillment_id: str
    package: int
    label_id: str
    carrier: str
    service: str
    tracking_number: str
    cost: Money


@dataclass(frozen=True, slots=True)
class RecordLabelFailure:
    """There is no label. `answered` is False if the carrier did not say so itself, and may have sold one."""

    fulfillment_id: str
    package: int
    label_id: str
    reason: str
    answered: bool = True


@dataclass(frozen=True, slots=True)
class RetryLabel:
    """A person asks again after a failure; another carrier or service if they name one."""

    fulfillment_id: str
    package: int
    carrier: str | None = None
    service: str | None = None


@dataclass(frozen=True, slots=True)
class HandOver:
    """The carrier took the packages at `shipped_at`, as somebody said at `reported_at`."""

    fulfillment_id: str
    shipped_at: datetime
    reported_at: datetime


@dataclass(frozen=True, slots=True)
class CancelLines:
    """Inventory calls units off (AllocationRecalled) and gets one answer for each `cancellation_id`."""

    fulfillment_id: str
    cancellation_id: str
    lines: tuple[LineQuantity, ...]


Command = (
    CreateFulfillment
    | Accept
    | Reject
    | Pick
    | Pack
    | RecordLabel
    | RecordLabelFailure
    | RetryLabel
    | HandOver
    | CancelLines
)
