"""One installation on one machine: its secrets, its databases, and the environment its services run in.

Everything lies in one folder (`.ordermill` unless OMS_HOME says otherwise), readable by its owner only.
"""

from __future__ import annotations

import json
import os
import secrets
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ordermill.clock import Clock, system_clock
from ordermill.errors import Refused
from ordermill.eventlog.migrate import Access, migrate, provision
from ordermill.names import CONSOLE, SERVICES, SIMULATOR
from ordermill.service.deadletters import LETTER_VIEW
from ordermill.service.declare import Service
from ordermill.service.run import run_service
from ordermill.service.settings import PlatformSettings
from ordermill.simulator.run import run_simulator
from ordermill.wrong_settings import SettingsWrong

KEYRING_MIGRATIONS = Path(__file__).parent / "keyring" / "migrations"


def console_migrations() -> Path:
    """Where the files are that make the console's tables."""
    return Path(import_module("services.console").__path__[0]) / "migrations"


_ENVIRONMENT = "environment.json"
_SECRETS = "secrets.json"


class NoInstallation(Refused):
    """A command needs a running installation and finds none."""

    code = "installation.none"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"no installation in {folder}: start one with `oms up` or `make demo`, name its folder with OMS_HOME, "
            "or set the OMS_… variables of one that runs elsewhere"
        )


def home() -> Path:
    """Where this machine's installation lies."""
    return Path(os.environ.get("OMS_HOME", ".ordermill")).absolute()


def throwaway() -> bool:
    """Whether this machine's installation is made to be thrown away. Raises SettingsWrong."""
    told = os.environ.get("OMS_THROWAWAY", "no")
    if told not in ("yes", "no"):
        raise SettingsWrong(
            f"OMS_THROWAWAY is {told!r}: expected yes or no. Without it, nothing is lost with the machine"
        )
    return told == "yes"


def builder(service: str) -> Callable[[PlatformSettings, Clock], Service]:
    """The `build` of a service's app page; imported only when asked for, so that libs know no service."""
    return import_module(f"services.{service}.app").build  # type: ignore[no-any-return]


def runner(name: str) -> Callable[[], None]:
    """Runs a service, the console or the simulator until a signal, under the settings in the environment."""
    if name == CONSOLE:
        return import_module("services.console.run").run  # type: ignore[no-any-return]
    if name == SIMULATOR:
        return run_simulator
    return lambda: run_service(builder(name), name)


def declared(service: str) -> Service:
    """A service's declaration under the settings in the environment."""
    return builder(service)(PlatformSettings(), system_clock)


def write_private(path: Path, content: str) -> None:
    """Write whole or not at all, readable by the owner only."""
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


