"""The console's pictures of work and of returns say what the services' own views say, whatever happened."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import FormData
from starlette.requests import Request

from ordermill.contracts.base import Fact
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import FulfillmentAccepted, FulfillmentPicked
from ordermill.contracts.returns import RefundRequested
from ordermill.errors import OrdermillError, Refused
from ordermill.network import default_network_text, read_network
from services.console import floor, floor_reports
from services.console.floor_reports import NotCounted
from services.console.picture import Picture
from services.console.pictures.fulfillments import FULFILLMENTS, Fulfillment, Line
from services.console.pictures.returns import RETURNS, Return
from services.console.pictures.steps import Step
from services.console.security import Fields, Session
from services.console.told import Told
from services.fulfillment.domain import FULFILLMENT, Command, decide, fulfillment_summary
from services.returns.domain import RETURN, return_summary
from services.returns.domain.purchase import PURCHASE
from tests.cli.life import MONDAY, Logs, whole_life
from tests.domain.test_fulfillment import CREATED, commands, next_step
from tests.domain.test_returns import Log, ask, delivered_order, graded, inspect, mixed_commands, receive

Summary = Callable[[Any], dict[str, Any]]
ALSO_SEALED = {"destination"}
"""What the console leaves with the service: it shows no address on the floor."""


def as_told(events: Iterable[tuple[str, Fact]], actor: str = "user:Ann") -> list[Told]:
    """Facts as the console is told of them."""
    versions: dict[str, int] = defaultdict(int)
    told = []
    for number, (stream, fact) in enumerate(events, 1):
        versions[stream] += 1
        told.append(
            Told(
                key=UUID(int=number),
                message_id=str(number),
                source="/ordermill/test",
                topic=fact.topic,
                type=fact.type,
                stream=stream,
                version=versions[stream],
                actor=actor,
                correlation_id="",
                causation_id="",
                happened_at=MONDAY,
                data=fact.to_json(),
                message=fact,
                order_id=getattr(fact, "order_id", None),
            )
        )
    return told


def drawn(picture: Picture[Any], told: Sequence[Told]) -> dict[str, Any]:
    documents: dict[str, Any] = {}
    for item in told:
        if type(item.message) in picture.messages:
            for key in picture.keys(item):
                picture.draw(documents.setdefault(key, picture.document()), key, item)
    return documents


def agree(picture: Picture[Any], document: Any, summary: Mapping[str, Any]) -> None:
    """Field by field what the service's own view says."""
    shown = set(summary) - ALSO_SEALED
    assert shown <= set(picture.document.model_fields)
    expected = picture.document.model_validate({name: summary[name] for name in shown})
    ours: Any = {"lines": {"__all__": {"weight_g"}}}
    assert document.model_dump(include=shown, exclude=ours) == expected.model_dump(include=shown, exclude=ours)


def views(events: Iterable[tuple[str, Fact]], decider: Any, summary: Summary) -> dict[str, dict[str, Any]]:
    by_stream: dict[str, list[Fact]] = defaultdict(list)
    for stream, fact in events:
        if stream.startswith(f"{decider.category}-"):
            by_stream[stream.partition("-")[2]].append(fact)
    return {key: summary(decider.fold(facts)) for key, facts in by_stream.items()}


@pytest.fixture(scope="module")
async def life() -> Logs:
    return await whole_life()


@pytest.mark.parametrize(
    ("service", "picture", "decider", "summary"),
    [("fulfillment", FULFILLMENTS, FULFILLMENT, fulfillment_summary), ("returns", RETURNS, RETURN, return_summary)],
)
def test_a_whole_life_looks_as_in_the_services_own_views(
    life: Logs, service: str, picture: Picture[Any], decider: Any, summary: Summary
) -> None:
    own = views(life[service], decider, summary)
    documents = drawn(picture, as_told(life[service]))
    assert len(own) >= 2
    assert set(documents) == set(own)
    for key, document in documents.items():
        agree(picture, document, own[key])
        assert set(picture.columns(document)) == set(picture.columns(picture.document()))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), commands), min_size=6, max_size=25))
def test_whatever_is_done_to_a_fulfillment_order_the_floor_shows_what_fulfillment_shows(
    asked: list[tuple[int, Command]],
) -> None:
    events: list[Any] = [CREATED]
    state = FULFILLMENT.fold(events)
    document = Fulfillment()
    for item in as_told([("fulfillment-F1", CREATED)]):
        FULFILLMENTS.draw(document, "F1", item)
    for at_random, random_command in asked:
        try:
            decided = decide(state, random_command if at_random == 1 else next_step(state))
        except Refused:
            continue
        events += decided
        state = FULFILLMENT.fold(decided, state)
        for item in as_told([("fulfillment-F1", event) for event in events])[len(events) - len(decided) :]:
            FULFILLMENTS.draw(document, "F1", item)
        agree(FULFILLMENTS, document, fulfillment_summary(state))
        assert document.version == len(events)
        assert len(document.steps) == len(events)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_becomes_of_returns_the_desk_shows_what_returns_shows(data: st.DataObject) -> None:
    log: Log = delivered_order()
    for command in mixed_commands(data, {"1": 3, "2": 1}):
        try:
            log.do(command)
        except OrdermillError:
            continue
    documents = drawn(RETURNS, as_told(log.events))
    for key, summary in views(log.events, RETURN, return_summary).items():
        agree(RETURNS, documents[key], summary)
    assert PURCHASE.stream("o-1") in {stream for stream, _ in log.events}


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_interleaving_of_streams_draws_the_same_work_and_returns(life: Logs, data: st.DataObject) -> None:
    told = as_told(life["fulfillment"] + life["returns"])
    streams: dict[str, list[Told]] = defaultdict(list)
    for item in told:
        streams[item.stream].append(item)
    left, mixed = list(streams.values()), []
    while left:
        chosen = data.draw(st.sampled_from(range(len(left))))
        mixed.append(left[chosen][0])
        left[chosen] = left[chosen][1:]
        if not left[chosen]:
            left.pop(chosen)
    for picture in (FULFILLMENTS, RETURNS):
        assert drawn(picture, mixed) == drawn(picture, told)


