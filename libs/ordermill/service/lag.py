"""How far a consumer is behind."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from time import time
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError


async def lag_of(
    consumer: AIOKafkaConsumer | None, at_hand: Sequence[Any], last: Sequence[Any]
) -> dict[str, tuple[int, float]]:
    """By topic: messages not settled, and the age in seconds of the oldest polled last, while any is not settled.

    `at_hand`: records polled and not settled; `last`: those of the last poll, settled or not. Counted against the high
    watermark that came with the last fetch, not the end offset that a broker answers with: the embedded one's leaves
    out most of the last batch.
    """
    if consumer is None:
        return {}
    first: dict[TopicPartition, int] = {}
    for record in at_hand:
        first.setdefault(TopicPartition(record.topic, record.partition), record.offset)
    events: dict[str, int] = {}
    for place in consumer.assignment():
        with suppress(KafkaError):  # taken away this moment
            end = consumer.highwater(place)
            if end is not None:
                settled = first[place] if place in first else await consumer.position(place)
                events[place.topic] = events.get(place.topic, 0) + max(0, end - settled)
    now = time() * 1_000
    oldest: dict[str, float] = {}
    for record in last:
        if record.timestamp > 0 and events.get(record.topic):
            oldest[record.topic] = min(record.timestamp, oldest.get(record.topic, now))
    return {topic: (count, (now - oldest.get(topic, now)) / 1_000) for topic, count in events.items()}
