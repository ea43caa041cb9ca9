"""Why a plan, and why not the others: made again from the record, and never dearer than what is shown beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.routing import OrderDeferred, OrderRouted, OrderUnroutable, RoutingInputs
from ordermill.network import default_network_text
from services.routing.errors import PolicyMismatch
from services.routing.explain import Explanation, Weighed, explain
from services.routing.planner import Plan, plan
from services.routing.policy import default_policy_text
from services.routing.rules import read_rules

NETWORK = default_network_text()
POLICY = default_policy_text()
MONDAY = datetime(2026, 3, 2, 15, tzinfo=UTC)
MUG = ReleasedLine(line_id="1", sku="mug", quantity=2, weight_g=400)
POT = ReleasedLine(line_id="2", sku="pot", quantity=1, weight_g=1_500)
ANVIL = ReleasedLine(line_id="3", sku="anvil", quantity=2, weight_g=30_000)
BOTH = {"mug": 5, "pot": 5}


def inputs(available, *lines, policy=POLICY, **changes) -> RoutingInputs:
    values = {
        "policy_hash": read_rules(policy, NETWORK).hash,
        "decided_at": MONDAY,
        "placed_at": MONDAY,
        "country": "US",
        "region": "NY",
        "postal_code": "10001",
        "service_level": "standard",
        "lines": lines or (MUG, POT),
        "available": available,
    }
    return RoutingInputs(**{**values, **changes})


def routed(seen: RoutingInputs, policy=POLICY) -> OrderRouted:
    found = plan(seen, "o.1", read_rules(policy, NETWORK))
    assert isinstance(found, Plan), found
    return OrderRouted(
        order_id="o", plan_id="o.1", cause="reserved", shipments=found.shipments, cost=found.cost, inputs=seen,
        proven_best=found.proven_best,
    )  # fmt: skip


def explained(available, *lines, policy=POLICY, **changes) -> Explanation:
    return explain(routed(inputs(available, *lines, policy=policy, **changes), policy), policy, NETWORK)


def of(found: Explanation, location: str) -> Weighed:
    return next(one for one in found.locations if one.location == location)


def test_every_location_of_the_network_is_told_of_nearest_first():
    found = explained({"edison": BOTH})
    assert [one.location for one in found.locations][:2] == ["brooklyn", "edison"]
    assert len(found.locations) == 8
    assert of(found, "edison").verdict == "chosen"
    assert of(found, "edison").reason == "part of the plan; without it there is none"


def test_a_location_that_could_ship_all_costs_more_by_part():
    far = of(explained({"edison": BOTH, "sparks": BOTH}), "sparks")
    assert far.verdict == "costs-more"
    assert far.alternative is not None and far.alternative.more is not None
    assert far.alternative.locations == ("sparks",)
    more = far.alternative.more
    assert more.total.minor == more.shipping.minor + more.handling.minor + more.delay.minor > 0
    assert far.reason.startswith(f"costs {more.total} more: shipping +")


def test_without_the_chosen_location_another_would_have_shipped():
    chosen = of(explained({"edison": BOTH, "sparks": BOTH}), "edison")
    assert (chosen.verdict, chosen.reason) == ("chosen", "part of the plan")
    assert chosen.alternative is not None and chosen.alternative.locations == ("sparks",)


def test_a_location_that_has_only_part_would_mean_one_more_parcel():
    found = of(explained({"edison": BOTH, "groveport": {"mug": 5}}), "groveport")
    assert found.verdict == "costs-more"
    assert [(one.sku, one.wanted, one.has) for one in found.lacks] == [("pot", 1, 0)]
    assert found.alternative is not None
    assert found.alternative.locations == ("edison", "groveport")


def test_why_a_location_could_not_ship_at_all():
    found = explained(
        {"edison": BOTH, "sparks": BOTH, "fairburn": {"mug": 1}, "groveport": BOTH},
        excluded=(("sparks", None), ("fairburn", "mug")),
        policy=POLICY.replace("excluded_locations = []", 'excluded_locations = ["groveport"]'),
    )
    assert {one.location: one.verdict for one in found.locations} == {
        "edison": "chosen",
        "sparks": "ruled-out",
        "fairburn": "ruled-out",
        "groveport": "left-out-by-policy",
        "brooklyn": "no-stock",
        "chicago": "no-stock",
        "seattle": "no-stock",
        "lancaster": "no-stock",
    }
    assert of(found, "brooklyn").reason == "has none of mug, pot"
    assert "fairburn" not in str(of(found, "fairburn").reason)


def test_a_cheaper_plan_in_more_parcels_than_the_policy_likes_is_told_as_such():
    one_parcel = POLICY.replace("max_shipments = 3 ", "max_shipments = 1 ").replace(
        "shipment_beyond_max = 1500", "shipment_beyond_max = 0"
    )
    seen = {"sparks": {"anvil": 5, "mug": 5}, "edison": {"anvil": 5}}
    found = explained(seen, MUG, ANVIL, policy=one_parcel)
    near = of(found, "edison")
    assert near.verdict == "too-many-parcels"
    assert near.alternative is not None and near.alternative.more is not None
    assert near.alternative.beyond_max and near.alternative.more.total.minor < 0
    assert not of(explained(seen, MUG, ANVIL), "edison").alternative.beyond_max


def test_what_was_deferred_or_given_up_is_explained_too():
    seen = inputs({"edison": {"mug": 1}})
    waits = OrderDeferred(
        order_id="o", plan_id="o.1", cause="reserved", reason="too little", retry_at=MONDAY, inputs=seen
    )
    found = explain(waits, POLICY, NETWORK)
    assert (found.decision, found.reason, found.agrees, found.chosen) == ("deferred", "too little", None, None)
    assert of(found, "edison").verdict == "not-enough"
    tired = OrderUnroutable(
        order_id="o", plan_id="o.9", cause="retry", reason="given up", attempt=7, inputs=inputs({"edison": BOTH})
    )
    found = explain(tired, POLICY, NETWORK)
    assert (found.decision, of(found, "edison").verdict) == ("unroutable", "waits")


def test_of_goods_that_a_location_has_and_may_not_ship_it_is_not_said_that_it_has_too_few():
    seen = inputs({"edison": BOTH, "sparks": {"mug": 1}}, excluded=(("edison", "pot"),))
    waits = OrderDeferred(
        order_id="o", plan_id="o.1", cause="reserved", reason="too little", retry_at=MONDAY, inputs=seen
    )
    found = explain(waits, POLICY, NETWORK)
    assert of(found, "edison").reason == "ruled out for pot, of which others have too little"
    assert of(found, "sparks").reason == "has too little of pot, as others do"


FREE = (
    POLICY.replace("shipment = 250 ", "shipment = 0 ")
    .replace("warehouse = 60", "warehouse = 0")
    .replace("standard = 75", "standard = 0")
)
SERVICE = """
[[carriers.services]]
id = "{id}"
name = ""
levels = ["standard"]
base_minor = {base}
per_kg_minor = {per_kg}
transit_days = [1, 1, 1, 1, 1, 1, 1, 1]
delivers_until = {until}
"""


def explained_by(services, available, *lines, policy=FREE, **changes) -> Explanation:
    """With these services only, under a policy by which nothing but postage costs."""
    network = NETWORK.partition("[[carriers]]")[0] + '[[carriers]]\nid = "cedar"\nname = ""\n'
    network += "".join(SERVICE.format(**service) for service in services)
    rules = read_rules(policy, network)
    seen = inputs(available, *lines, policy_hash=rules.hash, **changes)
    found = plan(seen, "o.1", rules)
    assert isinstance(found, Plan), found
    event = OrderRouted(
        order_id="o", plan_id="o.1", cause="reserved", shipments=found.shipments, cost=found.cost, inputs=seen
    )
    return explain(event, policy, network)


def test_a_location_needs_no_more_parcels_than_the_fewest_in_which_it_could_ship_its_part():
    ground = {"id": "ground", "base": 590, "per_kg": [60, 70, 85, 105, 140, 175, 215, 260], "until": "20:00:00"}
    stock = {"edison": {"anvil": 2}, "groveport": {"anvil": 2, "mug": 2}, "sparks": {"anvil": 1}}
    two_parcels = FREE.replace("max_shipments = 3 ", "max_shipments = 2 ")
    found = explained_by([ground], stock, MUG, ANVIL, policy=two_parcels)
    assert found.chosen is not None and found.chosen.locations == ("edison", "groveport")
    far = of(found, "sparks")
    assert far.alternative is not None and far.alternative.locations == ("groveport", "sparks")
    assert far.verdict == "costs-more"


def test_what_arrives_two_hours_earlier_is_not_said_to_arrive_later():
    evening = {"id": "evening", "base": 500, "per_kg": [0, 0, 0, 90, 90, 90, 90, 90], "until": "20:00:00"}
    noon = {"id": "noon", "base": 500, "per_kg": [90, 90, 90, 0, 0, 0, 0, 0], "until": "12:00:00"}
    found = explained_by([evening, noon], {"edison": BOTH, "groveport": BOTH})
    assert found.chosen is not None and found.chosen.locations == ("edison",)
    far = of(found, "groveport")
    assert far.alternative is not None and far.alternative.deliver_by < found.chosen.deliver_by
    assert (far.verdict, far.reason) == ("costs-the-same", "costs the same from farther away")


def test_of_two_that_cost_the_same_and_arrive_on_one_day_the_one_that_leaves_later_is_told_so():
    flat = {"id": "flat", "base": 500, "per_kg": [60] * 8, "until": "20:00:00"}
    friday = datetime.fromisoformat("2026-03-06T17:30:00-05:00")
    found = explained_by([flat], {"groveport": BOTH, "sparks": BOTH}, decided_at=friday, preferences=2)
    assert found.agrees and found.chosen is not None and found.chosen.locations == ("sparks",)
    near = of(found, "groveport")
    assert (near.verdict, near.reason) == ("costs-the-same", "costs the same and leaves later")


def test_what_only_looks_cheaper_because_postage_is_rounded_up_by_parcel_was_looked_at():
    by_weight = {"id": "x", "base": 100, "per_kg": [60, 60, 60, 60, 60, 60, 60, 6730], "until": "20:00:00"}
    lines = [ReleasedLine(line_id=sku, sku=sku, quantity=1, weight_g=10) for sku in ("mug", "pot", "pan")]
    near = {"edison": {"mug": 1}, "groveport": {"pot": 1}, "fairburn": {"pan": 1}}
    found = explained_by([by_weight], {**near, "sparks": {"mug": 1, "pot": 1, "pan": 1}}, *lines)
    assert found.proven_best and found.chosen is not None and len(found.chosen.shipments) == 3
    far = of(found, "sparks")
    assert far.alternative is not None and far.alternative.more is not None
    assert far.alternative.more.total.minor == -1
    assert far.verdict == "costs-the-same"
    assert far.reason == "costs no less before postage is rounded up, parcel by parcel"


def test_a_decision_is_not_explained_under_another_policy():
    with pytest.raises(PolicyMismatch, match=r"o\.1"):
        explain(routed(inputs({"edison": BOTH})), POLICY.replace("shipment = 250", "shipment = 251"), NETWORK)


PLACES = ["edison", "groveport", "sparks", "brooklyn", "chicago"]
PICTURES = st.dictionaries(
    st.sampled_from(PLACES), st.dictionaries(st.sampled_from(["mug", "pot", "anvil"]), st.integers(0, 4))
)


@settings(max_examples=150, deadline=None)
@given(
    available=PICTURES,
    lines=st.lists(st.sampled_from([MUG, POT, ANVIL]), min_size=1, unique_by=lambda line: line.sku),
    level=st.sampled_from(["standard", "expedited"]),
    excluded=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(["mug", "pot", None])), max_size=2, unique=True
    ),
    hours=st.integers(0, 200),
    most=st.sampled_from([1, 3]),
)
def test_the_plan_comes_out_again_and_costs_no_more_than_any_other_shown(
    available, lines, level, excluded, hours, most
):
    policy = POLICY.replace("max_shipments = 3 ", f"max_shipments = {most} ")
    rules = read_rules(policy, NETWORK)
    at = MONDAY + timedelta(hours=hours)
    seen = inputs(
        available, *lines, policy=policy, service_level=level, excluded=tuple(excluded), decided_at=at, placed_at=at
    )
    made = plan(seen, "o.1", rules)
    if not isinstance(made, Plan):
        return
    event = routed(seen, policy)
    found = explain(event, policy, NETWORK)
    assert found.agrees is True
    assert found.chosen is not None and found.chosen.cost == event.cost
    wanted = {line.line_id: line.quantity for line in lines}
    others = [one.alternative for one in found.locations if one.alternative is not None]
    for other in (*others, *found.alternatives):
        assert other.more is not None
        if not other.beyond_max or found.chosen.beyond_max:
            assert other.more.total.minor >= 0
        assert other.cost.total.minor - event.cost.total.minor == other.more.total.minor
        shipped: dict[str, int] = {}
        for shipment in other.shipments:
            assert (shipment.location, None) not in excluded
            for line in shipment.lines:
                assert (shipment.location, line.sku) not in excluded
                shipped[line.line_id] = shipped.get(line.line_id, 0) + line.quantity
        assert shipped == wanted
        for location in set(other.locations):
            for line in lines:
                units = sum(
                    taken.quantity
                    for shipment in other.shipments
                    if shipment.location == location
                    for taken in shipment.lines
                    if taken.sku == line.sku
                )
                assert units <= available[location].get(line.sku, 0)
    for one in found.locations:
        if one.verdict in ("costs-more", "costs-the-same", "too-many-parcels"):
            assert one.alternative is not None and one.location in one.alternative.locations
        if one.verdict == "chosen" and one.alternative is not None:
            assert one.location not in one.alternative.locations
        assert one.verdict != "not-looked-at"
