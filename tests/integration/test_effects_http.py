"""Effects over real HTTP against providers that fail as real ones do: what is asked for once is done once.

The providers are the simulator's process, the log is PostgreSQL's, the service is the real one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from ordermill.clock import system_clock
from ordermill.contracts.base import Fact, decode
from ordermill.contracts.capture import CancellationRefunded, CancellationRefundFailed, CancellationRefundRequested
from ordermill.contracts.channel import ChannelLine, Payment
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.fulfillment import LabelFailed, PackageLabeled, PackedPackage
from ordermill.contracts.inventory import ReleasedLine
from ordermill.contracts.personal import Person
from ordermill.eventlog.postgres import PostgresStore
from ordermill.keyring import Keyring, MemoryKeyStore
from ordermill.network import default_network_text, read_network
from ordermill.payments import PaymentProvider
from ordermill.payments.http import HttpPayments
from ordermill.service.effects import IN_HAND, LEASE
from ordermill.service.outbound import Outbound, OutboundSettings
from ordermill.service.running import RunningService
from ordermill.service.surface import application
from ordermill.simulator.faults import BEFORE_ACTING, Fault
from services.capture.domain import CancelOrder, CaptureOrder, RetryRefund
from services.capture.handlers import order_decision
from services.fulfillment.adapters.base import Carrier
from services.fulfillment.adapters.http import HttpCarrier
from services.fulfillment.domain import Accept, CreateFulfillment, Pack, Pick, RetryLabel
from services.fulfillment.handlers import work_decision
from tests.conftest import LogDatabase
from tests.domain.test_carriers import CarrierConformance
from tests.domain.test_payments import PaymentConformance
from tests.integration.effects_service import running_service
from tests.simulator import KEY, ROOT, SimulatorProcess

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
NETWORK = read_network(default_network_text())
PATIENT = {"connect_s": 10, "read_s": 20, "total_s": 30, "allow_private": True, "circuit_failures": 100}
HASTY = {"read_s": 0.3}
"""For calls that are not answered."""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path_factory.mktemp("simulator")) as process:
        yield process


@pytest.fixture
def simulator(process: SimulatorProcess) -> SimulatorProcess:
    """On its best behavior, whatever was before."""
    for provider in ("cedar", "swift", "payments"):
        process.behave(provider)
    return process


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    made = Outbound(OutboundSettings(**PATIENT))
    yield made
    await made.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def acted(simulator: SimulatorProcess, prefix: str) -> int:
    """How often something was done under keys that begin so."""
    return sum(entry.acted for key, entry in simulator.ledger().items() if key.startswith(prefix))


# Each adapter does what its port demands


class _Http(CarrierConformance):
    name = ""

    @pytest.fixture
    def carrier(self, simulator: SimulatorProcess, outbound: Outbound) -> Carrier:
        return HttpCarrier(self.name, outbound.provider(self.name, simulator.url, KEY))

    @pytest.fixture
    def cut_off(self, simulator: SimulatorProcess) -> Callable[[bool], None]:
        return lambda away: simulator.behave(self.name, Fault.UNAVAILABLE if away else None)


class TestCedarOverHttp(_Http):
    name = "cedar"


class TestSwiftOverHttp(_Http):
    name = "swift"


class TestPaymentsOverHttp(PaymentConformance):
    @pytest.fixture
    def payments(self, simulator: SimulatorProcess, outbound: Outbound) -> PaymentProvider:
        return HttpPayments(outbound.provider("payments", simulator.url, KEY))

    @pytest.fixture
    def cut_off(self, simulator: SimulatorProcess) -> Callable[[bool], None]:
        return lambda away: simulator.behave("payments", Fault.DROPPED if away else None)


# A service whose refunds and labels are asked of providers that fail


class Shop:
    """A real service over a log of its own. Time goes on when somebody says so."""

    def __init__(self, running: RunningService, store: PostgresStore, dsn: str) -> None:
        self.running = running
        self.dsn = dsn
        self._store = store
        self.ahead = timedelta()

    async def due(self, after: timedelta = timedelta(hours=2)) -> None:
        """Let time go on, then do all effects that are due."""
        self.ahead += after
        await self.running.effects.perform()

    async def do(self, *decisions: Any) -> None:
        for decision in decisions:
            await self.running.execute([decision], "user:test")

    async def facts(self, *kinds: type[Fact]) -> list[Any]:
        found = [decode(row["type"], row["data"]) for row in await self.query("SELECT type, data FROM events")]
        return [fact for fact in found if isinstance(fact, kinds)]

    async def has(self, count: int, kind: type[Fact]) -> None:
        """Wait until there are so many facts of that kind."""
        async with asyncio.timeout(60):
            while len(await self.facts(kind)) < count:
                await asyncio.sleep(0.02)

    async def query(self, statement: str) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    async def call_off(self, *external_ids: str, reference: str = "pay") -> list[str]:
        """Paid orders that are canceled before they are released; the ids of the refunds that they ask for."""
        for name in external_ids:
            await self.do(order_decision(paid_order(name, reference)), order_decision(CancelOrder(name, "c", MONDAY)))
        asked = await self.facts(CancellationRefundRequested)
        return [fact.refund_id for fact in asked if fact.order_id in external_ids]

    async def close(self) -> None:
        await self.running.effects.stop()
        if self.running.service.outbound is not None:
            await self.running.service.outbound.close()
        await self._store.close()


def paid_order(order_id: str, reference: str = "pay") -> CaptureOrder:
    price, nothing = Money(minor=501, currency="USD"), Money.zero("USD")
    return CaptureOrder(
        order_id=order_id,
        channel="shop",
        external_id=order_id,
        placed_at=MONDAY,
        destination=Destination(country="US", postal_code="12180"),
        lines=(ChannelLine(line_id="1", sku="TEA", quantity=1, unit_price=price, discount=nothing, tax=nothing),),
        shipping=nothing,
        shipping_tax=nothing,
        tax_included=False,
        total=price,
        payment=Payment(status="paid", reference=f"{reference}-{order_id}"),
        risk="high",
    )


Open = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def shop(
    make_log: Callable[..., Awaitable[LogDatabase]], simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Open]:
    """`await shop("capture", read_s=0.3)`: that service, under these outbound settings."""
    key = KEY.get_secret_value()
    for name, value in {
        "OMS_PAYMENTS_URL": simulator.url,
        "OMS_PAYMENTS_KEY": key,
        "OMS_FULFILLMENT_CARRIERS_URL": simulator.url,
        "OMS_FULFILLMENT_CARRIERS_KEY": key,
    }.items():
        monkeypatch.setenv(name, value)
    opened: list[Shop] = []

    async def open_one(service: str = "capture", dsn: str = "", **outbound: Any) -> Shop:
        for name, value in (PATIENT | outbound).items():
            monkeypatch.setenv(f"OMS_OUTBOUND_{name.upper()}", str(value))
        store = await PostgresStore.open(dsn) if dsn else None
        if store is None:
            views = running_service(service, None).service.views  # type: ignore[arg-type]
            dsn = (await make_log(views)).dsn
            store = await PostgresStore.open(dsn)
        made: Shop
        running = running_service(service, store, wall=lambda: system_clock() + made.ahead)
        made = Shop(running, store, dsn)
        opened.append(made)
        return made

    yield open_one
    for each in opened:
        await each.close()


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in (Fault.REFUSED, Fault.TWICE)])
async def test_whatever_befalls_a_call_money_moves_once(shop: Open, simulator: SimulatorProcess, fault: Fault) -> None:
    store = await shop(answer_max_bytes=100_000)
    ids = await store.call_off(f"{fault}-1")
    await store.due()  # so that there is an earlier answer, for the fault that repeats one
    ids += await store.call_off(f"{fault}-2", f"{fault}-3")
    simulator.behave("payments", fault, slow_s=2.0)
    hasty = await shop(dsn=store.dsn, answer_max_bytes=100_000, **HASTY)
    await hasty.due(store.ahead)
    await eventually(lambda: all(key in simulator.ledger() for key in ids))
    if fault not in BEFORE_ACTING:
        await eventually(lambda: all(simulator.ledger()[key].acted for key in ids))
    assert len(await store.facts(CancellationRefunded)) == 1
    done = {key: entry.acted for key, entry in simulator.ledger().items() if key in ids[1:]}
    assert done == dict.fromkeys(ids[1:], 0 if fault in BEFORE_ACTING else 1)
    simulator.behave("payments")
    await store.due()
    ledger = simulator.ledger()
    paid = {fact.refund_id: fact.provider_reference for fact in await store.facts(CancellationRefunded)}
    assert paid == {key: ledger[key].reference for key in ids}
    assert [ledger[key].acted for key in ids] == [1, 1, 1]
    assert await store.query("SELECT * FROM effects") == []


async def test_an_answer_that_comes_twice_is_not_taken_for_the_next_one(
    shop: Open, simulator: SimulatorProcess
) -> None:
    store = await shop(calls=1, tries=1)  # all on one connection, where the second answer waits for the next question
    ids = await store.call_off(*(f"twice-{n}" for n in range(6)))
    simulator.behave("payments", Fault.TWICE)
    for _ in range(8):
        await store.due()
    ledger = simulator.ledger()
    paid = {fact.refund_id: fact.provider_reference for fact in await store.facts(CancellationRefunded)}
    assert paid == {key: ledger[key].reference for key in ids}
    assert {ledger[key].acted for key in ids} == {1}


async def test_a_provider_that_is_away_is_asked_again_when_it_is_back(shop: Open, simulator: SimulatorProcess) -> None:
    store = await shop()
    (refund_id,) = await store.call_off("away")
    simulator.stop(signal.SIGKILL)
    await store.due()
    assert await store.facts(CancellationRefunded, CancellationRefundFailed) == []
    simulator.start()
    await store.due()
    (paid,) = await store.facts(CancellationRefunded)
    assert (paid.refund_id, simulator.ledger()[refund_id].acted) == (refund_id, 1)


async def test_a_provider_that_was_killed_answers_as_before(simulator: SimulatorProcess, outbound: Outbound) -> None:
    payments = HttpPayments(outbound.provider("payments", simulator.url, KEY))
    five = Money(minor=500, currency="USD")
    before = await payments.refund("pay-1", five, "killed-1", MONDAY)
    simulator.stop(signal.SIGKILL)
    simulator.start()
    assert await payments.refund("pay-1", five, "killed-1", MONDAY + timedelta(days=1)) == before
    assert simulator.ledger()["killed-1"].acted == 1


async def test_a_service_killed_between_the_act_and_its_record_asks_again_under_the_same_key(
    shop: Open, simulator: SimulatorProcess
) -> None:
    store = await shop()
    (refund_id,) = await store.call_off("killed")
    simulator.behave("payments", Fault.SILENT)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}", "EFFECTS_DATABASE": store.dsn}
    command = [sys.executable, "-m", "tests.integration.effects_service"]
    worker = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT)
    try:
        await eventually(lambda: acted(simulator, refund_id) == 1)
        assert worker.returncode is None
    finally:
        worker.kill()
        await worker.wait()
    simulator.behave("payments")
    await store.due(timedelta())
    assert await store.facts(CancellationRefunded) == []  # the dead one's claim still holds
    await store.due(LEASE)
    (paid,) = await store.facts(CancellationRefunded)
    entry = simulator.ledger()[refund_id]
    assert (paid.provider_reference, entry.acted, entry.asked) == (entry.reference, 1, 2)


async def test_a_refusal_is_a_fact_at_once_and_a_person_may_have_it_asked_again(
    shop: Open, simulator: SimulatorProcess
) -> None:
    store = await shop()
    simulator.behave("payments", Fault.REFUSED)
    (refund_id,) = await store.call_off("refused")
    await store.due()
    (failed,) = await store.facts(CancellationRefundFailed)
    assert (failed.refund_id, failed.reason) == (refund_id, "payments: not today: refused for good")
    assert simulator.ledger()[refund_id].asked == 1
    simulator.behave("payments")
    await store.do(order_decision(RetryRefund("refused", refund_id)))
    await store.due()
    (paid,) = await store.facts(CancellationRefunded)
    assert (paid.refund_id, simulator.ledger()[refund_id].acted) == (refund_id, 1)
    actors = [row["actor"] for row in await store.query("SELECT actor FROM events ORDER BY position")]
    assert actors[-3:] == ["effect:capture", "user:test", "effect:capture"]


async def test_the_team_tries_a_failed_refund_again_over_http(shop: Open, simulator: SimulatorProcess) -> None:
    store = await shop()
    simulator.behave("payments", Fault.REFUSED)
    (refund_id,) = await store.call_off("team")
    transport = httpx.ASGITransport(application(store.running, "the-token"))
    headers = {"Authorization": "Bearer the-token", "X-Actor": "ann"}
    async with httpx.AsyncClient(transport=transport, base_url="http://capture", headers=headers) as client:
        retry = f"/orders/team/refunds/{refund_id}/retry"
        await store.due()
        seen = (await client.get("/orders/team")).json()["refunds"]
        assert [(each["refund_id"], each["status"]) for each in seen] == [(refund_id, "failed")]
        assert seen[0]["failure"] == "payments: not today: refused for good"
        assert (await client.post(retry, headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await client.post("/orders/team/refunds/another/retry")).status_code == 404
        assert [each["status"] for each in (await client.post(retry)).json()["refunds"]] == ["pending"]
        simulator.behave("payments")
        await store.due()
        second = await client.post(retry)
        assert (second.status_code, second.json()["code"]) == (409, "capture.refund-paid-already")
    assert simulator.ledger()[refund_id].acted == 1
    actors = await store.query("SELECT actor FROM events WHERE type LIKE '%refund-requested%' ORDER BY position")
    assert actors[-1]["actor"] == "user:ann"


async def test_a_silent_provider_is_given_up_and_a_retry_moves_no_money_twice(
    shop: Open, simulator: SimulatorProcess
) -> None:
    store = await shop()
    (refund_id,) = await store.call_off("silent")
    simulator.behave("payments", Fault.SILENT)
    hasty = await shop(dsn=store.dsn, **HASTY)
    attempts = hasty.running.service.effects[0].attempts
    for number in range(1, attempts + 1):
        await hasty.due()
        assert len(await store.facts(CancellationRefundFailed)) == (number == attempts)
    assert (await store.query("SELECT * FROM effects")) == []
    await eventually(lambda: simulator.ledger()[refund_id].asked == attempts)
    simulator.behave("payments")
    await store.do(order_decision(RetryRefund("silent", refund_id)))
    await store.due()
    (paid,) = await store.facts(CancellationRefunded)
    entry = simulator.ledger()[refund_id]
    assert (paid.provider_reference, entry.acted, entry.asked) == (entry.reference, 1, attempts + 1)


async def test_a_busy_provider_is_left_alone_as_long_as_it_asks(shop: Open, simulator: SimulatorProcess) -> None:
    store = await shop()
    simulator.behave("payments", Fault.BUSY, retry_after_s=900)
    await store.call_off("busy")
    before = system_clock()
    await store.due(timedelta())
    ((next_at,),) = await store.query("SELECT next_at FROM effects")
    assert timedelta(seconds=900) <= next_at - before <= timedelta(seconds=900) + timedelta(minutes=1)


async def test_an_open_circuit_costs_no_tries(shop: Open, simulator: SimulatorProcess) -> None:
    store = await shop(circuit_failures=2, tries=1, circuit_pause_s=600, calls=1)
    ids = await store.call_off("a", "b", "c", "d", "e")
    simulator.behave("payments", Fault.UNAVAILABLE)
    for _ in range(20):
        await store.due()
    assert await store.facts(CancellationRefundFailed) == []
    assert await store.query("SELECT sum(attempts) FROM effects") == [(2,)]
    ledger = simulator.ledger()
    assert sum(ledger[key].asked for key in ids if key in ledger) == 2


# Carriers: one that is slow or away is nobody else's trouble


def packed(fulfillment_id: str, carrier: str, addressee: str) -> list[Any]:
    lines = (LineQuantity(line_id="1", sku="TEA", quantity=1),)
    create = CreateFulfillment(
        fulfillment_id=fulfillment_id,
        order_id="order-1",
        location="edison",
        channel="shop",
        external_id="#1",
        destination=Destination(country="US", region="OR", postal_code="97201", addressee=addressee),
        carrier=carrier,
        service=next(each.services[0].id for each in NETWORK.carriers if each.id == carrier),
        ship_by=MONDAY,
        deliver_by=MONDAY + timedelta(days=4),
        lines=(ReleasedLine(line_id="1", sku="TEA", quantity=1),),
    )
    package = PackedPackage(package=1, weight_g=700, lines=lines)
    steps = (create, Accept(fulfillment_id), Pick(fulfillment_id, lines), Pack(fulfillment_id, (package,)))
    return [work_decision(step) for step in steps]


@pytest.fixture
async def addressee(monkeypatch: pytest.MonkeyPatch) -> str:
    keys = MemoryKeyStore()
    monkeypatch.setattr("services.fulfillment.app.PostgresKeyStore", lambda dsn: keys)
    keyring = Keyring(keys, bytes(32))
    await keyring.ensure(["c-ann"])
    return keyring.seal("c-ann", Person(name="Ann Lee", street=("1 Main St",), city="Portland"))


async def test_a_slow_carrier_holds_up_no_other_carrier_s_labels(
    shop: Open, simulator: SimulatorProcess, addressee: str
) -> None:
    store = await shop("fulfillment", read_s=30)
    simulator.behave("cedar", Fault.SILENT)
    slow, quick = [f"C{n}" for n in range(40)], [f"S{n}" for n in range(5)]
    await store.do(*(step for name in slow for step in packed(name, "cedar", addressee)))
    loop = asyncio.create_task(store.running.effects_loop())
    try:
        await eventually(lambda: acted(simulator, "C") == IN_HAND)
        await store.do(*(step for name in quick for step in packed(name, "swift", addressee)))
        await store.has(len(quick), PackageLabeled)
        assert await store.query("SELECT max(attempts) FROM effects") == [(0,)]  # those asked first still wait
    finally:
        loop.cancel()
    labeled = await store.facts(PackageLabeled)
    assert Counter(fact.carrier for fact in labeled) == {"swift": 5}
    assert await store.facts(LabelFailed) == []
    simulator.behave("cedar")


async def test_a_carrier_that_is_away_is_asked_no_more_once_another_sold_the_label(
    shop: Open, simulator: SimulatorProcess, addressee: str
) -> None:
    store = await shop("fulfillment", tries=1)
    simulator.behave("cedar", Fault.UNAVAILABLE)
    names = [f"switch-{n}" for n in range(3)]
    await store.do(*(step for name in names for step in packed(name, "cedar", addressee)))
    service = next(each.services[0].id for each in NETWORK.carriers if each.id == "swift")
    loop = asyncio.create_task(store.running.effects_loop())
    try:
        await eventually(lambda: store.running.metrics.effect_attempts.labels("failed")._value.get() >= len(names))
        await store.do(*(work_decision(RetryLabel(name, 1, "swift", service)) for name in names))
        await store.has(len(names), PackageLabeled)
        assert await store.query("SELECT count(*) FROM effects") == [(0,)]
        simulator.behave("cedar")
        await store.do(*packed("neighbor", "cedar", addressee))
        await store.has(1 + len(names), PackageLabeled)
    finally:
        loop.cancel()
    assert Counter(fact.carrier for fact in await store.facts(PackageLabeled)) == {"swift": 3, "cedar": 1}
    assert {fact.answered for fact in await store.facts(LabelFailed)} == {False}
    ledger = simulator.ledger()
    assert [f"{name}.1" for name in names if f"{name}.1" in ledger and ledger[f"{name}.1"].acted] == []


async def test_a_carrier_s_circuit_opens_and_closes_while_its_neighbor_goes_on(
    shop: Open, simulator: SimulatorProcess, addressee: str
) -> None:
    store = await shop("fulfillment", circuit_failures=3, circuit_pause_s=0.2, tries=1)

    def circuit(carrier: str) -> float | None:
        return store.running.metrics.registry.get_sample_value("oms_outbound_circuit", {"provider": carrier})

    simulator.behave("cedar", Fault.UNAVAILABLE)
    names = [f"circuit-{n}" for n in range(10)]
    await store.do(*(step for name in names for step in packed(name, "cedar", addressee)))
    await store.do(*packed("neighbor", "swift", addressee))
    loop = asyncio.create_task(store.running.effects_loop())
    try:
        await eventually(lambda: circuit("cedar") == 2)
        await store.has(1, PackageLabeled)
        assert [fact.carrier for fact in await store.facts(PackageLabeled)] == ["swift"]
        assert circuit("swift") == 0
        simulator.behave("cedar")
        await store.has(1 + len(names), PackageLabeled)
    finally:
        loop.cancel()
    assert circuit("cedar") == 0
    calls = store.running.metrics.registry.get_sample_value
    assert calls("oms_outbound_calls_total", {"provider": "cedar", "result": "done"}) == len(names)
    assert (calls("oms_outbound_calls_total", {"provider": "cedar", "result": "failed"}) or 0) >= 3
    assert (calls("oms_outbound_calls_total", {"provider": "cedar", "result": "held back"}) or 0) > 0
    ledger = simulator.ledger()
    assert {ledger[f"{name}.1"].acted for name in names} == {1}
