"""Units that wait at routing for a location while the order lets them go, through all services."""

from __future__ import annotations

from typing import Any, TypeVar

from ordermill.contracts.base import Fact
from ordermill.contracts.capture import CancellationDeclined, OrderLinesCanceled
from ordermill.contracts.channel import LineChange
from ordermill.contracts.fulfillment import RejectReason
from ordermill.contracts.inventory import AllocationRecalled
from ordermill.contracts.routing import OrderDeferred, OrderUnroutable
from services.fulfillment.domain import Reject
from services.fulfillment.handlers import work_decision
from services.inventory.domain import CountStock, decision
from tests.cli.life import LOCATIONS, Life

F = TypeVar("F", bound=Fact)


async def one_turned_down(life: Life, **more: Any) -> str:
    """Three mugs are wanted, two from sparks and one from edison, which has no hands for it."""
    await life.start()
    await life.receive("MUG", "sparks", 2)
    await life.receive("MUG", "edison", 1)
    order = await life.order("one", {"1": ("MUG", 3, 1_200)}, **more)
    works = await life.services["fulfillment"].engine.store.documents("fulfillments")
    at = {work["location"]: key for key, work in works}
    await life.do("fulfillment", work_decision(Reject(at["edison"], RejectReason.NO_CAPACITY)))
    assert await facts(life, OrderDeferred)
    return order


async def wait(life: Life, minutes: int = 5) -> None:
    for _ in range(minutes * 12):
        life.pass_time(seconds=5)
        for running in life.services.values():
            await running.fire_timers()
        await life.settle()


async def facts(life: Life, kind: type[F]) -> list[F]:
    return [fact for log in (await life.logs()).values() for _, fact in log if isinstance(fact, kind)]


async def canceled(life: Life) -> list[tuple[str, int]]:
    """Why units were canceled, and how many."""
    told = await facts(life, OrderLinesCanceled)
    return [(fact.reason, sum(line.quantity for line in fact.lines)) for fact in told]


async def test_a_unit_that_waits_for_a_location_and_is_canceled_is_canceled_once() -> None:
    life = Life()
    order = await one_turned_down(life)
    await life.cancel(order, lines=(LineChange(line_id="1", quantity=1),))
    await wait(life)
    assert await canceled(life) == [("", 1)]
    for kind in (AllocationRecalled, OrderUnroutable, CancellationDeclined):
        assert await facts(life, kind) == []
    ((_, plan),) = await life.services["routing"].engine.store.documents("plans")
    assert (plan["status"], plan["waiting"]) == ("routed", [])


async def test_a_unit_that_waits_for_a_location_and_nobody_cancels_is_unroutable() -> None:
    life = Life()
    await one_turned_down(life)
    await wait(life)
    assert await canceled(life) == [("unroutable", 1)]
    assert await facts(life, AllocationRecalled) == []


async def test_a_unit_that_waits_for_a_location_and_is_counted_away_is_canceled_once() -> None:
    life = Life()
    await one_turned_down(life)
    await life.do("inventory", decision(CountStock("MUG", "edison", 0, "count", life.now, LOCATIONS)))
    await wait(life)
    assert await canceled(life) == [("shortage", 1)]
    assert await facts(life, OrderUnroutable) == []


async def test_a_unit_that_is_counted_away_and_may_wait_for_stock_waits_for_it_and_goes_when_it_comes() -> None:
    life = Life()
    await one_turned_down(life, allow_backorder=True)
    await life.do("inventory", decision(CountStock("MUG", "edison", 0, "count", life.now, LOCATIONS)))
    await wait(life)
    assert await canceled(life) == []
    await life.receive("MUG", "sparks", 1)
    await life.ship_all()
    assert await canceled(life) == []
    ((_, claim),) = await life.services["inventory"].engine.store.documents("reservations")
    assert claim["lines"][0]["shipped"] == 3


async def test_of_units_that_wait_those_that_are_left_go_as_soon_as_there_are_enough() -> None:
    life = Life()
    await life.start()
    await life.receive("MUG", "edison", 3)
    order = await life.order("one", {"1": ("MUG", 3, 1_200)})
    ((work, _),) = await life.services["fulfillment"].engine.store.documents("fulfillments")
    await life.do("fulfillment", work_decision(Reject(work, RejectReason.NO_CAPACITY)))
    await life.cancel(order, lines=(LineChange(line_id="1", quantity=1),))
    await life.receive("MUG", "sparks", 2)
    await wait(life)
    await life.ship_all()
    assert await canceled(life) == [("", 1)]
    ((_, claim),) = await life.services["inventory"].engine.store.documents("reservations")
    assert claim["lines"][0]["shipped"] == 2
