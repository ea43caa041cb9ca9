"""The cheapest way to ship an order as a whole: which locations, how many units from each, by which carrier service.

A plan's cost is the sum over its shipments of postage (base price + weight * price by zone), handling (each shipment,
each unit by kind of location) and, for the order once, delay: days from the decision to the last delivery. All plans
are weighed, splits included, by branch and bound, so the result is the cheapest one unless the search
reached its limit.

Between plans of equal cost the order of preference is: fewer shipments; earlier day of the last delivery; earlier day
on which the last parcel leaves (decisions with `preferences` 1 were made without it); fewer kilometers in all; the
locations' ids, then the services' ids, in alphabetical order. Days are the destination's. Within a plan, units whose
cost is equal come from the nearest location. Costs are compared exactly; postage is rounded up to the minor unit per
shipment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import Money
from ordermill.contracts.routing import CostParts, PlannedShipment, RoutingInputs
from ordermill.geo import ABROAD, Point, great_circle_km, postal_area, zone_of

from .rules import MILLI, Rules, Site, business_days_after
from .search import Chosen, Search, Source, Way, worth_it

PREFERENCES = 2
"""What is preferred between plans of equal cost, as new decisions record it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The cheapest plan, or the best found within the policy's limit if `proven_best` is false."""

    shipments: tuple[PlannedShipment, ...]
    cost: CostParts
    proven_best: bool


@dataclass(frozen=True, slots=True)
class Unroutable:
    """No plan, and why. `missing` is by SKU; `may_pass`: a newer picture of availability could change it."""

    reason: str
    missing: tuple[tuple[str, int], ...]
    may_pass: bool


def plan(inputs: RoutingInputs, plan_id: str, rules: Rules) -> Plan | Unroutable:
    """The cheapest plan for all of `inputs.lines`. Depends on nothing but its arguments."""
    order = OrderToPlan(inputs, rules)
    sources = order.sources()
    missing = tuple(
        (sku, wanted - held)
        for number, (sku, wanted) in enumerate(zip(order.skus, order.wanted, strict=True))
        if wanted > (held := sum(source.holds[number] for source in sources))
    )
    if missing:
        return order.unroutable(missing)
    search = Search(sources, order.wanted, order.weights, order.day_milli, rules.policy)
    return order.plan_of(search.best(), search.proven_best, plan_id)


