"""One transaction on a log in PostgreSQL: one statement for what it reads, and one for all that it writes."""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any
from uuid import UUID

import orjson

from ordermill.tracing import step

from .records import Row
from .store import NOTHING, Changes, Found, Snapshot

COLUMNS = (
    "stream, version, event_id, type, data, correlation_id, causation_id, actor, happened_at, recorded_at, hash, trace"
)
E_COLUMNS = ", ".join(f"e.{name}" for name in COLUMNS.split(", "))
# One way to the server and back. LATERAL with LIMIT is looked up row by row, however the tables were when planned.
_LOOK_UP = f"""
SELECT 'row', {E_COLUMNS} FROM unnest($1::text[], $2::int[], $3::text[]) AS w (stream, after, code)
LEFT JOIN LATERAL (SELECT version FROM snapshots WHERE stream = w.stream AND code = w.code LIMIT 1) AS s ON true
CROSS JOIN LATERAL (
    SELECT * FROM events WHERE stream = w.stream AND version > coalesce(s.version, w.after) ORDER BY version) AS e
UNION ALL
SELECT 'snapshot', s.stream, s.version, NULL, s.code, s.state, NULL, NULL, NULL, NULL, NULL, s.hash, NULL
FROM unnest($1::text[], $3::text[]) AS w (stream, code)
CROSS JOIN LATERAL (SELECT * FROM snapshots WHERE stream = w.stream AND code = w.code LIMIT 1) AS s
UNION ALL
SELECT 'seen', NULL, NULL, message, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM inbox WHERE message = ANY($4::uuid[])
"""
_SEEN = "SELECT message FROM inbox WHERE message = ANY($1::uuid[])"
_DELETES: dict[str, str] = {
    "fired": """DELETE FROM timers t USING unnest($1::text[], $2::text[], $3::timestamptz[]) AS w (stream, name, due_at)
        WHERE t.stream = w.stream AND t.name = w.name AND t.due_at = w.due_at""",
    "clear_timers": """DELETE FROM timers t USING unnest($1::text[], $2::text[]) AS w (stream, name)
        WHERE t.stream = w.stream AND t.name = w.name""",
    "done_effects": "DELETE FROM effects WHERE effect_id = ANY($1::text[])",
}
_INSERTS: dict[str, str] = {
    "events": f"""INSERT INTO events (tx, {COLUMNS})
        SELECT pg_current_xact_id()::text::bigint + $1, w.*
        FROM unnest($2::text[], $3::int[], $4::uuid[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[],
                    $10::timestamptz[], $11::timestamptz[], $12::bytea[], $13::text[]) AS w""",
    "inbox": "INSERT INTO inbox (message) SELECT unnest($1::uuid[])",
    "set_timers": """INSERT INTO timers (stream, name, due_at, trace)
        SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
        ON CONFLICT (stream, name) DO UPDATE
            SET due_at = EXCLUDED.due_at, trace = EXCLUDED.trace, leased_until = '-infinity'""",
    "effects": """INSERT INTO effects (effect_id, stream, type, data, correlation_id, asked_by, lane, trace)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::uuid[], $7::text[],
                             $8::text[])
        ON CONFLICT (effect_id) DO NOTHING""",
    "snapshots": """INSERT INTO snapshots (stream, version, code, state, hash)
        SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::bytea[], $5::bytea[])
        ON CONFLICT (stream) DO UPDATE SET version = EXCLUDED.version, code = EXCLUDED.code,
            state = EXCLUDED.state, hash = EXCLUDED.hash""",
    "publications": """INSERT INTO publications AS p (topic, key, type, data, revision, dirty)
        SELECT w.*, 1, true FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) AS w
        ON CONFLICT (topic, key) DO UPDATE SET type = EXCLUDED.type, data = EXCLUDED.data,
            revision = p.revision + 1, dirty = true""",
    "blobs": """INSERT INTO blobs (sha256, body) SELECT * FROM unnest($1::bytea[], $2::bytea[])
        ON CONFLICT (sha256) DO NOTHING""",
}
_INSERT_DOCUMENTS = """INSERT INTO %s (key, doc) SELECT * FROM unnest($1::text[], $2::jsonb[])
        ON CONFLICT (key) DO UPDATE SET doc = EXCLUDED.doc"""
_VIEW = "view "
_ARGUMENT = re.compile(r"\$(\d+)")


def view_table(name: str) -> str:
    """The table of a view. Names are fixed in code and checked, since they become part of SQL."""
    if not name.replace("_", "").isalnum():
        raise ValueError(f"view name {name!r}: letters, digits and underscores only")
    return f"view_{name}"


def statement(operation: str, table: str, database: str, rows: int = 0) -> AbstractContextManager[None]:
    """A part of the traces at work, by the semantic conventions for databases. `rows`: how many it writes."""
    about: dict[str, str | int] = {
        "db.system.name": "postgresql",
        "db.namespace": database,
        "db.operation.name": operation,
        "db.collection.name": table,
    }
    if rows > 1:
        about["db.operation.batch.size"] = rows
    return step(f"{operation} {table}", "client", about)


