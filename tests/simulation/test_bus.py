"""The bus in memory behaves as a broker does: the same rules over both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from ordermill.errors import Transient
from ordermill.eventlog import relay
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.records import SequencedRow
from ordermill.eventlog.relay import Publisher, Relay
from ordermill.eventlog.store import NOTHING, Changes, Publication, StillLeads
from ordermill.names import SERVICES
from ordermill.service.consuming import Subscriptions
from ordermill.service.following import follow
from ordermill.service.publisher import KafkaPublisher
from ordermill.service.topics import all_topics, topics_told_by
from ordermill.simulation.bus import Bus, BusPublisher, NotYours
from tests.brokers import server
from tests.integration.kafka import Broker
from tests.integration.shelves import received, rows_of

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TOPIC = received(1).topic
STATES = "oms.inventory.availability"
Handle = Callable[[Sequence[Any]], Awaitable[None]]
Stop = Callable[[], Awaitable[None]]


class Wire(Protocol):
    """What the product needs of a broker."""

    def publisher(self) -> Publisher: ...

    async def subscribe(self, member: str, handle: Handle) -> Stop:
        """Join the group of `inventory` and handle polls of TOPIC, committing each when `handle` has returned."""
        ...

    def follow(self, absorb: Callable[[Any], None]) -> Stop: ...

    async def replace(self) -> None:
        """Another broker stands in this one's place and knows nothing."""
        ...


class InMemory:
    def __init__(self) -> None:
        self._bus = Bus(4)

    def publisher(self) -> Publisher:
        return BusPublisher(self._bus, lambda: NOW)

    async def subscribe(self, member: str, handle: Handle) -> Stop:
        consumer = self._bus.join("oms.inventory", [TOPIC])

        async def work() -> None:
            while True:
                if records := await consumer.poll(500):
                    await handle(records)
                    consumer.commit(records)

        task = asyncio.create_task(work())

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._bus.leave(consumer)

        return stop

    def follow(self, absorb: Callable[[Any], None]) -> Stop:
        follower = self._bus.follow([TOPIC])

        async def work() -> None:
            while True:
                for record in await follower.poll():
                    absorb(record)

        return _stopping(asyncio.create_task(work()))

    async def replace(self) -> None:
        self._bus.forget()


class OnKafka:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._publishers: list[KafkaPublisher] = []

    def publisher(self) -> Publisher:
        own = topics_told_by("inventory")
        self._publishers.append(KafkaPublisher(self._broker.settings(), lambda: NOW, all_topics(SERVICES), own))
        return self._publishers[-1]

    async def subscribe(self, member: str, handle: Handle) -> Stop:
        subscriptions = Subscriptions(self._broker.settings(), "inventory", member, [TOPIC], 1, handle)
        await subscriptions.start()
        return subscriptions.stop

    def follow(self, absorb: Callable[[Any], None]) -> Stop:
        return _stopping(asyncio.create_task(follow(self._broker.settings(), [TOPIC], absorb, asyncio.Event())))

    async def replace(self) -> None:
        self._broker.restart()
        await self._broker.make_topics()

    async def close(self) -> None:
        for publisher in self._publishers:
            await publisher.stop()
        await self._broker.close()


def _stopping(task: asyncio.Task[None]) -> Stop:
    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return stop


@pytest.fixture(params=["memory", "broker"])
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    if request.param == "memory":
        yield InMemory()
        return
    with server(tmp_path) as one:
        broker = Broker(one)
        await broker.make_topics()
        kafka = OnKafka(broker)
        try:
            yield kafka
        finally:
            await kafka.close()


