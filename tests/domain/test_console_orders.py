"""What the console makes of the facts of six services: every unit and cent once, and as the services say."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from immutables import Map

from ordermill.contracts.base import Message
from ordermill.contracts.capture import OrderLine, OrderLinesCanceled
from ordermill.contracts.channel import LineChange, Payment
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import (
    FulfillmentLinesCanceled,
    LabelFailed,
    LabelRequested,
    PackageLabeled,
    PackedPackage,
    RejectReason,
)
from ordermill.contracts.inventory import OrderDeallocated, OrderLetGo
from ordermill.contracts.returns import Disposition, ExchangeLine, InspectedLine, ReturnReason
from ordermill.contracts.tracking import Milestone, OrderStatus, ParcelStatus
from ordermill.errors import Refused
from ordermill.service.messages import event_headers
from services.capture.domain import (
    CancelOrder,
    ChangeOrder,
    Command,
    RecordCancellationDeclined,
    RecordLetGo,
    RecordUnroutable,
    SettleChange,
    decide,
    evolve,
    summary,
)
from services.capture.domain import Order as Captured
from services.capture.handlers import order_decision
from services.console.acting import the_same
from services.console.picture import Picture
from services.console.pictures import PICTURES
from services.console.pictures.order import NEEDS
from services.console.pictures.orders import ORDERS, Order
from services.console.possible import action, actions
from services.console.queue import WHAT_NEEDS
from services.console.sums import order_faults
from services.console.told import Told, told
from services.fulfillment.domain import Accept, Pack, Pick, Reject
from services.fulfillment.errors import LabelsMissing
from services.fulfillment.handlers import work_decision
from services.inventory.domain import RerouteUnits
from services.inventory.domain import decision as stock_decision
from services.returns.domain import InspectReturn, ReceiveReturn, RequestReturn, WaiveGoods, to_decision
from services.returns.domain.purchase import Purchase, worth_of
from services.returns.domain.purchase import Units as PurchaseUnits
from services.returns.policy import read_policy
from tests.cli.life import MONDAY, Life, Record, usd

WANTED = frozenset().union(*(picture.messages for picture in PICTURES))
LINES = {"1": ("TEA", 3, 501), "2": ("MUG", 2, 1_299), "3": ("POT", 1, 4_000)}


async def facts_of(life: Life) -> dict[str, list[Told]]:
    """All that six services tell, by order: first their facts, then the states they publish."""
    found: dict[str, list[Told]] = defaultdict(list)
    for name, running in life.services.items():
        for sequenced in await running.engine.store.read(0, 10_000):
            headers = event_headers(name, sequenced)
            record = Record(f"oms.{name}.events", b"", sequenced.row.data, headers, sequenced.seq)
            item = told(record, WANTED, life.now)
            if item.order_id and type(item.message) in ORDERS.messages:
                found[item.order_id].append(item)
    for order_id, shown in await life.services["tracking"].engine.store.documents("order_status"):
        found[order_id].append(state_of(shown, life))
    return found


def state_of(shown: dict[str, Any], life: Life) -> Told:
    status = OrderStatus.model_validate({**shown, "version": 1})
    headers = {"ce_id": "1", "ce_source": "/ordermill/tracking", "ce_type": status.type, "ce_specversion": "1.0"}
    raw = [(name, value.encode()) for name, value in headers.items()]
    return told(Record("oms.orders.status", b"", status.to_json(), raw, 1), WANTED, life.now)


def drawn(facts: Sequence[Told]) -> Order:
    order = Order()
    for item in facts:
        ORDERS.draw(order, item.order_id or "", item)
    return order


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.table)
def test_a_picture_is_told_of_all_that_it_draws(picture: Picture[Any]) -> None:
    module = inspect.getmodule(picture.draw)
    drawn = {node.cls.id for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.MatchClass)
             and isinstance(node.cls, ast.Name)}  # fmt: skip
    kinds = {found for name in drawn if isinstance(found := getattr(module, name, None), type)}
    messages = {kind for kind in kinds if issubclass(kind, Message) and "type" in vars(kind)}
    assert messages - picture.messages == set()


async def at_work() -> Life:
    """A life with one order that is reserved, routed to two locations and at work."""
    life = Life()
    await life.start()
    await life.receive("teapot", "edison", 3)
    await life.receive("cup", "sparks", 2)
    await life.order("1", {"1": ("teapot", 2, 1000), "2": ("cup", 2, 300)})
    return life


@pytest.fixture(scope="module")
async def facts() -> list[Told]:
    (only,) = (await facts_of(await at_work())).values()
    return [item for item in only if not item.is_state]


def test_an_order_is_drawn_from_the_facts_of_several_services(facts: list[Told]) -> None:
    assert len({item.stream.partition("-")[0] for item in facts}) >= 4
    order = drawn(facts)
    assert {line.sku for line in order.lines} == {"teapot", "cup"}
    assert sum(units.allocated for units in order.units.values()) == 4
    assert {part.location for part in order.work.values()} == {"edison", "sparks"}


async def test_money_that_the_channel_gave_back_by_itself_is_in_the_balance() -> None:
    life = await at_work()
    (order_id,) = await facts_of(life)
    lines = (LineChange(line_id="2", quantity=1),)
    await life.do("capture", order_decision(CancelOrder(order_id, "c-1", life.now, lines, refunded=usd(200))))
    captured = await life.services["capture"].engine.store.document("orders", order_id)
    balance = drawn((await facts_of(life))[order_id]).balance()
    assert captured is not None and balance is not None
    assert balance.charged == captured["charged"]["minor"]
    assert (balance.refunded, balance.unpaid) == (330, captured["unpaid"]["minor"])  # 130 of it by us


def test_an_order_partly_returned_still_needs_a_person_for_what_has_not_arrived(facts: list[Told]) -> None:
    order = drawn(facts)
    order.status, order.late = "partially_returned", True
    for units in order.units.values():
        units.shipped, units.delivered = 2, 1
    assert not order.ended
    assert [need for need, _ in order.needs()] == ["late"]
    for units in order.units.values():
        units.delivered += 1
    assert order.ended
    assert order.needs() == []


def parcel(milestone: Milestone, number: str = "CED1") -> ParcelStatus:
    return ParcelStatus(
        shipment_id=number, carrier="cedar", tracking_number=number, milestone=milestone, late=False, updated_at=MONDAY
    )


def test_an_order_whose_parcel_came_back_needs_a_person_until_its_goods_are_taken_back(facts: list[Told]) -> None:
    order = drawn(facts)
    order.parcels = (parcel(Milestone.RETURNED), parcel(Milestone.IN_TRANSIT, "CED2"))
    for status in ("shipped", "partially_delivered", "delivered", "partially_returned"):
        order.status = status
        assert order.needs() == [("came-back", "cedar CED1")]
    order.status = "returned"
    assert order.needs() == []
    order.status, order.parcels = "shipped", (parcel(Milestone.RETURNING), parcel(Milestone.DELIVERED, "CED2"))
    assert order.needs() == []


def test_a_late_order_tells_that_its_parcel_came_back_not_that_it_is_on_its_way(facts: list[Told]) -> None:
    order = drawn(facts)
    order.status, order.late, order.parcels = "shipped", True, (parcel(Milestone.RETURNED),)
    for units in order.units.values():
        units.allocated, units.shipped = 0, 2
    order.allocations = {}
    assert dict(order.needs())["late"] == "cedar: returned"


@pytest.fixture
async def on_their_way() -> Life:
    """One order in two parcels, from two locations."""
    life = await at_work()
    await life.ship_all()
    return life


async def only_order(life: Life) -> Order:
    (found,) = (await facts_of(life)).values()
    return drawn(found)


async def parcels(life: Life) -> list[str]:
    return sorted(key for key, _ in await life.services["tracking"].engine.store.documents("shipments"))


async def made_up_for(life: Life, order: Order, return_id: str = "r") -> None:
    lines = tuple(
        LineQuantity(line_id=line.line_id, sku=line.sku, quantity=units)
        for line in order.lines
        if (units := order.astray_units(line))
    )
    await life.make_up(return_id, order.order_id, *lines)


def places(order: Order) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in order.lines:
        for place in order.whereabouts(line):
            found[place.state] = found.get(place.state, 0) + place.units
    return found


async def test_a_lost_parcel_needs_a_person_until_somebody_makes_up_for_it(on_their_way: Life) -> None:
    life = on_their_way
    life.pass_time(days=15)
    first, second = await parcels(life)
    await life.miss(first)
    await life.report(second, Milestone.DELIVERED)
    order = await only_order(life)
    assert places(order) == {"lost or back at its sender": 2, "delivered": 2}
    assert [need for need, _ in order.needs()] == ["late", "lost"]
    assert action(order, "make-up", "").possible
    await made_up_for(life, order)
    order = await only_order(life)
    assert [need for need, _ in order.needs()] == ["late"]
    assert action(order, "make-up", "").reason == "a return speaks for all of it"
    await life.do("returns", to_decision(WaiveGoods("r", life.now), read_policy()))
    order = await only_order(life)
    assert places(order) == {"never arrived, made up for": 2, "delivered": 2}
    assert order.ended
    assert order.needs() == []
    assert order_faults(order) == []


async def test_a_parcel_that_came_back_is_made_up_for_when_it_is_received(on_their_way: Life) -> None:
    life = on_their_way
    first, second = await parcels(life)
    await life.report(first, Milestone.RETURNED)
    await life.report(second, Milestone.DELIVERED)
    order = await only_order(life)
    assert [need for need, _ in order.needs()] == ["came-back"]
    await made_up_for(life, order)
    (line,) = (line for line in order.lines if order.astray_units(line))
    came = LineQuantity(line_id=line.line_id, sku=line.sku, quantity=2)
    receipt = ReceiveReturn("r", "g", "sparks", (came,), frozenset({"sparks"}))
    await life.do("returns", to_decision(receipt, read_policy()))
    order = await only_order(life)
    assert places(order) == {"never arrived, made up for": 2, "delivered": 2}
    assert order.needs() == []


async def test_a_lost_parcel_that_turns_up_is_delivered_made_up_for_or_not(on_their_way: Life) -> None:
    life = on_their_way
    life.pass_time(days=15)
    first, second = await parcels(life)
    await life.miss(first)
    await life.miss(second)
    await made_up_for(life, await only_order(life))
    await life.do("returns", to_decision(WaiveGoods("r", life.now), read_policy()))
    assert (await only_order(life)).status == "returned"
    await life.report(first, Milestone.DELIVERED)
    order = await only_order(life)
    assert places(order) == {"never arrived, made up for": 2, "delivered": 2}
    assert sum(order.returnable(line) for line in order.lines) == 0, "it is paid for already"
    assert order_faults(order) == []


async def test_what_is_packed_and_gets_no_label_can_be_called_off_and_then_needs_nobody() -> None:
    life = await at_work()
    await life._keyring.forget("c-ann")
    with pytest.raises(LabelsMissing, match="the customer was forgotten"):
        await life.ship_all()
    order = await only_order(life)
    ((packed, part),) = ((key, part) for key, part in order.work.items() if part.state == "packed")
    (need, why), *others = order.needs()
    assert (need, others) == ("failed-effect", [])
    (facts,) = (await facts_of(life)).values()
    (failed,) = {it.message for it in facts if isinstance(it.message, LabelFailed)}
    assert not failed.answered, "no carrier said so, and one may have sold it before"
    forgotten = "the customer was forgotten: nobody knows where this goes. Cancel it"
    assert why == f"label refused at {part.location}: {forgotten}"
    assert action(order, "label", f"{packed}/1").possible
    assert action(order, "reroute", packed).possible
    assert sum(order.cancelable(line) for line in order.lines) == 4
    await life.cancel(order.order_id)
    order = await only_order(life)
    assert order.status == "canceled"
    assert places(order) == {"canceled": 4}
    assert order.needs() == []
    assert not action(order, "label", f"{packed}/1").possible
    assert order_faults(order) == []


@given(
    quantity=st.integers(1, 7),
    price=st.integers(0, 300),
    off=st.integers(0, 300),
    tax=st.integers(0, 99),
    tax_included=st.booleans(),
    data=st.data(),
)
def test_goods_that_are_sent_once_more_are_paid_with_those_that_never_arrived(
    quantity: int, price: int, off: int, tax: int, tax_included: bool, data: st.DataObject
) -> None:
    discount = usd(min(off, price * quantity))
    line = OrderLine(
        line_id="1", sku="TEA", quantity=quantity, unit_price=usd(price), discount=discount, tax=usd(tax)
    )  # fmt: skip
    credited_before = data.draw(st.integers(0, quantity - 1))
    units = data.draw(st.integers(1, quantity - credited_before))
    bought = Purchase(
        lines=(line,),
        shipping=usd(0),
        tax_included=tax_included,
        units=Map({"1": PurchaseUnits(taken=credited_before)}),
    )
    again = the_same(Order(lines=(line,), tax_included=tax_included), line, units)
    worth = sum(amount.minor for amount in worth_of(bought, {"1": units}))
    assert 0 <= worth - again["unit_price"]["minor"] * units <= 2 * units, (
        "an exchange that is not paid waits for money"
    )


# What may be done, as the services then say


def before(facts: Sequence[Told], *answers: type[Message]) -> list[Told]:
    """The facts as long as these are still on their way, without the state that follows from all of them."""
    return [item for item in facts if not item.is_state and not isinstance(item.message, answers)]


ANSWERS_TO_A_RECALL = (FulfillmentLinesCanceled, OrderLetGo, OrderDeallocated, OrderLinesCanceled)


async def test_units_that_are_being_canceled_are_not_offered_to_be_routed_again() -> None:
    life = await at_work()
    (order_id,) = await facts_of(life)
    (fulfillment_id,) = (key for key, part in (await only_order(life)).work.items() if part.location == "edison")
    await life.cancel(order_id, lines=(LineChange(line_id="1", quantity=2), LineChange(line_id="2", quantity=1)))
    (facts,) = (await facts_of(life)).values()
    order = drawn(before(facts, *ANSWERS_TO_A_RECALL))
    offered = {each.of: each for each in actions(order) if each.do == "reroute"}
    assert fulfillment_id not in offered, "inventory would refuse it: all its units are being canceled"
    (left,) = offered.values()
    assert left.possible and "give back 1 unit;" in left.does
    assert order.recallable(left.of) == {"2": 1}
    order = drawn(facts)
    assert order.recallable(left.of) == {"2": 1}
    assert all(not part.recalls for part in order.work.values())


async def test_where_all_is_being_canceled_nothing_can_be_routed_again() -> None:
    life = await at_work()
    (order_id,) = await facts_of(life)
    await life.cancel(order_id)
    (facts,) = (await facts_of(life)).values()
    again = action(drawn(before(facts, *ANSWERS_TO_A_RECALL)), "reroute", "")
    assert again.reason == "what its locations have is being canceled"


async def test_what_its_locations_have_packed_is_not_being_canceled() -> None:
    life = await at_work()
    (order_id,) = await facts_of(life)
    assert len([each async for each in life.pack()]) == 2
    await life.cancel(order_id)
    (facts,) = (await facts_of(life)).values()
    order = drawn(facts)
    assert all(not part.recalls for part in order.work.values())
    again = action(order, "reroute", "")
    assert again.reason.endswith("has packed them")


def captured_in(facts: Sequence[Told]) -> Captured:
    order = Captured()
    for item in facts:
        if item.stream == f"order-{item.order_id}" and item.message is not None:
            order = evolve(order, item.message)  # type: ignore[arg-type]
    return order


async def test_a_cancellation_that_another_overtook_waits_for_no_answer() -> None:
    life = await at_work()
    (order_id,) = await facts_of(life)
    (facts,) = (await facts_of(life)).values()
    captured = captured_in(facts)
    drawn_so_far = drawn(facts)
    (any_fact, *_) = facts

    def happens(command: Command) -> None:
        nonlocal captured
        for made in decide(captured, command):
            captured = evolve(captured, made)
            ORDERS.draw(drawn_so_far, order_id, replace(any_fact, message=made))

    one = (LineQuantity(line_id="1", sku="teapot", quantity=1),)
    both = (LineQuantity(line_id="1", sku="teapot", quantity=2),)
    happens(CancelOrder(order_id, "c-1", life.now, (LineChange(line_id="1", quantity=1),)))
    happens(RecordUnroutable(order_id, "p-2", both))
    happens(RecordLetGo(order_id, "e-1", one, "canceled", "c-1"))
    happens(RecordLetGo(order_id, "e-2", one, "unroutable", "unroutable:p-2"))
    happens(RecordCancellationDeclined(order_id, "e-3", "unroutable:p-2", one))
    assert summary(captured)["lines"][0]["cancel_requested"] == 0
    assert drawn_so_far.called_off("1") == 0


async def test_a_change_that_came_too_late_needs_a_person_until_one_has_dealt_with_it() -> None:
    life = await at_work()
    order_id = (await only_order(life)).order_id
    more = LineChange(line_id="1", quantity=9)
    for revision in (1, 2):
        await life.do("capture", order_decision(ChangeOrder(order_id, revision, life.now, (more,))))
    order = await only_order(life)
    why = "line 1: 9 wanted, 2 ordered; no more can be had after release"
    assert order.needs() == [("change-refused", why)]
    (done,) = (each for each in actions(order) if each.do == "settle")
    assert (done.of, done.possible) == ("revision:2", True)
    await life.do("capture", order_decision(SettleChange(order_id, done.of, "told the customer")))
    await life.do("capture", order_decision(ChangeOrder(order_id, 3, life.now, (more,))))
    assert (await only_order(life)).needs() == [], "the channel says it once more, and it was dealt with"


async def packed(life: Life) -> str:
    """One location's part is in a box whose label has not come."""
    store = life.services["fulfillment"].engine.store
    key, found = min(await store.documents("fulfillments"))
    lines = tuple(LineQuantity(line_id=it["line_id"], sku=it["sku"], quantity=it["open"]) for it in found["lines"])
    box = PackedPackage(package=1, weight_g=700, lines=lines)
    await life.do("fulfillment", *(work_decision(it) for it in (Accept(key), Pick(key, lines), Pack(key, (box,)))))
    return key


