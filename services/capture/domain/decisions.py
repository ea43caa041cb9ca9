"""What may become of an order: is it new, is it sound, may it go on, what is called off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, assert_never

from pydantic import TypeAdapter

from ordermill.contracts.capture import (
    CancellationDeclined,
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    CancellationRequested,
    ChannelRefunded,
    Event,
    HoldReason,
    HoldReleased,
    OrderChangeParked,
    OrderChangeRefused,
    OrderChangeSettled,
    OrderHeld,
    OrderLine,
    OrderLinesCanceled,
    OrderRejected,
    OrderReleased,
    OrderRevised,
    OrderUnitsShipped,
    ReleasedLine,
)
from ordermill.contracts.channel import LineChange, OrderCanceled, OrderChanged, Payment
from ordermill.contracts.fields import MAX_MINOR, Destination, LineQuantity, Money
from ordermill.ids import derived_id
from ordermill.money import RefundStage, first_units, goods_of, range_of_units, total_of
from ordermill.replacing import replace

from ..errors import (
    AlreadyReleased,
    ChangeNotRefused,
    OrderEnded,
    OrderUnknown,
    RefundPaidAlready,
    RefundUnknown,
    TooManyParked,
)
from .commands import (
    CancelOrder,
    CaptureExchange,
    CaptureOrder,
    ChangeOrder,
    Command,
    ForgetCustomer,
    HoldOrder,
    RecordCancellationDeclined,
    RecordForgetFailed,
    RecordForgotten,
    RecordLetGo,
    RecordRefunded,
    RecordRefundFailed,
    RecordRefusal,
    RecordShipped,
    RecordUnroutable,
    ReleaseHold,
    RetryRefund,
    SettleChange,
)
from .forgetting import decide_forgetting
from .funds import draws, held_in, shares
from .intake import MAX_UNITS, as_order, captured, content_hash_of, faults_of
from .order import Memory, Order, Parked, Stage, beyond_reach, fold, moved_funds, refund_of, worth_of

MAX_PARKED = 50
"""Most changes that wait for one order to come."""

_PARKABLE: dict[str, TypeAdapter[ChangeOrder | CancelOrder]] = {
    OrderChanged.type: TypeAdapter(ChangeOrder),
    OrderCanceled.type: TypeAdapter(CancelOrder),
}
"""How a change rests in OrderChangeParked, by the channel's type of it."""


def decide(order: Order, command: Command) -> list[Event]:
    """The events that `command` causes; `[]` if it is already so.

    Raises OrderUnknown, AlreadyReleased, OrderEnded, TooManyParked, RefundUnknown, RefundPaidAlready, ChangeNotRefused,
    StillToShip.
    """
    match command:
        case CaptureOrder():
            return _capture(order, command)
        case CaptureExchange():
            return _capture(order, as_order(command))
        case ChangeOrder() | CancelOrder() if order.stage is Stage.UNKNOWN:
            return _park(order, command)
        case _ if order.stage is Stage.UNKNOWN:
            raise OrderUnknown(command.order_id)
        case ChangeOrder():
            return _released_if_free(order, _change(order, command))
        case CancelOrder():
            return _given_back_and_canceled(order, command)
        case HoldOrder():
            return _hold(order, command)
        case ReleaseHold():
            standing = any(hold.reason is command.reason for hold in order.holds)
            lifted = HoldReleased(order_id=order.order_id, reason=command.reason, note=command.note)
            return _released_if_free(order, [lifted] if standing else [])
        case RecordLetGo():
            return _let_go(order, command)
        case RecordRefusal():
            return _cancel_now(order, "out-of-stock", _clip(order, _all_lines(order), order.here_of), "out-of-stock")
        case RecordUnroutable():
            return _call_off_unroutable(order, command)
        case RecordCancellationDeclined():
            return _decline(order, command)
        case RecordShipped():
            return _ship(order, command)
        case RecordRefunded() | RecordRefundFailed():
            return _settle_refund(order, command)
        case RetryRefund():
            return _retry_refund(order, command)
        case SettleChange():
            return _settle_change(order, command)
        case ForgetCustomer() | RecordForgotten() | RecordForgetFailed():
            return decide_forgetting(order, command)
        case _:
            assert_never(command)


