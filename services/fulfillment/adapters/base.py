"""What every carrier adapter does: sell one label for one key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ordermill.contracts.carrier import TrackingNumber
from ordermill.contracts.fields import Id, Money, Part

from ..addresses import PostalAddress


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """One package, as its carrier needs to know it. `reference` is printed: the order, by our id."""

    service: str
    weight_g: int
    sender: PostalAddress
    recipient: PostalAddress
    reference: str


class BoughtLabel(Part):
    """What the carrier sold."""

    carrier: Id
    service: Id
    tracking_number: TrackingNumber
    cost: Money


class Carrier(Protocol):
    """A carrier's account. `name` is what the network and the facts call it."""

    @property
    def name(self) -> str: ...

    async def buy_label(self, request: LabelRequest, idempotency_key: str) -> BoughtLabel:
        """Buy a label, once for each key: the same key gives the same label, however often and from wherever.

        Raises CarrierRefused if the carrier says no for good (no such service, an address it can't serve), with a
        reason that names nobody, and CarrierUnavailable if there is no answer, so that nobody knows whether it sold
        one: ask again, same key. How long a call may take, and when the carrier is left alone, is `Outbound`'s.
        """
        ...
