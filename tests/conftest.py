"""Databases for tests: one PostgreSQL for each process of tests, an empty log of its own for every test that asks.

`OMS_TEST_POSTGRES` names a server to use (a superuser's URL without a database); else an embedded one is started.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import settings

from ordermill.embedded import running_stack
from ordermill.eventlog.migrate import Access, migrate, provision
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.views import View

settings.register_profile("ordermill", deadline=None)  # a busy machine is no defect
settings.load_profile("ordermill")
os.environ.setdefault("OMS_THROWAWAY", "yes")  # what tests start need not outlive the machine


@dataclass(frozen=True)
class LogDatabase:
    """A service's database: as the superuser, as its owner, as the role that works on it."""

    admin_dsn: str
    owner_dsn: str
    dsn: str
    access: Access


class Databases:
    """Makes databases and drops them again."""

    def __init__(self, server: str) -> None:
        self.server = server
        self._suffix = uuid4().hex[:8]
        self._names: list[str] = []

    def access(self, name: str = "") -> Access:
        """A name that nobody else on this server has; the roles are those of the session."""
        s = self._suffix
        return Access(name or f"t_{s}_{uuid4().hex[:8]}", f"t_owner_{s}", "owner", f"t_role_{s}", "role")

    def of(self, access: Access) -> LogDatabase:
        self._names.append(access.database)
        host = self.server.rpartition("@")[2]
        return LogDatabase(
            f"{self.server}/{access.database}",
            f"postgresql://{access.owner}:{access.owner_password}@{host}/{access.database}",
            f"postgresql://{access.role}:{access.role_password}@{host}/{access.database}",
            access,
        )

    async def log(self, views: Sequence[View] = ()) -> LogDatabase:
        """A log with nothing in it."""
        template = self.access(f"t_{self._suffix}_template")
        if template.database not in self._names:
            await provision(self.server, template)
            await migrate(self.of(template).owner_dsn, template.role)
        database = self.of(self.access())
        await self.admin(f"CREATE DATABASE {database.access.database} TEMPLATE {template.database}")
        await self.admin(f"ALTER DATABASE {database.access.database} OWNER TO {template.owner}")
        await provision(self.server, database.access)
        if views:
            await migrate(database.owner_dsn, template.role, views=views)
        return database

    async def admin(self, *statements: str) -> None:
        connection = await asyncpg.connect(f"{self.server}/postgres")
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def drop(self, names: Sequence[str]) -> None:
        await self.admin(*(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in names))
        self._names = [name for name in self._names if name not in names]

    async def drop_all(self) -> None:
        await self.drop(self._names)
        access = self.access()
        await self.admin(*(f"DROP ROLE IF EXISTS {role}" for role in (access.owner, access.role)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A superuser's URL, without a database."""
    if server := os.environ.get("OMS_TEST_POSTGRES"):
        yield server
        return
    # Not below pytest's own folder: that is closed to the user the server may have to run as.
    with (
        TemporaryDirectory(prefix="ordermill-test-") as folder,
        running_stack(Path(folder) / "stack", throwaway=True) as stack,
    ):
        yield stack.postgres_dsn().removesuffix("/postgres")


@pytest.fixture(scope="session")
async def databases(postgres: str) -> AsyncIterator[Databases]:
    made = Databases(postgres)
    yield made
    await made.drop_all()


@pytest.fixture
async def make_log(databases: Databases) -> AsyncIterator[Callable[..., Awaitable[LogDatabase]]]:
    """`await make_log(views)`: an empty log that ends with the test."""
    made: list[str] = []

    async def make(views: Sequence[View] = ()) -> LogDatabase:
        database = await databases.log(views)
        made.append(database.access.database)
        return database

    yield make
    await databases.drop(made)


@pytest.fixture
async def log(make_log: Callable[..., Awaitable[LogDatabase]]) -> LogDatabase:
    """An empty log without views."""
    return await make_log()


@pytest.fixture
async def postgres_store(log: LogDatabase) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(log.dsn)
    yield store
    await store.close()
