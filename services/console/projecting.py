"""Topics into tables: one poll, one transaction; what was seen before changes nothing."""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

import asyncpg
import structlog

from ordermill.clock import Clock
from ordermill.contracts.base import Message
from ordermill.errors import Poison
from ordermill.eventlog.postgres import translated
from ordermill.eventlog.store import LogUnavailable, VersionConflict

from .live import CHANNEL, notes
from .picture import Document, Picture
from .told import Told, told

logger = structlog.get_logger(__name__)

_DRAWN_AT_MOST = 5_000
_AT_A_TIME = 200

_INSERT = """
INSERT INTO events (message, message_id, source, topic, type, stream, version, actor, correlation_id, causation_id,
                    happened_at, order_id, data, seen_at)
SELECT message, message_id, source, topic, type, stream, version, actor, correlation_id, causation_id, happened_at,
       order_id, data, statement_timestamp() + place * interval '1 microsecond'
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::text[],
            $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::bytea[], $14::int[])
     AS told (message, message_id, source, topic, type, stream, version, actor, correlation_id, causation_id,
              happened_at, order_id, data, place)
ON CONFLICT (message) DO NOTHING RETURNING message
"""
_OF_ONE_ORDER = ("shipment-", "parcel-")
"""Streams whose facts do not all name their order; the one that does may come before or after the others."""
_ORDERS_OF = """
SELECT stream, min(order_id) AS order_id, count(*) - count(order_id) AS without
FROM events WHERE stream = ANY ($1) GROUP BY stream
"""
_ADOPT = "UPDATE events SET order_id = $2 WHERE stream = $1 AND order_id IS NULL"
_WRITTEN = (
    "{table}_written AS (UPDATE {table} AS t SET {changes} FROM unnest(${number}::{table}[]) AS w WHERE t.key = w.key)"
)
_NAME_AND_NOTIFY = """
named AS (
    INSERT INTO names (kind, value, order_id) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
    ON CONFLICT DO NOTHING)
SELECT pg_notify($4, note) FROM unnest($5::text[]) AS note
"""
_LOCKED = "SELECT key, doc FROM {table} WHERE key = ANY(${number}::text[]) ORDER BY key FOR UPDATE"
_BEGUN = """INSERT INTO {table} (key) SELECT unnest(${number}::text[]) ON CONFLICT DO NOTHING RETURNING key, doc"""


Row = dict[str, Any]
"""A document's row, by column."""


@dataclass(slots=True)
class Progress:
    """How far the console has read. Instants are seconds since 1970 by this machine's clock."""

    consuming: bool = False
    batches: int = 0
    took_s: float = 0.0
    """From the last poll's records to its commit."""
    newest_at: float | None = None
    """Kafka's time of the newest record in the tables."""
    delay_s: float = 0.0
    """How long the last poll's oldest record took from Kafka's time of it into the tables."""

    def note_consuming(self, consuming: bool) -> None:
        self.consuming = consuming


