"""What time it is. Services get it as a function; only here is it read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


def scaled_clock(origin: datetime, started_at: datetime, speed: float) -> Clock:
    """A clock that showed `origin` at `started_at` and runs `speed` times as fast as the real one since."""

    def now() -> datetime:
        return origin + (system_clock() - started_at) * speed

    return now
