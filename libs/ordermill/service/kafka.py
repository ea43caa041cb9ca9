"""Kafka: how it is reached, which topics it has, and how its clients are put away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from ordermill.errors import Transient

from .aiokafka_help import help_aiokafka
from .topics import policy_of

help_aiokafka()

METADATA_AGE_MS = 5_000
"""How often a consumer looks whether its topics have more partitions than before."""


class BrokerUnavailable(Transient):
    """Kafka can't be reached or refuses work."""

    code = "kafka.unavailable"


@dataclass(frozen=True)
class KafkaSettings:
    """How to reach the broker and what it can do."""

    servers: str
    partitions: int = 4
    replication: int = 1
    fetch_wait_ms: int = 500
    batch_max: int = 500
    pace_s: float = 0.015
    """From a poll that brought little to the next, at least."""
    session_timeout_ms: int = 10_000
    static_membership: bool = True
    idempotent: bool = True
    security: ssl.SSLContext | None = None


async def ensure_topics(settings: KafkaSettings, topics: Sequence[str]) -> None:
    """Make the topics that are missing; what an operator changed since stays. Raises BrokerUnavailable."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.servers)
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        missing = [
            NewTopic(name, settings.partitions, settings.replication, topic_configs=policy_of(name).configs())
            for name in topics
            if name not in existing
        ]
        if missing:
            answer: Any = await admin.create_topics(missing)
            for name, code, *_ in answer.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise BrokerUnavailable(f"topic {name} can't be made: {for_code(code).__name__}")
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"Kafka at {settings.servers}: {error}") from error
    finally:
        with suppress(Exception):
            await admin.close()


async def cluster_of(client: Any) -> str:
    """The cluster's id, asked anew; it changes when an in-memory broker has forgotten everything."""
    node = client.get_random_node()
    if node is None:
        raise BrokerUnavailable("no broker is known")
    try:
        answer = await client.send(node, MetadataRequest([]))
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"no answer about the cluster: {error}") from error
    return str(getattr(answer, "cluster_id", ""))


async def put_away(client: Any, limit_s: float = 5.0) -> None:
    """Stop one of aiokafka's or FastStream's clients, whatever comes of it.

    While the broker is away their stop may end in a CancelledError, from a task of theirs that they cancel and await.
    Nobody asked us to stop: raised here it would end whoever calls, and silently.
    """
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait([stopping], timeout=limit_s)
    if not stopping.done() or stopping.cancelled() or stopping.exception():
        stopping.cancel()
        inner = getattr(client, "_client", None)
        if inner is not None:
            await asyncio.wait([asyncio.create_task(inner.close())], timeout=limit_s)
