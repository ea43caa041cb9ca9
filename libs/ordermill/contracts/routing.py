"""Facts of routing: which location ships which line, when it arrives, at what cost, and from what picture."""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import Fact
from .capture import ReleasedLine
from .fields import Count, Country, ExternalId, Id, Instant, LineQuantity, LocationId, Money, Part, Sku, Text

RouteCause = Literal["reserved", "backorder-filled", "allocation-refused", "rejected", "short-pick", "manual", "retry"]


class CostParts(Part):
    """What a plan costs, by part. The plan with the least total is taken."""

    shipping: Money
    handling: Money
    delay: Money
    total: Money


class PlannedShipment(Part):
    """What one location ships of the order, how and by when."""

    fulfillment_id: Id
    location: LocationId
    carrier: Id
    service: Id
    distance_km: Annotated[int, Field(ge=0)]
    ship_by: Instant
    deliver_by: Instant
    cost: CostParts
    lines: tuple[ReleasedLine, ...]


class Place(Part):
    """Where a destination lies (WGS 84, degrees), its IANA time zone, and how closely that is known."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]
    zone: Annotated[str, Field(max_length=64)]
    found_by: Literal["postal-code", "prefix", "region", "country", "default"]


class RoutingInputs(Part):
    """Everything the decision saw; with the policy of that hash it can be made again, and comes out the same."""

    policy_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of policy and network together, as `PolicyAdopted` carries them."""
    decided_at: Instant
    placed_at: Instant
    country: Country
    region: str
    postal_code: str
    place: Place | None = None
    """Where the address was taken to lie; null: wherever its postal code is looked up to lie."""
    service_level: str
    lines: tuple[ReleasedLine, ...]
    available: dict[str, dict[str, int]]
    """Unclaimed units by location, then SKU, as routing knew them."""
    excluded: tuple[tuple[LocationId, Sku | None], ...] = ()
    """Locations that may not ship this SKU, or nothing of this order at all (null)."""
    preferences: Annotated[int, Field(ge=1)] = 1
    """The rules for plans of equal cost: since 2 of those that arrive on one day that which leaves earlier is taken."""


class PlanFact(Fact):
    """A decision on some of an order's units. `plan_id` counts an order's decisions: `<order>.1`, `<order>.2` ..."""

    order_id: Id
    plan_id: Id
    caused_by: ExternalId = "unknown"
    """The message that asked for this decision; the same message asks once."""
    instead_of: Id | None = None
    """The plan or the fulfillment order that these units had before."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """How often these units have been tried since the cause that is not routing's own doing."""


class OrderRouted(PlanFact):
    """The cheapest plan under the policy in force."""

    type: ClassVar[str] = "oms.routing.order-routed.v1"
    cause: RouteCause
    shipments: tuple[PlannedShipment, ...]
    cost: CostParts
    inputs: RoutingInputs
    proven_best: bool = True
    """False: the search ended at the policy's limit, and this was the best plan found by then."""


class OrderRerouted(PlanFact):
    """A new plan for units whose earlier plan fell through."""

    type: ClassVar[str] = "oms.routing.order-rerouted.v1"
    cause: RouteCause
    shipments: tuple[PlannedShipment, ...]
    cost: CostParts
    inputs: RoutingInputs
    proven_best: bool = True
    """False: the search ended at the policy's limit, and this was the best plan found by then."""


class OrderDeferred(PlanFact):
    """No plan as things look now, but a newer picture of availability may show one: tried again at `retry_at`."""

    type: ClassVar[str] = "oms.routing.order-deferred.v1"
    cause: RouteCause
    reason: Text
    retry_at: Instant
    inputs: RoutingInputs
    heard: Count = 0
    """How far into inventory's story of the order (its stream's version) these units were known to wait."""


class OrderUnroutable(PlanFact):
    """No location may or can ship these units, and why."""

    type: ClassVar[str] = "oms.routing.order-unroutable.v1"
    cause: RouteCause
    reason: Text
    inputs: RoutingInputs


class WaitingUnitsGone(Fact):
    """Units that were to be tried again need no location now: their claim was given up, or they wait for stock."""

    type: ClassVar[str] = "oms.routing.waiting-units-gone.v1"
    order_id: Id
    plan_id: Id
    """The decision that had deferred them."""
    caused_by: ExternalId
    """The message that told of it; the same message tells once."""
    lines: tuple[LineQuantity, ...]
    left: Count
    """Units of that decision that still wait to be tried again."""


class PromiseMade(Fact):
    """The date told to the customer."""

    type: ClassVar[str] = "oms.routing.promise-made.v1"
    order_id: Id
    promised_by: Instant
    promised_on: date | None = None
    """The day that `promised_by` is where the order goes; null: of an earlier release, which did not tell."""


class PromiseChanged(Fact):
    """The date told to the customer has changed, and why."""

    type: ClassVar[str] = "oms.routing.promise-changed.v1"
    order_id: Id
    promised_by: Instant
    was: Instant
    reason: RouteCause
    promised_on: date | None = None
    """The day that `promised_by` is where the order goes; null: of an earlier release, which did not tell."""


class PolicyAdopted(Fact):
    """From now on decisions are made under this policy, over this network."""

    type: ClassVar[str] = "oms.routing.policy-adopted.v1"
    policy_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    content: str
    """The policy file as it is, TOML."""
    network: str
    """The network file as it is, TOML. `policy_hash` covers both."""


PlanEvent = (
    OrderRouted | OrderRerouted | OrderDeferred | OrderUnroutable | WaitingUnitsGone | PromiseMade | PromiseChanged
)
