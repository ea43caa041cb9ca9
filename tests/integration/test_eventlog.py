"""What every store of a log does, PostgreSQL's and the one in memory alike, and what the engine makes of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from asyncpg.transaction import Transaction
from structlog.testing import capture_logs

from ordermill.contracts.base import Fact
from ordermill.decider import Decision
from ordermill.eventlog import aggregates
from ordermill.eventlog.aggregates import Aggregates
from ordermill.eventlog.engine import Engine, Outcome, WaitsItsTurn
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.records import GENESIS, Row, chained
from ordermill.eventlog.store import Changes, Effect, Snapshot, Store, Timer, Unstorable, VersionConflict
from tests.conftest import LogDatabase

from .shelves import (
    MONDAY,
    RULES,
    SHELF_VIEW,
    SHELVES,
    NotEnough,
    Shelf,
    adjusted,
    move,
    receive,
    received,
    rows_of,
    stock_once,
    take,
    task,
)

LATER = MONDAY + timedelta(minutes=1)
MUCH_LATER = MONDAY + timedelta(days=2)


@pytest.fixture(params=["memory", "postgres"])
async def store(
    request: pytest.FixtureRequest, make_log: Callable[..., Awaitable[LogDatabase]]
) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    opened = await PostgresStore.open((await make_log([SHELF_VIEW])).dsn)
    yield opened
    await opened.close()


async def commit(store: Store, *rows: Row, **changes: Any) -> None:
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=list(rows), **changes))


async def everything(store: Store) -> list[Row]:
    """The whole log in sequence, after numbering it; the numbers are dense from 1."""
    while await store.sequence():
        pass
    sequenced = await store.read(0, 1_000_000)
    assert [found.seq for found in sequenced] == list(range(1, len(sequenced) + 1))
    return [found.row for found in sequenced]


class TestEvents:
    async def test_one_transaction_appends_to_several_streams(self, store: Store) -> None:
        one, two = rows_of("shelf-a", received(1), adjusted(-1)), rows_of("bin-b", received(2))
        await commit(store, one[0], two[0], one[1])
        assert await store.read_stream("shelf-a") == one
        assert await store.read_stream("bin-b") == two
        assert await everything(store) == [one[0], two[0], one[1]]

    async def test_a_stream_can_be_read_beyond_a_version(self, store: Store) -> None:
        rows = rows_of("shelf-a", received(1), received(2), received(3))
        await commit(store, *rows)
        assert await store.read_stream("shelf-a", 2) == rows[2:]
        assert await store.read_stream("shelf-a", 3) == []
        assert await store.read_stream("shelf-nobody") == []

    async def test_hashes_come_by_number_in_pages(self, store: Store) -> None:
        one, two = rows_of("shelf-a", received(1), adjusted(-1)), rows_of("bin-b", received(2))
        await commit(store, *one)
        await commit(store, *two)
        rows = await everything(store)
        assert await store.hashes(0, 2) == [(1, rows[0].hash), (2, rows[1].hash)]
        assert await store.hashes(2, 10) == [(3, rows[2].hash)]
        assert await store.hashes(3, 10) == []

    async def test_an_event_has_no_number_and_no_place_among_the_hashes_before_it_is_numbered(
        self, store: Store
    ) -> None:
        one = rows_of("shelf-a", received(1))
        await commit(store, *one)
        assert (await store.hashes(0, 10), await store.numbers(["shelf-a"])) == ([], {})
        await everything(store)
        assert await store.numbers(["shelf-a"]) == {("shelf-a", 1): 1}

    async def test_numbers_are_told_of_the_streams_that_are_asked_for(self, store: Store) -> None:
        one, two = rows_of("shelf-a", received(1), adjusted(-1)), rows_of("bin-b", received(2))
        await commit(store, one[0], two[0], one[1])
        await everything(store)
        assert await store.numbers(["shelf-a", "shelf-nobody"]) == {("shelf-a", 1): 1, ("shelf-a", 2): 3}

    async def test_many_streams_are_read_at_once_each_beyond_its_version(self, store: Store) -> None:
        one, two = rows_of("shelf-a", received(1), received(2)), rows_of("shelf-b", received(3), received(4))
        await commit(store, *one, *two)
        async with store.transaction() as transaction:
            rows = (await transaction.look_up({"shelf-a": 1, "shelf-b": 0, "shelf-c": 0})).rows
        assert [row for row in rows if row.stream == "shelf-a"] == one[1:]
        assert [row for row in rows if row.stream == "shelf-b"] == two
        assert len(rows) == 3

    async def test_a_version_that_is_taken_is_a_conflict_and_nothing_is_written(self, store: Store) -> None:
        first = rows_of("shelf-a", received(1))
        await commit(store, *first)
        message = uuid4()
        with pytest.raises(VersionConflict):
            await commit(
                store,
                *rows_of("shelf-b", received(1)),
                *rows_of("shelf-a", received(9)),
                inbox=[message],
                timers={("shelf-b", "count"): Timer("shelf-b", "count", MONDAY)},
                effects=[Effect("tell", "shelf-b", "t", b"{}", "c", uuid4())],
                documents={"shelves": {"b": {"units": 1}}},
                publications={("topic", "shelf-b"): ("t", b"{}")},
                blobs={b"digest": b"body"},
            )
        assert await everything(store) == first
        assert await store.due_timers(MUCH_LATER, 10, MONDAY, LATER) == []
        assert await store.due_effects(MONDAY, 10, LATER) == []
        assert await store.document("shelves", "b") is None
        assert await store.unpublished(10) == []
        assert await store.blob(b"digest") is None
        async with store.transaction() as transaction:
            assert (await transaction.look_up({}, messages=[message])).seen == set()

    async def test_leaving_without_commit_writes_nothing(self, store: Store) -> None:
        async with store.transaction() as transaction:
            assert (await transaction.look_up({"shelf-a": 0})).rows == []
        with pytest.raises(RuntimeError):
            async with store.transaction():
                raise RuntimeError("the handler failed")
        assert await everything(store) == []

    async def test_readers_go_by_dense_numbers_from_any_point(self, store: Store) -> None:
        rows = rows_of("shelf-a", *(received(n) for n in range(1, 8)))
        await commit(store, *rows[:3])
        with pytest.raises(VersionConflict):
            await commit(store, *rows[:1])
        await commit(store, *rows[3:])
        assert await store.sequence() == 7
        assert await store.sequence() == 0
        assert await store.head() == 7
        assert [(s.seq, s.row) for s in await store.read(2, 3)] == [(3, rows[2]), (4, rows[3]), (5, rows[4])]
        assert await store.read(7, 10) == []

    async def test_what_has_no_number_is_not_read(self, store: Store) -> None:
        await commit(store, *rows_of("shelf-a", received(1), received(2), received(3)))
        assert await store.read(0, 10) == []
        assert await store.head() == 0
        assert await store.sequence(2) == 2
        assert [s.seq for s in await store.read(0, 10)] == [1, 2]

    async def test_shards_part_the_log_by_stream(self, store: Store) -> None:
        streams = [f"shelf-{n}" for n in range(40)]
        for stream in streams:
            await commit(store, *rows_of(stream, received(1), received(2)))
        await store.sequence()
        shards = [await store.read(0, 1_000, (index, 3)) for index in range(3)]
        assert all(shards)
        assert sorted(s.seq for shard in shards for s in shard) == list(range(1, 81))
        assert sorted(stream for shard in shards for stream in {s.row.stream for s in shard}) == sorted(streams)
        assert await store.read(shards[1][1].seq, 2, (1, 3)) == shards[1][2:4]

    async def test_a_relay_s_look_numbers_reads_on_and_brings_the_states_that_wait(self, store: Store) -> None:
        key = ("oms.inventory.availability", "shelf-a")
        rows = rows_of("shelf-a", *(received(n) for n in range(1, 5)))
        await commit(store, *rows[:3], publications={key: ("t", b"1")})
        page = await store.next_page(1, 1)
        assert [(s.seq, s.row) for s in page.rows] == [(2, rows[1])]
        assert page.states == await store.unpublished(10) != []
        assert await store.head() == 3
        await store.published(page.states)
        await commit(store, rows[3])
        page = await store.next_page(2, 10)
        assert ([s.seq for s in page.rows], page.states) == ([3, 4], [])

    async def test_a_relay_of_another_shard_than_the_first_reads_alone(self, store: Store) -> None:
        for n in range(20):
            await commit(store, *rows_of(f"shelf-{n}", received(1)), publications={("topic", f"{n}"): ("t", b"1")})
        assert (await store.next_page(0, 100, (1, 2))).rows == []
        first = await store.next_page(0, 100, (0, 2))
        second = await store.next_page(0, 100, (1, 2))
        assert (len(first.states), second.states) == (20, [])
        assert second.rows == await store.read(0, 100, (1, 2)) != []
        assert sorted(s.seq for s in (*first.rows, *second.rows)) == list(range(1, 21))

    async def test_all_streams_come_whole_and_by_name(self, store: Store) -> None:
        long = rows_of("shelf-b", *(received(1) for _ in range(4_500)))
        others = {name: rows_of(name, received(1), received(2)) for name in ("bin-z", "shelf-a", "shelf-c", "shelf2-a")}
        await commit(store, *long, *(row for rows in others.values() for row in rows))
        found = [(stream, rows) async for stream, rows in store.all_streams()]
        assert found == sorted([*others.items(), ("shelf-b", long)])
        found = [(stream, rows) async for stream, rows in store.all_streams("shelf")]
        assert found == [("shelf-a", others["shelf-a"]), ("shelf-b", long), ("shelf-c", others["shelf-c"])]

    async def test_counts_tell_what_waits(self, store: Store) -> None:
        rows = rows_of("shelf-a", received(1), received(2))
        await commit(store, rows[0], timers={("shelf-a", "count"): Timer("shelf-a", "count", MONDAY)})
        await store.sequence()
        with pytest.raises(VersionConflict):
            await commit(store, rows[0])
        await commit(store, rows[1], effects=[Effect("tell", "shelf-a", "t", b"{}", "c", uuid4())])
        counts = await store.counts()
        assert {name: counts[name] for name in ("events", "sequenced", "timers", "effects")} == {
            "events": 2, "sequenced": 1, "timers": 1, "effects": 1,
        }  # fmt: skip
        await store.sequence()
        counts = await store.counts()
        assert counts["events"] == counts["sequenced"] == 2


class TestInbox:
    async def test_it_knows_what_was_handled(self, store: Store) -> None:
        handled, fresh = uuid4(), uuid4()
        await commit(store, inbox=[handled])
        async with store.transaction() as transaction:
            assert (await transaction.look_up({}, messages=[handled, fresh])).seen == {handled}

    async def test_a_message_that_another_handled_meanwhile_is_a_conflict(self, store: Store) -> None:
        message = uuid4()
        async with store.transaction() as late:
            assert (await late.look_up({}, messages=[message])).seen == set()
            await commit(store, inbox=[message])
            with pytest.raises(VersionConflict):
                await commit(store, *rows_of("shelf-a", received(1)), inbox=[message])
        assert await everything(store) == []


class TestTimers:
    TIMER = Timer("shelf-a", "count", MONDAY)

    async def due(self, store: Store, at: Any = MONDAY, now: Any = MONDAY, lease: Any = LATER) -> list[Timer]:
        return await store.due_timers(at, 10, now, lease)

    async def set(self, store: Store, *timers: Timer) -> None:
        await commit(store, timers={(timer.stream, timer.name): timer for timer in timers})

    async def test_a_timer_is_due_at_its_time_and_no_sooner(self, store: Store) -> None:
        await self.set(store, self.TIMER)
        assert await self.due(store, MONDAY - timedelta(microseconds=1)) == []
        assert await self.due(store) == [self.TIMER]

    async def test_setting_it_again_moves_it(self, store: Store) -> None:
        await self.set(store, self.TIMER)
        moved = replace(self.TIMER, due_at=LATER)
        await self.set(store, moved)
        assert await self.due(store) == []
        assert await self.due(store, LATER) == [moved]

    async def test_one_set_anew_is_not_bound_by_an_earlier_claim(self, store: Store) -> None:
        await self.set(store, self.TIMER)
        assert await self.due(store, lease=MUCH_LATER) == [self.TIMER]
        await self.set(store, self.TIMER)
        assert await self.due(store) == [self.TIMER]

    async def test_a_cleared_timer_never_fires(self, store: Store) -> None:
        other = Timer("shelf-a", "other", MONDAY)
        await self.set(store, self.TIMER, other)
        await commit(store, timers={("shelf-a", "count"): None, ("shelf-b", "count"): None})
        assert await self.due(store) == [other]

    async def test_a_claim_keeps_others_off_until_its_lease_ends(self, store: Store) -> None:
        await self.set(store, self.TIMER)
        assert await self.due(store, lease=LATER) == [self.TIMER]
        assert await self.due(store, now=LATER - timedelta(microseconds=1)) == []
        assert await self.due(store, now=LATER, lease=LATER + timedelta(minutes=1)) == [self.TIMER]

    async def test_one_that_fired_is_gone_but_one_set_anew_meanwhile_stays(self, store: Store) -> None:
        other = Timer("shelf-b", "count", MONDAY)
        await self.set(store, self.TIMER, other)
        assert await self.due(store) == [self.TIMER, other]
        anew = replace(other, due_at=LATER)
        await self.set(store, anew)
        await commit(store, fired=[self.TIMER, other])
        assert await self.due(store, MUCH_LATER, MUCH_LATER) == [anew]

    async def test_its_work_may_set_it_again(self, store: Store) -> None:
        await self.set(store, self.TIMER)
        assert await self.due(store) == [self.TIMER]
        await commit(store, fired=[self.TIMER], timers={("shelf-a", "count"): self.TIMER})
        assert await self.due(store) == [self.TIMER]

    async def test_its_work_may_clear_it(self, store: Store) -> None:
        await self.set(store, self.TIMER)
        await commit(store, fired=[self.TIMER], timers={("shelf-a", "count"): None})
        assert await self.due(store, MUCH_LATER, MUCH_LATER) == []

    async def test_the_earliest_come_first_and_no_more_than_asked(self, store: Store) -> None:
        timers = [Timer(f"shelf-{n}", "count", MONDAY - timedelta(minutes=n)) for n in range(5)]
        await self.set(store, *timers)
        assert await store.due_timers(MONDAY, 2, MONDAY, LATER) == [timers[4], timers[3]]
        assert await store.due_timers(MONDAY, 9, MONDAY, LATER) == [timers[2], timers[1], timers[0]]


class TestEffects:
    EFFECT = Effect("tell-walk", "shelf-a", "oms.inventory.stock-adjusted.v1", b"{}", "order-1", uuid4())

    async def test_an_effect_is_claimed_once_until_its_lease_ends(self, store: Store) -> None:
        await commit(store, effects=[self.EFFECT])
        assert await store.due_effects(MONDAY, 10, LATER) == [self.EFFECT]
        assert await store.due_effects(MONDAY, 10, LATER) == []
        assert await store.due_effects(LATER, 10, MUCH_LATER) == [self.EFFECT]

    async def test_one_id_is_one_effect(self, store: Store) -> None:
        again = replace(self.EFFECT, data=b'{"second":true}')
        await commit(store, effects=[self.EFFECT, again])
        await commit(store, effects=[again])
        assert await store.due_effects(MONDAY, 10, LATER) == [self.EFFECT]

    async def test_one_that_is_done_is_gone(self, store: Store) -> None:
        await commit(store, effects=[self.EFFECT, replace(self.EFFECT, effect_id="tell-other")])
        await commit(store, done_effects=["tell-walk", "tell-nobody"])
        assert [effect.effect_id for effect in await store.due_effects(MONDAY, 10, LATER)] == ["tell-other"]

    async def test_one_that_is_done_may_be_asked_for_anew_with_the_same_commit(self, store: Store) -> None:
        anew = replace(self.EFFECT, data=b'{"second":true}', asked_by=uuid4())
        await commit(store, effects=[self.EFFECT])
        await store.postpone_effect(self.EFFECT, LATER)
        await commit(store, done_effects=["tell-walk"], effects=[anew])
        assert await store.due_effects(MONDAY, 10, LATER) == [anew]

    async def test_postponing_counts_the_attempt_and_waits(self, store: Store) -> None:
        await commit(store, effects=[self.EFFECT])
        await store.due_effects(MONDAY, 10, MUCH_LATER)
        await store.postpone_effect(self.EFFECT, LATER)
        assert await store.due_effects(MONDAY, 10, LATER) == []
        assert await store.due_effects(LATER, 10, MUCH_LATER) == [replace(self.EFFECT, attempts=1)]

    async def test_whoever_was_asked_before_does_not_postpone_what_was_asked_for_anew(self, store: Store) -> None:
        anew = replace(self.EFFECT, asked_by=uuid4())
        await commit(store, effects=[self.EFFECT])
        await commit(store, done_effects=["tell-walk"], effects=[anew])
        await store.postpone_effect(self.EFFECT, LATER)
        assert await store.due_effects(MONDAY, 10, LATER) == [anew]

    async def test_no_more_are_claimed_than_asked(self, store: Store) -> None:
        await commit(store, effects=[replace(self.EFFECT, effect_id=f"tell-{n}") for n in range(5)])
        first, rest = await store.due_effects(MONDAY, 2, LATER), await store.due_effects(MONDAY, 9, LATER)
        assert (len(first), len({effect.effect_id for effect in [*first, *rest]})) == (2, 5)


class TestDocuments:
    async def test_the_latest_document_of_a_key_is_found(self, store: Store) -> None:
        await commit(store, documents={"shelves": {"a": {"units": 1, "notes": ["é", None, 1.5]}}})
        await commit(store, documents={"shelves": {"a": {"units": 2, "notes": ["é", None, 1.5]}}})
        assert await store.document("shelves", "a") == {"units": 2, "notes": ["é", None, 1.5]}
        assert await store.document("shelves", "b") is None

    async def test_documents_are_listed_by_key_and_by_field(self, store: Store) -> None:
        documents = {key: {"units": n, "state": "stocked" if n % 2 else "empty"} for n, key in enumerate("abCdeé")}
        await commit(store, documents={"shelves": documents})
        by_key = [(key, documents[key]) for key in sorted(documents)]
        assert await store.documents("shelves") == by_key
        assert await store.documents("shelves", after="a", limit=2) == [("b", documents["b"]), ("d", documents["d"])]
        stocked = [(key, document) for key, document in by_key if document["state"] == "stocked"]
        assert await store.documents("shelves", {"state": "stocked"}) == stocked
        assert await store.documents("shelves", {"state": "stocked"}, limit=1, after="b") == stocked[1:2]
        assert await store.documents("shelves", {"state": "stocked", "colour": "red"}) == []


class TestPublications:
    KEY = ("oms.inventory.availability", "shelf-a")

    async def test_a_state_waits_until_it_was_sent(self, store: Store) -> None:
        await commit(store, publications={self.KEY: ("t", b"1")})
        (waiting,) = await store.unpublished(10)
        assert (waiting.topic, waiting.key, waiting.type, waiting.data, waiting.revision) == (*self.KEY, "t", b"1", 1)
        await store.published([waiting])
        assert await store.unpublished(10) == []

    async def test_one_that_changed_while_it_was_sent_waits_on(self, store: Store) -> None:
        await commit(store, publications={self.KEY: ("t", b"1")})
        sent = await store.unpublished(10)
        await commit(store, publications={self.KEY: ("t", b"2")})
        await store.published(sent)
        (waiting,) = await store.unpublished(10)
        assert (waiting.data, waiting.revision) == (b"2", 2)

    async def test_an_older_one_that_was_sent_behind_it_has_it_sent_again(self, store: Store) -> None:
        """As a relay does that stood still while another led."""
        await commit(store, publications={self.KEY: ("t", b"1")})
        old = await store.unpublished(10)
        await commit(store, publications={self.KEY: ("t", b"2")})
        await store.published(await store.unpublished(10))
        await store.published(old)
        assert [waiting.data for waiting in await store.unpublished(10)] == [b"2"]

    async def test_all_of_a_topic_that_is_empty_wait_again(self, store: Store) -> None:
        keys = [("topic", f"shelf-{n}") for n in range(3)]
        await commit(store, publications=dict.fromkeys([*keys, ("another", "shelf-1")], ("t", b"1")))
        await store.published(await store.unpublished(10))
        await store.republish_topics(["topic"])
        assert len(await store.unpublished(2)) == 2
        assert {(p.topic, p.key) for p in await store.unpublished(10)} == set(keys)

    async def test_some_wait_again_where_an_older_one_may_lie_behind_them(self, store: Store) -> None:
        keys = [("topic", f"shelf-{n}") for n in range(3)]
        await commit(store, publications=dict.fromkeys(keys, ("t", b"1")))
        await store.published(await store.unpublished(10))
        await store.republish(keys[1:])
        await store.republish([])
        assert {(p.topic, p.key) for p in await store.unpublished(10)} == set(keys[1:])

    async def test_they_are_found_by_key_sent_or_not(self, store: Store) -> None:
        await commit(store, publications={self.KEY: ("t", b"1"), ("other", "shelf-a"): ("t", b"2")})
        await store.published(await store.unpublished(10))
        await commit(store, publications={("other", "shelf-a"): ("t", b"3")})
        found = await store.publications([self.KEY, ("other", "shelf-a"), ("other", "shelf-b")])
        assert sorted((p.topic, p.data) for p in found) == [(self.KEY[0], b"1"), ("other", b"3")]


@pytest.mark.parametrize("source", ["money.py", "capture.py", "shelves.py"])
def test_code_that_folds_is_other_code_if_what_it_calculates_with_is(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arithmetic that services share, a contract, or the decider's own."""

    def code(changed: str) -> str:
        read = Path.read_bytes
        with monkeypatch.context() as other:
            other.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == changed))
            aggregates._shared_code.cache_clear()
            aggregates._code_beside.cache_clear()
            return aggregates.code_of(SHELVES)

    assert code(source) != code("") == code("nothing.py")


