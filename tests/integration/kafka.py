"""A broker for one test, that can be killed and comes back empty; and what a test says to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from ordermill.contracts.base import Message
from ordermill.contracts.location import StockArrived
from ordermill.service.kafka import BrokerUnavailable, KafkaSettings, ensure_topics
from ordermill.service.messages import Headers, outside_headers
from ordermill.service.run import SERVICES
from ordermill.service.topics import all_topics
from tests import brokers
from tests.brokers import Server

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
STOCK = "oms.location.stock"


class Broker:
    """One of the kind that OMS_TEST_KAFKA names."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._producer: AIOKafkaProducer | None = None

    @property
    def address(self) -> str:
        return self._server.address

    def settings(self, **other: Any) -> KafkaSettings:
        return KafkaSettings(self.address, **(brokers.settings() | other))

    def kill(self) -> None:
        self._server.kill()

    def revive(self, empty: bool) -> None:
        self._server.revive(empty)

    def tool(self, name: str, *arguments: str) -> str:
        return self._server.tool(name, *arguments)

    def restart(self) -> None:
        """As another broker that was never told anything."""
        self._server.kill()
        self._server.revive(empty=True)

    async def make_topics(self, **other: Any) -> None:
        """A broker that has just started may refuse for a moment."""
        while True:
            try:
                await ensure_topics(self.settings(**other), all_topics(SERVICES))
                return
            except BrokerUnavailable:
                await asyncio.sleep(0.1)

    async def delete(self, topic: str) -> None:
        answer = await self._administer(lambda admin: admin.delete_topics([topic]))
        assert not answer.topic_error_codes[0][1]
        for _ in range(20):  # until all have heard of it; the embedded broker may have it again for whoever asks
            if topic not in await self._administer(lambda admin: admin.list_topics()):
                break
            await asyncio.sleep(0.1)
        await self.close()
        self._producer = None  # the next one asks anew who leads

    async def add_partitions(self, topic: str, count: int) -> None:
        """Until there are `count`."""
        answer = await self._administer(lambda admin: admin.create_partitions({topic: NewPartitions(count)}))
        assert not answer.topic_errors[0][1]
        await self.close()
        self._producer = None  # the next one looks anew how many there are
        while len((await self._administer(lambda admin: admin.describe_topics([topic])))[0]["partitions"]) < count:
            await asyncio.sleep(0.1)

    async def _administer(self, work: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            return await work(admin)
        finally:
            await admin.close()

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self.address, acks="all", max_request_size=4_000_000, linger_ms=20
            )
            await self._producer.start()
        return self._producer

    async def send(
        self, topic: str, value: bytes | None, headers: Headers, key: bytes | None = None, partition: int | None = None
    ) -> None:
        producer = await self.producer()
        await producer.send_and_wait(topic, value, key=key, headers=headers, partition=partition)

    async def publish(self, messages: Sequence[Message], **ids: str) -> None:
        """As outsiders do, in one go: each with an id of its own unless `message_id` says which."""
        producer = await self.producer()
        sent = []
        for message in messages:
            headers = outside_headers(message, "/test", ids.get("message_id") or str(uuid4()), MONDAY)
            key = getattr(message, "sku", None) or getattr(message, "external_id", None) or "key"
            sent.append(await producer.send(message.topic, message.to_json(), key=key.encode(), headers=headers))
        for each in sent:
            await each

    async def send_with_binary_header_name(self, topic: str, partition: int, value: bytes, before: bytes) -> None:
        """A batch of two records: `before`, whole; and one that has a header name of two bytes that are no UTF-8."""
        producer = await self.producer()
        batch = producer.create_batch()
        batch.append(key=None, value=before, timestamp=None, headers=outside_headers_of(before))
        batch.append(key=b"k", value=value, timestamp=None, headers=[("~~", b"1")])
        raw = bytearray(batch._build())
        at = raw.index(b"~~")
        raw[at : at + 2] = b"\xff\xfe"
        crc_at, crc_from = 17, 21
        raw[crc_at:crc_from] = calc_crc32c(bytes(raw[crc_from:])).to_bytes(4, "big")
        request = ProduceRequest(
            required_acks=-1, timeout=5_000, topics=[(topic, [(partition, bytes(raw))])], transactional_id=None
        )
        leader = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        answer = await producer.client.send(leader, request)
        assert answer.topics[0][1][0][1] == 0

    async def ends(self, topic: str) -> dict[int, int]:
        """How many records each partition holds."""
        count = dict.fromkeys(range(4), 0)
        for record in await self.read(topic):
            count[record.partition] = record.offset + 1
        return count

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Offsets that the group has committed."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, group_id=f"oms.{group}")
        await consumer.start()
        try:
            return {n: await consumer.committed(TopicPartition(topic, n)) or 0 for n in range(4)}
        finally:
            await consumer.stop()

    async def read(self, *topics: str) -> list[Any]:
        """Every record of these topics."""
        consumer = AIOKafkaConsumer(
            *topics, bootstrap_servers=self.address, auto_offset_reset="earliest", fetch_max_wait_ms=5
        )
        await consumer.start()
        found: list[Any] = []
        try:
            while polled := await consumer.getmany(timeout_ms=400):
                found += [record for records in polled.values() for record in records]
            return found
        finally:
            await consumer.stop()


def arrived(sku: str, quantity: int = 1, reference: str = "", location: str = "berlin") -> StockArrived:
    return StockArrived(
        location=location, sku=sku, reference=reference or uuid4().hex, happened_at=MONDAY, quantity=quantity
    )


def outside_headers_of(value: bytes) -> Headers:
    """Headers of a stock message that is given as bytes."""
    return outside_headers(StockArrived.from_json(value), "/test", str(uuid4()), MONDAY)
