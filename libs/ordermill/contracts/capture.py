"""Facts of capture: what became of each order that a channel sent."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from .base import Fact
from .channel import LineChange, Payment, ServiceLevel
from .fields import (
    ChannelId,
    Destination,
    ExternalId,
    Flag,
    Grams,
    Id,
    Instant,
    LineQuantity,
    Money,
    Part,
    PaymentShare,
    Quantity,
    Sealed,
    Sku,
    Text,
)


class HoldReason(StrEnum):
    """Why an order may not go on. Several can stand at once; each is released by itself."""

    PAYMENT = "payment"
    FRAUD_RISK = "fraud-risk"
    BAD_ADDRESS = "bad-address"
    MANUAL = "manual"


class OrderLine(Part):
    """What was bought, one SKU and quantity of it. Amounts are for the whole line."""

    line_id: Id
    sku: Sku
    title: Text = ""
    quantity: Quantity
    unit_price: Money
    discount: Money
    tax: Money
    weight_g: Grams | None = None
    final_sale: bool = False


class ReleasedLine(Part):
    """What the services downstream need to know of a line."""

    line_id: Id
    sku: Sku
    title: Text = ""
    quantity: Quantity
    weight_g: Grams | None = None


class OrderCaptured(Fact):
    """A channel's order is ours now."""

    type: ClassVar[str] = "oms.capture.order-captured.v1"

    order_id: Id
    channel: ChannelId
    external_id: ExternalId
    placed_at: Instant
    customer_id: Id | None = None
    buyer: Sealed | None = None
    destination: Destination
    lines: tuple[OrderLine, ...]
    shipping: Money
    shipping_tax: Money
    tax_included: bool
    total: Money
    payment: Payment
    service_level: ServiceLevel
    allow_backorder: bool
    content_hash: str = ""
    """Of what was bought, for how much, where to; tells the same order sent twice from another under its id."""
    funds: tuple[PaymentShare, ...] = ()
    """What is paid of it, by payment, oldest first; none: all of it by `payment`."""

    @property
    def unpaid(self) -> Money:
        """What is owed for it and not paid."""
        paid = self.payment.paid.minor if self.payment.paid else 0
        pending = self.payment.status == "pending"
        return Money(minor=max(0, self.total.minor - paid) if pending else 0, currency=self.total.currency)


class OrderRejected(Fact):
    """An order that can't be ours: its totals don't add up, its quantities or currencies make no sense."""

    type: ClassVar[str] = "oms.capture.order-rejected.v1"

    order_id: Id
    channel: ChannelId
    external_id: ExternalId
    reasons: tuple[Text, ...]
    content_hash: str = ""


class OrderChangeParked(Fact):
    """A change or cancellation came before its order; it is applied when the order comes."""

    type: ClassVar[str] = "oms.capture.order-change-parked.v1"

    order_id: Id
    change_id: ExternalId
    """`revision:<number>` of a change, the channel's own id of a cancellation."""
    change_type: str
    change: str
    """The change as the channel sent it, personal data sealed: JSON of its message."""


class OrderRevised(Fact):
    """A change by the channel took effect; all amounts as they are from now on."""

    type: ClassVar[str] = "oms.capture.order-revised.v1"

    order_id: Id
    revision: int
    destination: Destination
    lines: tuple[OrderLine, ...]
    total: Money
    payment: Payment
    unpaid: Money | None = None
    """What is owed for what is not canceled, and not paid. Where it is not told: all of it while payment is pending."""
    wanted: tuple[LineChange, ...] = ()
    """What the channel wants of the lines that it named. Units that were called off without it are among them."""
    funds: tuple[PaymentShare, ...] = ()
    """As in OrderCaptured."""


class OrderChangeRefused(Fact):
    """A change came too late or makes no sense; the order stands as it was."""

    type: ClassVar[str] = "oms.capture.order-change-refused.v1"

    order_id: Id
    change_id: ExternalId
    reason: Text
    off_before: tuple[LineChange, ...] = ()
    """As in CancellationRequested, as is the next."""
    called_off_at: Instant | None = None
    by_channel: Flag = True
    """False where a person asked for it, and was told."""

    @property
    def waits_for_a_person(self) -> bool:
        """Nobody has been told, and nothing has been done here before of what it wants."""
        return self.by_channel and not self.off_before


class OrderChangeSettled(Fact):
    """A person has dealt with a change that was refused: nothing of it is left to be done."""

    type: ClassVar[str] = "oms.capture.order-change-settled.v1"

    order_id: Id
    change_id: ExternalId
    reason: Text
    """Why it was refused. What the channel tells once more, and is refused for the same, is settled, too."""
    note: Text = ""


class OrderHeld(Fact):
    """The order may not go on, for this reason."""

    type: ClassVar[str] = "oms.capture.order-held.v1"

    order_id: Id
    reason: HoldReason
    note: Text = ""


class HoldReleased(Fact):
    """One reason to hold the order has gone."""

    type: ClassVar[str] = "oms.capture.hold-released.v1"

    order_id: Id
    reason: HoldReason
    note: Text = ""


