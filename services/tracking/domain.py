"""What a carrier's scans mean for one parcel, and for its order. Pure: time and ids come in with the command.

Unlike other aggregates a parcel need not be announced first: carriers scan before our own word arrives, scans come
out of order, twice, or days late. Each scan is recorded at once; which of them counts follows from the scans alone,
never from the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from immutables import Map

from ordermill.contracts.base import Fact
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import FulfillmentShipped
from ordermill.contracts.tracking import (
    Milestone,
    OrderProgressed,
    ParcelStatus,
    ShipmentAnnounced,
    ShipmentCameBack,
    ShipmentDelivered,
    ShipmentEvent,
    ShipmentFellLate,
    ShipmentLost,
    ShipmentScanned,
    Step,
    TrackingNumberReused,
)
from ordermill.decider import Decider, Decision, Folded
from ordermill.pmap import PMap
from ordermill.replacing import replace

from .errors import ParcelNameTooLong, ScanAhead
from .status import STATUS, RecordStep, Status, units_in
from .status import decide as decide_status

LONGEST_ID = 116
"""That of other ids, less what a number that is used again adds."""
_USED_AGAIN_AFTER = timedelta(days=60)
"""Silence after a parcel's arrival, by which a scan of its number is another parcel's. Carriers use no number again
before, and say no more of the old parcel."""
_BEFORE_HANDOVER = timedelta(days=14)
"""So long before its handover a carrier may have scanned a parcel, or its label."""
_AHEAD = timedelta(days=1)
"""So far clocks may be apart, and times that a feed takes for another zone's."""


@dataclass(frozen=True, slots=True)
class AnnounceShipment:
    """Fulfillment handed this parcel to the carrier."""

    shipment_id: str
    order_id: str
    fulfillment_id: str
    carrier: str
    tracking_number: str
    shipped_at: datetime
    promised_by: datetime
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class RecordScan:
    """The carrier saw the parcel. `milestone` is what its adapter makes of its raw `code`."""

    shipment_id: str
    scan_id: str
    milestone: Milestone
    code: str
    scanned_at: datetime
    place: str = ""
    proof: Literal["signature", "photo", "none", "unknown"] = "unknown"


@dataclass(frozen=True, slots=True)
class CheckPromise:
    """The promised time has come. Sent by a timer, with the time it was due, not the time it ran."""

    shipment_id: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class CheckLost:
    """The parcel may have been silent for `after`. Sent by a timer, with the time it was due."""

    shipment_id: str
    due_at: datetime
    after: timedelta


Command = AnnounceShipment | RecordScan | CheckPromise | CheckLost


@dataclass(frozen=True, slots=True)
class Shipment:
    """One parcel after its events so far; `Shipment()` is a parcel nobody has heard of."""

    shipment_id: str = ""
    order_id: str = ""
    """Empty until the parcel is announced."""
    fulfillment_id: str = ""
    carrier: str = ""
    tracking_number: str = ""
    shipped_at: datetime | None = None
    promised_by: datetime | None = None
    lines: tuple[LineQuantity, ...] = ()
    milestone: Milestone = Milestone.UNKNOWN
    milestone_at: datetime | None = None
    last_seen_at: datetime | None = None
    place: str = ""
    """Where it was seen last."""
    delivered_at: datetime | None = None
    returned_at: datetime | None = None
    """When it was first seen back at its sender."""
    fell_late: bool = False
    lost: bool = False
    reused_by: str = ""
    """The parcel that has its number now, if another has; since when: `reused_since`."""
    reused_since: datetime | None = None
    scans: PMap[str, bool] = field(default_factory=Map)

    @property
    def late(self) -> bool:
        """Whether the promise was broken. A delivery in time that we only heard of later clears it."""
        in_time = self.delivered_at and self.promised_by and self.delivered_at <= self.promised_by
        return self.fell_late and not in_time

    @property
    def heard_of(self) -> datetime | None:
        """When it was last known to be somewhere: its newest scan, or its handover. Silence counts from then."""
        return max(filter(None, (self.shipped_at, self.last_seen_at)), default=None)


