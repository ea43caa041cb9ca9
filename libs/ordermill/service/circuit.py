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


class Circuit:
    """Opens after `failures` in a row. After `pause_s` one call may try; all others wait for what comes of it."""

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def state(self) -> CircuitState:
        if self._open_until is None:
            return CircuitState.CLOSED
        return CircuitState.HALF_OPEN if self._probing or self._clock() >= self._open_until else CircuitState.OPEN

    def enter(self) -> float | None:
        """None if a call may go out; else the seconds after which to ask again."""
        if self._open_until is None:
            return None
        left = self._open_until - self._clock()
        if left > 0 or self._probing:
            return max(left, 0.1)
        self._probing = True
        return None

    def succeeded(self) -> None:
        self._failures, self._open_until, self._probing = 0, None, False

    def failed(self) -> None:
        """Word of calls that went out before it opened does not prolong the pause."""
        self._failures += 1
        if self._probing or (self._open_until is None and self._failures >= self._limit):
            self._open_until, self._probing = self._clock() + self._pause_s, False

    def left(self) -> None:
        """A call ended without saying anything about the other side."""
        self._probing = False
