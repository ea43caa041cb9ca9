"""What inventory shows: stock by SKU, claims by order; and the availability that it publishes."""

from __future__ import annotations

from ordermill.contracts.base import Message
from ordermill.eventlog.views import PublishedState, View

from .domain import RESERVATION, STOCK, Stock, availability, reservation_summary, stock_summary

STOCK_VIEW = View("stock", STOCK.category, stock_summary)
RESERVATIONS = View("reservations", RESERVATION.category, reservation_summary)


def availability_message(key: str, version: int, stock: Stock) -> Message:
    return availability(key, version, stock)


AVAILABILITY = PublishedState(STOCK.category, availability_message)
