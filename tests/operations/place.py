"""A whole installation for tests: `oms up` in a folder of its own, and what people and carriers do to an order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
from aiokafka import AIOKafkaProducer

from ordermill.contracts.base import Message
from ordermill.contracts.carrier import ParcelScanned
from ordermill.names import SERVICES
from ordermill.service.messages import outside_headers

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def eventually(look: Callable[[], T], timeout_s: float = 60) -> T:
    """What `look` finds, as soon as it is something."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"never came about: {look}"
        time.sleep(0.1)
    return found


class Place:
    """An installation at work."""

    def __init__(self, folder: Path, settings: dict[str, str], kafka: str | None = None) -> None:
        self.folder = folder
        self._kafka = [] if kafka is None else ["--kafka", kafka]
        self.home = folder / "home"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMS_", "OTEL_"))}
        self.environment = kept | {
            "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}", "OMS_HOME": str(self.home), "COLUMNS": "300", **settings,
        }  # fmt: skip
        self._up: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "up.log").open("ab") as log:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "ordermill.cli", "up", *self._kafka],
                env=self.environment, cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        eventually(self._ready)

    def stop(self) -> None:
        if self._up is not None:
            self._up.send_signal(signal.SIGINT)
            self._up.wait(90)
            self._up = None

    def _ready(self) -> bool:
        assert self._up is not None and self._up.poll() is None, (self.folder / "up.log").read_text()[-3000:]
        try:
            return all(httpx.get(self.url(service, "/readyz")).status_code == 200 for service in SERVICES)
        except (OSError, ValueError, KeyError, httpx.HTTPError):
            return False

    @property
    def known(self) -> dict[str, str]:
        """The OMS_… variables of this installation."""
        found: dict[str, str] = json.loads((self.home / "environment.json").read_text())
        return found

    def url(self, service: str, path: str) -> str:
        return f"http://127.0.0.1:{self.known[f'OMS_{service.upper()}_PORT']}{path}"

    def ask(self, method: str, service: str, path: str, body: Any = None, **headers: str) -> Any:
        """Raises HTTPStatusError."""
        shown = {"Authorization": f"Bearer {self.known['OMS_API_TOKEN']}", **headers}
        answer = httpx.request(method, self.url(service, path), json=body, headers=shown, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def oms(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ordermill.cli", *arguments], cwd=self.folder, env=self.environment | settings,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    async def publish(self, message: Message, key: str, source: str = "/test") -> None:
        """As an outsider does."""
        at = datetime.now(UTC)
        async with AIOKafkaProducer(bootstrap_servers=self.known["OMS_KAFKA"], acks="all") as producer:
            headers = outside_headers(message, source, f"{key}-{at.timestamp()}", at)
            await producer.send_and_wait(message.topic, message.to_json(), key=key.encode(), headers=headers)

    def receive(self, sku: str, quantity: int, reference: str) -> None:
        happened_at = datetime.now(UTC).isoformat()
        line = {
            "location": "edison", "sku": sku, "reference": reference, "happened_at": happened_at, "quantity": quantity,
        }  # fmt: skip
        self.ask("POST", "inventory", "/stock/receive", [line])

    def place_order(self, external_id: str, **headers: str) -> str:
        """Two teapots; the order's id."""
        order = json.loads((ROOT / "docs/examples/order.json").read_text())
        del order["type"], order["risk"]
        order |= {"external_id": external_id, "placed_at": datetime.now(UTC).isoformat()}
        return str(self.ask("POST", "capture", "/orders", order, **headers)["key"])

    def fulfillment_of(self, order_id: str) -> dict[str, Any]:
        """The order's part at its location, once it is there."""
        path = "/fulfillments?limit=1000"
        return eventually(
            lambda: next(
                (found for found in self.ask("GET", "fulfillment", path)["items"] if found["key"].startswith(order_id)),
                None,
            )
        )

    def ship(self, order_id: str) -> str:
        """Accept, pick, pack, and hand over once there is a label; the tracking number."""
        found = self.fulfillment_of(order_id)
        key = found["key"]
        lines = [{"line_id": line["line_id"], "sku": line["sku"], "quantity": line["open"]} for line in found["lines"]]
        for report in (
            {"do": "accept"},
            {"do": "pick", "lines": lines},
            {"do": "pack", "packages": [{"package": 1, "weight_g": 1800, "lines": lines}]},
        ):
            answer = self.ask("POST", "fulfillment", "/work", [report | {"fulfillment_id": key}])
            assert answer[0]["code"] is None, answer

        def label() -> Any:
            packages = self.ask("GET", "fulfillment", f"/fulfillments/{key}")["packages"]
            return packages and packages[0]["tracking_number"]

        number = str(eventually(label))
        self.ask("POST", "fulfillment", "/work", [{"do": "hand-over", "fulfillment_id": key}])
        return number

    async def deliver(self, tracking_number: str) -> None:
        scan = ParcelScanned(
            carrier="cedar", tracking_number=tracking_number, scan_id=f"{tracking_number}-1", code="delivered.door",
            scanned_at=datetime.now(UTC),
        )  # fmt: skip
        await self.publish(scan, tracking_number, "/carriers/cedar")

    def status_of(self, order_id: str) -> str:
        try:
            return str(self.ask("GET", "tracking", f"/order-status/{order_id}")["status"])
        except httpx.HTTPStatusError:
            return ""


@contextmanager
def place_at(folder: Path, kafka: str | None = None, **settings: str) -> Iterator[Place]:
    """`kafka`: as `oms up --kafka` takes it."""
    place = Place(folder, settings, kafka)
    try:
        place.start()
        yield place
    finally:
        place.stop()
