"""Whatever outsiders send: it ends in a dead letter or a refusal that says why, and its neighbors are handled."""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ordermill.clock import system_clock
from ordermill.contracts.base import Malformed, Message, decode
from ordermill.contracts.capture import OrderCaptured, OrderRejected, OrderReleased
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.channel import Address, ChannelLine, OrderCanceled, OrderPlaced, Payment
from ordermill.contracts.fields import Money
from ordermill.contracts.fulfillment import FulfillmentShipped
from ordermill.contracts.inventory import OrderLetGo, StockRejected
from ordermill.contracts.location import StockArrived
from ordermill.contracts.personal import Person
from ordermill.contracts.service import DeadLettered
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore, _MemoryTransaction
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.store import Changes, Store, VersionConflict
from ordermill.installation import builder
from ordermill.keyring import MemoryKeyStore
from ordermill.service.consuming import Subscriptions
from ordermill.service.deadletters import LETTER_VIEW, body_of, whole
from ordermill.service.deadletters import record_of as kept_record
from ordermill.service.messages import MAX_MESSAGE_BYTES, Headers
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings
from ordermill.service.surface import MAX_BODY_BYTES, application
from ordermill.service.topics import LARGEST_REQUEST
from services.capture.adapters import render
from tests.conftest import LogDatabase
from tests.integration.kafka import MONDAY, Broker

TOKEN = "the-token"
SHOP_SECRET = "the-shop's-secret"
PLATFORM = PlatformSettings(
    kafka="127.0.0.1:1",
    api_token=TOKEN,
    keyring_url="postgresql://nobody@127.0.0.1:1/none",
    master_key=b64encode(bytes(32)).decode(),
    link_secret=b64encode(bytes(32)).decode(),
)
USD = "USD"


def placed(external_id: str) -> OrderPlaced:
    price = Money(minor=1_000, currency=USD)
    nothing = Money.zero(USD)
    return OrderPlaced(
        channel="shop",
        external_id=external_id,
        placed_at=MONDAY,
        ship_to=Address(
            person=Person(name="Ada Lovelace", street=("1 Main St",), city="Troy"), country="US", postal_code="12180"
        ),
        lines=(
            ChannelLine(
                line_id="1", sku="teapot", quantity=1, unit_price=price, discount=nothing, tax=nothing, title="Teapot"
            ),
        ),
        shipping=nothing,
        shipping_tax=nothing,
        total=price,
        payment=Payment(status="paid"),
    )


def scanned(number: str) -> ParcelScanned:
    return ParcelScanned(
        carrier="cedar", tracking_number=f"CD{number}", scan_id=number, code="hub.arrived", scanned_at=MONDAY
    )


def stocked(reference: str) -> StockArrived:
    return StockArrived(location="edison", sku="teapot", reference=reference, happened_at=MONDAY, quantity=1)


@dataclass(frozen=True)
class Door:
    """A topic that outsiders write, the service behind it, a good message, and where its number is."""

    service: str
    good: Callable[[str], Message]
    number: tuple[str | int, ...]
    text: str

    @property
    def topic(self) -> str:
        return self.good("0000").topic


DOORS = {
    "orders": Door("capture", placed, ("lines", 0, "quantity"), "external_id"),
    "scans": Door("tracking", scanned, (), "place"),
    "stock": Door("inventory", stocked, ("quantity",), "reference"),
}


@dataclass(frozen=True)
class Record:
    topic: str
    value: bytes | None
    headers: Headers = field(default_factory=list)
    key: bytes | None = b"the same key"
    partition: int = 0
    offset: int = 0
    timestamp: int = 0

    def header(self, name: str, value: bytes | None) -> Record:
        kept = [header for header in self.headers if header[0] != name]
        return replace(self, headers=kept if value is None else [*kept, (name, value)])


def record_of(message: Message, message_id: str) -> Record:
    headers = {"ce_specversion": "1.0", "ce_id": message_id, "ce_source": "/outside", "ce_type": message.type}
    return Record(message.topic, message.to_json(), [(name, text.encode()) for name, text in headers.items()])


def with_field(record: Record, path: tuple[str | int, ...], raw: str) -> Record:
    """`raw` is put into the JSON as it is: also what no JSON library would write."""
    body = json.loads(record.value or b"")
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "@here@"
    return replace(record, value=json.dumps(body).replace('"@here@"', raw).encode())


