"""A whole installation on the real clock, as `oms up` starts it, and the hands of channels, warehouses, carriers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaProducer

from ordermill.contracts.base import Message
from ordermill.contracts.carrier import ParcelScanned
from ordermill.ids import order_id_of
from ordermill.service.messages import outside_headers

SERVICES_AND_CONSOLE = ("capture", "inventory", "routing", "fulfillment", "tracking", "returns", "console")
_numbers = count(1)


PATIENCE_S = 90.0
"""A browser, a broker, PostgreSQL and eight services share the machine with whatever else it does."""


async def eventually(condition: Callable[[], Awaitable[Any]], timeout_s: float = PATIENCE_S) -> Any:
    """What `condition` answers once that is true."""
    until = asyncio.get_running_loop().time() + timeout_s
    while not (answer := await condition()):
        assert asyncio.get_running_loop().time() < until, "did not come about"
        await asyncio.sleep(0.03)
    return answer


@dataclass(frozen=True)
class Placed:
    """An order that a channel sent."""

    order_id: str
    channel: str
    external_id: str


class Stand:
    """Started once for all tests of pages: each makes orders and SKUs of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def _launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "ordermill.cli", "up"],
            env=os.environ | {"OMS_HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.folder.with_name("up.log").open("ab"),
        )

    async def start(self) -> None:
        self._process = self._launch()
        known = self.folder / "environment.json"
        await eventually(self._is_there(known), 120)
        self.environment = json.loads(known.read_text())
        headers = {"Authorization": f"Bearer {self.environment['OMS_API_TOKEN']}", "X-Actor": "a-test"}
        limits = httpx.Limits(keepalive_expiry=2.0)
        self.http = httpx.AsyncClient(headers=headers, timeout=PATIENCE_S, trust_env=False, limits=limits)
        self._producer = AIOKafkaProducer(bootstrap_servers=self.environment["OMS_KAFKA"], acks="all")
        await eventually(self._ready, 60)
        await self._producer.start()

    async def stop(self) -> None:
        assert self._process is not None
        await self._producer.stop()
        await self.http.aclose()
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 60)

    def _is_there(self, path: Path) -> Callable[[], Awaitable[bool]]:
        async def is_there() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.folder.with_name("up.log").read_text()
            return path.exists()

        return is_there

    async def _ready(self) -> bool:
        try:
            answers = [await self.http.get(self.url(name, "/readyz")) for name in SERVICES_AND_CONSOLE]
        except httpx.HTTPError:
            return False
        return all(answer.status_code == 200 for answer in answers)

    def url(self, service: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.environment[f'OMS_{service.upper()}_PORT']}{path}"

    @property
    def login(self) -> str:
        """The address that `oms up` prints."""
        return self.url("console", f"/login?token={self.environment['OMS_CONSOLE_TOKEN']}&name=Ann")

    # What happens outside

    async def get(self, service: str, path: str, **query: Any) -> Any:
        answer = await self.http.get(self.url(service, path), params=query)
        assert answer.is_success, answer.text
        return answer.json()

    async def post(self, service: str, path: str, body: Any) -> Any:
        answer = await self.http.post(self.url(service, path), json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def publish(self, message: Message, key: str) -> None:
        headers = outside_headers(message, "/test", str(uuid4()), datetime.now(UTC))
        await self._producer.send_and_wait(message.topic, message.to_json(), key=key.encode(), headers=headers)

    async def send(self, topic: str, body: bytes, key: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Bytes as anybody may send them."""
        await self._producer.send_and_wait(topic, body, key=key, headers=headers)

    def sku(self, name: str = "teapot") -> str:
        """One that no other test has."""
        return f"{name}-{next(_numbers)}-{uuid4().hex[:6]}"

    async def receive(self, sku: str, location: str, quantity: int) -> None:
        now = datetime.now(UTC).isoformat()
        line = {"sku": sku, "location": location, "quantity": quantity, "reference": uuid4().hex, "happened_at": now}
        done = await self.post("inventory", "/stock/receive", [line])
        assert done[0]["events"], done

    async def order(self, lines: Sequence[tuple[str, int]], channel: str = "store", **changes: Any) -> Placed:
        """An order for these SKUs and units, each unit 10.00 USD; `changes` replace fields of the message."""
        external_id = changes.pop("external_id", f"T-{uuid4().hex[:10]}")
        body = {
            "channel": channel,
            "external_id": external_id,
            "placed_at": datetime.now(UTC).isoformat(),
            "customer": {"external_id": "", "email": changes.pop("email", "ann@example.com")},
            "ship_to": {
                "person": {
                    "name": changes.pop("name", "Ann Example"),
                    "street": ["1 Main Street"],
                    "city": "Columbus",
                    "email": "ann@example.com",
                },
                "country": "US",
                "region": "OH",
                "postal_code": "43215",
            },
            "lines": [
                {
                    "line_id": str(number + 1),
                    "sku": sku,
                    "title": changes.get("title", f"A {sku.partition('-')[0]}"),
                    "quantity": quantity,
                    "unit_price": usd(1000),
                    "discount": usd(0),
                    "tax": usd(0),
                    "weight_g": 400,
                }
                for number, (sku, quantity) in enumerate(lines)
            ],
            "shipping": usd(500),
            "shipping_tax": usd(0),
            "total": usd(500 + sum(1000 * quantity for _, quantity in lines)),
            "payment": {"status": "paid", "reference": "pay-1"},
        }
        changes.pop("title", None)
        await self.post("capture", "/orders", body | changes)
        return Placed(order_id_of(channel, external_id), channel, external_id)

    async def routing_hears_of(self, sku: str, quantity: int) -> None:
        """Ship so many that it takes what was received last: routing hears of stock a moment later than inventory."""
        await self.fulfillments(await self.order([(sku, quantity)]))

    async def fulfillments(self, placed: Placed, status: str | None = None) -> list[dict[str, Any]]:
        """The order's fulfillment orders, once there are any (in that status)."""

        async def found() -> list[dict[str, Any]]:
            items = (await self.get("fulfillment", "/fulfillments", order_id=placed.order_id))["items"]
            return [item for item in items if status is None or item["status"] == status]

        return await eventually(found)  # type: ignore[no-any-return]

    async def work(self, *reports: dict[str, Any]) -> None:
        for done in await self.post("fulfillment", "/work", list(reports)):
            assert done["code"] is None, done

    async def ship(self, placed: Placed) -> list[str]:
        """Pick, pack, label and hand over all of an order; the tracking numbers."""
        numbers: list[str] = []
        for each in await self.fulfillments(placed):
            fulfillment_id = each["key"]
            lines = [{"line_id": x["line_id"], "sku": x["sku"], "quantity": x["open"]} for x in each["lines"]]
            packages = [{"package": 1, "weight_g": 900, "lines": lines}]
            await self.work(
                {"do": "accept", "fulfillment_id": fulfillment_id},
                {"do": "pick", "fulfillment_id": fulfillment_id, "lines": lines},
                {"do": "pack", "fulfillment_id": fulfillment_id, "packages": packages},
            )
            await self.fulfillments(placed, "labeled")
            await self.work({"do": "hand-over", "fulfillment_id": fulfillment_id})
            shown = await self.get("fulfillment", f"/fulfillments/{fulfillment_id}")
            numbers += [package["tracking_number"] for package in shown["packages"]]
        return numbers

    async def behave(self, provider: str, **shares: float) -> None:
        """From now on this share of a carrier's or `payments`' answers is a fault of that name; none: all goes well."""
        headers = {"Authorization": f"Bearer {self.environment['OMS_SIMULATOR_CONTROL_TOKEN']}"}
        url = f"{self.environment['OMS_SIMULATOR_URL']}/behavior/{provider}"
        answer = await self.http.put(url, json={"shares": shares}, headers=headers)
        assert answer.is_success, answer.text

    async def deliver(self, placed: Placed) -> None:
        """Ship all of an order and have its carriers report it at the door."""
        await self.ship(placed)
        for work in await self.fulfillments(placed, "shipped"):
            for package in work["packages"]:
                code = {"cedar": "delivered.door", "swift": "300"}[package["carrier"]]
                await self.scan(package["tracking_number"], package["carrier"], code)
        await self.may_come_back(placed)

    async def may_come_back(self, placed: Placed) -> None:
        """Wait until returns, too, has heard that all of an order was delivered."""

        async def arrived() -> bool:
            lines = (await self.get("returns", f"/purchases/{placed.order_id}"))["lines"]
            return all(line["delivered"] == line["quantity"] for line in lines)

        await eventually(arrived)

    async def scan(self, tracking_number: str, carrier: str, code: str) -> None:
        scan = ParcelScanned(
            carrier=carrier,
            tracking_number=tracking_number,
            scan_id=uuid4().hex,
            code=code,
            scanned_at=datetime.now(UTC),
            place="Columbus, OH",
        )
        await self.publish(scan, tracking_number)


def usd(minor: int) -> dict[str, Any]:
    return {"minor": minor, "currency": "USD"}
