"""Facts of fulfillment: one order at one location, from accepting the work to handing parcels to the carrier."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from .base import Fact
from .capture import ReleasedLine
from .carrier import TrackingNumber
from .fields import (
    ChannelId,
    Destination,
    ExternalId,
    Grams,
    Id,
    Instant,
    LineQuantity,
    LocationId,
    Money,
    Part,
    Text,
)


class RejectReason(StrEnum):
    """Why a location will not do the work."""

    NO_CAPACITY = "no-capacity"
    OUT_OF_STOCK = "out-of-stock"
    DAMAGED = "damaged"
    CLOSED = "closed"
    OTHER = "other"


class FulfillmentFact(Fact):
    fulfillment_id: Id
    order_id: Id


class FulfillmentCreated(FulfillmentFact):
    """A location is asked to ship these lines."""

    type: ClassVar[str] = "oms.fulfillment.created.v1"
    location: LocationId
    channel: ChannelId
    external_id: ExternalId
    destination: Destination
    carrier: Id
    service: Id
    ship_by: Instant
    deliver_by: Instant
    lines: tuple[ReleasedLine, ...]


class FulfillmentAccepted(FulfillmentFact):
    """The location will do it."""

    type: ClassVar[str] = "oms.fulfillment.accepted.v1"


class FulfillmentRejected(FulfillmentFact):
    """The location will not do it; all its lines are routed again."""

    type: ClassVar[str] = "oms.fulfillment.rejected.v1"
    location: LocationId
    reason: RejectReason
    note: Text = ""
    lines: tuple[LineQuantity, ...]
    rejected_at: Instant | None = None
    """When the location did so; where it is not told, it is when this was recorded."""


class FulfillmentPicked(FulfillmentFact):
    """These units were taken from the shelves; picking is done."""

    type: ClassVar[str] = "oms.fulfillment.picked.v1"
    lines: tuple[LineQuantity, ...]
    picked_at: Instant | None = None
    """When somebody stood at the shelf; where it is not told, it is when this was recorded."""


class FulfillmentShortPicked(FulfillmentFact):
    """These units were not on the shelves; they are routed again, the rest goes on."""

    type: ClassVar[str] = "oms.fulfillment.short-picked.v1"
    location: LocationId
    lines: tuple[LineQuantity, ...]
    picked_at: Instant | None = None
    """As in FulfillmentPicked."""


class PackedPackage(Part):
    """A packed box; `package` counts from 1 within the fulfillment order."""

    package: Annotated[int, Field(ge=1, le=999, strict=True)]
    weight_g: Grams
    lines: tuple[LineQuantity, ...]


class FulfillmentPacked(FulfillmentFact):
    """All picked units are in boxes."""

    type: ClassVar[str] = "oms.fulfillment.packed.v1"
    packages: tuple[PackedPackage, ...]


class LabelRequested(FulfillmentFact):
    """A label is to be bought. An effect: done once under its `label_id`."""

    type: ClassVar[str] = "oms.fulfillment.label-requested.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.requests",)
    label_id: Id
    package: int
    location: LocationId
    carrier: Id
    service: Id
    weight_g: Grams
    destination: Destination


class SoldLabelFact(FulfillmentFact):
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)
    label_id: Id
    package: int
    carrier: Id
    service: Id
    tracking_number: TrackingNumber
    cost: Money


class PackageLabeled(SoldLabelFact):
    """The carrier sold a label."""

    type: ClassVar[str] = "oms.fulfillment.labeled.v1"


class LabelFailed(FulfillmentFact):
    """The carrier will not sell a label for this package; a person must choose another way."""

    type: ClassVar[str] = "oms.fulfillment.label-failed.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)
    label_id: Id
    package: int
    reason: Text
    answered: bool = True
    """False: the carrier was asked in vain until we gave up; it may have sold the label all the same."""


class LabelUnused(SoldLabelFact):
    """The carrier has sold a label that no box waits for any more: it is paid for in vain. Have the carrier void it."""

    type: ClassVar[str] = "oms.fulfillment.label-unused.v1"
    reason: Text
    """What is so instead."""


class ShippedPackage(Part):
    package: int
    carrier: Id
    service: Id
    tracking_number: TrackingNumber
    lines: tuple[LineQuantity, ...]


class FulfillmentShipped(FulfillmentFact):
    """The carrier has the packages; the units have left the building."""

    type: ClassVar[str] = "oms.fulfillment.shipped.v1"
    location: LocationId
    shipped_at: Instant
    deliver_by: Instant
    packages: tuple[ShippedPackage, ...]


class FulfillmentLinesCanceled(FulfillmentFact):
    """In time: these units are not shipped, whatever was done with them so far is undone."""

    type: ClassVar[str] = "oms.fulfillment.lines-canceled.v1"
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]


class FulfillmentCancellationDeclined(FulfillmentFact):
    """Too late: these units are packed or gone."""

    type: ClassVar[str] = "oms.fulfillment.cancellation-declined.v1"
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]


Event = (
    FulfillmentCreated
    | FulfillmentAccepted
    | FulfillmentRejected
    | FulfillmentPicked
    | FulfillmentShortPicked
    | FulfillmentPacked
    | LabelRequested
    | PackageLabeled
    | LabelFailed
    | LabelUnused
    | FulfillmentShipped
    | FulfillmentLinesCanceled
    | FulfillmentCancellationDeclined
)
