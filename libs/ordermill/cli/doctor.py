"""What is wrong with this installation, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ordermill.errors import OrdermillError
from ordermill.names import SERVICES

from .client import url_of
from .place import SettingsWrong, adopt, checked, database_url, declared, faults_of
from .terminal import DONE, WRONG, JsonOption, cell, print_json

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

    from ordermill.service.settings import PlatformSettings

app = typer.Typer()

PACKAGES = (
    "ordermill", "aiokafka", "asyncpg", "cryptography", "eventsourcing", "fastapi", "faststream", "httpx", "pydantic",
)  # fmt: skip
LAG_WARN, LAG_BAD = 1_000, 100_000
"""Events that no reader has a number for, or that are not on Kafka yet."""
CLOCK_WARN_S = 1.0
DISK_WARN, DISK_BAD = 5 * 2**30, 2**30
TIMEOUT_S = 5.0

Verdict = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` says what to do, where something is to be done."""

    verdict: Verdict
    what: str
    text: str
    remedy: str = ""


@app.command()
def doctor(
    show_all: Annotated[bool, typer.Option("--all", help="Also settings that are as they are by default.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at everything this installation needs: settings, databases, Kafka, services, lag, dead letters, disk, clock.

    With --json one line for each thing. Exit status: 0 nothing is bad, 1 something is, 3 there is no installation.
    """
    adopt()
    bad = 0

    async def work() -> None:
        nonlocal bad
        async for finding in examine(show_all):
            bad += finding.verdict == "bad"
            if as_json:
                print_json(asdict(finding))
            else:
                _print(finding)

    asyncio.run(work())
    raise typer.Exit(WRONG if bad else DONE)


def _print(finding: Finding) -> None:
    word = finding.verdict.ljust(4)
    if sys.stdout.isatty():
        color = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "bad": typer.colors.RED}[finding.verdict]
        word = typer.style(word, fg=color)
    remedy = f"  -> {cell(finding.remedy)}" if finding.remedy else ""
    typer.echo(f"{word}  {finding.what:<24}  {cell(finding.text)}{remedy}")


async def examine(show_all: bool = False) -> AsyncIterator[Finding]:
    """Everything, one after another; nothing that is wrong stops the rest."""
    for finding in versions():
        yield finding
    platform: PlatformSettings | None = None
    try:
        from ordermill.service.settings import PlatformSettings

        platform = checked(PlatformSettings)
    except SettingsWrong:
        pass  # said with the settings
    for finding in settings(show_all):
        yield finding
    for found in await asyncio.gather(*(_all(database(service)) for service in SERVICES)):
        for finding in found:
            yield finding
    yield await keyring()
    if platform is not None:
        async for finding in kafka(platform):
            yield finding
    for found in await asyncio.gather(*(_all(at_work(service)) for service in SERVICES)):
        for finding in found:
            yield finding
    for finding in disk():
        yield finding


async def _all(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


def versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    found = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info >= (3, 11)
    yield Finding(
        "ok" if fits else "bad", "python", found, "" if fits else "Ordermill needs Python 3.11 or newer: install one"
    )
    there: list[str] = []
    missing: list[str] = []
    for name in PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding("ok", "packages", ", ".join(there))
    if gone := [name for name in missing if name != "ordermill"]:
        yield Finding("bad", "packages", f"not installed: {', '.join(gone)}", "pip install ordermill")


def settings(show_all: bool) -> Iterator[Finding]:
    """Each variable as it is set, secrets masked; each one that is missing or wrong."""
    from importlib import import_module

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from ordermill.payments.http import PaymentsSettings
    from ordermill.service.outbound import OutboundSettings
    from ordermill.service.settings import PlatformSettings, ServiceSettings

    models: list[tuple[type[BaseSettings], str, str]] = [
        (PlatformSettings, "OMS_", ""),
        (OutboundSettings, "OMS_OUTBOUND_", ""),
        (PaymentsSettings, "OMS_PAYMENTS_", ""),
    ]
    for service in SERVICES:
        prefix = f"OMS_{service.upper()}_"
        models.append((ServiceSettings, prefix, service))
        module = import_module(f"services.{service}.settings")
        own = getattr(module, f"{service.capitalize()}Settings", None)
        if own is not None:
            models.append((own, prefix, service))
    for model, prefix, service in models:
        try:
            values = model(_env_prefix=prefix)
        except ValidationError as error:
            for fault in faults_of(error, service):
                yield Finding("bad", "setting", fault, "set it in the environment of every service")
            continue
        except SettingsError as error:
            yield Finding("bad", "setting", f"{prefix}…: {error}", "write it as JSON")
            continue
        for name, field in model.model_fields.items():
            variable = f"{prefix}{name.upper()}"
            if variable in os.environ or show_all:
                # A secret of ours prints as asterisks, whatever it holds.
                by_default = "" if variable in os.environ else " (by default)"
                about = (field.description or "").rstrip(".")
                yield Finding("ok", "setting", f"{variable}={getattr(values, name)}{by_default}  {about}")


async def database(service: str) -> AsyncIterator[Finding]:
    """Reachable, migrated, in time with us; what waits in it."""
    import asyncpg.exceptions

    what = f"{service} database"
    try:
        connection = await asyncpg.connect(database_url(service), timeout=TIMEOUT_S)
    except SettingsWrong:
        yield Finding("bad", what, "no address", f"set OMS_{service.upper()}_DATABASE_URL")
        return
    except (OSError, TimeoutError, ValueError, asyncpg.exceptions.PostgresError) as error:
        yield Finding("bad", what, f"does not answer: {error or type(error).__name__}", "start PostgreSQL, see its log")
        return
    try:
        yield Finding("ok", what, str(await connection.fetchval("SELECT split_part(version(), ' on ', 1)")))
        yield await _migrations(service, connection)
        yield await _clock(service, connection)
        async for finding in _waiting(service, connection):
            yield finding
    except asyncpg.exceptions.UndefinedTableError as error:
        yield Finding("bad", what, f"not set up: {error}", "run `oms migrate`")
    except (OSError, asyncpg.exceptions.PostgresError) as error:
        yield Finding("bad", what, f"refuses: {error}", "see PostgreSQL's log; `oms migrate` sets rights anew")
    finally:
        await connection.close()


async def _migrations(service: str, connection: Any) -> Finding:
    from hashlib import sha256

    from ordermill.eventlog.migrate import MIGRATIONS
    from ordermill.eventlog.postgres import view_table

    what = f"{service} migrations"
    known = dict(await connection.fetch("SELECT name, sha256 FROM schema_migrations"))
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(MIGRATIONS.glob("[0-9]*.sql"))}
    try:
        views = [view_table(view.name) for view in declared(service)[0].rules().views]
    except OrdermillError:
        views = []  # said with the settings
    tables = [view for view in views if await connection.fetchval("SELECT to_regclass($1) IS NULL", view)]
    if missing := [name for name in files if name not in known] + tables:
        return Finding("bad", what, f"missing: {', '.join(missing)}", "run `oms migrate`")
    if changed := [name for name in files if known[name] != files[name]]:
        return Finding(
            "bad", what, f"applied in another form: {', '.join(changed)}", "install the version that made it"
        )
    if newer := sorted(set(known) - set(files)):
        return Finding("warn", what, f"a newer version applied {', '.join(newer)}", "upgrade this one")
    return Finding("ok", what, f"{len(files)} applied, {len(views)} views")


async def _clock(service: str, connection: Any) -> Finding:
    before = datetime.now(UTC)
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    apart = abs((theirs - (before + (after - before) / 2)).total_seconds())
    text = f"{apart:.3f} s from PostgreSQL's"
    if apart > CLOCK_WARN_S:
        return Finding("warn", f"{service} clock", text, "let NTP set both machines' clocks")
    return Finding("ok", f"{service} clock", text)


async def _waiting(service: str, connection: Any) -> AsyncIterator[Finding]:
    row = await connection.fetchrow(
        """SELECT (SELECT count(*) FROM timers) AS timers,
                  (SELECT count(*) FROM effects) AS effects,
                  (SELECT coalesce(max(attempts), 0) FROM effects) AS attempts,
                  (SELECT count(*) FROM view_dead_letters WHERE doc->>'status' = 'waiting') AS letters"""
    )
    text = f"{row['timers']} timers and {row['effects']} effects waiting"
    if row["attempts"]:
        remedy = f"see the log of {service} for why"
        yield Finding("warn", f"{service} effects", f"{text}; tried up to {row['attempts']} times", remedy)
    else:
        yield Finding("ok", f"{service} effects", text)
    if row["letters"]:
        remedy = f"`oms dlq list {service}`, then redrive or drop"
        yield Finding("warn", f"{service} dead letters", f"{row['letters']} waiting", remedy)


async def keyring() -> Finding:
    import asyncpg.exceptions

    url = os.environ.get("OMS_KEYRING_URL", "")
    if not url:
        return Finding("bad", "keyring", "no address", "set OMS_KEYRING_URL")
    try:
        connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
        try:
            count = await connection.fetchval("SELECT count(*) FROM customer_keys WHERE wrapped IS NOT NULL")
        finally:
            await connection.close()
    except asyncpg.exceptions.UndefinedTableError as error:
        return Finding("bad", "keyring", f"not set up: {error}", "run `oms migrate` with OMS_KEYRING_OWNER_URL")
    except (OSError, TimeoutError, ValueError, asyncpg.exceptions.PostgresError) as error:
        return Finding("bad", "keyring", f"does not answer: {error or type(error).__name__}", "start PostgreSQL")
    return Finding("ok", "keyring", f"{count} customers' keys")


async def kafka(platform: PlatformSettings) -> AsyncIterator[Finding]:
    """Whether the broker answers and has all topics."""
    import logging
    from contextlib import suppress
    from importlib import import_module

    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    from ordermill.service.kafka import all_topics

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    for module in ("capture", "carrier", "channel", "fulfillment", "inventory", "location", "returns", "routing"):
        import_module(f"ordermill.contracts.{module}")
    admin = AIOKafkaAdminClient(bootstrap_servers=platform.kafka, request_timeout_ms=int(TIMEOUT_S * 1_000))
    try:
        await asyncio.wait_for(admin.start(), TIMEOUT_S)
        there = set(await admin.list_topics())
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        text = f"{platform.kafka} does not answer: {error or type(error).__name__}"
        yield Finding("bad", "kafka", text, "start the broker, or correct OMS_KAFKA")
        return
    finally:
        with suppress(Exception):
            await admin.close()
    yield Finding("ok", "kafka", f"{platform.kafka} answers")
    wanted = all_topics(SERVICES)
    if missing := [topic for topic in wanted if topic not in there]:
        yield Finding(
            "bad", "topics", f"missing: {', '.join(missing)}", "a service makes them when it starts: start one"
        )
    else:
        yield Finding("ok", "topics", f"all {len(wanted)} are there")


async def at_work(service: str) -> AsyncIterator[Finding]:
    """Whether a service's process is ready, and how far its readers lag behind its writers."""
    import httpx

    what = f"{service} service"
    try:
        url = url_of(service)
    except SettingsWrong as error:
        yield Finding("bad", what, "no address", str(error))
        return
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
            ready = await http.get(f"{url}/readyz")
            metrics = (await http.get(f"{url}/metrics")).text
    except httpx.HTTPError as error:
        remedy = f"start it: `oms run {service}`, or `oms up`"
        yield Finding("bad", what, f"{url} does not answer: {error or type(error).__name__}", remedy)
        return
    for finding in judged(service, url, ready.status_code, ready.text, metrics):
        yield finding


def judged(service: str, url: str, status: int, ready: str, metrics: str) -> Iterator[Finding]:
    """What a service's own answers mean."""
    if status == 200:
        yield Finding("ok", f"{service} service", f"{url} is ready")
    else:
        yield Finding("bad", f"{service} service", f"{url} is not ready: {ready}", "see its log, Kafka and PostgreSQL")
    found = gauges(metrics)
    unsequenced = int(found.get("oms_unsequenced_events", 0))
    unpublished = int(found.get("oms_unpublished_events", 0))
    text = f"{unsequenced} events without a number, {unpublished} not on Kafka"
    most = max(unsequenced, unpublished)
    if most < LAG_WARN:
        yield Finding("ok", f"{service} lag", text)
        return
    remedy = "look for a transaction left open anywhere on this PostgreSQL (pg_stat_activity), and whether Kafka takes"
    yield Finding("bad" if most >= LAG_BAD else "warn", f"{service} lag", text, remedy)


def gauges(metrics: str) -> dict[str, float]:
    """Values of a Prometheus page that have no labels."""
    found = {}
    for line in metrics.splitlines():
        name, _, value = line.partition(" ")
        if name and not name.startswith("#") and "{" not in name:
            found[name] = float(value)
    return found


def disk() -> Iterator[Finding]:
    """Room where this machine's installation lies, and for temporary files."""
    home = Path(os.environ.get("OMS_HOME", ".ordermill")).absolute()
    for what, path in (("disk", home if home.exists() else Path.cwd()), ("temporary disk", Path("/tmp"))):  # noqa: S108
        free = shutil.disk_usage(path).free
        verdict: Verdict = "bad" if free < DISK_BAD else "warn" if free < DISK_WARN else "ok"
        yield Finding(verdict, what, f"{free / 2**30:.1f} GiB free at {path}", "" if verdict == "ok" else "make room")