ARRIVED = (Milestone.DELIVERED, Milestone.RETURNED)
WEIGHT = {
    Milestone.UNKNOWN: (0, 0),
    Milestone.LABEL_CREATED: (1, 0),
    Milestone.IN_TRANSIT: (2, 0),
    Milestone.EXCEPTION: (2, 1),
    Milestone.OUT_FOR_DELIVERY: (2, 2),
    Milestone.ATTEMPT_FAILED: (2, 3),
    Milestone.READY_FOR_PICKUP: (2, 4),
    Milestone.RETURNING: (2, 5),
    Milestone.DELIVERED: (3, 0),
    Milestone.RETURNED: (4, 0),
}
"""First what a scan can't undo: nothing undoes a return or, but for a return, a delivery. Among equals the newer scan
counts; at the same instant, the second number. So a parcel may go from the van back to the depot, by a newer scan.
A scan in a code that we can't read says only that the parcel exists."""


def moves(shipment: Shipment, milestone: Milestone, scanned_at: datetime) -> bool:
    """Whether such a scan tells where the parcel is now, rather than where it was."""
    if shipment.milestone_at is None:
        return milestone is not Milestone.UNKNOWN
    final, order = WEIGHT[milestone]
    final_now, order_now = WEIGHT[shipment.milestone]
    return (final, scanned_at, order) > (final_now, shipment.milestone_at, order_now)


def decide(shipment: Shipment, command: Command) -> list[ShipmentEvent]:
    """The events that `command`, which is this parcel's (see `next_under_its_number`), causes; `[]` if it is already
    so.
    """
    match command:
        case AnnounceShipment():
            return _announce(shipment, command)
        case RecordScan():
            return [] if command.scan_id in shipment.scans else _scan(shipment, command)
        case CheckPromise(shipment_id, due_at):
            if shipment.promised_by is None or due_at < shipment.promised_by:
                return []
            settled = shipment.fell_late or shipment.delivered_at is not None
            return [] if settled else [ShipmentFellLate(shipment_id=shipment_id, due_at=shipment.promised_by)]
        case CheckLost(shipment_id, due_at, after):
            heard_of = shipment.heard_of
            if not shipment.order_id or shipment.lost or heard_of is None or due_at < heard_of + after:
                return []
            return [] if shipment.milestone in ARRIVED else [ShipmentLost(shipment_id=shipment_id, due_at=due_at)]
        case _:
            assert_never(command)


def _announce(shipment: Shipment, command: AnnounceShipment) -> list[ShipmentEvent]:
    if shipment.order_id:
        return []
    events: list[ShipmentEvent] = [
        ShipmentAnnounced(
            shipment_id=command.shipment_id,
            order_id=command.order_id,
            fulfillment_id=command.fulfillment_id,
            carrier=command.carrier,
            tracking_number=command.tracking_number,
            shipped_at=command.shipped_at,
            promised_by=command.promised_by,
            lines=command.lines,
            last_seen_at=shipment.last_seen_at,
        )
    ]
    if shipment.delivered_at is not None and shipment.delivered_at > command.promised_by:
        events.append(ShipmentFellLate(shipment_id=command.shipment_id, due_at=command.promised_by))
    return events