@dataclass(frozen=True)
class Installation:
    """The folder of an installation and what must stay secret about it."""

    folder: Path
    secrets: dict[str, str]

    @classmethod
    def open(cls, folder: Path) -> Installation:
        """Read the installation's secrets, making those that are missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / _SECRETS
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        wanted: dict[str, Callable[[], str]] = {
            "api_token": lambda: secrets.token_urlsafe(24),
            "master_key": lambda: b64encode(secrets.token_bytes(32)).decode(),
            "link_secret": lambda: b64encode(secrets.token_bytes(32)).decode(),
            "checkpoint_key": lambda: b64encode(secrets.token_bytes(32)).decode(),
            "shopify_secret": lambda: secrets.token_urlsafe(24),
            "console_token": lambda: secrets.token_urlsafe(24),
            "provider_key": lambda: secrets.token_urlsafe(24),
            "simulator_token": lambda: secrets.token_urlsafe(24),
        }
        for name in (*SERVICES, CONSOLE, "keyring"):
            wanted[f"{name}_owner"] = lambda: secrets.token_urlsafe(24)
            wanted[f"{name}_role"] = lambda: secrets.token_urlsafe(24)
        missing = {name: make() for name, make in wanted.items() if name not in known}
        if missing:
            known |= missing
            write_private(path, json.dumps(known, indent=1))
        return cls(folder, known)

    def access(self, name: str) -> Access:
        return Access(
            database=f"oms_{name}",
            owner=f"oms_{name}_owner",
            owner_password=self.secrets[f"{name}_owner"],
            role=f"oms_{name}",
            role_password=self.secrets[f"{name}_role"],
        )

    def environment(self, kafka: str, postgres: str, ports: dict[str, int]) -> dict[str, str]:
        """The OMS_… variables of all services and the simulated providers that they talk to.

        `postgres` is host:port, `ports` the HTTP port of each service and of SIMULATOR.
        """
        simulator = f"http://127.0.0.1:{ports[SIMULATOR]}"
        found = {
            "OMS_HOME": str(self.folder),
            "OMS_KAFKA": kafka,
            "OMS_API_TOKEN": self.secrets["api_token"],
            "OMS_MASTER_KEY": self.secrets["master_key"],
            "OMS_LINK_SECRET": self.secrets["link_secret"],
            "OMS_CHECKPOINT_KEY": self.secrets["checkpoint_key"],
            "OMS_CAPTURE_SHOPIFY_SECRET": self.secrets["shopify_secret"],
            "OMS_CONSOLE_TOKEN": self.secrets["console_token"],
            "OMS_KEYRING_URL": self._url(postgres, "keyring", owner=False),
            "OMS_KEYRING_OWNER_URL": self._url(postgres, "keyring", owner=True),
            "OMS_SIMULATOR_PORT": str(ports[SIMULATOR]),
            "OMS_SIMULATOR_URL": simulator,
            "OMS_SIMULATOR_PROVIDER_KEY": self.secrets["provider_key"],
            "OMS_SIMULATOR_CONTROL_TOKEN": self.secrets["simulator_token"],
            "OMS_SIMULATOR_LEDGER": str(self.folder / "simulator.sqlite"),
            "OMS_FULFILLMENT_CARRIERS_URL": simulator,
            "OMS_FULFILLMENT_CARRIERS_KEY": self.secrets["provider_key"],
            "OMS_PAYMENTS_URL": simulator,
            "OMS_PAYMENTS_KEY": self.secrets["provider_key"],
            "OMS_OUTBOUND_ALLOW_PRIVATE": "true",
        }
        for service in (*SERVICES, CONSOLE):
            found[f"OMS_{service.upper()}_DATABASE_URL"] = self._url(postgres, service, owner=False)
            found[f"OMS_{service.upper()}_OWNER_URL"] = self._url(postgres, service, owner=True)
            found[f"OMS_{service.upper()}_PORT"] = str(ports[service])
        return found

    def _url(self, postgres: str, name: str, owner: bool) -> str:
        access = self.access(name)
        role, password = (access.owner, access.owner_password) if owner else (access.role, access.role_password)
        return f"postgresql://{role}:{password}@{postgres}/{access.database}"

    async def prepare(self, admin_dsn: str, postgres: str) -> None:
        """Make the databases and roles that are missing, and migrate all of them."""
        for name in (*SERVICES, CONSOLE, "keyring"):
            await provision(admin_dsn, self.access(name))
        for name, folder in (("keyring", KEYRING_MIGRATIONS), (CONSOLE, console_migrations())):
            await migrate(self._url(postgres, name, owner=True), self.access(name).role, folder)
        for service in SERVICES:
            views = (*declared(service).views, LETTER_VIEW)
            await migrate(self._url(postgres, service, owner=True), self.access(service).role, views=views)

    def remember(self, environment: dict[str, str]) -> None:
        """Let commands in other terminals find this installation."""
        write_private(self.folder / _ENVIRONMENT, json.dumps(environment, indent=1))


def adopt_environment() -> None:
    """For a command: where OMS_… variables are not set, take those of this machine's installation."""
    path = home() / _ENVIRONMENT
    if not path.exists():
        if "OMS_KAFKA" not in os.environ:
            raise NoInstallation(home())
        return
    known: dict[str, Any] = json.loads(path.read_text())
    for name, value in known.items():
        os.environ.setdefault(name, value)
