"""Checkpoints: from time to time a log's new events are closed into one root, chained to the one before, and signed.

Whoever keeps a checkpoint elsewhere can tell later that nothing before it was changed, moved or taken away, even by the
owner of the database. What is signed (Ed25519), and whose SHA-256 the next checkpoint names, is this text in UTF-8:

    "ordermill checkpoint\\nservice\\nnumber\\nfirst\\nlast\\nroot\\nprevious\\nmade at\\n"

with root and previous in hexadecimal (64 zeros before the first), and the instant in whole microseconds since 1970.
`merkle` says how the root follows from the events' hashes.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from ordermill.contracts.base import Fact, explain
from ordermill.contracts.service import CheckpointMade
from ordermill.decider import Decider
from ordermill.errors import Refused
from ordermill.names import SERVICES

from .records import micros

MOST = 4_096
"""Events in one checkpoint at most, so that the way from one of them to the root has twelve steps."""

_NOTHING = "0" * 64


class NotHeld(Refused):
    """A file of checkpoints kept elsewhere holds something else."""

    code = "checkpoints.not-held"

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: no checkpoint: {reason}. Expected what `oms checkpoints --json` prints")


class Signer:
    """Signs with one Ed25519 key; the same text always comes out the same."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: 32 bytes, the private key."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = b64encode(self._private.public_key().public_bytes_raw()).decode()
        """The public key, base64."""

    def sign(self, text: bytes) -> str:
        """The signature, base64."""
        return b64encode(self._private.sign(text)).decode()


@dataclass(frozen=True, slots=True)
class Closed:
    """How far a log is closed."""

    number: int = 0
    """Checkpoints so far."""
    last: int = 0
    """The highest number of an event in one."""
    digest: str = _NOTHING
    """What the next one has to name as its previous."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the events from `first` to `last`, whose tree has this root."""

    service: str
    first: int
    last: int
    root: str
    made_at: datetime
    signer: Signer


def decide(state: Closed, command: Close) -> list[Fact]:
    """Nothing, if another instance has closed them meanwhile."""
    if command.first != state.last + 1:
        return []
    number = state.number + 1
    text = _text(
        command.service, number, command.first, command.last, command.root, state.digest, command.made_at
    )  # fmt: skip
    return [
        CheckpointMade(
            service=command.service,
            number=number,
            first=command.first,
            last=command.last,
            root=command.root,
            previous=state.digest,
            made_at=command.made_at,
            key=command.signer.key,
            signature=command.signer.sign(text),
        )
    ]


def evolve(state: Closed, event: Fact) -> Closed:
    if isinstance(event, CheckpointMade):
        return Closed(event.number, event.last, digest_of(event))
    return state


CHECKPOINTS = Decider("checkpoint", Closed(), evolve, shared=True)


def digest_of(checkpoint: CheckpointMade) -> str:
    """Identifies a checkpoint and all before it: compare this with what was kept elsewhere."""
    return sha256(signed_text(checkpoint)).hexdigest()


def signed_text(checkpoint: CheckpointMade) -> bytes:
    """What its signature is over."""
    return _text(
        checkpoint.service, checkpoint.number, checkpoint.first, checkpoint.last, checkpoint.root,
        checkpoint.previous, checkpoint.made_at,
    )  # fmt: skip


def _text(service: str, number: int, first: int, last: int, root: str, previous: str, made_at: datetime) -> bytes:
    fields = ("ordermill checkpoint", service, number, first, last, root, previous, micros(made_at))
    return "".join(f"{each}\n" for each in fields).encode()


def is_signed(checkpoint: CheckpointMade) -> bool:
    """Whether its signature is by the key that it names."""
    try:
        key = Ed25519PublicKey.from_public_bytes(b64decode(checkpoint.key, validate=True))
        key.verify(b64decode(checkpoint.signature, validate=True), signed_text(checkpoint))
    except (InvalidSignature, ValueError):
        return False
    return True


def faults_after(state: Closed, checkpoint: CheckpointMade) -> Iterator[str]:
    """What is wrong with a checkpoint that comes after these; whether its root is right only the events tell."""
    if checkpoint.number != state.number + 1:
        yield f"follows checkpoint {state.number}"
    if checkpoint.first != state.last + 1 or not 0 <= checkpoint.last - checkpoint.first < MOST:
        yield f"is of events {checkpoint.first} to {checkpoint.last}, {state.last + 1} comes next"
    if checkpoint.previous != state.digest:
        yield "does not name the one before as that is"
    if not is_signed(checkpoint):
        yield "has a signature that is not of its key"


def read_held(text: bytes) -> list[CheckpointMade]:
    """One a line, as `oms checkpoints --json` prints them. Raises NotHeld."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found.append(CheckpointMade.model_validate_json(line))
        except ValidationError as error:
            raise NotHeld(number, explain(error)) from None
        if found[-1].service not in SERVICES:
            raise NotHeld(number, f"there is no service {found[-1].service[:120]!r}")
    return found


def not_as_held(held: Iterable[CheckpointMade], own: Iterable[CheckpointMade]) -> Iterator[tuple[CheckpointMade, str]]:
    """Those kept elsewhere that a log (`own`: all of its checkpoints) has not, or not so, and why."""
    by_number = {each.number: each for each in own}
    for each in held:
        there = by_number.get(each.number)
        if there is None:
            yield each, f"the log has {len(by_number)}: events from {each.first} on have been taken away"
        elif there != each:
            yield each, f"the log has another, made {there.made_at:%F %T}: what was closed is not what is there"
