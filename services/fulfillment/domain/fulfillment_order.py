"""A fulfillment order after its events: where each unit is, its packages and their labels.

Every unit asked for is, at any moment, in exactly one state: still open, in hand (picked, then packed, then shipped),
short-picked, canceled or rejected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from immutables import Map

from ordermill.contracts.fields import LineQuantity, Money
from ordermill.contracts.fulfillment import (
    Event,
    FulfillmentAccepted,
    FulfillmentCancellationDeclined,
    FulfillmentCreated,
    FulfillmentLinesCanceled,
    FulfillmentPacked,
    FulfillmentPicked,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
    LabelFailed,
    LabelRequested,
    LabelUnused,
    PackageLabeled,
    PackedPackage,
    RejectReason,
)
from ordermill.decider import Decider
from ordermill.pmap import PMap
from ordermill.replacing import replace


class Stage(StrEnum):
    UNKNOWN = "unknown"
    CREATED = "created"
    ACCEPTED = "accepted"
    PICKED = "picked"
    PACKED = "packed"
    SHIPPED = "shipped"
    REJECTED = "rejected"
    SHORT_PICKED = "short-picked"
    """Nothing was found at all."""
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Line:
    """One line's units. `found` is what the picker reported, whatever became of it later."""

    sku: str
    asked: int = 0
    found: int = 0
    short: int = 0
    canceled: int = 0
    rejected: int = 0

    @property
    def left(self) -> int:
        """Open before the pick, in hand after it."""
        return self.asked - self.short - self.canceled - self.rejected


class LabelState(StrEnum):
    REQUESTED = "requested"
    FAILED = "failed"
    BOUGHT = "bought"


@dataclass(frozen=True, slots=True)
class Package:
    """A packed box and its label as last asked for. `attempt` counts the purchases, each with its own label id."""

    packed: PackedPackage
    carrier: str
    service: str
    label: LabelState = LabelState.REQUESTED
    label_id: str = ""
    attempt: int = 0
    failure: str = ""
    answered: bool = True
    tracking_number: str = ""
    cost: Money | None = None


@dataclass(frozen=True, slots=True)
class FulfillmentOrder:
    """One order's part at one location after its events so far; `FulfillmentOrder()` is one nobody has heard of."""

    created: FulfillmentCreated | None = None
    stage: Stage = Stage.UNKNOWN
    lines: PMap[str, Line] = field(default_factory=Map)
    pick_reported: bool = False
    packages: PMap[int, Package] = field(default_factory=Map)
    cancellations: PMap[str, bool] = field(default_factory=Map)
    """Recalls that were answered."""
    reject_reason: RejectReason | None = None
    shipped_at: datetime | None = None
    unused: PMap[str, str] = field(default_factory=Map)
    """Tracking numbers of labels that were bought in vain, by label id."""


def so_now(state: FulfillmentOrder) -> str:
    """What is so now, to follow "it" in a sentence."""
    match state.stage:
        case Stage.UNKNOWN:
            return "is not known here"
        case Stage.CREATED:
            return "is not accepted yet"
        case Stage.ACCEPTED:
            return "is accepted, not picked yet"
        case Stage.PICKED:
            return "is picked, not packed yet"
        case Stage.PACKED:
            count = len(state.packages)
            return f"is packed in {count} package{'s' if count > 1 else ''}"
        case Stage.SHIPPED:
            return f"is already shipped at {state.shipped_at:%H:%M} UTC on {state.shipped_at:%Y-%m-%d}"
        case Stage.REJECTED:
            return f"is rejected by the location ({state.reject_reason})"
        case Stage.SHORT_PICKED:
            return "has ended: nothing of it was found"
        case Stage.CANCELED:
            return "is canceled"
        case _:
            assert_never(state.stage)


def evolve(state: FulfillmentOrder, event: Event) -> FulfillmentOrder:
    """Fold one event in. Never refuses: it happened, whatever today's rules say."""
    match event:
        case FulfillmentCreated():
            lines = Map[str, Line]()
            for asked in event.lines:
                line = lines.get(asked.line_id) or Line(asked.sku)
                lines = lines.set(asked.line_id, replace(line, asked=line.asked + asked.quantity))
            return replace(state, created=event, stage=Stage.CREATED, lines=lines)
        case FulfillmentAccepted():
            return replace(state, stage=Stage.ACCEPTED)
        case FulfillmentRejected():
            lines = _moved(state.lines, event.lines, "rejected")
            return replace(state, stage=Stage.REJECTED, lines=lines, reject_reason=event.reason)
        case FulfillmentPicked():
            lines = _moved(state.lines, event.lines, "found")
            return replace(state, stage=Stage.PICKED, lines=lines, pick_reported=True)
        case FulfillmentShortPicked():
            lines = _moved(state.lines, event.lines, "short")
            stage = state.stage if _any_left(lines) else Stage.SHORT_PICKED
            return replace(state, stage=stage, lines=lines, pick_reported=True)
        case FulfillmentPacked():
            packages = Map(
                {each.package: _packed(state, each) for each in event.packages},
            )
            return replace(state, stage=Stage.PACKED, packages=packages)
        case LabelRequested():
            return _relabeled(state, event)
        case PackageLabeled():
            return _relabeled(state, event)
        case LabelFailed():
            return _relabeled(state, event)
        case LabelUnused():
            return replace(state, unused=state.unused.set(event.label_id, event.tracking_number))
        case FulfillmentShipped():
            return replace(state, stage=Stage.SHIPPED, shipped_at=event.shipped_at)
        case FulfillmentLinesCanceled():
            lines = _moved(state.lines, event.lines, "canceled")
            return replace(
                state,
                stage=state.stage if _any_left(lines) else Stage.CANCELED,
                lines=lines,
                cancellations=state.cancellations.set(event.cancellation_id, True),
            )
        case FulfillmentCancellationDeclined():
            return replace(state, cancellations=state.cancellations.set(event.cancellation_id, True))
        case _:
            assert_never(event)