class OrderToPlan:
    """An order's wants: one entry per SKU in `skus`, `wanted` and `weights`."""

    def __init__(self, inputs: RoutingInputs, rules: Rules) -> None:
        self.inputs = inputs
        self.rules = rules
        wanted: dict[str, int] = {}
        weights: dict[str, int] = {}
        for line in inputs.lines:
            wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
            if line.weight_g is not None:
                weights[line.sku] = max(weights.get(line.sku, 0), line.weight_g)
        default = rules.policy.default_weight_g
        self.skus = list(wanted)
        self.wanted = list(wanted.values())
        self.weights = [weights.get(sku, default) for sku in self.skus]
        self.day_milli = rules.day_milli[inputs.service_level]
        self.area = postal_area(inputs.country)
        place = inputs.place or rules.place_of(inputs.country, inputs.region, inputs.postal_code)
        self.point = Point(place.lat, place.lon)
        self.zone = ZoneInfo(place.zone)
        self.looks_at_leaving = inputs.preferences >= 2
        self.barred = {location for location, sku in inputs.excluded if sku is None}
        self.barred_pairs = {entry for entry in inputs.excluded if entry[1] is not None}

    def sources(self) -> list[Source]:
        """Locations that may ship some of the order and hold it, nearest first."""
        available, barred = self.inputs.available, self.barred
        found = []
        for site in self.rules.sites:
            stock = available.get(site.id)
            if not stock or site.id in barred:
                continue
            holds = [min(stock.get(sku, 0), want) for sku, want in zip(self.skus, self.wanted, strict=True)]
            if self.barred_pairs:
                for number, sku in enumerate(self.skus):
                    if (site.id, sku) in self.barred_pairs:
                        holds[number] = 0
            if max(holds) > 0 and (source := self._source(site, [max(0, held) for held in holds])):
                found.append(source)
        found.sort(key=lambda source: (source.km, source.site.id))
        return found

    def _source(self, site: Site, holds: list[int]) -> Source | None:
        km = great_circle_km(site.point, self.point)
        zone = zone_of(km) if site.area == self.area else ABROAD
        decided_at = self.inputs.decided_at
        handed_over, ship_by = site.hands_over(decided_at)
        today = self.day_of(decided_at)
        leaves = self.day_of(ship_by)
        start = max(handed_over, leaves)
        shipment = self.rules.policy.cost_minor.shipment
        ways: list[Way] = []
        for carrier, service in self.rules.services[self.inputs.service_level]:
            if zone > len(service.per_kg_minor):
                continue
            fixed = (service.base_minor + shipment) * MILLI
            arrives = business_days_after(start, service.transit_days[zone - 1])
            ways.append(Way(fixed, service.per_kg_minor[zone - 1], arrives - today, carrier, service, arrives))
        if not ways:
            return None
        return Source(site, round(km), ship_by, leaves if self.looks_at_leaving else 0, holds, worth_it(ways))

    def day_of(self, moment: datetime) -> int:
        """The destination's date (ordinal)."""
        return moment.astimezone(self.zone).toordinal()

    def unroutable(self, missing: tuple[tuple[str, int], ...]) -> Unroutable:
        level, country = self.inputs.service_level, self.inputs.country
        services = self.rules.services[level]
        reaching = [
            site.id
            for site in self.rules.sites
            if site.id not in self.barred
            and any(site.area == self.area or len(service.per_kg_minor) == ABROAD for _, service in services)
        ]
        if not reaching:
            why = f"no location that may ship this order has a service for {level} orders to {country}"
            return Unroutable(why, missing, may_pass=False)
        told, may_pass = [], True
        for sku, units in missing:
            free = [site for site in reaching if (site, sku) not in self.barred_pairs]
            may_pass = may_pass and bool(free)
            wanted = self.wanted[self.skus.index(sku)]
            seen = sum(max(0, stock.get(sku, 0)) for stock in self.inputs.available.values())
            told.append(
                f"{sku}: {wanted} wanted, {wanted - units} seen where they may be shipped from, {seen} anywhere"
            )
        return Unroutable("; ".join(told)[:500], missing, may_pass)

    def plan_of(self, chosen: Chosen, proven_best: bool, plan_id: str) -> Plan:
        currency = self.rules.network.currency
        policy = self.rules.policy
        lines = [(self.skus.index(line.sku), line, line.quantity) for line in self.inputs.lines]
        latest = max(range(len(chosen.ways)), key=lambda number: chosen.ways[number].days)
        shipments = []
        for number, (source, way, units) in enumerate(zip(chosen.sources, chosen.ways, chosen.units, strict=True)):
            weight = sum(count * self.weights[sku] for sku, count in enumerate(units))
            handling = policy.cost_minor.shipment + source.site.unit_milli // MILLI * sum(units)
            if number >= policy.max_shipments:
                handling += policy.cost_minor.shipment_beyond_max
            cost = _cost(
                shipping=way.service.base_minor - (-weight * way.per_kg // MILLI),
                handling=handling,
                delay=self.day_milli // MILLI * way.days if number == latest else 0,
                currency=currency,
            )
            taken, lines = _take(lines, units)
            delivery = datetime.combine(date.fromordinal(way.arrives), way.service.delivers_until, self.zone)
            shipments.append(
                PlannedShipment(
                    fulfillment_id=f"{plan_id}.{number + 1}",
                    location=source.site.id,
                    carrier=way.carrier,
                    service=way.service.id,
                    distance_km=source.km,
                    ship_by=source.ship_by,
                    deliver_by=delivery.astimezone(UTC),
                    cost=cost,
                    lines=taken,
                )
            )
        return Plan(tuple(shipments), _sum_of(shipments, currency), proven_best)


def _cost(shipping: int, handling: int, delay: int, currency: str) -> CostParts:
    def money(minor: int) -> Money:
        return Money(minor=minor, currency=currency)

    return CostParts(
        shipping=money(shipping),
        handling=money(handling),
        delay=money(delay),
        total=money(shipping + handling + delay),
    )


def _sum_of(shipments: Sequence[PlannedShipment], currency: str) -> CostParts:
    if len(shipments) == 1:
        return shipments[0].cost
    return _cost(
        shipping=sum(shipment.cost.shipping.minor for shipment in shipments),
        handling=sum(shipment.cost.handling.minor for shipment in shipments),
        delay=sum(shipment.cost.delay.minor for shipment in shipments),
        currency=currency,
    )


_Line = tuple[int, ReleasedLine, int]


def _take(lines: list[_Line], units: list[int]) -> tuple[tuple[ReleasedLine, ...], list[_Line]]:
    """`units` of each SKU from the first lines that want it, and what is left to take."""
    left = list(units)
    taken: list[ReleasedLine] = []
    rest: list[_Line] = []
    for sku, line, wanted in lines:
        count = min(left[sku], wanted)
        left[sku] -= count
        if count == line.quantity:
            taken.append(line)
        elif count:
            taken.append(line.model_copy(update={"quantity": count}))
        if count < wanted:
            rest.append((sku, line, wanted - count))
    return tuple(taken), rest
