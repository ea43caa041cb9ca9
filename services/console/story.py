"""An order as its customer reads it: where it is, what was promised, each parcel's way, what may come back. Pure.

Told from the console's picture of the order and from a few kinds of its facts. Which scan of a parcel counts is
tracking's to say. Nothing here names a person, a price of ours, a location's stock or another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import get_args

from ordermill.contracts.base import Message
from ordermill.contracts.capture import CancellationRefunded, ChannelRefunded
from ordermill.contracts.fields import LineQuantity, Money
from ordermill.contracts.returns import (
    GoodsWaived,
    PurchaseDelivered,
    RefundPaid,
    ReturnAuthorized,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnReason,
    ReturnReceived,
    ReturnRequested,
    UnitsClaimed,
    UnitsGivenBack,
)
from ordermill.contracts.routing import PromiseChanged, PromiseMade, RouteCause
from ordermill.contracts.tracking import (
    Milestone,
    OrderStatus,
    ParcelStatus,
    ShipmentAnnounced,
    ShipmentDelivered,
    ShipmentScanned,
)
from ordermill.customer import in_words, still_comes

from .pictures.order import Order

TOLD: tuple[type[Message], ...] = (
    PromiseMade, PromiseChanged,
    ShipmentAnnounced, ShipmentScanned, ShipmentDelivered,
    PurchaseDelivered, UnitsClaimed, UnitsGivenBack,
    ReturnRequested, ReturnAuthorized, ReturnDeclined, ReturnReceived, GoodsWaived, ReturnExpired, ReturnClosed,
    RefundPaid, CancellationRefunded, ChannelRefunded,
)  # fmt: skip
"""The facts that a story is told from, beside the picture of the order."""

SCANS = {
    Milestone.LABEL_CREATED: "Label made; the carrier does not have the parcel yet",
    Milestone.IN_TRANSIT: "On its way",
    Milestone.OUT_FOR_DELIVERY: "Out for delivery",
    Milestone.ATTEMPT_FAILED: "The carrier tried to deliver and will try again",
    Milestone.READY_FOR_PICKUP: "Ready to be picked up",
    Milestone.DELIVERED: "Delivered",
    Milestone.EXCEPTION: "Held up at the carrier",
    Milestone.RETURNING: "On its way back to us",
    Milestone.RETURNED: "Back with us",
    Milestone.UNKNOWN: "Seen by the carrier",
}
CHANGES: dict[RouteCause, str] = {
    "reserved": "we planned it anew",
    "backorder-filled": "something that was not in stock has come in",
    "allocation-refused": "the place it was to come from had less than we thought, so another one ships it",
    "rejected": "the place it was to come from could not ship it, so another one does",
    "short-pick": "an item was not where it should be, so it comes from another place",
    "manual": "our team found another way to ship it",
    "retry": "it took us longer to find where to ship it from",
}
assert CHANGES.keys() == set(get_args(RouteCause)), "each cause needs its words"
REASONS = {
    ReturnReason.UNWANTED: "I don't want it any more",
    ReturnReason.DAMAGED: "It came damaged",
    ReturnReason.WRONG_ITEM: "It is not what I ordered",
    ReturnReason.NOT_AS_DESCRIBED: "It is not as described",
    ReturnReason.LATE: "It came too late",
    ReturnReason.OTHER: "Another reason",
}
"""What a customer may say. That a parcel is lost or back is for tracking to know, and for us to make up for."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_REJECTED = "We could not take this order. The shop where you placed it can tell you more."
STEPS = ("Received", "Confirmed", "Shipped", "Delivered")
_REACHED = {
    "received": 0, "on_hold": 0, "confirmed": 1, "backordered": 1, "partially_shipped": 2, "shipped": 2,
    "partially_delivered": 2, "delivered": 3, "partially_returned": 3, "returned": 3,
}  # fmt: skip
"""The step that a status stands for; no further than shipped while something is still to come."""


@dataclass(slots=True)
class Item:
    """One line of what was bought. Units that `may_return` arrived and are in no return yet."""

    line_id: str
    sku: str
    title: str
    quantity: int
    canceled: int
    may_return: int = 0


