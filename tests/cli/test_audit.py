"""What the audit finds: nothing in a life as the services live it, and each single thing that is then made wrong."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from typing import Any

import pytest

from ordermill import audit as module
from ordermill.audit import Auditor, Violation, audit
from ordermill.audit.book import Names
from ordermill.audit.books import ReturnsBook
from ordermill.audit.origin import origins
from ordermill.contracts.base import Fact
from ordermill.contracts.capture import (
    CancellationRefunded,
    CancellationRefundRequested,
    CustomerForgetRequested,
    CustomerForgotten,
    HoldReason,
    OrderCaptured,
    OrderChangeParked,
    OrderHeld,
    OrderLinesCanceled,
    OrderReleased,
    OrderUnitsShipped,
)
from ordermill.contracts.channel import OrderCanceled, OrderChanged
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import (
    FulfillmentCreated,
    FulfillmentPicked,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelFailed,
    LabelRequested,
    PackageLabeled,
)
from ordermill.contracts.inventory import (
    OrderAllocated,
    OrderLetGo,
    OrderReserved,
    OrderShippedOut,
    StockBackordered,
    StockLetGo,
    StockReceived,
    StockReserved,
    StockRestocked,
    StockShippedOut,
)
from ordermill.contracts.returns import (
    Disposition,
    ExchangeRequested,
    GoodsWaived,
    PurchaseDelivered,
    PurchaseUndelivered,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnClosed,
    ReturnInspected,
    UnitsClaimed,
    UnitsTakenBack,
)
from ordermill.contracts.routing import OrderRouted, OrderUnroutable, PolicyAdopted
from ordermill.contracts.tracking import ShipmentAnnounced, ShipmentCameBack, ShipmentDelivered, ShipmentLost
from ordermill.eventlog.records import Row
from ordermill.simulator.ledger import Entry
from services.inventory.settings import InventorySettings

from .life import MONDAY, Life, Logs, astray_life, stores_of, usd, whole_life

Break = Callable[[Logs], None]


@pytest.fixture(scope="module")
async def life() -> Logs:
    return await whole_life()


def place_of(logs: Logs, kind: type[Fact], number: int = 0) -> tuple[str, int]:
    """Service and index of the event of that kind; the first one, or the one of that number."""
    for service, events in logs.items():
        places = [index for index, (_, event) in enumerate(events) if isinstance(event, kind)]
        if places:
            return service, places[number]
    raise LookupError(kind.__name__)


def changed(kind: type[Fact], **fields: Any) -> Break:
    """One event says something else; a callable gets what was there."""

    def work(logs: Logs) -> None:
        service, index = place_of(logs, kind)
        stream, event = logs[service][index]
        update = {name: value(getattr(event, name)) if callable(value) else value for name, value in fields.items()}
        logs[service][index] = (stream, event.model_copy(update=update))

    return work


def gone(kind: type[Fact], number: int = 0) -> Break:
    def work(logs: Logs) -> None:
        service, index = place_of(logs, kind, number)
        del logs[service][index]

    return work


def again(kind: type[Fact], **fields: Any) -> Break:
    """One event is there twice, the second time with other fields."""

    def work(logs: Logs) -> None:
        service, index = place_of(logs, kind)
        stream, event = logs[service][index]
        logs[service].append((stream, event.model_copy(update=fields)))

    return work


def elsewhere_too(kind: type[Fact]) -> Break:
    """The event is also another order's, in a stream of that."""

    def work(logs: Logs) -> None:
        service, index = place_of(logs, kind)
        stream, event = logs[service][index]
        logs[service].append((f"{stream.partition('-')[0]}-another", event.model_copy(update={"order_id": "another"})))

    return work


def added(service: str, event: Any) -> Break:
    return lambda logs: logs[service].append((f"order-{event.order_id}", event))


def added_hold(logs: Logs) -> None:
    service, index = place_of(logs, OrderCaptured)
    stream, captured = logs[service][index]
    logs[service].append((stream, OrderHeld(order_id=captured.order_id, reason=HoldReason.MANUAL)))


def overtaken(change_type: str, change_id: str, change: str) -> Break:
    """A change is told to have come before the first order."""

    def work(logs: Logs) -> None:
        service, index = place_of(logs, OrderCaptured)
        stream, captured = logs[service][index]
        parked = OrderChangeParked(
            order_id=captured.order_id, change_id=change_id, change_type=change_type, change=change
        )
        logs[service].insert(index, (stream, parked))

    return work


