"""What is done to a running installation. Each fault returns what it did, and how often, when it is over."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
from asyncpg.exceptions import PostgresError

from ordermill.names import CONSOLE, SERVICES, SIMULATOR

from .running import Installation

KILLED = (*SERVICES, CONSOLE, SIMULATOR, "world")
STOPPED_S = 8.0
"""Longer than the three seconds after which a silent member is out of its group."""


@dataclass(frozen=True)
class Scenario:
    """`fault` strikes while `orders` orders flow."""

    name: str
    fault: Callable[[Installation, random.Random], str]
    orders: int = 500


def kills(at: Installation, chance: random.Random, count: int = 100) -> str:
    done = dict.fromkeys(KILLED, 0)
    while sum(done.values()) < count:
        name = chance.choice(KILLED)
        done[name] += at.kill(name)
        time.sleep(chance.uniform(0.05, 1.2))
    return f"{count} × kill -9: " + ", ".join(f"{name} {times}" for name, times in done.items())


def all_at_once(at: Installation, chance: random.Random) -> str:
    for _ in range(3):
        for name in KILLED:
            at.kill(name)
        time.sleep(chance.uniform(4, 6))
    for name in KILLED:
        at.kill(name)
    return f"4 × kill -9 of all {len(KILLED)} at once"


def killed(name: str) -> Callable[[Installation, random.Random], str]:
    def fault(at: Installation, chance: random.Random) -> str:
        for _ in range(2):
            at.until(lambda: at.kill(name), f"{name} runs")
            time.sleep(chance.uniform(5, 8))
        at.until(lambda: at.kill(name), f"{name} runs")
        return "3 × kill -9, the launcher starts it again"

    return fault


def power_cut(at: Installation, chance: random.Random) -> str:
    at.kill_launcher()
    at.launch()
    return "kill -9 of the launcher, PostgreSQL, the broker and all services end with it; started again"


def emptied(at: Installation, chance: random.Random) -> str:
    (at.home / "kafka/cluster-id").unlink(missing_ok=True)  # Apache Kafka's; the embedded one never knows anything
    at.until(lambda: at.kill("kafka"), "the broker runs")
    return "kill -9, comes back as another broker that knows nothing"


def silent(name: str) -> Callable[[Installation, random.Random], str]:
    def fault(at: Installation, chance: random.Random) -> str:
        with at.stopped(name):
            time.sleep(STOPPED_S)
        return f"SIGSTOP of all its processes for {STOPPED_S:g} s: connections stand, nothing answers"

    return fault


def read_only(at: Installation, chance: random.Random) -> str:
    at.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    at.sql("SELECT pg_reload_conf()")
    time.sleep(STOPPED_S)
    at.sql("ALTER SYSTEM RESET default_transaction_read_only")
    at.sql("SELECT pg_reload_conf()")
    return f"default_transaction_read_only for {STOPPED_S:g} s"


def no_connections(at: Installation, chance: random.Random) -> str:
    return asyncio.run(_no_connections(at))


async def _no_connections(at: Installation) -> str:
    held: list[asyncpg.Connection] = []
    url = at.known["OMS_CAPTURE_DATABASE_URL"]
    admin = await at.connect()
    until = time.monotonic() + STOPPED_S
    ended = 0
    try:
        while time.monotonic() < until:
            with suppress(PostgresError, OSError):
                while True:
                    held.append(await asyncpg.connect(url, server_settings={"application_name": "hog"}, timeout=2))
            ended += await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND application_name <> 'hog' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.02)
    finally:
        for each in held:
            each.terminate()
        await admin.close()
    return f"{len(held)} connections held by others for {STOPPED_S:g} s, {ended} of ours ended"


def zombie(at: Installation, chance: random.Random) -> str:
    """Another instance takes the partitions of one that stands still and, once its lock is gone, publishes for it;
    then it wakes up.
    """
    service = "inventory"
    at.add_instance(service)
    began = time.monotonic()
    with at.stopped(service):
        time.sleep(STOPPED_S / 2)
        ended = at.end_leader(service)
        at.route_one()
        took_s = time.monotonic() - began
        time.sleep(STOPPED_S / 2)
    stood_s = time.monotonic() - began
    return (
        f"two of {service}; one stopped for {stood_s:.0f} s, {ended} lock of its relay ended after {STOPPED_S / 2:g}; "
        f"the other had all its work {took_s:.1f} s after it fell silent"
    )


def two_relays(at: Installation, chance: random.Random) -> str:
    services = ("inventory", "fulfillment")
    for service in services:
        at.add_instance(service)
    ended = 0
    for _ in range(10):
        time.sleep(chance.uniform(0.8, 2))
        ended += sum(map(at.end_leader, services))
    return f"two of {' and '.join(services)}; {ended} × the session that holds a relay's lock ended"


SCENARIOS = (
    Scenario("services killed", kills, orders=1_500),
    Scenario("everything killed at once", all_at_once),
    Scenario("power cut", power_cut),
    Scenario("PostgreSQL killed", killed("postgres")),
    Scenario("PostgreSQL read-only", read_only),
    Scenario("PostgreSQL out of connections", no_connections),
    Scenario("PostgreSQL silent", silent("postgres")),
    Scenario("broker killed", killed("kafka")),
    Scenario("broker emptied", emptied),
    Scenario("broker silent", silent("kafka")),
    Scenario("zombie", zombie),
    Scenario("two relays", two_relays),
)
