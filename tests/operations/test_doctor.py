"""The doctor says what is wrong, what was expected and what to do: each thing is broken by hand, and mended again."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ordermill.contracts.carrier import ParcelScanned
from ordermill.doctor import Finding, databases, examine, machine
from ordermill.eventlog.checkpoints import Signer
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.store import Changes
from ordermill.eventlog.views import View
from ordermill.service.checkpointing import make_checkpoint
from ordermill.service.deadletters import LETTER_VIEW
from ordermill.service.declare import Service
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings
from ordermill.service.topics import policy_of
from tests.conftest import LogDatabase
from tests.integration.shelves import SHELF_VIEW, SHELVES, received, rows_of
from tests.operations.place import Place, eventually

Found = dict[str, dict[str, str]]


def doctor(place: Place, **settings: str) -> tuple[int, Found]:
    """Exit status, and what is not as it should be, by the thing."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as beside:
        for name, value in {**place.known, **settings}.items():
            patch.setenv(name, value)
        findings = [asdict(finding) for finding in beside.submit(asyncio.run, _examined()).result()]
    told = json.dumps(findings)
    assert place.known["OMS_API_TOKEN"] not in told, "secrets are masked"
    assert place.known["OMS_MASTER_KEY"] not in told
    assert all(finding["remedy"] for finding in findings if finding["verdict"] != "ok")
    found = {finding["what"]: finding for finding in findings if finding["verdict"] != "ok"}
    return int(any(finding["verdict"] == "bad" for finding in findings)), found


async def _examined() -> list[Finding]:
    return [finding async for finding in examine()]


def only(place: Place, what: str, verdict: str, **settings: str) -> dict[str, str]:
    """The one finding there must be."""
    status, found = doctor(place, **settings)
    assert set(found) == {what}, found
    assert found[what]["verdict"] == verdict
    assert status == (1 if verdict == "bad" else 0)
    return found[what]


