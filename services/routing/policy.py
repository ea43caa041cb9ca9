"""The routing policy: what a split, a day and a pair of hands cost. Read from TOML, known by its content's hash."""

from __future__ import annotations

import tomllib
from hashlib import sha256
from importlib import resources
from typing import Annotated

import orjson
from pydantic import Field

from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.fields import LocationId, Part
from ordermill.network import LocationKind, Minor, Network, read_toml

from .errors import PolicyInvalid

Positive = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]


class UnitCosts(Part):
    """Handling one unit, by kind of location."""

    warehouse: Minor = Field(examples=[60])
    shop: Minor = Field(examples=[140])

    def of(self, kind: LocationKind) -> int:
        return self.shop if kind is LocationKind.SHOP else self.warehouse


class DayCosts(Part):
    """A day of waiting for the last unit, by service level."""

    standard: Minor = Field(examples=[75])
    expedited: Minor = Field(examples=[600])

    def of(self, level: ServiceLevel) -> int:
        return self.expedited if level is ServiceLevel.EXPEDITED else self.standard


class Costs(Part):
    """All in minor units of the network's currency."""

    shipment: Minor = Field(examples=[250], description="each shipment beyond its postage")
    shipment_beyond_max: Minor = Field(examples=[1500], description="on top, for each shipment beyond max_shipments")
    unit: UnitCosts
    day: DayCosts


class Policy(Part):
    """What routing weighs and how long it tries."""

    default_weight_g: Positive = Field(examples=[500], description="grams of a unit whose weight nobody told")
    max_shipments: Positive = Field(
        examples=[3], description="exceeded only by an order that cannot be shipped otherwise"
    )
    excluded_locations: tuple[LocationId, ...] = Field((), examples=[["brooklyn"]])
    attempts: Positive = Field(examples=[6], description="tries before units count as unroutable")
    retry_after_s: Positive = Field(examples=[10], description="seconds to wait for a newer picture of availability")
    search_nodes: Positive = Field(examples=[20000], description="combinations of locations looked at, at most")
    cost_minor: Costs


def read_policy(text: str, network: Network, source: str = "policy.toml") -> Policy:
    """The policy that `text` (TOML) describes. Raises PolicyInvalid, which names every faulty key."""
    policy = read_toml(Policy, text, source, PolicyInvalid)
    strangers = sorted(set(policy.excluded_locations) - network.location_ids)
    if strangers:
        raise PolicyInvalid(
            f"{source}: `excluded_locations`: no such location in the network: {', '.join(strangers)}; "
            f"known there: {', '.join(sorted(network.location_ids))}"
        )
    return policy


def default_policy_text() -> str:
    return (resources.files("services.routing") / "policy.toml").read_text("utf-8")


def policy_hash(policy_text: str, network_text: str) -> str:
    """SHA-256 of what both files say: comments, layout and the order of keys do not count.

    It covers what is written, not defaults filled in, so that a new key with a default leaves old hashes as they are.
    """
    content = {"policy": tomllib.loads(policy_text), "network": tomllib.loads(network_text)}
    return sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
