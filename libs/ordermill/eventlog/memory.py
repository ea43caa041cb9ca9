"""A log in memory, for tests and simulation: the same behavior as PostgreSQL's, conflicts and leases included."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID
from zlib import crc32

import orjson

from .records import Row, SequencedRow
from .store import (
    NOTHING,
    Backlog,
    Changes,
    Effect,
    Found,
    Page,
    Publication,
    Snapshot,
    StillLeads,
    Timer,
    Transaction,
    VersionConflict,
)

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def shard_of(stream: str, shards: int) -> int:
    """Which of `shards` relays publishes this stream."""
    return crc32(stream.encode()) % shards


class MemoryStore:
    """One service's log as dictionaries; nothing here is awaited for long, so a commit is atomic."""

    def __init__(self) -> None:
        self._streams: dict[str, list[Row]] = {}
        self._committed: list[Row] = []
        self._sequenced = 0
        self._inbox: set[UUID] = set()
        self._timers: dict[tuple[str, str], tuple[Timer, datetime]] = {}
        self._effects: dict[str, tuple[Effect, datetime]] = {}
        self._asked: dict[str, float] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._documents: dict[str, dict[str, bytes]] = {}
        self._publications: dict[tuple[str, str], tuple[Publication, bool]] = {}
        self._cursors: dict[tuple[int, int, str], int] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._leaders: dict[str, asyncio.Lock] = {}
        self._stream_locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        transaction = _MemoryTransaction(self)
        try:
            yield transaction
        finally:
            transaction.unlock()

    async def read_stream(self, stream: str, after: int = 0) -> list[Row]:
        return self._streams.get(stream, [])[after:]

    async def snapshots(self, streams: Collection[str], code: Mapping[str, str]) -> list[Snapshot]:
        found = (self._snapshots.get(stream) for stream in streams)
        return [s for s in found if s is not None and code.get(s.stream.partition("-")[0]) == s.code]

    async def traces(self, streams: Collection[str]) -> dict[str, str]:
        last = {stream: self._streams[stream][-1].trace for stream in streams if stream in self._streams}
        return {stream: trace for stream, trace in last.items() if trace is not None}

    async def read(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> list[SequencedRow]:
        found: list[SequencedRow] = []
        index, shards = shard
        for seq in range(after + 1, self._sequenced + 1):
            row = self._committed[seq - 1]
            if shards == 1 or shard_of(row.stream, shards) == index:
                found.append(SequencedRow(seq, row))
                if len(found) == limit:
                    break
        return found

    async def hashes(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        last = min(after + limit, self._sequenced)
        return [(seq, self._committed[seq - 1].hash) for seq in range(after + 1, last + 1)]

    async def numbers(self, streams: Collection[str]) -> dict[tuple[str, int], int]:
        numbered = enumerate(self._committed[: self._sequenced], 1)
        return {(row.stream, row.version): seq for seq, row in numbered if row.stream in streams}

    async def sequence(self, limit: int = 5_000) -> int:
        fresh = min(limit, len(self._committed) - self._sequenced)
        self._sequenced += fresh
        return fresh

    async def next_page(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> Page:
        if shard[0]:
            return Page(await self.read(after, limit, shard))
        await self.sequence()
        return Page(await self.read(after, limit, shard), await self.unpublished(limit))

    async def head(self) -> int:
        return self._sequenced

    async def due_timers(self, due: datetime, limit: int, now: datetime, lease_until: datetime) -> list[Timer]:
        found = [timer for timer, lease in self._timers.values() if timer.due_at <= due and lease <= now]
        found.sort(key=lambda timer: (timer.due_at, timer.stream, timer.name))
        for timer in found[:limit]:
            self._timers[timer.stream, timer.name] = (timer, lease_until)
        return found[:limit]

    async def due_effects(
        self, now: datetime, limit: int, lease_until: datetime, in_hand: Mapping[str, int] = NOTHING
    ) -> list[Effect]:
        taken, due = Counter(in_hand), []
        for effect, next_at in list(self._effects.values()):
            if next_at <= now and taken[effect.lane] < limit:
                taken[effect.lane] += 1
                self._effects[effect.effect_id] = (effect, lease_until)
                due.append(effect)
        return due

    async def postpone_effect(self, effect: Effect, until: datetime, counts: bool = True) -> None:
        now, _ = self._effects.get(effect.effect_id, (None, None))
        if now is not None and now.asked_by == effect.asked_by:
            self._effects[effect.effect_id] = (replace(now, attempts=now.attempts + counts), until)

    async def document(self, view: str, key: str) -> dict[str, Any] | None:
        found = self._documents.get(view, {}).get(key)
        return None if found is None else orjson.loads(found)

    async def documents(
        self, view: str, where: Mapping[str, str] | None = None, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        table = self._documents.get(view, {})
        for key in sorted(table):
            if key <= after:
                continue
            document = orjson.loads(table[key])
            if all(document.get(name) == value for name, value in (where or {}).items()):
                found.append((key, document))
                if len(found) == limit:
                    break
        return found

    async def all_streams(self, category: str = "") -> AsyncIterator[tuple[str, list[Row]]]:
        for stream in sorted(self._streams):
            if not category or stream.startswith(f"{category}-"):
                yield stream, list(self._streams[stream])

    async def blob(self, sha256: bytes) -> bytes | None:
        return self._blobs.get(sha256)

    async def relay_cursors(self, shard: tuple[int, int], memories: Collection[str]) -> dict[str, int]:
        return {m: self._cursors[(*shard, m)] for m in memories if (*shard, m) in self._cursors}

    async def move_relay_cursors(self, shard: tuple[int, int], told: Mapping[str, int]) -> None:
        self._cursors.update({(*shard, memory): seq for memory, seq in told.items()})

    async def unpublished(self, limit: int) -> list[Publication]:
        return [publication for publication, dirty in self._publications.values() if dirty][:limit]

    async def publications(self, keys: Collection[tuple[str, str]]) -> list[Publication]:
        return [self._publications[key][0] for key in keys if key in self._publications]

    async def published(self, sent: Sequence[Publication]) -> None:
        for publication in sent:
            now, _ = self._publications[publication.topic, publication.key]
            self._publications[publication.topic, publication.key] = (now, now.revision != publication.revision)

    async def republish(self, keys: Collection[tuple[str, str]]) -> None:
        for key in keys:
            publication, _ = self._publications[key]
            self._publications[key] = (publication, True)

    async def republish_topics(self, topics: Collection[str]) -> None:
        await self.republish([key for key in self._publications if key[0] in topics])

    @asynccontextmanager
    async def leadership(self, name: str) -> AsyncIterator[StillLeads]:
        async with self._leaders.setdefault(name, asyncio.Lock()):
            yield _always

    async def passed_over(self) -> int:
        return 0

    async def backlog(self, due: datetime) -> Backlog:
        overdue = [timer.due_at for timer, _ in self._timers.values() if timer.due_at <= due]
        letters = (orjson.loads(document) for document in self._documents.get("dead_letters", {}).values())
        asked = min((self._asked[effect_id] for effect_id in self._effects), default=None)
        return Backlog(
            timers_overdue=len(overdue),
            timers_overdue_s=(due - min(overdue, default=due)).total_seconds(),
            effects_failing=sum(effect.attempts > 0 for effect, _ in self._effects.values()),
            effects_oldest_s=0.0 if asked is None else monotonic() - asked,
            unpublished_states=sum(dirty for _, dirty in self._publications.values()),
            dead_letters=sum(letter["status"] == "waiting" for letter in letters),
        )

    async def counts(self) -> dict[str, int]:
        return {
            "events": len(self._committed),
            "sequenced": self._sequenced,
            "timers": len(self._timers),
            "effects": len(self._effects),
            "inbox": len(self._inbox),
        }

    def _apply(self, changes: Changes) -> None:
        heads: dict[str, int] = {}
        for row in changes.rows:
            head = heads.get(row.stream, len(self._streams.get(row.stream, ())))
            if row.version != head + 1:
                raise VersionConflict(f"{row.stream} is at version {head}, expected {row.version - 1}")
            heads[row.stream] = row.version
        if taken := self._inbox.intersection(changes.inbox):
            raise VersionConflict(f"{len(taken)} messages were handled meanwhile")
        for row in changes.rows:
            self._streams.setdefault(row.stream, []).append(row)
        self._committed.extend(changes.rows)
        self._inbox.update(changes.inbox)
        for timer in changes.fired:
            held = self._timers.get((timer.stream, timer.name))
            if held is not None and held[0].due_at == timer.due_at:
                del self._timers[timer.stream, timer.name]
        for key, setting in changes.timers.items():
            if setting is None:
                self._timers.pop(key, None)
            else:
                self._timers[key] = (setting, _LONG_AGO)
        for effect_id in changes.done_effects:
            self._effects.pop(effect_id, None)
            self._asked.pop(effect_id, None)
        for effect in changes.effects:
            self._effects.setdefault(effect.effect_id, (effect, _LONG_AGO))
            self._asked.setdefault(effect.effect_id, monotonic())
        for view, documents in changes.documents.items():
            table = self._documents.setdefault(view, {})
            table.update({key: orjson.dumps(doc, option=orjson.OPT_SORT_KEYS) for key, doc in documents.items()})
        for (topic, subject), (type_name, data) in changes.publications.items():
            old = self._publications.get((topic, subject))
            revision = old[0].revision + 1 if old else 1
            self._publications[topic, subject] = (Publication(topic, subject, type_name, data, revision), True)
        self._snapshots.update({snapshot.stream: snapshot for snapshot in changes.snapshots})
        self._blobs.update(changes.blobs)


async def _always() -> None:
    return None


class _MemoryTransaction:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._held: list[asyncio.Lock] = []

    async def look_up(
        self, after: Mapping[str, int], code: Mapping[str, str] = NOTHING, messages: Collection[UUID] = ()
    ) -> Found:
        store = self._store
        snapshots = await store.snapshots([stream for stream, version in after.items() if version == 0], code)
        after = dict(after) | {snapshot.stream: snapshot.version for snapshot in snapshots}
        rows = [row for stream, version in after.items() for row in store._streams.get(stream, ())[version:]]
        return Found(rows, snapshots, store._inbox.intersection(messages))

    async def lock(self, streams: Collection[str]) -> None:
        for stream in sorted(streams):
            lock = self._store._stream_locks.setdefault(stream, asyncio.Lock())
            await lock.acquire()
            self._held.append(lock)

    def unlock(self) -> None:
        for lock in self._held:
            lock.release()

    async def commit(self, changes: Changes) -> None:
        self._store._apply(changes)
