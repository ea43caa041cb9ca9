"""A demo that has settled and keeps running, and a warehouse and a carrier for orders that come after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from confluent_kafka import Producer

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
DELIVERED = {"cedar": "delivered.door", "swift": "300"}
BROUGHT_BACK = {"cedar": "return.handed-over", "swift": "510"}


class Installation:
    """Services that run, as an outsider meets them: a broker and HTTP."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.kafka = environment["OMS_KAFKA"]
        headers = {"Authorization": f"Bearer {environment['OMS_API_TOKEN']}"}
        self._http = httpx.Client(headers=headers, timeout=20, trust_env=False)
        self._producer = Producer({"bootstrap.servers": self.kafka, "acks": "all"})

    def get(self, service: str, path: str, **query: str) -> Any:
        return self._answer(self._http.get(self._url(service, path), params=query))

    def post(self, service: str, path: str, content: Any) -> Any:
        return self._answer(self._http.post(self._url(service, path), json=content))

    def send(self, topic: str, name: str, key: str, data: Json | bytes, message_id: str = "") -> None:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": message_id or str(uuid4()),
            "ce_source": "/outside",
            "ce_type": name,
            "content-type": "application/json",
        }
        value = data if isinstance(data, bytes) else json.dumps(data).encode()
        self._producer.produce(topic, value, key, headers=headers)
        assert self._producer.flush(20) == 0

    def _url(self, service: str, path: str) -> str:
        return f"http://127.0.0.1:{self.environment[f'OMS_{service.upper()}_PORT']}{path}"

    def _answer(self, answer: httpx.Response) -> Any:
        assert answer.status_code < 300, answer.text
        return answer.json()


@contextmanager
def settled_demo(home: Path, orders: int) -> Iterator[Installation]:
    """`oms demo` once all its orders are settled and everything adds up."""
    environment = os.environ | {"OMS_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "ordermill.cli", "demo", "--orders", str(orders), "--speed", "max", "--json"]
    talk = home.with_name("talk")
    with talk.open("w") as said:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True
        )
    try:
        assert process.stdout is not None
        report = process.stdout.readline()  # ends with the process if that fails
        assert report, talk.read_text()
        assert json.loads(report)["violations"] == []
        yield Installation(json.loads((home / "environment.json").read_text()))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextmanager
def warehouse_and_carrier(installation: Installation, codes: Mapping[str, str] = DELIVERED) -> Iterator[None]:
    """Do all work that is asked for, and drive every parcel to its door, or back, until the end of the block."""
    stop = threading.Event()
    failed: list[Exception] = []

    def work() -> None:
        try:
            while not stop.is_set():
                if not _work_once(installation, codes):
                    time.sleep(0.1)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


def _work_once(installation: Installation, codes: Mapping[str, str]) -> bool:
    reports: list[Json] = []
    for status in ("created", "labeled"):
        for found in installation.get("fulfillment", "/fulfillments", status=status)["items"]:
            reports += _next(found)
    if reports:
        installation.post("fulfillment", "/work", reports)
    parcels = [
        parcel
        for milestone in ("unknown", "label_created", "in_transit")
        for parcel in installation.get("tracking", "/shipments", milestone=milestone)["items"]
        if not parcel["lost"]
    ]
    for parcel in parcels:
        scan = {
            "carrier": parcel["carrier"],
            "tracking_number": parcel["tracking_number"],
            "scan_id": f"{parcel['tracking_number']}-door",
            "code": codes[parcel["carrier"]],
            "scanned_at": parcel["shipped_at"],
        }
        name = "oms.carrier.parcel-scanned.v1"
        installation.send("oms.carrier.events", name, parcel["tracking_number"], scan, scan["scan_id"])
    return bool(reports or parcels)


def _next(found: Json) -> list[Json]:
    work = {"fulfillment_id": found["fulfillment_id"]}
    if found["status"] == "labeled":
        return [{"do": "hand-over", **work}]
    lines = [{"line_id": e["line_id"], "sku": e["sku"], "quantity": e["open"]} for e in found["lines"] if e["open"]]
    package = {"package": 1, "weight_g": 500, "lines": lines}
    return [
        {"do": "accept", **work},
        {"do": "pick", **work, "lines": lines},
        {"do": "pack", **work, "packages": [package]},
    ]
