"""What inventory's log says of SKUs: units that came, went and were promised. Every SKU is in memory, no order is."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import Any

from ordermill.contracts.inventory import (
    StockAdjusted,
    StockBackordered,
    StockCountRecorded,
    StockReceived,
    StockReserved,
    StockRestocked,
    StockShippedOut,
)

from .book import Book

Claimed = dict[tuple[str, str, str], dict[str, int]]
"""Units by order, line and SKU, and by what they are."""


class StockBook(Book):
    """Stock and what is promised of it."""

    service = "inventory"

    def __init__(self) -> None:
        super().__init__()
        self._domain = import_module("services.inventory.domain")
        self.stocks: dict[str, Any] = {}
        self.on_hand: Counter[tuple[str, str]] = Counter()
        """By SKU and location, added up from what came and went."""

    def take(self, seq: int, stream: str, event: Any) -> None:
        sku = stream.partition("-")[2]
        stock = self.stocks.get(sku, self._domain.STOCK.initial)
        after = self.stocks[sku] = self._domain.STOCK.evolve(stock, event)
        match event:
            case StockReceived(quantity=units) | StockRestocked(quantity=units):
                self.on_hand[event.sku, event.location] += units
            case StockAdjusted(delta=units) | StockCountRecorded(delta=units):
                self.on_hand[event.sku, event.location] += units
            case StockShippedOut(quantity=units):
                self.on_hand[event.sku, event.location] -= units
            case StockReserved(quantity=units) if units > stock.available:
                text = f"{units} units are promised to {event.order_id}, {stock.available} were available"
                self.wrong("oversell", stream, text, seq)
            case StockBackordered() if event.cap is not None and after.backordered > event.cap:
                text = (
                    f"{event.order_id} may wait for {event.quantity} units, {after.backordered} units wait then, "
                    f"{event.cap} may"
                )
                self.wrong("backorders", stream, text, seq)

    def claimed(self) -> Claimed:
        """What is promised now."""
        claimed: Claimed = self._domain.units_claimed(self.stocks)
        return claimed

    def close(self) -> None:
        on_hand: dict[str, dict[str, int]] = {}
        for (sku, location), units in self.on_hand.items():
            on_hand.setdefault(sku, {})[location] = units
        for sku, stock in self.stocks.items():
            stream = f"stock-{sku}"
            for text in self._domain.check_stock(stock):
                self.wrong("stock", stream, text)
            shelves = {location: shelf.on_hand for location, shelf in sorted(stock.shelves.items()) if shelf.on_hand}
            came = {location: units for location, units in sorted(on_hand.get(sku, {}).items()) if units}
            if shelves != came:
                self.wrong("stock", stream, f"on hand are {shelves}; what came and went leaves {came}")
