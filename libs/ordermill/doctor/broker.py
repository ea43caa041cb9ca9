"""Kafka: reachable, with all topics, kept as they should be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ordermill.names import SERVICES

from .finding import TIMEOUT_S, Finding

if TYPE_CHECKING:
    from ordermill.service.settings import PlatformSettings


async def kafka(platform: PlatformSettings) -> AsyncIterator[Finding]:
    """Whether the broker answers, which topics are missing, and which are kept otherwise than they should be."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
    from aiokafka.errors import KafkaError

    from ordermill.service.topics import all_topics

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = AIOKafkaAdminClient(bootstrap_servers=platform.kafka, request_timeout_ms=int(TIMEOUT_S * 1_000))
    try:
        await asyncio.wait_for(admin.start(), TIMEOUT_S)
        there = {topic["topic"]: topic for topic in await admin.describe_topics()}
        wanted = all_topics(SERVICES)
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in wanted if topic in there]
        told = await admin.describe_configs(asked) if asked else []
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        text = f"{platform.kafka} does not answer: {error or type(error).__name__}"
        yield Finding("bad", "kafka", text, "start the broker, or correct OMS_KAFKA")
        return
    finally:
        with suppress(Exception):
            await admin.close()
    yield Finding("ok", "kafka", f"{platform.kafka} answers")
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
    yield _kept({topic: len(there[topic]["partitions"]) for topic in wanted}, _settings(told), platform.partitions)


def _settings(answers: list[Any]) -> dict[str, dict[str, str]]:
    """Each topic's settings as the broker tells them; none where it does not."""
    return {
        resource[3]: {name: value for name, value, *_ in resource[4]}
        for answer in answers
        for resource in answer.resources
        if resource[0] == 0
    }


def _kept(partitions: dict[str, int], settings: dict[str, dict[str, str]], expected: int) -> Finding:
    """Whether topics have the partitions that are set, and settings as in the table of `ordermill.service.topics`."""
    from ordermill.service.topics import policy_of

    differing: dict[str, list[str]] = {}
    for topic, count in partitions.items():
        found = [f"partitions {count}, expected {expected}"] if count != expected else []
        if topic not in settings:
            found.append("the broker does not tell its settings")
        else:
            found += [
                f"{name} {settings[topic].get(name, 'not set')}, expected {value}"
                for name, value in policy_of(topic).configs().items()
                if settings[topic].get(name) != value
            ]
        if found:
            differing.setdefault(", ".join(found), []).append(topic)
    if not differing:
        return Finding("ok", "topic settings", "partitions, retention and compaction are as they should be")
    text = "; ".join(f"{', '.join(topics)}: {what}" for what, topics in differing.items())
    remedy = (
        "what somebody changed stays, so if it was you, all is well; else set it with kafka-configs.sh --alter, "
        "and OMS_PARTITIONS to the partitions there are: with more, messages of one key would change their partition"
    )
    return Finding("warn", "topic settings", text, remedy)
