"""What a service is made of, in one place: the page a reader opens first is `services/<name>/app.py`, which fills this.

Service(
    name="tracking",
    deciders=(SHIPMENTS, STATUSES),
    consumes=(on(FulfillmentShipped, announce), on(ParcelScanned, record_scan)),
    timers={"promise": check_promise, "lost": check_lost}, set_timers=deadlines,
    views=(View("shipments", "shipment", shipment_summary),),
    published=(PublishedState("status", order_status),),
    routes=router,
)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from fastapi import APIRouter

from ordermill.contracts.base import Fact, Message
from ordermill.decider import Decider, Decision
from ordermill.eventlog.checkpoints import CHECKPOINTS
from ordermill.eventlog.engine import Rules
from ordermill.eventlog.store import Timer
from ordermill.eventlog.views import PublishedState, View

from .deadletters import LETTER_VIEW, LETTERS
from .outbound import Outbound

M = TypeVar("M", bound=Message)
F = TypeVar("F", bound=Fact)


@dataclass(frozen=True, slots=True)
class Received:
    """What a handler may know of a message besides its content."""

    message_id: str
    correlation_id: str
    happened_at: datetime
    now: datetime
    stream_version: int = 0
    """Its place in the stream it comes from; 0 if its sender gave none."""


@dataclass(frozen=True)
class Consumes:
    """A message type and the decisions that one message asks for."""

    message: type[Message]
    handle: Callable[[Any, Received], Iterable[Decision]]


def on(message: type[M], handle: Callable[[M, Received], Iterable[Decision]]) -> Consumes:
    """Each `message` asks for the decisions that `handle` names."""
    return Consumes(message, handle)


async def _nothing_to_prepare(items: Sequence[Any]) -> None:
    return None


@dataclass(frozen=True)
class EffectOf:
    """Something done outside, once, because of an event.

    `perform` does it under `key(event)` and says what to decide of the answer, a refusal included; it raises Transient
    to be tried again under the same key, later each time. After `attempts` tries `give_up` says what to decide. A fact
    `ended_by` of the same key ends it sooner; a try that is under way then may still act.
    """

    event: type[Fact]
    key: Callable[[Any], str]
    perform: Callable[[Any, str, datetime], Awaitable[Decision]]
    give_up: Callable[[Any, Exception], Decision]
    attempts: int = 12
    """The last comes about seven minutes after the first; what did not even leave the house is no try."""
    lane: Callable[[Any], str] = lambda event: ""
    """Who is asked: effects of one lane never wait for those of another."""
    ended_by: type[Fact] | None = None
    prepare: Callable[[Sequence[Any]], Coroutine[Any, Any, None]] = _nothing_to_prepare
    """Once for all that are due together: fetch what they need (keys of customers)."""


@dataclass(frozen=True)
class Follows:
    """A picture of other services' latest states, read whole from a compacted topic into memory at start."""

    message: type[Message]
    absorb: Callable[[Any], None]


def _no_timers(stream: str, event: Fact) -> Sequence[Timer | tuple[str, str]]:
    return ()


AT_ONCE_S = 0.015
"""A service's pace where an order waits for it."""
IN_A_MOMENT_S = 0.15
"""Where people, carriers and parcels take hours."""


@dataclass(frozen=True)
class Service:
    """One service. Everything else, from batches to metrics, the chassis gives."""

    name: str
    deciders: tuple[Decider[Any], ...]
    consumes: tuple[Consumes, ...] = ()
    follows: tuple[Follows, ...] = ()
    views: tuple[View, ...] = ()
    published: tuple[PublishedState, ...] = ()
    set_timers: Callable[[str, Fact], Sequence[Timer | tuple[str, str]]] = _no_timers
    timers: Mapping[str, Callable[[Timer], Iterable[Decision]]] = field(default_factory=dict)
    """By the part of a timer's name before a colon: what a timer that is due asks for."""
    effects: tuple[EffectOf, ...] = ()
    outbound: Outbound | None = None
    """Its way to providers; its metrics are shown with the service's, and it is closed at the end."""
    prepare: Callable[[Sequence[Message]], Awaitable[None]] = _nothing_to_prepare
    """Once a batch, before its handlers: fetch what they need from outside (keys of customers)."""
    startup: Callable[[Any], Awaitable[None]] | None = None
    """Gets the running service before it consumes."""
    background: tuple[Callable[[Any], Coroutine[Any, Any, None]], ...] = ()
    """Runs as long as the service does (watching a folder)."""
    routes: APIRouter | None = None
    contended: frozenset[str] = frozenset()
    pace_s: float = AT_ONCE_S
    """How long it waits for more before it takes in, and tells, what came. Each time costs as much as ten messages."""

    @property
    def topics(self) -> list[str]:
        """What it subscribes to."""
        return sorted({consumed.message.topic for consumed in self.consumes})

    def rules(self) -> Rules:
        return Rules(
            deciders=(*self.deciders, LETTERS, CHECKPOINTS),
            views=(*self.views, LETTER_VIEW),
            published=self.published,
            timers=self.set_timers,
            effects={effect.event: effect.key for effect in self.effects},
            ends={effect.ended_by: effect.key for effect in self.effects if effect.ended_by},
            lanes={effect.event: effect.lane for effect in self.effects},
            contended=self.contended,
        )
