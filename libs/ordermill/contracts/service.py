"""Facts that every service can tell: what it could not handle, and what became of that."""

from __future__ import annotations

from typing import ClassVar

from .base import Fact
from .fields import Id, Part, Text

DLQ_TOPIC = "oms.{service}.dlq"


class Header(Part):
    name: str
    value_base64: str


class DeadLettered(Fact):
    """A message that could not be handled, whole, and why. Bytes are base64; large bodies rest beside the log."""

    type: ClassVar[str] = "oms.service.dead-lettered.v1"
    topic: ClassVar[str] = DLQ_TOPIC

    letter_id: Id
    source_topic: str
    partition: int
    offset: int
    message_type: str
    message_id: str
    code: str
    reason: str
    attempts: int
    key_base64: str | None
    headers: tuple[Header, ...]
    size: int
    sha256: str
    value_base64: str | None
    """None where the body is too large for an event; `oms dlq show` has it."""
    headers_sha256: str | None = None
    """Set where key and headers are too large for an event, and left out of it; `oms dlq show` has them."""


class LetterRedriven(Fact):
    """Handled after all, in the transaction that holds this event."""

    type: ClassVar[str] = "oms.service.letter-redriven.v1"
    topic: ClassVar[str] = DLQ_TOPIC
    letter_id: Id


class LetterDropped(Fact):
    """A person decided that it needs no handling."""

    type: ClassVar[str] = "oms.service.letter-dropped.v1"
    topic: ClassVar[str] = DLQ_TOPIC
    letter_id: Id
    note: Text = ""
