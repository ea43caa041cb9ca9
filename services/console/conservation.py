"""Whether all that the console was told adds up, checked now and then and when somebody asks; beside the pages' work.

A run looks at so many orders and SKUs that it ends soon; the next one goes on where it ended, and starts over at the
end. While facts of several services are on their way, an order may look wrong for a moment: only what looks wrong
twice, a while apart, is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

import asyncpg
import structlog

from ordermill.clock import Clock
from ordermill.contracts.base import decode
from ordermill.errors import OrdermillError
from ordermill.eventlog.postgres import translated

from .doors import Doors
from .live import Live
from .pictures.order import Order
from .sums import MOVES, order_faults, stock_fault

logger = structlog.get_logger(__name__)

TOPIC = "machine"
EVERY_S = 600.0
FIRST_AFTER_S = 20.0
ORDERS_A_RUN, SKUS_A_RUN = 20_000, 5_000
_PAGE = 100
_MOVES_AT_MOST = 20_000
_MOVES_AT_ONCE = 500
_SECOND_LOOK_S = 3.0
_MOVE_TYPES = [kind.type for kind in MOVES]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that does not add up: an order or a SKU, and how."""

    kind: Literal["order", "sku"]
    key: str
    text: str

    @property
    def href(self) -> str:
        return f"/orders/{quote(self.key)}" if self.kind == "order" else f"/stock/{quote(self.key)}"


@dataclass(slots=True)
class Report:
    """What the last run found. `problem`: why it could not end."""

    as_of: datetime | None = None
    orders: int = 0
    all_orders: bool = True
    skus: int = 0
    all_skus: bool = True
    skipped: int = 0
    """SKUs that moved too often to be added up here."""
    took_s: float = 0.0
    problem: str = ""
    faults: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """By kind and key, as of the last look at each."""

    def listed(self, at_most: int = 50) -> list[Fault]:
        every = [Fault(kind, key, text) for (kind, key), texts in sorted(self.faults.items()) for text in texts]  # type: ignore[arg-type]
        return every[:at_most]


class Conservation:
    """Runs by itself every ten minutes, and as soon as somebody asks."""

    def __init__(self, pool: asyncpg.Pool, doors: Doors, clock: Clock, live: Live) -> None:
        self._pool = pool
        self._doors = doors
        self._clock = clock
        self._live = live
        self._asked = asyncio.Event()
        self._after = {"order": "", "sku": ""}
        self.running = False
        self.report = Report()

    def ask(self) -> bool:
        """Check as soon as may be; False where a check is under way."""
        if self.running or self._asked.is_set():
            return False
        self._asked.set()
        return True

    async def run(self) -> None:
        pause = FIRST_AFTER_S
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._asked.wait()
            except TimeoutError:
                pass
            pause = EVERY_S
            await self.check()

    async def check(self) -> None:
        self.running = True
        self._asked.clear()
        self._live.tell([TOPIC])
        loop, report = asyncio.get_running_loop(), self.report
        began = loop.time()
        try:
            report.skipped = 0
            report.orders, report.all_orders, orders = await self._pass("order", ORDERS_A_RUN, self._orders)
            report.skus, report.all_skus, skus = await self._pass("sku", SKUS_A_RUN, self._skus)
            if orders or skus:
                await asyncio.sleep(_SECOND_LOOK_S)
                self._settle("order", orders, await self._orders_again(sorted(orders)))
                self._settle("sku", skus, await self._skus_again(sorted(skus)))
            report.problem = ""
            report.as_of = self._clock()
        except OrdermillError as error:
            report.problem = str(error)
        except Exception:
            logger.exception("conservation could not be checked")
            report.problem = "a defect of ours; the console's log has it"
        report.took_s = loop.time() - began
        self.running = False
        self._live.tell([TOPIC])

    async def _pass(self, kind: str, at_most: int, page: Callable[[str], Any]) -> tuple[int, bool, set[str]]:
        """Looks at the next so many: how many there were, whether those are all, which of them look wrong."""
        seen, wrong, begins = 0, set(), self._after[kind]
        while seen < at_most:
            keys, faults = await page(self._after[kind])
            seen += len(keys)
            wrong |= faults.keys()
            for key in keys:
                if key not in faults:
                    self.report.faults.pop((kind, key), None)
            if len(keys) < _PAGE:
                self._after[kind] = ""
                return seen, not begins, wrong
            self._after[kind] = keys[-1]
            await asyncio.sleep(0)
        return seen, False, wrong

    def _settle(self, kind: str, suspects: set[str], faults: Mapping[str, list[str]]) -> None:
        for key in suspects:
            if key in faults:
                self.report.faults[kind, key] = faults[key]
            else:
                self.report.faults.pop((kind, key), None)

    async def _orders(self, after: str) -> tuple[list[str], dict[str, list[str]]]:
        with translated():
            rows = await self._pool.fetch(
                "SELECT key, doc FROM orders WHERE key > $1 ORDER BY key LIMIT $2", after, _PAGE
            )
        return [key for key, _ in rows], _wrong(rows)

    async def _orders_again(self, keys: list[str]) -> dict[str, list[str]]:
        with translated():
            return _wrong(await self._pool.fetch("SELECT key, doc FROM orders WHERE key = ANY ($1)", keys))

    async def _skus(self, after: str) -> tuple[list[str], dict[str, list[str]]]:
        page = await self._doors.get("inventory", "/stock", after=after, limit=_PAGE)
        return [item["key"] for item in page["items"]], await self._stock(page["items"])

    async def _skus_again(self, skus: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for start in range(0, len(skus), _PAGE):
            part = skus[start : start + _PAGE]
            found |= await self._stock([await self._doors.get("inventory", f"/stock/{quote(sku)}") for sku in part])
        return found

    async def _stock(self, items: list[dict[str, Any]]) -> dict[str, list[str]]:
        told = {item["key"]: {place: shelf["on_hand"] for place, shelf in item["locations"].items()} for item in items}
        with translated():
            rows = await self._pool.fetch(
                "SELECT stream, type, data FROM events WHERE stream = ANY ($1) AND type = ANY ($2) LIMIT $3",
                [f"stock-{sku}" for sku in told],
                _MOVE_TYPES,
                _MOVES_AT_MOST,
            )
        if len(rows) == _MOVES_AT_MOST:
            if len(items) == 1:
                self.report.skipped += 1
                return {}
            half = len(items) // 2
            return await self._stock(items[:half]) | await self._stock(items[half:])
        moves: dict[str, list[Any]] = {}
        for number, (stream, type_name, data) in enumerate(rows):
            moves.setdefault(stream.removeprefix("stock-"), []).append(decode(type_name, data))
            if number % _MOVES_AT_ONCE == 0:
                await asyncio.sleep(0)  # pages come first
        faults = {sku: stock_fault(moves.get(sku, ()), there) for sku, there in told.items()}
        return {sku: [text] for sku, text in faults.items() if text}


def _wrong(rows: list[Any]) -> dict[str, list[str]]:
    faults = {key: order_faults(Order.model_validate_json(doc)) for key, doc in rows}
    return {key: texts for key, texts in faults.items() if texts}