@asynccontextmanager
async def owner(place: Place, service: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(place.known[f"OMS_{service.upper()}_OWNER_URL"])
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_nothing_is_wrong_with_an_installation_at_work(place: Place) -> None:
    assert doctor(place) == (0, {})
    done = place.oms("doctor", "--json")
    assert done.returncode == 0
    assert {json.loads(line)["verdict"] for line in done.stdout.splitlines()} == {"ok"}
    assert place.oms("doctor", OMS_BATCH_MAX="0").returncode == 1


@pytest.mark.parametrize("name", ["capture", "returns"])
def test_a_service_that_does_not_answer(place: Place, nowhere: str, name: str) -> None:
    found = only(place, f"{name} service", "bad", **{f"OMS_{name.upper()}_URL": f"http://{nowhere}"})
    assert nowhere in found["text"] and f"oms run {name}" in found["remedy"]


def test_a_console_that_does_not_answer(place: Place, nowhere: str) -> None:
    assert nowhere in only(place, "console", "bad", OMS_CONSOLE_URL=f"http://{nowhere}")["text"]


def test_a_broker_that_does_not_answer(place: Place, nowhere: str) -> None:
    assert "OMS_KAFKA" in only(place, "kafka", "bad", OMS_KAFKA=nowhere)["remedy"]


async def test_topics_that_are_not_kept_as_they_should_be(place: Place) -> None:
    told = only(place, "topic settings", "warn", OMS_PARTITIONS="3")["text"]
    assert "oms.capture.events" in told and told.endswith(": partitions 4, expected 3")
    topic = "oms.carrier.events"
    try:
        await made_anew(place, topic, 1, policy_of(topic).configs() | {"retention.ms": "60000"})
        assert only(place, "topic settings", "warn")["text"] == (
            f"{topic}: partitions 1, expected 4, retention.ms 60000, expected 1209600000"
        )
        await made_anew(place, topic, 4, {"cleanup.policy": "compact"})
        told = only(place, "topic settings", "warn")["text"]
        assert "cleanup.policy compact, expected delete" in told and "retention.ms not set, expected" in told
    finally:
        await made_anew(place, topic, 4, policy_of(topic).configs())
    assert doctor(place) == (0, {})


async def made_anew(place: Place, topic: str, partitions: int, settings: dict[str, str]) -> None:
    """The embedded broker changes no topic that is there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=place.known["OMS_KAFKA"])
    await admin.start()
    try:
        await admin.delete_topics([topic])
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])
    finally:
        await admin.close()


def test_a_database_that_does_not_answer_or_lets_nobody_in_or_is_not_there(place: Place, nowhere: str) -> None:
    url = place.known["OMS_ROUTING_DATABASE_URL"]
    server = url.rpartition("@")[2].partition("/")[0]
    away = only(place, "routing database", "bad", OMS_ROUTING_DATABASE_URL=url.replace(server, nowhere))
    assert "does not answer" in away["text"]
    scheme, _, rest = url.partition("://")
    role, _, place_of_it = rest.partition("@")
    wrong = f"{scheme}://{role.partition(':')[0]}:wrong@{place_of_it}"
    refused = only(place, "routing database", "bad", OMS_ROUTING_DATABASE_URL=wrong)
    assert "OMS_ROUTING_DATABASE_URL" in refused["remedy"]
    gone = only(place, "routing database", "bad", OMS_ROUTING_DATABASE_URL=f"{url}_gone")
    assert "oms_routing_gone" in gone["text"]


def test_a_keyring_that_does_not_answer_or_has_another_master_key(place: Place, nowhere: str) -> None:
    place.receive("TEAPOT", 5, "doctor")
    place.place_order("sealed")
    url = place.known["OMS_KEYRING_URL"]
    server = url.rpartition("@")[2].partition("/")[0]
    assert "does not answer" in only(place, "keyring", "bad", OMS_KEYRING_URL=url.replace(server, nowhere))["text"]
    another = b64encode(b"x" * 32).decode()
    assert "OMS_MASTER_KEY does not open" in only(place, "keyring", "bad", OMS_MASTER_KEY=another)["text"]


async def test_migrations_that_are_missing_newer_or_were_edited(place: Place) -> None:
    async with owner(place, "tracking") as connection:
        row = await connection.fetchrow("DELETE FROM schema_migrations WHERE name = '0003_traces.sql' RETURNING *")
        found = only(place, "tracking migrations", "bad")
        assert "0003_traces.sql" in found["text"] and "oms migrate" in found["remedy"]
        await connection.execute("INSERT INTO schema_migrations VALUES ($1, 'another', now())", row["name"])
        assert "in another form" in only(place, "tracking migrations", "bad")["text"]
        await connection.execute("UPDATE schema_migrations SET sha256 = $2 WHERE name = $1", row["name"], row["sha256"])
        await connection.execute("INSERT INTO schema_migrations VALUES ('9999_later.sql', 'x', now())")
        assert "9999_later.sql" in only(place, "tracking migrations", "warn")["text"]
        await connection.execute("DELETE FROM schema_migrations WHERE name = '9999_later.sql'")


async def test_a_database_that_was_never_set_up(place: Place) -> None:
    async with owner(place, "capture") as connection:
        await connection.execute("ALTER TABLE schema_migrations RENAME TO hidden")
        try:
            assert "oms migrate" in only(place, "capture database", "bad")["remedy"]
        finally:
            await connection.execute("ALTER TABLE hidden RENAME TO schema_migrations")


async def test_a_timer_that_did_not_ring(place: Place) -> None:
    async with owner(place, "returns") as connection:
        await connection.execute(
            "INSERT INTO timers VALUES ('return-none', 'expires', now() - interval '1 hour', 'infinity')"
        )
        try:
            assert "1 are due" in only(place, "returns timers", "warn")["text"]
        finally:
            await connection.execute("DELETE FROM timers WHERE stream = 'return-none'")


async def test_an_effect_that_fails(place: Place) -> None:
    async with owner(place, "fulfillment") as connection:
        await connection.execute(
            """INSERT INTO effects (effect_id, stream, type, data, correlation_id, attempts, next_at)
               VALUES ('doctor', 'fulfillment-none', 't', '', 'c', 3, 'infinity')"""
        )
        try:
            assert "tried up to 3 times" in only(place, "fulfillment effects", "warn")["text"]
        finally:
            await connection.execute("DELETE FROM effects WHERE effect_id = 'doctor'")


async def test_a_dead_letter_that_waits(place: Place) -> None:
    class Broken(ParcelScanned):
        def to_json(self) -> bytes:
            return b"{}"

    await place.publish(Broken.model_construct(), "broken")
    eventually(lambda: "tracking dead letters" in doctor(place)[1])
    assert "oms dlq list tracking" in only(place, "tracking dead letters", "warn")["remedy"]
    assert place.oms("dlq", "drop", "tracking", "--note", "a test").returncode == 0


async def test_a_transaction_left_open_that_holds_back_every_reader(place: Place) -> None:
    async with owner(place, "capture") as connection:
        await connection.execute("BEGIN")
        await connection.fetchval("SELECT pg_current_xact_id()")
        try:
            for batch in range(2):
                place.ask("POST", "inventory", "/stock/receive", [_line(batch, number) for number in range(700)])
            found = eventually(lambda: doctor(place)[1].get("inventory relay"))
            assert "without a number" in found["text"] and "pg_stat_activity" in found["remedy"]
        finally:
            await connection.execute("ROLLBACK")
    eventually(lambda: doctor(place)[1] == {})


async def test_a_database_that_is_locked_up_keeps_the_doctor_no_longer_than_one_that_is_away(
    make_log: Callable[..., Awaitable[LogDatabase]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await make_log(())
    monkeypatch.setenv("OMS_CAPTURE_DATABASE_URL", log.dsn)
    monkeypatch.setattr(databases, "TIMEOUT_S", 0.5)
    locking = await asyncpg.connect(log.owner_dsn)
    try:
        await locking.execute("BEGIN; LOCK TABLE timers")
        async with asyncio.timeout(20):
            *_, last = [finding async for finding in databases.database("capture", (), None)]
    finally:
        await locking.close()
    assert (last.what, last.verdict) == ("capture database", "bad")
    assert "0.5 s" in last.text and "pg_stat_activity" in last.remedy


async def test_a_view_that_may_hold_documents_of_another_release(
    make_log: Callable[..., Awaitable[LogDatabase]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await make_log((SHELF_VIEW, LETTER_VIEW))
    monkeypatch.setenv("OMS_CAPTURE_DATABASE_URL", log.dsn)

    async def told(view: View) -> Finding:
        *_, last = [finding async for finding in databases.database("capture", (view, LETTER_VIEW), None)]
        return last

    assert await told(SHELF_VIEW) == Finding("ok", "capture views", "all that they hold is of this release")
    assert await told(replace(SHELF_VIEW, version=2)) == Finding(
        "warn",
        "capture views",
        "may hold documents of another release: shelves",
        "once all of capture runs this release: `oms rebuild capture shelves`",
    )


def _line(batch: int, number: int) -> dict[str, Any]:
    return {
        "location": "edison", "sku": f"DOC-{number}", "reference": f"doctor-{batch}", "quantity": 1,
        "happened_at": "2026-03-02T09:00:00Z",
    }  # fmt: skip


def test_a_setting_that_is_wrong_or_is_none(place: Place) -> None:
    status, found = doctor(place, OMS_BATCH_MAX="0")
    assert status == 1 and "OMS_BATCH_MAX" in found["setting"]["text"]
    assert found["setting"]["remedy"]
    assert "OMS_BATCH_MAX" in only(place, "setting", "warn", OMS_BATCH_MXA="5")["remedy"]


@contextmanager
def another_machine(page: str, date: str) -> Iterator[str]:
    """A service elsewhere: ready, with these metrics, by that clock."""

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return date

        def do_GET(self) -> None:
            body = page.encode() if self.path == "/metrics" else b"{}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


async def test_a_database_that_may_lose_what_it_acknowledged(place: Place) -> None:
    async with owner(place, "capture") as connection:
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        try:
            found = only(place, "capture durability", "warn")
        finally:
            await connection.execute(f"ALTER DATABASE {database} RESET synchronous_commit")
    assert found["text"] == "synchronous_commit off: what was acknowledged may be lost with the machine"
    assert "OMS_THROWAWAY" in found["remedy"]


def test_another_release_another_clock_and_a_consumer_far_behind(place: Place) -> None:
    page = (
        'oms_build_info{name="capture",version="0.0.9",python="3.11.0"} 1\n'
        'oms_lag_events{topic="oms.channel.orders"} 5000\noms_lag_seconds{topic="oms.channel.orders"} 600\n'
    )
    with another_machine(page, "Mon, 02 Mar 2026 09:00:00 GMT") as url:
        status, found = doctor(place, OMS_CAPTURE_URL=url)
    assert status == 0
    assert set(found) == {"releases", "capture clock", "capture consumer"}
    assert "0.0.9 on Python 3.11.0: capture" in found["releases"]["text"]
    assert "5000 messages behind, 600 s on oms.channel.orders" in found["capture consumer"]["text"]


def test_a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    large, small = 2**42, 64 * 2**20
    for total, free, verdict in (
        (large, 2**20, "bad"), (large, 2 * 2**30, "warn"), (large, 2**40, "ok"),
        (small, 2 * 2**20, "bad"), (small, 10 * 2**20, "warn"), (small, 60 * 2**20, "ok"),
    ):  # fmt: skip
        found = usage._replace(total=total, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, found=found: found)
        assert {finding.verdict for finding in machine.disk(tmp_path)} == {verdict}


async def test_a_log_that_is_not_closed_in_time(place: Place, make_log: Callable[..., Awaitable[LogDatabase]]) -> None:
    log = await make_log([SHELF_VIEW, LETTER_VIEW])
    store = await PostgresStore.open(log.dsn)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)

    async def told(**settings: str) -> Finding:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**place.known, "OMS_CAPTURE_DATABASE_URL": log.dsn, **settings}.items():
                patch.setenv(name, value)
            found = [each async for each in databases.database("capture", (), PlatformSettings())]
        (finding,) = [each for each in found if each.what == "capture checkpoints"]
        return finding

    try:
        assert await told() == Finding("ok", "capture checkpoints", "none yet")
        async with store.transaction() as transaction:
            await transaction.commit(Changes(rows=rows_of("shelf-a", received(1), recorded_at=an_hour_ago)))
        await store.sequence()
        late = await told()
        assert (late.verdict, "none yet; what is newer has waited for 3,60" in late.text) == ("warn", True)
        assert (await told(OMS_CHECKPOINT_EVERY_S="3600")).verdict == "ok"
        engine = Engine(store, Service("capture", (SHELVES,)).rules(), lambda: an_hour_ago)
        running = RunningService(Service("capture", (SHELVES,)), engine, Metrics())
        await make_checkpoint(running, Signer(bytes(32)))
        await store.sequence()
        assert await told() == Finding("ok", "capture checkpoints", "1, up to event 1")
        place_without = {name: value for name, value in place.known.items() if name != "OMS_CHECKPOINT_KEY"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**place_without, "OMS_CAPTURE_DATABASE_URL": log.dsn}.items():
                patch.setenv(name, value)
            *_, last = [each async for each in databases.database("capture", (), PlatformSettings())]
        assert (last.verdict, "OMS_CHECKPOINT_KEY" in last.remedy) == ("warn", True)
    finally:
        await store.close()
