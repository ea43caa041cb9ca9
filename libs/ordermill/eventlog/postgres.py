"""A log in PostgreSQL. Every kind of write is one set-based statement; events are only ever inserted."""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import orjson

from .records import Row, SequencedRow
from .store import (
    NOTHING,
    Backlog,
    Effect,
    LogUnavailable,
    Page,
    Publication,
    Snapshot,
    StillLeads,
    Timer,
    Transaction,
    Unstorable,
    VersionConflict,
)
from .versions import note_writer, outdated
from .views import View
from .writing import COLUMNS, PostgresTransaction, statement, view_table

__all__ = ["PLANNED_ONCE", "PostgresStore", "keep_as_it_is", "statement", "translated", "view_table"]

LOCK_ANSWERS_IN_S = 5.0

# Everything is looked up row by row, and planned once: a plan made while the tables were empty, which would read them
# whole, is none then, and to plan a look anew each time costs more than the look.
PLANNED_ONCE = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# The limits that keep one stuck writer from holding back the sequencer, and so every reader.
_SESSION = PLANNED_ONCE | {
    "idle_in_transaction_session_timeout": "5s",
    "transaction_timeout": "60s",
    "lock_timeout": "20s",
    "jit": "off",
    "TimeZone": "UTC",
    "application_name": "ordermill",
}

_LAST_TRACES = """
SELECT w.stream, e.trace FROM unnest($1::text[]) AS w (stream)
CROSS JOIN LATERAL (SELECT trace FROM events WHERE stream = w.stream ORDER BY version DESC LIMIT 1) AS e
WHERE e.trace IS NOT NULL
"""
_COUNTS = """
WITH last AS (
    SELECT * FROM ((SELECT seq, tx, position FROM sequenced ORDER BY seq DESC LIMIT 1) UNION ALL SELECT 0, -1, -1) AS l
    ORDER BY seq DESC LIMIT 1)
SELECT (SELECT count(*) FROM timers) AS timers, (SELECT count(*) FROM effects) AS effects,
       (SELECT seq FROM last) AS sequenced,
       (SELECT seq FROM last) + (
           SELECT count(*) FROM events
           WHERE (tx, position) > ((SELECT tx FROM last), (SELECT position FROM last))) AS events,
       (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'inbox'::regclass) AS inbox
"""
_PASSED_OVER = """
SELECT coalesce((
    SELECT (SELECT count(*) FROM events WHERE (tx, position) <= (last.tx, last.position)) - last.seq
    FROM (SELECT seq, tx, position FROM sequenced ORDER BY seq DESC LIMIT 1) AS last), 0)
"""
_HASHES = """
SELECT s.seq, e.hash FROM sequenced s
CROSS JOIN LATERAL (SELECT hash FROM events WHERE tx = s.tx AND position = s.position LIMIT 1) AS e
WHERE s.seq > $1 ORDER BY s.seq LIMIT $2
"""
_READ = f"SELECT seq, {COLUMNS} FROM read_events($1, $2, $3, $4)"
_NEXT_PAGE = f"SELECT seq, {COLUMNS}, topic, key, revision FROM next_page($1, $2, $3, $4, $5)"


async def keep_as_it_is(connection: Any) -> None:
    """Nothing of a session is ever changed, so there is nothing to reset when it goes back to its pool."""