def _scan(shipment: Shipment, command: RecordScan) -> list[ShipmentEvent]:
    # Carriers scan a parcel that is back at its sender as delivered, which it is, but not to the customer.
    at_sender = shipment.returned_at is not None and command.scanned_at >= shipment.returned_at
    events: list[ShipmentEvent]
    if command.milestone is not Milestone.DELIVERED or shipment.delivered_at is not None or at_sender:
        events = [
            ShipmentScanned(
                shipment_id=command.shipment_id,
                scan_id=command.scan_id,
                milestone=command.milestone,
                code=command.code,
                scanned_at=command.scanned_at,
                place=command.place,
                last_seen_at=max(command.scanned_at, shipment.heard_of or command.scanned_at),
            )
        ]
        if command.milestone is Milestone.RETURNED and shipment.returned_at is None:
            events.append(ShipmentCameBack(shipment_id=command.shipment_id, came_back_at=command.scanned_at))
        return events
    events = [
        ShipmentDelivered(
            shipment_id=command.shipment_id,
            scan_id=command.scan_id,
            code=command.code,
            delivered_at=command.scanned_at,
            place=command.place,
            proof=command.proof,
        )
    ]
    if shipment.promised_by is not None and command.scanned_at > shipment.promised_by and not shipment.fell_late:
        events.append(ShipmentFellLate(shipment_id=command.shipment_id, due_at=shipment.promised_by))
    return events


def next_under_its_number(shipment: Shipment, command: Command) -> TrackingNumberReused | None:
    """Which parcel `command` is about, if not about this one but a later one under its number, and since when.

    Carriers use numbers again, months later. Another fulfillment order's parcel is another parcel, and so is what is
    scanned long after this one had arrived.
    """
    match command:
        case AnnounceShipment():
            if shipment.fulfillment_id in ("", command.fulfillment_id):
                return None
            early = command.shipped_at - _BEFORE_HANDOVER
            quiet = shipment.heard_of is None or shipment.heard_of < early
            since = early if quiet else command.shipped_at
        case RecordScan(scanned_at=at):
            if shipment.reused_since is not None:
                if at < shipment.reused_since:
                    return None
            elif (
                shipment.milestone not in ARRIVED
                or shipment.heard_of is None
                or at < shipment.heard_of + _USED_AGAIN_AFTER
            ):
                return None
            since = at - _BEFORE_HANDOVER
        case _:
            return None
    this, _, count = command.shipment_id.partition(":")
    return TrackingNumberReused(
        shipment_id=command.shipment_id, reused_by=f"{this}:{int(count or 1) + 1}", since=shipment.reused_since or since
    )


def evolve(shipment: Shipment, event: ShipmentEvent) -> Shipment:
    """Fold one event in. Never refuses: it happened, whatever today's rules say."""
    match event:
        case ShipmentAnnounced():
            return replace(
                shipment,
                shipment_id=event.shipment_id,
                order_id=event.order_id,
                fulfillment_id=event.fulfillment_id,
                carrier=event.carrier,
                tracking_number=event.tracking_number,
                shipped_at=event.shipped_at,
                promised_by=event.promised_by,
                lines=event.lines,
            )
        case ShipmentScanned():
            seen = _seen(shipment, event, event.milestone, event.scanned_at)
            if event.milestone is Milestone.DELIVERED and seen.delivered_at is not None:
                return replace(seen, delivered_at=min(seen.delivered_at, event.scanned_at))
            if event.milestone is Milestone.RETURNED:
                return replace(seen, returned_at=min(seen.returned_at or event.scanned_at, event.scanned_at))
            return seen
        case ShipmentDelivered():
            seen = _seen(shipment, event, Milestone.DELIVERED, event.delivered_at)
            return replace(seen, delivered_at=event.delivered_at)
        case ShipmentFellLate():
            return replace(shipment, fell_late=True)
        case ShipmentLost():
            return replace(shipment, lost=True)
        case ShipmentCameBack():
            return shipment  # the scan before it says when
        case TrackingNumberReused():
            return replace(shipment, reused_by=event.reused_by, reused_since=event.since)
        case _:
            assert_never(event)


