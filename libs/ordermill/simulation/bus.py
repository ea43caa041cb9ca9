"""Topics in memory: partitions, consumer groups with offsets, a cluster id, and a memory that can be lost.

What the product needs of Kafka, no more; the same tests run over this and over a broker.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from zlib import crc32

from ordermill.clock import Clock
from ordermill.errors import Transient
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.relay import topics_lacking
from ordermill.eventlog.store import NOTHING, Publication
from ordermill.service.messages import Headers, event_headers, state_headers
from ordermill.service.topics import topics_told_by

Place = tuple[str, int]
"""A topic and one of its partitions."""


class NotTaken(Transient):
    """The broker did not take a batch, or nobody knows whether it did."""

    code = "simulation.not-taken"


class NotYours(Transient):
    """Offsets of records from before the group shared out its partitions anew."""

    code = "simulation.not-yours"


@dataclass(frozen=True, slots=True)
class Record:
    """One message as it lies in a partition."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass
class _Group:
    topics: tuple[str, ...] = ()
    members: list[Consumer] = field(default_factory=list)
    committed: dict[Place, int] = field(default_factory=dict)
    generation: int = 0
    """How often its partitions were shared out."""


class Bus:
    """One broker."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._generation = 1
        self._topics: dict[str, list[list[Record]]] = {}
        self._groups: dict[str, _Group] = {}
        self._readers: dict[str, dict[Consumer | Follower, None]] = defaultdict(dict)
        """By topic, in the order in which they came."""

    @property
    def cluster(self) -> str:
        return f"cluster-{self._generation}"

    def append(
        self, topic: str, key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes]], at: int
    ) -> None:
        number = crc32(key) % self.partitions
        partition = self._partitions(topic)[number]
        partition.append(Record(topic, number, len(partition), at, key, value, tuple(headers)))
        for reader in self._readers[topic]:
            reader.news.set()

    def records(self, topic: str) -> list[list[Record]]:
        """By partition."""
        return self._partitions(topic)

    def forget(self) -> None:
        """Be a new broker: no topics, no offsets, another cluster id."""
        self._generation += 1
        self._topics.clear()
        for group in self._groups.values():
            group.committed.clear()
            self._share_out(group)
        for readers in self._readers.values():
            for reader in readers:
                reader.news.set()

    def join(self, group_id: str, topics: Sequence[str]) -> Consumer:
        group = self._groups.setdefault(group_id, _Group())
        group.topics = tuple(topics)
        member = Consumer(self, group)
        group.members.append(member)
        for topic in topics:
            self._readers[topic][member] = None
        self._share_out(group)
        return member

    def leave(self, member: Consumer) -> None:
        group = member.group
        for topic in group.topics:
            self._readers[topic].pop(member, None)
        if member in group.members:
            group.members.remove(member)
            member.positions = {}
            member.news.set()
            self._share_out(group)

    def rebalance(self, group_id: str) -> None:
        """Share out a group's partitions anew, to others if there are any; whatever is at hand is lost to its owner."""
        group = self._groups[group_id]
        group.members = [*group.members[1:], *group.members[:1]]
        self._share_out(group)

    def follow(self, topics: Sequence[str]) -> Follower:
        follower = Follower(self, topics)
        for topic in topics:
            self._readers[topic][follower] = None
        return follower

    def lag(self) -> int:
        """Records that some group has not settled."""
        return sum(
            len(records) - group.committed.get((topic, number), 0)
            for group in self._groups.values()
            for topic in group.topics
            for number, records in enumerate(self._partitions(topic))
        )

    def _partitions(self, topic: str) -> list[list[Record]]:
        if topic not in self._topics:
            self._topics[topic] = [[] for _ in range(self.partitions)]
        return self._topics[topic]

    def _share_out(self, group: _Group) -> None:
        group.generation += 1
        places = [(topic, number) for topic in group.topics for number in range(self.partitions)]
        for index, member in enumerate(group.members):
            mine = places[index :: len(group.members)]
            member.positions = {place: group.committed.get(place, 0) for place in mine}
            member.news.set()


