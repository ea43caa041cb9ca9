"""What may become of a channel's order: is it new, is it sound, may it go on, what is called off.

Pure: time and ids come in with the commands, personal data comes in sealed. One stream per order, `order-<order_id>`.

Money follows the units. An order owes the exact share of its units that are not canceled; shipping and its tax go
with the last of them. While it is paid, authorized or invoiced, owed and refunded always add up to what was charged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal, assert_never

import orjson
from immutables import Map
from pydantic import TypeAdapter

from ordermill.contracts.capture import (
    CancellationDeclined,
    CancellationRefunded,
    CancellationRefundFailed,
    CancellationRefundRequested,
    CancellationRequested,
    Event,
    HoldReason,
    HoldReleased,
    OrderCaptured,
    OrderChangeParked,
    OrderChangeRefused,
    OrderHeld,
    OrderLine,
    OrderLinesCanceled,
    OrderRejected,
    OrderReleased,
    OrderRevised,
    OrderUnitsShipped,
    ReleasedLine,
)
from ordermill.contracts.channel import (
    Address,
    ChannelLine,
    LineChange,
    OrderCanceled,
    OrderChanged,
    Payment,
    ServiceLevel,
)
from ordermill.contracts.fields import MAX_MINOR, Destination, LineQuantity, Money, Sealed
from ordermill.contracts.returns import ExchangeLine
from ordermill.decider import Decider
from ordermill.ids import derived_id
from ordermill.money import first_units, goods_of, range_of_units, total_of
from ordermill.pmap import PMap

from .errors import AlreadyReleased, OrderEnded, OrderUnknown, RefundUnknown, TooManyParked

MAX_UNITS = 1_000_000
"""Most units in one order."""

MAX_PARKED = 50
"""Most changes that wait for one order to come."""


@dataclass(frozen=True, slots=True)
class CaptureOrder:
    """Take in what a channel sent. `address_faults` were found in the clear, before the address was sealed."""

    order_id: str
    channel: str
    external_id: str
    placed_at: datetime
    destination: Destination
    lines: tuple[ChannelLine, ...]
    shipping: Money
    shipping_tax: Money
    tax_included: bool
    total: Money
    payment: Payment
    customer_id: str | None = None
    buyer: Sealed | None = None
    service_level: ServiceLevel = ServiceLevel.STANDARD
    allow_backorder: bool = False
    risk: Literal["low", "medium", "high"] = "low"
    address_faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptureExchange:
    """Make an order of the goods that a customer wants instead of returned ones, paid with `credit`."""

    order_id: str
    return_id: str
    placed_at: datetime
    destination: Destination
    lines: tuple[ExchangeLine, ...]
    credit: Money
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeOrder:
    """The channel's change. A line's quantity counts the units still wanted: canceled ones are not among them."""

    order_id: str
    revision: int
    changed_at: datetime
    lines: tuple[LineChange, ...] = ()
    destination: Destination | None = None
    address_faults: tuple[str, ...] = ()
    payment: Payment | None = None


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Call units off: so many of these lines, or all that is left if no line is named."""

    order_id: str
    cancellation_id: str
    canceled_at: datetime
    lines: tuple[LineChange, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HoldOrder:
    order_id: str
    reason: HoldReason
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    order_id: str
    reason: HoldReason
    note: str = ""


@dataclass(frozen=True, slots=True)
class RecordLetGo:
    """Inventory gave up the claims of these units. `source_id` is the id of the event that says so."""

    order_id: str
    source_id: str
    lines: tuple[LineQuantity, ...]
    cause: Literal["canceled", "shortage", "unroutable"]
    cancellation_id: str | None = None


@dataclass(frozen=True, slots=True)
class RecordRefusal:
    """Inventory has not got the goods, and the order may not wait."""

    order_id: str


@dataclass(frozen=True, slots=True)
class RecordUnroutable:
    """No location may or can ship these units."""

    order_id: str
    plan_id: str
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class RecordCancellationDeclined:
    """A location was too far with these units to stop. `source_id` is the id of the event that says so."""

    order_id: str
    source_id: str
    cancellation_id: str
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class RecordShipped:
    """Units left a location. `source_id` is the id of the event that says so."""

    order_id: str
    source_id: str
    fulfillment_id: str
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class RecordRefunded:
    order_id: str
    refund_id: str
    amount: Money
    provider_reference: str
    refunded_at: datetime


@dataclass(frozen=True, slots=True)
class RecordRefundFailed:
    order_id: str
    refund_id: str
    reason: str


Command = (
    CaptureOrder
    | CaptureExchange
    | ChangeOrder
    | CancelOrder
    | HoldOrder
    | ReleaseHold
    | RecordLetGo
    | RecordRefusal
    | RecordUnroutable
    | RecordCancellationDeclined
    | RecordShipped
    | RecordRefunded
    | RecordRefundFailed
)

_PARKABLE: dict[str, TypeAdapter[ChangeOrder | CancelOrder]] = {
    OrderChanged.type: TypeAdapter(ChangeOrder),
    OrderCanceled.type: TypeAdapter(CancelOrder),
}
"""How a change rests in OrderChangeParked, by the channel's type of it."""


class Stage(StrEnum):
    UNKNOWN = "unknown"
    REJECTED = "rejected"
    HELD = "held"
    RELEASED = "released"
    CANCELED = "canceled"


class RefundStage(StrEnum):
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Hold:
    reason: HoldReason
    note: str


@dataclass(frozen=True, slots=True)
class Parked:
    change_id: str
    change_type: str
    change: str


@dataclass(frozen=True, slots=True)
class Cancellation:
    """One calling-off, and the units of it that are not answered yet, by line."""

    reason: str
    pending: PMap[str, int] = field(default_factory=Map)


@dataclass(frozen=True, slots=True)
class Refund:
    """`minor` is what was asked for, and what was paid once it is."""

    minor: int
    stage: RefundStage


@dataclass(frozen=True, slots=True)
class Order:
    """One order after its events so far; `Order()` is an order nobody has heard of."""

    stage: Stage = Stage.UNKNOWN
    order_id: str = ""
    channel: str = ""
    external_id: str = ""
    content_hash: str = ""
    placed_at: datetime | None = None
    customer_id: str | None = None
    destination: Destination | None = None
    lines: tuple[OrderLine, ...] = ()
    places: PMap[str, int] = field(default_factory=Map)
    """Where in `lines` a line is."""
    shipping: Money | None = None
    shipping_tax: Money | None = None
    tax_included: bool = False
    total: Money | None = None
    payment: Payment | None = None
    service_level: ServiceLevel = ServiceLevel.STANDARD
    allow_backorder: bool = False
    holds: tuple[Hold, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why it was rejected."""
    revision: int = 0
    parked: tuple[Parked, ...] = ()
    refused: PMap[str, bool] = field(default_factory=Map)
    canceled: PMap[str, int] = field(default_factory=Map)
    """Units by line, as are the next two."""
    requested: PMap[str, int] = field(default_factory=Map)
    """Called off, not answered yet."""
    shipped: PMap[str, int] = field(default_factory=Map)
    open_units: int = 0
    """Ordered and not canceled; those that have shipped are among them."""
    shipped_units: int = 0
    owed_minor: int = 0
    """The open units' share of the total."""
    refund_minor: int = 0
    """All refunds asked for, whatever became of them."""
    cancellations: PMap[str, Cancellation] = field(default_factory=Map)
    refunds: PMap[str, Refund] = field(default_factory=Map)
    sources: PMap[str, bool] = field(default_factory=Map)
    """Events of others that have had their effect."""

    def open_of(self, line: OrderLine) -> int:
        return line.quantity - self.canceled.get(line.line_id, 0)

    def here_of(self, line: OrderLine) -> int:
        """Units neither canceled nor shipped."""
        return self.open_of(line) - self.shipped.get(line.line_id, 0)

    def cancelable_of(self, line: OrderLine) -> int:
        return self.here_of(line) - self.requested.get(line.line_id, 0)

    @property
    def charged(self) -> bool:
        """Whether money was taken or will be; what is pending was not."""
        return self.payment is not None and self.payment.status != "pending"

    @property
    def charged_minor(self) -> int:
        return self.refund_minor + (self.owed_minor if self.charged else 0)


POSTAL_CODES = {
    "AT": r"\d{4}",
    "AU": r"\d{4}",
    "BE": r"\d{4}",
    "BR": r"\d{5}-?\d{3}",
    "CA": r"[A-Z]\d[A-Z] ?\d[A-Z]\d",
    "CH": r"\d{4}",
    "CN": r"\d{6}",
    "DE": r"\d{5}",
    "DK": r"\d{4}",
    "ES": r"\d{5}",
    "FR": r"\d{5}",
    "GB": r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}",
    "IN": r"\d{3} ?\d{3}",
    "IT": r"\d{5}",
    "JP": r"\d{3}-?\d{4}",
    "MX": r"\d{5}",
    "NL": r"\d{4} ?[A-Z]{2}",
    "NO": r"\d{4}",
    "PL": r"\d{2}-?\d{3}",
    "SE": r"\d{3} ?\d{2}",
    "US": r"\d{5}(-?\d{4})?",
}
"""Shapes by country. Of other countries nothing is asked: many have no postal codes."""

_SHAPES = {country: re.compile(shape, re.ASCII | re.IGNORECASE) for country, shape in POSTAL_CODES.items()}


def address_faults(address: Address) -> tuple[str, ...]:
    """What keeps a parcel from this address, in words that quote nothing personal; () if nothing was found.

    Looks at presence and shape only. Whether the street exists is the carrier's knowledge.
    """
    person, country = address.person, address.country
    faults: list[str] = []
    if not (person.name.strip() or person.company.strip()):
        faults.append("no name or company")
    if not any(part.strip() for part in person.street):
        faults.append("no street")
    if not person.city.strip():
        faults.append("no city")
    if shape := _SHAPES.get(country):
        code = address.postal_code.strip()
        if not code:
            faults.append("no postal code")
        elif not shape.fullmatch(code):
            faults.append(f"{code!r} does not look like a postal code of {country}")
    return tuple(faults)


def refund_of(order: Order, lines: Iterable[LineQuantity]) -> Money:
    """What goes back when these open units are canceled next, to the minor unit; zero while nothing was charged.

    The units are the last open ones of their lines. Goods and tax are shared by unit; shipping and its tax go back
    with the last open unit of the order. Any way of canceling an order unit by unit adds up to what it owed.
    """
    currency = order.total.currency if order.total else "XXX"
    return Money(minor=_worth_of(order, lines) if order.charged else 0, currency=currency)


def _worth_of(order: Order, lines: Iterable[LineQuantity]) -> int:
    units = minor = 0
    for part in lines:
        line = order.lines[order.places[part.line_id]]
        stop = order.open_of(line)
        start = stop - part.quantity
        units += part.quantity
        minor += range_of_units(goods_of(line), start, stop, line.quantity).minor
        if not order.tax_included:
            minor += range_of_units(line.tax, start, stop, line.quantity).minor
    return order.owed_minor if units == order.open_units else minor


def summary(order: Order) -> dict[str, Any]:
    """The order as a list or a page shows it; JSON-able, the same for the same state, personal data sealed."""
    by_stage = dict.fromkeys(RefundStage, 0)
    for refund in order.refunds.values():
        by_stage[refund.stage] += refund.minor
    currency = order.total.currency if order.total else None

    def money(minor: int) -> dict[str, Any] | None:
        return {"minor": minor, "currency": currency} if currency else None

    return {
        "order_id": order.order_id,
        "channel": order.channel,
        "external_id": order.external_id,
        "placed_at": order.placed_at.isoformat() if order.placed_at else None,
        "status": status_of(order),
        "holds": [{"reason": hold.reason.value, "note": hold.note} for hold in order.holds],
        "reasons": list(order.reasons),
        "revision": order.revision,
        "lines": [
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "title": line.title,
                "quantity": line.quantity,
                "canceled": order.canceled.get(line.line_id, 0),
                "cancel_requested": order.requested.get(line.line_id, 0),
                "shipped": order.shipped.get(line.line_id, 0),
            }
            for line in order.lines
        ],
        "total": order.total.model_dump() if order.total else None,
        "payment": order.payment.status if order.payment else None,
        "charged": money(order.charged_minor),
        "refunded": money(by_stage[RefundStage.PAID]),
        "refunds_pending": money(by_stage[RefundStage.PENDING]),
        "refunds_failed": money(by_stage[RefundStage.FAILED]),
        "service_level": order.service_level.value,
        "customer_id": order.customer_id,
        "destination": order.destination.model_dump() if order.destination else None,
    }


