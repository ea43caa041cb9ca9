"""A service at work: messages, requests, timers and effects become tasks of one engine, and each finds its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from time import time_ns
from typing import Any, TypeVar
from uuid import UUID

import structlog

from ordermill.clock import Clock, system_clock
from ordermill.contracts.base import BY_TYPE, FAMILIES, Fact, Message, UnknownType, decode
from ordermill.decider import Decision
from ordermill.errors import OrdermillError, Transient
from ordermill.eventlog.engine import Cause, Engine, Outcome, Task, WaitsItsTurn
from ordermill.eventlog.relay import Relay
from ordermill.eventlog.store import LogUnavailable, Timer, VersionConflict
from ordermill.tracing import NO_SPAN, Span, tracing

from . import deadletters, spans
from .declare import Consumes, Received, Service
from .effects import EffectWorker
from .loops import forever
from .messages import (
    MAX_MESSAGE_BYTES,
    Envelope,
    NotReadable,
    Oversized,
    UnreadableRecord,
    WrongTopic,
    envelope_of,
    inbox_key,
    record_key,
)
from .metrics import Metrics

logger = structlog.get_logger(__name__)
T = TypeVar("T")

_LEASE = timedelta(seconds=30)


@dataclass(slots=True)
class _Polled:
    """One record on its way: what it is, what it asks for, how often it was tried."""

    record: Any
    key: UUID
    envelope: Envelope | None = None
    message: Message | None = None
    consumes: Consumes | None = None
    error: Exception | None = None
    attempts: int = 0
    span: Span = NO_SPAN


class RunningService:
    """What a declared service does with what comes in. Knows no Kafka and no HTTP: those call it."""

    def __init__(
        self,
        service: Service,
        engine: Engine,
        metrics: Metrics,
        retries: int = 5,
        wall: Clock = system_clock,
        chance: Random | None = None,
    ) -> None:
        """`wall` times leases and pauses; the engine's clock, which a demo may speed up, all that is of the trade.

        `chance` spreads pauses; the system's if none is given.
        """
        self.service = service
        self.engine = engine
        self.metrics = metrics
        self.relay: Relay | None = None
        self.healthy = True
        self.consuming = False
        self._retries = retries
        self._wall = wall
        self._handlers = {consumed.message: consumed for consumed in service.consumes}
        self._skipped = {name.encode() for name, cls in BY_TYPE.items() if cls not in self._handlers}
        self._internal = {cls.topic for cls in BY_TYPE.values() if issubclass(cls, Fact)}
        if service.outbound is not None:
            service.outbound.register(metrics.registry)
        self.effects = EffectWorker(service, engine, self._submit, wall, metrics.effect_attempts, chance)
        self._submitted: list[tuple[Task, asyncio.Future[Outcome]]] = []
        self._submitter: asyncio.Task[None] | None = None

    def note_consuming(self, consuming: bool) -> None:
        if self.consuming and not consuming:
            logger.warning("out of its group")
        self.consuming = consuming

    # Messages

    async def handle(self, records: Sequence[Any]) -> None:
        """Settle every record of one poll: decided and committed, known before, or kept as a dead letter.

        Returns only then, so the poll's offsets may be committed; it waits as long as the database is away.
        """
        with self.metrics.batches.time():
            began_ns = time_ns()
            polled = [item for record in records if (item := self._look_at(record)) is not None]
            self.metrics.batch_messages.observe(len(polled))
            await self._prepare(polled)
            waiting = [self._task(item) for item in polled]
            await self._begin_spans(waiting, began_ns)
            pause = 0.05
            while waiting:
                outcomes = await self._run([task for _, task in waiting])
                again = [
                    item
                    for (item, _), outcome in zip(waiting, outcomes, strict=True)
                    if not self._settled(item, outcome)
                ]
                if again:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 2.0)
                    await self._prepare([item for item in again if item.error is None])
                waiting = [self._task(item) for item in again]

    def _look_at(self, record: Any) -> _Polled | None:
        """What a record is; None for facts of other services that this one has no use for."""
        for name, value in record.headers:
            if name == "ce_type":
                if value in self._skipped and record.topic in self._internal:
                    return None
                break
        item = _Polled(record, UUID(int=0))
        try:
            if isinstance(record, UnreadableRecord):
                raise NotReadable(record.reason)
            outside = record.topic not in self._internal
            if outside and record.value is not None and len(record.value) > MAX_MESSAGE_BYTES:
                raise Oversized(len(record.value))
            item.envelope = envelope = envelope_of(record.headers)
            item.key = envelope.inbox_key
            family = FAMILIES.get(envelope.type.rpartition(".")[0])
            item.consumes = self._handlers.get(family) if family is not None else None
            if item.consumes is None:
                if family is not None and record.topic in self._internal:
                    return None
                raise UnknownType(envelope.type)
            carriers = (item.consumes.message.topic, *item.consumes.message.also_on)
            if record.topic not in carriers:
                raise WrongTopic(envelope.type, carriers[0], record.topic)
            item.message = decode(envelope.type, record.value or b"")
        except Exception as error:
            if not isinstance(error, OrdermillError):
                logger.exception("a record could not be looked at", topic=record.topic, offset=record.offset)
            item.error = error
            if item.envelope is None:
                item.key = record_key(record)
        return item

    async def _begin_spans(self, polled: Sequence[tuple[_Polled, Task]], began_ns: int) -> None:
        if not tracing():
            for item, task in polled:
                if item.envelope is not None and item.envelope.trace is not None:
                    item.span = task.span = Span(item.envelope.trace)
            return
        poll = [
            spans.Polled(item.record, item.envelope, task.decisions, item.record.topic not in self._internal)
            for item, task in polled
        ]
        begun = await self._patiently(lambda: spans.of_poll(self.engine, self.service.name, poll, began_ns))
        for (item, task), span in zip(polled, begun, strict=True):
            item.span = task.span = span

    async def _prepare(self, polled: Sequence[_Polled]) -> None:
        ready = [(item, item.message) for item in polled if item.message is not None]
        if not ready:
            return
        try:
            await self._patiently(lambda: self.service.prepare([message for _, message in ready]))
        except Exception as error:
            if len(ready) == 1:
                logger.warning("a message could not be prepared", topic=ready[0][0].record.topic, error=repr(error))
                ready[0][0].error = error
                return
            for item, _ in ready:
                await self._prepare([item])

    def _task(self, item: _Polled) -> tuple[_Polled, Task]:
        if item.error is None:
            assert item.envelope is not None and item.consumes is not None
            try:
                decisions = tuple(item.consumes.handle(item.message, self._received(item.envelope)))
                key = "" if item.record.key is None else item.record.key.decode("latin-1")
                return item, Task(self._cause(item), decisions, key=key, span=item.span)
            except OrdermillError as error:
                item.error = error
            except Exception as error:
                logger.exception(
                    "a handler failed",
                    message_type=item.envelope.type,
                    message_id=item.envelope.id,
                    correlation_id=item.envelope.correlation_id,
                )
                item.error = error
        return item, self._letter(item)

    def _received(self, envelope: Envelope) -> Received:
        now = self.engine.clock()
        return Received(envelope.id, envelope.correlation_id, envelope.happened_at or now, now, envelope.stream_version)

    def _cause(self, item: _Polled) -> Cause:
        now = self.engine.clock()
        if item.envelope is None:
            return Cause(str(item.key), str(item.key), f"topic:{item.record.topic}", now, item.key)
        envelope = item.envelope
        return Cause(envelope.id, envelope.correlation_id, envelope.source, envelope.happened_at or now, item.key)

    def _letter(self, item: _Polled) -> Task:
        assert item.error is not None
        envelope = item.envelope
        letter, blobs = deadletters.letter_of(
            item.record,
            str(item.key),
            item.error,
            item.attempts,
            envelope.type if envelope else "",
            envelope.id if envelope else "",
        )
        cause = self._cause(item)
        logger.warning(
            "kept as a dead letter",
            letter_id=letter.letter_id,
            code=letter.code,
            topic=letter.source_topic,
            correlation_id=cause.correlation_id,
        )
        return Task(cause, (deadletters.keep(letter),), blobs=blobs, span=item.span)

    def _settled(self, item: _Polled, outcome: Outcome) -> bool:
        """Whether the record has found its end; else it is tried again, or, where it has failed, kept."""
        if outcome.error is None:
            result = "repeated" if outcome.repeated else "dead-lettered" if item.error else "handled"
            self.metrics.messages.labels(result).inc()
            self.metrics.events.inc(len(outcome.events))
            spans.close(item.span, outcome, item.error)
            return True
        if isinstance(outcome.error, WaitsItsTurn):
            return False
        if isinstance(outcome.error, VersionConflict):
            self.metrics.retries.inc()
            return False  # that others write first is no message's fault
        item.attempts += 1
        may_pass = isinstance(outcome.error, Transient) or not isinstance(outcome.error, OrdermillError)
        if may_pass and item.attempts <= self._retries:
            self.metrics.retries.inc()
            return False
        item.error = outcome.error
        return False

    async def _run(self, tasks: Sequence[Task]) -> list[Outcome]:
        return await self._patiently(lambda: self.engine.run(tasks))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`, again and again while the database is away: that is no message's fault."""
        pause = 0.1
        while True:
            try:
                done = await work()
                self.healthy = True
                return done
            except LogUnavailable as error:
                self.healthy = False
                logger.warning("waits for the database", error=str(error), pause_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    # Requests

    async def execute(
        self,
        decisions: Iterable[Decision],
        actor: str,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        blobs: Mapping[bytes, bytes] | None = None,
        trace: str | None = None,
    ) -> Outcome:
        """Decide and commit, as soon as the commit before is through; those who wait share one. Raises the refusal.

        The same `idempotency_key` (of this actor) twice is decided once; the second answer has `repeated` set.
        `trace`: what it goes on with, if that is not the story of its streams.
        """
        requests = [(decisions, idempotency_key)]
        outcome = (await self.execute_many(requests, actor, correlation_id, blobs, trace))[0]
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def execute_many(
        self,
        requests: Iterable[tuple[Iterable[Decision], str | None]],
        actor: str,
        correlation_id: str | None = None,
        blobs: Mapping[bytes, bytes] | None = None,
        trace: str | None = None,
    ) -> list[Outcome]:
        """Several at once, each with its own outcome; one that is refused stops no other."""
        now = self.engine.clock()
        futures: list[asyncio.Future[Outcome]] = []
        wanted = [(tuple(decisions), idempotency_key) for decisions, idempotency_key in requests]
        known = await spans.stories(self.engine, [decisions for decisions, _ in wanted])
        for (decisions, idempotency_key), story in zip(wanted, known, strict=True):
            request_id = str(self.engine.new_id(now))
            message = inbox_key(f"request:{actor}", idempotency_key) if idempotency_key else None
            cause = Cause(request_id, correlation_id or request_id, actor, now, message)
            futures.append(
                self._submit(
                    Task(cause, decisions, blobs=blobs or {}, span=spans.of_request(decisions, trace or story))
                )
            )
        return list(await asyncio.gather(*futures))

    def _submit(self, task: Task) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._submitted.append((task, future))
        if self._submitter is None:
            self._submitter = asyncio.create_task(self._run_submitted())
        return future

    async def _run_submitted(self) -> None:
        try:
            while self._submitted:
                batch, self._submitted = self._submitted[:500], self._submitted[500:]
                try:
                    outcomes = await self.engine.run([task for task, _ in batch])
                except Exception as error:
                    outcomes = [Outcome(error=error) for _ in batch]
                for (task, future), outcome in zip(batch, outcomes, strict=True):
                    spans.close(task.span, outcome)
                    if not future.done():
                        future.set_result(outcome)
        finally:
            self._submitter = None

    # Timers

    async def fire_timers(self) -> int:
        """Turn timers that are due into decisions; how many there were."""
        now = self._wall()
        due = await self.engine.store.due_timers(self.engine.clock(), 500, now, now + _LEASE)
        ringing = [(timer, task) for timer in due if (task := self._rung(timer)) is not None]
        outcomes = await self._run([task for _, task in ringing])
        for (timer, task), outcome in zip(ringing, outcomes, strict=True):
            spans.close(task.span, outcome)
            if outcome.error is not None:
                logger.error("a timer failed", stream=timer.stream, timer=timer.name, error=str(outcome.error))
        return len(due)

    def _rung(self, timer: Timer) -> Task | None:
        """What a timer asks for. None where this release does not know it, or fails at it: the claim runs out, and it
        is due again.
        """
        ring = self.service.timers.get(timer.name.partition(":")[0])
        if ring is None:
            logger.error("no such timer here: it is of another release", stream=timer.stream, timer=timer.name)
            return None
        try:
            decisions = tuple(ring(timer))
        except Exception:
            logger.exception("a timer failed", stream=timer.stream, timer=timer.name)
            return None
        return Task(self._timer_cause(timer), decisions, timer=timer, span=spans.of_timer(timer))

    def _timer_cause(self, timer: Timer) -> Cause:
        causation = f"timer:{timer.name}:{timer.stream}"
        return Cause(causation, timer.stream, f"timer:{self.service.name}", timer.due_at)

    # Dead letters

    async def redrive(self, letter_id: str, actor: str) -> Outcome:
        """Handle a dead letter's message after all, in one transaction with the note of it. Raises what stops it."""
        aggregate = await self.engine.state(deadletters.LETTERS.stream(letter_id))
        if aggregate.state.letter is None:
            raise deadletters.LetterNotWaiting(letter_id, aggregate.state.status)
        letter = aggregate.state.letter
        if aggregate.state.status != "waiting":
            raise deadletters.LetterNotWaiting(letter_id, aggregate.state.status)
        deadletters.check_redrivable(letter)
        store = self.engine.store
        kept = deadletters.record_of(await deadletters.whole(store, letter), await deadletters.body_of(store, letter))
        item = self._look_at(kept)
        decisions: tuple[Decision, ...] = ()
        if item is not None:
            await self._prepare([item])
            if item.error is not None:
                raise item.error
            assert item.envelope is not None and item.consumes is not None
            decisions = tuple(item.consumes.handle(item.message, self._received(item.envelope)))
        envelope = item.envelope if item is not None else None
        correlation, trace = (envelope.correlation_id, envelope.trace) if envelope else (None, None)
        return await self.execute((*decisions, deadletters.redrive(letter_id)), actor, correlation, trace=trace)

    # Loops

    async def timers_loop(self, every_s: float = 0.25) -> None:
        await forever("timers", self.fire_timers, every_s)

    async def effects_loop(self, every_s: float = 0.25) -> None:
        async def work() -> int:
            self.effects.wake.clear()
            return await self.effects.start_due()

        await forever("effects", work, every_s, self.effects.wake)


def facts_of(outcome: Outcome, kind: type[Fact]) -> list[Any]:
    """The outcome's events of one type."""
    return [event for _, event in outcome.events if isinstance(event, kind)]
