"""The carriers that come with Ordermill: they sell labels that no parcel service honors, at the network's prices.

A label follows from carrier and key alone, so the same key gives the same label in every process and after every
restart, with nothing stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import re

from ordermill.contracts.fields import Money
from ordermill.geo import ABROAD, DISTANCE_ZONES, Point, great_circle_km, locate, postal_area, zone_of
from ordermill.network import Carrier as CarrierOfNetwork
from ordermill.network import CarrierService, Network

from ..addresses import PostalAddress
from ..errors import CarrierRefused, CarrierUnavailable
from .base import BoughtLabel, LabelRequest

_TRACKING_NUMBER = re.compile(r"[A-Z]{2}[0-9]{18}")


class SimulatedCarrier:
    """One carrier of the network. Answers after `latency` seconds; `reachable = False` shows an outage."""

    def __init__(self, carrier: CarrierOfNetwork, currency: str, latency: float = 0.0) -> None:
        self.reachable = True
        self._carrier = carrier
        self._currency = currency
        self._latency = latency
        self._services = {service.id: service for service in carrier.services}

    @property
    def name(self) -> str:
        return self._carrier.id

    async def buy_label(self, request: LabelRequest, idempotency_key: str) -> BoughtLabel:
        await asyncio.sleep(self._latency)
        if not self.reachable:
            raise CarrierUnavailable(self.name, "no answer")
        service = self._services.get(request.service)
        if service is None:
            known = ", ".join(self._services)
            raise CarrierRefused(self.name, f"no service {request.service[:40]!r}; there are {known}")
        self._check(request)
        return BoughtLabel(
            carrier=self.name,
            service=service.id,
            tracking_number=tracking_number(self.name, idempotency_key),
            cost=self._price(service, request),
        )

    def _check(self, request: LabelRequest) -> None:
        recipient = request.recipient
        if not (recipient.name.strip() or recipient.company.strip()):
            raise CarrierRefused(self.name, "no addressee: a name or a company is needed")
        if not any(line.strip() for line in recipient.street):
            raise CarrierRefused(self.name, "bad address: a street is needed")
        if request.weight_g <= 0:
            raise CarrierRefused(self.name, "no weight: grams are needed")

    def _price(self, service: CarrierService, request: LabelRequest) -> Money:
        """The base price and the weight's, rounded up to the minor unit."""
        zone = _zone(request.sender, request.recipient)
        if zone > len(service.per_kg_minor):
            raise CarrierRefused(self.name, f"{service.id} does not ship to {request.recipient.country}")
        weight_minor = -(-request.weight_g * service.per_kg_minor[zone - 1] // 1000)
        return Money(minor=service.base_minor + weight_minor, currency=self._currency)


def simulated_carriers(network: Network, latency: float = 0.0) -> dict[str, SimulatedCarrier]:
    """All of the network's carriers, by name."""
    return {carrier.id: SimulatedCarrier(carrier, network.currency, latency) for carrier in network.carriers}


def _zone(sender: PostalAddress, recipient: PostalAddress) -> int:
    """The farthest domestic zone if one of the two can't be found."""
    if postal_area(sender.country) != postal_area(recipient.country):
        return ABROAD
    here = locate(sender.country, sender.region, sender.postal_code)
    there = locate(recipient.country, recipient.region, recipient.postal_code)
    if here is None or there is None:
        return DISTANCE_ZONES
    return zone_of(great_circle_km(Point(here.lat, here.lon), Point(there.lat, there.lon)))


def tracking_number(carrier: str, idempotency_key: str) -> str:
    """20 characters: the carrier's first two letters, 17 digits that follow from the key, a check digit."""
    letters = re.sub(r"[^A-Z]", "", carrier.upper())
    digest = hashlib.sha256(f"{carrier}\0{idempotency_key}".encode("utf-8", "surrogatepass")).digest()
    body = f"{letters:X<2.2}{int.from_bytes(digest[:16]) % 10**17:017}"
    return body + _check_digit(body)


def valid_tracking_number(number: str) -> bool:
    """Whether a simulated carrier may have given this number: one wrong digit shows, two swapped nearly always."""
    return _TRACKING_NUMBER.fullmatch(number) is not None and _check_digit(number[:-1]) == number[-1]


def _check_digit(body: str) -> str:
    """Luhn's, letters taken as two digits, A = 10. Source: ISO 6166 (ISIN), annex on the check digit."""
    digits = "".join(str(int(char, 36)) for char in body)
    total = sum(sum(divmod(int(digit) * 2, 10)) for digit in digits[-1::-2])
    total += sum(int(digit) for digit in digits[-2::-2])
    return str(-total % 10)
