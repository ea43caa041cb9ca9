"""Why a decision came out as it did: made again from its record, with what every location would have meant. Pure.

For each location that may ship some of the order there is one other plan: the cheapest in which it ships something;
or, where it adds nothing to any set of others, the plan that takes all it holds and the rest as cheaply as can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Literal

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import Instant, LocationId, Part, Sku
from ordermill.contracts.routing import (
    CostParts,
    OrderDeferred,
    OrderRerouted,
    OrderRouted,
    OrderUnroutable,
    Place,
    PlannedShipment,
    RouteCause,
)
from ordermill.geo import Point, great_circle_km
from ordermill.network import Location

from .domain import recompute
from .planner import OrderToPlan, Plan
from .rules import Rules, read_rules
from .search import Chosen, Search, Source

Decision = OrderRouted | OrderRerouted | OrderDeferred | OrderUnroutable
Verdict = Literal[
    "chosen", "costs-more", "costs-the-same", "not-looked-at", "too-many-parcels", "not-enough", "waits", "no-stock",
    "no-service", "ruled-out", "left-out-by-policy", "disabled",
]  # fmt: skip

NODES = 2_000
"""Combinations looked at for each other plan, at most; `proven_best` says where that was too few."""
SHOWN = 6

_TIES = (
    "costs more",
    "costs the same in more parcels",
    "costs the same and arrives later",
    "costs the same and leaves later",
    "costs the same from farther away",
    "costs the same; its name comes later in the alphabet",
)


class Lack(Part):
    """Units of a SKU that the order wanted and a location had, as routing knew."""

    sku: Sku
    wanted: int
    has: int


class Alternative(Part):
    """A plan that could have been. `more`: what it costs beyond the one chosen, by part; less where negative."""

    locations: tuple[LocationId, ...]
    shipments: tuple[PlannedShipment, ...]
    cost: CostParts
    more: CostParts | None
    deliver_by: Instant
    beyond_max: bool
    """More parcels than the policy likes; such a plan is taken only if there is no other."""
    proven_best: bool


class Weighed(Part):
    """One location of the network, and why it ships nothing of the order, or what without it would have been."""

    location: LocationId
    name: str
    point: tuple[float, float]
    distance_km: int
    verdict: Verdict
    reason: str
    lacks: tuple[Lack, ...] = ()
    alternative: Alternative | None = None


class Explanation(Part):
    """A decision with what was weighed. `agrees`: made again it is the same; null where none was to be made."""

    order_id: str
    plan_id: str
    decision: Literal["routed", "rerouted", "deferred", "unroutable"]
    cause: RouteCause
    attempt: int
    instead_of: str | None
    decided_at: Instant
    policy_hash: str
    max_shipments: int
    service_level: str
    country: str
    region: str
    postal_code: str
    place: Place
    lines: tuple[ReleasedLine, ...]
    reason: str
    agrees: bool | None
    proven_best: bool
    chosen: Alternative | None
    locations: tuple[Weighed, ...]
    alternatives: tuple[Alternative, ...]
    """The cheapest that differ in their locations, best first."""


def explain(event: Decision, policy_content: str, network_content: str) -> Explanation:
    """Give the texts of the PolicyAdopted event with the decision's policy_hash. Raises PolicyMismatch for others."""
    again = recompute(event, policy_content, network_content)
    rules = read_rules(policy_content, network_content)
    inputs = event.inputs
    weighing = _Weighing(event, rules, enough=isinstance(again, Plan))
    locations = tuple(weighing.weighed(location) for location in rules.network.locations)
    agrees: bool | None = None
    if isinstance(event, OrderRouted | OrderRerouted):
        agrees = isinstance(again, Plan) and (again.shipments, again.cost) == (event.shipments, event.cost)
    return Explanation(
        order_id=event.order_id,
        plan_id=event.plan_id,
        decision=_KINDS[type(event)],
        cause=event.cause,
        attempt=event.attempt,
        instead_of=event.instead_of,
        decided_at=inputs.decided_at,
        policy_hash=inputs.policy_hash,
        max_shipments=rules.policy.max_shipments,
        service_level=inputs.service_level,
        country=inputs.country,
        region=inputs.region,
        postal_code=inputs.postal_code,
        place=weighing.place,
        lines=inputs.lines,
        reason="" if isinstance(event, OrderRouted | OrderRerouted) else event.reason,
        agrees=agrees,
        proven_best=getattr(event, "proven_best", True),
        chosen=weighing.chosen,
        locations=tuple(sorted(locations, key=lambda one: (one.distance_km, one.location))),
        alternatives=_best_of(locations, weighing.chosen),
    )


_KINDS: dict[type[Decision], Literal["routed", "rerouted", "deferred", "unroutable"]] = {
    OrderRouted: "routed",
    OrderRerouted: "rerouted",
    OrderDeferred: "deferred",
    OrderUnroutable: "unroutable",
}


