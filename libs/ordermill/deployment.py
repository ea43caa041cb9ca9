"""One installation spread over containers: each gets a folder with what it needs to know, and no more.

<folder>/installation   everything; for commands, and for who makes databases
<folder>/<service>      its own database's role and what all services share, never an owner's password
<folder>/postgres       the superuser's password, for the database's own container
<folder>/simulator      the keys by which the simulated carriers and payments know who calls
<folder>/world          the demo's outside: doors and clock, and its memory
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

from ordermill.clock import system_clock
from ordermill.embedded.system import write_private
from ordermill.errors import Refused
from ordermill.names import CONSOLE, SERVICES, SIMULATOR

if TYPE_CHECKING:
    from ordermill.installation import Installation

PORT = 8080
NAMES = (*SERVICES, CONSOLE, SIMULATOR)
INBOX = Path("/var/lib/ordermill/inbox")
LEDGER = Path("/var/lib/ordermill/simulator/ledger.sqlite")
OUTSIDE = ("OMS_FULFILLMENT_CARRIERS_", "OMS_PAYMENTS_", "OMS_OUTBOUND_", "OMS_CAPTURE_SHOPIFY_SECRET")
"""Settings that count more than what is made up here where they are set: whom the services call, who calls them."""
SIGNS = "OMS_CHECKPOINT_KEY"
"""A service's alone: who only shows what is in a log need not be able to sign for it."""
ENVIRONMENT = "environment.json"

AT_WORK = timedelta(minutes=1)
"""A demo whose world noted the time this recently is at work, and its services go by the clock they were given."""


class NotADemo(Refused):
    """Services that run on the real clock, with what really happened in their logs, do not become a story."""

    code = "deploy.not-a-demo"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} holds an installation that is no demo: leave OMS_DEMO_SPEED out, or remove its data first "
            "(`docker compose down -v`)"
        )


@dataclass(frozen=True)
class Deployment:
    """Where its parts reach each other: every service under its own name, on one port."""

    folder: Path
    kafka: str
    postgres: str

    def lay_out(self, demo_speed: float | None) -> None:
        """Make the secrets that are missing and write each container's folder; safe to repeat.

        `demo_speed`: seconds of the demo's story in a real one. An installation that was a demo stays one.
        """
        from ordermill.installation import Installation

        for name in ("installation", "world", *NAMES):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        installation = Installation.open(self.folder / "installation")
        self._superuser()
        environment = self._environment(installation) | self._demo(demo_speed)
        self._write("installation", environment)
        for name in NAMES:
            own = _share(name, environment)
            if policy := own.get("OMS_ROUTING_POLICY_FILE"):
                own["OMS_ROUTING_POLICY_FILE"] = str(copyfile(policy, self.folder / name / Path(policy).name))
            self._write(name, own)
        doors = {name: environment[name] for name in ("OMS_CAPTURE_SHOPIFY_SECRET", "OMS_CAPTURE_INBOX")}
        self._write("world", _share("world", environment) | doors)

    async def prepare(self) -> None:
        """Make the databases, roles and tables that are missing. `lay_out` comes before, and its environment."""
        from ordermill.installation import Installation

        installation = Installation.open(self.folder / "installation")
        await installation.prepare(f"postgresql://postgres:{self._superuser()}@{self.postgres}", self.postgres)

    def _superuser(self) -> str:
        path = self.folder / "postgres" / "password"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
            path.chmod(0o444)  # another user reads it there; nobody else has this folder
        return path.read_text()

    def _environment(self, installation: Installation) -> dict[str, str]:
        found = installation.environment(self.kafka, self.postgres, dict.fromkeys(NAMES, PORT))
        del found["OMS_HOME"]
        for name in NAMES:
            found[f"OMS_{name.upper()}_HOST"] = "0.0.0.0"  # noqa: S104  # of a container, which publishes what it wants
            found[f"OMS_{name.upper()}_URL"] = f"http://{name}:{PORT}"
        simulator = found["OMS_SIMULATOR_URL"]
        found |= {"OMS_CAPTURE_INBOX": str(INBOX), "OMS_SIMULATOR_LEDGER": str(LEDGER)}
        found |= {"OMS_FULFILLMENT_CARRIERS_URL": simulator, "OMS_PAYMENTS_URL": simulator}
        return found | {name: value for name, value in os.environ.items() if name.startswith(OUTSIDE) and value}

    def _demo(self, speed: float | None) -> dict[str, str]:
        from ordermill.demo.settings import demo_settings
        from ordermill.demo.state import DemoClock, DemoState, StoryClock

        folder = self.folder / "world"
        state = DemoState.load(folder)
        if state.clock is None and speed is None:
            return {}
        if state.clock is None and (self.folder / "installation" / ENVIRONMENT).exists():
            raise NotADemo(self.folder)
        speed = state.clock.speed if state.clock else speed or 1.0
        if state.clock and state.kept_at and system_clock() - state.kept_at < AT_WORK:
            clock = DemoClock(state.clock.origin, speed, state.clock.started)
        else:
            clock = DemoClock(state.now, speed)  # it has rested: the story goes on where it stood
        state.clock = StoryClock(origin=clock.origin, started=clock.started_at, speed=speed)
        state.kept_at = system_clock()
        state.save(folder)
        return clock.environment() | demo_settings(self.folder / "installation", speed)

    def _write(self, name: str, environment: dict[str, str]) -> None:
        write_private(self.folder / name / ENVIRONMENT, json.dumps(environment, indent=1))


def _share(name: str, environment: dict[str, str]) -> dict[str, str]:
    """What one container needs: its own settings, where the others are, and what all services share."""
    own = f"OMS_{name.upper()}_"
    if name == SIMULATOR:
        return {variable: value for variable, value in environment.items() if variable.startswith(own)}
    others = tuple(f"OMS_{other.upper()}_" for other in NAMES if other != name)
    addresses = {f"{other}URL" for other in others}
    kept_from_it = () if name in SERVICES else (SIGNS,)
    return {
        variable: value
        for variable, value in environment.items()
        if not variable.endswith("_OWNER_URL")
        and (not variable.startswith(others) or variable in addresses)
        and variable not in kept_from_it
    }
