"""The world around the product, as lean as it can be, so that it does not set the pace.

Raw aiokafka in batches, reports in bulk; of what it reads it parses only what it must know to act. It takes a step
only once the product has confirmed the one before, as people and carriers would, though without their pauses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from time import perf_counter
from typing import Any
from zlib import crc32

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ordermill.contracts import carrier, channel, location
from ordermill.contracts.fulfillment import FulfillmentCreated, PackageLabeled
from ordermill.contracts.returns import PurchaseDelivered
from ordermill.contracts.routing import OrderRouted
from ordermill.contracts.tracking import ShipmentDelivered

from .goods import CODES, LINES, Headers, order, scan, stock
from .stand import Place

BULK = 500
SCAN_EVERY_S = 0.25
_CREATED, _LABELED = FulfillmentCreated.type.encode(), PackageLabeled.type.encode()
_DELIVERED, _PURCHASED = ShipmentDelivered.type.encode(), PurchaseDelivered.type.encode()
_ROUTED = OrderRouted.type.encode()
Records = Iterable[tuple[bytes, bytes, Headers]]
Json = dict[str, Any]


class Sender:
    """Sends records in batches, one a partition; `async with`."""

    def __init__(self, kafka: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", max_request_size=4 * 1024 * 1024, max_batch_size=512 * 1024
        )

    async def __aenter__(self) -> Sender:
        await self._producer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._producer.stop()

    async def send(self, topic: str, records: Records) -> None:
        """Returns when the broker has all of them."""
        producer = self._producer
        count = len(await producer.partitions_for(topic))
        batches: dict[int, Any] = {}
        sent: list[Any] = []
        for key, value, headers in records:
            partition = crc32(key) % count
            batch = batches.get(partition) or batches.setdefault(partition, producer.create_batch())
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await producer.send_batch(batch, topic, partition=partition))
                batch = batches[partition] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        for partition, batch in batches.items():
            sent.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)


class Driver:
    """Sends orders, does the work on them, and counts those that are delivered whole."""

    def __init__(self, place: Place, skus: int, returns_percent: int, lines: int = LINES, first: int = 0) -> None:
        """`first`: the number of the first order. Where it is not 0, others came before, and their topics are full."""
        self.place = place
        self.sent = first
        self.delivered = self.parcels = self.returned = self.refused = 0
        self.undelivered: dict[str, int] = {}
        """Units by order that are on their way."""
        self.returning: dict[str, Json] = {}
        """The line of which a unit comes back, by order."""
        self.latencies: dict[str, float] | None = None
        """When orders were due to be sent, later how long they took to be routed; None: nobody looks."""
        self.routed: list[float] = []
        self._skus = skus
        self._lines = lines
        self._first = first
        self._ours: set[str] = set()
        """Orders that we sent: a broker may report ends of topics too low, and others came before."""
        self._returns_percent = returns_percent
        self._sender = Sender(place.kafka)
        self._http = httpx.AsyncClient(
            timeout=30, headers={"Authorization": f"Bearer {place.api_token}", "Content-Type": "application/json"}
        )
        self._work: dict[str, Json] = {}
        self._tracked: dict[bytes, tuple[str, int]] = {}
        self._steps: dict[str, deque[str]] = {step: deque() for step in ("accept", "pick", "pack", "hand-over")}
        self._scans: list[deque[tuple[float, str, str]]] = [deque() for _ in CODES["cedar"]]
        self._requests: deque[str] = deque()
        self._receipts: deque[Json] = deque()
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Driver:
        await self._sender.__aenter__()
        self._start(self._read())
        for step in self._steps:
            self._start(self._report(step))
        self._start(self._carry())
        self._start(self._send_back())
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.__aexit__()
        await self._http.aclose()

    def check(self) -> None:
        """Raise what went wrong in the background."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def stock_up(self) -> None:
        """Returns when the goods can be promised."""
        records = list(stock(self._skus))
        await self._sender.send(location.TOPIC, records)
        instances = [name for name in self.place.ports if name.partition("-")[0] == "inventory"]
        while await self._of_all(instances, 'oms_messages_total{result="handled"}') < len(records):
            await asyncio.sleep(0.1)
        while await self._of_all(instances, "oms_unpublished_events"):
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)

    async def send_orders(self, due: Iterable[float]) -> None:
        """`due`: when each was to be sent, for who looks at latencies."""
        records = []
        for at in due:
            made = order(self.sent, self._skus, self._lines)
            self.sent += 1
            self.undelivered[made.order_id] = made.units
            self._ours.add(made.order_id)
            if self.latencies is not None:
                self.latencies[made.order_id] = at
            records.append((made.key, made.value, made.headers))
        if records:
            await self._sender.send(channel.TOPIC, records)

    async def saturate(self, in_flight: int, stop: asyncio.Event) -> None:
        """Keep `in_flight` orders on their way; until there are so many, send a little faster than they are delivered.

        Sent all at once they would go through the services as one wave, for a long time.
        """
        history: deque[tuple[float, int]] = deque([(perf_counter(), self.delivered)], maxlen=250)
        allowance = 0.0
        while not stop.is_set():
            await asyncio.sleep(0.02)
            history.append((perf_counter(), self.delivered))
            (began, few), (earlier, _), (now, many) = history[0], history[-2], history[-1]
            allowance += max(250.0, 1.3 * (many - few) / (now - began)) * (now - earlier)
            count = min(in_flight - len(self.undelivered), int(allowance), BULK)
            allowance -= int(allowance)
            if count > 0:
                await self.send_orders([0.0] * count)

    async def send_on_schedule(self, per_s: float, stop: asyncio.Event) -> None:
        """One order every 1/`per_s` seconds, whatever comes back."""
        began, count = perf_counter(), 0
        while not stop.is_set():
            due = int((perf_counter() - began) * per_s) + 1
            await self.send_orders([began + number / per_s for number in range(count, due)])
            count = max(count, due)
            await asyncio.sleep(0.004)

    async def _of_all(self, instances: Iterable[str], name: str) -> float:
        return sum([await self.metric(each, name) for each in instances])

    async def metric(self, service: str, name: str) -> float:
        return (await self.metrics(service)).get(name, 0.0)

    async def until_ready(self, services: Iterable[str]) -> None:
        """On Apache Kafka a service listens only some seconds after its start: topics are made first."""
        for service in services:
            while True:
                with suppress(httpx.TransportError):
                    if await self.metric(service, "oms_ready"):
                        break
                await asyncio.sleep(0.1)

    async def metrics(self, service: str) -> dict[str, float]:
        text = (await self._http.get(self.place.url(service, "/metrics"))).text
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    # What the product tells

    async def _read(self) -> None:
        absorb = {
            "oms.fulfillment.events": self._fulfillment,
            "oms.tracking.events": self._tracking,
            "oms.returns.events": self._returns,
            "oms.routing.events": self._routing,
        }
        consumer = AIOKafkaConsumer(
            *absorb,
            bootstrap_servers=self.place.kafka,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=2 * 1024 * 1024,
            check_crcs=False,
        )
        await consumer.start()
        try:
            if self._first:
                await consumer.seek_to_end()
            while True:
                for place, records in (await consumer.getmany(timeout_ms=1_000, max_records=2_000)).items():
                    take = absorb[place.topic]
                    for record in records:
                        for name, value in record.headers:
                            if name == "ce_type":
                                take(value, record)
                                break
        finally:
            await consumer.stop()

    def _fulfillment(self, type_name: bytes, record: Any) -> None:
        if type_name == _CREATED:
            work = orjson.loads(record.value)
            if work["order_id"] not in self._ours:
                return
            self._work[work["fulfillment_id"]] = work
            self._steps["accept"].append(work["fulfillment_id"])
        elif type_name == _LABELED:
            label = orjson.loads(record.value)
            work = self._work.get(label["fulfillment_id"])
            if work is None:
                return
            work["label"] = label
            units = sum(line["quantity"] for line in work["lines"])
            key = f"shipment-{label['carrier']}-{label['tracking_number']}".encode()
            self._tracked[key] = (work["order_id"], units)
            self._steps["hand-over"].append(label["fulfillment_id"])

    def _tracking(self, type_name: bytes, record: Any) -> None:
        if type_name != _DELIVERED:
            return
        tracked = self._tracked.pop(record.key, None)
        if tracked is None:  # the relay may tell a fact twice
            return
        order_id, units = tracked
        self.parcels += 1
        self.undelivered[order_id] -= units
        if not self.undelivered[order_id]:
            del self.undelivered[order_id]
            self.delivered += 1

    def _returns(self, type_name: bytes, record: Any) -> None:
        if type_name != _PURCHASED or crc32(record.key) % 100 >= self._returns_percent:
            return
        delivered = orjson.loads(record.value)
        if delivered["order_id"] in self._ours and delivered["order_id"] not in self.returning:
            self.returning[delivered["order_id"]] = delivered["lines"][0]
            self._requests.append(delivered["order_id"])

    def _routing(self, type_name: bytes, record: Any) -> None:
        if self.latencies is not None and type_name == _ROUTED:
            due = self.latencies.pop(record.key[5:].decode(), None)  # the key is plan-<order>
            if due is not None:
                self.routed.append(perf_counter() - due)

    # Locations

    async def _report(self, step: str) -> None:
        waiting = self._steps[step]
        after = {"accept": "pick", "pick": "pack"}.get(step)
        while True:
            if not waiting:
                await asyncio.sleep(0.02)
                continue
            ids = [waiting.popleft() for _ in range(min(BULK, len(waiting)))]
            taken = await self._post("fulfillment", "/work", [self._reported(step, each) for each in ids])
            for fulfillment_id, done in zip(ids, taken, strict=True):
                if not done:
                    continue
                if after is not None:
                    self._steps[after].append(fulfillment_id)
                elif step == "hand-over":
                    label = self._work.pop(fulfillment_id)["label"]
                    self._scans[0].append((perf_counter(), label["carrier"], label["tracking_number"]))
            await asyncio.sleep(0.02)

    def _reported(self, step: str, fulfillment_id: str) -> Json:
        report: Json = {"do": step, "fulfillment_id": fulfillment_id}
        if step in ("pick", "pack"):
            lines = [
                {"line_id": line["line_id"], "sku": line["sku"], "quantity": line["quantity"]}
                for line in self._work[fulfillment_id]["lines"]
            ]
            weight = 120 + sum(
                (line["weight_g"] or 500) * line["quantity"] for line in self._work[fulfillment_id]["lines"]
            )
            report |= {"lines": lines} if step == "pick" else {
                "packages": [{"package": 1, "weight_g": weight, "lines": lines}]
            }  # fmt: skip
        return report

    async def _post(self, service: str, path: str, reports: list[Json]) -> list[bool]:
        answer = await self._patiently(service, path, orjson.dumps(reports))
        answer.raise_for_status()
        taken = [done["code"] is None for done in orjson.loads(answer.content)]
        self.refused += taken.count(False)
        return taken

    async def _patiently(self, service: str, path: str, body: bytes) -> httpx.Response:
        """Again if the server has just closed the connection: saying a thing twice does nothing."""
        for _ in range(2):
            with suppress(httpx.TransportError):
                return await self._http.post(self.place.url(service, path), content=body)
        return await self._http.post(self.place.url(service, path), content=body)

    # Carriers

    async def _carry(self) -> None:
        """Each parcel's scans, one after the other."""
        while True:
            now = perf_counter()
            records = []
            for index, waiting in enumerate(self._scans):
                while waiting and waiting[0][0] <= now:
                    _, carrier_id, number = waiting.popleft()
                    records.append(scan(carrier_id, number, index))
                    if index + 1 < len(self._scans):
                        self._scans[index + 1].append((now + SCAN_EVERY_S, carrier_id, number))
            if records:
                await self._sender.send(carrier.TOPIC, records)
            await asyncio.sleep(0.05)

    # Customers

    async def _send_back(self) -> None:
        """One unit of the first line comes back, is received and inspected, and goes on the shelf again."""
        while True:
            if self._requests:
                wanted = [self._requests.popleft() for _ in range(min(20, len(self._requests)))]
                for one in filter(None, await asyncio.gather(*(self._request(order_id) for order_id in wanted))):
                    self._receipts.append(one)
            if self._receipts:
                bulk = [self._receipts.popleft() for _ in range(min(BULK, len(self._receipts)))]
                common = [{"return_id": each["return_id"], "location": "edison"} for each in bulk]
                received = [
                    {**what, "do": "receive", "receipt_id": "1", "lines": each["lines"]}
                    for what, each in zip(common, bulk, strict=True)
                ]
                inspected = [
                    {
                        **what,
                        "do": "inspect",
                        "inspection_id": "1",
                        "lines": [{**line, "disposition": "restock"} for line in each["lines"]],
                    }
                    for what, each in zip(common, bulk, strict=True)
                ]
                await self._post("returns", "/returns/work", received)
                self.returned += sum(await self._post("returns", "/returns/work", inspected))
            await asyncio.sleep(0.1)

    async def _request(self, order_id: str) -> Json | None:
        line = self.returning[order_id]
        lines = [{"line_id": line["line_id"], "sku": line["sku"], "quantity": 1}]
        request = {"return_id": f"ret-{order_id}", "order_id": order_id, "lines": lines, "reason": "unwanted"}
        answer = await self._patiently("returns", "/returns", orjson.dumps(request))
        if answer.status_code != 201:
            self.refused += 1
            return None
        return request

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        self._tasks.append(asyncio.create_task(work))