@contextmanager
def translated() -> Iterator[None]:
    """Database errors as ours: conflicts as VersionConflict, trouble that may pass as LogUnavailable."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise VersionConflict(str(error)) from error
    except (
        asyncpg.DeadlockDetectedError,
        asyncpg.SerializationError,
    ) as error:
        raise VersionConflict(str(error)) from error
    except asyncpg.DataError as error:
        raise Unstorable(str(error)) from error
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.exceptions.InterfaceError,
        asyncpg.exceptions.InternalClientError,  # the server's last words of a session came amid its reset
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.TransactionRollbackError,
        asyncpg.LockNotAvailableError,
        asyncpg.IdleInTransactionSessionTimeoutError,
        asyncpg.PostgresSystemError,
        OSError,
        TimeoutError,
    ) as error:
        if isinstance(error, ValueError):  # asyncpg's own complaint about an argument, an InterfaceError too
            raise Unstorable(str(error)) from error
        raise LogUnavailable(f"the database is not there or refuses work: {error or type(error).__name__}") from error


class PostgresStore:
    """One service's log in its own database."""

    def __init__(self, pool: asyncpg.Pool, fast_pool: asyncpg.Pool, dsn: str, tx_offset: int) -> None:
        self._pool = pool
        self._fast_pool = fast_pool
        self._dsn = dsn
        self._tx_offset = tx_offset
        self._database = urlsplit(dsn).path.lstrip("/")

    @classmethod
    async def open(cls, dsn: str, max_connections: int = 6) -> PostgresStore:
        """Connect. Raises LogUnavailable."""
        with translated():
            pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=max_connections,
                server_settings=_SESSION,
                command_timeout=60,
                reset=keep_as_it_is,
            )
            # Numbers, cursors and leases come out the same when done again after a crash: no wait for the disk.
            fast_pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=2,
                server_settings=_SESSION | {"synchronous_commit": "off"},
                command_timeout=60,
                reset=keep_as_it_is,
            )
            offset = await pool.fetchval("SELECT tx_offset FROM log_meta")
        return cls(pool, fast_pool, dsn, offset)

    async def begin_writing(self, views: Sequence[View]) -> list[str]:
        """This process writes these views from now on; which of them may hold what other code wrote.

        Raises LogUnavailable, also where the database is not migrated yet.
        """
        async with self._connection() as connection:
            try:
                await note_writer(connection, views)
                return await outdated(connection, views)
            except asyncpg.UndefinedTableError as error:
                raise LogUnavailable(f"the database is not set up as this program expects: {error}") from error

    async def close(self) -> None:
        for pool in (self._pool, self._fast_pool):
            try:
                await asyncio.wait_for(pool.close(), timeout=5)
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def _connection(self, fast: bool = False) -> AsyncIterator[Any]:
        with translated():
            async with (self._fast_pool if fast else self._pool).acquire(timeout=20) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self._connection() as connection:
            transaction = PostgresTransaction(connection, self._tx_offset, self._database)
            try:
                yield transaction
            finally:
                await transaction.leave()

    async def read_stream(self, stream: str, after: int = 0) -> list[Row]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                f"SELECT {COLUMNS} FROM events WHERE stream = $1 AND version > $2 ORDER BY version",
                stream,
                after,
            )
        return [Row(*row) for row in rows]

    async def snapshots(self, streams: Collection[str], code: Mapping[str, str]) -> list[Snapshot]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT stream, version, code, state, hash FROM snapshots WHERE stream = ANY($1::text[])", list(streams)
            )
        found = (Snapshot(*row) for row in rows)
        return [s for s in found if code.get(s.stream.partition("-")[0]) == s.code]

    async def traces(self, streams: Collection[str]) -> dict[str, str]:
        async with self._connection(fast=True) as connection:
            rows = await connection.fetch(_LAST_TRACES, list(streams))
        return dict(rows)

    async def read(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> list[SequencedRow]:
        async with self._connection(fast=True) as connection:
            rows = await connection.fetch(_READ, after, limit, *shard)
        return [SequencedRow(row[0], Row(*row[1:])) for row in rows]

    async def next_page(self, after: int, limit: int, shard: tuple[int, int] = (0, 1)) -> Page:
        async with self._connection(fast=True) as connection:
            found = await connection.fetch(_NEXT_PAGE, self._tx_offset, after, limit, *shard)
        page = Page()
        for row in found:
            if row["topic"] is None:
                page.rows.append(SequencedRow(row[0], Row(*row[1:-3])))
            else:
                page.states.append(Publication(row["topic"], row["key"], row["type"], row["data"], row["revision"]))
        return page

    async def hashes(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        async with self._connection(fast=True) as connection:
            return [(row[0], row[1]) for row in await connection.fetch(_HASHES, after, limit)]

    async def numbers(self, streams: Collection[str]) -> dict[tuple[str, int], int]:
        async with self._connection() as connection:
            events = await connection.fetch(
                "SELECT tx, position, stream, version FROM events WHERE stream = ANY($1::text[])", list(streams)
            )
            # Numbers have no index by transaction: one pass over them, whatever is looked for.
            seqs = await connection.fetch(
                "SELECT tx, position, seq FROM sequenced WHERE tx = ANY($1::bigint[])", [row["tx"] for row in events]
            )
        by_place = {(row["tx"], row["position"]): row["seq"] for row in seqs}
        places = {(row["stream"], row["version"]): (row["tx"], row["position"]) for row in events}
        return {event: by_place[place] for event, place in places.items() if place in by_place}

    async def sequence(self, limit: int = 5_000) -> int:
        async with self._connection(fast=True) as connection:
            return int(await connection.fetchval("SELECT number_events($1, $2)", self._tx_offset, limit))

    async def head(self) -> int:
        async with self._connection() as connection:
            return int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM sequenced"))

    async def due_timers(self, due: datetime, limit: int, now: datetime, lease_until: datetime) -> list[Timer]:
        async with self._connection(fast=True) as connection:
            rows = await connection.fetch(
                """UPDATE timers t SET leased_until = $4 FROM (
                       SELECT stream, name FROM timers WHERE due_at <= $1 AND leased_until <= $3
                       ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS due
                   WHERE t.stream = due.stream AND t.name = due.name
                   RETURNING t.stream, t.name, t.due_at, t.trace""",
                due,
                limit,
                now,
                lease_until,
            )
        return sorted((Timer(*row) for row in rows), key=lambda timer: (timer.due_at, timer.stream, timer.name))

    async def due_effects(
        self, now: datetime, limit: int, lease_until: datetime, in_hand: Mapping[str, int] = NOTHING
    ) -> list[Effect]:
        async with self._connection(fast=True) as connection:
            rows = await connection.fetch(
                """WITH due AS MATERIALIZED (
                       SELECT found.effect_id
                       FROM (SELECT DISTINCT lane FROM effects WHERE next_at <= $1) AS lanes
                       LEFT JOIN unnest($4::text[], $5::int[]) AS in_hand (lane, count) USING (lane)
                       CROSS JOIN LATERAL (
                           SELECT effect_id FROM effects WHERE lane = lanes.lane AND next_at <= $1
                           ORDER BY next_at LIMIT greatest($2 - coalesce(in_hand.count, 0), 0)
                           FOR UPDATE SKIP LOCKED) AS found)
                   UPDATE effects e SET next_at = $3 FROM due WHERE e.effect_id = due.effect_id
                   RETURNING e.effect_id, e.stream, e.type, e.data, e.correlation_id, e.asked_by, e.attempts, e.lane,
                             e.trace""",
                now,
                limit,
                lease_until,
                list(in_hand),
                list(in_hand.values()),
            )
        return [Effect(*row) for row in rows]

    async def postpone_effect(self, effect: Effect, until: datetime, counts: bool = True) -> None:
        async with self._connection(fast=True) as connection:
            await connection.execute(
                """UPDATE effects SET attempts = attempts + $4::int, next_at = $3
                   WHERE effect_id = $1 AND asked_by = $2""",
                effect.effect_id,
                effect.asked_by,
                until,
                int(counts),
            )

    async def document(self, view: str, key: str) -> dict[str, Any] | None:
        with statement("SELECT", view_table(view), self._database):
            async with self._connection() as connection:
                found = await connection.fetchval(f"SELECT doc FROM {view_table(view)} WHERE key = $1", key)
        return None if found is None else orjson.loads(found)

    async def documents(
        self, view: str, where: Mapping[str, str] | None = None, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        where = where or {}
        conditions = "".join(f" AND doc->>${2 * i + 3} = ${2 * i + 4}" for i in range(len(where)))
        arguments = [part for pair in where.items() for part in pair]
        async with self._connection() as connection:
            rows = await connection.fetch(
                f"SELECT key, doc FROM {view_table(view)} WHERE key > $1{conditions} ORDER BY key LIMIT $2",
                after,
                limit,
                *arguments,
            )
        return [(key, orjson.loads(document)) for key, document in rows]

    async def all_streams(self, category: str = "") -> AsyncIterator[tuple[str, list[Row]]]:
        # By page: one transaction over a long log would outlive its time-out and hold back the vacuum.
        query = f"""SELECT {COLUMNS} FROM events WHERE (stream, version) > ($1, $2) AND stream < $3
                    ORDER BY stream, version LIMIT 2000"""
        current: list[Row] = []
        # The bounds hold every id that begins with the prefix: "." follows "-".
        after, end = ((f"{category}-", 0), f"{category}.") if category else (("", 0), "\U0010ffff")
        while True:
            async with self._connection() as connection:
                page = await connection.fetch(query, *after, end)
            if not page:
                break
            for record in page:
                row = Row(*record)
                if current and current[0].stream != row.stream:
                    yield current[0].stream, current
                    current = []
                current.append(row)
            after = (row.stream, row.version)
        if current:
            yield current[0].stream, current

    async def blob(self, sha256: bytes) -> bytes | None:
        async with self._connection() as connection:
            found = await connection.fetchval("SELECT body FROM blobs WHERE sha256 = $1", sha256)
        return None if found is None else bytes(found)

    async def relay_cursors(self, shard: tuple[int, int], memories: Collection[str]) -> dict[str, int]:
        async with self._connection(fast=True) as connection:
            rows = await connection.fetch(
                "SELECT cluster, seq FROM relay_cursors WHERE shard = $1 AND shards = $2 AND cluster = ANY($3::text[])",
                *shard,
                list(memories),
            )
        return dict(rows)

    async def move_relay_cursors(self, shard: tuple[int, int], told: Mapping[str, int]) -> None:
        async with self._connection(fast=True) as connection:
            await connection.execute(
                """INSERT INTO relay_cursors (shard, shards, cluster, seq)
                   SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[])
                   ON CONFLICT (shard, shards, cluster) DO UPDATE SET seq = EXCLUDED.seq""",
                *shard,
                list(told),
                list(told.values()),
            )

    async def unpublished(self, limit: int) -> list[Publication]:
        async with self._connection(fast=True) as connection:
            rows = await connection.fetch(
                "SELECT topic, key, type, data, revision FROM publications WHERE dirty LIMIT $1", limit
            )
        return [Publication(*row) for row in rows]

    async def publications(self, keys: Collection[tuple[str, str]]) -> list[Publication]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                """SELECT p.topic, p.key, p.type, p.data, p.revision
                   FROM unnest($1::text[], $2::text[]) AS w (topic, key) JOIN publications p USING (topic, key)""",
                [topic for topic, _ in keys],
                [key for _, key in keys],
            )
        return [Publication(*row) for row in rows]

    async def published(self, sent: Sequence[Publication]) -> None:
        async with self._connection(fast=True) as connection:
            await connection.execute(
                # One that a writer holds right now is about to be newer than what was sent: leave it.
                """UPDATE publications p SET dirty = p.revision <> sent.revision FROM (
                       SELECT s.topic, s.key, w.revision FROM publications s
                       JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS w (topic, key, revision)
                         ON s.topic = w.topic AND s.key = w.key
                       FOR UPDATE OF s SKIP LOCKED) AS sent
                   WHERE p.topic = sent.topic AND p.key = sent.key""",
                [p.topic for p in sent],
                [p.key for p in sent],
                [p.revision for p in sent],
            )

    async def republish(self, keys: Collection[tuple[str, str]]) -> None:
        async with self._connection(fast=True) as connection:
            await connection.execute(
                # One that a writer holds right now is due as it is.
                """UPDATE publications p SET dirty = true FROM (
                       SELECT s.topic, s.key FROM publications s
                       JOIN unnest($1::text[], $2::text[]) AS w (topic, key) ON s.topic = w.topic AND s.key = w.key
                       WHERE NOT s.dirty FOR UPDATE OF s SKIP LOCKED) AS due
                   WHERE p.topic = due.topic AND p.key = due.key""",
                [topic for topic, _ in keys],
                [key for _, key in keys],
            )

    async def republish_topics(self, topics: Collection[str]) -> None:
        async with self._connection(fast=True) as connection:
            await connection.execute(
                "UPDATE publications SET dirty = true WHERE NOT dirty AND topic = ANY($1::text[])", list(topics)
            )

    @asynccontextmanager
    async def leadership(self, name: str) -> AsyncIterator[StillLeads]:
        """The lock is the connection's: it is gone with it, and only whoever uses the connection hears of that."""
        with translated():
            connection = await asyncpg.connect(self._dsn, server_settings={"application_name": f"ordermill {name}"})

        async def still_leads() -> None:
            with translated():
                await connection.execute("SELECT 1", timeout=LOCK_ANSWERS_IN_S)

        try:
            with translated():
                while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name):
                    await asyncio.sleep(0.5)
            yield still_leads
        finally:
            connection.terminate()

    async def passed_over(self) -> int:
        async with self._connection() as connection:
            return max(0, int(await connection.fetchval(_PASSED_OVER)))

    async def backlog(self, due: datetime) -> Backlog:
        async with self._connection() as connection:
            row = await connection.fetchrow(
                """SELECT t.overdue, coalesce(extract(epoch FROM $1 - t.oldest), 0)::float8,
                          e.failing, coalesce(extract(epoch FROM now() - e.oldest), 0)::float8,
                          (SELECT count(*) FROM publications WHERE dirty),
                          (SELECT count(*) FROM view_dead_letters WHERE doc->>'status' = 'waiting')
                   FROM (SELECT count(*) AS overdue, min(due_at) AS oldest FROM timers WHERE due_at <= $1) AS t,
                        (SELECT count(*) FILTER (WHERE attempts > 0) AS failing, min(asked_at) AS oldest
                         FROM effects) AS e
                """,
                due,
            )
        return Backlog(*row)

    async def counts(self) -> dict[str, int]:
        async with self._connection() as connection:
            row = await connection.fetchrow(_COUNTS)
        return dict(row)
