"""What commands do, over a client or a log that they are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
import typer

from ordermill.cli import dlq, explain, log, orders, returns, stock
from ordermill.cli.client import Client, NotThere, TurnedDown
from ordermill.cli.place import SERVICES, Unreachable
from ordermill.cli.quantities import by_line, exchanged, inspected
from ordermill.cli.terminal import cell, print_table
from ordermill.contracts.channel import OrderCanceled, OrderChanged, OrderPlaced
from ordermill.contracts.service import DeadLettered
from ordermill.doctor.processes import Answers, judged, series
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.records import GENESIS, Row
from ordermill.eventlog.store import Changes
from ordermill.ids import order_id_of
from ordermill.service.deadletters import body_of

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
ORDER_ID = order_id_of("store", "A1")
ORDER = {
    "order_id": ORDER_ID,
    "channel": "store",
    "external_id": "A1",
    "status": "held",
    "holds": [{"reason": "manual", "note": "look"}],
    "reasons": [],
    "lines": [{"line_id": "1", "sku": "TEA", "quantity": 3, "canceled": 0, "cancel_requested": 0, "shipped": 0}],
}

Answer = Callable[[httpx.Request], httpx.Response]


def client(answers: dict[str, Any], seen: list[tuple[str, Any]] | None = None) -> Client:
    """Answers by "METHOD service/path"; what has none is not there. Keeps bodies that were sent."""

    def answer(request: httpx.Request) -> httpx.Response:
        place = f"{request.method} {request.url.host}{request.url.raw_path.decode().partition('?')[0]}"
        if seen is not None and request.content:
            seen.append((place, json.loads(request.content)))
        found = answers.get(place)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, httpx.Response):
            return found
        if callable(found):
            return found(request)  # type: ignore[no-any-return]
        if found is None:
            return httpx.Response(404, json={"detail": f"no such thing: {place}"})
        return httpx.Response(200, json=found)

    urls = {service: f"http://{service}" for service in SERVICES}
    return Client(httpx.Client(transport=httpx.MockTransport(answer)), urls)


def page(*items: dict[str, Any], then: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next": then}


def test_refunds_that_failed_are_asked_for_again_each_under_its_id() -> None:
    refunds = [
        {"refund_id": name, "status": status} for name, status in (("a", "failed"), ("b", "paid"), ("c", "failed"))
    ]
    retried = {f"POST capture/orders/{ORDER_ID}/refunds/{name}/retry": ORDER for name in "ac"}
    seen: list[tuple[str, Any]] = []
    answers = {f"GET capture/orders/{ORDER_ID}": {**ORDER, "refunds": refunds}, **retried}
    assert orders.retry_refunds(client(answers, seen), [ORDER_ID]) == ORDER
    assert [place for place, _ in seen] == list(retried)
    assert orders.retry_refunds(client(answers), [ORDER_ID], "c") == ORDER


def test_an_order_without_a_failed_refund_has_none_to_ask_for_again() -> None:
    with pytest.raises(TurnedDown, match="no refund of it has failed"):
        orders.retry_refunds(client({f"GET capture/orders/{ORDER_ID}": {**ORDER, "refunds": []}}), [ORDER_ID])


def test_refused_changes_that_were_dealt_with_are_settled_one_or_all() -> None:
    waiting = [{"change_id": name, "reason": "too late"} for name in ("revision:2", "c/1")]
    settled = f"POST capture/orders/{ORDER_ID}/settle"
    seen: list[tuple[str, Any]] = []
    answers = {f"GET capture/orders/{ORDER_ID}": {**ORDER, "refused_changes": waiting}, settled: ORDER}
    assert orders.settle_changes(client(answers, seen), [ORDER_ID], note="they keep it") == ORDER
    assert orders.settle_changes(client(answers, seen), [ORDER_ID], "c/1") == ORDER
    assert [(body["change_id"], body["note"]) for _, body in seen] == [
        ("revision:2", "they keep it"), ("c/1", "they keep it"), ("c/1", ""),
    ]  # fmt: skip
    with pytest.raises(TurnedDown, match="no refused change of it waits"):
        orders.settle_changes(client({f"GET capture/orders/{ORDER_ID}": {**ORDER, "refused_changes": []}}), [ORDER_ID])


def test_pages_are_read_to_the_end_or_the_limit() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params.get("after") or 0)
        size = int(request.url.params["limit"])
        keys = list(range(first + 1, min(first + size, 2_500) + 1))
        then = str(keys[-1]) if len(keys) == size else None
        return httpx.Response(200, json=page(*({"key": key} for key in keys), then=then))

    asked = client({"GET capture/orders": answer})
    assert [each["key"] for each in asked.pages("capture", "/orders")] == list(range(1, 2_501))
    assert len(asked.pages("capture", "/orders", 1_200)) == 1_200
    assert len(asked.pages("capture", "/orders", 3)) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Unreachable), (404, NotThere), (409, TurnedDown), (422, TurnedDown), (500, Unreachable), (503, Unreachable)],
)
def test_a_services_no_becomes_an_error_with_its_words(status: int, error: type[Exception]) -> None:
    told = {"detail": "not today", "faults": [{"at": "body.x", "fault": "too long"}]}
    asked = client({"GET capture/orders/1": httpx.Response(status, json=told)})
    with pytest.raises(error, match=r"not today; body\.x: too long"):
        asked.get("capture", "/orders/1")


def test_an_order_is_found_by_its_id_its_channels_id_or_both() -> None:
    answers = {f"GET capture/orders/{ORDER_ID}": ORDER, "GET capture/orders": page(ORDER)}
    for named in ([ORDER_ID], ["A1"], ["store", "A1"]):
        assert orders.find_order(client(answers), named) == ORDER


def test_an_id_that_two_channels_use_needs_its_channel() -> None:
    answers = {"GET capture/orders": page(ORDER, ORDER | {"channel": "pos"})}
    with pytest.raises(TurnedDown, match=r"several channels \(pos, store\): name the channel before it"):
        orders.find_order(client(answers), ["A1"])


def test_an_order_that_is_nowhere_is_not_there() -> None:
    for named in ([ORDER_ID], ["A1"], ["store", "A1"]):
        with pytest.raises(NotThere, match="no order"):
            orders.find_order(client({"GET capture/orders": page()}), named)


def test_an_orders_page_joins_all_services_and_names_those_that_are_silent() -> None:
    answers = {
        f"GET capture/orders/{ORDER_ID}": ORDER,
        f"GET inventory/reservations/{ORDER_ID}": {"lines": []},
        f"GET routing/plans/{ORDER_ID}": httpx.ConnectError("connection refused"),
        "GET fulfillment/fulfillments": page({"fulfillment_id": "f1"}),
        "GET tracking/shipments": page(),
        "GET returns/returns": page(),
    }
    found, silent = orders.whole_order(client(answers), [ORDER_ID])
    assert found == {
        "order": ORDER,
        "status": None,
        "reservation": {"lines": []},
        "plan": None,
        "fulfillments": [{"fulfillment_id": "f1"}],
        "shipments": [],
        "purchase": None,
        "returns": [],
    }
    assert [reason.partition(" at ")[0] for reason in silent] == ["routing"]


def test_canceling_says_how_many_units_are_called_off() -> None:
    line = ORDER["lines"][0]  # type: ignore[index]
    after = ORDER | {"lines": [line | {"canceled": 1, "cancel_requested": 1}]}
    seen: list[tuple[str, Any]] = []
    answers = {f"GET capture/orders/{ORDER_ID}": ORDER, f"POST capture/orders/{ORDER_ID}/cancel": after}
    assert orders.cancel_order(client(answers, seen), [ORDER_ID], {"1": 2}, "changed my mind", "c-1") == (after, 2)
    assert seen == [
        (
            f"POST capture/orders/{ORDER_ID}/cancel",
            {"cancellation_id": "c-1", "lines": [{"line_id": "1", "quantity": 2}], "reason": "changed my mind"},
        )
    ]


def test_a_decision_is_explained_by_its_order_and_only_if_there_is_one() -> None:
    seen = {f"GET capture/orders/{ORDER_ID}": ORDER, f"GET routing/plans/{ORDER_ID}/explanation": {"plan_id": "p"}}
    assert explain.explanation(client(seen), [ORDER_ID]) == {"plan_id": "p"}
    nothing = {f"GET capture/orders/{ORDER_ID}": ORDER}
    with pytest.raises(NotThere, match=f"routing has decided nothing of order {ORDER_ID} yet"):
        explain.explanation(client(nothing), [ORDER_ID])
    with pytest.raises(NotThere, match="under o-7"):
        explain.explanation(client(nothing), [ORDER_ID], "o-7")


def test_nobody_is_forgotten_without_a_clear_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Any]] = []
    answers = {f"GET capture/orders/{ORDER_ID}": ORDER, f"POST capture/orders/{ORDER_ID}/forget": ORDER}
    monkeypatch.setattr(orders, "connect", lambda: client(answers, seen))
    with pytest.raises(typer.BadParameter, match=f"forgets for good who bought order {ORDER_ID}; say --yes"):
        orders.forget([ORDER_ID])
    assert seen == []
    orders.forget([ORDER_ID], yes=True, as_json=True)
    assert seen == [(f"POST capture/orders/{ORDER_ID}/forget", {})]


def test_a_line_that_the_order_has_not_is_wrong_usage() -> None:
    with pytest.raises(typer.BadParameter, match="has no line '7'; it has: 1"):
        orders.cancel_order(client({f"GET capture/orders/{ORDER_ID}": ORDER}), [ORDER_ID], {"7": 1}, "")


def placed(external_id: str) -> OrderPlaced:
    nothing = {"minor": 0, "currency": "USD"}
    return OrderPlaced.model_validate(
        {
            "channel": "store",
            "external_id": external_id,
            "placed_at": MONDAY,
            "ship_to": {"person": {"name": "Ann Lee"}, "country": "US"},
            "lines": [
                {
                    "line_id": "1",
                    "sku": "TEA",
                    "quantity": 1,
                    "unit_price": nothing,
                    "discount": nothing,
                    "tax": nothing,
                }
            ],
            "shipping": nothing,
            "shipping_tax": nothing,
            "total": nothing,
            "payment": {"status": "paid"},
        }
    )


def test_one_order_that_is_refused_stops_no_other() -> None:
    def place(request: httpx.Request) -> httpx.Response:
        order = json.loads(request.content)
        match order["external_id"]:
            case "A2":
                return httpx.Response(409, json={"detail": "no more today"})
            case "A3":
                return httpx.Response(201, json=ORDER | {"status": "rejected", "reasons": ["total is wrong"]})
        return httpx.Response(201, json=ORDER)

    name = {"channel": "store", "external_id": "A1"}
    messages = [
        placed("A1"),
        placed("A2"),
        placed("A3"),
        OrderChanged(**name, revision=1, changed_at=MONDAY),
        OrderCanceled(**name, cancellation_id="c", canceled_at=MONDAY),
    ]
    answers = {"POST capture/orders": place, f"POST capture/orders/{ORDER_ID}/cancel": ORDER}
    taken, refused = orders.submit_messages(client(answers), messages)
    assert len(taken) == 3
    assert refused == [
        "store A2: no more today",
        "store A3: rejected: total is wrong",
        "store A1: a change has no door of its own; publish it on oms.channel.orders",
    ]


def test_what_is_booked_is_dated_by_the_installations_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo's runs ahead: a count by another clock would be older than what has moved."""
    monkeypatch.setenv("OMS_CLOCK_ORIGIN", "2031-05-01T00:00:00+00:00")
    monkeypatch.setenv("OMS_CLOCK_STARTED", (datetime.now(UTC) - timedelta(seconds=10)).isoformat())
    monkeypatch.setenv("OMS_CLOCK_SPEED", "3600")
    seen: list[tuple[str, Any]] = []
    answers = {
        "POST inventory/stock/count": [{"code": None, "detail": None, "events": ["stock-counted"]}],
        "GET inventory/stock/TEA": {"key": "TEA"},
    }
    stock.book(client(answers, seen), "count", "sparks", "TEA", {"counted": 1})
    ((_, (line,)),) = seen
    booked_at = datetime.fromisoformat(line["happened_at"])
    assert timedelta(hours=10) <= booked_at - datetime(2031, 5, 1, tzinfo=UTC) < timedelta(hours=40)


