"""What the console makes of an order's routing: what still ships, what waits, what was given up, and from where."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from ordermill.contracts.routing import OrderUnroutable, PromiseMade
from ordermill.network import default_network_text, read_network
from services.console.doors import NoAnswer
from services.console.pages import environment
from services.console.pictures.routes import ROUTES, Route
from services.console.routing import shown
from services.console.told import Told
from services.routing.domain import PLANS
from tests.domain.test_routing import BOTH, MUG, POT, given_back, gone, refused, reserved, retry, said_to


def drawn(*commands) -> tuple[Route, list]:
    """The picture after routing's own decisions on these commands, and those decisions."""
    events: list = []
    for command in commands:
        events.extend(said_to(PLANS.fold(events), command))
    route = Route()
    for event in events:
        item = Told(
            key=None, message_id="", source="/ordermill/routing", topic="", type=event.type, stream="plan-o",
            version=1, actor="", correlation_id="", causation_id="", happened_at=datetime.now(UTC), data=None,
            message=event, order_id="o",
        )  # fmt: skip
        ROUTES.draw(route, "o", item)
    return route, events


def test_units_given_back_leave_their_parcel_and_ship_from_elsewhere():
    one_each = {"edison": {"mug": 5}, "groveport": {"pot": 5}, "sparks": BOTH}
    route, events = drawn(
        reserved(available={"edison": BOTH}),
        given_back("o.1.1", "edison", "short-pick", MUG, available=one_each),
    )
    assert route.status == "routed"
    assert {key: parcel.units for key, parcel in route.parcels.items()} == {"o.1.1": {"2": 1}, "o.2.1": {"1": 2}}
    assert [(one.from_where, one.locations) for one in route.decisions] == [
        ((), ("edison",)),
        (("edison",), ("sparks",)),
    ]
    assert route.promised_by == max(e.promised_by for e in events if hasattr(e, "promised_by"))
    assert ROUTES.columns(route)["parcels"] == 2
    assert ROUTES.columns(route)["again"] == 1


def test_a_refused_plan_is_gone_and_what_waits_is_told_until_it_is_tried_again():
    route, _ = drawn(
        reserved(available={"edison": BOTH}), refused("o.1", ("edison", "mug"), available={"edison": BOTH})
    )
    assert (route.status, route.parcels) == ("deferred", {})
    assert list(route.waiting) == ["o.2"]
    route, _ = drawn(
        reserved(available={"edison": BOTH}),
        refused("o.1", ("edison", "mug"), available={"edison": BOTH}),
        retry("o.2", {"edison": BOTH}),
    )
    assert (route.status, list(route.parcels), route.waiting) == ("routed", ["o.3.1"], {})


def test_what_waits_is_told_until_none_of_it_is_wanted():
    waits = reserved(available={})
    assert list(drawn(waits, gone(POT))[0].waiting) == ["o.1"]
    assert drawn(waits, gone(POT, MUG))[0].waiting == {}


def test_units_given_up_are_told_with_the_reason_beside_what_ships():
    tries = [retry(f"o.{number}", {"edison": {"pot": 5}}) for number in range(1, 6)]
    route, events = drawn(reserved(MUG, POT, available={"edison": {"pot": 5}}), *tries)
    given_up = next(event for event in events if isinstance(event, OrderUnroutable))
    assert route.status == "unroutable"
    assert route.unroutable == [given_up.reason]
    assert [parcel.units for parcel in route.parcels.values()] == [{"2": 1}]
    assert any(isinstance(event, PromiseMade) for event in events)


async def test_an_order_of_a_location_that_has_left_the_network_still_has_its_page():
    route, _ = drawn(reserved(available={"edison": BOTH}))

    class Kept:
        async def fetchrow(self, *_: Any) -> dict[str, Any]:
            return {"doc": route.model_dump_json(), "external_id": "A-1"}

        async def get(self, service: str, *_: Any, **__: Any) -> Any:
            raise NoAnswer(service)

    left = [each for each in read_network(default_network_text()).locations if each.id != "edison"]
    this: Any = SimpleNamespace(pool=Kept(), doors=Kept(), network=SimpleNamespace(locations=left))
    page = environment().get_template("routing/order_live.html")
    told = page.render(**await shown(this, "o", ""), when=str, day=str)
    assert "1 edison" in told