def status_of(order: Order) -> str:
    """unknown (only changes of it are known), rejected, held, released, shipped (all that is left), canceled."""
    shipped = order.stage is Stage.RELEASED and order.shipped_units == order.open_units
    return "shipped" if shipped else order.stage.value


def decide(order: Order, command: Command) -> list[Event]:
    """The events that `command` causes; `[]` if it is already so.

    Raises OrderUnknown, AlreadyReleased, OrderEnded, TooManyParked, RefundUnknown.
    """
    match command:
        case CaptureOrder():
            return _capture(order, command)
        case CaptureExchange():
            return _capture(order, _as_order(command))
        case ChangeOrder() | CancelOrder() if order.stage is Stage.UNKNOWN:
            return _park(order, command)
        case _ if order.stage is Stage.UNKNOWN:
            raise OrderUnknown(command.order_id)
        case ChangeOrder():
            return _released_if_free(order, _change(order, command))
        case CancelOrder():
            return _cancel(order, command)
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
            return _request(order, f"unroutable:{command.plan_id}", _pairs(command.lines), "unroutable")
        case RecordCancellationDeclined():
            return _decline(order, command)
        case RecordShipped():
            return _ship(order, command)
        case RecordRefunded() | RecordRefundFailed():
            return _settle_refund(order, command)
        case _:
            assert_never(command)


