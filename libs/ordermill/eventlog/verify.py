"""Proof that a log is whole, and that what is derived follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from ordermill.contracts.base import decode
from ordermill.contracts.service import CheckpointMade
from ordermill.errors import OrdermillError

from .aggregates import Aggregate, Aggregates
from .checkpoints import CHECKPOINTS, Closed, faults_after
from .engine import Rules
from .merkle import leaf, root
from .rebuild import Progress
from .records import GENESIS, Row, chained
from .store import Publication, Snapshot, Store
from .views import PublishedState, View

_PAGE = 5_000
_STREAMS_A_PASS = 500_000
"""Whose versions are in memory at once."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that does not follow from the log, or a log that is not whole. `what` is stable: match on that."""

    what: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what} {self.where}: {self.detail}"


async def verify_store(
    store: Store, rules: Rules, progress: Progress = lambda events: None, limit: int = 1_000
) -> list[Violation]:
    """Check the whole of a log while it may be at work; the first `limit` violations, [] if all is as it must be.

    Every hash and version of every stream; the sequence, dense and in the order of each stream; the checkpoints, by the
    events that they close; and that snapshots, views and publications are, byte for byte in canonical JSON, what
    folding gives. Memory is bounded by the largest stream and by passes of half a million streams each.
    """
    return await _Verification(store, rules, progress, limit).run()


class _Enough(Exception):
    pass