Spoil = Callable[[Record, Door], Record]
BODIES: dict[str, tuple[str, Spoil]] = {
    "not JSON": ("contracts.malformed", lambda r, _: replace(r, value=b"{not json")),
    "empty": ("contracts.malformed", lambda r, _: replace(r, value=b"")),
    "null value": ("contracts.malformed", lambda r, _: replace(r, value=None)),
    "not UTF-8": ("contracts.malformed", lambda r, _: replace(r, value=b'{"a": "\xff\xfe"}')),
    "UTF-16": ("contracts.malformed", lambda r, _: replace(r, value=(r.value or b"").decode().encode("utf-16"))),
    "an array": ("contracts.malformed", lambda r, _: replace(r, value=b"[]")),
    "deep nesting": ("contracts.malformed", lambda r, _: replace(r, value=b'{"a":' * 100_000)),
    "deep nesting, closed": ("contracts.malformed", lambda r, _: replace(r, value=b"[" * 50_000 + b"]" * 50_000)),
    "too large": ("messages.oversized", lambda r, _: replace(r, value=b" " * (MAX_MESSAGE_BYTES + 1))),
    "just not too large": ("contracts.malformed", lambda r, _: replace(r, value=b" " * MAX_MESSAGE_BYTES)),
    "an unknown field": ("contracts.malformed", lambda r, _: replace(r, value=b'{"color":1,' + (r.value or b"")[1:])),
    "an unknown field with a NUL": ("contracts.malformed", lambda r, _: replace(r, value=b'{"\\u0000\\u0007": 1}')),
    "a long unknown field": ("contracts.malformed", lambda r, _: replace(r, value=b'{"%s": 1}' % (b"x" * 500_000))),
    "half a surrogate pair": ("contracts.malformed", lambda r, d: with_field(r, (d.text,), '"\\ud800"')),
    "a NUL in a text": ("contracts.malformed", lambda r, d: with_field(r, (d.text,), '"a\\u0000b"')),
    "a number for a text": ("contracts.malformed", lambda r, d: with_field(r, (d.text,), "7")),
    "a moment without offset": (
        "contracts.malformed",
        lambda r, _: replace(r, value=(r.value or b"").replace(b"09:00:00Z", b"09:00:00")),
    ),
    "a moment before UTC began": (
        "contracts.malformed",
        lambda r, _: replace(r, value=(r.value or b"").replace(b"2026-03-02T09:00:00Z", b"0001-01-01T00:00:00+09:00")),
    ),
}
HEADERS: dict[str, tuple[str, Spoil]] = {
    "no headers": ("messages.not-a-cloudevent", lambda r, _: replace(r, headers=[])),
    "no id": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_id", None)),
    "no source": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_source", None)),
    "no type": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_type", None)),
    "another specversion": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_specversion", b"0.3")),
    "a binary header value": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_id", b"\xff\xfe")),
    "a binary type": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_type", b"\xff\xfe")),
    "an empty id": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_id", b"")),
    "a long id": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_id", b"x" * 201)),
    "a NUL in the id": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_id", b"a\0b")),
    "a line break in the correlation": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_correlationid", b"\n")),
    "a time that is none": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_time", b"yesterday")),
    "a time without offset": ("messages.not-a-cloudevent", lambda r, _: r.header("ce_time", b"2026-03-02T09:00:00")),
    "a time before UTC began": (
        "messages.not-a-cloudevent",
        lambda r, _: r.header("ce_time", b"0001-01-01T00:00:00+09:00"),
    ),
    "an unknown type": ("contracts.unknown-type", lambda r, _: r.header("ce_type", b"oms.channel.order-eaten.v1")),
    "a NUL in the type": ("contracts.unknown-type", lambda r, _: r.header("ce_type", b"oms\0")),
    "a huge type": ("contracts.unknown-type", lambda r, _: r.header("ce_type", b"x" * 900_000)),
    "an empty type": ("contracts.unknown-type", lambda r, _: r.header("ce_type", b"")),
    "a newer version": (
        "contracts.unknown-version",
        lambda r, d: r.header("ce_type", d.good("0000").type[:-1].encode() + b"9"),
    ),
    "a fact of ours, forged": (
        "messages.wrong-topic",
        lambda r, d: r.header(
            "ce_type",
            {
                "capture": OrderLetGo.type,
                "tracking": FulfillmentShipped.type,
                "inventory": OrderReleased.type,
            }[d.service].encode(),
        ),
    ),
}
NUMBERS: dict[str, tuple[str, Spoil]] = {
    name: ("contracts.malformed", lambda r, d, raw=raw: with_field(r, d.number, raw))  # type: ignore[misc]
    for name, raw in {
        "a text for a number": '"7"',
        "a fraction": "1.5",
        "true for a number": "true",
        "below zero": "-1",
        "zero": "0",
        "beyond 64 bits": str(2**63),
        "400 digits": "9" * 400,
        "5,000 digits": "9" * 5_000,
        "NaN": "NaN",
        "Infinity": "Infinity",
        "an exponent": "1e999",
    }.items()
}
TABLE = [
    pytest.param(door, code, spoil, id=f"{name}-{what}")
    for name, door in DOORS.items()
    for what, (code, spoil) in {**BODIES, **HEADERS, **(NUMBERS if door.number else {})}.items()
]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunningService]:
    """A real service in memory: `services("capture")`."""
    monkeypatch.setenv("OMS_CAPTURE_SHOPIFY_SECRET", SHOP_SECRET)
    monkeypatch.setenv("OMS_FULFILLMENT_CARRIERS_URL", "https://carriers.invalid")
    monkeypatch.setenv("OMS_PAYMENTS_URL", "https://payments.invalid")
    keys = MemoryKeyStore()
    monkeypatch.setattr("services.capture.app.PostgresKeyStore", lambda dsn: keys)

    def make(name: str, store: Store | None = None) -> RunningService:
        service = builder(name)(PLATFORM, system_clock)
        return RunningService(service, Engine(store or MemoryStore(), service.rules(), system_clock), Metrics(), 1)

    return make


