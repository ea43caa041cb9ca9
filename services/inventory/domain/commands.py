"""What may be asked of stock and of reservations, or told about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ordermill.contracts.capture import OrderReleased
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import RejectReason
from ordermill.contracts.returns import InspectedLine
from ordermill.contracts.routing import PlannedShipment


@dataclass(frozen=True, slots=True)
class ReceiveStock:
    """Goods came in. `locations` are all that we know; word from another is rejected.

    `ships`: whether this one does. Here and below it counts for a shelf that is new. `at`: when it was so at the
    location, which may be long before it is heard.
    """

    sku: str
    location: str
    quantity: int
    reference: str
    at: datetime
    locations: frozenset[str]
    ships: bool = True


@dataclass(frozen=True, slots=True)
class CorrectStock:
    """Units were found or lost."""

    sku: str
    location: str
    delta: int
    reason: str
    reference: str
    at: datetime
    locations: frozenset[str]
    ships: bool = True


@dataclass(frozen=True, slots=True)
class CountStock:
    """All units in the building were counted at that time, those of open fulfillment orders included."""

    sku: str
    location: str
    counted: int
    reference: str
    at: datetime
    locations: frozenset[str]
    ships: bool = True


@dataclass(frozen=True, slots=True)
class HeedNetwork:
    """The network says which locations are `shipping`; what lies elsewhere is not for sale."""

    sku: str
    shipping: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReserveOrder:
    """Claim all lines of a released order or none. `backorder_cap`: units of a SKU that may wait at once."""

    released: OrderReleased
    backorder_cap: int


@dataclass(frozen=True, slots=True)
class AllocatePlan:
    """Let the plan's locations hold its units, all of them or none."""

    order_id: str
    plan_id: str
    shipments: tuple[PlannedShipment, ...]


@dataclass(frozen=True, slots=True)
class TakeBackRejected:
    """A location will not ship these units."""

    order_id: str
    fulfillment_id: str
    reason: RejectReason
    lines: tuple[LineQuantity, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class TakeBackShortPicked:
    """A picker did not find these units."""

    order_id: str
    fulfillment_id: str
    lines: tuple[LineQuantity, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class ShipOut:
    """These units left the building. A fulfillment order may say so in parts, each part once."""

    order_id: str
    fulfillment_id: str
    lines: tuple[LineQuantity, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class CancelUnits:
    """Let go of these units, wherever they are; of those that no location can ship, the ones that are reserved."""

    order_id: str
    cancellation_id: str
    cause: Literal["canceled", "unroutable"]
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class RerouteUnits:
    """A person wants all units of a fulfillment order that are not packed routed again, `elsewhere` or anywhere."""

    order_id: str
    fulfillment_id: str
    reroute_id: str
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class LetGoRecalled:
    """A location answers a recall: in time, these units are not shipped."""

    order_id: str
    fulfillment_id: str
    cancellation_id: str
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class KeepRecalled:
    """A location answers a recall: too late, it ships these units. Of others it has said before that it does not."""

    order_id: str
    fulfillment_id: str
    cancellation_id: str
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class TakeInReturn:
    """Returned goods were inspected. `reference` is that inspection's id: a return may have several."""

    return_id: str
    reference: str
    location: str
    lines: tuple[InspectedLine, ...]
    at: datetime
    ships: bool = True


StockCommand = ReceiveStock | CorrectStock | CountStock
OrderCommand = AllocatePlan | TakeBackRejected | TakeBackShortPicked | ShipOut | CancelUnits | LetGoRecalled
Command = StockCommand | ReserveOrder | OrderCommand | RerouteUnits | KeepRecalled | TakeInReturn | HeedNetwork
