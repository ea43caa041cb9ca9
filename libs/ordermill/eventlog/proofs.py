"""A proof that events are in signed checkpoints, checked without an installation: hashes, a few siblings, a signature.

It says what was recorded, in which order within each stream, and before which checkpoint. It does not say that there is
nothing more: an event that came later, or a stream that was left out, is not missed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from pydantic import ValidationError

from ordermill.contracts.base import decode, explain
from ordermill.contracts.fields import Instant, Part
from ordermill.contracts.service import CheckpointMade, Number, Sha256
from ordermill.errors import Refused

from .checkpoints import CHECKPOINTS, is_signed
from .merkle import Step, leaf, path, root, root_by
from .records import GENESIS, Row, chain, check_chain
from .store import Store


class NoProof(Refused):
    """A file that should hold a proof holds something else."""

    code = "proofs.no-proof"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this is no proof: {reason}. Expected what `oms prove` writes")


class NotAsClosed(Refused):
    """The events of a log are not those that its checkpoint closed."""

    code = "proofs.not-as-closed"

    def __init__(self, checkpoint: CheckpointMade) -> None:
        super().__init__(
            f"{checkpoint.service}: the events {checkpoint.first} to {checkpoint.last} are not those that checkpoint "
            f"{checkpoint.number} closed, so nothing can be proved by them. See: oms verify"
        )


class Sibling(Part):
    """A step on the way from a leaf to its root."""

    side: Literal["left", "right"]
    hash: Sha256


class ProvenEvent(Part):
    """An event as its log has it. `data` is the text that was hashed, to the byte."""

    service: str
    seq: Number
    stream: str
    version: Number
    event_id: UUID
    type: str
    data: str
    correlation_id: str
    causation_id: str
    actor: str
    happened_at: Instant
    recorded_at: Instant
    previous: Sha256
    checkpoint: Number | None
    """None: not closed yet when the proof was made."""
    path: tuple[Sibling, ...]

    def hash(self) -> bytes:
        """What its hash must be by its content and the event before."""
        return chain(
            bytes.fromhex(self.previous), self.stream, self.version, self.event_id, self.type, self.data.encode(),
            self.correlation_id, self.causation_id, self.actor, self.happened_at, self.recorded_at,
        )  # fmt: skip


class Proof(Part):
    """Events, and the checkpoints that they are in."""

    format: Literal["ordermill-proof-1"] = "ordermill-proof-1"
    of: str
    """What the events are of, in words."""
    made_at: Instant
    events: tuple[ProvenEvent, ...]
    checkpoints: tuple[CheckpointMade, ...]


@dataclass(frozen=True)
class Checked:
    """What a proof shows. It holds if there are no faults."""

    events: int
    open: int
    """Of these so many are in no checkpoint yet: chained, and not signed for."""
    faults: list[str] = field(default_factory=list)


def read_proof(text: str | bytes) -> Proof:
    """Raises NoProof."""
    try:
        return Proof.model_validate_json(text)
    except ValidationError as error:
        raise NoProof(explain(error)) from None


async def prove(stores: Mapping[str, Store], streams: Mapping[str, Sequence[str]], of: str, made_at: Instant) -> Proof:
    """Of all events of these streams, by service. Raises NotAsRecorded, NotAsClosed."""
    events: list[ProvenEvent] = []
    checkpoints: list[CheckpointMade] = []
    for service, names in streams.items():
        store = stores[service]
        closings = await checkpoints_of(store, service)
        numbers = await store.numbers(names)
        leaves: dict[int, list[bytes]] = {}
        for name in names:
            previous = GENESIS
            rows = await store.read_stream(name)
            check_chain(rows)
            for row in rows:
                if (seq := numbers.get((row.stream, row.version))) is None:
                    break  # committed this moment
                closing = _closing(closings, seq)
                steps: tuple[Step, ...] = ()
                if closing is not None:
                    if closing.number not in leaves:
                        closed = await store.hashes(closing.first - 1, closing.last - closing.first + 1)
                        leaves[closing.number] = [leaf(*each) for each in closed]
                        if root(leaves[closing.number]).hex() != closing.root:
                            raise NotAsClosed(closing)
                    steps = path(leaves[closing.number], seq - closing.first)
                events.append(_proven(service, seq, row, previous, closing, steps))
                previous = row.hash
        checkpoints += [closing for closing in closings if closing.number in leaves]
    return Proof(of=of, made_at=made_at, events=tuple(events), checkpoints=tuple(checkpoints))


async def checkpoints_of(store: Store, service: str) -> list[CheckpointMade]:
    """All of a log, in order."""
    rows = await store.read_stream(CHECKPOINTS.stream(service))
    found = (decode(row.type, row.data) for row in rows)
    return [each for each in found if isinstance(each, CheckpointMade)]


def _closing(closings: Sequence[CheckpointMade], seq: int) -> CheckpointMade | None:
    at = bisect_left(closings, seq, key=lambda each: each.last)
    return closings[at] if at < len(closings) else None


def _proven(
    service: str, seq: int, row: Row, previous: bytes, closing: CheckpointMade | None, steps: Sequence[Step]
) -> ProvenEvent:
    return ProvenEvent(
        service=service,
        seq=seq,
        stream=row.stream,
        version=row.version,
        event_id=row.event_id,
        type=row.type,
        data=row.data.decode(),
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        actor=row.actor,
        happened_at=row.happened_at,
        recorded_at=row.recorded_at,
        previous=previous.hex(),
        checkpoint=None if closing is None else closing.number,
        path=tuple(Sibling(side=step.side, hash=step.hash.hex()) for step in steps),
    )


def check(proof: Proof, keys: Collection[str]) -> Checked:
    """Whether it holds for who trusts these public keys (Ed25519, base64)."""
    faults = list(_untrusted(proof, keys))
    checkpoints = {(each.service, each.number): each for each in proof.checkpoints}
    ends: dict[tuple[str, str], tuple[int, str]] = {}
    for event in proof.events:
        name = f"{event.service} {event.stream} version {event.version}"
        event_hash = event.hash()
        version, before = ends.get((event.service, event.stream), (0, GENESIS.hex()))
        ends[event.service, event.stream] = (event.version, event_hash.hex())
        if event.version != version + 1:
            faults.append(f"{name}: follows version {version}")
        elif event.previous != before:
            faults.append(f"{name}: the event before it is another")
        if event.checkpoint is None:
            continue
        closing = checkpoints.get((event.service, event.checkpoint))
        if closing is None:
            faults.append(f"{name}: checkpoint {event.checkpoint} is not in the proof")
            continue
        steps = (Step(each.side, bytes.fromhex(each.hash)) for each in event.path)
        if root_by(leaf(event.seq, event_hash), steps).hex() != closing.root:
            faults.append(f"{name}: is not what checkpoint {event.checkpoint} closed")
    return Checked(len(proof.events), sum(event.checkpoint is None for event in proof.events), faults)


def _untrusted(proof: Proof, keys: Collection[str]) -> Iterator[str]:
    for each in proof.checkpoints:
        if each.key not in keys:
            yield f"{each.service} checkpoint {each.number}: signed by {each.key}, which is not trusted"
        elif not is_signed(each):
            yield f"{each.service} checkpoint {each.number}: the signature is not that key's"
