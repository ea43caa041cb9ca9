"""What the product needs of a log's storage. PostgreSQL and memory both give it, and pass the same conformance tests.

A transaction reads all it needs before its first write; that is what keeps the sequence in stream order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

from ordermill.errors import Poison, Transient

from .records import Row, SequencedRow


class VersionConflict(Transient):
    """Another writer appended to one of these streams first. The unit of work is decided again."""

    code = "eventlog.version-conflict"

    def __init__(self, detail: str = "") -> None:
        super().__init__(f"another writer was first: {detail or 'a stream has moved on'}. Decided again.")


NOTHING: Mapping[str, Any] = MappingProxyType({})


class LogUnavailable(Transient):
    """The database can't be reached or refuses work; nothing was written, or what was written is whole."""

    code = "eventlog.unavailable"
    counts = False


class Unstorable(Poison):
    """Something that the database can't hold, however often it is tried: a NUL in a text, a number too large."""

    code = "eventlog.unstorable"

    def __init__(self, detail: str) -> None:
        super().__init__(f"the log can't hold this: {detail}. The sender has to mend it.")


@dataclass(frozen=True, slots=True)
class Timer:
    """A deadline of a stream. Setting it again moves it."""

    stream: str
    name: str
    due_at: datetime
    trace: str | None = None
    """The trace that its decisions go on with: that of the event that set it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to do in the outside world, once: the event that asked for it is the request."""

    effect_id: str
    stream: str
    type: str
    data: bytes
    correlation_id: str
    asked_by: UUID
    """The id of that event: what was asked for anew has the same effect id, and another of these."""
    attempts: int = 0
    lane: str = ""
    """Who is asked: effects of one lane never wait for those of another."""
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folded state, valid only for the code that made it."""

    stream: str
    version: int
    code: str
    state: bytes
    hash: bytes


@dataclass(slots=True)
class Changes:
    """All that one unit of work writes, each kind as one set-based statement."""

    rows: list[Row] = field(default_factory=list)
    inbox: list[UUID] = field(default_factory=list)
    fired: list[Timer] = field(default_factory=list)
    """Timers whose work this is; one that was set anew meanwhile stays."""
    timers: dict[tuple[str, str], Timer | None] = field(default_factory=dict)
    """(stream, name) to the timer to set, or None to clear it."""
    effects: list[Effect] = field(default_factory=list)
    done_effects: list[str] = field(default_factory=list)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """View name to key to JSON document."""
    publications: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """(topic, key) to (type, JSON): latest states to publish."""
    snapshots: list[Snapshot] = field(default_factory=list)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    """SHA-256 to bytes too large for an event."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one look into a log brought."""

    rows: list[Row] = field(default_factory=list)
    """In stream order."""
    snapshots: list[Snapshot] = field(default_factory=list)
    seen: set[UUID] = field(default_factory=set)


class Transaction(Protocol):
    async def look_up(
        self, after: Mapping[str, int], code: Mapping[str, str] = NOTHING, messages: Collection[UUID] = ()
    ) -> Found:
        """The events of each stream beyond the version given, and which of `messages` were handled before.

        A stream of which nothing is known (version 0) comes as its snapshot by this `code` (by category), if there is
        one, and the events beyond that.
        """
        ...

    async def lock(self, streams: Collection[str]) -> None:
        """Wait for other instances' work on these streams; held until the transaction ends. Not a write."""
        ...

    async def commit(self, changes: Changes) -> None:
        """Write everything or nothing. Raises VersionConflict, LogUnavailable, Unstorable."""
        ...


