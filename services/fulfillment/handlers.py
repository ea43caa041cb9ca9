"""Messages in, decisions out; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable

from ordermill.contracts.inventory import AllocationRecalled, OrderAllocated
from ordermill.decider import Decision, decision
from ordermill.service.declare import Received

from .domain import FULFILLMENT, CancelLines, Command, CreateFulfillment, decide


def work_decision(command: Command) -> Decision:
    return decision(FULFILLMENT.stream(command.fulfillment_id), decide, command)


def allocated(fact: OrderAllocated, received: Received) -> Iterable[Decision]:
    return [
        work_decision(
            CreateFulfillment(
                fulfillment_id=part.fulfillment_id,
                order_id=fact.order_id,
                location=part.location,
                channel=fact.channel,
                external_id=fact.external_id,
                destination=fact.destination,
                carrier=part.carrier,
                service=part.service,
                ship_by=part.ship_by,
                deliver_by=part.deliver_by,
                lines=part.lines,
            )
        )
        for part in fact.allocations
    ]


def recalled(fact: AllocationRecalled, received: Received) -> Iterable[Decision]:
    return [work_decision(CancelLines(fact.fulfillment_id, fact.cancellation_id, fact.lines))]