class TestTheRest:
    async def test_blobs_rest_beside_the_log(self, store: Store) -> None:
        await commit(store, blobs={b"digest": b"\0body"})
        await commit(store, blobs={b"digest": b"\0body"})
        assert await store.blob(b"digest") == b"\0body"
        assert await store.blob(b"other") is None

    async def test_a_snapshot_is_void_for_other_code(self, store: Store) -> None:
        old = Snapshot("shelf-a", 10, "code-1", b"{}", GENESIS)
        new = replace(old, version=20)
        await commit(store, snapshots=[old])
        await commit(store, snapshots=[new])
        assert await store.snapshots(["shelf-a", "shelf-b"], {"shelf": "code-1"}) == [new]
        assert await store.snapshots(["shelf-a"], {"shelf": "code-2"}) == []
        assert await store.snapshots(["shelf-a"], {"bin": "code-1"}) == []

    async def test_an_unknown_stream_comes_as_its_snapshot_and_what_is_beyond(self, store: Store) -> None:
        long, short = rows_of("shelf-a", received(1), received(2), received(3)), rows_of("shelf-b", received(4))
        snapshot = Snapshot("shelf-a", 2, "code-1", b"{}", long[1].hash)
        message = uuid4()
        await commit(store, *long, *short, snapshots=[snapshot], inbox=[message])
        unknown = {"shelf-a": 0, "shelf-b": 0, "shelf-c": 0}
        async with store.transaction() as transaction:
            found = await transaction.look_up(unknown, {"shelf": "code-1"}, [message, uuid4()])
            assert (found.snapshots, found.rows, found.seen) == ([snapshot], [long[2], *short], {message})
            found = await transaction.look_up(unknown | {"shelf-a": 1}, {"shelf": "code-1"})
            assert (found.snapshots, found.rows, found.seen) == ([], [*long[1:], *short], set())
            found = await transaction.look_up(unknown, {"shelf": "code-2"})
            assert (found.snapshots, found.rows) == ([], [*long, *short])

    async def test_each_memory_of_a_broker_has_its_own_cursor(self, store: Store) -> None:
        await store.move_relay_cursors((0, 2), {"kraft-1 stock": 5, "kraft-1 events": 4})
        await store.move_relay_cursors((0, 2), {"kraft-1 stock": 7})
        await store.move_relay_cursors((1, 2), {"kraft-1 stock": 3})
        asked = ["kraft-1 stock", "kraft-1 events", "kraft-2 stock"]
        assert await store.relay_cursors((0, 2), asked) == {"kraft-1 stock": 7, "kraft-1 events": 4}
        assert await store.relay_cursors((1, 2), asked) == {"kraft-1 stock": 3}
        assert await store.relay_cursors((0, 1), asked) == {}

    async def test_one_leads_at_a_time(self, store: Store) -> None:
        leading = asyncio.Event()

        async def second() -> None:
            async with store.leadership("relay"):
                leading.set()

        async with store.leadership("relay"):
            follower = asyncio.create_task(second())
            async with store.leadership("another"):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(leading.wait(), 0.2)
        await asyncio.wait_for(leading.wait(), 5)
        await follower

    async def test_who_leads_is_told_so(self, store: Store) -> None:
        async with store.leadership("relay") as still_leads:
            await still_leads()

    async def test_locks_on_streams_are_held_until_the_transaction_ends(self, store: Store) -> None:
        order: list[str] = []

        async def second() -> None:
            async with store.transaction() as transaction:
                await transaction.lock(["shelf-b", "shelf-a"])
                order.append("second")

        async with store.transaction() as transaction:
            await transaction.lock(["shelf-a"])
            waiting = asyncio.create_task(second())
            async with store.transaction() as neighbor:
                await neighbor.lock(["shelf-c"])
            await asyncio.sleep(0.05)
            order.append("first")
        await waiting
        assert order == ["first", "second"]


