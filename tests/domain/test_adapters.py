"""Channel adapters: what a vendor's bytes become, and what is said about those that become nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ordermill.contracts.channel import (
    Address,
    ChannelLine,
    Customer,
    LineChange,
    OrderCanceled,
    OrderChanged,
    OrderPlaced,
    Payment,
    ServiceLevel,
)
from ordermill.contracts.fields import MAX_MINOR, Money
from ordermill.contracts.personal import Person
from services.capture.adapters import (
    ADAPTERS,
    Adapted,
    AdapterContext,
    CannotRender,
    UnknownFormat,
    adapt,
    decimal_to_minor,
    render,
    verify_shopify_hmac,
)
from services.capture.adapters.amounts import decimal_of, share_out
from services.capture.adapters.base import MAX_REASONS, Unfit, sum_of

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
REAL = ROOT.parent / "shared" / "data"
NEW_YORK = ZoneInfo("America/New_York")
MONDAY = datetime(2026, 3, 2, 14, 15, 30, tzinfo=UTC)
CONTEXT = AdapterContext("sample", MONDAY, zone=NEW_YORK)
OURS = AdapterContext("sample", MONDAY, topic="orders/create", honors_extension=True)


def usd(minor: int) -> Money:
    return Money(minor=minor, currency="USD")


ADA = Address(
    person=Person(
        name="Ada Quill",
        company="Quill & Sons",
        street=("12 Harbor Lane", "Apt 3"),
        city="Portland",
        phone="+12075550143",
        email="ada@example.com",
    ),
    country="US",
    region="ME",
    postal_code="04101",
)
ORDER = OrderPlaced(
    channel="sample",
    external_id="1001",
    placed_at=MONDAY,
    customer=Customer(external_id="77", email="ada@example.com"),
    ship_to=ADA,
    lines=(
        ChannelLine(
            line_id="1", sku="MUG-A", title="Mug A", quantity=2, unit_price=usd(1000), discount=usd(100), tax=usd(105)
        ),
        ChannelLine(
            line_id="2", sku="STICKER", title="Sticker", quantity=1, unit_price=usd(0), discount=usd(0), tax=usd(0)
        ),
    ),
    shipping=usd(499),
    shipping_tax=usd(27),
    total=usd(2531),
    payment=Payment(status="paid"),
    service_level=ServiceLevel.EXPEDITED,
    allow_backorder=True,
)

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=30)
words = texts | st.sampled_from(
    ["", " padded ", "a*b~c>d", "Für Dich ☕", '"quoted", twice', "=1+1", "#N/A", "1.2E+10"]
)
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,19}", fullmatch=True) | st.integers(1, 2**70).map(str)
external_ids = ids | words.filter(bool) | st.sampled_from(["ACME:4500012345", "boston/1/10231", "9007199254740993"])
skus = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,30}", fullmatch=True) | st.sampled_from(
    ["UNKNOWN", "3-Mar", "N/A"]
)
instants = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
people = st.builds(
    Person,
    name=words,
    company=words,
    street=st.lists(words, max_size=4).map(tuple),
    city=words,
    phone=words,
    email=words,
)
addresses = st.builds(
    Address,
    person=people,
    country=st.sampled_from(["US", "DE", "JP"]),
    region=words,
    postal_code=st.sampled_from(["", "04101", "4101", "K2P 1L4", " 1 "]),
)


@st.composite
def orders(draw: st.DrawFn, external: st.SearchStrategy[str] = external_ids) -> OrderPlaced:
    """Orders as the contract allows them, the totals of most adding up."""
    currency = draw(st.sampled_from(["USD", "EUR", "JPY", "KWD"]))

    def money(low: int = 0, high: int = 10**7) -> Money:
        return Money(minor=draw(st.sampled_from([0, 1, 5, 1999]) | st.integers(low, high)), currency=currency)

    lines = tuple(
        ChannelLine(
            line_id=line_id,
            sku=draw(skus),
            title=draw(words),
            quantity=draw(st.integers(1, 1_000_000)),
            unit_price=money(),
            discount=money(-500),
            tax=money(),
            weight_g=draw(st.none() | st.integers(0, 100_000)),
            final_sale=draw(st.booleans()),
        )
        for line_id in draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    )
    order = OrderPlaced(
        channel="sample",
        external_id=draw(external),
        placed_at=draw(instants),
        customer=draw(st.none() | st.builds(Customer, external_id=words, email=words)),
        ship_to=draw(addresses),
        lines=lines,
        shipping=money(),
        shipping_tax=money(),
        tax_included=draw(st.booleans()),
        total=money(),
        payment=Payment(
            status=draw(st.sampled_from(["paid", "authorized", "pending", "invoice"])),
            reference=draw(st.none() | words.filter(lambda text: bool(text) and "\n" not in text)),
        ),
        service_level=draw(st.sampled_from(ServiceLevel)),
        allow_backorder=draw(st.booleans()),
        risk=draw(st.sampled_from(["low", "medium", "high"])),
        hold=draw(words),
    )
    return with_total(order) if draw(st.integers(0, 3)) else order


def with_total(order: OrderPlaced) -> OrderPlaced:
    return order.model_copy(update={"total": Money(minor=sum_of(order), currency=order.total.currency)})


def placed(adapted: Adapted) -> OrderPlaced:
    assert not adapted.rejections
    (message,) = adapted.messages
    assert isinstance(message, OrderPlaced)
    return message


def codes(reasons: Iterable[Any]) -> list[str]:
    return [reason.code.partition(".")[2] for reason in reasons]


def sample(name: str, **context: Any) -> Adapted:
    path = SAMPLES / name
    return adapt(path.parent.name, path.read_bytes(), AdapterContext("sample", MONDAY, zone=NEW_YORK, **context))


def check(name: str, adapted: Adapted) -> None:
    """What holds of any result: never silent, messages of this channel, reasons that help."""
    assert adapted.messages or adapted.rejections or adapted.notes
    for message in adapted.messages:
        assert isinstance(message, OrderPlaced | OrderChanged | OrderCanceled)
        assert message.channel == "sample"
        assert type(message).from_json(message.to_json()) == message
    for reason in (*adapted.rejections, *adapted.notes):
        assert re.fullmatch(rf"{name}\.[a-z0-9-]+", reason.code)
        assert reason.where
        assert len(reason.text) > 20


QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)


class AdapterSuite:
    """What every adapter must do. A new one inherits this and names itself."""

    name: str
    one_bad_between_two: str
    max_bytes = 2**20
    refuses_other_than_utf8 = True

    @QUICK
    @given(order=orders())
    def test_an_order_comes_back_as_it_was(self, order: OrderPlaced) -> None:
        payload = render(self.name, order)
        assert placed(adapt(self.name, payload, OURS)) == order
        check(self.name, adapt(self.name, payload, OURS))

    def test_an_order_of_many_lines_comes_back_as_it_was(self) -> None:
        many = tuple(
            ORDER.lines[0].model_copy(
                update={"line_id": str(number), "sku": f"MUG-{number}", "title": f"Mug {number} ☕"}
            )
            for number in range(1, 676)
        )
        order = with_total(ORDER.model_copy(update={"lines": many}))
        assert placed(adapt(self.name, render(self.name, order), OURS)) == order

    def test_goods_and_money_need_no_extension(self) -> None:
        context = AdapterContext("sample", MONDAY, topic="orders/create", zone=UTC)
        plain = placed(adapt(self.name, render(self.name, ORDER), context))
        for kept in ("channel", "placed_at", "lines", "shipping", "shipping_tax", "total", "ship_to"):
            assert getattr(plain, kept) == getattr(ORDER, kept)
        assert plain.service_level is ServiceLevel.EXPEDITED

    def test_an_order_in_two_currencies_is_rendered_whole_or_not_at_all(self) -> None:
        mixed = ORDER.model_copy(update={"shipping": Money(minor=1, currency="EUR")})
        if self.name == "canonical":
            assert placed(adapt(self.name, render(self.name, mixed), OURS)) == mixed
        else:
            with pytest.raises(CannotRender, match="EUR, USD"):
                render(self.name, mixed)

    @QUICK
    @given(payload=st.binary(max_size=200))
    def test_any_bytes_give_a_reason_and_no_exception(self, payload: bytes) -> None:
        adapted = adapt(self.name, payload, CONTEXT)
        check(self.name, adapted)
        assert not adapted.messages

    @QUICK
    @given(data=st.data())
    def test_a_damaged_payload_gives_messages_or_reasons(self, data: st.DataObject) -> None:
        payload = bytearray(render(self.name, ORDER))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, max(len(payload) - 1, 0)))
            junk = data.draw(
                st.sampled_from([b"", b'"', b"[", b"*", b"~", b"\n", b"-", b"9" * 30, b"NaN", b"\xff", b"\0"])
            )
            payload[at : at + data.draw(st.integers(0, 9))] = junk
        check(self.name, adapt(self.name, bytes(payload), OURS))

    def test_one_bad_order_does_not_stop_its_neighbors(self) -> None:
        adapted = sample(self.one_bad_between_two)
        assert len(adapted.messages) == 2
        assert len(adapted.rejections) == 1

    @pytest.mark.parametrize("nothing", [b"", b" \n\t "])
    def test_nothing_is_refused_as_empty(self, nothing: bytes) -> None:
        assert codes(adapt(self.name, nothing, CONTEXT).rejections) == ["empty"]

    def test_more_than_the_limit_is_refused_unread(self) -> None:
        assert ADAPTERS[self.name].max_bytes == self.max_bytes
        adapted = adapt(self.name, b"x" * (self.max_bytes + 1), CONTEXT)
        assert codes(adapted.rejections) == ["too-large"]

    def test_text_that_is_not_utf8_is_refused(self) -> None:
        if self.refuses_other_than_utf8:
            latin = render(self.name, ORDER).replace(b"Mug A", "Crème".encode("latin-1"))
            assert codes(adapt(self.name, latin, CONTEXT).rejections) == ["not-utf-8"]

    def test_the_extension_of_strangers_is_ignored(self) -> None:
        risky = ORDER.model_copy(update={"risk": "high", "payment": Payment(status="pending", reference="pay_1")})
        payload = render(self.name, risky)
        stranger = placed(adapt(self.name, payload, AdapterContext("sample", MONDAY, topic="orders/create", zone=UTC)))
        assert placed(adapt(self.name, payload, OURS)) == risky
        assert (stranger == risky) == (self.name in ("canonical", "pos-csv"))

    def test_the_same_bytes_always_give_the_same(self) -> None:
        payload = render(self.name, ORDER)
        assert payload == render(self.name, ORDER)
        assert adapt(self.name, payload, OURS) == adapt(self.name, payload, OURS)


class TestCanonical(AdapterSuite):
    name = "canonical"
    one_bad_between_two = "canonical/one-bad-between-two.jsonl"


class TestShopify(AdapterSuite):
    name = "shopify"
    one_bad_between_two = "shopify/orders-list-one-broken.json"
    max_bytes = 8 * 2**20


class TestX12(AdapterSuite):
    name = "x12-850"
    one_bad_between_two = "x12-850/one-bad-between-two.edi"
    max_bytes = 16 * 2**20
    refuses_other_than_utf8 = False


class TestPosCsv(AdapterSuite):
    name = "pos-csv"
    one_bad_between_two = "pos-csv/one-bad-between-two.csv"
    max_bytes = 16 * 2**20


def test_every_format_passes_the_suite() -> None:
    assert {suite.name for suite in AdapterSuite.__subclasses__()} == set(ADAPTERS)


def test_an_unknown_format_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownFormat, match="canonical, pos-csv, shopify, x12-850"):
        adapt("x12-940", b"ISA", CONTEXT)


# Samples


def table() -> Iterator[tuple[str, list[str]]]:
    """The rows of samples/README.md, by file."""
    name = ""
    for line in (SAMPLES / "README.md").read_text(encoding="utf-8").split("\n"):
        if line.startswith("## "):
            name = line[3:]
        elif line.startswith("| ") and not line.startswith(("| file", "| ---")):
            file, _, *rest = (cell.strip() for cell in line.strip("| ").split(" | "))
            yield f"{name}/{file}", rest


def counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in Counter(names).items()) or "–"


@pytest.mark.parametrize(("file", "says"), list(table()), ids=[file for file, _ in table()])
def test_a_sample_becomes_what_its_table_says(file: str, says: list[str]) -> None:
    adapted = sample(file, topic=None if says[0] == "–" else says[0])
    check(file.partition("/")[0], adapted)
    messages = counted(type(message).__name__ for message in adapted.messages)
    assert [messages, counted(codes(adapted.rejections)), counted(codes(adapted.notes))] == says[1:]


def test_every_sample_stands_in_the_table() -> None:
    there = {f"{name}/{path.name}" for name in ADAPTERS for path in (SAMPLES / name).iterdir()}
    assert there == {file for file, _ in table()}


# Money


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.99", "USD", 1299),
        ("12.9", "USD", 1290),
        ("12", "USD", 1200),
        (".5", "USD", 50),
        ("-3.10", "USD", -310),
        ("19.9500", "USD", 1995),
        ("1980", "JPY", 1980),
        ("1980.00", "JPY", 1980),
        ("1.005", "KWD", 1005),
        ("0.07", "USD", 7),
        ("10000000000000.00", "USD", MAX_MINOR),
        ("4503599627370.49", "USD", 450359962737049),
    ],
)
def test_a_decimal_becomes_minor_units_exactly(text: str, currency: str, minor: int) -> None:
    assert decimal_to_minor(text, currency) == minor


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("12.999", "too-many-decimals"),
        ("NaN", "not-an-amount"),
        ("Infinity", "not-an-amount"),
        ("1e3", "not-an-amount"),
        ("1,299.00", "not-an-amount"),
        ("", "not-an-amount"),
        ("-", "not-an-amount"),
        (".", "not-an-amount"),
        ("12.", "not-an-amount"),
        ("$12", "not-an-amount"),
        ("١٢", "not-an-amount"),
        ("12\n", "not-an-amount"),
        ("10000000000000.01", "amount-out-of-range"),
        ("9" * 40, "not-an-amount"),
    ],
)
def test_what_is_no_exact_amount_is_refused(text: str, code: str) -> None:
    with pytest.raises(Unfit) as refused:
        decimal_to_minor(text, "USD")
    assert refused.value.reason.code == code


@given(st.integers(-MAX_MINOR, MAX_MINOR), st.sampled_from(["USD", "JPY", "KWD"]))
def test_minor_units_written_as_decimals_come_back(minor: int, currency: str) -> None:
    assert decimal_to_minor(decimal_of(Money(minor=minor, currency=currency)), currency) == minor


@given(st.integers(-MAX_MINOR, MAX_MINOR), st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_shares_add_up_to_the_amount(minor: int, weights: list[int]) -> None:
    assert sum(share.minor for share in share_out(usd(minor), weights)) == minor


# Shopify


def shopify(topic: str | None = "orders/create", drop: tuple[str, ...] = (), **fields: Any) -> Adapted:
    document = json.loads((SAMPLES / "shopify" / "order-create.json").read_bytes()) | fields
    for name in drop:
        del document[name]
    return adapt("shopify", json.dumps(document).encode(), AdapterContext("sample", MONDAY, topic=topic))


def test_a_test_of_the_shop_is_taken_and_held() -> None:
    adapted = shopify(test=True)
    assert codes(adapted.notes) == ["test-order"]
    assert placed(adapted) == placed(shopify()).model_copy(update={"hold": "marked as a test by the shop"})


def test_ids_above_two_to_the_fifty_third_keep_every_digit() -> None:
    order = placed(sample("shopify/order-create.json", topic="orders/create"))
    assert order.external_id == "9007199254740993"
    assert [line.line_id for line in order.lines] == ["15820911946154509", "15820911946154510"]


def test_a_shopify_order_is_read_whole() -> None:
    assert placed(sample("shopify/order-create.json", topic="orders/create")) == OrderPlaced(
        channel="sample",
        external_id="9007199254740993",
        placed_at=MONDAY,
        customer=Customer(external_id="7713290458841", email="ada@example.com"),
        ship_to=ADA.model_copy(update={"person": ADA.person.model_copy(update={"company": ""})}),
        lines=(
            ChannelLine(
                line_id="15820911946154509",
                sku="KETTLE-ENAMEL-RED",
                title="Enamel Kettle - Red",
                quantity=2,
                unit_price=usd(3400),
                discount=usd(680),
                tax=usd(337),
                weight_g=350,
            ),
            ChannelLine(
                line_id="15820911946154510",
                sku="TEA-SENCHA-100",
                title="Sencha 100 g",
                quantity=1,
                unit_price=usd(1850),
                discount=usd(185),
                tax=usd(92),
                weight_g=110,
            ),
        ),
        shipping=usd(1490),
        shipping_tax=usd(0),
        total=usd(9704),
        payment=Payment(status="paid"),
        service_level=ServiceLevel.EXPEDITED,
    )


def test_money_is_what_the_customer_was_charged() -> None:
    order = placed(sample("shopify/order-create-presentment-eur.json", topic="orders/create"))
    assert order.total == Money(minor=6165, currency="EUR")
    assert order.lines[0].tax == Money(minor=984, currency="EUR")
    assert sum_of(order) == order.total.minor


def test_an_order_discount_and_tax_are_shared_over_the_lines_to_the_cent() -> None:
    order = placed(sample("shopify/order-create-order-level-amounts.json", topic="orders/create"))
    assert [line.discount.minor for line in order.lines] == [33, 33, 34]
    assert [line.tax.minor for line in order.lines] == [103, 103, 104]
    assert sum_of(order) == order.total.minor


def test_shipping_is_without_its_tax_also_where_the_prices_hold_theirs() -> None:
    taxed = {"discounted_price": "14.90", "price": "14.90", "tax_lines": [{"price": "2.48"}]}
    order = placed(shopify(taxes_included=True, shipping_lines=[taxed], total_price="92.75"))
    assert (order.shipping, order.shipping_tax, order.tax_included) == (usd(1242), usd(248), True)
    assert sum_of(order) == order.total.minor


def test_what_is_not_shipped_is_left_out_with_its_money() -> None:
    order = placed(sample("shopify/order-create-gift-card-and-tip.json", topic="orders/create"))
    assert [line.sku for line in order.lines] == ["MUG-A"]
    assert order.total == usd(1055)


def test_a_line_without_a_sku_goes_by_its_variant() -> None:
    order = placed(sample("shopify/order-create-no-sku-free.json", topic="orders/create"))
    assert order.lines[0].sku == str(15820911946154641 - 1000)


def test_an_update_tells_edits_from_cancellations_and_returns() -> None:
    at = datetime(2026, 3, 3, 16, 0, 2, tzinfo=UTC)
    mug_a, mug_b, mug_c = "15820911946154651", "15820911946154652", "15820911946154653"
    assert sample("shopify/order-updated.json", topic="orders/updated").messages == (
        OrderCanceled(
            channel="sample",
            external_id="5521190034427",
            cancellation_id="refund-929361462001",
            canceled_at=at - timedelta(seconds=2),
            lines=(LineChange(line_id=mug_b, quantity=1),),
            reason="Customer ordered one too many",
        ),
        OrderChanged(
            channel="sample",
            external_id="5521190034427",
            revision=int(at.timestamp()) * 1_000_000 + 12,  # partially refunded: far on among updates of one second
            changed_at=at,
            lines=(
                LineChange(line_id=mug_a, quantity=2),  # an edit took one away
                LineChange(line_id=mug_b, quantity=1),  # the refund above took one away
                LineChange(line_id=mug_c, quantity=1),  # it came back, after it was shipped
            ),
        ),
        OrderChanged(
            channel="sample",
            external_id="5521190034427",
            revision=int(at.timestamp()) * 1_000_000 + 13,
            changed_at=at,
            payment=Payment(status="paid"),
        ),
    )


def parts_of(adapted: Adapted) -> list[str]:
    """What each change is about, in the order of their revisions, which follow on each other."""
    changes = [message for message in adapted.messages if isinstance(message, OrderChanged)]
    assert [change.revision - changes[0].revision for change in changes] == list(range(len(changes)))
    about = (change.model_dump(include={"lines", "payment", "ship_to"}).items() for change in changes)
    return [" ".join(name for name, value in part if value) for part in about]


def test_units_payment_and_address_change_apart_so_that_one_may_be_refused_or_come_too_late() -> None:
    assert parts_of(shopify("orders/updated")) == ["lines", "payment", "ship_to"]


def test_money_that_did_not_come_is_told_before_the_units_are_taken_off() -> None:
    assert parts_of(shopify("orders/updated", financial_status="voided")) == ["payment", "lines", "ship_to"]


def test_what_shipped_in_part_goes_to_the_address_it_has() -> None:
    assert parts_of(shopify("orders/updated", fulfillment_status="partial")) == ["lines", "payment"]


def test_a_refund_and_the_update_after_it_cancel_under_one_id() -> None:
    (alone,) = sample("shopify/refund-create.json", topic="refunds/create").messages
    assert alone == sample("shopify/order-updated.json", topic="orders/updated").messages[0]


def mugs(quantity: int, refunds: Iterable[tuple[int, str]], shipped: int = 0, to_ship: int = 0) -> Adapted:
    """An update of an order of mugs: these units refunded, so many shipped, so many still to ship."""
    back = [
        {"id": 900 + at, "created_at": f"2026-03-02T1{at}:00:00Z"}
        | {"refund_line_items": [{"line_item_id": 11, "quantity": units, "restock_type": restock}]}
        for at, (units, restock) in enumerate(refunds)
    ]
    status = ("fulfilled" if not to_ship else "partial") if shipped else None
    mug = {"id": 11, "sku": "MUG-A", "price": "12.00", "quantity": quantity, "fulfillable_quantity": to_ship}
    mug |= {"current_quantity": quantity - sum(units for units, _ in refunds), "fulfillment_status": status}
    sent = [{"id": 5, "status": "success", "line_items": [{"id": 11, "quantity": shipped}]}] if shipped else []
    return shopify("orders/updated", line_items=[mug], refunds=back, fulfillments=sent, fulfillment_status=status)


@pytest.mark.parametrize(
    ("adapted", "called_off", "wanted"),
    [
        (mugs(2, [(1, "no_restock")], to_ship=1), [("refund-900", 1)], 1),
        (mugs(2, [(1, "no_restock")], shipped=1), [("refund-900", 1)], 1),  # and then the other one shipped
        (mugs(2, [(1, "no_restock")], shipped=2), [], 2),  # it had shipped
        (mugs(3, [(1, "no_restock")], shipped=1, to_ship=1), [("refund-900", 1)], 2),
        (mugs(3, [(1, "no_restock")], shipped=2, to_ship=1), [], 3),
        (mugs(4, [(1, "cancel"), (1, "no_restock")], shipped=2, to_ship=1), [("refund-900", 1)], 3),
        (mugs(4, [(1, "return"), (2, "no_restock")], shipped=2), [("refund-901", 2)], 2),
        (mugs(3, [(1, "no_restock"), (1, "no_restock")], shipped=2), [("refund-900", 1)], 2),
    ],
)
def test_what_is_refunded_before_it_shipped_is_called_off_and_stays_so(
    adapted: Adapted, called_off: list[tuple[str, int]], wanted: int
) -> None:
    canceled = [message for message in adapted.messages if isinstance(message, OrderCanceled)]
    assert [(one.cancellation_id, one.lines[0].quantity) for one in canceled] == called_off
    changes = [line for message in adapted.messages if isinstance(message, OrderChanged) for line in message.lines]
    assert changes == [LineChange(line_id="11", quantity=wanted)]


def test_a_shop_that_does_not_say_what_it_shipped_leaves_it_to_capture_what_is_called_off() -> None:
    refund = {"line_item_id": 11, "quantity": 1, "restock_type": "no_restock"}
    refunds = [{"id": 900, "created_at": "2026-03-02T12:00:00Z", "refund_line_items": [refund]}]
    mug = {"id": 11, "sku": "MUG-A", "price": "12.00", "quantity": 3, "current_quantity": 2}
    mug |= {"fulfillable_quantity": 1, "fulfillment_status": "partial"}
    first, *_ = shopify("orders/updated", line_items=[mug], refunds=refunds, fulfillment_status="partial").messages
    assert isinstance(first, OrderCanceled)
    assert first.lines == (LineChange(line_id="11", quantity=1),)


def test_without_a_topic_a_canceled_order_is_placed_and_canceled() -> None:
    document = (SAMPLES / "shopify" / "order-cancelled.json").read_bytes()
    order, payment, canceled = adapt("shopify", document, CONTEXT).messages
    assert isinstance(order, OrderPlaced)
    assert isinstance(payment, OrderChanged)
    assert isinstance(canceled, OrderCanceled)
    assert (canceled.cancellation_id, canceled.lines) == ("cancel-9007199254740993", ())


def test_an_order_that_comes_as_a_refund_is_not_dropped_without_a_word() -> None:
    assert codes(shopify("refunds/create").rejections) == ["not-a-refund"]


def test_an_order_that_says_it_is_not_canceled_cancels_nothing() -> None:
    assert codes(shopify("orders/cancelled").rejections) == ["not-canceled"]


@pytest.mark.parametrize(
    ("status", "terms", "expected"),
    [
        ("paid", None, "paid"),
        ("partially_refunded", None, "paid"),
        ("authorized", None, "authorized"),
        ("partially_paid", None, "pending"),
        ("voided", None, "pending"),
        (None, None, "pending"),
        ("pending", {"payment_terms_type": "net"}, "invoice"),
        ("paid", {"payment_terms_type": "net"}, "paid"),
        ("partially_refunded", {"payment_terms_type": "net"}, "paid"),
    ],
)
def test_a_financial_status_is_a_payment(status: str | None, terms: Any, expected: str) -> None:
    assert placed(shopify(financial_status=status, payment_terms=terms)).payment.status == expected


@pytest.mark.parametrize(
    ("fields", "paid"),
    [
        ({"total_outstanding": "67.04"}, usd(3000)),
        ({"total_outstanding": "37.04", "current_total_price": "67.04"}, usd(3000)),
        ({"total_outstanding": "97.04"}, usd(0)),
        ({"total_outstanding": "98.00"}, usd(0)),
        ({}, None),
    ],
)
def test_of_an_order_that_is_partly_paid_the_rest_is_outstanding(fields: dict[str, Any], paid: Money | None) -> None:
    payment = Payment(status="pending", paid=paid)
    assert placed(shopify(financial_status="partially_paid", **fields)).payment == payment
    updated = shopify("orders/updated", financial_status="partially_paid", **fields).messages
    assert [one.payment for one in updated if isinstance(one, OrderChanged) and one.payment] == [payment]


@pytest.mark.parametrize(
    ("title", "level"),
    [
        ("Express", "expedited"),
        ("FedEx 2Day", "expedited"),
        ("UPS 2nd Day Air", "expedited"),
        ("Second-day delivery", "expedited"),
        ("1 day", "expedited"),
        ("Economy (8-12 days)", "standard"),
        ("Sea mail, 21 days", "standard"),
        ("UPS 3 Day Select", "standard"),
        ("22nd day", "standard"),
    ],
)
def test_a_shipping_line_says_how_fast_it_is(title: str, level: str) -> None:
    order = placed(shopify(shipping_lines=[{"code": None, "title": title, "price": "0.00"}]))
    assert order.service_level.value == level


def test_the_largest_order_of_a_shop_is_read() -> None:
    document = json.loads((SAMPLES / "shopify" / "order-create.json").read_bytes())
    mugs = [document["line_items"][0] | {"id": line, "name": "Mug " * 60} for line in range(1, 501)]
    sent = [{"id": 5, "status": "success", "line_items": mugs}]
    refunds = [{"line_item_id": mug["id"], "quantity": 1, "restock_type": "return", "line_item": mug} for mug in mugs]
    back = [{"id": 900, "created_at": "2026-03-02T12:00:00Z", "refund_line_items": refunds}]
    adapted = shopify(
        "orders/updated", line_items=mugs, fulfillments=sent, refunds=back, fulfillment_status="fulfilled"
    )
    assert (adapted.rejections, len(adapted.messages)) == ((), 2)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"financial_status": "haggling"}, "unknown-payment"),
        ({"id": 1.5}, "bad-id"),
        ({"id": True}, "bad-id"),
        ({"id": None}, "bad-id"),
        ({"total_price": 97.041}, "too-many-decimals"),
        ({"total_price": "1e9"}, "not-an-amount"),
        ({"total_price": None}, "no-total"),
        ({"line_items": "none"}, "bad-shape"),
        ({"line_items": [{"id": 1, "quantity": -1, "price": "1.00", "sku": "A"}]}, "bad-quantity"),
        ({"line_items": [{"id": 1, "quantity": 0, "price": "1.00", "sku": "A"}]}, "malformed"),
        ({"line_items": [{"id": 1, "quantity": 1, "price": "1.00", "sku": "A B"}]}, "bad-sku"),
        ({"line_items": [{"id": 1, "quantity": 1, "price": "1.00", "sku": ""}]}, "no-sku"),
        ({"line_items": [{"id": 1, "quantity": 1, "sku": "A"}]}, "no-price"),
        ({"line_items": [{"id": 1, "quantity": 1, "price": "1", "sku": "A"}] * 2}, "line-twice"),
        ({"processed_at": "2026-03-02T09:15:30"}, "no-offset"),
        ({"processed_at": "yesterday"}, "bad-time"),
        ({"processed_at": "0001-01-01T00:00:00+14:00"}, "bad-time"),
        ({"shipping_address": {"name": "Ada"}}, "no-country"),
        ({"fulfillment_status": "partial"}, "partly-fulfilled"),
        ({"presentment_currency": "EUR"}, "no-presentment"),
    ],
)
def test_a_shopify_order_that_cannot_be_read_says_why(fields: dict[str, Any], code: str) -> None:
    adapted = shopify(**fields)
    assert codes(adapted.rejections) == [code]
    assert not adapted.messages


def test_a_money_number_in_json_is_read_by_its_digits() -> None:
    assert placed(shopify(total_price=97.04)).total == usd(9704)


def test_a_customer_cannot_set_prices_by_note_attributes() -> None:
    forged = [{"name": "_ordermill", "value": '{"total":{"minor":1},"payment":{"status":"paid"}}'}]
    assert placed(shopify(note_attributes=forged, financial_status="pending")) == placed(
        shopify(financial_status="pending")
    )


def test_a_shopify_signature_is_checked_over_the_raw_bytes() -> None:
    body = (SAMPLES / "shopify" / "order-create.json").read_bytes()
    good = base64.b64encode(hmac.new(b"hush", body, hashlib.sha256).digest()).decode()
    assert verify_shopify_hmac("hush", body, good)
    assert not verify_shopify_hmac("hush", body + b" ", good)
    assert not verify_shopify_hmac("other", body, good)
    for bad in ("", "no base64!", good[:-4], "ü" * 44, good.lower(), good + "\n"):
        assert not verify_shopify_hmac("hush", body, bad)


# X12


def edi(*body: str, beg: str = "BEG*00*SA*PO1**20260302", usage: str = "P", **context: Any) -> Adapted:
    text = edi_text(*body, beg=beg, usage=usage)
    return adapt("x12-850", text.encode(), AdapterContext("sample", MONDAY, **context))


def edi_text(*body: str, beg: str = "BEG*00*SA*PO1**20260302", usage: str = "P", control: int = 1) -> str:
    """An interchange around one 850 of these segments, its counts right."""
    segments = ["ST*850*0001", beg, *body]
    segments.append(f"SE*{len(segments) + 1}*0001")
    ends = f"ZZ*{'ACME':15}*ZZ*{'US':15}"
    isa = f"ISA*00*{' ' * 10}*00*{' ' * 10}*{ends}*260302*0930*U*00401*{control:09}*0*{usage}*>"
    return "~".join([isa, "GS*PO*ACME*US*20260302*0930*1*X*004010", *segments, "GE*1*1", f"IEA*1*{control:09}", ""])


SHIP_TO = ("N1*ST*ACME 17*92*0017", "N3*400 CANAL STREET", "N4*BOSTON*MA*02110")
ONE_MUG = "PO1*1*1*EA*8.75**VP*MUG-A"


def test_a_purchase_order_is_read_whole() -> None:
    order = placed(sample("x12-850/po.edi"))
    assert order == OrderPlaced(
        channel="sample",
        external_id="NORTHWIND:4500012345",
        placed_at=datetime(2026, 3, 2, 14, 15, tzinfo=UTC),
        customer=Customer(external_id="NORTHWIND"),
        ship_to=Address(
            person=Person(name="NORTHWIND STORE 17", street=("400 CANAL STREET",), city="BOSTON"),
            country="US",
            region="MA",
            postal_code="02110",
        ),
        lines=(
            ChannelLine(
                line_id="1",
                sku="MUG-A",
                title="MUG, STONEWARE",
                quantity=24,
                unit_price=usd(875),
                discount=usd(1050),
                tax=usd(0),
            ),
            ChannelLine(
                line_id="2",
                sku="KETTLE-ENAMEL-RED",
                title="KETTLE, ENAMEL",
                quantity=12,
                unit_price=usd(2150),
                discount=usd(0),
                tax=usd(1613),
            ),
        ),
        shipping=usd(0),
        shipping_tax=usd(0),
        total=usd(47363),
        payment=Payment(status="invoice"),
    )


def test_two_customers_may_use_one_order_number() -> None:
    orders_of = {message.external_id for message in sample("x12-850/two-interchanges-three-orders.edi").messages}
    assert orders_of == {"NORTHWIND:4500012352", "NORTHWIND:4500012353", "CONTOSO:A-77"}


def test_releases_of_one_blanket_order_are_orders_of_their_own() -> None:
    first, second = (edi(*SHIP_TO, ONE_MUG, beg=f"BEG*00*RL*PO1*{number}*20260302") for number in ("01", "02"))
    assert (placed(first).external_id, placed(second).external_id) == ("ACME:PO1:01", "ACME:PO1:02")
    (canceled,) = edi(beg="BEG*01*RL*PO1*02*20260302").messages
    assert canceled.external_id == "ACME:PO1:02"


def test_cancellations_differ_where_all_their_control_numbers_are_the_same() -> None:
    """There are senders who number everything 1."""

    def cancellation(text: str) -> str:
        (message,) = adapt("x12-850", text.encode(), CONTEXT).messages
        assert isinstance(message, OrderCanceled)
        return message.cancellation_id

    mug, jug = (
        edi_text(f"PO1*{line}*1*EA*8.75**VP*{sku}", beg="BEG*01*SA*PO1**20260302")
        for line, sku in ((1, "MUG"), (2, "JUG"))
    )
    later = mug.replace("*20260302*0930*1*X", "*20260303*0930*1*X")
    assert len({cancellation(text) for text in (mug, jug, later)}) == 3
    assert cancellation(mug) == cancellation(mug.replace("~", "~\n"))


@pytest.mark.parametrize("kind", ["BE", "BK", "BQ"])
@pytest.mark.parametrize("purpose", ["00", "04"])
def test_a_blanket_order_itself_ships_nothing(kind: str, purpose: str) -> None:
    adapted = edi(*SHIP_TO, ONE_MUG, beg=f"BEG*{purpose}*{kind}*PO1**20260302")
    assert (codes(adapted.rejections), adapted.messages) == (["no-order"], ())


@pytest.mark.parametrize(("told", "country"), [("US", "US"), ("USA", "US"), ("can", "CA"), ("", "US")])
def test_a_country_has_two_letters_or_three(told: str, country: str) -> None:
    order = placed(edi("N1*ST*ACME 17", "N3*400 CANAL STREET", f"N4*BOSTON*MA*02110*{told}", ONE_MUG))
    assert order.ship_to.country == country


def test_the_order_of_a_test_interchange_is_taken_and_held() -> None:
    adapted = edi(*SHIP_TO, ONE_MUG, usage="T")
    assert codes(adapted.notes) == ["test-order"]
    held = placed(edi(*SHIP_TO, ONE_MUG)).model_copy(update={"hold": "marked as a test by ISA15 T"})
    assert placed(adapted) == held


def test_a_header_allowance_is_shared_and_charges_go_to_the_shipping() -> None:
    order = placed(sample("x12-850/po-header-allowance-and-freight.edi"))
    assert [line.discount.minor for line in order.lines] == [333, 333, 334]
    assert order.shipping == usd(2800)
    assert order.allow_backorder
    assert order.total == usd(4800)


def test_a_change_lists_the_quantities_from_now_on() -> None:
    at = datetime(2026, 3, 3, 14, 30, tzinfo=UTC)
    units = OrderChanged(
        channel="sample",
        external_id="NORTHWIND:4500012345",
        revision=int(at.timestamp()) * 1_000_000 + 218,
        changed_at=at,
        lines=(LineChange(line_id="1", quantity=18), LineChange(line_id="2", quantity=0)),
    )
    address = OrderChanged(
        channel="sample",
        external_id="NORTHWIND:4500012345",
        revision=units.revision + 1,
        changed_at=at,
        customer=placed(sample("x12-850/po.edi")).customer,
        ship_to=placed(sample("x12-850/po.edi")).ship_to,
    )
    assert sample("x12-850/po-change.edi").messages == (units, address)


def test_a_change_of_nothing_says_so() -> None:
    assert codes(edi(beg="BEG*04*SA*PO1**20260302").rejections) == ["no-lines"]


@pytest.mark.parametrize("purpose", ["01", "04", "05"])
def test_a_change_says_which_line_it_means(purpose: str) -> None:
    beg = f"BEG*{purpose}*SA*PO1**20260302"
    unnumbered = edi("PO1**2*EA*10**VP*MUG-C", beg=beg)
    assert (unnumbered.messages, codes(unnumbered.rejections)) == ((), ["no-line-number"])
    (numbered,) = edi("PO1*3*2*EA*10**VP*MUG-C", beg=beg).messages
    assert not isinstance(numbered, OrderPlaced)
    assert numbered.lines == (LineChange(line_id="3", quantity=2),)


def test_separators_come_from_the_isa_whatever_they_are() -> None:
    wanted = placed(sample("x12-850/po.edi")).ship_to
    for name in ("po-odd-separators", "po-newline-terminated", "po-bom-indented-nbsp", "po-latin-1"):
        assert placed(sample(f"x12-850/{name}.edi")).ship_to == wanted


def test_newlines_end_segments_in_either_spelling() -> None:
    text = (SAMPLES / "x12-850" / "po-newline-terminated.edi").read_text(encoding="utf-8")
    wanted = placed(sample("x12-850/po-newline-terminated.edi"))
    for mixed in (text.replace("\n", "\r\n"), text.replace("\n", "\r"), text.replace("\n", "\r\n", 3)):
        assert placed(adapt("x12-850", mixed.encode(), CONTEXT)) == wanted


def test_an_allowance_counts_hundredths_also_below_ten() -> None:
    assert placed(edi(*SHIP_TO, ONE_MUG, "SAC*A*C310***5")).lines[0].discount == usd(5)


def test_a_rejected_order_leaves_no_doubts_behind() -> None:
    adapted = edi(*SHIP_TO, "PO1*1*1*CA*8.75**VP*MUG-A", "PO1*2*1*EA*x**VP*MUG-B")
    assert (codes(adapted.rejections), adapted.notes) == (["not-an-amount"], ())


def test_latin_1_texts_keep_their_accents() -> None:
    assert placed(sample("x12-850/po-latin-1.edi")).lines[0].title == "CRÈME BRÛLÉE SET"


def test_our_number_is_found_beside_others() -> None:
    order = placed(sample("x12-850/po-units-and-numbers.edi"))
    assert [(line.line_id, line.sku, line.quantity) for line in order.lines] == [
        ("1", "MUG-A-12", 4),
        ("2", "SAMPLE-CARD", 2),
    ]
    assert order.lines[1].unit_price == usd(50)


def test_an_interchange_number_used_for_other_content_rejects_the_second() -> None:
    text = (SAMPLES / "x12-850" / "sent-twice.edi").read_text()
    other = text[: len(text) // 2] + text[len(text) // 2 :].replace("MUG-A", "MUG-Z")
    adapted = adapt("x12-850", other.encode(), CONTEXT)
    assert len(adapted.messages) == 1
    assert codes(adapted.rejections) == ["control-number-reused"]


def test_a_date_alone_is_the_start_of_that_day_in_the_channels_zone() -> None:
    assert placed(edi(*SHIP_TO, ONE_MUG)).placed_at == datetime(2026, 3, 2, tzinfo=UTC)
    assert placed(edi(*SHIP_TO, ONE_MUG, zone=NEW_YORK)).placed_at == datetime(2026, 3, 2, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "zone", "utc"),
    [
        ("20260302", "ET", "2026-03-02T14:15"),
        ("20260702", "ET", "2026-07-02T13:15"),
        ("20260702", "ES", "2026-07-02T14:15"),
        ("20260302", "ED", "2026-03-02T13:15"),
        ("20260302", "CT", "2026-03-02T15:15"),
        ("20260702", "MT", "2026-07-02T15:15"),
        ("20260702", "PD", "2026-07-02T16:15"),
        ("20260302", "NS", "2026-03-02T12:45"),
        ("20260302", "UT", "2026-03-02T09:15"),
        ("20260302", "09", "2026-03-02T00:15"),
        ("20260302", "20", "2026-03-02T14:15"),
        ("20260302", "LT", "2026-03-02T08:15"),
        ("20260302", "", "2026-03-02T08:15"),
    ],
)
def test_a_time_is_read_in_the_zone_it_names(day: str, zone: str, utc: str) -> None:
    adapted = edi(f"DTM*004*{day}*0915*{zone}", *SHIP_TO, ONE_MUG, zone=ZoneInfo("Europe/Berlin"))
    assert placed(adapted).placed_at.isoformat()[:16] == utc
    assert not adapted.notes


def test_a_zone_that_is_not_known_is_noted() -> None:
    adapted = edi("DTM*004*20260302*0915*QQ", *SHIP_TO, ONE_MUG)
    assert (codes(adapted.notes), placed(adapted).placed_at.hour) == (["other-zone"], 9)


def test_included_taxes_are_not_added_again() -> None:
    order = placed(edi(*SHIP_TO, ONE_MUG, "TXI*VA*1.40*****I"))
    assert order.tax_included
    assert order.total == usd(875)


@pytest.mark.parametrize(
    "body",
    [
        ("SAC*A*C310***500*******01", *SHIP_TO, ONE_MUG),
        ("SAC*C*D240***500*******05", *SHIP_TO, ONE_MUG),
        (*SHIP_TO, ONE_MUG, "SAC*A*C310***5*******15"),
        (*SHIP_TO, ONE_MUG, "TXI*ST*5*****O"),
        ("TXI*ST*5*****O", *SHIP_TO, ONE_MUG),
    ],
)
def test_what_is_settled_elsewhere_or_for_information_is_noted_and_not_counted(body: tuple[str, ...]) -> None:
    adapted = edi(*body)
    assert placed(adapted).total == usd(875)
    assert codes(adapted.notes) in (["no-allowance"], ["no-tax"])


def test_money_that_stands_behind_the_parties_is_the_orders() -> None:
    behind = edi(*SHIP_TO, "SAC*A*C310***75", "TXI*ST*0.50", ONE_MUG)
    assert placed(behind).total == usd(850)
    assert placed(behind) == placed(edi("SAC*A*C310***75", "TXI*ST*0.50", *SHIP_TO, ONE_MUG))


@pytest.mark.parametrize("basis", ["PP", "PO", "PT", "PY", "PA", "PM"])
def test_a_price_by_weight_length_or_time_is_no_price_of_one(basis: str) -> None:
    assert codes(edi(*SHIP_TO, f"PO1*1*2*EA*3.50*{basis}*VP*BEEF-CASE").rejections) == ["price-basis"]


def test_freight_is_without_its_tax_where_taxes_are_included() -> None:
    order = placed(edi("SAC*C*D240***500", "TXI*VA*0.83*****I***SHIPPING", *SHIP_TO, ONE_MUG, "TXI*VA*1.40*****I"))
    assert (order.shipping, order.shipping_tax, order.total) == (usd(417), usd(83), usd(1375))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ((*SHIP_TO,), "no-lines"),
        ((ONE_MUG,), "no-address"),
        (("N1*ST*X", "N4*PARIS**75001", ONE_MUG), "no-country"),
        (("N1*ST*X", "N3*A*B", "N3*C*D", "N3*E", "N4*BOSTON*MA*02110", ONE_MUG), "long-address"),
        ((*SHIP_TO, "PO1*1*1*EA***VP*MUG-A"), "no-price"),
        ((*SHIP_TO, "PO1*1*1.5*EA*1**VP*MUG-A"), "bad-quantity"),
        ((*SHIP_TO, "PO1*1*0*EA*1**VP*MUG-A"), "malformed"),
        ((*SHIP_TO, "PO1*1*1*EA*1**VP*UNKNOWN"), "no-sku"),
        ((*SHIP_TO, "PO1*1*1*EA*1*WD*VP*MUG-A"), "price-basis"),
        ((*SHIP_TO, ONE_MUG, ONE_MUG), "line-twice"),
        ((*SHIP_TO, ONE_MUG, "CTT*2"), "wrong-line-count"),
        ((*SHIP_TO, ONE_MUG, "CTT*1*7"), "wrong-hash-total"),
        ((*SHIP_TO, ONE_MUG, "SAC*A*C310***1.50"), "bad-allowance"),
        ((*SHIP_TO, ONE_MUG, "TXI*ST*1*****S"), "tax-relation"),
        (("CUR*BY*USD", *SHIP_TO, ONE_MUG, "CUR*BY*EUR"), "several-currencies"),
        (("CUR*BY*DOLLARS", *SHIP_TO, ONE_MUG), "bad-currency"),
        ((*SHIP_TO, ONE_MUG, "TXI*ST*1*****I", "PO1*2*1*EA*1**VP*B", "TXI*ST*1*****A"), "mixed-taxes"),
    ],
)
def test_a_purchase_order_that_cannot_be_filled_says_why(body: tuple[str, ...], code: str) -> None:
    adapted = edi(*body)
    assert codes(adapted.rejections) == [code]
    assert not adapted.messages


@pytest.mark.parametrize(
    ("beg", "code"),
    [("BEG*00*SA*", "no-beg"), ("BEG*99*SA*PO1**20260302", "other-purpose"), ("BEG*00*SA*PO1**20260230", "bad-date")],
)
def test_an_unreadable_beginning_rejects_the_order(beg: str, code: str) -> None:
    assert codes(edi(*SHIP_TO, ONE_MUG, beg=beg).rejections) == [code]


@pytest.mark.parametrize("units", ["-.0", "-0", ".0", "-5", "-"])
def test_no_units_are_a_reason_and_stop_no_neighbor(units: str) -> None:
    text = edi_text(*SHIP_TO, f"PO1*1*{units}*EA*1**VP*MUG-A") + edi_text(*SHIP_TO, ONE_MUG, control=2)
    adapted = adapt("x12-850", text.encode(), CONTEXT)
    assert len(adapted.messages) == len(adapted.rejections) == 1


ELSEWHERE = ("N1*ST*STORE 99*92*0099", "N3*9 ELM STREET", "N4*DALLAS*TX*75201")


@pytest.mark.parametrize(
    "body",
    [
        (*SHIP_TO, ONE_MUG, *ELSEWHERE),
        (*SHIP_TO, *ELSEWHERE, ONE_MUG),
        (*SHIP_TO, ONE_MUG, "N1*ST**92*0099"),
        (*SHIP_TO, ONE_MUG, "SDQ*EA*92*0017*4*0018*6"),
        ("N1*BY*ACME", *SHIP_TO[1:], ONE_MUG, *ELSEWHERE),
        ("N1*BY*ACME", *SHIP_TO[1:], ONE_MUG, "SDQ*EA*92*0017*1"),
    ],
)
@pytest.mark.parametrize("purpose", ["00", "04"])
def test_goods_for_several_addresses_do_not_all_go_to_one(body: tuple[str, ...], purpose: str) -> None:
    adapted = edi(*body, beg=f"BEG*{purpose}*SA*PO1**20260302")
    assert (adapted.messages, codes(adapted.rejections)) == ((), ["several-addresses"])


def test_an_address_said_again_is_the_same_one() -> None:
    assert (
        placed(edi(*SHIP_TO, ONE_MUG, *SHIP_TO, "SDQ*EA*92*0017*1")).ship_to == placed(edi(*SHIP_TO, ONE_MUG)).ship_to
    )
    assert placed(edi(*SHIP_TO, ONE_MUG, "N1*ST*ACME*92*0017", "N1*VN*US*92*1"))


def test_a_copy_is_noted_and_orders_nothing() -> None:
    adapted = edi(*SHIP_TO, ONE_MUG, beg="BEG*07*SA*PO1**20260302")
    assert (adapted.messages, adapted.rejections, codes(adapted.notes)) == ((), (), ["copy"])


# Point of sale

COLUMNS = "receipt,sold_at,kind,line,sku,qty,unit_price,discount,tax,tax_included,shipping,shipping_tax,total,"
PAID = "currency,tender,"
HOME = "ship_name,ship_street1,ship_city,ship_region,ship_postal,ship_country"


def till(*rows: dict[str, str], separator: str = ",", **context: Any) -> Adapted:
    """A file of these rows of receipt 7, each with its ship-to and paid by card."""
    columns = (COLUMNS + PAID + HOME).split(",")
    usual = {"receipt": "7", "sold_at": "2026-03-02T10:00:00Z", "kind": "sale", "sku": "MUG-A", "qty": "1"}
    usual |= {"unit_price": "10.00", "tender": "card"}
    usual |= dict(zip(HOME.split(","), ["Ada", "1 Elm", "Portland", "ME", "04101", "US"], strict=True))
    lines = [separator.join((usual | row).get(column, "") for column in columns) for row in rows]
    return adapt(
        "pos-csv", "\n".join([separator.join(columns), *lines]).encode(), AdapterContext("sample", MONDAY, **context)
    )


def test_a_tills_shipping_is_without_its_tax_where_prices_hold_it() -> None:
    money = {"unit_price": "12.00", "tax": "2.00", "tax_included": "yes", "shipping": "5.00", "shipping_tax": "0.83"}
    order = placed(till(money | {"total": "17.00"}))
    assert (order.shipping, order.shipping_tax) == (usd(417), usd(83))
    assert order.total == placed(till(money)).total
    assert sum_of(order) == order.total.minor


def test_a_receipt_is_one_order_and_cash_and_carry_is_none() -> None:
    adapted = sample("pos-csv/day.csv")
    first = adapted.messages[0]
    assert isinstance(first, OrderPlaced)
    assert (first.external_id, first.payment, first.total) == (
        "boston/2/10231",
        Payment(status="paid", reference="txn-88121"),
        usd(4262),
    )
    assert [(line.title, line.quantity) for line in first.lines] == [
        ("Mug A, stoneware", 2),
        ('Kettle "Enamel", red', 1),
    ]
    assert sum_of(first) == first.total.minor


def test_decimal_commas_are_read_where_semicolons_separate() -> None:
    order = placed(sample("pos-csv/semicolon-decimal-comma.csv"))
    assert order.lines[0].unit_price == Money(minor=1290, currency="EUR")
    assert order.total == Money(minor=3870, currency="EUR")


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize(
    ("text", "currency"), [("12.000", "CLP"), ("1.290", "EUR"), ("1,290", "EUR"), ("-1.000", "USD")]
)
def test_what_may_be_thousands_or_decimals_is_refused(text: str, currency: str, separator: str) -> None:
    adapted = till({"unit_price": text, "currency": currency}, separator=separator)
    assert (adapted.messages, len(adapted.rejections)) == ((), 1)
    assert "unit_price" in adapted.rejections[0].text


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [("1,290", "KWD", 1290), ("0.500", "EUR", 50), ("1290.000", "EUR", 129000), ("12000", "CLP", 12000)],
)
def test_decimals_that_can_be_nothing_else_are_read(text: str, currency: str, minor: int) -> None:
    order = placed(till({"unit_price": text, "currency": currency}, separator=";"))
    assert order.lines[0].unit_price == Money(minor=minor, currency=currency)


def test_a_shops_own_zone_goes_before_the_channels() -> None:
    data = (SAMPLES / "pos-csv" / "semicolon-decimal-comma.csv").read_bytes()
    context = AdapterContext("sample", MONDAY, zone=NEW_YORK, zones={"berlin": ZoneInfo("Europe/Berlin")})
    assert placed(adapt("pos-csv", data, context)).placed_at == datetime(2026, 3, 2, 15, 40, tzinfo=UTC)


def test_a_local_time_without_a_zone_is_refused() -> None:
    data = (SAMPLES / "pos-csv" / "semicolon-decimal-comma.csv").read_bytes()
    assert codes(adapt("pos-csv", data, AdapterContext("sample", MONDAY)).rejections) == ["no-offset"]


def test_what_a_spreadsheet_did_is_named_with_its_row() -> None:
    found = {
        reason.where.rpartition("row ")[2]: reason.code
        for reason in sample("pos-csv/spreadsheet-damage.csv").rejections
    }
    assert found == {
        "2": "pos-csv.scientific-number",
        "3": "pos-csv.stripped-zeros",
        "4": "pos-csv.serial-date",
        "5": "pos-csv.scientific-number",
        "6": "pos-csv.spreadsheet-error",
        "8": "pos-csv.not-an-amount",
    }


def test_a_void_takes_back_a_line_or_cancels_it_later() -> None:
    first, line, whole = sample("pos-csv/voids-and-returns.csv").messages
    assert isinstance(first, OrderPlaced)
    assert [one.sku for one in first.lines] == ["MUG-A"]
    assert isinstance(line, OrderCanceled)
    assert (line.external_id, line.lines) == ("boston/1/480", (LineChange(line_id="1", quantity=1),))
    assert isinstance(whole, OrderCanceled)
    assert (whole.external_id, whole.lines) == ("boston/1/481", ())


def test_a_void_of_one_unit_leaves_the_others_with_their_share() -> None:
    sold = {"line": "1", "qty": "3", "discount": "3.00", "tax": "1.35"}
    other = {"line": "2", "sku": "MUG-B"}
    order = placed(till(sold, other, {"kind": "void", "line": "1", "qty": "-1"}))
    assert [(line.sku, line.quantity, line.discount, line.tax) for line in order.lines] == [
        ("MUG-A", 2, usd(200), usd(90)),
        ("MUG-B", 1, usd(0), usd(0)),
    ]
    assert sum_of(order) == order.total.minor


@pytest.mark.parametrize(("units", "code"), [("4", "void-of-nothing"), ("0", "bad-quantity"), ("", "bad-quantity")])
def test_a_void_takes_no_more_than_was_sold(units: str, code: str) -> None:
    adapted = till({"line": "1", "qty": "3"}, {"kind": "void", "line": "1", "qty": units})
    assert (adapted.messages, codes(adapted.rejections)) == ((), [code])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            ("701,boston,1,2026-03-02T10:00:00-05:00,sale", "701,boston,1,2026-03-02T10:00:00-05:00,swap"),
            "unknown-kind",
        ),
        (("MUG-A,1,10.00,card", "MUG-A,-1,10.00,card"), "negative-quantity"),
        (("MUG-A,1,10.00,card", "MUG-A,1,10.00,shells"), "unknown-tender"),
        (("MUG-A,1,10.00,card", "MUG-A,1,,card"), "no-price"),
        (("MUG-A,1,10.00,card", ",1,10.00,card"), "no-sku"),
        (("701,boston", ",boston"), "no-receipt"),
        (("ME,04101,US", "ME,04101,USA"), "no-country"),
    ],
)
def test_a_receipt_that_cannot_be_read_says_why(change: tuple[str, str], code: str) -> None:
    text = (SAMPLES / "pos-csv" / "one-bad-between-two.csv").read_text(encoding="utf-8")
    adapted = adapt("pos-csv", text.replace(*change, 1).encode(), CONTEXT)
    assert code in codes(adapted.rejections)
    assert [message.external_id for message in adapted.messages] == ["boston/1/703"]


def test_a_receipt_goes_to_one_address() -> None:
    text = (SAMPLES / "pos-csv" / "voids-and-returns.csv").read_text(encoding="utf-8")
    adapted = adapt("pos-csv", text.replace("12 Harbor Lane", "9 Elm Street", 1).encode(), CONTEXT)
    assert codes(adapted.rejections) == ["rows-differ"]
    assert "rows 2, 3" in adapted.rejections[0].where


# Bombs

edi_head = f"ISA*00*{' ' * 10}*00*{' ' * 10}*ZZ*{'ACME':15}*ZZ*{'US':15}*260302*0930*U*00401*000000001*0*P*>~".encode()


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'"' + b'\\"' * 400_000,
        b'{"id":' + b"9" * 900_000 + b"}",
        b"\n" * 900_000 + b"{",
    ],
    ids=["brackets", "objects", "quotes", "digits", "lines"],
)
@pytest.mark.parametrize("name", ["shopify", "canonical"])
def test_a_bomb_costs_no_more_than_its_size(name: str, bomb: bytes) -> None:
    adapted = adapt(name, bomb, CONTEXT)
    assert len(adapted.rejections) == 1
    assert len(str(adapted.rejections[0])) < 500


def test_a_wide_payload_costs_no_more_than_its_size() -> None:
    lines = range(1, 3_001)
    mugs = [{"id": line, "quantity": 1, "sku": "MUG-A", "price": "1"} for line in lines]
    goods = [{"line_item_id": line, "quantity": 1, "restock_type": "no_restock"} for line in lines]
    refund = {"id": 900, "created_at": "2026-03-02T12:00:00Z", "refund_line_items": goods}
    columns = ",".join(f"c{number}" for number in range(20_000))
    began = time.process_time()
    assert codes(shopify("orders/updated", line_items=mugs, refunds=[refund]).rejections) == ["malformed"]
    till_file = f"receipt,sold_at,sku,qty,unit_price,{columns}\n7,x,A,1,1\n".encode()
    assert codes(adapt("pos-csv", till_file, CONTEXT).notes) == ["unknown-column", "carried-out"]
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("name", "head", "piece", "code"),
    [
        ("x12-850", edi_head, b"ST*850*1~", "too-many-faults"),
        ("x12-850", edi_head + b"ST*850*1~", b"x~", "too-long"),
        ("x12-850", b"", b"ISA*", "too-many-faults"),
        ("pos-csv", b"receipt,sold_at,sku,qty,unit_price\n", b"1,x,A,1,1\n", "too-many-rows"),
        ("pos-csv", b"receipt,sold_at,sku,qty,unit_price,ship_name\n", None, "too-many-faults"),
    ],
    ids=["transactions", "segments", "headers", "rows", "receipts"],
)
def test_a_file_of_faults_is_read_up_to_a_limit(name: str, head: bytes, piece: bytes | None, code: str) -> None:
    body = b"".join(b"%d,x,A,1,1,Ada\n" % at for at in range(3_000)) if piece is None else piece * 150_000
    adapted = adapt(name, head + body, CONTEXT)
    assert code in codes(adapted.rejections)
    assert len(adapted.rejections) <= MAX_REASONS + 1


def test_doubts_stop_nothing_and_are_told_up_to_a_limit() -> None:
    cases = (f"PO1*{number}*1*CA*1**VP*MUG-A" for number in range(1, 1_001))
    first = placed(edi(*SHIP_TO, *cases))
    assert len(first.lines) == 1_000
    adapted = adapt("x12-850", edi_head * 2_000, CONTEXT)
    assert (adapted.rejections, len(adapted.notes)) == ((), MAX_REASONS + 1)
    assert codes(adapted.notes)[-1] == "more-notes"


# Real payloads


def real(pattern: str) -> list[Path]:
    return sorted(REAL.glob(pattern))


@pytest.mark.parametrize(
    ("name", "patterns", "least"),
    [("shopify", ["shopify/*.json"], 9), ("x12-850", ["edi/*.edi", "edi/*/*.edi", "edi/*.EDI"], 9)],
)
def test_real_payloads_give_messages_or_precise_reasons(name: str, patterns: list[str], least: int) -> None:
    files = [path for pattern in patterns for path in real(pattern)]
    if not files:
        pytest.skip(f"no real payloads here: {REAL} is absent")
    made = 0
    for path in files:
        adapted = adapt(name, path.read_bytes(), CONTEXT)
        check(name, adapted)
        made += len(adapted.messages)
        for message in adapted.messages:
            if isinstance(message, OrderPlaced):
                assert placed(adapt(name, render(name, message), OURS)) == message
    assert made >= least


@pytest.mark.parametrize(
    ("file", "external_id", "minor"),
    [
        ("edi/x12.850.edi", "000123456:1000012", 1995),
        ("edi/x12.850a.edi", "000123456:4600000406", 1655500),
        ("edi/x12/850-xyz-retail.edi", "4405197800:08292233294", 1304594),
        ("edi/x12/850-petco-newline-terminated.edi", "0000000000:----------", 22500),
        ("edi/x12/850-sitestuff.edi", "SITESTUFFP2P:6190", 22998),
    ],
)
def test_real_purchase_orders_add_up(file: str, external_id: str, minor: int) -> None:
    path = REAL / file
    if not path.exists():
        pytest.skip(f"no real payloads here: {REAL} is absent")
    order = placed(adapt("x12-850", path.read_bytes(), CONTEXT))
    assert (order.external_id, order.total.minor, sum_of(order)) == (external_id, minor, minor)


# The how-to


def test_the_adapter_of_the_how_to_works() -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-channel-adapter.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    phone = names["PhoneAdapter"]()
    assert placed(phone.adapt(phone.render(ORDER), OURS)) == ORDER
    taken = phone.adapt(b"7|2026-03-02T09:15:00-05:00|MUG-A|2|8.75|Ada|US|04101|\n8|noon|MUG-A|two|x|||\n", CONTEXT)
    check("phone", taken)
    assert (len(taken.messages), codes(taken.rejections)) == (1, ["cells"])


def test_a_reason_stays_short_whatever_it_quotes() -> None:
    order = json.loads((SAMPLES / "canonical" / "order-placed-bare.json").read_bytes())
    long = adapt("canonical", json.dumps(order | {"k" * 9_000: 1}).encode(), CONTEXT)
    assert [len(reason.text) < 1_000 for reason in long.rejections] == [True]
    edi = (SAMPLES / "x12-850" / "po.edi").read_text()
    number = re.search(r"BEG\*00\*\w+\*([^*]+)\*", edi)
    assert number is not None
    renamed = adapt("x12-850", edi.replace(number[1], "9" * 9_000).encode(), CONTEXT)
    assert renamed.rejections
    assert all(len(str(reason)) < 3_000 for reason in (*renamed.rejections, *renamed.notes))
