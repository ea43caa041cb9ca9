"""The console's own check that units and money add up, over what it was told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ordermill.contracts.channel import LineChange
from ordermill.contracts.fields import Money
from ordermill.contracts.inventory import StockAdjusted, StockReceived, StockShippedOut
from ordermill.contracts.returns import UnitsTakenBack
from ordermill.service.messages import event_headers
from services.console import conservation
from services.console.conservation import Conservation
from services.console.pictures import PICTURES
from services.console.pictures.orders import ORDERS, Order
from services.console.sums import on_hand, order_faults, stock_fault
from services.console.told import told
from tests.cli.life import MONDAY, Life, Record, usd

WANTED = frozenset().union(*(picture.messages for picture in PICTURES))


async def drawn(life: Life, order_id: str) -> Order:
    order = Order()
    for name, running in life.services.items():
        for sequenced in await running.engine.store.read(0, 10_000):
            headers = event_headers(name, sequenced)
            item = told(Record(f"oms.{name}.events", b"", sequenced.row.data, headers, sequenced.seq), WANTED, life.now)
            if item.order_id == order_id and type(item.message) in ORDERS.messages:
                ORDERS.draw(order, order_id, item)
    return order


@pytest.fixture
async def partly_canceled() -> Order:
    """Two lines of two locations, allocated; one unit of the first called off and refunded."""
    life = Life()
    await life.start()
    await life.receive("teapot", "edison", 3)
    await life.receive("cup", "sparks", 2)
    order_id = await life.order("1", {"1": ("teapot", 2, 1000), "2": ("cup", 2, 300)})
    await life.settle()
    await life.cancel(order_id, lines=(LineChange(line_id="1", quantity=1),))
    order = await drawn(life, order_id)
    assert order.canceled == {"1": 1}
    assert sum(units.allocated for units in order.units.values()) == 3
    assert [refund.amount for refund in order.refunds.values()] == [Money(minor=1100, currency="USD")]  # a tenth is tax
    return order


def test_an_order_that_was_partly_canceled_adds_up(partly_canceled: Order) -> None:
    assert order_faults(partly_canceled) == []


def change(path: str, value: Any) -> Callable[[Order], None]:
    def do(order: Order) -> None:
        target: Any = order
        *parts, last = path.split(".")
        for part in parts:
            target = target[part] if isinstance(target, dict) else getattr(target, part)
        if isinstance(target, dict):
            target[last] = value
        else:
            setattr(target, last, value)

    return do


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (change("canceled.1", 3), "line 1: 2 units ordered, 3 canceled and 0 shipped"),
        (change("units.2.reserved", -1), "line 2: -1 units reserved"),
        (change("units.2.reserved", 1), "line 2: 2 units ordered, 3 claimed or shipped"),
        (change("units.2.allocated", 1), "line 2: 1 units allocated, 2 at locations"),
        (change("units.1.shipped", 1), "line 1: 0 units handed over, 1 taken off stock"),
        (change("units.1.delivered", 1), "line 1: 0 units shipped, 1 delivered"),
        (change("units.1.returned", 1), "line 1: 0 units delivered, 1 came back"),
        (change("status", "delivered"), "line 2: 2 units ordered, 0 canceled, 0 shipped"),
        (change("refunds", {}), "1100 minor units are the share of what was canceled, 0 are refunded"),
    ],
)
def test_what_does_not_add_up_in_an_order_is_told(
    partly_canceled: Order, wrong: Callable[[Order], None], fault: str
) -> None:
    wrong(partly_canceled)
    assert fault in order_faults(partly_canceled)


def test_an_order_that_was_partly_paid_tells_what_is_unpaid(partly_canceled: Order) -> None:
    paid = partly_canceled.balance()
    assert paid is not None
    assert paid.unpaid == 0
    partly_canceled.payment, partly_canceled.unpaid = "pending", usd(700)
    partly = partly_canceled.balance()
    assert partly is not None
    assert (partly.charged, partly.unpaid) == (paid.charged - 700, 700)
    partly_canceled.unpaid = None
    unpaid = partly_canceled.balance()
    assert unpaid is not None
    assert (unpaid.charged, unpaid.unpaid) == (unpaid.canceled, paid.charged - paid.canceled)


def test_what_came_back_unpaid_is_not_owed_any_more(partly_canceled: Order) -> None:
    partly_canceled.payment, partly_canceled.unpaid = "pending", usd(700)
    back = UnitsTakenBack(
        order_id=partly_canceled.order_id, return_id="r-1", lines=(), our_fault=False, set_off=usd(600)
    )
    item: Any = SimpleNamespace(message=back, is_state=False, happened_at=MONDAY)
    ORDERS.draw(partly_canceled, partly_canceled.order_id, item)
    balance = partly_canceled.balance()
    assert balance is not None
    assert balance.unpaid == 100


def test_nobody_gets_back_more_than_was_charged(partly_canceled: Order) -> None:
    refund = partly_canceled.refund("r-9")
    refund.amount, refund.return_id = Money(minor=9_999, currency="USD"), "return-1"
    charged = partly_canceled.total
    assert charged is not None
    assert f"charged {charged.minor} minor units, refunded 11099" in order_faults(partly_canceled)


def test_what_came_and_went_of_a_sku_is_what_inventory_has() -> None:
    moves = [
        StockReceived(sku="cup", location="edison", quantity=5, reference="1"),
        StockAdjusted(sku="cup", location="edison", delta=-1, reason="broken", reference="2"),
        StockShippedOut(sku="cup", location="edison", quantity=4, order_id="o", line_id="1"),
        StockReceived(sku="cup", location="sparks", quantity=2, reference="3"),
    ]
    assert on_hand(moves) == {"sparks": 2}
    assert stock_fault(moves, {"sparks": 2, "edison": 0}) is None
    assert stock_fault(moves, {"sparks": 3}) == "on hand are 3 at sparks; what came and went leaves 2 at sparks"
    assert stock_fault([], {"sparks": 3}) == "on hand are 3 at sparks; what came and went leaves none"


class ManyWrong:
    """Inventory with more SKUs than it lists at once, of whose units the console was told nothing."""

    def __init__(self, many: int) -> None:
        self.skus = [f"SKU-{number:04}" for number in range(many)]

    async def get(self, service: str, path: str, after: str = "", limit: int = 0) -> Any:
        if path != "/stock":
            return self._item(path.rpartition("/")[2])
        return {"items": [self._item(sku) for sku in self.skus if sku > after][:limit]}

    def _item(self, sku: str) -> dict[str, Any]:
        return {"key": sku, "locations": {"edison": {"on_hand": 1}}}

    async def fetch(self, *_: Any) -> list[Any]:
        return []


async def test_however_many_skus_do_not_add_up_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conservation, "_SECOND_LOOK_S", 0)
    told = ManyWrong(250)
    checks = Conservation(told, told, lambda: MONDAY, SimpleNamespace(tell=lambda _: None))  # type: ignore[arg-type]
    await checks.check()
    assert checks.report.problem == ""
    assert [key for _, key in sorted(checks.report.faults)] == told.skus
