"""The publisher behind the relay: a log's events and states as batches, one a partition."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary
from zlib import crc32

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.protocol.metadata import MetadataRequest

from ordermill.clock import Clock
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.relay import CLUSTER_CHECK_S, topics_lacking
from ordermill.eventlog.store import NOTHING, Publication

from .kafka import BrokerUnavailable, KafkaSettings, cluster_of, ensure_topics, put_away
from .messages import Headers, event_headers, state_headers
from .topic_ids import topic_ids
from .topics import LARGEST_REQUEST

logger = structlog.get_logger(__name__)

SEND_LIMIT_S = 20.0
"""With idempotence the client tries as long as it takes; after this a new producer, and another look at the broker."""


LOOK_AGAIN_S = 1.0
"""A batch that is not taken for so long: is the topic still there?"""
ALL_HAVE_SEEN_S = CLUSTER_CHECK_S + LOOK_AGAIN_S + 1.0
"""So long a topic that several logs are told on is missing before one of them makes it again: one who has not seen that
it was gone would put what is on its way before all that was there."""


class OtherBroker(KafkaError):
    """The broker that answers is not the one that was asked who it is. The client does not try again."""

    retriable = False


class KafkaPublisher:
    """Sends a log's rows as batches, one a partition; a stream's events keep their order.

    Nothing is sent to another broker than `cluster` told last: one that comes in its place in the midst of a batch
    would have later events before earlier ones.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        clock: Clock,
        topics: Sequence[str] = (),
        own: Sequence[str] = (),
        shared: Sequence[str] = (),
    ) -> None:
        """`topics` are made again in a broker that was emptied. `own` are those that this log is told on: one that
        was deleted has forgotten all, as the topics of a new broker have. `shared`: other logs are told on these, too.
        """
        self._settings = settings
        self._clock = clock
        self._topics = topics
        self._own = own
        self._shared = shared
        self._producer: AIOKafkaProducer | None = None
        self._cluster: str | None = None
        self._partitions: dict[str, int] = {}
        self._counted_at: str | None = None
        self._whole_at: str | None = None
        """The broker that had all of our topics when it was asked last."""

    async def start(self) -> None:
        """Raises BrokerUnavailable."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.servers,
            acks="all",
            enable_idempotence=self._settings.idempotent,
            max_request_size=LARGEST_REQUEST,
            max_batch_size=512 * 1024,
            request_timeout_ms=10_000,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await put_away(producer)
            raise BrokerUnavailable(f"Kafka at {self._settings.servers}: {error}") from error
        self._ask_each_connection(producer.client)
        self._producer = producer

    def _ask_each_connection(self, client: Any) -> None:
        """Before the first request on a connection: who is at its other end. A broker's memory ends with the process,
        and its connections with both.
        """
        connects = client.ready
        told: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

        async def ready(node: Any, **place: Any) -> bool:
            while await connects(node, **place):
                connection = await client._get_conn(node, **place)
                if connection is None:
                    break
                if connection not in told:
                    try:
                        told[connection] = (await connection.send(MetadataRequest([]))).cluster_id
                    except TimeoutError:
                        connection.close()
                    continue  # meanwhile there may be another
                if self._cluster not in (None, told[connection]):
                    raise OtherBroker(f"{told[connection]} answers, {self._cluster} was expected")
                return True
            return False

        client.ready = ready

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _quit(producer)

    async def cluster(self) -> str:
        """The id of the broker that answers, and that alone is sent to from now on."""
        self._cluster = None
        cluster = await cluster_of((await self._running()).client)
        if self._counted_at not in (None, cluster):
            self._partitions.clear()
            await self.stop()  # what this producer knows of topics is another broker's
        self._counted_at = self._cluster = cluster
        return cluster

    async def memories(self, service: str) -> dict[str, str]:
        """A topic of ours that is missing is made again first."""
        cluster = await self.cluster()
        ids = await self._own_ids((await self._running()).client, new=self._whole_at not in (None, cluster))
        self._whole_at = cluster
        return {topic: f"{cluster} {topic} {ids[topic]}" for topic in self._own}

    async def _own_ids(self, client: Any, new: bool) -> dict[str, str]:
        """`new`: the broker is, so that nobody sends to it who has not seen that."""
        try:
            ids = await topic_ids(client, self._own)
            if missing := sorted(set(self._own) - ids.keys()):
                logger.warning("topics are missing", topics=missing)
                if not new and not ids.keys() >= set(self._shared):
                    await asyncio.sleep(ALL_HAVE_SEEN_S)
                await ensure_topics(self._settings, self._own)
                ids = await topic_ids(client, self._own)
        except (KafkaError, OSError) as error:
            raise BrokerUnavailable(f"no answer about topics: {error}") from error
        if len(ids) < len(self._own):
            raise BrokerUnavailable(f"topics are missing: {', '.join(sorted(set(self._own) - ids.keys()))}")
        return ids

    async def is_empty(self, topic: str) -> bool:
        await ensure_topics(self._settings, self._topics)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=self._settings.servers, request_timeout_ms=10_000)
        try:
            await consumer.start()
            ends = await consumer.end_offsets(consumer.assignment())
            if not ends:
                raise BrokerUnavailable(f"Kafka at {self._settings.servers}: nobody knows of partitions of {topic}")
            return not any(ends.values())
        except (KafkaError, OSError) as error:
            raise BrokerUnavailable(f"Kafka at {self._settings.servers}: {error}") from error
        finally:
            await put_away(consumer)

    async def send_events(self, service: str, rows: Sequence[SequencedRow], known: Mapping[str, int] = NOTHING) -> None:
        await self._send(
            (topic, sequenced.row.stream.encode(), sequenced.row.data, event_headers(service, sequenced))
            for sequenced in rows
            for topic in topics_lacking(sequenced, service, known)
        )

    async def send_states(self, service: str, states: Sequence[Publication]) -> None:
        now = self._clock()
        await self._send((s.topic, s.key.encode(), s.data, state_headers(service, s, now)) for s in states)

    async def _send(self, messages: Iterable[tuple[str, bytes, bytes, Headers]]) -> None:
        sending = asyncio.create_task(self._send_all(messages))
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                while not (await asyncio.wait([sending], timeout=LOOK_AGAIN_S))[0]:
                    await self._check_topics()
                await sending
        except (KafkaError, OSError, TimeoutError) as error:
            # A producer that lost a batch has a gap in its numbers, for which the broker refuses all that follows.
            self._partitions.clear()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await self.stop()
            raise BrokerUnavailable(f"Kafka did not take a batch: {error!r}") from error
        finally:
            sending.cancel()

    async def _check_topics(self) -> None:
        """A client that sends to a topic that is gone tries as long as it may. Raises UnknownTopicOrPartitionError."""
        try:
            ids = await topic_ids((await self._running()).client, self._own)
        except (KafkaError, OSError):
            return  # the broker is away: that is the client's to bear
        if len(ids) < len(self._own):
            raise UnknownTopicOrPartitionError(", ".join(sorted(set(self._own) - ids.keys())))

    async def _send_all(self, messages: Iterable[tuple[str, bytes, bytes, Headers]]) -> None:
        producer = await self._running()
        batches: dict[tuple[str, int], Any] = {}
        sent: list[asyncio.Future[Any]] = []
        for topic, key, value, headers in messages:
            partition = crc32(key) % (self._partitions.get(topic) or await self._count(topic))
            place = (topic, partition)
            batch = batches.get(place)
            if batch is None:
                batch = batches[place] = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await _handed_over(producer, batch, place))
                batch = batches[place] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        for place, batch in batches.items():
            sent.append(await _handed_over(producer, batch, place))
        if sent:
            # Not gathered: canceled, that would cut each answer off from its batch, whose failure nobody would take.
            answered, _ = await asyncio.wait(sent, return_when=asyncio.FIRST_EXCEPTION)
            for answer in answered:
                answer.result()

    async def _count(self, topic: str) -> int:
        partitions = await (await self._running()).partitions_for(topic)
        self._partitions[topic] = len(partitions)
        return len(partitions)

    async def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            await self.start()
        assert self._producer is not None
        return self._producer


async def _handed_over(producer: AIOKafkaProducer, batch: Any, place: tuple[str, int]) -> asyncio.Future[Any]:
    """What to wait for until the broker has the batch. If nobody waits any more, its failure is no news."""
    answer: asyncio.Future[Any] = await producer.send_batch(batch, place[0], partition=place[1])
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())
    return answer


async def _quit(producer: AIOKafkaProducer) -> None:
    """End it at once: what the broker has not taken the relay sends again."""
    accumulator = producer._message_accumulator
    accumulator.fail_all(BrokerUnavailable("given up"))
    for batch in chain.from_iterable(accumulator._batches.values()):
        if batch._drain_waiter.done():
            batch._drain_waiter.exception()  # of one that was to be tried again, for which nobody waits
    await put_away(producer)
