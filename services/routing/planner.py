"""The cheapest way to ship an order as a whole: which locations, how many units from each, by which carrier service.

A plan's cost is the sum over its shipments of postage (base price + weight * price by zone), handling (each shipment,
each unit by kind of location) and, for the order once, delay: days from the decision to the last delivery. All plans
are weighed, splits included, by branch and bound, so the result is the cheapest one unless the search reached its limit.

Between plans of equal cost the order of preference is: fewer shipments; earlier last delivery; fewer kilometers in
all; the locations' ids, then the services' ids, in alphabetical order. Within a plan, units whose cost is equal
come from the nearest location. Costs are compared exactly; postage is rounded up to the minor unit per shipment.

Times. Work on a plan starts on the day it is decided if that is a working day of the location and before its cut-off
(local time), else on the next working day; `handling_days` working days later, at the cut-off, the carrier must have
it: `ship_by`. Transit counts business days, Monday to Friday, from that date or the destination's date at that moment,
whichever is later; `deliver_by` is the service's `delivers_until` there. Holidays are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.fields import Money
from ordermill.contracts.routing import CostParts, Place, PlannedShipment, RoutingInputs
from ordermill.geo import ABROAD, Point, great_circle_km, locate, postal_area, zone_of
from ordermill.network import WEEKDAYS, CarrierService, Location, Network, read_network

from .policy import Policy, policy_hash, read_policy

MILLI = 1_000
"""Costs are summed in thousandths of a minor unit: grams times minor units per kilogram, exactly."""


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


@dataclass(frozen=True, slots=True)
class Site:
    """A location, made ready for reckoning."""

    id: str
    area: str
    point: Point
    zone: tzinfo
    cut_off: time
    handling_days: int
    works: tuple[bool, ...]
    unit_milli: int

    @staticmethod
    def of(location: Location, policy: Policy) -> Site:
        return Site(
            id=location.id,
            area=postal_area(location.country),
            point=Point(*location.point),
            zone=ZoneInfo(location.zone),
            cut_off=location.cut_off,
            handling_days=location.handling_days,
            works=tuple(day in location.working_days for day in WEEKDAYS),
            unit_milli=policy.cost_minor.unit.of(location.kind) * MILLI,
        )

    def hands_over(self, decided_at: datetime) -> tuple[int, datetime]:
        """The local date (ordinal) and the instant by which the carrier has what is decided at `decided_at`."""
        local = decided_at.astimezone(self.zone)
        day, left = local.toordinal(), self.handling_days
        if decided_at >= datetime.combine(local, self.cut_off, self.zone):
            day += 1
        while True:
            while not self.works[(day - 1) % 7]:
                day += 1
            if not left:
                return day, datetime.combine(date.fromordinal(day), self.cut_off, self.zone).astimezone(UTC)
            day, left = day + 1, left - 1


@dataclass(frozen=True)
class Rules:
    """A policy over a network, made ready for planning; `hash` identifies both."""

    hash: str
    policy: Policy
    network: Network
    sites: tuple[Site, ...]
    services: dict[str, tuple[tuple[str, CarrierService], ...]]
    day_milli: dict[str, int]

    def place_of(self, country: str, region: str, postal_code: str) -> Place:
        """Where an address lies, as closely as is known."""
        elsewhere = self.network.elsewhere
        return locate(country, region, postal_code) or Place(
            lat=elsewhere.point[0], lon=elsewhere.point[1], zone=elsewhere.zone, found_by="default"
        )


@lru_cache(maxsize=64)
def read_rules(policy_text: str, network_text: str) -> Rules:
    """Both texts (TOML) as rules. Raises PolicyInvalid or NetworkInvalid."""
    network = read_network(network_text)
    policy = read_policy(policy_text, network)
    return Rules(
        hash=policy_hash(policy_text, network_text),
        policy=policy,
        network=network,
        sites=tuple(
            Site.of(location, policy)
            for location in network.locations
            if location.enabled and location.id not in policy.excluded_locations
        ),
        services={
            level: tuple(
                sorted(
                    (
                        (carrier.id, service)
                        for carrier in network.carriers
                        for service in carrier.services
                        if level in service.levels
                    ),
                    key=lambda entry: (entry[0], entry[1].id),
                )
            )
            for level in ServiceLevel
        },
        day_milli={level: policy.cost_minor.day.of(level) * MILLI for level in ServiceLevel},
    )


def business_days_after(day: int, count: int) -> int:
    """The ordinal of the date `count` (at least 1) business days after `day`."""
    weekday = (day - 1) % 7
    if weekday > 4:
        day, weekday = day - (weekday - 4), 4
    return day + count + 2 * ((weekday + count) // 5)


class _Way(NamedTuple):
    """One service from one location: `fixed` and `per_kg` are its price, `days` how long the order waits for it."""

    fixed: int
    per_kg: int
    days: int
    carrier: str
    service: CarrierService
    arrives: int


class _Source(NamedTuple):
    """A location that can ship some of the order."""

    site: Site
    km: int
    ship_by: datetime
    holds: list[int]
    ways: list[_Way]


def plan(inputs: RoutingInputs, plan_id: str, rules: Rules) -> Plan | Unroutable:
    """The cheapest plan for all of `inputs.lines`. Depends on nothing but its arguments."""
    order = _Order(inputs, rules)
    sources = order.sources()
    missing = tuple(
        (sku, wanted - held)
        for number, (sku, wanted) in enumerate(zip(order.skus, order.wanted, strict=True))
        if wanted > (held := sum(source.holds[number] for source in sources))
    )
    if missing:
        return order.unroutable(missing)
    search = _Search(sources, order, rules.policy)
    return order.plan_of(search.best(), search.proven_best, plan_id)


class _Order:
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
        self.barred = {location for location, sku in inputs.excluded if sku is None}
        self.barred_pairs = {entry for entry in inputs.excluded if entry[1] is not None}

    def sources(self) -> list[_Source]:
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

    def _source(self, site: Site, holds: list[int]) -> _Source | None:
        km = great_circle_km(site.point, self.point)
        zone = zone_of(km) if site.area == self.area else ABROAD
        decided_at = self.inputs.decided_at
        handed_over, ship_by = site.hands_over(decided_at)
        today = decided_at.astimezone(self.zone).toordinal()
        start = max(handed_over, ship_by.astimezone(self.zone).toordinal())
        shipment = self.rules.policy.cost_minor.shipment
        ways: list[_Way] = []
        for carrier, service in self.rules.services[self.inputs.service_level]:
            if zone > len(service.per_kg_minor):
                continue
            fixed = (service.base_minor + shipment) * MILLI
            arrives = business_days_after(start, service.transit_days[zone - 1])
            ways.append(_Way(fixed, service.per_kg_minor[zone - 1], arrives - today, carrier, service, arrives))
        return _Source(site, round(km), ship_by, holds, _worth_it(ways)) if ways else None

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
            told.append(f"{sku}: {wanted} wanted, {wanted - units} seen where they may be shipped from, {seen} anywhere")
        return Unroutable("; ".join(told)[:500], missing, may_pass)

    def plan_of(self, chosen: _Chosen, proven_best: bool, plan_id: str) -> Plan:
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


def _worth_it(ways: list[_Way]) -> list[_Way]:
    """Those that no other equals or betters in price and time at once, cheapest base price first."""
    ways.sort(key=lambda way: (way.fixed, way.per_kg, way.days))
    kept: list[_Way] = []
    for way in ways:
        if not any(other.per_kg <= way.per_kg and other.days <= way.days for other in kept):
            kept.append(way)
    return kept


class _Chosen(NamedTuple):
    """Sources, nearest first, the way of each, and the units of each SKU it ships."""

    sources: list[_Source]
    ways: list[_Way]
    units: list[list[int]]


_Key = tuple[int, int, int, int, tuple[str, ...], tuple[tuple[str, str], ...]]


class _Search:
    """Branch and bound over sets of sources; a set is a bit mask, bit 0 the nearest source.

    At a set that cannot ship everything, some SKU is short: it branches over the sources that could add it. At one that
    can, it weighs the ways of each source, then goes on with those sources that may save more than they cost: savings
    of several sources together are never more than the sum of what each saves alone, as each unit is shipped once.
    """

    def __init__(self, sources: list[_Source], order: _Order, policy: Policy) -> None:
        self.sources = sources
        self.wanted = order.wanted
        self.weights = order.weights
        self.day_milli = order.day_milli
        self.policy = policy
        self.proven_best = True
        self.most_shipments = min(policy.max_shipments, len(sources))
        self.nodes_left = policy.search_nodes
        self.key: _Key | None = None
        self.chosen: _Chosen | None = None
        self.fixed = [source.ways[0].fixed for source in sources]
        self.days = [min(way.days for way in source.ways) for source in sources]
        self.rates = [min(way.per_kg for way in source.ways) for source in sources]
        self.suppliers: list[list[tuple[int, int, int]]] = []
        for sku, weight in enumerate(order.weights):
            suppliers = [
                (weight * self.rates[number] + source.site.unit_milli, 1 << number, source.holds[sku])
                for number, source in enumerate(sources)
                if source.holds[sku]
            ]
            suppliers.sort()
            self.suppliers.append(suppliers)

    def best(self) -> _Chosen:
        """The best plan within `max_shipments`, or else the best beyond; there must be one."""
        everyone = (1 << len(self.sources)) - 1
        for number, source in enumerate(self.sources):
            if source.holds == self.wanted:
                self._weigh(1 << number)
        if self.key is not None and not self._may_a_split_be_cheaper(self.key[0], everyone):
            assert self.chosen is not None
            return self.chosen
        self._visit(0, everyone, list(self.wanted), 0)
        self.proven_best = self.nodes_left > 0
        if self.chosen is None:
            self.most_shipments = len(self.sources)
            self.nodes_left = self.policy.search_nodes
            self._visit(0, everyone, list(self.wanted), 0)
            self.proven_best = self.proven_best and self.nodes_left > 0
        if self.chosen is None:
            self._weigh(self._greedy())
        assert self.chosen is not None
        return self.chosen

    def _may_a_split_be_cheaper(self, cost: int, everyone: int) -> bool:
        if self.most_shipments == 1 or len(self.sources) == 1:
            return False
        one, two = sorted(self.fixed)[:2]
        return one + two + self._least_fill(everyone) + self.day_milli * min(self.days) < cost

    def _least_fill(self, allowed: int) -> int:
        """What the units cost at least, from `allowed` sources, before what each shipment costs; they must suffice."""
        total = 0
        for wanted, suppliers in zip(self.wanted, self.suppliers, strict=True):
            for cost, bit, holds in suppliers:
                if allowed & bit:
                    if holds >= wanted:
                        total += cost * wanted
                        break
                    total += cost * holds
                    wanted -= holds
        return total

    def _beyond(self, shipments: int) -> int:
        return max(0, shipments - self.policy.max_shipments) * self.policy.cost_minor.shipment_beyond_max * MILLI

    def _visit(self, chosen: int, others: int, short: list[int], count: int) -> None:
        """All plans that use `chosen` and some of `others`; `short` is what `chosen` lacks of each SKU."""
        self.nodes_left -= 1
        if self.nodes_left <= 0:
            return
        if max(short) <= 0:
            self._weigh(chosen)
            if count < self.most_shipments:
                self._extend(chosen, others, short, count)
            return
        adds = self._additions(others, short)
        needed = _fewest(adds, sum(want for want in short if want > 0))
        if needed is None or count + needed > self.most_shipments or not self._suffice(others, short):
            return
        if self.key is not None:
            bound = self._least_fixed(chosen) + needed * min(self.fixed[number] for _, number in adds)
            bound += self._beyond(count + needed) + self._least_fill(chosen | others)
            if bound + self.day_milli * self._least_days(chosen) > self.key[0]:
                return
        rarest = min(
            (sum(1 for _, bit, _ in self.suppliers[sku] if bit & others), sku) for sku, want in enumerate(short) if want > 0
        )[1]
        for _, number in adds:
            holds = self.sources[number].holds
            if holds[rarest]:
                others &= ~(1 << number)
                left = [want - held for want, held in zip(short, holds, strict=True)]
                self._visit(chosen | 1 << number, others, left, count + 1)

    def _additions(self, others: int, short: list[int]) -> list[tuple[int, int]]:
        """How much of what is short each of `others` has, as negative numbers, most first."""
        adds = []
        for number, source in enumerate(self.sources):
            if others >> number & 1:
                added = sum(min(held, want) for held, want in zip(source.holds, short, strict=True) if want > 0)
                if added:
                    adds.append((-added, number))
        adds.sort()
        return adds

    def _suffice(self, others: int, short: list[int]) -> bool:
        return all(
            sum(holds for _, bit, holds in self.suppliers[sku] if bit & others) >= want
            for sku, want in enumerate(short)
            if want > 0
        )

    def _extend(self, chosen: int, others: int, short: list[int], count: int) -> None:
        """More sources than needed, where cheaper units make up for one more shipment."""
        if not others or self.key is None:
            return
        bound = self._least_fixed(chosen) + min(fixed for number, fixed in enumerate(self.fixed) if others >> number & 1)
        bound += self._least_fill(chosen | others) + self._beyond(count + 1)
        if bound + self.day_milli * self._least_days(chosen) > self.key[0]:
            return
        dear = self._fill(chosen, None)
        worth = 0
        for number in range(len(self.sources)):
            bit = 1 << number
            if others & bit and dear - self._fill(chosen, number) > self.fixed[number]:
                worth |= bit
        for number in range(len(self.sources)):
            bit = 1 << number
            if worth & bit:
                worth &= ~bit
                left = [want - held for want, held in zip(short, self.sources[number].holds, strict=True)]
                self._visit(chosen | bit, worth, left, count + 1)

    def _fill(self, chosen: int, added: int | None) -> int:
        """What the units cost with the dearest way of each of `chosen` and the cheapest way of `added`."""
        rates = [
            (source, max(way.per_kg for way in source.ways) if chosen >> number & 1 else self.rates[number])
            for number, source in enumerate(self.sources)
            if chosen >> number & 1 or number == added
        ]
        return sum(
            _fill_one(want, sku, weight, rates)[0]
            for sku, (want, weight) in enumerate(zip(self.wanted, self.weights, strict=True))
        )

    def _least_fixed(self, chosen: int) -> int:
        return sum(fixed for number, fixed in enumerate(self.fixed) if chosen >> number & 1)

    def _least_days(self, chosen: int) -> int:
        return max((days for number, days in enumerate(self.days) if chosen >> number & 1), default=0)

    def _weigh(self, chosen: int) -> None:
        """The best ways for exactly these sources, which can ship everything."""
        numbers = [number for number in range(len(self.sources)) if chosen >> number & 1]
        sources = [self.sources[number] for number in numbers]
        least = self._least_fill(chosen) + self._beyond(len(numbers))
        self._choose_ways(sources, [], self._least_fixed(chosen), self._least_days(chosen), least)

    def _choose_ways(self, sources: list[_Source], ways: list[_Way], fixed: int, days: int, least: int) -> None:
        """Plans that begin with `ways`; `fixed`, `days` and `least` are bounds of what they cost."""
        if self.key is not None and fixed + days * self.day_milli + least > self.key[0]:
            return
        if len(ways) == len(sources):
            self._compare(sources, ways, fixed, days)
            return
        source = sources[len(ways)]
        for way in source.ways:
            if self.nodes_left <= 0 and self.key is not None:
                return
            if len(source.ways) > 1:
                self.nodes_left -= 1
            more = way.fixed - source.ways[0].fixed
            self._choose_ways(sources, [*ways, way], fixed + more, max(days, way.days), least)

    def _compare(self, sources: list[_Source], ways: list[_Way], fixed: int, days: int) -> None:
        rates = [(source, way.per_kg) for source, way in zip(sources, ways, strict=True)]
        cost = fixed + days * self.day_milli + self._beyond(len(ways))
        units: list[list[int]] = [[] for _ in sources]
        for sku, (want, weight) in enumerate(zip(self.wanted, self.weights, strict=True)):
            added, counts = _fill_one(want, sku, weight, rates)
            cost += added
            for number, count in enumerate(counts):
                units[number].append(count)
        if self.key is not None and cost > self.key[0]:
            return
        used = [number for number, counts in enumerate(units) if any(counts)]
        if len(used) < len(ways):
            self._weigh(sum(1 << self.sources.index(sources[number]) for number in used))
            return
        key = (
            cost,
            len(ways),
            days,
            sum(source.km for source in sources),
            tuple(sorted(source.site.id for source in sources)),
            tuple((way.carrier, way.service.id) for way in ways),
        )
        if self.key is None or key < self.key:
            self.key, self.chosen = key, _Chosen(sources, ways, units)

    def _greedy(self) -> int:
        """Sources that suffice: again and again the one that adds most."""
        chosen, others, short = 0, (1 << len(self.sources)) - 1, list(self.wanted)
        while max(short) > 0:
            number = self._additions(others, short)[0][1]
            chosen, others = chosen | 1 << number, others & ~(1 << number)
            short = [want - held for want, held in zip(short, self.sources[number].holds, strict=True)]
        return chosen


def _fewest(adds: list[tuple[int, int]], short: int) -> int | None:
    """How many sources it takes at least to add `short` units; None if all together do not."""
    for count, (added, _) in enumerate(adds, 1):
        short += added
        if short <= 0:
            return count
    return None


def _fill_one(want: int, sku: int, weight: int, rates: Sequence[tuple[_Source, int]]) -> tuple[int, list[int]]:
    """The least cost of `want` units of one SKU and how many come from each source, ties to the nearer."""
    counts = [0] * len(rates)
    cost = 0
    if len(rates) == 1:
        source, rate = rates[0]
        counts[0] = want
        return want * (weight * rate + source.site.unit_milli), counts
    by_cost = sorted(
        (weight * rate + source.site.unit_milli, number, source.holds[sku])
        for number, (source, rate) in enumerate(rates)
        if source.holds[sku]
    )
    for unit, number, holds in by_cost:
        counts[number] = min(want, holds)
        cost += unit * counts[number]
        want -= counts[number]
        if not want:
            break
    return cost, counts
