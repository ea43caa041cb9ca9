"""The rules of inventory, pure: `decisions` over the states of `stock` and `reservation`."""

from .commands import (
    AllocatePlan,
    CancelUnits,
    Command,
    CorrectStock,
    CountStock,
    HeedNetwork,
    LetGoRecalled,
    ReceiveStock,
    RerouteUnits,
    ReserveOrder,
    ShipOut,
    TakeBackRejected,
    TakeBackShortPicked,
    TakeInReturn,
)
from .decisions import decide, decision, streams
from .reservation import (
    RESERVATION,
    Reservation,
    check_agreement,
    check_reservation,
    reservation_summary,
    units_claimed,
)
from .stock import STOCK, Stock, availability, check_stock, stock_summary

__all__ = [
    "RESERVATION",
    "STOCK",
    "AllocatePlan",
    "CancelUnits",
    "Command",
    "CorrectStock",
    "CountStock",
    "HeedNetwork",
    "LetGoRecalled",
    "ReceiveStock",
    "RerouteUnits",
    "Reservation",
    "ReserveOrder",
    "ShipOut",
    "Stock",
    "TakeBackRejected",
    "TakeBackShortPicked",
    "TakeInReturn",
    "availability",
    "check_agreement",
    "check_reservation",
    "check_stock",
    "decide",
    "decision",
    "reservation_summary",
    "stock_summary",
    "streams",
    "units_claimed",
]