@dataclass(frozen=True, slots=True)
class Publication:
    """A latest state that the relay has yet to publish."""

    topic: str
    key: str
    type: str
    data: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """What a relay has yet to publish."""

    rows: list[SequencedRow] = field(default_factory=list)
    states: list[Publication] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a log, and for how many seconds the oldest of it."""

    timers_overdue: int = 0
    timers_overdue_s: float = 0.0
    effects_failing: int = 0
    effects_oldest_s: float = 0.0
    unpublished_states: int = 0
    dead_letters: int = 0


StillLeads = Callable[[], Awaitable[None]]
"""Raises LogUnavailable if another may be the leader by now."""


class Store(Protocol):
    """One service's log."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...

    async def read_stream(self, stream: str, after: int = 0) -> list[Row]: ...

    async def snapshots(self, streams: Collection[str], code: Mapping[str, str]) -> list[Snapshot]:
        """Snapshots of these streams made by this code (by category)."""
        ...

    async def traces(self, streams: Collection[str]) -> dict[str, str]:
        """The trace of each stream's last event, where it has one."""
        ...

    async def read(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> list[SequencedRow]:
        """Up to `limit` events beyond sequence number `after`, in order; of one shard (index, count) if told."""
        ...

    async def hashes(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The numbers beyond `after`, in order, and the hashes of their events."""
        ...

    async def numbers(self, streams: Collection[str]) -> dict[tuple[str, int], int]:
        """The sequence numbers of all events of these streams, by stream and version. Not fast."""
        ...

    async def sequence(self, limit: int = 5_000) -> int:
        """Number committed events that have no number yet; how many there were. Callers take turns."""
        ...

    async def next_page(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> Page:
        """`sequence`, then `read` and, at least as new, `unpublished`; a shard other than the first reads alone."""
        ...

    async def head(self) -> int:
        """The highest sequence number."""
        ...

    async def due_timers(self, due: datetime, limit: int, now: datetime, lease_until: datetime) -> list[Timer]:
        """Claim timers due by `due`. A claim runs out at `lease_until` if its work is not committed by then."""
        ...

    async def due_effects(
        self, now: datetime, limit: int, lease_until: datetime, in_hand: Mapping[str, int] = NOTHING
    ) -> list[Effect]:
        """Claim effects that are due, of each lane up to `limit` less what is `in_hand` of it already."""
        ...

    async def postpone_effect(self, effect: Effect, until: datetime, counts: bool = True) -> None:
        """Try no sooner than `until`, and count a failed attempt if it `counts`; not if it was asked for anew since."""
        ...

    async def document(self, view: str, key: str) -> dict[str, Any] | None: ...

    async def documents(
        self, view: str, where: Mapping[str, str] | None = None, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        """Documents by key, those only whose top-level text fields equal `where`."""
        ...

    def all_streams(self, category: str = "") -> AsyncIterator[tuple[str, list[Row]]]:
        """Every stream whole, by stream id; of one category if told."""
        ...

    async def blob(self, sha256: bytes) -> bytes | None: ...

    async def relay_cursors(self, shard: tuple[int, int], memories: Collection[str]) -> dict[str, int]:
        """How far this shard was told to each of these memories of a broker; those never seen are left out."""
        ...

    async def move_relay_cursors(self, shard: tuple[int, int], told: Mapping[str, int]) -> None: ...

    async def unpublished(self, limit: int) -> list[Publication]: ...

    async def publications(self, keys: Collection[tuple[str, str]]) -> list[Publication]:
        """The latest states under these (topic, key), published or not."""
        ...

    async def published(self, sent: Sequence[Publication]) -> None:
        """These are on their topics. One that has a newer revision by now is due again: it may lie behind that."""
        ...

    async def republish(self, keys: Collection[tuple[str, str]]) -> None:
        """Mark the latest states under these (topic, key) as not published."""
        ...

    async def republish_topics(self, topics: Collection[str]) -> None:
        """Mark the latest states of these topics as not published: they are empty."""
        ...

    def leadership(self, name: str) -> AbstractAsyncContextManager[StillLeads]:
        """Be the only holder of `name` over all instances; waits for it. Ask now and then whether it still is so."""
        ...

    async def passed_over(self) -> int:
        """How many committed events have no number though later ones have one, so that no reader will see them."""
        ...

    async def backlog(self, due: datetime) -> Backlog:
        """What waits longer than it should, for metrics. `due`: the time by which timers should have rung."""
        ...

    async def counts(self) -> dict[str, int]:
        """For metrics and the doctor: events, sequenced, timers, effects, inbox."""
        ...
