"""What may be asked of an order, or told about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ordermill.contracts.capture import HoldReason
from ordermill.contracts.channel import ChannelLine, LineChange, Payment, ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity, Money, PaymentShare, Sealed
from ordermill.contracts.returns import ExchangeLine


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
    hold: str = ""
    address_faults: tuple[str, ...] = ()
    funds: tuple[PaymentShare, ...] = ()
    """What is paid by several payments."""


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
    payment_reference: str | None = None
    """Of the payment that the credit comes from, the newest of them."""
    funds: tuple[PaymentShare, ...] = ()
    """The credit by payment, where it comes from several."""
    address_faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeOrder:
    """The channel's change. A line's quantity is what the channel wants of it; said again, it is no news.

    Units that the channel canceled are not among them. What was canceled here it need not know of.
    """

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
    refunded: Money | None = None
    """What the channel has given back by itself."""
    by_channel: bool = False
    """Whether the channel says so, and not a person here."""


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
    """A location was too far with these units to stop, or another cancellation has taken them over.

    `source_id` is the id of the event that says so.
    """

    order_id: str
    source_id: str
    cancellation_id: str
    lines: tuple[LineQuantity, ...]
    taken_over_by: str | None = None


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


@dataclass(frozen=True, slots=True)
class RetryRefund:
    """A person wants a refund that failed to be asked for again, under its own id."""

    order_id: str
    refund_id: str


@dataclass(frozen=True, slots=True)
class SettleChange:
    """A person has dealt with a change that was refused."""

    order_id: str
    change_id: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ForgetCustomer:
    """A person wants whoever bought this to be forgotten, with all their orders."""

    order_id: str


@dataclass(frozen=True, slots=True)
class RecordForgotten:
    order_id: str
    keys: tuple[str, ...]
    forgotten_at: datetime


@dataclass(frozen=True, slots=True)
class RecordForgetFailed:
    order_id: str
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
    | RetryRefund
    | SettleChange
    | ForgetCustomer
    | RecordForgotten
    | RecordForgetFailed
)