def test_stock_that_is_refused_says_why() -> None:
    refusal = {"events": [], "code": "oms.inventory.stock-rejected.v1", "detail": "no location of ours"}
    answers = {"POST inventory/stock/receive": [refusal]}
    with pytest.raises(TurnedDown, match="TEA at moon: no location of ours"):
        stock.book(client(answers), "receive", "moon", "TEA", {"quantity": 1})


def test_an_exchange_is_asked_for_in_the_currency_of_the_order() -> None:
    seen: list[tuple[str, Any]] = []
    purchase = {"currency": "JPY", "lines": [{"line_id": "1", "sku": "TEA"}]}
    answers = {
        f"GET capture/orders/{ORDER_ID}": ORDER,
        f"GET returns/purchases/{ORDER_ID}": purchase,
        "POST returns/returns": {"status": "authorized"},
    }
    asked = {"reason": "late", "return_id": "R-1"}
    returns.request_return(client(answers, seen), ORDER_ID, {"1": 2}, ["MUG=1@1200"], asked)
    assert seen == [
        (
            "POST returns/returns",
            {
                "reason": "late",
                "return_id": "R-1",
                "order_id": ORDER_ID,
                "lines": [{"line_id": "1", "sku": "TEA", "quantity": 2}],
                "wanted": "exchange",
                "exchange_for": [{"sku": "MUG", "quantity": 1, "unit_price": {"minor": 1200, "currency": "JPY"}}],
            },
        )
    ]