def _capture(order: Order, command: CaptureOrder) -> list[Event]:
    content_hash = content_hash_of(command)
    if order.stage is not Stage.UNKNOWN:
        return _placed_again(order, command, content_hash)
    if reasons := faults_of(command):
        first: Event = OrderRejected(
            order_id=command.order_id,
            channel=command.channel,
            external_id=command.external_id,
            reasons=reasons,
            content_hash=content_hash,
        )
        events = [first]
    else:
        events = [captured(command, content_hash), *_holds_at_capture(command)]
    now = fold(order, events)
    for change in _in_order(order.parked):
        more = _change(now, change) if isinstance(change, ChangeOrder) else _given_back_and_canceled(now, change)
        now = fold(now, more)
        events += more
    if now.stage is Stage.HELD and not now.holds:
        events.append(_release(now))
    return events


def _placed_again(order: Order, command: CaptureOrder, content_hash: str) -> list[Event]:
    """A repeat is no news. Other content under the same id changes nothing: only a revision says what is newer."""
    change_id = f"placed:{content_hash[:32]}"
    if content_hash == order.content_hash or change_id in order.refused:
        return []
    was = f"whose total is {order.total}" if order.total else "which was rejected"
    reason = (
        f"{command.channel} placed its order {command.external_id} again with other content (total {command.total}). "
        f"It is taken once and stands as it is, {was}. Send a change with a revision, or a new external id."
    )
    return [OrderChangeRefused(order_id=command.order_id, change_id=change_id, reason=reason[:500])]


def _holds_at_capture(command: CaptureOrder) -> list[Event]:
    order_id = command.order_id
    holds: list[Event] = []
    if command.payment.status == "pending":
        holds.append(_payment_hold(order_id))
    if command.risk == "high":
        holds.append(OrderHeld(order_id=order_id, reason=HoldReason.FRAUD_RISK, note="the channel rates the risk high"))
    if command.address_faults:
        holds.append(_address_hold(order_id, command.address_faults))
    if command.hold:
        holds.append(OrderHeld(order_id=order_id, reason=HoldReason.MANUAL, note=command.hold))
    return holds


def _payment_hold(order_id: str) -> OrderHeld:
    return OrderHeld(order_id=order_id, reason=HoldReason.PAYMENT, note="payment is pending")


def _address_hold(order_id: str, faults: tuple[str, ...]) -> OrderHeld:
    return OrderHeld(order_id=order_id, reason=HoldReason.BAD_ADDRESS, note="; ".join(faults)[:500])


def _park(order: Order, command: ChangeOrder | CancelOrder) -> list[Event]:
    if isinstance(command, ChangeOrder):
        change_type, change_id = OrderChanged.type, _revision_id(command.revision)
    else:
        change_type, change_id = OrderCanceled.type, command.cancellation_id
    if any(waiting.change_type == change_type and waiting.change_id == change_id for waiting in order.parked):
        return []
    if len(order.parked) >= MAX_PARKED:
        raise TooManyParked(command.order_id, MAX_PARKED)
    change = _PARKABLE[change_type].dump_json(command).decode()
    return [OrderChangeParked(order_id=command.order_id, change_id=change_id, change_type=change_type, change=change)]


