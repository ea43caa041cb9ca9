"""Topics into tables: a parcel's facts find their order, in whichever order and polls they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise, permutations
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from ordermill.contracts.inventory import StockReceived
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
    pool = await asyncpg.create_pool(f"{postgres}/projecting", min_size=1, max_size=2)
    for migration in sorted(console_migrations().glob("*.sql")):
        await pool.execute(migration.read_text())
    yield Projecting(pool, PICTURES, lambda: MONDAY)
    await pool.close()


def record(fact: str, stream: str = PARCEL, body: bytes = b"") -> Any:
    value = body or (b'{"order_id": "order-teapot"}' if fact == ANNOUNCED else b"{}")
    return a_record("tracking", f"oms.tracking.{fact}", f"{stream}-{fact}", stream, value)


def a_record(service: str, type_name: str, message_id: str, stream: str, value: bytes) -> Any:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": message_id,
        "ce_source": f"/ordermill/{service}",
        "ce_type": type_name,
        "ce_subject": stream,
        "ce_time": MONDAY.isoformat(),
    }
    return SimpleNamespace(
        topic=f"oms.{service}.events",
        partition=0,
        offset=0,
        timestamp=0,
        value=value,
        headers=[(name, text.encode()) for name, text in headers.items()],
    )


def arrival(sku: str, location: str, quantity: int) -> Any:
    fact = StockReceived(sku=sku, location=location, quantity=quantity, reference=f"to {location}")
    return a_record("inventory", fact.type, f"{sku}-{location}", f"stock-{sku}", fact.to_json())


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


async def test_two_instances_that_draw_one_document_at_once_lose_nothing(projecting):
    other = Projecting(projecting.pool, PICTURES, lambda: MONDAY)
    skus = [f"POT-{number}" for number in range(20)]
    for begun in (skus[10:], skus):  # some are there already, and some both begin
        await asyncio.gather(
            projecting.handle([arrival(sku, f"cedar-{len(begun)}", 2) for sku in begun]),
            other.handle([arrival(sku, f"edison-{len(begun)}", 3) for sku in reversed(begun)]),
        )
    rows = await projecting.pool.fetch("SELECT key, on_hand, locations FROM stock")
    assert {key: on_hand for key, on_hand, _ in rows} == {sku: 10 if sku in skus[10:] else 5 for sku in skus}
    assert {len(locations) for _, _, locations in rows} == {2, 4}


async def test_what_is_told_again_changes_nothing(projecting):
    told = [arrival("POT", "cedar", 2), arrival("POT", "edison", 3)]
    for _ in range(2):
        await projecting.handle([*told, *told])
    assert await projecting.pool.fetchval("SELECT on_hand FROM stock") == 5
    assert await projecting.pool.fetchval("SELECT count(*) FROM events") == 2


def strange(body: bytes = b"{}", **headers: str) -> Any:
    """What anybody may write to a topic of outsiders, under a type that nobody knows."""
    made = a_record("carrier", "com.example.told.v1", "strange", "parcel-1", body)
    made.topic = "oms.carrier.events"
    texts = {f"ce_{name}": text.encode() for name, text in headers.items()}
    made.headers = list((dict(made.headers) | texts).items())
    return made


@pytest.mark.parametrize(
    "told",
    [
        strange(b'{"order_id": 5}'),
        strange(b'{"order_id": "a\\u0000b"}'),
        strange(b'{"order_id": "%s"}' % b"".join(b"%x" % (n * n * 7919) for n in range(3_000))),
        strange(streamversion="9" * 12),
        strange(subject="a\0b"),
        strange(subject="".join(f"{n * n * 7919:x}" for n in range(3_000))),
        strange(actor="a\0b"),
        strange(type="a\0b"),
        strange(causationid="".join(f"{n * n * 7919:x}" for n in range(3_000))),
    ],
    ids=["number", "NUL", "long", "version", "subject", "long subject", "actor", "type", "long cause"],
)
async def test_a_message_that_the_tables_could_not_hold_as_it_is_stops_no_other(projecting, told):
    async with asyncio.timeout(20):
        await projecting.handle([told, arrival("POT", "cedar", 2)])
    assert await projecting.pool.fetchval("SELECT on_hand FROM stock") == 2


async def test_an_instance_of_before_an_upgrade_goes_on_when_a_table_has_a_new_column(projecting):
    await projecting.handle([arrival("teapot", "berlin", 5)])
    await projecting.pool.execute("ALTER TABLE stock ADD COLUMN colour text NOT NULL DEFAULT ''")
    async with asyncio.timeout(20):
        await projecting.handle([arrival("teapot", "madrid", 2)])
    assert await projecting.pool.fetchval("SELECT on_hand FROM stock WHERE key = 'teapot'") == 7
