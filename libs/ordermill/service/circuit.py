"""A circuit breaker: whoever fails again and again is left alone for a while, then asked once, then by all again."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum


class CircuitState(IntEnum):
    """As the metric has it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Pass:
    """One call that may go out, and tells what came of it. What it tells a second time is not heard."""

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._told = False

    def succeeded(self) -> None:
        self._tell(self._circuit._succeeded)

    def failed(self) -> None:
        self._tell(self._circuit._failed)

    def left(self) -> None:
        """It ended without saying anything about the other side."""
        self._tell(self._circuit._left)

    def _tell(self, hear: Callable[[Pass], None]) -> None:
        if not self._told:
            self._told = True
            hear(self)


class Circuit:
    """Opens after `failures` in a row. After `pause_s` one call may try; all others wait for what comes of it."""

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probe: Pass | None = None

    @property
    def state(self) -> CircuitState:
        if self._open_until is None:
            return CircuitState.CLOSED
        return CircuitState.HALF_OPEN if self._probe or self._clock() >= self._open_until else CircuitState.OPEN

    def enter(self) -> Pass | float:
        """A pass, if a call may go out; else the seconds after which to ask again."""
        made = Pass(self)
        if self._open_until is None:
            return made
        left = self._open_until - self._clock()
        if left > 0 or self._probe is not None:
            return max(left, 0.1)
        self._probe = made
        return made

    def _succeeded(self, of: Pass) -> None:
        self._failures, self._open_until, self._probe = 0, None, None

    def _failed(self, of: Pass) -> None:
        """Word of calls that went out before it opened neither prolongs the pause nor counts as the probe's."""
        self._failures += 1
        if of is self._probe or (self._open_until is None and self._failures >= self._limit):
            self._open_until, self._probe = self._clock() + self._pause_s, None

    def _left(self, of: Pass) -> None:
        if of is self._probe:
            self._probe = None
