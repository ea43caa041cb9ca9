"""The relay: gives committed events their numbers and publishes them. Nothing else publishes.

One relay a shard works at a time (an advisory lock), so a stream's order on its topic is its order in the log. What was
committed is published after any crash; a topic that is new, or was emptied with its broker or without, is filled from
the first event on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import time_ns
from typing import Protocol
from uuid import UUID

import structlog

from ordermill.contracts.base import FAMILIES
from ordermill.errors import Transient
from ordermill.tracing import sampled, start, tracing
from ordermill.waiting import is_set

from .records import SequencedRow
from .store import NOTHING, Changes, LogUnavailable, Publication, StillLeads, Store

logger = structlog.get_logger(__name__)


CLUSTER_CHECK_S = 1.0
"""How often a relay makes sure that the broker is the one it knows, and that it still leads."""
CURSOR_EVERY_S = 0.5
"""How often a relay notes how far it is. Whoever follows it after a crash sends again what was sent since."""
ALONE_AFTER_S = 5.0
"""How long after it took the lead a relay reckons with what its predecessor still had in hand. An older state that
comes onto the topic behind a newer one would stay the last there, so the states of that time are sent once more."""
LONGEST_PACE_S = 0.15
STANDS_BY_S = 5.0
"""Who has waited for the lead for so long waits for another that leads, and not for its own next try."""
EAGER_STEPS = 8
"""So many looks in quick succession for what this process has committed, or another whose events came just now."""


class BrokerReplaced(Transient):
    """The broker behind the address, or a topic of ours, is another one now, which knows nothing of us."""

    code = "relay.broker-replaced"

    def __init__(self, service: str, topics: Sequence[str]) -> None:
        super().__init__(f"{service}: filled again from the log, since new: {', '.join(topics)}")


class Publisher(Protocol):
    """Where the relay sends to."""

    async def memories(self, service: str) -> dict[str, str]:
        """By topic on which the log is told, what identifies the broker's memory of it: another value means that it
        knows nothing of us.
        """
        ...

    async def is_empty(self, topic: str) -> bool: ...

    async def send_events(self, service: str, rows: Sequence[SequencedRow], known: Mapping[str, int] = NOTHING) -> None:
        """Publish in order, each to those topics that lack it; return when the broker has all of them."""
        ...

    async def send_states(self, service: str, states: Sequence[Publication]) -> None: ...


def topics_of(type_name: str, service: str) -> tuple[str, ...]:
    """Where events of this type go. The family decides, so old versions go where new ones do.

    A type that this code does not know (a newer release wrote it, then was taken back) goes to the service's topic.
    """
    cls = FAMILIES.get(type_name.rpartition(".")[0])
    if cls is None:
        return (f"oms.{service}.events",)
    return (cls.topic.replace("{service}", service), *cls.also_on)


def topics_lacking(sequenced: SequencedRow, service: str, known: Mapping[str, int]) -> Iterator[str]:
    """Where this event is still to go. `known`: by topic, up to which number it has them; all are new to others."""
    for topic in topics_of(sequenced.row.type, service):
        if sequenced.seq > known.get(topic, 0):
            yield topic


@dataclass
class RelayStatus:
    """How far publishing is, for metrics and the doctor."""

    leading: bool = False
    failing: bool = False
    """Its last try came to nothing, and no other relay is known to lead."""
    published: int = 0


class Relay:
    """Publishes one shard of a service's log, at most once in `pace_s` seconds; what is committed meanwhile goes along.

    Woken by this process's own commits; every `poll_s` seconds it looks for those of other instances.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        service: str,
        shard: tuple[int, int] = (0, 1),
        poll_s: float = 0.2,
        pace_s: float = 0.015,
        batch: int = 1_000,
    ) -> None:
        self.status = RelayStatus()
        self._store = store
        self._publisher = publisher
        self._service = service
        self._shard = shard
        self._poll_s = poll_s
        self._pace_s = pace_s
        self._memories: dict[str, str] = {}
        """By topic, the broker's memory that it has told."""
        self._known: dict[str, int] = {}
        """By topic, up to which number it was told before this relay took the lead."""
        self._noted: dict[str, int] = {}
        """By memory, up to which number that is on record."""
        self._due: set[UUID] = set()
        """Events that this process has committed and not yet published."""
        self._others_write = False
        self._alone_at = 0.0
        self._unsure: set[tuple[str, str]] = set()
        """(topic, key) of states to be sent once more then."""
        self._batch = batch
        self._wake = asyncio.Event()

    @property
    def unsure(self) -> bool:
        """Whether it leads, and has states to send once more: see ALONE_AFTER_S."""
        return self.status.leading and bool(self._unsure)

    def wake(self, changes: Changes | None = None) -> None:
        """Something was committed: look at once."""
        if changes is not None and self.status.leading:
            self._due.update(row.event_id for row in changes.rows)
        self._wake.set()

    def unpublished(self, head: int) -> int:
        """Events numbered up to `head` that are not on Kafka. 0 where another relay leads, which tells, and where this
        one has not come so far as to know.
        """
        knows = self._memories and (self.status.leading or self.status.failing)
        return max(0, head - self.status.published) if knows else 0

    async def run(self) -> None:
        """Wait for the lead, then publish until canceled; after trouble, start over with a pause."""
        pause = 0.2
        while True:
            standing_by = asyncio.get_running_loop().call_later(STANDS_BY_S, self._stand_by)
            try:
                async with self._store.leadership(f"relay-{self._shard[0]}-{self._shard[1]}") as still_leads:
                    standing_by.cancel()
                    self.status.leading = True
                    await self._lead(still_leads)
            except Exception as error:
                pause = min(pause * 2, 2.0) if self.status.failing else 0.2
                self.status.failing = True
                if isinstance(error, Transient):
                    logger.warning("relay starts over", service=self._service, error=str(error), pause_s=pause)
                else:
                    logger.exception("the relay failed, starts over", service=self._service, pause_s=pause)
                await asyncio.sleep(pause)
            finally:
                standing_by.cancel()
                self.status.leading = False

    def _stand_by(self) -> None:
        self.status.failing = False

    async def _lead(self, still_leads: StillLeads) -> None:
        memories = await self._publisher.memories(self._service)
        self._noted = await self._store.relay_cursors(self._shard, memories.values())
        known = {topic: self._noted.get(memory, 0) for topic, memory in memories.items()}
        for topic, memory in memories.items():
            if memory == self._memories.get(topic):
                known[topic] = max(known[topic], self.status.published)  # trouble made us start over: it has those
        if await self._publisher.is_empty(f"oms.{self._service}.events"):
            known = dict.fromkeys(known, 0)
        if new := sorted(topic for topic, cursor in known.items() if not cursor):
            # Also where something is there already: whoever published it may not have come to the states.
            if await self._store.head():
                logger.info("filling topics", service=self._service, topics=new)
            await self._store.republish_topics(new)
        self._memories, self._known = memories, known
        self.status.published = min(known.values())
        # Before the first batch: who follows sees a topic that is not empty, and must not skip the rest.
        await self._note()
        loop = asyncio.get_running_loop()
        looked_at = noted_at = loop.time()
        self._alone_at = looked_at + ALONE_AFTER_S
        eager = 0

        async def look() -> None:
            nonlocal looked_at
            if loop.time() - looked_at > CLUSTER_CHECK_S:
                looked_at = loop.time()
                await still_leads()
                found = await self._publisher.memories(self._service)
                if others := sorted(topic for topic, memory in found.items() if memories[topic] != memory):
                    raise BrokerReplaced(self._service, others)

        while True:
            self._wake.clear()
            began = loop.time()
            await look()
            if self._unsure and began > self._alone_at:
                await self._send_again()
            published = await self.step(look)
            self.status.failing = False
            if began - noted_at > CURSOR_EVERY_S:
                noted_at = began
                await self._note()
            took = loop.time() - began
            if published >= self._batch:
                continue
            if published:
                eager = EAGER_STEPS if self._due or self._others_write else 0
            # A commit may be held back for a moment by an older transaction that is still open: look again soon.
            elif await is_set(self._wake, self._pace_s if eager else self._poll_s):
                eager = EAGER_STEPS
            else:
                eager = max(0, eager - 1)
                if not eager:
                    self._due.clear()  # published before we heard of their commit
            # The longer a step takes, the busier the machine, and the more a fuller batch saves.
            rest = max(self._pace_s, min(LONGEST_PACE_S, took))
            await asyncio.sleep(max(0.0, began + took + rest - loop.time()))

    async def drain(self, timeout_s: float = 5.0) -> None:
        """Before a stop: publish what is committed, if this relay leads, and database and broker let it in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        with suppress(LogUnavailable):
            while self.status.leading and asyncio.get_running_loop().time() < deadline:
                if self.status.published >= await self._store.head():
                    if self._unsure:
                        await self._send_again()  # by whoever leads next
                    await self._note()
                    return
                self.wake()
                await asyncio.sleep(0.02)

    async def step(self, look: StillLeads) -> int:
        """Number and publish what is there, at most one batch; how many events that were.

        States go before events: who reads an event may look at a state that is at least as new. Before either does,
        `look`: who has stood still since the page was read may have been replaced, or may find another broker.
        """
        page = await self._store.next_page(self.status.published, self._batch, self._shard)
        rows, states = page.rows, page.states
        while states:
            await look()
            self._note_unsure(states)
            await self._publisher.send_states(self._service, states)
            await self._store.published(states)
            states = await self._store.unpublished(self._batch) if len(states) >= self._batch else []
        if rows:
            await look()
            began = time_ns()
            await self._publisher.send_events(self._service, rows, self._known)
            if tracing():
                _trace(self._service, rows, self._known, began)
            self.status.published = rows[-1].seq
            sent = {sequenced.row.event_id for sequenced in rows}
            self._others_write = not sent <= self._due
            self._due -= sent
        return len(rows)

    def _note_unsure(self, states: Sequence[Publication]) -> None:
        if self.status.leading and asyncio.get_running_loop().time() < self._alone_at:
            self._unsure.update((state.topic, state.key) for state in states)

    async def _send_again(self) -> None:
        again = frozenset(self._unsure)
        await self._store.republish(again)
        self._unsure -= again

    async def _note(self) -> None:
        told = {memory: max(self._known[topic], self.status.published) for topic, memory in self._memories.items()}
        if told != self._noted:
            await self._store.move_relay_cursors(self._shard, told)
            self._noted = told


def _trace(service: str, rows: Sequence[SequencedRow], known: Mapping[str, int], began_ns: int) -> None:
    """A span for each message sent, in the trace of its event. Consumers go on from the event, not from here: who
    reads a message that was published again is in the same place of the same trace.
    """
    for sequenced in rows:
        row = sequenced.row
        if not sampled(row.trace):
            continue
        for topic in topics_lacking(sequenced, service, known):
            about: dict[str, str | int] = {
                "messaging.system": "kafka",
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.destination.name": topic,
                "messaging.message.id": str(row.event_id),
                "messaging.batch.message_count": len(rows),
                "cloudevents.event_type": row.type,
            }
            start(f"send {topic}", "producer", row.trace, about, began_ns=began_ns).end()
