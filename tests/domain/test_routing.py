"""What becomes of an order's units until a location has them, and what the customer is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity
from ordermill.contracts.inventory import (
    AllocationRefused,
    Availability,
    LocationAvailability,
    OrderBackordered,
    OrderLetGo,
    OrderReserved,
)
from ordermill.contracts.routing import (
    OrderDeferred,
    OrderRerouted,
    OrderRouted,
    OrderUnroutable,
    PlannedShipment,
    PolicyAdopted,
    PromiseChanged,
    PromiseMade,
    WaitingUnitsGone,
)
from ordermill.decider import Decision
from ordermill.eventlog.store import Timer
from ordermill.network import NetworkInvalid, default_network_text
from ordermill.service.declare import Received
from services.routing.domain import (
    PLANS,
    POLICIES,
    POLICY_STREAM,
    AdoptPolicy,
    DropUnits,
    LivePlan,
    OrderPlan,
    PolicyInForce,
    RerouteGivenBack,
    RerouteRefused,
    RetryRouting,
    RouteOrder,
    decide,
    decide_policy,
    drop,
    plan_summary,
    recompute,
    route,
    skus_to_route,
)
from services.routing.errors import OrderNotRouted, PolicyInvalid, PolicyMismatch, PolicyNotAdopted
from services.routing.handlers import Planning, backordered, deadlines, let_go
from services.routing.picture import Picture
from services.routing.planner import Plan, plan
from services.routing.policy import default_policy_text
from services.routing.rules import read_rules
from tests.spec import spec, through_json

POLICY = default_policy_text()
NETWORK = default_network_text()
RULES = read_rules(POLICY, NETWORK)
ADOPTED = PolicyAdopted(policy_hash=RULES.hash, content=POLICY, network=NETWORK)

ROUTING = spec(PLANS, lambda state, command: decide(state, command, RULES))
ADOPTING = spec(POLICIES, decide_policy)

MONDAY = datetime(2026, 3, 2, 15, tzinfo=UTC)
SOON = MONDAY + timedelta(minutes=1)
TUESDAY = MONDAY + timedelta(days=1)
NEW_YORK = Destination(country="US", region="NY", postal_code="10001")
MUG = ReleasedLine(line_id="1", sku="mug", quantity=2, weight_g=400)
POT = ReleasedLine(line_id="2", sku="pot", quantity=1, weight_g=1_500)
ONE_MUG = MUG.model_copy(update={"quantity": 1})
BOTH = {"mug": 5, "pot": 5}
EVERYWHERE = {"edison": BOTH, "groveport": BOTH, "sparks": BOTH}


def reserved(*lines, available=EVERYWHERE, caused_by="m1", cause="reserved", at=MONDAY) -> RouteOrder:
    return RouteOrder(
        order_id="o",
        caused_by=caused_by,
        cause=cause,
        lines=lines or (MUG, POT),
        destination=NEW_YORK,
        placed_at=MONDAY,
        service_level=ServiceLevel.STANDARD,
        decided_at=at,
        available=available,
    )


def refused(plan_id, *short, available=EVERYWHERE, caused_by="m2", at=SOON) -> RerouteRefused:
    return RerouteRefused("o", caused_by, plan_id, short, at, available)


def given_back(fulfillment_id, location, cause, *lines, available=EVERYWHERE, caused_by="m3", at=SOON):
    return RerouteGivenBack("o", caused_by, fulfillment_id, location, cause, lines, at, available)


def gone(*lines, caused_by="m7", heard=9) -> DropUnits:
    return DropUnits("o", caused_by, tuple(some(line, line.quantity) for line in lines), heard)


def some(line: ReleasedLine, quantity: int) -> LineQuantity:
    return LineQuantity(line_id=line.line_id, sku=line.sku, quantity=quantity)


def retry(plan_id, available=EVERYWHERE, at=SOON) -> RetryRouting:
    return RetryRouting("o", plan_id, at, available)


def after(*commands):
    """The events of these commands, one after another."""
    events = []
    for command in commands:
        events.extend(said_to(PLANS.fold(events), command))
    return events


def said_to(state, command):
    return drop(state, command) if isinstance(command, DropUnits) else decide(state, command, RULES)


def kinds(events) -> list[str]:
    return [type(event).__name__ for event in events]


def where(event) -> list[tuple[str, list[tuple[str, int]]]]:
    return [(one.location, [(line.sku, line.quantity) for line in one.lines]) for one in event.shipments]


def test_a_reserved_order_is_routed_by_the_cheapest_plan_and_the_customer_is_promised_its_date():
    asked = reserved()
    routed, promise = after(asked)
    best = plan(routed.inputs, "o.1", RULES)
    assert isinstance(best, Plan)
    ROUTING.given().when(asked).then(
        OrderRouted(
            order_id="o",
            plan_id="o.1",
            caused_by="m1",
            cause="reserved",
            shipments=best.shipments,
            cost=best.cost,
            inputs=routed.inputs,
        ),
        PromiseMade(order_id="o", promised_by=best.shipments[0].deliver_by, promised_on=date(2026, 3, 3)),
    )
    assert where(routed) == [("edison", [("mug", 2), ("pot", 1)])]
    assert [one.fulfillment_id for one in routed.shipments] == ["o.1.1"]
    assert promise.promised_by == datetime(2026, 3, 4, 1, tzinfo=UTC)  # Tuesday, 20:00 in New York


def test_the_record_holds_all_that_the_decision_saw_and_nothing_else():
    cluttered = {"sparks": {"pot": 0, "mug": -1}, **EVERYWHERE, "edison": {**BOTH, "pan": 9}, "moon": {"pan": 1}}
    (routed, _) = after(reserved(available=cluttered))
    assert routed.inputs.policy_hash == RULES.hash
    assert routed.inputs.available == EVERYWHERE
    assert routed.inputs.lines == (MUG, POT)
    assert routed.inputs.place == RULES.place_of("US", "NY", "10001")


def test_a_message_that_comes_twice_is_answered_once():
    past = after(reserved())
    ROUTING.given(*past).when(reserved()).then()
    past = after(reserved(), refused("o.1", ("edison", "mug")))
    ROUTING.given(*past).when(refused("o.1", ("edison", "mug"))).then()
    past = after(
        reserved(), given_back("o.1.1", "edison", "short-pick", ReleasedLine(**{**MUG.model_dump(), "quantity": 1}))
    )
    ROUTING.given(*past).when(
        given_back("o.1.1", "edison", "short-pick", ReleasedLine(**{**MUG.model_dump(), "quantity": 1}))
    ).then()


def test_units_that_waited_for_stock_get_a_plan_of_their_own_and_the_later_date_is_promised():
    later = reserved(POT, caused_by="m9", cause="backorder-filled", available={"sparks": BOTH}, at=TUESDAY)
    first, made, second, changed = after(reserved(MUG), later)
    assert (first.plan_id, second.plan_id) == ("o.1", "o.2")
    assert isinstance(second, OrderRouted)
    assert second.cause == "backorder-filled"
    assert changed == PromiseChanged(
        order_id="o",
        promised_by=second.shipments[0].deliver_by,
        promised_on=changed.promised_by.astimezone(ZoneInfo("America/New_York")).date(),
        was=made.promised_by,
        reason="backorder-filled",
    )


def test_the_same_units_filled_twice_are_routed_twice():
    one = reserved(POT, caused_by="m2", cause="backorder-filled")
    other = reserved(POT, caused_by="m3", cause="backorder-filled")
    assert kinds(after(one, other)) == ["OrderRouted", "PromiseMade", "OrderRouted"]


def test_a_refused_plan_is_made_again_without_what_was_short():
    events = after(reserved(), refused("o.1", ("edison", "mug")))
    again = events[2]
    assert isinstance(again, OrderRerouted)
    assert (again.plan_id, again.cause, again.instead_of, again.attempt) == ("o.2", "allocation-refused", "o.1", 2)
    assert where(again) == [("groveport", [("mug", 2), ("pot", 1)])]
    assert again.inputs.excluded == (("edison", "mug"),)
    assert [live.plan_id for live in PLANS.fold(events).live] == ["o.2"]


def test_a_location_that_was_short_is_left_out_of_the_next_try_only():
    events = after(
        reserved(available={"edison": BOTH, "groveport": BOTH}),
        refused("o.1", ("edison", "mug"), available={"groveport": BOTH}),
        given_back("o.2.1", "groveport", "rejected", MUG, POT, available={"edison": BOTH}),
    )
    assert where(events[-1 if isinstance(events[-1], OrderRerouted) else -2]) == [("edison", [("mug", 2), ("pot", 1)])]


def test_units_wait_where_only_a_stale_picture_is_in_the_way():
    only = {"edison": BOTH}
    deferred = after(reserved(available=only), refused("o.1", ("edison", "mug"), available=only))[-1]
    assert isinstance(deferred, OrderDeferred)
    assert (deferred.plan_id, deferred.attempt) == ("o.2", 2)
    assert deferred.retry_at == SOON + timedelta(seconds=10)
    assert "mug: 2 wanted, 0 seen where they may be shipped from, 5 anywhere" in deferred.reason


def test_units_wait_where_the_only_location_that_may_ship_them_was_short_this_once():
    others = sorted(RULES.network.location_ids - {"edison"})
    one = read_rules(
        POLICY.replace("excluded_locations = []", f"excluded_locations = {orjson.dumps(others).decode()}"), NETWORK
    )
    past = decide(OrderPlan(), reserved(), one)
    assert kinds(decide(PLANS.fold(past), refused("o.1", ("edison", "mug")), one)) == ["OrderDeferred"]
    assert kinds(decide(PLANS.fold(past), given_back("o.1.1", "edison", "short-pick", MUG), one)) == ["OrderUnroutable"]


def test_a_date_is_not_told_for_units_that_wait():
    split = {"edison": {"mug": 5}, "sparks": {"pot": 5}}
    rejected = given_back("o.1.2", "sparks", "rejected", POT, available={"edison": {"mug": 5}})
    assert kinds(after(reserved(available=split), rejected)) == ["OrderRouted", "PromiseMade", "OrderDeferred"]


def test_units_refused_twice_in_a_row_wait_for_a_newer_picture():
    events = after(reserved(), refused("o.1", ("edison", "mug")), refused("o.2", ("groveport", "mug"), caused_by="m4"))
    assert kinds(events)[-1] == "OrderDeferred"
    state = PLANS.fold(events)
    assert [(one.plan_id, one.lines, one.attempt) for one in state.waiting] == [("o.3", (MUG, POT), 3)]
    assert not state.live


def test_an_order_seen_nowhere_waits_since_what_was_reserved_must_be_somewhere():
    deferred, *rest = after(reserved(available={"edison": {"mug": 5}}))
    assert isinstance(deferred, OrderDeferred)
    assert rest == []
    events = [deferred, *decide(PLANS.fold([deferred]), retry("o.1"), RULES)]
    assert kinds(events) == ["OrderDeferred", "OrderRouted", "PromiseMade"]
    assert (events[1].cause, events[1].instead_of, events[1].attempt) == ("retry", "o.1", 2)
    assert not PLANS.fold(events).waiting
    assert decide(PLANS.fold(events), retry("o.1"), RULES) == []


def test_a_retry_of_units_that_had_a_plan_is_a_rerouting():
    only = {"edison": BOTH}
    events = after(reserved(available=only), refused("o.1", ("edison", "mug"), available=only), retry("o.2"))
    assert kinds(events)[-1] == "OrderRerouted"


def test_after_as_many_tries_as_the_policy_allows_units_are_unroutable_but_only_those_seen_nowhere():
    nearly = {"edison": {"mug": 1, "pot": 5}, "sparks": {"pot": 5}}
    events = after(reserved(available=nearly), *(retry(f"o.{number}", nearly) for number in range(1, 6)))
    assert kinds(events) == ["OrderDeferred"] * 5 + ["OrderRouted", "OrderUnroutable", "PromiseMade"]
    routed, unroutable = events[5:7]
    assert where(routed) == [("edison", [("mug", 1), ("pot", 1)])]
    assert [(line.line_id, line.quantity) for line in unroutable.inputs.lines] == [("1", 1)]
    assert unroutable.reason == "mug: 1 wanted, 0 seen where they may be shipped from, 0 anywhere"
    assert (routed.plan_id, unroutable.plan_id) == ("o.6", "o.7")
    assert plan_summary(PLANS.fold(events))["status"] == "partly-unroutable"


def test_after_as_many_refusals_as_the_policy_allows_units_are_unroutable():
    events = after(reserved())
    while not isinstance(events[-1], OrderUnroutable):
        state = PLANS.fold(events)
        last = f"o.{state.decisions}"
        command = retry(last) if state.waiting else refused(last, ("edison", "mug"), caused_by=f"r{state.decisions}")
        events.extend(decide(state, command, RULES))
    assert PLANS.fold(events).decisions == 7
    assert events[-1].reason == "given up after 6 tries: each time a location had less than routing knew of"
    assert events[-1].inputs.lines == (MUG, POT)
    assert PLANS.fold(events).unroutable == (MUG, POT)


def test_a_country_no_service_goes_to_is_unroutable_at_once():
    domestic = NETWORK.replace("315, 980]", "315]").replace("7, 12]", "7]")
    rules = read_rules(POLICY, domestic.replace("560, 1450]", "560]").replace("2, 2, 5]", "2, 2]"))
    asked = reserved()
    command = RouteOrder(
        asked.order_id,
        "m1",
        "reserved",
        asked.lines,
        Destination(country="DE"),
        MONDAY,
        asked.service_level,
        MONDAY,
        EVERYWHERE,
    )
    (unroutable,) = decide(OrderPlan(), command, rules)
    assert isinstance(unroutable, OrderUnroutable)
    assert unroutable.reason == "no location that may ship this order has a service for standard orders to DE"


def test_who_rejected_the_work_gets_nothing_of_this_order_again():
    events = after(
        reserved(MUG),
        given_back("o.1.1", "edison", "rejected", MUG),
        reserved(POT, cause="backorder-filled", caused_by="m5"),
    )
    assert where(events[2]) == [("groveport", [("mug", 2)])]
    assert events[2].inputs.excluded == (("edison", None),)
    assert (events[2].cause, events[2].instead_of, events[2].attempt) == ("rejected", "o.1.1", 1)
    assert [where(event) for event in events if isinstance(event, OrderRouted)][1] == [("groveport", [("pot", 1)])]


def test_who_picked_short_gets_none_of_that_sku_again_and_keeps_the_rest():
    short = MUG.model_copy(update={"quantity": 1})
    events = after(
        reserved(),
        given_back("o.1.1", "edison", "short-pick", short),
        reserved(MUG, POT, cause="backorder-filled", caused_by="m5"),
    )
    state = PLANS.fold(events[:3])
    assert [(one.fulfillment_id, [(line.sku, line.quantity) for line in one.lines]) for one in state.shipments] == [
        ("o.1.1", [("mug", 1), ("pot", 1)]),
        ("o.2.1", [("mug", 1)]),
    ]
    assert state.excluded == (("edison", "mug"),)
    assert where([event for event in events if isinstance(event, OrderRouted)][1]) == [
        ("groveport", [("mug", 2), ("pot", 1)])
    ]


@pytest.mark.parametrize("cause", ["short-pick", "rejected"])
def test_units_that_waited_for_stock_go_from_who_did_not_ship_them_before_if_it_has_come_nowhere_else(cause):
    told = [reserved(MUG), given_back("o.1.1", "edison", cause, MUG)]
    only = {"edison": BOTH}
    filled = reserved(MUG, cause="backorder-filled", caused_by="m5", available=only, at=TUESDAY)
    waits = after(*told, filled)[-1]
    assert isinstance(waits, OrderDeferred), "a newer picture may show another place"
    elsewhere = after(*told, filled, retry(waits.plan_id, {**only, "sparks": BOTH}, TUESDAY))
    assert [where(event) for event in elsewhere if isinstance(event, OrderRouted)][1] == [("sparks", [("mug", 2)])]
    again = after(*told, filled, retry(waits.plan_id, only, TUESDAY))
    routed = [event for event in again if isinstance(event, OrderRouted)][1]
    assert where(routed) == [("edison", [("mug", 2)])]
    back = given_back(f"{routed.plan_id}.1", "edison", "rejected", MUG, available=only, caused_by="m6", at=TUESDAY)
    last = after(*told, filled, retry(waits.plan_id, only, TUESDAY), back, retry("o.5", only, TUESDAY))[-1]
    assert isinstance(last, OrderDeferred), "these it has turned down now"


def test_units_a_person_took_back_go_from_elsewhere_though_the_location_may_ship_others_of_the_order_later():
    events = after(
        reserved(MUG),
        given_back("o.1.1", "edison", "manual", MUG),
        reserved(POT, cause="backorder-filled", caused_by="m5"),
    )
    assert where(events[2]) == [("groveport", [("mug", 2)])]
    assert (events[2].cause, events[2].instead_of) == ("manual", "o.1.1")
    assert PLANS.fold(events).excluded == ()
    assert where(events[-1] if isinstance(events[-1], OrderRouted) else events[-2]) == [("edison", [("pot", 1)])]


def test_units_a_person_took_back_to_have_all_places_weighed_anew_may_go_from_where_they_were():
    command = replace(given_back("o.1.1", "edison", "manual", MUG), avoid=False)
    assert where(after(reserved(MUG), command)[2]) == [("edison", [("mug", 2)])]


def test_where_only_the_location_avoided_has_the_goods_it_gets_them_again_and_nothing_is_called_off():
    only = {"edison": BOTH}
    past = after(reserved(MUG, available=only), given_back("o.1.1", "edison", "manual", MUG, available=only))
    assert kinds(past) == ["OrderRouted", "PromiseMade", "OrderDeferred"]
    again = decide(PLANS.fold(past), retry("o.2", only), RULES)
    assert isinstance(again[0], OrderRerouted)
    assert where(again[0]) == [("edison", [("mug", 2)])]


WAITS = (reserved(available={}),)
"""Two mugs and a pot, seen nowhere so far."""


def test_units_given_up_are_not_tried_again_and_the_others_of_the_order_are():
    past = after(*WAITS, gone(POT, ONE_MUG))
    assert past[1:] == [
        WaitingUnitsGone(order_id="o", plan_id="o.1", caused_by="m7", lines=(some(MUG, 1), some(POT, 1)), left=1)
    ]
    assert deadlines("plan-o", past[1]) == ()
    (routed, _) = decide(PLANS.fold(past), retry("o.1"), RULES)
    assert where(routed) == [("edison", [("mug", 1)])]
    assert recompute(routed, POLICY, NETWORK).shipments == routed.shipments


def test_where_all_units_that_waited_are_given_up_nothing_is_tried_again():
    past = after(*WAITS, gone(MUG, POT))
    assert past[1].left == 0
    (timer,) = deadlines("plan-o", past[0])
    assert isinstance(timer, Timer)
    assert deadlines("plan-o", past[1]) == (("plan-o", timer.name),)
    assert plan_summary(PLANS.fold(past))["status"] == "nothing-to-route"
    ROUTING.given(*past).when(retry("o.1")).then()


def test_units_given_up_are_counted_once_however_often_that_is_said():
    past = after(*WAITS, gone(ONE_MUG))
    assert drop(PLANS.fold(past), gone(ONE_MUG)) == []
    assert [event.left for event in drop(PLANS.fold(past), gone(ONE_MUG, caused_by="m8"))] == [1]


def test_units_given_up_that_do_not_wait_at_routing_are_no_news_to_it():
    for past in ([], after(reserved()), after(*WAITS, retry("o.1"))):
        assert drop(PLANS.fold(past), gone(MUG)) == []


def test_units_that_came_to_wait_after_others_were_given_up_go_on_waiting_however_late_that_is_heard():
    only_edison = {"edison": BOTH}
    rejected = replace(given_back("o.1.1", "edison", "rejected", MUG, available=only_edison), heard=6)
    past = after(reserved(MUG, available=only_edison), rejected)
    assert kinds(past)[-1] == "OrderDeferred"
    assert drop(PLANS.fold(past), gone(ONE_MUG, heard=5)) == []
    again = [*past, *decide(PLANS.fold(past), retry("o.2", {}), RULES)]
    assert drop(PLANS.fold(again), gone(ONE_MUG, heard=5)) == []
    assert [event.plan_id for event in drop(PLANS.fold(again), gone(ONE_MUG, heard=7))] == ["o.3"]


def test_of_a_plan_that_is_refused_only_the_units_still_wanted_are_planned_again():
    command = replace(refused("o.1", ("edison", "mug")), wanted=(some(MUG, 1), some(POT, 1)))
    routed = after(reserved(), command)[2]
    assert routed.inputs.lines == (ONE_MUG, POT)
    assert PLANS.fold(after(reserved(), command)).live[0].plan_id == "o.2"


def test_what_is_said_of_units_at_a_location_of_units_given_up_by_routing_or_of_stock_waited_for_is_no_matter_here():
    received = Received("m7", "m7", SOON, SOON, 9)
    pots, mugs = some(POT, 1), some(MUG, 2)
    at_work = OrderLetGo(order_id="o", cause="canceled", lines=(mugs,), fulfillment_id="o.1.1", cancellation_id="c")
    own = OrderLetGo(order_id="o", cause="unroutable", lines=(mugs,), cancellation_id="unroutable:o.1")
    unclaimed = OrderLetGo(order_id="o", cause="canceled", lines=(mugs,), backordered=(mugs,), cancellation_id="c")
    for fact in (at_work, own, unclaimed):
        assert let_go(fact, received) == []
    for was in ("asked", "allocated"):
        assert backordered(OrderBackordered(order_id="o", lines=(mugs,), was=was), received) == []
    state = PLANS.fold(after(*WAITS))
    partly = OrderLetGo(order_id="o", cause="shortage", lines=(mugs, pots), backordered=(some(MUG, 1),))
    waits = OrderBackordered(order_id="o", lines=(some(MUG, 1), pots), was="reserved")
    for (asks,) in (let_go(partly, received), backordered(waits, received)):
        assert isinstance(asks, Decision)
        ((stream, event),) = asks.decide({"plan-o": state})
        assert (stream, event.lines, event.left) == ("plan-o", (some(MUG, 1), pots), 1)


class TestPicture:
    """Availability as routing has it: inventory's last word, less what was planned since."""

    @staticmethod
    def word(sku: str, version: int, **free: int) -> Availability:
        at = {location: LocationAvailability(on_hand=units, unallocated=units) for location, units in free.items()}
        return Availability(sku=sku, version=version, available=sum(free.values()), locations=at)

    def picture(self) -> Picture:
        picture = Picture()
        picture.absorb(self.word("mug", 1, edison=2, sparks=2))
        picture.absorb(self.word("pot", 1, edison=1))
        return picture

    @staticmethod
    def shipments(*lines, available=EVERYWHERE) -> tuple[PlannedShipment, ...]:
        return after(reserved(*lines, available=available))[0].shipments

    def test_what_is_planned_is_not_there_for_the_next_order(self):
        picture = self.picture()
        picture.take("o.1", self.shipments(MUG, available={"edison": BOTH}))
        picture.take("p.1", self.shipments(ONE_MUG, available={"sparks": BOTH}))
        assert picture.of(["mug", "pot"]) == {"edison": {"pot": 1}, "sparks": {"mug": 1}}

    def test_a_decision_that_is_made_again_counts_once(self):
        picture = self.picture()
        for _ in range(2):
            picture.take("o.1", self.shipments(ONE_MUG))
        assert picture.of(["mug"]) == {"edison": {"mug": 1}, "sparks": {"mug": 2}}

    def test_two_lines_of_one_sku_count_both(self):
        picture = self.picture()
        picture.take("o.1", self.shipments(ONE_MUG, ONE_MUG.model_copy(update={"line_id": "9"})))
        assert picture.of(["mug"]) == {"sparks": {"mug": 2}}

    def test_inventorys_next_word_counts_alone(self):
        picture = self.picture()
        picture.take("o.1", self.shipments(ONE_MUG))
        picture.absorb(self.word("mug", 2, edison=5))
        picture.absorb(self.word("mug", 1, edison=2))
        assert picture.of(["mug"]) == {"edison": {"mug": 5}}

    def test_what_a_refused_plan_wanted_is_there_again_but_where_there_was_too_little(self):
        picture = self.picture()
        picture.take("o.1", self.shipments(MUG, POT))
        picture.take("p.1", self.shipments(ONE_MUG, available={"sparks": BOTH}))
        for _ in range(2):
            picture.refused("o.1", ["mug", "pot"], (("edison", "pot"),))
        assert picture.of(["mug", "pot"]) == {"edison": {"mug": 2}, "sparks": {"mug": 1}}


