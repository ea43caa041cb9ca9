"""Topics into tables: a parcel's facts find their order, in whichever order and polls they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise, permutations
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from ordermill.installation import console_migrations
from services.console.pictures import PICTURES
from services.console.projecting import Projecting

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
PARCEL = "shipment-cedar-1"
ANNOUNCED, SCANNED, DELIVERED = "shipment-announced.v1", "shipment-scanned.v1", "shipment-delivered.v2"
FACTS = (ANNOUNCED, SCANNED, DELIVERED)


@pytest.fixture
async def projecting(postgres: str) -> AsyncIterator[Projecting]:
    admin = await asyncpg.connect(f"{postgres}/postgres")
    await admin.execute("DROP DATABASE IF EXISTS projecting")
    await admin.execute("CREATE DATABASE projecting")
    await admin.close()
    pool = await asyncpg.create_pool(f"{postgres}/projecting", min_size=1, max_size=1)
    for migration in sorted(console_migrations().glob("*.sql")):
        await pool.execute(migration.read_text())
    yield Projecting(pool, PICTURES, lambda: MONDAY)
    await pool.close()


def record(fact: str, stream: str = PARCEL, body: bytes = b"") -> Any:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{stream}-{fact}",
        "ce_source": "/ordermill/tracking",
        "ce_type": f"oms.tracking.{fact}",
        "ce_subject": stream,
        "ce_time": MONDAY.isoformat(),
    }
    value = body or (b'{"order_id": "order-teapot"}' if fact == ANNOUNCED else b"{}")
    return SimpleNamespace(
        topic="oms.tracking.events",
        partition=0,
        offset=0,
        timestamp=0,
        value=value,
        headers=[(name, text.encode()) for name, text in headers.items()],
    )


async def orders(projecting: Projecting) -> dict[str, str | None]:
    rows = await projecting.pool.fetch("SELECT message_id, order_id FROM events")
    return {row["message_id"]: row["order_id"] for row in rows}


@pytest.mark.parametrize("cuts", [(0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3)])
async def test_each_fact_of_a_parcel_is_of_the_order_that_one_of_them_names(projecting, cuts):
    for number, facts in enumerate(permutations(FACTS)):
        told = [record(fact, f"{PARCEL}{number}") for fact in facts]
        for begin, end in pairwise(cuts):
            await projecting.handle(told[begin:end])
    found = await orders(projecting)
    assert len(found) == 6 * len(FACTS)
    assert set(found.values()) == {"order-teapot"}


async def test_a_parcel_of_which_no_fact_names_an_order_has_none(projecting):
    await projecting.handle([record(ANNOUNCED), record(SCANNED, "shipment-cedar-2")])
    await projecting.handle([record(DELIVERED, "shipment-cedar-2")])
    assert {name for name, order in (await orders(projecting)).items() if order is None} == {
        f"shipment-cedar-2-{SCANNED}",
        f"shipment-cedar-2-{DELIVERED}",
    }
