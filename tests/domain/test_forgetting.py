"""Rules of forgetting: nobody who has something coming, every key of the order, once, and nothing taken in again."""

from __future__ import annotations

from dataclasses import replace

from ordermill.contracts.capture import (
    CustomerForgetFailed,
    CustomerForgetRequested,
    CustomerForgotten,
    HoldReason,
    OrderRevised,
)
from ordermill.contracts.fields import Destination, LineQuantity
from services.capture.domain import (
    CancelOrder,
    ChangeOrder,
    Command,
    ForgetCustomer,
    HoldOrder,
    Order,
    RecordForgetFailed,
    RecordForgotten,
    RecordShipped,
    decide,
    orders,
)
from services.capture.domain import Memory as Known
from services.capture.errors import OrderUnknown, StillToShip
from tests.domain.test_capture import MONDAY, ORDER, PLACED, UNPAID, changed, given, history

HOME = Destination(country="US", addressee="sealed.v1.c-ada.aG9tZQ")
ELSEWHERE = Destination(country="US", addressee="sealed.v1.c-ada-2.b2ZmaWNl")
BOUGHT = replace(UNPAID, destination=HOME, buyer="sealed.v1.c-ada.YnV5ZXI")
MOVED = ChangeOrder(ORDER, 1, MONDAY, destination=ELSEWHERE)
CALLED_OFF = CancelOrder(ORDER, "c-1", MONDAY)
FORGET = ForgetCustomer(ORDER)
KEYS = ("c-ada", "c-ada-2")
ASKED = CustomerForgetRequested(order_id=ORDER, keys=KEYS)
DONE = CustomerForgotten(order_id=ORDER, keys=KEYS, forgotten_at=MONDAY)


def known(*commands: Command) -> Known:
    return orders.fold(history(*commands)).customer


def test_every_key_that_ever_sealed_something_of_the_order_is_destroyed() -> None:
    given(*history(BOUGHT, MOVED, CALLED_OFF)).when(FORGET).then(ASKED)


def test_who_has_something_coming_is_not_forgotten() -> None:
    given(*history(PLACED)).when(FORGET).then_raises(StillToShip, match="4 units of it are still to be shipped")
    part = (LineQuantity(line_id="1", sku="TEAPOT", quantity=3),)
    shipped = history(PLACED, RecordShipped(ORDER, "m-1", "f-1", part))
    given(*shipped).when(FORGET).then_raises(StillToShip, match="1 units")
    rest = CancelOrder(ORDER, "c-1", MONDAY, (changed("2", 1),))
    given(*shipped, *decide(orders.fold(shipped), rest)).when(FORGET).then_raises(StillToShip, match="1 units")


def test_a_customer_is_forgotten_once_each_time_that_somebody_asks() -> None:
    past = history(BOUGHT, CALLED_OFF)
    key = ("c-ada",)
    asked = CustomerForgetRequested(order_id=ORDER, keys=key)
    done, failed = RecordForgotten(ORDER, key, MONDAY), RecordForgetFailed(ORDER, "no keyring")
    forgotten = CustomerForgotten(order_id=ORDER, keys=key, forgotten_at=MONDAY)
    not_forgotten = CustomerForgetFailed(order_id=ORDER, reason="no keyring")
    given(*past, asked).when(FORGET).then()
    given(*past, asked).when(done).then(forgotten)
    given(*past, asked, forgotten).when(done).then()
    given(*past, asked, forgotten).when(FORGET).then(asked)  # an older backup of the keys may be back
    given(*past, asked, forgotten).when(failed).then()
    given(*past, asked).when(failed).then(not_forgotten)
    given(*past, asked, not_forgotten).when(FORGET).then(asked)
    given(*past).when(done).then()


def test_an_order_that_nobody_knows_or_that_holds_nothing_personal_has_nobody_to_forget() -> None:
    given().when(FORGET).then_raises(OrderUnknown, match=ORDER)
    nobody = replace(PLACED, destination=Destination(country="US"))
    given(*history(nobody, CALLED_OFF)).when(FORGET).then()


def test_an_address_that_a_channel_sends_of_a_forgotten_customer_is_not_taken_in() -> None:
    past = history(BOUGHT, HoldOrder(ORDER, HoldReason.MANUAL))
    asked = CustomerForgetRequested(order_id=ORDER, keys=("c-ada",))  # as an order does whose units a rule let go of
    more = decide(orders.fold([*past, asked]), replace(MOVED, lines=(changed("1", 2),)))
    (revised,) = (event for event in more if isinstance(event, OrderRevised))
    assert revised.destination == HOME
    assert orders.fold([*past, asked, *more]).keys == ("c-ada",)


def test_whether_the_customer_is_known_follows_from_the_events() -> None:
    assert Order().customer is Known.KEPT
    assert known(BOUGHT, CALLED_OFF, FORGET) is Known.FORGETTING
    assert known(BOUGHT, CALLED_OFF, FORGET, RecordForgotten(ORDER, KEYS, MONDAY)) is Known.FORGOTTEN
    assert known(BOUGHT, CALLED_OFF, FORGET, RecordForgetFailed(ORDER, "no")) is Known.KEPT
