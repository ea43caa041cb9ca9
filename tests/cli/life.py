"""A small merchant's whole life through the real services, over logs in memory: no broker, no database.

What a service's relay would publish is handed to those that consume it, as Kafka would; the effects are the real ones.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import count
from typing import Any
from unittest.mock import patch
from uuid import UUID

from ordermill.contracts.base import Fact, decode
from ordermill.contracts.channel import ChannelLine, LineChange, Payment
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import PackedPackage
from ordermill.contracts.personal import Person
from ordermill.contracts.returns import Disposition, ExchangeLine, InspectedLine, ReturnReason
from ordermill.contracts.tracking import Milestone
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.records import GENESIS, Row
from ordermill.eventlog.relay import topics_of
from ordermill.eventlog.store import Changes, Store
from ordermill.ids import order_id_of
from ordermill.installation import builder
from ordermill.keyring import Keyring, MemoryKeyStore
from ordermill.network import default_network_text, read_network
from ordermill.service.messages import event_headers
from ordermill.service.metrics import Metrics
from ordermill.service.run import SERVICES
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings
from ordermill.simulation.providers import MemoryPayments, memory_carriers
from services.capture.domain import CancelOrder, CaptureOrder
from services.capture.handlers import order_decision
from services.fulfillment.domain import Accept, HandOver, Pack, Pick
from services.fulfillment.handlers import work_decision
from services.inventory.domain import ReceiveStock
from services.inventory.domain import decision as stock_decision
from services.returns.domain import InspectReturn, ReceiveReturn, RequestReturn, WaiveGoods, to_decision
from services.returns.policy import read_policy
from services.tracking.domain import CheckLost, RecordScan, parcel_decision

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
LOCATIONS = frozenset({"sparks", "edison", "chicago"})
NO_MONEY = Money.zero("USD")

Logs = dict[str, list[tuple[str, Fact]]]
"""By service: every event with its stream, in the order of the log."""


def usd(minor: int) -> Money:
    return Money(minor=minor, currency="USD")


@dataclass(frozen=True)
class Record:
    """A Kafka record as a poll returns it."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    offset: int
    partition: int = 0
    timestamp: int = 0


