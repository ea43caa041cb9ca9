"""Views built anew beside a service at work, and a check that finds whatever does not follow from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from ordermill.contracts.base import UnknownType
from ordermill.eventlog import rebuild as rebuilding
from ordermill.eventlog.aggregates import Aggregates
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.migrate import migrate
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.rebuild import RebuildStalled, rebuild_view
from ordermill.eventlog.records import chained
from ordermill.eventlog.store import Changes, LogUnavailable, Store
from ordermill.eventlog.verify import Violation, verify_store
from ordermill.eventlog.views import View
from tests.conftest import LogDatabase

from .shelves import MONDAY, RULES, SHELF_VIEW, move, receive, received, rows_of, take, task

AGGREGATES = Aggregates(RULES.deciders)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def tamper(log: LogDatabase, statement: str) -> None:
    async with connected(log.admin_dsn) as admin:
        await admin.execute(statement)


async def fill(store: Store, shelves: int = 30) -> Engine:
    """Some shelves, each with a short history and one with a long one; bins beside them."""
    engine = Engine(store, RULES, lambda: MONDAY)
    await engine.run([task(receive(f"shelf-{n:03}", 5), receive(f"bin-{n:03}", 5)) for n in range(shelves)])
    await engine.run([task(take(f"shelf-{n:03}", n % 6)) for n in range(0, shelves, 2)])
    await engine.run([task(move("shelf-001", "shelf-003", 1)) for _ in range(5)])
    await engine.run([task(receive("shelf-001", 2)) for _ in range(20)])
    await store.sequence()
    return engine


async def table(dsn: str) -> list[tuple[str, str]]:
    async with connected(dsn) as connection:
        return [tuple(row) for row in await connection.fetch("SELECT key, doc::text FROM view_shelves ORDER BY key")]


async def shape(log: LogDatabase) -> tuple[list[Any], list[Any], list[Any]]:
    """The tables there are, and the live one's indexes and grants."""
    async with connected(log.admin_dsn) as admin:
        return (
            await admin.fetch("SELECT tablename, tableowner FROM pg_tables WHERE tablename LIKE 'view%' ORDER BY 1"),
            await admin.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'view_shelves' ORDER BY 1"),
            await admin.fetch(
                """SELECT a.grantee, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
                   WHERE relname = 'view_shelves' ORDER BY 1, 2"""
            ),
        )


