"""Kafka records in and out: CloudEvents 1.0 in binary mode, attributes in `ce_` headers, JSON in the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from asyncpg.pgproto import pgproto

from ordermill.contracts.base import Message
from ordermill.errors import Poison
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.store import Publication
from ordermill.tracing import TRACEPARENT

Headers = list[tuple[str, bytes]]
MAX_MESSAGE_BYTES = 1_000_000
_NUMBER = re.compile(r"[0-9]{1,18}")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


class NotACloudEvent(Poison):
    """A record whose headers don't make a CloudEvent."""

    code = "messages.not-a-cloudevent"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}. Expected CloudEvents 1.0 in Kafka's binary mode: UTF-8 headers ce_specversion 1.0, "
            "ce_id, ce_source and ce_type, JSON in the value."
        )


class Oversized(Poison):
    """A record beyond the size limit."""

    code = "messages.oversized"

    def __init__(self, size: int) -> None:
        super().__init__(f"the message has {size:,} bytes, {MAX_MESSAGE_BYTES:,} are allowed: split it")


class WrongTopic(Poison):
    """A known type on a topic that does not carry it: not everyone may write every topic."""

    code = "messages.wrong-topic"

    def __init__(self, type_name: str, expected: str, found: str) -> None:
        super().__init__(f"{type_name} is expected on {expected}, it came on {found}: publish it there")


class NotReadable(Poison):
    """A record that the Kafka client can't take apart."""

    code = "messages.not-readable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the record can't be taken apart: {reason}. Its whole batch is kept as it came.")


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """Stands in for a record that stops the Kafka client; `value` is the raw record batch that holds it."""

    topic: str
    partition: int
    offset: int
    value: bytes
    reason: str
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message's headers say of it. `happened_at` is None where the sender gave no time."""

    id: str
    source: str
    type: str
    correlation_id: str
    happened_at: datetime | None
    trace: str | None = None
    """A W3C traceparent; None where there is none, or none that is well formed."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """All headers of CloudEvents', by their names on the wire."""

    @property
    def inbox_key(self) -> UUID:
        """The same for each delivery of one message; CloudEvents makes source and id together unique."""
        return inbox_key(self.source, self.id)

    @property
    def stream_version(self) -> int:
        """0 where there is none, or none that is a number."""
        text = self.texts.get("ce_streamversion", "")
        return int(text) if _NUMBER.fullmatch(text) else 0


def inbox_key(source: str, message_id: str) -> UUID:
    return pgproto.UUID(blake2b(f"{source}\0{message_id}".encode(), digest_size=16).digest())


def record_key(record: Any) -> UUID:
    """For a record without usable headers: the same bytes at the same time on the same topic are the same record."""
    digest = blake2b(digest_size=16)
    headers = [part for name, value in record.headers for part in (name.encode(), value or b"")]
    for part in (
        record.topic.encode(),
        str(record.timestamp).encode(),
        record.key or b"",
        record.value or b"",
        *headers,
    ):
        digest.update(len(part).to_bytes(4, "big") + part)
    return UUID(bytes=digest.digest())


def envelope_of(headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """Raises NotACloudEvent."""
    try:
        found = {name: value.decode() for name, value in headers if value is not None and name.startswith("ce_")}
    except UnicodeDecodeError as error:
        name = next(name for name, value in headers if value == error.object)
        raise NotACloudEvent(f"header {name[:40]} is not UTF-8") from None
    try:
        message_id, source, type_name = found["ce_id"], found["ce_source"], found["ce_type"]
    except KeyError as missing:
        raise NotACloudEvent(f"no header {missing.args[0]}") from None
    if (version := found.get("ce_specversion", "")) != "1.0":
        raise NotACloudEvent(f"ce_specversion is {version[:40]!r}")
    if not _PLAIN.fullmatch(message_id) or not _PLAIN.fullmatch(source):
        raise NotACloudEvent("ce_id and ce_source must be 1 to 200 characters, none of them a control character")
    correlation = found.get("ce_correlationid", "")
    if correlation and not _PLAIN.fullmatch(correlation):
        raise NotACloudEvent("ce_correlationid must be at most 200 characters, none of them a control character")
    trace = found.get("ce_traceparent", "")
    if not TRACEPARENT.fullmatch(trace):
        trace = next((v.decode("latin-1") for name, v in headers if name == "traceparent" and v is not None), "")
    happened_at = _time(found.get("ce_time"))
    known = trace if TRACEPARENT.fullmatch(trace) else None
    return Envelope(message_id, source, type_name, correlation or message_id, happened_at, known, found)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise NotACloudEvent("ce_time is not an RFC 3339 time") from None
    if parsed.tzinfo is None:
        raise NotACloudEvent("ce_time has no offset")
    try:
        return parsed.astimezone(UTC)
    except OverflowError:
        raise NotACloudEvent("ce_time is no moment in UTC") from None


_FIXED: Headers = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]


def event_headers(service: str, sequenced: SequencedRow) -> Headers:
    """The headers of a fact from a log; its id is the event's own, wherever and however often it is published."""
    row = sequenced.row
    # CloudEvents' distributed tracing extension asks that both say the same where a message goes from source to sink.
    trace = () if row.trace is None else (("ce_traceparent", row.trace.encode()), ("traceparent", row.trace.encode()))
    return [
        *_FIXED,
        ("ce_id", str(row.event_id).encode()),
        ("ce_source", f"/ordermill/{service}".encode()),
        ("ce_type", row.type.encode()),
        ("ce_time", row.happened_at.isoformat().encode()),
        ("ce_subject", row.stream.encode()),
        ("ce_correlationid", row.correlation_id.encode()),
        ("ce_causationid", row.causation_id.encode()),
        ("ce_actor", row.actor.encode()),
        ("ce_sequence", b"%d" % sequenced.seq),
        ("ce_streamversion", b"%d" % row.version),
        *trace,
    ]


def state_headers(service: str, state: Publication, at: datetime) -> Headers:
    return [
        *_FIXED,
        ("ce_id", f"{state.key}@{state.revision}".encode()),
        ("ce_source", f"/ordermill/{service}".encode()),
        ("ce_type", state.type.encode()),
        ("ce_time", at.isoformat().encode()),
        ("ce_subject", state.key.encode()),
    ]


def outside_headers(message: Message, source: str, message_id: str, at: datetime) -> Headers:
    """For what a channel, a carrier or a location publishes."""
    return [
        *_FIXED,
        ("ce_id", message_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", message.type.encode()),
        ("ce_time", at.isoformat().encode()),
    ]