def _seen(
    shipment: Shipment, event: ShipmentScanned | ShipmentDelivered, milestone: Milestone, at: datetime
) -> Shipment:
    news = shipment.last_seen_at is None or at >= shipment.last_seen_at
    found = milestone in ARRIVED or shipment.heard_of is None or at > shipment.heard_of
    moved = moves(shipment, milestone, at)
    return replace(
        shipment,
        shipment_id=event.shipment_id,
        scans=shipment.scans.set(event.scan_id, True),
        milestone=milestone if moved else shipment.milestone,
        milestone_at=at if moved else shipment.milestone_at,
        last_seen_at=at if news else shipment.last_seen_at,
        place=event.place if news and event.place else shipment.place,
        lost=shipment.lost and not found,
    )


SHIPMENT = Decider("shipment", Shipment(), evolve)


def follow(states: Mapping[str, Any], command: Command) -> Folded:
    """What `command` means for its parcel and, once the parcel's order is known, for that order's status.

    `states` holds the stream of the first parcel under its number; those of later ones, and the order's `status-…`
    stream, are looked up when it turns out which they are.
    """
    told: list[tuple[str, Fact]] = []
    come_to: dict[str, Any] = {}
    stream = SHIPMENT.stream(command.shipment_id)
    before: Shipment = states[stream]
    while (reused := next_under_its_number(before, command)) is not None:
        if not before.reused_by:
            told.append((stream, reused))
            come_to[stream] = evolve(before, reused)
        command = replace(command, shipment_id=reused.reused_by)
        stream = SHIPMENT.stream(command.shipment_id)
        before = states[stream]
    events = decide(before, command)
    if not events:
        return Folded([], {})
    after = SHIPMENT.fold(events, before)
    told += [(stream, event) for event in events]
    come_to[stream] = after
    if after.order_id:
        status_stream = STATUS.stream(after.order_id)
        status: Status = states[status_stream]
        for step in _steps(before, after, command):
            for new in decide_status(status, RecordStep(step)):
                status = STATUS.evolve(status, new)
                told.append((status_stream, new))
        come_to[status_stream] = status
    return Folded(told, come_to)


def parcel_decision(command: Command) -> Decision:
    """`command` with the streams it needs, as far as they are known before it is decided."""
    streams: tuple[str, ...] = (SHIPMENT.stream(command.shipment_id),)
    if isinstance(command, AnnounceShipment):
        streams += (STATUS.stream(command.order_id),)
    return Decision(streams, lambda states: follow(states, command))


def _steps(before: Shipment, after: Shipment, command: Command) -> Iterable[OrderProgressed]:
    """What the customer learns; at the announcement, all that the scans before it said as well."""
    new = not before.order_id
    at, source = _when(command)
    parcel = parcel_status(after)
    step = _stepper(after, source, parcel)
    named = False
    if new:
        named = True
        yield step(Step.SHIPPED, at, units_in(after.lines))
    if after.delivered_at is not None and (new or before.delivered_at is None):
        named = True
        yield step(Step.DELIVERED, after.delivered_at, units_in(after.lines))
    if after.late and (new or not before.late):
        named = True
        yield step(Step.LATE, at, 0)
    if after.lost and not before.lost:
        named = True
        yield step(Step.LOST, at, 0)
    if not named and _told(parcel) != _told(parcel_status(before)):
        yield step(Step.MOVED, at, 0)


def _stepper(after: Shipment, source: str, parcel: ParcelStatus) -> Callable[[Step, datetime, int], OrderProgressed]:
    def step(what: Step, at: datetime, units: int) -> OrderProgressed:
        return OrderProgressed(
            order_id=after.order_id,
            step=what,
            happened_at=at,
            units=units,
            reference=after.shipment_id,
            source=source,
            parcel=parcel,
        )

    return step


def _told(parcel: ParcelStatus) -> tuple[Milestone, bool, bool]:
    return parcel.milestone, parcel.late, parcel.lost


def _when(command: Command) -> tuple[datetime, str]:
    match command:
        case AnnounceShipment():
            return command.shipped_at, command.fulfillment_id
        case RecordScan():
            return command.scanned_at, command.scan_id
        case _:
            return command.due_at, command.due_at.isoformat()


