"""What a location does with its part of an order: accept, pick, pack, label, hand over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, assert_never

from ordermill.contracts.fields import LineQuantity
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
    ShippedPackage,
)

from ..errors import (
    FulfillmentIdTaken,
    FulfillmentNotCreated,
    FulfillmentNotFound,
    HandedOverAhead,
    LabelNotWanted,
    LabelsMissing,
    NoSuchPackage,
    PackagesWrong,
    PackedUnitsDiffer,
    TooManyUnits,
    UnknownLine,
    WrongState,
)
from .commands import (
    Accept,
    CancelLines,
    Command,
    CreateFulfillment,
    HandOver,
    Pack,
    Pick,
    RecordLabel,
    RecordLabelFailure,
    Reject,
    RetryLabel,
)
from .fulfillment_order import (
    FulfillmentOrder,
    LabelState,
    Package,
    Stage,
    in_order,
    so_now,
)

_AHEAD = timedelta(days=1)
"""So far clocks may be apart, and times that a scanner takes for another zone's."""
_CANCELABLE = frozenset({Stage.CREATED, Stage.ACCEPTED, Stage.PICKED})


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
            rejected_at=command.at,
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
        events.append(
            FulfillmentPicked(
                fulfillment_id=fulfillment_id, order_id=order_id, lines=_units(state, found), picked_at=command.at
            )
        )
    missing = _units(state, {key: line.left - found.get(key, 0) for key, line in state.lines.items()})
    if missing:
        events.append(
            FulfillmentShortPicked(
                fulfillment_id=fulfillment_id,
                order_id=order_id,
                location=created.location,
                lines=missing,
                picked_at=command.at,
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
        for line_id, line in in_order(state)
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
        return _sold_in_vain(state, created, command, now)
    if state.stage is Stage.CANCELED:
        return _sold_in_vain(state, created, command, f"it {so_now(state)}")
    if other := _package_under(state, command):
        return _record_label_failure(
            state,
            created,
            RecordLabelFailure(
                command.fulfillment_id,
                command.package,
                command.label_id,
                f"{command.carrier} sold {command.tracking_number} again, which package {other} has: "
                "two boxes can't travel under one number. Ask for another label",
            ),
        )
    return [PackageLabeled(**_sold(created, command))]


def _sold(created: FulfillmentCreated, command: RecordLabel) -> dict[str, Any]:
    """What any fact of a sold label tells of it."""
    return {
        "fulfillment_id": created.fulfillment_id,
        "order_id": created.order_id,
        "label_id": command.label_id,
        "package": command.package,
        "carrier": command.carrier,
        "service": command.service,
        "tracking_number": command.tracking_number,
        "cost": command.cost,
    }


def _sold_in_vain(state: FulfillmentOrder, created: FulfillmentCreated, command: RecordLabel, now: str) -> list[Event]:
    if state.unused.get(command.label_id) == command.tracking_number:
        return []
    return [LabelUnused(**_sold(created, command), reason=now)]


def _package_under(state: FulfillmentOrder, command: RecordLabel) -> int | None:
    """Another package that has the label's number."""
    named = (command.carrier, command.tracking_number)
    for number, package in state.packages.items():
        if number != command.package and (package.carrier, package.tracking_number) == named:
            return number
    return None


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
    if state.stage is Stage.CANCELED:
        raise WrongState(created.fulfillment_id, "be labeled", so_now(state))
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
            # It may have sold one unheard, and is asked no more.
            given_up = LabelFailed(
                fulfillment_id=created.fulfillment_id,
                order_id=created.order_id,
                label_id=package.label_id,
                package=command.package,
                reason=f"given up for {carrier} {service} before {package.carrier} {package.service} had answered",
                answered=False,
            )
            fresh = f"{created.fulfillment_id}.{command.package}.{package.attempt + 1}"
            return [given_up, _request_label(created, package.packed, fresh, carrier, service)]
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
    if command.shipped_at > command.reported_at + _AHEAD:
        raise HandedOverAhead(fulfillment_id, command.shipped_at, command.reported_at)
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
    in_time = lines and (state.stage in _CANCELABLE or _can_be_unpacked(state, lines))
    answer = FulfillmentLinesCanceled if in_time else FulfillmentCancellationDeclined
    return [
        answer(
            fulfillment_id=created.fulfillment_id,
            order_id=created.order_id,
            cancellation_id=command.cancellation_id,
            lines=lines,
        )
    ]


def _can_be_unpacked(state: FulfillmentOrder, lines: Iterable[LineQuantity]) -> bool:
    """Whether `lines` are all there is, in boxes that can't leave: one got no label, and none is being bought."""
    labels = {package.label for package in state.packages.values()}
    stuck = state.stage is Stage.PACKED and LabelState.FAILED in labels and LabelState.REQUESTED not in labels
    called_off = {line.line_id: line.quantity for line in lines}
    return stuck and all(called_off.get(line_id, 0) == line.left for line_id, line in state.lines.items())


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


def _units(state: FulfillmentOrder, units: Mapping[str, int]) -> tuple[LineQuantity, ...]:
    """`units` as events carry them, in the order of the lines, without those that are none."""
    return tuple(
        LineQuantity(line_id=line_id, sku=line.sku, quantity=units[line_id])
        for line_id, line in in_order(state)
        if units.get(line_id, 0) > 0
    )


def _text(words: str) -> str:
    """`words` as events may hold them: no control characters, 500 characters at most."""
    return "".join(char if char.isprintable() else " " for char in words).strip()[:500]
