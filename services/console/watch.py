"""How the services and the console itself are doing: asked once a second for all who look, kept for ten minutes.

Each service is asked for `/readyz` and `/metrics`, as any monitoring would; one that does not answer in time counts as
down. Names of metrics are those of `ordermill.service.metrics`; what an older service does not have shows as unknown.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Literal

import httpx
import structlog

from ordermill.names import CONSOLE

from .live import Live
from .projecting import Projecting

logger = structlog.get_logger(__name__)

TOPIC = "machine"
"""What open pages of the machine room listen for."""
EVERY_S, UNWATCHED_EVERY_S = 1.0, 10.0
TIMEOUT_S = 2.0
KEPT_S, BUCKET_S = 600, 10
_LARGEST_ANSWER = 1_000_000
Samples = Mapping[str, float]
State = Literal["working", "waiting", "down"]


def samples(text: str) -> dict[str, float]:
    """The samples of a Prometheus page (text format 0.0.4), by name and labels as written."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                found[name] = float(value)
            except ValueError:
                continue
    return found


def total(found: Samples, name: str) -> float | None:
    """The sum over all labels of a metric; None where the service has no such metric."""
    values = [value for each, value in found.items() if each == name or each.startswith(name + "{")]
    return sum(values) if values else None


def largest(found: Samples, name: str) -> float | None:
    values = [value for each, value in found.items() if each == name or each.startswith(name + "{")]
    return max(values) if values else None


