"""Fills logs with copies of the lives that are in them, as PostgreSQL sets: so many events take minutes, not days.

A copy is a life under ids of its own: streams, events and their causes, messages in the inbox, documents, published
states and timers. Hashes chain as they must, and a fold of a copy's events gives its document. What a copy has not of
its own: ids inside its data other than the order's and its stream's, and the times. The topics hold no copies.
"""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson

from ordermill.eventlog.aggregates import Aggregates
from ordermill.eventlog.postgres import PostgresStore, view_table
from ordermill.eventlog.records import GENESIS, Row, chained
from ordermill.eventlog.views import View
from ordermill.eventlog.writing import COLUMNS
from ordermill.installation import declared
from ordermill.names import SERVICES

from .stand import BenchStopped, Place

_ROWS_AT_ONCE = 200_000
_CHECKED = 100
"""So many copied streams of each service are read and folded at the end."""
_SESSION = {"work_mem": "256MB", "synchronous_commit": "off", "jit": "off"}
_TOOLS = f"""
CREATE FUNCTION bench_twin(id text, copy int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN right(id, 36) LIKE '________-____-____-____-____________'
                THEN left(id, length(id) - 36) || md5(right(id, 36) || copy)::uuid
                ELSE id || '.' || copy END $$;
CREATE FUNCTION bench_key(stream text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT substr(stream, strpos(stream, '-') + 1) $$;
CREATE FUNCTION bench_micros(instant timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (extract(epoch FROM instant) * 1000000)::bigint $$;
CREATE FUNCTION bench_next(previous bytea, event bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN RETURN sha256(previous || event); END $$;
CREATE AGGREGATE bench_chain (bytea) (SFUNC = bench_next, STYPE = bytea, INITCOND = '\\x{GENESIS.hex()}');
"""
_LIVES = {
    "events": f"""SELECT {COLUMNS}, split_part(stream, '-', 1) || '-' AS category, bench_key(stream) AS key,
            convert_from(data, 'UTF8') AS text, convert_from(data, 'UTF8')::jsonb->>'order_id' AS order_id,
            concat(E'\\n', bench_micros(happened_at), E'\\n', bench_micros(recorded_at), E'\\n') AS instants,
            row_number() OVER (ORDER BY tx, position) AS place
        FROM events WHERE stream NOT LIKE 'checkpoint-%'""",
    "inbox": "SELECT message FROM inbox",
    "timers": """SELECT split_part(stream, '-', 1) || '-' AS category, bench_key(stream) AS key, name, due_at
        FROM timers""",
    "publications": """SELECT split_part(key, '-', 1) || '-' AS category, bench_key(key) AS key, topic, type, revision,
            convert_from(data, 'UTF8') AS text, convert_from(data, 'UTF8')::jsonb->>'order_id' AS order_id
        FROM publications""",
}
"""What is there to be copied, by table."""
_DOCUMENTS = "SELECT key, doc::text AS text, doc->>'order_id' AS order_id FROM {}"
_TEXT = """replace(replace(l.text, l.key, bench_twin(l.key, k)),
            coalesce(l.order_id, ''), bench_twin(coalesce(l.order_id, ''), k))"""
_OF = "FROM bench_{} l CROSS JOIN generate_series($1::int, $2::int) AS k"
_COPIES = {
    "events": f"""WITH copies AS (
            SELECT k, place, category || bench_twin(key, k) AS stream, version,
                md5(event_id::text || k)::uuid AS event_id,
                type, convert_to({_TEXT}, 'UTF8') AS data, bench_twin(correlation_id, k) AS correlation_id,
                bench_twin(causation_id, k) AS causation_id, actor, happened_at, recorded_at, instants, trace
            {_OF.format("events")})
        INSERT INTO events (tx, {COLUMNS})
        SELECT pg_current_xact_id()::text::bigint + (SELECT tx_offset FROM log_meta), stream, version, event_id, type,
            data, correlation_id, causation_id, actor, happened_at, recorded_at,
            bench_chain(convert_to(concat_ws(E'\\n', stream, version, event_id, type, correlation_id, causation_id,
                actor) || instants, 'UTF8') || data) OVER (PARTITION BY stream ORDER BY version), trace
        FROM copies ORDER BY k, place""",
    "inbox": f"INSERT INTO inbox (message) SELECT md5(message::text || k)::uuid {_OF.format('inbox')}",
    "timers": f"""INSERT INTO timers (stream, name, due_at)
        SELECT category || bench_twin(key, k), name, due_at {_OF.format("timers")}""",
    "publications": f"""INSERT INTO publications (topic, key, type, data, revision, dirty)
        SELECT topic, category || bench_twin(key, k), type, convert_to({_TEXT}, 'UTF8'), revision, false
        {_OF.format("publications")}""",
}
_COPY_DOCUMENTS = f"INSERT INTO {{}} (key, doc) SELECT bench_twin(key, k), ({_TEXT})::jsonb {_OF}"


