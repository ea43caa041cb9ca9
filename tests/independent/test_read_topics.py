"""The reader of topics finds each kind of fault. That it agrees where all is well shows `make chaos` on real topics."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PATH = Path(__file__).parent / "read_topics.py"
_SPEC = importlib.util.spec_from_file_location("read_topics", PATH)
assert _SPEC is not None and _SPEC.loader is not None
reader = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reader)


class Topics:
    """Facts of all services as they lie on their topics, numbered as the services number them."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self._numbers: dict[str, int] = {}
        self._versions: dict[str, int] = {}

    def say(self, name: str, stream: str, **fact: Any) -> None:
        service = name.partition(".")[0]
        number = self._numbers[service] = self._numbers.get(service, 0) + 1
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        head = {
            "ce_source": f"/ordermill/{service}", "ce_id": f"{service}-{number}", "ce_type": f"oms.{name}.v1",
            "ce_subject": stream, "ce_sequence": str(number), "ce_streamversion": str(version),
        }  # fmt: skip
        headers = tuple((key, value.encode()) for key, value in head.items())
        topic = "oms.inventory.stock" if "sku" in fact else f"oms.{service}.events"
        self.records.append(SimpleNamespace(topic=topic, partition=0, headers=headers, value=json.dumps(fact).encode()))

    def faults(self) -> list[str]:
        wrong: list[str] = []
        reader.check(reader.distinct(self.records, wrong), wrong)
        return wrong


def lines(quantity: int) -> list[dict[str, Any]]:
    return [{"line_id": "1", "quantity": quantity}]


@pytest.fixture
def topics() -> Topics:
    """Four units of an order: one is canceled and paid back, one arrives, one is lost, one comes back."""
    told = Topics()
    told.say("inventory.stock-received", "stock-A", sku="A", quantity=4)
    told.say("capture.order-captured", "order-1", order_id="1", lines=lines(4))
    told.say("inventory.stock-reserved", "stock-A", sku="A", quantity=4)
    told.say("capture.order-lines-canceled", "order-1", order_id="1", lines=lines(1))
    told.say("inventory.stock-let-go", "stock-A", sku="A", quantity=1, was="reserved")
    told.say("capture.refund-requested", "order-1", order_id="1", refund_id="r", amount=5)
    told.say("capture.refunded", "order-1", order_id="1", refund_id="r", amount=5)
    told.say("fulfillment.shipped", "work-1", order_id="1", packages=[{"lines": lines(1)}] * 3)
    told.say("inventory.stock-shipped-out", "stock-A", sku="A", quantity=3)
    for parcel in ("p", "q", "r"):
        told.say("tracking.shipment-announced", parcel, shipment_id=parcel, order_id="1", lines=lines(1))
    told.say("tracking.shipment-delivered", "p", shipment_id="p")
    told.say("tracking.shipment-lost", "q", shipment_id="q")
    told.say("tracking.shipment-came-back", "r", shipment_id="r")
    return told


def test_it_imports_nothing_of_ordermill_and_is_short() -> None:
    tree = ast.walk(ast.parse(PATH.read_text()))
    modules = {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}
    tree = ast.walk(ast.parse(PATH.read_text()))
    modules |= {each.name for node in tree if isinstance(node, ast.Import) for each in node.names}
    assert modules == {"asyncio", "json", "sys", "collections", "urllib.request", "aiokafka"}
    assert len(PATH.read_text().splitlines()) < 150


def test_what_adds_up_is_right_also_where_facts_come_again(topics: Topics) -> None:
    topics.records += topics.records[3:]
    assert topics.faults() == []


def test_an_id_that_comes_again_with_other_content_is_wrong(topics: Topics) -> None:
    again = topics.records[1]
    topics.records.append(SimpleNamespace(**{**vars(again), "value": b'{"order_id": "1"}'}))
    assert topics.faults() == ["('/ordermill/capture', 'capture-1'): comes twice, with different content"]


def test_a_fact_that_never_came_is_wrong(topics: Topics) -> None:
    del topics.records[5]
    found = topics.faults()
    assert "/ordermill/capture: 3 facts, numbered up to 4" in found
    assert "refund r: asked for None, paid [5]" in found


def test_a_stream_out_of_order_is_wrong(topics: Topics) -> None:
    topics.records[1], topics.records[3] = topics.records[3], topics.records[1]
    assert topics.faults() == ["('oms.capture.events', 0, 'order-1'): version 1 comes first after version 2"]


def test_a_stream_that_goes_on_in_an_added_partition_is_in_order(topics: Topics) -> None:
    topics.records[3].partition = 1
    topics.records[1], topics.records[3] = topics.records[3], topics.records[1]
    assert topics.faults() == []


@pytest.mark.parametrize(
    ("name", "fact", "fault"),
    [
        ("fulfillment.shipped", {"order_id": "1", "packages": [{"lines": lines(1)}]}, "1: {'ordered': 4"),
        ("capture.order-lines-canceled", {"order_id": "1", "lines": lines(1)}, "1: {'ordered': 4"),
        ("capture.order-captured", {"order_id": "2", "lines": lines(1)}, "2: {'ordered': 1"),
        ("tracking.shipment-delivered", {"shipment_id": "q"}, None),
        ("capture.refunded", {"refund_id": "r", "amount": 5}, "refund r: asked for 5, paid [5, 5]"),
        ("capture.refund-requested", {"refund_id": "s", "amount": 5}, "refund s: asked for 5, paid []"),
        ("inventory.stock-reserved", {"sku": "A", "quantity": 2}, "A: 2 promised, 1 there, at number 5"),
    ],
)
def test_what_does_not_add_up_is_wrong(topics: Topics, name: str, fact: dict[str, Any], fault: str | None) -> None:
    """A lost parcel that arrives after all is no fault."""
    topics.say(name, "another", **fact)
    found = topics.faults()
    assert len(found) == (fault is not None), found
    assert fault is None or found[0].startswith(fault)


@pytest.mark.parametrize("told", [{"key": "1", "ordered": 4, "canceled": 0, "shipped": 3, "delivered": 1}, None])
def test_http_that_says_otherwise_is_wrong(topics: Topics, monkeypatch: pytest.MonkeyPatch, told: Any) -> None:
    wrong: list[str] = []
    orders = reader.check(reader.distinct(topics.records, wrong), wrong)
    monkeypatch.setattr(reader, "pages", lambda url, token: [told] if told else [])
    reader.compare(orders, "", "", wrong)
    assert len(wrong) == 1 and wrong[0].startswith("1: topics say {'ordered': 4, 'canceled': 1")
