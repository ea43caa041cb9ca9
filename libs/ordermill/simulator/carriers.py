"""What the simulated carriers do: sell labels that no parcel service honors, at the network's prices.

A label follows from carrier and key alone, so the same key gives the same label in every process and after every
restart, with nothing stored.
"""

from __future__ import annotations

import hashlib
import re

from ordermill.contracts.fields import Money, Part
from ordermill.geo import ABROAD, DISTANCE_ZONES, Point, great_circle_km, locate, postal_area, zone_of
from ordermill.network import CarrierService, Network

from .errors import Declined

_TRACKING_NUMBER = re.compile(r"[A-Z]{2}[0-9]{18}")


class Party(Part):
    """Who sends or gets a parcel. `country` is ISO 3166-1 alpha-2."""

    name: str = ""
    company: str = ""
    street: tuple[str, ...] = ()
    city: str = ""
    region: str = ""
    postal_code: str = ""
    country: str


class LabelOrder(Part):
    """One package that is to be carried; `weight_g` in grams."""

    service: str
    weight_g: int
    sender: Party
    recipient: Party
    reference: str = ""


class SoldLabel(Part):
    carrier: str
    service: str
    tracking_number: str
    cost: Money


class CarrierDesk:
    """All of a network's carriers."""

    def __init__(self, network: Network) -> None:
        self._currency = network.currency
        self._services = {
            carrier.id: {service.id: service for service in carrier.services} for carrier in network.carriers
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._services)

    def sell(self, carrier: str, order: LabelOrder, key: str) -> SoldLabel:
        """Raises Declined."""
        services = self._services[carrier]
        service = services.get(order.service)
        if service is None:
            raise Declined(f"no service {order.service[:40]!r}; there are {', '.join(services)}")
        _check(order)
        return SoldLabel(
            carrier=carrier,
            service=service.id,
            tracking_number=tracking_number(carrier, key),
            cost=self._price(service, order),
        )

    def _price(self, service: CarrierService, order: LabelOrder) -> Money:
        """The base price and the weight's, rounded up to the minor unit."""
        zone = _zone(order.sender, order.recipient)
        if zone > len(service.per_kg_minor):
            raise Declined(f"{service.id} does not ship to {order.recipient.country[:2]}")
        weight_minor = -(-order.weight_g * service.per_kg_minor[zone - 1] // 1000)
        return Money(minor=service.base_minor + weight_minor, currency=self._currency)


def _check(order: LabelOrder) -> None:
    recipient = order.recipient
    if not (recipient.name.strip() or recipient.company.strip()):
        raise Declined("no addressee: a name or a company is needed")
    if not any(line.strip() for line in recipient.street):
        raise Declined("bad address: a street is needed")
    if order.weight_g <= 0:
        raise Declined("no weight: grams are needed")


def _zone(sender: Party, recipient: Party) -> int:
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
    return body + check_digit(body)


def valid_tracking_number(number: str) -> bool:
    """Whether a simulated carrier may have given this number: one wrong digit shows, two swapped nearly always."""
    return _TRACKING_NUMBER.fullmatch(number) is not None and check_digit(number[:-1]) == number[-1]


def check_digit(body: str) -> str:
    """Luhn's, letters taken as two digits, A = 10. Source: ISO 6166 (ISIN), annex on the check digit."""
    digits = "".join(str(int(char, 36)) for char in body)
    total = sum(sum(divmod(int(digit) * 2, 10)) for digit in digits[-1::-2])
    total += sum(int(digit) for digit in digits[-2::-2])
    return str(-total % 10)
