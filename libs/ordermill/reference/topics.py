"""`docs/reference/topics.md`: who writes and who reads each topic, and how the broker keeps it."""

from __future__ import annotations

import os
from base64 import b64encode
from collections import defaultdict
from unittest.mock import patch

from ordermill.clock import system_clock
from ordermill.contracts.base import Fact
from ordermill.names import SERVICES
from ordermill.service.topics import all_topics, policy_of

from . import WRITTEN, table
from .events import messages

HEAD = f"""# Topics

{WRITTEN}
A service makes the topics that are missing when it starts, with `OMS_PARTITIONS` partitions and `OMS_REPLICATION`
copies. The key is the stream's id, so what happens to one order stays in order. Why each is kept so long:
[decision 21](../decisions/0021-how-topics-are-kept.md). The console reads all of them, but those of effects. What each
message holds: [events](events.md).
"""
OUTSIDE = {
    "oms.channel.orders": "channels",
    "oms.carrier.events": "carriers",
    "oms.location.stock": "locations",
}


def reference() -> str:
    """The whole page."""
    carried: dict[str, list[str]] = defaultdict(list)
    writers: dict[str, set[str]] = defaultdict(set)
    for cls in messages():
        for topic in (cls.topic, *cls.also_on):
            if "{" in topic:
                continue
            carried[topic].append(cls.type)
            writers[topic].add(OUTSIDE.get(topic) or (_owner(cls.type)))
            if issubclass(cls, Fact) and topic in OUTSIDE:
                writers[topic].add(_owner(cls.type))
    letters = [cls.type for cls in messages() if "{service}" in cls.topic]
    for service in SERVICES:
        carried[f"oms.{service}.dlq"] = letters
        writers[f"oms.{service}.dlq"] = {service}
    readers = _readers()
    rows = [
        (
            f"`{topic}`",
            ", ".join(sorted(writers[topic])),
            ", ".join(sorted(readers[topic])) or "whoever wants to",
            policy_of(topic).kept,
            "<br>".join(f"`{name}`" for name in carried[topic]),
        )
        for topic in all_topics(SERVICES)
    ]
    return f"{HEAD}\n{table(('topic', 'written by', 'read by', 'keeps', 'types'), rows)}"


def _owner(type_name: str) -> str:
    owner = type_name.split(".")[1]
    return "every service" if owner == "service" else owner


def _readers() -> dict[str, set[str]]:
    from ordermill.installation import builder
    from ordermill.service.settings import PlatformSettings

    nobody = b64encode(bytes(32)).decode()
    platform = PlatformSettings(
        kafka="nowhere:9092", api_token=nobody, keyring_url="postgresql://nowhere/none", master_key=nobody,
        link_secret=nobody,
    )  # fmt: skip
    found: dict[str, set[str]] = defaultdict(set)
    elsewhere = {"OMS_PAYMENTS_URL": "https://nowhere", "OMS_FULFILLMENT_CARRIERS_URL": "https://nowhere"}
    with patch.dict(os.environ, elsewhere):
        services = {name: builder(name)(platform, system_clock) for name in SERVICES}
    for name, service in services.items():
        for topic in (*service.topics, *(followed.message.topic for followed in service.follows)):
            found[topic].add(name)
    return found
