"""Rules of the trade as given, when, then: `spec(decider, decide).given(*events).when(command).then(*events)`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from ordermill.contracts.base import Fact, decode
from ordermill.decider import Decider


@dataclass(frozen=True)
class When:
    decider: Decider[Any]
    decide: Callable[[Any, Any], Iterable[Any]]
    past: tuple[Fact, ...]
    command: Any

    def then(self, *expected: Fact) -> None:
        assert list(self.decide(self.decider.fold(self.past), self.command)) == list(expected)

    def then_raises(self, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=re.escape(match)):
            list(self.decide(self.decider.fold(self.past), self.command))


@dataclass(frozen=True)
class Given:
    decider: Decider[Any]
    decide: Callable[[Any, Any], Iterable[Any]]
    past: tuple[Fact, ...]

    def when(self, command: Any) -> When:
        return When(self.decider, self.decide, self.past, command)

    @property
    def state(self) -> Any:
        return self.decider.fold(self.past)


@dataclass(frozen=True)
class Spec:
    decider: Decider[Any]
    decide: Callable[[Any, Any], Iterable[Any]]

    def given(self, *past: Fact) -> Given:
        return Given(self.decider, self.decide, past)


def spec(decider: Decider[Any], decide: Callable[[Any, Any], Iterable[Any]]) -> Spec:
    return Spec(decider, decide)


def through_json(event: Fact) -> Fact:
    """The event after a journey through its wire form; equal to what went in, or the contract is broken."""
    return decode(event.type, event.to_json())  # type: ignore[return-value]
