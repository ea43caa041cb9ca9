"""The processes at work: ready, of one release, in time with us, and not far behind."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ordermill.names import CONSOLE, url_of

from .finding import TIMEOUT_S, Finding

LAG_WARN, LAG_BAD = 1_000, 100_000
"""Events that no reader has a number for, or that are not on Kafka yet."""
BEHIND_WARN_S = 60.0
CLOCK_WARN_S = 5.0
"""HTTP tells whole seconds, and a busy server the time of a moment ago."""


@dataclass(frozen=True)
class Answers:
    """What a process says of itself. `metrics`: by name, each series' labels and value."""

    url: str
    status: int
    ready: str
    metrics: Mapping[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)
    clock_s: float | None = None
    """How far its clock is from ours, in seconds."""

    def highest(self, name: str) -> float:
        return max((value for _, value in self.metrics.get(name, ())), default=0.0)


async def processes(names: Sequence[str]) -> list[Finding]:
    """Every process, then what only shows when they are compared."""
    found = await asyncio.gather(*map(_asked, names))
    findings: list[Finding] = []
    for name, answer in zip(names, found, strict=True):
        findings += [answer] if isinstance(answer, Finding) else judged(name, answer)
    findings += releases({n: a for n, a in zip(names, found, strict=True) if isinstance(a, Answers)})
    return findings


async def _asked(name: str) -> Answers | Finding:
    import httpx

    what = f"{name} service" if name != CONSOLE else CONSOLE
    url = url_of(name, os.environ)
    if url is None:
        variable = f"OMS_{name.upper()}"
        return Finding("bad", what, "no address", f"set {variable}_PORT, or {variable}_URL to its whole address")
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
            ready = await http.get(f"{url}/readyz")
            metrics = await http.get(f"{url}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        remedy = f"start it: `oms run {name}`, or `oms up`"
        return Finding("bad", what, f"{url} does not answer: {error or type(error).__name__}", remedy)
    return Answers(
        url,
        ready.status_code,
        ready.text,
        series(metrics.text if metrics.is_success else ""),
        _clock(ready.headers.get("date")),
    )


def _clock(date: str | None) -> float | None:
    try:
        return abs((datetime.now(UTC) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return None


def series(page: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """A page in Prometheus' text format; {} for one that is none."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    try:
        families: list[Any] = list(text_string_to_metric_families(page))
    except ValueError:
        return {}
    for family in families:
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return dict(found)


def judged(name: str, answers: Answers) -> Iterator[Finding]:
    """What a process's own answers mean."""
    what = f"{name} service" if name != CONSOLE else CONSOLE
    if answers.status == 200:
        yield Finding("ok", what, f"{answers.url} is ready")
    else:
        remedy = "see its log, Kafka and PostgreSQL"
        yield Finding("bad", what, f"{answers.url} is not ready: {answers.ready}", remedy)
    if answers.clock_s is not None and answers.clock_s > CLOCK_WARN_S:
        text = f"{answers.clock_s:.0f} s from this machine's"
        yield Finding("warn", f"{name} clock", text, "let NTP set both machines' clocks")
    if not answers.metrics:
        text = f"{answers.url}/metrics tells nothing: whether it is behind is not known"
        yield Finding("bad", f"{name} metrics", text, f"see the log of {name}")
        return
    if name != CONSOLE:
        yield _relay(name, answers)
    yield _consumer(name, answers)


def _relay(name: str, answers: Answers) -> Finding:
    unsequenced = int(answers.highest("oms_unsequenced_events"))
    unpublished = int(answers.highest("oms_unpublished_events"))
    text = f"{unsequenced} events without a number"
    if answers.highest("oms_relay_failing"):  # one that never came to lead does not know how many are not on Kafka
        text = f"fails, and publishes nothing: {text}" + (f", {unpublished} not on Kafka" if unpublished else "")
        remedy = f"see the log of {name} for `relay starts over` and why, and whether Kafka takes"
        return Finding("bad", f"{name} relay", text, remedy)
    text += f", {unpublished} not on Kafka"
    most = max(unsequenced, unpublished)
    if most < LAG_WARN:
        return Finding("ok", f"{name} relay", text)
    remedy = "look for a transaction left open anywhere on this PostgreSQL (pg_stat_activity), and whether Kafka takes"
    return Finding("bad" if most >= LAG_BAD else "warn", f"{name} relay", text, remedy)


def _consumer(name: str, answers: Answers) -> Finding:
    behind = {labels["topic"]: value for labels, value in answers.metrics.get("oms_lag_events", ()) if value}
    seconds = {labels["topic"]: value for labels, value in answers.metrics.get("oms_lag_seconds", ())}
    worst = max(behind, key=lambda topic: seconds.get(topic, 0.0), default=None)
    if worst is None:
        return Finding("ok", f"{name} consumer", "nothing waits on its topics")
    text = f"{int(sum(behind.values()))} messages behind, {seconds.get(worst, 0.0):.0f} s on {worst}"
    if seconds.get(worst, 0.0) < BEHIND_WARN_S:
        return Finding("ok", f"{name} consumer", text)
    return Finding("warn", f"{name} consumer", text, "see its log for batches that are slow or tried again")


def releases(answers: Mapping[str, Answers]) -> Iterator[Finding]:
    """Whether one release runs everywhere."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, answer in answers.items():
        for labels, _ in answer.metrics.get("oms_build_info", ()):
            found[labels["version"], labels["python"]].append(name)
    if len(found) > 1:
        text = "; ".join(f"{v} on Python {python}: {', '.join(names)}" for (v, python), names in sorted(found.items()))
        yield Finding("warn", "releases", text, "run one release everywhere")
    elif found:
        ((version, python),) = found
        yield Finding("ok", "releases", f"{version} on Python {python} everywhere")
