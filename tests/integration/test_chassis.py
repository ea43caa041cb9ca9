"""The chassis over a real broker and a real database: nothing is lost, nothing done twice, nobody is stopped."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import uuid4

import httpx
import pytest
import uvloop
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, NotLeaderForPartitionError
from aiokafka.protocol.metadata import MetadataRequest

from ordermill.clock import system_clock
from ordermill.contracts.base import BY_TYPE, Message, decode
from ordermill.contracts.inventory import StockAdjusted, StockReceived
from ordermill.contracts.location import StockCorrected
from ordermill.contracts.service import DeadLettered
from ordermill.decider import Decision
from ordermill.embedded.ports import choose_ports
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.relay import Relay
from ordermill.eventlog.store import Changes, Effect, LogUnavailable, Timer
from ordermill.service import consuming, kafka, publisher
from ordermill.service.consuming import Subscriptions
from ordermill.service.deadletters import LetterNotWaiting
from ordermill.service.following import follow
from ordermill.service.run import until
from ordermill.service.surface import application
from tests import brokers
from tests.integration.kafka import MONDAY, STOCK, Broker, arrived
from tests.integration.shelf_service import SECRET, Instance, Shelves
from tests.integration.shelves import received, rows_of
from tests.integration.stand import Log, Open, eventually
from tests.integration.test_bad_input import record_of

TOKEN = "a-token-that-no-log-may-hold"


# Batches


async def test_a_poll_is_one_transaction_and_all_its_partitions_are_committed(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(60)])
    one = await instance()
    await one.consume(broker.settings())
    await eventually(shelf_log.has(60))
    transactions = await shelf_log.query("SELECT tx, count(*) AS events FROM events GROUP BY tx ORDER BY tx")
    assert [row["events"] for row in transactions] == [len(poll) for poll in one.polls]
    assert len({record.partition for record in one.polls[0]}) > 1
    await one.close()
    assert await broker.committed("inventory", STOCK) == await broker.ends(STOCK)


async def test_how_far_an_instance_is_gets_known_though_nothing_more_comes(broker: Broker, instance: Open) -> None:
    one = await instance()
    await one.consume(broker.settings())
    for n in range(5):
        await broker.publish([arrived(f"sku-{n}", reference=f"r{n}")])

    async def known() -> bool:
        return await broker.committed("inventory", STOCK) == await broker.ends(STOCK)

    await eventually(known, timeout_s=10)


async def test_who_stops_leaves_nothing_that_its_successor_is_told_again(
    broker: Broker, shelf_log: Log, instance: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "COMMIT_EVERY_S", 60.0)
    one = await instance()
    await one.consume(broker.settings())
    for n in range(3):
        await broker.publish([arrived("pot", reference=f"r{n}")])
        await eventually(shelf_log.has(n + 1))
    assert await broker.committed("inventory", STOCK) != await broker.ends(STOCK)
    await one.close()
    assert await broker.committed("inventory", STOCK) == await broker.ends(STOCK)


async def test_a_message_delivered_again_is_handled_once(broker: Broker, shelf_log: Log, instance: Open) -> None:
    message = arrived("teapot", reference="once")
    await broker.publish([message, message], message_id="same")
    one = await instance()
    await one.consume(broker.settings())
    await eventually(shelf_log.has(1))
    await broker.publish([message, arrived("cup", reference="last")], message_id="same")
    await broker.publish([arrived("cup", reference="last")])
    await eventually(shelf_log.has(2))
    assert sorted(await shelf_log.references()) == ["last", "once"]


async def test_what_may_pass_is_tried_again_in_its_keys_order_and_stops_no_other_key(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    await broker.publish(
        [arrived("late", reference="first"), arrived("late", reference="second"), arrived("other", reference="other")]
    )
    one = await instance(Shelves(fails={"first": 2}))
    await one.consume(broker.settings())
    await eventually(shelf_log.has(3))
    assert await shelf_log.references() == ["other", "first", "second"]
    assert await shelf_log.letters() == []


async def test_what_is_tried_again_is_prepared_again() -> None:
    """What was at hand for it may be out of date: a customer's key is destroyed when they are forgotten."""
    prepared: list[int] = []

    async def prepare(messages: Sequence[Message]) -> None:
        prepared.append(len(messages))

    one = Instance(MemoryStore(), Shelves(fails={"r1": 2}))
    one.running.service = replace(one.running.service, prepare=prepare)
    await one.running.handle([record_of(arrived("pot", reference=f"r{n}"), f"m-{n}") for n in range(3)])
    assert prepared == [3, 2, 2]  # the first; the one that fails twice, and the last, which waits behind it
    assert len(await one.store.read_stream("shelf-pot")) == 3


