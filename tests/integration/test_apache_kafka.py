"""What only a broker that keeps what it is told can show. Needs Apache Kafka: OMS_TEST_KAFKA=apache or container."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from ordermill.contracts.base import decode
from ordermill.contracts.inventory import StockReceived
from ordermill.names import SERVICES
from ordermill.service import consuming
from ordermill.service.consuming import Subscriptions
from ordermill.service.following import follow
from ordermill.service.kafka import ensure_topics
from ordermill.service.topics import all_topics, policy_of
from tests.brokers import apache_only
from tests.integration.kafka import STOCK, Broker, arrived, outside_headers_of
from tests.integration.stand import Log, Open, eventually

pytestmark = apache_only


async def test_what_the_broker_confirmed_outlives_its_crash_and_is_neither_sent_nor_handled_again(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    one = await instance()
    await one.publish(broker.settings())
    await one.consume(broker.settings())
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(60)])
    await eventually(shelf_log.has(60))

    async def told() -> list[str]:
        return [decode(StockReceived.type, r.value).reference for r in await broker.read(StockReceived.topic)]

    async def all_told() -> bool:
        return len(await told()) >= 60

    await eventually(all_told)
    broker.kill()
    broker.revive(empty=False)
    await broker.publish([arrived(f"sku-{n}", reference=f"s{n}") for n in range(60)])
    await eventually(shelf_log.has(120))

    async def rest_told() -> bool:
        return len(await told()) >= 120

    await eventually(rest_told)
    expected = Counter([f"r{n}" for n in range(60)] + [f"s{n}" for n in range(60)])
    assert Counter(await shelf_log.references()) == expected
    assert Counter(await told()) == expected  # nothing twice: the producer's numbers let the broker drop repeats


async def test_an_instance_started_again_under_its_name_goes_on_long_before_its_predecessor_counts_as_dead(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    patient = broker.settings(session_timeout_ms=60_000)
    for part in range(3):
        one = await instance()
        await one.consume(patient, "shelf-1")
        await broker.publish([arrived(f"sku-{n}", reference=f"{part}-{n}") for n in range(20)])
        await eventually(shelf_log.has(20 * (part + 1)), timeout_s=30)
        await one.vanish()


async def test_what_a_stopped_instance_read_others_read_at_once_long_before_it_would_count_as_dead(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    patient = broker.settings(session_timeout_ms=60_000)
    several = [await instance() for _ in range(2)]
    await asyncio.gather(*(one.consume(patient, f"shelf-{n}") for n, one in enumerate(several)))

    async def both_in() -> bool:
        first, second = (one.generation() for one in several)
        return first == second >= 1

    await eventually(both_in)
    await broker.publish([arrived(f"sku-{n}", reference=f"both-{n}") for n in range(20)])
    await eventually(shelf_log.has(20), timeout_s=30)
    assert all(one.settled for one in several)
    await several[0].close()
    await broker.publish([arrived(f"sku-{n}", reference=f"one-{n}") for n in range(20)])
    await eventually(shelf_log.has(40), timeout_s=20)


async def test_partitions_that_are_added_are_read_soon(broker: Broker, shelf_log: Log, instance: Open) -> None:
    one = await instance()
    await one.consume(broker.settings())
    seen: list[Any] = []
    following = asyncio.create_task(follow(broker.settings(), [STOCK], seen.append, asyncio.Event()))
    try:
        await broker.publish([arrived("pot", reference="before")])
        await eventually(shelf_log.has(1))
        await broker.add_partitions(STOCK, 6)
        message = arrived("pan", reference="on a new one")
        await broker.send(STOCK, message.to_json(), outside_headers_of(message.to_json()), b"pan", partition=5)
        await eventually(shelf_log.has(2), timeout_s=20)

        async def followed() -> bool:
            return [record.partition for record in seen if record.partition > 3] == [5]

        await eventually(followed, timeout_s=20)
    finally:
        following.cancel()


async def test_a_worker_waits_for_a_topic_and_never_makes_it(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """It would be made with the broker's defaults. Nor is that worth a warning at each start."""

    async def nothing(records: Any) -> None:
        assert not records

    waiting = Subscriptions(broker.settings(), "waiting", "1", ["later"], 1, nothing)
    starting = asyncio.create_task(waiting.start())
    await asyncio.sleep(1)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        assert "later" not in await admin.list_topics()
        await ensure_topics(broker.settings(partitions=3), ["later"])
        await starting
        (made,) = await admin.describe_topics(["later"])
        assert len(made["partitions"]) == 3
    finally:
        await admin.close()
        await waiting.stop()
    told = [r.getMessage() for r in caplog.records if r.name == "ordermill.kafka" and r.levelname != "INFO"]
    # A client tells minutes later of another test's group that had no partition.
    assert [each for each in told if "group oms." not in each or "group oms.waiting " in each] == []