async def test_while_a_carrier_is_asked_for_a_label_only_another_one_may_be_asked_instead() -> None:
    life = await at_work()
    key = await packed(life)
    (facts,) = (await facts_of(life)).values()
    (asked,) = (item for item in facts if isinstance(item.message, LabelRequested))
    facts = before(facts, PackageLabeled)
    told = {"fulfillment_id": key, "order_id": facts[0].order_id, "package": 1}
    failed = LabelFailed(**told, label_id=f"{key}.1", reason="no such street")
    order = drawn([*facts, replace(asked, message=failed)])
    assert action(order, "label", f"{key}/1").possible
    assert [need for need, _ in order.needs()] == ["failed-effect"]
    elsewhere = {"label_id": f"{key}.1.2", "carrier": "oak", "service": "oak-ground"}
    again = asked.message.model_copy(update=elsewhere)
    for item in (replace(asked, message=again),):
        ORDERS.draw(order, order.order_id, item)
    (instead,) = (each for each in actions(order) if each.do == "label")
    assert (instead.possible, instead.of) == (True, f"{key}/1")
    assert instead.does.startswith("oak has not answered yet and is asked no more.")
    assert order.needs() == []
    failed_again = failed.model_copy(update={"label_id": f"{key}.1.2", "reason": "too heavy"})
    ORDERS.draw(order, order.order_id, replace(asked, message=failed_again))
    assert "oak is asked once more" in action(order, "label", f"{key}/1").does, "it is whom fulfillment would ask"


