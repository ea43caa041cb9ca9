"""What the audit finds: nothing in a life as the services live it, and each single thing that is then made wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ordermill import audit as module
from ordermill.audit import Violation, audit
from ordermill.contracts.base import Fact
from ordermill.contracts.capture import (
    CancellationRefunded,
    CancellationRefundRequested,
    OrderCaptured,
    OrderLinesCanceled,
    OrderReleased,
    OrderUnitsShipped,
)
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import (
    FulfillmentCreated,
    FulfillmentPicked,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelRequested,
    PackageLabeled,
)
from ordermill.contracts.inventory import (
    OrderAllocated,
    OrderLetGo,
    OrderReserved,
    OrderShippedOut,
    StockLetGo,
    StockReceived,
    StockReserved,
    StockRestocked,
    StockShippedOut,
)
from ordermill.contracts.returns import (
    ExchangeRequested,
    PurchaseDelivered,
    RefundPaid,
    RefundRequested,
    ReturnClosed,
    UnitsTakenBack,
)
from ordermill.contracts.routing import OrderRouted, PolicyAdopted
from ordermill.contracts.tracking import ShipmentAnnounced, ShipmentDelivered
from ordermill.eventlog.records import Row

from .life import Logs, stores_of, usd, whole_life

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
    return (await audit(await stores_of(logs), settled)).violations


async def test_a_life_as_the_services_live_it_adds_up(life: Logs) -> None:
    for settled in (False, True):
        report = await audit(await stores_of(life), settled)
        assert report.violations == []
        assert report.checked == {
            "orders": 4, "order lines": 7, "SKUs": 3, "reservations": 4, "routing decisions made again": 4,
            "fulfillment orders": 4, "labels": 3, "parcels": 3, "returns": 2, "refunds": 4,
        }  # fmt: skip


NEVER_RIGHT: dict[str, tuple[Break, str, str]] = {
    "goods that nobody received": (gone(StockReceived), "stock", "stock-TEA"),
    "a claim larger than the order's": (changed(StockReserved, quantity=9), "agreement", "order"),
    "an order's claim larger than its stock's": (changed(OrderReserved, lines=more), "reservation", "reservation-"),
    "units off stock that no order shipped": (gone(OrderShippedOut), "agreement", "reservation-"),
    "units that an order shipped, still on stock": (gone(StockShippedOut), "agreement", "reservation-"),
    "a claim let go that no order let go": (again(StockLetGo), "agreement", "reservation-"),
    "more claimed than was released": (changed(OrderReleased, lines=lambda lines: lines[:1]), "lines", "reservation-"),
    "an order captured twice": (again(OrderCaptured), "lines", "order-"),
    "more shipped than was ordered": (changed(FulfillmentShipped, packages=fuller), "lines", "order-"),
    "shipped by a location that was never asked": (again(FulfillmentShipped, fulfillment_id="x"), "lines", "fulfillment-"),
    "a fulfillment order shipped twice": (again(FulfillmentShipped), "lines", "fulfillment-"),
    "shipped and canceled": (again(OrderLinesCanceled, lines=(LineQuantity(line_id="1", sku="TEA", quantity=2),),
                                   refund=usd(0)), "lines", "order-"),
    "off stock and never handed over": (gone(FulfillmentShipped), "lines", "reservation-"),
    "counted as shipped twice": (again(OrderUnitsShipped), "lines", "order-"),
    "allocated where nobody planned it": (changed(OrderAllocated, allocations=elsewhere), "plans", "reservation-"),
    "allocated without a plan": (gone(OrderRouted), "plans", "reservation-"),
    "a location asked for what it does not hold": (changed(FulfillmentCreated, lines=more), "plans", "fulfillment-"),
    "a location asked that was allocated nothing": (gone(OrderAllocated), "plans", "fulfillment-"),
    "a parcel that nobody handed over": (changed(ShipmentAnnounced, tracking_number="UNHEARDOF"), "lines", "shipment-"),
    "a parcel with other goods in it": (changed(ShipmentAnnounced, lines=more), "lines", "shipment-"),
    "a parcel announced twice": (again(ShipmentAnnounced), "lines", "shipment-"),
    "a delivery that no carrier reported": (gone(ShipmentDelivered), "lines", "purchase-"),
    "a delivery counted twice": (again(PurchaseDelivered), "lines", "purchase-"),
    "more taken back than was delivered": (again(UnitsTakenBack), "lines", "purchase-"),
    "more restocked than was inspected": (changed(StockRestocked, quantity=5), "stock", "return-"),
    "a label bought twice": (again(PackageLabeled), "effects", "fulfillment-"),
    "a second label for a package": (again(PackageLabeled, label_id="other"), "effects", "fulfillment-"),
    "a label that nobody asked for": (gone(LabelRequested), "effects", "fulfillment-"),
    "one parcel number on two packages": (again(FulfillmentShipped, fulfillment_id="y"), "effects", "fulfillment-"),
    "a refund asked for twice": (again(RefundRequested), "effects", "return-"),
    "a refund paid twice": (again(RefundPaid), "effects", "return-"),
    "a refund paid that nobody asked for": (gone(CancellationRefundRequested), "effects", "order-"),
    "another amount paid than was asked for": (changed(RefundPaid, amount=usd(1)), "money", "return-"),
    "a refund that is not the sum of its parts": (changed(RefundRequested, amount=usd(9_999)), "money", "return-"),
    "a refund that is not the goods' worth": (
        changed(RefundRequested, amount=usd(50), goods=usd(50), tax=usd(0)), "money", "return-"),
    "more refunded than was kept": (
        changed(RefundRequested, amount=usd(99_999), goods=usd(99_999), tax=usd(0)), "money", "order-"),
    "more credit than the exchange costs": (changed(ExchangeRequested, credit=usd(5_000)), "money", "return-"),
    "canceled units without their refund": (
        changed(CancellationRefundRequested, amount=usd(1)), "money", "order-"),
    "a cancellation that refunds too much": (changed(OrderLinesCanceled, refund=usd(99_999)), "money", "order-"),
    "another plan than the inputs give": (
        changed(OrderRouted, shipments=lambda parts: elsewhere(parts)), "routing", "plan-"),
    "a plan at another cost than the inputs give": (
        changed(OrderRouted, cost=lambda cost: cost.model_copy(update={"total": usd(1)})), "routing", "plan-"),
    "a plan under a policy never adopted": (gone(PolicyAdopted), "routing", "plan-"),
}  # fmt: skip


@pytest.mark.parametrize("what", NEVER_RIGHT)
async def test_what_can_never_be_right_is_found(life: Logs, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0)
    spoil, check, stream = NEVER_RIGHT[what]
    logs = {service: list(events) for service, events in life.items()}
    spoil(logs)
    violations = await found(logs, settled=False)
    assert any(each.check == check and each.stream.startswith(stream) for each in violations), violations


STILL_OPEN: dict[str, tuple[Break, str]] = {
    "a refund without an answer": (gone(RefundPaid), "return-"),
    "a refund for a cancellation without an answer": (gone(CancellationRefunded), "order-"),
    "a label without an answer": (gone(PackageLabeled), "fulfillment-"),
    "goods that came back and are not on stock": (gone(StockRestocked), "return-"),
    "a delivery that returns did not hear of": (gone(PurchaseDelivered), "purchase-"),
    "units that capture does not know to have shipped": (gone(OrderUnitsShipped), "order-"),
    "canceled units that capture did not hear of": (gone(OrderLinesCanceled), "order-"),
    "a parcel that is not tracked": (gone(ShipmentAnnounced), "fulfillment-"),
    "a parcel under way": (gone(ShipmentDelivered), "shipment-"),
    "a claim that nobody gave up": (gone(OrderLetGo), "reservation-"),
    "a return that is not closed": (gone(ReturnClosed), "return-"),
    "an exchange of which no order was made": (
        lambda logs: logs.update(
            capture=[(s, e) for s, e in logs["capture"] if getattr(e, "channel", "") != "exchange"]
        ),
        "return-",
    ),
}


@pytest.mark.parametrize("what", STILL_OPEN)
async def test_what_is_only_under_way_is_found_when_all_must_be_settled(life: Logs, what: str) -> None:
    spoil, stream = STILL_OPEN[what]
    logs = {service: list(events) for service, events in life.items()}
    spoil(logs)
    violations = await found(logs, settled=True)
    assert any(each.check == "settled" and each.stream.startswith(stream) for each in violations), violations


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
        return replace(row, data=b"{") if row.type == OrderReleased.type and row.version == 2 else row

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
