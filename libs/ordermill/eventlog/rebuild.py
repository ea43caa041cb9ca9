"""Views built anew beside the live ones.

A rebuild lets the service go on working. It folds every stream, catches up by sequence number, and swaps the tables in
one short transaction, in which it also takes what was committed since and has no number yet.
"""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import asyncpg
import orjson

from ordermill.contracts.base import decode
from ordermill.errors import Transient

from .aggregates import Aggregate, Aggregates
from .migrate import create_view_table
from .postgres import translated, view_table
from .store import Store
from .versions import note_built
from .views import View

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
                await note_built(self._connection, self._view)
                self._caught_up += len(streams)
        except asyncpg.LockNotAvailableError:
            return False
        return True


def _method(definition: str) -> str:
    """What an index is over, from `USING` on, whatever it and its table are called."""
    return definition[definition.index("USING ") :]


def _json(document: dict[str, Any]) -> str:
    return orjson.dumps(document).decode()
