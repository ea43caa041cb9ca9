"""One dead letter as the machine room lists it: which message, why it could not be handled, what became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from ordermill.contracts.service import DeadLettered, LetterDropped, LetterRedriven
from ordermill.ids import made_at
from services.console.picture import Document, Picture
from services.console.told import Told


class Letter(Document):
    """Everything but its headers and its body: those are asked of the service that keeps it."""

    letter_id: str = ""
    service: str = ""
    status: Literal["", "waiting", "redriven", "dropped"] = ""
    code: str = ""
    reason: str = ""
    source_topic: str = ""
    partition: int = -1
    offset: int = -1
    message_type: str = ""
    attempts: int = 0
    size: int = 0
    kept_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str = ""
    note: str = ""

    @property
    def turn(self) -> tuple[datetime, str, int, int, str]:
        """Those with a smaller one come first: messages of one key must keep their order, also if kept together."""
        kept_at = self.kept_at or datetime.max.replace(tzinfo=UTC)
        return kept_at, self.source_topic, self.partition, self.offset, self.letter_id


def keys(item: Told) -> Iterable[str]:
    """`<service>:<letter id>`: the service stands in the topic, `oms.<service>.dlq`."""
    return (f"{item.topic.split('.')[1]}:{getattr(item.message, 'letter_id', '')}",)


def draw(letter: Letter, key: str, item: Told) -> None:
    letter.service, _, letter.letter_id = key.partition(":")
    match item.message:
        case DeadLettered() as kept:
            letter.status = letter.status or "waiting"
            letter.code, letter.reason, letter.source_topic = kept.code, kept.reason, kept.source_topic
            letter.partition, letter.offset = kept.partition, kept.offset
            letter.message_type, letter.attempts, letter.size = kept.message_type, kept.attempts, kept.size
            letter.kept_at = made_at(item.message_id)
        case LetterRedriven() | LetterDropped() as end:
            letter.status = "redriven" if isinstance(end, LetterRedriven) else "dropped"
            letter.ended_at, letter.ended_by = made_at(item.message_id), item.actor
            letter.note = end.note if isinstance(end, LetterDropped) else ""


def columns(letter: Letter) -> Mapping[str, Any]:
    return {name: getattr(letter, name) for name in ("service", "status", "code", "source_topic", "kept_at")}


LETTERS = Picture(
    table="letters",
    document=Letter,
    messages=frozenset({DeadLettered, LetterRedriven, LetterDropped}),
    keys=keys,
    draw=draw,
    columns=columns,
)