def parcel_status(shipment: Shipment) -> ParcelStatus:
    """An announced parcel, as its customer is told it."""
    assert shipment.shipped_at is not None
    return ParcelStatus(
        shipment_id=shipment.shipment_id,
        carrier=shipment.carrier,
        tracking_number=shipment.tracking_number,
        milestone=shipment.milestone if shipment.milestone_at else Milestone.LABEL_CREATED,
        late=shipment.late,
        lost=shipment.lost,
        updated_at=shipment.milestone_at or shipment.shipped_at,
    )


def shipment_id_of(carrier: str, tracking_number: str) -> str:
    """The id of a carrier's first parcel under a number; a later one's has `:2` and so on. Raises ParcelNameTooLong."""
    if len(carrier) + 1 + len(tracking_number) > LONGEST_ID:
        raise ParcelNameTooLong(carrier, tracking_number)
    return f"{carrier}-{tracking_number}"


def announcements(shipped: FulfillmentShipped) -> list[AnnounceShipment]:
    """One announcement for each parcel that was handed over. Boxes under one number are one parcel to their carrier."""
    parcels: dict[str, AnnounceShipment] = {}
    for package in shipped.packages:
        shipment_id = shipment_id_of(package.carrier, package.tracking_number)
        lines = package.lines
        if shipment_id in parcels:
            lines = _together((*parcels[shipment_id].lines, *lines))
        parcels[shipment_id] = AnnounceShipment(
            shipment_id=shipment_id,
            order_id=shipped.order_id,
            fulfillment_id=shipped.fulfillment_id,
            carrier=package.carrier,
            tracking_number=package.tracking_number,
            shipped_at=shipped.shipped_at,
            promised_by=shipped.deliver_by,
            lines=lines,
        )
    return list(parcels.values())


def _together(lines: Iterable[LineQuantity]) -> tuple[LineQuantity, ...]:
    """Each order line once."""
    units: dict[str, LineQuantity] = {}
    for line in lines:
        known = units[line.line_id].quantity if line.line_id in units else 0
        units[line.line_id] = line.model_copy(update={"quantity": known + line.quantity})
    return tuple(units.values())


def scan_of(scanned: ParcelScanned, milestone: Milestone, now: datetime) -> RecordScan:
    """A carrier's message as a command; `milestone` is what `adapters.milestone_of` makes of its code.

    Raises ScanAhead: counted, it would be the newest until its time has come, and all others old.
    """
    shipment_id = shipment_id_of(scanned.carrier, scanned.tracking_number)
    if scanned.scanned_at > now + _AHEAD:
        raise ScanAhead(shipment_id, scanned.scanned_at, now)
    return RecordScan(
        shipment_id=shipment_id,
        scan_id=scanned.scan_id,
        milestone=milestone,
        code=scanned.code,
        scanned_at=scanned.scanned_at,
        place=scanned.place,
        proof=scanned.proof,
    )


def shipment_summary(shipment: Shipment) -> dict[str, Any]:
    """The parcel as a view keeps it: JSON values only."""
    return {
        "shipment_id": shipment.shipment_id,
        "order_id": shipment.order_id or None,
        "fulfillment_id": shipment.fulfillment_id or None,
        "carrier": shipment.carrier or None,
        "tracking_number": shipment.tracking_number or None,
        "milestone": shipment.milestone.value,
        "place": shipment.place,
        "late": shipment.late,
        "lost": shipment.lost,
        "shipped_at": _text(shipment.shipped_at),
        "promised_by": _text(shipment.promised_by),
        "last_seen_at": _text(shipment.last_seen_at),
        "delivered_at": _text(shipment.delivered_at),
        "scans": len(shipment.scans),
        "lines": [line.model_dump() for line in shipment.lines],
    }


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
