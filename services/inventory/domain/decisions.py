"""What inventory decides, always over the stock of all SKUs and the claims of all orders that it touches.

Four rules hold after every decision:
- A unit is granted only while it is available, so nothing is oversold; where nothing ships from, none is.
- Units that come free go to those who have waited longest (`balance`).
- Where fewer units are found than are claimed, claims that no location holds yet give way, the newest first.
- Units that come back from a location while a cancellation calls them off there are let go, not routed again.

Whoever takes units back from a location to have them routed again recalls them like a cancellation, and as that
may be too late; a cancellation that comes meanwhile is served first.

What is on hand follows the times at the location, in whatever order they are heard: a count speaks of the moment in
which it was taken, what has moved since has moved, and what moved before is known to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, assert_never

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.fulfillment import RejectReason
from ordermill.contracts.inventory import (
    Allocation,
    AllocationRecalled,
    AllocationRefused,
    CancellationTooLate,
    DeallocationCause,
    OrderAllocated,
    OrderBackordered,
    OrderDeallocated,
    OrderLetGo,
    OrderRefused,
    OrderReserved,
    OrderShippedOut,
    RecallDeclined,
    ReservationOpened,
    Shortage,
    StockAdjusted,
    StockAllocated,
    StockBackordered,
    StockCountRecorded,
    StockDeallocated,
    StockLetGo,
    StockReceived,
    StockRejected,
    StockReserved,
    StockRestocked,
    StockShippedOut,
    StockWrittenOff,
)
from ordermill.contracts.returns import Disposition, InspectedLine
from ordermill.contracts.routing import PlannedShipment
from ordermill.decider import Decision

from ..errors import FulfillmentNotAllocated, NothingToReroute, OrderNotReserved
from .balance import balance, set_aside, tell_gave_way
from .commands import (
    AllocatePlan,
    CancelUnits,
    Command,
    CorrectStock,
    CountStock,
    HeedNetwork,
    KeepRecalled,
    LetGoRecalled,
    ReceiveStock,
    RerouteUnits,
    ReserveOrder,
    ShipOut,
    StockCommand,
    TakeBackRejected,
    TakeBackShortPicked,
    TakeInReturn,
)
from .reservation import RESERVATION, Held, answer_mark, cancellation_mark, plan_mark
from .stock import MOVES_KEPT, STOCK, Shelf, claim_key, rejected_mark, taken_mark
from .work import ByLine, Events, Work, part_of, units_of

MOST_ON_HAND = 1_000_000_000
"""At one location: the most that a count can say, and so can put right."""


def decision(command: Command) -> Decision:
    """`command` bound to the streams it is known to touch; those of other orders are looked up on the way."""
    return Decision(streams(command), lambda states: _decided(states, command).folded())


def streams(command: Command) -> tuple[str, ...]:
    """The streams that `command` touches for sure, as far as the command tells."""
    match command:
        case ReceiveStock() | CorrectStock() | CountStock() | HeedNetwork():
            return (STOCK.stream(command.sku),)
        case TakeInReturn():
            return _stock_streams(command.lines)
        case ReserveOrder(released=released):
            return (RESERVATION.stream(released.order_id), *_stock_streams(released.lines))
        case RerouteUnits() | KeepRecalled():
            return (RESERVATION.stream(command.order_id),)
        case AllocatePlan():
            lines = [line for shipment in command.shipments for line in shipment.lines]
            return (RESERVATION.stream(command.order_id), *_stock_streams(lines))
        case _:
            return (RESERVATION.stream(command.order_id), *_stock_streams(command.lines))


def _stock_streams(lines: Iterable[LineQuantity | ReleasedLine | InspectedLine]) -> tuple[str, ...]:
    return tuple(sorted({STOCK.stream(line.sku) for line in lines}))


def decide(states: Mapping[str, Any], command: Command) -> Events:
    """The events that `command` causes, with their streams; `[]` if it is already so.

    Units beyond what an order still has there are cut off without a word, for facts repeat themselves.
    Raises OrderNotReserved, FulfillmentNotAllocated, NothingToReroute.
    """
    return _decided(states, command).events


def _decided(states: Mapping[str, Any], command: Command) -> Work:
    work = Work(states)
    match command:
        case ReserveOrder():
            _reserve(work, command)
        case AllocatePlan():
            _allocate(work, command)
        case ShipOut():
            _ship_out(work, command)
        case ReceiveStock() | CorrectStock() | CountStock():
            _feed(work, command)
        case HeedNetwork():
            _heed_network(work, command)
        case CancelUnits():
            _cancel(work, command)
        case RerouteUnits():
            _reroute(work, command)
        case LetGoRecalled():
            _let_go_recalled(work, command)
        case KeepRecalled():
            _keep_recalled(work, command)
        case TakeBackRejected(reason=RejectReason.OUT_OF_STOCK):
            _take_back(work, command, "rejected", lost_as="rejected: out of stock")
        case TakeBackRejected(reason=RejectReason.DAMAGED):
            _take_back(work, command, "rejected", lost_as="rejected: damaged")
        case TakeBackRejected():
            _take_back(work, command, "rejected", lost_as=None)
        case TakeBackShortPicked():
            _take_back(work, command, "short-pick", lost_as="short-pick")
        case TakeInReturn():
            _take_in_return(work, command)
        case _:
            assert_never(command)
    return work


# Stock feeds and returns


def _feed(work: Work, command: StockCommand) -> None:
    stock = work.stock(command.sku)
    sku, location, reference = command.sku, command.location, command.reference
    if taken_mark(location, reference) in stock.references:
        return
    shelf, is_new = stock.shelf(location), location not in stock.shelves
    if location not in command.locations:
        return _reject(work, command, "no location of ours")
    about: Any = {"sku": sku, "location": location, "reference": reference, "happened_at": command.at}
    if isinstance(command, CountStock):
        if too_late := _too_late(shelf, command.at):
            return _reject(work, command, too_late)
        work.record(StockCountRecorded(counted=command.counted, delta=_put_right(shelf, command), **about))
    else:
        added = command.quantity if isinstance(command, ReceiveStock) else command.delta
        if not shelf.counted_since(command.at):
            if shelf.on_hand + added < 0:
                return _reject(work, command, f"{added:+} would leave less than nothing: {shelf.on_hand} on hand")
            if shelf.on_hand + added > MOST_ON_HAND:
                told = f"{shelf.on_hand} on hand, at most {MOST_ON_HAND}"
                return _reject(work, command, f"{added:+} would leave more than can be counted: {told}")
        if isinstance(command, ReceiveStock):
            work.record(StockReceived(quantity=added, **about))
        else:
            work.record(StockAdjusted(delta=added, reason=command.reason, **about))
        _as_counted_since(work, sku, location, added, reference, command.at)
    if is_new:
        set_aside(work, sku, location, command.ships)
    balance(work, [sku]).tell(work)


def _too_late(shelf: Shelf, at: datetime) -> str:
    """Why nothing follows from a count of that time, if so."""
    if shelf.counted_since(at):
        return f"counted at {_told(at)}, and again at {_told(shelf.counted_at)}: the later count stands"
    if shelf.moved_since(at) is None:
        return f"counted at {_told(at)}, and moved {MOVES_KEPT} times since; count again"
    return ""


def _put_right(shelf: Shelf, command: CountStock) -> int:
    """What a count changes: it speaks of its own time, and what has moved since has moved."""
    on_hand = command.counted + (shelf.moved_since(command.at) or 0)
    return max(0, min(on_hand, MOST_ON_HAND)) - shelf.on_hand


def _as_counted_since(work: Work, sku: str, location: str, units: int, reference: str, at: datetime) -> None:
    """Units that came (or left, if negative) are heard of only now, and a later count knew of them: it stands."""
    shelf = work.stock(sku).shelf(location)
    if units and shelf.counted_since(at):
        work.record(
            StockAdjusted(
                sku=sku,
                location=location,
                delta=-units,
                reason=f"the count of {_told(shelf.counted_at)} knew of what is heard only now",
                reference=reference,
                happened_at=at,
            )
        )


def _told(at: datetime | None) -> str:
    assert at is not None
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _reject(work: Work, command: StockCommand, reason: str) -> None:
    location, reference = command.location, command.reference
    if rejected_mark(location, reference) not in work.stock(command.sku).references:
        work.record(StockRejected(sku=command.sku, location=location, reference=reference, reason=reason))


def _heed_network(work: Work, command: HeedNetwork) -> None:
    sku = command.sku
    for location in sorted(work.stock(sku).shelves):
        set_aside(work, sku, location, location in command.shipping)
    balance(work, [sku]).tell(work)


def _take_in_return(work: Work, command: TakeInReturn) -> None:
    location, return_id, reference = command.location, command.return_id, command.reference
    fit: dict[str, int] = {}
    unfit: dict[str, int] = {}
    notes: dict[str, str] = {}
    for line in command.lines:
        if taken_mark(location, reference) in work.stock(line.sku).references:
            continue
        if line.disposition is Disposition.RESTOCK:
            fit[line.sku] = fit.get(line.sku, 0) + line.quantity
        elif line.disposition is Disposition.WRITE_OFF:
            unfit[line.sku] = unfit.get(line.sku, 0) + line.quantity
            notes[line.sku] = notes.get(line.sku) or line.note
    new = [sku for sku in sorted({*fit, *unfit}) if location not in work.stock(sku).shelves]
    for sku, units in fit.items():
        work.record(
            StockRestocked(
                sku=sku,
                location=location,
                quantity=units,
                return_id=return_id,
                reference=reference,
                happened_at=command.at,
            )
        )
        _as_counted_since(work, sku, location, units, reference, command.at)
    for sku, units in unfit.items():
        work.record(
            StockWrittenOff(
                sku=sku,
                location=location,
                quantity=units,
                return_id=return_id,
                reference=reference,
                reason=notes[sku],
            )
        )
    for sku in new:
        set_aside(work, sku, location, command.ships)
    balance(work, fit).tell(work)


# Reserve and allocate


def _reserve(work: Work, command: ReserveOrder) -> None:
    """A line is had in full or waits in full; of an order that may not wait, all lines are had or none."""
    order = command.released
    before = work.reservation(order.order_id)
    if before.opened is not None or before.refused is not None or not order.lines:
        return
    reserved: list[ReleasedLine] = []
    waiting: list[ReleasedLine] = []
    shortages: list[Shortage] = []
    left: dict[str, int] = {}
    waits: dict[str, int] = {}
    for line in order.lines:
        sku, wanted = line.sku, line.quantity
        stock = work.stock(sku)
        available = left.get(sku, stock.available)
        backordered = waits.get(sku, stock.backordered)
        reason: Literal["unknown-sku", "out-of-stock", "backorders-full"]
        if not stock.known:
            reason = "unknown-sku"
        elif available >= wanted:
            left[sku] = available - wanted
            reserved.append(line)
            continue
        elif not order.allow_backorder:
            reason = "out-of-stock"
        elif backordered + wanted > command.backorder_cap:
            reason = "backorders-full"
        else:
            waits[sku] = backordered + wanted
            waiting.append(line)
            continue
        shortages.append(Shortage(line_id=line.line_id, sku=sku, wanted=wanted, available=available, reason=reason))
    order_id = order.order_id
    if shortages:
        work.record(OrderRefused(order_id=order_id, shortages=tuple(shortages)))
        return
    work.record(
        ReservationOpened(
            order_id=order_id,
            channel=order.channel,
            external_id=order.external_id,
            placed_at=order.placed_at,
            destination=order.destination,
            service_level=order.service_level,
            allow_backorder=order.allow_backorder,
            lines=order.lines,
        )
    )
    for line in reserved:
        work.record(StockReserved(sku=line.sku, order_id=order_id, line_id=line.line_id, quantity=line.quantity))
    for line in waiting:
        work.record(
            StockBackordered(
                sku=line.sku,
                order_id=order_id,
                line_id=line.line_id,
                quantity=line.quantity,
                cap=command.backorder_cap,
            )
        )
    if reserved:
        work.record(
            OrderReserved(
                order_id=order_id,
                placed_at=order.placed_at,
                destination=order.destination,
                service_level=order.service_level,
                lines=tuple(reserved),
            )
        )
    if waiting:
        work.record(OrderBackordered(order_id=order_id, lines=tuple(units_of(line, line.quantity) for line in waiting)))


def _allocate(work: Work, command: AllocatePlan) -> None:
    """Units of the plan that are no longer reserved (canceled, let go) are left out before it is judged."""
    order_id = command.order_id
    reservation = work.reservation(order_id)
    opened = reservation.opened
    if opened is None:
        if reservation.refused is None:
            raise OrderNotReserved(order_id)
        return
    if plan_mark(command.plan_id) in reservation.settled:
        return
    left = {line_id: claim.reserved for line_id, claim in reservation.lines.items()}
    routable: ByLine = {}
    wanted: dict[tuple[str, str], int] = {}
    plan: list[tuple[PlannedShipment, ByLine]] = []
    for shipment in command.shipments:
        taken: ByLine = {}
        for line in shipment.lines:
            units = min(line.quantity, left.get(line.line_id, 0))
            if units > 0:
                left[line.line_id] -= units
                taken[line.line_id] = taken.get(line.line_id, 0) + units
                routable[line.line_id] = routable.get(line.line_id, 0) + units
                place = (shipment.location, reservation.lines[line.line_id].line.sku)
                wanted[place] = wanted.get(place, 0) + units
        if taken:
            plan.append((shipment, taken))
    if not plan:
        return
    short = tuple(sorted(place for place, units in wanted.items() if work.stock(place[1]).shelf(place[0]).free < units))
    if short:
        lines = tuple(units_of(reservation.lines[line_id].line, units) for line_id, units in routable.items())
        work.record(AllocationRefused(order_id=order_id, plan_id=command.plan_id, short=short, lines=lines))
        return
    allocations: list[Allocation] = []
    for shipment, taken in plan:
        parts = tuple(part_of(reservation.lines[line_id].line, units) for line_id, units in taken.items())
        for line in parts:
            work.record(
                StockAllocated(
                    sku=line.sku,
                    order_id=order_id,
                    line_id=line.line_id,
                    quantity=line.quantity,
                    location=shipment.location,
                )
            )
        allocations.append(
            Allocation(
                fulfillment_id=shipment.fulfillment_id,
                location=shipment.location,
                carrier=shipment.carrier,
                service=shipment.service,
                ship_by=shipment.ship_by,
                deliver_by=shipment.deliver_by,
                lines=parts,
            )
        )
    work.record(
        OrderAllocated(
            order_id=order_id,
            plan_id=command.plan_id,
            channel=opened.channel,
            external_id=opened.external_id,
            destination=opened.destination,
            allocations=tuple(allocations),
        )
    )


# What becomes of allocated units


def _ship_out(work: Work, command: ShipOut) -> None:
    order_id, fulfillment_id = command.order_id, command.fulfillment_id
    held = _held(work, order_id, fulfillment_id)
    lines = work.reservation(order_id).lines
    shipped = [units_of(lines[line_id].line, units) for line_id, units in _cut(command.lines, held.units).items()]
    if not shipped:
        return
    for part in shipped:
        _as_counted_since(work, part.sku, held.location, -part.quantity, fulfillment_id, command.at)
        missing = part.quantity - work.stock(part.sku).shelf(held.location).on_hand
        if missing > 0:
            # A count had said that they are not there; now they have left, so they were.
            work.record(
                StockAdjusted(
                    sku=part.sku,
                    location=held.location,
                    delta=missing,
                    reason="shipped although not on hand by our count",
                    reference=fulfillment_id,
                    happened_at=command.at,
                )
            )
        work.record(
            StockShippedOut(
                sku=part.sku,
                order_id=order_id,
                line_id=part.line_id,
                quantity=part.quantity,
                location=held.location,
                happened_at=command.at,
            )
        )
    work.record(OrderShippedOut(order_id=order_id, fulfillment_id=fulfillment_id, lines=tuple(shipped)))
    balance(work, _skus(shipped)).tell(work)


def _take_back(
    work: Work,
    command: TakeBackRejected | TakeBackShortPicked,
    cause: DeallocationCause,
    lost_as: str | None,
) -> None:
    """Units go from a location back to the network. If they were not there either, `lost_as` says why."""
    held = _held(work, command.order_id, command.fulfillment_id)
    back = _called_off(held, _cut(command.lines, held.units))
    _give_back(work, command, held, back, cause, lost=(lost_as, command.at) if lost_as else None)


def _reroute(work: Work, command: RerouteUnits) -> None:
    order_id, fulfillment_id = command.order_id, command.fulfillment_id
    reservation = work.reservation(order_id)
    held = reservation.held.get(fulfillment_id)
    if held is None:
        raise NothingToReroute(fulfillment_id, f"no units of order {order_id} were ever allocated to it")
    recall_id = f"reroute:{command.reroute_id}"
    if recall_id in held.reroutes:
        return
    if any(answer_mark(fulfillment_id, asked) not in reservation.settled for asked in held.reroutes) and held.units:
        raise NothingToReroute(
            fulfillment_id, f"{held.location} was asked for them already, and gives them back unless they are packed"
        )
    lines = tuple(
        units_of(claim.line, units)
        for line_id, claim in sorted(reservation.lines.items())
        if (units := held.recallable(line_id)) > 0
    )
    if not lines:
        raise NothingToReroute(fulfillment_id, "all its units have left it, or are being canceled")
    work.record(
        AllocationRecalled(
            order_id=order_id,
            fulfillment_id=fulfillment_id,
            cancellation_id=recall_id,
            lines=lines,
            reroute="elsewhere" if command.elsewhere else "anywhere",
        )
    )


def _let_go_recalled(work: Work, command: LetGoRecalled) -> None:
    """The location has put all these units back, though fewer may be left of the recall than it answers for.

    It then came up short before it heard of the recall, and the missing units were let go first. Those put back
    beyond the recall are reserved again as if they were the missing ones.
    """
    held = _held(work, command.order_id, command.fulfillment_id)
    answers = command.cancellation_id
    if answer_mark(command.fulfillment_id, answers) in work.reservation(command.order_id).settled:
        return
    back = _called_off(held, _cut(command.lines, held.units), answers)
    elsewhere = held.reroutes.get(answers)
    cause: DeallocationCause = "short-pick" if elsewhere is None else "manual"
    _give_back(work, command, held, back, cause, answers=answers, avoid=elsewhere is not False)


def _keep_recalled(work: Work, command: KeepRecalled) -> None:
    order_id, fulfillment_id, asked = command.order_id, command.fulfillment_id, command.cancellation_id
    reservation, held = work.reservation(order_id), _held(work, order_id, fulfillment_id)
    if answer_mark(fulfillment_id, asked) in reservation.settled:
        return
    called_off = next((recall.units for recall in held.recalls if recall.cancellation_id == asked), None)
    stands = held.units if asked in held.reroutes else called_off
    kept = [units_of(reservation.lines[line_id].line, n) for line_id, n in _cut(command.lines, stands or {}).items()]
    if kept:
        work.record(
            RecallDeclined(order_id=order_id, fulfillment_id=fulfillment_id, cancellation_id=asked, lines=tuple(kept))
        )


@dataclass(frozen=True, slots=True)
class _Back:
    """Units that a location gives back, by line: all, those that cancellations have called off there, the others."""

    all: ByLine
    canceled: dict[str, ByLine]
    others: ByLine


def _called_off(held: Held, back: ByLine, first: str | None = None) -> _Back:
    """`back` shared out to the recalls it meets: that of the cancellation `first`, then the oldest first."""
    others, canceled = dict(back), dict[str, ByLine]()
    for recall in sorted(held.recalls, key=lambda recall: recall.cancellation_id != first):
        for line_id, left in others.items():
            units = min(left, recall.units.get(line_id, 0))
            if units > 0:
                canceled.setdefault(recall.cancellation_id, {})[line_id] = units
                others[line_id] = left - units
    return _Back(back, canceled, {line_id: units for line_id, units in others.items() if units})


def _give_back(
    work: Work,
    command: TakeBackRejected | TakeBackShortPicked | LetGoRecalled,
    held: Held,
    back: _Back,
    cause: DeallocationCause,
    *,
    lost: tuple[str, datetime] | None = None,
    answers: str | None = None,
    avoid: bool = True,
) -> None:
    """What cancellations have called off is let go under them, the others are reserved again.

    If units are `lost` (why, when), these others give way before any other order; OrderDeallocated covers only what is
    kept.
    """
    order_id, fulfillment_id = command.order_id, command.fulfillment_id
    claims = work.reservation(order_id).lines
    for line_id, units in back.all.items():
        sku, again = claims[line_id].line.sku, back.others.get(line_id, 0)
        shelf = work.stock(sku).shelf(held.location)
        if units > again:
            _let_go(work, order_id, units_of(claims[line_id].line, units - again), "allocated", held.location)
        if again:
            work.record(
                StockDeallocated(sku=sku, order_id=order_id, line_id=line_id, quantity=again, location=held.location)
            )
        if lost and not shelf.counted_since(lost[1]):
            # Units allocated beyond those on hand were known to be missing: a count has booked them off.
            missing = min(units - max(-shelf.unallocated, 0), shelf.on_hand)
            if missing > 0:
                work.record(
                    StockAdjusted(
                        sku=sku,
                        location=held.location,
                        delta=-missing,
                        reason=lost[0],
                        reference=fulfillment_id,
                        happened_at=lost[1],
                    )
                )
    for cancellation_id, by_line in back.canceled.items():
        work.record(
            OrderLetGo(
                order_id=order_id,
                cause="canceled",
                lines=tuple(units_of(claims[line_id].line, units) for line_id, units in by_line.items()),
                cancellation_id=cancellation_id,
                fulfillment_id=fulfillment_id,
                answers=answers,
            )
        )
    first = {claim_key(order_id, line_id): units for line_id, units in back.others.items()} if lost else {}
    outcome = balance(work, sorted({claims[line_id].line.sku for line_id in back.all}), first)
    # An answer is told whole, so that it counts as given; what of it gives way is told as of any order.
    gave_way = outcome.gave_way.get(order_id, {}) if answers is None else {}
    gone = {line_id: min(units, gave_way.get(line_id, 0)) for line_id, units in back.others.items()}
    kept = tuple(
        part_of(claims[line_id].line, units - gone[line_id])
        for line_id, units in back.others.items()
        if units > gone[line_id]
    )
    if kept:
        work.record(
            OrderDeallocated(
                order_id=order_id,
                fulfillment_id=fulfillment_id,
                location=held.location,
                cause=cause,
                lines=kept,
                answers=answers,
                avoid=avoid,
            )
        )
    lost_lines = tuple(units_of(claims[line_id].line, units) for line_id, units in gone.items() if units)
    if lost_lines:
        tell_gave_way(work, order_id, lost_lines, fulfillment_id)
        for part in lost_lines:
            gave_way[part.line_id] -= part.quantity
    outcome.tell(work)


def _cancel(work: Work, command: CancelUnits) -> None:
    """What no location holds is let go at once, allocated units are recalled, for what has shipped it is too late.

    Units that are called off already are asked for last: who had packed them may be able to give them back by now. The
    cancellation that had called them off is told, since what comes of them will answer another.

    Units that no location can ship are reserved ones. Those that are not any more, for it crossed with what became of
    them, stay as they are.
    """
    order_id, cancellation_id = command.order_id, command.cancellation_id
    reservation = work.reservation(order_id)
    if reservation.opened is None and reservation.refused is None:
        raise OrderNotReserved(order_id)
    if cancellation_mark(cancellation_id) in reservation.settled:
        return
    freed: list[LineQuantity] = []
    waited: list[LineQuantity] = []
    recalled: dict[str, ByLine] = {}
    too_late: list[LineQuantity] = []
    for line_id, asked in _sum(command.lines).items():
        claim = reservation.lines.get(line_id)
        if claim is None:
            continue
        unroutable = command.cause == "unroutable"
        waiting = 0 if unroutable else min(asked, claim.backordered)
        free = min(asked, claim.reserved + waiting)
        if free > waiting:
            _let_go(work, order_id, units_of(claim.line, free - waiting), "reserved")
        if waiting:
            waited.append(units_of(claim.line, waiting))
            _let_go(work, order_id, waited[-1], "backordered")
        if free:
            freed.append(units_of(claim.line, free))
        rest = asked - free
        if unroutable:
            if rest:
                too_late.append(units_of(claim.line, rest))
            continue
        for called_off in (False, True):
            for fulfillment_id, held in sorted(reservation.held.items()):
                units = min(rest, held.recalled(line_id) if called_off else held.recallable(line_id))
                if units:
                    of_line = recalled.setdefault(fulfillment_id, {})
                    of_line[line_id] = of_line.get(line_id, 0) + units
                    rest -= units
        if beyond := min(rest, claim.shipped):
            too_late.append(units_of(claim.line, beyond))
    if freed:
        work.record(
            OrderLetGo(
                order_id=order_id,
                cause=command.cause,
                lines=tuple(freed),
                cancellation_id=cancellation_id,
                backordered=tuple(waited),
            )
        )
    taken_over: dict[str, ByLine] = {}
    for fulfillment_id, by_line in recalled.items():
        for earlier, lost in reservation.held[fulfillment_id].taken_over(by_line).items():
            of_earlier = taken_over.setdefault(earlier, {})
            for line_id, units in lost.items():
                of_earlier[line_id] = of_earlier.get(line_id, 0) + units
        work.record(
            AllocationRecalled(
                order_id=order_id,
                fulfillment_id=fulfillment_id,
                cancellation_id=cancellation_id,
                lines=tuple(units_of(reservation.lines[line_id].line, units) for line_id, units in by_line.items()),
            )
        )
    for earlier, lost in taken_over.items():
        work.record(
            CancellationTooLate(
                order_id=order_id,
                cancellation_id=earlier,
                lines=tuple(units_of(reservation.lines[line_id].line, units) for line_id, units in lost.items()),
                taken_over_by=cancellation_id,
            )
        )
    if too_late:
        work.record(CancellationTooLate(order_id=order_id, cancellation_id=cancellation_id, lines=tuple(too_late)))
    balance(work, _skus(freed)).tell(work)


def _held(work: Work, order_id: str, fulfillment_id: str) -> Held:
    held = work.reservation(order_id).held.get(fulfillment_id)
    if held is None:
        raise FulfillmentNotAllocated(order_id, fulfillment_id)
    return held


def _let_go(
    work: Work,
    order_id: str,
    part: LineQuantity,
    was: Literal["reserved", "backordered", "allocated"],
    location: str | None = None,
) -> None:
    work.record(
        StockLetGo(
            sku=part.sku,
            order_id=order_id,
            line_id=part.line_id,
            quantity=part.quantity,
            was=was,
            location=location,
        )
    )


def _sum(lines: Iterable[LineQuantity]) -> ByLine:
    units: ByLine = {}
    for line in lines:
        units[line.line_id] = units.get(line.line_id, 0) + line.quantity
    return units


def _cut(lines: Iterable[LineQuantity], held: Mapping[str, int]) -> ByLine:
    """Units by line, none beyond what is held."""
    cut = {line_id: min(units, held.get(line_id, 0)) for line_id, units in _sum(lines).items()}
    return {line_id: units for line_id, units in cut.items() if units > 0}


def _skus(lines: Iterable[LineQuantity]) -> list[str]:
    return sorted({line.sku for line in lines})
