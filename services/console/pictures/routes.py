"""Where one order ships from by routing's word, what that costs, and every decision that led there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from ordermill.contracts.fields import Money
from ordermill.contracts.routing import (
    OrderDeferred,
    OrderRerouted,
    OrderRouted,
    OrderUnroutable,
    PlannedShipment,
    PromiseChanged,
    PromiseMade,
    WaitingUnitsGone,
)
from services.console.picture import Document, Picture
from services.console.told import Told

Decided = OrderRouted | OrderRerouted | OrderDeferred | OrderUnroutable
Kind = Literal["routed", "rerouted", "deferred", "unroutable"]
KINDS: Mapping[type[Decided], Kind] = {
    OrderRouted: "routed",
    OrderRerouted: "rerouted",
    OrderDeferred: "deferred",
    OrderUnroutable: "unroutable",
}


class Decision(Document):
    """One decision on some of the order's units. `from_where` had them before: a location, or nothing."""

    plan_id: str = ""
    kind: Kind = "routed"
    cause: str = ""
    attempt: int = 1
    from_where: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    cost: Money | None = None
    reason: str = ""
    retry_at: datetime | None = None
    units: int = 0
    decided_at: datetime | None = None
    policy_hash: str = ""


class Parcel(Document):
    """A planned shipment that is still meant to go; `units` by order line, as far as they did not fall through."""

    plan_id: str
    shipment: PlannedShipment
    units: dict[str, int]


class Route(Document):
    """One order's routing after all that was told of it."""

    decisions: list[Decision] = Field(default_factory=list)
    parcels: dict[str, Parcel] = Field(default_factory=dict)
    """By fulfillment order."""
    waiting: dict[str, str] = Field(default_factory=dict)
    """By decision, why units wait."""
    unroutable: list[str] = Field(default_factory=list)
    """Why units were given up."""
    place: tuple[float, float] | None = None
    country: str = ""
    region: str = ""
    postal_code: str = ""
    promised_by: datetime | None = None

    @property
    def status(self) -> str:
        if self.unroutable:
            return "unroutable"
        if self.waiting:
            return "deferred"
        return "routed" if self.decisions else ""

    @property
    def cost(self) -> Money | None:
        """Of all parcels that are still meant to go."""
        costs = [parcel.shipment.cost.total for parcel in self.parcels.values()]
        return Money.sum(costs, costs[0].currency) if costs else None


def draw(route: Route, key: str, item: Told) -> None:
    """Fold one fact of the order's plan in; they come in order."""
    match item.message:
        case PromiseMade() | PromiseChanged() as promise:
            route.promised_by = promise.promised_by
        case OrderRouted() | OrderRerouted() | OrderDeferred() | OrderUnroutable() as fact:
            _decide(route, fact)
        case WaitingUnitsGone(left=0) as gone:
            route.waiting.pop(gone.plan_id, None)


def _decide(route: Route, fact: Decided) -> None:
    inputs = fact.inputs
    route.country, route.region, route.postal_code = inputs.country, inputs.region, inputs.postal_code
    if inputs.place is not None:
        route.place = (inputs.place.lat, inputs.place.lon)
    made = Decision(
        plan_id=fact.plan_id,
        kind=KINDS[type(fact)],
        cause=fact.cause,
        attempt=fact.attempt,
        from_where=_taken_back(route, fact),
        units=sum(line.quantity for line in inputs.lines),
        decided_at=inputs.decided_at,
        policy_hash=inputs.policy_hash,
    )
    match fact:
        case OrderDeferred():
            made.reason, made.retry_at = fact.reason, fact.retry_at
            route.waiting[fact.plan_id] = fact.reason
        case OrderUnroutable():
            made.reason = fact.reason
            route.unroutable.append(fact.reason)
        case _:
            made.locations, made.cost = tuple(one.location for one in fact.shipments), fact.cost.total
            for one in fact.shipments:
                units = {line.line_id: line.quantity for line in one.lines}
                route.parcels[one.fulfillment_id] = Parcel(plan_id=fact.plan_id, shipment=one, units=units)
    route.decisions.append(made)


def _taken_back(route: Route, fact: Decided) -> tuple[str, ...]:
    """Take the units of a decision from where they were before; the locations that had them."""
    before = fact.instead_of or ""
    if fact.cause == "retry":
        route.waiting.pop(before, None)
        return ()
    if fact.cause == "allocation-refused":
        refused = [key for key, parcel in route.parcels.items() if parcel.plan_id == before]
        return tuple(route.parcels.pop(key).shipment.location for key in refused)
    parcel = route.parcels.get(before)
    if parcel is None:
        return ()
    for line in fact.inputs.lines:
        left = parcel.units.pop(line.line_id, 0) - line.quantity
        if left > 0:
            parcel.units[line.line_id] = left
    if not parcel.units:
        del route.parcels[before]
    return (parcel.shipment.location,)


def columns(route: Route) -> Mapping[str, Any]:
    cost = route.cost
    return {
        "status": route.status,
        "parcels": len(route.parcels),
        "cost_minor": cost.minor if cost else 0,
        "currency": cost.currency if cost else "",
        "again": sum(1 for decision in route.decisions if decision.kind == "rerouted"),
        "decided_at": route.decisions[-1].decided_at if route.decisions else None,
    }


ROUTES = Picture(
    table="routes",
    document=Route,
    messages=frozenset(
        {
            OrderRouted,
            OrderRerouted,
            OrderDeferred,
            OrderUnroutable,
            WaitingUnitsGone,
            PromiseMade,
            PromiseChanged,
        }
    ),
    keys=lambda item: (item.order_id,) if item.order_id else (),
    draw=draw,
    columns=columns,
)
