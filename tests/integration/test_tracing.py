"""Where a trace goes on: from a message to its events, their timers and effects, and to whoever reads them later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ordermill import tracing
from ordermill.eventlog.engine import Engine, Rules
from ordermill.eventlog.migrate import MIGRATIONS, migrate, provision
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.verify import verify_store
from ordermill.service.messages import envelope_of, outside_headers
from tests.conftest import Databases
from tests.integration.kafka import MONDAY, STOCK, Broker, arrived
from tests.integration.shelf_service import Instance, Shelves
from tests.integration.shelves import SHELVES, received, rows_of, take, task
from tests.integration.stand import Log, eventually
from tests.integration.test_chassis import correct, in_a_minute
from tests.operations.collector import Collector, collecting

ID, SPAN = "a" * 32, "b" * 16
SENT = f"00-{ID}-{SPAN}-01"


@dataclass(frozen=True)
class Record:
    """A message as a poll returns it."""

    value: bytes
    headers: list[tuple[str, bytes]]
    topic: str = STOCK
    key: bytes | None = b"key"
    partition: int = 0
    offset: int = 7
    timestamp: int = 0


def record(message: Any, name: str, *more: tuple[str, bytes]) -> Record:
    return Record(message.to_json(), [*outside_headers(message, "/test", name, MONDAY), *more])


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def traced(collector: Collector) -> Iterator[Collector]:
    """Tracing is on, and every new trace is sampled."""
    tracing.start_tracing("inventory", "1", "0", collector.url, 1.0)
    yield collector
    tracing.stop_tracing()


@pytest.fixture
def rarely(collector: Collector) -> Iterator[Collector]:
    """Tracing is on, and no new trace is sampled."""
    tracing.start_tracing("inventory", "1", "0", collector.url, 0.0)
    yield collector
    tracing.stop_tracing()


def spans_of(collector: Collector) -> dict[str, Any]:
    """By name, once all are sent."""
    tracing.stop_tracing()
    return {span.name: span for span in collector.spans}


async def traces(log: Log) -> list[str | None]:
    return [row["trace"] for row in await log.query("SELECT trace FROM events ORDER BY tx, position")]


async def test_a_messages_events_are_published_with_the_span_that_recorded_them(
    broker: Broker, shelf_log: Log, instance: Any, traced: Collector
) -> None:
    one: Instance = await instance()
    await one.running.handle([record(arrived("teapot"), "m1", ("traceparent", SENT.encode()))])
    await one.publish(broker.settings())
    (published,) = await eventually(lambda: broker.read("oms.inventory.stock"))
    headers = dict(published.headers)
    assert headers["ce_traceparent"] == headers["traceparent"]
    spans = spans_of(traced)
    work = spans["process oms.location.stock"]
    assert (work.trace_id, work.parent_id) == (ID, SPAN)
    assert headers["traceparent"].decode() == f"00-{ID}-{work.span_id}-01"
    assert (await traces(shelf_log)) == [f"00-{ID}-{work.span_id}-01"]
    assert spans["send oms.inventory.stock"].parent_id == work.span_id
    assert spans["INSERT events"].parent_id == work.span_id


async def test_an_emptied_broker_is_filled_with_the_same_traces(
    broker: Broker, instance: Any, traced: Collector
) -> None:
    one: Instance = await instance()
    await one.running.handle([record(arrived("teapot"), "m1", ("traceparent", SENT.encode()))])
    await one.publish(broker.settings())
    (before,) = await eventually(lambda: broker.read("oms.inventory.stock"))
    broker.restart()
    (after,) = await eventually(lambda: broker.read("oms.inventory.stock"))
    assert before.headers == after.headers
    assert dict(after.headers)["traceparent"].startswith(f"00-{ID}-".encode())


async def test_a_timer_goes_on_with_the_trace_that_set_it(shelf_log: Log, instance: Any, traced: Collector) -> None:
    one: Instance = await instance()
    await one.running.handle([record(arrived("ring-1"), "m1", ("traceparent", SENT.encode()))])
    assert await one.running.fire_timers() == 1
    set_by, rung_by = await traces(shelf_log)
    spans = spans_of(traced)
    assert rung_by == f"00-{ID}-{spans['timer count'].span_id}-01"
    assert set_by == f"00-{ID}-{spans['timer count'].parent_id}-01"


async def test_an_effect_goes_on_with_the_trace_that_asked_for_it_at_each_attempt(
    shelf_log: Log, instance: Any, traced: Collector
) -> None:
    one: Instance = await instance(wall=in_a_minute)
    asked = record(correct("away", "found"), "m1", ("traceparent", SENT.encode()))
    await one.running.handle([asked])
    await one.running.effects.perform()
    spans = spans_of(traced)
    (effect,) = [span for name, span in spans.items() if name.startswith("effect ")]
    assert (effect.trace_id, effect.parent_id) == (ID, spans["process oms.location.stock"].span_id)
    assert effect.error and effect.attributes["error.type"] == "test.provider-away"


async def test_what_the_outside_calls_knows_its_trace(instance: Any, traced: Collector) -> None:
    class Asking(Shelves):
        async def tell(self, event: Any, key: str, now: Any) -> Any:
            told.append(tracing.current())
            return await super().tell(event, key, now)

    told: list[str | None] = []
    one: Instance = await instance(Asking())
    await one.running.handle([record(correct("cup", "found"), "m1", ("traceparent", SENT.encode()))])
    await one.running.effects.perform()
    effect = next(span for name, span in spans_of(traced).items() if name.startswith("effect "))
    assert told == [f"00-{ID}-{effect.span_id}-01"]


async def test_messages_of_one_poll_keep_to_their_own_traces(shelf_log: Log, instance: Any, traced: Collector) -> None:
    other = "c" * 32
    one: Instance = await instance()
    await one.running.handle(
        [
            record(arrived("teapot"), "m1", ("traceparent", SENT.encode())),
            record(arrived("cup"), "m2", ("traceparent", f"00-{other}-{SPAN}-01".encode())),
            record(arrived("saucer"), "m3"),
        ]
    )
    first, second, third = await traces(shelf_log)
    assert all(tracing.sampled(trace) for trace in (first, second, third))
    assert str(first)[3:35] == ID
    assert str(second)[3:35] == other
    tracing.stop_tracing()
    inserts = [span for span in traced.spans if span.name == "INSERT events"]
    assert {span.trace_id for span in inserts} == {ID, other, str(third)[3:35]}
    assert all(span.attributes["db.operation.batch.size"] == 3 for span in inserts)


async def test_what_comes_later_in_a_poll_goes_on_with_the_story_of_its_stream(
    shelf_log: Log, instance: Any, traced: Collector
) -> None:
    one: Instance = await instance()
    first = record(arrived("teapot"), "m1", ("traceparent", SENT.encode()))
    await one.running.handle([first, record(arrived("teapot"), "m2")])
    await one.running.handle([record(arrived("teapot"), "m3")])
    assert [str(trace)[3:35] for trace in await traces(shelf_log)] == [ID] * 3


async def test_a_trace_that_is_not_sampled_is_handed_on_and_sent_nowhere(
    shelf_log: Log, instance: Any, rarely: Collector
) -> None:
    one: Instance = await instance()
    await one.running.handle([record(arrived("teapot"), "m1")])
    (trace,) = await traces(shelf_log)
    assert not tracing.sampled(trace)
    await one.running.handle([record(arrived("cup"), "m2", ("traceparent", SENT.encode()))])
    tracing.stop_tracing()
    assert {span.trace_id for span in rarely.spans} == {ID}, "who sampled it before decides"


async def test_while_tracing_is_off_a_trace_is_handed_on_as_it_came(shelf_log: Log, instance: Any) -> None:
    one: Instance = await instance()
    await one.running.handle([record(arrived("teapot"), "m1", ("ce_traceparent", SENT.encode()))])
    await one.running.handle([record(arrived("cup"), "m2")])
    assert await traces(shelf_log) == [SENT, None]


async def test_a_redriven_letter_goes_on_with_its_messages_trace(
    shelf_log: Log, instance: Any, traced: Collector
) -> None:
    one: Instance = await instance(Shelves(fails={"late": 1}), retries=0)
    await one.running.handle([record(arrived("teapot", reference="late"), "m1", ("traceparent", SENT.encode()))])
    (letter,) = await shelf_log.letters()
    await one.running.redrive(letter.letter_id, "user:test")
    assert [str(trace)[3:35] for trace in await traces(shelf_log)] == [ID] * 3


def test_a_malformed_trace_is_no_trace_and_the_message_is_as_good_as_without() -> None:
    message = arrived("teapot")
    for odd in (b"\xff\xfe", b"", b"00-" + b"0" * 32 + b"-bbbbbbbbbbbbbbbb-01", b"ff" + SENT[2:].encode(), b"1; DROP"):
        assert envelope_of([*outside_headers(message, "/test", "m1", MONDAY), ("traceparent", odd)]).trace is None
    both = [("traceparent", b"x"), ("ce_traceparent", SENT.encode())]
    assert envelope_of([*outside_headers(message, "/test", "m1", MONDAY), *both]).trace == SENT


def test_nothing_of_opentelemetry_is_imported_while_tracing_is_off() -> None:
    code = (
        "import sys, ordermill.service.run; sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_log_from_before_traces_verifies_and_goes_on(databases: Databases, tmp_path: Path) -> None:
    """What an older release wrote has no trace, and its hashes hold: they never covered one."""
    database = databases.of(databases.access())
    await provision(databases.server, database.access)
    shutil.copy(MIGRATIONS / "0001_log.sql", tmp_path)
    await migrate(database.owner_dsn, database.access.role, tmp_path)
    (old,) = rows_of("shelf-a", received(5))
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(
        """INSERT INTO events (tx, stream, version, event_id, type, data, correlation_id, causation_id, actor,
                               happened_at, recorded_at, hash)
           VALUES (pg_current_xact_id()::text::bigint, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        *old[:-1],
    )
    await connection.close()

    await migrate(database.owner_dsn, database.access.role)
    store = await PostgresStore.open(database.dsn)
    engine = Engine(store, Rules(deciders=(SHELVES,)), lambda: MONDAY)
    (outcome,) = await engine.run([task(take("shelf-a", 2), span=tracing.Span(SENT))])
    assert outcome.error is None
    assert [row.trace for row in await store.read_stream("shelf-a")] == [None, SENT]
    assert await verify_store(store, engine.rules) == []
    await store.close()