def test_an_order_does_not_wait_for_units_that_only_its_own_refused_plan_had_taken_from_the_picture():
    picture = Picture()
    picture.absorb(TestPicture.word("mug", 1, edison=2))
    picture.absorb(TestPicture.word("pot", 1, edison=1))
    planning = Planning(picture, lambda: MONDAY)
    states = {POLICY_STREAM: POLICIES.fold([ADOPTED]), "plan-o": OrderPlan()}

    def heard(decisions):
        (asked,) = decisions
        events = [event for _, event in asked.decide(states)]
        states["plan-o"] = PLANS.fold(events, states["plan-o"])
        return events[0]

    claimed = OrderReserved(
        order_id="o", placed_at=MONDAY, destination=NEW_YORK, service_level=ServiceLevel.STANDARD, lines=(MUG, POT)
    )
    first = heard(planning.reserved(claimed, Received("m1", "c", MONDAY, MONDAY)))
    assert where(first) == [("edison", [("mug", 2), ("pot", 1)])]
    picture.absorb(TestPicture.word("pot", 2, sparks=1))
    short = AllocationRefused(order_id="o", plan_id="o.1", short=(("edison", "pot"),))
    again = heard(planning.allocation_refused(short, Received("m2", "c", MONDAY, MONDAY)))
    assert isinstance(again, OrderRerouted)
    assert where(again) == [("edison", [("mug", 2)]), ("sparks", [("pot", 1)])]