def _in_order(parked: tuple[Parked, ...]) -> list[ChangeOrder | CancelOrder]:
    """As they were meant: changes by revision, cancellations among them by when they were made.

    What a channel changed in the same moment is what it wants without the units that it canceled.
    """
    commands = [_PARKABLE[waiting.change_type].validate_json(waiting.change) for waiting in parked]
    timed: list[tuple[datetime, bool, ChangeOrder | CancelOrder]] = []
    for change in sorted((c for c in commands if isinstance(c, ChangeOrder)), key=lambda c: c.revision):
        timed.append((max(timed[-1][0], change.changed_at) if timed else change.changed_at, True, change))
    timed += [(c.canceled_at, False, c) for c in commands if isinstance(c, CancelOrder)]
    return [command for *_, command in sorted(timed, key=lambda one: one[:2])]


def _revision_id(revision: int) -> str:
    return f"revision:{revision}"


def _change(order: Order, command: ChangeOrder) -> list[Event]:
    """All of the change or, with a reason, none of it."""
    change_id = _revision_id(command.revision)
    stale = command.revision <= order.revision
    if stale or change_id in order.refused or change_id in order.cancellations:
        return []
    if order.customer is not Memory.KEPT:
        command = replace(command, destination=None, address_faults=())  # nothing personal of it is taken in again
    command = replace(command, lines=tuple(_wanted_now(order, line, command.changed_at) for line in command.lines))
    wanted = {change.line_id: change.quantity for change in command.lines}
    if order.stage in (Stage.REJECTED, Stage.CANCELED):
        return [_refused(order, change_id, f"the order is {order.stage}")] if _is_news(order, command) else []
    if unknown := sorted(line_id for line_id in wanted if line_id not in order.places):
        return [_refused(order, change_id, f"the order has no line {', '.join(unknown)}")]
    if len(wanted) != len(command.lines):
        return [_refused(order, change_id, "a line is named more than once")]
    paid = command.payment.paid if command.payment else None
    if paid is not None and (paid.minor < 0 or paid.currency != _currency(order)):
        return [_refused(order, change_id, f"{paid} are said to be paid, of an order in {_currency(order)}")]
    if order.stage is Stage.RELEASED:
        return _change_released(order, command, wanted)
    return _revise(order, command, wanted)


def _wanted_now(order: Order, told: LineChange, at: datetime) -> LineChange:
    """What the channel wanted of a line at that time, less what it has called off since: word of that came first."""
    since = sum(units for called_off_at, units in order.called_off.get(told.line_id, ()) if called_off_at > at)
    return told.model_copy(update={"quantity": max(0, told.quantity - since)}) if since else told


def _is_news(order: Order, command: ChangeOrder) -> bool:
    """Of an order that has ended: whether the change says more than how it was paid, which is known."""
    paid = order.payment is None or command.payment is None or command.payment.status == order.payment.status
    return bool(command.lines) or command.destination is not None or not paid


def _refused(order: Order, change_id: str, reason: str, **about: Any) -> OrderChangeRefused:
    return OrderChangeRefused(order_id=order.order_id, change_id=change_id, reason=reason[:500], **about)


def _change_released(order: Order, command: ChangeOrder, wanted: dict[str, int]) -> list[Event]:
    """Stock is claimed: units can only be called off. How it is paid may still change, that moves no goods."""
    change_id = _revision_id(command.revision)
    if command.destination is not None and not _same_place(order.destination, command.destination):
        return [_refused(order, change_id, "the address can't change after release; cancel and order anew")]
    fewer: list[tuple[str, int]] = []
    for line_id, quantity in wanted.items():
        line = order.lines[order.places[line_id]]
        wanted_so_far = order.open_of(line) - order.requested.get(line_id, 0)
        if quantity > order.wanted.get(line_id, line.quantity):
            more = f"line {line_id}: {quantity} wanted, {wanted_so_far} ordered; no more can be had after release"
            return [_refused(order, change_id, more)]
        fewer.append((line_id, wanted_so_far - _wanted_of(order, line, wanted_so_far, quantity)))
    events: list[Event] = []
    if any(units for _, units in fewer):
        off = {line_id: order.wanted.get(line_id, 0) - quantity for line_id, quantity in wanted.items()}
        off_before = tuple(_off_before(order, off))
        events = _request(order, change_id, fewer, "changed by the channel", command.revision, off_before)
        if not events:
            return [_refused(order, change_id, "the units to take off have shipped; they can be returned")]
    if not events or _payment(order, command) != order.payment:
        events.append(_revised(order, command, order.lines))
    return events


