"""What may become of a channel's order. One stream per order, `order-<order_id>`.

Pure: time and ids come in with the commands, personal data comes in sealed.
"""

from .addresses import kept
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
from .decisions import MAX_PARKED, decide
from .intake import MAX_UNITS, address_faults
from .order import Memory, Order, Stage, evolve, orders, refund_of, status_of, summary

__all__ = [
    "MAX_PARKED",
    "MAX_UNITS",
    "CancelOrder",
    "CaptureExchange",
    "CaptureOrder",
    "ChangeOrder",
    "Command",
    "ForgetCustomer",
    "HoldOrder",
    "Memory",
    "Order",
    "RecordCancellationDeclined",
    "RecordForgetFailed",
    "RecordForgotten",
    "RecordLetGo",
    "RecordRefundFailed",
    "RecordRefunded",
    "RecordRefusal",
    "RecordShipped",
    "RecordUnroutable",
    "ReleaseHold",
    "RetryRefund",
    "SettleChange",
    "Stage",
    "address_faults",
    "decide",
    "evolve",
    "kept",
    "orders",
    "refund_of",
    "status_of",
    "summary",
]
