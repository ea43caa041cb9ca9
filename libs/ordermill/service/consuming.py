"""Consuming in a group: FastStream subscribers that hand a poll's records over untouched.

FastStream's own parser would decode every header as UTF-8 and every body as JSON before anyone sees the message; ours
looks at nothing, so one binary header stops nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain
from math import inf
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faststream.kafka import KafkaBroker, Topic
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.middlewares import AckPolicy

from .aiokafka_help import say_goodbye_at_stop
from .kafka import METADATA_AGE_MS, BrokerUnavailable, KafkaSettings, cluster_of, put_away
from .lag import lag_of
from .topic_ids import topic_ids
from .unreadable import read_around

logger = structlog.get_logger(__name__)

LONGEST_PACE_S = 0.15
LONGEST_HOLD_S = 0.5
"""So long at most a worker with a batch at hand does not fetch."""
EMPTY_POLL_MS = 200
COMMIT_EVERY_S = 0.5
"""How often a worker commits how far it is. Whoever follows it after a crash is told again what came since."""
COMMIT_LIMIT_S = 10.0
LAST_COMMIT_LIMIT_S = 2.0
"""Who stops while the broker is away does not wait long for it."""
LAST_BATCH_LIMIT_S = 5.0
"""Nor for a batch that waits for the database: it is not committed, so somebody is told it again."""
TOPICS_CHECK_S = 1.0
"""How often it is looked whether a topic is another one now."""
OUT_OF_GROUP_S = 5.0
"""A group is shared out anew whenever a member comes or goes: so long that is no trouble."""
LONGEST_HEARTBEAT_MS = 3_000
"""By its next heartbeat's answer a member hears that partitions are shared out anew; till then the others wait."""