def _capture(order: Order, command: CaptureOrder) -> list[Event]:
    content_hash = _content_hash(command)
    if order.stage is not Stage.UNKNOWN:
        return _placed_again(order, command, content_hash)
    if reasons := _faults(command):
        first: Event = OrderRejected(
            order_id=command.order_id,
            channel=command.channel,
            external_id=command.external_id,
            reasons=reasons,
            content_hash=content_hash,
        )
        events = [first]
    else:
        events = [_captured(command, content_hash), *_holds_at_capture(command)]
    now = _fold(order, events)
    for change in _in_order(order.parked):
        more = _change(now, change) if isinstance(change, ChangeOrder) else _cancel(now, change)
        now = _fold(now, more)
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


def _content_hash(command: CaptureOrder) -> str:
    """Of all that is in the clear and matters. What is sealed looks different each time it is sealed."""
    destination, payment = command.destination, command.payment
    content = (
        command.placed_at.timestamp(),
        [
            (line.line_id, line.sku, line.quantity, line.unit_price.minor, line.discount.minor, line.tax.minor)
            for line in command.lines
        ],
        (command.shipping.minor, command.shipping_tax.minor, command.tax_included),
        (command.total.minor, command.total.currency),
        (destination.country, destination.region, destination.postal_code),
        (payment.status, payment.reference),
        (command.service_level.value, command.allow_backorder),
    )
    return sha256(orjson.dumps(content)).hexdigest()