class Chart:
    """The newest ten minutes of one figure, ten seconds a bucket, the largest value in each."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, float]] = deque(maxlen=KEPT_S // BUCKET_S)

    def add(self, at: float, value: float | None) -> None:
        """`at`: seconds of a clock that only goes forward."""
        if value is None:
            return
        bucket = int(at // BUCKET_S)
        if self._buckets and self._buckets[-1][0] == bucket:
            self._buckets[-1] = (bucket, max(value, self._buckets[-1][1]))
        else:
            self._buckets.append((bucket, value))

    def points(self, at: float) -> list[tuple[int, float]]:
        """(place, value): place 0 is ten minutes ago, the last is now."""
        first = int(at // BUCKET_S) - KEPT_S // BUCKET_S + 1
        return [(bucket - first, value) for bucket, value in self._buckets if bucket >= first]


@dataclass(slots=True)
class Seen:
    """One service as it was last seen. None: it does not say."""

    name: str
    state: State = "waiting"
    problem: str = ""
    database: bool | None = None
    consuming: bool | None = None
    leading: bool | None = None
    messages_per_s: float | None = None
    events_per_s: float | None = None
    batch_messages: float | None = None
    batch_ms: float | None = None
    behind: float | None = None
    behind_s: float | None = None
    unsequenced: float | None = None
    unpublished: float | None = None
    unpublished_for_s: float | None = None
    retries: float | None = None
    conflicts: float | None = None
    timers: float | None = None
    timers_overdue: float | None = None
    effects: float | None = None
    effects_failing: float | None = None
    letters: float | None = None
    pace: Chart = field(default_factory=Chart)
    lag: Chart = field(default_factory=Chart)
    took: Chart = field(default_factory=Chart)


class Watch:
    """Polls as long as the console runs; every second only while somebody looks."""

    def __init__(self, http: httpx.AsyncClient, urls: Mapping[str, str], projecting: Projecting, live: Live) -> None:
        self._http = http
        self._urls = urls
        self._projecting = projecting
        self._live = live
        self._last: dict[str, tuple[float, Samples]] = {}
        self._unpublished_since: dict[str, float] = {}
        self.services = [Seen(name) for name in urls]
        self.console = Seen(CONSOLE)

    async def run(self) -> None:
        while True:
            began = monotonic()
            await self.look()
            self._live.tell([TOPIC])
            pause = EVERY_S if self._live.watched(TOPIC) else UNWATCHED_EVERY_S
            # Whoever comes to look does not wait for the slower pace.
            while monotonic() - began < pause and not (self._live.watched(TOPIC) and monotonic() - began >= EVERY_S):
                await asyncio.sleep(0.1)

    async def look(self) -> None:
        await asyncio.gather(*(self._ask(seen) for seen in self.services))
        self._look_at_console(monotonic())

    async def _ask(self, seen: Seen) -> None:
        url = self._urls[seen.name]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                ready, metrics = await asyncio.gather(self._get(url + "/readyz"), self._get(url + "/metrics"))
            told = ready.json()
            seen.database, seen.consuming = bool(told.get("database")), bool(told.get("consuming"))
        except (httpx.HTTPError, TimeoutError, ValueError, AttributeError) as error:
            seen.state, seen.database, seen.consuming, seen.leading = "down", None, None, None
            seen.problem = "does not answer in time" if isinstance(error, TimeoutError) else "can't be reached"
            self._last.pop(seen.name, None)
            seen.messages_per_s = seen.events_per_s = None
            seen.pace.add(monotonic(), 0)
            return
        seen.state = "working" if seen.database and seen.consuming else "waiting"
        seen.problem = "" if seen.state == "working" else _waits_for(seen)
        self._read(seen, samples(metrics.text), monotonic())

    async def _get(self, url: str) -> httpx.Response:
        async with self._http.stream("GET", url, timeout=TIMEOUT_S) as answer:
            if int(answer.headers.get("content-length", "0")) > _LARGEST_ANSWER:
                raise httpx.TransportError(f"{url} answers with more than {_LARGEST_ANSWER} bytes")
            await answer.aread()
            return answer

    def _read(self, seen: Seen, now: Samples, at: float) -> None:
        seen.leading = _flag(now.get("oms_relay_leading"))
        seen.unsequenced, seen.unpublished = now.get("oms_unsequenced_events"), now.get("oms_unpublished_events")
        if seen.unpublished:
            seen.unpublished_for_s = at - self._unpublished_since.setdefault(seen.name, at)
        else:
            self._unpublished_since.pop(seen.name, None)
            seen.unpublished_for_s = 0.0
        seen.behind, seen.behind_s = total(now, "oms_lag_events"), largest(now, "oms_lag_seconds")
        seen.retries, seen.conflicts = now.get("oms_retries_total"), now.get("oms_conflicts")
        seen.timers, seen.timers_overdue = now.get("oms_timers"), now.get("oms_timers_overdue")
        seen.effects, seen.effects_failing = now.get("oms_effects"), now.get("oms_effects_failing")
        seen.letters = now.get("oms_dead_letters")
        before_at, before = self._last.get(seen.name, (at, now))
        self._last[seen.name] = (at, now)
        seconds = at - before_at
        if seconds > 0:
            seen.messages_per_s = _rate(before, now, "oms_messages_total", seconds)
            log = "oms_log_events" if "oms_log_events" in now else "oms_events_total"
            seen.events_per_s = _rate(before, now, log, seconds)
            batches = _rise(before, now, "oms_batch_seconds_count")
            if batches:
                seen.batch_ms = 1_000 * (_rise(before, now, "oms_batch_seconds_sum") or 0) / batches
                sized = "oms_batch_messages_sum" if "oms_batch_messages_sum" in now else "oms_messages_total"
                seen.batch_messages = (_rise(before, now, sized) or 0) / batches
                seen.took.add(at, seen.batch_ms)
        seen.pace.add(at, seen.messages_per_s)
        seen.lag.add(at, sum(each or 0 for each in (seen.behind, seen.unsequenced, seen.unpublished)))

    def _look_at_console(self, at: float) -> None:
        seen, progress = self.console, self._projecting.progress
        seen.database, seen.consuming = self._projecting.healthy, progress.consuming
        seen.state = "working" if seen.database and seen.consuming else "waiting"
        seen.problem = "" if seen.state == "working" else _waits_for(seen)
        now = {"messages": float(self._projecting.messages), "batches": float(progress.batches)}
        before_at, before = self._last.get(CONSOLE, (at, now))
        self._last[CONSOLE] = (at, now)
        if at > before_at:
            seen.messages_per_s = (now["messages"] - before["messages"]) / (at - before_at)
            if batches := now["batches"] - before["batches"]:
                seen.batch_messages = (now["messages"] - before["messages"]) / batches
        seen.batch_ms = 1_000 * progress.took_s
        seen.pace.add(at, seen.messages_per_s)
        seen.lag.add(at, progress.delay_s)
        seen.took.add(at, seen.batch_ms)

    def at(self) -> float:
        """Now, on the clock that charts go by."""
        return monotonic()

    @property
    def newest_age_s(self) -> float | None:
        """How old the newest fact on the console's pages is, by Kafka's time of it."""
        newest = self._projecting.progress.newest_at
        return None if newest is None else max(0.0, time() - newest)

    @property
    def delay_s(self) -> float:
        """How long the newest facts took from Kafka into the console's tables."""
        return self._projecting.progress.delay_s

    def troubles(self) -> list[tuple[str, str]]:
        """(what, what to do): what a person should look at, the most pressing first."""
        return [trouble for seen in (*self.services, self.console) for trouble in troubles_of(seen)]


