"""Whatever services tell has a sentence that people understand; what may be done to an order says what it does."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import FormData
from starlette.requests import Request

import ordermill.contracts
from ordermill.contracts.base import FAMILIES, Fact, Message
from ordermill.contracts.capture import CancellationDeclined, HoldReason, OrderHeld
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.inventory import AllocationRecalled, CancellationTooLate
from ordermill.contracts.tracking import OrderProgressed, Step
from services.capture.domain import ForgetCustomer
from services.capture.handlers import order_decision
from services.console import acting, bulk
from services.console.order import _pretty
from services.console.pages import Notice
from services.console.pictures.order import Order, Refund
from services.console.pictures.steps import Step as Did
from services.console.possible import Do, action, actions, cancels
from services.console.queue import harmless
from services.console.security import Fields, Session
from services.console.sentences import SENTENCES, sentence
from services.console.timeline import Act, who
from tests.cli.life import MONDAY, usd
from tests.domain.test_console_orders import Story, drawn, facts_of

for module in pkgutil.iter_modules(ordermill.contracts.__path__):
    importlib.import_module(f"ordermill.contracts.{module.name}")

MESSAGES = [each for each in FAMILIES.values() if each.__module__.startswith("ordermill.contracts.")]
MESSAGES.sort(key=lambda each: each.type)
TEXTS = ("teapot-1", "CE12345678", "USD", "US", "0" * 64, "0" * 32, "sealed.v1.c-1.AAAA")


def sample(schema: dict[str, Any], definitions: dict[str, Any], turn: int) -> Any:
    """A value that fits a JSON Schema; each `turn` takes the next of several choices."""
    if "$ref" in schema:
        return sample(definitions[schema["$ref"].rpartition("/")[2]], definitions, turn)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][turn % len(schema["enum"])]
    if "anyOf" in schema:
        return sample(schema["anyOf"][turn % len(schema["anyOf"])], definitions, turn)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {name: sample(part, definitions, turn) for name, part in schema["properties"].items()}
        case "object":
            return {"1": sample(schema["additionalProperties"], definitions, turn)} if turn % 2 else {}
        case "array" if "prefixItems" in schema:
            return [sample(part, definitions, turn) for part in schema["prefixItems"]]
        case "array":
            return [sample(schema["items"], definitions, turn)] * (1 + turn % 2)
        case "string" if schema.get("format") == "date-time":
            return "2026-03-02T09:00:00Z"
        case "string" if schema.get("format") == "date":
            return "2026-03-02"
        case "string":
            return next(text for text in TEXTS if re.search(schema.get("pattern", ""), text))
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return bool(turn % 2)
        case "null":
            return None
    raise AssertionError(schema)


def said(day: datetime) -> str:
    return f"{day:%A}"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
def test_every_message_has_a_sentence_in_plain_words(message: type[Message]) -> None:
    """Facts on a page of their own, and whatever else of the topics caused them or came of them."""
    assert message in SENTENCES
    schema = message.model_json_schema()
    for turn in range(16):
        made = message.model_validate_json(json.dumps(sample(schema, schema.get("$defs", {}), turn)))
        text = sentence(made, said)
        assert text[0].isupper() or text[0].isdigit() or text.startswith("teapot-1"), text
        assert not text.endswith(".")
        assert "None" not in text and "oms." not in text and "<" not in text, text


def test_units_counted_off_are_told_as_no_longer_so() -> None:
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    step = OrderProgressed(order_id="o-1", step=Step.CONFIRMED, happened_at=at, units=-2)
    assert sentence(step, said) == "The customer's status: 2 units no longer confirmed"


@pytest.mark.parametrize("fact", [CancellationDeclined, CancellationTooLate])
def test_a_cancellation_that_came_too_late_is_told_so_and_one_that_was_needless_too(fact: Any) -> None:
    mugs = (LineQuantity(line_id="1", sku="mug", quantity=1),)
    late = fact(order_id="o", cancellation_id="c-1", lines=mugs)
    assert sentence(late, said).startswith("Too late to")
    needless = late.model_copy(update={"cancellation_id": "unroutable:o.3"})
    assert sentence(needless, said) == "mug ×1 not canceled: no longer waiting for a location"
    again = late.model_copy(update={"taken_over_by": "c-2"})
    assert sentence(again, said) == "mug ×1 are called off by a newer cancellation"


@pytest.mark.parametrize(
    ("actor", "source", "name", "kind"),
    [
        ("user:Ann", "/ordermill/capture", "Ann", "person"),
        ("timer:tracking", "/ordermill/tracking", "tracking's clock", "timer"),
        ("effect:returns", "/ordermill/returns", "returns", "service"),
        ("/ordermill/inventory", "/ordermill/routing", "routing", "service"),
        ("/carriers/cedar", "/ordermill/tracking", "carriers/cedar", "outside"),
        ("/shop", "/shop", "shop", "outside"),
    ],
)
def test_who_did_it_is_a_person_a_clock_a_service_or_somebody_outside(
    actor: str, source: str, name: str, kind: str
) -> None:
    assert who(actor, source) == (name, kind)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", '=HYPERLINK("http://x")'])
def test_no_cell_of_an_export_can_be_taken_for_a_formula(text: str) -> None:
    assert harmless(text) == f"'{text}"


def test_cells_that_are_no_formulas_stay_as_they_are() -> None:
    assert [harmless(cell) for cell in ("Tea ×2", "A-1", "", -5)] == ["Tea ×2", "A-1", "", "-5"]


def test_sealed_text_and_unseen_characters_of_an_event_are_shown_as_what_they_are() -> None:
    shown = _pretty(json.dumps({"buyer": "sealed.v1.c-1.AbC_d-e", "note": "a\u202eb<script>"}).encode())
    assert shown is not None
    assert "AbC_d-e" not in shown
    assert "sealed for c-1" in shown
    assert "\\u202e" in shown and "&lt;script&gt;" in shown


def possible(order: Order) -> dict[str, list[str]]:
    """By what is possible, of what."""
    found: dict[str, list[str]] = {}
    for each in actions(order):
        if each.possible:
            assert each.does.endswith((".", "!", "?")) or "It said:" in each.does
            found.setdefault(each.do, []).append(each.of)
        else:
            assert each.reason, each
    return found


async def test_what_may_be_done_follows_an_order_through_its_life() -> None:
    story = Story(8, may_wait=False)
    await story.begin()

    async def order() -> Order:
        return drawn((await facts_of(story.life))[story.order_id])

    asked = await order()
    (fulfillment_id,) = [key for key, held in asked.allocations.items() if held]
    assert possible(asked) == {"reroute": [fulfillment_id], "cancel": [""]}
    units = {line.line_id: asked.cancelable(line) for line in asked.lines}
    assert cancels(asked, units) == (
        "Up to 6 units will not be shipped. What no location holds is canceled at once; edison put back what is not "
        "packed or gets no label. Up to 94.10 USD go back to the customer."
    )
    await story.step("ship")
    assert possible(await order()) == {"forget": [""]}
    await story.step("deliver")
    assert possible(await order()) == {"return": [""], "forget": [""]}
    await story.step("cancel all")
    assert possible(await order()) == {"return": [""], "forget": [""]}
    await story.life.do("capture", order_decision(ForgetCustomer(story.order_id)))
    forgotten = await order()
    assert (forgotten.customer, possible(forgotten)) == ("forgotten", {"return": [""]})
    assert action(forgotten, "forget", "").reason == "the customer was forgotten"


def test_a_refund_that_failed_can_be_tried_again_and_one_under_way_not() -> None:
    order = Order(refunds={"r-1": Refund(amount=usd(100), failure="closed"), "r-2": Refund(amount=usd(50))})
    assert possible(order)["refund"] == ["r-1"]


HELD = OrderHeld(order_id="o", reason=HoldReason.MANUAL)
RECALLED = AllocationRecalled(
    order_id="o",
    fulfillment_id="o.1.1",
    cancellation_id="reroute:1",
    lines=(LineQuantity(line_id="1", sku="mug", quantity=1),),
    reroute="elsewhere",
)


@pytest.mark.parametrize(
    ("do", "of", "mine", "kind", "says"),
    [
        ("hold", "", HELD, "same", "you did that a moment ago: Put on hold, manual"),
        ("reroute", "o.1.1", RECALLED, "same", "you did that a moment ago: mug ×1 called off at a location"),
        ("reroute", "o.1.1", HELD, "refused", "Route again: "),
        ("reroute", "o.1.2", RECALLED, "refused", "Route again: "),
        ("reroute", "o.1.2", None, "refused", "Route again: "),
    ],
)
async def test_what_cannot_be_done_is_said_to_be_done_already_only_by_who_did_that_very_thing(
    do: Do, of: str, mine: Fact | None, kind: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load(*_: Any) -> Order:
        return Order(order_id="o", holds={"manual": ""})

    async def acts(*_: Any) -> list[Act]:
        return [Act("Ann", sentence(mine, said), MONDAY, True, mine)] if mine else []

    told: list[Notice] = []
    monkeypatch.setattr(acting, "load", load)
    monkeypatch.setattr(acting, "acts_since", acts)
    monkeypatch.setattr(acting, "answer", lambda request, notice, back: told.append(notice))
    form = Fields(FormData([("seen", MONDAY.isoformat()), ("of", of)]))
    console: Any = SimpleNamespace(pool=None)
    await acting.act(Request({"type": "http", "headers": []}), Session("Ann", ""), console, "o", do, form)
    assert [notice.kind for notice in told] == [kind]
    assert told[0].text.startswith(says)


async def test_an_order_of_which_a_part_was_done_is_told_so_and_what_can_be_done_is() -> None:
    released: list[str] = []

    class Doors:
        async def post(self, service: str, path: str, body: dict[str, str], me: Session) -> None:
            if body["reason"] == "fraud-risk":
                raise acting.WorkRefused("not just now")
            released.append(body["reason"])

    order = Order(order_id="o", holds={"bad-address": "", "fraud-risk": "", "manual": ""})
    console: Any = SimpleNamespace(doors=Doors())
    why = await bulk._do(console, Session("Ann", ""), order, "release", [*order.holds], "", "form")
    assert released == ["bad-address", "manual"]
    assert why == "2 of 3 done; the rest: not just now"
    assert bulk.summary("release", [bulk.Result(order, why)]) == f"1 not: {why}"


async def test_what_the_page_did_not_announce_is_not_done_to_a_ticked_order() -> None:
    """A colleague's hold, or one for a payment that fell through, may have come after the page was made."""
    released: list[str] = []

    class Doors:
        async def post(self, service: str, path: str, body: dict[str, str], me: Session) -> None:
            released.append(body["reason"])

    order = Order(order_id="o", holds={"bad-address": "", "manual": ""})
    console: Any = SimpleNamespace(doors=Doors())
    why = await bulk._do(console, Session("Ann", ""), order, "release", ["bad-address"], "", "form")
    assert released == ["bad-address"]
    assert why == "1 of 2 done; the rest: it was not there when you looked"
    why = await bulk._do(console, Session("Ann", ""), order, "release", [], "", "form")
    assert released == ["bad-address"]
    assert why == "it was not possible when you looked: look again"


