"""What the console shows of stock is inventory's own view, and the movements behind each number add up to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import RejectReason
from ordermill.contracts.inventory import (
    BackorderFilled,
    StockAdjusted,
    StockAllocated,
    StockBackordered,
    StockCountRecorded,
    StockDeallocated,
    StockEvent,
    StockFact,
    StockLetGo,
    StockReceived,
    StockRejected,
    StockReserved,
    StockRestocked,
    StockSetAside,
    StockShippedOut,
    StockWrittenOff,
)
from ordermill.service.messages import event_headers
from services.console.pictures import PICTURES
from services.console.pictures.stock import FACTS, STOCK, Number, Shelf, Sku, in_words, move
from services.console.stock import AT_LOCATION, columns
from services.console.stock_work import WrongField, difference, units_in
from services.console.told import Told, told
from services.fulfillment.domain import Accept, Pick, Reject
from services.fulfillment.handlers import work_decision
from services.inventory.domain import STOCK as STOCK_RULES
from services.inventory.domain import CorrectStock, CountStock, HeedNetwork, Stock, decision
from tests.cli.life import LOCATIONS, Life, Record

WANTED = frozenset().union(*(picture.messages for picture in PICTURES))
SKUS = ("TEA", "MUG")
PLACES = ("sparks", "edison")
NUMBERS: tuple[Number, ...] = get_args(Number)


async def heard(life: Life) -> list[Told]:
    """Every fact of capture and of stock, as the console reads them."""
    found = []
    for name in ("capture", "inventory"):
        for sequenced in await life.services[name].engine.store.read(0, 100_000):
            headers = event_headers(name, sequenced)
            found.append(told(Record(f"oms.{name}.events", b"", sequenced.row.data, headers, 0), WANTED, life.now))
    return [item for item in found if type(item.message) in STOCK.messages]


def drawn(facts: Sequence[Told]) -> dict[str, Sku]:
    skus: dict[str, Sku] = {}
    for item in facts:
        for key in STOCK.keys(item):
            STOCK.draw(skus.setdefault(key, Sku()), key, item)
    return skus


async def lived(steps: Sequence[tuple[Any, ...]]) -> tuple[list[Told], dict[str, dict[str, Any]]]:
    """These steps through six services; what the console heard, and inventory's own view."""
    life = Life()
    await life.start()
    for number, step in enumerate(steps):
        await _take(life, number, step)
        life.pass_time(minutes=30)
    views = dict(await life.services["inventory"].engine.store.documents("stock"))
    return await heard(life), views


async def _take(life: Life, number: int, step: tuple[Any, ...]) -> None:
    match step:
        case "receive", sku, place, units:
            await life.receive(sku, place, units)
        case "adjust", sku, place, units:
            command = CorrectStock(sku, place, units - 6, "found on the floor", f"a{number}", life.now, LOCATIONS)
            await life.do("inventory", decision(command))
        case "count", sku, place, units:
            await life.do("inventory", decision(CountStock(sku, place, units, f"c{number}", life.now, LOCATIONS)))
        case "network", sku, place, units:
            shipping = LOCATIONS - {place} if units % 3 else LOCATIONS
            await life.do("inventory", decision(HeedNetwork(sku, shipping)))
        case "order", sku, place, units:
            other = SKUS[1 - SKUS.index(sku)]
            lines = {"1": (sku, units % 4 + 1, 500), "2": (other, 1, 700)}
            await life.order(f"o{number}", lines, allow_backorder=place == "edison")
        case "cancel", _, _, units:
            orders = await life.services["capture"].engine.store.documents("orders")
            if orders:
                await life.cancel(orders[units % len(orders)][0])
        case "ship", *_:
            await life.ship_all()
        case "short-pick" | "reject", _, _, units:
            work = [
                (key, found)
                for key, found in await life.services["fulfillment"].engine.store.documents("fulfillments")
                if found["status"] == "created"
            ]
            if work:
                key, found = work[units % len(work)]
                if step[0] == "reject":
                    command: Any = Reject(key, RejectReason.OUT_OF_STOCK)
                    await life.do("fulfillment", work_decision(command))
                else:
                    first, *rest = [line for line in found["lines"] if line["open"]]
                    lines = [(first, first["open"] - 1), *((line, line["open"]) for line in rest)]
                    taken = tuple(
                        LineQuantity(line_id=line["line_id"], sku=line["sku"], quantity=there)
                        for line, there in lines
                        if there
                    )
                    await life.do("fulfillment", work_decision(Accept(key)))
                    await life.do("fulfillment", work_decision(Pick(key, taken)))


