"""Goods that come back. Pure: time and ids come in with the commands."""

from .commands import (
    CloseReceipt,
    Command,
    ExpireReturn,
    InspectReturn,
    ReceiveReturn,
    RecordRefundFailed,
    RecordRefundPaid,
    RequestReturn,
    RetryRefund,
    WaiveGoods,
)
from .decisions import command_of, to_decision
from .life import RETURN, Return, Stage, return_summary, rma_of
from .purchase import PARCEL, PURCHASE, purchase_summary

__all__ = [
    "PARCEL",
    "PURCHASE",
    "RETURN",
    "CloseReceipt",
    "Command",
    "ExpireReturn",
    "InspectReturn",
    "ReceiveReturn",
    "RecordRefundFailed",
    "RecordRefundPaid",
    "RequestReturn",
    "RetryRefund",
    "Return",
    "Stage",
    "WaiveGoods",
    "command_of",
    "purchase_summary",
    "return_summary",
    "rma_of",
    "to_decision",
]
