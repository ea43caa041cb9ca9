"""What the console makes of one order's facts does not depend on how the services' topics are interleaved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordermill.service.messages import event_headers
from services.console.pictures import PICTURES
from services.console.pictures.orders import ORDERS, Order
from services.console.told import Told, told
from tests.cli.life import Life, Record

WANTED = frozenset().union(*(picture.messages for picture in PICTURES))


@pytest.fixture(scope="module")
async def facts() -> list[Told]:
    """All that six services tell of one order that is reserved, routed to two locations and at work."""
    life = Life()
    await life.start()
    await life.receive("teapot", "edison", 3)
    await life.receive("cup", "sparks", 2)
    order_id = await life.order("1", {"1": ("teapot", 2, 1000), "2": ("cup", 2, 300)})
    await life.settle()
    found = []
    for name, running in life.services.items():
        for sequenced in await running.engine.store.read(0, 10_000):
            record = Record(
                f"oms.{name}.events", b"", sequenced.row.data, event_headers(name, sequenced), sequenced.seq
            )
            found.append(told(record, WANTED, life.now))
    return [item for item in found if item.order_id == order_id and type(item.message) in ORDERS.messages]


def drawn(facts: Sequence[Told]) -> Order:
    order = Order()
    for item in facts:
        ORDERS.draw(order, item.order_id or "", item)
    return order


def test_an_order_is_drawn_from_the_facts_of_several_services(facts: list[Told]) -> None:
    assert len({item.stream.partition("-")[0] for item in facts}) >= 4
    order = drawn(facts)
    assert {line.sku for line in order.lines} == {"teapot", "cup"}
    assert sum(units.allocated for units in order.units.values()) == 4
    assert {part.location for part in order.work.values()} == {"edison", "sparks"}


@settings(deadline=None)
@given(data=st.data())
def test_any_interleaving_of_streams_draws_the_same_order(facts: list[Told], data: st.DataObject) -> None:
    streams: dict[str, list[Told]] = defaultdict(list)
    for item in facts:
        streams[item.stream].append(item)
    left = [list(facts) for facts in streams.values()]
    mixed = []
    while left:
        chosen = data.draw(st.sampled_from(range(len(left))))
        mixed.append(left[chosen].pop(0))
        if not left[chosen]:
            left.pop(chosen)
    assert drawn(mixed).model_dump() == drawn(facts).model_dump()
