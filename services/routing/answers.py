"""Plans and policies as routing's HTTP answers with them."""

from __future__ import annotations

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import Instant
from ordermill.contracts.routing import PlannedShipment
from ordermill.service.http import Answer, Document


class LiveShipment(PlannedShipment):
    plan_id: str
    attempt: int


class Waiting(Answer):
    """Units that could not be routed so far, and when that is tried again."""

    plan_id: str
    attempt: int
    retry_at: Instant
    reason: str
    lines: list[ReleasedLine]


class Excluded(Answer):
    """A location that may not ship this SKU, or nothing of the order (null)."""

    location: str
    sku: str | None


class PlanDocument(Document):
    """Where an order ships from, and what it was promised."""

    order_id: str
    status: str
    """unknown, waiting, routed, partly-unroutable, unroutable or nothing-to-route."""
    promised_by: Instant | None
    decisions: int
    shipments: list[LiveShipment]
    waiting: list[Waiting]
    unroutable: list[ReleasedLine]
    excluded: list[Excluded]


class PolicyDocument(Document):
    """The policy in force and the network it stands on, TOML."""

    policy_hash: str
    content: str
    network: str
