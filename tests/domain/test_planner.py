"""Which plan is the cheapest, when its parcels leave and arrive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.routing import Place, RoutingInputs
from ordermill.geo import Point, great_circle_km, zone_of
from ordermill.network import default_network_text, read_network
from services.routing.errors import PolicyInvalid
from services.routing.planner import Plan, Unroutable, plan
from services.routing.policy import default_policy_text, policy_hash, read_policy
from services.routing.rules import Rules, business_days_after, read_rules

NETWORK = default_network_text()
POLICY = default_policy_text()
RULES = read_rules(POLICY, NETWORK)
MONDAY_10_AM_IN_NEW_YORK = datetime(2026, 3, 2, 15, tzinfo=UTC)
MUG = ReleasedLine(line_id="1", sku="mug", quantity=2, weight_g=400)
POT = ReleasedLine(line_id="2", sku="pot", quantity=1, weight_g=1_500)


def inputs(available, *lines, rules=RULES, level="standard", at=MONDAY_10_AM_IN_NEW_YORK, **changes):
    values = {
        "policy_hash": rules.hash,
        "decided_at": at,
        "placed_at": at,
        "country": "US",
        "region": "NY",
        "postal_code": "10001",
        "service_level": level,
        "lines": lines or (MUG, POT),
        "available": available,
        "preferences": 2,
    }
    return RoutingInputs(**{**values, **changes})


def planned(available, *lines, rules=RULES, **changes) -> Plan:
    found = plan(inputs(available, *lines, rules=rules, **changes), "o.1", rules)
    assert isinstance(found, Plan), found
    return found


def not_planned(available, *lines, rules=RULES, **changes) -> Unroutable:
    found = plan(inputs(available, *lines, rules=rules, **changes), "o.1", rules)
    assert isinstance(found, Unroutable), found
    return found


def policy_with(**values: object) -> Rules:
    text = POLICY
    for key, value in values.items():
        lines = [line for line in text.splitlines() if not line.startswith(f"{key} ")]
        assert len(lines) < len(text.splitlines()), f"no {key} in the default policy"
        old = next(line for line in text.splitlines() if line.startswith(f"{key} "))
        text = text.replace(old, f"{key} = {value}")
    return read_rules(text, NETWORK)


def where(found: Plan) -> list[str]:
    return [shipment.location for shipment in found.shipments]


BOTH = {"mug": 5, "pot": 5}


def test_the_nearest_warehouse_ships_what_it_holds_even_where_a_shop_is_nearer():
    assert where(planned({"edison": BOTH, "brooklyn": BOTH, "sparks": BOTH})) == ["edison"]


def test_one_far_location_that_has_all_is_cheaper_than_two_parcels():
    assert where(planned({"edison": {"mug": 5}, "brooklyn": {"pot": 5}, "fairburn": BOTH})) == ["fairburn"]


def test_an_order_that_no_single_location_has_is_split_over_near_ones():
    found = planned({"edison": {"mug": 5}, "groveport": {"pot": 5}, "sparks": {"pot": 5}})
    assert where(found) == ["edison", "groveport"]
    assert [[line.sku for line in shipment.lines] for shipment in found.shipments] == [["mug"], ["pot"]]
    assert [shipment.fulfillment_id for shipment in found.shipments] == ["o.1.1", "o.1.2"]


def test_heavy_goods_are_split_where_the_near_part_saves_more_than_a_parcel_costs():
    anvil = ReleasedLine(line_id="3", sku="anvil", quantity=2, weight_g=30_000)
    far_has_all = {"sparks": {"anvil": 5, "mug": 5}, "edison": {"anvil": 5}}
    assert where(planned(far_has_all, MUG, anvil)) == ["edison", "sparks"]
    assert where(planned(far_has_all, MUG, POT.model_copy(update={"sku": "anvil"}))) == ["sparks"]


def test_a_line_is_split_unit_by_unit_where_no_location_has_all_of_it():
    found = planned({"edison": {"mug": 1, "pot": 1}, "groveport": {"mug": 4}}, MUG, POT)
    assert [[(line.line_id, line.quantity) for line in one.lines] for one in found.shipments] == [
        [("1", 1), ("2", 1)],
        [("1", 1)],
    ]


def test_two_lines_of_one_sku_share_its_stock():
    again = MUG.model_copy(update={"line_id": "9"})
    found = planned({"edison": {"mug": 3}, "groveport": {"mug": 3}}, MUG, again)
    assert [[(line.line_id, line.quantity) for line in one.lines] for one in found.shipments] == [
        [("1", 2), ("9", 1)],
        [("9", 1)],
    ]


def test_more_shipments_than_the_policy_likes_are_made_only_if_there_is_no_other_way():
    at_most_one = policy_with(max_shipments=1)
    split = {"edison": {"mug": 5}, "groveport": {"pot": 5}}
    assert where(planned({**split, "sparks": BOTH}, rules=at_most_one)) == ["sparks"]
    found = planned(split, rules=at_most_one)
    assert where(found) == ["edison", "groveport"]
    assert [one.cost.handling.minor for one in found.shipments] == [250 + 2 * 60, 250 + 60 + 1500]


def test_who_waits_for_an_expedited_order_is_worth_a_faster_service():
    far = {"sparks": BOTH}
    assert [(one.carrier, one.service) for one in planned(far).shipments] == [("cedar", "ground")]
    assert [(one.carrier, one.service) for one in planned(far, level="expedited").shipments] == [("swift", "air")]


def test_costs_add_up_by_part_and_by_shipment():
    found = planned({"edison": {"mug": 5}, "groveport": {"pot": 5}})
    for part in ("shipping", "handling", "delay", "total"):
        assert getattr(found.cost, part).minor == sum(getattr(one.cost, part).minor for one in found.shipments)
    assert found.cost.total == found.cost.shipping + found.cost.handling + found.cost.delay
    near, far = found.shipments
    assert near.cost.shipping.minor == 490 + 64  # zone 1, 800 g at 80 a kilogram
    assert (near.cost.delay.minor, far.cost.delay.minor) == (0, 3 * 75)  # the later one: Thursday, from Monday


def test_a_unit_of_unknown_weight_counts_as_the_policy_says():
    unknown = MUG.model_copy(update={"weight_g": None})
    assert planned({"edison": BOTH}, unknown).cost.shipping.minor == 490 + 80


def test_a_sku_has_one_weight_the_greatest_that_its_lines_tell():
    heavy = MUG.model_copy(update={"line_id": "8", "weight_g": 1_000})
    for lines in ((MUG, heavy), (heavy, MUG)):
        assert planned({"edison": BOTH}, *lines, rules=CEDAR_ONLY).cost.shipping.minor == 590 + 4 * 60


CEDAR_ONLY = read_rules(POLICY, NETWORK.partition('[[carriers]]\nid = "swift"')[0])


def test_locations_excluded_disabled_or_unknown_ship_nothing():
    everywhere = {"edison": BOTH, "groveport": BOTH, "moon": BOTH}
    assert where(planned(everywhere, excluded=(("edison", None),))) == ["groveport"]
    assert where(planned(everywhere, rules=policy_with(excluded_locations='["edison"]'))) == ["groveport"]
    closed = read_rules(POLICY, NETWORK.replace('id = "edison"', 'id = "edison"\nenabled = false', 1))
    assert where(planned(everywhere, rules=closed)) == ["groveport"]
    assert where(planned(everywhere, excluded=(("edison", "pot"),))) == ["groveport"]
    assert where(planned(everywhere, MUG, excluded=(("edison", "pot"),))) == ["edison"]


def test_what_cannot_be_shipped_is_named_with_what_was_seen_of_it():
    found = not_planned({"edison": {"mug": 1}, "sparks": {"pot": 3}}, excluded=(("sparks", None),))
    assert found == Unroutable(
        "mug: 2 wanted, 1 seen where they may be shipped from, 1 anywhere; "
        "pot: 1 wanted, 0 seen where they may be shipped from, 3 anywhere",
        (("mug", 1), ("pot", 1)),
        may_pass=True,
    )


def test_no_newer_picture_helps_where_no_service_goes_or_everyone_is_excluded():
    abroad = not_planned({"edison": BOTH}, country="DE", region="", postal_code="10115", rules=ONLY_DOMESTIC)
    assert "no location that may ship this order has a service for standard orders to DE" in abroad.reason
    assert not abroad.may_pass
    everyone = tuple((location, "mug") for location in sorted(RULES.network.location_ids))
    assert not not_planned({"edison": BOTH}, excluded=everyone).may_pass


ONLY_DOMESTIC = read_rules(
    POLICY,
    NETWORK.replace("315, 980]", "315]")
    .replace("7, 12]", "7]")
    .replace("560, 1450]", "560]")
    .replace("2, 2, 5]", "2, 2]"),
)


def test_services_with_a_ninth_zone_ship_abroad_and_to_territories_all_do():
    abroad = planned({"edison": BOTH}, country="DE", region="", postal_code="10115")
    assert [(one.carrier, one.service) for one in abroad.shipments] == [("swift", "ground")]
    assert where(planned({"edison": BOTH}, country="PR", region="", postal_code="00901", rules=ONLY_DOMESTIC)) == [
        "edison"
    ]


def test_an_address_nobody_knows_lies_where_the_network_says():
    assert RULES.place_of("XX", "", "1").found_by == "default"
    assert planned({"edison": BOTH}, country="XX", region="", postal_code="1")


def test_the_place_in_the_record_counts_not_a_newer_table():
    seattle = Place(lat=47.6, lon=-122.3, zone="America/Los_Angeles", found_by="postal-code")
    assert where(planned({"edison": BOTH, "sparks": BOTH}, place=seattle)) == ["sparks"]


TWINS = """
currency = "USD"
[elsewhere]
point = [0.0, 0.0]
zone = "UTC"
{locations}
[[carriers]]
id = "cedar"
name = ""
{services}
"""
TWIN = """
[[locations]]
id = "{id}"
name = ""
kind = "{kind}"
street = ""
city = ""
postal_code = ""
country = "US"
point = [{lat}, {lon}]
zone = "{zone}"
cut_off = {cut_off}
handling_days = {handling_days}
working_days = {working_days}
"""
SERVICE = """
[[carriers.services]]
id = "{id}"
name = ""
levels = ["standard", "expedited"]
base_minor = {base}
per_kg_minor = {per_kg}
transit_days = {days}
"""


def network_of(places, services) -> str:
    usual = {
        "kind": "warehouse",
        "lat": 40.0,
        "lon": -80.0,
        "zone": "America/New_York",
        "cut_off": "15:00:00",
        "handling_days": 0,
        "working_days": '["mon", "tue", "wed", "thu", "fri"]',
    }
    return TWINS.format(
        locations="".join(TWIN.format(**{**usual, **place}) for place in places),
        services="".join(SERVICE.format(**service) for service in services),
    )


GROUND = {"id": "ground", "base": 500, "per_kg": [50, 60, 70, 80, 90, 100, 110, 120], "days": [1, 1, 2, 2, 3, 3, 4, 4]}


def test_of_equal_plans_the_one_with_fewer_kilometers_then_by_id_is_taken():
    twins = read_rules(POLICY, network_of([{"id": "b"}, {"id": "a"}, {"id": "c", "lat": 40.01}], [GROUND]))
    everywhere = {"a": BOTH, "b": BOTH, "c": BOTH}
    assert where(planned(everywhere, rules=twins, postal_code="15301", region="PA")) == ["c"]
    assert where(planned({"a": BOTH, "b": BOTH}, rules=twins)) == ["a"]


FRIDAY_2_PM = datetime.fromisoformat("2026-03-06T14:00:00-05:00")
NEAR_BUT_CLOSED_TILL_SATURDAY = [
    {"id": "near", "lat": 40.2, "cut_off": "13:00:00", "working_days": '["fri", "sat"]'},
    {"id": "far", "cut_off": "15:00:00"},
]


def test_of_equal_plans_that_arrive_on_one_day_the_one_that_leaves_earlier_is_taken():
    places = read_rules(POLICY, network_of(NEAR_BUT_CLOSED_TILL_SATURDAY, [GROUND]))
    both = {"near": BOTH, "far": BOTH}
    friday = planned(both, rules=places, at=FRIDAY_2_PM)
    saturday = planned({"near": BOTH}, rules=places, at=FRIDAY_2_PM)
    assert saturday.cost == friday.cost
    assert saturday.shipments[0].deliver_by == friday.shipments[0].deliver_by
    assert saturday.shipments[0].ship_by > friday.shipments[0].ship_by
    assert where(friday) == ["far"]
    assert where(planned(both, rules=places, at=FRIDAY_2_PM - timedelta(hours=2))) == ["near"]


def test_a_decision_from_before_days_of_leaving_counted_comes_out_as_it_did():
    places = read_rules(POLICY, network_of(NEAR_BUT_CLOSED_TILL_SATURDAY, [GROUND]))
    assert where(planned({"near": BOTH, "far": BOTH}, rules=places, at=FRIDAY_2_PM, preferences=1)) == ["near"]


def one_site(service=GROUND, **changes) -> Rules:
    return read_rules(POLICY, network_of([{"id": "a", **changes}], [service]))


def times(at: str, rules: Rules, **changes) -> tuple[str, str]:
    (shipment,) = planned({"a": BOTH}, rules=rules, at=datetime.fromisoformat(at), **changes).shipments
    return tuple(
        moment.astimezone(ZoneInfo("America/New_York")).strftime("%a %d %H:%M")
        for moment in (shipment.ship_by, shipment.deliver_by)
    )


@pytest.mark.parametrize(
    ("decided_at", "ship_by", "deliver_by"),
    [
        ("2026-03-02T14:59:59-05:00", "Mon 02 15:00", "Wed 04 20:00"),
        ("2026-03-02T15:00:00-05:00", "Tue 03 15:00", "Thu 05 20:00"),
        ("2026-03-05T09:00:00-05:00", "Thu 05 15:00", "Mon 09 20:00"),
        ("2026-03-06T16:00:00-05:00", "Mon 09 15:00", "Wed 11 20:00"),
        ("2026-03-07T09:00:00-05:00", "Mon 09 15:00", "Wed 11 20:00"),
        ("2026-10-30T16:00:00-04:00", "Mon 02 15:00", "Wed 04 20:00"),
    ],
)
def test_work_starts_before_the_cut_off_of_a_working_day_and_transit_counts_business_days(
    decided_at, ship_by, deliver_by
):
    assert times(decided_at, one_site()) == (ship_by, deliver_by)


def test_handling_takes_working_days_of_the_location():
    week = '["mon", "tue", "wed", "thu", "fri", "sat"]'
    assert times("2026-03-06T09:00:00-05:00", one_site(handling_days=2)) == ("Tue 10 15:00", "Thu 12 20:00")
    saturdays = one_site(handling_days=1, working_days=week)
    assert times("2026-03-06T09:00:00-05:00", saturdays) == ("Sat 07 15:00", "Tue 10 20:00")


def test_the_cut_off_is_local_time_on_both_sides_of_a_clock_change():
    early = one_site(cut_off="02:30:00", working_days='["sun", "mon"]')
    assert times("2026-03-08T01:59:00-05:00", early)[0] == "Sun 08 03:30"  # 02:30 does not exist that day
    assert times("2026-03-08T03:31:00-04:00", early)[0] == "Mon 09 02:30"


def test_delivery_is_promised_in_the_destinations_time():
    pacific = planned({"sparks": BOTH}, region="CA", postal_code="94105").shipments[0].deliver_by
    assert pacific.astimezone(ZoneInfo("America/Los_Angeles")).strftime("%H:%M") == "20:00"


@pytest.mark.parametrize(
    ("day", "count", "then"), [("mon", 4, "fri"), ("fri", 1, "mon"), ("sat", 1, "mon"), ("sun", 5, "fri")]
)
def test_business_days_leave_out_weekends(day, count, then):
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    monday = datetime(2026, 3, 2, tzinfo=UTC).toordinal()
    assert names[(business_days_after(monday + names.index(day), count) - monday) % 7] == then


ZONES = st.sampled_from(["Pacific/Pago_Pago", "America/New_York", "Pacific/Kiritimati", "Australia/Lord_Howe", "UTC"])


@settings(max_examples=100)
@given(
    at=st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    cut_off=st.times().map(lambda moment: moment.replace(microsecond=0).isoformat()),
    here=ZONES,
    there=ZONES,
    handling_days=st.integers(0, 9),
)
@example(datetime(2026, 3, 2, 20, tzinfo=UTC), "22:00:00", "Pacific/Pago_Pago", "Pacific/Kiritimati", 0)
def test_no_parcel_leaves_before_it_is_asked_for_or_arrives_before_it_leaves(at, cut_off, here, there, handling_days):
    overnight = {**GROUND, "days": [1] * 8}
    rules = one_site(overnight, cut_off=cut_off, zone=here, handling_days=handling_days)
    place = Place(lat=0, lon=0, zone=there, found_by="default")
    (shipment,) = planned({"a": BOTH}, rules=rules, at=at, place=place).shipments
    assert at < shipment.ship_by < shipment.deliver_by <= at + timedelta(days=30)


def test_comments_and_order_of_keys_do_not_change_a_policys_hash_but_any_value_of_either_file_does():
    turned = "\n".join(sorted(POLICY.partition("[cost")[0].splitlines())) + "\n[cost" + POLICY.partition("[cost")[2]
    assert policy_hash(turned, NETWORK + "\n# a comment") == RULES.hash
    assert policy_hash(POLICY.replace("standard = 75", "standard = 76"), NETWORK) != RULES.hash
    assert policy_hash(POLICY, NETWORK.replace("590", "591")) != RULES.hash


@pytest.mark.parametrize(
    ("wrong", "instead_of", "told"),
    [
        ("max_shipment = 3", "max_shipments = 3", ["`max_shipment`: unknown key", "did you mean `max_shipments`"]),
        ('shop = "140"', "shop = 140", ["`cost_minor.unit.shop`", 'found "140"', "set it like `shop = 140`"]),
        ("standard = 7.5", "standard = 75", ["`cost_minor.day.standard`", "integer", "standard = 75"]),
        ("", "attempts = 6 ", ["`attempts`", "missing", "attempts = 6"]),
        ('["moon"]', "[] ", ["`excluded_locations`", "moon", "edison"]),
    ],
)
def test_a_faulty_policy_is_refused_by_key_with_what_was_expected_and_how_to_set_it(wrong, instead_of, told):
    assert instead_of in POLICY
    text = "\n".join(line.partition("#")[0] + " " for line in POLICY.splitlines()).replace(instead_of, wrong, 1)
    with pytest.raises(PolicyInvalid) as refused:
        read_policy(text, read_network(NETWORK))
    assert [part for part in told if part not in str(refused.value)] == [], str(refused.value)


# The search against brute force: every way to share out every unit, every choice of services.

IDS = ["a", "b", "c", "d"]


@st.composite
def small_cases(draw):
    count = draw(st.integers(1, 4))
    places = [
        {
            "id": IDS[number],
            "kind": draw(st.sampled_from(["warehouse", "shop"])),
            "lat": draw(st.sampled_from([40.7, 40.0, 36.0, 30.0])),
            "lon": draw(st.sampled_from([-74.0, -80.0, -100.0])),
            "handling_days": draw(st.sampled_from([0, 0, 2])),
            "cut_off": draw(st.sampled_from(["09:00:00", "15:00:00"])),
        }
        for number in range(count)
    ]
    services = [
        {
            "id": name,
            "base": draw(st.sampled_from([0, 100, 450, 900])),
            "per_kg": sorted(draw(st.lists(st.sampled_from([0, 40, 150, 300, 700]), min_size=8, max_size=8))),
            "days": sorted(draw(st.lists(st.integers(1, 5), min_size=8, max_size=8))),
        }
        for name in draw(st.sampled_from([["x"], ["x", "y"]]))
    ]
    skus = ["mug", "pot", "pan"][: draw(st.integers(1, 3))]
    lines = [
        ReleasedLine(
            line_id=sku, sku=sku, quantity=draw(st.integers(1, 3)), weight_g=draw(st.sampled_from([0, 333, 2500]))
        )
        for sku in skus
    ]
    available = {place["id"]: {sku: draw(st.integers(0, 3)) for sku in skus} for place in places}
    policy = {
        "max_shipments": draw(st.integers(1, 3)),
        "shipment": draw(st.sampled_from([0, 100, 400])),
        "shipment_beyond_max": draw(st.sampled_from([0, 300])),
        "standard": draw(st.sampled_from([0, 60, 200])),
        "warehouse": draw(st.sampled_from([0, 60])),
        "shop": draw(st.sampled_from([0, 60, 200])),
    }
    return network_of(places, services), policy, lines, available


def shares(units: int, holds: list[int]) -> Iterator[tuple[int, ...]]:
    """All ways to take `units` from places that hold so many."""
    if not holds:
        if not units:
            yield ()
        return
    for taken in range(min(units, holds[0]) + 1):
        for rest in shares(units - taken, holds[1:]):
            yield (taken, *rest)


Key = tuple[int, int, int, int, int]


def key_of(used, rules: Rules, asked: RoutingInputs) -> Key:
    """Cost in thousandths of a minor unit, shipments, days, day of leaving, kilometers.

    Of what is used: location, service, units, grams each.
    """
    costs = rules.policy.cost_minor
    place = rules.place_of(asked.country, asked.region, asked.postal_code)
    there = ZoneInfo(place.zone)
    cost, days, leaves, kilometers = 0, 0, 0, 0
    for location_id, service, units, grams in used:
        location = rules.network.by_id[location_id]
        km = great_circle_km(Point(*location.point), Point(place.lat, place.lon))
        zone = zone_of(km) - 1
        site = next(site for site in rules.sites if site.id == location_id)
        left, ship_by = site.hands_over(asked.decided_at)
        leaves = max(leaves, ship_by.astimezone(there).toordinal())
        arrives = business_days_after(left, service.transit_days[zone])
        days = max(days, arrives - asked.decided_at.astimezone(there).toordinal())
        kilometers += round(km)
        cost += 1000 * (service.base_minor + costs.shipment + units * costs.unit.of(location.kind))
        cost += grams * service.per_kg_minor[zone]
    cost += 1000 * costs.day.standard * days
    cost += 1000 * costs.shipment_beyond_max * max(0, len(used) - rules.policy.max_shipments)
    return cost, len(used), days, leaves, kilometers


def by_brute_force(rules: Rules, asked: RoutingInputs) -> Key | None:
    places = list(asked.available)
    services = rules.network.carriers[0].services
    found: list[Key] = []
    by_sku = [
        shares(line.quantity, [asked.available[place].get(line.sku, 0) for place in places]) for line in asked.lines
    ]
    for shared in product(*(list(ways) for ways in by_sku)):
        units = [sum(one[number] for one in shared) for number in range(len(places))]
        grams = [
            sum(one[number] * (line.weight_g or 0) for one, line in zip(shared, asked.lines, strict=True))
            for number in range(len(places))
        ]
        used = [number for number, count in enumerate(units) if count]
        found.extend(
            key_of([(places[n], way, units[n], grams[n]) for n, way in zip(used, ways, strict=True)], rules, asked)
            for ways in product(services, repeat=len(used))
        )
    within = [key for key in found if key[1] <= rules.policy.max_shipments]
    return min(within or found, default=None)


def check(case, **limits: int) -> None:
    network, values, lines, available = case
    values = {**values, **limits}
    text = POLICY
    for key, value in values.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{key} ="))
        text = text.replace(old, f"{key} = {value}")
    rules = read_rules(text, network)
    asked = inputs(available, *lines, rules=rules)
    found = plan(asked, "o.1", rules)
    best = by_brute_force(rules, asked)
    if best is None:
        assert isinstance(found, Unroutable)
        return
    assert isinstance(found, Plan)
    services = {service.id: service for service in rules.network.carriers[0].services}
    used = [
        (
            one.location,
            services[one.service],
            sum(line.quantity for line in one.lines),
            sum(line.quantity * (line.weight_g or 0) for line in one.lines),
        )
        for one in found.shipments
    ]
    key = key_of(used, rules, asked)
    assert key == best if found.proven_best else limits
    assert -(-key[0] // 1000) <= found.cost.total.minor < key[0] / 1000 + len(used)
    shipped: dict[str, int] = {}
    for one in found.shipments:
        assert one.lines
        for line in one.lines:
            assert line.quantity <= available[one.location][line.sku]
            shipped[line.line_id] = shipped.get(line.line_id, 0) + line.quantity
    assert shipped == {line.line_id: line.quantity for line in lines}


@settings(max_examples=100, deadline=None)
@given(small_cases())
def test_no_plan_is_cheaper_than_the_one_found(case):
    check(case)


@settings(max_examples=50, deadline=None)
@given(small_cases(), st.integers(1, 6))
def test_a_search_cut_short_ships_everything_all_the_same(case, search_nodes):
    check(case, search_nodes=search_nodes)


def scattered(skus: int) -> tuple[dict[str, dict[str, int]], tuple[ReleasedLine, ...]]:
    """Every location has three of five SKUs, so that covering them all takes some search."""
    ids = sorted(RULES.network.location_ids)
    available = {
        location: {f"sku-{sku}": 3 for sku in range(skus) if (sku * 7 + number * 3) % 5 < 3}
        for number, location in enumerate(ids)
    }
    lines = tuple(
        ReleasedLine(line_id=str(sku), sku=f"sku-{sku}", quantity=1 + sku % 3, weight_g=300 + 700 * (sku % 4))
        for sku in range(skus)
    )
    return available, lines


def test_a_search_that_reaches_its_limit_gives_the_best_so_far_and_says_so():
    available, lines = scattered(20)
    whole = planned(available, *lines)
    cut = planned(available, *lines, rules=policy_with(search_nodes=1))
    assert whole.proven_best
    assert not cut.proven_best
    assert cut.cost.total.minor >= whole.cost.total.minor
    for found in (whole, cut):
        assert sum(line.quantity for one in found.shipments for line in one.lines) == sum(
            line.quantity for line in lines
        )


def test_the_same_inputs_give_the_same_plan_in_whatever_order_the_picture_comes():
    available, lines = scattered(12)
    turned = {location: dict(reversed(stock.items())) for location, stock in reversed(available.items())}
    assert planned(available, *lines) == planned(turned, *lines)
