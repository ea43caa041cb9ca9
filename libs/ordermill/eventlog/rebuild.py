"""Proof that what is derived follows from the log: views built anew beside the live ones, and a check of everything.

A rebuild lets the service go on working. It folds every stream, catches up by sequence number, and swaps the tables in
one short transaction, in which it also takes what was committed since and has no number yet.
"""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import asyncpg
import orjson

from ordermill.contracts.base import decode
from ordermill.errors import OrdermillError, Transient

from .aggregates import Aggregate, Aggregates
from .engine import Rules
from .migrate import create_view_table
from .postgres import translated, view_table
from .records import GENESIS, Row, chained
from .store import Publication, Snapshot, Store
from .views import PublishedState, View

Progress = Callable[[int], None]
"""Told every now and then how many events are done."""

_PAGE = 5_000
_CLOSE_ENOUGH = 200
"""Events behind at which the tables are swapped: folded in a few milliseconds."""
_ROUNDS = 20
_TURN = 250
"""Events folded before the connections have their turn again."""
_MOVING = 20_000
"""States kept between two rounds of catching up: those of streams that are busy right now."""
_STREAMS_A_PASS = 500_000


class RebuildStalled(Transient):
    """The live view is in use without a pause, or written faster than it can be built."""

    code = "rebuild.stalled"

    def __init__(self, view: str) -> None:
        super().__init__(f"view {view}: no moment to swap the tables in {_ROUNDS} rounds. Try again in a quieter hour.")


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild did. `caught_up`: events that came while it worked."""

    view: str
    documents: int
    events: int
    caught_up: int
    seconds: float


async def rebuild_view(
    owner_dsn: str, store: Store, aggregates: Aggregates, view: View, progress: Progress = lambda events: None
) -> RebuildReport:
    """Build the table of `view` anew from the log and put it in the place of the live one, grants and indexes kept.

    `owner_dsn`: the role that owns the tables. Raises RebuildStalled, LogUnavailable; then the live table is untouched.
    """
    started = perf_counter()
    async with _connected(owner_dsn) as connection, _connected(owner_dsn) as reading:
        with translated():
            return await _Rebuild(connection, reading, store, aggregates, view, progress, started).run()


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Any]:
    with translated():
        connection = await asyncpg.connect(dsn, server_settings={"jit": "off", "application_name": "ordermill rebuild"})
    try:
        yield connection
    finally:
        await connection.close()


class _Rebuild:
    def __init__(
        self,
        connection: Any,
        reading: Any,
        store: Store,
        aggregates: Aggregates,
        view: View,
        progress: Progress,
        started: float,
    ) -> None:
        self._connection = connection
        self._reading = reading
        self._store = store
        self._aggregates = aggregates
        self._view = view
        self._progress = progress
        self._started = started
        self._live = view_table(view.name)
        self._next = f"{self._live}__next"
        self._prefix = f"{view.category}-"
        self._moving: OrderedDict[str, Aggregate] = OrderedDict()
        self._events = 0
        self._caught_up = 0

    async def run(self) -> RebuildReport:
        # One at a time for each view; the lock ends with the connection.
        await self._connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 3))", self._live)
        await self._connection.execute(f"DROP TABLE IF EXISTS {self._next}")
        await create_view_table(self._connection, View(self._view.name, self._view.category, dict), self._next)
        after = await self._store.head()
        await self._copy()
        await self._index()
        for _ in range(_ROUNDS):
            behind, after = await self._catch_up(after)
            if behind <= _CLOSE_ENOUGH and await self._swap(after):
                break
        else:
            await self._connection.execute(f"DROP TABLE {self._next}")
            raise RebuildStalled(self._view.name)
        documents = await self._connection.fetchval(f"SELECT count(*) FROM {self._live}")
        seconds = perf_counter() - self._started
        return RebuildReport(self._view.name, documents, self._events, self._caught_up, seconds)

    async def _pages(self) -> AsyncGenerator[list[Any]]:
        """The category's events in stream order. While one page is folded, the database gets the next."""
        # The bounds hold every id that begins with the prefix: "." follows "-".
        query = await self._reading.prepare(
            """SELECT stream, version, type, data FROM events
               WHERE (stream, version) > ($1, $2) AND stream < $3 ORDER BY stream, version LIMIT $4"""
        )
        end = f"{self._view.category}."
        page = await query.fetch(self._prefix, 0, end, _PAGE)
        while page:
            coming = asyncio.create_task(query.fetch(page[-1][0], page[-1][1], end, _PAGE))
            try:
                yield page
                page = await coming
            finally:
                coming.cancel()

    async def _documents(self) -> AsyncGenerator[tuple[str, str]]:
        """Every stream's document as of now, in stream order."""
        decider = self._aggregates.decider(self._prefix)
        evolve, initial, document = decider.evolve, decider.initial, self._view.document
        skip = len(self._prefix)
        stream, state = "", initial
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                for number, (of, _, type_name, data) in enumerate(page):
                    if number % _TURN == 0:
                        await asyncio.sleep(0)
                    if of != stream:
                        if stream:
                            yield stream[skip:], _json(document(state))
                        stream, state = of, initial
                    state = evolve(state, decode(type_name, data))
                self._events += len(page)
                self._progress(self._events)
        if stream:
            yield stream[skip:], _json(document(state))

    async def _copy(self) -> None:
        """Every document into the new table. While some are written, the next are made."""
        batch: list[tuple[str, str]] = []
        written = asyncio.create_task(self._write(()))
        try:
            async with aclosing(self._documents()) as documents:
                async for item in documents:
                    batch.append(item)
                    if len(batch) == _PAGE:
                        await written
                        written = asyncio.create_task(self._write(batch))
                        batch = []
            await written
        finally:
            written.cancel()
        await self._write(batch)

    async def _write(self, documents: Sequence[tuple[str, str]]) -> None:
        await self._connection.copy_records_to_table(self._next, records=documents, columns=("key", "doc"))

    async def _insert(self, documents: Sequence[tuple[str, str]]) -> None:
        await self._connection.execute(
            f"""INSERT INTO {self._next} (key, doc) SELECT * FROM unnest($1::text[], $2::jsonb[])
                ON CONFLICT (key) DO UPDATE SET doc = EXCLUDED.doc""",
            [key for key, _ in documents],
            [document for _, document in documents],
        )

    async def _index(self) -> None:
        """The view's indexes, those that somebody added to the live table, and its grants."""
        await create_view_table(self._connection, self._view, self._next)
        there = {_method(definition) for _, definition in await self._indexes(self._next)}
        for number, (_, definition) in enumerate(await self._indexes(self._live)):
            if _method(definition) not in there:
                unique = "UNIQUE " if definition.startswith("CREATE UNIQUE") else ""
                name = f"{self._next}_{number}"
                await self._connection.execute(f"CREATE {unique}INDEX {name} ON {self._next} {_method(definition)}")
        for grantee, privilege in await self._connection.fetch(
            """SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                      a.privilege_type
               FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1::text::regclass AND a.grantee <> c.relowner""",
            self._live,
        ):
            await self._connection.execute(f"GRANT {privilege} ON {self._next} TO {grantee}")
        await self._connection.execute(f"ANALYZE {self._next}")

    async def _indexes(self, table: str) -> list[tuple[str, str]]:
        rows = await self._connection.fetch(
            """SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
               WHERE i.indrelid = $1::text::regclass ORDER BY i.indexrelid""",
            table,
        )
        return [(name, definition) for name, definition in rows]

    async def _catch_up(self, after: int) -> tuple[int, int]:
        """Take in what was numbered since; how many events of the category that were, and up to which number."""
        await self._store.sequence()
        behind = 0
        while rows := await self._store.read(after, _PAGE):
            streams = [s.row.stream for s in rows if s.row.stream.startswith(self._prefix)]
            await self._renew(streams)
            behind += len(streams)
            after = rows[-1].seq
        self._caught_up += behind
        return behind, after

    async def _renew(self, streams: Iterable[str]) -> None:
        documents: list[tuple[str, str]] = []
        for stream in dict.fromkeys(streams):
            aggregate = self._moving.pop(stream, None) or self._aggregates.initial(stream)
            for type_name, data, version in await self._connection.fetch(
                "SELECT type, data, version FROM events WHERE stream = $1 AND version > $2 ORDER BY version",
                stream,
                aggregate.version,
            ):
                state = self._aggregates.decider(stream).evolve(aggregate.state, decode(type_name, data))
                aggregate = Aggregate(state, version)
                self._events += 1
            self._moving[stream] = aggregate
            documents.append((stream[len(self._prefix) :], _json(self._view.document(aggregate.state))))
        while len(self._moving) > _MOVING:
            self._moving.popitem(last=False)
        if documents:
            await self._insert(documents)
        self._progress(self._events)

    async def _swap(self, after: int) -> bool:
        """Take in the last events and rename, under a lock; False if the live table could not be had at once.

        Who wrote to the live table and committed is through when the lock is ours; who has yet to write waits, and
        writes to the new table. What they committed may have no number yet, so here it goes by commit order.
        """
        try:
            async with self._connection.transaction():
                await self._connection.execute(
                    f"SET LOCAL lock_timeout = '500ms'; LOCK TABLE {self._live} IN ACCESS EXCLUSIVE MODE"
                )
                last = await self._connection.fetchrow("SELECT tx, position FROM sequenced WHERE seq = $1", after)
                streams = await self._connection.fetch(
                    """SELECT stream FROM events WHERE (tx, position) > ($1, $2) AND stream > $3 AND stream < $4""",
                    *(last or (-1, -1)),
                    self._prefix,
                    f"{self._view.category}.",
                )
                await self._renew(row[0] for row in streams)
                names = {_method(definition): name for name, definition in await self._indexes(self._live)}
                await self._connection.execute(
                    f"DROP TABLE {self._live}; ALTER TABLE {self._next} RENAME TO {self._live}"
                )
                for name, definition in await self._indexes(self._live):
                    wanted = names.get(_method(definition)) or name.replace(self._next, self._live, 1)
                    await self._connection.execute(f"ALTER INDEX {name} RENAME TO {wanted}")
                self._caught_up += len(streams)
        except asyncpg.LockNotAvailableError:
            return False
        return True


def _method(definition: str) -> str:
    """What an index is over, from `USING` on, whatever it and its table are called."""
    return definition[definition.index("USING ") :]


def _json(document: dict[str, Any]) -> str:
    return orjson.dumps(document).decode()


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

    Every hash and version of every stream; the sequence, dense and in the order of each stream; and that snapshots,
    views and publications are, byte for byte in canonical JSON, what folding gives. Memory is bounded by the largest
    stream and by passes of half a million streams each.
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

    async def run(self) -> list[Violation]:
        try:
            events, streams = await self._streams()
            await self._sequence(events, streams)
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
            if self._chain(stream, rows) and self._aggregates.owns(stream):
                aggregate = self._fold(stream, rows, snapshots.get(stream))
                if aggregate is not None:
                    folded[stream] = aggregate
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
                numbered += len(rows)
                self._progress(events + numbered)
            if passes == 1 and after < head:
                self._report("missing-number", f"{after + 1} to {head}", "no event has these numbers")
        if passes > 1 and numbered < head:
            self._report("missing-number", f"{head - numbered} of {head}", "no event has these numbers")
        known = (await self._store.counts())["events"]
        if events > known:
            self._report("never-numbered", f"{events - known} events", "they are in streams, readers have passed them")


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
