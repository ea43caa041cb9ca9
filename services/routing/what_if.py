"""Decisions of the past made again under another policy: what it would have changed. Pure; nothing is recorded.

Each is made from what routing saw then: the order, and stock as it was known. That a decision before it would have left
stock elsewhere is not followed, so look at many at once; nor is how often a location refused what a plan wanted: units
given up for that stay without a plan. Costs are weighed by each policy in its own way and are not
compared; postage, parcels, days and places are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ordermill.contracts.base import Fact
from ordermill.contracts.routing import OrderRerouted, OrderRouted, OrderUnroutable, PlannedShipment, PolicyAdopted

from .errors import PolicyNotAdopted
from .planner import Plan, plan
from .rules import Rules, read_rules

Decided = OrderRouted | OrderRerouted | OrderUnroutable
TAKEN: tuple[type[Fact], ...] = (PolicyAdopted, OrderRouted, OrderRerouted, OrderUnroutable)
"""The facts that `WhatIf` wants."""
_DAY_S = 86_400


@dataclass(slots=True)
class Sum:
    """Many decisions under one policy."""

    routed: int = 0
    no_plan: int = 0
    parcels: int = 0
    split: int = 0
    """Decisions for which several locations ship."""
    postage_minor: int = 0
    seconds: float = 0.0
    """From each decision to the arrival of its last unit."""
    units: Counter[str] = field(default_factory=Counter)
    """By the location that ships them."""

    @property
    def days(self) -> float:
        """To the last unit's arrival, on average."""
        return self.seconds / _DAY_S / self.routed if self.routed else 0.0

    def add(self, shipments: Sequence[PlannedShipment], decided_at: datetime) -> None:
        if not shipments:
            self.no_plan += 1
            return
        self.routed += 1
        self.parcels += len(shipments)
        self.split += len({shipment.location for shipment in shipments}) > 1
        self.postage_minor += postage(shipments)
        self.seconds += (arrival(shipments) - decided_at).total_seconds()
        for shipment in shipments:
            self.units[shipment.location] += sum(line.quantity for line in shipment.lines)


@dataclass(frozen=True, slots=True)
class Change:
    """One decision that would have been another."""

    order_id: str
    plan_id: str
    then: tuple[PlannedShipment, ...]
    """Empty: no plan; as is `now`."""
    now: tuple[PlannedShipment, ...]

    @property
    def postage_minor(self) -> int:
        return postage(self.now) - postage(self.then)


class WhatIf:
    """Feed it routing's log in order: `take` each fact; `then`, `now` and `changes` add up."""

    def __init__(
        self,
        policy: str,
        network: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Texts of files (TOML). `network`: None for the one that each decision was made over.

        Raises PolicyInvalid and NetworkInvalid for what can't be read, the policy's when it meets its network.
        """
        self.then, self.now = Sum(), Sum()
        self.changes: list[Change] = []
        self.earlier = self.later = 0
        """Of those that have a plan both times, by when the last unit arrives."""
        self.currency = ""
        self._policy = policy
        self._network = network
        self._since, self._until = since, until
        self._adopted: dict[str, PolicyAdopted] = {}
        if network is not None:
            read_rules(policy, network)

    def take(self, fact: Fact) -> None:
        """Raises PolicyInvalid, PolicyNotAdopted."""
        match fact:
            case PolicyAdopted():
                self._adopted[fact.policy_hash] = fact
            case OrderRouted() | OrderRerouted():
                self._decide(fact, fact.shipments)
            case OrderUnroutable():
                self._decide(fact, ())

    def _decide(self, fact: Decided, then: tuple[PlannedShipment, ...]) -> None:
        at = fact.inputs.decided_at
        if (self._since and at < self._since) or (self._until and at >= self._until):
            return
        rules = self._rules(fact)
        self.currency = rules.network.currency
        found = None if self._given_up(fact) else plan(fact.inputs, fact.plan_id, rules)
        now = found.shipments if isinstance(found, Plan) else ()
        self.then.add(then, at)
        self.now.add(now, at)
        if _ways(then) != _ways(now):
            self.changes.append(Change(fact.order_id, fact.plan_id, then, now))
            if then and now:
                self.earlier += arrival(now) < arrival(then)
                self.later += arrival(now) > arrival(then)

    def _rules(self, fact: Decided) -> Rules:
        if self._network is not None:
            return read_rules(self._policy, self._network)
        return read_rules(self._policy, self._adopted_by(fact).network)

    def _given_up(self, fact: Decided) -> bool:
        """Whether its units had as many tries as the policy of then allowed, though there was a plan."""
        if not isinstance(fact, OrderUnroutable):
            return False
        then = self._adopted_by(fact)
        return fact.attempt > read_rules(then.content, then.network).policy.attempts

    def _adopted_by(self, fact: Decided) -> PolicyAdopted:
        adopted = self._adopted.get(fact.inputs.policy_hash)
        if adopted is None:
            raise PolicyNotAdopted(fact.order_id)
        return adopted


def postage(shipments: Iterable[PlannedShipment]) -> int:
    """What carriers take, in minor units."""
    return sum(shipment.cost.shipping.minor for shipment in shipments)


def arrival(shipments: Sequence[PlannedShipment]) -> datetime:
    """Of the last unit."""
    return max(shipment.deliver_by for shipment in shipments)


def places(shipments: Iterable[PlannedShipment]) -> Mapping[str, int]:
    """Units by location."""
    found: Counter[str] = Counter()
    for shipment in shipments:
        found[shipment.location] += sum(line.quantity for line in shipment.lines)
    return found


def _ways(shipments: Iterable[PlannedShipment]) -> list[tuple[object, ...]]:
    return [(s.location, s.carrier, s.service, s.deliver_by, s.lines) for s in shipments]
