"""Somebody else's reader, written from the documentation, agrees with `oms verify` on what is whole and what is not."""

from __future__ import annotations

import ast
import asyncio
import sys
from pathlib import Path

import pytest

from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.verify import verify_store
from tests.conftest import LogDatabase
from tests.integration.shelves import RULES, SHELF_VIEW
from tests.integration.test_rebuild import fill, tamper

READER = Path(__file__).parent / "read_log.py"
ABOUT_THE_LOG = frozenset({
    "broken-chain", "missing-event", "missing-number", "out-of-order", "never-numbered",
})  # fmt: skip
"""What `oms verify` finds wrong that can be seen without knowing what events mean."""


async def read(dsn: str) -> tuple[int, str]:
    """Exit status and words of the reader, as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(READER), dsn, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complaint = await process.communicate()
    assert complaint == b"", complaint.decode()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.fixture
async def filled(make_log: object) -> LogDatabase:
    log: LogDatabase = await make_log([SHELF_VIEW])  # type: ignore[operator]
    store = await PostgresStore.open(log.dsn)
    await fill(store)
    await store.close()
    return log


def test_it_imports_nothing_of_ordermill_and_is_short() -> None:
    text = READER.read_text()
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert imported == {"asyncio", "hashlib", "sys", "datetime", "asyncpg"}
    assert len(text.splitlines()) < 100


async def test_a_whole_log_is_whole_to_both(filled: LogDatabase) -> None:
    status, said = await read(filled.dsn)
    assert (status, said.splitlines()[-1]) == (0, "105 events read, 0 faults")


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE events SET data = replace(convert_from(data, 'UTF8'), '5', '6')::bytea
           WHERE stream = 'shelf-004' AND version = 1""",
        "UPDATE events SET recorded_at = recorded_at + '1us' WHERE stream = 'bin-004'",
        "UPDATE events SET happened_at = happened_at - interval '1us' WHERE stream = 'bin-004'",
        "UPDATE events SET actor = 'nobody' WHERE stream = 'bin-004'",
        "UPDATE events SET type = 'oms.inventory.stock-adjusted.v1' WHERE stream = 'bin-004'",
        "UPDATE events SET hash = sha256(hash) WHERE stream = 'shelf-001' AND version = 3",
        "DELETE FROM events WHERE stream = 'shelf-001' AND version = 3",
        "DELETE FROM events WHERE stream = 'shelf-001' AND version = 26",
        "DELETE FROM sequenced WHERE seq = 7",
        "UPDATE sequenced SET seq = seq + 1000 WHERE seq > 20",
        """UPDATE sequenced s SET tx = o.tx, position = o.position FROM sequenced o
           WHERE s.seq + o.seq = 2 * (SELECT max(seq) FROM sequenced) - 3 AND abs(s.seq - o.seq) = 1""",
    ],
)
async def test_what_was_changed_is_wrong_to_both(filled: LogDatabase, statement: str) -> None:
    await tamper(filled, statement)
    status, said = await read(filled.dsn)
    assert status == 1, said
    store = await PostgresStore.open(filled.dsn)
    try:
        violations = await verify_store(store, RULES)
    finally:
        await store.close()
    assert ABOUT_THE_LOG & {violation.what for violation in violations}
