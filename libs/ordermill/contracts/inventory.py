"""Facts of inventory. Stock streams hold one SKU over all locations; reservation streams one order's claim.

Every unit is in exactly one state: on hand and free, set aside (on hand where nothing ships from), reserved (claimed,
no location yet), allocated (claimed at a location), shipped out, written off. A backordered unit does not exist yet; it
waits its turn.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import Fact, Message
from .capture import ReleasedLine
from .channel import ServiceLevel
from .fields import (
    ChannelId,
    Count,
    Delta,
    Destination,
    ExternalId,
    Id,
    Instant,
    LineQuantity,
    LocationId,
    Part,
    Quantity,
    Sku,
    Text,
)

AVAILABILITY_TOPIC = "oms.inventory.availability"
STOCK_TOPIC = "oms.inventory.stock"

LetGoCause = Literal["canceled", "shortage", "unroutable"]
DeallocationCause = Literal["rejected", "short-pick", "manual"]


class StockFact(Fact):
    """A fact about one SKU. On a topic of its own: there are three for each line of each order, and who follows orders
    has no use for them.
    """

    topic: ClassVar[str] = STOCK_TOPIC

    sku: Sku


class MovementFact(StockFact):
    """A fact that changes what is on hand at a location."""

    location: LocationId
    happened_at: Instant | None = None
    """When it was so at the location, which is not when it was heard: a count speaks of its own time. Older facts have
    none."""


class StockReceived(MovementFact):
    """Goods came in at a location."""

    type: ClassVar[str] = "oms.inventory.stock-received.v1"
    quantity: Quantity
    reference: ExternalId


class StockAdjusted(MovementFact):
    """Units were found or lost, and why."""

    type: ClassVar[str] = "oms.inventory.stock-adjusted.v1"
    delta: Delta
    reason: Text
    reference: ExternalId


class StockCountRecorded(MovementFact):
    """A count, and what it changed: `delta` = counted - what we thought was on hand when it was taken."""

    type: ClassVar[str] = "oms.inventory.stock-counted.v1"
    counted: Count
    delta: Delta
    reference: ExternalId


class StockRejected(StockFact):
    """A feed's line that is not taken: it would leave less than nothing, names no location of ours, or is too old."""

    type: ClassVar[str] = "oms.inventory.stock-rejected.v1"
    location: Annotated[str, Field(max_length=40)]
    reference: ExternalId
    reason: Text


class ClaimFact(StockFact):
    """A fact about one order line's claim on one SKU."""

    order_id: Id
    line_id: Id
    quantity: Quantity


class StockReserved(ClaimFact):
    """Units are claimed over the whole network."""

    type: ClassVar[str] = "oms.inventory.stock-reserved.v1"


class StockBackordered(ClaimFact):
    """Units that are not there are waited for, first come, first served."""

    type: ClassVar[str] = "oms.inventory.stock-backordered.v1"
    cap: Count | None = None
    """Units of the SKU that might wait at once when these were let wait; none where claimed units have gone."""


class BackorderFilled(ClaimFact):
    """Waiting units have come: backordered becomes reserved."""

    type: ClassVar[str] = "oms.inventory.backorder-filled.v1"


class StockAllocated(ClaimFact):
    """Reserved becomes allocated, at a location."""

    type: ClassVar[str] = "oms.inventory.stock-allocated.v1"
    location: LocationId


class StockDeallocated(ClaimFact):
    """Allocated becomes reserved again: the location will not or cannot ship it."""

    type: ClassVar[str] = "oms.inventory.stock-deallocated.v1"
    location: LocationId


class StockLetGo(ClaimFact):
    """A claim ends without a shipment. `was` is the state that the units leave."""

    type: ClassVar[str] = "oms.inventory.stock-let-go.v1"
    was: Literal["reserved", "backordered", "allocated"]
    location: LocationId | None = None


class StockShippedOut(ClaimFact, MovementFact):
    """Allocated units left the building."""

    type: ClassVar[str] = "oms.inventory.stock-shipped-out.v1"


class StockRestocked(MovementFact):
    """Returned units are for sale again."""

    type: ClassVar[str] = "oms.inventory.stock-restocked.v1"
    quantity: Quantity
    return_id: Id
    reference: ExternalId
    """The inspection's own id; the same twice is one."""


class StockWrittenOff(StockFact):
    """Returned units are not fit for sale."""

    type: ClassVar[str] = "oms.inventory.stock-written-off.v1"
    location: LocationId
    quantity: Quantity
    return_id: Id
    reference: ExternalId
    reason: Text


class StockSetAside(StockFact):
    """Free units at a location that does not ship are on hand, but not for sale; where it ships again, they are."""

    type: ClassVar[str] = "oms.inventory.stock-set-aside.v1"
    location: LocationId
    delta: Delta
    """Units set aside; negative where they are for sale again, or are not free any more."""
    ships: bool
    """Whether the location ships, by the network in force."""


class OrderFact(Fact):
    """A fact about one order's claim."""

    order_id: Id


class Shortage(Part):
    """Why a line can't be had."""

    line_id: Id
    sku: Sku
    wanted: Quantity
    available: int
    reason: Literal["unknown-sku", "out-of-stock", "backorders-full"]


class ReservationOpened(OrderFact):
    """An order asks for stock, and gets it or may wait. What later facts about its claim need to know."""

    type: ClassVar[str] = "oms.inventory.reservation-opened.v1"
    channel: ChannelId
    external_id: ExternalId
    placed_at: Instant
    destination: Destination
    service_level: ServiceLevel
    allow_backorder: bool
    lines: tuple[ReleasedLine, ...]


class OrderReserved(OrderFact):
    """Stock is claimed for these lines; routing may choose where from."""

    type: ClassVar[str] = "oms.inventory.order-reserved.v1"
    placed_at: Instant
    destination: Destination
    service_level: ServiceLevel
    lines: tuple[ReleasedLine, ...]