def test_what_a_customer_asked_for_is_told_as_theirs_and_not_as_ours() -> None:
    assert who("customer", "/ordermill/returns") == ("customer", "outside")
    assert Did(did="requested", actor="customer", at=MONDAY).who == "the customer"
    assert Did(did="accepted", actor="user:Ann", at=MONDAY).who == "Ann"
    assert Did(did="expired", actor="timer:returns", at=MONDAY).who == "Ordermill"


async def test_what_happens_while_a_form_is_made_is_news_to_who_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ann releases the order between the two looks; the form is of before."""
    newest = [MONDAY]
    given: dict[str, Any] = {}

    async def load(*_: Any) -> Order:
        newest[0] = MONDAY + timedelta(seconds=1)
        return Order(order_id="o", holds={"manual": ""})

    async def seen_to(*_: Any) -> datetime:
        return newest[0]

    monkeypatch.setattr(acting, "load", load)
    monkeypatch.setattr(acting, "seen_to", seen_to)
    monkeypatch.setattr(acting, "page", lambda *_, **context: given.update(context))
    console: Any = SimpleNamespace(pool=None, network=SimpleNamespace(carriers=()))
    await acting.ask(Request({"type": "http", "headers": []}), Session("Bob", ""), console, "o", "release", "manual")
    assert given["seen"] == MONDAY.isoformat()