def test_a_return_is_found_by_its_rma_number() -> None:
    found = {"return_id": "R-1", "rma": "R-AAAAA-BBBBB"}
    assert returns.find_return(client({"GET returns/returns": page(found)}), "R-AAAAA-BBBBB") == found
    with pytest.raises(NotThere, match="neither by id nor by RMA number"):
        returns.find_return(client({"GET returns/returns": page()}), "R-2")


def test_quantities_are_read_and_added_up() -> None:
    assert by_line(["1=2", "a=b=1", "1=3"]) == {"1": 5, "a=b": 1}
    assert inspected(["1=2:restock", "1=1:missing"]) == [("1", 2, "restock"), ("1", 1, "missing")]
    assert exchanged(["TEA:1=2@12.50"], "USD") == [
        {"sku": "TEA:1", "quantity": 2, "unit_price": {"minor": 1250, "currency": "USD"}}
    ]


@pytest.mark.parametrize("text", ["TEA=1", "TEA=1@", "TEA=1@x", "TEA=1@1.005", "TEA=1@-1", "TEA=1@NaN", "TEA@1.00"])
def test_a_price_that_is_none_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        exchanged([text], "USD")


def row(stream: str, version: int, second: int, data: bytes = b"{}") -> Row:
    at = MONDAY + timedelta(seconds=second)
    return Row(stream, version, UUID(int=second), "oms.x.y.v1", data, "c", "c", "a", at, at, GENESIS)


