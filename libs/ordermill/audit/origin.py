"""Where a violation comes from: the first event at which it was true, and what caused that event, back to the start.

Of the six logs only the streams that have to do with the order, or the SKU, are read, in an order in which they may
have been written: each log in its own, no event before its cause. Then the shortest beginning in which the violation
stands is looked for by halving.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ordermill.eventlog.records import Row, SequencedRow
from ordermill.eventlog.store import Store

from .auditor import Auditor
from .book import Violation
from .parts import order_of

_PAGE = 2_000
_POLICIES = "policies"

Logged = tuple[str, SequencedRow]
"""An event, and the service whose log it is in."""


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


async def origins(stores: Mapping[str, Store], violations: Sequence[Violation]) -> dict[Violation, Origin]:
    """Of each violation. What only a settled end shows has the event that it names; none if it names none."""
    homes = {violation: await _home(stores, violation) for violation in violations}
    near = await _near(stores, set(homes.values()))
    firsts: dict[Violation, Logged] = {}
    for violation, home in homes.items():
        history = History(near[home] + near[_POLICIES])
        if first := history.first(violation) or await _at(stores, violation):
            firsts[violation] = first
    orders = {violation: order_of(first[1].row) or first[1].row.stream for violation, first in firsts.items()}
    around = await _near(stores, set(orders.values()))
    return {
        violation: Origin(_event(first), tuple(map(_event, History(around[orders[violation]]).causes(first))))
        for violation, first in firsts.items()
    }


class History:
    """Some events of all logs in one order, held in memory."""

    def __init__(self, events: Sequence[Logged]) -> None:
        self.events = _in_one_order(events)
        self._by_id = {str(event.row.event_id): (service, event) for service, event in self.events}

    def first(self, violation: Violation) -> Logged | None:
        """The event with which it became true; None if it is not true in the end."""
        low, high = 0, len(self.events)
        if not self._stands(violation, high):
            return None
        while low < high:
            middle = (low + high) // 2
            if self._stands(violation, middle):
                high = middle
            else:
                low = middle + 1
        return self.events[low - 1]

    def _stands(self, violation: Violation, count: int) -> bool:
        """Whether the same check fails at the same place after so many events; how much is wrong may still change."""
        auditor = Auditor(settled=False, events=count)
        for service, event in self.events[:count]:
            auditor.read(service, event.seq, event.row.stream, event.row.type, event.row.data)
        what = (violation.check, violation.service, violation.stream)
        return any((found.check, found.service, found.stream) == what for found in auditor.close().violations)

    def causes(self, event: Logged) -> list[Logged]:
        """What caused it, and what caused that; nearest first."""
        found: list[Logged] = []
        while (cause := self._by_id.get(event[1].row.causation_id)) is not None and cause not in found:
            found.append(cause)
            event = cause
        return found


def _event(logged: Logged) -> Event:
    service, event = logged
    row = event.row
    return Event(service, event.seq, row.stream, row.type, row.recorded_at, row.actor, row.causation_id)


async def _home(stores: Mapping[str, Store], violation: Violation) -> str:
    """The order that the violation is about; a stream, where it is about no order."""
    if violation.stream.startswith("stock-"):
        return violation.stream
    at = await _at(stores, violation)
    rows = ([] if at is None else [at[1].row]) + await stores[violation.service].read_stream(violation.stream)
    return next((order for row in rows if (order := order_of(row))), violation.stream)


async def _at(stores: Mapping[str, Store], violation: Violation) -> Logged | None:
    """The event that the violation names."""
    if violation.seq is None:
        return None
    page = await stores[violation.service].read(violation.seq - 1, 1)
    return (violation.service, page[0]) if page else None


async def _near(stores: Mapping[str, Store], homes: Collection[str]) -> dict[str, list[Logged]]:
    """By home: the events of every stream in which an event names it. And of the policies."""
    streams: dict[str, set[str]] = {home: {home} for home in homes}
    async for _, event in _all(stores):
        if (named := streams.get(order_of(event.row) or "")) is not None:
            named.add(event.row.stream)
    found: dict[str, list[Logged]] = {home: [] for home in (*homes, _POLICIES)}
    homes_of: dict[str, list[str]] = {}
    for home, of_home in streams.items():
        for stream in of_home:
            homes_of.setdefault(stream, []).append(home)
    async for service, event in _all(stores):
        stream = event.row.stream
        for home in [_POLICIES] if stream.startswith("policy-") else homes_of.get(stream, ()):
            found[home].append((service, event))
    return found


async def _all(stores: Mapping[str, Store]) -> AsyncIterator[Logged]:
    for service, store in stores.items():
        after = 0
        while page := await store.read(after, _PAGE):
            for event in page:
                yield service, event
            after = page[-1].seq


def _in_one_order(events: Sequence[Logged]) -> list[Logged]:
    """The earliest recorded goes first, unless its cause has not gone yet: clocks differ, causes do not."""
    logs: dict[str, list[SequencedRow]] = {}
    for service, event in events:
        logs.setdefault(service, []).append(event)
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
