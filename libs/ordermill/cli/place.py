"""Which installation a command talks to: its OMS_… variables, its services' doors, its logs.

A command that only asks a service over HTTP imports nothing of what services are made of.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import typer

from ordermill.clock import scaled_clock, system_clock
from ordermill.errors import Transient
from ordermill.names import SERVICES
from ordermill.wrong_settings import SettingsWrong, checked

if TYPE_CHECKING:
    from ordermill.eventlog.postgres import PostgresStore
    from ordermill.service.declare import Service
    from ordermill.service.settings import PlatformSettings

T = TypeVar("T")


class Unreachable(Transient):
    """A service, a log or a broker does not answer."""

    code = "cli.unreachable"


def adopt() -> None:
    """Where OMS_… variables are not set, take those of this machine's installation. Raises NoInstallation."""
    path = Path(os.environ.get("OMS_HOME", ".ordermill")).absolute() / "environment.json"
    if not path.exists():
        from ordermill.installation import adopt_environment

        adopt_environment()
        return
    for name, value in json.loads(path.read_text()).items():
        os.environ.setdefault(name, value)


def variable(name: str, what: str) -> str:
    """An OMS_… variable that must be set. Raises SettingsWrong."""
    found = os.environ.get(name, "")
    if not found:
        raise SettingsWrong(f"{name} is not set: expected {what}. Set it, or name a running installation with OMS_HOME")
    return found


def now() -> datetime:
    """The installation's time: a demo's runs faster than this machine's."""
    origin, started = os.environ.get("OMS_CLOCK_ORIGIN"), os.environ.get("OMS_CLOCK_STARTED")
    if not origin or not started:
        return system_clock()
    speed = float(os.environ.get("OMS_CLOCK_SPEED") or 1)
    return scaled_clock(datetime.fromisoformat(origin), datetime.fromisoformat(started), speed)()


def known_service(name: str) -> str:
    """Raises BadParameter, which is wrong usage."""
    if name not in SERVICES:
        raise typer.BadParameter(f"no service {name!r}; there are: {', '.join(SERVICES)}")
    return name


def chosen(service: str | None) -> tuple[str, ...]:
    """That service, or all of them."""
    return SERVICES if service is None else (known_service(service),)


def database_url(service: str) -> str:
    name = f"OMS_{service.upper()}_DATABASE_URL"
    return postgres_url(name, variable(name, f"the PostgreSQL URL of {service}'s role on its log"))


def owner_url(service: str) -> str:
    name = f"OMS_{service.upper()}_OWNER_URL"
    return postgres_url(name, variable(name, f"the PostgreSQL URL of the owner of {service}'s database"))


def postgres_url(name: str, url: str) -> str:
    """The URL that a variable holds, if it can be one. Raises SettingsWrong, which does not show it."""
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        ports = [urlsplit(f"//{host}").port for host in hosts]
        sound = parts.scheme in ("postgresql", "postgres") and parts.path.strip("/") and 0 not in ports
    except ValueError:  # no port
        sound = False
    if not sound:
        raise SettingsWrong(f"{name}: expected postgresql://role:password@host:port/database")
    return url


@asynccontextmanager
async def opened(service: str) -> AsyncIterator[PostgresStore]:
    """A service's log. Raises Unreachable."""
    from ordermill.eventlog.postgres import PostgresStore
    from ordermill.eventlog.store import LogUnavailable

    try:
        store = await PostgresStore.open(database_url(service), max_connections=2)
    except LogUnavailable as error:
        raise Unreachable(f"the log of {service}: {error}. Is PostgreSQL running? `oms doctor` says more") from error
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_all(services: Iterable[str]) -> AsyncIterator[dict[str, PostgresStore]]:
    """The logs of several services, opened side by side. Raises Unreachable."""
    async with AsyncExitStack() as stack:
        names = list(services)
        stores = await asyncio.gather(*(stack.enter_async_context(opened(name)) for name in names))
        yield dict(zip(names, stores, strict=True))


def declared(service: str) -> tuple[Service, PlatformSettings]:
    """A service as it runs here, and the settings all share. Raises SettingsWrong."""
    from ordermill.installation import builder
    from ordermill.service.run import clock_of
    from ordermill.service.settings import PlatformSettings

    platform = checked(PlatformSettings)
    return checked(lambda: builder(service)(platform, clock_of(platform)), service), platform
