"""What capture makes of what channels send: adapted, sealed, decided, one message after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from ordermill.contracts.base import decode
from ordermill.contracts.capture import (
    CancellationRefundRequested,
    Event,
    HoldReason,
    OrderCaptured,
    OrderChangeRefused,
)
from ordermill.contracts.channel import ChannelOrder, OrderChanged, OrderPlaced
from ordermill.contracts.fields import Destination, Money
from ordermill.contracts.personal import Person
from ordermill.contracts.returns import ExchangeLine, ExchangeRequested
from ordermill.contracts.service import DeadLettered
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.keyring import Keyring, MemoryKeyStore
from ordermill.service.declare import Received
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from ordermill.simulation.providers import MemoryPayments
from services.capture.adapters import Adapted
from services.capture.app import core
from services.capture.domain import CancelOrder, ChangeOrder, Stage, decide
from services.capture.domain.order import Order, fold
from services.capture.handlers import Intake
from services.capture.intake import Payloads, Taken
from tests.domain.test_adapters import MONDAY, ONE_MUG, SAMPLES, SHIP_TO, edi, shopify, till

INTAKE = Intake(Keyring(MemoryKeyStore(), b"k" * 32))


def taken(*messages: ChannelOrder) -> tuple[Order, list[Event]]:
    """The order after these messages, and all events on the way."""
    asyncio.run(INTAKE.prepare(messages))
    order, events = Order(), list[Event]()
    for message in messages:
        more = decide(order, INTAKE.command(message, MONDAY))
        order = fold(order, more)
        events += more
    return order, events


# Tax in the prices

SHIPPING_LINE: dict[str, Any] = {"price": "14.90", "discounted_price": "14.90", "tax_lines": [{"price": "2.48"}]}


def test_orders_whose_prices_hold_the_tax_are_captured_with_taxed_shipping() -> None:
    for adapted in (
        shopify(taxes_included=True, shipping_lines=[SHIPPING_LINE], total_price="92.75"),
        edi(
            "SAC*C*D240***500",
            "TXI*VA*0.83*****I***SHIPPING",
            *SHIP_TO,
            ONE_MUG,
            "TXI*VA*1.40*****I",
            "CTT*1",
            "AMT*TT*13.75",
        ),
        till({"tax": "1.67", "tax_included": "yes", "shipping": "5.00", "shipping_tax": "0.83", "total": "15.00"}),
    ):
        assert not adapted.notes
        assert isinstance(taken(*adapted.messages)[1][0], OrderCaptured)


# Voids at the till


def test_a_line_can_be_voided_twice_and_each_void_sent_twice_counts_once() -> None:
    def void(hour: int) -> dict[str, str]:
        return {"kind": "void", "line": "1", "qty": "1", "sold_at": f"2026-03-02T{hour}:00:00Z"}

    sale, first, second = till({"line": "1", "qty": "3"}), till(void(11)), till(void(15))
    both = till(void(11), void(15))
    order, _ = taken(*sale.messages, *first.messages, *second.messages, *both.messages, *first.messages)
    assert order.requested["1"] == 2


# Money that the shop gives back by itself


def test_what_the_shop_has_given_back_is_not_given_back_again() -> None:
    document = orjson.loads((SAMPLES / "shopify" / "order-create.json").read_bytes())
    bad = {**document["shipping_address"], "zip": "9"}  # held, so that the cancellation needs no answer of inventory
    create = shopify(financial_status="paid", shipping_address=bad)
    money = [
        {"id": 5, "kind": "refund", "status": "success", "amount": "97.04"},
        {"id": 6, "kind": "refund", "status": "failure", "amount": "97.04"},
    ]
    refund = {"id": 900, "created_at": "2026-03-03T12:00:00Z", "refund_line_items": [], "transactions": money}
    canceled = shopify(
        "orders/cancelled", cancelled_at="2026-03-03T12:00:00Z", financial_status="refunded", refunds=[refund]
    )
    order, events = taken(*create.messages, *canceled.messages, *canceled.messages)
    assert order.stage is Stage.CANCELED
    assert not [event for event in events if isinstance(event, CancellationRefundRequested)]
    assert order.charged_minor == order.refund_minor == 9704


def test_what_was_authorized_and_never_charged_is_not_given_back() -> None:
    create = shopify(financial_status="authorized")
    at = "2026-03-03T12:00:00Z"
    off = shopify("orders/cancelled", cancelled_at=at, updated_at=at, financial_status="voided")
    after = shopify("orders/updated", cancelled_at=at, updated_at="2026-03-03T12:00:05Z", financial_status="voided")
    for order, events in (
        taken(*create.messages, *off.messages, *after.messages),
        taken(*off.messages, *create.messages, *after.messages),
        taken(*after.messages, *off.messages, *create.messages),
    ):
        assert (order.held_minor, order.refund_minor) == (0, 0)
        assert not [event for event in events if isinstance(event, OrderChangeRefused)]


@pytest.mark.parametrize("heard", ["create paid off", "create off paid", "off create paid", "off paid create"])
def test_what_was_paid_goes_back_also_if_the_cancellation_is_heard_first(heard: str) -> None:
    held = {"shipping_address": {"name": "Ada", "country_code": "US", "zip": "9"}}
    at = "2026-03-03T12:00:00Z"
    hooks = {
        "create": shopify(financial_status="pending", **held),
        "paid": shopify("orders/updated", updated_at="2026-03-03T11:00:00Z", financial_status="paid", **held),
        "off": shopify("orders/cancelled", cancelled_at=at, updated_at=at, financial_status="paid", **held),
    }
    order, events = taken(*(message for name in heard.split() for message in hooks[name].messages))
    assert order.stage is Stage.CANCELED
    assert [event.amount.minor for event in events if isinstance(event, CancellationRefundRequested)] == [9704]


def test_a_unit_that_is_refunded_before_its_order_came_is_called_off_once() -> None:
    create = shopify(financial_status="pending")
    document = orjson.loads((SAMPLES / "shopify" / "order-create.json").read_bytes())
    kettle, tea = document["line_items"]
    at = "2026-03-03T12:00:00Z"
    goods = [{"line_item_id": kettle["id"], "quantity": 1, "restock_type": "cancel"}]
    refunds = [{"id": 900, "order_id": document["id"], "created_at": at, "refund_line_items": goods}]
    less = [{**kettle, "current_quantity": 1, "fulfillable_quantity": 1}, tea]
    update = shopify("orders/updated", updated_at=at, financial_status="pending", line_items=less, refunds=refunds)
    for messages in ((*update.messages, *create.messages), (*create.messages, *update.messages)):
        order, _ = taken(*messages)
        assert [order.open_of(line) for line in order.lines] == [1, 1]


# Edits in the shop


def test_payment_is_heard_also_where_an_edit_added_a_line_that_the_order_does_not_have() -> None:
    document = orjson.loads((SAMPLES / "shopify" / "order-create.json").read_bytes())
    more = {**document["line_items"][1], "id": 15820911946154999, "sku": "TEA-NEW"}
    create = shopify(financial_status="pending")
    paid = shopify(
        "orders/updated",
        updated_at="2026-03-03T10:00:00-05:00",
        financial_status="paid",
        line_items=[*document["line_items"], more],
    )
    assert [hold.reason for hold in taken(*create.messages)[0].holds] == [HoldReason.PAYMENT]
    order, events = taken(*create.messages, *paid.messages)
    assert not order.holds
    assert [event.reason for event in events if isinstance(event, OrderChangeRefused)] == [
        "the order has no line 15820911946154999"
    ]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_payment_is_heard_also_of_an_update_in_the_second_of_another(swapped: bool) -> None:
    create = shopify(financial_status="pending")
    at = "2026-03-03T10:00:00-05:00"
    before, after = (shopify("orders/updated", updated_at=at, financial_status=one) for one in ("pending", "paid"))
    first, second = (after, before) if swapped else (before, after)
    order, events = taken(*create.messages, *first.messages, *second.messages, *first.messages)
    assert order.stage is Stage.RELEASED
    assert order.unpaid_minor == 0
    assert not [event for event in events if isinstance(event, OrderChangeRefused | CancellationRefundRequested)]


def test_a_deposit_goes_back_when_the_order_is_called_off() -> None:
    create = shopify(financial_status="pending")
    deposit = shopify(
        "orders/updated",
        updated_at="2026-03-03T10:00:00-05:00",
        financial_status="partially_paid",
        total_outstanding="67.04",
    )
    order, _ = taken(*create.messages, *deposit.messages)
    assert (order.held_minor, order.unpaid_minor) == (3000, 6704)
    off = CancelOrder(order.order_id, "by-us", MONDAY)
    back = [event.amount.minor for event in decide(order, off) if isinstance(event, CancellationRefundRequested)]
    assert back == [3000]


COUNTER = {"fulfillment_status": "fulfilled", "source_name": "pos", "created_at": "2026-03-02T09:15:30-05:00"}


def handed_over(at: str) -> dict[str, Any]:
    return {**COUNTER, "fulfillments": [{"id": 5, "status": "success", "created_at": at, "line_items": []}]}


@pytest.mark.parametrize("topic", ["orders/updated", "orders/cancelled"])
def test_nothing_waits_for_an_order_that_the_shop_handed_over_at_the_counter(topic: str) -> None:
    sale = handed_over("2026-03-02T09:15:31-05:00")
    assert not shopify(**sale).messages
    later = shopify(topic, updated_at="2026-03-03T10:00:00-05:00", cancelled_at="2026-03-03T10:00:00-05:00", **sale)
    assert not later.messages
    assert [note.code for note in later.notes] == ["shopify.already-fulfilled"]


def test_news_of_an_order_that_was_shipped_later_are_heard() -> None:
    shipped = handed_over("2026-03-02T16:00:00-05:00")
    assert shopify("orders/updated", updated_at="2026-03-03T10:00:00-05:00", **shipped).messages


# Forgetting

ORDERED_BY_TELEPHONE: dict[str, Any] = {"email": None, "contact_email": None, "customer": {"id": 77, "email": None}}
MAIL = ("N1*BY*ACME*92*0017", "PER*BD*ADA*EM*ada@example.com")


@pytest.mark.parametrize(
    ("create", "moved"),
    [
        (
            shopify(**ORDERED_BY_TELEPHONE, financial_status="pending"),
            shopify("orders/updated", **ORDERED_BY_TELEPHONE, shipping_address={"name": "Ada", "country_code": "JP"}),
        ),
        (
            edi(*MAIL, *SHIP_TO, "PO1*1*1*EA*8.75**VP*MUG-A"),
            edi(*MAIL, "N1*ST*ACME 17", "N4*PARIS**75001*FR", beg="BEG*04*SA*PO1**20260302"),
        ),
        (
            edi("N1*BY*ACME*92*0017", *SHIP_TO, "PO1*1*1*EA*8.75**VP*MUG-A"),
            edi("N1*BY*ACME*92*0017", "N1*ST*ACME 17", "N4*PARIS**75001*FR", beg="BEG*04*SA*PO1**20260302"),
        ),
    ],
    ids=["shopify", "x12 with e-mail", "x12"],
)
def test_a_corrected_address_is_forgotten_with_its_customer(create: Adapted, moved: Adapted) -> None:
    before, _ = taken(*create.messages)
    (change,) = (one for one in moved.messages if isinstance(one, OrderChanged) and one.ship_to)
    assert before.customer_id is not None
    asyncio.run(INTAKE.prepare([change]))
    command = INTAKE.command(change, MONDAY)
    assert isinstance(command, ChangeOrder) and command.destination is not None
    assert command.destination.addressee is not None
    assert before.customer_id in command.destination.addressee


# An address beyond any label


@pytest.mark.parametrize("letter", ["Ж", "𐍈", '"', "\n"])
def test_an_order_to_the_longest_address_is_captured_and_held(letter: str) -> None:
    text = letter * 500
    longest = Person(name=text, company=text, street=(text,) * 4, city=text, phone=text, email=text)
    (order,) = shopify().messages
    assert isinstance(order, OrderPlaced)
    address = order.ship_to.model_copy(update={"person": longest})
    now, events = taken(order.model_copy(update={"ship_to": address}))
    assert isinstance(events[0], OrderCaptured)
    assert [hold.reason for hold in now.holds] == [HoldReason.BAD_ADDRESS]
    assert "too long" in now.holds[0].note
    assert now.destination is not None and now.destination.addressee is not None
    opened = asyncio.run(INTAKE._keyring.open([now.destination.addressee]))[now.destination.addressee]
    assert opened is not None and longest.name.startswith(opened.name)


# Exchanges


@pytest.mark.parametrize("forgotten", [False, True])
async def test_an_exchange_for_a_customer_who_was_forgotten_waits_for_a_person(forgotten: bool) -> None:
    """It goes where the first order went, which nobody can read any more: no carrier would get an address."""
    keyring = Keyring(MemoryKeyStore(), b"k" * 32)
    await keyring.ensure(["c-ada"])
    home = Destination(country="US", addressee=keyring.seal("c-ada", Person(name="Ada", street=("1 Main St",))))
    if forgotten:
        await keyring.forget("c-ada")
    price = Money(minor=1800, currency="USD")
    wanted = ExchangeRequested(
        return_id="return-1",
        order_id="order-1",
        channel="shop",
        destination=home,
        lines=(ExchangeLine(sku="TEAPOT", quantity=1, unit_price=price),),
        credit=price,
        requested_at=MONDAY,
        payment_reference="pay-1",
    )
    service = core(Intake(keyring), MemoryPayments())
    await service.prepare([wanted])
    (consumes,) = (each for each in service.consumes if each.message is ExchangeRequested)
    (decision,) = consumes.handle(wanted, Received("m-1", "r-1", MONDAY, MONDAY))
    (stream,) = decision.streams
    order = fold(Order(), [event for _, event in decision.decide({stream: Order()})])
    if not forgotten:
        assert order.stage is Stage.RELEASED
        return
    (hold,) = order.holds
    assert (order.stage, hold.reason) == (Stage.HELD, HoldReason.BAD_ADDRESS)
    assert "the customer was forgotten" in hold.note
    *_, back = decide(order, CancelOrder(order.order_id, "c-1", MONDAY))
    assert isinstance(back, CancellationRefundRequested)
    assert (back.amount, back.payment_reference) == (price, "pay-1")


# Whole payloads


async def kept_of(payloads: Payloads, name: str, payload: bytes, channel: str = "sample") -> tuple[list[Any], Taken]:
    """What capture keeps of one payload, and what it answers."""
    service = core(INTAKE, MemoryPayments())
    running = RunningService(service, Engine(MemoryStore(), service.rules(), lambda: MONDAY), Metrics(), 1)
    answer = await payloads.take(running, name, payload, channel)
    found: list[Any] = []
    async for _, rows in running.engine.store.all_streams():  # type: ignore[attr-defined]
        found += [decode(row.type, row.data) for row in rows]
    return found, answer


async def test_what_one_order_is_turned_away_for_keeps_no_reason_of_its_neighbors_from_being_kept() -> None:
    """Sixty changes of an order that has not come, of which fifty may wait, a line that is no order, and an order."""
    changes = [OrderChanged(channel="sample", external_id="77", revision=n, changed_at=MONDAY) for n in range(1, 61)]
    (order,) = shopify().messages
    lines = [orjson.dumps({"type": one.type, **orjson.loads(one.to_json())}) for one in (*changes, order)]
    lines.append(b'{"type": "oms.channel.order-placed.v1", "channel": "sample"}')
    kept, answer = await kept_of(Payloads(INTAKE), "canonical", b"\n".join(lines))
    assert [fact.external_id for fact in kept if isinstance(fact, OrderCaptured)] == [order.external_id]
    (letter,) = (fact for fact in kept if isinstance(fact, DeadLettered))
    assert letter.code == "capture.not-adapted"
    assert len(answer.rejected) == 11
    assert sum("capture.too-many-parked" in reason for reason in answer.rejected) == 10
    assert answer.rejected[0] in letter.reason


ZONES = {"berlin": "Europe/Berlin", "tills/boston": "America/New_York"}


@pytest.mark.parametrize(
    ("channel", "placed_at", "currency"),
    [("berlin", "2026-03-02T09:00", "EUR"), ("tills", "2026-03-02T15:00", "USD")],
)
async def test_a_file_of_local_times_and_bare_prices_is_read_as_its_channels_settings_say(
    channel: str, placed_at: str, currency: str
) -> None:
    head = "receipt,store,sold_at,sku,qty,unit_price,tender,ship_name,ship_street1,ship_city,ship_country"
    file = f"{head}\n7,boston,2026-03-02T10:00:00,MUG-A,1,10.00,card,Ada,1 Elm,Dublin,IE\n".encode()
    payloads = Payloads(INTAKE, zones=ZONES, currencies={"berlin": "EUR"})
    kept, _ = await kept_of(payloads, "pos-csv", file, channel)
    (order,) = (fact for fact in kept if isinstance(fact, OrderCaptured))
    assert (order.placed_at.isoformat()[:16], order.total.currency) == (placed_at, currency)
    _, elsewhere = await kept_of(payloads, "pos-csv", file, "other")
    assert "OMS_CAPTURE_ZONES" in elsewhere.rejected[0]