class TestRebuild:
    async def test_it_gives_the_same_bytes_as_the_live_one(self, log: LogDatabase, store: PostgresStore) -> None:
        await fill(store)
        live = await table(log.dsn)
        await tamper(log, """UPDATE view_shelves SET doc = '{"units": 99}' WHERE key < '010'""")
        await tamper(log, "DELETE FROM view_shelves WHERE key > '020'")
        await tamper(log, """INSERT INTO view_shelves VALUES ('nobody', '{}')""")
        report = await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
        assert await table(log.dsn) == live
        assert (report.view, report.documents, report.events) == ("shelves", 30, 30 + 15 + 10 + 20)

    @pytest.mark.parametrize("page", [1, 7, 75])
    async def test_so_do_many_pages_of_which_one_is_read_one_folded_and_one_written_at_a_time(
        self, log: LogDatabase, store: PostgresStore, page: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await fill(store)
        live = await table(log.dsn)
        await tamper(log, "DELETE FROM view_shelves")
        monkeypatch.setattr(rebuilding, "_PAGE", page)
        report = await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
        assert await table(log.dsn) == live
        assert (report.documents, report.events) == (30, 75)

    @pytest.mark.parametrize("page", [1, 5_000])
    async def test_an_event_that_nobody_can_read_is_named_and_the_live_view_stays(
        self, log: LogDatabase, store: PostgresStore, page: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await fill(store)
        live = await table(log.dsn)
        monkeypatch.setattr(rebuilding, "_PAGE", page)
        await tamper(log, "UPDATE events SET type = 'oms.inventory.stock-melted.v1' WHERE stream = 'shelf-013'")
        with pytest.raises(UnknownType, match=r"stock-melted\.v1"):
            await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
        assert await table(log.dsn) == live

    async def test_indexes_and_grants_stay_those_added_by_hand_too(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        await fill(store)
        await tamper(log, "CREATE INDEX by_hand ON view_shelves ((doc->>'units')) WHERE key > 'a'")
        await tamper(log, "GRANT SELECT ON view_shelves TO PUBLIC")
        before = await shape(log)
        for _ in range(2):
            await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
            assert await shape(log) == before

    async def test_a_view_whose_code_changed_gets_its_new_shape(self, log: LogDatabase, store: PostgresStore) -> None:
        await fill(store)
        other = replace(SHELF_VIEW, document=lambda shelf: {"left": shelf.units}, indexed=("left",))
        await rebuild_view(log.owner_dsn, store, AGGREGATES, other)
        assert await store.document("shelves", "001") == {"left": 40}
        _, indexes, _ = await shape(log)
        assert {row["indexname"] for row in indexes} == {"view_shelves_pkey", "view_shelves_state", "view_shelves_left"}

    async def test_an_empty_log_gives_an_empty_view(self, log: LogDatabase, store: PostgresStore) -> None:
        await tamper(log, """INSERT INTO view_shelves VALUES ('nobody', '{}')""")
        report = await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
        assert (report.documents, await table(log.dsn)) == (0, [])

    async def test_what_a_rebuild_that_died_left_behind_is_no_hindrance(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        await fill(store)
        live = await table(log.dsn)
        async with connected(log.owner_dsn) as owner:
            await owner.execute("CREATE TABLE view_shelves__next (something int)")
        await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
        assert await table(log.dsn) == live

    async def test_the_service_works_on_meanwhile_and_nothing_it_writes_is_lost(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        engine = await fill(store)
        writing = await PostgresStore.open(log.dsn)
        other = Engine(writing, RULES, lambda: MONDAY)
        done = asyncio.Event()
        written = 0

        async def work(engine: Engine, offset: int) -> None:
            nonlocal written
            while not done.is_set():
                tasks = [task(receive(f"shelf-{(written + n * offset) % 60:03}", 1)) for n in range(5)]
                outcomes = await engine.run(tasks)
                assert [outcome.error for outcome in outcomes] == [None] * 5
                written += 5

        workers = [asyncio.create_task(work(who, n + 1)) for n, who in enumerate([engine, other, engine])]
        for _ in range(5):
            before = written
            report = await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
            assert report.events > before
        done.set()
        await asyncio.gather(*workers)
        assert written > 100
        await store.sequence()
        assert await verify_store(store, RULES) == []
        await writing.close()

    async def test_events_without_a_number_so_far_are_not_forgotten(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        """A transaction left open anywhere on the server keeps the sequencer back."""
        engine = await fill(store)
        async with connected(log.admin_dsn) as admin:
            transaction = admin.transaction()
            await transaction.start()
            await admin.execute("SELECT pg_current_xact_id()")
            await engine.run([task(receive("shelf-001", 1000), receive("shelf-new", 7))])
            assert await store.sequence() == 0
            await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
            assert await store.document("shelves", "001") == {"units": 1040, "state": "stocked", "moves": 5}
            assert await store.document("shelves", "new") == {"units": 7, "state": "stocked", "moves": 0}
            await transaction.rollback()

    async def test_a_view_that_is_never_free_is_left_as_it_is(
        self, log: LogDatabase, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ordermill.eventlog.rebuild._ROUNDS", 2)
        await fill(store)
        before, live = await shape(log), await table(log.dsn)
        async with connected(log.dsn) as reader, reader.transaction():
            await reader.execute("SELECT FROM view_shelves")
            with pytest.raises(RebuildStalled, match="shelves"):
                await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW)
        assert (await shape(log), await table(log.dsn)) == (before, live)

    async def test_it_tells_how_far_it_is(self, log: LogDatabase, store: PostgresStore) -> None:
        await fill(store)
        told: list[int] = []
        report = await rebuild_view(log.owner_dsn, store, AGGREGATES, SHELF_VIEW, told.append)
        assert told[-1] == report.events


OTHER = replace(SHELF_VIEW, version=2)


class TestVersions:
    """Of which code's making a view is; who wrote it tells, and nobody has to know by heart."""

    async def test_a_view_is_of_the_code_that_wrote_it_from_the_first_event_on(self, store: PostgresStore) -> None:
        await fill(store)
        assert await store.begin_writing([SHELF_VIEW]) == []

    async def test_after_an_upgrade_that_changes_it_it_is_outdated_until_it_is_rebuilt(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        await fill(store)
        await migrate(log.owner_dsn, log.access.role, views=[OTHER])
        assert await store.begin_writing([OTHER]) == ["shelves"]
        assert await store.begin_writing([OTHER]) == ["shelves"]
        await rebuild_view(log.owner_dsn, store, AGGREGATES, OTHER)
        assert await store.begin_writing([OTHER]) == []

    async def test_an_older_release_that_wrote_to_it_in_between_makes_it_outdated_again(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        await fill(store)
        await rebuild_view(log.owner_dsn, store, AGGREGATES, OTHER)
        assert await store.begin_writing([SHELF_VIEW]) == ["shelves"]
        assert await store.begin_writing([OTHER]) == ["shelves"]

    async def test_a_new_view_of_a_log_that_is_none_is_outdated_for_it_is_empty(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        await fill(store)
        new = View("shelf_names", "shelf", lambda shelf: {}), View("crates", "crate", dict)
        await migrate(log.owner_dsn, log.access.role, views=[SHELF_VIEW, *new])
        assert await store.begin_writing(new) == ["shelf_names"]

    async def test_a_rebuild_that_fails_leaves_it_outdated(
        self, log: LogDatabase, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ordermill.eventlog.rebuild._ROUNDS", 1)
        await fill(store)
        async with connected(log.dsn) as reader, reader.transaction():
            await reader.execute("SELECT FROM view_shelves")
            with pytest.raises(RebuildStalled):
                await rebuild_view(log.owner_dsn, store, AGGREGATES, OTHER)
        assert await store.begin_writing([OTHER]) == ["shelves"]

    async def test_a_service_whose_database_is_not_migrated_yet_waits_for_that(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        await tamper(log, "DROP TABLE view_versions")
        with pytest.raises(LogUnavailable, match="not set up as this program expects"):
            await store.begin_writing([SHELF_VIEW])


def busy(engine: Engine, look: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A look into the log after which it has two events more, the first time."""
    waiting = True

    async def looked(*asked: Any) -> Any:
        nonlocal waiting
        seen = await look(*asked)
        if not waiting:
            return seen
        waiting = False
        await engine.run([task(receive("bin-new", 1)) for _ in range(2)])
        await engine.store.sequence()
        return seen

    return looked


def found(violations: list[Violation]) -> set[tuple[str, str]]:
    return {(violation.what, violation.where) for violation in violations}


class TestVerify:
    async def test_a_whole_log_has_no_violations(self, store: PostgresStore) -> None:
        await fill(store)
        told: list[int] = []
        assert await verify_store(store, RULES, told.append) == []
        assert told == sorted(told) and told[-1] == 2 * await store.head()

    async def test_so_has_one_in_memory_and_an_empty_one(self) -> None:
        store = MemoryStore()
        assert await verify_store(store, RULES) == []
        await fill(store)
        assert await verify_store(store, RULES) == []

    @pytest.mark.parametrize(
        ("statement", "violations"),
        [
            (
                """UPDATE events SET data = replace(convert_from(data, 'UTF8'), '5', '6')::bytea
                   WHERE stream = 'shelf-004' AND version = 1""",
                {("broken-chain", "shelf-004")},
            ),
            ("UPDATE events SET recorded_at = recorded_at + '1us' WHERE stream = 'bin-004'",
             {("broken-chain", "bin-004")}),
            ("UPDATE events SET actor = 'nobody' WHERE stream = 'bin-004'", {("broken-chain", "bin-004")}),
            (
                "DELETE FROM events WHERE stream = 'shelf-001' AND version = 3",
                {("missing-event", "shelf-001"), ("missing-number", "*"), ("out-of-order", "shelf-001")},
            ),
            (
                "DELETE FROM events WHERE stream = 'shelf-001' AND version = 26",
                {("wrong-document shelves", "shelf-001"), ("wrong-publication", "shelf-001"), ("missing-number", "*"),
                 ("wrong-snapshot", "shelf-001")},
            ),
            ("DELETE FROM sequenced WHERE seq = 7", {("missing-number", "*"), ("out-of-order", "shelf-003")}),
            ("UPDATE sequenced SET seq = seq + 1000 WHERE seq > 20", {("missing-number", "21 to 1020")}),
            (
                """UPDATE sequenced s SET tx = o.tx, position = o.position FROM sequenced o
                   WHERE s.seq + o.seq = 2 * (SELECT max(seq) FROM sequenced) - 3 AND abs(s.seq - o.seq) = 1""",
                {("out-of-order", "shelf-001")},
            ),
            ("""UPDATE view_shelves SET doc = doc || '{"units": 6}' WHERE key = '004'""",
             {("wrong-document shelves", "shelf-004")}),
            ("DELETE FROM view_shelves WHERE key IN ('000', '029')",
             {("wrong-document shelves", "shelf-000"), ("wrong-document shelves", "shelf-029")}),
            ("INSERT INTO view_shelves VALUES ('010x', '{}'), ('zzz', '{}')",
             {("wrong-document shelves", "shelf-010x"), ("wrong-document shelves", "shelf-zzz")}),
            ("UPDATE publications SET data = data || ' ' WHERE key = 'shelf-004'",
             {("wrong-publication", "shelf-004")}),
            ("DELETE FROM publications WHERE key = 'shelf-004'", {("wrong-publication", "shelf-004")}),
            ("UPDATE snapshots SET state = replace(convert_from(state, 'UTF8'), '5', '6')::bytea",
             {("wrong-snapshot", "shelf-001")}),
            ("UPDATE snapshots SET hash = sha256(hash)", {("wrong-snapshot", "shelf-001")}),
        ],
    )  # fmt: skip
    async def test_what_was_changed_behind_its_back_is_found(
        self, log: LogDatabase, store: PostgresStore, statement: str, violations: set[tuple[str, str]]
    ) -> None:
        await fill(store)
        await tamper(log, statement)
        seen = found(await verify_store(store, RULES))
        assert {(what, "*" if (what, "*") in violations else where) for what, where in seen} == violations

    async def test_an_event_slipped_in_behind_the_readers_is_found(
        self, log: LogDatabase, store: PostgresStore
    ) -> None:
        engine = await fill(store)
        await engine.run([task(receive("bin-004", 1))])
        await tamper(log, "UPDATE events SET tx = 1 WHERE stream = 'bin-004' AND version = 2")
        assert found(await verify_store(store, RULES)) == {("never-numbered", "1 events")}

    async def test_an_event_nobody_can_read_is_found(self, store: PostgresStore) -> None:
        await fill(store)
        rows = await store.read_stream("shelf-004")
        (odd,) = rows_of("shelf-004", received(1), after=rows[-1])
        odd = odd._replace(type="oms.inventory.stock-melted.v1")
        odd = odd._replace(hash=chained(rows[-1].hash, odd))
        async with store.transaction() as transaction:
            await transaction.commit(Changes(rows=[odd]))
        assert found(await verify_store(store, RULES)) == {("unreadable-event", "shelf-004")}

    async def test_it_stops_when_it_has_found_enough(self, log: LogDatabase, store: PostgresStore) -> None:
        await fill(store)
        await tamper(log, "DELETE FROM view_shelves")
        assert len(await verify_store(store, RULES, limit=3)) == 3

    async def test_it_does_not_cry_wolf_over_a_log_at_work(self, store: PostgresStore) -> None:
        engine = await fill(store)
        done = asyncio.Event()

        async def work() -> None:
            n = 0
            while not done.is_set():
                n += 1
                await engine.run([task(receive(f"shelf-{(n * 7 + k) % 90:03}", 1)) for k in range(3)])
                await store.sequence()

        working = asyncio.create_task(work())
        for _ in range(10):
            assert await verify_store(store, RULES) == []
        done.set()
        await working

    async def test_nor_over_a_snapshot_made_this_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = MemoryStore()
        engine = Engine(store, RULES, lambda: MONDAY)
        await engine.run([task(receive("shelf-001", 1)) for _ in range(9)])
        snapshots = store.snapshots

        async def after_one_more(*asked: Any) -> Any:
            await engine.run([task(receive("shelf-001", 1))])
            return await snapshots(*asked)

        monkeypatch.setattr(store, "snapshots", after_one_more)
        assert await verify_store(store, RULES) == []

    async def test_what_is_written_meanwhile_hides_nothing(
        self, log: LogDatabase, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = await fill(store)
        await engine.run([task(receive("bin-004", 1))])
        await tamper(log, "UPDATE events SET tx = 1 WHERE stream = 'bin-004' AND version = 2")
        monkeypatch.setattr(store, "head", busy(engine, store.head))
        assert found(await verify_store(store, RULES)) == {("never-numbered", "1 events")}

    async def test_nor_in_several_passes(
        self, log: LogDatabase, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ordermill.eventlog.verify._STREAMS_A_PASS", 10)
        engine = await fill(store)
        (number,) = [each.seq for each in await store.read(0, 1_000) if each.row.stream == "bin-004"]
        await tamper(log, f"DELETE FROM sequenced WHERE seq = {number}")
        monkeypatch.setattr(store, "read", busy(engine, store.read))
        assert {what for what, _ in found(await verify_store(store, RULES))} == {"missing-number"}

    async def test_many_streams_take_several_passes_and_the_same_is_found(
        self, log: LogDatabase, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ordermill.eventlog.verify._STREAMS_A_PASS", 10)
        await fill(store)
        assert await verify_store(store, RULES) == []
        await tamper(log, "DELETE FROM sequenced WHERE seq = 7")
        assert {what for what, _ in found(await verify_store(store, RULES))} >= {"missing-number"}
