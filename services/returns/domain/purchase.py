"""What was bought, what of it arrived, and what of that is on its way back. Pure: time comes in with the command.

A purchase is fed from two sides that may come in any order: capture says what was bought, tracking what arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from immutables import Map

from ordermill.contracts.capture import OrderLine
from ordermill.contracts.fields import Destination, LineQuantity, Money, PaymentShare
from ordermill.contracts.returns import (
    ParcelArrived,
    ParcelEvent,
    ParcelExpected,
    ParcelUndelivered,
    PurchaseDelivered,
    PurchaseEvent,
    PurchaseRecorded,
    PurchaseRefundedElsewhere,
    PurchaseRevised,
    PurchaseUndelivered,
    PurchaseUnitsCanceled,
    ReturnShare,
    UnitsClaimed,
    UnitsGivenBack,
    UnitsTakenBack,
)
from ordermill.decider import Decider
from ordermill.money import goods_of, range_of_units
from ordermill.pmap import PMap
from ordermill.replacing import replace

from ..errors import PurchaseNotRecorded


@dataclass(frozen=True, slots=True)
class RecordPurchase:
    """Capture took an order in."""

    order_id: str
    channel: str
    customer_id: str | None
    destination: Destination
    lines: tuple[OrderLine, ...]
    shipping: Money
    shipping_tax: Money
    tax_included: bool
    payment_reference: str | None
    unpaid: Money | None = None
    funds: tuple[PaymentShare, ...] = ()


@dataclass(frozen=True, slots=True)
class RevisePurchase:
    """The channel changed the order; all amounts as they are from now on."""

    order_id: str
    revision: int
    destination: Destination
    lines: tuple[OrderLine, ...]
    payment_reference: str | None
    unpaid: Money | None = None
    funds: tuple[PaymentShare, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordCancellation:
    """Units will never be delivered. `source` is the message that said so."""

    order_id: str
    lines: tuple[LineQuantity, ...]
    source: str
    unpaid: Money | None = None


@dataclass(frozen=True, slots=True)
class RecordRefundElsewhere:
    """The channel gave money back by itself."""

    order_id: str
    refund_id: str
    unpaid: Money


@dataclass(frozen=True, slots=True)
class ExpectParcel:
    """A parcel with these units is on its way to the customer."""

    shipment_id: str
    order_id: str
    lines: tuple[LineQuantity, ...]


@dataclass(frozen=True, slots=True)
class RecordDelivery:
    """The parcel reached the customer."""

    shipment_id: str
    delivered_at: datetime


@dataclass(frozen=True, slots=True)
class RecordUndelivered:
    """The parcel is lost or back at its sender."""

    shipment_id: str
    why: Literal["lost", "came-back"]


PurchaseCommand = RecordPurchase | RevisePurchase | RecordCancellation | RecordRefundElsewhere
ParcelCommand = ExpectParcel | RecordDelivery | RecordUndelivered


@dataclass(frozen=True, slots=True)
class Delivery:
    delivered_at: datetime
    units: int


@dataclass(frozen=True, slots=True)
class Units:
    """One line's units. Returns speak for `claimed` of them; of those `taken` are credited."""

    delivered: int = 0
    undelivered: int = 0
    """In parcels that are lost or back at their sender, and were not delivered after all."""
    claimed: int = 0
    claimed_undelivered: int = 0
    """Of `claimed`, those that had not been delivered when they were."""
    taken: int = 0
    taken_undelivered: int = 0
    """The same of `taken`."""
    canceled: int = 0
    deliveries: tuple[Delivery, ...] = ()
    """Oldest first."""

    @property
    def claimed_delivered(self) -> int:
        return self.claimed - self.claimed_undelivered


NO_UNITS = Units()


