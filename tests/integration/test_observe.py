"""What the numbers say of a service at work is so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.relay import Relay
from ordermill.eventlog.store import NOTHING, Backlog, Effect, LogUnavailable, Publication, StillLeads, Store, Timer
from ordermill.service.deadletters import LETTER_VIEW
from ordermill.service.declare import Service
from ordermill.service.metrics import Metrics
from ordermill.service.observe import measure
from ordermill.service.running import RunningService
from ordermill.service.surface import application
from tests.conftest import LogDatabase
from tests.integration.kafka import MONDAY, STOCK, Broker, arrived
from tests.integration.shelf_service import Instance, Shelves
from tests.integration.shelves import SHELF_VIEW, SHELVES, receive, task
from tests.integration.stand import eventually
from tests.integration.test_chassis import TOKEN, correct
from tests.integration.test_eventlog import commit


def told(one: Instance) -> dict[str, float]:
    """Each sample, by its name and labels as Prometheus writes them."""
    from prometheus_client import generate_latest

    found = {}
    for family in text_string_to_metric_families(generate_latest(one.running.metrics.registry).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture(params=["memory", "postgres"])
async def store(request: Any, make_log: Callable[..., Awaitable[LogDatabase]]) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    opened = await PostgresStore.open((await make_log((SHELF_VIEW, LETTER_VIEW))).dsn)
    yield opened
    await opened.close()


async def test_a_log_knows_what_waits_longer_than_it_should(store: Store) -> None:
    assert await store.backlog(MONDAY) == Backlog()
    timers = {("a", n): Timer("a", n, MONDAY + timedelta(hours=h)) for n, h in (("past", -2), ("now", 0), ("later", 1))}
    letters = {"1": {"status": "waiting"}, "2": {"status": "dropped"}}
    stubborn = Effect("stubborn", "a", "t", b"{}", "c", uuid4())
    await commit(
        store,
        timers=timers,
        effects=[replace(stubborn, effect_id="fresh"), stubborn],
        documents={"dead_letters": letters},
        publications={("topic", "a"): ("t", b"{}")},
    )
    await store.postpone_effect(stubborn, MONDAY)
    found = await store.backlog(MONDAY)
    assert (found.timers_overdue, found.timers_overdue_s) == (2, 7_200)
    assert (found.effects_failing, found.unpublished_states, found.dead_letters) == (1, 1, 1)
    assert 0 < found.effects_oldest_s < 60


async def test_lag_is_what_no_batch_has_settled_and_how_long_that_has_waited(
    broker: Broker, shelf_log: Any, instance: Any
) -> None:
    held = asyncio.Event()

    class Slow(Shelves):
        def service(self) -> Any:
            from dataclasses import replace

            async def wait(messages: Any) -> None:
                await held.wait()

            return replace(super().service(), prepare=wait)

    one: Instance = await instance(Slow())
    await broker.publish([arrived("first")])
    await one.consume(broker.settings(), workers=1)
    subscriptions = one._subscriptions
    assert subscriptions is not None

    async def behind() -> float:
        await measure(one.running, subscriptions)
        return told(one).get(f"oms_lag_events{{topic={STOCK}}}", 0)

    async def first() -> bool:
        return await behind() == 1

    async def all_of_them() -> bool:
        return await behind() == 30

    try:
        await eventually(first)
        await broker.publish([arrived(f"sku-{n}") for n in range(29)])
        await eventually(all_of_them)
        seconds = told(one)[f"oms_lag_seconds{{topic={STOCK}}}"]
        await asyncio.sleep(0.05)
        await behind()
        assert told(one)[f"oms_lag_seconds{{topic={STOCK}}}"] > seconds > 0
    finally:
        held.set()  # or its stop would wait for the batch at hand

    async def caught_up() -> bool:
        return await behind() == 0

    await eventually(caught_up)
    assert told(one)[f"oms_lag_seconds{{topic={STOCK}}}"] == 0
    assert told(one)["oms_batch_messages_sum"] == 30


async def test_effects_are_counted_by_what_came_of_them(instance: Any) -> None:
    hours = iter(range(100))
    one: Instance = await instance(wall=lambda: MONDAY + timedelta(days=3650, hours=next(hours)))
    for sku in ("cup", "away"):
        await one.running.execute(one.shelves.corrected(correct(sku, f"{sku}-found"), None), "user:test")  # type: ignore[arg-type]
    await one.running.effects.perform()
    await measure(one.running)
    assert (told(one)["oms_effects"], told(one)["oms_effects_failing"]) == (1, 1)
    while await one.running.effects.perform():
        pass
    results = {r: told(one)[f"oms_effect_attempts_total{{result={r}}}"] for r in ("answered", "failed", "given-up")}
    assert results == {"answered": 1, "failed": 2, "given-up": 1}


async def test_requests_are_counted_by_route_and_strangers_make_no_series(shelf_log: Any, instance: Any) -> None:
    one: Instance = await instance()
    app = application(one.running, TOKEN)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        for number in range(5):
            await client.get(f"/no-such-page-{number}")
            await client.request(f"ODD{number}", "/healthz")
        await client.get("/healthz")
    counted = {name: value for name, value in told(one).items() if name.startswith("oms_http_requests_total")}
    assert counted == {
        "oms_http_requests_total{method=GET,route=unmatched,status=404}": 5,
        "oms_http_requests_total{method=GET,route=/healthz,status=200}": 1,
        "oms_http_requests_total{method=other,route=/healthz,status=405}": 5,
    }


async def test_only_the_relay_that_leads_tells_what_is_not_on_kafka(
    broker: Broker, shelf_log: Any, instance: Any
) -> None:
    one: Instance = await instance()
    two: Instance = await instance()
    await one.running.handle([])
    await one.publish(broker.settings())
    await two.publish(broker.settings())
    relays = [each.running.relay for each in (one, two)]

    async def led() -> bool:
        return any(relay.status.leading for relay in relays if relay is not None)

    await eventually(led)
    await asyncio.gather(measure(one.running), measure(two.running))
    assert told(one)["oms_relay_leading"] + told(two)["oms_relay_leading"] == 1


GAUGES = ("oms_relay_failing", "oms_unpublished_events")


class Kafka:
    """Answers, and takes nothing, until it is well."""

    well = False
    refused = 0

    async def memories(self, service: str) -> dict[str, str]:
        return {f"oms.{service}.events": "one"}

    async def is_empty(self, topic: str) -> bool:
        return False

    async def send_events(self, service: str, rows: Sequence[SequencedRow], known: Mapping[str, int] = NOTHING) -> None:
        if not self.well:
            self.refused += 1
            raise LogUnavailable("Kafka takes nothing")

    async def send_states(self, service: str, states: Sequence[Publication]) -> None:
        pass


class NoLead(MemoryStore):
    """Lets nobody lead, when so told."""

    refused = 0
    well = True

    @asynccontextmanager
    async def leadership(self, name: str) -> AsyncIterator[StillLeads]:
        if not self.well:
            self.refused += 1
            raise LogUnavailable("too many connections")
        async with super().leadership(name) as still_leads:
            yield still_leads


async def test_a_relay_that_fails_again_and_again_tells_so_and_what_it_has_not_sent() -> None:
    service, store, kafka = Service("inventory", (SHELVES,)), NoLead(), Kafka()
    running = RunningService(service, Engine(store, service.rules(), lambda: MONDAY), Metrics("inventory"))
    relay = running.relay = Relay(store, kafka, "inventory")

    async def told_now() -> tuple[float, float]:
        await measure(running)
        values = [running.metrics.registry.get_sample_value(name) or 0.0 for name in GAUGES]
        return values[0], values[1]

    async def until(what: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.01)

    async def receive_some(count: int) -> None:
        await running.engine.run([task(receive("shelf-001", 1)) for _ in range(count)])

    working = asyncio.create_task(relay.run())
    try:
        await receive_some(3)
        await until(lambda: kafka.refused > 1)
        assert await told_now() == (1, 3)
        kafka.well = True
        await until(lambda: relay.status.published == 3 and not relay.status.failing)
        assert await told_now() == (0, 0)
        kafka.well = store.well = False
        await receive_some(2)
        await until(lambda: store.refused > 1)
        assert not relay.status.leading
        assert await told_now() == (1, 2)
    finally:
        working.cancel()