def test_more_units_given_back_than_are_there_count_as_those_that_are():
    many = MUG.model_copy(update={"quantity": 9})
    events = after(reserved(), given_back("o.1.1", "edison", "rejected", many, POT))
    assert events[2].inputs.lines == (MUG, POT)
    ROUTING.given(*events).when(given_back("o.1.1", "edison", "rejected", MUG, caused_by="m8")).then()


def test_the_promise_is_the_latest_date_of_what_is_under_way_and_a_change_is_told_only_if_the_date_moves():
    split = {"edison": {"mug": 5}, "sparks": {"pot": 5}}
    first, made, *_ = past = after(reserved(available=split))
    near, far = first.shipments
    assert made.promised_by == far.deliver_by > near.deliver_by
    closer = given_back("o.1.2", "sparks", "rejected", POT, available={"edison": BOTH})
    again, changed = decide(PLANS.fold(past), closer, RULES)
    assert changed == PromiseChanged(
        order_id="o",
        promised_by=max(near.deliver_by, again.shipments[0].deliver_by),
        promised_on=changed.promised_by.astimezone(ZoneInfo("America/New_York")).date(),
        was=made.promised_by,
        reason="rejected",
    )
    same = given_back("o.1.1", "edison", "rejected", MUG, available={"groveport": BOTH})
    assert kinds(decide(PLANS.fold(past), same, RULES)) == ["OrderRerouted"]


