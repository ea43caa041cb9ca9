"""The `eventsourcing` library's recorder interface over an Ordermill log, so its applications and followers fit on one.

    originator id       stream; a UUID as its 36 characters
    originator version  version, which counts from 1; a stream that the library begins at 0 is kept one higher, its rows
                        marked in `actor`
    topic, state        type, data
    notification id     sequence number: dense, and the same for every reader

The library calls from threads; each recorder runs one event loop in a thread of its own, over a Store.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import Event, Thread
from typing import Any, Self, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactory,
    IntegrityError,
    Notification,
    NotSupportedError,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Subscription,
    TrackingRecorder,
)

from ordermill.clock import Clock, system_clock
from ordermill.ids import uuid7

from .postgres import PostgresStore
from .records import GENESIS, Row, chain
from .store import Changes, LogUnavailable, Store, Unstorable, VersionConflict

T = TypeVar("T")
R = TypeVar("R", bound="LogAggregateRecorder")

ACTOR = "eventsourcing"
FROM_ZERO = "eventsourcing:from-0"
_PAGE = 1_000
_POLL_S = 0.05


class LogAggregateRecorder(AggregateRecorder):
    """Streams of stored events. `with LogAggregateRecorder.open(dsn) as recorder: …`"""

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        close: Callable[[], None] = lambda: None,
        clock: Clock = system_clock,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`store` belongs to `loop`, which runs in another thread."""
        self._store = store
        self._loop = loop
        self._close = close
        self._clock = clock
        self._random_bytes = random_bytes

    @classmethod
    def open(cls, dsn: str) -> Self:
        """Connect to the log at `dsn`. Raises OperationalError."""
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever, name="ordermill-recorder", daemon=True)
        thread.start()

        def end() -> None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        try:
            with _in_their_words():
                store = asyncio.run_coroutine_threadsafe(PostgresStore.open(dsn), loop).result()
        except BaseException:
            end()
            raise

        def close() -> None:
            asyncio.run_coroutine_threadsafe(store.close(), loop).result()
            end()

        return cls(store, loop, close)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append in one transaction. Raises IntegrityError where another version of a stream was expected."""
        self._run(self._insert(stored_events))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        rows = self._run(self._store.read_stream(str(originator_id), max(gt or 0, 0)))
        events = (StoredEvent(originator_id, _their_version(row), row.type, row.data) for row in rows)
        found = [
            event
            for event in events
            if (gt is None or event.originator_version > gt) and (lte is None or event.originator_version <= lte)
        ]
        if desc:
            found.reverse()
        return found if limit is None else found[:limit]

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with _in_their_words():
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _insert(self, stored_events: Sequence[StoredEvent]) -> list[UUID]:
        if not stored_events:
            return []
        now = self._clock()
        async with self._store.transaction() as transaction:
            # From the version before each stream's first new one, or, in a stream kept one higher, from that itself.
            first: dict[str, int] = {}
            for event in stored_events:
                first.setdefault(str(event.originator_id), event.originator_version)
            after = {stream: max(version - 2, 0) for stream, version in first.items()}
            heads = {row.stream: row for row in (await transaction.look_up(after)).rows}
            rows: list[Row] = []
            for event in stored_events:
                row = self._row(event, heads.get(str(event.originator_id)), now)
                heads[row.stream] = row
                rows.append(row)
            await transaction.commit(Changes(rows=rows))
        return [row.event_id for row in rows]

    def _row(self, event: StoredEvent, head: Row | None, now: datetime) -> Row:
        stream = str(event.originator_id)
        if "\n" in stream or "\n" in event.topic:
            raise ProgrammingError(f"{stream!r}, {event.topic!r}: an originator id or a topic must be on one line")
        from_zero = event.originator_version == 0 if head is None else head.actor == FROM_ZERO
        actor = FROM_ZERO if from_zero else ACTOR
        version, previous = (1, GENESIS) if head is None else (head.version + 1, head.hash)
        if event.originator_version != version - from_zero:
            raise IntegrityError(f"{stream}: version {version - from_zero} is next, not {event.originator_version}")
        event_id = uuid7(now, self._random_bytes)
        cause = str(event_id)
        digest = chain(previous, stream, version, event_id, event.topic, event.state, cause, cause, actor, now, now)
        return Row(stream, version, event_id, event.topic, event.state, cause, cause, actor, now, now, digest)


class LogRecorder(LogAggregateRecorder, ApplicationRecorder):
    """Streams and their one sequence. What it inserts is numbered at once, whether a relay runs or not."""

    numbered_within_s = 30.0
    """How long an insert waits for transactions that began before it; no number may be given past them."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append in one transaction; the notification ids.

        Raises IntegrityError where another version of a stream was expected. Raises OperationalError if nothing was
        written, or if it was and an older transaction still keeps its numbers back.
        """
        return self._run(self._insert_and_number(stored_events))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - inclusive_of_start
        return self._run(self._notifications(max(after, 0), limit, stop, frozenset(topics)))

    def max_notification_id(self) -> int | None:
        return self._run(self._store.head()) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        return LogSubscription(self, gt, topics)

    async def _insert_and_number(self, stored_events: Sequence[StoredEvent]) -> list[int]:
        after = await self._store.head()
        ours = dict.fromkeys(await self._insert(stored_events), 0)
        missing = len(ours)
        deadline = self._loop.time() + self.numbered_within_s
        while missing:
            await self._store.sequence()
            page = await self._store.read(after, _PAGE)
            for sequenced in page:
                if sequenced.row.event_id in ours:
                    ours[sequenced.row.event_id] = sequenced.seq
                    missing -= 1
            if page:
                after = page[-1].seq
            elif self._loop.time() > deadline:
                raise OperationalError("written, but an older open transaction keeps back the notification ids")
            else:
                await asyncio.sleep(0.002)
        return list(ours.values())

    async def _notifications(
        self, after: int, limit: int, stop: int | None, topics: frozenset[str]
    ) -> list[Notification]:
        found: list[Notification] = []
        while page := await self._store.read(after, _PAGE if topics else min(limit, _PAGE)):
            for sequenced in page:
                row = sequenced.row
                if stop is not None and sequenced.seq > stop:
                    return found
                if not topics or row.type in topics:
                    version = _their_version(row)
                    found.append(Notification(_originator(row.stream), version, row.type, row.data, sequenced.seq))
                    if len(found) == limit:
                        return found
            after = page[-1].seq
        return found


class LogSubscription(Subscription[LogRecorder]):
    """Every notification beyond `gt`, then each new one, whoever wrote it, until `stop()`."""

    def __init__(self, recorder: LogRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        self._read_to = gt or 0
        self._page: Iterator[Notification] = iter(())
        self._stopping = Event()

    def stop(self) -> None:
        super().stop()
        self._stopping.set()

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            notification = next(self._page, None)
            if notification is not None:
                return notification
            head = self._recorder.max_notification_id() or 0
            if head <= self._read_to:
                self._stopping.wait(_POLL_S)
                continue
            page = self._recorder.select_notifications(
                self._read_to, _PAGE, head, self._topics, inclusive_of_start=False
            )
            self._read_to = page[-1].id if len(page) == _PAGE else head
            self._page = iter(page)
        raise StopIteration


class LogFactory(InfrastructureFactory[TrackingRecorder]):
    """Lets an `Application` of the library stand on a log: `PERSISTENCE_MODULE=ordermill.eventlog.recorder`.

    The log's URL is in `OMS_DATABASE_URL`. Events only: snapshots and the tracking of other applications are not kept
    in a log, so an application that wants these gets NotSupportedError.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._opened: list[LogAggregateRecorder] = []

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        if purpose != "events":
            raise NotSupportedError(f"a log keeps events, no {purpose}")
        return self._open(LogAggregateRecorder)

    def application_recorder(self) -> ApplicationRecorder:
        return self._open(LogRecorder)

    def tracking_recorder(self, tracking_recorder_class: type[TrackingRecorder] | None = None) -> TrackingRecorder:
        raise NotSupportedError("a log does not keep what was processed of other applications")

    def process_recorder(self) -> ProcessRecorder:
        raise NotSupportedError("a log does not keep what was processed of other applications")

    def _open(self, kind: type[R]) -> R:
        recorder = kind.open(self.env["OMS_DATABASE_URL"])
        self._opened.append(recorder)
        return recorder


def follow(recorder: ApplicationRecorder, start: int = 0) -> Iterator[Notification]:
    """Every event beyond sequence number `start`, then each new one as it comes, for as long as the caller likes."""
    with recorder.subscribe(gt=start) as subscription:
        yield from subscription


@contextmanager
def _in_their_words() -> Iterator[None]:
    try:
        yield
    except VersionConflict as error:
        raise IntegrityError(str(error)) from error
    except LogUnavailable as error:
        raise OperationalError(str(error)) from error
    except Unstorable as error:
        raise DataError(str(error)) from error


def _their_version(row: Row) -> int:
    return row.version - (row.actor == FROM_ZERO)


def _originator(stream: str) -> UUID | str:
    """What the library called it. Streams of Ordermill begin with their category, so none of them looks like a UUID."""
    try:
        found = UUID(stream)
    except ValueError:
        return stream
    return found if str(found) == stream else stream