class OrderReleased(Fact):
    """Nothing holds the order: stock may be claimed for it."""

    type: ClassVar[str] = "oms.capture.order-released.v1"

    order_id: Id
    channel: ChannelId
    external_id: ExternalId
    placed_at: Instant
    destination: Destination
    lines: tuple[ReleasedLine, ...]
    service_level: ServiceLevel
    allow_backorder: bool


class CancellationRequested(Fact):
    """Units of a released order are called off; they are canceled once nobody works on them."""

    type: ClassVar[str] = "oms.capture.cancellation-requested.v1"

    order_id: Id
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]
    reason: Text
    revision: int | None = None
    """Set where it was a change by the channel that asked for fewer units."""
    by_channel: bool = False
    """Whether the channel knows of it."""
    off_before: tuple[LineChange, ...] = ()
    """Units that the channel calls off, too, and that had been called off here without it."""
    called_off_at: Instant | None = None
    """When the channel did; what it says it wanted before that still counts these units."""


class CancellationDeclined(Fact):
    """Too late: these units are packed or gone. Or, where no location could ship them: they wait for none any more.

    Or another cancellation has taken them over: `taken_over_by`.
    """

    type: ClassVar[str] = "oms.capture.cancellation-declined.v1"

    order_id: Id
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]
    source_id: ExternalId | None = None
    """The event by which we learned it."""
    taken_over_by: ExternalId | None = None
    """The cancellation by which they are called off now, instead of this one."""


class OrderLinesCanceled(Fact):
    """These units will not be shipped, and why. `refund` is what goes back: what was paid beyond what is owed now."""

    type: ClassVar[str] = "oms.capture.order-lines-canceled.v1"

    order_id: Id
    cancellation_id: ExternalId
    lines: tuple[LineQuantity, ...]
    reason: Text
    whole_order: bool
    refund: Money
    source_id: ExternalId | None = None
    """The event by which inventory let these units go; none where nothing was claimed yet."""
    unpaid: Money | None = None
    """As in OrderRevised."""
    by_channel: bool = False
    """Whether the channel called these units off, here and now."""
    off_before: tuple[LineChange, ...] = ()
    """As in CancellationRequested, as is the next."""
    called_off_at: Instant | None = None


class ChannelRefunded(Fact):
    """The channel has given money back by itself, so it is not given back again."""

    type: ClassVar[str] = "oms.capture.channel-refunded.v1"

    order_id: Id
    refund_id: Id
    cancellation_id: ExternalId
    """With which the channel told of it."""
    amount: Money
    """No more than was charged and not refunded before."""
    unpaid: Money
    """As in OrderRevised."""


class OrderUnitsShipped(Fact):
    """These units have left a location; from now on they can be returned, not canceled."""

    type: ClassVar[str] = "oms.capture.order-units-shipped.v1"

    order_id: Id
    source_id: ExternalId
    fulfillment_id: Id
    lines: tuple[LineQuantity, ...]


class CancellationRefundRequested(Fact):
    """Money for canceled units is to go back. An effect: done once under its `refund_id`."""

    type: ClassVar[str] = "oms.capture.refund-requested.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.requests",)

    order_id: Id
    refund_id: Id
    payment_reference: ExternalId | None = None
    amount: Money


class CancellationRefunded(Fact):
    """The payment provider sent the money back."""

    type: ClassVar[str] = "oms.capture.refunded.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)

    order_id: Id
    refund_id: Id
    amount: Money
    provider_reference: ExternalId
    refunded_at: Instant


class CancellationRefundFailed(Fact):
    """The payment provider will not send the money back; a person must."""

    type: ClassVar[str] = "oms.capture.refund-failed.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)

    order_id: Id
    refund_id: Id
    reason: Text


class CustomerForgetRequested(Fact):
    """Whoever bought this is to be forgotten: what is sealed under these keys, of whichever order, shall be unreadable.

    An effect: each key is destroyed.
    """

    type: ClassVar[str] = "oms.capture.forget-requested.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.requests",)

    order_id: Id
    keys: tuple[Id, ...]


class CustomerForgotten(Fact):
    """These keys are destroyed. Whose they were can't be read any more, here or by any reader of the topics."""

    type: ClassVar[str] = "oms.capture.customer-forgotten.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)

    order_id: Id
    keys: tuple[Id, ...]
    forgotten_at: Instant


class CustomerForgetFailed(Fact):
    """The keys could not be destroyed; a person must ask again."""

    type: ClassVar[str] = "oms.capture.forget-failed.v1"
    also_on: ClassVar[tuple[str, ...]] = ("oms.effects.results",)

    order_id: Id
    reason: Text


Event = (
    OrderCaptured
    | OrderRejected
    | OrderChangeParked
    | OrderRevised
    | OrderChangeRefused
    | OrderChangeSettled
    | OrderHeld
    | HoldReleased
    | OrderReleased
    | CancellationRequested
    | CancellationDeclined
    | OrderLinesCanceled
    | ChannelRefunded
    | OrderUnitsShipped
    | CancellationRefundRequested
    | CancellationRefunded
    | CancellationRefundFailed
    | CustomerForgetRequested
    | CustomerForgotten
    | CustomerForgetFailed
)
