"""What fulfillment shows: the work of each location."""

from __future__ import annotations

from ordermill.eventlog.views import View

from .domain import FULFILLMENT, fulfillment_summary

FULFILLMENTS = View(
    "fulfillments", FULFILLMENT.category, fulfillment_summary, indexed=("status", "location", "order_id", "external_id")
)