def _faults(command: CaptureOrder) -> tuple[str, ...]:
    """Why this can't be an order; all reasons, in words."""
    currency = command.total.currency
    amounts = [command.total, command.shipping, command.shipping_tax]
    reasons: list[str] = []
    seen: set[str] = set()
    units = expected = largest = 0
    for line in command.lines:
        price, discount, tax = line.unit_price.minor, line.discount.minor, line.tax.minor
        amounts += (line.unit_price, line.discount, line.tax)
        before_discount = price * line.quantity
        units += line.quantity
        expected += before_discount - discount + (0 if command.tax_included else tax)
        largest = max(largest, before_discount)
        if line.line_id in seen:
            reasons.append(f"line {line.line_id} is there more than once")
        seen.add(line.line_id)
        for name, amount in (("unit price", line.unit_price), ("discount", line.discount), ("tax", line.tax)):
            if amount.minor < 0:
                reasons.append(f"line {line.line_id}: {name} is below zero, {amount}")
        if discount > max(before_discount, 0):
            reasons.append(f"line {line.line_id}: discount {line.discount} is more than the line costs")
    for name, amount in (("shipping", command.shipping), ("shipping tax", command.shipping_tax)):
        expected += amount.minor
        if amount.minor < 0:
            reasons.append(f"{name} is below zero, {amount}")
    if not command.lines:
        reasons.append("no lines")
    if units > MAX_UNITS:
        reasons.append(f"{units} units, at most {MAX_UNITS} can be one order")
    if others := sorted({amount.currency for amount in amounts} - {currency}):
        reasons.append(f"amounts in {currency} and {', '.join(others)}; an order has one currency")
    elif max(expected, largest) > MAX_MINOR:
        reasons.append(f"amounts beyond {MAX_MINOR} minor units")
    elif expected != command.total.minor:
        adds_up = Money(minor=max(expected, -MAX_MINOR), currency=currency)
        reasons.append(f"total is {command.total}, but lines and shipping add up to {adds_up}")
    return tuple(reason[:500] for reason in reasons)