async def filled(*rows: Row) -> MemoryStore:
    store = MemoryStore()
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=list(rows)))
    await store.sequence()
    return store


async def test_the_newest_events_of_all_logs_are_merged_by_time() -> None:
    stores = {
        "capture": await filled(row("order-1", 1, 1), row("order-1", 2, 4), row("order-2", 1, 6)),
        "inventory": await filled(row("stock-1", 1, 2), row("stock-1", 2, 3), row("stock-1", 3, 5)),
        "routing": await filled(),
    }
    found = [(name, each.row.event_id.int) async for name, each in log.newest(stores, 4)]
    assert found == [("inventory", 3), ("capture", 4), ("inventory", 5), ("capture", 6)]
    assert [each async for each in log.newest(stores, 0)] == []


async def test_following_goes_on_with_what_comes() -> None:
    store = await filled(row("order-1", 1, 1))
    events = log.newest({"capture": store}, 10, follow=True)
    assert (await anext(events))[1].seq == 1
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=[row("order-1", 2, 2)]))
    await store.sequence()
    assert (await anext(events))[1].seq == 2


def test_every_category_of_the_services_has_an_owner() -> None:
    from importlib import import_module

    found = {}
    for service in SERVICES:
        module = import_module(f"services.{service}.domain")
        for part in (module, *(getattr(module, name, None) for name in ("purchase", "order", "stock"))):
            for value in vars(part).values() if part is not None else ():
                if type(value).__name__ == "Decider":
                    found[value.category] = service
    assert found.items() <= log.OWNERS.items()
    assert {"order", "stock", "reservation", "plan", "fulfillment", "shipment", "return"} <= found.keys()