async def facts(running: RunningService) -> list[Message]:
    found = []
    async for _, rows in running.engine.store.all_streams():  # type: ignore[attr-defined]
        found += [decode(row.type, row.data) for row in rows]
    return found


def letters(found: list[Message]) -> list[DeadLettered]:
    return [fact for fact in found if isinstance(fact, DeadLettered)]


@pytest.mark.parametrize(("door", "code", "spoil"), TABLE)
async def test_a_bad_record_ends_in_a_dead_letter_and_its_neighbors_are_handled(
    services: Callable[..., RunningService], door: Door, code: str, spoil: Spoil
) -> None:
    running = services(door.service)
    bad = spoil(record_of(door.good("ZZBAD"), "2"), door)
    await asyncio.wait_for(
        running.handle([record_of(door.good("1111"), "1"), bad, record_of(door.good("3333"), "3")]), 20
    )
    found = await facts(running)
    (letter,) = letters(found)
    assert letter.code == code
    assert letter.size == len(bad.value or b"")
    assert letter.sha256 == sha256(bad.value or b"").hexdigest()
    assert len(letter.reason) <= 2_000 and letter.reason.isprintable()
    handled = len(found)
    await running.handle([record_of(door.good("4444"), "4"), bad])
    later = await facts(running)
    assert letters(later) == [letter]  # the same record again is the same letter
    assert len(later) > handled
    text = b"".join(fact.to_json() for fact in later if not isinstance(fact, DeadLettered)).decode()
    assert all(number in text for number in ("1111", "3333", "4444")) and "ZZBAD" not in text


ENVELOPES: dict[str, Spoil] = {
    "a huge header": lambda r, _: r.header("note", b"x" * 3_500_000),
    "many headers": lambda r, _: replace(r, headers=[*r.headers, *[("n", b"")] * 500_000]),
    "a huge key": lambda r, _: replace(r, key=b"k" * 3_500_000),
}


@pytest.mark.parametrize("spoil", ENVELOPES.values(), ids=ENVELOPES)
async def test_what_surrounds_a_bad_record_may_be_as_large_as_a_broker_takes_and_the_letter_still_goes_out(
    services: Callable[..., RunningService], spoil: Spoil
) -> None:
    door = DOORS["stock"]
    bad = spoil(replace(record_of(stocked("r-1"), "1"), value=b"{not json"), door)
    running = services(door.service)
    await running.handle([bad])
    (letter,) = await facts(running)
    assert isinstance(letter, DeadLettered)
    assert len(letter.to_json()) < LARGEST_REQUEST / 2
    kept = await whole(running.engine.store, letter)
    again = kept_record(kept, await body_of(running.engine.store, kept))
    assert (again.key, again.headers, again.value) == (bad.key, bad.headers, bad.value)
    with pytest.raises(Malformed):
        await running.redrive(letter.letter_id, "user:test")


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
async def test_the_same_message_twice_is_one(services: Callable[..., RunningService], door: Door) -> None:
    running = services(door.service)
    record = record_of(door.good("1111"), "1")
    await running.handle([record, record])
    once = await facts(running)
    await running.handle([record])
    await running.handle([record.header("ce_id", b"the channel says it again under another id")])
    assert await facts(running) == once