def _moved(lines: Map[str, Line], parts: Iterable[LineQuantity], counter: str) -> Map[str, Line]:
    """`lines` with the units of `parts` added to one of their counters."""
    for part in parts:
        line = lines.get(part.line_id) or Line(part.sku)
        moved = replace(line, **{counter: getattr(line, counter) + part.quantity})
        lines = lines.set(part.line_id, moved)
    return lines


def _any_left(lines: Map[str, Line]) -> bool:
    return any(line.left > 0 for line in lines.values())


def _packed(state: FulfillmentOrder, packed: PackedPackage) -> Package:
    created = state.created
    return Package(packed, created.carrier, created.service) if created else Package(packed, "", "")


def _relabeled(state: FulfillmentOrder, event: LabelRequested | PackageLabeled | LabelFailed) -> FulfillmentOrder:
    package = state.packages.get(event.package)
    if package is None:
        return state
    match event:
        case LabelRequested():
            package = Package(
                packed=package.packed,
                carrier=event.carrier,
                service=event.service,
                label_id=event.label_id,
                attempt=package.attempt + (event.label_id != package.label_id),
            )
        case PackageLabeled():
            package = replace(
                package,
                label=LabelState.BOUGHT,
                carrier=event.carrier,
                service=event.service,
                tracking_number=event.tracking_number,
                cost=event.cost,
                failure="",
            )
        case LabelFailed():
            package = replace(package, label=LabelState.FAILED, failure=event.reason, answered=event.answered)
    return replace(state, packages=state.packages.set(event.package, package))


FULFILLMENT = Decider("fulfillment", FulfillmentOrder(), evolve)


def status_of(state: FulfillmentOrder) -> str:
    """The stage as people ask for it; "labeled" once every package of a packed order has its label."""
    labeled = state.stage is Stage.PACKED and all(
        package.label is LabelState.BOUGHT for package in state.packages.values()
    )
    return "labeled" if labeled else state.stage.value


def fulfillment_summary(state: FulfillmentOrder) -> dict[str, Any]:
    """The fulfillment order for views, as JSON can hold it; the same for the same state."""
    created = state.created
    if created is None:
        return {"status": status_of(state)}
    in_hand = state.stage in (Stage.PICKED, Stage.PACKED, Stage.SHIPPED)
    titles = {line.line_id: line.title for line in created.lines}
    return {
        "fulfillment_id": created.fulfillment_id,
        "order_id": created.order_id,
        "location": created.location,
        "channel": created.channel,
        "external_id": created.external_id,
        "status": status_of(state),
        "reject_reason": state.reject_reason.value if state.reject_reason else None,
        "carrier": created.carrier,
        "service": created.service,
        "ship_by": created.ship_by.isoformat(),
        "deliver_by": created.deliver_by.isoformat(),
        "shipped_at": state.shipped_at.isoformat() if state.shipped_at else None,
        "destination": created.destination.model_dump(mode="json"),
        "lines": [
            {
                "line_id": line_id,
                "sku": line.sku,
                "title": titles[line_id],
                "asked": line.asked,
                "open": 0 if in_hand else line.left,
                "picked": line.left if in_hand else 0,
                "short": line.short,
                "canceled": line.canceled,
                "rejected": line.rejected,
            }
            for line_id, line in in_order(state)
        ],
        "packages": [_package_summary(state.packages[number]) for number in sorted(state.packages)],
    }


def _package_summary(package: Package) -> dict[str, Any]:
    return {
        "package": package.packed.package,
        "weight_g": package.packed.weight_g,
        "lines": [line.model_dump(mode="json") for line in package.packed.lines],
        "carrier": package.carrier,
        "service": package.service,
        "label": package.label.value,
        "label_id": package.label_id,
        "tracking_number": package.tracking_number or None,
        "cost": package.cost.model_dump(mode="json") if package.cost else None,
        "failure": package.failure or None,
    }


def in_order(state: FulfillmentOrder) -> list[tuple[str, Line]]:
    """Lines as they were asked for, each once."""
    asked = state.created.lines if state.created else ()
    return [(line_id, state.lines[line_id]) for line_id in dict.fromkeys(line.line_id for line in asked)]
