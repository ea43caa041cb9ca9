"""Followers: they read topics whole, without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from .kafka import METADATA_AGE_MS, BrokerUnavailable, KafkaSettings, cluster_of, put_away
from .topic_ids import topic_ids
from .unreadable import read_around

logger = structlog.get_logger(__name__)


async def _has_reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    positions = await asyncio.gather(*(consumer.position(place) for place in ends))
    return all(at >= end for at, end in zip(positions, ends.values(), strict=True))


async def follow(
    settings: KafkaSettings, topics: Sequence[str], absorb: Callable[[Any], None], caught_up: asyncio.Event
) -> None:
    """Read topics whole, from the start and on, without a group.

    Sets `caught_up` at the first empty poll after it has read to the ends it found, which a broker may report too low.
    """
    while True:
        consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=settings.servers,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=settings.fetch_wait_ms,
            max_partition_fetch_bytes=2 * 1024 * 1024,
            metadata_max_age_ms=METADATA_AGE_MS,
        )
        try:
            await consumer.start()
            cluster = await cluster_of(consumer._client)
            ids = await topic_ids(consumer._client, topics)
            checked = asyncio.get_running_loop().time()
            places: dict[TopicPartition, int | None] = {}
            ends = await consumer.end_offsets(consumer.assignment())
            while True:
                try:
                    polled = await consumer.getmany(timeout_ms=200, max_records=2_000)
                    records: Sequence[Any] = [record for several in polled.values() for record in several]
                except KafkaError:
                    raise
                except Exception as error:
                    logger.warning("poll failed", topics=topics, error=repr(error))
                    records = await read_around(consumer, {p: places.get(p) for p in consumer.assignment()})
                for record in records:
                    places[TopicPartition(record.topic, record.partition)] = record.offset + 1
                    absorb(record)
                if not records and await _has_reached(consumer, ends):
                    caught_up.set()
                now = asyncio.get_running_loop().time()
                if now - checked > 2:
                    checked = now
                    if await cluster_of(consumer._client) != cluster:
                        break
                    found = await topic_ids(consumer._client, topics)
                    if any(ids.get(topic, found[topic]) != found[topic] for topic in found):
                        logger.info("topics are new: reading from the start", topics=topics)
                        break
                    ids = found | ids
        except (KafkaError, OSError, BrokerUnavailable) as error:
            logger.warning("following starts over", topics=topics, error=repr(error))
            await asyncio.sleep(0.5)
        finally:
            await put_away(consumer)
