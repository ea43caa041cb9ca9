"""A log is closed while it is written to, by however many instances; what is done to it afterwards shows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from ordermill.contracts.service import CheckpointMade
from ordermill.eventlog.checkpoints import CHECKPOINTS, MOST, Signer
from ordermill.eventlog.engine import Engine, Outcome
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.proofs import checkpoints_of
from ordermill.eventlog.records import GENESIS, chained
from ordermill.eventlog.store import Changes, Store, VersionConflict
from ordermill.eventlog.verify import verify_store
from ordermill.service import checkpointing
from ordermill.service.checkpointing import NumbersMissing, keep_checkpoints, make_checkpoint
from ordermill.service.declare import Service
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from tests.conftest import LogDatabase

from .shelves import MONDAY, RULES, SHELVES, receive, received, rows_of, task
from .test_rebuild import fill, tamper

SIGNER = Signer(bytes(32))
CLOSING = replace(RULES, deciders=(*RULES.deciders, CHECKPOINTS))


def instance(store: Store) -> RunningService:
    return RunningService(Service("shelves", (SHELVES,)), Engine(store, CLOSING, lambda: MONDAY), Metrics())


async def ranges(store: Store) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in await checkpoints_of(store, "shelves")]


async def violations(store: Store) -> set[str]:
    return {violation.what for violation in await verify_store(store, CLOSING)}


async def test_what_is_new_is_closed_and_a_log_at_rest_is_left_alone(store: PostgresStore) -> None:
    await fill(store)
    running = instance(store)
    assert await make_checkpoint(running, SIGNER) == 105
    await store.sequence()
    assert await make_checkpoint(running, SIGNER) == 0
    await running.engine.run([task(receive("shelf-004", 1))])
    await store.sequence()
    assert await make_checkpoint(running, SIGNER) == 2  # with the checkpoint before
    assert await ranges(store) == [(1, 105), (106, 107)]
    await store.sequence()
    assert await verify_store(store, CLOSING) == []


async def test_an_instance_that_has_just_started_goes_on_where_another_ended(store: PostgresStore) -> None:
    await fill(store)
    for number in range(3):
        await instance(store).engine.run([task(receive(f"shelf-new-{number}"))])
        await store.sequence()
        await make_checkpoint(instance(store), SIGNER)
    assert [first for first, _ in await ranges(store)] == [1, 107, 109]


async def test_two_instances_at_once_close_each_event_once(store: PostgresStore) -> None:
    engine = await fill(store)
    both = [instance(store), instance(store)]
    for number in range(10):
        await engine.run([task(receive(f"shelf-{number:03}", 1))])
        await store.sequence()
        await asyncio.gather(*(make_checkpoint(running, SIGNER) for running in both))
    found = await ranges(store)
    assert [first for first, _ in found] == [1, *(last + 1 for _, last in found[:-1])]
    assert len(found) == 10
    await store.sequence()
    assert await verify_store(store, CLOSING) == []


async def test_a_long_log_is_closed_in_pieces_beside_its_services_work(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "PAUSE_S", 0.01)
    long = rows_of("shelf-a", *(received(1, f"delivery-{number}") for number in range(MOST + 10)))
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=long))
    while await store.sequence():
        pass
    running = instance(store)
    work = asyncio.create_task(keep_checkpoints(running, SIGNER, 0.05))
    try:
        async with asyncio.timeout(20):
            while not (found := await ranges(store)) or found[-1][1] < MOST + 10:
                await store.sequence()
                await asyncio.sleep(0.05)
    finally:
        work.cancel()
    assert found[0] == (1, MOST)
    assert found[1][0] == MOST + 1


async def test_who_comes_second_lets_it_be_and_tries_again_the_next_time(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)
    running = instance(store)
    execute, refused = running.execute, 2

    async def contended(*arguments: Any) -> Outcome:
        nonlocal refused
        if refused:
            refused -= 1
            raise VersionConflict
        return await execute(*arguments)

    monkeypatch.setattr(running, "execute", contended)
    with capture_logs() as logs:
        work = asyncio.create_task(keep_checkpoints(running, SIGNER, 0.01))
        async with asyncio.timeout(20):
            while not await ranges(store):
                await asyncio.sleep(0.01)
        work.cancel()
    assert (refused, logs) == (0, [])


async def rewrite(log: LogDatabase, store: PostgresStore, stream: str, version: int) -> None:
    """What the owner of a database can do who knows how hashes are made: an event is another, and all that follow."""
    rows = await store.read_stream(stream)
    previous = GENESIS
    for row in rows:
        changed = row._replace(actor="nobody") if row.version == version else row
        changed = changed._replace(hash=chained(previous, changed))
        previous = changed.hash
        await tamper(
            log,
            f"UPDATE events SET actor = '{changed.actor}', hash = '\\x{changed.hash.hex()}' "
            f"WHERE stream = '{stream}' AND version = {changed.version}",
        )


async def test_a_stream_that_is_written_anew_with_true_hashes_is_found(log: LogDatabase, store: PostgresStore) -> None:
    await fill(store)
    await rewrite(log, store, "bin-004", 1)
    assert await violations(store) == set()  # nobody can tell: it was never closed
    await make_checkpoint(instance(store), SIGNER)
    await store.sequence()
    assert await violations(store) == set()
    await rewrite(log, store, "bin-005", 1)
    assert await violations(store) == {"wrong-checkpoint"}


async def test_events_that_changed_places_are_found(log: LogDatabase, store: PostgresStore) -> None:
    await fill(store)
    await make_checkpoint(instance(store), SIGNER)
    await store.sequence()
    await tamper(
        log,
        """UPDATE sequenced s SET tx = o.tx, position = o.position FROM sequenced o
           WHERE s.seq + o.seq = 2 * 20 + 1 AND abs(s.seq - o.seq) = 1""",
    )
    assert await violations(store) == {"wrong-checkpoint"}


async def test_a_checkpoint_that_somebody_without_the_key_made_is_found(log: LogDatabase, store: PostgresStore) -> None:
    await fill(store)
    await make_checkpoint(instance(store), SIGNER)
    await store.sequence()
    made = (await checkpoints_of(store, "shelves"))[0]
    forged = made.model_copy(update={"root": "1" * 64})
    row = (await store.read_stream("checkpoint-shelves"))[0]._replace(data=forged.to_json())
    await tamper(
        log,
        f"UPDATE events SET data = '\\x{row.data.hex()}', hash = '\\x{chained(GENESIS, row).hex()}' "
        "WHERE stream = 'checkpoint-shelves'",
    )
    found = await verify_store(store, CLOSING)
    assert [str(each) for each in found] == [
        "wrong-checkpoint checkpoint-shelves: 1 has a signature that is not of its key"
    ]


async def test_something_else_among_the_checkpoints_is_found(log: LogDatabase, store: PostgresStore) -> None:
    await fill(store)
    await make_checkpoint(instance(store), SIGNER)
    await store.sequence()
    row = (await store.read_stream("checkpoint-shelves"))[0]
    row = row._replace(type=received(1).type, data=received(1).to_json())
    await tamper(
        log,
        f"UPDATE events SET type = '{row.type}', data = '\\x{row.data.hex()}', "
        f"hash = '\\x{chained(GENESIS, row).hex()}' WHERE stream = 'checkpoint-shelves'",
    )
    assert await violations(store) == {"wrong-checkpoint"}


async def test_a_log_with_numbers_missing_is_not_closed(log: LogDatabase, store: PostgresStore) -> None:
    await fill(store)
    await tamper(log, "DELETE FROM sequenced WHERE seq = 7")
    with pytest.raises(NumbersMissing, match="beyond 0"):
        await make_checkpoint(instance(store), SIGNER)
    assert await ranges(store) == []


async def test_what_a_checkpoint_says_is_what_is_kept(store: PostgresStore) -> None:
    await fill(store)
    await make_checkpoint(instance(store), SIGNER)
    row = (await store.read_stream("checkpoint-shelves"))[0]
    assert (row.type, row.actor) == ("oms.service.checkpoint-made.v1", "checkpoints")
    assert CheckpointMade.from_json(row.data) == (await checkpoints_of(store, "shelves"))[0]
    assert json.loads(row.data)["key"] == SIGNER.key
