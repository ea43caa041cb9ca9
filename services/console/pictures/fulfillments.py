"""One order's part at one location, as the people who pick and pack it see it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from ordermill.contracts.base import Message
from ordermill.contracts.fields import LineQuantity, Money
from ordermill.contracts.fulfillment import (
    FulfillmentAccepted,
    FulfillmentCancellationDeclined,
    FulfillmentCreated,
    FulfillmentFact,
    FulfillmentLinesCanceled,
    FulfillmentPacked,
    FulfillmentPicked,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelFailed,
    LabelRequested,
    PackageLabeled,
)
from services.console.picture import Document, Picture
from services.console.told import Told

from .steps import Steps

STEPS = {
    "accept": "To accept",
    "pick": "To pick",
    "pack": "To pack",
    "label": "To label",
    "hand-over": "To hand over",
}
"""What is to be done next, in the order of the work."""

_NEXT = {"created": "accept", "accepted": "pick", "picked": "pack", "packed": "label", "labeled": "hand-over"}
_IN_HAND = frozenset({"picked", "packed", "shipped"})


class Line(Document):
    """One line's units: of those asked for, where each is."""

    line_id: str
    sku: str
    title: str = ""
    weight_g: int | None = None
    asked: int = 0
    open: int = 0
    picked: int = 0
    short: int = 0
    canceled: int = 0
    rejected: int = 0

    @property
    def left(self) -> int:
        return self.asked - self.short - self.canceled - self.rejected


class Package(Document):
    """A packed box and its label as last asked for."""

    package: int
    weight_g: int = 0
    lines: tuple[LineQuantity, ...] = ()
    carrier: str = ""
    service: str = ""
    label: str = "requested"
    label_id: str = ""
    tracking_number: str | None = None
    cost: Money | None = None
    failure: str | None = None

    @property
    def units(self) -> int:
        return sum(line.quantity for line in self.lines)


class Fulfillment(Steps):
    """One fulfillment order after all that was told of it; names are those of fulfillment's own view."""

    fulfillment_id: str = ""
    order_id: str = ""
    location: str = ""
    channel: str = ""
    external_id: str = ""
    stage: str = "unknown"
    status: str = "unknown"
    reject_reason: str | None = None
    carrier: str = ""
    service: str = ""
    ship_by: datetime | None = None
    deliver_by: datetime | None = None
    shipped_at: datetime | None = None
    lines: list[Line] = Field(default_factory=list)
    packages: list[Package] = Field(default_factory=list)

    @property
    def step(self) -> str:
        """A key of STEPS; `shipped` or `ended` where nothing is left to do."""
        return _NEXT.get(self.status, "shipped" if self.status == "shipped" else "ended")

    @property
    def to_pick(self) -> int:
        return sum(line.open for line in self.lines)

    @property
    def units(self) -> int:
        """What is still to go out, or went."""
        return sum(line.left for line in self.lines)

    @property
    def weight_g(self) -> int | None:
        """By the lines' own weights; None if one is not known."""
        found = [line.weight_g * line.left for line in self.lines if line.weight_g is not None]
        return sum(found) if len(found) == len(self.lines) else None

    @property
    def carriers(self) -> list[str]:
        return sorted({package.carrier for package in self.packages} or {self.carrier})

    def package(self, number: int) -> Package | None:
        return next((package for package in self.packages if package.package == number), None)


