"""One order is one trace, from the request that placed it to its door, over six services, people and a carrier."""

from __future__ import annotations

import subprocess
from collections import Counter

import httpx
import pytest

from ordermill.contracts.capture import OrderCaptured
from ordermill.contracts.fulfillment import FulfillmentShipped
from ordermill.contracts.inventory import OrderReserved
from ordermill.contracts.returns import PurchaseDelivered
from ordermill.contracts.routing import OrderRouted
from ordermill.contracts.tracking import ShipmentDelivered
from ordermill.names import SERVICES
from tests.docs.pages import postgres_programs, shell
from tests.operations.collector import Collector, Seen
from tests.operations.place import Place, eventually

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
DELIVERED = ShipmentDelivered.type
CALLER = "11" * 16, "22" * 8
STEPS = OrderCaptured, OrderReserved, OrderRouted, FulfillmentShipped, ShipmentDelivered, PurchaseDelivered
REPORTS = 4
"""Accepted, picked, packed and handed over."""
SCANS = "process oms.carrier.events"


def types_sent(spans: list[Seen]) -> set[object]:
    return {span.attributes.get("cloudevents.event_type") for span in spans if span.kind == PRODUCER}


def named(spans: list[Seen], name: str) -> list[Seen]:
    return [span for span in spans if span.name == name]


@pytest.fixture(scope="module")
async def story(place: Place, collector: Collector) -> list[Seen]:
    """The spans of an order that was placed by a caller with a trace of its own, and delivered."""
    place.receive("TEAPOT", 10, "traces")
    order_id = place.place_order("traced", traceparent=f"00-{CALLER[0]}-{CALLER[1]}-01")
    number = place.ship(order_id)
    eventually(lambda: number in str(place.ask("GET", "tracking", "/shipments?limit=1000")))
    await place.deliver(number)
    eventually(lambda: place.status_of(order_id) == "delivered")

    def whole() -> list[Seen]:
        """Each process sends its spans in its own time: the last to happen is not the last to come."""
        spans = collector.trace(CALLER[0])
        known = {span.span_id for span in spans} | {CALLER[1]}
        heard = {span.attributes.get("cloudevents.event_type") for span in spans if span.service == "returns"}
        come = (
            {fact.type for fact in STEPS} <= types_sent(spans)
            and DELIVERED in heard
            and {span.service for span in spans if span.name == "INSERT events"} == set(SERVICES)
            and len(named(spans, "decide fulfillment")) >= REPORTS
            and named(spans, SCANS)
            and all(span.parent_id in known for span in spans)
        )
        return spans if come else []

    return eventually(whole)


async def test_an_order_is_one_trace_over_all_services_until_it_is_delivered(story: list[Seen]) -> None:
    assert {span.service for span in story} == set(SERVICES)
    assert {fact.type for fact in STEPS} <= types_sent(story)


async def test_every_span_has_its_parent_in_the_trace(story: list[Seen]) -> None:
    known = {span.span_id for span in story} | {CALLER[1]}
    assert [span for span in story if span.parent_id not in known] == []
    roots = [span for span in story if span.parent_id == CALLER[1]]
    assert [(span.service, span.name, span.kind) for span in roots] == [("capture", "POST /orders", SERVER)]


async def test_what_goes_over_kafka_goes_on_with_the_span_that_recorded_it(story: list[Seen]) -> None:
    by_id = {span.span_id: span for span in story}
    received = [span for span in named(story, "process oms.capture.events") if span.service == "inventory"]
    assert received
    for span in received:
        assert span.kind == CONSUMER
        assert by_id[span.parent_id].service == "capture"
        assert span.attributes["messaging.system"] == "kafka"
        assert span.attributes["messaging.consumer.group.name"] == "oms.inventory"


async def test_database_calls_are_parts_of_the_work_that_makes_them(story: list[Seen]) -> None:
    by_id = {span.span_id: span for span in story}
    written = named(story, "INSERT events")
    assert {span.service for span in written} == set(SERVICES)
    for span in written:
        assert span.kind == CLIENT
        assert span.attributes["db.system.name"] == "postgresql"
        assert span.attributes["db.namespace"] == f"oms_{span.service}"
        work = by_id[span.parent_id]
        assert work.began <= span.began <= span.ended
        assert work.service == span.service


async def test_people_and_carriers_are_steps_of_the_orders_trace_linked_to_how_they_came(
    story: list[Seen], collector: Collector
) -> None:
    reports = named(story, "decide fulfillment")
    assert len(reports) == REPORTS
    for span in reports:
        ((trace_id, span_id),) = span.links
        assert trace_id != CALLER[0]
        request = eventually(lambda t=trace_id, s=span_id: [x for x in collector.trace(t) if x.span_id == s])[0]
        assert request.name == "POST /work"
    assert len(named(story, SCANS)) == 1


async def test_effects_are_parts_of_the_trace(story: list[Seen]) -> None:
    (bought,) = [span for span in story if span.name.startswith("effect oms.fulfillment.label-requested")]
    assert bought.attributes["oms.effect.attempt"] == 1


async def test_goods_of_many_orders_join_no_orders_trace(story: list[Seen], place: Place, collector: Collector) -> None:
    place.receive("TEAPOT", 1, "after-traces")
    decided = eventually(
        lambda: [
            s for s in collector.spans if s.name == "decide stock" and s.attributes["oms.streams"] == "stock-TEAPOT"
        ]
    )
    assert all(span.trace_id != CALLER[0] for span in decided)


def test_who_shows_no_token_begins_a_trace_of_their_own(place: Place, collector: Collector) -> None:
    strange = "33" * 16
    httpx.get(place.url("tracking", "/track/nonsense"), headers={"traceparent": f"00-{strange}-{'44' * 8}-01"})
    (span,) = eventually(lambda: [s for s in collector.spans if s.name == "GET /track/{token}"])
    assert span.trace_id != strange
    assert "nonsense" not in str(span.attributes), "a customer's link is a secret"


async def test_names_say_what_kind_of_work_it_is(story: list[Seen]) -> None:
    kinds = Counter(span.kind for span in story)
    assert kinds[PRODUCER] and kinds[CONSUMER] and kinds[CLIENT] and kinds[SERVER]
    assert not any(span.error for span in story)


def test_the_log_tells_an_orders_trace(story: list[Seen], place: Place) -> None:
    """With the command of how-to/trace-an-order.md."""
    _settings, look = shell("how-to/trace-an-order.md")
    order_id = place.ask("GET", "capture", "/orders?external_id=traced")["items"][0]["key"]
    command = f"{postgres_programs()}\n{look.replace('order-ID', f'order-{order_id}')}"
    known = place.environment | place.known
    done = subprocess.run(["bash", "-c", command], env=known, capture_output=True, text=True, check=False)
    assert CALLER[0] in done.stdout, done.stderr