@dataclass(frozen=True, slots=True)
class SetOff:
    """What a return's units are worth that was not paid when they came back. In minor units."""

    return_id: str
    goods: int
    tax: int = 0
    shipping: int = 0

    @property
    def minor(self) -> int:
        return self.goods + self.tax + self.shipping

    def first(self, minor: int) -> SetOff:
        """So much of it: goods are set off first, then tax, then shipping."""
        goods = min(self.goods, minor)
        tax = min(self.tax, minor - goods)
        return SetOff(self.return_id, goods, tax, minor - goods - tax)

    def less(self, other: SetOff) -> SetOff:
        goods, tax, shipping = self.goods - other.goods, self.tax - other.tax, self.shipping - other.shipping
        return SetOff(self.return_id, goods, tax, shipping)


@dataclass(frozen=True, slots=True)
class Purchase:
    """One order as returns needs to know it; `Purchase()` is one nobody has told us of."""

    order_id: str = ""
    recorded: bool = False
    """Whether capture's word is here; parcels may arrive before it."""
    channel: str = ""
    customer_id: str | None = None
    destination: Destination | None = None
    lines: tuple[OrderLine, ...] = ()
    shipping: Money | None = None
    shipping_tax: Money | None = None
    tax_included: bool = False
    payment_reference: str | None = None
    """Of the newest payment."""
    funds: tuple[PaymentShare, ...] = ()
    """What capture holds, by payment, oldest first; none: all of it by the newest."""
    given_minor: int = 0
    """What of that returns have given back, or paid other goods with."""
    unpaid_minor: int = 0
    """What capture says is owed and not paid; it knows nothing of returns."""
    set_offs: tuple[SetOff, ...] = ()
    """How much of the worth of returned units is set off against that; oldest first."""
    revision: int = 0
    units: PMap[str, Units] = field(default_factory=Map)
    """By line."""
    cancellations: PMap[str, bool] = field(default_factory=Map)
    refunds: PMap[str, bool] = field(default_factory=Map)
    """The channel's own."""
    shipments: PMap[str, bool] = field(default_factory=Map)
    astray: PMap[str, bool] = field(default_factory=Map)
    """Shipments that are lost or back at their sender."""
    returns: tuple[str, ...] = ()
    canceled: int = 0
    taken: int = 0
    taken_for_our_fault: int = 0

    def of(self, line_id: str) -> Units:
        return self.units.get(line_id, NO_UNITS)

    @property
    def set_off_minor(self) -> int:
        return sum(each.minor for each in self.set_offs)

    @property
    def bought(self) -> int:
        """Units that were bought and not canceled."""
        return sum(line.quantity for line in self.lines) - self.canceled

    @property
    def currency(self) -> str:
        return self.shipping.currency if self.shipping else "XXX"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is needed to tell an order that its parcel arrived; either half may come first."""

    shipment_id: str = ""
    order_id: str = ""
    lines: tuple[LineQuantity, ...] = ()
    delivered_at: datetime | None = None
    undelivered: Literal["lost", "came-back"] | None = None


def decide_purchase(purchase: Purchase, command: PurchaseCommand) -> list[PurchaseEvent]:
    """The events that `command` causes; `[]` if it is already so. Raises PurchaseNotRecorded."""
    match command:
        case RecordPurchase():
            if purchase.recorded:
                return []
            return [
                PurchaseRecorded(
                    order_id=command.order_id,
                    channel=command.channel,
                    customer_id=command.customer_id,
                    destination=command.destination,
                    lines=command.lines,
                    shipping=command.shipping,
                    shipping_tax=command.shipping_tax,
                    tax_included=command.tax_included,
                    payment_reference=command.payment_reference,
                    unpaid=command.unpaid,
                    funds=command.funds,
                )
            ]
        case RevisePurchase():
            if not purchase.recorded:
                raise PurchaseNotRecorded(command.order_id)
            if command.revision <= purchase.revision:
                return []
            return [
                PurchaseRevised(
                    order_id=command.order_id,
                    revision=command.revision,
                    destination=command.destination,
                    lines=command.lines,
                    payment_reference=command.payment_reference,
                    unpaid=command.unpaid,
                    funds=command.funds,
                )
            ]
        case RecordCancellation(order_id, lines, source, unpaid):
            if source in purchase.cancellations:
                return []
            return [PurchaseUnitsCanceled(order_id=order_id, lines=lines, source=source, unpaid=unpaid)]
        case RecordRefundElsewhere(order_id, refund_id, still):
            if refund_id in purchase.refunds:
                return []
            return [PurchaseRefundedElsewhere(order_id=order_id, refund_id=refund_id, unpaid=still)]
        case _:
            assert_never(command)


def decide_parcel(
    states: Mapping[str, Any], command: ParcelCommand
) -> list[tuple[str, ParcelEvent | PurchaseDelivered | PurchaseUndelivered]]:
    """Whichever half comes second tells the purchase what became of its units."""
    stream = PARCEL.stream(command.shipment_id)
    parcel: Parcel = states[stream]
    new: ParcelEvent
    match command:
        case ExpectParcel(shipment_id, order_id, lines):
            if parcel.order_id:
                return []
            new = ParcelExpected(shipment_id=shipment_id, order_id=order_id, lines=lines)
        case RecordDelivery(shipment_id, delivered_at):
            if parcel.delivered_at is not None:
                return []
            new = ParcelArrived(shipment_id=shipment_id, delivered_at=delivered_at)
        case RecordUndelivered(shipment_id, why):
            if parcel.delivered_at is not None or parcel.undelivered:
                return []
            new = ParcelUndelivered(shipment_id=shipment_id, why=why)
        case _:
            assert_never(command)
    after = evolve_parcel(parcel, new)
    told = {"order_id": after.order_id, "shipment_id": after.shipment_id, "lines": after.lines}
    purchase = PURCHASE.stream(after.order_id)
    if after.order_id and after.delivered_at is not None:
        return [(stream, new), (purchase, PurchaseDelivered(**told, delivered_at=after.delivered_at))]
    if after.order_id and after.undelivered:
        return [(stream, new), (purchase, PurchaseUndelivered(**told, why=after.undelivered))]
    return [(stream, new)]


def evolve_purchase(purchase: Purchase, event: PurchaseEvent) -> Purchase:
    """Fold one event in. Never refuses: it happened, whatever today's rules say."""
    match event:
        case PurchaseRecorded():
            return replace(
                purchase,
                order_id=event.order_id,
                recorded=True,
                channel=event.channel,
                customer_id=event.customer_id,
                destination=event.destination,
                lines=event.lines,
                shipping=event.shipping,
                shipping_tax=event.shipping_tax,
                tax_included=event.tax_included,
                payment_reference=event.payment_reference,
                unpaid_minor=_minor(event.unpaid),
                funds=event.funds,
            )
        case PurchaseRevised():
            return replace(
                _given_back(purchase, event.given_back),
                revision=event.revision,
                destination=event.destination,
                lines=event.lines,
                payment_reference=event.payment_reference,
                unpaid_minor=_minor(event.unpaid),
                funds=event.funds,
            )
        case PurchaseUnitsCanceled():
            return replace(
                _given_back(purchase, event.given_back),
                units=_each(purchase, event.lines, lambda has, more: replace(has, canceled=has.canceled + more)),
                canceled=purchase.canceled + units_in(event.lines),
                cancellations=purchase.cancellations.set(event.source, True),
                unpaid_minor=_minor(event.unpaid),
            )
        case PurchaseRefundedElsewhere():
            refunds = purchase.refunds.set(event.refund_id, True)
            return replace(purchase, refunds=refunds, unpaid_minor=event.unpaid.minor)
        case PurchaseDelivered():
            found = event.shipment_id in purchase.astray

            def arrived(has: Units, more: int) -> Units:
                has = _delivered(has, event.delivered_at, more)
                return _found(has, more) if found else has

            return replace(
                purchase,
                order_id=event.order_id,
                units=_each(purchase, event.lines, arrived),
                shipments=purchase.shipments.set(event.shipment_id, True),
                astray=purchase.astray.delete(event.shipment_id) if found else purchase.astray,
            )
        case PurchaseUndelivered():
            return replace(
                purchase,
                order_id=event.order_id,
                units=_each(purchase, event.lines, lambda has, more: replace(has, undelivered=has.undelivered + more)),
                astray=purchase.astray.set(event.shipment_id, True),
            )
        case UnitsClaimed():
            claimed = _claim(purchase, event, 1)
            return replace(claimed, returns=(*purchase.returns, event.return_id))
        case UnitsGivenBack():
            return _claim(purchase, event, -1)
        case UnitsTakenBack():

            def taken(has: Units, more: int) -> Units:
                astray = has.taken_undelivered + (more if event.undelivered else 0)
                return replace(has, taken=has.taken + more, taken_undelivered=astray)

            back = units_in(event.lines)
            tax, shipping = _minor(event.set_off_tax), _minor(event.set_off_shipping)
            set_off = SetOff(event.return_id, _minor(event.set_off) - tax - shipping, tax, shipping)
            return replace(
                purchase,
                units=_each(purchase, event.lines, taken),
                taken=purchase.taken + back,
                set_offs=(*purchase.set_offs, set_off) if set_off.minor else purchase.set_offs,
                given_minor=purchase.given_minor + _minor(event.given),
                taken_for_our_fault=purchase.taken_for_our_fault + (back if event.our_fault else 0),
            )
        case _:
            assert_never(event)


