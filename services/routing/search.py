"""The search for the cheapest set of sources of an order. Exact, up to a limit on how much is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ordermill.network import CarrierService

from .policy import Policy
from .rules import MILLI, Site


class Way(NamedTuple):
    """One service from one location: `fixed` and `per_kg` are its price, `days` how long the order waits for it."""

    fixed: int
    per_kg: int
    days: int
    carrier: str
    service: CarrierService
    arrives: int


class Source(NamedTuple):
    """A location that can ship some of the order. `leaves`: on which day (ordinal); 0 if that does not count."""

    site: Site
    km: int
    ship_by: datetime
    leaves: int
    holds: list[int]
    ways: list[Way]


def worth_it(ways: list[Way]) -> list[Way]:
    """Those that no other equals or betters in price and time at once, cheapest base price first."""
    ways.sort(key=lambda way: (way.fixed, way.per_kg, way.days))
    kept: list[Way] = []
    for way in ways:
        if not any(other.per_kg <= way.per_kg and other.days <= way.days for other in kept):
            kept.append(way)
    return kept


class Chosen(NamedTuple):
    """Sources, nearest first, the way of each, and the units of each SKU it ships."""

    sources: list[Source]
    ways: list[Way]
    units: list[list[int]]


_Key = tuple[int, int, int, int, int, tuple[str, ...], tuple[tuple[str, str], ...]]


class Search:
    """Branch and bound over sets of sources; a set is a bit mask, bit 0 the nearest source.

    At a set that cannot ship everything, some SKU is short: it branches over the sources that could add it. At one that
    can, it weighs the ways of each source, then goes on with those sources that may save more than they cost: savings
    of several sources together are never more than the sum of what each saves alone, as each unit is shipped once.
    """

    def __init__(
        self, sources: list[Source], wanted: list[int], weights: list[int], day_milli: int, policy: Policy
    ) -> None:
        """`wanted` units and `weights` (grams) are by SKU, as `holds` of each source; the sources must suffice."""
        self.sources = sources
        self.wanted = wanted
        self.weights = weights
        self.day_milli = day_milli
        self.policy = policy
        self.proven_best = True
        self.most_shipments = min(policy.max_shipments, len(sources))
        self.nodes_left = policy.search_nodes
        self.key: _Key | None = None
        self.chosen: Chosen | None = None
        self.fixed = [source.ways[0].fixed for source in sources]
        self.days = [min(way.days for way in source.ways) for source in sources]
        self.rates = [min(way.per_kg for way in source.ways) for source in sources]
        self.suppliers: list[list[tuple[int, int, int]]] = []
        self.must = 0

    def best(self) -> Chosen:
        """The best plan within `max_shipments`, or else the best beyond; there must be one."""
        self._weigh_single_sources()
        if self.chosen is not None and not self._may_a_split_be_cheaper():
            return self.chosen
        everyone = (1 << len(self.sources)) - 1
        self.suppliers = self._cheapest_suppliers()
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

    def best_with(self, number: int) -> Chosen | None:
        """The best plan in which this source ships something; None if it does in no plan that is worth weighing.

        That is so where others of any set that could ship the order have all that it holds, and no dearer.
        """
        self.must = 1 << number
        others = (1 << len(self.sources)) - 1 & ~self.must
        left = [want - held for want, held in zip(self.wanted, self.sources[number].holds, strict=True)]
        self.suppliers = self._cheapest_suppliers()
        self._visit(self.must, others, left, 1)
        if self.chosen is None and self.most_shipments < len(self.sources):
            self.most_shipments = len(self.sources)
            self.nodes_left = self.policy.search_nodes
            self._visit(self.must, others, left, 1)
        self.proven_best = self.nodes_left > 0
        return self.chosen

    def _weigh_single_sources(self) -> None:
        units = sum(self.wanted)
        grams = sum(want * weight for want, weight in zip(self.wanted, self.weights, strict=True))
        for source in self.sources:
            if source.holds == self.wanted:
                handling = units * source.site.unit_milli
                for way in source.ways:
                    cost = way.fixed + grams * way.per_kg + handling + way.days * self.day_milli
                    if self.key is None or cost <= self.key[0]:
                        self._compare([source], [way], way.fixed, way.days)

    def _may_a_split_be_cheaper(self) -> bool:
        """Whether two shipments, each unit at the lowest price anywhere, would cost less than the best so far."""
        assert self.key is not None
        if self.most_shipments == 1 or len(self.sources) == 1:
            return False
        one, two = sorted(self.fixed)[:2]
        units = sum(self.wanted) * min(source.site.unit_milli for source in self.sources)
        grams = sum(want * weight for want, weight in zip(self.wanted, self.weights, strict=True))
        return one + two + units + grams * min(self.rates) + self.day_milli * min(self.days) < self.key[0]

    def _cheapest_suppliers(self) -> list[list[tuple[int, int, int]]]:
        """For each SKU what a unit costs at least, the bit and the units of each source that has it."""
        return [
            sorted(
                (weight * self.rates[number] + source.site.unit_milli, 1 << number, source.holds[sku])
                for number, source in enumerate(self.sources)
                if source.holds[sku]
            )
            for sku, weight in enumerate(self.weights)
        ]

    def _least_fill(self, allowed: int) -> int:
        """What the units cost at least, from `allowed` sources, before what each shipment costs; they must suffice."""
        total = 0
        for wanted, suppliers in zip(self.wanted, self.suppliers, strict=True):
            left = wanted
            for cost, bit, holds in suppliers:
                if allowed & bit:
                    if holds >= left:
                        total += cost * left
                        break
                    total += cost * holds
                    left -= holds
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
            (sum(1 for _, bit, _ in self.suppliers[sku] if bit & others), sku)
            for sku, want in enumerate(short)
            if want > 0
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
        bound = self._least_fixed(chosen) + min(
            fixed for number, fixed in enumerate(self.fixed) if others >> number & 1
        )
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

    def _choose_ways(self, sources: list[Source], ways: list[Way], fixed: int, days: int, least: int) -> None:
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

    def _compare(self, sources: list[Source], ways: list[Way], fixed: int, days: int) -> None:
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
            mask = sum(1 << self.sources.index(sources[number]) for number in used)
            if self.must & mask == self.must:
                self._weigh(mask)
            return
        key = (
            cost,
            len(ways),
            days,
            max(source.leaves for source in sources),
            sum(source.km for source in sources),
            tuple(sorted(source.site.id for source in sources)),
            tuple((way.carrier, way.service.id) for way in ways),
        )
        if self.key is None or key < self.key:
            self.key, self.chosen = key, Chosen(sources, ways, units)

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


def _fill_one(want: int, sku: int, weight: int, rates: Sequence[tuple[Source, int]]) -> tuple[int, list[int]]:
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
