"""Every fact in plain words: one sentence for each type, as an operations lead would tell it. Pure.

Titles, notes and reasons in them are text from outside: whoever shows a sentence isolates it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from ordermill.contracts import capture, carrier, fulfillment, inventory, location, returns, routing, service, tracking
from ordermill.contracts.base import Fact, Message
from ordermill.contracts.channel import OrderCanceled, OrderChanged, OrderPlaced

Day = Callable[[datetime], str]
"""A day as its reader says it."""

MILESTONES = {
    tracking.Milestone.LABEL_CREATED: "has a label and waits for the carrier",
    tracking.Milestone.IN_TRANSIT: "is in transit",
    tracking.Milestone.OUT_FOR_DELIVERY: "is out for delivery",
    tracking.Milestone.ATTEMPT_FAILED: "could not be delivered: nobody took it",
    tracking.Milestone.READY_FOR_PICKUP: "is ready for pickup",
    tracking.Milestone.DELIVERED: "was delivered",
    tracking.Milestone.EXCEPTION: "has met a problem on its way",
    tracking.Milestone.RETURNING: "is on its way back to us",
    tracking.Milestone.RETURNED: "is back at its sender",
    tracking.Milestone.UNKNOWN: "was scanned with a code we can't read",
}
WHY_ROUTED = {
    "reserved": "its stock was reserved",
    "backorder-filled": "stock came in that it waited for",
    "allocation-refused": "a location had less than routing knew of",
    "rejected": "a location turned the work down",
    "short-pick": "a picker found too few",
    "manual": "a person wanted it routed again",
    "retry": "the wait for newer stock figures was over",
}


def units(lines: Iterable[Any]) -> str:
    """`teapot ×2, cup ×1`"""
    return ", ".join(f"{line.sku} ×{line.quantity}" for line in lines) or "nothing"


def count(lines: Iterable[Any]) -> str:
    number = sum(line.quantity for line in lines)
    return f"{number} unit{'' if number == 1 else 's'}"


def hold(reason: Any) -> str:
    return str(reason).replace("-", " ")


def _note(text: str) -> str:
    return f": {text}" if text else ""


def _places(shipments: Iterable[Any]) -> str:
    return "; ".join(f"{units(each.lines)} from {each.location} by {each.carrier}" for each in shipments)


def _parcel(fact: Any) -> str:
    return f"Parcel {fact.shipment_id}"


def _declined(fact: Any, too_late: str) -> str:
    if fact.cancellation_id.startswith("unroutable:"):
        return f"{units(fact.lines)} not canceled: no longer waiting for a location"
    if fact.taken_over_by is not None:
        return f"{units(fact.lines)} are called off by a newer cancellation"
    return f"{too_late} {units(fact.lines)}"


def _progress(f: Any, day: Day) -> str:
    what = f.step.value.replace("_", " ")
    if f.promised_by is not None:
        return f"The customer's status: {what} for {day(f.promised_by)}"
    if f.units < 0:
        return f"The customer's status: {-f.units} units no longer {what}"
    return f"The customer's status: {what}" + (f", {f.units} units" if f.units else "")


SENTENCES: dict[type[Message], Callable[[Any, Day], str]] = {
    # What channels send: told by its kind alone, for it holds personal data in the clear
    OrderPlaced: lambda f, day: "The channel sent the order",
    OrderChanged: lambda f, day: "The channel sent a change of the order",
    OrderCanceled: lambda f, day: "The channel sent a cancellation",
    # Capture
    capture.OrderCaptured: lambda f, day: f"Order taken in: {units(f.lines)} for {f.total}",
    capture.OrderRejected: lambda f, day: f"Order rejected: {'; '.join(f.reasons)}",
    capture.OrderChangeParked: lambda f, day: "A change came before its order and waits for it",
    capture.OrderRevised: lambda f, day: f"The channel changed the order: now {units(f.lines)} for {f.total}",
    capture.OrderChangeRefused: lambda f, day: f"A change was refused: {f.reason}",
    capture.OrderChangeSettled: lambda f, day: f"Dealt with the change that was refused{_note(f.note)}: {f.reason}",
    capture.OrderHeld: lambda f, day: f"Put on hold, {hold(f.reason)}{_note(f.note)}",
    capture.HoldReleased: lambda f, day: f"Hold released, {hold(f.reason)}{_note(f.note)}",
    capture.OrderReleased: lambda f, day: "Nothing holds the order: stock is claimed for it",
    capture.CancellationRequested: lambda f, day: f"Cancellation asked for: {units(f.lines)}{_note(f.reason)}",
    capture.CancellationDeclined: lambda f, day: _declined(f, "Too late to cancel"),
    capture.OrderLinesCanceled: lambda f, day: (
        f"Canceled {'the whole order' if f.whole_order else units(f.lines)}{_note(f.reason)}"
        + (f"; {f.refund} go back" if f.refund.minor else "")
    ),
    capture.ChannelRefunded: lambda f, day: f"The channel itself gave {f.amount} back",
    capture.OrderUnitsShipped: lambda f, day: f"From now on {units(f.lines)} can be returned, not canceled",
    capture.CancellationRefundRequested: lambda f, day: f"Refund of {f.amount} asked of the payment provider",
    capture.CancellationRefunded: lambda f, day: f"Refund of {f.amount} paid",
    capture.CustomerForgetRequested: lambda f, day: "The customer is to be forgotten",
    capture.CustomerForgotten: lambda f, day: "The customer was forgotten: who it was can't be read any more",
    capture.CustomerForgetFailed: lambda f, day: f"The customer could not be forgotten: {f.reason}",
    capture.CancellationRefundFailed: lambda f, day: f"Refund refused by the payment provider: {f.reason}",
    # Inventory, the order's claim
    inventory.ReservationOpened: lambda f, day: f"Asked for stock: {units(f.lines)}",
    inventory.OrderReserved: lambda f, day: f"Reserved {units(f.lines)}",
    inventory.OrderBackordered: lambda f, day: f"{units(f.lines)} must wait for stock",
    inventory.OrderBackorderFilled: lambda f, day: f"Stock has come: {units(f.lines)} reserved",
    inventory.OrderRefused: lambda f, day: (
        "Not in stock: "
        + ", ".join(f"{each.sku}, {each.wanted} wanted and {each.available} there" for each in f.shortages)
    ),
    inventory.OrderAllocated: lambda f, day: (
        "Allocated: " + "; ".join(f"{units(each.lines)} at {each.location}" for each in f.allocations)
    ),
    inventory.AllocationRefused: lambda f, day: (
        "Not allocated, too little there: " + ", ".join(f"{sku} at {location}" for location, sku in f.short)
    ),
    inventory.OrderDeallocated: lambda f, day: (
        f"{f.location} gave back {units(f.lines)}, "
        + {"rejected": "work turned down", "short-pick": "not found", "manual": "a person asked for them"}[f.cause]
    ),
    inventory.AllocationRecalled: lambda f, day: (
        f"{units(f.lines)} called off at a location"
        + {None: "", "elsewhere": ", to be shipped from elsewhere", "anywhere": ", to be routed anew"}[f.reroute]
    ),
    inventory.RecallDeclined: lambda f, day: (
        f"{units(f.lines)} that were called off are packed, and stay with the location"
    ),
    inventory.OrderLetGo: lambda f, day: f"Claim on {units(f.lines)} given up: {f.cause}",
    inventory.CancellationTooLate: lambda f, day: _declined(f, "Too late to call off"),
    inventory.OrderShippedOut: lambda f, day: f"{units(f.lines)} left the building",
    # Inventory, the stock of a SKU
    inventory.StockReceived: lambda f, day: f"{f.quantity} of {f.sku} came in at {f.location}",
    inventory.StockAdjusted: lambda f, day: f"Stock of {f.sku} at {f.location} corrected by {f.delta:+}: {f.reason}",
    inventory.StockCountRecorded: lambda f, day: f"{f.counted} of {f.sku} counted at {f.location} ({f.delta:+})",
    inventory.StockRejected: lambda f, day: f"Word of {f.sku} at {f.location} refused: {f.reason}",
    inventory.StockReserved: lambda f, day: f"{f.quantity} of {f.sku} reserved",
    inventory.StockBackordered: lambda f, day: f"{f.quantity} of {f.sku} waited for",
    inventory.BackorderFilled: lambda f, day: f"{f.quantity} of {f.sku} no longer waited for",
    inventory.StockAllocated: lambda f, day: f"{f.quantity} of {f.sku} allocated at {f.location}",
    inventory.StockDeallocated: lambda f, day: f"{f.quantity} of {f.sku} given back by {f.location}",
    inventory.StockLetGo: lambda f, day: f"Claim on {f.quantity} of {f.sku} ended",
    inventory.StockShippedOut: lambda f, day: f"{f.quantity} of {f.sku} left {f.location}",
    inventory.StockRestocked: lambda f, day: f"{f.quantity} returned of {f.sku} are for sale again at {f.location}",
    inventory.StockSetAside: lambda f, day: (
        f"{f.location} ships again: its free {f.sku} is for sale"
        if f.ships
        else f"{f.location} does not ship: {f.delta:+} of {f.sku} set aside, not for sale"
    ),
    inventory.StockWrittenOff: lambda f, day: f"{f.quantity} returned of {f.sku} written off at {f.location}",
    # Routing
    routing.OrderRouted: lambda f, day: f"Routed for {f.cost.total}: {_places(f.shipments)}",
    routing.OrderRerouted: lambda f, day: (
        f"Routed again, because {WHY_ROUTED[f.cause]}, for {f.cost.total}: {_places(f.shipments)}"
    ),
    routing.OrderDeferred: lambda f, day: f"No way to ship it just now, tried again soon: {f.reason}",
    routing.OrderUnroutable: lambda f, day: f"No location can ship {units(f.inputs.lines)}: {f.reason}",
    routing.WaitingUnitsGone: lambda f, day: f"{units(f.lines)} no longer wait for a location",
    routing.PromiseMade: lambda f, day: f"Promised for {day(f.promised_by)}",
    routing.PromiseChanged: lambda f, day: (
        f"Promise moved from {day(f.was)} to {day(f.promised_by)}, because {WHY_ROUTED[f.reason]}"
    ),
    routing.PolicyAdopted: lambda f, day: "Another routing policy is in force",
    # Fulfillment
    fulfillment.FulfillmentCreated: lambda f, day: f"{f.location} is asked to ship {units(f.lines)} by {f.carrier}",
    fulfillment.FulfillmentAccepted: lambda f, day: "The location accepted the work",
    fulfillment.FulfillmentRejected: lambda f, day: f"{f.location} turned the work down: {f.note or hold(f.reason)}",
    fulfillment.FulfillmentPicked: lambda f, day: f"Picked {units(f.lines)}",
    fulfillment.FulfillmentShortPicked: lambda f, day: f"Not found at {f.location}: {units(f.lines)}",
    fulfillment.FulfillmentPacked: lambda f, day: f"Packed in {len(f.packages)} box{_es(f.packages)}",
    fulfillment.LabelRequested: lambda f, day: f"Label for box {f.package} asked of {f.carrier}",
    fulfillment.PackageLabeled: lambda f, day: f"Label for box {f.package} bought: {f.carrier} {f.tracking_number}",
    fulfillment.LabelUnused: lambda f, day: (
        f"A label for box {f.package} was bought in vain: {f.carrier} {f.tracking_number}, {f.cost}. "
        f"Have it voided: {f.reason}"
    ),
    fulfillment.LabelFailed: lambda f, day: f"No label for box {f.package}: {f.reason}",
    fulfillment.FulfillmentShipped: lambda f, day: (
        f"Handed over at {f.location}: " + ", ".join(f"{each.carrier} {each.tracking_number}" for each in f.packages)
    ),
    fulfillment.FulfillmentLinesCanceled: lambda f, day: f"The location put {units(f.lines)} back",
    fulfillment.FulfillmentCancellationDeclined: lambda f, day: (
        f"The location could not put {units(f.lines)} back: packed or gone"
        if f.lines
        else "The location had nothing left to put back"
    ),
    # Tracking
    tracking.ShipmentAnnounced: lambda f, day: f"{_parcel(f)} is with {f.carrier}, promised for {day(f.promised_by)}",
    tracking.ShipmentScanned: lambda f, day: f"{_parcel(f)} {MILESTONES[f.milestone]}{_at(f.place)}",
    tracking.ShipmentDelivered: lambda f, day: f"{_parcel(f)} was delivered{_at(f.place)}",
    tracking.ShipmentFellLate: lambda f, day: f"{_parcel(f)} is late: not delivered by {day(f.due_at)}",
    tracking.ShipmentLost: lambda f, day: f"{_parcel(f)} counts as lost: not scanned for too long",
    tracking.ShipmentCameBack: lambda f, day: f"{_parcel(f)} came back without having reached the customer",
    tracking.TrackingNumberReused: lambda f, day: (
        f"The carrier uses the number of {_parcel(f)} again, for {f.reused_by}"
    ),
    tracking.OrderProgressed: _progress,
    # Returns
    returns.PurchaseRecorded: lambda f, day: "Returns knows what was bought",
    returns.PurchaseRevised: lambda f, day: "Returns knows of the change",
    returns.PurchaseUnitsCanceled: lambda f, day: f"{units(f.lines)} can't be returned: canceled",
    returns.PurchaseRefundedElsewhere: lambda f, day: "Returns knows what the channel has given back",
    returns.PurchaseDelivered: lambda f, day: f"{units(f.lines)} reached the customer and may be returned",
    returns.PurchaseUndelivered: lambda f, day: f"{units(f.lines)} never reached the customer: {_astray(f)}",
    returns.UnitsClaimed: lambda f, day: f"{units(f.lines)} are spoken for by a return",
    returns.UnitsGivenBack: lambda f, day: f"{units(f.lines)} may be returned again",
    returns.UnitsTakenBack: lambda f, day: (
        f"{units(f.lines)} are credited"
        + (f", less a fee of {f.restocking_fee}" if f.restocking_fee else "")
        + (f"; {f.set_off} of it was never paid" if f.set_off else "")
    ),
    returns.ParcelExpected: lambda f, day: f"{_parcel(f)} will bring {units(f.lines)}",
    returns.ParcelArrived: lambda f, day: f"{_parcel(f)} reached the customer",
    returns.ParcelUndelivered: lambda f, day: _astray(f),
    returns.ReturnRequested: lambda f, day: (
        f"Return asked for: {units(f.lines)}, {hold(f.reason)}, for {'other goods' if f.exchange_for else 'a refund'}"
        + _note(f.note)
    ),
    returns.ReturnAuthorized: lambda f, day: f"Return authorized under {f.rma}, until {day(f.expires_at)}",
    returns.ReturnDeclined: lambda f, day: f"Return declined: {'; '.join(f.reasons)}",
    returns.ReturnReceived: lambda f, day: f"{units(f.lines)} came back to {f.location}",
    returns.ReturnInspected: lambda f, day: (
        "Inspected: " + ", ".join(f"{line.sku} ×{line.quantity} {hold(line.disposition)}" for line in f.lines)
    ),
    returns.GoodsWaived: lambda f, day: (
        f"{units(f.lines)} {'are given up as lost' if f.undelivered else 'stay with the customer'}, and are credited"
    ),
    returns.RefundRequested: lambda f, day: f"Refund of {f.amount} asked of the payment provider",
    returns.RefundPaid: lambda f, day: f"Refund of {f.amount} paid",
    returns.RefundFailed: lambda f, day: f"Refund refused by the payment provider: {f.reason}",
    returns.ExchangeRequested: lambda f, day: f"Other goods are to go out instead: {units(f.lines)}",
    returns.ReturnExpired: lambda f, day: "The return expired: the goods never came",
    returns.ReturnClosed: lambda f, day: "The return is closed",
    # Any service
    service.DeadLettered: lambda f, day: f"A message could not be handled and is kept: {f.reason}",
    service.LetterRedriven: lambda f, day: "A kept message was handled after all",
    service.LetterDropped: lambda f, day: f"A kept message was dropped{_note(f.note)}",
    service.CheckpointMade: lambda f, day: f"The log of {f.service} was closed up to event {f.last}",
    # What carriers and locations send
    carrier.ParcelScanned: lambda f, day: (
        f"Carrier {f.carrier} scanned {f.tracking_number} with code {f.code}{_at(f.place)}"
    ),
    location.StockArrived: lambda f, day: f"Goods came in at {f.location}: {f.sku} ×{f.quantity}",
    location.StockCorrected: lambda f, day: f"Stock corrected at {f.location}: {f.sku} {f.delta:+}{_note(f.reason)}",
    location.StockCounted: lambda f, day: f"Counted at {f.location}: {f.sku} ×{f.counted}",
    # The latest state, published after what changed it
    inventory.Availability: lambda f, day: f"Available to new orders: {f.sku} ×{f.available}",
    tracking.OrderStatus: lambda f, day: f"The customer's status is now: {f.status.replace('_', ' ')}",
}


def _es(things: Any) -> str:
    return "" if len(things) == 1 else "es"


def _astray(fact: Any) -> str:
    return f"{_parcel(fact)} {'is lost' if fact.why == 'lost' else 'came back'}"


def _at(place: str) -> str:
    return f", {place}" if place else ""


NOISE: frozenset[type[Fact]] = frozenset({
    inventory.StockReserved, inventory.StockBackordered, inventory.BackorderFilled, inventory.StockAllocated,
    inventory.StockDeallocated, inventory.StockLetGo, inventory.StockShippedOut, inventory.ReservationOpened,
    inventory.RecallDeclined, capture.OrderUnitsShipped, tracking.OrderProgressed, tracking.ShipmentCameBack,
    returns.PurchaseRecorded, returns.PurchaseRevised, returns.PurchaseUnitsCanceled, returns.PurchaseDelivered,
    returns.PurchaseRefundedElsewhere, returns.UnitsClaimed, returns.UnitsGivenBack, returns.UnitsTakenBack,
    returns.ParcelExpected, returns.ParcelArrived, returns.ParcelUndelivered, returns.PurchaseUndelivered,
})  # fmt: skip
"""What services note for themselves: each says again what another entry has told. Folded away until asked for."""


def sentence(message: Message, day: Day) -> str:
    """What happened, in plain words without a full stop."""
    return SENTENCES[type(message)](message, day)