async def test_a_message_is_not_at_fault_where_others_write_first(
    services: Callable[..., RunningService], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, crowd = _MemoryTransaction.commit, iter(range(20))

    async def crowded(self: _MemoryTransaction, changes: Changes) -> None:
        if next(crowd, None) is not None:
            raise VersionConflict
        await commit(self, changes)

    monkeypatch.setattr(_MemoryTransaction, "commit", crowded)
    running = services("capture")
    await running.handle([record_of(placed("1111"), "1")])
    found = await facts(running)
    assert letters(found) == []
    assert any(isinstance(fact, OrderCaptured) for fact in found)


async def test_a_cancellation_before_its_order_waits_for_it(services: Callable[..., RunningService]) -> None:
    running = services("capture")
    order = placed("1111")
    canceled = OrderCanceled(channel="shop", external_id="1111", cancellation_id="c", canceled_at=MONDAY)
    await running.handle([record_of(canceled, "2"), record_of(order, "1")])
    found = await facts(running)
    assert letters(found) == []
    kinds = [type(fact).__name__ for fact in found]
    assert kinds.index("OrderChangeParked") < kinds.index("OrderCaptured") < kinds.index("OrderLinesCanceled")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"total": Money(minor=1, currency=USD)}, "total is 0.01 USD, but lines and shipping add up to 10.00 USD"),
        ({"shipping": Money(minor=-5, currency=USD)}, "shipping is below zero"),
        ({"shipping": Money.zero("EUR")}, "an order has one currency"),
        ({"total": Money(minor=10**15, currency=USD)}, "total is"),
    ],
)
async def test_an_order_that_makes_no_sense_is_rejected_with_the_reason(
    services: Callable[..., RunningService], change: dict[str, Any], reason: str
) -> None:
    running = services("capture")
    bad = placed("ZZBAD").model_copy(update=change)
    await running.handle([record_of(placed("1111"), "1"), record_of(bad, "2"), record_of(placed("3333"), "3")])
    found = await facts(running)
    (rejected,) = [fact for fact in found if isinstance(fact, OrderRejected)]
    assert (rejected.external_id, letters(found)) == ("ZZBAD", [])
    assert any(reason in each for each in rejected.reasons)


async def test_stock_at_a_place_that_is_not_ours_is_rejected_with_the_reason(
    services: Callable[..., RunningService],
) -> None:
    running = services("inventory")
    bad = stocked("ZZBAD").model_copy(update={"location": "atlantis"})
    await running.handle([record_of(stocked("1111"), "1"), record_of(bad, "2"), record_of(stocked("3333"), "3")])
    found = await facts(running)
    (rejected,) = [fact for fact in found if isinstance(fact, StockRejected)]
    assert (rejected.reference, letters(found)) == ("ZZBAD", [])
    assert rejected.reason == "no location of ours"


async def test_all_of_it_at_once_over_a_real_broker_and_a_real_log(
    services: Callable[..., RunningService],
    broker: Broker,
    make_log: Callable[..., Awaitable[LogDatabase]],
) -> None:
    for door in DOORS.values():
        database = await make_log((*builder(door.service)(PLATFORM, system_clock).views, LETTER_VIEW))
        store = await PostgresStore.open(database.dsn)
        running = services(door.service, store)
        codes: list[str] = []
        producer = await broker.producer()
        for number, row in enumerate(row for row in TABLE if row.values[0] is door):
            _, code, spoil = row.values
            bad = spoil(record_of(door.good("ZZBAD"), f"bad-{number}"), door)
            codes.append(code)  # type: ignore[arg-type]
            for each in (record_of(door.good(f"{number}1111"), f"good-{number}"), bad):
                await producer.send(door.topic, each.value, key=each.key, headers=each.headers, partition=number % 4)
        await producer.flush()
        subscriptions = Subscriptions(broker.settings(), door.service, "1", [door.topic], 1, running.handle)
        await subscriptions.start()
        try:
            await asyncio.wait_for(_until_settled(store, len(codes)), 60)
            found = await facts(running)
            assert sorted(letter.code for letter in letters(found)) == sorted(codes)
            text = b"".join(fact.to_json() for fact in found if not isinstance(fact, DeadLettered)).decode()
            assert all(f"{number}1111" in text for number in range(len(codes)))
        finally:
            await subscriptions.stop()
            await store.close()


