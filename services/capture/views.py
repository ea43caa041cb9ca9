"""What capture shows: orders, with what was bought, what holds them, and their money."""

from __future__ import annotations

from ordermill.eventlog.views import View

from .domain import orders, summary

ORDERS = View(
    "orders", orders.category, summary, indexed=("status", "channel", "external_id", "customer_id"), version=2
)