def unroutable(logs: Logs) -> None:
    """The first plan's record says that there was none."""
    service, index = place_of(logs, OrderRouted)
    stream, routed = logs[service][index]
    names = ("order_id", "plan_id", "cause", "inputs")
    none = OrderUnroutable(**{name: getattr(routed, name) for name in names}, reason="too far")
    logs[service][index] = (stream, none)


def lost(lines: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same units, none of which were in the box."""
    return tuple(line.model_copy(update={"disposition": Disposition.MISSING}) for line in lines)


def more(lines: tuple[Any, ...]) -> tuple[Any, ...]:
    """Seven units more of the first line."""
    first, *others = lines
    return (first.model_copy(update={"quantity": first.quantity + 7}), *others)


def fuller(packages: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *others = packages
    return (first.model_copy(update={"lines": more(first.lines)}), *others)


def elsewhere(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *others = parts
    return (first.model_copy(update={"location": "chicago"}), *others)


async def found(logs: Logs, settled: bool) -> list[Violation]:
    """However many orders are looked at together."""
    stores = await stores_of(logs)
    violations = (await audit(stores, settled)).violations
    in_parts = (await audit(stores, settled, part_events=1)).violations
    assert sorted(map(str, in_parts)) == sorted(map(str, violations))
    return violations


async def test_a_life_as_the_services_live_it_adds_up(life: Logs) -> None:
    for settled in (False, True):
        report = await audit(await stores_of(life), settled)
        assert report.violations == []
        assert report.checked == {
            "orders": 4, "order lines": 7, "SKUs": 3, "reservations": 4, "routing decisions made again": 4,
            "fulfillment orders": 4, "labels": 3, "parcels": 3, "returns": 2, "refunds": 4,
        }  # fmt: skip


TWO_TEAS = (LineQuantity(line_id="1", sku="TEA", quantity=2),)

NEVER_RIGHT: dict[str, tuple[Break, str, str]] = {
    "goods that nobody received": (gone(StockReceived), "stock", "on hand at sparks: -2, less than nothing"),
    "a claim larger than the order's": (changed(StockReserved, quantity=9), "agreement", "stock says {'reserved': 6}"),
    "a claim larger than the stock's": (changed(OrderReserved, lines=more), "reservation", "not the 3 units asked for"),
    "off stock for no order": (gone(OrderShippedOut), "agreement", "shipped out by SKU and by order differ, 3 and 0"),
    "shipped, still on stock": (gone(StockShippedOut), "agreement", "shipped out by SKU and by order differ, 0 and 3"),
    "let go by no order": (again(StockLetGo), "agreement", "let go by SKU and by order differ, 2 and 1"),
    "more claimed than was released": (
        changed(OrderReleased, lines=lambda lines: lines[:1]), "lines", "line 2: 0 units released, 2 claimed"),
    "an order captured twice": (again(OrderCaptured), "lines", "the order is captured a second time"),
    "more shipped than ordered": (
        changed(FulfillmentShipped, packages=fuller), "lines", "line 1: 3 units ordered, 0 canceled and 10 shipped"),
    "more shipped than asked for": (
        changed(FulfillmentShipped, packages=fuller), "lines", "3 units asked for, 10 shipped, given back or canceled"),
    "shipped by one that was never asked": (
        again(FulfillmentShipped, fulfillment_id="x"), "lines", "line 1: 0 units asked for, 3 shipped"),
    "a cancellation before its order that is forgotten": (
        overtaken(OrderCanceled.type, "early", '{"lines": []}'), "lines", "early came before the order, and"),
    "a change before its order that is forgotten": (
        overtaken(OrderChanged.type, "revision:7", '{"revision": 7}'), "lines", "revision:7 came before the order"),
    "a fulfillment order shipped twice": (
        again(FulfillmentShipped), "lines", "the fulfillment order is shipped a second time"),
    "shipped and canceled": (
        again(OrderLinesCanceled, lines=TWO_TEAS, refund=usd(0)), "lines", "1 units ordered, 3 canceled and 0 shipped"),
    "off stock and never handed over": (
        gone(FulfillmentShipped), "lines", "line 1: 0 units handed over, 3 taken off stock"),
    "counted as shipped twice": (again(OrderUnitsShipped), "lines", "3 units off stock, 6 shipped"),
    "allocated elsewhere than planned": (
        changed(OrderAllocated, allocations=elsewhere), "plans", "allocated 3 TEA, 2 MUG, 1 POT at chic"),
    "allocated without a plan": (gone(OrderRouted), "plans", "is allocated, and nobody planned it"),
    "allocated twice": (again(OrderAllocated), "lines", "is allocated a second time"),
    "a location asked for more than it holds": (
        changed(FulfillmentCreated, lines=more), "plans", "allocated 3 TEA, 2 MUG, 1 POT at sparks, asked for 10 TEA"),
    "a location asked that was allocated nothing": (
        gone(OrderAllocated), "plans", "a location is asked for units that it does not hold"),
    "a parcel that nobody handed over": (
        changed(ShipmentAnnounced, tracking_number="UNHEARDOF"), "lines", "nobody handed over a parcel of this number"),
    "a parcel with other goods in it": (
        changed(ShipmentAnnounced, lines=more), "lines", "announced with 10 TEA, 2 MUG, 1 POT, handed over"),
    "a parcel announced twice": (again(ShipmentAnnounced), "lines", "the parcel is announced a second time"),
    "a delivery that no carrier reported": (
        gone(ShipmentDelivered), "lines", "0 units delivered, 1 delivered as returns has it"),
    "a delivery counted twice": (
        again(PurchaseDelivered), "lines", "1 units delivered, 2 delivered as returns has it"),
    "more taken back than was delivered": (again(UnitsTakenBack), "lines", "3 units delivered, 4 taken back"),
    "taken back without having been in the box": (
        changed(ReturnInspected, lines=lost), "lines", "line 1: 0 units are back or waived, 2 are taken back"),
    "units back that no return claimed": (gone(UnitsClaimed), "lines", "line 1: 2 units are in returns, 0 are claimed"),
    "units of a return claimed twice": (again(UnitsClaimed), "lines", "line 1: 2 units are in returns, 4 are claimed"),
    "more restocked than was inspected": (
        changed(StockRestocked, quantity=5), "stock", "TEA: 2 units inspected as restock, 5 booked by inventory"),
    "a customer forgotten that nobody asked to forget": (
        added("capture", CustomerForgotten(order_id="o", keys=("c-1",), forgotten_at=MONDAY)),
        "effects", "forgetting forget-o-0 is done, and nobody requested it"),
    "a label bought twice": (again(PackageLabeled), "effects", "is done 2 times, once expected"),
    "a second label for a package": (again(PackageLabeled, label_id="other"), "effects", "and again as other"),
    "a label that nobody asked for": (gone(LabelRequested), "effects", "is done, and nobody requested it"),
    "a label refused that nobody asked for": (
        added("fulfillment", LabelFailed(fulfillment_id="f", order_id="o", label_id="l", package=1, reason="no")),
        "effects", "label l failed, and nobody requested it"),
    "one key for two orders' labels": (elsewhere_too(LabelRequested), "effects", "names another label too, at "),
    "one key for two orders' refunds": (
        elsewhere_too(CancellationRefundRequested), "effects", "names another refund too, at "),
    "a refund asked for twice": (again(RefundRequested), "effects", "is requested again, first at"),
    "a refund paid twice": (again(RefundPaid), "effects", "is done 2 times, once expected"),
    "a refund paid that nobody asked for": (
        gone(CancellationRefundRequested), "effects", "is done, and nobody requested it"),
    "another amount paid than asked for": (
        changed(RefundPaid, amount=usd(1)), "money", "11.02 USD requested, 0.01 USD paid"),
    "a refund that is not the sum of its parts": (
        changed(RefundRequested, amount=usd(1_200)), "money", "12.00 USD, its parts are 10.02 USD, 1.00 USD"),
    "a refund that is not the goods' worth": (
        changed(RefundRequested, amount=usd(50), goods=usd(50), tax=usd(0)), "money", "come to 50 minor units"),
    "more refunded than was kept": (
        changed(RefundRequested, amount=usd(99_999), goods=usd(99_999), tax=usd(0)), "money", "owed for what was not"),
    "more of a payment given back than it brought": (
        changed(RefundRequested, payment_reference="pay-9"), "money", "payment pay-9 brought 0 minor units, "),
    "a refund of an order never captured": (
        added("capture", CancellationRefundRequested(order_id="ghost", refund_id="r", amount=usd(5))),
        "money", "5 minor units refunded of an order never captured"),
    "more credit than the exchange costs": (
        changed(ExchangeRequested, credit=usd(1_001)), "money", "credit of 10.01 USD for goods that cost 1000"),
    "a cancellation without its refund": (
        changed(CancellationRefundRequested, amount=usd(1)), "money", "49.00 USD are owed for canceled units"),
    "a refund that is not the canceled units' share": (
        changed(CancellationRefundRequested, amount=usd(4_901)), "money", "4900 minor units are the share of what was"),
    "more charged than kept and refunded": (
        changed(CancellationRefundRequested, amount=usd(4_901)), "money", "charged 4900, kept 0 and refunded 4901"),
    "another plan than the inputs give": (changed(OrderRouted, shipments=elsewhere), "routing", "again it is sparks"),
    "a plan at another cost than the inputs give": (
        changed(OrderRouted, cost=lambda cost: cost.model_copy(update={"total": usd(1)})), "routing", "for 0.01 USD; "),
    "a plan under a policy never adopted": (gone(PolicyAdopted), "routing", "never adopted"),
    "a plan under a policy with another text": (
        changed(PolicyAdopted, network=lambda text: text.replace("16:00", "16:01")), "routing", "can't be made again"),
    "no plan where there was one": (unroutable, "routing", "says 'too far'; made again there is sparks"),
    "an event that fits nothing before it": (
        again(OrderLinesCanceled, lines=TWO_TEAS), "unreadable", "does not fit what was before"),
}  # fmt: skip


@pytest.mark.parametrize("what", NEVER_RIGHT)
async def test_what_can_never_be_right_is_found(life: Logs, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)
    spoil, check, text = NEVER_RIGHT[what]
    logs = {service: list(events) for service, events in life.items()}
    spoil(logs)
    violations = await found(logs, settled=False)
    assert any(each.check == check and text in each.text for each in violations), violations
    told = await origins(await stores_of(logs), violations)
    streams = {stream for events in logs.values() for stream, _ in events}
    assert [each for each in violations if each not in told and each.stream in streams] == []


@pytest.mark.parametrize(
    ("cap", "told"),
    [
        (7, ["another may wait for 5 units, 8 units wait then, 7 may"]),
        (8, []),
        (None, []),  # its units have gone: that it waits is nobody's choice
    ],
)
async def test_more_units_that_wait_than_may_are_found_at_the_event_that_let_them(
    cap: int | None, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)
    life = Life()
    await life.start()
    await life.receive("TEA", "sparks", 1)
    await life.order("waits", {"1": ("TEA", 3, 501)}, allow_backorder=True)
    logs = await life.logs()
    assert await found(logs, settled=False) == []
    stream, asked = next(each for each in logs["inventory"] if isinstance(each[1], StockBackordered))
    assert isinstance(asked, StockBackordered) and asked.cap == InventorySettings().backorder_cap
    logs["inventory"].append((stream, asked.model_copy(update={"order_id": "another", "quantity": 5, "cap": cap})))
    over = [each for each in await found(logs, settled=False) if each.check == "backorders"]
    assert [(each.text, each.stream, each.seq) for each in over] == [
        (text, stream, len(logs["inventory"])) for text in told
    ]


async def test_shelves_are_added_up_apart_from_the_fold(life: Logs) -> None:
    auditor = Auditor(settled=False, events=1)
    for seq, (stream, event) in enumerate(life["inventory"], 1):
        auditor.read("inventory", seq, stream, event.type, event.to_json())
    auditor.stock.on_hand["TEA", "sparks"] += 1
    texts = [each.text for each in auditor.close().violations if each.check == "stock" and each.stream == "stock-TEA"]
    assert texts == ["on hand are {'edison': 20, 'sparks': 18}; what came and went leaves {'edison': 20, 'sparks': 19}"]


STILL_OPEN: dict[str, tuple[Break, str]] = {
    "a refund without an answer": (gone(RefundPaid), "has no answer"),
    "a refund for a cancellation without an answer": (gone(CancellationRefunded), "has no answer"),
    "a customer who is not forgotten yet": (
        added("capture", CustomerForgetRequested(order_id="o", keys=("c-1",))),
        "forgetting forget-o-1 has no answer",
    ),
    "a label without an answer": (gone(PackageLabeled), "has no answer"),
    "goods that came back and are not on stock": (gone(StockRestocked), "inspected as restock, 0 booked by inventory"),
    "a delivery that returns did not hear of": (gone(PurchaseDelivered), "1 units delivered, 0 delivered as returns"),
    "units that capture does not know to have shipped": (gone(OrderUnitsShipped), "0 counted as shipped by capture"),
    "canceled units that capture did not hear of": (gone(OrderLinesCanceled), "1 units ordered, 0 canceled, 0 shipped"),
    "work that a location has not done": (gone(FulfillmentShipped), "3 units asked for, 0 shipped, given back"),
    "a parcel that is not tracked": (gone(ShipmentAnnounced), "is not tracked"),
    "a parcel under way": (gone(ShipmentDelivered), "is under way, last"),
    "a claim that nobody gave up": (gone(OrderLetGo), "0 backordered, 1 allocated"),
    "a return that is not closed": (gone(ReturnClosed), "the return is refunding"),
    "an order that is held": (
        added_hold,
        "the order is held for manual",
    ),
    "an exchange of which no order was made": (
        lambda logs: logs.update(
            capture=[(s, e) for s, e in logs["capture"] if getattr(e, "channel", "") != "exchange"]
        ),
        "no order was made of the exchange",
    ),
}


@pytest.mark.parametrize("what", STILL_OPEN)
async def test_what_is_only_under_way_is_found_when_all_must_be_settled(life: Logs, what: str) -> None:
    spoil, text = STILL_OPEN[what]
    logs = {service: list(events) for service, events in life.items()}
    spoil(logs)
    violations = await found(logs, settled=True)
    assert any(each.check == "settled" and text in each.text for each in violations), violations


@pytest.fixture(scope="module")
async def astray() -> Logs:
    return await astray_life()


async def test_parcels_that_never_arrived_and_were_made_up_for_add_up(astray: Logs) -> None:
    for settled in (False, True):
        assert await found(astray, settled) == []


NEVER_ARRIVED: dict[str, tuple[Break, str, str]] = {
    "lost by no word of tracking": (gone(ShipmentLost), "lines", "never arrived, and is neither lost nor back"),
    "back by no word of tracking": (gone(ShipmentCameBack), "lines", "never arrived, and is neither lost nor back"),
    "more lost than was in the parcel": (changed(PurchaseUndelivered, lines=more), "lines", "never arrived with 8 TEA"),
    "lost twice": (again(PurchaseUndelivered), "lines", "never arrived a second time"),
    "credited, and neither back nor waived": (
        gone(GoodsWaived), "lines", "line 1: 0 units are back or waived, 1 are taken back"),
    "given up as lost, and it is not": (
        gone(PurchaseUndelivered), "lines", "line 1: 1 units given up as lost, 0 are lost"),
    "credited, and neither delivered nor lost": (
        gone(PurchaseUndelivered), "lines", "line 1: 0 units delivered, 1 taken back"),
    "lost, and returns did not hear of it": (gone(PurchaseUndelivered), "settled", "returns did not hear of it"),
}  # fmt: skip


@pytest.mark.parametrize("what", NEVER_ARRIVED)
async def test_what_can_not_be_of_parcels_that_never_arrived_is_found(astray: Logs, what: str) -> None:
    spoil, check, text = NEVER_ARRIVED[what]
    logs = {service: list(events) for service, events in astray.items()}
    spoil(logs)
    violations = await found(logs, settled=check == "settled")
    assert any(each.check == check and text in each.text for each in violations), violations


async def test_a_number_that_a_carrier_uses_again_months_later_is_no_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ordermill.simulator.carriers.tracking_number", lambda carrier, key: "1Z999AA10123456784")
    life = Life()
    await life.start()
    await life.receive("TEA", "sparks", 5)
    for name in ("first", "second"):
        await life.order(name, {"1": ("TEA", 1, 501)})
        await life.ship_all()
        life.pass_time(days=1)
        await life.deliver_all()
        life.pass_time(days=200)
    for settled in (False, True):
        assert await found(await life.logs(), settled) == []
    shipments = await life.services["tracking"].engine.store.documents("shipments")
    assert [found["milestone"] for _, found in shipments] == ["delivered", "delivered"]


async def test_orders_still_moving_are_no_violation(life: Logs) -> None:
    """Each log cut off where it stood some time before: every step is heard of where it was told, or not yet."""
    heard = {FulfillmentShipped, ShipmentAnnounced}
    logs = {service: list(events) for service, events in life.items()}
    first_parcel = next(i for i, (_, event) in enumerate(logs["fulfillment"]) if isinstance(event, FulfillmentShipped))
    logs["fulfillment"] = logs["fulfillment"][:first_parcel]
    logs["tracking"] = []
    logs["returns"] = []
    reached = {OrderShippedOut, StockShippedOut, StockRestocked}
    first_out = next(i for i, (_, event) in enumerate(logs["inventory"]) if type(event) in reached)
    logs["inventory"] = logs["inventory"][:first_out]
    logs["capture"] = [(s, e) for s, e in logs["capture"] if not isinstance(e, OrderUnitsShipped)]
    assert not any(type(event) in heard for events in logs.values() for _, event in events)
    assert await found(logs, settled=False) == []
    assert {each.check for each in await found(logs, settled=True)} == {"settled"}


async def test_scans_that_came_before_their_parcel_was_announced_belong_to_its_order(life: Logs) -> None:
    logs = {service: list(events) for service, events in life.items()}
    _, announced = place_of(logs, ShipmentAnnounced)
    stream, event = logs["tracking"].pop(announced)
    after_its_scans = max(place for place, (other, _) in enumerate(logs["tracking"]) if other == stream) + 1
    logs["tracking"].insert(after_its_scans, (stream, event))
    assert await found(logs, settled=True) == []


async def test_an_audit_that_finds_no_room_says_how_much_it_needs_and_where() -> None:
    """A disk that is full: no file of the process may grow beyond 64 kB."""
    code = """
import resource, sys
from ordermill.audit import Auditor, NoRoom
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
auditor = Auditor(settled=False, events=100_000)
try:
    for seq in range(1, 100_001):
        auditor.read("capture", seq, f"order-{seq}", "no.such.type.v1", b" " * 1_000)
except NoRoom as error:
    print(error)
"""
    told = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE)
    out, _ = await told.communicate()
    assert out.decode().startswith("no room in the temporary directory (")
    assert "about 0.5 GB for each million events" in out.decode() and "SQLITE_TMPDIR" in out.decode()


async def test_a_short_pick_counts_as_given_back(life: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)
    logs = {service: list(events) for service, events in life.items()}
    service, index = place_of(logs, FulfillmentPicked)
    stream, picked = logs[service][index]
    short = FulfillmentShortPicked(
        fulfillment_id=picked.fulfillment_id, order_id=picked.order_id, location="sparks", lines=picked.lines
    )
    logs[service].insert(index, (stream, short))
    violations = await found(logs, settled=False)
    assert [each.check for each in violations if each.service == "fulfillment"] == ["lines"] * len(picked.lines)


async def test_an_event_that_nobody_can_read_is_found(life: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)

    def spoil(row: Row) -> Row:
        return row._replace(data=b"{") if row.type == OrderReleased.type and row.version == 2 else row

    violations = (await audit(await stores_of(life, spoil))).violations
    assert {each.service for each in violations if each.check == "unreadable"} == {"capture"}


async def test_a_violation_says_where_and_what(life: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)
    logs = {service: list(events) for service, events in life.items()}
    again(RefundPaid)(logs)
    violation = next(each for each in await found(logs, settled=False) if each.check == "effects")
    assert violation.seq == len(logs["returns"])
    assert str(violation).startswith(f"effects: returns return-back at {violation.seq}: refund ")
    assert violation.text.endswith("is done 2 times, once expected")


def test_a_refund_that_failed_and_was_asked_for_again_is_one_refund(life: Logs) -> None:
    book = ReturnsBook(Names())
    for seq, (stream, event) in enumerate(life["returns"], 1):
        if isinstance(event, RefundPaid):
            ids = {"return_id": event.return_id, "order_id": event.order_id, "refund_id": event.refund_id}
            (asked,) = (e for _, e in life["returns"] if isinstance(e, RefundRequested) and e.refund_id in ids.values())
            for retold in (RefundFailed(**ids, reason="no answer"), asked):
                book.read(seq, stream, retold.type, retold.to_json())
        book.read(seq, stream, event.type, event.to_json())
    assert [each for each in book.found if each.check in ("effects", "money")] == []
    assert sum(book.given_minor.values()) == sum(
        e.amount.minor if isinstance(e, RefundRequested) else e.credit.minor
        for _, e in life["returns"]
        if isinstance(e, RefundRequested | ExchangeRequested)
    )


def ledger_of(logs: Logs) -> dict[str, Entry]:
    """What providers that did all of it would remember, by key."""
    entries: dict[str, Entry] = {}
    for service in ("capture", "returns", "fulfillment"):
        for _, event in logs[service]:
            match event:
                case RefundPaid() | CancellationRefunded():
                    key, amount, reference = event.refund_id, event.amount, event.provider_reference
                case PackageLabeled():
                    key, amount, reference = event.label_id, event.cost, event.tracking_number
                case _:
                    continue
            entries[key] = Entry(provider="any", key=key, asked=2, acted=1, amount=amount, reference=reference)
    return entries


async def held_against(logs: Logs, ledger: list[Entry], settled: bool) -> list[str]:
    async def read() -> list[Entry]:
        return ledger

    report = await audit(await stores_of(logs), settled, read_ledger=read)
    return [each.text for each in report.violations if each.check == "providers"]


async def test_providers_that_did_what_is_recorded_are_no_violation(life: Logs) -> None:
    assert await held_against(life, list(ledger_of(life).values()), settled=True) == []


@pytest.mark.parametrize("kind", [RefundPaid, CancellationRefunded, PackageLabeled])
@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"acted": 0}, "recorded as done, the provider knows nothing of it"),
        ({"acted": 2}, "done 2 times by the provider"),
        ({"reference": "another"}, "another to the provider"),
    ],
)
async def test_a_provider_that_did_something_else_is_found(
    life: Logs, monkeypatch: pytest.MonkeyPatch, kind: type[Fact], told: dict[str, Any], text: str
) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)
    service, index = place_of(life, kind)
    event: Any = life[service][index][1]
    ledger = ledger_of(life)
    key = event.label_id if isinstance(event, PackageLabeled) else event.refund_id
    ledger[key] = ledger[key].model_copy(update=told)
    (found_text,) = await held_against(life, list(ledger.values()), settled=False)
    assert found_text.startswith(f"{key}: ")
    assert found_text.endswith(text)


async def test_another_amount_than_was_asked_for_is_found(life: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)
    ledger = ledger_of(life)
    _, index = place_of(life, RefundPaid)
    key = life["returns"][index][1].refund_id  # type: ignore[attr-defined]
    ledger[key] = ledger[key].model_copy(update={"amount": usd(1)})
    (text,) = await held_against(life, list(ledger.values()), settled=False)
    assert text.endswith("requested, 0.01 USD moved by the provider")


@pytest.mark.parametrize("answered", [True, False])
async def test_a_label_that_was_given_up_unheard_may_have_been_sold_and_one_that_was_refused_may_not(
    life: Logs, answered: bool
) -> None:
    logs = {service: list(events) for service, events in life.items()}
    service, index = place_of(logs, PackageLabeled)
    stream, event = logs[service][index]
    told = {name: getattr(event, name) for name in ("fulfillment_id", "order_id", "label_id", "package")}
    logs[service][index] = stream, LabelFailed(**told, reason="no label", answered=answered)
    found = [f"{told['label_id']}: done by the provider, not recorded as done"]
    assert await held_against(logs, list(ledger_of(life).values()), settled=True) == (found if answered else [])


async def test_money_that_moved_unheard_is_found_once_all_is_settled(life: Logs) -> None:
    logs = {service: list(events) for service, events in life.items()}
    gone(RefundPaid)(logs)
    stranger = Entry(provider="payments", key="stranger", asked=1, acted=1, amount=usd(1), reference="rf_1")
    ledger = [*ledger_of(life).values(), stranger]
    assert await held_against(logs, ledger, settled=False) == []
    texts = await held_against(logs, ledger, settled=True)
    assert [text.partition(": ")[2] for text in texts if ": " in text] == ["done by the provider, not recorded as done"]
    assert "was done by a provider, and nobody requested it" in texts
