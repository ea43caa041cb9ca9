"""Rules of looking back: the same policy changes nothing, another one tells what it would have, and in what."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ordermill.cli.what_if import decided_again, report
from ordermill.contracts.base import Fact
from ordermill.contracts.routing import OrderRouted, OrderUnroutable, PolicyAdopted
from ordermill.network import NetworkInvalid, default_network_text
from services.routing.errors import PolicyInvalid, PolicyNotAdopted
from services.routing.policy import default_policy_text
from services.routing.what_if import TAKEN, WhatIf, places
from tests.cli.life import Logs, stores_of, whole_life

SAME = default_policy_text()


@pytest.fixture(scope="module")
async def logs() -> Logs:
    return await whole_life()


@pytest.fixture(scope="module")
def decided(logs: Logs) -> list[Fact]:
    return [event for _, event in logs["routing"] if isinstance(event, TAKEN)]


def without(*locations: str) -> str:
    return SAME.replace("excluded_locations = []", f"excluded_locations = {list(locations)}")


def looked_back(decided: list[Fact], policy: str, **more: object) -> WhatIf:
    found = WhatIf(policy, **more)  # type: ignore[arg-type]
    for fact in decided:
        found.take(fact)
    return found


def routed(decided: list[Fact]) -> list[OrderRouted]:
    return [fact for fact in decided if isinstance(fact, OrderRouted)]


def test_under_the_same_policy_each_decision_is_the_one_that_was_made(decided: list[Fact]) -> None:
    found = looked_back(decided, SAME)
    assert found.changes == []
    assert found.then == found.now
    assert found.then.routed == len(routed(decided)) > 2
    assert found.then.postage_minor == sum(fact.cost.shipping.minor for fact in routed(decided))
    assert found.then.days > 0


def test_units_given_up_because_locations_kept_refusing_them_are_no_policys_gain(decided: list[Fact]) -> None:
    one = routed(decided)[0]
    given_up = OrderUnroutable(
        order_id=one.order_id,
        plan_id=f"{one.order_id}.7",
        attempt=7,
        cause="allocation-refused",
        reason="given up after 6 tries: each time a location had less than routing knew of",
        inputs=one.inputs,
    )
    for policy in (SAME, SAME.replace("attempts = 6", "attempts = 60")):
        found = looked_back([*decided, given_up], policy)
        assert found.changes == []
        assert found.then.no_plan == found.now.no_plan == 1


def test_a_location_that_ships_nothing_leaves_its_units_to_others(decided: list[Fact]) -> None:
    found = looked_back(decided, without("sparks"))
    assert found.then.units["sparks"] > 0
    assert found.now.units["sparks"] == 0
    assert found.now.units.total() == found.then.units.total()
    assert all("sparks" in places(change.then) and "sparks" not in places(change.now) for change in found.changes)
    assert sum(change.postage_minor for change in found.changes) == found.now.postage_minor - found.then.postage_minor
    assert found.earlier + found.later <= len(found.changes)


def test_where_nobody_may_ship_there_is_no_plan(decided: list[Fact]) -> None:
    found = looked_back(decided, without("sparks", "edison"))
    assert (found.now.routed, found.now.no_plan) == (0, found.then.routed)
    assert found.now.days == 0
    assert len(found.changes) == found.then.routed


def test_another_network_is_looked_back_over_as_well(decided: list[Fact]) -> None:
    far = default_network_text().replace("base_minor = ", "base_minor = 1")  # ten times and more
    found = looked_back(decided, SAME, network=far)
    assert found.now.postage_minor > 2 * found.then.postage_minor


def test_a_span_takes_its_beginning_and_not_its_end(decided: list[Fact]) -> None:
    first = min(fact.inputs.decided_at for fact in routed(decided))
    assert looked_back(decided, SAME, until=first).then.routed == 0
    assert looked_back(decided, SAME, since=first).then.routed == len(routed(decided))
    assert looked_back(decided, SAME, since=first, until=first + timedelta(seconds=1)).then.routed >= 1


def test_what_is_no_policy_or_network_is_refused(decided: list[Fact]) -> None:
    with pytest.raises(PolicyInvalid, match="atlantis"):
        looked_back(decided, without("atlantis"))
    with pytest.raises(PolicyInvalid):
        WhatIf("max_shipments = 0", default_network_text())
    with pytest.raises(NetworkInvalid):
        WhatIf(SAME, "currency = 1")


def test_a_decision_under_a_policy_that_was_never_adopted_is_told(decided: list[Fact]) -> None:
    with pytest.raises(PolicyNotAdopted):
        looked_back([fact for fact in decided if not isinstance(fact, PolicyAdopted)], SAME)


async def test_a_log_is_looked_back_over_from_its_store(logs: Logs, decided: list[Fact], tmp_path: Path) -> None:
    stores = await stores_of(logs)
    found = await decided_again(stores["routing"], without("sparks"))
    assert found.changes == looked_back(decided, without("sparks")).changes
    told = report(found, most=1)
    assert (told["changed"], len(told["orders"])) == (len(found.changes), 1)
    largest = max(abs(change.postage_minor) for change in found.changes)
    assert abs(told["orders"][0]["postage_minor"]) == largest
    assert set(told["then"]) == set(told["now"])
