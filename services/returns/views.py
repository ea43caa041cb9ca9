"""What returns shows: returns, and what may still come back of each order."""

from __future__ import annotations

from ordermill.eventlog.views import View

from .domain import PURCHASE, RETURN, purchase_summary, return_summary

RETURNS = View("returns", RETURN.category, return_summary, indexed=("status", "order_id", "rma"))
PURCHASES = View("purchases", PURCHASE.category, purchase_summary)
