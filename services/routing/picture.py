"""Routing's own picture of availability: the latest word of inventory on every SKU, in memory.

It may lag behind; a plan made from an old picture is refused by inventory and made again.
"""

from __future__ import annotations

from collections.abc import Iterable

from ordermill.contracts.inventory import Availability


class Picture:
    def __init__(self) -> None:
        self._skus: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = {}

    def absorb(self, word: Availability) -> None:
        """Take in inventory's word, unless a newer one is known."""
        known = self._skus.get(word.sku)
        if known is None or known[0] < word.version:
            free = ((name, at.unallocated) for name, at in word.locations.items() if at.unallocated > 0)
            self._skus[word.sku] = (word.version, tuple(free))

    def take(self, location: str, sku: str, units: int) -> None:
        """Count units as planned, so that the next order is not planned on them, until inventory's next word."""
        known = self._skus.get(sku)
        if known is not None:
            version, free = known
            left = tuple((name, have - units if name == location else have) for name, have in free)
            self._skus[sku] = (version, tuple((name, have) for name, have in left if have > 0))

    def of(self, skus: Iterable[str]) -> dict[str, dict[str, int]]:
        """Unclaimed units by location, then SKU; locations without any are left out."""
        found: dict[str, dict[str, int]] = {}
        for sku in sorted(set(skus)):
            for location, units in self._skus.get(sku, (0, ()))[1]:
                found.setdefault(location, {})[sku] = units
        return dict(sorted(found.items()))
