"""The six books against each other: what one service told must be what the next one did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from ordermill.contracts.channel import OrderChanged
from ordermill.contracts.fields import Money
from ordermill.contracts.returns import Disposition
from ordermill.contracts.tracking import Milestone
from ordermill.simulator.ledger import Entry

from .arithmetic import left_open, shipped_too_much, wrong_share
from .book import Asked, Book, Line, Names, count_units
from .books import CaptureBook, FulfillmentBook, InventoryBook, ReturnsBook, RoutingBook, TrackingBook
from .stock import Claimed


class Books:
    """All six, of some orders with everything that concerns them, and what they must say together."""

    def __init__(self, settled: bool, names: Names) -> None:
        self._settled = settled
        self.capture = CaptureBook(names)
        self.inventory = InventoryBook()
        self.routing = RoutingBook()
        self.fulfillment = FulfillmentBook(names)
        self.tracking = TrackingBook()
        self.returns = ReturnsBook(names)
        every: tuple[Book, ...] = (
            self.capture, self.inventory, self.routing, self.fulfillment, self.tracking, self.returns,
        )  # fmt: skip
        self.of = {book.service: book for book in every}

    def close(self, claimed: Claimed, ledger: Mapping[str, Entry] | None = None) -> None:
        """`claimed`: of these orders, by their SKUs. `ledger`: by key, read after the logs; None if there is none."""
        self._stock(claimed)
        self._plans()
        self._lines()
        self._parcels()
        self._came_back()
        self._money()
        if ledger is not None:
            self._providers(ledger)
        if self._settled:
            self._nothing_open()

    def checked(self) -> dict[str, int]:
        """How many of what there are."""
        orders = [order for order in self.capture.orders.values() if order.total is not None]
        return {
            "orders": len(orders),
            "order lines": sum(len(order.lines) for order in orders),
            "reservations": len(self.inventory.reservations),
            "routing decisions made again": self.routing.decisions,
            "fulfillment orders": len(self.fulfillment.created),
            "labels": len(self.fulfillment.labels.asked),
            "parcels": len(self.tracking.shipments),
            "returns": len(self.returns.returns),
            "refunds": len(self.capture.refunds.asked) + len(self.returns.refunds.asked),
        }

    def effects(self) -> Iterator[tuple[Book, dict[tuple[str, str], Asked]]]:
        """By stream and key, and the book they are in."""
        yield self.capture, self.capture.refunds.asked
        yield self.returns, self.returns.refunds.asked
        yield self.fulfillment, self.fulfillment.labels.asked

    def _stock(self, claimed: Claimed) -> None:
        """Within inventory: by order, and against the SKUs."""
        book = self.inventory
        for order_id, reservation in book.reservations.items():
            for text in book.domain.check_reservation(reservation):
                book.wrong("reservation", f"reservation-{order_id}", text)
        for text in book.domain.check_agreement(claimed, book.reservations):
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
        for stream, (seq, parked) in capture.came_before.items():
            for change_id in _unheard(capture.orders[stream], parked):
                early = f"{change_id} came before the order, and was neither applied nor refused when it came"
                capture.wrong("lines", stream, early, seq)
        every = ordered.keys() | inventory.opened.keys() | fulfillment.shipped.keys() | capture.canceled.keys()
        for line in sorted(every):
            order_id, line_id = line
            stream = f"order-{order_id}"
            bought, canceled, shipped = ordered[line], capture.canceled[line], fulfillment.shipped[line]
            if text := shipped_too_much(line_id, bought, canceled, shipped):
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
                if text := left_open(line_id, bought, canceled, shipped):
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
        announced: set[tuple[str, str, str]] = set()
        arrived: Counter[Line] = Counter()
        for shipment_id, (event, stream, seq) in tracking.announced.items():
            name = (event.fulfillment_id, event.carrier, event.tracking_number)
            announced.add(name)
            shipped = fulfillment.parcels.get(name)
            if shipped is None:
                text = f"nobody handed over a parcel of this number for {event.order_id}"
                tracking.wrong("lines", stream, text, seq)
            elif shipped[1].lines != event.lines:
                text = f"announced with {_units(event)}, handed over with {_units(shipped[1])}"
                tracking.wrong("lines", stream, text, seq)
            state = tracking.shipments[stream]
            if state.delivered_at is not None:
                count_units(arrived, event.order_id, event.lines)
            elif self._settled and not state.lost and state.milestone is not Milestone.RETURNED:
                tracking.wrong("settled", stream, f"{shipment_id} is under way, last {state.milestone.value}", seq)
        if self._settled:
            for name in sorted(fulfillment.parcels.keys() - announced):
                fulfillment.wrong("settled", f"fulfillment-{name[0]}", f"{' '.join(name[1:])} is not tracked")
        for line in sorted(self.returns.delivered.keys() | arrived.keys()):
            heard, there = self.returns.delivered[line], arrived[line]
            if heard > there or (self._settled and heard != there):
                text = f"line {line[1]}: {there} units delivered, {heard} delivered as returns has it"
                self.returns.wrong("lines" if heard > there else "settled", f"purchase-{line[0]}", text)
        self._astray()

    def _astray(self) -> None:
        """What returns counts as never arrived is what was in parcels that are lost or came back."""
        tracking, heard = self.tracking, self.returns.astray
        for shipment_id, (told, stream, seq) in heard.items():
            announced = tracking.announced.get(shipment_id)
            if shipment_id not in tracking.astray or announced is None:
                self.returns.wrong("lines", stream, f"{shipment_id} never arrived, and is neither lost nor back", seq)
            elif announced[0].lines != told.lines:
                text = f"{shipment_id} never arrived with {_units(told)}, announced with {_units(announced[0])}"
                self.returns.wrong("lines", stream, text, seq)
        for shipment_id, (_, stream, seq) in tracking.announced.items():
            never = shipment_id in tracking.astray and tracking.shipments[stream].delivered_at is None
            if self._settled and never and shipment_id not in heard:
                tracking.wrong("settled", stream, f"{shipment_id} is lost or back, and returns did not hear of it", seq)

    def _came_back(self) -> None:
        """Nothing is credited that was not delivered or astray, or goes back to stock that was not inspected."""
        book = self.returns
        for line, units in sorted(book.taken.items()):
            if units > book.delivered[line] + book.undelivered[line]:
                astray = f", {book.undelivered[line]} lost or back" if book.undelivered[line] else ""
                text = f"line {line[1]}: {book.delivered[line]} units delivered{astray}, {units} taken back"
                book.wrong("lines", f"purchase-{line[0]}", text)
        in_returns = Counter(book.taken)
        for found in book.returns.values():
            if found.stage in (book.domain.Stage.AUTHORIZED, book.domain.Stage.RECEIVED):
                for line in found.lines:
                    in_returns[found.order_id, line.line_id] += line.asked
        for line in sorted(book.claimed.keys() | in_returns.keys()):
            if book.claimed[line] != in_returns[line]:
                text = f"line {line[1]}: {in_returns[line]} units are in returns, {book.claimed[line]} are claimed"
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
        self.returns.worths()
        self._by_payment()
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
            if asked != capture.due_minor[order_id]:
                text = f"{capture.due_minor[order_id]} minor units were held beyond what is owed, {asked} are refunded"
                capture.wrong("money", stream, text)
            if asked + given > capture.charged_minor[order_id]:
                text = f"charged {capture.charged_minor[order_id]}, {asked + given} minor units went back"
                capture.wrong("money", stream, text)
            kept = order.owed_minor - given
            if kept < 0:
                text = f"{order.owed_minor} minor units are owed for what was not canceled, {given} of it went back"
                capture.wrong("money", stream, text)
            if capture.simple.get(order_id):
                if wrong := wrong_share(order, asked):
                    capture.wrong("money", stream, wrong)
                if order.total.minor != kept + given + asked:
                    text = f"charged {order.total.minor}, kept {kept} and refunded {given + asked} minor units"
                    capture.wrong("money", stream, text)

    def _by_payment(self) -> None:
        """No payment is asked for more than it brought."""
        capture, given_of = self.capture, self.returns.given_of
        for paid in sorted(capture.asked_of.keys() | given_of.keys(), key=lambda paid: (paid[0], paid[1] or "")):
            order, brought = capture.orders.get(f"order-{paid[0]}"), capture.brought_minor[paid]
            asked = capture.asked_of[paid] + given_of[paid]
            if asked > brought and order is not None and order.total is not None:
                text = f"payment {paid[1]} brought {brought} minor units, {asked} of it are to go back"
                capture.wrong("money", f"order-{paid[0]}", text)

    def _providers(self, ledger: Mapping[str, Entry]) -> None:
        """Each effect is done once by its provider, for the amount that was asked; what was recorded, it did."""
        for book, effects in self.effects():
            for (stream, key), asked in effects.items():
                for text in self._against(ledger.get(key), asked):
                    book.wrong("providers", stream, f"{key}: {text}")

    def _against(self, entry: Entry | None, asked: Asked) -> Iterator[str]:
        if entry is None or not entry.acted:
            if asked.done:
                yield "recorded as done, the provider knows nothing of it"
            return
        if entry.acted > 1:
            yield f"done {entry.acted} times by the provider"
        if asked.amount is not None and entry.amount != asked.amount:
            yield f"{asked.amount} requested, {entry.amount} moved by the provider"
        if asked.done and entry.reference != asked.reference:
            yield f"recorded as {asked.reference}, {entry.reference} to the provider"
        if self._settled and not asked.done and not asked.unheard:
            yield "done by the provider, not recorded as done"

    def _nothing_open(self) -> None:
        inventory, returns, capture = self.inventory, self.returns, self.capture
        capture.refunds.open_ones()
        capture.forgetting.open_ones()
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


def _unheard(order: Any, parked: tuple[Any, ...]) -> Iterator[str]:
    """Of changes that came before `order`, those of which it shows no trace. What was turned away is changed by none,
    and of several cancellations one may leave nothing for another.
    """
    for change in parked if order.total is not None else ():
        if change.change_id in order.refused or change.change_id in order.cancellations:
            continue
        told = orjson.loads(change.change)
        if change.change_type == OrderChanged.type:
            if told["revision"] > order.revision:
                yield change.change_id
        elif len(parked) == 1 and (not told["lines"] or any(line["quantity"] for line in told["lines"])):
            yield change.change_id


def _within(part: Iterable[Any], whole: Iterable[Any]) -> bool:
    """Whether `part` has no units that `whole` has not; units that were canceled in between are in neither."""
    left: Counter[Line] = Counter()
    count_units(left, "", whole)
    for line in part:
        left["", line.line_id] -= line.quantity
    return min(left.values(), default=0) >= 0


def _units(part: Any) -> str:
    lines = ", ".join(f"{line.quantity} {line.sku}" for line in part.lines)
    location = getattr(part, "location", None)
    return f"{lines} at {location}" if location else lines
