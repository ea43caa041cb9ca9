"""Conservation over all six logs: no unit, no line and no money comes from nowhere or goes nowhere.

Read from the facts alone, no view or cache. While orders move, the logs are read one after another, so only that is
reported which can never be right, and only if a second look finds it again. Once all is settled, `settled` demands
that everything adds up to the last unit and minor unit.

    SKU    received + adjusted + restocked = on hand + shipped out
    line   ordered = canceled + shipped + still open; shipped = delivered + lost + came back + under way
    money  charged = kept + refunded, to the minor unit
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from ordermill.contracts.base import decode
from ordermill.contracts.capture import (
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    OrderCaptured,
    OrderLine,
    OrderLinesCanceled,
    OrderReleased,
    OrderRevised,
    OrderUnitsShipped,
)
from ordermill.contracts.fields import Money
from ordermill.contracts.fulfillment import (
    FulfillmentCreated,
    FulfillmentLinesCanceled,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelFailed,
    LabelRequested,
    PackageLabeled,
)
from ordermill.contracts.inventory import (
    OrderAllocated,
    OrderBackordered,
    OrderLetGo,
    OrderShippedOut,
    ReservationOpened,
    StockAdjusted,
    StockCountRecorded,
    StockLetGo,
    StockReceived,
    StockRestocked,
    StockShippedOut,
    StockWrittenOff,
)
from ordermill.contracts.returns import (
    Disposition,
    ExchangeRequested,
    PurchaseDelivered,
    PurchaseRecorded,
    PurchaseRevised,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnInspected,
    UnitsTakenBack,
)
from ordermill.contracts.routing import OrderRerouted, OrderRouted, OrderUnroutable, PolicyAdopted
from ordermill.contracts.tracking import Milestone, ShipmentAnnounced
from ordermill.errors import OrdermillError
from ordermill.eventlog.store import Store
from ordermill.ids import order_id_of
from ordermill.money import first_units, goods_of, range_of_units

Progress = Callable[[int], None]

READ_ORDER = ("returns", "tracking", "fulfillment", "inventory", "routing", "capture")
"""Those who hear of things before those who tell them: what was heard of is then found told."""

SECOND_LOOK_S = 1.0
_PAGE = 2_000

Line = tuple[str, str]
"""An order and one of its lines."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that does not add up. `check` is stable; `seq` is the event's number where it is one event's fault."""

    check: str
    service: str
    stream: str
    seq: int | None
    text: str

    def __str__(self) -> str:
        at = f" at {self.seq}" if self.seq is not None else ""
        return f"{self.check}: {self.service} {self.stream}{at}: {self.text}"


@dataclass(slots=True)
class Audit:
    """What was checked, how many of it, and what is wrong."""

    checked: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)


async def audit_installation(settled: bool = False, progress: Progress = lambda events: None) -> list[Violation]:
    """Audit the logs that the OMS_… variables name. Raises LogUnavailable."""
    from ordermill.eventlog.postgres import PostgresStore
    from ordermill.service.settings import settings_of

    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {}
        for service in READ_ORDER:
            store = await PostgresStore.open(settings_of(service).database_url.get_secret_value(), max_connections=2)
            stack.push_async_callback(store.close)
            stores[service] = store
        return (await audit(stores, settled, progress)).violations


async def audit(stores: Mapping[str, Store], settled: bool = False, progress: Progress = lambda events: None) -> Audit:
    """Read all six logs and add up. `progress` is told how many events were read."""
    found = await _look(stores, settled, progress)
    if found.violations and not settled:
        await asyncio.sleep(SECOND_LOOK_S)
        again = await _look(stores, settled, progress)
        still = set(again.violations)
        again.violations = [violation for violation in found.violations if violation in still]
        return again
    return found


async def _look(stores: Mapping[str, Store], settled: bool, progress: Progress) -> Audit:
    books = Books(settled)
    read = 0
    for service in READ_ORDER:
        book = books.of[service]
        after = 0
        while page := await stores[service].read(after, _PAGE):
            for sequenced in page:
                book.read(sequenced.seq, sequenced.row.stream, sequenced.row.type, sequenced.row.data)
            after = page[-1].seq
            read += len(page)
            progress(read)
    return books.close()