def events(count: int, streams: int = 7) -> list[SequencedRow]:
    """Of several streams, in one log's order."""
    by_stream = [rows_of(f"stock-{n}", *(received(k + 1) for k in range(count // streams + 1))) for n in range(streams)]
    mixed = [rows[k] for k in range(count // streams + 1) for rows in by_stream][:count]
    return [SequencedRow(seq, row) for seq, row in enumerate(mixed, 1)]


def said(record: Any) -> tuple[str, int]:
    found = {name: value.decode() for name, value in record.headers}
    return found["ce_subject"], int(found["ce_streamversion"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_group_gets_everything_once_and_each_stream_in_its_order(wire: Wire) -> None:
    got: list[tuple[str, int]] = []

    async def handle(records: Sequence[Any]) -> None:
        got.extend(said(record) for record in records)

    stops = [await wire.subscribe(member, handle) for member in ("a", "b")]
    sent = events(40)
    publisher = wire.publisher()
    for start in range(0, 40, 8):
        await publisher.send_events("inventory", sent[start : start + 8])
    await until(lambda: len(got) >= 40)
    for stop in stops:
        await stop()
    assert sorted(got) == sorted((s.row.stream, s.row.version) for s in sent)
    for stream in {stream for stream, _ in got}:
        versions = [version for each, version in got if each == stream]
        assert versions == sorted(versions)


async def test_in_memory_who_lost_a_partition_in_the_middle_of_a_batch_can_t_settle_it() -> None:
    """Kafka says so in the answer to the commit, which `test_chassis.py` shows; the next owner gets the batch again."""
    bus = Bus(1)
    await BusPublisher(bus, lambda: NOW).send_events("inventory", events(5))
    first = bus.join("oms.inventory", [TOPIC])
    batch = await first.poll(500)
    bus.leave(first)
    second = bus.join("oms.inventory", [TOPIC])
    with pytest.raises(NotYours):
        first.commit(batch)
    assert await second.poll(500) == batch
    assert await first.poll(500) == []
    second.commit(batch)
    assert bus.lag() == 0


async def test_in_memory_who_lost_a_partition_and_has_it_again_can_t_settle_less_of_it_than_another_has() -> None:
    bus = Bus(1)
    await BusPublisher(bus, lambda: NOW).send_events("inventory", events(5))
    first, second = bus.join("oms.inventory", [TOPIC]), bus.join("oms.inventory", [TOPIC])
    batch = await first.poll(2)
    bus.rebalance("oms.inventory")
    second.commit(await second.poll(500))
    bus.rebalance("oms.inventory")
    with pytest.raises(NotYours):
        first.commit(batch)
    assert bus.lag() == 0


async def test_a_group_that_comes_back_goes_on_where_it_was(wire: Wire) -> None:
    got: list[tuple[str, int]] = []

    async def handle(records: Sequence[Any]) -> None:
        got.extend(said(record) for record in records)

    publisher, sent = wire.publisher(), events(20)
    await publisher.send_events("inventory", sent[:10])
    stop = await wire.subscribe("a", handle)
    await until(lambda: len(got) == 10)
    await stop()
    await publisher.send_events("inventory", sent[10:])
    stop = await wire.subscribe("a", handle)
    await until(lambda: len(got) >= 20)
    await stop()
    assert len(got) == len(set(got)) == 20


async def test_a_follower_reads_all_from_the_start_whatever_groups_have_settled(wire: Wire) -> None:
    async def handle(records: Sequence[Any]) -> None:
        return None

    stop = await wire.subscribe("a", handle)
    await wire.publisher().send_events("inventory", events(9))
    await stop()
    read: list[tuple[str, int]] = []
    stop = wire.follow(lambda record: read.append(said(record)))
    await until(lambda: len(read) >= 9)
    await stop()
    assert len(set(read)) == 9


async def test_a_broker_that_replaced_another_is_another_cluster_and_empty(wire: Wire) -> None:
    publisher = wire.publisher()
    before = await publisher.memories("inventory")
    assert await publisher.is_empty(TOPIC)
    await publisher.send_events("inventory", events(3))
    assert not await publisher.is_empty(TOPIC)
    read: list[tuple[str, int]] = []
    stop = wire.follow(lambda record: read.append(said(record)))
    await until(lambda: len(read) == 3)
    await wire.replace()
    fresh = wire.publisher()
    assert await fresh.memories("inventory") != before
    assert await fresh.is_empty(TOPIC)
    await fresh.send_events("inventory", events(3))
    await until(lambda: len(read) == 6)
    await stop()


async def test_nothing_is_sent_to_a_broker_that_replaced_the_one_that_was_asked_who_it_is(wire: Wire) -> None:
    """What is under way at that moment would stand there before its predecessors."""
    publisher, sent = wire.publisher(), events(4)
    await publisher.memories("inventory")
    await publisher.send_events("inventory", sent[:2])
    await wire.replace()
    with pytest.raises(Transient):
        await publisher.send_events("inventory", sent[2:])
    await publisher.memories("inventory")
    assert await publisher.is_empty(TOPIC)
    await publisher.send_events("inventory", sent)
    read: list[tuple[str, int]] = []
    stop = wire.follow(lambda record: read.append(said(record)))
    await until(lambda: len(read) == 4)
    await stop()
    assert sorted(read) == sorted((s.row.stream, s.row.version) for s in sent)


async def test_a_broker_that_replaces_another_in_the_middle_of_a_batch_gets_nothing_of_it(wire: Wire) -> None:
    publisher, sent = wire.publisher(), events(2_000)
    await publisher.memories("inventory")
    await publisher.send_events("inventory", sent[:1])
    sending = asyncio.gather(
        *(publisher.send_events("inventory", sent[start : start + 100]) for start in range(1, 2_000, 100)),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    await wire.replace()
    await sending
    await publisher.memories("inventory")
    assert await publisher.is_empty(TOPIC)


class DiesOnce(BusPublisher):
    """Of a relay whose process ends when its first batch is with the broker."""

    async def send_events(self, service: str, rows: Sequence[SequencedRow], known: Mapping[str, int] = NOTHING) -> None:
        await super().send_events(service, rows, known)
        raise asyncio.CancelledError


async def test_in_memory_a_broker_emptied_under_its_id_is_filled_though_the_relay_dies_after_its_first_batch() -> None:
    store, bus = MemoryStore(), Bus(1)
    rows = [
        row._replace(type="of.a-newer-release.v1") for row in rows_of("stock-1", *(received(n) for n in range(1, 7)))
    ]
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=rows))  # of a type that goes to the service's own topic
    memories = await BusPublisher(bus, lambda: NOW).memories("inventory")
    await store.move_relay_cursors((0, 1), dict.fromkeys(memories.values(), 6))
    with suppress(asyncio.CancelledError):
        await Relay(store, DiesOnce(bus, lambda: NOW), "inventory", batch=2).run()
    following = asyncio.create_task(Relay(store, BusPublisher(bus, lambda: NOW), "inventory", batch=2).run())
    async with asyncio.timeout(5):
        while len({said(record) for record in bus.records("oms.inventory.events")[0]}) < 6:
            await asyncio.sleep(0.02)
    following.cancel()


@pytest.mark.parametrize("new", [TOPIC, STATES, "oms.inventory.events"])
async def test_a_topic_that_is_new_to_a_log_is_filled_and_those_that_have_all_are_told_nothing_again(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ALONE_AFTER_S", 0.0)

    class OfALaterRelease(BusPublisher):
        async def memories(self, service: str) -> dict[str, str]:
            return await super().memories(service) | {new: "never told"}

    store, bus = MemoryStore(), Bus(1)
    rows = rows_of("stock-1", *(received(n) for n in range(1, 9)))
    rows = [row._replace(type="of.a-newer-release.v1") if n % 2 else row for n, row in enumerate(rows)]
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=rows))
    await commit_state(store, b"1")
    told: list[dict[str, int]] = []
    for publisher in (BusPublisher, OfALaterRelease):
        one = Relay(store, publisher(bus, lambda: NOW), "inventory", batch=3)
        relaying = asyncio.create_task(one.run())
        await until(lambda one=one: one.status.published == len(rows))  # type: ignore[misc]
        await one.drain()
        relaying.cancel()
        told.append({topic: len(bus.records(topic)[0]) for topic in (TOPIC, STATES, "oms.inventory.events")})
    assert told[1] == told[0] | {new: 2 * told[0][new]}


class HoldsStates(BusPublisher):
    """Of a relay whose states are a long time on their way, and whose process ends when they are there."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, lambda: NOW)
        self.sent, self.arrives = asyncio.Event(), asyncio.Event()

    async def send_states(self, service: str, states: Sequence[Publication]) -> None:
        self.sent.set()
        await self.arrives.wait()
        await super().send_states(service, states)
        raise asyncio.CancelledError


class LosesItsLead(MemoryStore):
    """Of a process whose connection broke: another may lead, and it has not heard of it."""

    def __init__(self, store: MemoryStore) -> None:
        self.__dict__ = store.__dict__

    @asynccontextmanager
    async def leadership(self, name: str) -> AsyncIterator[StillLeads]:
        async def still_leads() -> None:
            pass

        yield still_leads


async def test_a_state_that_a_relay_had_in_hand_when_it_lost_its_lead_does_not_stay_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes onto the topic behind its successor's newer one, and its relay ends before it could say so."""
    monkeypatch.setattr(relay, "ALONE_AFTER_S", 0.5)
    store, bus = MemoryStore(), Bus(1)
    slow = HoldsStates(bus)
    await commit_state(store, b"1")
    first = asyncio.create_task(Relay(LosesItsLead(store), slow, "inventory").run())
    successor = Relay(store, BusPublisher(bus, lambda: NOW), "inventory")
    async with asyncio.timeout(5):
        await slow.sent.wait()
        await commit_state(store, b"2")
        second = asyncio.create_task(successor.run())
        await until(lambda: states_on(bus) == [b"2"])
        slow.arrives.set()
        await asyncio.wait([first])
        assert states_on(bus) == [b"2", b"1"]
        await until(lambda: not successor.unsure and len(states_on(bus)) > 2)
        await commit_state(store, b"3")
        await until(lambda: states_on(bus)[-1] == b"3")
    second.cancel()
    assert states_on(bus) == [b"2", b"1", b"2", b"3"]


async def commit_state(store: MemoryStore, data: bytes) -> None:
    async with store.transaction() as transaction:
        await transaction.commit(Changes(publications={(STATES, "shelf-a"): ("t", data)}))


def states_on(bus: Bus) -> list[bytes]:
    return [record.value for records in bus.records(STATES) for record in records]
