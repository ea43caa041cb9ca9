"""Two hundred orders at once for the last fifty units, with two instances of inventory to decide about them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ordermill.embedded.ports import choose_ports
from tests import brokers
from tests.operations.place import Place, eventually, place_at

UNITS, ORDERS = 50, 200
Json = dict[str, Any]
Send = Callable[[Place, list[Json]], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Race:
    place: Place
    inventories: tuple[str, str]
    """Addresses of both instances."""

    def handled(self) -> list[float]:
        """Messages that each instance has handled so far."""
        found = []
        for address in self.inventories:
            text = httpx.get(f"{address}/metrics", timeout=20).text
            name = 'oms_messages_total{result="handled"} '
            found.append(next(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)))
        return found


@contextmanager
def second_inventory(place: Place, port: int) -> Iterator[None]:
    settings = {"OMS_INSTANCE": "second", "OMS_INVENTORY_PORT": str(port)}
    with (place.folder / "second.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ordermill.cli", "run", "inventory"],
            env=place.environment | settings, cwd=place.folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def race() -> Iterator[Race]:
    # Not below pytest's own folder: that is closed to the user the server may have to run as.
    with TemporaryDirectory(prefix="ordermill-race-") as name:
        folder = Path(name)
        with brokers.chosen(folder) as kafka, place_at(folder, kafka) as place:
            port = choose_ports({"second": None}, folder / "second.json")["second"]
            with second_inventory(place, port):
                found = Race(place, (place.url("inventory", ""), f"http://127.0.0.1:{port}"))
                eventually(lambda: _answers(f"{found.inventories[1]}/readyz"))

                def both_work() -> bool:
                    asyncio.run(over_the_topic(place, [order("NOTHING-OF-IT", False) for _ in range(20)]))
                    return all(found.handled())

                eventually(both_work)
                yield found


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=20).status_code == 200
    except httpx.HTTPError:
        return False


def order(sku: str, may_wait: bool) -> Json:
    """One unit for a customer of its own."""
    usd = {"minor": 0, "currency": "USD"}
    price = usd | {"minor": 1999}
    name = uuid4().hex[:12]
    return {
        "channel": "race",
        "external_id": name,
        "placed_at": datetime.now(UTC).isoformat(),
        "customer": {"email": f"{name}@example.com"},
        "ship_to": {
            "person": {"name": f"Racer {name}", "street": [f"{name} Sample Street"], "city": "Princeton"},
            "country": "US",
            "region": "NJ",
            "postal_code": "08540",
        },
        "lines": [{"line_id": "1", "sku": sku, "title": "The last ones", "quantity": 1, "unit_price": price,
                   "discount": usd, "tax": usd, "weight_g": 300}],
        "shipping": usd,
        "shipping_tax": usd,
        "total": price,
        "payment": {"status": "paid", "reference": f"pay-{name}"},
        "allow_backorder": may_wait,
    }  # fmt: skip


async def over_http(place: Place, orders: list[Json]) -> None:
    headers = {"Authorization": f"Bearer {place.known['OMS_API_TOKEN']}"}
    limits = httpx.Limits(max_connections=len(orders))
    async with httpx.AsyncClient(headers=headers, timeout=60, limits=limits, trust_env=False) as http:
        url = place.url("capture", "/orders")
        answers = await asyncio.gather(*(http.post(url, json=each) for each in orders))
    assert Counter(answer.status_code for answer in answers) == {201: len(orders)}


async def over_the_topic(place: Place, orders: list[Json]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=place.known["OMS_KAFKA"], acks="all", linger_ms=5) as producer:
        await asyncio.gather(*(
            producer.send_and_wait(
                "oms.channel.orders",
                json.dumps(each).encode(),
                key=each["external_id"].encode(),
                headers=[
                    ("ce_specversion", b"1.0"),
                    ("ce_id", each["external_id"].encode()),
                    ("ce_source", b"/channels/race"),
                    ("ce_type", b"oms.channel.order-placed.v1"),
                    ("content-type", b"application/json"),
                ],
            )
            for each in orders
        ))  # fmt: skip


class Told:
    """What capture and inventory tell on their topics about the orders of one race."""

    def __init__(self, orders: list[Json], sku: str) -> None:
        self._names = {each["external_id"] for each in orders}
        self._sku = sku
        self._ours: set[str] = set()
        self._seen: set[str] = set()
        self._decisions: list[tuple[str, str]] = []
        self.units: Counter[str] = Counter()
        """Of the SKU, by kind of fact."""

    def decisions(self) -> Counter[tuple[str, ...]]:
        """How many orders had which decisions, in the order in which they were told."""
        found: dict[str, list[str]] = {}
        for order_id, kind in self._decisions:
            if order_id in self._ours:
                found.setdefault(order_id, []).append(kind)
        return Counter(tuple(kinds) for kinds in found.values())

    def take(self, record: Any) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        if headers["ce_id"] in self._seen:
            return  # told at least once
        self._seen.add(headers["ce_id"])
        kind, data = headers["ce_type"].split(".")[2], json.loads(record.value)
        if kind == "order-captured" and data["external_id"] in self._names:
            self._ours.add(data["order_id"])
        elif kind in ("order-reserved", "order-backordered", "order-refused"):
            self._decisions.append((data["order_id"], kind))
        elif kind in ("stock-reserved", "stock-backordered") and data["sku"] == self._sku:
            self.units[kind] += data["quantity"]


async def listen(place: Place, told: Told) -> None:
    """Read from the first record on until all orders are decided, and nothing more comes for a second."""
    topics = ("oms.capture.events", "oms.inventory.events", "oms.inventory.stock")
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=place.known["OMS_KAFKA"], auto_offset_reset="earliest")
    await consumer.start()
    try:
        until, quiet = asyncio.get_running_loop().time() + 60, 0
        while told.decisions().total() < ORDERS or quiet < 5:
            assert asyncio.get_running_loop().time() < until, told.decisions()
            polled = await consumer.getmany(timeout_ms=200)
            quiet = 0 if polled else quiet + 1
            for records in polled.values():
                for record in records:
                    told.take(record)
    finally:
        await consumer.stop()


@pytest.mark.parametrize("may_wait", [False, True], ids=["no-backorders", "backorders"])
@pytest.mark.parametrize("send", [over_http, over_the_topic])
async def test_the_last_units_go_to_as_many_orders_as_there_are_units(race: Race, send: Send, may_wait: bool) -> None:
    place, sku = race.place, f"LAST-{uuid4().hex[:8].upper()}"
    place.receive(sku, UNITS, f"opening-{sku}")
    handled_before = race.handled()
    orders = [order(sku, may_wait) for _ in range(ORDERS)]
    await send(place, orders)
    told = Told(orders, sku)
    await listen(place, told)

    others = ORDERS - UNITS
    waiting = others if may_wait else 0
    assert told.decisions() == {
        ("order-reserved",): UNITS,
        ("order-backordered" if may_wait else "order-refused",): others,
    }
    assert told.units == Counter({"stock-reserved": UNITS}) + Counter({"stock-backordered": waiting})

    stock = place.ask("GET", "inventory", f"/stock/{sku}")
    claimed = stock["reserved"] + stock["allocated"]
    assert (stock["on_hand"], claimed, stock["backordered"]) == (UNITS, UNITS, waiting)
    assert stock["available"] == 0
    assert all(after > first for first, after in zip(handled_before, race.handled(), strict=True)), "one had all to do"
