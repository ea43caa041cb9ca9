"""Facts that every service can tell: what it could not handle, what became of that, and how far its log is closed."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from .base import Fact
from .fields import Id, Instant, Part, Text

DLQ_TOPIC = "oms.{service}.dlq"
CHECKPOINTS_TOPIC = "oms.log.checkpoints"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""In hexadecimal."""
Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{2,200}={0,2}$")]
Number = Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)]
"""Counts from 1."""


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


class CheckpointMade(Fact):
    """All events of a log up to `last` are closed, those from `first` on under one root: whoever keeps this elsewhere
    can tell if one of them is changed, moved or taken away.

    Signed are these lines, each with a line feed: "ordermill checkpoint", service, number, first, last, root,
    previous, and made_at in microseconds since 1970. `previous` is the SHA-256 of the text before, zeros at first.
    """

    type: ClassVar[str] = "oms.service.checkpoint-made.v1"
    topic: ClassVar[str] = CHECKPOINTS_TOPIC

    service: Id
    number: Number
    first: Number
    last: Number
    root: Sha256
    previous: Sha256
    """The digest of the checkpoint before; zeros before the first."""
    made_at: Instant
    key: Base64
    """The public key, Ed25519."""
    signature: Base64
