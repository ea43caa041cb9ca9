"""Messages in, decisions out; decides nothing. The picture of availability is looked at when the decision is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ordermill.clock import Clock
from ordermill.contracts.base import Fact
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.inventory import (
    AllocationRefused,
    OrderBackordered,
    OrderBackorderFilled,
    OrderDeallocated,
    OrderLetGo,
    OrderReserved,
)
from ordermill.contracts.routing import OrderDeferred, OrderRerouted, OrderRouted, WaitingUnitsGone
from ordermill.decider import Decision, decision
from ordermill.eventlog.store import Timer
from ordermill.service.declare import Received

from .domain import (
    PLANS,
    POLICY_STREAM,
    DropUnits,
    OrderPlan,
    PlanCommand,
    RerouteGivenBack,
    RerouteRefused,
    RetryRouting,
    RouteOrder,
    drop,
    route,
    skus_to_route,
)
from .picture import Picture


class Planning:
    def __init__(self, picture: Picture, clock: Clock) -> None:
        self._picture = picture
        self._clock = clock

    def reserved(self, fact: OrderReserved | OrderBackorderFilled, received: Received) -> Iterable[Decision]:
        def command(plan: OrderPlan) -> PlanCommand:
            return RouteOrder(
                order_id=fact.order_id,
                caused_by=received.message_id,
                cause="reserved" if isinstance(fact, OrderReserved) else "backorder-filled",
                lines=fact.lines,
                destination=fact.destination,
                placed_at=fact.placed_at,
                service_level=fact.service_level,
                decided_at=received.now,
                available=self._picture.of(line.sku for line in fact.lines),
                heard=received.stream_version,
            )

        return [self._decision(fact.order_id, command)]

    def allocation_refused(self, fact: AllocationRefused, received: Received) -> Iterable[Decision]:
        def command(plan: OrderPlan) -> PlanCommand:
            skus = skus_to_route(plan, fact.plan_id)
            self._picture.refused(fact.plan_id, skus, fact.short)
            return RerouteRefused(
                order_id=fact.order_id,
                caused_by=received.message_id,
                plan_id=fact.plan_id,
                short=fact.short,
                decided_at=received.now,
                available=self._picture.of(skus),
                wanted=fact.lines,
                heard=received.stream_version,
            )

        return [self._decision(fact.order_id, command)]

    def given_back(self, fact: OrderDeallocated, received: Received) -> Iterable[Decision]:
        def command(plan: OrderPlan) -> PlanCommand:
            return RerouteGivenBack(
                order_id=fact.order_id,
                caused_by=received.message_id,
                fulfillment_id=fact.fulfillment_id,
                location=fact.location,
                cause=fact.cause,
                lines=fact.lines,
                decided_at=received.now,
                available=self._picture.of(line.sku for line in fact.lines),
                avoid=fact.avoid,
                heard=received.stream_version,
            )

        return [self._decision(fact.order_id, command)]

    def retry(self, timer: Timer) -> Iterable[Decision]:
        order_id, plan_id = timer.stream.partition("-")[2], timer.name.partition(":")[2]

        def command(plan: OrderPlan) -> PlanCommand:
            return RetryRouting(order_id, plan_id, self._clock(), self._picture.of(skus_to_route(plan, plan_id)))

        return [self._decision(order_id, command)]

    def _decision(self, order_id: str, command: Callable[[OrderPlan], PlanCommand]) -> Decision:
        stream = PLANS.stream(order_id)

        def decide(states: Mapping[str, Any]) -> Iterable[tuple[str, Fact]]:
            events = route(states, command(states[stream]))
            for _, event in events:
                if isinstance(event, OrderRouted | OrderRerouted):
                    self._picture.take(event.plan_id, event.shipments)
            return events

        return Decision((stream, POLICY_STREAM), decide)


def let_go(fact: OrderLetGo, received: Received) -> Iterable[Decision]:
    """What routing has given up itself waits no more; what a location held does not wait either."""
    if fact.cause == "unroutable" or fact.fulfillment_id is not None:
        return []
    unclaimed = {line.line_id: line.quantity for line in fact.backordered}
    left = ((line, line.quantity - unclaimed.get(line.line_id, 0)) for line in fact.lines)
    lines = [line.model_copy(update={"quantity": units}) for line, units in left if units > 0]
    return _drop(fact.order_id, lines, received)


def backordered(fact: OrderBackordered, received: Received) -> Iterable[Decision]:
    return _drop(fact.order_id, fact.lines, received) if fact.was == "reserved" else []


def _drop(order_id: str, lines: Sequence[LineQuantity], received: Received) -> Iterable[Decision]:
    if not lines:
        return []
    command = DropUnits(order_id, received.message_id, tuple(lines), received.stream_version)
    return [decision(PLANS.stream(order_id), drop, command)]


def deadlines(stream: str, event: Fact) -> Sequence[Timer | tuple[str, str]]:
    """When units that wait for a newer picture are tried again."""
    match event:
        case OrderDeferred():
            return (Timer(stream, f"retry:{event.plan_id}", event.retry_at),)
        case WaitingUnitsGone(left=0):
            return ((stream, f"retry:{event.plan_id}"),)
        case _:
            return ()