def test_word_of_a_plan_for_an_order_never_routed_is_poison():
    ROUTING.given().when(refused("o.1", ("edison", "mug"))).then_raises(OrderNotRouted, match="o.1")
    ROUTING.given().when(given_back("o.1.1", "edison", "rejected", MUG)).then_raises(OrderNotRouted, match="o.1.1")
    ROUTING.given().when(retry("o.1")).then()


def test_orders_are_routed_under_the_policy_in_force_and_wait_for_one():
    states = {"plan-o": OrderPlan(), POLICY_STREAM: PolicyInForce()}
    with pytest.raises(PolicyNotAdopted, match="o: no routing policy"):
        route(states, reserved())
    dear = POLICY.replace("warehouse = 60", "warehouse = 9000")
    states[POLICY_STREAM] = POLICIES.fold(decide_policy(PolicyInForce(), AdoptPolicy(dear, NETWORK)))
    decided = route(states, reserved(available={**EVERYWHERE, "brooklyn": BOTH}))
    assert [stream for stream, _ in decided] == ["plan-o", "plan-o"]
    assert where(decided[0][1])[0][0] == "brooklyn"


def test_a_policy_is_adopted_if_it_says_something_new_and_is_valid():
    ADOPTING.given().when(AdoptPolicy(POLICY, NETWORK)).then(ADOPTED)
    ADOPTING.given(ADOPTED).when(AdoptPolicy(POLICY + "\n# a comment", NETWORK)).then()
    other = NETWORK.replace("590", "595")
    ADOPTING.given(ADOPTED).when(AdoptPolicy(POLICY, other)).then(
        PolicyAdopted(policy_hash=read_rules(POLICY, other).hash, content=POLICY, network=other)
    )
    ADOPTING.given(ADOPTED).when(AdoptPolicy("attempts = 1", NETWORK)).then_raises(
        PolicyInvalid, match="`max_shipments`"
    )
    ADOPTING.given(ADOPTED).when(AdoptPolicy(POLICY, "")).then_raises(NetworkInvalid, match="`locations`: missing")


