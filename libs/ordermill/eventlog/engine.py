"""The unit of work: decide a batch in memory, write it in one transaction, whatever it came from.

Kafka polls, HTTP requests, timers and answers of effects all become `Task`s and go through `Engine.run`. A rule that
refuses, or a poisonous message, stops itself and no neighbor; only a conflict with another writer makes a batch start
again, in halves if it must.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from ordermill.contracts.base import Fact
from ordermill.decider import Decider, Decision, Folded
from ordermill.errors import OrdermillError, Transient
from ordermill.ids import uuid7
from ordermill.replacing import replace
from ordermill.tracing import NO_SPAN, Span, within

from .aggregates import Aggregate, Aggregates
from .records import Row, chain
from .store import Changes, Effect, Store, Timer, Transaction, Unstorable, VersionConflict
from .views import PublishedState, View

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """Where a decision comes from. `message` is its key in the inbox: the same twice is decided once."""

    causation_id: str
    correlation_id: str
    actor: str
    happened_at: datetime
    message: UUID | None = None


@dataclass(slots=True)
class Task:
    """One thing to decide, and what ends with it. No decision: only the inbox learns of the message."""

    cause: Cause
    decisions: Sequence[Decision] = ()
    key: str = ""
    """Tasks of one key keep their order: after one that must be tried again, the rest of its key waits too."""
    timer: Timer | None = None
    effect_id: str | None = None
    blobs: Mapping[bytes, bytes] = field(default_factory=dict)
    span: Span = NO_SPAN
    """What it is a part of: its events, timers and effects go on with that trace."""


@dataclass(slots=True)
class Outcome:
    """What became of a task: its events; or an error, and nothing written; or it was handled before."""

    events: list[tuple[str, Fact]] = field(default_factory=list)
    error: Exception | None = None
    repeated: bool = False


@dataclass(frozen=True)
class Rules:
    """What follows from events of a service besides the events themselves: views, publications, timers, effects."""

    deciders: tuple[Decider[Any], ...]
    views: tuple[View, ...] = ()
    published: tuple[PublishedState, ...] = ()
    timers: Callable[[str, Fact], Sequence[Timer | tuple[str, str]]] = lambda stream, event: ()
    """Timers an event sets (`Timer`) or clears ((stream, name))."""
    effects: Mapping[type[Fact], Callable[[Any], str]] = field(default_factory=dict)
    """Events that ask for an effect, and the id under which it is done once."""
    ends: Mapping[type[Fact], Callable[[Any], str]] = field(default_factory=dict)
    """Events after which an effect is asked for no longer, though it has no answer, and its id."""
    lanes: Mapping[type[Fact], Callable[[Any], str]] = field(default_factory=dict)
    """Who is asked for it, where that is not one for all."""
    contended: frozenset[str] = frozenset()
    """Categories that many instances want at once: locked before reading rather than retried."""
    snapshot_every: int = 2_000


class WaitsItsTurn(Transient):
    """An earlier message of the same key has to be tried again first."""

    code = "eventlog.waits-its-turn"


class _States(Mapping[str, Any]):
    """States by stream, as of the events decided so far in this batch."""

    def __init__(
        self, base: dict[str, Aggregate], aggregates: Aggregates, remembered: Callable[[str], Aggregate | None]
    ) -> None:
        self.base = base
        self.found: set[str] = set()
        """Streams looked up that were not asked for, and are known from memory."""
        self.missing: set[str] = set()
        """Streams looked up and not loaded: what was decided on their initial state is thrown away."""
        self.staged: dict[str, Aggregate] = {}
        self.task: dict[str, Aggregate] = {}
        """What the task at hand has decided so far; staged when all of it succeeded."""
        self._aggregates = aggregates
        self._remembered = remembered

    def __getitem__(self, stream: str) -> Any:
        return self.aggregate(stream).state

    def aggregate(self, stream: str) -> Aggregate:
        found = self.task.get(stream) or self.staged.get(stream) or self.base.get(stream)
        if found is None:
            found = self._remembered(stream)
            if found is None:
                self.missing.add(stream)
                return self._aggregates.initial(stream)
            self.found.add(stream)
            self.base[stream] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)


class Engine:
    """One service's log at work. Aggregates used lately stay in memory; the version check makes that safe."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes] | None = None,
        cache_size: int = 10_000,
    ) -> None:
        """`cache_size`: aggregates in memory, a few kB each. Enough is what is wanted between an order's first message
        and its last, and the articles of those orders: one that was dropped too early is read and folded again.
        """
        self.store = store
        self.rules = rules
        self.clock = clock
        self.aggregates = Aggregates(rules.deciders)
        self.on_commit: list[Callable[[Changes], None]] = []
        self.conflicts = 0
        self._random_bytes = random_bytes or buffered_random()
        self._cache: OrderedDict[str, Aggregate] = OrderedDict()
        self._cache_size = cache_size
        self._locks = _StreamLocks()
        self._views: dict[str, list[View]] = {}
        for view in rules.views:
            self._views.setdefault(view.category, []).append(view)
        self._published: dict[str, list[PublishedState]] = {}
        for published in rules.published:
            self._published.setdefault(published.category, []).append(published)

    async def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Decide and commit `tasks` in order, in one transaction if it can be.

        Raises LogUnavailable: then nothing was written, or a part of them that a repetition finds done.
        """
        if not tasks:
            return []
        stopped: VersionConflict | Unstorable
        for attempt in range(5):
            try:
                with within([task.span for task in tasks]):
                    return await self._run_once(tasks, locked=attempt > 0)
            except VersionConflict as conflict:
                self.conflicts += 1
                stopped = conflict
                for task in tasks:
                    for decision in task.decisions:
                        for stream in decision.streams:
                            self._cache.pop(stream, None)
            except Unstorable as unstorable:
                stopped = unstorable
                break
        if len(tasks) == 1:
            return [Outcome(error=stopped)]
        half = len(tasks) // 2
        first = await self.run(tasks[:half])
        waiting = {task.key for task, outcome in zip(tasks, first, strict=False) if outcome.error is not None} - {""}
        rest = iter(await self.run([task for task in tasks[half:] if task.key not in waiting]))
        return first + [_waits(task) if task.key in waiting else next(rest) for task in tasks[half:]]

    async def state(self, stream: str) -> Aggregate:
        """A stream as it is now."""
        snapshots = await self.store.snapshots([stream], self.aggregates.code)
        known = self.aggregates.from_snapshot(snapshots[0]) if snapshots else self.aggregates.initial(stream)
        for row in await self.store.read_stream(stream, known.version):
            known = self.aggregates.apply(known, row)
        return known

    async def _run_once(self, tasks: Sequence[Task], locked: bool) -> list[Outcome]:
        streams = {stream for task in tasks for decision in task.decisions for stream in decision.streams}
        while True:
            async with self._locks.hold(streams) as held, self.store.transaction() as transaction:
                batch = await self._decide(transaction, held, tasks, streams, locked)
                if batch is None:
                    continue
                changes = batch.changes()
                try:
                    await transaction.commit(changes)
                except BaseException:
                    for stream in batch.states.staged:
                        self._cache.pop(stream, None)
                    raise
                self._remember(batch.states.staged)
            if changes.rows or changes.publications:
                for notify in self.on_commit:
                    notify(changes)
            _tell_defects(tasks, batch.outcomes)
            return batch.outcomes

    async def _decide(
        self, transaction: Transaction, held: _Held, tasks: Sequence[Task], streams: set[str], locked: bool
    ) -> _Batch | None:
        """The batch, decided on all that it looked up, which is added to `streams`; None: begin again with those."""
        remembered = {s for s in streams if self._known(s, locked) is not None}
        # That an effect is answered twice is so rare that no look is spent on it: the inbox's key finds it out.
        messages = [
            task.cause.message
            for task in tasks
            if task.cause.message is not None and (locked or task.effect_id is None)
        ]
        base, seen = await self._load(transaction, streams, locked, messages)
        while True:
            states = _States(base, self.aggregates, partial(self._known, locked=locked))
            batch = _Batch(self, tasks, states)
            batch.decide(seen)
            if looked_up := states.found | states.missing:
                streams |= looked_up
                if any(self._contended(s, locked) for s in states.missing) or not await held.also(looked_up):
                    return None
                remembered |= states.found
            if not states.missing:
                break
            base |= (await self._load(transaction, states.missing, locked))[0]
        # A version check guards what is written. What was only read may be old news in memory: a refusal, or
        # "already so", must not rest on that.
        only_read = {s: base[s].version for s in remembered if s not in states.staged}
        if only_read and (moved := (await transaction.look_up(only_read)).rows):
            for row in moved:
                self._cache.pop(row.stream, None)
            return None
        return batch

    def _known(self, stream: str, locked: bool) -> Aggregate | None:
        """What memory holds of a stream, where that may be decided on."""
        return None if self._contended(stream, locked) else self._cache.get(stream)

    def _contended(self, stream: str, locked: bool) -> bool:
        return locked or stream.partition("-")[0] in self.rules.contended

    async def _load(
        self, transaction: Transaction, streams: set[str], locked: bool, messages: Sequence[UUID] = ()
    ) -> tuple[dict[str, Aggregate], set[UUID]]:
        """`streams` as they are, and which of `messages` were handled before."""
        aggregates = self.aggregates
        contended = {s for s in streams if self._contended(s, locked)}
        if contended:
            await transaction.lock(contended)
        loaded = {s: cached for s in streams if (cached := self._cache.get(s)) is not None}
        wanted = {s: loaded[s].version if s in loaded else 0 for s in streams if s not in loaded or s in contended}
        if not wanted and not messages:
            return loaded, set()
        found = await transaction.look_up(wanted, aggregates.code, messages)
        for snapshot in found.snapshots:
            loaded[snapshot.stream] = aggregates.from_snapshot(snapshot)
        for row in found.rows:
            loaded[row.stream] = aggregates.apply(loaded.get(row.stream) or aggregates.initial(row.stream), row)
        for stream in wanted:
            if stream not in loaded:
                loaded[stream] = aggregates.initial(stream)
        self._remember({stream: loaded[stream] for stream in wanted if loaded[stream].version})
        return loaded, found.seen

    def _remember(self, aggregates: Mapping[str, Aggregate]) -> None:
        cache = self._cache
        for stream, aggregate in aggregates.items():
            cache[stream] = aggregate
            cache.move_to_end(stream)
        while len(cache) > self._cache_size:
            cache.popitem(last=False)

    def new_id(self, at: datetime) -> UUID:
        return uuid7(at, self._random_bytes)


def _waits(task: Task) -> Outcome:
    return Outcome(error=WaitsItsTurn(f"waits behind an earlier message of {task.key}"))


def _tell_defects(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> None:
    """Only now: what a decision failed at may have been old news in memory, and it is decided again."""
    for task, outcome in zip(tasks, outcomes, strict=True):
        if outcome.error is not None and not isinstance(outcome.error, OrdermillError):
            logger.error("a decision failed", causation_id=task.cause.causation_id, exc_info=outcome.error)


class _Batch:
    """One attempt at a batch: decisions folded over loaded states, and all that is to be written for them."""

    def __init__(self, engine: Engine, tasks: Sequence[Task], states: _States) -> None:
        self.engine = engine
        self.tasks = tasks
        self.states = states
        self.outcomes: list[Outcome] = []
        self._now = engine.clock()
        self._changes = Changes()
        self._touched: dict[str, int] = {}
        self._hashes: dict[str, bytes] = {}

    def decide(self, seen: set[UUID]) -> None:
        seen = set(seen)
        waiting: set[str] = set()
        for task in self.tasks:
            outcome = Outcome()
            self.outcomes.append(outcome)
            message = task.cause.message
            if message is not None and message in seen:
                outcome.repeated = True
                continue
            if task.key and task.key in waiting:
                self.outcomes[-1] = _waits(task)
                continue
            self.states.task = {}
            try:
                for decision in task.decisions:
                    outcome.events.extend(self._decide(decision))
            except Exception as error:
                if self.states.missing:
                    continue  # decided on a stream not loaded yet: the whole batch is decided again
                outcome.events = []
                outcome.error = error
                if task.key:
                    waiting.add(task.key)
                continue
            if self.states.missing:
                continue
            self.states.staged.update(self.states.task)
            self._stage(task, outcome)
            if message is not None:
                seen.add(message)

    def _decide(self, decision: Decision) -> list[tuple[str, Fact]]:
        recorded = decision.decide(self.states)
        folded = recorded.states if isinstance(recorded, Folded) else None
        events = recorded.events if isinstance(recorded, Folded) else list(recorded)
        moved: dict[str, Aggregate] = {}
        for stream, event in events:
            aggregate = moved.get(stream) or self.states.aggregate(stream)
            if folded is None:
                state = self.engine.aggregates.decider(stream).evolve(aggregate.state, event)
            else:
                state = folded[stream]
            moved[stream] = Aggregate(state, aggregate.version + 1, aggregate.hash)
        self.states.task.update(moved)
        return events

    def _stage(self, task: Task, outcome: Outcome) -> None:
        changes, cause = self._changes, task.cause
        if cause.message is not None:
            changes.inbox.append(cause.message)
        if task.timer is not None:
            changes.fired.append(task.timer)
        if task.effect_id is not None:
            changes.done_effects.append(task.effect_id)
        changes.blobs.update(task.blobs)
        rules = self.engine.rules
        for stream, event in outcome.events:
            row = self._row(stream, event, cause, task.span.trace)
            changes.rows.append(row)
            for timer in rules.timers(stream, event):
                if isinstance(timer, Timer):
                    changes.timers[timer.stream, timer.name] = replace(timer, trace=row.trace)
                else:
                    changes.timers[timer] = None
            if (ended := rules.ends.get(type(event))) is not None:
                changes.done_effects.append(ended(event))
            effect = rules.effects.get(type(event))
            if effect is not None:
                lane = rules.lanes.get(type(event), lambda _: "")(event)
                asked = (effect(event), stream, event.type, row.data, cause.correlation_id, row.event_id)
                changes.effects.append(Effect(*asked, lane=lane, trace=row.trace))

    def _row(self, stream: str, event: Fact, cause: Cause, trace: str | None) -> Row:
        known = self._touched.get(stream)
        version = known + 1 if known is not None else self._base(stream).version + 1
        self._touched[stream] = version
        previous = self._hashes.get(stream) or self._base(stream).hash
        event_id = self.engine.new_id(self._now)
        data = event.to_json()
        digest = chain(
            previous, stream, version, event_id, event.type, data,
            cause.correlation_id, cause.causation_id, cause.actor, cause.happened_at, self._now,
        )  # fmt: skip
        self._hashes[stream] = digest
        return Row(
            stream, version, event_id, event.type, data,
            cause.correlation_id, cause.causation_id, cause.actor, cause.happened_at, self._now, digest, trace,
        )  # fmt: skip

    def _base(self, stream: str) -> Aggregate:
        return self.states.base[stream]

    def changes(self) -> Changes:
        """Everything to write, the documents of all touched streams included."""
        engine, changes, staged = self.engine, self._changes, self.states.staged
        for stream, version in sorted(self._touched.items()):  # writers lock rows in one order
            aggregate = Aggregate(staged[stream].state, version, self._hashes[stream])
            staged[stream] = aggregate
            category, _, key = stream.partition("-")
            for view in engine._views.get(category, ()):
                changes.documents.setdefault(view.name, {})[key] = view.document(aggregate.state)
            for published in engine._published.get(category, ()):
                message = published.message(key, version, aggregate.state)
                if message is not None:
                    changes.publications[message.topic, stream] = (message.type, message.to_json())
            every = engine.rules.snapshot_every
            if version // every > self._base(stream).version // every:
                changes.snapshots.append(engine.aggregates.to_snapshot(stream, aggregate))
        return changes


def buffered_random(size: int = 4_096) -> Callable[[int], bytes]:
    """os.urandom, asked for many bytes at once: a system call an id costs more than the rest of the id."""
    pool = b""

    def take(count: int) -> bytes:
        nonlocal pool
        if len(pool) < count:
            pool = os.urandom(max(size, count))
        taken, pool = pool[:count], pool[count:]
        return taken

    return take


class _StreamLocks:
    """Within one process: who works on a stream. Taken in sorted order, so nobody waits in a circle."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, streams: set[str]) -> AsyncIterator[_Held]:
        held = _Held(self._locks)
        try:
            await held.take(sorted(streams))
            yield held
        finally:
            held.release()


class _Held:
    """The streams that one task works on."""

    def __init__(self, locks: dict[str, tuple[asyncio.Lock, int]]) -> None:
        self._locks = locks
        self._wanted: list[str] = []
        self._held: list[str] = []

    async def take(self, streams: Sequence[str]) -> None:
        self._wanted += streams
        for stream in streams:
            lock, waiting = self._locks.get(stream) or (asyncio.Lock(), 0)
            self._locks[stream] = (lock, waiting + 1)
        for stream in streams:
            await self._locks[stream][0].acquire()
            self._held.append(stream)

    async def also(self, streams: set[str]) -> bool:
        """Take further ones, unless somebody has one or waits for it: to wait now might be to wait in a circle."""
        if not streams.isdisjoint(self._locks):
            return False
        await self.take(sorted(streams))
        return True

    def release(self) -> None:
        for stream in self._held:
            self._locks[stream][0].release()
        for stream in self._wanted:
            lock, waiting = self._locks[stream]
            if waiting == 1:
                del self._locks[stream]
            else:
                self._locks[stream] = (lock, waiting - 1)