def _captured(command: CaptureOrder, content_hash: str) -> OrderCaptured:
    lines = tuple(
        OrderLine(
            line_id=line.line_id,
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            unit_price=line.unit_price,
            discount=line.discount,
            tax=line.tax,
            weight_g=line.weight_g,
            final_sale=line.final_sale,
        )
        for line in command.lines
    )
    return OrderCaptured(
        order_id=command.order_id,
        channel=command.channel,
        external_id=command.external_id,
        placed_at=command.placed_at,
        customer_id=command.customer_id,
        buyer=command.buyer,
        destination=command.destination,
        lines=lines,
        shipping=command.shipping,
        shipping_tax=command.shipping_tax,
        tax_included=command.tax_included,
        total=command.total,
        payment=command.payment,
        service_level=command.service_level,
        allow_backorder=command.allow_backorder,
        content_hash=content_hash,
    )


def _holds_at_capture(command: CaptureOrder) -> list[Event]:
    order_id = command.order_id
    holds: list[Event] = []
    if command.payment.status == "pending":
        holds.append(_payment_hold(order_id))
    if command.risk == "high":
        holds.append(OrderHeld(order_id=order_id, reason=HoldReason.FRAUD_RISK, note="the channel rates the risk high"))
    if command.address_faults:
        holds.append(_address_hold(order_id, command.address_faults))
    return holds


def _payment_hold(order_id: str) -> OrderHeld:
    return OrderHeld(order_id=order_id, reason=HoldReason.PAYMENT, note="payment is pending")


def _address_hold(order_id: str, faults: tuple[str, ...]) -> OrderHeld:
    return OrderHeld(order_id=order_id, reason=HoldReason.BAD_ADDRESS, note="; ".join(faults)[:500])


def _as_order(exchange: CaptureExchange) -> CaptureOrder:
    """Prices are final: nothing off, no tax or shipping on top. What the credit does not cover waits for payment."""
    currency = exchange.lines[0].unit_price.currency if exchange.lines else exchange.credit.currency
    nothing = Money.zero(currency)
    cost = sum(line.unit_price.minor * line.quantity for line in exchange.lines)
    covered = exchange.credit.currency == currency and exchange.credit.minor >= cost
    lines = tuple(
        ChannelLine(
            line_id=str(number),
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            unit_price=line.unit_price,
            discount=nothing,
            tax=nothing,
        )
        for number, line in enumerate(exchange.lines, start=1)
    )
    paid = Payment(status="paid", reference=f"credit:{exchange.return_id}"[:120])
    return CaptureOrder(
        order_id=exchange.order_id,
        channel="exchange",
        external_id=exchange.return_id,
        placed_at=exchange.placed_at,
        destination=exchange.destination,
        lines=lines,
        shipping=nothing,
        shipping_tax=nothing,
        tax_included=True,
        total=Money(minor=max(-MAX_MINOR, min(cost, MAX_MINOR)), currency=currency),
        payment=paid if covered else Payment(status="pending"),
        customer_id=exchange.customer_id,
    )


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
    """As they were meant: changes by revision, cancellations among them by when they were made."""
    commands = [_PARKABLE[waiting.change_type].validate_json(waiting.change) for waiting in parked]
    timed: list[tuple[datetime, ChangeOrder | CancelOrder]] = []
    for change in sorted((c for c in commands if isinstance(c, ChangeOrder)), key=lambda c: c.revision):
        timed.append((max(timed[-1][0], change.changed_at) if timed else change.changed_at, change))
    timed += [(c.canceled_at, c) for c in commands if isinstance(c, CancelOrder)]
    return [command for _, command in sorted(timed, key=lambda pair: pair[0])]


def _revision_id(revision: int) -> str:
    return f"revision:{revision}"


def _change(order: Order, command: ChangeOrder) -> list[Event]:
    """All of the change or, with a reason, none of it."""
    change_id = _revision_id(command.revision)
    stale = command.revision <= order.revision
    if stale or change_id in order.refused or change_id in order.cancellations:
        return []
    wanted = {change.line_id: change.quantity for change in command.lines}
    if order.stage in (Stage.REJECTED, Stage.CANCELED):
        return [_refused(order, change_id, f"the order is {order.stage}")]
    if unknown := sorted(line_id for line_id in wanted if line_id not in order.places):
        return [_refused(order, change_id, f"the order has no line {', '.join(unknown)}")]
    if len(wanted) != len(command.lines):
        return [_refused(order, change_id, "a line is named more than once")]
    if order.stage is Stage.RELEASED:
        return _change_released(order, command, wanted)
    return _revise(order, command, wanted)