class Subscriptions:
    """A service's batch subscribers, one a worker; partitions are shared out among them."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        instance: str,
        topics: Sequence[str],
        workers: int,
        handle: Callable[[Sequence[Any]], Awaitable[None]],
    ) -> None:
        self._handle = handle
        self._settings = settings
        self._topics = topics
        self._strategies: list[type[RoundRobinPartitionAssignor]] = [RoundRobinPartitionAssignor]
        if settings.static_membership:
            self._strategies.insert(0, type("CountedRoundRobin", (RoundRobinPartitionAssignor,), {}))
        self._broker = KafkaBroker(
            settings.servers,
            apply_types=False,
            logger=logging.getLogger("ordermill.kafka"),
            metadata_max_age_ms=METADATA_AGE_MS,
        )
        self._workers = [self._subscribe(settings, group, f"{group}-{instance}-{n}", topics) for n in range(workers)]

    async def start(self) -> None:
        """Raises BrokerUnavailable."""
        try:
            if self._settings.static_membership:
                # A broker leaves a group as it was for a member that comes back under its name, so without partitions
                # that were added meanwhile; unless members now agree on a strategy of another name.
                self._strategies[0].name = f"roundrobin of {await _count_partitions(self._settings, self._topics)}"
            await self._broker.start()
        except (KafkaError, OSError) as error:
            raise BrokerUnavailable(f"Kafka: {error}") from error

    async def lag(self) -> dict[str, tuple[int, float]]:
        """By topic: messages of this instance's partitions that are not settled; the age of the oldest, in seconds."""
        found: dict[str, tuple[int, float]] = {}
        for worker in self._workers:
            for topic, (events, seconds) in (await lag_of(worker.consumer, worker.polled, worker.last)).items():
                before = found.get(topic, (0, 0.0))
                found[topic] = (before[0] + events, max(before[1], seconds))
        return found

    async def watch(self, tell: Callable[[bool], None], every_s: float = 0.25) -> None:
        """Until it is stopped, tell whether its workers have what is theirs, be it no partition.

        Not so before all have come in, and if one is out of its group for longer than a moment: the broker is away, or
        does not come to share out. Topics that are not there are looked for meanwhile.
        """
        now = asyncio.get_running_loop().time
        there = -inf
        reading_anew = asyncio.create_task(self._read_anew())
        try:
            while not any(worker.stopping for worker in self._workers):
                for worker in self._workers:
                    worker.look_for(self._topics)
                if all(worker.in_group() for worker in self._workers):
                    there = now()
                tell(now() - there < OUT_OF_GROUP_S)
                await asyncio.sleep(every_s)
        finally:
            reading_anew.cancel()

    async def _read_anew(self) -> None:
        while True:
            for worker in self._workers:
                with suppress(KafkaError, OSError, ConsumerStoppedError):
                    await worker.read_anew(self._topics)
            await asyncio.sleep(TOPICS_CHECK_S)

    async def stop(self) -> None:
        """Finish the batches at hand, commit their offsets, leave."""
        for worker in self._workers:
            worker.stopping = True
        finishing = [asyncio.create_task(worker.finish(LAST_COMMIT_LIMIT_S)) for worker in self._workers]
        _, unfinished = await asyncio.wait(finishing, timeout=LAST_BATCH_LIMIT_S + LAST_COMMIT_LIMIT_S)
        for task in unfinished:
            task.cancel()
        for worker in self._workers:
            if worker.consumer is not None:
                say_goodbye_at_stop(worker.consumer)
        await put_away(self._broker)

    def _subscribe(self, settings: KafkaSettings, group: str, member: str, topics: Sequence[str]) -> _Worker:
        worker = _Worker(self._handle)
        subscriber = self._broker.subscriber(
            *(Topic(name, declare=False) for name in topics),  # `ensure_topics` makes them, as their table says
            batch=True,
            group_id=f"oms.{group}",
            group_instance_id=member if settings.static_membership else None,
            partition_assignment_strategy=self._strategies,
            max_records=settings.batch_max,
            fetch_max_wait_ms=settings.fetch_wait_ms,
            auto_offset_reset="earliest",
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(LONGEST_HEARTBEAT_MS, settings.session_timeout_ms // 3),
            max_partition_fetch_bytes=2 * 1024 * 1024,
            ack_policy=AckPolicy.MANUAL,
            listener=worker,
            parser=_untouched,
            decoder=_records,
        )
        subscriber(worker.work)
        enough = settings.batch_max // 2

        async def poll(consumer: AIOKafkaConsumer) -> Sequence[Any]:
            """As FastStream does it, but that one sleeps after a poll that found nothing, whatever comes meanwhile."""
            found = await consumer.getmany(timeout_ms=EMPTY_POLL_MS, max_records=settings.batch_max)
            return tuple(chain.from_iterable(found.values()))

        async def patient_poll(consumer: AIOKafkaConsumer) -> Any:
            """FastStream sleeps five seconds after a Kafka error; a broker that is back is polled sooner."""
            worker.consumer = consumer
            now = asyncio.get_running_loop().time
            if len(worker.last) < enough:
                # A moment's patience makes one batch, and one transaction, of several. The longer a batch takes, the
                # busier the machine, and the more a fuller one saves.
                rest = max(settings.pace_s, min(LONGEST_PACE_S, worker.took_s))
                await asyncio.sleep(max(0.0, worker.polled_at + worker.took_s + rest - now()))
                worker.fetch()
            worker.polled_at = now()
            while True:
                if worker.stopping:
                    await asyncio.sleep(0.05)
                    return ()
                try:
                    if worker.polled:
                        worker.rewind()
                        await asyncio.sleep(0.3)
                    worker.polled = worker.last = await poll(consumer)
                    if 0 < len(worker.polled) < enough:
                        worker.fetch_later()
                    if not worker.polled:
                        await worker.commit_if_due()
                    return worker.polled
                except ConsumerStoppedError:
                    raise
                except Exception as error:
                    logger.warning("poll failed", group=group, error=repr(error))
                    await asyncio.sleep(0.3)
                    await worker.finish()
                    with suppress(KafkaError):
                        # What the poll had taken from other partitions is gone with it: back to what is settled.
                        settled = {place: await consumer.committed(place) for place in consumer.assignment()}
                        worker.polled = await read_around(consumer, settled)
                        if worker.polled:
                            return worker.polled

        setattr(subscriber, "get_msg", patient_poll)  # noqa: B010
        return worker


async def _count_partitions(settings: KafkaSettings, topics: Sequence[str]) -> str:
    """How many partitions each topic has, as a digest. Raises KafkaError, OSError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.servers)
    try:
        await admin.start()
        found = await admin.describe_topics(list(topics))
    finally:
        with suppress(Exception):
            await admin.close()
    counts = sorted((topic["topic"], len(topic["partitions"])) for topic in found)
    return blake2b(str(counts).encode(), digest_size=8).hexdigest()


async def _untouched(message: Any, original: Any) -> KafkaMessage:
    """A poll's records as they are: no header and no body is looked at."""
    return KafkaMessage(raw_message=message, body=b"", consumer=FAKE_CONSUMER)


async def _records(message: KafkaMessage, original: Any) -> Any:
    return message.raw_message


class _Worker(ConsumerRebalanceListener):
    """One consumer: handles a poll at a time, and commits the offsets of every partition it touched: now and then, and
    before it gives partitions away.
    """

    def __init__(self, handle: Callable[[Sequence[Any]], Awaitable[None]]) -> None:
        self._handle = handle
        self._busy = asyncio.Lock()
        self._handled: dict[TopicPartition, int] = {}
        """By partition, the offset after the last record that is handled and not committed."""
        self._committed_at = 0.0
        self._cluster: str | None = None
        self._ids: dict[str, str] = {}
        """By topic, what the broker calls the one that is read."""
        self._fetching: asyncio.TimerHandle | None = None
        """When it is to fetch on by itself."""
        self.consumer: AIOKafkaConsumer | None = None
        self.stopping = False
        self.last: Sequence[Any] = ()
        self.polled_at = 0.0
        self.took_s = 0.0
        """How long the last poll's records took."""
        self.polled: Sequence[Any] = ()
        """The last poll's records, as long as they are not settled."""

    def in_group(self) -> bool:
        """Whether it is a member that has been told its partitions, and knows who keeps the group."""
        coordinator: Any = getattr(self.consumer, "_coordinator", None)
        if coordinator is None or coordinator.coordinator_id is None:
            return False
        subscription = coordinator._subscription
        return subscription.subscription is not None and not subscription.reassignment_in_progress

    def look_for(self, topics: Sequence[str]) -> None:
        """A member shares out what it knows to be there. A broker that lost all has its topics one after another."""
        client = getattr(self.consumer, "_client", None)
        if client is not None and not all(map(client.cluster.partitions_for_topic, topics)):
            client.force_metadata_update()

    async def read_anew(self, topics: Sequence[str]) -> None:
        """From their start, those topics that were deleted and made again: how far those before were read says nothing
        of these. Raises KafkaError, OSError.
        """
        client = getattr(self.consumer, "_client", None)
        if client is None or self.consumer is None:
            return
        ids = await topic_ids(client, topics)
        self._ids = known = ids | self._ids
        ours = self.consumer.assignment()
        if places := [place for place in ours if place.topic in ids and ids[place.topic] != known[place.topic]]:
            logger.info("topics are new: reading from the start", topics=sorted({place.topic for place in places}))
            async with self._busy:
                await self.consumer.seek_to_beginning(*places)
                self._handled |= {place: await self.consumer.position(place) for place in places}
            self._ids |= {place.topic: ids[place.topic] for place in places}

    def fetch_later(self) -> None:
        """A client fetches ahead, once: what it found now it would hand out after the rest, and fetch only then what
        came meanwhile, for the batch after that. Held back for a moment only, since lag is what fetches tell of.
        """
        if self.consumer is not None:
            self.consumer.pause(*self.consumer.assignment())
            self._fetching = asyncio.get_running_loop().call_later(LONGEST_HOLD_S, self.fetch)

    def fetch(self) -> None:
        if self._fetching is not None and self.consumer is not None:
            self._fetching.cancel()
            self._fetching = None
            self.consumer.resume(*self.consumer.paused())

    def rewind(self) -> None:
        """FastStream drops a batch whose handler raised; go back to its start rather than lose it."""
        for record in reversed(self.polled):
            place = TopicPartition(record.topic, record.partition)
            if self.consumer is not None and place in self.consumer.assignment():
                self.consumer.seek(place, record.offset)
        self.polled = ()

    async def work(self, records: Sequence[Any]) -> None:
        async with self._busy:
            began = asyncio.get_running_loop().time()
            await self._handle(records)
            self.took_s = asyncio.get_running_loop().time() - began
            self.polled = ()
            self._handled |= {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records}
        await self.commit_if_due()

    async def commit_if_due(self) -> None:
        if asyncio.get_running_loop().time() - self._committed_at >= COMMIT_EVERY_S:
            await self.finish()

    async def finish(self, limit_s: float = COMMIT_LIMIT_S) -> None:
        """Wait until no batch is at hand, then commit."""
        async with self._busy:
            self._committed_at = asyncio.get_running_loop().time()
            ours = self.consumer.assignment() if self.consumer is not None else ()
            offsets = {place: offset for place, offset in self._handled.items() if place in ours}
            self._handled.clear()
            if self.consumer is None or not offsets:
                return
            try:
                # A rejoin waits until no batch is at hand, and a commit may wait for the rejoin: neither for ever.
                async with asyncio.timeout(limit_s):
                    await self.consumer.commit(offsets)
            except (KafkaError, TimeoutError) as error:
                # Another owner will see these messages again; its inbox knows them.
                logger.info("offsets not committed", error=repr(error))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self.finish()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """After a broker forgot everything, places remembered from before mean nothing: read from the start."""
        self._handled.clear()
        if self.consumer is None:
            return
        with suppress(BrokerUnavailable):
            cluster = await cluster_of(self.consumer._client)
            if self._cluster not in (None, cluster) and assigned:
                logger.info("the broker is new: reading from the start")
                await self.consumer.seek_to_beginning(*assigned)
                self._ids.clear()
            self._cluster = cluster
        with suppress(KafkaError, OSError):
            self._ids = await topic_ids(self.consumer._client, {place.topic for place in assigned}) | self._ids
