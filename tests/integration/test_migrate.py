"""Migrations: applied once, by one at a time, never edited; and who may do what afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

import ordermill.keyring
from ordermill.eventlog.migrate import MIGRATIONS, MigrationChanged, migrate, provision
from ordermill.eventlog.views import View
from tests.conftest import Databases, LogDatabase

KEYRING = Path(ordermill.keyring.__file__).parent / "migrations"
SHELVES = View("shelves", "shelf", dict, indexed=("state", "sku"))


@pytest.fixture
async def empty(databases: Databases) -> LogDatabase:
    """A database with roles and nothing else."""
    database = databases.of(databases.access())
    await provision(databases.server, database.access)
    return database


async def fetch(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query)  # type: ignore[no-any-return]
    finally:
        await connection.close()


async def rights(database: LogDatabase) -> dict[str, str]:
    """Each table, and what the role may do with it."""
    rows = await fetch(
        database.admin_dsn,
        f"""SELECT c.relname, coalesce(string_agg(a.privilege_type, ' ' ORDER BY a.privilege_type), '') AS granted
            FROM pg_class c LEFT JOIN aclexplode(c.relacl) a
              ON pg_get_userbyid(a.grantee) IN ('{database.access.role}', 'unknown (OID=0)')
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' GROUP BY c.relname""",
    )
    return {row["relname"]: row["granted"] for row in rows}


async def test_each_file_is_applied_once(empty: LogDatabase) -> None:
    names = sorted(path.name for path in MIGRATIONS.glob("*.sql"))
    assert await migrate(empty.owner_dsn, empty.access.role, views=[SHELVES]) == names
    assert await migrate(empty.owner_dsn, empty.access.role, views=[SHELVES]) == []
    applied = await fetch(empty.owner_dsn, "SELECT name FROM schema_migrations ORDER BY name")
    assert [row["name"] for row in applied] == names


async def test_two_at_once_do_it_once(empty: LogDatabase) -> None:
    done = await asyncio.gather(
        *(migrate(empty.owner_dsn, empty.access.role, views=[SHELVES]) for _ in range(3)),
        *(migrate(empty.owner_dsn, empty.access.role) for _ in range(2)),
    )
    assert sum(map(len, done)) == len(list(MIGRATIONS.glob("*.sql")))


async def test_a_file_that_was_applied_is_never_edited(empty: LogDatabase, tmp_path: Path) -> None:
    first = tmp_path / "0001_first.sql"
    first.write_text("CREATE TABLE one (n int)")
    assert await migrate(empty.owner_dsn, empty.access.role, tmp_path) == ["0001_first.sql"]
    first.write_text("CREATE TABLE one (n bigint)")
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE two (n int)")
    with pytest.raises(MigrationChanged, match=r"0001_first\.sql"):
        await migrate(empty.owner_dsn, empty.access.role, tmp_path)
    assert set(await rights(empty)) == {"one", "schema_migrations"}


async def test_a_file_that_fails_leaves_nothing(empty: LogDatabase, tmp_path: Path) -> None:
    broken = tmp_path / "0001_first.sql"
    broken.write_text("CREATE TABLE one (n int); CREATE TABLE one (n int)")
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrate(empty.owner_dsn, empty.access.role, tmp_path)
    assert set(await rights(empty)) == {"schema_migrations"}
    broken.write_text("CREATE TABLE one (n int)")
    assert await migrate(empty.owner_dsn, empty.access.role, tmp_path) == ["0001_first.sql"]


async def test_the_role_may_add_to_the_log_and_no_more(empty: LogDatabase) -> None:
    await migrate(empty.owner_dsn, empty.access.role, views=[SHELVES])
    await migrate(empty.owner_dsn, empty.access.role, views=[SHELVES])
    assert await rights(empty) == {
        "events": "INSERT SELECT",
        "sequenced": "INSERT SELECT",
        "inbox": "INSERT SELECT",
        "blobs": "INSERT SELECT",
        "log_meta": "SELECT",
        "schema_migrations": "SELECT",
        "timers": "DELETE INSERT SELECT UPDATE",
        "effects": "DELETE INSERT SELECT UPDATE",
        "snapshots": "INSERT SELECT UPDATE",
        "publications": "INSERT SELECT UPDATE",
        "relay_cursors": "INSERT SELECT UPDATE",
        "view_versions": "SELECT UPDATE",
        "view_shelves": "INSERT SELECT UPDATE",
    }


async def test_rights_that_are_too_wide_are_taken_back(empty: LogDatabase) -> None:
    await migrate(empty.owner_dsn, empty.access.role)
    await fetch(empty.owner_dsn, f"GRANT ALL ON events TO {empty.access.role}")
    await migrate(empty.owner_dsn, empty.access.role)
    assert (await rights(empty))["events"] == "INSERT SELECT"


async def test_a_service_at_work_keeps_its_rights_while_they_are_granted_anew(empty: LogDatabase) -> None:
    await migrate(empty.owner_dsn, empty.access.role, views=[SHELVES])
    done = asyncio.Event()

    async def work() -> int:
        connection = await asyncpg.connect(empty.dsn)
        times = 0
        while not done.is_set():
            await connection.fetch("SELECT FROM view_shelves LIMIT 1")
            times += 1
        await connection.close()
        return times

    working = asyncio.create_task(work())
    for _ in range(10):
        await migrate(empty.owner_dsn, empty.access.role, views=[SHELVES])
    done.set()
    assert await working > 10


async def test_the_key_stores_role_may_empty_a_key_but_not_remove_it(empty: LogDatabase) -> None:
    await migrate(empty.owner_dsn, empty.access.role, KEYRING)
    assert await rights(empty) == {"customer_keys": "INSERT SELECT UPDATE", "schema_migrations": "SELECT"}


async def test_only_its_own_role_may_enter_a_database(empty: LogDatabase, databases: Databases) -> None:
    stranger = f"{empty.access.role}_stranger"
    await databases.admin(f"CREATE ROLE {stranger} LOGIN")
    try:
        allowed = await fetch(
            empty.admin_dsn,
            f"""SELECT has_database_privilege(r, current_database(), 'CONNECT') AS may
                FROM unnest(ARRAY['{empty.access.role}', '{stranger}']) AS r""",
        )
        assert [row["may"] for row in allowed] == [True, False]
    finally:
        await databases.admin(f"DROP ROLE {stranger}")


async def test_each_indexed_field_of_a_view_has_its_index(make_log: Callable[..., Awaitable[LogDatabase]]) -> None:
    log = await make_log([SHELVES])
    rows = await fetch(log.owner_dsn, "SELECT indexdef FROM pg_indexes WHERE tablename = 'view_shelves'")
    definitions = "\n".join(row["indexdef"] for row in rows)
    assert "(key)" in definitions
    assert "((doc ->> 'state'::text))" in definitions
    assert "((doc ->> 'sku'::text))" in definitions
