"""An order's status as its customer is told it, counted from steps that may arrive in any order. Pure.

The steps come from six services on six topics, so none may rely on another having come before: each adds to a
counter, and the status follows from the counters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from immutables import Map

from ordermill.contracts.base import Message
from ordermill.contracts.capture import (
    CancellationRefunded,
    HoldReleased,
    OrderCaptured,
    OrderHeld,
    OrderLinesCanceled,
    OrderRevised,
)
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.inventory import OrderBackordered, OrderBackorderFilled, OrderLetGo, OrderReserved
from ordermill.contracts.returns import (
    Disposition,
    GoodsWaived,
    RefundPaid,
    ReturnAuthorized,
    ReturnInspected,
    ReturnReceived,
)
from ordermill.contracts.routing import PromiseChanged, PromiseMade
from ordermill.contracts.tracking import OrderProgressed, OrderStatus, ParcelStatus, Step
from ordermill.decider import Decider
from ordermill.pmap import PMap
from ordermill.replacing import replace

from .errors import OrderNotTracked

Word = Literal[
    "received", "on_hold", "confirmed", "backordered", "partially_shipped", "shipped",
    "partially_delivered", "delivered", "canceled", "partially_returned", "returned",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordStep:
    """Something happened to an order; `steps_of` says what."""

    step: OrderProgressed


@dataclass(frozen=True, slots=True)
class CheckOrderPromise:
    """The date told to the customer has come. Sent by a timer, with the time it was due."""

    order_id: str
    due_at: datetime


Command = RecordStep | CheckOrderPromise


@dataclass(frozen=True, slots=True)
class Status:
    """One order, in units. Counters only grow, but for corrections, so the order of arrival does not matter."""

    order_id: str = ""
    channel: str | None = None
    external_id: str | None = None
    ordered: int = 0
    revision: int = -1
    """Of `ordered`: 0 as captured, -1 if capture's word has not come yet."""
    confirmed: int = 0
    backordered: int = 0
    filled: int = 0
    canceled: int = 0
    shipped: int = 0
    delivered: int = 0
    returned: int = 0
    waived: int = 0
    """Of those returned: lost, and credited without coming back."""
    returns: int = 0
    refunds: int = 0
    holds: PMap[str, int] = field(default_factory=Map)
    """How often each reason was set, less how often it was released."""
    promised_by: datetime | None = None
    promised_on: date | None = None
    """The day that it is where the order goes, if that was said with it."""
    promised_at: datetime | None = None
    """When `promised_by` was said."""
    missed_at: datetime | None = None
    """The latest promise that passed with units still on their way."""
    parcels: tuple[ParcelStatus, ...] = ()
    seen: PMap[str, bool] = field(default_factory=Map)
    updated_at: datetime | None = None


def decide(status: Status, command: Command) -> list[OrderProgressed]:
    """The step, unless it was recorded before."""
    match command:
        case RecordStep(step):
            return [] if _key(step) in status.seen else [step]
        case CheckOrderPromise(order_id, due_at):
            promise = status.promised_by
            if promise is None or due_at < promise or status.ordered - status.canceled <= status.delivered:
                return []
            if status.missed_at is not None and status.missed_at >= promise:
                return []
            return [OrderProgressed(order_id=order_id, step=Step.LATE, happened_at=due_at, source=due_at.isoformat())]


def progress(status: Status, event: OrderProgressed) -> Status:
    """Count one step in. Never refuses, and comes to the same counters in whichever order steps come."""
    at = event.happened_at
    changes = {
        "order_id": event.order_id,
        "seen": status.seen.set(_key(event), True),
        "updated_at": at if status.updated_at is None else max(at, status.updated_at),
        **_counted(status, event),
    }
    if event.parcel is not None:
        changes["parcels"] = _with_parcel(status.parcels, event.parcel)
    return replace(status, **changes)


