"""Databases brought up to what this program expects."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import unquote, urlsplit

import typer

from ordermill.names import CONSOLE, SERVICES
from ordermill.wrong_settings import SettingsWrong

from .place import Unreachable, adopt, database_url, declared, owner_url, postgres_url, variable
from .terminal import JsonOption, print_json, print_table, say

app = typer.Typer()


@app.command()
def migrate(as_json: JsonOption = False) -> None:
    """Apply what is missing to the databases of services, keyring and console; make the tables of new views.

    Works as the owners: OMS_<SERVICE>_OWNER_URL, and those of keyring and console where they are set. Databases and
    roles must exist. Safe to repeat, and while the services run. Says which views are to be built anew.
    """
    adopt()
    applied = asyncio.run(migrate_all())
    if as_json:
        print_json(applied)
    else:
        print_table(
            ["database", "applied"],
            [[name, ", ".join(files) or "nothing was missing"] for name, files in applied.items()],
        )
    from ordermill.eventlog.versions import remedy

    for service, views in asyncio.run(outdated_views()).items():
        say(f"{service}: {', '.join(views)} may hold documents of another release; {remedy(service, views)}")


async def migrate_all() -> dict[str, list[str]]:
    """The files applied, by database. Raises Unreachable, SettingsWrong, MigrationChanged."""
    from ordermill.eventlog.migrate import migrate as migrate_log
    from ordermill.installation import KEYRING_MIGRATIONS, console_migrations

    applied: dict[str, list[str]] = {}
    for service in SERVICES:
        views = declared(service)[0].rules().views
        role = role_of(database_url(service), f"OMS_{service.upper()}_DATABASE_URL")
        applied[service] = await _reached(service, migrate_log(owner_url(service), role, views=views))
    for name, setting, folder in (
        ("keyring", "OMS_KEYRING_URL", KEYRING_MIGRATIONS),
        (CONSOLE, "OMS_CONSOLE_DATABASE_URL", console_migrations()),
    ):
        if owner := os.environ.get(f"OMS_{name.upper()}_OWNER_URL"):
            role = role_of(variable(setting, f"the PostgreSQL URL of the {name}'s database"), setting)
            owner = postgres_url(f"OMS_{name.upper()}_OWNER_URL", owner)
            applied[name] = await _reached(name, migrate_log(owner, role, folder))
    return applied


async def outdated_views() -> dict[str, list[str]]:
    """By service, the views that other code may have written to."""
    from asyncpg import connect

    from ordermill.eventlog.versions import outdated

    found: dict[str, list[str]] = {}
    for service in SERVICES:
        connection = await connect(owner_url(service))
        try:
            found[service] = await outdated(connection, declared(service)[0].rules().views)
        finally:
            await connection.close()
    return {service: views for service, views in found.items() if views}


def role_of(url: str, name: str) -> str:
    """The role that a PostgreSQL URL logs in as. Raises SettingsWrong."""
    role = urlsplit(url).username
    if not role:
        raise SettingsWrong(f"{name}: expected a role in it, like postgresql://role:password@host:port/database")
    return unquote(role)


async def _reached(name: str, work: Any) -> list[str]:
    try:
        found: list[str] = await work
    except OSError as error:
        raise Unreachable(f"the database of {name}: {error}. Is PostgreSQL running? `oms doctor` says more") from error
    return found