def test_a_plan_is_not_made_again_under_another_policy():
    (routed, _) = after(reserved())
    with pytest.raises(PolicyMismatch, match="decided under policy"):
        recompute(routed, POLICY.replace("= 60", "= 61"), NETWORK)


def test_the_picture_needed_to_route_again_is_of_what_the_plan_or_the_wait_holds():
    events = after(reserved())
    assert skus_to_route(PLANS.fold(events), "o.1") == ("mug", "pot")
    assert skus_to_route(PLANS.fold(after(reserved(available={}))), "o.1") == ("mug", "pot")
    assert skus_to_route(PLANS.fold(events), "o.2") == ()


def test_the_summary_is_json_and_tells_where_everything_is():
    summary = plan_summary(PLANS.fold(after(reserved(), given_back("o.1.1", "edison", "short-pick", MUG))))
    assert orjson.loads(orjson.dumps(summary)) == summary
    assert summary["status"] == "routed"
    assert summary["excluded"] == [{"location": "edison", "sku": "mug"}]
    assert [(one["fulfillment_id"], one["location"]) for one in summary["shipments"]] == [
        ("o.1.1", "edison"),
        ("o.2.1", "groveport"),
    ]
    assert plan_summary(OrderPlan())["status"] == "unknown"


# Any history: commands that fit what is under way, in any order, with any picture.

