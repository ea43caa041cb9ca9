"""What the console was told: one record of a topic, as far as it will keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from ordermill.contracts.base import BY_TYPE, FAMILIES, Fact, Message, decode
from ordermill.contracts.channel import ChannelMessage
from ordermill.contracts.service import DeadLettered
from ordermill.ids import order_id_of
from ordermill.service.messages import envelope_of

EFFECT_TOPICS = frozenset({"oms.effects.requests", "oms.effects.results"})
"""Carry facts that are on their services' own topics too."""
_LONGEST = 400
"""Characters of a text that the tables index. Ours are shorter; whoever may write to a topic may write longer ones."""
_LARGEST_VERSION = 2**31 - 1


@dataclass(slots=True)
class Told:
    """One message. `message` is None for a type that no picture is made of; `data` for what must not be kept."""

    key: UUID
    message_id: str
    source: str
    topic: str
    type: str
    stream: str
    version: int | None
    actor: str
    correlation_id: str
    causation_id: str
    happened_at: datetime
    data: bytes | None
    message: Message | None
    order_id: str | None = None
    is_state: bool = False
    """The latest of a compacted topic rather than something that happened."""


def told(record: Any, wanted: frozenset[type[Message]], now: datetime) -> Told:
    """Raises Poison where a record makes no sense; whoever it was meant for keeps it as a dead letter."""
    envelope = envelope_of(record.headers)
    headers = envelope.texts
    family = BY_TYPE.get(envelope.type) or FAMILIES.get(envelope.type.rpartition(".")[0])
    personal = family is not None and issubclass(family, ChannelMessage | DeadLettered)
    needed = family in wanted or (family is not None and issubclass(family, ChannelMessage))
    message = decode(envelope.type, record.value or b"") if needed else None
    return Told(
        key=envelope.inbox_key,
        message_id=envelope.id,
        source=envelope.source,
        topic=record.topic,
        type=_kept(envelope.type),
        stream=_kept(headers.get("ce_subject", "")),
        version=_version(headers),
        actor=_kept(headers.get("ce_actor", envelope.source)),
        correlation_id=envelope.correlation_id,
        causation_id=_kept(headers.get("ce_causationid", "")),
        happened_at=envelope.happened_at or now,
        data=None if personal else record.value,
        message=message,
        order_id=_order_of(message, record.value),
        is_state=family is not None and not issubclass(family, Fact) and envelope.source.startswith("/ordermill/"),
    )


def _order_of(message: Message | None, data: bytes | None) -> str | None:
    if isinstance(message, ChannelMessage):
        return order_id_of(message.channel, message.external_id)
    if message is not None:
        return getattr(message, "order_id", None)
    found = orjson.loads(data or b"{}")
    order_id = found.get("order_id") if isinstance(found, dict) else None
    return _kept(order_id) if isinstance(order_id, str) else None


def _kept(text: str) -> str:
    """As the database can hold and index it."""
    return text.replace("\0", "")[:_LONGEST]


def _version(headers: Mapping[str, str]) -> int | None:
    text = headers.get("ce_streamversion", "")
    number = int(text) if text.isdecimal() and len(text) <= 10 else _LARGEST_VERSION + 1
    return number if number <= _LARGEST_VERSION else None
