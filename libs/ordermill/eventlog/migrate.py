"""Databases, roles, numbered SQL files and the tables of views. Safe to repeat; one at a time, under a lock."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg

from ordermill.errors import OrdermillError

from .postgres import view_table
from .versions import note_new
from .views import View

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6F6D73


class MigrationChanged(OrdermillError):
    """A migration that was applied here differs from the file of that number now."""

    code = "migrate.changed"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was applied in another form: applied files are never edited, add a new one")


@dataclass(frozen=True)
class Access:
    """Who may do what in a service's database: the owner migrates, the role works."""

    database: str
    owner: str
    owner_password: str
    role: str
    role_password: str


async def provision(admin_dsn: str, access: Access) -> None:
    """Make the roles and the database, or set their passwords anew. `admin_dsn`: a superuser's, without database."""
    connection = await asyncpg.connect(f"{admin_dsn}/postgres")
    try:
        for role, password in ((access.owner, access.owner_password), (access.role, access.role_password)):
            exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
            verb = "ALTER" if exists else "CREATE"
            await connection.execute(
                f"{verb} ROLE {_name(role)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {_literal(password)}"
            )
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", access.database):
            await connection.execute(f"CREATE DATABASE {_name(access.database)} OWNER {_name(access.owner)}")
            await connection.execute(f"REVOKE ALL ON DATABASE {_name(access.database)} FROM PUBLIC")
        await connection.execute(f"GRANT CONNECT ON DATABASE {_name(access.database)} TO {_name(access.role)}")
    finally:
        await connection.close()


async def migrate(owner_dsn: str, role: str, folder: Path = MIGRATIONS, views: Sequence[View] = ()) -> list[str]:
    """Apply what is missing and grant the role what it needs, no more. Returns the names of the files applied."""
    async with _locked(owner_dsn) as connection:
        await connection.execute(
            """CREATE TABLE IF NOT EXISTS schema_migrations (
                   name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"""
        )
        known = dict(await connection.fetch("SELECT name, sha256 FROM schema_migrations"))
        applied: list[str] = []
        for path in sorted(folder.glob("[0-9]*.sql")):
            digest = sha256(path.read_bytes()).hexdigest()
            if path.name in known:
                if known[path.name] != digest:
                    raise MigrationChanged(path.name)
                continue
            async with connection.transaction():
                await connection.execute(path.read_text())
                await connection.execute(
                    "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", path.name, digest
                )
            applied.append(path.name)
        for view in views:
            await create_view_table(connection, view, view_table(view.name))
            await note_new(connection, view)
        if folder == MIGRATIONS:
            await _keep_order_over_restore(connection)
            async with connection.transaction():  # a service at work never sees the moment without rights
                await _grant(connection, role, views)
        else:
            await connection.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {_name(role)}")
            await connection.execute(f"REVOKE INSERT, UPDATE ON schema_migrations FROM {_name(role)}")
        return applied


async def create_view_table(connection: Any, view: View, table: str) -> None:
    """A view's table and its indexes, if they are not there."""
    await connection.execute(
        f'CREATE TABLE IF NOT EXISTS {table} (key text COLLATE "C" PRIMARY KEY, doc jsonb NOT NULL)'
    )
    for field in view.indexed:
        await connection.execute(
            f"CREATE INDEX IF NOT EXISTS {_name(f'{table}_{field}')} ON {table} ((doc->>{_literal(field)}))"
        )


async def _keep_order_over_restore(connection: Any) -> None:
    """In a restored database transaction ids begin anew; the offset keeps `tx` growing all the same."""
    await connection.execute(
        """UPDATE log_meta SET tx_offset = behind.by FROM (
               SELECT (SELECT coalesce(max(tx), 0) FROM events) - pg_current_xact_id()::text::bigint + 1 AS by
           ) AS behind
           WHERE behind.by > tx_offset"""
    )


async def _grant(connection: Any, role: str, views: Sequence[View]) -> None:
    role = _name(role)
    await connection.execute(
        f"""REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};
            GRANT USAGE ON SCHEMA public TO {role};
            GRANT SELECT, INSERT ON events, sequenced, inbox, blobs TO {role};
            GRANT SELECT ON log_meta, schema_migrations TO {role};
            GRANT SELECT, INSERT, UPDATE, DELETE ON timers, effects TO {role};
            GRANT SELECT, INSERT, UPDATE ON snapshots, publications, relay_cursors TO {role};
            GRANT SELECT, UPDATE ON view_versions TO {role};"""
    )
    for view in views:
        await connection.execute(f"GRANT SELECT, INSERT, UPDATE ON {view_table(view.name)} TO {role}")


@asynccontextmanager
async def _locked(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "ordermill migrate"})
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        yield connection
    finally:
        await connection.close()


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", text):
        raise ValueError(f"{text!r}: names here have lower-case letters, digits and underscores")
    return text


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