PICTURES = st.dictionaries(
    st.sampled_from(["edison", "groveport", "sparks", "brooklyn"]),
    st.dictionaries(st.sampled_from(["mug", "pot"]), st.integers(0, 4)),
)
LINES = st.sampled_from([(MUG,), (POT,), (MUG, POT)])


def some_command(draw, state: OrderPlan, number: int):
    at = MONDAY + timedelta(hours=7 * number)
    picture = draw(PICTURES)
    choices = [reserved(*draw(LINES), cause="backorder-filled", caused_by=f"m{number}", available=picture, at=at)]
    for live in state.live:
        first = live.shipments[0]
        short = ((first.location, first.lines[0].sku),)
        choices.append(refused(live.plan_id, *short, caused_by=f"m{number}", available=picture, at=at))
        for cause in ("rejected", "short-pick", "manual"):
            back = first.lines[:1] if cause == "short-pick" else first.lines
            choices.append(
                given_back(
                    first.fulfillment_id, first.location, cause, *back, caused_by=f"m{number}", available=picture, at=at
                )
            )
    choices.extend(retry(one.plan_id, picture, at) for one in state.waiting)
    waits = [line.model_copy(update={"quantity": 1}) for one in state.waiting for line in one.lines]
    choices.extend(gone(line, caused_by=f"m{number}") for line in waits)
    return draw(st.sampled_from(choices))


