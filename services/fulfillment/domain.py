"""One order at one location: accept, pick, pack, label, hand over. Pure: time and ids come in with the command.

Every unit asked for is, at any moment, in exactly one state: still open, in hand (picked, then packed, then shipped),
short-picked, canceled or rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from immutables import Map

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import Destination, LineQuantity, Money
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
    PackageLabeled,
    PackedPackage,
    RejectReason,
    ShippedPackage,
)
from ordermill.decider import Decider
from ordermill.pmap import PMap
from ordermill.replacing import replace

from .errors import (
    FulfillmentIdTaken,
    FulfillmentNotCreated,
    FulfillmentNotFound,
    LabelNotWanted,
    LabelsMissing,
    NoSuchPackage,
    PackagesWrong,
    PackedUnitsDiffer,
    TooManyUnits,
    UnknownLine,
    WrongState,
)


@dataclass(frozen=True, slots=True)
class CreateFulfillment:
    """Ask a location to ship its part of an order; one for each allocation of inventory's OrderAllocated."""

    fulfillment_id: str
    order_id: str
    location: str
    channel: str
    external_id: str
    destination: Destination
    carrier: str
    service: str
    ship_by: datetime
    deliver_by: datetime
    lines: tuple[ReleasedLine, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    fulfillment_id: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The location gives all units back; possible until they are packed."""

    fulfillment_id: str
    reason: RejectReason
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pick:
    """What the picker found, all of it. What is asked for and not in `lines` was not there."""

    fulfillment_id: str
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    fulfillment_id: str
    packages: tuple[PackedPackage, ...]


@dataclass(frozen=True, slots=True)
class RecordLabel:
    """The carrier sold the label that was asked for as `label_id`."""

    fulfillment_id: str
    package: int
    label_id: str
    carrier: str
    service: str
    tracking_number: str
    cost: Money


@dataclass(frozen=True, slots=True)
class RecordLabelFailure:
    """There is no label. `answered` is False if the carrier did not say so itself, and may have sold one."""

    fulfillment_id: str
    package: int
    label_id: str
    reason: str
    answered: bool = True


@dataclass(frozen=True, slots=True)
class RetryLabel:
    """A person asks again after a failure; another carrier or service if they name one."""

    fulfillment_id: str
    package: int
    carrier: str | None = None
    service: str | None = None


@dataclass(frozen=True, slots=True)
class HandOver:
    fulfillment_id: str
    shipped_at: datetime


@dataclass(frozen=True, slots=True)
class CancelLines:
    """Inventory calls units off (AllocationRecalled) and gets one answer for each `cancellation_id`."""

    fulfillment_id: str
    cancellation_id: str
    lines: tuple[LineQuantity, ...]


Command = (
    CreateFulfillment
    | Accept
    | Reject
    | Pick
    | Pack
    | RecordLabel
    | RecordLabelFailure
    | RetryLabel
    | HandOver
    | CancelLines
)


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


_CANCELABLE = frozenset({Stage.CREATED, Stage.ACCEPTED, Stage.PICKED})


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


def decide(state: FulfillmentOrder, command: Command) -> list[Event]:
    """The events that `command` causes; `[]` if it is already so.

    Raises WrongState, which says what is so now, and the other errors of this service.
    """
    if isinstance(command, CreateFulfillment):
        return _create(state, command)
    created = state.created
    if created is None:
        if isinstance(command, CancelLines):
            raise FulfillmentNotCreated(command.fulfillment_id)
        raise FulfillmentNotFound(command.fulfillment_id)
    match command:
        case Accept():
            return _accept(state, created)
        case Reject():
            return _reject(state, created, command)
        case Pick():
            return _pick(state, created, command)
        case Pack():
            return _pack(state, created, command)
        case RecordLabel():
            return _record_label(state, created, command)
        case RecordLabelFailure():
            return _record_label_failure(state, created, command)
        case RetryLabel():
            return _retry_label(state, created, command)
        case HandOver():
            return _hand_over(state, created, command)
        case CancelLines():
            return _cancel(state, created, command)
        case _:
            assert_never(command)


def _create(state: FulfillmentOrder, command: CreateFulfillment) -> list[Event]:
    event = FulfillmentCreated(
        fulfillment_id=command.fulfillment_id,
        order_id=command.order_id,
        location=command.location,
        channel=command.channel,
        external_id=command.external_id,
        destination=command.destination,
        carrier=command.carrier,
        service=command.service,
        ship_by=command.ship_by,
        deliver_by=command.deliver_by,
        lines=command.lines,
    )
    if state.created is None:
        return [event]
    if state.created != event:
        raise FulfillmentIdTaken(command.fulfillment_id)
    return []


def _accept(state: FulfillmentOrder, created: FulfillmentCreated) -> list[Event]:
    match state.stage:
        case Stage.CREATED:
            return [FulfillmentAccepted(fulfillment_id=created.fulfillment_id, order_id=created.order_id)]
        case Stage.REJECTED | Stage.CANCELED:
            raise WrongState(created.fulfillment_id, "be accepted", so_now(state))
        case _:
            return []


def _reject(state: FulfillmentOrder, created: FulfillmentCreated, command: Reject) -> list[Event]:
    if state.stage is Stage.REJECTED:
        return []
    if state.stage not in _CANCELABLE:
        raise WrongState(created.fulfillment_id, "be rejected", so_now(state))
    return [
        FulfillmentRejected(
            fulfillment_id=created.fulfillment_id,
            order_id=created.order_id,
            location=created.location,
            reason=command.reason,
            note=_text(command.note),
            lines=_units(state, {line_id: line.left for line_id, line in state.lines.items()}),
        )
    ]


def _pick(state: FulfillmentOrder, created: FulfillmentCreated, command: Pick) -> list[Event]:
    fulfillment_id, order_id = created.fulfillment_id, created.order_id
    found = _by_line(state, fulfillment_id, command.lines)
    if state.pick_reported and all(line.found == found.get(key, 0) for key, line in state.lines.items()):
        return []
    if state.stage is not Stage.ACCEPTED:
        remedy = "Accept it first." if state.stage is Stage.CREATED else ""
        raise WrongState(fulfillment_id, "be picked", so_now(state), remedy)
    for line_id, units in found.items():
        line = state.lines[line_id]
        if units > line.left:
            raise TooManyUnits(fulfillment_id, line_id, line.sku, units, line.left)
    events: list[Event] = []
    if found:
        events.append(FulfillmentPicked(fulfillment_id=fulfillment_id, order_id=order_id, lines=_units(state, found)))
    missing = _units(state, {key: line.left - found.get(key, 0) for key, line in state.lines.items()})
    if missing:
        events.append(
            FulfillmentShortPicked(
                fulfillment_id=fulfillment_id, order_id=order_id, location=created.location, lines=missing
            )
        )
    return events


def _pack(state: FulfillmentOrder, created: FulfillmentCreated, command: Pack) -> list[Event]:
    fulfillment_id, order_id = created.fulfillment_id, created.order_id
    packages = tuple(sorted(command.packages, key=lambda package: package.package))
    if state.packages and packages == tuple(state.packages[number].packed for number in sorted(state.packages)):
        return []
    if state.stage is not Stage.PICKED:
        remedy = "Report the pick first." if state.stage in (Stage.CREATED, Stage.ACCEPTED) else ""
        raise WrongState(fulfillment_id, "be packed", so_now(state), remedy)
    _check_packages(fulfillment_id, packages)
    packed = _by_line(state, fulfillment_id, (line for package in packages for line in package.lines))
    differences = [
        (line_id, line.sku, packed.get(line_id, 0), line.left)
        for line_id, line in _in_order(state)
        if packed.get(line_id, 0) != line.left
    ]
    if differences:
        raise PackedUnitsDiffer(fulfillment_id, differences)
    events: list[Event] = [FulfillmentPacked(fulfillment_id=fulfillment_id, order_id=order_id, packages=packages)]
    events += (
        _request_label(created, package, f"{fulfillment_id}.{package.package}", created.carrier, created.service)
        for package in packages
    )
    return events


def _check_packages(fulfillment_id: str, packages: tuple[PackedPackage, ...]) -> None:
    numbers = [package.package for package in packages]
    if numbers != list(range(1, len(packages) + 1)):
        raise PackagesWrong(fulfillment_id, f"packages must be numbered from 1 without a gap, found {numbers}")
    for package in packages:
        if not package.lines:
            raise PackagesWrong(fulfillment_id, f"package {package.package} is empty")
        if package.weight_g == 0:
            raise PackagesWrong(fulfillment_id, f"package {package.package} has no weight: grams expected")


def _record_label(state: FulfillmentOrder, created: FulfillmentCreated, command: RecordLabel) -> list[Event]:
    package = _package(state, created, command.package)
    if package.label is LabelState.BOUGHT or package.label_id != command.label_id:
        if package.tracking_number == command.tracking_number and package.label_id == command.label_id:
            return []
        now = f"it has {package.tracking_number}" if package.tracking_number else f"it waits for {package.label_id}"
        raise LabelNotWanted(
            created.fulfillment_id,
            command.package,
            f"{command.carrier} sold {command.tracking_number} as {command.label_id}",
            now,
            "Have the carrier void the label that is not used.",
        )
    return [
        PackageLabeled(
            fulfillment_id=created.fulfillment_id,
            order_id=created.order_id,
            label_id=command.label_id,
            package=command.package,
            carrier=command.carrier,
            service=command.service,
            tracking_number=command.tracking_number,
            cost=command.cost,
        )
    ]


def _record_label_failure(
    state: FulfillmentOrder, created: FulfillmentCreated, command: RecordLabelFailure
) -> list[Event]:
    package = _package(state, created, command.package)
    if package.label_id != command.label_id or package.label is LabelState.FAILED:
        return []
    if package.label is LabelState.BOUGHT:
        raise LabelNotWanted(
            created.fulfillment_id,
            command.package,
            f"{command.label_id} failed ({_text(command.reason)})",
            f"it has {package.tracking_number}",
            "The label stands; ask the carrier whether it is valid.",
        )
    return [
        LabelFailed(
            fulfillment_id=created.fulfillment_id,
            order_id=created.order_id,
            label_id=command.label_id,
            package=command.package,
            reason=_text(command.reason),
            answered=command.answered,
        )
    ]


def _retry_label(state: FulfillmentOrder, created: FulfillmentCreated, command: RetryLabel) -> list[Event]:
    package = _package(state, created, command.package)
    carrier, service = command.carrier or package.carrier, command.service or package.service
    same_way = (carrier, service) == (package.carrier, package.service)
    asked = f"{carrier} {service} is asked for"
    match package.label:
        case LabelState.BOUGHT:
            now = f"it has {package.tracking_number} of {package.carrier} {package.service}"
            raise LabelNotWanted(created.fulfillment_id, command.package, asked, now, "Print that label again.")
        case LabelState.REQUESTED if same_way:
            return []
        case LabelState.REQUESTED:
            now = f"{package.carrier} {package.service} has not answered yet"
            raise LabelNotWanted(created.fulfillment_id, command.package, asked, now, "Wait for its answer.")
        case LabelState.FAILED:
            # A carrier answers the same key the same way. That is what is wanted where it may have sold the label
            # unheard, and not where it refused.
            again = same_way and not package.answered
            fresh = f"{created.fulfillment_id}.{command.package}.{package.attempt + 1}"
            label_id = package.label_id if again else fresh
            return [_request_label(created, package.packed, label_id, carrier, service)]
        case _:
            assert_never(package.label)


def _request_label(
    created: FulfillmentCreated, package: PackedPackage, label_id: str, carrier: str, service: str
) -> LabelRequested:
    return LabelRequested(
        fulfillment_id=created.fulfillment_id,
        order_id=created.order_id,
        label_id=label_id,
        package=package.package,
        location=created.location,
        carrier=carrier,
        service=service,
        weight_g=package.weight_g,
        destination=created.destination,
    )


def _hand_over(state: FulfillmentOrder, created: FulfillmentCreated, command: HandOver) -> list[Event]:
    fulfillment_id = created.fulfillment_id
    if state.stage is Stage.SHIPPED:
        return []
    if state.stage is not Stage.PACKED:
        raise WrongState(fulfillment_id, "be handed over", so_now(state))
    packages = [state.packages[number] for number in sorted(state.packages)]
    waiting = [each.packed.package for each in packages if each.label is LabelState.REQUESTED]
    failed = [(each.packed.package, each.failure) for each in packages if each.label is LabelState.FAILED]
    if waiting or failed:
        raise LabelsMissing(fulfillment_id, waiting, failed)
    return [
        FulfillmentShipped(
            fulfillment_id=fulfillment_id,
            order_id=created.order_id,
            location=created.location,
            shipped_at=command.shipped_at,
            deliver_by=created.deliver_by,
            packages=tuple(
                ShippedPackage(
                    package=each.packed.package,
                    carrier=each.carrier,
                    service=each.service,
                    tracking_number=each.tracking_number,
                    lines=each.packed.lines,
                )
                for each in packages
            ),
        )
    ]


def _cancel(state: FulfillmentOrder, created: FulfillmentCreated, command: CancelLines) -> list[Event]:
    """Units that this location gave back before (short-picked, rejected) are left out: inventory has them again.

    There is always an answer, if need be one that declines nothing, so that a recall is never left open.
    """
    if command.cancellation_id in state.cancellations:
        return []
    called_off = _by_line(state, created.fulfillment_id, command.lines)
    lines = _units(state, {key: min(units, state.lines[key].left) for key, units in called_off.items()})
    in_time = lines and state.stage in _CANCELABLE
    answer = FulfillmentLinesCanceled if in_time else FulfillmentCancellationDeclined
    return [
        answer(
            fulfillment_id=created.fulfillment_id,
            order_id=created.order_id,
            cancellation_id=command.cancellation_id,
            lines=lines,
        )
    ]


def _package(state: FulfillmentOrder, created: FulfillmentCreated, number: int) -> Package:
    package = state.packages.get(number)
    if package is None:
        raise NoSuchPackage(created.fulfillment_id, number, len(state.packages))
    return package


def _by_line(state: FulfillmentOrder, fulfillment_id: str, parts: Iterable[LineQuantity]) -> dict[str, int]:
    """Units by line id. Raises UnknownLine."""
    units: dict[str, int] = {}
    for part in parts:
        line = state.lines.get(part.line_id)
        if line is None or line.sku != part.sku:
            raise UnknownLine(fulfillment_id, part.line_id, part.sku, line.sku if line else None)
        units[part.line_id] = units.get(part.line_id, 0) + part.quantity
    return units


def _in_order(state: FulfillmentOrder) -> list[tuple[str, Line]]:
    """Lines as they were asked for, each once."""
    asked = state.created.lines if state.created else ()
    return [(line_id, state.lines[line_id]) for line_id in dict.fromkeys(line.line_id for line in asked)]


def _units(state: FulfillmentOrder, units: Mapping[str, int]) -> tuple[LineQuantity, ...]:
    """`units` as events carry them, in the order of the lines, without those that are none."""
    return tuple(
        LineQuantity(line_id=line_id, sku=line.sku, quantity=units[line_id])
        for line_id, line in _in_order(state)
        if units.get(line_id, 0) > 0
    )


def _text(words: str) -> str:
    """`words` as events may hold them: no control characters, 500 characters at most."""
    return "".join(char if char.isprintable() else " " for char in words).strip()[:500]


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
            for line_id, line in _in_order(state)
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
