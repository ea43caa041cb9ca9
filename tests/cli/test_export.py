"""Analysts get every fact once, in its order, to the byte; and the next time only what is new."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ordermill.cli import export as exporting
from ordermill.cli.export import ExportedMeanwhile, FilesMissing, NoParquet, export_log, exported
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.records import GENESIS, Row, SequencedRow, chained
from ordermill.eventlog.store import Changes, Store
from tests.integration.shelves import received, rows_of

from .life import Life, live


@pytest.fixture(scope="module")
async def life() -> Life:
    made = Life()
    await live(made)
    return made


def rows_in(folder: Path, service: str) -> list[SequencedRow]:
    columns = "seq, stream, version, event_id, type, data, correlation_id, causation_id, actor"
    columns += ", happened_at, recorded_at, hash"
    with duckdb.connect() as connection:
        found: list[tuple[Any, ...]] = connection.sql(
            f"SELECT {columns} FROM '{folder}/{service}-*.parquet' ORDER BY seq"
        ).fetchall()
    return [
        SequencedRow(seq, Row(*rest[:4], rest[4].encode(), *rest[5:8], *map(_utc, rest[8:10]), bytes.fromhex(rest[10])))
        for seq, *rest in found
    ]


def _utc(instant: Any) -> Any:
    return instant.astimezone(UTC)


async def a_log(*quantities: int, store: MemoryStore | None = None) -> MemoryStore:
    made = store or MemoryStore()
    before = await made.read_stream("shelf-a")
    rows = rows_of("shelf-a", *(received(each) for each in quantities), after=before[-1] if before else None)
    async with made.transaction() as transaction:
        await transaction.commit(Changes(rows=rows))
    await made.sequence()
    return made


async def everything(store: Store) -> list[SequencedRow]:
    return [SequencedRow(seq, row._replace(trace=None)) for seq, row in await store.read(0, 100_000)]


async def test_a_whole_life_comes_out_as_it_went_in(life: Life, tmp_path: Path) -> None:
    for name, running in life.services.items():
        store = running.engine.store
        ((first, last, file),) = await export_log(store, name, tmp_path)
        assert (first, last, file) == (1, await store.head(), f"{name}-{1:012}-{last:012}.parquet")
        found = rows_in(tmp_path, name)
        assert found == await everything(store)
        ends: dict[str, bytes] = {}
        for _, row in found:
            assert row.hash == chained(ends.get(row.stream, GENESIS), row), "data is what was hashed, to the byte"
            ends[row.stream] = row.hash


async def test_data_can_be_asked_as_json(life: Life, tmp_path: Path) -> None:
    await export_log(life.services["capture"].engine.store, "capture", tmp_path)
    with duckdb.connect() as connection:
        asked = f"""SELECT sum((data->'$.total.minor')::BIGINT), count(DISTINCT data->>'$.channel')
                    FROM '{tmp_path}/*.parquet' WHERE type LIKE 'oms.capture.order-captured.%'"""
        (money, channels) = connection.sql(asked).fetchall()[0]
    assert money > 0
    assert channels >= 1


async def test_the_next_time_only_what_is_new_is_written(tmp_path: Path) -> None:
    store = await a_log(1, 2, 3)
    assert [(first, last) for first, last, _ in await export_log(store, "inventory", tmp_path)] == [(1, 3)]
    assert await export_log(store, "inventory", tmp_path) == []
    await a_log(4, store=store)
    assert [(first, last) for first, last, _ in await export_log(store, "inventory", tmp_path)] == [(4, 4)]
    assert rows_in(tmp_path, "inventory") == await everything(store)


async def test_a_long_log_comes_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "IN_A_FILE", 3)
    monkeypatch.setattr(exporting, "_PAGE", 2)
    store = await a_log(*range(1, 8))
    told: list[int] = []
    written = await export_log(store, "inventory", tmp_path, told.append)
    assert [(first, last) for first, last, _ in written] == [(1, 3), (4, 6), (7, 7)]
    assert told[-1] == 7
    assert rows_in(tmp_path, "inventory") == await everything(store)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".parquet"] * 3


async def test_what_a_crash_left_half_written_is_written_anew(tmp_path: Path) -> None:
    store = await a_log(1, 2)
    (tmp_path / f"inventory-{1:012}-{2:012}.part").write_bytes(b"PAR1 and no more")
    (tmp_path / "tmpabc.jsonl").write_bytes(b"{}")
    (tmp_path / "notes.txt").write_bytes(b"an analyst's own")
    await export_log(store, "inventory", tmp_path)
    assert rows_in(tmp_path, "inventory") == await everything(store)


async def test_two_exports_into_one_folder_at_once_write_nothing_twice(tmp_path: Path) -> None:
    store = await a_log(1, 2, 3)
    read = store.read

    async def overtaken(*asked: Any) -> list[SequencedRow]:
        page = await read(*asked)
        if not page:  # all is read, nothing is written yet: a second one comes, and finds more
            store.read = read  # type: ignore[method-assign]
            await export_log(await a_log(4, store=store), "inventory", tmp_path)
        return page

    store.read = overtaken  # type: ignore[method-assign]
    with pytest.raises(ExportedMeanwhile, match="another export"):
        await export_log(store, "inventory", tmp_path)
    assert await export_log(store, "inventory", tmp_path) == []
    assert rows_in(tmp_path, "inventory") == await everything(store)
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]


@pytest.mark.parametrize("gone", [0, 1])
async def test_a_file_that_is_missing_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    monkeypatch.setattr(exporting, "IN_A_FILE", 1)
    store = await a_log(1, 2, 3)
    written = await export_log(store, "inventory", tmp_path)
    (tmp_path / written[gone][2]).unlink()
    await a_log(4, store=store)
    with pytest.raises(FilesMissing, match=f"does not go on behind event {gone} of inventory"):
        await export_log(store, "inventory", tmp_path)
    assert len([*tmp_path.iterdir()]) == 2
    assert exported(tmp_path, "returns") == 0


async def test_without_duckdb_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(NoParquet, match=r"pip install 'ordermill\[export\]'"):
        await export_log(await a_log(1), "inventory", tmp_path)
    assert [*tmp_path.iterdir()] == []
