"""However many orders there are, the queue is read through its indexes: a page costs a page."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from ordermill.installation import console_migrations
from ordermill.keyring import Keyring, MemoryKeyStore
from services.console.filters import Filters, choices, find

ORDERS = int(os.environ.get("OMS_TEST_ORDERS", "20000"))
FILL = """
INSERT INTO orders (key, channel, external_id, what, status, attention, why, locations, placed_at, promised_by,
                    changed_at, total_minor, currency, units)
SELECT 'o-' || n, (ARRAY['store', 'pos', 'marketplace'])[1 + n % 3], 'E-' || n, 'Teapot ×1',
       (ARRAY['delivered', 'delivered', 'delivered', 'shipped', 'confirmed'])[1 + n % 5],
       CASE WHEN n % 50 = 0 THEN ARRAY['late'] WHEN n % 333 = 0 THEN ARRAY['held', 'late'] ELSE '{}' END,
       CASE WHEN n % 50 = 0 THEN ARRAY['edison: not accepted yet'] ELSE '{}' END, ARRAY['edison'],
       '2026-03-01Z'::timestamptz + n * interval '1 minute', '2026-03-05Z'::timestamptz + n * interval '1 minute',
       '2026-03-02Z'::timestamptz + n * interval '1 minute', 1000 + n, 'USD', 1
FROM generate_series(1, $1) AS n
"""
NAMES = """
INSERT INTO names (value, kind, order_id)
SELECT 'e-' || n, 'external', 'o-' || n FROM generate_series(1, $1) AS n
UNION ALL SELECT 'sku-' || n % 1000, 'sku', 'o-' || n FROM generate_series(1, $1) AS n
"""


@pytest.fixture
async def this(postgres: str):
    admin = await asyncpg.connect(f"{postgres}/postgres")
    await admin.execute("DROP DATABASE IF EXISTS queue_plans")
    await admin.execute("CREATE DATABASE queue_plans")
    await admin.close()
    asked: list[Any] = []

    async def listen(connection: Any) -> None:
        connection.add_query_logger(asked.append)

    pool = await asyncpg.create_pool(f"{postgres}/queue_plans", min_size=1, max_size=1, init=listen)
    for name in ("0001_console.sql", "0006_order_pages.sql"):
        await pool.execute((console_migrations() / name).read_text())
    await pool.execute(FILL, ORDERS)
    await pool.execute(NAMES, ORDERS)
    await pool.execute("VACUUM ANALYZE")
    yield SimpleNamespace(pool=pool, keyring=Keyring(MemoryKeyStore(), bytes(32)), asked=asked)
    await pool.close()


MIDDLE = "2026-03-07T00:00:00+00:00_o-8640"


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(need="any"),
        Filters(need="late"),
        Filters(status="shipped"),
        Filters(channel="pos"),
        Filters(channel="pos", status="delivered", need="late"),
        Filters(sort="promise"),
        Filters(sort="changed"),
        Filters(sort="oldest", after=MIDDLE),
        Filters(before=MIDDLE),
        Filters(q="e-12345"),
        Filters(since="2026-03-03", until="2026-03-03"),
    ],
    ids=lambda filters: filters.query or "all",
)
async def test_a_page_of_the_queue_and_its_counts_read_no_table_from_end_to_end(this: Any, filters: Filters) -> None:
    this.asked.clear()
    began = time.perf_counter()
    shown = await find(this, filters, ZoneInfo("UTC"))
    await choices(this)
    print(f"{filters.query or 'all'}: {1000 * (time.perf_counter() - began):.1f} ms")
    assert shown.orders
    asked = [(record.query, record.args) for record in this.asked if " FROM orders" in record.query]
    assert len(asked) >= 4
    for query, values in asked:
        lines = [row[0] for row in await this.pool.fetch(f"EXPLAIN {query}", *values)]
        assert not any("Seq Scan on orders" in line or "Seq Scan on names" in line for line in lines), "\n".join(lines)
