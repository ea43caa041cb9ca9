"""What only PostgreSQL can get wrong: commits that come late, writers that meet, rights, and the chain by plain SQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import pytest

from ordermill.eventlog.engine import Engine, Rules
from ordermill.eventlog.migrate import migrate
from ordermill.eventlog.postgres import LogUnavailable, PostgresStore, translated
from ordermill.eventlog.records import GENESIS, Row
from ordermill.eventlog.store import Changes, VersionConflict
from tests.conftest import LogDatabase

from .shelves import MONDAY, SHELVES, receive, received, rows_of, task

RULES = Rules((SHELVES,))


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.005)


async def commit(store: PostgresStore, *rows: Row) -> None:
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=list(rows)))


async def test_a_commit_that_comes_late_is_read_later_and_never_skipped(
    log: LogDatabase, postgres_store: PostgresStore
) -> None:
    """The late transaction takes a low position, and others commit past it while the sequencer runs."""
    store = postgres_store
    await commit(store, *rows_of("shelf-before", received(1)))
    async with connected(log.admin_dsn) as late:
        slow = late.transaction()
        await slow.start()
        (row,) = rows_of("shelf-late", received(1))
        await late.execute(
            """INSERT INTO events VALUES (pg_current_xact_id()::text::bigint, DEFAULT, $1, 1, $2, $3, $4, 'o', 's', 't',
               $5, $5, $6)""",
            row.stream, row.event_id, row.type, row.data, row.recorded_at, row.hash,
        )  # fmt: skip
        for n in range(20):
            await commit(store, *rows_of(f"shelf-{n}", received(1)))
            await store.sequence()
        assert [s.row.stream for s in await store.read(0, 100)] == ["shelf-before"]
        await slow.commit()
    assert await store.sequence() == 21
    read = await store.read(1, 100)
    assert [s.row.stream for s in read] == ["shelf-late", *(f"shelf-{n}" for n in range(20))]
    assert [s.seq for s in read] == list(range(2, 23))


async def test_one_that_stands_still_in_a_transaction_holds_others_back_for_seconds_only(
    postgres_store: PostgresStore,
) -> None:
    """As after SIGSTOP, or a cut cable: nothing more comes from it, and its transaction stays open."""
    store = postgres_store
    (row,) = rows_of("shelf-still", received(1))
    # The server has ended that session when it goes back to its pool, which may notice.
    with suppress(LogUnavailable):
        async with store._connection() as still:
            await still.execute("BEGIN")
            await still.execute(
                """INSERT INTO events VALUES (pg_current_xact_id()::text::bigint, DEFAULT, $1, 1, $2, $3, $4, 'o', 's',
                   't', $5, $5, $6)""",
                row.stream, row.event_id, row.type, row.data, row.recorded_at, row.hash,
            )  # fmt: skip
            await commit(store, *rows_of("shelf-a", received(1)))
            await store.sequence()
            assert await store.read(0, 100) == []
            await until(store.sequence)
            assert [s.row.stream for s in await store.read(0, 100)] == ["shelf-a"]
    await commit(store, *rows_of("shelf-still", received(2)))


@pytest.mark.parametrize(
    "error", [asyncpg.exceptions.InternalClientError("cannot switch to state 15"), OSError("reset by peer")]
)
def test_a_session_that_ends_while_it_goes_back_to_its_pool_is_no_messages_fault(error: Exception) -> None:
    with pytest.raises(LogUnavailable), translated():
        raise error


async def test_a_transaction_that_is_rolled_back_leaves_no_gap(log: LogDatabase, postgres_store: PostgresStore) -> None:
    store = postgres_store
    first = rows_of("shelf-a", received(1))
    await commit(store, *first)
    with pytest.raises(VersionConflict):
        await commit(store, *rows_of("shelf-b", received(1)), *first)
    await commit(store, *rows_of("shelf-c", received(1)))
    await store.sequence()
    assert [(s.seq, s.row.stream) for s in await store.read(0, 10)] == [(1, "shelf-a"), (2, "shelf-c")]


async def test_sixteen_writers_on_six_hot_streams_lose_nothing_and_keep_the_order(log: LogDatabase) -> None:
    """A follower reads along while two sequencers and sixteen writers meet; transactions stay open for a while."""
    stores = [await PostgresStore.open(log.dsn, max_connections=8) for _ in range(2)]
    streams = [f"shelf-{n}" for n in range(6)]
    written: Counter[str] = Counter()
    seen: list[tuple[int, Row]] = []
    done = asyncio.Event()

    async def write(store: PostgresStore, number: int) -> None:
        appended = 0
        while appended < 15:
            touched = sorted({streams[number % 6], streams[(number * 5 + appended) % 6]})
            try:
                async with store.transaction() as transaction:
                    heads = {row.stream: row for row in (await transaction.look_up(dict.fromkeys(touched, 0))).rows}
                    await asyncio.sleep(0.001 * (number % 3))
                    rows = [rows_of(s, received(1), received(2), after=heads.get(s)) for s in touched]
                    await transaction.commit(Changes(rows=[row for pair in zip(*rows, strict=True) for row in pair]))
            except VersionConflict:
                continue
            written.update(dict.fromkeys(touched, 2))
            appended += 1

    async def sequence(store: PostgresStore) -> None:
        while not done.is_set() or await store.sequence():
            await store.sequence(limit=40)
            await asyncio.sleep(0.001)

    async def follow(store: PostgresStore) -> None:
        after = 0
        while not done.is_set() or after < written.total():
            for sequenced in await store.read(after, 50):
                seen.append((sequenced.seq, sequenced.row))
                after = sequenced.seq
            await asyncio.sleep(0.001)

    sequencers = [asyncio.create_task(sequence(store)) for store in stores]
    follower = asyncio.create_task(follow(stores[0]))
    await asyncio.gather(*(write(stores[n % 2], n) for n in range(16)))
    done.set()
    await asyncio.gather(*sequencers, follower)
    assert [seq for seq, _ in seen] == list(range(1, written.total() + 1))
    versions: Counter[str] = Counter()
    for _, row in seen:
        versions[row.stream] += 1
        assert row.version == versions[row.stream]
    assert versions == written
    for store in stores:
        await store.close()


async def test_two_sequencers_take_turns(log: LogDatabase) -> None:
    one, two = await PostgresStore.open(log.dsn), await PostgresStore.open(log.dsn)
    for n in range(30):
        await commit(one, *rows_of(f"shelf-{n}", received(1), received(2)))
        assert sum(await asyncio.gather(one.sequence(), two.sequence(), two.sequence())) == 2
    assert [s.seq for s in await two.read(0, 100)] == list(range(1, 61))
    await one.close()
    await two.close()


async def test_the_sequence_goes_on_in_a_restored_database_where_transaction_ids_begin_anew(log: LogDatabase) -> None:
    store = await PostgresStore.open(log.dsn)
    numbered, waiting = rows_of("shelf-a", received(1), received(2))
    await commit(store, numbered)
    await store.sequence()
    await commit(store, waiting)
    await store.close()
    async with connected(log.admin_dsn) as admin:  # as if all had been written a billion transactions ahead
        await admin.execute("UPDATE events SET tx = tx + 1000000000; UPDATE sequenced SET tx = tx + 1000000000")
    await migrate(log.owner_dsn, log.access.role)
    restored = await PostgresStore.open(log.dsn)
    (after,) = rows_of("shelf-a", received(3), after=waiting)
    await commit(restored, after)
    assert await restored.sequence() == 2
    assert [s.row for s in await restored.read(0, 10)] == [numbered, waiting, after]
    async with connected(log.admin_dsn) as admin:
        offset = await admin.fetchval("SELECT tx_offset FROM log_meta")
        await migrate(log.owner_dsn, log.access.role)
        assert await admin.fetchval("SELECT tx_offset FROM log_meta") == offset > 900_000_000
    await restored.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = 'x'",
        "DELETE FROM events",
        "TRUNCATE events",
        "ALTER TABLE events ADD COLUMN more int",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TABLE events",
        "CREATE RULE r AS ON INSERT TO events DO INSTEAD NOTHING",
        "UPDATE sequenced SET seq = 9",
        "DELETE FROM sequenced",
        "TRUNCATE sequenced",
        "DELETE FROM inbox",
        "UPDATE log_meta SET tx_offset = 9",
        "UPDATE schema_migrations SET sha256 = ''",
        "CREATE TABLE more (n int)",
        "CREATE SCHEMA more",
    ],
)
async def test_the_service_role_cannot_change_history(
    log: LogDatabase, postgres_store: PostgresStore, statement: str
) -> None:
    await commit(postgres_store, *rows_of("shelf-a", received(1)))
    async with connected(log.dsn) as role:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement)
    assert len(await postgres_store.read_stream("shelf-a")) == 1


async def test_the_chain_can_be_checked_with_sql_and_sha256_alone(
    log: LogDatabase, postgres_store: PostgresStore
) -> None:
    engine = Engine(postgres_store, RULES, lambda: MONDAY + timedelta(microseconds=1))
    await engine.run([task(receive(f"shelf-{n % 3}", n + 1, f"Töpfe {n}")) for n in range(9)])
    async with connected(log.dsn) as connection:
        rows = await connection.fetch(
            """SELECT stream, hash, data, coalesce(lag(hash) OVER w, decode(repeat('00', 32), 'hex')) AS previous,
                      concat_ws(E'\\n', stream, version, event_id, type, correlation_id, causation_id, actor,
                                (extract(epoch FROM happened_at) * 1000000)::bigint,
                                (extract(epoch FROM recorded_at) * 1000000)::bigint, '') AS head
               FROM events WINDOW w AS (PARTITION BY stream ORDER BY version)"""
        )
        in_sql = await connection.fetchval(
            """SELECT count(*) FROM (
                   SELECT hash = sha256(coalesce(lag(hash) OVER w, decode(repeat('00', 32), 'hex')) || convert_to(
                       concat_ws(E'\\n', stream, version, event_id, type, correlation_id, causation_id, actor,
                                 (extract(epoch FROM happened_at) * 1000000)::bigint,
                                 (extract(epoch FROM recorded_at) * 1000000)::bigint, ''), 'UTF8') || data) AS fits
                   FROM events WINDOW w AS (PARTITION BY stream ORDER BY version)) AS checked WHERE fits"""
        )
    assert len(rows) == in_sql == 9
    assert sum(row["previous"] == GENESIS for row in rows) == 3
    for row in rows:
        assert row["hash"] == sha256(row["previous"] + row["head"].encode() + row["data"]).digest()


async def test_work_canceled_in_its_commit_stays_canceled(log: LogDatabase, postgres_store: PostgresStore) -> None:
    """A cancellation that gets lost there would hang the stop of a service."""
    async with connected(log.admin_dsn) as admin:
        await admin.execute(
            """CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                   'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END';
               CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
                   FOR EACH ROW EXECUTE FUNCTION wait();
               SELECT pg_advisory_lock(42)"""
        )
        engine = Engine(postgres_store, RULES, lambda: MONDAY)
        working = asyncio.create_task(engine.run([task(receive("shelf-a"))]))
        await until(lambda: admin.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        await admin.execute("SELECT pg_advisory_unlock(42)")
    await engine.run([task(receive("shelf-a"))])
    assert [row.version for row in await postgres_store.read_stream("shelf-a")] == [1]


async def test_a_reader_of_the_whole_log_outlives_the_limits_of_a_transaction(log: LogDatabase) -> None:
    """Its caller may take its time between two streams: no transaction stays open meanwhile."""
    store = await PostgresStore.open(log.dsn)
    for n in range(3):
        await commit(store, *rows_of(f"shelf-{n}", *(received(1) for _ in range(1_500))))
    async with connected(log.admin_dsn) as admin:
        async for _ in store.all_streams():
            assert not await admin.fetchval(
                """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND state LIKE 'idle in transaction%'"""
            )
    await store.close()