def _refused(order: Order, change_id: str, reason: str) -> OrderChangeRefused:
    return OrderChangeRefused(order_id=order.order_id, change_id=change_id, reason=reason[:500])


def _change_released(order: Order, command: ChangeOrder, wanted: dict[str, int]) -> list[Event]:
    """Stock is claimed: units can only be called off. How it is paid may still change, that moves no goods."""
    change_id = _revision_id(command.revision)
    if command.destination is not None:
        return [_refused(order, change_id, "the address can't change after release; cancel and order anew")]
    fewer: list[tuple[str, int]] = []
    for line_id, quantity in wanted.items():
        line = order.lines[order.places[line_id]]
        wanted_so_far = order.open_of(line) - order.requested.get(line_id, 0)
        if quantity > wanted_so_far:
            more = f"line {line_id}: {quantity} wanted, {wanted_so_far} ordered; no more can be had after release"
            return [_refused(order, change_id, more)]
        fewer.append((line_id, wanted_so_far - quantity))
    events: list[Event] = []
    if any(units for _, units in fewer):
        events = _request(order, change_id, fewer, "changed by the channel", command.revision)
        if not events:
            return [_refused(order, change_id, "the units to take off have shipped; they can be returned")]
    if not events or command.payment not in (None, order.payment):
        events.append(_revised(order, command, order.lines))
    return events


def _revise(order: Order, command: ChangeOrder, wanted: dict[str, int]) -> list[Event]:
    change_id = _revision_id(command.revision)
    lines: list[OrderLine] = []
    left = 0
    for line in order.lines:
        now = order.open_of(line)
        units = wanted.get(line.line_id, now)
        left += units
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
    grown = sum(line.quantity for line in lines) > MAX_UNITS
    if grown or sum(total_of(line, order.tax_included).minor for line in lines) > MAX_MINOR:
        return [_refused(order, change_id, "beyond the size of any order")]
    events: list[Event] = [_revised(order, command, tuple(lines))]
    after = _fold(order, events)
    if order.charged and after.charged and after.owed_minor < order.owed_minor:
        back = Money(minor=order.owed_minor - after.owed_minor, currency=_currency(order))
        events.append(_refund(order, ("revision", str(command.revision)), back))
    return events + _holds_after_change(order, after, command)


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
    return OrderRevised(
        order_id=order.order_id,
        revision=command.revision,
        destination=command.destination or order.destination,
        lines=lines,
        total=Money.sum(amounts, _currency(order)),
        payment=command.payment or order.payment,
    )


def _too_large(line: OrderLine, units: int, now: int) -> bool:
    return units > MAX_UNITS or max(line.unit_price.minor, line.tax.minor) * units > MAX_MINOR * now


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


def _cancel(order: Order, command: CancelOrder) -> list[Event]:
    cancellation_id = command.cancellation_id
    if cancellation_id in order.cancellations or cancellation_id in order.refused:
        return []
    if order.stage in (Stage.REJECTED, Stage.CANCELED):
        return []
    if unknown := sorted({change.line_id for change in command.lines if change.line_id not in order.places}):
        return [_refused(order, cancellation_id, f"the order has no line {', '.join(unknown)}")]
    wanted = [(change.line_id, change.quantity) for change in command.lines] or _all_lines(order)
    if order.stage is Stage.HELD:
        return _cancel_now(order, cancellation_id, _clip(order, wanted, order.here_of), command.reason)
    events = _request(order, cancellation_id, wanted, command.reason)
    if not events and any(units and order.shipped.get(line_id, 0) for line_id, units in wanted):
        return [_refused(order, cancellation_id, "these units have shipped; they can be returned")]
    return events


def _cancel_now(
    order: Order, cancellation_id: str, lines: tuple[LineQuantity, ...], reason: str, source_id: str | None = None
) -> list[Event]:
    if not lines:
        return []
    refund = refund_of(order, lines)
    canceled = OrderLinesCanceled(
        order_id=order.order_id,
        cancellation_id=cancellation_id,
        lines=lines,
        reason=reason,
        whole_order=sum(part.quantity for part in lines) == order.open_units,
        refund=refund,
        source_id=source_id,
    )
    if refund.minor == 0:
        return [canceled]
    return [canceled, _refund(order, ("cancellation", cancellation_id, source_id or ""), refund)]