class Consumer:
    """A member of a group: some partitions, and how far it has read in each."""

    def __init__(self, bus: Bus, group: _Group) -> None:
        self.group = group
        self.positions: dict[Place, int] = {}
        self.news = asyncio.Event()
        self._bus = bus
        self._polled_in = 0

    @property
    def belongs(self) -> bool:
        """Still a member; a group expels those that it has not heard of for long."""
        return self in self.group.members

    async def poll(self, limit: int) -> list[Record]:
        """What is there of its partitions, in order within each, as soon as there is something; nothing if expelled."""
        while self.belongs:
            self.news.clear()
            found: list[Record] = []
            for place in list(self.positions):
                topic, number = place
                start = self.positions[place]
                fresh = self._bus.records(topic)[number][start : start + limit - len(found)]
                if fresh:
                    self.positions[place] = start + len(fresh)
                    found += fresh
            if found:
                self._polled_in = self.group.generation
                return found
            await self.news.wait()
        return []

    def commit(self, records: Iterable[Record]) -> None:
        """Everything up to these is settled. Raises NotYours if partitions were shared out anew since their poll."""
        if self._polled_in != self.group.generation:
            raise NotYours("polled before the partitions were shared out anew")
        self.group.committed.update({(record.topic, record.partition): record.offset + 1 for record in records})


class Follower:
    """Reads topics whole, from their start, and again from the start of a broker that is new."""

    def __init__(self, bus: Bus, topics: Sequence[str]) -> None:
        self.news = asyncio.Event()
        self._bus = bus
        self._topics = topics
        self._cluster = ""
        self._positions: dict[Place, int] = {}

    async def poll(self) -> list[Record]:
        """What is new, as soon as there is something."""
        while not (found := self.at_once()):
            self.news.clear()
            await self.news.wait()
        return found

    def at_once(self) -> list[Record]:
        if self._cluster != self._bus.cluster:
            self._cluster = self._bus.cluster
            self._positions = {}
        found: list[Record] = []
        for topic in self._topics:
            for number, records in enumerate(self._bus.records(topic)):
                start = self._positions.get((topic, number), 0)
                if start < len(records):
                    found += records[start:]
                    self._positions[topic, number] = len(records)
        return found


class BusPublisher:
    """The relay's way to the bus. Sends to no other broker than the one that `cluster` told last."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._cluster: str | None = None

    async def cluster(self) -> str:
        self._cluster = self._bus.cluster
        return self._cluster

    async def is_empty(self, topic: str) -> bool:
        return not any(self._bus.records(topic))

    async def memories(self, service: str) -> dict[str, str]:
        cluster = await self.cluster()
        return {topic: f"{cluster} {topic}" for topic in _told_by(service)}

    async def send_events(self, service: str, rows: Sequence[SequencedRow], known: Mapping[str, int] = NOTHING) -> None:
        for sequenced in rows:
            for topic in topics_lacking(sequenced, service, known):
                self._send(topic, sequenced.row.stream, sequenced.row.data, event_headers(service, sequenced))

    async def send_states(self, service: str, states: Sequence[Publication]) -> None:
        now = self._clock()
        for state in states:
            self._send(state.topic, state.key, state.data, state_headers(service, state, now))

    def _send(self, topic: str, key: str, value: bytes, headers: Headers) -> None:
        if self._cluster not in (None, self._bus.cluster):
            raise NotTaken(f"{self._bus.cluster} answers, {self._cluster} was expected")
        self._bus.append(topic, key.encode(), value, headers, int(self._clock().timestamp() * 1_000))


_told_by = cache(topics_told_by)
"""No type is declared while a simulation runs, and relays ask at each turn."""


def header(record: Any, name: str) -> str:
    """A header's text; empty where there is none."""
    return next((value.decode() for key, value in record.headers if key == name), "")