OPENING = (
    *(("receive", sku, place, 6) for sku in SKUS for place in PLACES),
    ("order", "TEA", "edison", 3),
    ("order", "MUG", "edison", 2),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "receive",
                "receive",
                "order",
                "order",
                "order",
                "adjust",
                "count",
                "network",
                "cancel",
                "ship",
                "short-pick",
                "reject",
            ]
        ),
        st.sampled_from(SKUS),
        st.sampled_from(PLACES),
        st.integers(0, 12),
    ).map(lambda step: ("receive", step[1], step[2], 9) if step[0] == "receive" and not step[3] else step),
    min_size=3,
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_the_console_shows_inventorys_own_numbers_and_its_movements_add_up_to_each(steps) -> None:
    facts, views = asyncio.new_event_loop().run_until_complete(lived([*OPENING, *steps]))
    skus = drawn(facts)
    for key, view in views.items():
        sku = skus[key]
        shown = {name: getattr(sku, name) for name in (
            "known", "on_hand", "available", "reserved", "allocated", "backordered", "set_aside", "shipped_out",
            "written_off",
        )}  # fmt: skip
        assert shown == {name: view[name] for name in shown}
        assert {
            place: {
                name: getattr(shelf, name) for name in ("on_hand", "allocated", "unallocated", "set_aside", "ships")
            }
            for place, shelf in sku.locations.items()
        } == view["locations"]
        for name in ("received", "adjusted", "restocked"):
            assert sum(getattr(shelf, name) for shelf in sku.locations.values()) == view[name]
        moves = [move(item.message) for item in facts if type(item.message) in FACTS and key in STOCK.keys(item)]
        for number in NUMBERS:
            assert sum(each.of(number) for each in moves) == sku.number(number)
            if number not in ("reserved", "backordered", "available"):
                for place in sku.locations:
                    here = sum(each.of(number) for each in moves if each.location == place)
                    assert here == sku.number(number, place)
        assert Sku.model_validate_json(sku.model_dump_json()) == sku
    for item in facts:
        if isinstance(item.message, StockFact):
            assert in_words(item.message) != item.type


CLAIM = {"sku": "TEA", "order_id": "o", "line_id": "1", "quantity": 3}
FEED = {"sku": "TEA", "location": "sparks", "reference": "r"}
EACH_KIND = [
    StockReceived(**FEED, quantity=3),
    StockAdjusted(**FEED, delta=-3, reason="broken"),
    StockCountRecorded(**FEED, counted=9, delta=4),
    StockRejected(**FEED, reason="no location of ours"),
    StockRestocked(**FEED, quantity=3, return_id="r-1"),
    StockWrittenOff(**FEED, quantity=3, return_id="r-1", reason=""),
    StockSetAside(sku="TEA", location="sparks", delta=3, ships=False),
    StockSetAside(sku="TEA", location="sparks", delta=-1, ships=False),
    StockSetAside(sku="TEA", location="sparks", delta=-2, ships=True),
    StockReserved(**CLAIM),
    StockBackordered(**CLAIM),
    BackorderFilled(**CLAIM),
    StockAllocated(**CLAIM, location="sparks"),
    StockDeallocated(**CLAIM, location="sparks"),
    StockShippedOut(**CLAIM, location="sparks"),
    StockLetGo(**CLAIM, was="reserved"),
    StockLetGo(**CLAIM, was="backordered"),
    StockLetGo(**CLAIM, was="allocated", location="sparks"),
]


@pytest.mark.parametrize(("text", "units"), [("5", 5), ("+5", 5), ("−5", -5), ("1,200", 1_200), ("1,000,000", 10**6)])
def test_units_may_be_typed_as_the_console_shows_them(text: str, units: int) -> None:
    assert units_in("units", text, -10) == units