def _refund(order: Order, cause: tuple[str, ...], amount: Money) -> CancellationRefundRequested:
    return CancellationRefundRequested(
        order_id=order.order_id,
        refund_id=derived_id("refund", order.order_id, *cause),
        payment_reference=order.payment.reference if order.payment else None,
        amount=amount,
    )


def _request(
    order: Order, cancellation_id: str, wanted: Iterable[tuple[str, int]], reason: str, revision: int | None = None
) -> list[Event]:
    lines = _clip(order, wanted, order.cancelable_of)
    if not lines or cancellation_id in order.cancellations:
        return []
    return [
        CancellationRequested(
            order_id=order.order_id, cancellation_id=cancellation_id, lines=lines, reason=reason, revision=revision
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
    return [_declined(order, command.source_id, command.cancellation_id, lines)] if lines else []


def _declined(
    order: Order, source_id: str, cancellation_id: str, lines: tuple[LineQuantity, ...]
) -> CancellationDeclined:
    return CancellationDeclined(
        order_id=order.order_id, cancellation_id=cancellation_id, lines=lines, source_id=source_id
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
    too_late = _beyond_reach(_fold(order, [shipped]), lines)
    return [shipped, *(_declined(order, command.source_id, asked, parts) for asked, parts in too_late.items())]


def _beyond_reach(order: Order, lines: Iterable[LineQuantity]) -> dict[str, tuple[LineQuantity, ...]]:
    """By cancellation: requested units of these lines that are no longer there to cancel."""
    found: dict[str, tuple[LineQuantity, ...]] = {}
    for part in lines:
        excess = -order.cancelable_of(order.lines[order.places[part.line_id]])
        if excess <= 0:
            continue
        for cancellation_id in sorted(order.cancellations):
            units = min(excess, order.cancellations[cancellation_id].pending.get(part.line_id, 0))
            if units:
                less = LineQuantity(line_id=part.line_id, sku=part.sku, quantity=units)
                found[cancellation_id] = (*found.get(cancellation_id, ()), less)
                excess -= units
    return found


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


def _released_if_free(order: Order, events: list[Event]) -> list[Event]:
    """`events`, and the release if they leave nothing that holds the order."""
    if not events or order.stage is not Stage.HELD:
        return events
    after = _fold(order, events)
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


def _fold(order: Order, events: Iterable[Event]) -> Order:
    for event in events:
        order = evolve(order, event)
    return order


def evolve(order: Order, event: Event) -> Order:
    """Fold one event in. Never refuses: it happened, whatever today's rules say."""
    match event:
        case OrderCaptured():
            return replace(
                order,
                stage=Stage.HELD,
                order_id=event.order_id,
                channel=event.channel,
                external_id=event.external_id,
                content_hash=event.content_hash,
                placed_at=event.placed_at,
                customer_id=event.customer_id,
                destination=event.destination,
                lines=event.lines,
                places=_places(event.lines),
                shipping=event.shipping,
                shipping_tax=event.shipping_tax,
                tax_included=event.tax_included,
                total=event.total,
                payment=event.payment,
                service_level=event.service_level,
                allow_backorder=event.allow_backorder,
                parked=(),
                open_units=sum(line.quantity for line in event.lines),
                owed_minor=event.total.minor,
            )
        case OrderRejected():
            return replace(
                order,
                stage=Stage.REJECTED,
                order_id=event.order_id,
                channel=event.channel,
                external_id=event.external_id,
                content_hash=event.content_hash,
                reasons=event.reasons,
                parked=(),
            )
        case OrderChangeParked():
            waiting = Parked(event.change_id, event.change_type, event.change)
            return replace(order, order_id=event.order_id, parked=(*order.parked, waiting))
        case OrderRevised():
            return _with_revision(order, event)
        case OrderChangeRefused():
            return replace(order, refused=order.refused.set(event.change_id, True))
        case OrderHeld():
            return replace(order, holds=(*order.holds, Hold(event.reason, event.note)))
        case HoldReleased():
            return replace(order, holds=tuple(hold for hold in order.holds if hold.reason is not event.reason))
        case OrderReleased():
            return replace(order, stage=Stage.RELEASED)
        case CancellationRequested():
            asked = Cancellation(event.reason, Map((part.line_id, part.quantity) for part in event.lines))
            return replace(
                order,
                requested=_add(order.requested, event.lines),
                cancellations=order.cancellations.set(event.cancellation_id, asked),
                revision=max(order.revision, event.revision or 0),
            )
        case CancellationDeclined():
            return _answered(_seen(order, event.source_id), event.cancellation_id, event.lines)
        case OrderLinesCanceled():
            return _with_canceled_lines(order, event)
        case OrderUnitsShipped():
            return replace(
                _seen(order, event.source_id),
                shipped=_add(order.shipped, event.lines),
                shipped_units=order.shipped_units + sum(part.quantity for part in event.lines),
            )
        case CancellationRefundRequested():
            asked_for = Refund(event.amount.minor, RefundStage.PENDING)
            return replace(
                order,
                refunds=order.refunds.set(event.refund_id, asked_for),
                refund_minor=order.refund_minor + event.amount.minor,
            )
        case CancellationRefunded():
            paid = Refund(event.amount.minor, RefundStage.PAID)
            return replace(order, refunds=order.refunds.set(event.refund_id, paid))
        case CancellationRefundFailed():
            failed = replace(order.refunds[event.refund_id], stage=RefundStage.FAILED)
            return replace(order, refunds=order.refunds.set(event.refund_id, failed))
        case _:
            assert_never(event)


def _places(lines: tuple[OrderLine, ...]) -> Map[str, int]:
    return Map((line.line_id, place) for place, line in enumerate(lines))


def _with_revision(order: Order, event: OrderRevised) -> Order:
    order = replace(
        order,
        revision=event.revision,
        destination=event.destination,
        lines=event.lines,
        places=_places(event.lines),
        total=event.total,
        payment=event.payment,
    )
    carriage = sum(amount.minor for amount in (order.shipping, order.shipping_tax) if amount)
    open_units = owed = 0
    for line in event.lines:
        units = order.open_of(line)
        open_units += units
        owed += first_units(goods_of(line), units, line.quantity).minor
        if not order.tax_included:
            owed += first_units(line.tax, units, line.quantity).minor
    return replace(order, open_units=open_units, owed_minor=owed + carriage)


def _with_canceled_lines(order: Order, event: OrderLinesCanceled) -> Order:
    asked = order.cancellations.get(event.cancellation_id, Cancellation(event.reason))
    owed_minor = order.owed_minor - _worth_of(order, event.lines)
    order = replace(
        _seen(order, event.source_id),
        stage=Stage.CANCELED if event.whole_order else order.stage,
        holds=() if event.whole_order else order.holds,
        canceled=_add(order.canceled, event.lines),
        open_units=order.open_units - sum(part.quantity for part in event.lines),
        owed_minor=owed_minor,
        cancellations=order.cancellations.set(event.cancellation_id, asked),
    )
    order = _answered(order, event.cancellation_id, event.lines)
    for cancellation_id, lines in _beyond_reach(order, event.lines).items():
        order = _answered(order, cancellation_id, lines)
    return order


def _answered(order: Order, cancellation_id: str, lines: Iterable[LineQuantity]) -> Order:
    """These units are pending no longer under that cancellation, as far as they were."""
    asked = order.cancellations.get(cancellation_id)
    if asked is None:
        return order
    pending, requested = asked.pending, order.requested
    for part in lines:
        units = min(pending.get(part.line_id, 0), part.quantity)
        if units:
            pending = _less(pending, part.line_id, units)
            requested = _less(requested, part.line_id, units)
    if pending is asked.pending:
        return order
    return replace(
        order,
        requested=requested,
        cancellations=order.cancellations.set(cancellation_id, replace(asked, pending=pending)),
    )


def _seen(order: Order, source_id: str | None) -> Order:
    return order if source_id is None else replace(order, sources=order.sources.set(source_id, True))


def _add(units: Map[str, int], lines: Iterable[LineQuantity]) -> Map[str, int]:
    for part in lines:
        units = units.set(part.line_id, units.get(part.line_id, 0) + part.quantity)
    return units


def _less(units: Map[str, int], line_id: str, by: int) -> Map[str, int]:
    left = units[line_id] - by
    return units.set(line_id, left) if left else units.delete(line_id)


orders: Decider[Order] = Decider("order", Order(), evolve)