def _best_of(locations: Iterable[Weighed], chosen: Alternative | None) -> tuple[Alternative, ...]:
    found: dict[tuple[str, ...], Alternative] = {}
    for one in locations:
        other = one.alternative
        if other is None or (chosen is not None and set(other.locations) == set(chosen.locations)):
            continue
        known = found.get(other.locations)
        if known is None or other.cost.total.minor < known.cost.total.minor:
            found[other.locations] = other
    ranked = sorted(found.values(), key=lambda one: (one.beyond_max, one.cost.total.minor, one.locations))
    return tuple(ranked[:SHOWN])


class _Weighing:
    def __init__(self, event: Decision, rules: Rules, enough: bool) -> None:
        self.event = event
        self.inputs = event.inputs
        self.rules = rules
        self.enough = enough
        self.order = OrderToPlan(event.inputs, rules)
        self.sources = self.order.sources()
        self.place = self.inputs.place or rules.place_of(
            self.inputs.country, self.inputs.region, self.inputs.postal_code
        )
        self.policy = rules.policy.model_copy(update={"search_nodes": min(NODES, rules.policy.search_nodes)})
        self.chosen: Alternative | None = None
        if isinstance(event, OrderRouted | OrderRerouted):
            self.chosen = self._alternative(event.shipments, event.cost, event.proven_best)

    def weighed(self, location: Location) -> Weighed:
        verdict, reason = self._unfit(location)
        number = next((n for n, source in enumerate(self.sources) if source.site.id == location.id), None)
        alternative = None
        if verdict is None and number is not None:
            verdict, reason, alternative = self._as_source(number)
        assert verdict is not None, "a location without a fault is a source"
        return Weighed(
            location=location.id,
            name=location.name,
            point=location.point,
            distance_km=round(great_circle_km(Point(*location.point), Point(self.place.lat, self.place.lon))),
            verdict=verdict,
            reason=reason,
            lacks=self._lacks(location.id),
            alternative=alternative,
        )

    def _lacks(self, location: str) -> tuple[Lack, ...]:
        stock = self.inputs.available.get(location, {})
        return tuple(
            Lack(sku=sku, wanted=wanted, has=max(0, stock.get(sku, 0)))
            for sku, wanted in zip(self.order.skus, self.order.wanted, strict=True)
            if stock.get(sku, 0) < wanted
        )

    def _unfit(self, location: Location) -> tuple[Verdict | None, str]:
        """Why it could not have shipped anything, whatever that would have cost."""
        if not location.enabled:
            return "disabled", "switched off in the network"
        if location.id in self.rules.policy.excluded_locations:
            return "left-out-by-policy", "the policy lets it ship nothing"
        if location.id in self.order.barred:
            return (
                "ruled-out",
                "ruled out for this order: it turned the work down, or a person moved units away",
            )
        stock = self.inputs.available.get(location.id, {})
        had = [sku for sku in self.order.skus if stock.get(sku, 0) > 0]
        if not had:
            return "no-stock", f"has none of {_named(self.order.skus)}"
        barred = [sku for sku in had if (location.id, sku) in self.order.barred_pairs]
        if barred == had:
            return "ruled-out", f"ruled out for {_named(barred)} earlier: it had less of it than was thought"
        if not any(source.site.id == location.id for source in self.sources):
            return "no-service", f"no carrier takes {self.inputs.service_level} parcels from there to this address"
        return None, ""

    def _as_source(self, number: int) -> tuple[Verdict, str, Alternative | None]:
        if not self.enough:
            return "not-enough", self._not_enough(self.sources[number].site.id), None
        here = self.sources[number].site.id
        if self.chosen is not None and here in self.chosen.locations:
            other = self._without(number)
            return "chosen", "part of the plan" if other else "part of the plan; without it there is none", other
        other = self._with(number)
        if self.chosen is None:
            return "waits", "could ship, but was not asked to", other
        return (*self._compared(other, self.chosen), other)

    def _not_enough(self, location: str) -> str:
        missing = [
            sku
            for number, (sku, wanted) in enumerate(zip(self.order.skus, self.order.wanted, strict=True))
            if sum(source.holds[number] for source in self.sources) < wanted
        ]
        barred = [sku for sku in missing if (location, sku) in self.order.barred_pairs]
        too_little = [sku for sku in missing if sku not in barred]
        told = [f"has too little of {_named(too_little)}, as others do"] if too_little else []
        told += [f"ruled out for {_named(barred)}, of which others have too little"] if barred else []
        return "; ".join(told)

    def _compared(self, other: Alternative, chosen: Alternative) -> tuple[Verdict, str]:
        assert other.more is not None
        if other.beyond_max and not chosen.beyond_max:
            return "too-many-parcels", (
                f"needs {len(other.shipments)} parcels, the policy wants at most {self.rules.policy.max_shipments}"
            )
        if not chosen.proven_best and self._rank(other) < self._rank(chosen):
            cost = f"{str(other.more.total).lstrip('-')} less" if other.more.total.minor else "the same"
            return "not-looked-at", f"would have cost {cost}, but the search ended at the policy's limit before it"
        if other.more.total.minor <= 0:
            return "costs-the-same", self._tie(other, chosen)
        parts = [
            f"{name} {'+' if amount.minor > 0 else '−'}{str(amount).lstrip('-')}"
            for name, amount in (
                ("shipping", other.more.shipping),
                ("handling", other.more.handling),
                ("delay", other.more.delay),
            )
            if amount.minor
        ]
        return "costs-more", f"costs {other.more.total} more: {', '.join(parts)}"

    def _rank(self, plan: Alternative) -> tuple[int, int, date, int, int, list[str]]:
        """As the search compares plans, but for costs: here they are rounded."""
        return (
            plan.cost.total.minor,
            len(plan.shipments),
            plan.deliver_by.astimezone(self.order.zone).date(),
            max(self.order.day_of(one.ship_by) for one in plan.shipments) if self.order.looks_at_leaving else 0,
            sum(one.distance_km for one in plan.shipments),
            sorted(plan.locations),
        )

    def _tie(self, other: Alternative, chosen: Alternative) -> str:
        """The first rule that decides between plans of equal cost."""
        theirs, ours = self._rank(other), self._rank(chosen)
        if theirs < ours:
            return "costs no less before postage is rounded up, parcel by parcel"
        return next(why for one, two, why in zip(theirs, ours, _TIES, strict=True) if one != two)

    def _with(self, number: int) -> Alternative:
        search = self._search(self.sources)
        found = search.best_with(number)
        if found is None or len(found.ways) > self.policy.max_shipments:
            whole = self._all_it_holds(number)
            found = whole if found is None or len(whole.ways) <= self.policy.max_shipments else found
        return self._made(found, search.proven_best)

    def _without(self, number: int) -> Alternative | None:
        others = [source for n, source in enumerate(self.sources) if n != number]
        if not _suffice(others, self.order.wanted):
            return None
        search = self._search(others)
        found = search.best()
        return self._made(found, search.proven_best)

    def _all_it_holds(self, number: int) -> Chosen:
        """All it holds from there, by its cheapest way, and the rest from others at the least cost.

        The rest may make one parcel less than the policy wants at most. Not called for a source that holds everything:
        that one ships alone.
        """
        source = self.sources[number]
        left = [want - held for want, held in zip(self.order.wanted, source.holds, strict=True)]
        others = [
            each._replace(holds=[min(held, want) for held, want in zip(each.holds, left, strict=True)])
            for n, each in enumerate(self.sources)
            if n != number
        ]
        others = [each for each in others if any(each.holds)]
        one_less = self.policy.model_copy(update={"max_shipments": max(1, self.policy.max_shipments - 1)})
        rest = Search(others, left, self.order.weights, self.order.day_milli, one_less).best()
        grams = sum(held * weight for held, weight in zip(source.holds, self.order.weights, strict=True))
        way = min(source.ways, key=lambda way: way.fixed + way.per_kg * grams + way.days * self.order.day_milli)
        parts = [(source, way, source.holds), *zip(rest.sources, rest.ways, rest.units, strict=True)]
        parts.sort(key=lambda part: (part[0].km, part[0].site.id))
        return Chosen([part[0] for part in parts], [part[1] for part in parts], [part[2] for part in parts])

    def _search(self, sources: list[Source]) -> Search:
        return Search(sources, self.order.wanted, self.order.weights, self.order.day_milli, self.policy)

    def _made(self, found: Chosen, proven_best: bool) -> Alternative:
        plan = self.order.plan_of(found, proven_best, "alternative")
        return self._alternative(plan.shipments, plan.cost, plan.proven_best)

    def _alternative(self, shipments: tuple[PlannedShipment, ...], cost: CostParts, proven_best: bool) -> Alternative:
        return Alternative(
            locations=tuple(one.location for one in shipments),
            shipments=shipments,
            cost=cost,
            more=_minus(cost, self.chosen.cost) if self.chosen else None,
            deliver_by=max(one.deliver_by for one in shipments),
            beyond_max=len(shipments) > self.rules.policy.max_shipments,
            proven_best=proven_best,
        )


def _suffice(sources: Sequence[Source], wanted: Sequence[int]) -> bool:
    return all(sum(source.holds[sku] for source in sources) >= want for sku, want in enumerate(wanted))


def _minus(cost: CostParts, other: CostParts) -> CostParts:
    return CostParts(
        shipping=cost.shipping - other.shipping,
        handling=cost.handling - other.handling,
        delay=cost.delay - other.delay,
        total=cost.total - other.total,
    )


def _named(skus: Sequence[str]) -> str:
    return ", ".join(skus[:3]) + (f" and {len(skus) - 3} more" if len(skus) > 3 else "")
