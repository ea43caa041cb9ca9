"""Addresses in the clear, for as long as a label is bought or a document drawn. Nothing here is stored or logged."""

from __future__ import annotations

from dataclasses import dataclass

from ordermill.contracts.fields import Destination
from ordermill.contracts.personal import Person
from ordermill.network import Location

_CITY_FIRST = frozenset({"US", "PR", "VI", "GU", "AS", "MP", "CA", "AU", "GB", "NZ", "IE", "IN"})
"""Where the postal code follows the city. Elsewhere it comes before it, as in most of the Universal Postal Union."""


@dataclass(frozen=True, slots=True)
class PostalAddress:
    """Whom and where. `country` is ISO 3166-1 alpha-2."""

    name: str
    company: str
    street: tuple[str, ...]
    city: str
    region: str
    postal_code: str
    country: str

    def lines(self, seen_from: str) -> tuple[str, ...]:
        """As it is written on an envelope; the country only if it is not that of the sender, `seen_from`."""
        if self.country in _CITY_FIRST:
            place = ", ".join(part for part in (self.city, f"{self.region} {self.postal_code}".strip()) if part)
        else:
            place = ", ".join(part for part in (f"{self.postal_code} {self.city}".strip(), self.region) if part)
        abroad = self.country if self.country != seen_from else ""
        return tuple(line for line in (self.name, self.company, *self.street, place, abroad) if line.strip())


def address_of(person: Person, destination: Destination) -> PostalAddress:
    """Where a parcel goes. `person` is what `destination.addressee` holds, unsealed."""
    return PostalAddress(
        name=person.name,
        company=person.company,
        street=person.street,
        city=person.city,
        region=destination.region,
        postal_code=destination.postal_code,
        country=destination.country,
    )


def address_of_location(location: Location) -> PostalAddress:
    """Where a parcel comes from."""
    return PostalAddress(
        name=location.name,
        company="",
        street=(location.street,),
        city=location.city,
        region=location.region,
        postal_code=location.postal_code,
        country=location.country,
    )
