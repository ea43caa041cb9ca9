"""AsyncAPI 3.0 of each service: its topics, what it sends and receives on them, and how they are made in Kafka."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from ordermill.contracts.base import Fact, Message
from ordermill.service.declare import Service
from ordermill.service.settings import PlatformSettings
from ordermill.service.topics import policy_of

from .messages import all_types, comes_from_outside, old_versions

Json = dict[str, Any]

ABOUT = {
    "oms.effects.requests": "Effects that were asked for, over all services: labels to buy, money to send back.",
    "oms.effects.results": "What became of effects, over all services.",
    "oms.inventory.availability": "The latest availability of each SKU.",
    "oms.inventory.stock": "Facts of inventory about one SKU.",
    "oms.log.checkpoints": "What closes each log's events from time to time, signed: to be kept elsewhere.",
    "oms.orders.status": "The latest status of each order, as its customer is told it.",
}
KEYS = {
    "channel": "The channel's own id of the order, or anything that keeps an order's messages in their order.",
    "carrier": "The tracking number, or anything that keeps a parcel's scans together.",
    "location": "The SKU, or anything that keeps its movements in their order.",
}
THE_STREAM = "The stream's id; messages of one stream keep their order."


def asyncapi(service: Service, examples: dict[str, Json]) -> Json:
    """The service's document. `examples`: real messages by type, `headers` and `data`."""
    types = all_types()
    sent = [
        (topic.format(service=service.name), each)
        for each in types
        if each.type.split(".")[1] in (service.name, "service")
        for topic in (each.topic, *each.also_on)
    ]
    received = [
        (message.topic, message)
        for message in (*(each.message for each in service.consumes), *(each.message for each in service.follows))
    ]
    told = {each.type for _, each in (*sent, *received) if comes_from_outside(each.type)} | {e.type for _, e in sent}
    messages = [
        (name, each)
        for each in sorted({each for _, each in (*sent, *received)}, key=lambda each: each.type)
        for name in (*old_versions(each), each.type)
    ]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"Ordermill {service.name}",
            "version": "1.0.0",
            "description": _first_line(import_module(f"ordermill.contracts.{service.name}").__doc__),
        },
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "The installation's broker.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "OMS_KAFKA"}},
            }
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic, [*sent, *received]) for topic in _topics([*sent, *received])},
        "operations": {
            **_operations("send", "Send", sent),
            **_operations("receive", "Receive", received),
        },
        "components": {
            "messages": {
                name: _message(name, each, examples.get(name) if name in told else None) for name, each in messages
            }
        },
    }


Carried = Sequence[tuple[str, type[Message]]]


def _topics(carried: Carried) -> list[str]:
    return sorted({topic for topic, _ in carried})


def _names(topic: str, carried: Carried) -> Iterable[str]:
    for each in sorted({each for where, each in carried if where == topic}, key=lambda each: each.type):
        yield from (*old_versions(each), each.type)


def _channel(topic: str, carried: Carried) -> Json:
    configuration = policy_of(topic).configs()
    about = ABOUT.get(topic) or (
        f"What {topic.split('.')[1]} could not handle, whole, and what became of it."
        if topic.endswith(".dlq")
        else _first_line(import_module(f"ordermill.contracts.{topic.split('.')[1]}").__doc__)
    )
    return {
        "address": topic,
        "description": about,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _names(topic, carried)},
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": PlatformSettings.model_fields["partitions"].default,
                "replicas": PlatformSettings.model_fields["replication"].default,
                "topicConfiguration": _as_binding(configuration),
                "bindingVersion": "0.5.0",
            }
        },
    }


def _as_binding(configuration: dict[str, str]) -> Json:
    """The five settings that AsyncAPI's Kafka binding knows, in its types."""
    known: Json = {}
    for name, value in configuration.items():
        if name == "cleanup.policy":
            known[name] = value.split(",")
        elif name in ("retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes"):
            known[name] = int(value)
    return known


def _operations(action: str, word: str, carried: Carried) -> Json:
    return {
        f"{action}.{topic}": {
            "action": action,
            "channel": _channel_ref(topic),
            "summary": f"{word} on {topic}",
            "messages": [{"$ref": f"{_channel_ref(topic)['$ref']}/messages/{name}"} for name in _names(topic, carried)],
        }
        for topic in _topics(carried)
    }


def _channel_ref(topic: str) -> Json:
    return {"$ref": f"#/channels/{topic}"}


def _message(name: str, each: type[Message], example: Json | None) -> Json:
    kind = "outside" if comes_from_outside(name) else "fact" if issubclass(each, Fact) else "state"
    message: Json = {
        "name": name,
        "title": each.__name__,
        "summary": _first_line(each.__doc__),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "allOf": [{"$ref": f"../headers/{kind}.json"}],
            "properties": {"ce_type": {"const": name}},
        },
        "payload": {"$ref": f"../messages/{name}.json"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": KEYS.get(name.split(".")[1], THE_STREAM)},
                "bindingVersion": "0.5.0",
            }
        },
    }
    if example is not None:
        message["examples"] = [{"headers": example["headers"], "payload": example["data"]}]
    return message


def _first_line(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\n\n")[0].replace("\n", " ")