@pytest.mark.parametrize(
    "text", ["", "1,5", "1,50", "12,0000", "1,2,3", ",5", "1.5", "+-5", "1 200", "1,000,001", "-11"]
)
def test_what_is_no_whole_number_of_units_is_no_number_of_them(text: str) -> None:
    with pytest.raises(WrongField, match=r"expected a whole number from -10 to 1,000,000"):
        units_in("units", text, -10)


def test_what_a_count_would_leave_for_sale_leaves_out_what_lies_where_nothing_ships() -> None:
    closed = Shelf(on_hand=5, allocated=2, set_aside=3, ships=False)
    sku = Sku(locations={"sparks": closed, "edison": Shelf(on_hand=4)})
    assert [difference(sku, "sparks", counted).available_after for counted in (9, 2, 1)] == [4, 4, 3]
    assert difference(sku, "edison", 5).available_after == 5


def test_what_is_set_aside_has_a_column_where_something_is() -> None:
    closed, open_ = Shelf(on_hand=5, set_aside=5, ships=False), Shelf(on_hand=5)
    assert columns(AT_LOCATION, [Sku(locations={"east": open_}), Sku(locations={"east": closed})]) == AT_LOCATION
    assert "set_aside" not in columns(AT_LOCATION, [Sku(locations={"east": open_})])


def test_every_kind_of_stock_fact_is_known() -> None:
    assert {type(fact) for fact in EACH_KIND} == FACTS == set(get_args(StockEvent))


@pytest.mark.parametrize("fact", EACH_KIND, ids=lambda fact: type(fact).__name__)
def test_each_kind_of_fact_moves_what_it_does_in_inventory(fact: StockFact) -> None:
    after = STOCK_RULES.evolve(Stock(), fact)
    moved = move(fact)
    for name in ("on_hand", "set_aside", "reserved", "allocated", "backordered", "available"):
        assert moved.of(name) == getattr(after, name), name
    flows = {name: getattr(moved, name) for name in ("received", "adjusted", "restocked", "shipped_out", "written_off")}
    assert flows == {name: getattr(after.flows, name) for name in flows}
    assert moved.unallocated == sum(shelf.unallocated for shelf in after.shelves.values())
    assert in_words(fact) != fact.type


async def test_a_life_with_shipments_and_returns_is_told_in_plain_words() -> None:
    facts, views = await lived([
        ("receive", "TEA", "sparks", 9), ("receive", "MUG", "sparks", 9), ("order", "TEA", "sparks", 1),
        ("count", "TEA", "sparks", 12), ("adjust", "TEA", "sparks", 4), ("ship", "TEA", "sparks", 0),
        ("adjust", "TEA", "sparks", -200),
    ])  # fmt: skip
    told_of = [
        in_words(item.message) for item in facts if isinstance(item.message, StockFact) and "TEA" in STOCK.keys(item)
    ]
    assert told_of == [
        "9 units came in",
        "2 units claimed, no location yet",
        "2 units claimed at this location",
        "Counted 12, the books had 9",
        "2 units lost: found on the floor",
        "2 units left the building",
        "A line was refused and changed nothing: -206 would leave less than nothing: 8 on hand",
    ]
    assert views["TEA"]["on_hand"] == drawn(facts)["TEA"].on_hand == 8


async def test_a_sku_goes_by_the_title_of_the_newest_order_whichever_is_heard_last() -> None:
    facts, _ = await lived([("receive", "TEA", "sparks", 9), ("order", "TEA", "sparks", 1)])
    skus = drawn(facts)
    assert skus["TEA"].title == "Tea"
    order = next(item for item in facts if item.source.endswith("capture"))
    line = order.message.lines[0].model_copy(update={"title": "Old tea"})
    older = order.message.model_copy(update={"lines": (line,), "placed_at": order.message.placed_at - timedelta(1)})
    order.message = older
    STOCK.draw(skus["TEA"], "TEA", order)
    assert skus["TEA"].title == "Tea"