def _wanted_of(order: Order, line: OrderLine, now: int, told: int | None) -> int:
    """How many of a line's `now` units are wanted after the channel told a number, or none.

    It tells whole numbers, over and over, and need not know what was called off here: only a number other than its last
    one is news, and a greater one asks for so many more than it did.
    """
    before = order.wanted.get(line.line_id, line.quantity)
    if told is None or told == before:
        return now
    return now + told - before if told > before else min(now, told)


def _same_place(known: Destination | None, told: Destination) -> bool:
    """Channels repeat the whole order with each change; sealed anew, the same address is other bytes."""
    if known is None or told.fingerprint is None:
        return False
    return known.model_copy(update={"addressee": None}) == told.model_copy(update={"addressee": None})


def _revise(order: Order, command: ChangeOrder, wanted: dict[str, int]) -> list[Event]:
    change_id = _revision_id(command.revision)
    lines: list[OrderLine] = []
    left = 0
    for line in order.lines:
        now = order.open_of(line)
        units = _wanted_of(order, line, now, wanted.get(line.line_id))
        left += units
        if units < (shipped := order.shipped.get(line.line_id, 0)):
            gone = f"line {line.line_id}: {shipped} units have shipped; they can be returned"
            return [_refused(order, change_id, gone)]
        if units == now:
            lines.append(line)
        elif units > now == 0:
            gone = f"line {line.line_id}: canceled, it does not come back; order it anew"
            return [_refused(order, change_id, gone)]
        elif units > now and _too_large(line, units, now):
            return [_refused(order, change_id, f"line {line.line_id}: {units} units are beyond any order")]
        elif units or line.quantity > now:
            lines.append(_resized(line, now, units))
    if left == 0:
        return _cancel_now(order, change_id, _clip(order, _all_lines(order), order.here_of), "changed to nothing")
    cost = sum(total_of(line, order.tax_included).minor for line in lines)
    if sum(line.quantity for line in lines) > MAX_UNITS or _carriage(order) + cost > MAX_MINOR:
        return [_refused(order, change_id, "beyond the size of any order")]
    revised = _revised(order, command, tuple(lines))
    after = fold(order, [revised])
    back = _refunds(after, ("revision", str(command.revision)), after.held_minor - after.owed_minor)
    return [revised, *back, *_holds_after_change(order, after, command)]


def _holds_after_change(order: Order, after: Order, command: ChangeOrder) -> list[Event]:
    """Only what the change says moves a hold: news of the payment, or another address. Each address is judged anew."""
    order_id = order.order_id
    standing = {hold.reason for hold in order.holds}
    events: list[Event] = []
    if after.charged and HoldReason.PAYMENT in standing:
        events.append(HoldReleased(order_id=order_id, reason=HoldReason.PAYMENT, note="payment has come"))
    elif order.charged and not after.charged and HoldReason.PAYMENT not in standing:
        events.append(_payment_hold(order_id))
    if command.destination is not None:
        if command.address_faults and HoldReason.BAD_ADDRESS not in standing:
            events.append(_address_hold(order_id, command.address_faults))
        elif not command.address_faults and HoldReason.BAD_ADDRESS in standing:
            corrected = HoldReleased(order_id=order_id, reason=HoldReason.BAD_ADDRESS, note="the address was corrected")
            events.append(corrected)
    return events


