"""All is lost but the backup, and orders go on: the commands of the how-to, on a PostgreSQL of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import httpx

from ordermill.demo.launch import EMBEDDED
from ordermill.embedded import EmbeddedStack
from ordermill.eventlog.migrate import provision
from ordermill.installation import Installation
from ordermill.keyring import Keyring, PostgresKeyStore
from ordermill.names import CONSOLE, SERVICES, SIMULATOR
from tests.docs.pages import postgres_programs, shell
from tests.e2e.running import Installation as Running
from tests.e2e.running import warehouse_and_carrier
from tests.operations.place import ROOT, eventually

BACK_UP, RESTORE = shell("how-to/back-up-and-restore.md")
FILES = ("secrets.json", "simulator.sqlite*")
"""What the page says must be kept beside the databases."""


def copy(source: Path, target: Path) -> None:
    for pattern in FILES:
        for path in source.glob(pattern):
            shutil.copy(path, target)


class Servers:
    """PostgreSQL and a broker, both empty, and services beside them that start and stop by themselves."""

    def __init__(self, stack: EmbeddedStack, folder: Path) -> None:
        self.folder = folder
        self.stack = stack
        self.installation = Installation.open(folder)
        ours = self.installation.environment(stack.kafka, stack.postgres.address, stack.ports)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OMS_")}
        self.environment = kept | ours | EMBEDDED | {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}",
        }  # fmt: skip
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin/oms").write_text(f'#!/bin/sh\nexec {sys.executable} -m ordermill.cli "$@"\n')
        (folder / "bin/oms").chmod(0o755)

    async def make_databases(self) -> None:
        """As whoever runs PostgreSQL does: databases and roles, and nothing in them."""
        for name in (*SERVICES, CONSOLE, "keyring"):
            await provision(self.stack.postgres_dsn().removesuffix("/postgres"), self.installation.access(name))

    def run(self, script: str, backup: Path) -> None:
        command = ["bash", "-e", "-c", f"{postgres_programs()}\n{script}"]
        done = subprocess.run(command, cwd=backup, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def running(self, *words: str) -> Iterator[Running]:
        """`oms simulator` or `oms run all`, until the end of the block."""
        log = self.folder / "services.log"
        with log.open("ab") as said:
            process = subprocess.Popen(
                [self.folder / "bin/oms", *words], env=self.environment, stdout=said, stderr=said
            )
        names = (SIMULATOR,) if words == ("simulator",) else SERVICES
        try:
            eventually(lambda: self._ready(process, names, log))
            yield Running(self.environment)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def _ready(self, process: subprocess.Popen[bytes], names: Sequence[str], log: Path) -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            ports = [self.environment[f"OMS_{name.upper()}_PORT"] for name in names]
            path = "healthz" if names == (SIMULATOR,) else "readyz"
            return all(httpx.get(f"http://127.0.0.1:{port}/{path}").status_code == 200 for port in ports)
        except httpx.HTTPError:
            return False

    async def name_of(self, order: dict[str, Any]) -> str:
        """Whom an order goes to, opened with the keyring of this installation."""
        store = PostgresKeyStore(self.environment["OMS_KEYRING_URL"])
        keyring = Keyring(store, b64decode(self.environment["OMS_MASTER_KEY"]))
        token = order["destination"]["addressee"]
        person = (await keyring.open([token]))[token]
        return person.name if person else ""


@contextmanager
def servers(backup: Path | None = None) -> Iterator[Servers]:
    # Not below pytest's own folder: that is closed to the user the server may have to run as.
    with TemporaryDirectory(prefix="ordermill-backup-") as name:
        folder = Path(name) / "home"
        with EmbeddedStack(folder, dict.fromkeys((*SERVICES, CONSOLE, SIMULATOR))) as stack:
            if backup is not None:
                copy(backup, folder)
            yield Servers(stack, folder)


def order(external_id: str, quantity: int) -> dict[str, Any]:
    def usd(minor: int) -> dict[str, Any]:
        return {"minor": minor, "currency": "USD"}

    line = {
        "line_id": "1", "sku": "TEAPOT", "quantity": quantity, "unit_price": usd(100), "discount": usd(0),
        "tax": usd(0),
    }  # fmt: skip
    return {
        "channel": "web",
        "external_id": external_id,
        "placed_at": datetime.now(UTC).isoformat(),
        "ship_to": {
            "person": {"name": f"Ann {external_id}", "street": ["1 Main St"], "city": "Columbus"},
            "country": "US",
            "region": "OH",
            "postal_code": "43215",
        },
        "lines": [line],
        "shipping": usd(0),
        "shipping_tax": usd(0),
        "total": usd(100 * quantity),
        "payment": {"status": "paid"},
        "allow_backorder": True,
    }


def is_at(running: Running, order_id: str, status: str) -> bool:
    found = running.get("tracking", "/order-status")["items"]
    return any(each["key"] == order_id and each["status"] == status for each in found)


async def test_after_all_is_lost_the_backup_is_restored_proved_and_worked_on(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    with servers() as first:
        await first.make_databases()
        first.run("oms migrate", backup)
        with first.running("simulator"), first.running("run", "all") as running:
            now = datetime.now(UTC).isoformat()
            stock = {"location": "edison", "sku": "TEAPOT", "reference": "r1", "happened_at": now, "quantity": 6}
            running.post("inventory", "/stock/receive", [stock])
            done = running.post("capture", "/orders", order("delivered", 1))["key"]
            with warehouse_and_carrier(running):
                eventually(lambda: is_at(running, done, "delivered"))
            waiting = running.post("capture", "/orders", order("waiting", 2))["key"]
            eventually(lambda: running.get("fulfillment", "/fulfillments", status="created")["items"])
            short = running.post("capture", "/orders", order("short", 5))["key"]
            eventually(lambda: running.get("inventory", "/stock")["items"][0]["backordered"])
        first.run(BACK_UP, backup)
        copy(first.folder, backup)
        events = await events_of(first)
    with servers(backup) as second, second.running("simulator"):
        await second.make_databases()
        second.run(RESTORE, backup)
        second.run(RESTORE, backup)  # over what is there already
        assert await events_of(second) == events
        with second.running("run", "all") as running:
            restored = running.get("capture", f"/orders/{waiting}")
            assert await second.name_of(restored) == "Ann waiting"
            assert is_at(running, done, "delivered")
            new = running.post("capture", "/orders", order("new", 1))["key"]
            with warehouse_and_carrier(running):
                for each in (waiting, new):
                    eventually(lambda each=each: is_at(running, each, "delivered"))
                stock |= {"reference": "r2"}
                running.post("inventory", "/stock/receive", [stock])
                eventually(lambda: is_at(running, short, "delivered"))
            (stands,) = running.get("inventory", "/stock")["items"]
            assert stands["on_hand"] == 12 - 1 - 2 - 5 - 1
        second.run("oms verify", backup)


async def events_of(place: Servers) -> dict[str, int]:
    """How many events each log holds."""
    found = {}
    for name in SERVICES:
        connection = await asyncpg.connect(place.environment[f"OMS_{name.upper()}_DATABASE_URL"])
        found[name] = await connection.fetchval("SELECT count(*) FROM events")
        await connection.close()
    return found