async def test_a_payment_that_the_channel_tells_of_later_is_the_one_that_is_shown() -> None:
    life = Life()
    await life.start()
    order_id = await life.order("1", {"1": ("teapot", 2, 1000)}, pending=True)
    paid = ChangeOrder(order_id, 1, life.now, payment=Payment(status="paid", reference="pay-later"))
    await life.do("capture", order_decision(paid))
    assert (await only_order(life)).payment_reference == "pay-later"


def test_what_needs_a_person_is_told_in_words() -> None:
    assert list(WHAT_NEEDS) == list(NEEDS)


@settings(deadline=None)
@given(data=st.data())
def test_any_interleaving_of_streams_draws_the_same_order(facts: list[Told], data: st.DataObject) -> None:
    assert drawn(interleaved(facts, data)).model_dump() == drawn(facts).model_dump()


def interleaved(facts: Sequence[Told], data: st.DataObject) -> list[Told]:
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
    return mixed


# Whole lives

BEFORE = st.lists(
    st.sampled_from(["cancel a unit", "cancel all", "reject", "short-pick", "route again", "restock"]), max_size=4
)
ON_THE_WAY = st.sampled_from([["ship"], ["ship", "deliver"], ["ship", "restock", "ship", "deliver"]])
AFTER = st.lists(
    st.sampled_from(["cancel a unit", "send back", "send an empty box", "exchange", "restock", "days pass"]), max_size=4
)


