"""How every rule of Ordermill is written: states fold from events, decisions are pure functions of states.

An aggregate is a `Decider`: an initial state and `evolve`. A `Decision` is a command bound to the streams that it
must see: nearly always one, several where only together they are right (the stock of all SKUs of an order).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ordermill.contracts.base import Fact

S = TypeVar("S")
Events = Iterable[tuple[str, Fact]]
"""Events and the streams they go to, in the order in which they are to be appended."""


class Folded(NamedTuple):
    """Events together with what the streams they go to come to, by a decision that had to fold them itself."""

    events: list[tuple[str, Fact]]
    states: Mapping[str, Any]


Recorded = Events | Folded


@dataclass(frozen=True)
class Decider(Generic[S]):
    """One kind of aggregate. `category` is what its stream ids begin with, up to the first hyphen."""

    category: str
    initial: S
    evolve: Callable[[S, Any], S]
    shared: bool = False
    """Whether many stories meet in one stream, as orders do in the stock of a SKU; else a stream is one story."""

    def stream(self, key: str) -> str:
        return f"{self.category}-{key}"

    def fold(self, events: Iterable[Any], state: S | None = None) -> S:
        current = self.initial if state is None else state
        for event in events:
            current = self.evolve(current, event)
        return current


@dataclass(frozen=True)
class Decision:
    """What is to be decided. `decide` gets the states by stream id, each with the events decided before it folded in.

    It may look up a stream beyond `streams`: that one is loaded and `decide` is asked again, so it must be pure.
    """

    streams: tuple[str, ...]
    decide: Callable[[Mapping[str, Any]], Recorded]


def decision(stream: str, decide: Callable[[Any, Any], Iterable[Any]], command: Any) -> Decision:
    """The usual case: one command to one stream."""
    return Decision((stream,), lambda states: ((stream, event) for event in decide(states[stream], command)))
