"""What may be asked of a return, or told about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.returns import (
    ExchangeLine,
    InspectedLine,
    ReturnReason,
)

from .purchase import (
    ParcelCommand,
    PurchaseCommand,
)


@dataclass(frozen=True, slots=True)
class RequestReturn:
    """The customer, or an agent for them, wants to send goods back."""

    return_id: str
    order_id: str
    lines: tuple[LineQuantity, ...]
    reason: ReturnReason
    wanted: Literal["refund", "exchange"]
    requested_at: datetime
    by: Literal["customer", "agent"]
    exchange_for: tuple[ExchangeLine, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReceiveReturn:
    """Goods arrived at a location; `receipt_id` tells one receipt from another with the same goods.

    `locations` are all that we know; at no other can goods be taken in.
    """

    return_id: str
    receipt_id: str
    location: str
    lines: tuple[LineQuantity, ...]
    locations: frozenset[str]


@dataclass(frozen=True, slots=True)
class InspectReturn:
    """Somebody looked at received goods and says what they are fit for, or that they were not in the box."""

    return_id: str
    inspection_id: str
    location: str
    lines: tuple[InspectedLine, ...]
    inspected_at: datetime


@dataclass(frozen=True, slots=True)
class WaiveGoods:
    """A person wants what has not come no more, and credits it all the same."""

    return_id: str
    waived_at: datetime


@dataclass(frozen=True, slots=True)
class CloseReceipt:
    """A person decides that nothing more will come."""

    return_id: str
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class ExpireReturn:
    """The time to send goods back is over. Sent by a timer, with the time it was due."""

    return_id: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class RecordRefundPaid:
    """The payment provider, or a person, sent the money back."""

    return_id: str
    refund_id: str
    provider_reference: str
    refunded_at: datetime


@dataclass(frozen=True, slots=True)
class RecordRefundFailed:
    """The payment provider will not send the money back."""

    return_id: str
    refund_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class RetryRefund:
    """A person wants the refund, which failed, to be asked for again, under its own id."""

    return_id: str


RefundCommand = RecordRefundPaid | RecordRefundFailed | RetryRefund
ReturnCommand = RequestReturn | ReceiveReturn | InspectReturn | WaiveGoods | CloseReceipt | ExpireReturn | RefundCommand
Command = ReturnCommand | PurchaseCommand | ParcelCommand
