"""Where a violation comes from: the first event at which it was true, and what caused that event, back to the start.

The six logs are read in an order in which they may have been written: each in its own, no event before its cause. Then
the shortest beginning in which the violation stands is looked for by halving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ordermill.eventlog.records import Row, SequencedRow
from ordermill.eventlog.store import Store

from .auditor import Auditor
from .books import Violation

_PAGE = 2_000


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one log, and who or what it was recorded for."""

    service: str
    seq: int
    stream: str
    type: str
    recorded_at: datetime
    actor: str
    causation_id: str

    def __str__(self) -> str:
        return f"{self.service} {self.seq} {self.stream} {self.type} {self.recorded_at:%Y-%m-%d %H:%M:%S} {self.actor}"


@dataclass(frozen=True, slots=True)
class Origin:
    """`first`: the event with which it became true. `causes`: what caused that, nearest first."""

    first: Event
    causes: tuple[Event, ...]

    def __str__(self) -> str:
        chain = "".join(f", because of {cause}" for cause in self.causes)
        return f"first at {self.first}{chain}"


class History:
    """All events of all logs in one order, held in memory."""

    def __init__(self, events: Sequence[tuple[str, SequencedRow]]) -> None:
        self._events = events
        self._by_id = {str(event.row.event_id): number for number, (_, event) in enumerate(events)}

    @classmethod
    async def read(cls, stores: Mapping[str, Store]) -> History:
        logs: dict[str, list[SequencedRow]] = {}
        for service, store in stores.items():
            logs[service] = []
            while page := await store.read(len(logs[service]), _PAGE):
                logs[service] += page
        return cls.of(logs)

    @classmethod
    def of(cls, logs: Mapping[str, Sequence[SequencedRow]]) -> History:
        return cls(_in_one_order(logs))

    def events(self) -> list[Event]:
        return [self._event(number) for number in range(len(self._events))]

    def origin(self, violation: Violation) -> Origin | None:
        """None for what only a settled end shows: no event made that wrong, one is missing."""
        low, high = 0, len(self._events)
        if not self._stands(violation, high):
            return None
        while low < high:
            middle = (low + high) // 2
            if self._stands(violation, middle):
                high = middle
            else:
                low = middle + 1
        first = low - 1
        return Origin(self._event(first), tuple(self._event(number) for number in self._causes(first)))

    def _stands(self, violation: Violation, count: int) -> bool:
        """Whether the same check fails at the same place after so many events; how much is wrong may still change."""
        auditor = Auditor(settled=False, events=count)
        for service, event in self._events[:count]:
            auditor.read(service, event.seq, event.row.stream, event.row.type, event.row.data)
        what = (violation.check, violation.service, violation.stream)
        return any((found.check, found.service, found.stream) == what for found in auditor.close().violations)

    def _causes(self, number: int) -> list[int]:
        found: list[int] = []
        while (cause := self._by_id.get(self._events[number][1].row.causation_id)) is not None and cause not in found:
            found.append(cause)
            number = cause
        return found

    def _event(self, number: int) -> Event:
        service, event = self._events[number]
        row = event.row
        return Event(service, event.seq, row.stream, row.type, row.recorded_at, row.actor, row.causation_id)


def _in_one_order(logs: Mapping[str, Sequence[SequencedRow]]) -> list[tuple[str, SequencedRow]]:
    """The earliest recorded goes first, unless its cause has not gone yet: clocks differ, causes do not."""
    ours = {str(event.row.event_id) for log in logs.values() for event in log}
    gone: set[str] = set()
    places = dict.fromkeys(logs, 0)
    merged: list[tuple[str, SequencedRow]] = []

    def waits(row: Row) -> bool:
        return row.causation_id in ours and row.causation_id not in gone

    while heads := [(service, logs[service][at]) for service, at in places.items() if at < len(logs[service])]:
        ready = [head for head in heads if not waits(head[1].row)] or heads
        service, event = min(ready, key=lambda head: (head[1].row.recorded_at, head[0]))
        merged.append((service, event))
        gone.add(str(event.row.event_id))
        places[service] += 1
    return merged