def troubles_of(seen: Seen) -> Iterable[tuple[str, str]]:
    name = seen.name
    if seen.state == "down":
        yield (
            f"{name} {seen.problem}",
            f"Nothing is lost: what it has to do waits in Kafka. Start it again (oms run {name}); its log says why it "
            "stopped.",
        )
        return
    if seen.database is False:
        yield f"{name} can't reach its database", "It goes on by itself when PostgreSQL answers again: oms doctor."
    elif seen.consuming is False:
        yield f"{name} does not consume", "It is starting or Kafka can't be reached: oms doctor tells which."
    if seen.leading is False and seen.unpublished:
        yield (
            f"{name} does not publish",
            f"Its relay fails and starts over; the log of {name} says why. Look at Kafka first: oms doctor.",
        )
    if (seen.unpublished_for_s or 0) > 30:
        yield f"{name} has facts unpublished for {seen.unpublished_for_s:.0f} s", "Look at Kafka first: oms doctor."
    if (seen.behind_s or 0) > 60:
        yield (
            f"{name} is {seen.behind_s:.0f} s behind its topics",
            f"Give it time after an outage; if it stays so, start another instance of {name}.",
        )
    if seen.timers_overdue:
        yield (
            f"{name} has {seen.timers_overdue:.0f} timers overdue",
            f"Its log says which and why: oms log tail {name}.",
        )
    if seen.effects_failing:
        yield (
            f"{name} has {seen.effects_failing:.0f} effects that failed and are tried again",
            "The carrier or payment provider does not answer as it should; they are done once it does.",
        )


def _waits_for(seen: Seen) -> str:
    return "waits for its database" if not seen.database else "does not consume"


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)


def _rise(before: Samples, now: Samples, name: str) -> float | None:
    earlier, later = total(before, name), total(now, name)
    # A service that started anew counts from zero.
    return None if earlier is None or later is None else later - earlier if later >= earlier else later


def _rate(before: Samples, now: Samples, name: str, seconds: float) -> float | None:
    rise = _rise(before, now, name)
    return None if rise is None else rise / seconds


def spark(points: Sequence[tuple[int, float]], width: int = 120, height: int = 26) -> tuple[str, str, float]:
    """The path of a small chart, that of the area below it, and the largest value; coordinates of its viewBox."""
    top = max((value for _, value in points), default=0.0)
    if not points:
        return "", "", top
    last = KEPT_S // BUCKET_S - 1
    scale = (height - 3) / top if top else 0.0
    at = [(width * place / last, height - 1.5 - value * scale) for place, value in points]
    line = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(at))
    return line, f"{line} L{at[-1][0]:.1f} {height} L{at[0][0]:.1f} {height} Z", top