class _Verification:
    def __init__(self, store: Store, rules: Rules, progress: Progress, limit: int) -> None:
        self._store = store
        self._rules = rules
        self._progress = progress
        self._limit = limit
        self._aggregates = Aggregates(rules.deciders)
        self._found: list[Violation] = []
        self._closings: list[Row] = []

    async def run(self) -> list[Violation]:
        try:
            events, streams = await self._streams()
            await self._sequence(events, streams)
            await self._checkpoints()
        except _Enough:
            pass
        return self._found

    def _report(self, what: str, where: str, detail: str) -> None:
        self._found.append(Violation(what, where, detail))
        if len(self._found) >= self._limit:
            raise _Enough

    async def _streams(self) -> tuple[int, int]:
        """Each stream's chain and all that is derived from it; how many events and streams there are."""
        views = {view.name: _Pager(self._store, view.name) for view in self._rules.views}
        events = streams = waiting = 0
        batch: list[tuple[str, list[Row]]] = []
        async for stream, rows in self._store.all_streams():
            batch.append((stream, rows))
            events += len(rows)
            streams += 1
            waiting += len(rows)
            if waiting >= _PAGE:
                await self._batch(batch, views)
                self._progress(events)
                batch, waiting = [], 0
        await self._batch(batch, views)
        for view in self._rules.views:
            async for key in views[view.name].rest():
                await self._orphan(view, key)
        self._progress(events)
        return events, streams

    async def _batch(self, batch: Sequence[tuple[str, list[Row]]], views: dict[str, _Pager]) -> None:
        folded: dict[str, Aggregate] = {}
        snapshots = await self._snapshots([stream for stream, _ in batch if self._aggregates.owns(stream)])
        for stream, rows in batch:
            snapshot = snapshots.get(stream)
            if snapshot is not None and snapshot.version > rows[-1].version:  # made since the rows were read
                rows.extend(await self._store.read_stream(stream, rows[-1].version))
            if self._chain(stream, rows) and self._aggregates.owns(stream):
                aggregate = self._fold(stream, rows, snapshot)
                if aggregate is not None:
                    folded[stream] = aggregate
                    if stream.startswith(CHECKPOINTS.stream("")):
                        self._closings = list(rows)
        await self._publications(folded)
        for stream, aggregate in folded.items():
            category, _, key = stream.partition("-")
            for view in self._rules.views:
                if view.category == category:
                    await self._document(view, stream, key, aggregate, views[view.name])

    def _chain(self, stream: str, rows: Sequence[Row]) -> bool:
        previous = GENESIS
        for expected, row in enumerate(rows, 1):
            if row.version != expected:
                self._report("missing-event", stream, f"version {row.version} where {expected} belongs")
                return False
            if chained(previous, row) != row.hash:
                self._report("broken-chain", stream, f"version {expected}: the hash does not follow from the content")
                return False
            previous = row.hash
        return True

    def _fold(self, stream: str, rows: Sequence[Row], snapshot: Snapshot | None) -> Aggregate | None:
        evolve = self._aggregates.decider(stream).evolve
        state = self._aggregates.decider(stream).initial
        try:
            for row in rows:
                state = evolve(state, decode(row.type, row.data))
                if snapshot is not None and row.version == snapshot.version:
                    same = self._aggregates.state_bytes(stream, state) == snapshot.state
                    if not same or snapshot.hash != row.hash:
                        self._report("wrong-snapshot", stream, f"at version {row.version} folding gives another state")
        except OrdermillError as error:
            self._report("unreadable-event", stream, f"version {row.version}: {error}")
            return None
        if snapshot is not None and snapshot.version > len(rows):
            self._report("wrong-snapshot", stream, f"of version {snapshot.version}, the stream ends at {len(rows)}")
        return Aggregate(state, len(rows), rows[-1].hash)

    async def _snapshots(self, streams: Sequence[str]) -> dict[str, Snapshot]:
        found = await self._store.snapshots(streams, self._aggregates.code)
        return {snapshot.stream: snapshot for snapshot in found}

    async def _document(self, view: View, stream: str, key: str, aggregate: Aggregate, pager: _Pager) -> None:
        found: dict[str, Any] | None = None
        async for earlier, document in pager.up_to(key):
            if earlier == key:
                found = document
            else:
                await self._orphan(view, earlier)
        if found is None or _canonical(found) != _canonical(view.document(aggregate.state)):
            await self._settled(f"wrong-document {view.name}", stream, partial(self._fits, view, key))

    async def _fits(self, view: View, key: str, now: Aggregate) -> str | None:
        document = await self._store.document(view.name, key)
        if document is None:
            return "there is no document"
        return None if _canonical(document) == _canonical(view.document(now.state)) else "folding gives another"

    async def _orphan(self, view: View, key: str) -> None:
        """A document that no stream came along for; the stream may just have begun."""
        stream = f"{view.category}-{key}"
        if not await self._store.read_stream(stream):
            self._report(f"wrong-document {view.name}", stream, "there is no such stream")

    async def _publications(self, folded: dict[str, Aggregate]) -> None:
        for published in self._rules.published:
            expected: dict[tuple[str, str], tuple[str, bytes]] = {}
            for stream, aggregate in folded.items():
                category, _, key = stream.partition("-")
                if category == published.category:
                    message = published.message(key, aggregate.version, aggregate.state)
                    if message is not None:
                        expected[message.topic, stream] = (message.type, message.to_json())
            if not expected:
                continue
            there = {(p.topic, p.key): p for p in await self._store.publications(list(expected))}
            for (topic, stream), content in expected.items():
                if _differs(there.get((topic, stream)), content):
                    await self._settled(
                        "wrong-publication", stream, partial(self._publication, published, topic, stream)
                    )

    async def _publication(self, published: PublishedState, topic: str, stream: str, now: Aggregate) -> str | None:
        message = published.message(stream.partition("-")[2], now.version, now.state)
        if message is None:
            return None
        current = await self._store.publications([(topic, stream)])
        return _differs(current[0] if current else None, (message.type, message.to_json()))

    async def _settled(self, what: str, stream: str, fits: Callable[[Aggregate], Awaitable[str | None]]) -> None:
        """Report only what holds while nobody appends to the stream: a first look compares two moments."""
        while True:
            rows = await self._store.read_stream(stream)
            detail = await fits(self._aggregates.fold(stream, rows))
            if detail is None:
                return
            if not await self._store.read_stream(stream, len(rows)):
                self._report(what, stream, detail)
                return

    async def _sequence(self, events: int, streams: int) -> None:
        """Numbers without a gap, each stream's versions in order. In several passes where there are many streams."""
        passes = streams // _STREAMS_A_PASS + 1
        numbered = 0
        head = await self._store.head()
        for index in range(passes):
            versions: dict[str, int] = {}
            after = 0
            while rows := await self._store.read(after, _PAGE, (index, passes)):
                for sequenced in rows:
                    row, seq = sequenced.row, sequenced.seq
                    if passes == 1 and seq != after + 1:
                        self._report("missing-number", f"{after + 1} to {seq - 1}", "no event has these numbers")
                    version = versions.get(row.stream, 0)
                    if row.version != version + 1:
                        self._report("out-of-order", row.stream, f"version {row.version} follows {version} at {seq}")
                    versions[row.stream] = row.version
                    after = seq
                numbered += sum(sequenced.seq <= head for sequenced in rows)
                self._progress(events + numbered)
            if passes == 1 and after < head:
                self._report("missing-number", f"{after + 1} to {head}", "no event has these numbers")
        if passes > 1 and numbered < head:
            self._report("missing-number", f"{head - numbered} of {head}", "no event has these numbers")
        if passed := await self._store.passed_over():
            self._report("never-numbered", f"{passed} events", "they are in streams, readers have passed them")

    async def _checkpoints(self) -> None:
        """That each closes what it says, in the order in which they were made."""
        known = Closed()
        for row in self._closings:
            made = decode(row.type, row.data)
            if not isinstance(made, CheckpointMade):
                self._report("wrong-checkpoint", row.stream, f"version {row.version} is none")
                return
            if faults := list(faults_after(known, made)):
                self._report("wrong-checkpoint", row.stream, f"{made.number} {'; '.join(faults)}")
                return
            known = CHECKPOINTS.evolve(known, made)
            leaves = [leaf(*each) for each in await self._store.hashes(made.first - 1, made.last - made.first + 1)]
            if not leaves or root(leaves).hex() != made.root:
                what = f"the events {made.first} to {made.last} are not those that checkpoint {made.number} closed"
                self._report("wrong-checkpoint", row.stream, what)


class _Pager:
    """A view's documents by key, alongside streams that come in the same order."""

    def __init__(self, store: Store, view: str) -> None:
        self._store = store
        self._view = view
        self._page: list[tuple[str, dict[str, Any]]] = []
        self._at = 0
        self._after = ""
        self._ended = False

    async def _fill(self) -> bool:
        if self._at == len(self._page) and not self._ended:
            self._page = await self._store.documents(self._view, after=self._after, limit=_PAGE)
            self._at = 0
            self._ended = not self._page
            if self._page:
                self._after = self._page[-1][0]
        return self._at < len(self._page)

    async def up_to(self, key: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        while await self._fill() and self._page[self._at][0] <= key:
            self._at += 1
            yield self._page[self._at - 1]

    async def rest(self) -> AsyncIterator[str]:
        while await self._fill():
            self._at += 1
            yield self._page[self._at - 1][0]


def _differs(publication: Publication | None, content: tuple[str, bytes]) -> str | None:
    if publication is None:
        return "there is no publication"
    return None if (publication.type, publication.data) == content else "folding gives another"


def _canonical(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
