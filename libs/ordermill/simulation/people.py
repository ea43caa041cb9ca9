"""What people do on their own account, at moments that no story foresees; and what they have asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from random import Random
from typing import Any

from ordermill.contracts.base import Message, decode
from ordermill.contracts.capture import (
    CancellationRefunded,
    CancellationRefundFailed,
    OrderCaptured,
)
from ordermill.contracts.channel import LineChange, OrderCanceled, OrderChanged, OrderPlaced, Payment
from ordermill.contracts.fields import Money
from ordermill.contracts.fulfillment import (
    FulfillmentCreated,
    FulfillmentLinesCanceled,
    LabelFailed,
    LabelRequested,
    PackageLabeled,
)
from ordermill.contracts.inventory import StockReceived
from ordermill.contracts.location import StockArrived, StockCorrected, StockCounted
from ordermill.contracts.returns import RefundFailed, RefundPaid, ReturnAuthorized
from ordermill.contracts.service import DLQ_TOPIC, DeadLettered, LetterDropped, LetterRedriven
from ordermill.demo.baskets import Basket
from ordermill.errors import OrdermillError
from ordermill.names import SERVICES
from ordermill.network import default_network_text, read_network
from ordermill.replacing import replace

from .bus import Bus, Follower, header
from .nemesis import Fault, Nemesis
from .outside import Letter, SimulatedDoors, poisonous
from .providers import NO

FORGOTTEN = "was forgotten"
"""Why nobody can buy a label."""
_FOLLOWED: tuple[type[Message], ...] = (
    OrderCaptured, FulfillmentCreated, StockReceived, ReturnAuthorized, LabelRequested, LabelFailed, PackageLabeled,
    RefundFailed, RefundPaid, CancellationRefundFailed, CancellationRefunded, FulfillmentLinesCanceled, DeadLettered,
    LetterRedriven, LetterDropped,
)  # fmt: skip


_WAYS = [
    (carrier.id, service.id)
    for carrier in read_network(default_network_text()).carriers
    for service in carrier.services
]


class People:
    """They know what the topics tell, as the world does, and go through the same doors."""

    def __init__(
        self,
        doors: SimulatedDoors,
        bus: Bus,
        nemesis: Nemesis,
        random: Random,
        baskets: Sequence[Basket],
        clock: Callable[[], datetime],
    ) -> None:
        self._doors = doors
        self._nemesis = nemesis
        self._random = random
        self._baskets = baskets
        self._clock = clock
        letters = {DLQ_TOPIC.format(service=service) for service in SERVICES}
        self._topics: Follower = bus.follow(sorted({kind.topic for kind in _FOLLOWED} - {DLQ_TOPIC} | letters))
        self._types = {kind.type for kind in _FOLLOWED}
        self._heard = set[str]()
        """Ids of facts: a relay may tell one again, behind others that it told since."""
        self._orders: dict[str, OrderCaptured] = {}
        self._work: dict[str, FulfillmentCreated] = {}
        self._shelves: dict[tuple[str, str], None] = {}
        self._labels: dict[str, LabelRequested] = {}
        """That carriers were asked for."""
        self._returns: dict[str, ReturnAuthorized] = {}
        self._refused: dict[str, tuple[str, Any]] = {}
        """What a provider said no to, and at which door it is asked for again."""
        self._short: dict[tuple[str, str], None] = {}
        """Counted otherwise: they may have swallowed goods, which the world sends once to who waits."""
        self._letters: dict[Letter, bool] = {}
        """That wait, and whether they are fit to be handled."""
        self._held = set[str]()
        self._moved = set[str]()
        self._acts = 0
        self._habits: dict[Fault, Callable[[], Awaitable[object]]] = {
            Fault.HOLD: self._hold,
            Fault.REROUTE: self._reroute,
            Fault.MISCOUNT: self._miscount,
            Fault.CALL_OFF: self._call_off,
            Fault.CHANGE: self._change,
            Fault.OVERTAKE: self._overtake,
            Fault.TURN_DOWN: self._turn_down,
            Fault.CLOSE: self._close,
            Fault.PLACED_AGAIN: self._place_again,
            Fault.LETTERS: self._settle_letter,
            Fault.FORGET: self._forget,
            Fault.SWITCH: self._switch,
        }

    @property
    def idle(self) -> bool:
        """Nothing is left that a provider refused and has not done since, no shelf to fill up, no letter to handle."""
        return not self._refused and not self._short and not any(self._letters.values())

    async def act(self) -> None:
        """For as long as things go wrong; then shelves are filled up, and what was refused or not understood is still
        asked for.
        """
        while True:
            await asyncio.sleep(self._nemesis.amount(0.1, 1.0))
            for record in self._topics.at_once():
                kind, fact_id = header(record, "ce_type"), header(record, "ce_id")
                if kind in self._types and fact_id not in self._heard:
                    self._heard.add(fact_id)
                    with suppress(OrdermillError):  # poison looks like a fact, too
                        self._hear(decode(kind, record.value or b""), record.topic)
            for habit, work in self._habits.items():
                if self._nemesis.strikes(habit, "somebody"):
                    self._acts += 1
                    await work()
            if self._nemesis.over:
                await self._fill_up()
                await self._doors.go("letters", [letter for letter, sound in self._letters.items() if sound])
            for door, what in list(self._refused.values()):
                self._acts += 1
                await self._doors.go(door, [self._anew(what)])

    def _anew(self, what: Any) -> Any:
        """A cancellation that came too late once is another one the next time."""
        if isinstance(what, tuple) and what[1] == FORGOTTEN:
            return what[0], {"cancellation_id": f"people-{self._acts}", "reason": FORGOTTEN}
        return what

    def _hear(self, fact: Message, topic: str) -> None:
        match fact:
            case DeadLettered():
                self._letters[Letter(topic.split(".")[1], fact.letter_id)] = not poisonous(fact)
            case LetterRedriven() | LetterDropped():
                self._letters.pop(Letter(topic.split(".")[1], fact.letter_id), None)
            case OrderCaptured():
                self._orders[fact.order_id] = fact
            case FulfillmentCreated():
                self._work[fact.fulfillment_id] = fact
            case StockReceived():
                self._shelves[fact.sku, fact.location] = None
            case ReturnAuthorized():
                self._returns[fact.return_id] = fact
            case LabelRequested():
                self._labels[fact.label_id] = fact
            case LabelFailed() if FORGOTTEN in fact.reason:
                off = f"/orders/{fact.order_id}/cancel", FORGOTTEN
                self._refused[f"label {fact.fulfillment_id} {fact.package}"] = "capture", off
            case LabelFailed() | RefundFailed() | CancellationRefundFailed() if NO not in fact.reason:
                pass  # nobody said no: it was given up, and that is not people's to mend
            case LabelFailed():
                again = {"do": "retry-label", "fulfillment_id": fact.fulfillment_id, "package": fact.package}
                self._refused[f"label {fact.fulfillment_id} {fact.package}"] = "work", again
            case PackageLabeled():
                self._refused.pop(f"label {fact.fulfillment_id} {fact.package}", None)
            case FulfillmentLinesCanceled():  # of packed work, only all of it
                for waiting in [each for each in self._refused if each.startswith(f"label {fact.fulfillment_id} ")]:
                    del self._refused[waiting]
            case RefundFailed():
                retry = {"do": "retry-refund", "return_id": fact.return_id}
                self._refused[fact.refund_id] = "returns", ("/returns/work", [retry])
            case CancellationRefundFailed():
                self._refused[fact.refund_id] = "capture", (f"/orders/{fact.order_id}/refunds", fact.refund_id)
            case RefundPaid() | CancellationRefunded():
                self._refused.pop(fact.refund_id, None)

    def _sold(self) -> OrderCaptured | None:
        """An order that a channel sent."""
        sold = [order for order in self._orders.values() if order.channel != "exchange"]
        return self._random.choice(sold) if sold else None

    async def _hold(self) -> None:
        """Once an order: the world lets go of a hold once for each reason."""
        order = self._sold()
        if order and order.order_id not in self._held:
            self._held.add(order.order_id)
            await self._doors.go("capture", [(f"/orders/{order.order_id}/hold", {"note": "somebody has doubts"})])

    async def _reroute(self) -> None:
        if self._work:
            work = self._random.choice(list(self._work.values()))
            about = {"reroute_id": f"people-{self._acts}", "fulfillment_id": work.fulfillment_id}
            request = {**about, "elsewhere": self._random.random() < 0.5}
            await self._doors.go("inventory", [(work.order_id, request)])

    async def _miscount(self) -> None:
        if not self._shelves:
            return
        sku, location = self._random.choice(list(self._shelves))
        self._short[sku, location] = None
        about = {"sku": sku, "location": location, "reference": f"people-{self._acts}", "happened_at": self._clock()}
        if self._random.random() < 0.5:
            await self._doors.go("stock", [StockCounted(**about, counted=self._random.randrange(8))])
        else:
            delta = self._random.choice((-4, -2, -1, 1, 3))
            await self._doors.go("stock", [StockCorrected(**about, delta=delta, reason="found otherwise")])

    async def _fill_up(self) -> None:
        now = self._clock()
        for sku, location in self._short:
            about = {"sku": sku, "location": location, "reference": f"enough-{sku}-{location}", "happened_at": now}
            await self._doors.go("stock", [StockArrived(**about, quantity=50)])
        self._short.clear()

    async def _forget(self) -> None:
        """Refused while something of the order is to be shipped; of other orders of the customer it may be."""
        if order := self._sold():
            await self._doors.go("capture", [(f"/orders/{order.order_id}/forget", None)])

    async def _switch(self) -> None:
        """One that has its label by now is left as it is."""
        if self._labels:
            _, asked = self._labels.popitem()
            by = self._random.choice([way for way in _WAYS if way != (asked.carrier, asked.service)])
            about = {"fulfillment_id": asked.fulfillment_id, "package": asked.package}
            await self._doors.go("work", [{"do": "retry-label", **about, "carrier": by[0], "service": by[1]}])

    async def _call_off(self) -> None:
        if order := self._sold():
            await self._doors.go("channel", [self._cancellation(order.channel, order.external_id, order.lines)])

    async def _change(self) -> None:
        """The first revision of an order whose payment is pending is that payment, whenever it comes."""
        known = {order.external_id for order in self._orders.values() if order.payment.status != "pending"}
        changing = [basket.order for basket in self._baskets if basket.order.external_id in known]
        if changing:
            await self._doors.go("channel", [self._revision(self._random.choice(changing), 100 + self._acts)])

    async def _overtake(self) -> None:
        """A payment that is pending is the first revision of its order, so nothing else may be."""
        known = {order.external_id for order in self._orders.values()}
        coming = [basket.order for basket in self._baskets if basket.order.external_id not in known]
        if not coming:
            return
        order = self._random.choice(coming)
        if order.payment.status == "pending" or self._random.random() < 0.5:
            await self._doors.go("channel", [self._cancellation(order.channel, order.external_id, order.lines)])
        else:
            await self._doors.go("channel", [self._revision(order, 1)])

    async def _turn_down(self) -> None:
        if self._work:
            report = {"do": "reject", "reason": "out-of-stock", "fulfillment_id": self._random.choice(list(self._work))}
            await self._doors.go("work", [report])

    async def _close(self) -> None:
        if self._returns:
            what = "waive" if self._random.random() < 0.5 else "close"
            report = {"do": what, "return_id": self._random.choice(list(self._returns))}
            await self._doors.go("returns", [("/returns/work", [report])])

    async def _place_again(self) -> None:
        known = {order.external_id for order in self._orders.values()}
        placed = [basket for basket in self._baskets if basket.order.external_id in known]
        if placed:
            basket = self._random.choice(placed)
            dearer = Money(minor=basket.order.total.minor + 100, currency=basket.order.total.currency)
            await self._doors.go(basket.format, [basket.order.model_copy(update={"total": dearer})])

    async def _settle_letter(self) -> None:
        if self._letters:
            letter, sound = self._random.choice(list(self._letters.items()))
            if not sound and self._random.random() < 0.3:
                letter = replace(letter, note="nobody can read it")
            await self._doors.go("letters", [letter])

    def _cancellation(self, channel: str, external_id: str, lines: Sequence[Any]) -> OrderCanceled:
        """Of all of it, or of one unit; for some the channel has given money back by itself, never mind how much."""
        line = self._random.choice(lines)
        one = (LineChange(line_id=line.line_id, quantity=1),)
        given_back = Money(minor=self._random.randrange(1, 4_000), currency=line.unit_price.currency)
        return OrderCanceled(
            channel=channel,
            external_id=external_id,
            cancellation_id=f"people-{self._acts}",
            canceled_at=self._clock(),
            lines=() if self._random.random() < 0.3 else one,
            reason="changed their mind",
            refunded=given_back if self._random.random() < 0.4 else None,
        )

    def _revision(self, order: OrderPlaced, revision: int) -> OrderChanged:
        """Of how many units of a line, how it is paid, or where it goes; that once: a bad address is let go of once."""
        line = self._random.choice(order.lines)
        another = Payment(status="paid", reference=f"pay-{order.external_id}-{revision}")
        changed = OrderChanged(
            channel=order.channel,
            external_id=order.external_id,
            revision=revision,
            changed_at=self._clock(),
            lines=(LineChange(line_id=line.line_id, quantity=self._random.randrange(line.quantity + 2)),),
            payment=another if self._random.random() < 0.2 else None,
        )
        if order.external_id in self._moved or self._random.random() < 0.6:
            return changed
        self._moved.add(order.external_id)
        was = order.ship_to.person.city
        person = order.ship_to.person.model_copy(
            update={"city": self._random.choice(("Elsewhere", "")) if was else "Found"}
        )
        ship_to = order.ship_to.model_copy(update={"person": person})
        return changed.model_copy(update={"lines": (), "customer": order.customer, "ship_to": ship_to})