@dataclass(frozen=True, slots=True)
class Promise:
    promised_by: datetime
    because: str
    """Empty for the first one."""


@dataclass(frozen=True, slots=True)
class Scan:
    at: datetime
    text: str
    place: str


@dataclass(slots=True)
class Parcel:
    carrier: str
    tracking_number: str
    promised_by: datetime
    contents: list[tuple[str, int]]
    scans: list[Scan] = field(default_factory=list)
    """The newest first."""
    state: str = "Handed to the carrier"
    late: bool = False
    """Told as long as it has not arrived."""
    lost: bool = False


@dataclass(slots=True)
class Return:
    """`contents`: title and units."""

    return_id: str
    contents: list[tuple[str, int]]
    state: str = "We are looking at it."
    rma: str = ""
    send_by: datetime | None = None
    """Set as long as the goods are awaited."""
    reasons: tuple[str, ...] = ()
    """Why not, where the answer is no."""
    refunded: Money | None = None
    undelivered: bool = False
    """We make up for what never arrived: the customer has nothing to do."""


@dataclass(slots=True)
class Story:
    reference: str
    """The order's number at the channel where it was bought."""
    placed_at: datetime | None
    headline: str
    step: int | None
    """Index in STEPS; None where the order ended otherwise."""
    promised_by: datetime | None
    open: bool
    """Whether something is still to come."""
    late: bool
    promises: list[Promise]
    items: list[Item]
    parcels: list[Parcel]
    returns: list[Return]
    refunds: list[Money]
    """For what was canceled."""

    @property
    def may_return(self) -> list[Item]:
        return [item for item in self.items if item.may_return]


def tell(order: Order, facts: Iterable[Message]) -> Story:
    """The story so far. `facts` are of this order and of TOLD, those of one stream in its order."""
    items = {
        line.line_id: Item(
            line.line_id, line.sku, line.title or line.sku, line.quantity, order.canceled.get(line.line_id, 0)
        )
        for line in order.lines
    }
    final = {line.line_id for line in order.lines if line.final_sale}
    facts = list(facts)
    status = _status(order, facts)
    story = Story(
        reference=order.external_id,
        placed_at=order.placed_at,
        headline=_REJECTED if order.rejected else in_words(status),
        step=None if order.rejected else _step(status),
        promised_by=order.promised_by,
        open=not order.rejected and still_comes(status),
        late=order.late,
        promises=[],
        items=list(items.values()),
        parcels=[],
        returns=[],
        refunds=[],
    )
    # A carrier may scan a parcel before the location says that it handed it over.
    parcels = {
        fact.shipment_id: Parcel(fact.carrier, fact.tracking_number, fact.promised_by, _contents(items, fact.lines))
        for fact in facts
        if isinstance(fact, ShipmentAnnounced)
    }
    returns: dict[str, Return] = {}
    arrived: dict[str, int] = {}
    claimed: dict[str, int] = {}
    for fact in facts:
        match fact:
            case PromiseMade():
                story.promises.append(Promise(fact.promised_by, ""))
            case PromiseChanged():
                story.promises.append(Promise(fact.promised_by, CHANGES[fact.reason]))
            case ShipmentScanned() if fact.shipment_id in parcels:
                scan = Scan(fact.scanned_at, SCANS[fact.milestone], fact.place)
                parcels[fact.shipment_id].scans.append(scan)
            case ShipmentDelivered() if fact.shipment_id in parcels:
                scan = Scan(fact.delivered_at, SCANS[Milestone.DELIVERED], fact.place)
                parcels[fact.shipment_id].scans.append(scan)
            case PurchaseDelivered():
                _count(arrived, fact.lines, 1)
            case UnitsClaimed() | UnitsGivenBack():
                change = 1 if isinstance(fact, UnitsClaimed) else -1
                _count(claimed, fact.lines, change)
                if not fact.undelivered:
                    _count(arrived, fact.lines, -change)
            case CancellationRefunded() | ChannelRefunded():
                story.refunds.append(fact.amount)
            case ReturnRequested():
                returns[fact.return_id] = Return(
                    fact.return_id,
                    _contents(items, fact.lines),
                    undelivered=fact.reason is ReturnReason.NOT_DELIVERED,
                )
            case (
                ReturnAuthorized()
                | ReturnDeclined()
                | ReturnReceived()
                | GoodsWaived()
                | ReturnExpired()
                | ReturnClosed()
            ):
                if fact.return_id in returns:
                    _answer(returns[fact.return_id], fact)
            case RefundPaid():
                if fact.return_id in returns:
                    returns[fact.return_id].refunded = fact.amount
    for item in story.items:
        left = item.quantity - item.canceled - claimed.get(item.line_id, 0)
        item.may_return = 0 if item.line_id in final else max(0, min(arrived.get(item.line_id, 0), left))
    story.parcels = list(parcels.values())
    for parcel in story.parcels:
        parcel.scans.sort(key=lambda scan: scan.at, reverse=True)
    for each in order.parcels:
        if each.shipment_id in parcels:
            _stands(parcels[each.shipment_id], each)
    story.returns = list(returns.values())
    return story


