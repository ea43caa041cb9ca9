"""How a simulated provider behaves when it does not behave: which calls go wrong, and how.

What becomes of a call follows from the seed, its key and how often that key was asked before, so a run can be repeated
whatever order the calls come in.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Fault(StrEnum):
    """Nothing is done of the first six; of the others all is, and then the answer suffers."""

    UNAVAILABLE = "unavailable"
    """503."""
    ERROR = "error"
    """500."""
    BUSY = "busy"
    """429, with Retry-After."""
    DROPPED = "dropped"
    """The connection is closed without a word."""
    REDIRECT = "redirect"
    """307, to another host."""
    REFUSED = "refused"
    """422: no, for good."""
    SLOW = "slow"
    """Answered after `slow_s`."""
    SILENT = "silent"
    """Never answered."""
    TORN = "torn"
    """The connection is closed in the middle of the answer."""
    MALFORMED = "malformed"
    """No JSON."""
    OVERSIZED = "oversized"
    """An answer of ten megabytes."""
    STALE = "stale"
    """The answer to an earlier question, again."""
    TWICE = "twice"
    """The answer twice on one connection, where the second looks like the answer to the next question."""


BEFORE_ACTING = frozenset({Fault.UNAVAILABLE, Fault.ERROR, Fault.BUSY, Fault.DROPPED, Fault.REDIRECT, Fault.REFUSED})
Share = Annotated[float, Field(ge=0, le=1)]


class Behavior(BaseModel):
    """One provider's: the share of calls that each fault befalls, and how long answers take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shares: dict[Fault, Share] = {}
    delay_s: float = Field(0.0, ge=0, le=60, description="Each call takes up to this long, half of it at least.")
    slow_s: float = Field(5.0, ge=0, le=300)
    retry_after_s: int = Field(1, ge=0, le=3_600)

    @model_validator(mode="after")
    def _at_most_all(self) -> Behavior:
        if sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"expected shares that come to at most 1, found {sum(self.shares.values()):g}")
        return self

    def fault_of(self, seed: str, provider: str, key: str, asked: int) -> Fault | None:
        """What befalls the call that is the `asked`-th under this key, counted from 1."""
        drawn, reached = _draw(seed, provider, key, asked, "fault"), 0.0
        for fault, share in sorted(self.shares.items()):
            reached += share
            if drawn < reached:
                return fault
        return None

    def delay_of(self, seed: str, provider: str, key: str, asked: int) -> float:
        """Seconds that the call takes, at least half of `delay_s`."""
        return self.delay_s * (0.5 + _draw(seed, provider, key, asked, "delay") / 2)


def _draw(*of_what: object) -> float:
    """From 0 up to 1."""
    digest = sha256("\0".join(map(str, of_what)).encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


DEMO = Behavior(
    shares={
        Fault.UNAVAILABLE: 0.01, Fault.BUSY: 0.005, Fault.DROPPED: 0.005, Fault.TORN: 0.005, Fault.SILENT: 0.002,
        Fault.TWICE: 0.005,
    },
    delay_s=0.02,
)  # fmt: skip
"""A good day of a real provider, a little compressed."""