class PostgresTransaction:
    """Begun only where more than one statement must hold together: a statement alone is a transaction of its own."""

    def __init__(self, connection: Any, tx_offset: int, database: str) -> None:
        self._connection = connection
        self._begun: Any = None
        self._tx_offset = tx_offset
        self._database = database

    async def look_up(
        self, after: Mapping[str, int], code: Mapping[str, str] = NOTHING, messages: Collection[UUID] = ()
    ) -> Found:
        if not after:  # the streams are in memory: the look that most often will do
            with statement("SELECT", "inbox", self._database):
                records = await self._connection.fetch(_SEEN, list(messages))
            return Found(seen={message for (message,) in records})
        codes = [None if version else code.get(stream.partition("-")[0]) for stream, version in after.items()]
        with statement("SELECT", "events", self._database):
            records = await self._connection.fetch(_LOOK_UP, list(after), list(after.values()), codes, list(messages))
        found = Found()
        for kind, *columns in records:
            if kind == "row":
                found.rows.append(Row(*columns))
            elif kind == "snapshot":
                stream, version, _, made_by, state, *_, digest, _ = columns
                found.snapshots.append(Snapshot(stream, version, made_by, state, digest))
            else:
                found.seen.add(columns[2])
        return found

    async def lock(self, streams: Collection[str]) -> None:
        await self._begin()
        with statement("SELECT", "pg_advisory_xact_lock", self._database):
            await self._connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(s, 1)) FROM unnest($1::text[]) AS s",
                sorted(streams),
            )

    async def commit(self, changes: Changes) -> None:
        with statement("INSERT", "events", self._database, len(changes.rows)):
            await self._commit(changes)

    async def leave(self) -> None:
        """Undo what was not committed."""
        if self._begun is not None and not self._connection.is_closed():
            await self._begun.rollback()

    async def _begin(self) -> None:
        if self._begun is None:
            begun = self._connection.transaction()
            await begun.start()
            self._begun = begun

    async def _commit(self, changes: Changes) -> None:
        if again := set(changes.done_effects).intersection(effect.effect_id for effect in changes.effects):
            # Done, and asked for anew under its id: one statement can't take a row away and put it there.
            await self._begin()
            await self._connection.execute(_DELETES["done_effects"], list(again))
        kinds: list[str] = []
        everything: list[Any] = []
        if rows := changes.rows:
            kinds.append("events")
            everything += [self._tx_offset, *(list(column) for column in zip(*rows, strict=True))]
        for kind, columns in (*_deletes(changes), *_inserts(changes), *_documents(changes)):
            kinds.append(kind)
            everything += columns
        if kinds:
            await self._connection.execute(_in_one(tuple(kinds)), *everything)
        if self._begun is not None:
            # Whatever comes of it: asyncpg refuses to roll back a commit that failed or was canceled.
            begun, self._begun = self._begun, None
            await begun.commit()


@cache
def _in_one(kinds: tuple[str, ...]) -> str:
    """One statement that does what several would: each costs a way to the server and back. No two meet in one row."""
    parts: list[str] = []
    before = 0
    for number, kind in enumerate(kinds):
        sql = _INSERTS.get(kind) or _DELETES.get(kind) or _INSERT_DOCUMENTS % view_table(kind.removeprefix(_VIEW))
        shifted, count = _renumbered(sql, before)
        parts.append(f"w{number} AS ({shifted})")
        before += count
    return f"WITH {', '.join(parts)} SELECT"


def _renumbered(sql: str, before: int) -> tuple[str, int]:
    """A statement whose arguments come after `before` others, and how many it has."""
    numbers = {int(found) for found in _ARGUMENT.findall(sql)}
    return _ARGUMENT.sub(lambda found: f"${int(found[1]) + before}", sql), max(numbers, default=0)


def _deletes(changes: Changes) -> Iterator[tuple[str, list[list[Any]]]]:
    timers = changes.timers
    if fired := [timer for timer in changes.fired if (timer.stream, timer.name) not in timers]:
        yield "fired", [[t.stream for t in fired], [t.name for t in fired], [t.due_at for t in fired]]
    if cleared := [key for key, timer in timers.items() if timer is None]:
        yield "clear_timers", [[stream for stream, _ in cleared], [name for _, name in cleared]]
    asked = {effect.effect_id for effect in changes.effects}
    if done := [effect_id for effect_id in changes.done_effects if effect_id not in asked]:
        yield "done_effects", [done]


def _inserts(changes: Changes) -> Iterator[tuple[str, list[list[Any]]]]:
    if changes.inbox:
        yield "inbox", [changes.inbox]
    if to_set := [timer for timer in changes.timers.values() if timer is not None]:
        yield (
            "set_timers",
            [
                [t.stream for t in to_set],
                [t.name for t in to_set],
                [t.due_at for t in to_set],
                [t.trace for t in to_set],
            ],
        )
    if effects := changes.effects:
        yield (
            "effects",
            [
                [e.effect_id for e in effects],
                [e.stream for e in effects],
                [e.type for e in effects],
                [e.data for e in effects],
                [e.correlation_id for e in effects],
                [e.asked_by for e in effects],
                [e.lane for e in effects],
                [e.trace for e in effects],
            ],
        )
    if snapshots := {s.stream: s for s in changes.snapshots}.values():
        yield (
            "snapshots",
            [
                [s.stream for s in snapshots],
                [s.version for s in snapshots],
                [s.code for s in snapshots],
                [s.state for s in snapshots],
                [s.hash for s in snapshots],
            ],
        )
    if publications := changes.publications:
        yield (
            "publications",
            [
                [topic for topic, _ in publications],
                [key for _, key in publications],
                [type_name for type_name, _ in publications.values()],
                [data for _, data in publications.values()],
            ],
        )
    if changes.blobs:
        yield "blobs", [list(changes.blobs), list(changes.blobs.values())]


def _documents(changes: Changes) -> Iterator[tuple[str, list[list[Any]]]]:
    for view, documents in changes.documents.items():
        encoded = [orjson.dumps(document).decode() for document in documents.values()]
        yield _VIEW + view, [list(documents), encoded]