def _given_back(purchase: Purchase, shares: Iterable[ReturnShare]) -> Purchase:
    back = {share.return_id: share.amount.minor for share in shares}
    if not back:
        return purchase
    left = (each.first(each.minor - back.get(each.return_id, 0)) for each in purchase.set_offs)
    given = purchase.given_minor + sum(back.values())
    return replace(purchase, set_offs=tuple(each for each in left if each.minor), given_minor=given)


def _minor(amount: Money | None) -> int:
    return amount.minor if amount else 0


def _delivered(count: Units, delivered_at: datetime, units: int) -> Units:
    deliveries = sorted((*count.deliveries, Delivery(delivered_at, units)), key=lambda each: each.delivered_at)
    return replace(count, delivered=count.delivered + units, deliveries=tuple(deliveries))


def _found(count: Units, units: int) -> Units:
    """Units arrived after all. A return that spoke for them speaks for delivered ones now."""
    left = count.undelivered - units
    return replace(
        count,
        undelivered=left,
        claimed_undelivered=min(count.claimed_undelivered, left),
        taken_undelivered=min(count.taken_undelivered, left),
    )


def _claim(purchase: Purchase, event: UnitsClaimed | UnitsGivenBack, sign: int) -> Purchase:
    def claimed(has: Units, more: int) -> Units:
        change = sign * more
        astray = max(0, has.claimed_undelivered + change) if event.undelivered else has.claimed_undelivered
        return replace(has, claimed=has.claimed + change, claimed_undelivered=astray)

    return replace(purchase, units=_each(purchase, event.lines, claimed))


