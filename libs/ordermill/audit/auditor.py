"""The whole audit: SKUs over all orders, the orders part by part, and what must hold from one part to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ordermill.contracts.inventory import StockLetGo, StockRestocked, StockShippedOut, StockWrittenOff
from ordermill.eventlog.rebuild import Progress
from ordermill.ids import order_id_of
from ordermill.simulator.ledger import Entry

from .book import Book, Names, Violation
from .books import CaptureBook, FulfillmentBook, InventoryBook, ReturnsBook, RoutingBook, TrackingBook
from .checks import Books
from .parts import Filed, Parts
from .stock import Claimed, StockBook

PART_EVENTS = 50_000
"""About a thousand orders of five lines, with which the books take some 100 MB."""
MOST_PARTS = 256

_BOOKS: dict[str, type[Book]] = {
    book.service: book for book in (CaptureBook, InventoryBook, RoutingBook, FulfillmentBook, TrackingBook, ReturnsBook)
}
_OF_ORDERS = (StockLetGo, StockRestocked, StockShippedOut, StockWrittenOff)
"""What a SKU's stream tells that an order's or a return's must tell too."""


@dataclass(slots=True)
class Audit:
    """What was checked, how many of it, and what is wrong."""

    checked: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)


class Auditor:
    """Is told every event of every log, each log in its order, and adds up.

    In memory are the SKUs with their open claims, one part of the orders, and about half a kB for each order.
    """

    def __init__(self, settled: bool, events: int, part_events: int = PART_EVENTS) -> None:
        """`events`: about how many there will be."""
        self._settled = settled
        self._parts = Parts(max(1, min(MOST_PARTS, -(-events // part_events))))
        self._names = Names()
        self.stock = StockBook()
        self._checked: Counter[str] = Counter()
        self._found: list[Violation] = []
        self._known: set[str] = set()
        """Keys of effects, where a ledger may have more."""
        self._exchange_orders: set[str] = set()
        self._exchanges: dict[str, tuple[str, int]] = {}
        """The order that must be made of each, and where it was asked for."""

    def read(self, service: str, seq: int, stream: str, type_name: str, data: bytes) -> None:
        """One event. Raises NoRoom."""
        if not _BOOKS[service].concerns(stream):
            return
        event = Filed(service, seq, stream, type_name, data)
        if service == "inventory" and stream.startswith("stock-"):
            if isinstance(self.stock.read(seq, stream, type_name, data), _OF_ORDERS):
                self._parts.file(event)
        elif service == "routing" and stream.startswith("policy-"):
            self._parts.file_everywhere(event)
        else:
            self._parts.file(event)

    def close(self, ledger: Sequence[Entry] | None = None, progress: Progress = lambda events: None) -> Audit:
        """`ledger`: what the providers say they did, read after the logs; None if they can't be asked.

        Raises NoRoom.
        """
        self.stock.close()
        self._found += self.stock.found
        claimed: list[Claimed] = [{} for _ in range(self._parts.count)]
        for line, units in self.stock.claimed().items():
            claimed[self._parts.part_of(line[0])][line] = units
        entries = None if ledger is None else {entry.key: entry for entry in ledger}
        done = 0
        for number, events in enumerate(self._parts.read()):
            books = Books(self._settled, self._names)
            for event in events:
                books.of[event.service].read(event.seq, event.stream, event.type, event.data)
                done += 1
            books.close(claimed[number], entries)
            self._add(books, entries is not None)
            progress(done)
        self._parts.close()
        if self._settled:
            self._across(ledger or ())
        self._found += self._names.found
        order = list(_BOOKS)
        self._found.sort(key=lambda violation: order.index(violation.service))
        return Audit({**self._checked, "SKUs": len(self.stock.stocks)}, self._found)

    def _add(self, books: Books, keys_too: bool) -> None:
        self._checked.update(books.checked())
        for book in books.of.values():
            self._found += book.found
        if keys_too:
            self._known.update(key for _, effects in books.effects() for _, key in effects)
        self._exchange_orders |= books.capture.exchange_orders
        for return_id, place in books.returns.exchanges.items():
            self._exchanges[order_id_of("exchange", return_id)] = place

    def _across(self, ledger: Sequence[Entry]) -> None:
        """Once all is settled: what has its other half among other orders, or nowhere."""
        for order_id, (stream, seq) in self._exchanges.items():
            if order_id not in self._exchange_orders:
                self._found.append(Violation("settled", "returns", stream, seq, "no order was made of the exchange"))
        for key in sorted(entry.key for entry in ledger if entry.acted and entry.key not in self._known):
            text = "was done by a provider, and nobody requested it"
            self._found.append(Violation("providers", "capture", key, None, text))
