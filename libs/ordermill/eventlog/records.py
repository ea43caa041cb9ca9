"""What a log holds: one row an event, and the hash that chains a stream's rows.

The hash can be checked with nothing but SQL and SHA-256:

    sha256(previous hash of the stream, 32 zero bytes before its first event
           ‖ "stream\\nversion\\nevent id\\ntype\\ncorrelation id\\ncausation id\\nactor\\nhappened\\nrecorded\\n"
             in UTF-8
           ‖ data)

with both instants in whole microseconds since 1970-01-01T00:00Z. None of the fields before data holds a newline.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from ordermill.errors import Refused

GENESIS = bytes(32)
"""The hash before a stream's first event."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class NotAsRecorded(Refused):
    """An event's hash does not follow from its content and the event before."""

    code = "eventlog.not-as-recorded"

    def __init__(self, stream: str, version: int) -> None:
        super().__init__(f"{stream}: version {version} is not as it was recorded, so nothing is shown. See: oms verify")


def micros(instant: datetime) -> int:
    """Whole microseconds since 1970."""
    return (instant - EPOCH) // _MICROSECOND


class Row(NamedTuple):
    """One event as it is stored. `version` counts from 1 within its stream."""

    stream: str
    version: int
    event_id: UUID
    type: str
    data: bytes
    correlation_id: str
    causation_id: str
    actor: str
    happened_at: datetime
    recorded_at: datetime
    hash: bytes
    trace: str | None = None
    """The traceparent of the span that recorded it. Telemetry: no hash covers it."""


class SequencedRow(NamedTuple):
    """An event and its sequence number, dense from 1, by which all readers go."""

    seq: int
    row: Row


def chain(
    previous: bytes,
    stream: str,
    version: int,
    event_id: UUID,
    type_name: str,
    data: bytes,
    correlation_id: str,
    causation_id: str,
    actor: str,
    happened_at: datetime,
    recorded_at: datetime,
) -> bytes:
    """The hash of an event that follows one with hash `previous` in its stream."""
    head = (
        f"{stream}\n{version}\n{event_id}\n{type_name}\n{correlation_id}\n{causation_id}\n{actor}\n"
        f"{micros(happened_at)}\n{micros(recorded_at)}\n"
    )
    return sha256(previous + head.encode() + data).digest()


def chained(previous: bytes, row: Row) -> bytes:
    """The hash that `row` should have after `previous`."""
    return chain(
        previous, row.stream, row.version, row.event_id, row.type, row.data,
        row.correlation_id, row.causation_id, row.actor, row.happened_at, row.recorded_at,
    )  # fmt: skip


def check_chain(rows: Iterable[Row]) -> None:
    """`rows`: a stream from its first event on. Raises NotAsRecorded."""
    previous = GENESIS
    for row in rows:
        if chained(previous, row) != row.hash:
            raise NotAsRecorded(row.stream, row.version)
        previous = row.hash