def _counted(status: Status, event: OrderProgressed) -> dict[str, Any]:
    at, units = event.happened_at, event.units
    match event.step:
        case Step.RECEIVED:
            names = {"channel": event.channel, "external_id": event.external_id}
            return names | _ordered(status, units, revision=0)
        case Step.REVISED:
            return _ordered(status, units, int(event.reference) if event.reference.isdecimal() else 0)
        case Step.HELD:
            return _hold(status, event.reference, 1)
        case Step.HOLD_RELEASED:
            return _hold(status, event.reference, -1)
        case Step.CONFIRMED:
            return {"confirmed": status.confirmed + units}
        case Step.BACKORDERED:
            return {"backordered": status.backordered + units}
        case Step.BACKORDER_FILLED:
            return {"filled": status.filled + units}
        case Step.CANCELED:
            return {"canceled": status.canceled + units}
        case Step.PROMISED if event.promised_by is not None:
            said_at, promised_by = status.promised_at, status.promised_by
            if said_at is not None and promised_by is not None and (said_at, promised_by) >= (at, event.promised_by):
                return {}
            return {"promised_at": at, "promised_by": event.promised_by, "promised_on": event.promised_on}
        case Step.LATE if event.parcel is None:
            return {"missed_at": at if status.missed_at is None else max(at, status.missed_at)}
        case Step.SHIPPED:
            return {"shipped": status.shipped + units}
        case Step.DELIVERED:
            return {"delivered": status.delivered + units}
        case Step.RETURN_STARTED:
            return {"returns": status.returns + 1}
        case Step.RETURNED:
            waived = units if event.waived else 0
            return {"returned": status.returned + units, "waived": status.waived + waived}
        case Step.REFUNDED:
            return {"refunds": status.refunds + 1}
        case _:  # MOVED, LOST, a parcel's LATE: all they say is in the parcel
            return {}


STATUS = Decider("status", Status(), progress)


def _key(step: OrderProgressed) -> str:
    return f"{step.step}|{step.reference}|{step.source}"


def _ordered(status: Status, units: int, revision: int) -> dict[str, Any]:
    return {"ordered": units, "revision": revision} if revision >= status.revision else {}


def _hold(status: Status, reason: str, change: int) -> dict[str, Any]:
    return {"holds": status.holds.set(reason, status.holds.get(reason, 0) + change)}


def _with_parcel(parcels: tuple[ParcelStatus, ...], parcel: ParcelStatus) -> tuple[ParcelStatus, ...]:
    others = (other for other in parcels if other.shipment_id != parcel.shipment_id)
    return tuple(sorted((*others, parcel), key=lambda each: each.shipment_id))


def order_status(status: Status, version: int) -> OrderStatus:
    """What the customer is told. Raises OrderNotTracked if nothing is known of the order."""
    if status.updated_at is None:
        raise OrderNotTracked
    return OrderStatus(
        order_id=status.order_id,
        version=version,
        channel=status.channel,
        external_id=status.external_id,
        status=_word(status),
        late=_late(status),
        ordered=status.ordered,
        canceled=status.canceled,
        shipped=status.shipped,
        delivered=status.delivered,
        returned=status.returned,
        waived=status.waived,
        promised_by=status.promised_by,
        promised_on=status.promised_on,
        parcels=status.parcels,
        updated_at=status.updated_at,
    )


def _word(status: Status) -> Word:
    known = status.revision >= 0
    left = status.ordered - status.canceled
    if known and left <= 0:
        return "canceled"
    if status.returned:
        return "returned" if known and status.returned >= left else "partially_returned"
    if status.delivered:
        return "delivered" if known and status.delivered >= left else "partially_delivered"
    if status.shipped:
        return "shipped" if known and status.shipped >= left else "partially_shipped"
    if any(count > 0 for count in status.holds.values()):
        return "on_hold"
    there = status.confirmed + status.filled
    if status.backordered > status.filled and left > there:
        return "backordered"
    return "confirmed" if there > 0 else "received"


def _late(status: Status) -> bool:
    if any(parcel.late for parcel in status.parcels):
        return True
    if status.missed_at is None or status.promised_by is None or status.ordered - status.canceled <= 0:
        return False
    return status.missed_at >= status.promised_by and status.delivered < status.ordered - status.canceled


