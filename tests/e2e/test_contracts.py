"""What goes over topics is what `schemas/` says, and outsiders who know only that are served."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from jsonschema import Draft202012Validator, FormatChecker

from tests.e2e.oddities import say_odd_things
from tests.e2e.running import ROOT, Installation, settled_demo, warehouse_and_carrier
from tests.node import installed

Json = dict[str, Any]
SCHEMAS = ROOT / "schemas"
CLIENTS = ROOT / "samples" / "clients"

BY_CHANCE = {
    "oms.capture.customer-forgotten.v1",  # nobody in the demo asks for it, or for the next two
    "oms.capture.forget-failed.v1",
    "oms.capture.forget-requested.v1",
    "oms.capture.cancellation-declined.v1",  # a cancellation that comes while the location packs
    "oms.capture.order-revised.v1",
    "oms.capture.order-change-settled.v1",  # a person who has dealt with a refused change
    "oms.capture.refund-failed.v1",  # the simulated provider refuses nothing
    "oms.fulfillment.cancellation-declined.v1",
    "oms.fulfillment.label-failed.v1",
    "oms.fulfillment.label-unused.v1",  # sold by a carrier that was given up meanwhile
    "oms.fulfillment.lines-canceled.v1",  # a cancellation that comes just before the location packs
    "oms.fulfillment.rejected.v1",  # one piece of work in dozens
    "oms.inventory.allocation-recalled.v1",
    "oms.inventory.allocation-refused.v1",  # routing's picture was old just then
    "oms.inventory.cancellation-too-late.v1",
    "oms.inventory.recall-declined.v1",  # a cancellation that comes while the location packs
    "oms.inventory.stock-set-aside.v1",  # all locations of the demo ship
    "oms.returns.exchange-requested.v1",  # few who return want other goods
    "oms.returns.goods-waived.v1",  # of what never arrived, or is not worth its way; as are the next two
    "oms.returns.parcel-undelivered.v1",
    "oms.returns.purchase-undelivered.v1",
    "oms.returns.expired.v1",  # nobody in the demo keeps what they wanted to send back
    "oms.returns.purchase-revised.v1",  # a change that came before the order was released
    "oms.returns.refund-failed.v1",
    "oms.returns.units-given-back.v1",
    "oms.routing.order-deferred.v1",  # routing's picture was behind, or no location may ship it
    "oms.routing.order-unroutable.v1",
    "oms.routing.waiting-units-gone.v1",  # units that were given up while routing looked for a location
    "oms.service.letter-redriven.v1",  # what was wrong must be mended first
    "oms.tracking.shipment-came-back.v1",  # one parcel in dozens
    "oms.tracking.shipment-lost.v1",  # one parcel in hundreds
    "oms.tracking.tracking-number-reused.v1",  # after months
}
"""Types that a short run need not bring about."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("contracts") / "home"
    with settled_demo(home, orders=80) as found:
        say_odd_things(found)
        yield found


class Record:
    """A message as a client gets it."""

    def __init__(self, message: Any) -> None:
        self.topic: str = message.topic()
        self.key: bytes | None = message.key()
        self.value: bytes = message.value()
        self.headers: dict[str, bytes] = dict(message.headers() or [])
        self.names = [name for name, _ in message.headers() or []]
        self.type = self.headers.get("ce_type", b"").decode()


@pytest.fixture(scope="module")
def records(installation: Installation) -> list[Record]:
    """Every message on every topic."""
    consumer = Consumer(
        {"bootstrap.servers": installation.kafka, "group.id": f"test-{uuid4()}", "auto.offset.reset": "earliest"}
    )
    topics = consumer.list_topics(timeout=20).topics
    consumer.assign(
        [TopicPartition(name, number, OFFSET_BEGINNING) for name in channels() for number in topics[name].partitions]
    )
    found: list[Record] = []
    try:
        quiet = 0
        while quiet < 5:
            polled = consumer.consume(2_000, 1.0)
            found += [Record(message) for message in polled if not message.error()]
            quiet = 0 if polled else quiet + 1
    finally:
        consumer.close()
    return [record for record in found if record.key != b"odd"]


def channels() -> dict[str, set[str]]:
    """By topic: the types that some service's document says are on it."""
    found: dict[str, set[str]] = {}
    for path in sorted((SCHEMAS / "asyncapi").glob("*.json")):
        for channel in json.loads(path.read_bytes())["channels"].values():
            found.setdefault(channel["address"], set()).update(channel["messages"])
    return found