async def fill(place: Place, before: int, copies: int) -> None:
    """Add `copies` of the lives to the log of each service, `before` of which are there. Services must be stopped.

    Raises BenchStopped if a copy does not hold what it must.
    """
    await asyncio.gather(*(fill_log(place.database(name), declared(name).views, before, copies) for name in SERVICES))


async def fill_log(dsn: str, views: tuple[View, ...], before: int, copies: int) -> None:
    """One log; `dsn` is a superuser's."""
    connection = await asyncpg.connect(dsn, server_settings=_SESSION)
    try:
        statements = _COPIES | {
            view_table(view.name): _COPY_DOCUMENTS.format(view_table(view.name), view_table(view.name))
            for view in views
        }
        if not before:
            await connection.execute(_TOOLS)
            documents = {view_table(view.name): _DOCUMENTS.format(view_table(view.name)) for view in views}
            for table, lives in (_LIVES | documents).items():
                await connection.execute(f"CREATE UNLOGGED TABLE bench_{table} AS {lives}")
        for table, copy in statements.items():
            rows = await connection.fetchval(f"SELECT count(*) FROM bench_{table}")
            step = max(1, _ROWS_AT_ONCE // max(1, rows))
            for first in range(before + 1, before + copies + 1, step):
                await connection.execute(copy, first, min(first + step - 1, before + copies))
        await _number(dsn)
        await connection.execute("UPDATE relay_cursors SET seq = (SELECT max(seq) FROM sequenced)")
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def check_log(dsn: str, aggregates: Aggregates, views: tuple[View, ...], copy: int) -> int:
    """How many of the copied streams were folded and found to be whole. Raises BenchStopped for one that is not."""
    connection = await asyncpg.connect(dsn)
    try:
        streams = await connection.fetch(
            """SELECT category || bench_twin(key, $1) FROM (SELECT DISTINCT category, key FROM bench_events) AS lives
               ORDER BY md5(key) LIMIT $2""",
            copy,
            _CHECKED,
        )
        for (stream,) in streams:
            found = await connection.fetch(f"SELECT {COLUMNS} FROM events WHERE stream = $1 ORDER BY version", stream)
            _check_stream(stream, [Row(*row) for row in found])
            if not aggregates.owns(stream):
                continue
            state = aggregates.fold(stream, [Row(*row) for row in found]).state
            category, _, key = stream.partition("-")
            for view in (view for view in views if view.category == category):
                kept = await connection.fetchval(f"SELECT doc FROM {view_table(view.name)} WHERE key = $1", key)
                if kept is None or orjson.loads(kept) != orjson.loads(orjson.dumps(view.document(state))):
                    raise BenchStopped(f"{stream}: its document in {view.name} is not what its events tell")
        return len(streams)
    finally:
        await connection.close()


def _check_stream(stream: str, rows: list[Row]) -> None:
    previous = GENESIS
    for version, row in enumerate(rows, 1):
        if row.version != version or row.hash != chained(previous, row):
            raise BenchStopped(f"{stream}: its copy does not hold together at version {version}")
        previous = row.hash
    if not rows:
        raise BenchStopped(f"{stream}: was not copied")


async def _number(dsn: str) -> None:
    store = await PostgresStore.open(dsn)
    try:
        while await store.sequence(100_000):
            pass
    finally:
        await store.close()


async def sizes(place: Place) -> dict[str, Any]:
    """Events in all logs, and bytes of their databases."""
    events = size = 0
    for name in SERVICES:
        connection = await asyncpg.connect(place.database(name))
        try:
            events += await connection.fetchval("SELECT coalesce(max(seq), 0) FROM sequenced")
            size += await connection.fetchval("SELECT pg_database_size(current_database())")
        finally:
            await connection.close()
    return {"events": events, "bytes": size}
