"""Facts of returns: goods on their way back, what they are worth, where they go."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Literal

from .base import Fact
from .capture import OrderLine
from .fields import (
    ChannelId,
    Destination,
    ExternalId,
    Id,
    Instant,
    LineQuantity,
    LocationId,
    Money,
    Part,
    PaymentShare,
    Quantity,
    Sku,
    Text,
)


class ReturnReason(StrEnum):
    UNWANTED = "unwanted"
    DAMAGED = "damaged"
    WRONG_ITEM = "wrong-item"
    NOT_AS_DESCRIBED = "not-as-described"
    LATE = "late"
    NOT_DELIVERED = "not-delivered"
    """It never reached the customer: its parcel is lost, or back at its sender."""
    OTHER = "other"


class Disposition(StrEnum):
    """Where returned goods go."""

    RESTOCK = "restock"
    WRITE_OFF = "write-off"
    MISSING = "missing"


class ReturnShare(Part):
    """So much money, by the return that it is for."""

    return_id: Id
    amount: Money


class PurchaseRecorded(Fact):
    """What was bought and for how much, as returns needs to know it (stream `purchase-<order>`)."""

    type: ClassVar[str] = "oms.returns.purchase-recorded.v1"
    order_id: Id
    channel: ChannelId
    customer_id: Id | None = None
    destination: Destination
    lines: tuple[OrderLine, ...]
    shipping: Money
    shipping_tax: Money
    tax_included: bool
    payment_reference: ExternalId | None = None
    unpaid: Money | None = None
    """What is owed for it and not paid; none: nothing."""
    funds: tuple[PaymentShare, ...] = ()
    """What is paid of it, by payment, oldest first; none: all of it by the one that is named."""


class PurchaseRevised(Fact):
    """The order was changed before it went out; all amounts as they are from now on (`purchase-<order>`)."""

    type: ClassVar[str] = "oms.returns.purchase-revised.v1"
    order_id: Id
    revision: int
    destination: Destination
    lines: tuple[OrderLine, ...]
    payment_reference: ExternalId | None = None
    unpaid: Money | None = None
    """As in PurchaseRecorded, as are the next."""
    funds: tuple[PaymentShare, ...] = ()
    given_back: tuple[ReturnShare, ...] = ()
    """What had been set off against what was unpaid, and is not unpaid any more."""


class PurchaseUnitsCanceled(Fact):
    """Units that will never be delivered, so never come back (stream `purchase-<order>`)."""

    type: ClassVar[str] = "oms.returns.purchase-units-canceled.v1"
    order_id: Id
    lines: tuple[LineQuantity, ...]
    source: ExternalId
    """The message that said so; the same twice is one."""
    unpaid: Money | None = None
    """As in PurchaseRecorded."""
    given_back: tuple[ReturnShare, ...] = ()
    """As in PurchaseRevised."""


class PurchaseRefundedElsewhere(Fact):
    """The channel gave money back by itself, so less of what was bought is paid now (stream `purchase-<order>`)."""

    type: ClassVar[str] = "oms.returns.purchase-refunded-elsewhere.v1"
    order_id: Id
    refund_id: Id
    unpaid: Money
    """As in PurchaseRecorded."""


class PurchaseDelivered(Fact):
    """Units that reached the customer; their return window starts here."""

    type: ClassVar[str] = "oms.returns.purchase-delivered.v1"
    order_id: Id
    shipment_id: Id
    delivered_at: Instant
    lines: tuple[LineQuantity, ...]


class PurchaseUndelivered(Fact):
    """Units whose parcel is lost or back at its sender. If it arrives after all, PurchaseDelivered says so."""

    type: ClassVar[str] = "oms.returns.purchase-undelivered.v1"
    order_id: Id
    shipment_id: Id
    why: Literal["lost", "came-back"]
    lines: tuple[LineQuantity, ...]


class UnitsClaimed(Fact):
    """Units are spoken for by a return; no other return can have them (`purchase-<order>`)."""

    type: ClassVar[str] = "oms.returns.units-claimed.v1"
    order_id: Id
    return_id: Id
    lines: tuple[LineQuantity, ...]
    undelivered: bool = False
    """Whether they are of those that never reached the customer, rather than of those delivered."""


class UnitsGivenBack(Fact):
    """A return ended without these units; they may be returned again (stream `purchase-<order>`)."""

    type: ClassVar[str] = "oms.returns.units-given-back.v1"
    order_id: Id
    return_id: Id
    lines: tuple[LineQuantity, ...]
    undelivered: bool = False
    """As in UnitsClaimed."""


class UnitsTakenBack(Fact):
    """These units are back or not wanted back, and credited; shares of later returns count on (`purchase-<order>`)."""

    type: ClassVar[str] = "oms.returns.units-taken-back.v1"
    order_id: Id
    return_id: Id
    lines: tuple[LineQuantity, ...]
    our_fault: bool
    """Whether they came back for a reason that is the merchant's to answer for, by the policy of that day."""
    set_off: Money | None = None
    """How much of their worth was not paid, so is not given back until it is; none: nothing."""
    set_off_tax: Money | None = None
    """Of that. What is neither this nor the next is goods."""
    set_off_shipping: Money | None = None
    undelivered: bool = False
    """As in UnitsClaimed."""
    given: Money | None = None
    """How much of their worth is given back, or pays for other goods; none: nothing."""
    restocking_fee: Money | None = None
    """What of their price is kept, by the policy of that day, before anything of it is set off or given."""


