"""A count speaks of the moment in which it was taken, whenever it is heard, and whatever is heard after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.inventory import StockAdjusted, StockCountRecorded, StockReceived, StockRejected
from ordermill.contracts.location import StockArrived, StockCorrected, StockCounted
from ordermill.contracts.returns import Disposition, InspectedLine
from ordermill.network import default_network_text, read_network
from services.inventory.domain import Command, CorrectStock, CountStock, ReceiveStock, ShipOut, TakeInReturn
from services.inventory.domain.decisions import MOST_ON_HAND
from services.inventory.domain.stock import MOVES_KEPT
from services.inventory.handlers import Feeds

from .test_inventory import EAST_CLOSED, KNOWN, Given, from_east, reserve, short, some, teapots

OPENING = datetime(2026, 11, 2, 6, tzinfo=UTC)


def at(hour: int, minute: int = 0) -> datetime:
    return OPENING.replace(hour=hour, minute=minute)


def arrived(n: int, when: datetime, reference: str = "po-1") -> ReceiveStock:
    return ReceiveStock("TEAPOT", "east", n, reference, when, KNOWN)


def corrected(n: int, when: datetime, reference: str = "fix-1") -> CorrectStock:
    return CorrectStock("TEAPOT", "east", n, "broken", reference, when, KNOWN)


def counted(n: int, when: datetime, reference: str = "count-1") -> CountStock:
    return CountStock("TEAPOT", "east", n, reference, when, KNOWN)


def handed_over(n: int, when: datetime) -> ShipOut:
    return ShipOut("anna", "anna.east", (some(n),), when)


PACKED = (arrived(10, at(6)), reserve("anna", teapots(2)), from_east("anna", 2))


def on_hand(*commands: Command) -> int:
    history = Given(*commands)
    assert history.check() == []
    return history.stock().shelf("east").on_hand


def test_what_has_left_since_a_count_was_taken_has_left() -> None:
    Given(*PACKED, handed_over(2, at(11))).when(counted(9, at(10))).then(
        StockCountRecorded(sku="TEAPOT", location="east", counted=9, delta=-1, reference="count-1", happened_at=at(10))
    )
    assert on_hand(*PACKED, handed_over(2, at(11)), counted(9, at(10))) == 7


def test_what_left_before_a_count_is_not_taken_off_once_more_when_it_is_heard_after_it() -> None:
    assert on_hand(*PACKED, counted(8, at(10)), handed_over(2, at(9))) == 8
    assert Given(*PACKED, counted(8, at(10))).stock().available == 6, "allocated until its hand-over is heard"
    assert Given(*PACKED, counted(8, at(10)), handed_over(2, at(9))).stock().available == 8


def test_what_came_before_a_count_is_not_added_once_more_when_it_is_heard_after_it() -> None:
    history = (arrived(10, at(6)), counted(15, at(10)))
    about: Any = {"sku": "TEAPOT", "location": "east", "reference": "po-2", "happened_at": at(9)}
    Given(*history).when(arrived(5, at(9), "po-2")).then(
        StockReceived(quantity=5, **about),
        StockAdjusted(delta=-5, reason="the count of 2026-11-02 10:00:00Z knew of what is heard only now", **about),
    )
    assert on_hand(*history, arrived(5, at(9), "po-2"), arrived(1, at(11), "po-3")) == 16


def test_units_found_broken_before_a_count_that_left_nothing_are_no_fault() -> None:
    about: Any = {"sku": "TEAPOT", "location": "east", "reference": "fix-1", "happened_at": at(9)}
    Given(arrived(3, at(6)), counted(0, at(10))).when(corrected(-3, at(9))).then(
        StockAdjusted(delta=-3, reason="broken", **about),
        StockAdjusted(delta=3, reason="the count of 2026-11-02 10:00:00Z knew of what is heard only now", **about),
    )


def test_what_was_put_back_on_the_shelf_before_a_count_was_counted() -> None:
    line = InspectedLine(line_id="1", sku="TEAPOT", quantity=2, disposition=Disposition.RESTOCK)
    assert on_hand(*PACKED, counted(12, at(10)), TakeInReturn("return-1", "i-1", "east", (line,), at(9))) == 12
    assert on_hand(*PACKED, counted(12, at(10)), TakeInReturn("return-1", "i-1", "east", (line,), at(11))) == 14


def test_units_missed_before_a_count_that_found_them_are_there() -> None:
    missed = replace(short(2), at=at(9))
    assert on_hand(*PACKED, counted(10, at(10)), missed) == 10
    assert on_hand(*PACKED, counted(10, at(8)), missed) == 8


def test_a_count_older_than_the_last_one_changes_nothing_and_says_so() -> None:
    Given(*PACKED, counted(10, at(10), "count-2")).when(counted(4, at(9))).then(
        StockRejected(
            sku="TEAPOT",
            location="east",
            reference="count-1",
            reason="counted at 2026-11-02 09:00:00Z, and again at 2026-11-02 10:00:00Z: the later count stands",
        )
    )


def test_counts_and_movements_of_one_moment_count_in_the_order_in_which_they_are_heard() -> None:
    assert on_hand(arrived(10, at(6)), arrived(5, at(10), "po-2"), counted(12, at(10))) == 12
    assert on_hand(arrived(10, at(6)), counted(12, at(10)), arrived(5, at(10), "po-2")) == 17
    assert on_hand(arrived(10, at(6)), counted(12, at(10)), counted(11, at(10), "count-2")) == 11


@pytest.mark.parametrize("count", [MOVES_KEPT, MOVES_KEPT + 1])
def test_a_count_from_before_more_movements_than_are_remembered_has_to_be_taken_again(count: int) -> None:
    moves = [arrived(1, at(9, minute), f"po-{minute}") for minute in range(count)]
    Given(*moves).when(counted(0, at(8))).then(
        StockRejected(
            sku="TEAPOT",
            location="east",
            reference="count-1",
            reason="counted at 2026-11-02 08:00:00Z, and moved 32 times since; count again",
        )
    )
    assert on_hand(*moves, counted(0, at(9, count - 1))) == 0


def test_the_movements_remembered_are_the_newest_however_late_an_older_one_is_heard() -> None:
    moves = [arrived(1, at(9, minute), f"po-{minute}") for minute in range(MOVES_KEPT)]
    assert on_hand(*moves[1:], counted(0, at(8))) == MOVES_KEPT - 1
    assert on_hand(*moves, counted(0, at(9))) == MOVES_KEPT - 1, "the first came in that very moment"
    assert on_hand(*moves, arrived(1, at(8), "late"), counted(0, at(9))) == MOVES_KEPT - 1


def test_more_gone_than_a_count_had_found_leaves_nothing() -> None:
    assert on_hand(*PACKED, handed_over(2, at(11)), counted(1, at(10))) == 0


def test_a_count_of_all_there_can_be_is_not_exceeded_by_what_has_come_since() -> None:
    assert on_hand(*PACKED, arrived(5, at(11), "po-2"), counted(MOST_ON_HAND, at(10))) == MOST_ON_HAND


def test_a_count_where_nothing_ships_from_is_set_aside_whatever_it_says() -> None:
    assert on_hand(*PACKED, handed_over(2, at(11)), EAST_CLOSED, counted(9, at(10))) == 7


@pytest.mark.parametrize("said", [at(10), at(23)])
def test_nothing_has_happened_that_is_still_to_come(said: datetime) -> None:
    feeds, now = Feeds(read_network(default_network_text()), 100), at(10)
    about: Any = {"location": "sparks", "sku": "TEAPOT", "reference": "r", "happened_at": said}
    for command in (
        feeds.receive(StockArrived(quantity=1, **about), now),
        feeds.correct(StockCorrected(delta=1, reason="found", **about), now),
        feeds.count(StockCounted(counted=1, **about), now),
    ):
        assert isinstance(command, ReceiveStock | CorrectStock | CountStock)
        assert command.at == now


Step = tuple[str, int]
_steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(["arrive", "leave", "break", "count"]), st.integers(1, 4)), min_size=1, max_size=12
)


@given(steps=_steps, data=st.data())
def test_in_whatever_order_it_is_heard_what_is_on_hand_is_what_is_there(
    steps: Sequence[Step], data: st.DataObject
) -> None:
    """As long as every count is right: each says what is there at its moment."""
    there = 100
    before: list[Command] = [arrived(there, OPENING, "opening")]
    said: list[Command] = []
    for minute, (what, n) in enumerate(steps, start=1):
        when, reference, order_id = OPENING + timedelta(minutes=minute), f"r-{minute}", f"order-{minute}"
        if what == "arrive":
            there += n
            said.append(arrived(n, when, reference))
        elif what == "leave":
            there -= n
            before += [reserve(order_id, teapots(n)), from_east(order_id, n)]
            line = LineQuantity(line_id="1", sku="TEAPOT", quantity=n)
            said.append(ShipOut(order_id, f"{order_id}.east", (line,), when))
        elif what == "break":
            there -= n
            said.append(corrected(-n, when, reference))
        else:
            said.append(counted(there, when, reference))
    heard = data.draw(st.permutations(said))
    assert on_hand(*before, *heard) == there
