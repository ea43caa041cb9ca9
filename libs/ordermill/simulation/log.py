"""One process's way to a log in memory, with all that can go wrong on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.records import Row, SequencedRow
from ordermill.eventlog.store import (
    NOTHING,
    Backlog,
    Changes,
    Effect,
    Found,
    LogUnavailable,
    Page,
    Publication,
    Snapshot,
    StillLeads,
    Timer,
    Transaction,
    VersionConflict,
)

from .nemesis import Fault, Nemesis
from .process import Process

T = TypeVar("T")


class FaultyStore:
    """A log as one process reaches it. What is committed stays; whether the process hears of it is another matter."""

    def __init__(self, log: MemoryStore, process: Process, nemesis: Nemesis) -> None:
        self.log = log
        self.conflicts = 0
        """How many more commits are refused as if others had been first."""
        self._process = process
        self._nemesis = nemesis

    async def read_from(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._process.point(what)
        if self._nemesis.strikes(Fault.DATABASE_AWAY, self._process.name, what):
            raise LogUnavailable(f"no answer to {what}")
        return await call()

    async def write_to(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        done = await self.read_from(what, call)
        await self._process.point(f"{what}, done")
        if self._nemesis.strikes(Fault.COMMIT_UNANSWERED, self._process.name, what):
            raise LogUnavailable(f"no answer to {what}, which was done")
        return done

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self.log.transaction() as inner:
            yield _FaultyTransaction(self, inner, self._nemesis, self._process.name)

    @asynccontextmanager
    async def leadership(self, name: str) -> AsyncIterator[StillLeads]:
        """The lock is a connection's: should that break, another may lead before this one knows."""
        await self._process.point("lead")
        held = self.log.leadership(name)
        await held.__aenter__()
        released = False

        async def lose() -> None:
            nonlocal released
            while not released:
                await asyncio.sleep(3)
                if self._nemesis.strikes(Fault.LEAD_LOST, self._process.name):
                    released = True
                    await held.__aexit__(None, None, None)

        async def still_leads() -> None:
            await self._process.point("ask whether it leads")
            if released:
                raise LogUnavailable("another leads")

        losing = self._process.spawn(lose())
        try:
            yield still_leads
        finally:
            losing.cancel()
            if not released:
                released = True
                await held.__aexit__(None, None, None)

    async def read_stream(self, stream: str, after: int = 0) -> list[Row]:
        return await self.read_from("read a stream", lambda: self.log.read_stream(stream, after))

    async def snapshots(self, streams: Collection[str], code: Mapping[str, str]) -> list[Snapshot]:
        return await self.read_from("read snapshots", lambda: self.log.snapshots(streams, code))

    async def traces(self, streams: Collection[str]) -> dict[str, str]:
        return await self.log.traces(streams)

    async def read(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> list[SequencedRow]:
        return await self.read_from("read the log", lambda: self.log.read(after, limit, shard))

    async def hashes(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        return await self.read_from("read hashes", lambda: self.log.hashes(after, limit))

    async def numbers(self, streams: Collection[str]) -> dict[tuple[str, int], int]:
        return await self.read_from("read numbers", lambda: self.log.numbers(streams))

    async def sequence(self, limit: int = 5_000) -> int:
        return await self.write_to("number events", lambda: self.log.sequence(limit))

    async def next_page(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> Page:
        return await self.write_to("number and read on", lambda: self.log.next_page(after, limit, shard))

    async def head(self) -> int:
        return await self.read_from("read the head", self.log.head)

    async def due_timers(self, due: datetime, limit: int, now: datetime, lease_until: datetime) -> list[Timer]:
        return await self.write_to("claim timers", lambda: self.log.due_timers(due, limit, now, lease_until))

    async def due_effects(
        self, now: datetime, limit: int, lease_until: datetime, in_hand: Mapping[str, int] = NOTHING
    ) -> list[Effect]:
        return await self.write_to("claim effects", lambda: self.log.due_effects(now, limit, lease_until, in_hand))

    async def postpone_effect(self, effect: Effect, until: datetime, counts: bool = True) -> None:
        await self.write_to("postpone an effect", lambda: self.log.postpone_effect(effect, until, counts))

    async def document(self, view: str, key: str) -> dict[str, Any] | None:
        return await self.read_from("read a document", lambda: self.log.document(view, key))

    async def documents(
        self, view: str, where: Mapping[str, str] | None = None, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        return await self.read_from("read documents", lambda: self.log.documents(view, where, after, limit))

    def all_streams(self, category: str = "") -> AsyncIterator[tuple[str, list[Row]]]:
        return self.log.all_streams(category)

    async def blob(self, sha256: bytes) -> bytes | None:
        return await self.read_from("read a blob", lambda: self.log.blob(sha256))

    async def relay_cursors(self, shard: tuple[int, int], memories: Collection[str]) -> dict[str, int]:
        return await self.read_from("read the cursors", lambda: self.log.relay_cursors(shard, memories))

    async def move_relay_cursors(self, shard: tuple[int, int], told: Mapping[str, int]) -> None:
        await self.write_to("move the cursors", lambda: self.log.move_relay_cursors(shard, told))

    async def unpublished(self, limit: int) -> list[Publication]:
        return await self.read_from("read states", lambda: self.log.unpublished(limit))

    async def publications(self, keys: Collection[tuple[str, str]]) -> list[Publication]:
        return await self.read_from("read states", lambda: self.log.publications(keys))

    async def published(self, sent: Sequence[Publication]) -> None:
        await self.write_to("note what was sent", lambda: self.log.published(sent))

    async def republish(self, keys: Collection[tuple[str, str]]) -> None:
        await self.write_to("have states sent again", lambda: self.log.republish(keys))

    async def republish_topics(self, topics: Collection[str]) -> None:
        await self.write_to("have all states sent", lambda: self.log.republish_topics(topics))

    async def passed_over(self) -> int:
        return await self.log.passed_over()

    async def backlog(self, due: datetime) -> Backlog:
        return await self.log.backlog(due)

    async def counts(self) -> dict[str, int]:
        return await self.log.counts()


class _FaultyTransaction:
    def __init__(self, store: FaultyStore, inner: Transaction, nemesis: Nemesis, name: str) -> None:
        self._store = store
        self._inner = inner
        self._nemesis = nemesis
        self._name = name

    async def look_up(
        self, after: Mapping[str, int], code: Mapping[str, str] = NOTHING, messages: Collection[UUID] = ()
    ) -> Found:
        return await self._store.read_from("look up", lambda: self._inner.look_up(after, code, messages))

    async def lock(self, streams: Collection[str]) -> None:
        await self._store.read_from("lock streams", lambda: self._inner.lock(streams))

    async def commit(self, changes: Changes) -> None:
        if self._store.conflicts == 0 and self._nemesis.strikes(Fault.CONFLICT, self._name):
            self._store.conflicts = 1 + self._nemesis.one_of(12)
        if self._store.conflicts:
            self._store.conflicts -= 1
            raise VersionConflict("as told by a fault")
        await self._store.write_to("commit", lambda: self._inner.commit(changes))