def test_the_floor_remembers_who_did_what() -> None:
    ids = {"fulfillment_id": "F1", "order_id": CREATED.order_id}
    picked = FulfillmentPicked(**ids, lines=(LineQuantity(line_id="1", sku="TEAPOT", quantity=2),))
    told = as_told([("fulfillment-F1", fact) for fact in (CREATED, FulfillmentAccepted(**ids), picked)])
    told[2].actor = "user:Bob"
    work: Fulfillment = drawn(FULFILLMENTS, told)["F1"]
    assert [(step.did, step.who, step.what) for step in work.steps[1:]] == [
        ("accepted", "Ann", ""),
        ("picked", "Bob", "2 × TEAPOT"),
    ]
    last = work.last("picked")
    assert last is not None and last.who == "Bob"


def test_a_return_waits_for_what_comes_next() -> None:
    log = delivered_order()
    states = []
    for command in (
        ask(teapots=2),
        receive(),
        inspect(graded(1)),
        receive(receipt="g-2"),
        inspect(graded(1), by="i-2"),
    ):
        log.do(command)
        back: Return = drawn(RETURNS, as_told(log.events))["r-1"]
        states.append(back.state)
    assert states == ["on-the-way", "to-inspect", "received", "to-inspect", "refunding"]
    (asked_for,) = log.of(RefundRequested)
    assert (back.refund, back.goods, back.tax) == (asked_for.amount, asked_for.goods, asked_for.tax)
    assert [each.units for each in back.inspected] == [1, 1]


def at_the_shelf(*, short: int = 0) -> Fulfillment:
    """Two teas are to be picked; `short`: so many were reported as not there."""
    lines = [Line(line_id="1", sku="TEA", asked=2, open=0 if short else 2, short=short)]
    steps = [Step(did="short-picked", actor="user:Ann", at=MONDAY, what=f"{short} × TEA")] if short else []
    return Fulfillment(
        fulfillment_id="F1", order_id="o-1", location="reno", stage="accepted", lines=lines, version=2, steps=steps
    )


def sent(**values: str) -> Fields:
    return Fields(FormData([("form_id", "f" * 20), ("seen", "2"), *values.items()]))


async def test_a_report_sent_again_is_answered_with_what_was_done_and_not_with_what_would_come_next_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Doors:
        repeated = False

        async def post(self, *_: Any) -> Any:
            events = [] if self.repeated else ["short-picked"]
            return [{"code": None, "repeated": self.repeated, "events": events, "detail": ""}]

    work, doors = at_the_shelf(), Doors()

    async def now(*_: Any) -> Fulfillment:
        return work

    monkeypatch.setattr(floor_reports, "work_at", now)
    monkeypatch.setattr(floor_reports, "document_when", now)
    request = Request({"type": "http", "headers": [(b"accept", b"application/json")]})

    async def report() -> str:
        form = sent(do="short", **{"found:1": "0"})
        console: Any = SimpleNamespace(doors=doors)
        answer = await floor_reports.pick(request, Session("Ann", ""), form, console, "reno", "F1")
        return str(json.loads(answer.body)["text"])

    assert await report() == "2 not there: taken off this shelf and looked for elsewhere; nothing is left to pack."
    work, doors.repeated = at_the_shelf(short=2), True
    assert await report() == "Ann found units missing at 09:00 UTC: 2 × TEA. It had reached us before, and counts once."


@pytest.mark.parametrize(
    ("now", "begun"),
    [
        (datetime(2026, 3, 3, 0, 30, tzinfo=UTC), datetime(2026, 3, 2, 8, tzinfo=UTC)),  # Monday, 16:30
        (datetime(2026, 3, 3, 9, tzinfo=UTC), datetime(2026, 3, 3, 8, tzinfo=UTC)),  # Tuesday, 01:00
    ],
)
async def test_what_was_handed_over_today_is_of_the_day_at_the_location(now: datetime, begun: datetime) -> None:
    network = read_network(default_network_text())
    west = next(each for each in network.locations if each.zone == "America/Los_Angeles")
    since: list[datetime] = []

    class Pool:
        async def fetch(self, sql: str, *values: Any) -> list[Any]:
            since.extend(value for value in values if isinstance(value, datetime))
            return []

    console: Any = SimpleNamespace(pool=Pool(), clock=lambda: now, network=network)
    await floor.manifest_of(console, west.id, "cedar")
    assert since == [begun]


def test_a_box_with_a_blank_where_a_number_goes_has_none_of_that_line() -> None:
    work = at_the_shelf()
    work.lines.append(Line(line_id="2", sku="POT", asked=1))
    packed = floor_reports.boxes_of(work, sent(**{"box:1:weight": " 500 ", "box:1:1": "2", "box:1:2": " "}))
    tea = {"line_id": "1", "sku": "TEA", "quantity": 2}
    assert packed == [{"package": 1, "weight_g": 500, "lines": [tea]}]
    with pytest.raises(NotCounted, match="Nothing is in a box yet"):
        floor_reports.boxes_of(work, sent(**{"box:1:weight": "500", "box:1:1": " "}))
