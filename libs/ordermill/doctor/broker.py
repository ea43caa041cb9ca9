"""Kafka: reachable, with all topics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ordermill.names import SERVICES

from .finding import TIMEOUT_S, Finding

if TYPE_CHECKING:
    from ordermill.service.settings import PlatformSettings


async def kafka(platform: PlatformSettings) -> AsyncIterator[Finding]:
    """Whether the broker answers, how many partitions its topics have, and which are missing."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    from ordermill.service.topics import all_topics

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = AIOKafkaAdminClient(bootstrap_servers=platform.kafka, request_timeout_ms=int(TIMEOUT_S * 1_000))
    try:
        await asyncio.wait_for(admin.start(), TIMEOUT_S)
        there = {topic["topic"]: topic for topic in await admin.describe_topics()}
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        text = f"{platform.kafka} does not answer: {error or type(error).__name__}"
        yield Finding("bad", "kafka", text, "start the broker, or correct OMS_KAFKA")
        return
    finally:
        with suppress(Exception):
            await admin.close()
    yield Finding("ok", "kafka", f"{platform.kafka} answers")
    wanted = all_topics(SERVICES)
    if missing := [topic for topic in wanted if topic not in there]:
        text, remedy = f"missing: {', '.join(missing)}", "a service makes them when it starts: start one"
        yield Finding("bad", "topics", text, remedy)
        return
    leaderless = [
        topic for topic in wanted if any(part.get("leader", 0) < 0 for part in there[topic].get("partitions", ()))
    ]
    if leaderless:
        text = f"partitions without a leader: {', '.join(leaderless)}"
        yield Finding("bad", "topics", text, "start the brokers that hold them")
        return
    yield Finding("ok", "topics", f"all {len(wanted)} are there")