def _status(order: Order, facts: Iterable[Message]) -> OrderStatus:
    """As the console has it. Without the promise, which is told beside it in the customer's own days."""
    units = order.units.values()
    returned = sum(each.returned + each.made_up for each in units)
    credited = (fact.lines for fact in facts if isinstance(fact, GoodsWaived) and fact.undelivered)
    waived = sum(line.quantity for lines in credited for line in lines)
    return OrderStatus(
        order_id=order.order_id,
        version=order.status_version,
        channel=None,
        external_id=None,
        status=order.status,
        late=order.late,
        ordered=sum(line.quantity for line in order.lines),
        canceled=sum(order.canceled.values()),
        shipped=sum(each.shipped for each in units),
        delivered=sum(each.delivered for each in units),
        returned=returned,
        waived=min(waived, returned),
        promised_by=None,
        parcels=order.parcels,
        updated_at=order.changed_at or _LONG_AGO,
    )


def _step(status: OrderStatus) -> int | None:
    reached = _REACHED.get(status.status)
    return reached if reached is None or not still_comes(status) else min(reached, _REACHED["shipped"])


def _contents(items: dict[str, Item], lines: Sequence[LineQuantity]) -> list[tuple[str, int]]:
    return [(items[line.line_id].title if line.line_id in items else line.sku, line.quantity) for line in lines]


def _count(units: dict[str, int], lines: Sequence[LineQuantity], sign: int) -> None:
    for line in lines:
        units[line.line_id] = units.get(line.line_id, 0) + sign * line.quantity


def _stands(parcel: Parcel, status: ParcelStatus) -> None:
    """Where it is. Until a scan counts, all that is known is that it was handed over."""
    state = SCANS[status.milestone]
    if status.milestone is not Milestone.LABEL_CREATED or any(scan.text == state for scan in parcel.scans):
        parcel.state = state
    parcel.late = status.late and status.milestone not in (Milestone.DELIVERED, Milestone.RETURNED)
    parcel.lost = status.lost


def _answer(
    back: Return,
    fact: ReturnAuthorized | ReturnDeclined | ReturnReceived | GoodsWaived | ReturnExpired | ReturnClosed,
) -> None:
    match fact:
        case ReturnAuthorized() | ReturnReceived() | GoodsWaived() | ReturnExpired() if back.undelivered:
            back.state = "It did not reach you, so we are making up for it. You need not do anything."
        case ReturnAuthorized():
            back.state, back.rma, back.send_by = "Accepted: please send it back.", fact.rma, fact.expires_at
        case ReturnDeclined():
            back.state, back.reasons = "We can't take this back.", fact.reasons
        case ReturnReceived():
            back.state, back.send_by = "It has arrived, and we are checking it.", None
        case GoodsWaived():
            back.state, back.send_by = "You need not send it back.", None
        case ReturnExpired():
            back.state, back.send_by = "Nothing came back in time, so this return has ended.", None
        case ReturnClosed() if back.undelivered:
            back.state = "It did not reach you, and we have looked into it."
        case ReturnClosed():
            back.state, back.send_by = "Done.", None