def _revised(order: Order, command: ChangeOrder, lines: tuple[OrderLine, ...]) -> OrderRevised:
    assert order.shipping is not None and order.shipping_tax is not None
    assert order.destination is not None and order.payment is not None
    amounts = (*(total_of(line, order.tax_included) for line in lines), order.shipping, order.shipping_tax)
    revised = OrderRevised(
        order_id=order.order_id,
        revision=command.revision,
        destination=command.destination or order.destination,
        lines=lines,
        total=Money.sum(amounts, _currency(order)),
        payment=_payment(order, command),
        wanted=command.lines,
    )
    after = fold(order, [revised])
    unpaid = after.unpaid_minor if after.charged else max(0, after.owed_minor - _paid(order, command))
    revised = revised.model_copy(update={"unpaid": _unpaid(order, unpaid, after.charged)})
    funds = shares(fold(order, [revised]).funds, revised.payment.reference, _currency(order))
    return revised.model_copy(update={"funds": funds})


def _payment(order: Order, command: ChangeOrder) -> Payment:
    """As the change tells it. One that names no payment speaks of the one that is known."""
    assert order.payment is not None
    told = command.payment or order.payment
    return told.model_copy(update={"reference": told.reference or order.payment.reference})


def _paid(order: Order, command: ChangeOrder) -> int:
    """What was paid of an order whose payment is pending after this change. Nothing moves by an authorization."""
    assert order.payment is not None
    if command.payment is not None and command.payment.paid is not None:
        return command.payment.paid.minor
    return held_in(moved_funds(order))


def _unpaid(order: Order, minor: int, charged: bool) -> Money | None:
    """To be told where it is not plain that nothing is."""
    if charged and not minor and not order.ahead_minor:
        return None
    return Money(minor=minor, currency=_currency(order))


def _carriage(order: Order) -> int:
    return sum(amount.minor for amount in (order.shipping, order.shipping_tax) if amount)


def _too_large(line: OrderLine, units: int, now: int) -> bool:
    of = units + line.quantity - now
    return of > MAX_UNITS or line.unit_price.minor * of > MAX_MINOR or line.tax.minor * of > MAX_MINOR * now