def _each(purchase: Purchase, lines: Iterable[LineQuantity], change: Callable[[Units, int], Units]) -> PMap[str, Units]:
    """The purchase's units after `change` of each line by its quantity."""
    units = purchase.units
    for line in lines:
        units = units.set(line.line_id, change(units.get(line.line_id, NO_UNITS), line.quantity))
    return units


def evolve_parcel(parcel: Parcel, event: ParcelEvent) -> Parcel:
    match event:
        case ParcelExpected():
            return replace(parcel, shipment_id=event.shipment_id, order_id=event.order_id, lines=event.lines)
        case ParcelArrived():
            return replace(parcel, shipment_id=event.shipment_id, delivered_at=event.delivered_at)
        case ParcelUndelivered():
            return replace(parcel, shipment_id=event.shipment_id, undelivered=event.why)
        case _:
            assert_never(event)


PURCHASE: Decider[Purchase] = Decider("purchase", Purchase(), evolve_purchase)
PARCEL: Decider[Parcel] = Decider("parcel", Parcel(), evolve_parcel)


def returnable(line: OrderLine, units: Units) -> int:
    """Units that arrived and are in no return."""
    return max(0, min(units.delivered - units.claimed_delivered, line.quantity - units.canceled - units.claimed))


def never_arrived(line: OrderLine, units: Units) -> int:
    """Units whose parcel is lost or back at its sender, and that are in no return."""
    return max(0, min(units.undelivered - units.claimed_undelivered, line.quantity - units.canceled - units.claimed))