class Projecting:
    """What becomes of the records of a poll."""

    def __init__(self, pool: asyncpg.Pool, pictures: Sequence[Picture[Any]], clock: Clock) -> None:
        self.pool = pool
        self._pictures = pictures
        self._wanted: frozenset[type[Message]] = frozenset().union(*(p.messages for p in pictures))
        self._clock = clock
        self.healthy = True
        self.messages = 0
        self.skipped = 0
        self.progress = Progress()
        self._drawn: OrderedDict[tuple[str, str], tuple[bytes, Document]] = OrderedDict()
        """The documents of late, each with its row's bytes: a row that is still the same need not be read again."""

    async def handle(self, records: Sequence[Any]) -> None:
        """Returns once all of it is committed, so the poll's offsets may be; waits as long as the database is away."""
        began = time()
        heard = await self._heard(records)
        pause = 0.05
        while heard:
            try:
                await self._project(heard)
                self.healthy = True
                self.messages += len(heard)
                self._note(records, began)
                return
            except VersionConflict:
                await asyncio.sleep(pause)
            except LogUnavailable as error:
                self.healthy = False
                logger.warning("waits for the database", error=str(error), pause_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    def _note(self, records: Sequence[Any], began: float) -> None:
        now, progress = time(), self.progress
        progress.batches += 1
        progress.took_s = now - began
        stamps = [record.timestamp / 1_000 for record in records if record.timestamp > 0]
        if stamps:
            progress.newest_at = max(stamps)
            progress.delay_s = max(0.0, now - min(stamps))

    async def _heard(self, records: Sequence[Any]) -> list[Told]:
        """Each message once, in order. What makes no sense was kept as a dead letter by whoever it was meant for."""
        found: dict[Any, Told] = {}
        now = self._clock()
        for number, record in enumerate(records):
            if number % _AT_A_TIME == _AT_A_TIME - 1:
                await asyncio.sleep(0)  # pages wait for no whole poll
            try:
                item = told(record, self._wanted, now)
            except (Poison, ValueError) as error:
                self.skipped += 1
                logger.info("not shown", topic=record.topic, offset=record.offset, error=type(error).__name__)
                continue
            found.setdefault(item.key, item)
        return list(found.values())

    async def _project(self, heard: Sequence[Told]) -> None:
        """Raises LogUnavailable and VersionConflict; then nothing is written, and what was drawn is forgotten."""
        try:
            await self._write(heard)
        except BaseException as error:
            self._drawn.clear()
            if isinstance(error, asyncpg.DatatypeMismatchError):
                # A newer release gave a table another column: a new connection knows its rows as they are now.
                await self.pool.expire_connections()
                raise VersionConflict(str(error)) from error
            raise

    async def _write(self, heard: Sequence[Told]) -> None:
        with translated():
            async with self.pool.acquire(timeout=20) as connection, connection.transaction():
                fresh = await self._keep(connection, heard)
                drawn = await self._draw(connection, fresh)
                touched = [f"{table}:{row['key']}" for table, rows in drawn.items() for row in rows]
                touched += {f"events:{item.order_id}" for item in fresh if item.order_id and not item.is_state}
                names = self._names(fresh)
                common = *([row[n] for row in names] for n in range(3)), CHANNEL, notes(touched)
                await connection.execute(_write_all(drawn, after=len(common)), *common, *drawn.values())

    async def _keep(self, connection: Any, heard: Sequence[Told]) -> list[Told]:
        """Those not seen before, kept. States of compacted topics are not: only the pictures made of them count."""
        events = sorted((item for item in heard if not item.is_state), key=lambda item: item.key.int)
        late = await self._name_orders(connection, events) if events else {}
        place = {item.key: number for number, item in enumerate(heard)}
        columns = [
            [getattr(item, name) for item in events]
            for name in (
                "key", "message_id", "source", "topic", "type", "stream", "version", "actor", "correlation_id",
                "causation_id", "happened_at", "order_id", "data",
            )
        ]  # fmt: skip
        places = [place[item.key] for item in events]
        known = {row[0] for row in await connection.fetch(_INSERT, *columns, places)} if events else set()
        if late:
            await connection.executemany(_ADOPT, sorted(late.items()))
        return [item for item in heard if item.is_state or item.key in known]

    async def _name_orders(self, connection: Any, events: Sequence[Told]) -> dict[str, str]:
        """Give a parcel's facts their order, if any of them names it; by stream, that of facts kept without one."""
        parcels = [item for item in events if item.stream.startswith(_OF_ONE_ORDER)]
        if not parcels:
            return {}
        rows = await connection.fetch(_ORDERS_OF, sorted({item.stream for item in parcels}))
        orders = {row["stream"]: row["order_id"] for row in rows if row["order_id"] is not None}
        for item in parcels:
            if item.order_id is not None:
                orders.setdefault(item.stream, item.order_id)
        for item in parcels:
            item.order_id = item.order_id or orders.get(item.stream)
        return {row["stream"]: orders[row["stream"]] for row in rows if row["without"] and row["stream"] in orders}

    async def _draw(self, connection: Any, fresh: Sequence[Told]) -> dict[str, list[Row]]:
        """All pictures of what is new: by table, what is to be written of each document that may have changed."""
        asked: dict[Picture[Any], dict[str, list[Told]]] = {}
        for picture in self._pictures:
            by_key: dict[str, list[Told]] = defaultdict(list)
            for item in fresh:
                if type(item.message) in picture.messages:
                    for key in picture.keys(item):
                        by_key[key].append(item)
            if by_key:
                asked[picture] = by_key
        kept = await _rows(connection, {picture.table: sorted(by_key) for picture, by_key in asked.items()})
        drawn = {picture.table: self._draw_one(picture, by_key, kept) for picture, by_key in asked.items()}
        while len(self._drawn) > _DRAWN_AT_MOST:
            self._drawn.popitem(last=False)
        return drawn

    def _draw_one(
        self, picture: Picture[Any], asked: Mapping[str, Sequence[Told]], kept: Mapping[tuple[str, str], bytes]
    ) -> list[Row]:
        table, drawn = picture.table, self._drawn
        rows = []
        for key, items in asked.items():
            row = kept[table, key]
            before, document = drawn.pop((table, key), (None, None))
            if document is None or before != row:
                document = picture.document.model_validate_json(row)
            for item in items:
                picture.draw(document, key, item)
            doc = document.__pydantic_serializer__.to_json(document)
            drawn[table, key] = (doc, document)
            rows.append({"key": key, "doc": doc, **picture.columns(document)})
        return rows

    def _names(self, fresh: Sequence[Told]) -> list[tuple[str, str, str]]:
        """(kind, value, order): by which ids a person may look for what is new."""
        return sorted({
            (kind, value.lower(), item.order_id)
            for item in fresh
            if item.order_id is not None
            for picture in self._pictures
            if type(item.message) in picture.messages
            for kind, value in picture.names(item)
            if value
        })  # fmt: skip


def _write_all(drawn: Mapping[str, Sequence[Row]], after: int) -> str:
    """What writes all documents, names and notes in one way to the server; the tables' arguments come after others."""
    parts = [
        _WRITTEN.format(
            table=table,
            changes=", ".join(f"{column} = w.{column}" for column in rows[0] if column != "key"),
            number=number,
        )
        for number, (table, rows) in enumerate(drawn.items(), after + 1)
    ]
    return "WITH " + ", ".join([*parts, _NAME_AND_NOTIFY])


async def _rows(connection: Any, keys: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], bytes]:
    """The documents' rows by (table, key), locked; those that were not there are begun.

    All tables' in one way to the server, and in one order; should two instances still wait in a circle, PostgreSQL ends
    one of them, and its poll is drawn again.
    """
    found = await _each(connection, _LOCKED, keys)
    if new := _but(keys, found):
        found |= await _each(connection, _BEGUN, new)
        if others := _but(new, found):  # another instance began them just now
            found |= await _each(connection, _LOCKED, others)
    return found


def _but(keys: Mapping[str, Sequence[str]], found: Container[tuple[str, str]]) -> dict[str, list[str]]:
    left = {table: [key for key in several if (table, key) not in found] for table, several in keys.items()}
    return {table: several for table, several in left.items() if several}


async def _each(connection: Any, sql: str, keys: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], bytes]:
    """What `sql` brings from each table for its keys."""
    if not keys:
        return {}
    parts = [f"t{number} AS ({sql.format(table=table, number=number)})" for number, table in enumerate(keys, 1)]
    every = " UNION ALL ".join(f"SELECT '{table}', * FROM t{number}" for number, table in enumerate(keys, 1))
    rows = await connection.fetch(f"WITH {', '.join(parts)} {every}", *keys.values())
    return {(table, key): doc for table, key, doc in rows}


async def generation(pool: asyncpg.Pool) -> str:
    """Names this database's contents; an empty one has another."""
    with translated():
        return str(await pool.fetchval("SELECT id FROM generation"))