def closed(schema: Any) -> Any:
    """A schema that lets nothing pass that it does not name: what we send is all told."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) if key not in ("const", "enum", "default") else value for key, value in schema.items()}
    is_object = inner.get("type") == "object" and "properties" in inner
    return inner | {"additionalProperties": False} if is_object else inner


def validator(path: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / path).read_bytes())
    return Draft202012Validator(closed(schema), format_checker=FormatChecker())


def kind_of(name: str) -> str:
    if name.split(".")[1] in ("channel", "carrier", "location"):
        return "outside"
    return "state" if name in ("oms.inventory.availability.v1", "oms.tracking.order-status.v1") else "fact"


def test_every_message_is_what_its_schema_says(records: list[Record]) -> None:
    validators = {name: validator(f"messages/{name}.json") for name in {record.type for record in records}}
    faults = Counter(
        f"{record.type}: {error.json_path}: {error.message}"
        for record in records
        for error in validators[record.type].iter_errors(json.loads(record.value))
    )
    assert not faults
    assert len(records) > 3_000


def test_every_message_is_on_a_topic_that_says_so(records: list[Record]) -> None:
    told = channels()
    assert {(record.topic, record.type) for record in records if record.type not in told[record.topic]} == set()
    assert all(record.key for record in records)


def test_every_message_is_a_cloud_event_with_the_headers_that_are_published(records: list[Record]) -> None:
    validators = {kind: validator(f"headers/{kind}.json") for kind in ("fact", "state", "outside")}
    for record in records:
        assert len(record.names) == len(set(record.names))
        event = from_binary(KafkaMessage(record.headers, record.key, record.value), JSONFormat(), CloudEvent)
        assert (event.get_type(), event.get_specversion()) == (record.type, "1.0")
        assert event.get_data() == json.loads(record.value)
        validators[kind_of(record.type)].validate({name: value.decode() for name, value in record.headers.items()})


def test_a_source_and_an_id_name_one_message(records: list[Record]) -> None:
    contents: dict[tuple[bytes, bytes], set[bytes]] = {}
    for record in records:
        contents.setdefault((record.headers["ce_source"], record.headers["ce_id"]), set()).add(record.value)
    assert [name for name, values in contents.items() if len(values) > 1] == []


def test_nearly_every_type_was_among_them(records: list[Record]) -> None:
    newest: dict[str, str] = {}
    for path in sorted((SCHEMAS / "messages").glob("*.json"), key=lambda path: int(path.stem.rpartition(".v")[2])):
        newest[path.stem.rpartition(".")[0]] = path.stem
    seen = {record.type for record in records}
    assert set(newest.values()) - seen - BY_CHANCE == set()
    assert set(newest.values()) >= BY_CHANCE


def run_client(command: list[str], installation: Installation, sku: str) -> list[Json]:
    """What the client said, once its order is delivered."""
    options = ["--kafka", installation.kafka, "--sku", sku, "--stock", "3", "--timeout", "90"]
    with warehouse_and_carrier(installation):
        done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def node_client() -> list[str]:
    return [installed(CLIENTS / "node"), str(CLIENTS / "node" / "order.mjs")]


@pytest.fixture(scope="module")
def python_client() -> list[str]:
    return [sys.executable, str(CLIENTS / "python" / "order.py")]


@pytest.mark.parametrize("name", ["node_client", "python_client"])
def test_a_foreign_client_places_an_order_and_follows_it_to_the_door(
    name: str, installation: Installation, request: pytest.FixtureRequest
) -> None:
    said = run_client(request.getfixturevalue(name), installation, f"SAMPLE-{name.upper().replace('_', '-')}")
    assert [line["sent"] for line in said if "sent" in line] == [
        "oms.location.stock-arrived.v1",
        "oms.channel.order-placed.v1",
    ]
    assert said[-1]["status"] == "delivered"
    found = installation.get("capture", "/orders", external_id=said[0]["external_id"])["items"]
    assert [order["status"] for order in found] == ["shipped"]


@pytest.mark.parametrize("name", ["node_client", "python_client"])
def test_a_foreign_client_sends_nothing_that_does_not_fit(
    name: str, installation: Installation, request: pytest.FixtureRequest
) -> None:
    command = [*request.getfixturevalue(name), "--kafka", installation.kafka, "--sku", "not a SKU"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "sku" in done.stderr


def test_the_clients_know_nothing_of_ours_but_the_schemas() -> None:
    for path in (CLIENTS / "python" / "order.py", *(CLIENTS / "node").glob("*.mjs")):
        assert "import ordermill" not in path.read_text()
        assert "from ordermill" not in path.read_text()
