"""Which trace a piece of work goes on with, and what its span says.

A fact of another service goes on with the trace that the fact came with. What comes from outside, a request or a
message on an outside topic, is a step of the story that its stream has had so far, and its span is linked to the span
of who sent it; where there is no story yet, it goes on with the sender's trace, or begins one. So an order is one trace
from its channel to the door, though people, carriers and days lie between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ordermill.decider import Decision
from ordermill.eventlog.engine import Engine, Outcome
from ordermill.eventlog.store import Effect, Timer
from ordermill.tracing import Span, current, start, tracing

from .messages import Envelope


async def stories(engine: Engine, tasks: Sequence[Sequence[Decision]]) -> list[str | None]:
    """For each of several tasks' decisions: the trace of the story that they go on with. None while tracing is off."""
    if not tracing():
        return [None] * len(tasks)
    own = [_own(engine, decisions) for decisions in tasks]
    known = await engine.store.traces({stream for streams in own for stream in streams})
    return [_first(known, streams) for streams in own]


def _own(engine: Engine, decisions: Sequence[Decision]) -> list[str]:
    """The streams of these decisions that are one story each."""
    streams = (stream for decision in decisions for stream in decision.streams)
    return [stream for stream in streams if not engine.aggregates.decider(stream).shared]


def _first(known: Mapping[str, str], streams: Sequence[str]) -> str | None:
    return next((known[stream] for stream in streams if stream in known), None)


@dataclass(frozen=True, slots=True)
class Polled:
    """One message of a poll. `outside`: it is no fact of one of our services."""

    record: Any
    envelope: Envelope | None
    decisions: Sequence[Decision]
    outside: bool


async def of_poll(engine: Engine, service: str, poll: Sequence[Polled], began_ns: int) -> list[Span]:
    """A span for each message, from the poll to its commit, while tracing is on."""
    owned = [_own(engine, each.decisions) for each in poll]
    wanted = {stream for each, streams in zip(poll, owned, strict=True) if each.outside for stream in streams}
    known = await engine.store.traces(wanted) if wanted else {}
    spans: list[Span] = []
    for each, streams in zip(poll, owned, strict=True):
        story = _first(known, streams) if each.outside else None
        span = _of_message(service, each, story, len(poll), began_ns)
        spans.append(span)
        if span.trace is not None:
            known |= dict.fromkeys(streams, span.trace)  # what comes later in the poll goes on from here
    return spans


def _of_message(service: str, polled: Polled, story: str | None, count: int, began_ns: int) -> Span:
    record, envelope = polled.record, polled.envelope
    about: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        "messaging.consumer.group.name": f"oms.{service}",
        "messaging.batch.message_count": count,
    }
    sender = None
    if envelope is not None:
        sender = envelope.trace
        about |= {
            "messaging.message.id": envelope.id,
            "cloudevents.event_id": envelope.id,
            "cloudevents.event_source": envelope.source,
            "cloudevents.event_type": envelope.type,
        }
    return start(f"process {record.topic}", "consumer", story or sender, about, sender if story else None, began_ns)


def of_request(decisions: Sequence[Decision], story: str | None) -> Span:
    """What one request asks to decide."""
    request = current()
    if not tracing():
        return Span(request)
    streams = [stream for decision in decisions for stream in decision.streams]
    about = {"oms.streams": ", ".join(streams[:5])}
    category = streams[0].partition("-")[0] if streams else "nothing"
    return start(f"decide {category}", "internal", story or request, about, request if story else None)


def of_timer(timer: Timer) -> Span:
    about = {"oms.streams": timer.stream, "oms.timer.due_at": timer.due_at.isoformat()}
    return start(f"timer {timer.name.partition(':')[0]}", "internal", timer.trace, about if tracing() else None)


def of_effect(effect: Effect) -> Span:
    about: dict[str, str | int] = {
        "oms.streams": effect.stream,
        "oms.effect.id": effect.effect_id,
        "oms.effect.attempt": effect.attempts + 1,
    }
    return start(f"effect {effect.type}", "internal", effect.trace, about)


def close(span: Span, outcome: Outcome, error: Exception | None = None) -> None:
    """The end of a task that came to one. `error`: why a message was kept as a dead letter."""
    if not span.recording:
        return
    error = error or outcome.error
    about: dict[str, str | int] = {"oms.events": len(outcome.events)}
    if outcome.repeated:
        about["oms.repeated"] = True
    span.end(about, None if error is None else str(getattr(error, "code", type(error).__name__)))
