"""Reading around records that stop a client: they come out as such, and their neighbors as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError
from aiokafka.protocol.fetch import FetchRequest

from .messages import UnreadableRecord
from .topics import LARGEST_REQUEST

logger = structlog.get_logger(__name__)


async def read_around(consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int | None]) -> Sequence[Any]:
    """After a poll that failed: some records from each of `starts`, an UnreadableRecord for what stops the client.

    A header name that is not UTF-8 is enough to stop it, and would at every poll. Raises KafkaError.
    """
    for place, start in starts.items():
        if start is None:
            await consumer.seek_to_beginning(place)
        else:
            consumer.seek(place, start)
    found = await asyncio.gather(*(_read_singly(consumer, place) for place in starts))
    return [record for records in found for record in records]


async def _read_singly(consumer: AIOKafkaConsumer, place: TopicPartition, limit: int = 500) -> list[Any]:
    records: list[Any] = []
    try:
        while len(records) < limit and (polled := await consumer.getmany(place, timeout_ms=1_000, max_records=1)):
            records += polled[place]
    except ConsumerStoppedError:
        raise
    except Exception as error:
        offset = await consumer.position(place)
        batch = await _raw_batch(consumer, place, offset)
        if batch:  # else it was not the record that failed
            consumer.seek(place, offset + 1)
            records.append(UnreadableRecord(*place, offset, batch, type(error).__name__))
            logger.warning("a record is not readable", topic=place.topic, partition=place.partition, offset=offset)
    return records


async def _raw_batch(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> bytes:
    """The record batch that holds this offset, as the broker keeps it."""
    client = consumer._client
    wanted = [(place.topic, [(place.partition, offset, LARGEST_REQUEST)])]
    answer = await client.send(
        client.cluster.leader_for_partition(place), FetchRequest(100, 1, LARGEST_REQUEST, 0, wanted)
    )
    batches = bytes(answer.topics[0][1][0][-1] or b"")
    before_length = 12  # base offset and length itself
    return batches[: before_length + int.from_bytes(batches[8:before_length], "big")]