@pytest.mark.parametrize("code", ["test.not-yet", "ordermill.unexpected"])
async def test_what_never_passes_is_kept_whole_and_its_key_goes_on(
    broker: Broker, shelf_log: Log, instance: Open, code: str
) -> None:
    sku = "never" if code == "test.not-yet" else "defect"
    message = arrived(sku, reference="stuck")
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"), ("ce_correlationid", b"why")]
    headers += [("ce_type", message.type.encode()), ("odd", b"\xff\x00"), ("empty", b"")]
    await broker.send(STOCK, message.to_json(), headers, key=b"\xfe", partition=2)
    await broker.send(STOCK, arrived("cup", reference="behind").to_json(), [*headers, ("ce_id", b"2")], b"\xfe", 2)
    one = await instance(Shelves(fails={"stuck": 99}), retries=2)
    await one.publish(broker.settings())
    await one.consume(broker.settings())
    await eventually(shelf_log.has(1))
    (letter,) = await shelf_log.letters()
    assert (letter.code, letter.attempts, letter.partition, letter.offset) == (code, 3 if sku == "never" else 0, 2, 0)
    assert letter.reason == ("never: not yet" if sku == "never" else "unexpected ZeroDivisionError: a defect of ours")
    assert letter.key_base64 is not None and b64decode(letter.key_base64) == b"\xfe"
    assert letter.value_base64 is not None and b64decode(letter.value_base64) == message.to_json()
    assert [(header.name, b64decode(header.value_base64)) for header in letter.headers] == headers
    assert await shelf_log.references() == ["behind"]

    async def told() -> bool:
        return [DeadLettered.from_json(record.value) for record in await broker.read("oms.inventory.dlq")] == [letter]

    await eventually(told)


async def test_a_large_body_rests_beside_the_log(broker: Broker, shelf_log: Log, instance: Open) -> None:
    body = b"x" * 600_000
    await broker.send(STOCK, body, [("ce_id", b"1")])
    one = await instance()
    await one.consume(broker.settings())
    await eventually(shelf_log.has_letters(1))
    (letter,) = await shelf_log.letters()
    assert (letter.size, letter.value_base64) == (len(body), None)
    assert letter.sha256 == sha256(body).hexdigest()
    assert await one.store.blob(bytes.fromhex(letter.sha256)) == body