class Life:
    """Six services and the messages between them. Time passes when somebody says so."""

    def __init__(self, stores: Mapping[str, Store] | None = None) -> None:
        """`stores`: of each service, in memory if not given."""
        self.now = MONDAY
        numbers = count(1)

        def random_bytes(size: int) -> bytes:
            return next(numbers).to_bytes(size, "big")

        platform = PlatformSettings(
            kafka="nowhere:9092",
            api_token="token",
            keyring_url="postgresql://nobody@nowhere/keyring",
            master_key=b64encode(bytes(32)).decode(),
            link_secret=b64encode(bytes(32)).decode(),
        )
        self.services: dict[str, RunningService] = {}
        self.payments = MemoryPayments()
        self._read_to = dict.fromkeys(SERVICES, 0)
        keys = MemoryKeyStore()
        carriers = memory_carriers(read_network(default_network_text()))
        self._keyring = Keyring(keys, bytes(32))
        for name in SERVICES:
            build = builder(name)
            app = import_module(build.__module__)
            with (
                patch.dict(os.environ, {"OMS_FULFILLMENT_CARRIERS_URL": "https://carriers.invalid"}),
                patch.object(app, "PostgresKeyStore", lambda dsn: keys, create=True),
                patch.object(app, "http_carriers", lambda *_: carriers, create=True),
                patch.object(app, "http_payments", lambda _: self.payments, create=True),
            ):
                service = build(platform, self.clock)
            engine = Engine(stores[name] if stores else MemoryStore(), service.rules(), self.clock, random_bytes)
            self.services[name] = RunningService(service, engine, Metrics(), retries=0, wall=self.clock)

    def clock(self) -> datetime:
        return self.now

    def pass_time(self, **by: float) -> None:
        self.now += timedelta(**by)

    async def start(self) -> None:
        for running in self.services.values():
            if running.service.startup is not None:
                await running.service.startup(running)
        await self.settle()

    async def do(self, service: str, *decisions: Any) -> None:
        for decision in decisions:
            await self.services[service].execute([decision], "user:test")
        await self.settle()

    async def settle(self) -> None:
        """Deliver and perform until nothing is on its way."""
        while await self._deliver() or await self._perform():
            pass

    async def _deliver(self) -> bool:
        worked = False
        for name, running in self.services.items():
            store = running.engine.store
            await store.sequence()
            states = await store.unpublished(1_000)
            for state in states:
                for reader in self.services.values():
                    for followed in reader.service.follows:
                        if followed.message.topic == state.topic:
                            followed.absorb(decode(state.type, state.data))
            await store.published(states)
            rows = await store.read(self._read_to[name], 1_000)
            for sequenced in rows:
                row = sequenced.row
                self._read_to[name] = sequenced.seq
                for topic in topics_of(row.type, name):
                    headers = event_headers(name, sequenced)
                    record = Record(topic, row.stream.encode(), row.data, headers, sequenced.seq)
                    for reader in self.services.values():
                        if topic in reader.service.topics:
                            await reader.handle([record])
            worked = worked or bool(rows)
        return worked

    async def _perform(self) -> bool:
        done = [await running.effects.perform() for running in self.services.values() if running.service.effects]
        return any(done)

    async def receive(self, sku: str, location: str, quantity: int) -> None:
        reference = f"{sku}-{location}-{self.now:%H%M%S}"
        await self.do(
            "inventory", stock_decision(ReceiveStock(sku, location, quantity, reference, self.now, LOCATIONS))
        )

    async def order(
        self,
        external_id: str,
        lines: dict[str, tuple[str, int, int]],
        shipping: int = 500,
        allow_backorder: bool = False,
        pending: bool = False,
    ) -> str:
        """Lines by id: SKU, units, price of one in cents; a tenth of the price is tax. `pending`: the payment is."""
        order_id = order_id_of("store", external_id)
        await self._keyring.ensure(["c-ann"])
        addressee = self._keyring.seal("c-ann", Person(name="Ann Lee", street=("1 Main St",), city="Reno"))
        bought = tuple(
            ChannelLine(
                line_id=line_id,
                sku=sku,
                title=sku.title(),
                quantity=units,
                unit_price=usd(price),
                discount=NO_MONEY,
                tax=usd(units * price // 10),
            )
            for line_id, (sku, units, price) in lines.items()
        )
        goods = sum(line.unit_price.minor * line.quantity + line.tax.minor for line in bought)
        command = CaptureOrder(
            order_id=order_id,
            channel="store",
            external_id=external_id,
            placed_at=self.now,
            destination=Destination(country="US", region="NV", postal_code="89501", addressee=addressee),
            lines=bought,
            shipping=usd(shipping),
            shipping_tax=NO_MONEY,
            tax_included=False,
            total=usd(goods + shipping),
            payment=Payment(status="pending") if pending else Payment(status="paid", reference=f"pay-{external_id}"),
            allow_backorder=allow_backorder,
        )
        await self.do("capture", order_decision(command))
        return order_id

    async def cancel(self, order_id: str, **more: Any) -> None:
        await self.do("capture", order_decision(CancelOrder(order_id, "called-off", self.now, **more)))

    async def ship_all(self) -> None:
        """Every location does all of its work."""
        async for fulfillment_id in self.pack():
            await self.do("fulfillment", work_decision(HandOver(fulfillment_id, self.now, self.now)))

    async def pack(self) -> AsyncIterator[str]:
        """Each fulfillment order that no location has begun, once it is packed."""
        store = self.services["fulfillment"].engine.store
        for fulfillment_id, found in await store.documents("fulfillments"):
            if found["status"] != "created":
                continue
            lines = tuple(
                LineQuantity(line_id=line["line_id"], sku=line["sku"], quantity=line["open"])
                for line in found["lines"]
                if line["open"]
            )
            package = PackedPackage(package=1, weight_g=700, lines=lines)
            for command in (Accept(fulfillment_id), Pick(fulfillment_id, lines), Pack(fulfillment_id, (package,))):
                await self.do("fulfillment", work_decision(command))
            yield fulfillment_id

    async def deliver_all(self) -> None:
        """Every parcel reaches its door."""
        store = self.services["tracking"].engine.store
        for shipment_id, found in await store.documents("shipments"):
            if found["milestone"] != "delivered":
                scan = RecordScan(shipment_id, f"{shipment_id}-1", Milestone.DELIVERED, "300", self.now)
                await self.do("tracking", parcel_decision(scan))

    async def report(self, shipment_id: str, milestone: Milestone) -> None:
        """The carrier scans a parcel."""
        scan = RecordScan(shipment_id, f"{shipment_id}-{milestone}", milestone, "x", self.now)
        await self.do("tracking", parcel_decision(scan))

    async def miss(self, shipment_id: str) -> None:
        """Nobody has seen a parcel for a fortnight."""
        await self.do("tracking", parcel_decision(CheckLost(shipment_id, self.now, timedelta(days=14))))

    async def make_up(self, return_id: str, order_id: str, *lines: LineQuantity) -> None:
        """A person asks for a refund of what never arrived."""
        request = RequestReturn(return_id, order_id, lines, ReturnReason.NOT_DELIVERED, "refund", self.now, "agent")
        await self.do("returns", to_decision(request, read_policy()))

    async def send_back(
        self, return_id: str, order_id: str, line: LineQuantity, exchange_for: tuple[ExchangeLine, ...] = ()
    ) -> None:
        policy = read_policy()
        request = RequestReturn(
            return_id=return_id,
            order_id=order_id,
            lines=(line,),
            reason=ReturnReason.DAMAGED,
            wanted="exchange" if exchange_for else "refund",
            requested_at=self.now,
            by="customer",
            exchange_for=exchange_for,
        )
        seen = InspectedLine(**line.model_dump(), disposition=Disposition.RESTOCK)
        for command in (
            request,
            ReceiveReturn(return_id, "receipt", "sparks", (line,), frozenset({"sparks"})),
            InspectReturn(return_id, "inspection", "sparks", (seen,), self.now),
        ):
            await self.do("returns", to_decision(command, policy))

    async def logs(self) -> Logs:
        found: Logs = {}
        for name, running in self.services.items():
            rows = await running.engine.store.read(0, 100_000)
            found[name] = [(each.row.stream, decode(each.row.type, each.row.data)) for each in rows]
        return found


async def whole_life() -> Logs:
    """Every event of a life lived in memory."""
    life = Life()
    await live(life)
    return await life.logs()


async def live(life: Life) -> None:
    """Two orders delivered, of one of them a line sent back and another exchanged; one order called off in part, one
    altogether after it was released."""
    await life.start()
    for sku in ("TEA", "MUG", "POT"):
        await life.receive(sku, "sparks", 20)
        await life.receive(sku, "edison", 20)
    kept = await life.order("kept", {"1": ("TEA", 3, 501), "2": ("MUG", 2, 1_200), "3": ("POT", 1, 4_000)})
    part = await life.order("part", {"1": ("TEA", 2, 501), "2": ("MUG", 1, 1_200)})
    called_off = await life.order("called-off", {"1": ("POT", 1, 4_000)})
    await life.cancel(called_off)
    await life.cancel(part, lines=(LineChange(line_id="1", quantity=1),))
    life.pass_time(hours=2)
    await life.ship_all()
    life.pass_time(days=2)
    await life.deliver_all()
    life.pass_time(days=3)
    await life.send_back("back", kept, LineQuantity(line_id="1", sku="TEA", quantity=2))
    wanted = (ExchangeLine(sku="MUG", title="Mug", quantity=1, unit_price=usd(1_000)),)
    await life.send_back("swap", kept, LineQuantity(line_id="2", sku="MUG", quantity=1), wanted)
    life.pass_time(hours=2)
    await life.ship_all()
    life.pass_time(days=2)
    await life.deliver_all()


async def astray_life() -> Logs:
    """Two orders of a unit each: one is lost and credited, one comes back and is received."""
    life = Life()
    await life.start()
    await life.receive("TEA", "sparks", 5)
    line = LineQuantity(line_id="1", sku="TEA", quantity=1)
    for name in ("lost", "back"):
        order_id = await life.order(name, {"1": ("TEA", 1, 501)})
        await life.ship_all()
        shipments = await life.services["tracking"].engine.store.documents("shipments")
        (shipment_id,) = (key for key, found in shipments if found["order_id"] == order_id)
        if name == "back":
            await life.report(shipment_id, Milestone.RETURNED)
        life.pass_time(days=15)
        if name == "lost":
            await life.miss(shipment_id)
        await life.make_up(name, order_id, line)
        if name == "lost":
            await life.do("returns", to_decision(WaiveGoods("lost", life.now), read_policy()))
        else:
            seen = InspectedLine(**line.model_dump(), disposition=Disposition.RESTOCK)
            for command in (
                ReceiveReturn("back", "receipt", "sparks", (line,), frozenset({"sparks"})),
                InspectReturn("back", "inspection", "sparks", (seen,), life.now),
            ):
                await life.do("returns", to_decision(command, read_policy()))
    return await life.logs()


async def stores_of(logs: Logs, spoil: Callable[[Row], Row] = lambda row: row) -> dict[str, MemoryStore]:
    """Logs with these events, numbered; what is not audited is empty."""
    stores: dict[str, MemoryStore] = {}
    for name, events in logs.items():
        versions: dict[str, int] = {}
        rows = []
        for number, (stream, event) in enumerate(events, 1):
            versions[stream] = versions.get(stream, 0) + 1
            row = Row(
                stream, versions[stream], UUID(int=number), event.type, event.to_json(), "", "", "", MONDAY, MONDAY,
                GENESIS,
            )  # fmt: skip
            rows.append(spoil(row))
        stores[name] = MemoryStore()
        async with stores[name].transaction() as transaction:
            await transaction.commit(Changes(rows=rows))
        await stores[name].sequence(len(rows))
    return stores
