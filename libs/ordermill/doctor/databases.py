"""The databases: reachable, of a release that will do, migrated, in time with us; what waits in them too long."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ordermill.errors import OrdermillError
from ordermill.names import CONSOLE

from .finding import TIMEOUT_S, Finding

if TYPE_CHECKING:
    from ordermill.eventlog.views import View
    from ordermill.service.settings import PlatformSettings

OLDEST_POSTGRES = 17
"""transaction_timeout keeps one stuck writer from holding back every reader; it came with this release."""
CLOCK_WARN_S = 1.0
OVERDUE_WARN_S = 60.0
"""A timer rings within a second of its time; one whose process died, half a minute after."""
WAITING_WARN_S = 900.0
MISSED = 3
"""So many times the interval of checkpoints may pass before an event should be in one."""


class _Away(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


@asynccontextmanager
async def _connected(what: str, variable: str) -> AsyncIterator[Any]:
    """A connection to the database that a variable names. Raises _Away."""
    import asyncpg.exceptions

    url = os.environ.get(variable, "")
    if not url:
        raise _Away(Finding("bad", what, "no address", f"set {variable}"))
    try:
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    except asyncpg.exceptions.InvalidAuthorizationSpecificationError as error:
        raise _Away(
            Finding("bad", what, f"lets nobody in: {error}", f"correct role and password in {variable}")
        ) from None
    except asyncpg.exceptions.InvalidCatalogNameError as error:
        raise _Away(Finding("bad", what, f"is not there: {error}", f"make it, or correct {variable}")) from None
    except (OSError, TimeoutError, ValueError, asyncpg.exceptions.PostgresError) as error:
        text = f"does not answer: {error or type(error).__name__}"
        raise _Away(Finding("bad", what, text, "start PostgreSQL, see its log")) from None
    try:
        yield connection
    except asyncpg.exceptions.UndefinedTableError as error:
        raise _Away(Finding("bad", what, f"not set up: {error}", "run `oms migrate`")) from None
    except asyncpg.exceptions.UndefinedColumnError as error:
        raise _Away(Finding("bad", what, f"set up by an older release: {error}", "run `oms migrate`")) from None
    except TimeoutError:
        text = f"does not answer a question within {TIMEOUT_S:g} s"
        raise _Away(Finding("bad", what, text, "look for who holds locks there (pg_stat_activity)")) from None
    except (OSError, asyncpg.exceptions.PostgresError) as error:
        remedy = "see PostgreSQL's log; `oms migrate` sets rights anew"
        raise _Away(Finding("bad", what, f"refuses: {error}", remedy)) from None
    finally:
        connection.terminate()


def views_of(service: str, platform: PlatformSettings | None) -> tuple[View, ...]:
    """A service's views; none where its settings are wrong, which is said with those."""
    from ordermill.installation import builder
    from ordermill.service.run import clock_of

    if platform is None:
        return ()
    try:
        return builder(service)(platform, clock_of(platform)).rules().views
    except (OrdermillError, ValueError):
        return ()


async def database(service: str, views: Sequence[View], platform: PlatformSettings | None) -> AsyncIterator[Finding]:
    """A service's log."""
    from ordermill.eventlog.migrate import MIGRATIONS
    from ordermill.eventlog.postgres import view_table
    from ordermill.service.run import clock_of

    now = clock_of(platform)() if platform is not None else datetime.now(UTC)
    try:
        async with _connected(f"{service} database", f"OMS_{service.upper()}_DATABASE_URL") as connection:
            yield await _release(f"{service} database", connection)
            yield await _durable(f"{service} durability", connection)
            yield await _migrations(service, connection, MIGRATIONS, [view_table(view.name) for view in views])
            yield await _clock(service, connection)
            async for finding in _waiting(service, connection, now):
                yield finding
            if platform is not None:
                yield await _checkpoints(service, connection, now, platform)
            if views:
                yield await _views(service, connection, views)
    except _Away as away:
        yield away.finding


