"""Which installation a command talks to: its OMS_… variables, its services' doors, its logs.

A command that only asks a service over HTTP imports nothing of what services are made of.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ordermill.errors import OrdermillError, Transient
from ordermill.names import SERVICES

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from ordermill.eventlog.postgres import PostgresStore
    from ordermill.service.declare import Service
    from ordermill.service.settings import PlatformSettings

T = TypeVar("T")


class Unreachable(Transient):
    """A service, a log or a broker does not answer."""

    code = "cli.unreachable"


class SettingsWrong(OrdermillError):
    """An OMS_… variable that is missing, or not what it must be."""

    code = "cli.settings"


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


def known_service(name: str) -> str:
    """Raises BadParameter, which is wrong usage."""
    if name not in SERVICES:
        raise typer.BadParameter(f"no service {name!r}; there are: {', '.join(SERVICES)}")
    return name


def chosen(service: str | None) -> tuple[str, ...]:
    """That service, or all of them."""
    return SERVICES if service is None else (known_service(service),)


def database_url(service: str) -> str:
    return variable(f"OMS_{service.upper()}_DATABASE_URL", f"the PostgreSQL URL of {service}'s role on its log")


def owner_url(service: str) -> str:
    return variable(f"OMS_{service.upper()}_OWNER_URL", f"the PostgreSQL URL of the owner of {service}'s database")


@asynccontextmanager
async def opened(service: str) -> AsyncIterator[PostgresStore]:
    """A service's log. Raises Unreachable."""
    from ordermill.eventlog.postgres import PostgresStore
    from ordermill.eventlog.store import LogUnavailable, Unstorable

    try:
        store = await PostgresStore.open(database_url(service), max_connections=2)
    except LogUnavailable as error:
        raise Unreachable(f"the log of {service}: {error}. Is PostgreSQL running? `oms doctor` says more") from error
    except (ValueError, Unstorable):
        name = f"OMS_{service.upper()}_DATABASE_URL"
        raise SettingsWrong(f"{name}: expected postgresql://role:password@host:port/database") from None
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


def checked(make: Callable[[], T], service: str = "") -> T:
    """What `make` reads from the environment. Raises SettingsWrong, naming each variable."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    try:
        return make()
    except ValidationError as error:
        raise SettingsWrong("; ".join(faults_of(error, service))) from None
    except (SettingsError, ValueError) as error:
        of = f"the settings of {service}" if service else "the settings"
        raise SettingsWrong(f"{of}: {error}. `oms doctor` shows all of them") from None


def faults_of(error: ValidationError, service: str = "") -> list[str]:
    """For each variable at fault: its name, what was expected and found, what it is for. Secrets are not shown."""
    model, prefix = _model_of(error.title, service)
    faults = []
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0]) if fault["loc"] else ""
        field = model.model_fields.get(key) if model is not None else None
        about = f" ({field.description.rstrip('.')})" if field and field.description else ""
        name = f"{prefix}{key.upper()}"
        if fault["type"] == "missing":
            faults.append(f"{name} is not set{about}: set it in the environment")
            continue
        secret = field is not None and "Secret" in str(field.annotation)
        found = "" if secret else f", found {str(fault['input'])[:60]!r}"
        faults.append(f"{name}{about}: {fault['msg']}{found}")
    return faults


def _model_of(title: str, service: str) -> tuple[type[BaseModel] | None, str]:
    """The settings class of that name, and how its variables begin."""
    from importlib import import_module

    from ordermill.payments.http import PaymentsSettings
    from ordermill.service import settings
    from ordermill.service.outbound import OutboundSettings
    from ordermill.simulator.run import SimulatorSettings

    shared: tuple[type[BaseModel], ...] = (
        settings.PlatformSettings, OutboundSettings, PaymentsSettings, SimulatorSettings,
    )  # fmt: skip
    for model in shared:
        if model.__name__ == title:
            return model, str(model.model_config.get("env_prefix", ""))
    name = service or title.removesuffix("Settings").lower()
    if title == "ServiceSettings":
        return settings.ServiceSettings, f"OMS_{name.upper()}_"
    if name in SERVICES:
        found: Any = getattr(import_module(f"services.{name}.settings"), title, None)
        return found, f"OMS_{name.upper()}_"
    return None, "OMS_"
