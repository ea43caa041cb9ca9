"""The world around the product: channels that sell, locations that work, carriers that drive, customers that return.

It knows nothing but what any outsider may know: it reads topics from their start, and acts through the product's doors
(HTTP, files, topics). Each thing it follows has at most one next step, repeated until the product's facts show that it
was taken; so it may be killed at any moment, and it does no harm that it does things twice.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from ordermill.clock import Clock
from ordermill.contracts.base import BY_TYPE, Message, decode
from ordermill.contracts.capture import HoldReason, OrderCaptured, OrderHeld, OrderRejected
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.channel import LineChange, OrderCanceled, OrderChanged, Payment
from ordermill.contracts.fulfillment import (
    FulfillmentAccepted,
    FulfillmentCreated,
    FulfillmentLinesCanceled,
    FulfillmentPacked,
    FulfillmentPicked,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
    PackageLabeled,
)
from ordermill.contracts.inventory import OrderBackordered, StockReceived
from ordermill.contracts.location import StockArrived
from ordermill.contracts.returns import (
    GoodsWaived,
    PurchaseDelivered,
    PurchaseUndelivered,
    ReturnAuthorized,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnInspected,
    ReturnReceived,
    ReturnRequested,
)
from ordermill.contracts.tracking import ShipmentAnnounced, ShipmentDelivered, ShipmentScanned
from ordermill.errors import OrdermillError
from ordermill.service.messages import envelope_of

from . import rules
from .baskets import Basket
from .rules import PER_MILLE, between, draw, happens
from .tally import Tally

logger = structlog.get_logger(__name__)

RETRY_REAL_S = 5.0
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: through which door, and what."""

    door: str
    what: Any


class Doors(Protocol):
    """How the world reaches the product."""

    @property
    def locations(self) -> Sequence[str]: ...

    @property
    def hubs(self) -> tuple[str, str]: ...

    async def go(self, door: str, items: Sequence[Any]) -> bool:
        """Take all `items` through one kind of door; whether they got through."""
        ...


@dataclass(slots=True)
class _Work:
    """A fulfillment order as its location sees it."""

    created: FulfillmentCreated
    open: dict[str, int] = field(default_factory=dict)
    """Units by line: asked for, and picked once it is."""
    picked: bool = False
    packages: int = 0
    labeled: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Return:
    """A return as its customer and the desk see it."""

    asked: ReturnRequested
    left: dict[str, int]
    """Units by line that have not come back yet."""
    receipts: int = 0