async def _until_settled(store: PostgresStore, rows: int) -> None:
    async with store._pool.acquire() as connection:
        while await connection.fetchval("SELECT count(*) FROM inbox") < 2 * rows:
            await asyncio.sleep(0.05)


# Files


async def test_a_file_that_can_not_be_taken_is_put_aside_with_the_reason_and_the_next_is_taken(
    services: Callable[..., RunningService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMS_CAPTURE_INBOX", str(tmp_path))
    running = services("capture")
    for place in ("morse/shop", "x12-850/shop", "canonical/shop"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "morse/shop/a.txt").write_bytes(b"... --- ...")
    (tmp_path / "x12-850/shop/b.edi").write_bytes(b"\xff\x00 not EDI")
    (tmp_path / "canonical/shop/c.json").write_bytes(render("canonical", placed("1111")))
    (watch,) = running.service.background
    watching = asyncio.create_task(watch(running))
    ends = ["morse/shop/.failed/a.txt", "x12-850/shop/.failed/b.edi", "canonical/shop/.done/c.json"]
    try:
        async with asyncio.timeout(20):
            while not all((tmp_path / end).exists() for end in ends):
                await asyncio.sleep(0.01)
    finally:
        watching.cancel()
    found = await facts(running)
    assert "morse" in (tmp_path / "morse/shop/.failed/a.txt.reasons.json").read_text()
    assert [letter.code for letter in letters(found)] == ["capture.not-adapted"]


# HTTP


@pytest.fixture
async def call(services: Callable[..., RunningService]) -> Callable[..., Awaitable[httpx.Response]]:
    """`await call("capture", "POST", "/orders", ...)`; the answer's `extensions["facts"]`: how many were recorded."""
    running: dict[str, RunningService] = {}
    token = {"Authorization": f"Bearer {TOKEN}"}

    async def send(service: str, method: str, path: str, **more: Any) -> httpx.Response:
        one = running.setdefault(service, services(service))
        transport = httpx.ASGITransport(application(one, TOKEN), raise_app_exceptions=False)
        more["headers"] = token | more.get("headers", {})
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            before = len(await facts(one))
            answer = await client.request(method, path, **more)
            answer.extensions["facts"] = len(await facts(one)) - before
            return answer

    return send


HUGE = b" " * (MAX_BODY_BYTES + 1)
ORDER = orjson.loads(placed("1111").to_json())
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("service", "method", "path", "more", "status", "code"),
    [
        ("capture", "GET", "/nowhere", {}, 404, "http.404"),
        ("capture", "GET", "/orders/none", {}, 404, "ordermill.not-found"),
        ("capture", "GET", "/orders/a%00b", {}, 422, "http.invalid"),
        ("capture", "DELETE", "/orders", {}, 405, "http.405"),
        ("capture", "GET", "/orders?color=red", {}, 422, "http.422"),
        ("capture", "GET", "/orders?limit=0", {}, 422, "http.invalid"),
        ("capture", "GET", "/orders?limit=x", {}, 422, "http.invalid"),
        ("capture", "GET", f"/orders?limit={'9' * 400}", {}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"json": {}}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"json": ORDER | {"color": 1}}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"json": ORDER | {"external_id": 7}}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"content": b"{not json", "headers": JSON}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"content": b"", "headers": JSON}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"content": b"\xff\xfe", "headers": JSON}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"content": b'{"\\ud800": 1}', "headers": JSON}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"content": b"[" * 100_000, "headers": JSON}, 400, "http.400"),
        ("capture", "POST", "/orders", {"content": b"NaN", "headers": JSON}, 422, "http.invalid"),
        ("capture", "POST", "/orders", {"content": b"9" * 10_000, "headers": JSON}, 400, "http.400"),
        ("capture", "POST", "/orders", {"content": HUGE, "headers": JSON}, 413, "http.too-large"),
        ("capture", "POST", "/orders", {"json": ORDER, "headers": {"Authorization": ""}}, 401, "http.401"),
        ("capture", "POST", "/orders", {"json": ORDER, "headers": {"Authorization": "Bearer x"}}, 401, "http.401"),
        ("capture", "POST", "/orders", {"json": ORDER, "headers": {"Authorization": b"Bearer \xff"}}, 401, "http.401"),
        ("capture", "POST", "/orders", {"json": ORDER, "headers": {"Idempotency-Key": "x" * 201}}, 422, "http.invalid"),
        ("capture", "POST", "/orders/none/hold", {"json": {}}, 404, "capture.order-unknown"),
        ("capture", "POST", "/channels/shop/shopify", {"content": b"{}"}, 401, "http.401"),
        (
            "capture", "POST", "/channels/shop/shopify",
            {"content": b"{}", "headers": {"X-Shopify-Hmac-SHA256": b64encode(bytes(32)).decode()}}, 401, "http.401",
        ),
        ("capture", "POST", "/channels/shop/shopify", {"content": HUGE}, 413, "http.too-large"),
        ("inventory", "POST", "/stock/receive", {"json": []}, 422, "http.invalid"),
        ("inventory", "POST", "/stock/receive", {"json": [{}] * 1_001}, 422, "http.invalid"),
        ("inventory", "GET", "/stock", {"headers": {"Authorization": ""}}, 401, "http.401"),
        ("fulfillment", "POST", "/work", {"json": [{"do": "dance", "fulfillment_id": "f"}]}, 422, "http.invalid"),
        ("fulfillment", "GET", "/fulfillments/f/packages/1/label.pdf", {}, 404, "ordermill.not-found"),
        ("fulfillment", "GET", "/fulfillments/f/packages/x/label.pdf", {}, 422, "http.invalid"),
        ("tracking", "GET", "/track/guessed", {"headers": {"Authorization": ""}}, 404, "ordermill.not-found"),
        ("returns", "POST", "/returns", {"json": {"return_id": "r"}}, 422, "http.invalid"),
    ],
)  # fmt: skip
async def test_http_answers_with_problem_details_and_records_nothing(
    call: Callable[..., Awaitable[httpx.Response]],
    service: str, method: str, path: str, more: dict[str, Any], status: int, code: str,
) -> None:  # fmt: skip
    answer = await call(service, method, path, **more)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["type"]) == (status, f"urn:ordermill:{code}")
    assert problem["title"] and problem["detail"]
    assert answer.extensions["facts"] == 0
    if status == 401 and "shopify" not in path:
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_body_that_hides_its_length_is_still_too_large(call: Callable[..., Awaitable[httpx.Response]]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    answer = await call("capture", "POST", "/orders", content=chunks(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "http.too-large")


async def test_a_request_said_again_is_done_once(call: Callable[..., Awaitable[httpx.Response]]) -> None:
    key = {"headers": {"Idempotency-Key": "k"}}
    first = await call("capture", "POST", "/orders", json=ORDER, **key)
    assert first.status_code == 201 and first.extensions["facts"] > 0
    again = await call("capture", "POST", "/orders", json=ORDER, **key)
    assert (again.status_code, again.json(), again.extensions["facts"]) == (201, first.json(), 0)
    without_key = await call("capture", "POST", "/orders", json=ORDER)
    assert (without_key.status_code, without_key.extensions["facts"]) == (201, 0)


async def test_each_line_of_a_request_has_its_own_fate(call: Callable[..., Awaitable[httpx.Response]]) -> None:
    lines = [orjson.loads(stocked(reference).to_json()) for reference in ("1", "2", "3")]
    lines[1]["location"] = "atlantis"
    answer = await call("inventory", "POST", "/stock/receive", json=lines)
    assert answer.status_code == 200
    first, second, third = answer.json()
    assert [first["code"], third["code"]] == [None, None]
    assert (second["code"], second["detail"]) == (StockRejected.type, "no location of ours")


async def test_a_signed_webhook_that_is_no_order_is_kept_as_a_dead_letter(
    call: Callable[..., Awaitable[httpx.Response]],
) -> None:
    body = b'{"id": "not an order"}'
    signature = b64encode(hmac.digest(SHOP_SECRET.encode(), body, sha256)).decode()
    headers = {"X-Shopify-Hmac-SHA256": signature, "X-Shopify-Topic": "orders/create"}
    answer = await call("capture", "POST", "/channels/shop/shopify", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["orders"] == [] and answer.json()["rejected"]
    assert answer.extensions["facts"] == 1
