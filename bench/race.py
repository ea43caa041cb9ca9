"""Many orders at once for the last units of one article, with two instances of inventory to decide about them."""

from __future__ import annotations

import asyncio
from collections import Counter
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaConsumer

from ordermill.contracts import channel, location
from ordermill.contracts.inventory import OrderRefused, OrderReserved

from .driver import Sender
from .goods import Order, arrived, order_of_one
from .stand import BenchStopped, Place, say, stand
from .usage import cpu_s, difference

UNITS, ORDERS = 50, 200
_KINDS = {OrderReserved.type.encode(): "reserved", OrderRefused.type.encode(): "refused"}
_PATIENCE_S = 30


def measure(times: int) -> dict[str, Any]:
    """`race.…` figures, each the median of `times` races a door."""
    with stand(more=("inventory-2",)) as at:
        at.start("capture", "inventory", "inventory-2")
        say(f"race: {ORDERS} orders for {UNITS} units, over HTTP and over the topic")
        return at.measure("race", lambda place: _races(place, times), 90 + 2 * times * _PATIENCE_S)  # type: ignore[no-any-return]


async def _races(place: Place, times: int) -> dict[str, Any]:
    async with Sender(place.kafka) as sender, httpx.AsyncClient(timeout=30) as http:
        race = _Race(place, sender, http)
        await race.warm_up()
        seconds: dict[str, list[float]] = {}
        used: dict[str, list[float]] = {}
        for _ in range(times):
            for door in ("http", "topic"):
                before = cpu_s(place.pids)
                seconds.setdefault(door, []).append(await race.run(door))
                used.setdefault(door, []).append(sum(difference(before, cpu_s(place.pids)).values()))
        figures: dict[str, Any] = {f"race.{door}_s": median(each) for door, each in seconds.items()}
        cpu = {f"race.{door}_cpu_ms_per_order": 1000 * median(each) / ORDERS for door, each in used.items()}
        return figures | cpu


class _Race:
    def __init__(self, place: Place, sender: Sender, http: httpx.AsyncClient) -> None:
        self._place = place
        self._sender = sender
        self._http = http
        self._headers = {"Authorization": f"Bearer {place.api_token}"}
        self._sent = 0

    async def warm_up(self) -> None:
        """Until both instances have their share of the work."""
        instances = ("capture", "inventory", "inventory-2")
        until = perf_counter() + 60
        while not all([await self._handled(each) for each in instances]):
            if perf_counter() > until:
                raise BenchStopped("race: the second instance of inventory has nothing to do")
            await self._place_over_topic(self._orders("RACE-NONE", 20))
            await asyncio.sleep(0.5)
        await self._place_over_http(self._orders("RACE-NONE", 20))
        await asyncio.sleep(1)

    async def run(self, door: str) -> float:
        """Seconds from the first order on its way to the last decision in a consumer's hands.

        Raises BenchStopped unless each unit went to one order and each other order was refused.
        """
        sku = f"RACE-{self._sent:06d}"
        await self._stock(sku)
        orders = self._orders(sku, ORDERS)
        consumer = AIOKafkaConsumer("oms.inventory.events", bootstrap_servers=self._place.kafka, fetch_max_wait_ms=20)
        await consumer.start()
        try:
            await consumer.seek_to_end()
            listening = asyncio.create_task(_decisions(consumer, {each.order_id for each in orders}))
            began = perf_counter()
            await (self._place_over_http(orders) if door == "http" else self._place_over_topic(orders))
            decided, ended = await asyncio.wait_for(listening, _PATIENCE_S)
        except TimeoutError:
            raise BenchStopped(f"race over {door}: not all orders were decided in {_PATIENCE_S} s") from None
        finally:
            await consumer.stop()
        counts = Counter(decided.values())
        if counts != {"reserved": UNITS, "refused": ORDERS - UNITS}:
            raise BenchStopped(f"race over {door}: {dict(counts)} of {ORDERS} orders for {UNITS} units")
        return ended - began

    def _orders(self, sku: str, count: int) -> list[Order]:
        made = [order_of_one(self._sent + number, sku) for number in range(count)]
        self._sent += count
        return made

    async def _stock(self, sku: str) -> None:
        await self._sender.send(location.TOPIC, [arrived(sku, "edison", UNITS)])
        while True:
            answer = await self._http.get(self._place.url("inventory", f"/stock/{sku}"), headers=self._headers)
            if answer.status_code == 200 and answer.json()["available"] == UNITS:
                return
            await asyncio.sleep(0.05)

    async def _place_over_topic(self, orders: list[Order]) -> None:
        await self._sender.send(channel.TOPIC, ((each.key, each.value, each.headers) for each in orders))

    async def _place_over_http(self, orders: list[Order]) -> None:
        """Each by a connection of its own. Not by httpx: its pool takes longer over so many than capture does."""
        statuses = Counter(await asyncio.gather(*(self._post(each.value) for each in orders)))
        if statuses != {"201": len(orders)}:
            raise BenchStopped(f"race: capture answered {dict(statuses)}")

    async def _post(self, body: bytes) -> str:
        """The answer's status."""
        head = (
            "POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self._place.api_token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", self._place.ports["capture"])
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        return answer[9:12].decode()

    async def _handled(self, instance: str) -> float:
        try:
            text = (await self._http.get(self._place.url(instance, "/metrics"))).text
        except httpx.TransportError:
            return 0.0  # not up so far
        name = 'oms_messages_total{result="handled"} '
        return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)


async def _decisions(consumer: AIOKafkaConsumer, orders: set[str]) -> tuple[dict[str, str], float]:
    """What became of each order, and when the last one was known."""
    decided: dict[str, str] = {}
    while len(decided) < len(orders):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                kind = _KINDS.get(dict(record.headers)["ce_type"])
                if kind is not None and (order_id := orjson.loads(record.value)["order_id"]) in orders:
                    decided[order_id] = kind
    return decided, perf_counter()
