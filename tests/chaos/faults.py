"""What is done to a running installation. Each fault returns what it did, and how often, when it is over."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.admin import NewPartitions
from aiokafka.errors import IncompatibleBrokerVersion
from asyncpg.exceptions import PostgresError

from ordermill.embedded.ports import choose_ports
from ordermill.eventlog.relay import CLUSTER_CHECK_S
from ordermill.names import CONSOLE, SERVICES, SIMULATOR
from ordermill.service.topics import all_topics

from .running import CannotBeDone, Installation, Network, NotSettled, free_port, id_of

KILLED = (*SERVICES, CONSOLE, SIMULATOR, "world")
STOPPED_S = 8.0
"""Longer than the three seconds after which a silent member is out of its group."""
CUT_S = 15.0
"""Longer than any time-out that clients of a broker have here."""
LIBFAKETIME = sorted(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))


@dataclass(frozen=True)
class Scenario:
    """`fault` strikes while `orders` orders flow, in an installation set up by `stage`."""

    name: str
    fault: Callable[[Installation, random.Random], str]
    orders: int = 500
    stage: Callable[[Installation], AbstractContextManager[None]] = lambda at: nullcontext()


def kills(at: Installation, chance: random.Random) -> str:
    count = min(100, at.orders // 15)
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
    """Two at once that believe to lead: one is stopped in the midst of a step and its lock's session ended, another
    leads and publishes. Then the first goes on with what it has in hand, which is older than what is on the topics, and
    has to see before it publishes any of it that it stood still for too long to lead still.
    """
    service = "inventory"
    topics = (f"oms.{service}.events", "oms.inventory.stock", "oms.inventory.availability")
    at.add_instance(service)
    first, second = service, f"second {service}"
    told_again = []
    for table in ("sequenced", "publications"):
        with held_back(at, f"oms_{service}", table, "FROM next_page(") as let_go, at.stopped(first):
            let_go()
            if not at.end_leader(service):
                raise NotSettled(f"nobody of {service} led")
            at.route_one()
            time.sleep(CLUSTER_CHECK_S)
            told = at.records(*topics)
        time.sleep(3)
        places = {(each.topic, each.partition, each.offset) for each in told}
        ids = {id_of(each) for each in told}
        late = [e for e in at.records(*topics) if (e.topic, e.partition, e.offset) not in places]
        told_again.append(sum(id_of(each) in ids for each in late))
        first, second = second, first
    if any(told_again):
        raise NotSettled(f"relays that were replaced went on to publish what was on the topics already: {told_again}")
    return (
        f"two of {service}; {len(told_again)} × the leader stopped in the midst of a step, with a page in hand, "
        "replaced, and continued: it published nothing of it"
    )


@contextmanager
def held_back(at: Installation, database: str, table: str, query: str) -> Iterator[Callable[[], Any]]:
    """Once the block is entered, a statement that holds `query` waits for `table`, until what is yielded is called."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() "
        f"AND application_name = 'ordermill' AND query LIKE '%{query}%'"
    )
    with asyncio.Runner() as loop:
        gate = loop.run(at.connect(database))
        try:

            def waits() -> bool:
                """Who was just about to do something else with the table waits with that."""
                loop.run(gate.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
                for _ in range(20):
                    if at.sql(waiting, database):
                        return True
                    time.sleep(0.1)
                loop.run(gate.execute("ROLLBACK"))
                return False

            at.until(waits, f"{query} waits for {table}", patience_s=30)
            yield lambda: loop.run(gate.execute("ROLLBACK"))
        finally:
            loop.run(gate.close())


# Disk

DISK_MB = 600
BALLAST_STEP = 4096


@contextmanager
def small_disk(at: Installation) -> Iterator[None]:
    """PostgreSQL's data on a file system of its own, of DISK_MB. Raises CannotBeDone."""
    disk = at.home.with_name("disk")
    disk.mkdir()
    if os.geteuid() != 0:
        raise CannotBeDone("only root may mount a file system")
    options = ("-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "tmpfs")
    mounted = subprocess.run(["mount", *options, str(disk)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise CannotBeDone(f"mounting is refused here: {mounted.stderr.strip()}")
    try:
        at.home.mkdir(mode=0o700)
        (at.home / "postgres").symlink_to(disk / "postgres")
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def disk_full(at: Installation, chance: random.Random) -> str:
    log = at.home / "logs/postgres.log"
    ballast = at.home.with_name("disk") / "ballast"
    until = time.monotonic() + STOPPED_S
    with ballast.open("wb", buffering=0) as file:
        while time.monotonic() < until:
            with suppress(OSError):  # full
                while True:
                    file.write(bytes(BALLAST_STEP))
            time.sleep(0.05)
    refused = log.read_text(errors="replace").count("No space left on device")
    ballast.unlink()
    if not refused:
        raise NotSettled("PostgreSQL never met the full disk, so nothing was shown")
    return f"no byte left on PostgreSQL's disk for {STOPPED_S:g} s, which it said {refused} times"


# Topics


def topic_deleted(at: Installation, chance: random.Random) -> str:
    """Facts in the middle of an order's way, facts of stock, states, and what all services write to."""
    if at.kafka is None:
        raise CannotBeDone("the embedded broker makes a topic that is missing again by itself, for anyone who asks")
    gone = ["oms.routing.events", "oms.inventory.stock", "oms.orders.status", "oms.log.checkpoints"]
    answer = at.administer(lambda admin: admin.delete_topics(gone))
    if wrong := [code for _, code in answer.topic_error_codes if code]:
        raise CannotBeDone(f"the broker refuses to delete topics: {wrong}")
    return f"deleted: {', '.join(gone)}"


def partitions_added(at: Installation, chance: random.Random) -> str:
    """Publishers that run go on as before; those that are started again spread streams over the new number."""
    topics = all_topics(SERVICES)
    try:
        answer = at.administer(lambda admin: admin.create_partitions(dict.fromkeys(topics, NewPartitions(5))))
    except IncompatibleBrokerVersion:
        raise CannotBeDone("this broker can't add partitions") from None
    if wrong := [(topic, code) for topic, code, _ in answer.topic_errors if code]:
        raise CannotBeDone(f"the broker refuses to add partitions: {wrong[0]}")
    time.sleep(2)
    for service in SERVICES:
        at.kill(service)
        time.sleep(1)
    return f"{len(topics)} topics of 2 partitions have 5; then kill -9 of each service, one after another"


# Network


@contextmanager
def networks(at: Installation) -> Iterator[None]:
    """Between everything and PostgreSQL, and between everything and the broker."""
    at.home.mkdir(mode=0o700)
    servers = choose_ports({"postgres": None, "kafka": None}, at.home / "ports.json")
    try:
        for name, port in servers.items():
            at.networks[name] = Network(free_port(), port)
        yield
    finally:
        for network in at.networks.values():
            network.stop()


def cut(name: str) -> Callable[[Installation, random.Random], str]:
    def fault(at: Installation, chance: random.Random) -> str:
        network = at.networks[name]
        network.do("cut")
        time.sleep(CUT_S)
        network.do("mend")
        at.route_one()
        for _ in range(5):
            network.do("reset")
            time.sleep(chance.uniform(0.2, 1))
        return f"the network to {name} cut for {CUT_S:g} s, nothing closed; then 5 × all connections reset"

    return fault


# Clock


@contextmanager
def clocks(at: Installation) -> Iterator[None]:
    """Raises CannotBeDone."""
    if not LIBFAKETIME:
        raise CannotBeDone("libfaketime is not installed (on Debian: apt install faketime)")
    yield


def clock_back(at: Installation, chance: random.Random) -> str:
    """An hour of the machine's time and of the story's: the story of a clock so fast would else go back ten years."""
    behind = timedelta(hours=1)
    origin = datetime.fromisoformat(at.known["OMS_CLOCK_ORIGIN"])
    speed = float(at.known["OMS_CLOCK_SPEED"])
    environment = {
        "LD_PRELOAD": str(LIBFAKETIME[0]),
        "FAKETIME": "-1h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "OMS_CLOCK_ORIGIN": (origin + behind * speed - behind).isoformat(),
    }
    services = ("capture", "inventory", "fulfillment", "tracking")
    for service in services:
        at.add_instance(service, **environment)
    took = []
    for service in services:
        at.asked_second = service
        with at.stopped(service):
            time.sleep(STOPPED_S / 2)
            at.end_leader(service)
            began = time.monotonic()
            at.route_one()
            took.append(time.monotonic() - began)
    at.asked_second = ""
    time.sleep(STOPPED_S)  # until the groups have shared out their partitions again
    for service in services:
        at.stop_instance(service)
    return (
        f"a second one of {', '.join(services)} with a clock an hour behind; one after another the first stood still "
        f"and the second did its work: an order took it {max(took):.1f} s at most"
    )


SCENARIOS = (
    Scenario("services killed", kills, orders=1_500),
    Scenario("everything killed at once", all_at_once),
    Scenario("power cut", power_cut),
    Scenario("PostgreSQL killed", killed("postgres")),
    Scenario("PostgreSQL read-only", read_only),
    Scenario("PostgreSQL out of connections", no_connections),
    Scenario("PostgreSQL silent", silent("postgres")),
    Scenario("PostgreSQL's disk full", disk_full, stage=small_disk),
    Scenario("broker killed", killed("kafka")),
    Scenario("broker emptied", emptied),
    Scenario("broker silent", silent("kafka")),
    Scenario("topics deleted", topic_deleted),
    Scenario("partitions added", partitions_added),
    Scenario("network to PostgreSQL cut", cut("postgres"), stage=networks),
    Scenario("network to the broker cut", cut("kafka"), stage=networks),
    Scenario("clock set back", clock_back, orders=1_000, stage=clocks),
    Scenario("zombie", zombie),
    Scenario("two relays", two_relays, orders=800),
)
