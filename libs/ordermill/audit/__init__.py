"""Conservation over all six logs: no unit, no line and no money comes from nowhere or goes nowhere.

Read from the facts alone, no view or cache. While orders move, the logs are read one after another, so only that is
reported which can never be right, and only if a second look finds it again. Once all is settled, `settled` demands
that everything adds up to the last unit and minor unit.

    SKU    received + adjusted + restocked = on hand + shipped out
    line   ordered = canceled + shipped + still open; shipped = delivered + lost + came back + under way
    money  charged = kept + refunded, to the minor unit
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from ordermill.eventlog.store import Store

from .books import InventoryBook, Violation
from .checks import Audit, Books

Progress = Callable[[int], None]

READ_ORDER = ("returns", "tracking", "fulfillment", "inventory", "routing", "capture")
"""Those who hear of things before those who tell them: what was heard of is then found told."""

SECOND_LOOK_S = 1.0
_PAGE = 2_000


async def audit_installation(settled: bool = False, progress: Progress = lambda events: None) -> list[Violation]:
    """Audit the logs that the OMS_… variables name. Raises LogUnavailable."""
    from ordermill.eventlog.postgres import PostgresStore
    from ordermill.service.settings import settings_of

    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {}
        for service in READ_ORDER:
            store = await PostgresStore.open(settings_of(service).database_url.get_secret_value(), max_connections=2)
            stack.push_async_callback(store.close)
            stores[service] = store
        return (await audit(stores, settled, progress)).violations


async def audit(stores: Mapping[str, Store], settled: bool = False, progress: Progress = lambda events: None) -> Audit:
    """Read all six logs and add up. `progress` is told how many events were read."""
    found = await _look(stores, settled, progress)
    if found.violations and not settled:
        await asyncio.sleep(SECOND_LOOK_S)
        again = await _look(stores, settled, progress)
        still = set(again.violations)
        again.violations = [violation for violation in found.violations if violation in still]
        return again
    return found


async def _look(stores: Mapping[str, Store], settled: bool, progress: Progress) -> Audit:
    books = Books(settled)
    read = 0
    for service in READ_ORDER:
        book = books.of[service]
        after = 0
        while page := await stores[service].read(after, _PAGE):
            for sequenced in page:
                book.read(sequenced.seq, sequenced.row.stream, sequenced.row.type, sequenced.row.data)
            after = page[-1].seq
            read += len(page)
            progress(read)
    return books.close()


__all__ = ["Audit", "Books", "InventoryBook", "Violation", "audit", "audit_installation"]
