"""A copy with some fields changed is the one that the library makes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordermill.replacing import replace
from services.capture.domain.order import Order
from services.inventory.domain.stock import Stock
from services.tracking.domain import Shipment

NAMES = {cls: [each.name for each in dataclasses.fields(cls)] for cls in (Order, Stock, Shipment)}


@pytest.mark.parametrize("cls", NAMES)
@given(data=st.data())
def test_any_fields_of_a_state_change_and_no_others(cls: type, data: st.DataObject) -> None:
    before = cls()
    changes = data.draw(st.dictionaries(st.sampled_from(NAMES[cls]), st.integers()))
    after = replace(before, **changes)
    assert type(after) is cls
    assert {name: getattr(after, name) for name in NAMES[cls]} == {
        name: changes.get(name, getattr(before, name)) for name in NAMES[cls]
    }
    assert before == cls()


@pytest.mark.parametrize("cls", NAMES)
def test_a_field_that_there_is_not_is_refused(cls: type) -> None:
    with pytest.raises(TypeError, match="no_such_field"):
        replace(cls(), no_such_field=1)


@dataclass(frozen=True)
class Loose:
    copy: int = 1


@dataclass(frozen=True, slots=True)
class Counted:
    parts: tuple[int, ...] = ()
    total: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.parts))


def test_classes_without_slots_and_such_that_see_to_themselves_go_the_long_way() -> None:
    assert replace(Loose(), copy=2) == Loose(2)
    assert replace(Counted((1,)), parts=(1, 2)).total == 3
