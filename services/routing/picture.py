"""Routing's own picture of availability: the latest word of inventory on every SKU, in memory.

It may lag behind; a plan made from an old picture is refused by inventory and made again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ordermill.contracts.inventory import Availability
from ordermill.contracts.routing import PlannedShipment


class Picture:
    def __init__(self) -> None:
        self._skus: dict[str, tuple[int, dict[str, int]]] = {}
        self._planned: dict[str, dict[str, dict[str, int]]] = {}
        """Units since inventory's last word, by SKU, plan and location."""

    def absorb(self, word: Availability) -> None:
        """Take in inventory's word, unless a newer one is known."""
        known = self._skus.get(word.sku)
        if known is None or known[0] < word.version:
            free = {name: at.unallocated for name, at in word.locations.items() if at.unallocated > 0}
            self._skus[word.sku] = (word.version, free)
            self._planned.pop(word.sku, None)

    def take(self, plan_id: str, shipments: Iterable[PlannedShipment]) -> None:
        """Count units as planned, so that the next order is not planned on them, until inventory's next word.

        The same plan counts once.
        """
        taken: dict[str, dict[str, int]] = {}
        for shipment in shipments:
            for line in shipment.lines:
                by_location = taken.setdefault(line.sku, {})
                by_location[shipment.location] = by_location.get(shipment.location, 0) + line.quantity
        for sku, by_location in taken.items():
            self._planned.setdefault(sku, {})[plan_id] = by_location

    def refused(self, plan_id: str, skus: Iterable[str], short: Collection[tuple[str, str]]) -> None:
        """A plan for these SKUs holds nothing: what it wanted is there, but where (location, SKU) it was short."""
        for sku in skus:
            plans = self._planned.get(sku, {})
            if plan_id in plans:
                plans[plan_id] = {at: units for at, units in plans[plan_id].items() if (at, sku) in short}

    def of(self, skus: Iterable[str]) -> dict[str, dict[str, int]]:
        """Unclaimed units by location, then SKU; locations without any are left out."""
        found: dict[str, dict[str, int]] = {}
        for sku in sorted(set(skus)):
            _, free = self._skus.get(sku, (0, {}))
            plans = self._planned.get(sku, {}).values()
            for location, units in free.items():
                left = units - sum(taken.get(location, 0) for taken in plans)
                if left > 0:
                    found.setdefault(location, {})[sku] = left
        return dict(sorted(found.items()))