class _Book:
    """What one pass over a service's log found out."""

    service: ClassVar[str]
    skips: ClassVar[frozenset[str]] = frozenset()
    """Categories of streams that prove nothing here."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def read(self, seq: int, stream: str, type_name: str, data: bytes) -> None:
        category = stream.partition("-")[0]
        if category == "letter" or category in self.skips:
            return
        try:
            event = decode(type_name, data)
        except OrdermillError as error:
            self.wrong("unreadable", stream, str(error), seq)
            return
        try:
            self.take(seq, stream, event)
        except Exception as error:  # what no decision ever made may not fold either
            self.wrong("unreadable", stream, f"{type_name} does not fit what was before: {error!r}", seq)

    def take(self, seq: int, stream: str, event: Any) -> None:
        raise NotImplementedError

    def wrong(self, check: str, stream: str, text: str, seq: int | None = None) -> None:
        self.found.append(Violation(check, self.service, stream, seq, text))


@dataclass(slots=True)
class _Asked:
    stream: str
    seq: int
    amount: Money | None = None
    done: int = 0
    failed: bool = False


class _Effects:
    """Effects by their key: asked for before they are done, done once."""

    def __init__(self, book: _Book, what: str, may_repeat: bool) -> None:
        self._book = book
        self._what = what
        self._may_repeat = may_repeat
        self.by_key: dict[str, _Asked] = {}

    def ask(self, key: str, stream: str, seq: int, amount: Money | None = None) -> None:
        known = self.by_key.get(key)
        if known is None:
            self.by_key[key] = _Asked(stream, seq, amount)
            return
        known.failed = False
        if not self._may_repeat:
            self._book.wrong("effects", stream, f"{self._what} {key} is requested again, first at {known.seq}", seq)

    def done(self, key: str, stream: str, seq: int, amount: Money | None = None) -> None:
        asked = self.by_key.get(key)
        if asked is None:
            self._book.wrong("effects", stream, f"{self._what} {key} is done, and nobody requested it", seq)
            return
        asked.done += 1
        if asked.done > 1:
            self._book.wrong("effects", stream, f"{self._what} {key} is done {asked.done} times, once expected", seq)
        if amount is not None and amount != asked.amount:
            text = f"{self._what} {key}: {asked.amount} requested, {amount} paid"
            self._book.wrong("money", stream, text, seq)

    def failed(self, key: str, stream: str, seq: int) -> None:
        asked = self.by_key.get(key)
        if asked is None:
            self._book.wrong("effects", stream, f"{self._what} {key} failed, and nobody requested it", seq)
        else:
            asked.failed = True

    def open_ones(self) -> None:
        for key, asked in self.by_key.items():
            if not asked.done and not asked.failed:
                self._book.wrong("settled", asked.stream, f"{self._what} {key} has no answer", asked.seq)


class CaptureBook(_Book):
    """Orders: what was bought, called off and charged."""

    service = "capture"

    def __init__(self) -> None:
        super().__init__()
        self.domain = import_module("services.capture.domain.order")
        self.orders: dict[str, Any] = {}
        self.released: Counter[Line] = Counter()
        self.canceled: Counter[Line] = Counter()
        self.shipped: Counter[Line] = Counter()
        self.refunds = _Effects(self, "refund", may_repeat=False)
        self.canceled_minor: Counter[str] = Counter()
        self.asked_minor: Counter[str] = Counter()
        self.simple: dict[str, bool] = {}
        """Whether the order was charged at once and never revised: then its refunds can be worked out anew."""

    def take(self, seq: int, stream: str, event: Any) -> None:
        state = self.orders.get(stream, self.domain.Order())
        match event:
            case OrderCaptured():
                if state.total is not None:
                    self.wrong("lines", stream, "the order is captured a second time", seq)
                self.simple[event.order_id] = event.payment.status != "pending"
            case OrderRevised():
                self.simple[event.order_id] = False
            case OrderReleased():
                _count(self.released, event.order_id, event.lines)
            case OrderLinesCanceled():
                _count(self.canceled, event.order_id, event.lines)
                self.canceled_minor[event.order_id] += event.refund.minor
            case OrderUnitsShipped():
                _count(self.shipped, event.order_id, event.lines)
            case CancellationRefundRequested():
                self.refunds.ask(event.refund_id, stream, seq, event.amount)
                self.asked_minor[event.order_id] += event.amount.minor
            case CancellationRefunded():
                self.refunds.done(event.refund_id, stream, seq, event.amount)
            case CancellationRefundFailed():
                self.refunds.failed(event.refund_id, stream, seq)
        self.orders[stream] = self.domain.evolve(state, event)


class InventoryBook(_Book):
    """Stock and claims on it."""

    service = "inventory"

    def __init__(self) -> None:
        super().__init__()
        self.domain = import_module("services.inventory.domain")
        self.stocks: dict[str, Any] = {}
        self.reservations: dict[str, Any] = {}
        self.on_hand: Counter[tuple[str, str]] = Counter()
        """By SKU and location, added up from what came and went."""
        self.opened: Counter[Line] = Counter()
        self.left_stock: Counter[Line] = Counter()
        """Shipped out, as the SKUs' streams tell it; the next as the orders' streams do."""
        self.shipped: Counter[Line] = Counter()
        self.stock_let_go: Counter[Line] = Counter()
        self.let_go: Counter[Line] = Counter()
        self.allocated: dict[str, tuple[OrderAllocated, Any, str, int]] = {}
        self.from_returns: Counter[tuple[str, str, Disposition]] = Counter()

    def take(self, seq: int, stream: str, event: Any) -> None:
        category, _, key = stream.partition("-")
        if category == "stock":
            self.stocks[key] = self.domain.STOCK.evolve(self.stocks.get(key, self.domain.STOCK.initial), event)
            self._take_stock(event)
            return
        before = self.reservations.get(key, self.domain.RESERVATION.initial)
        self.reservations[key] = self.domain.RESERVATION.evolve(before, event)
        match event:
            case ReservationOpened():
                _count(self.opened, event.order_id, event.lines)
            case OrderShippedOut():
                _count(self.shipped, event.order_id, event.lines)
            case OrderLetGo():
                _count(self.let_go, event.order_id, event.lines)
            case OrderBackordered() if event.was != "asked":  # the SKU lets its claim go and it waits again
                _count(self.let_go, event.order_id, event.lines)
            case OrderAllocated():
                for part in event.allocations:
                    if part.fulfillment_id in self.allocated:
                        self.wrong("lines", stream, f"{part.fulfillment_id} is allocated a second time", seq)
                    self.allocated[part.fulfillment_id] = (event, part, stream, seq)

    def _take_stock(self, event: Any) -> None:
        match event:
            case StockReceived(quantity=units) | StockRestocked(quantity=units):
                self.on_hand[event.sku, event.location] += units
                if isinstance(event, StockRestocked):
                    self.from_returns[event.return_id, event.sku, Disposition.RESTOCK] += units
            case StockAdjusted(delta=units) | StockCountRecorded(delta=units):
                self.on_hand[event.sku, event.location] += units
            case StockWrittenOff(quantity=units):
                self.from_returns[event.return_id, event.sku, Disposition.WRITE_OFF] += units
            case StockShippedOut(quantity=units):
                self.on_hand[event.sku, event.location] -= units
                self.left_stock[event.order_id, event.line_id] += units
            case StockLetGo(quantity=units):
                self.stock_let_go[event.order_id, event.line_id] += units


class RoutingBook(_Book):
    """Decisions, each made again from its record."""

    service = "routing"

    def __init__(self) -> None:
        super().__init__()
        self._domain = import_module("services.routing.domain")
        self._policies: dict[str, PolicyAdopted] = {}
        self.planned: dict[str, Any] = {}
        """Shipments by fulfillment id."""
        self.decisions = 0

    def take(self, seq: int, stream: str, event: Any) -> None:
        match event:
            case PolicyAdopted():
                self._policies[event.policy_hash] = event
            case OrderRouted() | OrderRerouted():
                self.planned.update({shipment.fulfillment_id: shipment for shipment in event.shipments})
                self._again(seq, stream, event)
            case OrderUnroutable():
                self._again(seq, stream, event)

    def _again(self, seq: int, stream: str, event: OrderRouted | OrderRerouted | OrderUnroutable) -> None:
        self.decisions += 1
        policy = self._policies.get(event.inputs.policy_hash)
        if policy is None:
            text = f"plan {event.plan_id} was made under the policy {event.inputs.policy_hash[:12]}…, never adopted"
            self.wrong("routing", stream, text, seq)
            return
        try:
            found = self._domain.recompute(event, policy.content, policy.network)
        except OrdermillError as error:
            self.wrong("routing", stream, f"plan {event.plan_id} can't be made again: {error}", seq)
            return
        if isinstance(event, OrderUnroutable):
            given_up = event.attempt > self._domain.read_rules(policy.content, policy.network).policy.attempts
            if not given_up and getattr(found, "reason", None) != event.reason:
                text = f"plan {event.plan_id} says {event.reason!r}; made again there is {_in_short(found)}"
                self.wrong("routing", stream, text, seq)
        elif _plan(found) != _plan(event):
            text = f"plan {event.plan_id} was {_in_short(event)}; made again it is {_in_short(found)}"
            self.wrong("routing", stream, text, seq)


def _plan(plan: Any) -> tuple[Any, ...]:
    return tuple(getattr(plan, name, None) for name in ("shipments", "cost", "proven_best"))


def _in_short(plan: Any) -> str:
    shipments = getattr(plan, "shipments", None)
    if shipments is None:
        return f"no plan ({plan.reason})"
    return f"{', '.join(f'{one.location} by {one.carrier} {one.service}' for one in shipments)} for {plan.cost.total}"


class FulfillmentBook(_Book):
    """The work of locations."""

    service = "fulfillment"

    def __init__(self) -> None:
        super().__init__()
        self.created: dict[str, tuple[FulfillmentCreated, str, int]] = {}
        self.asked: Counter[Line] = Counter()
        """By fulfillment order and line, as is the next: units that left it, whichever way."""
        self.gone: Counter[Line] = Counter()
        self.shipped: Counter[Line] = Counter()
        self.shipped_ids: set[str] = set()
        self.parcels: dict[tuple[str, str], tuple[FulfillmentShipped, Any]] = {}
        self.labels = _Effects(self, "label", may_repeat=True)
        self._label_of: dict[tuple[str, int], str] = {}

    def take(self, seq: int, stream: str, event: Any) -> None:
        match event:
            case FulfillmentCreated():
                self.created[event.fulfillment_id] = (event, stream, seq)
                _count(self.asked, event.fulfillment_id, event.lines)
            case FulfillmentRejected() | FulfillmentShortPicked() | FulfillmentLinesCanceled():
                _count(self.gone, event.fulfillment_id, event.lines)
            case FulfillmentShipped():
                self._ship(seq, stream, event)
            case LabelRequested():
                self.labels.ask(event.label_id, stream, seq)
            case PackageLabeled():
                self._label(seq, stream, event)
            case LabelFailed():
                self.labels.failed(event.label_id, stream, seq)

    def _ship(self, seq: int, stream: str, event: FulfillmentShipped) -> None:
        if event.fulfillment_id in self.shipped_ids:
            self.wrong("lines", stream, "the fulfillment order is shipped a second time", seq)
        self.shipped_ids.add(event.fulfillment_id)
        for package in event.packages:
            _count(self.gone, event.fulfillment_id, package.lines)
            _count(self.shipped, event.order_id, package.lines)
            name = (package.carrier, package.tracking_number)
            if name in self.parcels:
                other = self.parcels[name][0].fulfillment_id
                self.wrong("effects", stream, f"{' '.join(name)} is a parcel of {other} too", seq)
            self.parcels[name] = (event, package)

    def _label(self, seq: int, stream: str, event: PackageLabeled) -> None:
        self.labels.done(event.label_id, stream, seq)
        package = (event.fulfillment_id, event.package)
        known = self._label_of.setdefault(package, event.label_id)
        if known != event.label_id:
            text = f"package {event.package} was labeled as {known} and again as {event.label_id}"
            self.wrong("effects", stream, text, seq)


class TrackingBook(_Book):
    """Parcels."""

    service = "tracking"
    skips = frozenset({"status"})

    def __init__(self) -> None:
        super().__init__()
        self._domain = import_module("services.tracking.domain")
        self.shipments: dict[str, Any] = {}
        self.announced: dict[str, tuple[ShipmentAnnounced, str, int]] = {}

    def take(self, seq: int, stream: str, event: Any) -> None:
        shipment = self._domain.SHIPMENT
        self.shipments[stream] = shipment.evolve(self.shipments.get(stream, shipment.initial), event)
        if isinstance(event, ShipmentAnnounced):
            if event.shipment_id in self.announced:
                self.wrong("lines", stream, "the parcel is announced a second time", seq)
            self.announced[event.shipment_id] = (event, stream, seq)


class ReturnsBook(_Book):
    """Goods that came back, and their worth."""

    service = "returns"
    skips = frozenset({"parcel"})

    def __init__(self) -> None:
        super().__init__()
        self.domain = import_module("services.returns.domain")
        self.returns: dict[str, Any] = {}
        self.delivered: Counter[Line] = Counter()
        self.taken: Counter[Line] = Counter()
        self.inspected: Counter[tuple[str, str, Disposition]] = Counter()
        self.refunds = _Effects(self, "refund", may_repeat=False)
        self.given_minor: Counter[str] = Counter()
        """By order: refunds asked for, and credit for exchanges."""
        self.exchanges: dict[str, tuple[str, int]] = {}
        self._bought: dict[str, tuple[OrderLine, ...]] = {}
        self._carriage: dict[str, int] = {}
        self._tax_included: dict[str, bool] = {}
        self._worth: dict[str, int] = {}
        self._credit: dict[str, int] = {}

    def take(self, seq: int, stream: str, event: Any) -> None:
        if stream.startswith("return-"):
            returns = self.domain.RETURN
            self.returns[stream] = returns.evolve(self.returns.get(stream, returns.initial), event)
        match event:
            case PurchaseRecorded():
                self._bought[event.order_id] = event.lines
                self._carriage[event.order_id] = (event.shipping + event.shipping_tax).minor
                self._tax_included[event.order_id] = event.tax_included
            case PurchaseRevised():
                self._bought[event.order_id] = event.lines
            case PurchaseDelivered():
                _count(self.delivered, event.order_id, event.lines)
            case UnitsTakenBack():
                self._take_back(event)
            case ReturnInspected():
                for line in event.lines:
                    self.inspected[event.return_id, line.sku, line.disposition] += line.quantity
            case ExchangeRequested():
                self.exchanges[event.return_id] = (stream, seq)
                self._credit[event.return_id] = event.credit.minor
                self.given_minor[event.order_id] += event.credit.minor
                price = sum(line.unit_price.minor * line.quantity for line in event.lines)
                if event.credit.minor > price:
                    self.wrong("money", stream, f"credit of {event.credit} for goods that cost {price}", seq)
            case RefundRequested():
                self._refund(seq, stream, event)
            case RefundPaid():
                self.refunds.done(event.refund_id, stream, seq, event.amount)
            case RefundFailed():
                self.refunds.failed(event.refund_id, stream, seq)

    def _take_back(self, event: UnitsTakenBack) -> None:
        worth = 0
        lines = {line.line_id: line for line in self._bought.get(event.order_id, ())}
        for part in event.lines:
            line, start = lines.get(part.line_id), self.taken[event.order_id, part.line_id]
            if line is not None and start + part.quantity <= line.quantity:
                stop = start + part.quantity
                worth += range_of_units(goods_of(line), start, stop, line.quantity).minor
                if not self._tax_included[event.order_id]:
                    worth += range_of_units(line.tax, start, stop, line.quantity).minor
        _count(self.taken, event.order_id, event.lines)
        self._worth[event.return_id] = worth

    def _refund(self, seq: int, stream: str, event: RefundRequested) -> None:
        self.refunds.ask(event.refund_id, stream, seq, event.amount)
        self.given_minor[event.order_id] += event.amount.minor
        if event.amount != event.goods + event.tax + event.shipping:
            text = f"refund of {event.amount}, its parts are {event.goods}, {event.tax} and {event.shipping}"
            self.wrong("money", stream, text, seq)
        fee = event.restocking_fee.minor if event.restocking_fee else 0
        given = event.amount.minor + self._credit.get(event.return_id, 0) + fee
        worth = self._worth.get(event.return_id, 0)
        if given - worth not in (0, self._carriage.get(event.order_id, 0)):
            text = f"refund, credit and fee come to {given} minor units, the goods that came back to {worth}"
            self.wrong("money", stream, text, seq)


def _count(units: Counter[Line], key: str, lines: Iterable[Any]) -> None:
    for line in lines:
        units[key, line.line_id] += line.quantity


class Books:
    """All six, and what they must say together."""

    def __init__(self, settled: bool) -> None:
        self._settled = settled
        self.capture = CaptureBook()
        self.inventory = InventoryBook()
        self.routing = RoutingBook()
        self.fulfillment = FulfillmentBook()
        self.tracking = TrackingBook()
        self.returns = ReturnsBook()
        every: tuple[_Book, ...] = (
            self.capture, self.inventory, self.routing, self.fulfillment, self.tracking, self.returns,
        )  # fmt: skip
        self.of = {book.service: book for book in every}

    def close(self) -> Audit:
        self._stock()
        self._plans()
        self._lines()
        self._parcels()
        self._came_back()
        self._money()
        if self._settled:
            self._nothing_open()
        violations = [violation for book in self.of.values() for violation in book.found]
        return Audit(self._checked(), violations)

    def _checked(self) -> dict[str, int]:
        orders = [order for order in self.capture.orders.values() if order.total is not None]
        return {
            "orders": len(orders),
            "order lines": sum(len(order.lines) for order in orders),
            "SKUs": len(self.inventory.stocks),
            "reservations": len(self.inventory.reservations),
            "routing decisions made again": self.routing.decisions,
            "fulfillment orders": len(self.fulfillment.created),
            "labels": len(self.fulfillment.labels.by_key),
            "parcels": len(self.tracking.shipments),
            "returns": len(self.returns.returns),
            "refunds": len(self.capture.refunds.by_key) + len(self.returns.refunds.by_key),
        }

    def _stock(self) -> None:
        """Within inventory: by SKU, by order, and both against each other."""
        book = self.inventory
        on_hand: dict[str, dict[str, int]] = {}
        for (sku, location), units in book.on_hand.items():
            on_hand.setdefault(sku, {})[location] = units
        for sku, stock in book.stocks.items():
            stream = f"stock-{sku}"
            for text in book.domain.check_stock(stock):
                book.wrong("stock", stream, text)
            shelves = {location: shelf.on_hand for location, shelf in sorted(stock.shelves.items()) if shelf.on_hand}
            came = {location: units for location, units in sorted(on_hand.get(sku, {}).items()) if units}
            if shelves != came:
                book.wrong("stock", stream, f"on hand are {shelves}; what came and went leaves {came}")
        for order_id, reservation in book.reservations.items():
            for text in book.domain.check_reservation(reservation):
                book.wrong("reservation", f"reservation-{order_id}", text)
        for text in book.domain.check_agreement(book.stocks, book.reservations):
            order, _, where = text.removeprefix("order ").partition(", ")
            book.wrong("agreement", f"reservation-{order}", where)
        self._equal("agreement", "shipped out by SKU and by order", book.left_stock, book.shipped)
        self._equal("agreement", "let go by SKU and by order", book.stock_let_go, book.let_go)

    def _equal(self, check: str, what: str, left: Counter[Line], right: Counter[Line]) -> None:
        for line in sorted(left.keys() | right.keys()):
            if left[line] != right[line]:
                text = f"line {line[1]}: {what} differ, {left[line]} and {right[line]} units"
                self.inventory.wrong(check, f"reservation-{line[0]}", text)

    def _plans(self) -> None:
        """What was allocated is what was planned; what locations were asked for is what was allocated."""
        for fulfillment_id, (event, part, stream, seq) in self.inventory.allocated.items():
            planned = self.routing.planned.get(fulfillment_id)
            if planned is None:
                text = f"{fulfillment_id} of plan {event.plan_id} is allocated, and nobody planned it"
                self.inventory.wrong("plans", stream, text, seq)
            elif planned.location != part.location or not _within(part.lines, planned.lines):
                text = f"{fulfillment_id}: planned {_units(planned)}, allocated {_units(part)}"
                self.inventory.wrong("plans", stream, text, seq)
        for fulfillment_id, (created, stream, seq) in self.fulfillment.created.items():
            found = self.inventory.allocated.get(fulfillment_id)
            if found is None:
                self.fulfillment.wrong("plans", stream, "a location is asked for units that it does not hold", seq)
            elif (found[1].location, found[1].lines) != (created.location, created.lines):
                text = f"allocated {_units(found[1])}, asked for {_units(created)}"
                self.fulfillment.wrong("plans", stream, text, seq)

    def _lines(self) -> None:
        """Ordered, canceled, claimed and shipped, order line by order line."""
        capture, inventory, fulfillment = self.capture, self.inventory, self.fulfillment
        ordered: Counter[Line] = Counter()
        for order in capture.orders.values():
            for line in order.lines:
                ordered[order.order_id, line.line_id] = line.quantity
        every = ordered.keys() | inventory.opened.keys() | fulfillment.shipped.keys() | capture.canceled.keys()
        for line in sorted(every):
            order_id, line_id = line
            stream = f"order-{order_id}"
            bought, canceled, shipped = ordered[line], capture.canceled[line], fulfillment.shipped[line]
            if canceled + shipped > bought:
                text = f"line {line_id}: {bought} units ordered, {canceled} canceled and {shipped} shipped"
                capture.wrong("lines", stream, text)
            if inventory.opened[line] > capture.released[line]:
                text = f"line {line_id}: {capture.released[line]} units released, {inventory.opened[line]} claimed"
                inventory.wrong("lines", f"reservation-{order_id}", text)
            if inventory.shipped[line] > shipped:
                text = f"line {line_id}: {shipped} units handed over, {inventory.shipped[line]} taken off stock"
                inventory.wrong("lines", f"reservation-{order_id}", text)
            if capture.shipped[line] > inventory.shipped[line]:
                text = f"line {line_id}: {inventory.shipped[line]} units off stock, {capture.shipped[line]} shipped"
                capture.wrong("lines", stream, text)
            if self._settled:
                if canceled + shipped < bought:
                    text = f"line {line_id}: {bought} units ordered, {canceled} canceled, {shipped} shipped"
                    capture.wrong("settled", stream, text)
                if not shipped == inventory.shipped[line] == capture.shipped[line]:
                    text = (
                        f"line {line_id}: {shipped} units handed over, {inventory.shipped[line]} taken off stock, "
                        f"{capture.shipped[line]} counted as shipped by capture"
                    )
                    capture.wrong("settled", stream, text)
        for line in sorted(fulfillment.asked.keys() | fulfillment.gone.keys()):
            asked, gone = fulfillment.asked[line], fulfillment.gone[line]
            if gone > asked or (self._settled and gone != asked):
                text = f"line {line[1]}: {asked} units asked for, {gone} shipped, given back or canceled"
                fulfillment.wrong("lines" if gone > asked else "settled", f"fulfillment-{line[0]}", text)

    def _parcels(self) -> None:
        """Every parcel is a package that was handed over, and what arrived is what was in it."""
        tracking, fulfillment = self.tracking, self.fulfillment
        announced: set[tuple[str, str]] = set()
        arrived: Counter[Line] = Counter()
        for shipment_id, (event, stream, seq) in tracking.announced.items():
            name = (event.carrier, event.tracking_number)
            announced.add(name)
            shipped = fulfillment.parcels.get(name)
            if shipped is None:
                tracking.wrong("lines", stream, "nobody handed over a parcel of this number", seq)
            elif (shipped[0].order_id, shipped[1].lines) != (event.order_id, event.lines):
                text = f"announced with {_units(event)} of {event.order_id}, handed over with {_units(shipped[1])}"
                tracking.wrong("lines", stream, text, seq)
            state = tracking.shipments[stream]
            if state.delivered_at is not None:
                _count(arrived, event.order_id, event.lines)
            elif self._settled and not state.lost and state.milestone is not Milestone.RETURNED:
                tracking.wrong("settled", stream, f"{shipment_id} is under way, last {state.milestone.value}", seq)
        if self._settled:
            for name in sorted(fulfillment.parcels.keys() - announced):
                fulfillment_id = fulfillment.parcels[name][0].fulfillment_id
                fulfillment.wrong("settled", f"fulfillment-{fulfillment_id}", f"{' '.join(name)} is not tracked")
        for line in sorted(self.returns.delivered.keys() | arrived.keys()):
            heard, there = self.returns.delivered[line], arrived[line]
            if heard > there or (self._settled and heard != there):
                text = f"line {line[1]}: {there} units delivered, {heard} delivered as returns has it"
                self.returns.wrong("lines" if heard > there else "settled", f"purchase-{line[0]}", text)

    def _came_back(self) -> None:
        """Nothing comes back that was not delivered, or goes back to stock that was not inspected."""
        book = self.returns
        for line, units in sorted(book.taken.items()):
            if units > book.delivered[line]:
                text = f"line {line[1]}: {book.delivered[line]} units delivered, {units} taken back"
                book.wrong("lines", f"purchase-{line[0]}", text)
        for what in sorted(book.inspected.keys() | self.inventory.from_returns.keys()):
            return_id, sku, disposition = what
            seen, booked = book.inspected[what], self.inventory.from_returns[what]
            late = self._settled and disposition is not Disposition.MISSING and booked != seen
            if booked > seen or late:
                text = f"{sku}: {seen} units inspected as {disposition.value}, {booked} booked by inventory"
                book.wrong("stock" if booked > seen else "settled", f"return-{return_id}", text)

    def _money(self) -> None:
        """Charged = kept + refunded; what is refunded for canceled units is their exact share."""
        capture, given_minor = self.capture, self.returns.given_minor
        for stream in sorted(capture.orders.keys() | {f"order-{order_id}" for order_id in given_minor}):
            order, order_id = capture.orders.get(stream), stream.partition("-")[2]
            asked, given = capture.asked_minor[order_id], given_minor[order_id]
            if order is None or order.total is None:
                if asked or given:
                    capture.wrong("money", stream, f"{asked + given} minor units refunded of an order never captured")
                continue
            if asked < capture.canceled_minor[order_id]:
                owed_back = Money(minor=capture.canceled_minor[order_id], currency=order.total.currency)
                text = f"{owed_back} are owed for canceled units, refunds of {asked} minor units are requested"
                capture.wrong("money", stream, text)
            kept = order.owed_minor - given
            if kept < 0:
                text = f"{order.owed_minor} minor units are owed for what was not canceled, {given} of it went back"
                capture.wrong("money", stream, text)
            if capture.simple.get(order_id):
                share = canceled_share(order)
                if asked != share:
                    text = f"{share} minor units are the share of what was canceled, {asked} are refunded"
                    capture.wrong("money", stream, text)
                if order.total.minor != kept + given + asked:
                    text = f"charged {order.total.minor}, kept {kept} and refunded {given + asked} minor units"
                    capture.wrong("money", stream, text)

    def _nothing_open(self) -> None:
        inventory, returns, capture = self.inventory, self.returns, self.capture
        capture.refunds.open_ones()
        returns.refunds.open_ones()
        self.fulfillment.labels.open_ones()
        for stream, order in capture.orders.items():
            if order.total is not None and order.holds:
                held = ", ".join(hold.reason.value for hold in order.holds)
                capture.wrong("settled", stream, f"the order is held for {held}")
        for order_id, reservation in inventory.reservations.items():
            for line_id, claim in reservation.lines.items():
                if claim.reserved or claim.backordered or claim.allocated:
                    text = (
                        f"line {line_id}: {claim.reserved} units reserved, {claim.backordered} backordered, "
                        f"{claim.allocated} allocated"
                    )
                    inventory.wrong("settled", f"reservation-{order_id}", text)
        ended = {"declined", "expired", "closed"}
        for stream, current in returns.returns.items():
            if current.stage is not None and current.stage.value not in ended:
                returns.wrong("settled", stream, f"the return is {current.stage.value}")
        known = {order.order_id for order in capture.orders.values()}
        for return_id, (stream, seq) in returns.exchanges.items():
            if order_id_of("exchange", return_id) not in known:
                returns.wrong("settled", stream, "no order was made of the exchange", seq)


def canceled_share(order: Any) -> int:
    """What the canceled units of an order cost, in minor units: the last of each line; with all of them, everything."""
    if all(order.canceled.get(line.line_id, 0) == line.quantity for line in order.lines):
        return int(order.total.minor)
    share = 0
    for line in order.lines:
        left = line.quantity - order.canceled.get(line.line_id, 0)
        share += (goods_of(line) - first_units(goods_of(line), left, line.quantity)).minor
        if not order.tax_included:
            share += (line.tax - first_units(line.tax, left, line.quantity)).minor
    return share


def _within(part: Iterable[Any], whole: Iterable[Any]) -> bool:
    """Whether `part` has no units that `whole` has not; units that were canceled in between are in neither."""
    left: Counter[Line] = Counter()
    _count(left, "", whole)
    for line in part:
        left["", line.line_id] -= line.quantity
    return min(left.values(), default=0) >= 0


def _units(part: Any) -> str:
    lines = ", ".join(f"{line.quantity} {line.sku}" for line in part.lines)
    location = getattr(part, "location", None)
    return f"{lines} at {location}" if location else lines