class OrderBackordered(OrderFact):
    """These units wait for stock. `was` is the state that they leave: units may turn out missing."""

    type: ClassVar[str] = "oms.inventory.order-backordered.v1"
    lines: tuple[LineQuantity, ...]
    was: Literal["asked", "reserved", "allocated"] = "asked"
    fulfillment_id: Id | None = None
    """Where they were allocated."""


class OrderBackorderFilled(OrderFact):
    """Lines that waited are claimed now; routing may choose where from."""

    type: ClassVar[str] = "oms.inventory.order-backorder-filled.v1"
    placed_at: Instant
    destination: Destination
    service_level: ServiceLevel
    lines: tuple[ReleasedLine, ...]


class OrderRefused(OrderFact):
    """Not all lines can be had and the order may not wait: nothing is claimed."""

    type: ClassVar[str] = "oms.inventory.order-refused.v1"
    shortages: tuple[Shortage, ...]


class Allocation(Part):
    """What one location is to ship of one order."""

    fulfillment_id: Id
    location: LocationId
    carrier: Id
    service: Id
    ship_by: Instant
    deliver_by: Instant
    lines: tuple[ReleasedLine, ...]


class OrderAllocated(OrderFact):
    """The plan's locations hold their parts of the order; they may start work."""

    type: ClassVar[str] = "oms.inventory.order-allocated.v1"
    plan_id: Id
    channel: ChannelId
    external_id: ExternalId
    destination: Destination
    allocations: tuple[Allocation, ...]


class AllocationRefused(OrderFact):
    """A location has less than the plan wanted: nothing of the plan is allocated, route again without it."""

    type: ClassVar[str] = "oms.inventory.allocation-refused.v1"
    plan_id: Id
    short: tuple[tuple[LocationId, Sku], ...]
    lines: tuple[LineQuantity, ...] = ()
    """Units of the plan that still want a location; the others were given up meanwhile. Empty: not told, take all."""


class OrderDeallocated(OrderFact):
    """A location gave units back; route them again. A `manual` cause: a person asked for them."""

    type: ClassVar[str] = "oms.inventory.order-deallocated.v1"
    fulfillment_id: Id
    location: LocationId
    cause: DeallocationCause
    lines: tuple[ReleasedLine, ...]
    answers: ExternalId | None = None
    """The recall that the location answered with this."""
    avoid: bool = True
    """Whether they are to go from elsewhere; false only where a person wants all locations weighed anew."""


class AllocationRecalled(OrderFact):
    """Units in the hands of a location are called off; it answers whether it is in time."""

    type: ClassVar[str] = "oms.inventory.allocation-recalled.v1"
    fulfillment_id: Id
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]
    reroute: Literal["elsewhere", "anywhere"] | None = None
    """Set where a person wants the units routed again rather than canceled: without this location, or weighed anew."""


class RecallDeclined(OrderFact):
    """The location keeps these units, which were called off: they are packed. They can be called off or routed anew."""

    type: ClassVar[str] = "oms.inventory.recall-declined.v1"
    fulfillment_id: Id
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]


class OrderLetGo(OrderFact):
    """Claims of these units are given up. Without `cancellation_id` it was our own doing, for `cause`."""

    type: ClassVar[str] = "oms.inventory.order-let-go.v1"
    cause: LetGoCause
    lines: tuple[LineQuantity, ...]
    cancellation_id: ExternalId | None = None
    backordered: tuple[LineQuantity, ...] = ()
    """Those of `lines` that still waited; the others were reserved, or allocated to `fulfillment_id`."""
    fulfillment_id: Id | None = None
    answers: ExternalId | None = None
    """The cancellation whose recall the location answered with this; none if it gave units back by itself."""


class CancellationTooLate(OrderFact):
    """These units can't be called off: they left, or another cancellation has called them off already.

    Where they were called off because no location could ship them: they wait for a location no more.
    """

    type: ClassVar[str] = "oms.inventory.cancellation-too-late.v1"
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]
    taken_over_by: ExternalId | None = None
    """The cancellation under which a location is asked for them now, instead of this one."""


class OrderShippedOut(OrderFact):
    """These units left a location."""

    type: ClassVar[str] = "oms.inventory.order-shipped-out.v1"
    fulfillment_id: Id
    lines: tuple[LineQuantity, ...]


class LocationAvailability(Part):
    """At one location: units on hand, and those no one has claimed there; none of these where it does not ship."""

    on_hand: int
    unallocated: int


class Availability(Message):
    """One SKU's availability now; the latest by key is all that counts. Newer is the higher `version`."""

    type: ClassVar[str] = "oms.inventory.availability.v1"
    topic: ClassVar[str] = AVAILABILITY_TOPIC

    sku: Sku
    version: int
    available: int
    """What a new order may claim (ATP): on hand where it may be shipped from, less all claims; negative if more is
    claimed than there is.
    """
    locations: dict[str, LocationAvailability]


StockEvent = (
    StockReceived
    | StockAdjusted
    | StockCountRecorded
    | StockRejected
    | StockReserved
    | StockBackordered
    | BackorderFilled
    | StockAllocated
    | StockDeallocated
    | StockLetGo
    | StockShippedOut
    | StockRestocked
    | StockWrittenOff
    | StockSetAside
)
ReservationEvent = (
    ReservationOpened
    | OrderReserved
    | OrderBackordered
    | OrderBackorderFilled
    | OrderRefused
    | OrderAllocated
    | AllocationRefused
    | OrderDeallocated
    | AllocationRecalled
    | RecallDeclined
    | OrderLetGo
    | CancellationTooLate
    | OrderShippedOut
)