async def console() -> AsyncIterator[Finding]:
    """The console's tables."""
    from ordermill.installation import console_migrations

    try:
        async with _connected("console database", "OMS_CONSOLE_DATABASE_URL") as connection:
            yield await _release("console database", connection)
            yield await _migrations(CONSOLE, connection, console_migrations(), ())
    except _Away as away:
        yield away.finding


async def keyring(platform: PlatformSettings | None) -> AsyncIterator[Finding]:
    """The customers' keys, and whether the master key opens them."""
    from ordermill.installation import KEYRING_MIGRATIONS
    from ordermill.keyring import Keyring, MemoryKeyStore

    try:
        async with _connected("keyring", "OMS_KEYRING_URL") as connection:
            count = await connection.fetchval("SELECT count(*) FROM customer_keys WHERE wrapped IS NOT NULL")
            migrations = await _migrations("keyring", connection, KEYRING_MIGRATIONS, ())
            durable = await _durable("keyring durability", connection)
            row = await connection.fetchrow(
                "SELECT key_id, wrapped FROM customer_keys WHERE wrapped IS NOT NULL LIMIT 1"
            )
    except _Away as away:
        yield away.finding
        return
    yield migrations
    yield durable
    if row is not None and platform is not None:
        ring = Keyring(MemoryKeyStore(), b64decode(platform.master_key.get_secret_value()))
        if not ring.opens(row["key_id"], row["wrapped"]):
            remedy = "set the master key that this keyring was made with: without it no name or address can be read"
            yield Finding("bad", "keyring", f"OMS_MASTER_KEY does not open its {count} keys", remedy)
            return
    yield Finding("ok", "keyring", f"{count} customers' keys")


async def _release(what: str, connection: Any) -> Finding:
    text = str(await connection.fetchval("SELECT split_part(version(), ' on ', 1)"))
    if connection.get_server_version().major < OLDEST_POSTGRES:
        return Finding("bad", what, f"{text}: {OLDEST_POSTGRES} or newer is needed", "upgrade PostgreSQL")
    return Finding("ok", what, text)


async def _durable(what: str, connection: Any) -> Finding:
    settings = ("fsync", "full_page_writes", "synchronous_commit")
    values = [str(await connection.fetchval("SELECT current_setting($1)", name)) for name in settings]
    if off := [name for name, value in zip(settings, values, strict=True) if value == "off"]:
        remedy = "set it on, unless this installation is to be thrown away (OMS_THROWAWAY)"
        return Finding(
            "warn", what, f"{', '.join(off)} off: what was acknowledged may be lost with the machine", remedy
        )
    return Finding("ok", what, "what is acknowledged outlives the machine")


async def _migrations(name: str, connection: Any, folder: Path, tables: Sequence[str]) -> Finding:
    what = f"{name} migrations"
    known = dict(await connection.fetch("SELECT name, sha256 FROM schema_migrations"))
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("[0-9]*.sql"))}
    absent = [table for table in tables if await connection.fetchval("SELECT to_regclass($1) IS NULL", table)]
    if missing := [file for file in files if file not in known] + absent:
        return Finding("bad", what, f"missing: {', '.join(missing)}", "run `oms migrate`")
    if changed := [file for file in files if known[file] != files[file]]:
        return Finding(
            "bad", what, f"applied in another form: {', '.join(changed)}", "install the version that made it"
        )
    if newer := sorted(set(known) - set(files)):
        return Finding("warn", what, f"a newer version applied {', '.join(newer)}", "upgrade this one")
    return Finding("ok", what, f"{len(files)} applied" + (f", {len(tables)} views" if tables else ""))


async def _views(service: str, connection: Any, views: Sequence[View]) -> Finding:
    from ordermill.eventlog.versions import outdated, remedy

    what = f"{service} views"
    if found := await outdated(connection, views):
        text = f"may hold documents of another release: {', '.join(found)}"
        return Finding("warn", what, text, remedy(service, found))
    return Finding("ok", what, "all that they hold is of this release")


