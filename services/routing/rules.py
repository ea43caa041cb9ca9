"""A policy and a network, made ready for planning: places, services, and when a parcel leaves and arrives.

Work on a plan starts on the day it is decided if that is a working day of the location and before its cut-off
(local time), else on the next working day; `handling_days` working days later, at the cut-off, the carrier must have
it: `ship_by`. Transit counts business days, Monday to Friday, from that date or the destination's date at that moment,
whichever is later; `deliver_by` is the service's `delivers_until` there. Holidays are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.routing import Place
from ordermill.geo import Point, locate, postal_area
from ordermill.network import WEEKDAYS, CarrierService, Location, Network, read_network

from .policy import Policy, policy_hash, read_policy

MILLI = 1_000
"""Costs are summed in thousandths of a minor unit: grams times minor units per kilogram, exactly."""


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