class Story:
    """One order of three lines, after steps that fit; those that do not fit are turned down and change nothing."""

    def __init__(self, in_stock: int, may_wait: bool) -> None:
        self.life, self.in_stock, self.may_wait, self.number = Life(), in_stock, may_wait, 0
        self.order_id = ""

    async def begin(self) -> None:
        await self.life.start()
        for sku in ("TEA", "MUG", "POT"):
            await self.life.receive(sku, "edison", self.in_stock)
        await self.life.receive("TEA", "sparks", 2)
        self.order_id = await self.life.order("A-1", LINES, allow_backorder=self.may_wait)

    async def step(self, what: str) -> None:
        self.number += 1
        self.life.pass_time(minutes=5)
        try:
            await self._do(what)
        except Refused:
            await self.life.settle()

    async def _do(self, what: str) -> None:
        life = self.life
        match what:
            case "cancel a unit":
                units = (LineChange(line_id="1", quantity=1),)
                await life.cancel(self.order_id, lines=units) if self.number % 2 else await self._cancel_under_an_id()
            case "cancel all":
                await life.cancel(self.order_id)
            case "reject" | "short-pick" | "route again":
                for fulfillment_id, lines in await self._open_work():
                    await self._unsettle(what, fulfillment_id, lines)
            case "restock":
                for sku in ("TEA", "MUG", "POT"):
                    await life.receive(sku, "chicago", 4)
            case "ship":
                await life.ship_all()
            case "deliver":
                life.pass_time(days=2)
                await life.deliver_all()
            case "send back":
                await life.send_back(f"back-{self.number}", self.order_id, part("1", "TEA"))
            case "send an empty box":
                await self._send_an_empty_box()
            case "exchange":
                instead = (ExchangeLine(sku="TEA", title="Tea", quantity=1, unit_price=usd(700)),)
                await life.send_back(f"swap-{self.number}", self.order_id, part("2", "MUG"), instead)
            case _:
                life.pass_time(days=4)

    async def _cancel_under_an_id(self) -> None:
        lines = (LineChange(line_id="2", quantity=1),)
        given_back = usd(700) if self.number % 2 else None
        command = CancelOrder(self.order_id, f"c-{self.number}", self.life.now, lines, refunded=given_back)
        await self.life.do("capture", order_decision(command))

    async def _send_an_empty_box(self) -> None:
        return_id, line, policy, now = f"empty-{self.number}", part("1", "TEA"), read_policy(), self.life.now
        nothing = InspectedLine(**line.model_dump(), disposition=Disposition.MISSING)
        for command in (
            RequestReturn(return_id, self.order_id, (line,), ReturnReason.DAMAGED, "refund", now, "customer"),
            ReceiveReturn(return_id, "receipt", "sparks", (line,), frozenset({"sparks"})),
            InspectReturn(return_id, "inspection", "sparks", (nothing,), now),
        ):
            await self.life.do("returns", to_decision(command, policy))

    async def _open_work(self) -> list[tuple[str, tuple[LineQuantity, ...]]]:
        found = await self.life.services["fulfillment"].engine.store.documents("fulfillments", {"status": "created"})
        return [
            (key, tuple(LineQuantity(**{name: line[name] for name in ("line_id", "sku")}, quantity=line["open"])
                        for line in shown["lines"] if line["open"]))
            for key, shown in found if shown["order_id"] == self.order_id
        ]  # fmt: skip

    async def _unsettle(self, what: str, fulfillment_id: str, lines: tuple[LineQuantity, ...]) -> None:
        work: list[Any] = []
        if what == "reject":
            work = [Reject(fulfillment_id, RejectReason.NO_CAPACITY)]
        elif what == "short-pick":
            work = [Accept(fulfillment_id), Pick(fulfillment_id, lines[1:])]
        await self.life.do("fulfillment", *map(work_decision, work))
        if what == "route again":
            reroute = RerouteUnits(self.order_id, fulfillment_id, f"r-{self.number}", elsewhere=bool(self.number % 2))
            await self.life.do("inventory", stock_decision(reroute))

    async def view(self, service: str, name: str) -> dict[str, Any]:
        found = await self.life.services[service].engine.store.document(name, self.order_id)
        assert found is not None
        return found


