"""HTTP surfaces as they run, over real databases that hold a merchant's life; requests need no broker."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import uvicorn

from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.store import Store
from ordermill.names import SERVICES
from ordermill.schemas.surfaces import declared
from ordermill.service.deadletters import LETTER_VIEW
from ordermill.service.surface import application
from tests.cli.life import Life, live
from tests.conftest import Databases


@dataclass(frozen=True)
class Surface:
    """Where it listens, and who may speak to it."""

    url: str
    token: str

    @property
    def authorization(self) -> str:
        return f"Bearer {self.token}"


@asynccontextmanager
async def surfaces(databases: Databases) -> AsyncIterator[dict[str, Surface]]:
    """All services' surfaces, by name."""
    token = secrets.token_urlsafe(12)
    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {}
        for name in SERVICES:
            log = await databases.log((*declared(name).views, LETTER_VIEW))
            stack.push_async_callback(databases.drop, [log.access.database])
            store = await PostgresStore.open(log.dsn)
            stack.push_async_callback(store.close)
            stores[name] = store
        life = Life(stores)
        await live(life)
        found = {}
        for name, running in life.services.items():
            running.consuming = True
            url = await stack.enter_async_context(served(application(running, token)))
            found[name] = Surface(url, token)
        yield found


@asynccontextmanager
async def served(app: object) -> AsyncIterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=2)
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