async def test_a_topic_that_was_not_there_when_partitions_were_shared_out_is_read(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that lost all gets its topics one after another. A client by itself looks again only when its picture of
    the cluster is too old for it.
    """
    monkeypatch.setattr(consuming, "METADATA_AGE_MS", 300_000)
    share_out, shared, read = RoundRobinPartitionAssignor.assign, list[Any](), list[str]()

    def before_it_was_there(cluster: Any, members: Any) -> Any:
        if not shared:
            del cluster._partitions["late"]
        shared.append(members)
        return share_out(cluster, members)

    async def note(records: Any) -> None:
        read.extend(record.topic for record in records)

    async def has_read_late() -> bool:
        return "late" in read

    monkeypatch.setattr(RoundRobinPartitionAssignor, "assign", before_it_was_there)
    await ensure_topics(broker.settings(), ["early", "late"])
    one = Subscriptions(broker.settings(), "one", "1", ["early", "late"], 1, note)
    await one.start()
    watching = asyncio.create_task(one.watch(lambda consuming: None))
    try:
        await broker.send("late", b"{}", [])
        await eventually(has_read_late, timeout_s=20)
    finally:
        watching.cancel()
        await one.stop()


async def test_partitions_that_were_added_while_an_instance_was_away_are_its_own_when_it_is_back(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    """A broker gives a member that comes back under its name what it had, unless it says that something is new."""
    patient = broker.settings(session_timeout_ms=60_000)
    one = await instance()
    await one.consume(patient, "shelf-1")
    await broker.publish([arrived("pot", reference="before")])
    await eventually(shelf_log.has(1))
    await one.vanish()
    await broker.add_partitions(STOCK, 6)
    again = await instance()
    await again.consume(patient, "shelf-1")
    message = arrived("pan", reference="on a new one")
    await broker.send(STOCK, message.to_json(), outside_headers_of(message.to_json()), b"pan", partition=5)
    await eventually(shelf_log.has(2), timeout_s=20)


async def test_a_member_asks_once_to_come_into_its_group(broker: Broker, shelf_log: Log, instance: Open) -> None:
    """Each time it asks otherwise, all others must come in anew: among three that start at once that had no end."""
    one = await instance()
    await one.consume(broker.settings(), "shelf-1")
    await broker.publish([arrived("pot", reference="r")])
    await eventually(shelf_log.has(1))
    assert one.generation() == 1


async def test_instances_that_start_at_once_agree_on_who_reads_what(
    broker: Broker, shelf_log: Log, instance: Open
) -> None:
    several = [await instance() for _ in range(3)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(one.consume(broker.settings(), f"shelf-{n}") for n, one in enumerate(several)))
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(60)])
    await eventually(shelf_log.has(60))

    async def of_one_mind() -> bool:
        return len({one.generation() for one in several}) == 1

    await eventually(of_one_mind)
    agreed = several[0].generation()
    await asyncio.sleep(5)  # a member's next heartbeats tell it of a group that begins again
    assert {one.generation() for one in several} == {agreed}
    assert agreed <= 4


async def test_each_topic_is_kept_as_the_table_says(broker: Broker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        topics = all_topics(SERVICES)
        described = await admin.describe_topics(topics)
        assert {each["topic"]: len(each["partitions"]) for each in described} == dict.fromkeys(topics, 4)
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in topics])
        found = {
            resource[3]: {entry[0]: entry[1] for entry in resource[4]}
            for answer in answers
            for resource in answer.resources
        }
    finally:
        await admin.close()
    for topic in topics:
        wanted = policy_of(topic).configs()
        assert {name: found[topic][name] for name in wanted} == wanted, topic
    assert {topic for topic in topics if found[topic]["cleanup.policy"] == "compact"} == {
        "oms.inventory.availability",
        "oms.orders.status",
    }


async def test_a_topic_that_somebody_made_otherwise_stays_as_it_is(broker: Broker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        await admin.delete_topics([STOCK])

        async def gone() -> bool:
            return STOCK not in await admin.list_topics()

        await eventually(gone)
        made = await admin.create_topics([NewTopic(STOCK, 7, 1, topic_configs={"retention.ms": "3600000"})])
        assert [code for _, code, *_ in made.topic_errors] == [0]

        async def partitions() -> int:
            (described,) = await admin.describe_topics([STOCK])
            return len(described["partitions"])

        assert await eventually(partitions) == 7  # the broker hears of what its controller has made a moment later
        await ensure_topics(broker.settings(), [STOCK])
        assert await partitions() == 7
    finally:
        await admin.close()


async def test_kafkas_own_tool_shows_a_groups_lag(broker: Broker, shelf_log: Log, instance: Open) -> None:
    def lags() -> dict[str, int]:
        said = broker.tool("kafka-consumer-groups.sh", "--describe", "--group", "oms.inventory")
        rows = [line.split() for line in said.splitlines() if line.startswith("oms.inventory")]
        return {f"{row[1]}-{row[2]}": int(row[5]) for row in rows if row[5].isdecimal()}

    one = await instance()
    await one.consume(broker.settings())
    await broker.publish([arrived(f"sku-{n}", reference=f"r{n}") for n in range(40)])
    await eventually(shelf_log.has(40))
    await one.stop_consuming()
    assert set(lags().values()) == {0}
    await broker.publish([arrived(f"sku-{n}", reference=f"late-{n}") for n in range(25)])
    assert sum(lags().values()) == 25


async def test_a_compacted_topic_keeps_the_latest_of_each_key(broker: Broker) -> None:
    topic = "oms.inventory.availability"
    hurry = "segment.ms=100,min.cleanable.dirty.ratio=0.01,max.compaction.lag.ms=100"
    broker.tool("kafka-configs.sh", "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", hurry)
    for number in range(30):
        await broker.send(topic, b"%d" % number, [], key=b"teapot", partition=0)
        await asyncio.sleep(0.01)

    async def compacted() -> list[Any]:
        await broker.send(topic, b"x", [], key=b"cup", partition=0)  # closes the segment before
        left = [record.value for record in await broker.read(topic) if record.key == b"teapot"]
        return left if len(left) == 1 else []

    assert await eventually(compacted, timeout_s=90) == [b"29"]
