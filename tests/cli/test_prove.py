"""What was recorded of an order can be proved to who has nothing but a public key; what was not, can't."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ordermill.cli import app
from ordermill.cli.prove import proof_of_order, proof_of_stream
from ordermill.eventlog.checkpoints import Signer
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.merkle import leaf
from ordermill.eventlog.proofs import NoProof, NotAsClosed, Proof, ProvenEvent, check, read_proof
from ordermill.eventlog.records import GENESIS, NotAsRecorded, chained
from ordermill.eventlog.store import Changes
from ordermill.names import SERVICES
from ordermill.service.checkpointing import make_checkpoint
from tests.integration.shelves import received, rows_of

from .life import MONDAY, Life, live

SIGNER = Signer(bytes(32))
CHECKER = Path(__file__).parents[1] / "independent" / "check_proof.py"


async def close_all(life: Life, signer: Signer = SIGNER) -> None:
    for running in life.services.values():
        await running.engine.store.sequence()
        await make_checkpoint(running, signer)


async def proof_in(life: Life) -> Proof:
    """Of the order with the most events."""
    stores = {name: running.engine.store for name, running in life.services.items()}
    orders = [key for key, _ in await stores["capture"].documents("orders")]
    proofs = [await proof_of_order(stores, order_id, MONDAY) for order_id in orders]
    return max(proofs, key=lambda proof: len(proof.events))


@pytest.fixture(scope="module")
async def proof() -> Proof:
    life = Life()
    await live(life)
    await close_all(life)
    return await proof_in(life)


async def independently(proof: Proof, key: str, folder: Path) -> tuple[int, str]:
    file = folder / "proof.json"
    file.write_text(proof.model_dump_json())
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHECKER), str(file), key, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_whole_life_is_proved_in_all_six_services_and_others_agree(proof: Proof, tmp_path: Path) -> None:
    assert {event.service for event in proof.events} == {
        "capture", "inventory", "routing", "fulfillment", "tracking", "returns",
    }  # fmt: skip
    assert {event.stream.partition("-")[0] for event in proof.events} == {
        "order", "reservation", "plan", "fulfillment", "status", "shipment", "purchase", "parcel", "return",
    }  # fmt: skip
    checked = check(proof, [SIGNER.key])
    assert (checked.events, checked.open, checked.faults) == (len(proof.events), 0, [])
    assert await independently(proof, SIGNER.key, tmp_path) == (0, f"{checked.events} events signed for, 0 faults\n")


async def test_an_order_of_more_parcels_than_a_page_of_a_view_holds_is_proved_whole() -> None:
    order_id = "order-of-many"
    kinds = {"tracking": ("shipment", "shipments"), "fulfillment": ("fulfillment", "fulfillments")}
    stores: dict[str, MemoryStore] = {name: MemoryStore() for name in SERVICES}
    expected: set[str] = set()
    for service, (category, view) in kinds.items():
        keys = [f"{category}-{n}" for n in range(1, 352)]
        documents = {key: {"order_id": order_id if n % 7 else "another"} for n, key in enumerate(keys)}
        rows = [row for key in keys for row in rows_of(f"{category}-{key}", received(1))]
        async with stores[service].transaction() as transaction:
            await transaction.commit(Changes(rows=rows, documents={view: documents}))
        await stores[service].sequence()
        expected |= {f"{category}-{key}" for key, document in documents.items() if document["order_id"] == order_id}
    proof = await proof_of_order(stores, order_id, MONDAY)
    assert len(expected) > 2 * 100
    assert sorted(event.stream for event in proof.events) == sorted(expected)
    assert check(proof, [SIGNER.key]).faults == []


async def test_it_survives_being_written_and_read(proof: Proof) -> None:
    assert read_proof(proof.model_dump_json()) == proof


def changes(proof: Proof) -> st.SearchStrategy[Proof]:
    """The same proof with one thing in it changed, moved or left out."""
    fields = {
        "seq": lambda event: event.seq + 1,
        "version": lambda event: event.version + 1,
        "type": lambda event: event.type + "2",
        "data": lambda event: event.data.replace(":", ": ", 1),
        "actor": lambda event: event.actor + "x",
        "correlation_id": lambda event: event.correlation_id + "x",
        "causation_id": lambda event: event.causation_id + "x",
        "happened_at": lambda event: MONDAY,
        "recorded_at": lambda event: MONDAY,
        "previous": lambda event: "1" * 64,
        "stream": lambda event: event.stream + "x",
        "path": lambda event: event.path[:-1],
    }

    def changed(at: int, name: str) -> Proof:
        event = proof.events[at]
        other = event.model_copy(update={name: fields[name](event)})
        return proof.model_copy(update={"events": (*proof.events[:at], other, *proof.events[at + 1 :])})

    def left_out(at: int) -> Proof:
        return proof.model_copy(update={"events": (*proof.events[:at], *proof.events[at + 1 :])})

    not_last = [
        at
        for at, event in enumerate(proof.events)
        if any(other.stream == event.stream and other.version > event.version for other in proof.events)
    ]
    places = st.integers(0, len(proof.events) - 1)
    return st.one_of(
        st.builds(changed, places, st.sampled_from(sorted(fields))), st.sampled_from(not_last).map(left_out)
    )


@settings(max_examples=200)
@given(st.data())
def test_nothing_in_it_can_be_changed_or_left_out_between(proof: Proof, data: st.DataObject) -> None:
    other = data.draw(changes(proof))
    assert other == proof or check(other, [SIGNER.key]).faults


async def test_who_does_not_trust_the_key_is_shown_nothing(proof: Proof, tmp_path: Path) -> None:
    other = Signer(bytes(range(32))).key
    assert len(check(proof, [other]).faults) == len(proof.checkpoints)
    assert (await independently(proof, other, tmp_path))[0] == 1
    assert check(proof, []).faults


async def test_what_the_owner_of_the_database_writes_anew_with_true_hashes_is_not_what_was_signed(proof: Proof) -> None:
    """Whoever can write the database can chain other events; only who has the key can sign for them."""
    at = next(number for number, event in enumerate(proof.events) if event.stream.startswith("order-"))
    events = list(proof.events)
    events[at] = events[at].model_copy(update={"actor": "nobody"})
    for number in range(at + 1, len(events)):
        if events[number].stream == events[at].stream:
            previous = events[number - 1].hash().hex()
            events[number] = events[number].model_copy(update={"previous": previous})
    rewritten = [event for event in events if event.stream == events[at].stream]
    faults = check(proof.model_copy(update={"events": tuple(events)}), [SIGNER.key]).faults
    assert [fault.rpartition(": ")[2] for fault in faults] == ["is not what checkpoint 1 closed"] * len(rewritten)


async def test_a_checkpoint_that_was_made_for_other_events_needs_the_keys_own_signature(proof: Proof) -> None:
    """With one event in it a checkpoint's root is that event's leaf: anybody can make that, and not the signature."""
    event = proof.events[0].model_copy(update={"actor": "nobody", "path": ()})
    root = leaf(event.seq, event.hash()).hex()
    forged = proof.checkpoints[0].model_copy(update={"first": event.seq, "last": event.seq, "root": root})
    other = proof.model_copy(update={"events": (event,), "checkpoints": (forged,)})
    assert check(other, [SIGNER.key]).faults == [
        f"{forged.service} checkpoint {forged.number}: the signature is not that key's"
    ]


async def test_events_whose_checkpoint_is_left_out_are_not_proved(proof: Proof) -> None:
    found = check(proof.model_copy(update={"checkpoints": proof.checkpoints[1:]}), [SIGNER.key])
    left_out = [event for event in proof.events if event.service == proof.checkpoints[0].service]
    assert len(found.faults) == len(left_out) > 0
    assert all(fault.endswith("checkpoint 1 is not in the proof") for fault in found.faults)


async def test_what_is_open_must_at_least_hang_together(proof: Proof) -> None:
    """No signature speaks for it: only its hashes do."""
    first, second, *_ = (event for event in proof.events if event.stream.startswith("order-"))
    still_open = [event.model_copy(update={"checkpoint": None, "path": ()}) for event in (first, second)]

    def faults(*events: ProvenEvent) -> list[str]:
        return [
            fault.rpartition(": ")[2]
            for fault in check(proof.model_copy(update={"events": events}), [SIGNER.key]).faults
        ]

    assert faults(*still_open) == []
    assert faults(still_open[0], still_open[1].model_copy(update={"version": 3})) == ["follows version 1"]
    assert faults(still_open[0], still_open[1].model_copy(update={"previous": "1" * 64})) == [
        "the event before it is another"
    ]


async def test_what_is_not_closed_yet_is_said_to_be_open() -> None:
    life = Life()
    await live(life)
    before = await proof_in(life)
    assert (before.checkpoints, check(before, [SIGNER.key]).open) == ((), len(before.events))
    await close_all(life)
    assert check(await proof_in(life), [SIGNER.key]).open == 0


async def test_of_a_log_that_was_changed_nothing_is_proved() -> None:
    life = Life()
    await live(life)
    await close_all(life)
    store = life.services["routing"].engine.store
    assert isinstance(store, MemoryStore)
    stream = next(name for name in store._streams if name.startswith("plan-") and len(store._streams[name]) > 1)
    sound = list(store._streams[stream])
    store._streams[stream][0] = sound[0]._replace(actor="nobody")
    with pytest.raises(NotAsRecorded, match="version 1"):
        await proof_of_order({n: s.engine.store for n, s in life.services.items()}, stream.partition("-")[2], MONDAY)
    previous = GENESIS
    for at, row in enumerate(store._streams[stream]):  # now with true hashes
        changed = row._replace(hash=chained(previous, row))
        previous = changed.hash
        store._streams[stream][at] = changed
        store._committed[store._committed.index(sound[at])] = changed
    with pytest.raises(NotAsClosed, match="routing: the events 1 to"):
        await proof_of_order({n: s.engine.store for n, s in life.services.items()}, stream.partition("-")[2], MONDAY)


async def test_a_stream_that_many_orders_share_is_proved_alone(tmp_path: Path) -> None:
    life = Life()
    await live(life)
    await close_all(life)
    store = life.services["inventory"].engine.store
    stream = next(row.stream for _, row in await store.read(0, 1_000) if row.stream.startswith("stock-"))
    found = await proof_of_stream("inventory", store, stream, MONDAY)
    assert {(event.service, event.stream) for event in found.events} == {("inventory", stream)}
    assert len(found.events) == len(await store.read_stream(stream))
    assert (check(found, [SIGNER.key]).open, check(found, [SIGNER.key]).faults) == (0, [])
    assert (await independently(found, SIGNER.key, tmp_path))[0] == 0


async def test_a_log_at_rest_gets_no_second_checkpoint() -> None:
    life = Life()
    await live(life)
    for _ in range(3):
        await close_all(life)
    for name, running in life.services.items():
        assert len(await running.engine.store.read_stream(f"checkpoint-{name}")) == 1


class TestCommand:
    def run(self, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["check-proof", *arguments])
        return done.exit_code, done.output

    async def test_it_says_what_holds_and_that_it_holds(self, proof: Proof, tmp_path: Path) -> None:
        file = tmp_path / "proof.json"
        file.write_text(proof.model_dump_json())
        status, said = self.run(str(file), "--key", SIGNER.key)
        assert status == 0
        assert str(len(proof.events)) in said
        assert "it holds" in said

    async def test_it_says_what_does_not(self, proof: Proof, tmp_path: Path) -> None:
        file = tmp_path / "proof.json"
        forged = proof.events[0].model_copy(update={"actor": "nobody"})
        file.write_text(proof.model_copy(update={"events": (forged, *proof.events[1:])}).model_dump_json())
        status, said = self.run(str(file), "--key", SIGNER.key)
        assert status == 1
        assert f"{forged.stream} version 1: is not what checkpoint 1 closed" in said

    @pytest.mark.parametrize("arguments", [(), ("1002", "--stream", "stock-TEAPOT")])
    async def test_what_to_prove_is_an_order_or_a_stream(self, arguments: tuple[str, ...]) -> None:
        done = CliRunner().invoke(app, ["prove", *arguments])
        assert (done.exit_code, "expected an order, or --stream" in done.output) == (2, True)

    @pytest.mark.parametrize("stream", ["letter-1", "checkpoint-capture"])
    def test_whose_stream_it_is_can_be_said_where_its_name_does_not(
        self, stream: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = MemoryStore()
        asked: list[str] = []

        @asynccontextmanager
        async def opened(service: str) -> AsyncIterator[MemoryStore]:
            asked.append(service)
            async with store.transaction() as transaction:
                await transaction.commit(Changes(rows=rows_of(stream, received(1))))
            await store.sequence()
            yield store

        monkeypatch.setattr("ordermill.cli.prove.opened", opened)
        monkeypatch.setattr("ordermill.cli.prove.adopt", lambda: None)
        named = ["--service", "capture"] if stream.startswith("letter-") else []
        done = CliRunner().invoke(app, ["prove", "--stream", stream, *named])
        assert (done.exit_code, asked) == (0, ["capture"])
        assert f'"of":"stream {stream}"' in done.output

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "another"}', "\0", '{"events": ' + "[" * 5_000])
    async def test_a_file_that_is_no_proof_is_said_to_be_none(self, text: str, tmp_path: Path) -> None:
        file = tmp_path / "proof.json"
        file.write_text(text)
        status, said = self.run(str(file), "--key", SIGNER.key)
        assert status == 1
        assert "this is no proof" in said
        with pytest.raises(NoProof):
            read_proof(text)
