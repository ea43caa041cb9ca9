"""Turning rows into states and states into bytes: decoding, folding, snapshots that a change of code makes void."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter

from ordermill.contracts.base import decode
from ordermill.decider import Decider

from .records import GENESIS, Row
from .store import Snapshot


class Aggregate(NamedTuple):
    """A stream as far as it is known: its state, its version and the hash of its last event."""

    state: Any
    version: int = 0
    hash: bytes = GENESIS


class Aggregates:
    """The deciders of one service, by category."""

    def __init__(self, deciders: tuple[Decider[Any], ...]) -> None:
        self._deciders = {decider.category: decider for decider in deciders}
        self._adapters = {decider.category: _adapter(cast(Hashable, type(decider.initial))) for decider in deciders}
        self.code = {category: code_of(decider) for category, decider in self._deciders.items()}

    def decider(self, stream: str) -> Decider[Any]:
        """Who folds this stream. Raises KeyError for a category that the service does not own."""
        return self._deciders[stream.partition("-")[0]]

    def owns(self, stream: str) -> bool:
        return stream.partition("-")[0] in self._deciders

    def initial(self, stream: str) -> Aggregate:
        return Aggregate(self.decider(stream).initial)

    def apply(self, aggregate: Aggregate, row: Row) -> Aggregate:
        event = decode(row.type, row.data)
        return Aggregate(self.decider(row.stream).evolve(aggregate.state, event), row.version, row.hash)

    def fold(self, stream: str, rows: list[Row]) -> Aggregate:
        """The whole of a stream, from its first event."""
        evolve = self.decider(stream).evolve
        state = self.decider(stream).initial
        for row in rows:
            state = evolve(state, decode(row.type, row.data))
        return Aggregate(state, rows[-1].version, rows[-1].hash) if rows else Aggregate(state)

    def to_snapshot(self, stream: str, aggregate: Aggregate) -> Snapshot:
        category = stream.partition("-")[0]
        state = self.state_bytes(stream, aggregate.state)
        return Snapshot(stream, aggregate.version, self.code[category], state, aggregate.hash)

    def from_snapshot(self, snapshot: Snapshot) -> Aggregate:
        state = self._adapters[snapshot.stream.partition("-")[0]].validate_json(snapshot.state)
        return Aggregate(state, snapshot.version, snapshot.hash)

    def state_bytes(self, stream: str, state: Any) -> bytes:
        """A state as JSON, the same bytes for the same state."""
        return self._adapters[stream.partition("-")[0]].dump_json(state)


@cache
def _adapter(state: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, state))


@cache
def _shared_code() -> bytes:
    """Contracts, and what folds calculate with."""
    contracts = Path(inspect.getfile(import_module("ordermill.contracts"))).parent
    sources = (*sorted(contracts.glob("*.py")), *sorted(contracts.parent.glob("*.py")))
    return b"".join(path.read_bytes() for path in sources)


def code_of(decider: Decider[Any]) -> str:
    """Identifies the code that folds: the decider's package folder and what services share to fold with.

    Other code, other snapshots.
    """
    return _code_beside(Path(inspect.getfile(decider.evolve)))


@cache
def _code_beside(source: Path) -> str:
    digest = sha256(_shared_code())
    for path in sorted(source.parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