def units(state: OrderPlan) -> dict[str, int]:
    """Where the order's units are: planned, waiting or given up."""
    lines = [line for one in state.shipments for line in one.lines]
    lines += [line for one in state.waiting for line in one.lines]
    lines += state.unroutable
    return {sku: sum(line.quantity for line in lines if line.sku == sku) for sku in ("mug", "pot")}


STATES = TypeAdapter(OrderPlan)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_happens_no_unit_is_lost_and_every_decision_can_be_made_again(data):
    state, asked = OrderPlan(), {"mug": 0, "pot": 0}
    for number in range(1, data.draw(st.integers(1, 8)) + 1):
        command = some_command(data.draw, state, number)
        if isinstance(command, RouteOrder):
            for line in command.lines:
                asked[line.sku] += line.quantity
        if isinstance(command, DropUnits):
            for line in command.lines:
                asked[line.sku] -= line.quantity
        before = state
        events = said_to(state, command)
        assert events
        for event in events:
            assert through_json(event) == event
            assert through_json(event).to_json() == event.to_json()
            state = PLANS.evolve(state, event)
            if isinstance(event, OrderRouted | OrderRerouted):
                again = recompute(through_json(event), POLICY, NETWORK)
                assert isinstance(again, Plan)
                assert (again.shipments, again.cost, again.proven_best) == (
                    event.shipments,
                    event.cost,
                    event.proven_best,
                )
                assert not {(one.location, None) for one in event.shipments} & set(event.inputs.excluded)
                for one in event.shipments:
                    assert not {(one.location, line.sku) for line in one.lines} & set(event.inputs.excluded)
                    assert one.fulfillment_id.startswith(f"{event.plan_id}.")
        assert units(state) == asked
        assert said_to(state, command) == []
        assert set(before.excluded) <= set(state.excluded)
        under_way = [one.deliver_by for one in state.shipments]
        if under_way and not isinstance(events[-1], OrderDeferred | WaitingUnitsGone):
            assert state.promised_by == max(under_way)
        assert STATES.validate_json(STATES.dump_json(state)) == state
    assert all(isinstance(live, LivePlan) for live in state.live)


def test_a_policys_state_survives_json():
    adapter = TypeAdapter(PolicyInForce)
    state = POLICIES.fold([ADOPTED])
    assert adapter.validate_json(adapter.dump_json(state)) == state
    assert through_json(ADOPTED) == ADOPTED