def draw(work: Fulfillment, key: str, item: Told) -> None:
    """Fold one fact of fulfillment in; all of one document's come on one stream, in order."""
    work.fulfillment_id = key
    fact = item.message
    what = ""
    match fact:
        case FulfillmentCreated():
            _create(work, fact)
        case FulfillmentAccepted():
            work.stage = "accepted"
        case FulfillmentRejected():
            work.stage, work.reject_reason = "rejected", fact.reason.value
            _move(work, fact.lines, "rejected")
            what = ": ".join(filter(None, (fact.reason.value.replace("-", " "), fact.note)))
        case FulfillmentPicked():
            work.stage, what = "picked", _units(fact.lines)
        case FulfillmentShortPicked():
            _move(work, fact.lines, "short")
            work.stage = work.stage if any(line.left for line in work.lines) else "short-picked"
            what = _units(fact.lines)
        case FulfillmentPacked():
            work.stage = "packed"
            work.packages = [
                Package(**each.model_dump(), carrier=work.carrier, service=work.service)
                for each in sorted(fact.packages, key=lambda package: package.package)
            ]
            what = f"{len(fact.packages)} box{'es' if len(fact.packages) > 1 else ''}"
        case LabelRequested() | PackageLabeled() | LabelFailed():
            what = _label(work, fact)
        case FulfillmentShipped():
            work.stage, work.shipped_at = "shipped", fact.shipped_at
            what = ", ".join(package.tracking_number for package in fact.packages)
        case FulfillmentLinesCanceled():
            _move(work, fact.lines, "canceled")
            work.stage = work.stage if any(line.left for line in work.lines) else "canceled"
            what = _units(fact.lines)
        case FulfillmentCancellationDeclined():
            what = _units(fact.lines)
    in_hand = work.stage in _IN_HAND
    for line in work.lines:
        line.open, line.picked = (0, line.left) if in_hand else (line.left, 0)
    labeled = work.stage == "packed" and all(package.label == "bought" for package in work.packages)
    work.status = "labeled" if labeled else work.stage
    work.note_step(item, what)


def _create(work: Fulfillment, fact: FulfillmentCreated) -> None:
    work.order_id, work.location = fact.order_id, fact.location
    work.channel, work.external_id = fact.channel, fact.external_id
    work.carrier, work.service = fact.carrier, fact.service
    work.ship_by, work.deliver_by, work.stage = fact.ship_by, fact.deliver_by, "created"
    lines: dict[str, Line] = {}
    for asked in fact.lines:
        line = lines.setdefault(asked.line_id, Line(line_id=asked.line_id, sku=asked.sku, weight_g=asked.weight_g))
        line.title = asked.title
        line.asked += asked.quantity
    work.lines = list(lines.values())


def _label(work: Fulfillment, fact: LabelRequested | PackageLabeled | LabelFailed) -> str:
    package = work.package(fact.package)
    if package is None:
        return ""
    match fact:
        case LabelRequested():
            package.carrier, package.service, package.label_id = fact.carrier, fact.service, fact.label_id
            package.label, package.failure = "requested", None
            package.tracking_number = package.cost = None
        case PackageLabeled():
            package.carrier, package.service, package.cost = fact.carrier, fact.service, fact.cost
            package.label, package.failure, package.tracking_number = "bought", None, fact.tracking_number
            return f"box {fact.package}: {fact.tracking_number}"
        case LabelFailed():
            package.label, package.failure = "failed", fact.reason or None
            return f"box {fact.package}: {fact.reason}"
    return f"box {fact.package}: {fact.carrier} {fact.service}"


def _move(work: Fulfillment, parts: Iterable[LineQuantity], counter: str) -> None:
    by_id = {line.line_id: line for line in work.lines}
    for part in parts:
        if (line := by_id.get(part.line_id)) is not None:
            setattr(line, counter, getattr(line, counter) + part.quantity)


def _units(lines: Iterable[LineQuantity]) -> str:
    return ", ".join(f"{line.quantity} × {line.sku}" for line in lines)


def columns(work: Fulfillment) -> Mapping[str, Any]:
    return {
        "order_id": work.order_id,
        "external_id": work.external_id,
        "location": work.location,
        "step": work.step,
        "ship_by": work.ship_by,
        "shipped_at": work.shipped_at,
        "carriers": work.carriers,
        "tracking": [package.tracking_number for package in work.packages if package.tracking_number],
    }


def _keys(item: Told) -> Iterable[str]:
    return (item.message.fulfillment_id,) if isinstance(item.message, FulfillmentFact) else ()


MESSAGES: frozenset[type[Message]] = frozenset({
    FulfillmentCreated, FulfillmentAccepted, FulfillmentRejected, FulfillmentPicked, FulfillmentShortPicked,
    FulfillmentPacked, LabelRequested, PackageLabeled, LabelFailed, FulfillmentShipped, FulfillmentLinesCanceled,
    FulfillmentCancellationDeclined,
})  # fmt: skip

FULFILLMENTS = Picture(
    table="fulfillments", document=Fulfillment, messages=MESSAGES, keys=_keys, draw=draw, columns=columns
)