async def test_who_is_canceled_while_a_transaction_begins_hears_just_that(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the database is away, which would be tried again."""

    async def canceled(_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(Transaction, "start", canceled)
    monkeypatch.setattr(asyncio.Lock, "acquire", canceled)
    with pytest.raises(asyncio.CancelledError):
        async with store.transaction() as transaction:
            await transaction.lock(["shelf-a"])


def engine_on(store: Store, rules: Any = RULES, **more: Any) -> Engine:
    return Engine(store, rules, lambda: MONDAY, **more)


def errors(outcomes: list[Outcome]) -> list[type[Exception] | None]:
    return [type(outcome.error) if outcome.error else None for outcome in outcomes]


async def units(engine: Engine, stream: str) -> int:
    return int((await engine.state(stream)).state.units)


def assert_whole(rows: list[Row]) -> None:
    """Each stream's versions come in order without a gap, and each hash follows from the one before."""
    last: dict[str, tuple[int, bytes]] = {}
    for row in rows:
        version, previous = last.get(row.stream, (0, GENESIS))
        assert row.version == version + 1
        assert row.hash == chained(previous, row)
        last[row.stream] = (row.version, row.hash)


class Beaten:
    """A transaction that another is always ahead of where it writes to `stream`."""

    def __init__(self, inner: Any, stream: str) -> None:
        self.look_up, self.lock = inner.look_up, inner.lock
        self._inner = inner
        self._stream = stream

    async def commit(self, changes: Changes) -> None:
        if any(row.stream == self._stream for row in changes.rows):
            raise VersionConflict
        await self._inner.commit(changes)


class TestEngine:
    async def test_a_batch_decides_in_order_each_upon_the_events_before(self, store: Store) -> None:
        engine = engine_on(store)
        outcomes = await engine.run(
            [task(receive("shelf-a", 3)), task(take("shelf-a", 2)), task(take("shelf-a", 2)), task(take("shelf-a", 1))]
        )
        assert errors(outcomes) == [None, None, NotEnough, None]
        assert outcomes[1].events == [("shelf-a", adjusted(-2))]
        assert outcomes[2].events == []
        rows = await everything(store)
        assert [row.version for row in rows] == [1, 2, 3]
        assert_whole(rows)
        assert (await engine.state("shelf-a")).state == Shelf(0, 2)

    async def test_rows_tell_where_they_come_from(self, store: Store) -> None:
        await engine_on(store).run([task(receive("shelf-a", 3))])
        (row,) = await everything(store)
        assert (row.type, row.data) == (received(3).type, received(3).to_json())
        assert (row.causation_id, row.correlation_id, row.actor) == ("scan-1", "order-1", "topic:oms.location.stock")
        assert row.happened_at == row.recorded_at == MONDAY

    async def test_a_decision_that_fails_stops_itself_and_no_neighbor(self, store: Store) -> None:
        def fail(states: Any) -> Any:
            yield "shelf-a", received(100)
            raise ZeroDivisionError

        engine = engine_on(store)
        outcomes = await engine.run(
            [
                task(receive("shelf-a", 1)),
                task(receive("shelf-a", 7), Decision(("shelf-a",), fail)),
                task(stock_once("bin-b")),
            ]
        )
        assert errors(outcomes) == [None, ZeroDivisionError, None]
        assert (await units(engine, "shelf-a"), await units(engine, "bin-b")) == (1, 1)

    @pytest.mark.parametrize("store", ["postgres"], indirect=True)
    async def test_what_the_database_cannot_hold_stops_itself_and_no_neighbor(self, store: Store) -> None:
        engine = engine_on(store)
        poison = task(receive("shelf-a", 7))
        poison.cause = replace(poison.cause, correlation_id="a NUL: \0")
        outcomes = await engine.run([task(receive("shelf-a", 1)), poison, task(receive("shelf-a", 2))])
        assert errors(outcomes) == [None, Unstorable, None]
        assert await units(engine, "shelf-a") == 3

    async def test_a_repeated_message_is_repeated_in_one_batch_and_later(self, store: Store) -> None:
        engine, message = engine_on(store), uuid4()
        first = await engine.run(
            [task(receive("shelf-a", 1), message=message), task(receive("shelf-a", 1), message=message)]
        )
        again = await engine_on(store).run([task(receive("shelf-a", 1), message=message)])
        assert [outcome.repeated for outcome in [*first, *again]] == [False, True, True]
        assert await units(engine, "shelf-a") == 1

    async def test_a_refused_message_may_come_again(self, store: Store) -> None:
        engine, message = engine_on(store), uuid4()
        refused = await engine.run([task(take("shelf-a", 1), message=message)])
        await engine.run([task(receive("shelf-a", 1))])
        taken = await engine.run([task(take("shelf-a", 1), message=message)])
        assert errors([*refused, *taken]) == [NotEnough, None]
        assert not taken[0].repeated

    async def test_after_one_that_must_be_tried_again_the_rest_of_its_key_waits(self, store: Store) -> None:
        engine = engine_on(store)
        outcomes = await engine.run(
            [
                task(take("shelf-a", 1), key="a"),
                task(receive("shelf-a", 1), key="a"),
                task(receive("shelf-b", 1), key="b"),
                task(receive("shelf-a", 5)),
            ]
        )
        assert errors(outcomes) == [NotEnough, WaitsItsTurn, None, None]
        assert await units(engine, "shelf-a") == 5

    async def test_it_waits_too_where_others_write_first_and_the_batch_is_halved(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine, begin = engine_on(store), store.transaction

        @asynccontextmanager
        async def transaction() -> AsyncIterator[Any]:
            async with begin() as inner:
                yield Beaten(inner, "shelf-a")

        monkeypatch.setattr(store, "transaction", transaction)
        tasks = [
            task(receive("shelf-a", 1), key="a"),
            task(receive("bin-b", 1), key="b"),
            task(receive("bin-a", 1), key="a"),
            task(receive("bin-a", 1)),
        ]
        assert errors(await engine.run(tasks)) == [VersionConflict, None, WaitsItsTurn, None]

    async def test_one_decision_over_several_streams_is_whole_or_not_at_all(self, store: Store) -> None:
        engine = engine_on(store)
        await engine.run([task(receive("shelf-a", 5))])
        outcomes = await engine.run([task(move("shelf-a", "bin-b", 3)), task(move("shelf-a", "bin-b", 3))])
        assert errors(outcomes) == [None, NotEnough]
        assert (await units(engine, "shelf-a"), await units(engine, "bin-b")) == (2, 3)

    async def test_streams_beyond_those_declared_are_loaded_on_demand(self, store: Store) -> None:
        await engine_on(store).run([task(receive("shelf-a", 5), receive("bin-b", 1))])
        engine = engine_on(store)
        outcomes = await engine.run([task(move("shelf-a", "bin-b", 2, declared=())), task(take("bin-b", 3))])
        assert errors(outcomes) == [None, None]
        assert_whole(await everything(store))
        assert (await units(engine, "shelf-a"), await units(engine, "bin-b")) == (3, 0)

    @pytest.mark.parametrize("remembered", [(), ("bin-b",), ("shelf-a", "bin-b")])
    async def test_what_is_looked_up_costs_no_second_transaction(
        self, store: Store, remembered: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await engine_on(store).run([task(receive("shelf-a", 5), receive("bin-b", 1))])
        engine, begun, transaction = engine_on(store), 0, store.transaction
        if remembered:
            await engine.run([task(*(receive(stream, 1) for stream in remembered))])

        def counted() -> Any:
            nonlocal begun
            begun += 1
            return transaction()

        monkeypatch.setattr(store, "transaction", counted)
        outcomes = await engine.run([task(move("shelf-a", "bin-b", 2, declared=()), take("bin-b", 3))])
        assert (errors(outcomes), begun) == ([None], 1)
        assert_whole(await everything(store))

    async def test_views_publications_timers_and_effects_follow(self, store: Store) -> None:
        engine = engine_on(store)
        await engine.run([task(receive("shelf-a", 5))])
        assert await store.due_effects(MONDAY, 10, LATER) == []
        timer = Timer("shelf-a", "count", MONDAY + timedelta(days=1))
        assert await store.due_timers(MUCH_LATER, 10, MUCH_LATER, MUCH_LATER) == [timer]
        await engine.run([task(take("shelf-a", 5, reference="x"))])
        assert await store.document("shelves", "a") == {"units": 0, "state": "empty", "moves": 1}
        (published,) = await store.unpublished(10)
        assert published.data == b'{"sku":"a","version":2,"available":0,"locations":{}}'
        assert await store.due_timers(MUCH_LATER, 10, MUCH_LATER, MUCH_LATER) == []
        (effect,) = await store.due_effects(MONDAY, 10, LATER)
        assert (effect.effect_id, effect.type, effect.data) == (
            "tell-x",
            adjusted(-5).type,
            adjusted(-5, "x").to_json(),
        )
        await engine.run([task(effect_id="tell-x")])
        assert await store.due_effects(MUCH_LATER, 10, MUCH_LATER) == []

    async def test_a_timer_that_fired_is_gone_with_its_events(self, store: Store) -> None:
        engine = engine_on(store)
        timer = Timer("bin-b", "count", MONDAY)
        await commit(store, timers={("bin-b", "count"): timer})
        outcomes = await engine.run([task(take("bin-b", 1), timer=timer)])
        assert errors(outcomes) == [NotEnough]
        assert await store.due_timers(MONDAY, 10, MONDAY, MONDAY) == [timer]
        await engine.run([task(stock_once("shelf-a"), timer=timer)])
        assert await store.due_timers(MONDAY, 10, MUCH_LATER, MUCH_LATER) == []

    async def test_snapshots_shorten_loading_and_change_nothing(self, store: Store) -> None:
        await engine_on(store).run([task(receive("shelf-a", n)) for n in range(1, 26)])
        (snapshot,) = await store.snapshots(["shelf-a"], Aggregates((SHELVES,)).code)
        rows = await store.read_stream("shelf-a")
        assert (snapshot.version, snapshot.hash) == (25, rows[24].hash)
        assert Aggregates((SHELVES,)).from_snapshot(snapshot).state == Shelf(325)
        engine = engine_on(store)
        await engine.run([task(receive("shelf-a", 1))])
        assert_whole(await everything(store))
        assert await units(engine, "shelf-a") == 326


class TestTwoEngines:
    """Two instances of a service on one log."""

    async def test_a_conflict_is_decided_again_upon_what_the_other_did(self, store: Store) -> None:
        one, two = engine_on(store), engine_on(store)
        await one.run([task(receive("shelf-a", 3))])
        await two.run([task(take("shelf-a", 2))])
        assert errors(await one.run([task(take("shelf-a", 2)), task(take("shelf-a", 1))])) == [NotEnough, None]
        assert await units(one, "shelf-a") == 0

    async def test_no_refusal_rests_on_what_was_remembered(self, store: Store) -> None:
        one, two = engine_on(store), engine_on(store)
        await one.run([task(receive("shelf-a", 1))])
        await two.run([task(receive("shelf-a", 9))])
        assert errors(await one.run([task(take("shelf-a", 10))])) == [None]

    async def test_nor_on_what_was_remembered_and_looked_up_on_the_way(self, store: Store) -> None:
        one, two = engine_on(store), engine_on(store)
        await one.run([task(receive("shelf-a", 1))])
        await two.run([task(receive("shelf-a", 9))])
        assert errors(await one.run([task(move("shelf-a", "bin-b", 10, declared=()))])) == [None]

    async def test_what_was_remembered_of_one_stream_and_read_of_another_alarms_nobody(self, store: Store) -> None:
        def all_there(states: Mapping[str, Any]) -> list[tuple[str, Fact]]:
            units = states["shelf-a"].units + states["bin-b"].units
            assert units == 1, f"{units} units, and one was ever received"
            return []

        one, two = engine_on(store), engine_on(store)
        await one.run([task(receive("shelf-a", 1))])
        await two.run([task(move("shelf-a", "bin-b", 1))])
        with capture_logs() as told:
            assert errors(await one.run([task(Decision(("shelf-a", "bin-b"), all_there))])) == [None]
        assert told == []

    async def test_a_decision_that_fails_by_a_defect_is_told_once_with_where(self, store: Store) -> None:
        def defect(states: Mapping[str, Any]) -> list[tuple[str, Fact]]:
            raise ZeroDivisionError("ours")

        with capture_logs() as told:
            (error,) = errors(await engine_on(store).run([task(Decision(("shelf-a",), defect))]))
        assert error is ZeroDivisionError
        assert [(each["event"], type(each["exc_info"])) for each in told] == [("a decision failed", ZeroDivisionError)]

    async def test_nothing_is_left_undone_because_it_was_so_once(self, store: Store) -> None:
        one, two = engine_on(store), engine_on(store)
        await one.run([task(receive("shelf-a", 1))])
        await two.run([task(take("shelf-a", 1))])
        (outcome,) = await one.run([task(stock_once("shelf-a"))])
        assert outcome.events == [("shelf-a", received(1))]

    @pytest.mark.parametrize("contended", [frozenset(), frozenset({"shelf"})], ids=["retried", "locked"])
    @pytest.mark.parametrize("declared", [True, False], ids=["declared", "looked-up"])
    async def test_hot_streams_lose_nothing_and_do_nothing_twice(
        self, store: Store, contended: frozenset[str], declared: bool
    ) -> None:
        rules = replace(RULES, contended=contended)
        engines = [engine_on(store, rules), engine_on(store, rules)]
        shelves = [f"shelf-{n}" for n in range(4)]
        await engines[0].run([task(receive(shelf, 100)) for shelf in shelves])
        messages = [uuid4() for _ in range(300)]
        chance = random.Random(7)
        outcomes: list[Outcome] = []

        async def work(engine: Engine, batch: list[Any]) -> None:
            tasks = [
                task(
                    move(source, target, 1, (source, target) if declared else ()),
                    receive(chance.choice(shelves), 1),
                    message=message,
                )
                for message in batch
                for source, target in [chance.sample(shelves, 2)]
            ]
            outcomes.extend(await engine.run(tasks))

        batches = [messages[n : n + 5] for n in range(0, 300, 5)]
        await asyncio.gather(*(work(engine, batch) for batch in batches for engine in engines))
        assert {type(outcome.error) for outcome in outcomes} == {type(None)}
        assert sum(outcome.repeated for outcome in outcomes) == 300
        rows = await everything(store)
        assert_whole(rows)
        assert len(rows) == 4 + 300 * 3
        assert sum([await units(engines[0], shelf) for shelf in shelves]) == 400 + 300
        for n, shelf in enumerate(shelves):
            document = await store.document("shelves", str(n))
            assert document is not None and document["units"] == await units(engines[1], shelf)
        if contended:
            # Only a message that both got at once still meets itself in the inbox.
            assert sum(engine.conflicts for engine in engines) <= len(batches)