def letter(letter_id: str, code: str, status: str) -> tuple[str, dict[str, Any]]:
    return letter_id, {"status": status, "code": code}


async def test_letters_are_chosen_by_status_code_and_id() -> None:
    store = MemoryStore()
    letters = dict([letter("a", "x", "waiting"), letter("b", "y", "waiting"), letter("c", "x", "dropped")])
    async with store.transaction() as transaction:
        await transaction.commit(Changes(documents={dlq.VIEW: letters}))

    async def chosen(**wanted: Any) -> list[str]:
        return [key for key, _ in await dlq.letters_of(store, dlq.Wanted(**wanted))]

    assert await chosen() == ["a", "b", "c"]
    assert await chosen(status="waiting", code="x") == ["a"]
    assert await chosen(letter_id="b") == ["b"]


async def test_letters_kept_at_one_moment_are_ended_in_the_order_of_their_topic() -> None:
    later = MONDAY + timedelta(minutes=1)

    class Kept:
        async def read_stream(self, stream: str) -> list[Any]:
            return [SimpleNamespace(recorded_at=later if stream.endswith("first") else MONDAY)]

    places = {"first": ("t", 0, 1), "b": ("t", 0, 7), "c": ("t", 0, 2), "a": ("t", 1, 9), "z": ("s", 3, 9)}
    letters: list[tuple[str, dict[str, Any]]] = [
        (key, {"source_topic": topic, "partition": partition, "offset": offset})
        for key, (topic, partition, offset) in places.items()
    ]
    store: Any = Kept()
    assert [key for key, _ in await dlq._oldest_first(store, letters)] == ["z", "c", "b", "a", "first"]


async def test_a_large_body_is_found_beside_the_log() -> None:
    store = MemoryStore()
    async with store.transaction() as transaction:
        await transaction.commit(Changes(blobs={bytes(32): b"\xff large"}))
    kept = DeadLettered(
        letter_id="a", source_topic="t", partition=0, offset=1, message_type="", message_id="", code="c", reason="r",
        attempts=1, key_base64=None, headers=(), size=7, sha256=bytes(32).hex(), value_base64=None,
    )  # fmt: skip
    assert await body_of(store, kept) == b"\xff large"
    assert await body_of(store, kept.model_copy(update={"value_base64": "aGk="})) == b"hi"


@pytest.mark.parametrize(
    ("status", "unpublished", "verdicts"),
    [(200, 0, ["ok", "ok"]), (503, 0, ["bad", "ok"]), (200, 2_000, ["ok", "warn"]), (200, 200_000, ["ok", "bad"])],
)
def test_the_doctor_judges_a_service_by_its_own_answers(status: int, unpublished: int, verdicts: list[str]) -> None:
    metrics = f'# HELP x y\noms_messages_total{{result="handled"}} 5\noms_unpublished_events {unpublished}.0\n'
    answers = Answers("http://x", status, "", series(metrics))
    assert [each.verdict for each in judged("capture", answers)] == [*verdicts, "ok"]


def test_the_doctor_calls_no_relay_well_that_fails_however_little_waits_for_it() -> None:
    answers = Answers("http://x", 200, "", series("oms_unpublished_events 0.0\noms_relay_failing 1.0\n"))
    (relay,) = [each for each in judged("capture", answers) if each.what == "capture relay"]
    assert (relay.verdict, relay.text) == ("bad", "fails, and publishes nothing: 0 events without a number")
    assert "relay starts over" in relay.remedy


@pytest.mark.parametrize("page", ["", "Internal Server Error", '{"status": 500}'])
def test_the_doctor_calls_nothing_well_that_it_was_told_nothing_of(page: str) -> None:
    found = {each.what: each.verdict for each in judged("capture", Answers("http://x", 200, "", series(page)))}
    assert found == {"capture service": "ok", "capture metrics": "bad"}


def test_nothing_that_a_terminal_would_obey_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cell("a\x1b[2Jb\nc") == "a [2Jb c"
    assert cell({"minor": -150, "currency": "USD"}) == "-1.50 USD"
    print_table(["SKU", "units"], [["TEA", 10], ["MUG\x9b", 5]])
    assert capsys.readouterr().out == "SKU   units\nTEA      10\nMUG       5\n"