async def _clock(service: str, connection: Any) -> Finding:
    before = datetime.now(UTC)
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    apart = abs((theirs - (before + (after - before) / 2)).total_seconds())
    text = f"{apart:.3f} s from PostgreSQL's"
    if apart > CLOCK_WARN_S:
        return Finding("warn", f"{service} clock", text, "let NTP set both machines' clocks")
    return Finding("ok", f"{service} clock", text)


async def _waiting(service: str, connection: Any, now: datetime) -> AsyncIterator[Finding]:
    row = await connection.fetchrow(
        """SELECT (SELECT count(*) FROM timers) AS timers,
                  (SELECT count(*) FROM timers WHERE due_at <= $1) AS overdue,
                  (SELECT coalesce(extract(epoch FROM $1 - min(due_at)), 0)::float8
                   FROM timers WHERE due_at <= $1) AS overdue_s,
                  (SELECT count(*) FROM effects) AS effects,
                  (SELECT coalesce(max(attempts), 0) FROM effects) AS attempts,
                  (SELECT coalesce(extract(epoch FROM now() - min(asked_at)), 0)::float8 FROM effects) AS oldest_s,
                  (SELECT count(*) FROM view_dead_letters WHERE doc->>'status' = 'waiting') AS letters""",
        now,
    )
    what = f"{service} timers"
    if row["overdue_s"] > OVERDUE_WARN_S:
        text = f"{row['overdue']} are due and have not rung, the oldest for {row['overdue_s']:,.0f} s"
        yield Finding("warn", what, text, f"see whether {service} runs, and its log for timers that fail")
    else:
        yield Finding("ok", what, f"{row['timers']} waiting, none overdue")
    what = f"{service} effects"
    remedy = f"see the log of {service} for which provider fails, and how"
    if row["attempts"]:
        text = f"{row['effects']} waiting; tried up to {row['attempts']} times, the oldest for {row['oldest_s']:,.0f} s"
        yield Finding("warn", what, text, remedy)
    elif row["oldest_s"] > WAITING_WARN_S:
        text = f"{row['effects']} waiting and not tried, the oldest for {row['oldest_s']:,.0f} s"
        yield Finding("warn", what, text, f"see whether {service} runs")
    else:
        yield Finding("ok", what, f"{row['effects']} waiting")
    if row["letters"]:
        remedy = f"`oms dlq list {service}`, then redrive or drop"
        yield Finding("warn", f"{service} dead letters", f"{row['letters']} waiting", remedy)


async def _checkpoints(service: str, connection: Any, now: datetime, platform: PlatformSettings) -> Finding:
    from ordermill.contracts.service import CheckpointMade
    from ordermill.eventlog.checkpoints import CHECKPOINTS

    what = f"{service} checkpoints"
    if platform.checkpoint_key is None:
        remedy = "set OMS_CHECKPOINT_KEY, as `openssl rand -base64 32` makes one"
        return Finding("warn", what, "none are made: nobody could tell if this log were written anew", remedy)
    stream = CHECKPOINTS.stream(service)
    made = await connection.fetchval("SELECT data FROM events WHERE stream = $1 ORDER BY version DESC LIMIT 1", stream)
    last = CheckpointMade.from_json(made) if made is not None else None
    oldest = await connection.fetchval(
        """SELECT e.recorded_at FROM sequenced s JOIN events e USING (tx, position)
           WHERE s.seq > $1 AND e.stream <> $2 ORDER BY s.seq LIMIT 1""",
        last.last if last else 0,
        stream,
    )
    closed = f"{last.number}, up to event {last.last}" if last else "none yet"
    waits_s = (now - oldest).total_seconds() / platform.clock_speed if oldest else 0
    if waits_s > MISSED * platform.checkpoint_every_s:
        text = f"{closed}; what is newer has waited for {waits_s:,.0f} s"
        return Finding("warn", what, text, f"see the log of {service} for checkpoints that fail")
    return Finding("ok", what, closed)
