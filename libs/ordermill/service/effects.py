"""Effects at work: what is due is asked of the outside, each by itself, and what comes of it is recorded.

A slow or silent provider holds up nobody else: effects are claimed by lane, so many of each, and each answer is
committed when it comes, with whatever else is ready to be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from random import Random
from secrets import SystemRandom

import structlog
from prometheus_client import Counter as Counted

from ordermill.clock import Clock
from ordermill.contracts.base import Message, decode
from ordermill.decider import Decision
from ordermill.errors import Poison, Transient
from ordermill.eventlog.engine import Cause, Engine, Outcome, Task
from ordermill.eventlog.store import Changes, Effect, LogUnavailable
from ordermill.tracing import Span, within

from . import spans
from .declare import EffectOf, Service
from .messages import inbox_key

logger = structlog.get_logger(__name__)

LEASE = timedelta(seconds=45)
"""How long a claim holds: longer than a try may take, so that nobody asks a second time while the first still waits."""
TRY_S = 35.0
"""A try that took this long has failed, and nobody knows whether it acted."""
IN_HAND = 32
"""Most effects of one lane that one instance has in hand."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_WISH_S = 0.25, 300.0, 3_600.0
_GRACE_S = 5.0


def pause_after(attempts: int, error: Exception, chance: Random) -> float:
    """Seconds until the next try, after `attempts` that failed before this one: twice as long each time, up to five
    minutes, with half of it left to chance, so that those who failed together don't come back together. Never sooner
    than the other side asked for, up to an hour.
    """
    wish = error.retry_after_s if isinstance(error, Transient) else None
    if isinstance(error, Transient) and not error.counts:
        pause = _FIRST_PAUSE_S
    else:
        pause = min(_FIRST_PAUSE_S * 2**attempts, _LONGEST_PAUSE_S)
    return min(wish or 0.0, _LONGEST_WISH_S) + pause * chance.uniform(0.5, 1.0)