def _resized(line: OrderLine, now: int, units: int) -> OrderLine:
    """The line with `units` open units instead of `now`; its canceled ones stay.

    Fewer: goods and tax keep the share of the first units, so the refund is that of canceling the others. More: at the
    unit price without further discount, and tax grows with the units; the channel that knows better sends a new order.
    """
    canceled = line.quantity - now
    goods = first_units(goods_of(line), min(units, now), line.quantity)
    tax = first_units(line.tax, min(units, now), line.quantity)
    if units == 0:
        whole_goods = range_of_units(goods_of(line), now, line.quantity, line.quantity)
        whole_tax = range_of_units(line.tax, now, line.quantity, line.quantity)
    else:
        if units > now:
            goods += line.unit_price * (units - now)
            tax = tax * (units // now) + first_units(tax, units % now, now)
        whole_goods = _with_canceled(goods, units, units + canceled)
        whole_tax = _with_canceled(tax, units, units + canceled)
    discount = line.unit_price * (units + canceled) - whole_goods
    return line.model_copy(update={"quantity": units + canceled, "discount": discount, "tax": whole_tax})


def _with_canceled(amount: Money, units: int, of: int) -> Money:
    """The least amount in which the first `units` of `of` units share exactly `amount`: `first_units` turned round."""
    return Money(minor=-(-amount.minor * of // units), currency=amount.currency)


def _given_back_and_canceled(order: Order, command: CancelOrder) -> list[Event]:
    events: list[Event] = list(_given_back(order, command))
    return events + _cancel(fold(order, events), command)


def _given_back(order: Order, command: CancelOrder) -> Iterator[ChannelRefunded]:
    """What the channel has refunded is ours no more, whatever becomes of the cancellation."""
    refund_id = derived_id("refund", order.order_id, "channel", command.cancellation_id)
    amount = command.refunded
    if amount is None or amount.minor <= 0 or not order.held_minor or refund_id in order.refunds:
        return
    if amount.currency != _currency(order):
        return
    minor = min(amount.minor, order.held_minor)
    yield ChannelRefunded(
        order_id=order.order_id,
        refund_id=refund_id,
        cancellation_id=command.cancellation_id,
        amount=Money(minor=minor, currency=amount.currency),
        unpaid=Money(minor=order.unpaid_minor + minor, currency=amount.currency),
    )


def _cancel(order: Order, command: CancelOrder) -> list[Event]:
    cancellation_id = command.cancellation_id
    if cancellation_id in order.cancellations or cancellation_id in order.refused:
        return []
    if order.stage in (Stage.REJECTED, Stage.CANCELED):
        return []
    if unknown := sorted({change.line_id for change in command.lines if change.line_id not in order.places}):
        why = f"the order has no line {', '.join(unknown)}"
        return [_refused(order, cancellation_id, why, by_channel=command.by_channel)]
    wanted = _units_of(command.lines) if command.lines else dict(_all_lines(order))
    off_before, at = None, None
    if command.by_channel:
        at = command.canceled_at
        off_before = tuple(_off_before(order, _units_of(command.lines)))
        for line in off_before:
            wanted[line.line_id] -= line.quantity
        if off_before and not any(wanted.values()):
            why = "these units were called off here before"
            return [_refused(order, cancellation_id, why, off_before=off_before, called_off_at=at)]
    if order.stage is Stage.HELD:
        lines = _clip(order, wanted.items(), order.here_of)
        return _cancel_now(order, cancellation_id, lines, command.reason, off_before=off_before, at=at)
    events = _request(order, cancellation_id, wanted.items(), command.reason, off_before=off_before, at=at)
    if not events and any(units and order.shipped.get(line_id, 0) for line_id, units in wanted.items()):
        why = "these units have shipped; they can be returned"
        return [_refused(order, cancellation_id, why, by_channel=command.by_channel)]
    return events


def _units_of(lines: Iterable[LineChange]) -> dict[str, int]:
    units: dict[str, int] = {}
    for line in lines:
        units[line.line_id] = units.get(line.line_id, 0) + line.quantity
    return units


def _off_before(order: Order, fewer: dict[str, int]) -> Iterator[LineChange]:
    """Of so many units that the channel calls off, those that were called off here and it had not known of."""
    for line_id, units in fewer.items():
        line = order.lines[order.places[line_id]]
        wanted_here = order.open_of(line) - order.requested.get(line_id, 0)
        if known := min(units, max(0, order.wanted.get(line_id, line.quantity) - wanted_here)):
            yield LineChange(line_id=line_id, quantity=known)


def _cancel_now(
    order: Order,
    cancellation_id: str,
    lines: tuple[LineQuantity, ...],
    reason: str,
    source_id: str | None = None,
    off_before: tuple[LineChange, ...] | None = None,
    at: datetime | None = None,
) -> list[Event]:
    """`off_before` and `at`: where the channel calls them off."""
    if not lines:
        return []
    refund = refund_of(order, lines)
    owed = order.owed_minor - worth_of(order, lines)
    canceled = OrderLinesCanceled(
        order_id=order.order_id,
        cancellation_id=cancellation_id,
        lines=lines,
        reason=reason,
        whole_order=sum(part.quantity for part in lines) == order.open_units,
        refund=refund,
        source_id=source_id,
        unpaid=_unpaid(order, max(0, owed - order.held_minor), order.charged),
        by_channel=off_before is not None,
        off_before=off_before or (),
        called_off_at=at,
    )
    return [canceled, *_refunds(order, ("cancellation", cancellation_id, source_id or ""), refund.minor)]


def _refunds(order: Order, cause: tuple[str, ...], minor: int) -> list[CancellationRefundRequested]:
    """So much goes back, to each payment no more than it brought."""
    return [
        CancellationRefundRequested(
            order_id=order.order_id,
            refund_id=derived_id("refund", order.order_id, *cause, *([str(number)] if number else [])),
            payment_reference=fund.reference,
            amount=Money(minor=fund.minor, currency=_currency(order)),
        )
        for number, fund in enumerate(draws(order.funds, minor))
    ]


def _request(
    order: Order,
    cancellation_id: str,
    wanted: Iterable[tuple[str, int]],
    reason: str,
    revision: int | None = None,
    off_before: tuple[LineChange, ...] | None = None,
    at: datetime | None = None,
) -> list[Event]:
    lines = _clip(order, wanted, order.cancelable_of)
    return _requested(order, cancellation_id, lines, reason, revision, off_before, at)


def _call_off_unroutable(order: Order, command: RecordUnroutable) -> list[Event]:
    """Also units called off before: no location holds them, so none will answer for them."""
    if order.stage is not Stage.RELEASED:
        return []
    lines = _clip(order, _pairs(command.lines), order.here_of)
    return _requested(order, f"unroutable:{command.plan_id}"[:120], lines, "unroutable")


def _requested(
    order: Order,
    cancellation_id: str,
    lines: tuple[LineQuantity, ...],
    reason: str,
    revision: int | None = None,
    off_before: tuple[LineChange, ...] | None = None,
    at: datetime | None = None,
) -> list[Event]:
    if not lines or cancellation_id in order.cancellations:
        return []
    return [
        CancellationRequested(
            order_id=order.order_id,
            cancellation_id=cancellation_id,
            lines=lines,
            reason=reason,
            revision=revision,
            by_channel=off_before is not None,
            off_before=off_before or (),
            called_off_at=at,
        )
    ]


def _let_go(order: Order, command: RecordLetGo) -> list[Event]:
    """Units without a claim are never shipped, so they are canceled even if no one asked, or we had given up asking."""
    if command.source_id in order.sources:
        return []
    cancellation_id = command.cancellation_id or f"{command.cause}:{command.source_id}"[:120]
    asked = order.cancellations.get(cancellation_id)
    lines = _clip(order, _pairs(command.lines), order.here_of)
    return _cancel_now(order, cancellation_id, lines, asked.reason if asked else command.cause, command.source_id)


def _decline(order: Order, command: RecordCancellationDeclined) -> list[Event]:
    asked = order.cancellations.get(command.cancellation_id)
    if asked is None or command.source_id in order.sources:
        return []
    lines = _clip(order, _pairs(command.lines), lambda line: asked.pending.get(line.line_id, 0))
    if not lines:
        return []
    return [_declined(order, command.source_id, command.cancellation_id, lines, command.taken_over_by)]


def _declined(
    order: Order,
    source_id: str,
    cancellation_id: str,
    lines: tuple[LineQuantity, ...],
    taken_over_by: str | None = None,
) -> CancellationDeclined:
    return CancellationDeclined(
        order_id=order.order_id,
        cancellation_id=cancellation_id,
        lines=lines,
        source_id=source_id,
        taken_over_by=taken_over_by,
    )


def _ship(order: Order, command: RecordShipped) -> list[Event]:
    """What has shipped answers every cancellation that still hoped for it."""
    if command.source_id in order.sources:
        return []
    lines = _clip(order, _pairs(command.lines), order.here_of)
    if not lines:
        return []
    shipped = OrderUnitsShipped(
        order_id=order.order_id, source_id=command.source_id, fulfillment_id=command.fulfillment_id, lines=lines
    )
    too_late = beyond_reach(fold(order, [shipped]), lines)
    return [shipped, *(_declined(order, command.source_id, asked, parts) for asked, parts in too_late.items())]


def _hold(order: Order, command: HoldOrder) -> list[Event]:
    if order.stage is Stage.RELEASED:
        raise AlreadyReleased(command.order_id)
    if order.stage is not Stage.HELD:
        raise OrderEnded(command.order_id, order.stage)
    if any(hold.reason is command.reason for hold in order.holds):
        return []
    return [OrderHeld(order_id=order.order_id, reason=command.reason, note=command.note)]


def _settle_refund(order: Order, command: RecordRefunded | RecordRefundFailed) -> list[Event]:
    """The first answer counts, but money that went back after all, by another hand, is news."""
    refund = order.refunds.get(command.refund_id)
    if refund is None:
        raise RefundUnknown(command.order_id, command.refund_id)
    if isinstance(command, RecordRefunded):
        if refund.stage is RefundStage.PAID:
            return []
        return [
            CancellationRefunded(
                order_id=order.order_id,
                refund_id=command.refund_id,
                amount=command.amount,
                provider_reference=command.provider_reference,
                refunded_at=command.refunded_at,
            )
        ]
    if refund.stage is not RefundStage.PENDING:
        return []
    return [CancellationRefundFailed(order_id=order.order_id, refund_id=command.refund_id, reason=command.reason)]


def _retry_refund(order: Order, command: RetryRefund) -> list[Event]:
    """The same refund again, word for word: under its id a provider that did act says so, and pays nothing twice."""
    refund = order.refunds.get(command.refund_id)
    if refund is None:
        raise RefundUnknown(command.order_id, command.refund_id)
    if refund.stage is RefundStage.PAID:
        raise RefundPaidAlready(command.order_id, command.refund_id)
    if refund.stage is RefundStage.PENDING:
        return []
    assert order.total is not None
    return [
        CancellationRefundRequested(
            order_id=order.order_id,
            refund_id=command.refund_id,
            payment_reference=refund.payment_reference,
            amount=Money(minor=refund.minor, currency=order.total.currency),
        )
    ]


def _settle_change(order: Order, command: SettleChange) -> list[Event]:
    reason = order.refused.get(command.change_id)
    if reason is None:
        raise ChangeNotRefused(command.order_id, command.change_id, sorted(order.to_settle.values()))
    if reason in order.settled:
        return []
    return [OrderChangeSettled(order_id=order.order_id, change_id=command.change_id, reason=reason, note=command.note)]


def _released_if_free(order: Order, events: list[Event]) -> list[Event]:
    """`events`, and the release if they leave nothing that holds the order."""
    if not events or order.stage is not Stage.HELD:
        return events
    after = fold(order, events)
    return [*events, _release(after)] if after.stage is Stage.HELD and not after.holds else events


def _release(order: Order) -> OrderReleased:
    assert order.placed_at is not None and order.destination is not None
    lines = tuple(
        ReleasedLine(line_id=line.line_id, sku=line.sku, title=line.title, quantity=units, weight_g=line.weight_g)
        for line in order.lines
        if (units := order.open_of(line))
    )
    return OrderReleased(
        order_id=order.order_id,
        channel=order.channel,
        external_id=order.external_id,
        placed_at=order.placed_at,
        destination=order.destination,
        lines=lines,
        service_level=order.service_level,
        allow_backorder=order.allow_backorder,
    )


def _currency(order: Order) -> str:
    assert order.total is not None
    return order.total.currency


def _all_lines(order: Order) -> list[tuple[str, int]]:
    return [(line.line_id, line.quantity) for line in order.lines]


def _pairs(lines: Iterable[LineQuantity]) -> list[tuple[str, int]]:
    return [(part.line_id, part.quantity) for part in lines]


def _clip(
    order: Order, wanted: Iterable[tuple[str, int]], room: Callable[[OrderLine], int]
) -> tuple[LineQuantity, ...]:
    """As many of the wanted units as each line has room for; lines that the order has not are left out."""
    taken: dict[str, int] = {}
    for line_id, units in wanted:
        if line_id in order.places:
            left = room(order.lines[order.places[line_id]])
            taken[line_id] = min(taken.get(line_id, 0) + units, left)
    return tuple(
        LineQuantity(line_id=line_id, sku=order.lines[order.places[line_id]].sku, quantity=units)
        for line_id, units in taken.items()
        if units > 0
    )