async def test_a_redriven_letter_is_handled_once(broker: Broker, shelf_log: Log, instance: Open) -> None:
    message = arrived("slow", reference="slow")
    await broker.publish([message], message_id="slow")
    one = await instance(Shelves(fails={"slow": 2}), retries=0)
    await one.consume(broker.settings())
    await eventually(shelf_log.has_letters(1))
    letter = (await shelf_log.letters())[0].letter_id
    with pytest.raises(Exception, match="not yet"):
        await one.running.redrive(letter, "user:test")
    another = await instance()
    twice = [each.running.redrive(letter, "user:test") for each in (one, another, one)]
    outcomes = await asyncio.gather(*twice, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LetterNotWaiting"] * 2 + ["Outcome"]
    with pytest.raises(LetterNotWaiting, match="is redriven"):
        await one.running.redrive(letter, "user:test")
    await broker.publish([message], message_id="slow")
    await broker.publish([arrived("cup", reference="last")])
    await eventually(shelf_log.has(2))
    assert await shelf_log.references() == ["slow", "last"]


# Instances


async def test_two_instances_share_the_work_and_a_stop_loses_and_repeats_nothing(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    first, second = await instance(), await instance()
    settings = broker.settings(batch_max=20)
    await first.consume(settings, "1")
    await second.consume(settings, "2")
    for part in range(3):
        await broker.publish([arrived(f"sku-{n % 7}", reference=f"{part}-{n}") for n in range(300)])
        if part == 1:
            await first.stop_consuming()
    await eventually(shelf_log.has(900))
    assert set(Counter(await shelf_log.references()).values()) == {1}
    assert second.settled


async def test_a_graceful_stop_finishes_the_batch_at_hand(broker: Broker, shelf_log: Log, instance: Open) -> None:
    one = await instance(Shelves(fails={"slow": 3}))
    await broker.publish([arrived("slow", reference="slow"), arrived("fast", reference="fast")])
    await one.consume(broker.settings())
    await eventually(shelf_log.has(1))
    assert one.settled == []
    await one.stop_consuming()
    assert await shelf_log.references() == ["fast", "slow"]
    assert sum((await broker.committed("inventory", STOCK)).values()) == 2


class Away(MemoryStore):
    """A log whose database is not there."""

    async def head(self) -> int:
        raise LogUnavailable("away")

    async def postpone_effect(self, effect: Effect, until: datetime, counts: bool = True) -> None:
        raise LogUnavailable("away")


async def test_who_stops_while_the_database_is_away_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is at hand is told again, to whoever comes next; effects' claims run out."""
    monkeypatch.setattr(consuming, "LAST_BATCH_LIMIT_S", 0.2)
    monkeypatch.setattr(consuming, "LAST_COMMIT_LIMIT_S", 0.2)
    monkeypatch.setattr("ordermill.service.effects._GRACE_S", 0.1)

    class Slow(Shelves):
        async def tell(self, event: StockAdjusted, key: str, now: datetime) -> Decision:
            self.acted.append(key)
            await asyncio.Event().wait()
            raise AssertionError

    one = Instance(Away(), Slow())
    await one.running.execute(one.shelves.corrected(correct("pot", "found"), None), "user:test")  # type: ignore[arg-type]
    await one.running.execute(one.shelves.corrected(correct("pot", "lost"), None), "user:test")  # type: ignore[arg-type]
    await one.running.effects.start_due()
    listening = Subscriptions(
        kafka.KafkaSettings("127.0.0.1:1"), "g", "1", [STOCK], 1, lambda _: asyncio.Event().wait()
    )
    working = asyncio.create_task(listening._workers[0].work(()))
    relay = Relay(one.store, Mock(), "inventory")
    relay.status.leading = True
    async with asyncio.timeout(5):
        while len(one.shelves.acted) < 2:
            await asyncio.sleep(0.01)
    others = asyncio.all_tasks() - {asyncio.current_task(), working}
    async with asyncio.timeout(5):
        await listening.stop()
        await one.running.effects.stop()
        await relay.drain()
    working.cancel()
    assert not [task for task in others if not task.done() and "_do" in repr(task)]


class Process:
    """The shelves in a process of their own, run by the product's own `_serve`."""

    def __init__(self, broker: Broker, log: Log, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = folder / "log"
        settings = {
            "OMS_KAFKA": broker.address, "OMS_API_TOKEN": TOKEN, "OMS_KEYRING_URL": log.dsn,
            "OMS_MASTER_KEY": b64encode(bytes(32)).decode(), "OMS_LINK_SECRET": b64encode(bytes(32)).decode(),
            "OMS_RETRIES": "1", "SHELVES_FOLDER": str(folder), "SHELVES_DATABASE": log.dsn, "SHELVES_PORT": str(port),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        with self.log_file.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.shelf_service"],
                env=os.environ | settings | brokers.environment(),
                stderr=file,
                cwd=Path(__file__).parents[2],
            )

    async def died(self) -> bool:
        return self.process.poll() is not None

    async def ready(self) -> bool:
        return (await self.ask("/readyz")) == 200

    async def waiting(self) -> bool:
        """Alive, and not ready."""
        return (await self.ask("/readyz"), await self.ask("/healthz")) == (503, 200)

    async def ask(self, path: str) -> int | None:
        """The status of the answer; None if there is none."""
        assert self.process.poll() is None, self.log_file.read_text()
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{self.url}{path}")).status_code
        except httpx.HTTPError:
            return None

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@pytest.fixture
def start(broker: Broker, shelf_log: Log, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start_one() -> Process:
        port = choose_ports({"http": None}, tmp_path / "ports")["http"]
        started.append(Process(broker, shelf_log, tmp_path, port))
        return started[-1]

    yield start_one
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.mark.parametrize("when", ["deciding", "committed"])
async def test_an_instance_killed_in_a_batch_loses_and_repeats_nothing(
    broker: Broker, shelf_log: Log, instance: Open, start: Callable[[], Process], tmp_path: Path, when: str
) -> None:
    (tmp_path / f"die-{when}").touch()
    skus = [f"sku-{n}" for n in range(10)] + [f"die-{when}"] + [f"sku-{n}" for n in range(10)]
    await broker.publish([arrived(sku, reference=f"r{n}") for n, sku in enumerate(skus)])
    await eventually(start().died)
    before = await shelf_log.references()
    assert bool(before) == (when == "committed")
    survivor = await instance()
    await survivor.consume(broker.settings())
    await eventually(shelf_log.has(len(skus)))
    await broker.publish([arrived("sku-1", reference="last")])
    await eventually(shelf_log.has(len(skus) + 1))
    assert sorted(await shelf_log.references()) == sorted([f"r{n}" for n in range(len(skus))] + ["last"])


async def test_a_service_does_not_go_on_without_a_part_of_it_that_failed(
    start: Callable[[], Process], tmp_path: Path
) -> None:
    """Who started it starts it again; a queue that nobody works on would look like quiet."""
    one = start()
    await eventually(one.ready)
    (tmp_path / "die-alongside").touch()
    await eventually(one.died)
    assert one.process.returncode == 1
    assert "a part of the service failed" in one.log_file.read_text()


async def test_a_broker_that_comes_back_empty_is_filled_and_nothing_is_done_twice(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    one = await instance()
    await one.publish(broker.settings())
    await one.consume(broker.settings())
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(100)])

    async def told() -> bool:
        told = {decode(StockReceived.type, record.value).reference for record in await broker.read(StockReceived.topic)}
        return told >= {f"r{n}" for n in range(20)}

    await eventually(told)
    broker.restart()  # while nobody sends: only by looking can the relay learn of it
    await eventually(told)
    await broker.publish([arrived("sku-1", reference="r1")] * 3, message_id="again")
    await broker.publish([arrived("sku-2", reference="last")])
    await eventually(shelf_log.has(102))
    assert Counter(await shelf_log.references()) == Counter([f"r{n}" for n in range(100)] + ["r1", "last"])


async def test_an_idle_instance_notices_within_seconds_that_the_broker_is_another(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    """Others may not have read what it had sent."""
    one = await instance()
    await one.publish(broker.settings())
    await one.running.execute([next(iter(one.shelves.arrived(arrived("pot", reference="x"), None)))], "user:test")  # type: ignore[arg-type]

    async def told() -> list[Any]:
        return await broker.read(StockReceived.topic)

    await eventually(told)
    broker.restart()
    await eventually(told)


async def test_what_is_committed_while_the_broker_is_away_reaches_the_empty_one_that_comes_back(
    broker: Broker, shelf_log: Log, instance: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer with numbered batches would try for good to send to topics that are gone."""
    monkeypatch.setattr(publisher, "SEND_LIMIT_S", 2.0)
    one = await instance()
    await one.publish(broker.settings())
    await one.running.execute(one.shelves.arrived(arrived("pot", reference="before"), None), "user:test")  # type: ignore[arg-type]
    await eventually(lambda: told(broker, "before"))
    broker.kill()
    await one.running.execute(one.shelves.arrived(arrived("pot", reference="meanwhile"), None), "user:test")  # type: ignore[arg-type]
    broker.revive(empty=True)
    await eventually(lambda: told(broker, "before", "meanwhile"))


@pytest.mark.parametrize("more", [True, False], ids=["more is told", "no more is told"])
async def test_a_topic_that_was_deleted_is_filled_again_from_the_log(
    broker: Broker, shelf_log: Log, instance: Open, more: bool
) -> None:
    one = await instance()
    await one.publish(broker.settings())
    await one.running.execute(one.shelves.arrived(arrived("pot", reference="before"), None), "user:test")  # type: ignore[arg-type]
    await eventually(lambda: told(broker, "before"))
    await broker.delete(StockReceived.topic)
    if more:
        await one.running.execute(one.shelves.arrived(arrived("pot", reference="meanwhile"), None), "user:test")  # type: ignore[arg-type]
    await eventually(lambda: told(broker, "before", *["meanwhile"][: int(more)]), timeout_s=10)


async def test_all_of_a_topic_that_was_deleted_and_made_again_is_read(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    """By then it may hold more than had been read of the one before."""
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(40)])
    one = await instance()
    await one.consume(broker.settings())
    await eventually(shelf_log.has(40))
    await broker.delete(STOCK)
    await broker.make_topics()
    await broker.publish([arrived(f"sku-{n}", reference=f"s{n}") for n in range(80)])
    await eventually(shelf_log.has(120), timeout_s=15)


async def test_so_it_is_by_a_follower(broker: Broker) -> None:
    await broker.make_topics()
    seen: list[str] = []
    caught_up = asyncio.Event()

    def absorb(record: Any) -> None:
        seen.append(json.loads(record.value)["reference"])

    following = asyncio.create_task(follow(broker.settings(), [STOCK], absorb, caught_up))
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(40)])
    await eventually(lambda: until_seen(seen, 40))
    await broker.delete(STOCK)
    await broker.make_topics()
    await eventually(lambda: taken(broker, [arrived(f"sku-{n}", reference=f"s{n}") for n in range(80)]), timeout_s=15)
    await eventually(lambda: until_seen(seen, 120), timeout_s=15)
    following.cancel()


async def taken(broker: Broker, messages: Sequence[Message]) -> bool:
    """Of a topic that was made a moment ago a partition may have no leader yet."""
    try:
        await broker.publish(messages)
    except NotLeaderForPartitionError:
        return False
    return True


async def until_seen(seen: list[str], count: int) -> bool:
    return len(set(seen)) >= count


async def test_a_topic_that_several_tell_is_made_again_when_all_have_seen_that_it_was_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One who has not would put what is on its way before all that was there."""
    shared, alone = "oms.effects.results", "oms.capture.events"
    numbers = count()
    there = {topic: str(next(numbers)) for topic in (shared, alone)}
    made_at: dict[str, float] = {}
    now = asyncio.get_running_loop().time

    async def ids(client: Any, topics: Sequence[str]) -> dict[str, str]:
        return {topic: there[topic] for topic in topics if topic in there}

    async def make(settings: Any, topics: Sequence[str]) -> None:
        for topic in topics:
            if topic not in there:
                there[topic], made_at[topic] = str(next(numbers)), now()

    answers = ["kraft"]

    async def cluster(client: Any) -> str:
        return answers[-1]

    for name, double in {"topic_ids": ids, "ensure_topics": make, "cluster_of": cluster}.items():
        monkeypatch.setattr(publisher, name, double)
    monkeypatch.setattr(publisher, "ALL_HAVE_SEEN_S", 3_600)
    monkeypatch.setattr(publisher.KafkaPublisher, "_running", AsyncMock())
    settings = kafka.KafkaSettings("127.0.0.1:1")
    first, second = (
        publisher.KafkaPublisher(settings, system_clock, own=(shared, alone), shared=(shared,)) for _ in range(2)
    )
    before = await first.memories("capture")
    del there[alone]
    async with asyncio.timeout(10):
        assert (await first.memories("capture"))[shared] == before[shared]
    there.clear()
    answers.append("another")  # to which nobody sends before they have asked who it is
    async with asyncio.timeout(10):
        before = await first.memories("capture")
    monkeypatch.setattr(publisher, "ALL_HAVE_SEEN_S", 0.4)
    deleted_at = now()
    del there[shared]
    again, others = await asyncio.gather(first.memories("capture"), second.memories("returns"))
    assert again == others and again[shared] != before[shared]
    assert made_at[shared] - deleted_at >= 0.4


async def test_an_instance_stops_in_time_though_the_broker_is_away_and_batches_are_on_their_way(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    one = await instance()
    await one.publish(broker.settings())
    await one.consume(broker.settings())
    await one.running.execute(one.shelves.arrived(arrived("pot", reference="before"), None), "user:test")  # type: ignore[arg-type]
    await eventually(lambda: told(broker, "before"))
    broker.kill()
    await one.running.execute(one.shelves.arrived(arrived("pot", reference="meanwhile"), None), "user:test")  # type: ignore[arg-type]
    await asyncio.sleep(0.5)  # so that the relay has something in flight
    await asyncio.wait_for(one.close(), 20)


async def test_batches_that_nobody_waits_for_any_more_fail_in_silence(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Whenever that is. Else the event loop complains, when all is over, of errors that nobody retrieved."""
    caplog.set_level(logging.CRITICAL + 1, "aiokafka")  # a record that is kept would keep the batch
    telling = [publisher.KafkaPublisher(broker.settings(), system_clock) for _ in range(100)]
    (row,) = rows_of("stock-teapot", received(1))
    for one in telling:
        await one.send_events("inventory", [SequencedRow(1, row)])
    broker.kill()
    loop, complaints = asyncio.get_running_loop(), list[str]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))

    async def give_up(one: publisher.KafkaPublisher, after_s: float) -> None:
        sending = asyncio.create_task(one.send_events("inventory", [SequencedRow(1, row)]))
        await asyncio.sleep(after_s)
        sending.cancel()
        await asyncio.wait([sending])
        await one.stop()

    try:
        await asyncio.gather(*(give_up(one, 0.3 + 0.002 * n) for n, one in enumerate(telling)))
        telling.clear()
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    # An idempotent producer's client may stumble over batches that were given up: that is its own.
    assert not [complaint for complaint in complaints if "never retrieved" in complaint]


async def test_a_new_broker_that_has_fewer_partitions_is_filled_by_what_it_has(broker: Broker) -> None:
    """What was known of the one before is not asked of it: nobody would ever answer."""
    topic = "oms.inventory.stock"
    telling = publisher.KafkaPublisher(broker.settings(), system_clock)
    rows = [SequencedRow(n, row) for n in range(1, 21) for row in rows_of(f"stock-teapot-{n}", received(1))]
    await broker.make_topics()
    before = await telling.cluster()
    await telling.send_events("inventory", rows)
    assert not await telling.is_empty(topic)
    broker.restart()
    await eventually(lambda: there_is_another(telling, before))
    await broker.make_topics(partitions=1)
    async with asyncio.timeout(30):
        assert await telling.is_empty(topic)
        await telling.send_events("inventory", rows)
        assert not await telling.is_empty(topic)
    await telling.stop()
    assert len(await broker.read(topic)) == len(rows)


async def there_is_another(telling: publisher.KafkaPublisher, before: str) -> bool:
    try:
        return await telling.cluster() != before
    except kafka.BrokerUnavailable:
        return False


async def test_followers_go_on_after_the_broker_was_away(broker: Broker) -> None:
    seen: list[set[bytes]] = [set() for _ in range(5)]

    def absorber(values: set[bytes]) -> Callable[[Any], None]:
        return lambda record: values.add(record.value)

    tasks = [
        asyncio.create_task(follow(broker.settings(fetch_wait_ms=250), [STOCK], absorber(values), asyncio.Event()))
        for values in seen
    ]

    async def have(value: bytes) -> bool:
        return all(value in values for values in seen)

    try:
        await broker.send(STOCK, b"before", [])
        await eventually(lambda: have(b"before"))
        broker.kill()
        await asyncio.sleep(3)  # time enough for them to notice
        broker.revive(empty=True)
        await broker.make_topics()
        await broker.send(STOCK, b"after", [])
        await eventually(lambda: have(b"after"))
    finally:
        for task in tasks:
            task.cancel()


def test_a_connection_that_was_reset_is_told_from_a_fault_of_the_client(tmp_path: Path) -> None:
    """On the loop that services run on. Anything but KafkaError ends the work of aiokafka's clients for good."""

    async def send_after_a_reset(port: int) -> None:
        for turns_of_the_loop in range(6):
            connection = await create_conn("127.0.0.1", port)
            connection._writer.transport.abort()
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest([]))

    with brokers.server(tmp_path) as one:
        uvloop.run(send_after_a_reset(int(one.address.rpartition(":")[2])))


async def told(broker: Broker, *references: str) -> bool:
    """Whether the facts of these are on Kafka."""
    found = {decode(StockReceived.type, record.value).reference for record in await broker.read(StockReceived.topic)}
    return found >= set(references)


# Effects and timers


def correct(sku: str, reference: str) -> StockCorrected:
    return StockCorrected(location="berlin", sku=sku, reference=reference, happened_at=MONDAY, delta=1, reason="found")


def in_a_minute() -> datetime:
    return system_clock() + timedelta(minutes=1)


async def test_an_effect_whose_worker_is_killed_after_the_act_is_done_again_under_the_same_key_and_told_once(
    broker: Broker, shelf_log: Log, instance: Open, start: Callable[[], Process], tmp_path: Path
) -> None:
    (tmp_path / "die-acting").touch()
    await broker.publish([correct("die-acting", "found")])
    await eventually(start().died)
    survivor = await instance(Shelves(tmp_path))
    assert await survivor.running.effects.perform() == 0  # the dead one's claim still holds
    later = await instance(Shelves(tmp_path), wall=in_a_minute)
    assert await later.running.effects.perform() == 1
    assert (tmp_path / "acted").read_text().split() == ["tell-die-acting-found"] * 2
    assert await shelf_log.references() == ["found", "answer-found"]
    assert await later.running.effects.perform() == 0


async def test_two_workers_do_an_effect_once(shelf_log: Log, instance: Open) -> None:
    one, two = await instance(), await instance()
    for number in range(20):
        await one.running.execute(one.shelves.corrected(correct(f"pot-{number}", "found"), None), "user:test")  # type: ignore[arg-type]
    counts = await asyncio.gather(one.running.effects.perform(), two.running.effects.perform())
    assert sum(counts) == 20
    assert set(Counter(one.shelves.acted + two.shelves.acted).values()) == {1}
    assert Counter(await shelf_log.references()) == {"found": 20, "answer-found": 20}


async def test_an_answer_of_who_was_too_slow_says_nothing_of_what_was_asked_for_anew_since(
    shelf_log: Log, instance: Open
) -> None:
    class Slow(Shelves):
        at_it, go_on = asyncio.Event(), asyncio.Event()

        async def tell(self, event: StockAdjusted, key: str, now: datetime) -> Decision:
            self.at_it.set()
            await self.go_on.wait()
            return await super().tell(event, key, now)

    slow, quick = Slow(), Shelves()
    one, two = await instance(slow), await instance(quick, wall=in_a_minute)
    asked = one.shelves.corrected(correct("pot", "found"), None)  # type: ignore[arg-type]
    await one.running.execute(asked, "user:test")
    trying = asyncio.create_task(one.running.effects.perform())
    await slow.at_it.wait()
    assert await two.running.effects.perform() == 1  # the claim has run out, says its clock
    await two.running.execute(asked, "user:test")  # anew, under the same id
    slow.go_on.set()
    await trying
    assert await shelf_log.references() == ["found", "answer-found", "found"]
    assert await two.running.effects.perform() == 1
    assert await shelf_log.references() == ["found", "answer-found", "found", "answer-found"]


async def test_an_effect_that_fails_too_often_is_given_up_and_told(shelf_log: Log, instance: Open) -> None:
    hours = iter(range(100))
    one = await instance(wall=lambda: system_clock() + timedelta(hours=next(hours)))
    await one.running.execute(one.shelves.corrected(correct("away", "found"), None), "user:test")  # type: ignore[arg-type]
    assert [await one.running.effects.perform() for _ in range(4)] == [1, 1, 1, 0]
    assert await shelf_log.references() == ["found", "gave-up"]


async def test_a_timer_rings_once_with_two_instances(shelf_log: Log, instance: Open) -> None:
    one, two = await instance(), await instance()
    for number in range(20):
        decisions = one.shelves.arrived(arrived(f"ring-{number}", reference="r"), None)  # type: ignore[arg-type]
        await one.running.execute(decisions, "user:test")
    counts = await asyncio.gather(*(each.running.fire_timers() for each in (one, two, one, two)))
    assert sum(counts) == 20
    assert Counter(await shelf_log.references()) == {"r": 20, "counted": 20}
    later = await instance(wall=in_a_minute)
    assert await later.running.fire_timers() == 0


async def test_a_timer_of_another_release_stops_no_other_timer() -> None:
    one = Instance(MemoryStore(), Shelves())
    await one.running.execute(one.shelves.arrived(arrived("ring-1", reference="r"), None), "user:test")  # type: ignore[arg-type]
    async with one.store.transaction() as transaction:
        of_another = Timer("shelf-ring-1", "weigh:1", MONDAY)
        await transaction.commit(Changes(timers={(of_another.stream, of_another.name): of_another}))
    await one.running.fire_timers()
    assert [row.type for row in await one.store.read_stream("shelf-ring-1")] == [StockReceived.type, StockAdjusted.type]
    assert (await one.store.counts())["timers"] == 1  # for the release that knows it


async def test_a_timer_whose_handler_fails_stops_no_other_timer() -> None:
    class Failing(Shelves):
        def ring(self, timer: Timer) -> Iterable[Decision]:
            if timer.stream.endswith("bad"):
                raise ZeroDivisionError(SECRET)
            return super().ring(timer)

    one = Instance(MemoryStore(), Failing())
    for sku in ("ring-bad", "ring-good"):
        await one.running.execute(one.shelves.arrived(arrived(sku, reference="r"), None), "user:test")  # type: ignore[arg-type]
    await one.running.fire_timers()
    assert len(await one.store.read_stream("shelf-ring-good")) == 2
    assert len(await one.store.read_stream("shelf-ring-bad")) == 1


@pytest.mark.parametrize("kind", ["oms.inventory.stock-weighed.v1", StockReceived.type, StockAdjusted.type[:-1] + "9"])
async def test_an_effect_of_another_release_stops_no_other_effect(kind: str) -> None:
    one = Instance(MemoryStore(), Shelves())
    await one.running.execute(one.shelves.corrected(correct("pot", "found"), None), "user:test")  # type: ignore[arg-type]
    async with one.store.transaction() as transaction:
        data = received(1).to_json()
        await transaction.commit(Changes(effects=[Effect("of-another", "shelf-pot", kind, data, "c-1", uuid4())]))
    assert await one.running.effects.perform() == 1
    assert one.shelves.acted == ["tell-pot-found"]
    assert (await one.store.counts())["effects"] == 1  # for the release that knows it


async def test_an_effect_asked_for_by_an_older_version_of_its_event_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Instance(MemoryStore(), Shelves())
    await one.running.execute(one.shelves.corrected(correct("pot", "found"), None), "user:test")  # type: ignore[arg-type]
    monkeypatch.delitem(BY_TYPE, StockAdjusted.type)
    monkeypatch.setattr(StockAdjusted, "type", StockAdjusted.type[:-1] + "2")
    monkeypatch.setattr(StockAdjusted, "class_version", 2)
    monkeypatch.setattr(StockAdjusted, "upcast_v1_v2", staticmethod(lambda state: None), raising=False)
    monkeypatch.setitem(BY_TYPE, StockAdjusted.type, StockAdjusted)
    upgraded = Instance(one.store, Shelves())
    assert await upgraded.running.effects.perform() == 1
    assert upgraded.shelves.acted == ["tell-pot-found"]
    assert (await one.store.counts())["effects"] == 0


# What a record may do to the client


async def test_a_header_name_that_is_not_text_stops_nobody(broker: Broker, shelf_log: Log, instance: Open) -> None:
    """aiokafka gives up on the whole poll, and with it on what it had taken from other partitions."""
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(40)])
    good = arrived("cup", reference="neighbor").to_json()
    await broker.send_with_binary_header_name(STOCK, 1, b"the body", good)
    await broker.publish([arrived(f"sku-{n}", reference=f"s{n}") for n in range(40)])
    one = await instance()
    await one.consume(broker.settings())
    await eventually(shelf_log.has(81))
    await eventually(shelf_log.has_letters(1))
    expected = [f"r{n}" for n in range(40)] + [f"s{n}" for n in range(40)] + ["neighbor"]
    assert Counter(await shelf_log.references()) == Counter(expected)
    (letter,) = await shelf_log.letters()
    assert (letter.code, letter.source_topic, letter.partition) == ("messages.not-readable", STOCK, 1)
    assert letter.value_base64 is not None
    assert b"the body" in b64decode(letter.value_base64) and b"\xff\xfe" in b64decode(letter.value_base64)
    await broker.publish([arrived("cup", reference="last")])
    await eventually(shelf_log.has(82))


async def test_a_follower_reads_past_a_header_name_that_is_not_text(broker: Broker) -> None:
    good = arrived("cup", reference="neighbor").to_json()
    await broker.publish([arrived(f"sku-{n}") for n in range(10)])
    await broker.send_with_binary_header_name(STOCK, 1, b"x", good)
    await broker.publish([arrived(f"sku-{n}") for n in range(10)])
    seen: set[tuple[int, int]] = set()
    caught_up = asyncio.Event()
    task = asyncio.create_task(
        follow(broker.settings(), [STOCK], lambda record: seen.add((record.partition, record.offset)), caught_up)
    )

    async def all_seen() -> bool:
        return len(seen) == 22 and caught_up.is_set()

    try:
        await eventually(all_seen)
    finally:
        task.cancel()


# HTTP and logs


async def test_health_readiness_and_metrics(shelf_log: Log, instance: Open) -> None:
    one = await instance()
    app = application(one.running, TOKEN)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["consuming"]) == (503, False)
        one.running.consuming = True
        assert (await client.get("/readyz")).status_code == 200
        one.running.healthy = False
        assert (await client.get("/readyz")).json() == {"ready": False, "database": False, "consuming": True}
        text = (await client.get("/metrics")).text
        for name in ("oms_messages_total", "oms_batch_seconds_bucket", "oms_unpublished_events", "oms_ready 0.0"):
            assert name in text or name == "oms_messages_total"


async def test_a_service_is_ready_again_when_the_broker_that_was_away_is_back(
    broker: Broker, start: Callable[[], Process]
) -> None:
    one = start()
    await eventually(one.ready)
    broker.kill()
    await eventually(one.waiting, timeout_s=20)
    broker.revive(empty=True)
    await eventually(one.ready, timeout_s=20)


async def test_who_waits_for_a_broker_that_says_nothing_stops_when_told() -> None:
    """Not after all of a client's time-outs, when whoever told it has killed it long ago."""
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    settings = kafka.KafkaSettings("127.0.0.1:{1}".format(*silent.sockets[0].getsockname()))
    telling = publisher.KafkaPublisher(settings, system_clock)
    listening = Subscriptions(settings, "listening", "1", [STOCK], 1, lambda records: asyncio.sleep(0))
    stop = asyncio.Event()
    starts = (lambda: kafka.ensure_topics(settings, [STOCK]), telling.start, listening.start)
    asyncio.get_running_loop().call_later(0.5, stop.set)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*(until(stop, start) for start in starts)) == [None, None, None]
        await asyncio.gather(telling.stop(), listening.stop())
    silent.close()


async def test_who_has_no_partition_because_others_have_them_consumes(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "OUT_OF_GROUP_S", 0.5)
    settings, told = broker.settings(partitions=1), list[bool]()

    async def nothing(records: Any) -> None:
        assert not records

    await kafka.ensure_topics(settings, ["one-partition"])
    two = Subscriptions(settings, "two", "1", ["one-partition"], 2, nothing)
    await two.start()

    async def shared_out() -> bool:
        return all(worker.in_group() for worker in two._workers)

    await eventually(shared_out)
    assert sorted(len(worker.consumer.assignment()) for worker in two._workers if worker.consumer) == [0, 1]
    watching = asyncio.create_task(two.watch(told.append, every_s=0.1))
    await asyncio.sleep(1)
    watching.cancel()
    await two.stop()
    assert len(told) > 5 and all(told)


async def test_what_comes_while_a_worker_rests_is_in_its_next_poll_whole(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    """A client that fetches ahead would have the first of it only, and the rest a poll later."""
    one = await instance()
    await one.consume(broker.settings(pace_s=1.0))
    await broker.publish([arrived("pot", reference="before")])
    await eventually(shelf_log.has(1))
    for reference in ("first", "second", "third"):
        await broker.publish([arrived("pot", reference=reference)])
    await eventually(shelf_log.has(4))
    assert [len(poll) for poll in one.polls if poll] == [1, 3]


async def test_a_dead_letter_is_seen_whole_redriven_and_dropped_over_http(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    one = await instance(Shelves(fails={"slow": 2, "never": 1}), retries=0)
    await broker.publish([arrived("slow", reference="slow")], message_id="slow")
    await broker.publish([arrived("never", reference="never")], message_id="never")
    await one.consume(broker.settings())
    await eventually(shelf_log.has_letters(2))
    slow, never = sorted(await shelf_log.letters(), key=lambda letter: letter.message_id, reverse=True)
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Actor": "Ann"}
    transport = httpx.ASGITransport(application(one.running, TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        listed = (await client.get("/letters")).json()["items"]
        assert {item["letter_id"] for item in listed} == {slow.letter_id, never.letter_id}
        shown = (await client.get(f"/letters/{slow.letter_id}")).json()
        assert (shown["status"], shown["letter"]["code"], shown["end"]) == ("waiting", slow.code, None)
        assert [(each["name"]) for each in shown["letter"]["headers"]] == [header.name for header in slow.headers]
        body = (await client.get(f"/letters/{slow.letter_id}/body")).content
        assert body == b64decode(shown["body_base64"]) == b64decode(slow.value_base64 or "")

        again = (await client.post(f"/letters/{slow.letter_id}/redrive")).json()
        assert (again["events"], again["detail"]) == ([], "slow: not yet")
        handled = (await client.post(f"/letters/{slow.letter_id}/redrive")).json()
        assert handled["events"][-1] == "oms.service.letter-redriven.v1"
        assert "is redriven" in (await client.post(f"/letters/{slow.letter_id}/redrive")).json()["detail"]
        dropped = await client.post(f"/letters/{never.letter_id}/drop", json={"note": "a test's"})
        assert dropped.json()["events"] == ["oms.service.letter-dropped.v1"]
        end = (await client.get(f"/letters/{never.letter_id}")).json()["end"]
        assert (end["by"], end["note"]) == ("user:Ann", "a test's")
        assert (await client.get("/letters")).json()["items"] == []
        assert len((await client.get("/letters?status=all")).json()["items"]) == 2

        assert (await client.get("/letters/nobody")).status_code == 404
        assert (await client.post("/letters/nobody/redrive")).status_code == 404
        assert (await client.get("/letters/%00")).status_code == 422
        for path in (f"/letters/{never.letter_id}", "/letters", f"/letters/{never.letter_id}/body"):
            assert (await client.get(path, headers={"Authorization": "Bearer guess"})).status_code == 401
    assert await shelf_log.references() == ["slow"]


async def test_log_lines_are_json_with_correlation_ids_and_hold_no_payload_no_token_no_name(
    broker: Broker, shelf_log: Log, start: Callable[[], Process], tmp_path: Path
) -> None:
    process = start()
    await eventually(process.ready)
    stuck = arrived("defect", reference=SECRET)
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"), ("ce_correlationid", b"cor-1")]
    await broker.send(STOCK, stuck.to_json(), [*headers, ("ce_type", stuck.type.encode())])
    await broker.send(
        STOCK, f'{{"{SECRET}": 1}}'.encode(), [*headers, ("ce_type", stuck.type.encode()), ("ce_id", b"2")]
    )
    await broker.publish([correct("away", "found")])
    await eventually(shelf_log.has_letters(2))
    await eventually(shelf_log.has(2))  # given up: so the effect's failures are in the log
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        await client.get(f"{process.url}/no-such-page")
    assert process.end() == 0
    text = process.log_file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["service"] for line in lines} == {"inventory"}
    assert all(datetime.fromisoformat(line["timestamp"]).tzinfo == UTC for line in lines)
    letters = [line for line in lines if line["event"] == "kept as a dead letter"]
    assert {line["correlation_id"] for line in letters} == {"cor-1"}
    assert [line["event"] for line in lines][-2:] == ["stopping", "stopped"]
    for secret in (SECRET, TOKEN, shelf_log.dsn, '"quantity"'):
        assert secret not in text