def steps_of(fact: Message, happened_at: datetime, source: str) -> list[OrderProgressed]:
    """What a fact of capture, inventory, routing or returns means for its order's status; `[]` for most.

    `happened_at` and `source` are the message's own time and id: few facts name a time, and holds, parts of a
    cancellation and receipts of a return are told apart by nothing but the message.
    """
    match fact:
        case OrderCaptured():
            return [
                OrderProgressed(
                    order_id=fact.order_id,
                    step=Step.RECEIVED,
                    happened_at=fact.placed_at,
                    units=sum(line.quantity for line in fact.lines),
                    source=source,
                    channel=fact.channel,
                    external_id=fact.external_id,
                )
            ]
        case PromiseMade() | PromiseChanged():
            return [
                OrderProgressed(
                    order_id=fact.order_id,
                    step=Step.PROMISED,
                    happened_at=happened_at,
                    source=source,
                    promised_by=fact.promised_by,
                    promised_on=fact.promised_on,
                )
            ]
        case _:
            return [
                OrderProgressed(
                    order_id=order_id,
                    step=step,
                    happened_at=happened_at,
                    units=units,
                    reference=reference,
                    source=source,
                    waived=isinstance(fact, GoodsWaived),
                )
                for order_id, step, units, reference in _counts(fact)
            ]


def _counts(fact: Message) -> list[tuple[str, Step, int, str]]:
    """Order, step, units and reference of each step that a fact means. Units that are no longer so count negative."""
    match fact:
        case OrderRevised():
            units = sum(line.quantity for line in fact.lines)
            return [(fact.order_id, Step.REVISED, units, str(fact.revision))]
        case OrderHeld():
            return [(fact.order_id, Step.HELD, 0, fact.reason.value)]
        case HoldReleased():
            return [(fact.order_id, Step.HOLD_RELEASED, 0, fact.reason.value)]
        case OrderLinesCanceled():
            return [(fact.order_id, Step.CANCELED, units_in(fact.lines), fact.cancellation_id)]
        case CancellationRefunded():
            return [(fact.order_id, Step.REFUNDED, 0, fact.refund_id)]
        case OrderReserved():
            return [(fact.order_id, Step.CONFIRMED, sum(line.quantity for line in fact.lines), "")]
        case OrderBackordered():
            waits = (fact.order_id, Step.BACKORDERED, units_in(fact.lines), "")
            missing = (fact.order_id, Step.CONFIRMED, -units_in(fact.lines), "")
            return [waits] if fact.was == "asked" else [waits, missing]
        case OrderBackorderFilled():
            return [(fact.order_id, Step.BACKORDER_FILLED, sum(line.quantity for line in fact.lines), "")]
        case OrderLetGo():
            waited = units_in(fact.backordered)
            gone = ((Step.BACKORDERED, waited), (Step.CONFIRMED, units_in(fact.lines) - waited))
            return [(fact.order_id, step, -units, "") for step, units in gone if units]
        case ReturnAuthorized():
            return [(fact.order_id, Step.RETURN_STARTED, 0, fact.return_id)]
        case ReturnReceived():
            return [(fact.order_id, Step.RETURNED, units_in(fact.lines), fact.return_id)]
        case ReturnInspected():  # the box was counted in, but these were not in the box
            missed = sum(each.quantity for each in fact.lines if each.disposition is Disposition.MISSING)
            return [(fact.order_id, Step.RETURNED, -missed, fact.return_id)] if missed else []
        case GoodsWaived() if fact.undelivered:  # what the customer keeps stays delivered
            return [(fact.order_id, Step.RETURNED, units_in(fact.lines), fact.return_id)]
        case RefundPaid():
            return [(fact.order_id, Step.REFUNDED, 0, fact.refund_id)]
        case _:
            return []


def units_in(lines: Iterable[LineQuantity]) -> int:
    return sum(line.quantity for line in lines)
