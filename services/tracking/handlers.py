"""Messages in, decisions out; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from ordermill.contracts.base import Fact, Message
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.fulfillment import FulfillmentShipped
from ordermill.contracts.tracking import OrderProgressed, ShipmentAnnounced, ShipmentDelivered, ShipmentScanned, Step
from ordermill.decider import Decision, decision
from ordermill.eventlog.store import Timer
from ordermill.service.declare import Received

from .adapters import milestone_of
from .domain import CheckLost, CheckPromise, announcements, parcel_decision, scan_of
from .status import STATUS, CheckOrderPromise, RecordStep, decide, steps_of


def announce(shipped: FulfillmentShipped, received: Received) -> Iterable[Decision]:
    return [parcel_decision(command) for command in announcements(shipped)]


def record_scan(scanned: ParcelScanned, received: Received) -> Iterable[Decision]:
    return [parcel_decision(scan_of(scanned, milestone_of(scanned.carrier, scanned.code), received.now))]


def record_steps(fact: Message, received: Received) -> Iterable[Decision]:
    return [
        decision(STATUS.stream(step.order_id), decide, RecordStep(step))
        for step in steps_of(fact, received.happened_at, received.message_id)
    ]


class Deadlines:
    """When a parcel counts as late, when as lost, and when an order's promise is looked at."""

    def __init__(self, late_after: timedelta, lost_after: timedelta) -> None:
        self._late_after = late_after
        self._lost_after = lost_after

    def of(self, stream: str, event: Fact) -> Sequence[Timer | tuple[str, str]]:
        """Timers that an event of tracking sets or clears."""
        match event:
            case ShipmentAnnounced():
                silent_since = max(event.shipped_at, event.last_seen_at or event.shipped_at)
                return (
                    Timer(stream, "promise", event.promised_by + self._late_after),
                    Timer(stream, "lost", silent_since + self._lost_after),
                )
            case ShipmentScanned():
                return (Timer(stream, "lost", (event.last_seen_at or event.scanned_at) + self._lost_after),)
            case ShipmentDelivered():
                return ((stream, "promise"), (stream, "lost"))
            case OrderProgressed(step=Step.PROMISED, promised_by=promised_by) if promised_by is not None:
                return (Timer(stream, "order-promise", promised_by + self._late_after),)
            case _:
                return ()

    def check_promise(self, timer: Timer) -> Iterable[Decision]:
        return [parcel_decision(CheckPromise(_key(timer), timer.due_at))]

    def check_lost(self, timer: Timer) -> Iterable[Decision]:
        return [parcel_decision(CheckLost(_key(timer), timer.due_at, self._lost_after))]

    def check_order_promise(self, timer: Timer) -> Iterable[Decision]:
        return [decision(timer.stream, decide, CheckOrderPromise(_key(timer), timer.due_at))]


def _key(timer: Timer) -> str:
    return timer.stream.partition("-")[2]