class ParcelExpected(Fact):
    """What a parcel on its way holds, and for which order (stream `parcel-<shipment>`)."""

    type: ClassVar[str] = "oms.returns.parcel-expected.v1"
    shipment_id: Id
    order_id: Id
    lines: tuple[LineQuantity, ...]


class ParcelArrived(Fact):
    """The parcel reached the customer (stream `parcel-<shipment>`)."""

    type: ClassVar[str] = "oms.returns.parcel-arrived.v1"
    shipment_id: Id
    delivered_at: Instant


class ParcelUndelivered(Fact):
    """The parcel is lost or back at its sender (stream `parcel-<shipment>`)."""

    type: ClassVar[str] = "oms.returns.parcel-undelivered.v1"
    shipment_id: Id
    why: Literal["lost", "came-back"]


class ExchangeLine(Part):
    """What the customer wants instead, at the price it has for them."""

    sku: Sku
    title: Text = ""
    quantity: Quantity
    unit_price: Money


class ReturnFact(Fact):
    return_id: Id
    order_id: Id


class ReturnRequested(ReturnFact):
    """The customer or an agent wants to send goods back."""

    type: ClassVar[str] = "oms.returns.requested.v2"
    class_version: ClassVar[int] = 2
    lines: tuple[LineQuantity, ...]
    reason: ReturnReason
    wanted: Literal["refund", "exchange"]
    exchange_for: tuple[ExchangeLine, ...] = ()
    note: Text = ""

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """v2 knows the reason `not-delivered`. Until then nothing could be returned for it, so nothing was."""


class ReturnAuthorized(ReturnFact):
    """The goods may come back, under this RMA number."""

    type: ClassVar[str] = "oms.returns.authorized.v1"
    rma: Id
    expires_at: Instant


class ReturnDeclined(ReturnFact):
    """The policy says no, and why."""

    type: ClassVar[str] = "oms.returns.declined.v1"
    reasons: tuple[Text, ...]


class ReturnReceived(ReturnFact):
    """Goods arrived at a location."""

    type: ClassVar[str] = "oms.returns.received.v1"
    location: LocationId
    lines: tuple[LineQuantity, ...]
    receipt_id: Id | None = None


class InspectedLine(Part):
    line_id: Id
    sku: Sku
    quantity: Quantity
    disposition: Disposition
    note: Text = ""


class ReturnInspected(ReturnFact):
    """What the goods are fit for; inventory takes them from here."""

    type: ClassVar[str] = "oms.returns.inspected.v1"
    location: LocationId
    lines: tuple[InspectedLine, ...]
    inspection_id: Id | None = None


class GoodsWaived(ReturnFact):
    """What has not come of a return is not wanted any more: it is credited all the same."""

    type: ClassVar[str] = "oms.returns.goods-waived.v1"
    lines: tuple[LineQuantity, ...]
    undelivered: bool
    """Whether they never reached the customer: lost, not left with the customer."""


class RefundRequested(ReturnFact):
    """Money is to go back. An effect: done once under its `refund_id`. amount = goods + tax + shipping.

    `goods` is what is left of their price after `restocking_fee` and after what an exchange was paid with. A return has
    one for each payment that its money goes back to; the first names the fee.
    """

    type: ClassVar[str] = "oms.returns.refund-requested.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.requests",)
    refund_id: Id
    payment_reference: ExternalId | None = None
    goods: Money
    tax: Money
    shipping: Money
    amount: Money
    restocking_fee: Money | None = None


class RefundPaid(ReturnFact):
    """The payment provider sent the money back."""

    type: ClassVar[str] = "oms.returns.refund-paid.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)
    refund_id: Id
    amount: Money
    provider_reference: ExternalId
    refunded_at: Instant


class RefundFailed(ReturnFact):
    """The payment provider will not send the money back; a person must."""

    type: ClassVar[str] = "oms.returns.refund-failed.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)
    refund_id: Id
    reason: Text


class ExchangeRequested(ReturnFact):
    """Other goods are to go out instead; capture makes an order of it.

    `credit` of their price is paid with the returned goods, never more than they cost: what the returned
    goods are worth beyond that is refunded.
    """

    type: ClassVar[str] = "oms.returns.exchange-requested.v1"
    channel: ChannelId
    customer_id: Id | None = None
    destination: Destination
    lines: tuple[ExchangeLine, ...]
    credit: Money
    requested_at: Instant
    payment_reference: ExternalId | None = None
    """Of the payment that the credit comes from, the newest of them."""
    funds: tuple[PaymentShare, ...] = ()
    """The credit by payment, oldest first, where it comes from several."""


class ReturnExpired(ReturnFact):
    """The goods never came."""

    type: ClassVar[str] = "oms.returns.expired.v1"
    due_at: Instant


class ReturnClosed(ReturnFact):
    """Nothing is left to do."""

    type: ClassVar[str] = "oms.returns.closed.v1"


PurchaseEvent = (
    PurchaseRecorded
    | PurchaseRevised
    | PurchaseUnitsCanceled
    | PurchaseRefundedElsewhere
    | PurchaseDelivered
    | PurchaseUndelivered
    | UnitsClaimed
    | UnitsGivenBack
    | UnitsTakenBack
)
ParcelEvent = ParcelExpected | ParcelArrived | ParcelUndelivered
ReturnEvent = (
    ReturnRequested
    | ReturnAuthorized
    | ReturnDeclined
    | ReturnReceived
    | ReturnInspected
    | GoodsWaived
    | RefundRequested
    | RefundPaid
    | RefundFailed
    | ExchangeRequested
    | ReturnExpired
    | ReturnClosed
)