def in_window(units: Units, at: datetime, window: timedelta) -> int:
    """Units in no return whose time to be returned has not passed at `at`.

    Units are alike, so those returned before count as the oldest: the customer keeps the time of the newer ones.
    """
    skip, left = units.claimed_delivered, 0
    for delivery in units.deliveries:
        open_units = max(0, delivery.units - skip)
        skip -= delivery.units - open_units
        left += open_units if delivery.delivered_at + window >= at else 0
    return left


def worth_of(purchase: Purchase, back: Mapping[str, int]) -> tuple[Money, Money]:
    """What units that came back cost, and the tax on them: exactly these units' shares, by line.

    Units are counted from the first returned one of each line, over all returns of the order, so that all returns
    together come to the line's amount to the minor unit. Where prices include the tax, it is taken out of them.
    """
    goods, tax = Money.zero(purchase.currency), Money.zero(purchase.currency)
    for line in purchase.lines:
        if units := back.get(line.line_id, 0):
            start = purchase.of(line.line_id).taken
            line_tax = range_of_units(line.tax, start, start + units, line.quantity)
            line_goods = range_of_units(goods_of(line), start, start + units, line.quantity)
            goods += line_goods - line_tax if purchase.tax_included else line_goods
            tax += line_tax
    return goods, tax


def unpaid_of(purchase: Purchase) -> int:
    """In minor units, what is still unpaid after what was set off against it."""
    return max(0, purchase.unpaid_minor - purchase.set_off_minor)


def paid_after_all(purchase: Purchase) -> tuple[SetOff, ...]:
    """What is set off beyond what is unpaid, of the newest returns: as if it had been paid before they were settled."""
    over = purchase.set_off_minor - purchase.unpaid_minor
    found: list[SetOff] = []
    for each in reversed(purchase.set_offs):
        if (part := min(each.minor, over)) > 0:
            over -= part
            found.append(each.less(each.first(each.minor - part)))
    return tuple(found)


def drawn(purchase: Purchase, minor: int) -> tuple[PaymentShare, ...]:
    """The payments that make up the next `minor` to be given, the oldest first, each with no more than it brought.

    Capture gives back from the newest. As with units, the two never meet, whichever of them comes first.
    """
    shares: list[PaymentShare] = []
    passed = purchase.given_minor
    for fund in purchase.funds:
        skipped = min(passed, fund.amount.minor)
        passed -= skipped
        if part := min(minor, fund.amount.minor - skipped):
            minor -= part
            shares.append(fund.model_copy(update={"amount": Money(minor=part, currency=purchase.currency)}))
    if minor:
        rest = Money(minor=minor, currency=purchase.currency)
        shares.append(PaymentShare(reference=purchase.payment_reference, amount=rest))
    return tuple(shares)


def shipping_of(purchase: Purchase) -> Money:
    """What the order's shipping cost, its tax included."""
    if purchase.shipping is None or purchase.shipping_tax is None:
        return Money.zero(purchase.currency)
    return purchase.shipping + purchase.shipping_tax


def units_in(lines: Iterable[LineQuantity]) -> int:
    return sum(line.quantity for line in lines)


def purchase_summary(purchase: Purchase) -> dict[str, Any]:
    """The purchase as a view keeps it: JSON values only, nothing personal."""
    lines = []
    for line in purchase.lines:
        units = purchase.of(line.line_id)
        lines.append(
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "title": line.title,
                "quantity": line.quantity,
                "final_sale": line.final_sale,
                "canceled": units.canceled,
                "delivered": units.delivered,
                "undelivered": units.undelivered,
                "in_returns": units.claimed,
                "returned": units.taken,
                "returnable": returnable(line, units),
                "creditable": never_arrived(line, units),
                "last_delivered_at": units.deliveries[-1].delivered_at.isoformat() if units.deliveries else None,
            }
        )
    return {
        "order_id": purchase.order_id,
        "channel": purchase.channel or None,
        "customer_id": purchase.customer_id,
        "currency": purchase.currency,
        "lines": lines,
        "returns": list(purchase.returns),
        "shipments": sorted(purchase.shipments),
    }
