"""Conservation over all six logs: no unit, no line and no money comes from nowhere or goes nowhere.

Read from the facts alone, no view or cache. While orders move, the logs are read one after another, so only that is
reported which can never be right, and only if a second look finds it again. Once all is settled, `settled` demands
that everything adds up to the last unit and minor unit.

    SKU    received + adjusted + restocked = on hand + shipped out
    stock  nothing is promised that is not there; no order is let wait for units beyond the cap of then
    line   ordered = canceled + shipped + still open; shipped = delivered + lost + came back + under way
    money  charged = kept + refunded, to the minor unit
    effect done once by the provider, where its ledger can be read: what was recorded is what it did
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import httpx
from pydantic import TypeAdapter

from ordermill.errors import Transient
from ordermill.eventlog.rebuild import Progress
from ordermill.eventlog.store import Store
from ordermill.simulator.ledger import Entry

from .auditor import PART_EVENTS, Audit, Auditor
from .book import Violation
from .books import InventoryBook
from .parts import NoRoom


class LedgerUnreadable(Transient):
    """The providers' ledger is named in the settings, and can't be read."""

    code = "audit.ledger-unreadable"

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(
            f"{url}/ledger: can't be read ({type(error).__name__}). Start the simulated providers with "
            "`oms simulator`, or unset OMS_SIMULATOR_URL if there are none"
        )


READ_ORDER = ("returns", "tracking", "fulfillment", "inventory", "routing", "capture")
"""Those who hear of things before those who tell them: what was heard of is then found told."""

SECOND_LOOK_S = 1.0
_PAGE = 2_000


ReadLedger = Callable[[], Awaitable[Sequence[Entry]]]
"""What the providers did, by key."""


def ledger_reader() -> ReadLedger | None:
    """Reads the simulated providers' ledger, if the OMS_… variables name them and no others."""
    url, token = os.environ.get("OMS_SIMULATOR_URL"), os.environ.get("OMS_SIMULATOR_CONTROL_TOKEN")
    called = {os.environ.get("OMS_FULFILLMENT_CARRIERS_URL"), os.environ.get("OMS_PAYMENTS_URL")}
    if not url or not token or called != {url} or "OMS_FULFILLMENT_CARRIER_URLS" in os.environ:
        return None

    async def read() -> Sequence[Entry]:
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            try:
                answer = (await client.get("/ledger")).raise_for_status()
            except httpx.HTTPError as error:
                raise LedgerUnreadable(url, error) from error
        return TypeAdapter(list[Entry]).validate_json(answer.content)

    return read


async def audit_installation(settled: bool = False, progress: Progress = lambda events: None) -> list[Violation]:
    """Audit the logs and the ledger that the OMS_… variables name. Raises LogUnavailable, LedgerUnreadable."""
    from ordermill.eventlog.postgres import PostgresStore
    from ordermill.service.settings import settings_of

    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {}
        for service in READ_ORDER:
            store = await PostgresStore.open(settings_of(service).database_url.get_secret_value(), max_connections=2)
            stack.push_async_callback(store.close)
            stores[service] = store
        return (await audit(stores, settled, progress, ledger_reader())).violations


async def audit(
    stores: Mapping[str, Store],
    settled: bool = False,
    progress: Progress = lambda events: None,
    read_ledger: ReadLedger | None = None,
    part_events: int = PART_EVENTS,
) -> Audit:
    """Read all six logs, and the providers' ledger where there is one, and add up. Raises NoRoom.

    `progress` is told how many events were looked at; each is twice: when it is put aside, and with its order's.
    `part_events`: how many are in memory at once, more or less.
    """
    found = await _look(stores, settled, progress, read_ledger, part_events)
    if found.violations and not settled:
        await asyncio.sleep(SECOND_LOOK_S)
        again = await _look(stores, settled, progress, read_ledger, part_events)
        still = set(again.violations)
        again.violations = [violation for violation in found.violations if violation in still]
        return again
    return found


async def _look(
    stores: Mapping[str, Store], settled: bool, progress: Progress, read_ledger: ReadLedger | None, part_events: int
) -> Audit:
    expected = sum([(await stores[service].counts())["events"] for service in READ_ORDER])
    auditor = Auditor(settled, expected, part_events)
    read = 0
    for service in READ_ORDER:
        after = 0
        while page := await stores[service].read(after, _PAGE):
            for sequenced in page:
                row = sequenced.row
                auditor.read(service, sequenced.seq, row.stream, row.type, row.data)
            after = page[-1].seq
            read += len(page)
            progress(read)
    ledger = None if read_ledger is None else await read_ledger()
    return auditor.close(ledger, lambda events: progress(read + events))


__all__ = [
    "Audit",
    "Auditor",
    "InventoryBook",
    "LedgerUnreadable",
    "NoRoom",
    "Violation",
    "audit",
    "audit_installation",
    "ledger_reader",
]