def part(line_id: str, sku: str) -> LineQuantity:
    return LineQuantity(line_id=line_id, sku=sku, quantity=1)


async def check_against_services(story: Story, order: Order) -> None:
    captured = await story.view("capture", "orders")
    status = await story.view("tracking", "order_status")
    reserved = await story.view("inventory", "reservations")
    for line, shown in zip(order.lines, captured["lines"], strict=True):
        places = order.whereabouts(line)
        assert sum(place.units for place in places) == line.quantity, places
        assert order.canceled.get(line.line_id, 0) == shown["canceled"]
        assert order.called_off(line.line_id) == shown["cancel_requested"]
    for shown in reserved["lines"]:
        units = order.line_units(shown["line_id"])
        for state in ("reserved", "backordered", "allocated", "shipped", "let_go"):
            assert getattr(units, state) == shown[state], (shown["line_id"], state)
    held = {key: part["units"] for key, part in reserved["fulfillments"].items()}
    assert {key: units for key, units in order.allocations.items() if units} == {k: v for k, v in held.items() if v}
    for state in ("delivered", "returned"):
        assert sum(getattr(units, state) for units in order.units.values()) == status[state]
    balance = order.balance()
    assert balance is not None
    back = await story.life.services["returns"].engine.store.documents("returns", {"order_id": story.order_id})
    assert balance.charged == captured["charged"]["minor"]
    assert balance.unpaid == captured["unpaid"]["minor"]
    assert balance.canceled == sum(
        captured[name]["minor"] for name in ("refunded", "refunds_pending", "refunds_failed")
    )
    assert balance.refunded + balance.pending + balance.failed == balance.canceled + balance.returned
    assert balance.kept == balance.charged - balance.refunded
    assert {key for key, _ in back} == set(order.returns)
    assert {key: found["status"] for key, found in back} == {key: each.state for key, each in order.returns.items()}


@settings(
    deadline=None,
    max_examples=25,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    in_stock=st.sampled_from([1, 2, 8]),
    may_wait=st.booleans(),
    steps=st.tuples(BEFORE, ON_THE_WAY, AFTER).map(lambda parts: [step for part in parts for step in part]),
    data=st.data(),
)
def test_in_any_life_every_unit_and_cent_is_where_the_services_say(
    in_stock: int, may_wait: bool, steps: list[str], data: st.DataObject
) -> None:
    async def live() -> tuple[list[Told], Order]:
        story = Story(in_stock, may_wait)
        await story.begin()
        for step in steps:
            await story.step(step)
            facts = (await facts_of(story.life))[story.order_id]
            await check_against_services(story, drawn(facts))
        return facts, drawn(facts)

    facts, order = asyncio.run(live())
    for state in ("backordered", "let_go", "delivered", "returned"):
        event(f"{state}: {any(getattr(units, state) for units in order.units.values())}")
    mixed = interleaved([item for item in facts if not item.is_state], data)
    again = drawn([*mixed, *(item for item in facts if item.is_state)])
    assert again.model_dump() == order.model_dump()
    assert again.needs() == order.needs()