class EffectWorker:
    """Asks for what is due and records the answers. Any number of instances may work on one log."""

    def __init__(
        self,
        service: Service,
        engine: Engine,
        submit: Callable[[Task], Awaitable[Outcome]],
        wall: Clock,
        attempts: Counted,
        chance: Random | None = None,
    ) -> None:
        """`submit` commits a task, together with others that wait; `wall` times leases and pauses."""
        self.wake = asyncio.Event()
        self._service = service
        self._engine = engine
        self._submit = submit
        self._wall = wall
        self._attempts = attempts
        self._chance = chance or SystemRandom()
        self._declared: dict[type[Message], EffectOf] = {effect.event: effect for effect in service.effects}
        self._in_hand: dict[str, tuple[Effect, asyncio.Task[None]]] = {}
        self._stopping = False
        engine.on_commit.append(self._notice)

    def _notice(self, changes: Changes) -> None:
        if changes.effects:
            self.wake.set()

    async def start_due(self) -> int:
        """Claim effects that are due and begin to ask for them; how many."""
        if self._stopping:
            return 0
        now = self._wall()
        lanes = Counter(effect.lane for effect, _ in self._in_hand.values())
        due = await self._engine.store.due_effects(now, IN_HAND, now + LEASE, lanes)
        fresh = [
            (effect, *asked)
            for effect in due
            if effect.effect_id not in self._in_hand and (asked := self._asked_for(effect)) is not None
        ]
        prepared = {
            kind: asyncio.create_task(
                self._declared[kind].prepare([event for _, _, event in fresh if type(event) is kind])
            )
            for kind in dict.fromkeys(type(event) for _, _, event in fresh)
        }
        for effect, declared, event in fresh:
            task = asyncio.create_task(self._do(declared, effect, event, prepared[type(event)]))
            self._in_hand[effect.effect_id] = (effect, task)
        return len(fresh)

    def _asked_for(self, effect: Effect) -> tuple[EffectOf, Message] | None:
        """What it asks for, and the event as this release has it. None where this release does not know them: the claim
        runs out, and it is due again.
        """
        try:
            event = decode(effect.type, effect.data)
        except Poison as error:
            logger.error("an effect can't be read here", effect_id=effect.effect_id, error=str(error))
            return None
        declared = self._declared.get(type(event))
        if declared is None:
            logger.error("no such effect here: it is of another release", effect_id=effect.effect_id, type=effect.type)
            return None
        return declared, event

    async def perform(self) -> int:
        """Do all that is due now, to the end; how many there were."""
        started = await self.start_due()
        await asyncio.gather(*(task for _, task in self._in_hand.values()))
        return started

    async def stop(self) -> None:
        """Let those in hand come to their end for a moment; give back the rest, to be asked again under their keys."""
        self._stopping = True
        if self._in_hand:
            await asyncio.wait([task for _, task in self._in_hand.values()], timeout=_GRACE_S)
        left = list(self._in_hand.values())
        for _, task in left:
            task.cancel()
        await asyncio.gather(*(task for _, task in left), return_exceptions=True)
        with suppress(LogUnavailable):  # then their claims run out
            for effect, _ in left:
                await self._engine.store.postpone_effect(effect, self._wall(), counts=False)

    async def _do(self, declared: EffectOf, effect: Effect, event: Message, prepared: asyncio.Future[None]) -> None:
        span = spans.of_effect(effect)
        try:
            with within([span]):
                answer = await self._ask(declared, effect, event, prepared, span)
            if answer is not None:
                await self._record(effect, answer, span)
        except LogUnavailable as error:
            logger.warning("an effect waits for the database", effect_id=effect.effect_id, error=str(error))
        finally:
            del self._in_hand[effect.effect_id]
            if sum(other.lane == effect.lane for other, _ in self._in_hand.values()) == IN_HAND // 2:
                self.wake.set()

    async def _ask(
        self, declared: EffectOf, effect: Effect, event: Message, prepared: asyncio.Future[None], span: Span
    ) -> Decision | None:
        """What to decide of the answer; None when there is none yet, and it is tried again later."""
        try:
            async with asyncio.timeout(TRY_S):
                await asyncio.shield(prepared)
                answer = await declared.perform(event, effect.effect_id, self._engine.clock())
            self._attempts.labels("answered").inc()
            return answer
        except Exception as error:
            counts = not isinstance(error, Transient) or error.counts
            if not isinstance(error, Transient | TimeoutError):
                logger.exception("an effect failed", effect_id=effect.effect_id)
            given_up = counts and effect.attempts + 1 >= declared.attempts
            self._attempts.labels("given-up" if given_up else "failed").inc()
            if given_up:
                return declared.give_up(event, error)
            await self._postpone(effect, pause_after(effect.attempts, error, self._chance), counts)
            span.end(error=getattr(error, "code", type(error).__name__))
            return None

    async def _record(self, effect: Effect, answer: Decision, span: Span) -> None:
        """Commit what was decided together with the effect's end, however long the database is away."""
        pause = 0.1
        while True:
            task = Task(self._cause(effect), (answer,), effect_id=effect.effect_id, span=span)
            outcome = await self._submit(task)
            if not isinstance(outcome.error, LogUnavailable):
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        if outcome.error is not None:
            logger.error("an effect's answer failed", effect_id=effect.effect_id, error=str(outcome.error))
            pause_s = pause_after(effect.attempts, outcome.error, self._chance)
            await self._postpone(effect, pause_s, counts=True)

    async def _postpone(self, effect: Effect, pause_s: float, counts: bool) -> None:
        until = self._wall() + timedelta(seconds=pause_s)
        await self._engine.store.postpone_effect(effect, until, counts)

    def _cause(self, effect: Effect) -> Cause:
        """One answer a request: what comes again, or late and from another instance, counts as handled."""
        actor = f"effect:{self._service.name}"
        return Cause(
            f"effect:{effect.effect_id}",
            effect.correlation_id,
            actor,
            self._engine.clock(),
            inbox_key(actor, str(effect.asked_by)),
        )
