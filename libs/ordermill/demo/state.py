"""What the demo remembers over restarts beside the product's own data: its clock, the orders it has planned."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel

from ordermill.clock import scaled_clock, system_clock
from ordermill.installation import write_private

FIRST_MORNING = datetime(2026, 3, 2, 8, tzinfo=UTC)
"""When the demo's story begins: a Monday."""


class Batch(BaseModel):
    """Orders of one `make demo`: baskets number `first` up to `first + count`."""

    first: int
    count: int
    starts_at: AwareDatetime


class StoryClock(BaseModel):
    """The story showed `origin` at `started`, and runs `speed` times as fast as we."""

    origin: AwareDatetime
    started: AwareDatetime
    speed: float


class DemoState(BaseModel):
    now: AwareDatetime = FIRST_MORNING
    batches: list[Batch] = []
    clock: StoryClock | None = None
    """Of a demo in containers: what its services were started with."""
    kept_at: AwareDatetime | None = None
    """When its world last noted `now`, in real time."""
    settled: bool = True
    """Whether all orders of all batches were settled when it was last looked at."""

    @classmethod
    def load(cls, folder: Path) -> DemoState:
        path = folder / "demo.json"
        return cls.model_validate_json(path.read_text()) if path.exists() else cls()

    def save(self, folder: Path) -> None:
        write_private(folder / "demo.json", self.model_dump_json(indent=1))

    @property
    def planned(self) -> int:
        return sum(batch.count for batch in self.batches)

    def add_orders(self, count: int) -> None:
        """Plan the next `count` orders, unless earlier ones still have to settle."""
        if self.settled and count:
            self.batches.append(Batch(first=self.planned, count=count, starts_at=self.now))
            self.settled = False


class DemoClock:
    """The demo's time: runs `speed` times as fast as ours, stands still while the demo does not run."""

    def __init__(self, origin: datetime, speed: float, started_at: datetime | None = None) -> None:
        self.origin = origin
        self.started_at = started_at or system_clock()
        self.speed = speed
        self.now = scaled_clock(origin, self.started_at, speed)

    def environment(self) -> dict[str, str]:
        return {
            "OMS_CLOCK_ORIGIN": self.origin.isoformat(),
            "OMS_CLOCK_STARTED": self.started_at.isoformat(),
            "OMS_CLOCK_SPEED": str(self.speed),
        }