class World:
    """Follows the product's facts and takes each thing's next step when its time has come."""

    def __init__(
        self,
        doors: Doors,
        clock: Clock,
        speed: float,
        tally: Tally,
        delays: float = 1.0,
        fates: Mapping[str, int] = PER_MILLE,
    ) -> None:
        """`delays` scales how long people take; 0 makes them as fast as the product. `fates`: how often, per mille."""
        self.tally = tally
        self._doors = doors
        self._clock = clock
        self._retry = timedelta(seconds=RETRY_REAL_S * speed)
        self._delays = delays
        self._fates = fates
        self._next: dict[str, tuple[datetime, Step]] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._work: dict[str, _Work] = {}
        self._orders: dict[str, OrderCaptured] = {}
        self._known: set[tuple[str, str]] = set()
        self._absorbed: set[str] = set()
        """Ids of facts: a relay may tell one again, behind others that it told since."""
        self._waits: dict[tuple[str, str], int] = {}
        """How often an order's line has had to wait for goods: each time, more must come."""
        self._parcels: dict[str, ShipmentAnnounced] = {}
        self._astray: dict[str, str] = {}
        """Why parcels never arrived, by the return that makes up for it."""
        self._returns: dict[str, _Return] = {}
        self._heard: dict[type[Message], Callable[[Any, datetime], None]] = {
            OrderCaptured: self._captured,
            OrderRejected: lambda fact, at: self._order_is_known(fact.channel, fact.external_id),
            OrderHeld: self._held,
            OrderBackordered: self._backordered,
            StockReceived: lambda fact, at: self._done(f"stock-{fact.reference}"),
            FulfillmentCreated: self._asked_to_work,
            FulfillmentAccepted: self._accepted,
            FulfillmentPicked: self._picked,
            FulfillmentShortPicked: self._short_picked,
            FulfillmentLinesCanceled: lambda fact, at: self._less(fact.fulfillment_id, fact.lines),
            FulfillmentRejected: lambda fact, at: self._done(f"work-{fact.fulfillment_id}"),
            FulfillmentPacked: self._packed,
            PackageLabeled: self._labeled,
            FulfillmentShipped: self._shipped,
            ShipmentAnnounced: lambda fact, at: self._parcels.__setitem__(fact.shipment_id, fact),
            ShipmentScanned: lambda fact, at: self._done(f"scan-{fact.scan_id}"),
            ShipmentDelivered: self._delivered,
            PurchaseUndelivered: self._never_arrived,
            PurchaseDelivered: self._found,
            ReturnRequested: self._return_requested,
            ReturnAuthorized: self._return_authorized,
            ReturnDeclined: lambda fact, at: self._done(f"return-{fact.return_id}"),
            ReturnReceived: self._return_received,
            ReturnInspected: self._return_inspected,
            GoodsWaived: lambda fact, at: self._done(f"return-{fact.return_id}"),
            ReturnExpired: lambda fact, at: self._done(f"return-{fact.return_id}"),
            ReturnClosed: lambda fact, at: self._done(f"return-{fact.return_id}"),
        }
        wanted: set[type[Message]] = {*self._heard, *tally.wants}
        self._wanted = {name.encode() for name, cls in BY_TYPE.items() if cls in wanted}

    @property
    def topics(self) -> list[str]:
        classes: list[type[Message]] = [*self._heard, *self.tally.wants]
        return sorted({cls.topic for cls in classes})

    @property
    def idle(self) -> bool:
        """Nothing is left to do."""
        return not self._next

    def knows(self, basket: Basket) -> bool:
        """Whether the product has taken in or turned away this order."""
        return (basket.order.channel, basket.order.external_id) in self._known

    def absorb(self, record: Any) -> None:
        """Take in one record of a topic."""
        if not any(name == "ce_type" and value in self._wanted for name, value in record.headers):
            return
        try:
            envelope = envelope_of(record.headers)
            message = decode(envelope.type, record.value or b"")
        except OrdermillError as error:
            logger.error("a fact that the world can't read", topic=record.topic, error=str(error))
            return
        if envelope.id in self._absorbed:
            return
        self._absorbed.add(envelope.id)
        at = envelope.happened_at or self._clock()
        self.tally.count(message, at)
        heard = self._heard.get(type(message))
        if heard is not None:
            heard(message, at)

    def _happens(self, fate: str, *what: str) -> bool:
        return happens(fate, *what, per_mille=self._fates)

    # Channels and stock

    def plan_stock(self, baskets: Iterable[Basket], batch: str) -> int:
        """Announce goods for these orders: most in two hubs, some elsewhere; of scarce SKUs half comes later."""
        wanted: dict[str, int] = {}
        for basket in baskets:
            for line in basket.order.lines:
                wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
        now, locations = self._clock(), self._doors.locations
        for sku, units in wanted.items():
            elsewhere = locations[draw(sku) % len(locations)]
            if self._happens("scarce", sku):
                shelves = {elsewhere: max(1, units // 2)}
            else:
                shelves = dict.fromkeys(self._doors.hubs, units + 2) | {elsewhere: units // 2 + 1}
            for place, stocked in shelves.items():
                self._arrives(sku, place, stocked, f"opening-{batch}-{sku}-{place}", now)
        return len(wanted)

    def plan_orders(
        self, baskets: Iterable[Basket], starts_at: datetime, skip: timedelta, every: timedelta | None = None
    ) -> None:
        """Have the channels send these orders, each as long after `starts_at` as it was after `skip` in 2017; or one
        `every` so often.
        """
        for number, basket in enumerate(baskets):
            key = (basket.order.channel, basket.order.external_id)
            if not self.knows(basket):
                due = starts_at + (basket.after - skip if every is None else number * every)
                self._then(f"order-{key[0]}-{key[1]}", due, Step(basket.format, basket.order))

    def _order_is_known(self, channel: str, external_id: str) -> None:
        self._known.add((channel, external_id))
        self._done(f"order-{channel}-{external_id}")

    def _captured(self, fact: OrderCaptured, at: datetime) -> None:
        self._order_is_known(fact.channel, fact.external_id)
        self._orders[fact.order_id] = fact
        if fact.channel != "exchange" and self._happens("cancel", fact.external_id):
            whole = draw("whole", fact.external_id) < 600
            lines = () if whole else (LineChange(line_id=fact.lines[0].line_id, quantity=1),)
            canceled = OrderCanceled(
                channel=fact.channel,
                external_id=fact.external_id,
                cancellation_id=f"cancel-{fact.external_id}",
                canceled_at=at,
                lines=lines,
                reason="customer",
                refunded=fact.lines[0].unit_price,  # a part that the shop has paid back by itself
            )
            wait = rules.CANCEL_AFTER * between(0.1, 6, "cancel", fact.external_id) * self._delays
            self._once(f"cancel-{fact.order_id}", at + wait, Step("channel", canceled))

        if fact.channel != "exchange" and fact.payment.status != "pending" and self._happens("edit", fact.external_id):
            self._edit(fact, at)

    def _edit(self, fact: OrderCaptured, at: datetime) -> None:
        """Fewer or more of the first line; then, for some, the second change that so many systems get wrong."""
        line, key = fact.lines[0], fact.external_id
        for revision in (1, 2)[: 1 + draw("twice", key) % 2]:
            quantity = max(0, line.quantity + (-1, 1, -2)[draw("edit", key, str(revision)) % 3])
            changed = OrderChanged(
                channel=fact.channel,
                external_id=key,
                revision=revision,
                changed_at=at,
                lines=(LineChange(line_id=line.line_id, quantity=quantity),),
            )
            wait = rules.EDIT_AFTER * between(0.1, 4, "edit", key, str(revision)) * self._delays
            self._once(f"edit-{fact.order_id}-{revision}", at + wait, Step("channel", changed))

    def _held(self, fact: OrderHeld, at: datetime) -> None:
        order = self._orders.get(fact.order_id)
        if fact.reason is HoldReason.PAYMENT and order is not None:
            paid = OrderChanged(
                channel=order.channel,
                external_id=order.external_id,
                revision=1,
                changed_at=at,
                payment=Payment(status="paid", reference=f"pay-{order.external_id}"),
            )
            self._once(f"pay-{fact.order_id}", at + rules.PAY_AFTER * self._delays, Step("channel", paid))
        elif fact.reason is not HoldReason.PAYMENT:
            release = {"reason": fact.reason.value, "note": "looked at, nothing wrong"}
            step = Step("capture", (f"/orders/{fact.order_id}/release", release))
            self._once(f"review-{fact.order_id}-{fact.reason}", at + rules.REVIEW_AFTER * self._delays, step)

    def _backordered(self, fact: OrderBackordered, at: datetime) -> None:
        for line in fact.lines:
            place = self._doors.locations[draw(line.sku, "restock") % len(self._doors.locations)]
            due = at + rules.RESTOCK_AFTER * between(0.5, 1.5, line.sku) * self._delays
            wait = self._waits[fact.order_id, line.line_id] = self._waits.get((fact.order_id, line.line_id), 0) + 1
            reference = f"restock-{fact.order_id}-{line.line_id}-{wait}"
            self._arrives(line.sku, place, line.quantity + 2, reference, due)

    def _arrives(self, sku: str, location: str, quantity: int, reference: str, at: datetime) -> None:
        arrived = StockArrived(location=location, sku=sku, reference=reference, happened_at=at, quantity=quantity)
        self._once(f"stock-{reference}", at, Step("stock", arrived))

    # Locations

    def _asked_to_work(self, fact: FulfillmentCreated, at: datetime) -> None:
        fulfillment_id = fact.fulfillment_id
        self._work[fulfillment_id] = _Work(fact, {line.line_id: line.quantity for line in fact.lines})
        if self._happens("reject", fulfillment_id):
            step: Json = {"do": "reject", "reason": "no-capacity"}
        else:
            step = {"do": "accept"}
        self._work_next(fulfillment_id, at, rules.ACCEPT_AFTER, step)

    def _accepted(self, fact: FulfillmentAccepted, at: datetime) -> None:
        self._work_next(fact.fulfillment_id, at, rules.PICK_AFTER, {"do": "pick"})

    def _picked(self, fact: FulfillmentPicked, at: datetime) -> None:
        work = self._work.get(fact.fulfillment_id)
        if work is not None:
            work.open = {line.line_id: line.quantity for line in fact.lines}
            work.picked = True
            self._work_next(fact.fulfillment_id, at, rules.PACK_AFTER, {"do": "pack"})

    def _short_picked(self, fact: FulfillmentShortPicked, at: datetime) -> None:
        work = self._work.get(fact.fulfillment_id)
        if work is not None and not work.picked:
            self._less(fact.fulfillment_id, fact.lines)

    def _less(self, fulfillment_id: str, lines: Iterable[Any]) -> None:
        work = self._work.get(fulfillment_id)
        if work is None:
            return
        for line in lines:
            work.open[line.line_id] = max(0, work.open.get(line.line_id, 0) - line.quantity)
        if not any(work.open.values()):
            self._done(f"work-{fulfillment_id}")

    def _packed(self, fact: FulfillmentPacked, at: datetime) -> None:
        work = self._work.get(fact.fulfillment_id)
        if work is not None:
            work.packages = len(fact.packages)
        self._done(f"work-{fact.fulfillment_id}")

    def _labeled(self, fact: PackageLabeled, at: datetime) -> None:
        work = self._work.get(fact.fulfillment_id)
        if work is not None:
            work.labeled.add(fact.package)
            if len(work.labeled) == work.packages:
                self._work_next(fact.fulfillment_id, at, rules.HAND_OVER_AFTER, {"do": "hand-over"})

    def _work_next(self, fulfillment_id: str, at: datetime, wait: timedelta, what: Json) -> None:
        due = at + wait * between(0.5, 1.5, fulfillment_id, what["do"]) * self._delays
        self._then(f"work-{fulfillment_id}", due, Step("work", {**what, "fulfillment_id": fulfillment_id}))

    def _report(self, what: Json) -> Json:
        """A report with the units in it, as they are at the moment it is sent."""
        work = self._work[what["fulfillment_id"]]
        lines = [
            {"line_id": line.line_id, "sku": line.sku, "quantity": work.open[line.line_id]}
            for line in work.created.lines
            if work.open.get(line.line_id)
        ]
        if what["do"] == "pick" and self._happens("short-pick", what["fulfillment_id"]):
            first = lines[0]
            lines = lines[1:] if first["quantity"] == 1 else [{**first, "quantity": 1}, *lines[1:]]
        if what["do"] == "pick":
            return {**what, "lines": lines}
        if what["do"] == "pack":
            weight = sum((line.weight_g or 500) * work.open.get(line.line_id, 0) for line in work.created.lines)
            return {**what, "packages": [{"package": 1, "weight_g": min(weight + 120, 90_000_000), "lines": lines}]}
        return what

    # Carriers

    def _shipped(self, fact: FulfillmentShipped, at: datetime) -> None:
        self._done(f"work-{fact.fulfillment_id}")
        self._work.pop(fact.fulfillment_id, None)
        for package in fact.packages:
            number, carrier = package.tracking_number, package.carrier
            arrives = fact.deliver_by - timedelta(hours=between(2, 20, number))
            if self._happens("late", number):
                arrives += timedelta(days=2)
            way = max(arrives - fact.shipped_at, timedelta(hours=4))
            for index, (scanned_at, code) in enumerate(self._way(carrier, number, fact.shipped_at, way)):
                scan = ParcelScanned(
                    carrier=carrier,
                    tracking_number=number,
                    scan_id=f"{number}-{index}",
                    code=code,
                    scanned_at=scanned_at,
                    proof="photo" if code in DELIVERED else "unknown",
                )
                key = f"scan-{scan.scan_id}"
                behind = timedelta(hours=12) if self._happens("reorder", scan.scan_id) else timedelta(0)
                self._once(key, scanned_at + behind, Step("scan", scan))
                if self._happens("repeat", scan.scan_id):
                    self._once(f"again-{scan.scan_id}", scanned_at + behind, Step("scan", scan))

    def _way(self, carrier: str, number: str, shipped_at: datetime, takes: timedelta) -> Iterable[tuple[datetime, str]]:
        """When the carrier scans the parcel, and as what."""
        codes = (TURNED_BACK if self._happens("turned-back", number) else SCANS)[carrier]
        lost = self._happens("lost", number)
        for part, code in codes[:2] if lost else codes:
            yield shipped_at + takes * part, code
        if lost and self._happens("found", number):
            yield shipped_at + rules.FOUND_AFTER * between(1, 1 + self._delays / 5, "found", number), codes[-1][1]

    # Customers

    def _never_arrived(self, fact: PurchaseUndelivered, at: datetime) -> None:
        """Somebody makes up for it: sends the same again, or gives the money back."""
        order, return_id = self._orders.get(fact.order_id), f"make-up-{fact.shipment_id}"
        self._astray[return_id] = fact.why
        if return_id in self._returns:
            return
        wanted: Json = {"wanted": "refund"}
        if order is not None and order.channel != "exchange" and self._happens("sent-again", fact.shipment_id):
            bought = {line.line_id: line for line in order.lines}
            again = [
                {
                    "sku": line.sku,
                    "title": bought[line.line_id].title,
                    "quantity": line.quantity,
                    "unit_price": bought[line.line_id].unit_price.model_dump(),
                }
                for line in fact.lines
            ]
            wanted = {"wanted": "exchange", "exchange_for": again}
        request = {
            "return_id": return_id,
            "order_id": fact.order_id,
            "lines": [line.model_dump() for line in fact.lines],
            "reason": "not-delivered",
            "by": "agent",
            **wanted,
        }
        due = at + rules.MAKE_UP_AFTER * self._delays
        self._then(f"return-{return_id}", due, Step("returns", ("/returns", request)))

    def _found(self, fact: PurchaseDelivered, at: datetime) -> None:
        """A parcel that was lost arrived after all: nothing is to be made up for, but not everybody knows at once."""
        return_id = f"make-up-{fact.shipment_id}"
        self._astray.pop(return_id, None)
        if f"return-{return_id}" in self._next:
            if return_id in self._returns:
                unaware = Step("returns", ("/returns/work", [{"do": "waive", "return_id": return_id}]))
                self._once(f"again-{return_id}", at, unaware)
                self._work_on_return(return_id, at + rules.MAKE_UP_AFTER * self._delays, {"do": "close"})
            else:
                self._done(f"return-{return_id}")

    def _delivered(self, fact: ShipmentDelivered, at: datetime) -> None:
        self._done(f"scan-{fact.scan_id}")
        parcel = self._parcels.get(fact.shipment_id)
        if parcel is None or not self._happens("return", parcel.order_id):
            return
        order = self._orders.get(parcel.order_id)
        return_id = f"ret-{parcel.order_id}"
        if order is None or order.channel == "exchange" or return_id in self._returns:
            return
        line = parcel.lines[draw("line", parcel.order_id) % len(parcel.lines)]
        bought = next(each for each in order.lines if each.line_id == line.line_id)
        units = line.quantity if self._happens("several", parcel.order_id) else 1
        exchange = self._happens("exchange", parcel.order_id)
        wanted: Json = {"wanted": "refund"}
        if exchange:
            other = {
                "sku": bought.sku, "title": bought.title, "quantity": 1, "unit_price": bought.unit_price.model_dump(),
            }  # fmt: skip
            wanted = {"wanted": "exchange", "exchange_for": [other]}
        reasons = ("unwanted", "damaged", "wrong-item", "not-as-described", "late")
        request = {
            "return_id": return_id,
            "order_id": parcel.order_id,
            "lines": [{"line_id": line.line_id, "sku": line.sku, "quantity": units}],
            "reason": reasons[draw("reason", parcel.order_id) % len(reasons)],
            **wanted,
        }
        due = at + rules.ASK_RETURN_AFTER * self._delays
        self._then(f"return-{return_id}", due, Step("returns", ("/returns", request)))

    def _return_requested(self, fact: ReturnRequested, at: datetime) -> None:
        self._returns[fact.return_id] = _Return(fact, {line.line_id: line.quantity for line in fact.lines})

    def _return_authorized(self, fact: ReturnAuthorized, at: datetime) -> None:
        why = self._astray.get(fact.return_id)
        if why == "lost":
            self._work_on_return(fact.return_id, at + rules.MAKE_UP_AFTER * self._delays, {"do": "waive"})
            return
        if why is None and fact.return_id.startswith("make-up-"):
            self._work_on_return(fact.return_id, at, {"do": "close"})
            return
        wait = rules.MAKE_UP_AFTER if why == "came-back" else rules.SEND_BACK_AFTER
        self._send_back(fact.return_id, at + wait * self._delays)

    def _send_back(self, return_id: str, due: datetime) -> None:
        """What is left of it, or one unit; of a parcel that came back all that was in it."""
        known = self._returns[return_id]
        lines = [
            {"line_id": line.line_id, "sku": line.sku, "quantity": units}
            for line in known.asked.lines
            if (units := known.left[line.line_id])
        ]
        if return_id not in self._astray and self._happens("in-parts", return_id):
            lines = [{**lines[0], "quantity": 1}]
        report = {
            "do": "receive",
            "receipt_id": str(known.receipts + 1),
            "location": self._return_location(return_id),
            "lines": lines,
        }
        self._work_on_return(return_id, due, report)

    def _return_received(self, fact: ReturnReceived, at: datetime) -> None:
        known = self._returns[fact.return_id]
        known.receipts += 1
        for line in fact.lines:
            known.left[line.line_id] -= line.quantity
        disposition = "write-off" if self._happens("unfit", fact.return_id) else "restock"
        if self._happens("missing", fact.return_id, str(known.receipts)):
            disposition = "missing"
        report = {
            "do": "inspect",
            "inspection_id": fact.receipt_id or str(known.receipts),
            "location": fact.location,
            "lines": [{**line.model_dump(), "disposition": disposition} for line in fact.lines],
        }
        self._work_on_return(fact.return_id, at + rules.INSPECT_AFTER * self._delays, report)

    def _return_inspected(self, fact: ReturnInspected, at: datetime) -> None:
        if any(self._returns[fact.return_id].left.values()):
            self._send_back(fact.return_id, at + rules.SEND_BACK_AFTER * self._delays)
        else:
            self._done(f"return-{fact.return_id}")

    def _work_on_return(self, return_id: str, due: datetime, what: Json) -> None:
        report = {**what, "return_id": return_id}
        self._then(f"return-{return_id}", due, Step("returns", ("/returns/work", [report])))

    def _return_location(self, return_id: str) -> str:
        return self._doors.locations[draw("at", return_id) % len(self._doors.locations)]

    # Time

    def _then(self, key: str, due: datetime, step: Step) -> None:
        self._next[key] = (due, step)
        heapq.heappush(self._heap, (due, key))

    def _once(self, key: str, due: datetime, step: Step) -> None:
        """Unless it was done before: what the topics told before this moment is remembered as done."""
        if key not in self.tally.done:
            self._then(key, due, step)

    def _done(self, key: str) -> None:
        self.tally.done.add(key)
        self._next.pop(key, None)

    async def act(self) -> int:
        """Take the steps whose time has come; how many. A step stays until facts show it taken, and is tried again."""
        now = self._clock()
        due: dict[str, list[tuple[str, Any]]] = {}
        count = 0
        while self._heap and self._heap[0][0] <= now and count < 2_000:
            at, key = heapq.heappop(self._heap)
            planned = self._next.get(key)
            if planned is None or planned[0] != at:
                continue
            step = planned[1]
            what = self._report(step.what) if step.door == "work" else step.what
            due.setdefault(step.door, []).append((key, what))
            count += 1
        if not due:
            return 0
        outcomes = await asyncio.gather(
            *(self._doors.go(door, [what for _, what in steps]) for door, steps in due.items())
        )
        for steps, taken in zip(due.values(), outcomes, strict=True):
            for key, _ in steps:
                if taken and key.startswith(ONCE):
                    self._next.pop(key, None)
                    self.tally.done.add(key)
                elif key in self._next:
                    self._then(key, now + self._retry, self._next[key][1])
        return count


ONCE = ("again-", "cancel-", "edit-", "pay-", "review-")
"""Steps of which no fact that the world follows tells; that they got through the door must do."""

SCANS: dict[str, tuple[tuple[float, str], ...]] = {
    "cedar": (
        (0.0, "label.created"),
        (0.1, "hub.departed"),
        (0.6, "hub.arrived"),
        (0.9, "courier.loaded"),
        (1.0, "delivered.door"),
    ),
    "swift": ((0.0, "010"), (0.15, "100"), (0.6, "120"), (0.9, "210"), (1.0, "300")),
}
"""What each carrier reports on a parcel's way: how far along it is, and the carrier's code."""
DELIVERED = frozenset(codes[-1][1] for codes in SCANS.values())
TURNED_BACK: dict[str, tuple[tuple[float, str], ...]] = {
    "cedar": (*SCANS["cedar"][:-1], (1.05, "return.started"), (1.5, "return.handed-over")),
    "swift": (*SCANS["swift"][:-1], (1.05, "500"), (1.5, "510")),
}
"""The same of a parcel that nobody takes."""
