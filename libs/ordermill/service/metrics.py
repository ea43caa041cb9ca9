"""What a service counts, in a registry of its own so that several can live in one process.

`docs/reference/metrics.md` is written from here. Names are kept: dashboards, alerts and other people's rest on them.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

if TYPE_CHECKING:
    from .consuming import Subscriptions

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@cache
def our_version() -> str:
    """The release that runs here."""
    try:
        return version("ordermill")
    except PackageNotFoundError:
        return "unknown"


class CommonMetrics:
    """What every process of ours tells, the console included."""

    def __init__(self, service: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.ready = self._gauge("oms_ready", "1 when it consumes and its database answers.")
        self.build = self._gauge("oms_build_info", "Always 1; the release that runs.", "name", "version", "python")
        self.build.labels(service, our_version(), platform.python_version()).set(1)
        ProcessCollector(registry=registry)
        self.lag_events = self._gauge(
            "oms_lag_events", "Messages on a topic that are not settled, as of the last fetch from Kafka.", "topic"
        )
        self.lag_seconds = self._gauge(
            "oms_lag_seconds", "Age of the oldest message at hand while any is not settled, by Kafka's time.", "topic"
        )
        self.requests = self._counter("oms_http_requests", "HTTP requests answered.", "method", "route", "status")
        self.request_seconds = Histogram(
            "oms_http_request_seconds", "From a request's first byte to its answer's last.", ("method", "route"),
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)

    async def measure_lag(self, subscriptions: Subscriptions, topics: Sequence[str]) -> None:
        """Set how far the consumer is behind on each of `topics`."""
        lags = await subscriptions.lag()
        for topic in topics:
            events, seconds = lags.get(topic, (0, 0.0))
            self.lag_events.labels(topic).set(events)
            self.lag_seconds.labels(topic).set(seconds)


class Metrics(CommonMetrics):
    """Prometheus metrics of one running service."""

    def __init__(self, service: str = "") -> None:
        super().__init__(service)
        registry, counter, gauge = self.registry, self._counter, self._gauge
        self.messages = counter("oms_messages", "Messages settled, by what became of them.", "result")
        for result in ("handled", "repeated", "dead-lettered"):
            self.messages.labels(result)
        self.events = counter("oms_events", "Events recorded because of messages.")
        self.batches = Histogram(
            "oms_batch_seconds", "From a poll's records to its commit.", registry=registry, buckets=_SECONDS
        )
        self.batch_messages = Histogram(
            "oms_batch_messages", "Messages of one poll that this service has a use for.", registry=registry,
            buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000),
        )  # fmt: skip
        self.retries = counter("oms_retries", "Messages tried again.")
        self.conflicts = gauge("oms_conflicts", "Times another writer was first, since the process started.")

        self.head = gauge("oms_log_events", "Events in the log that have a sequence number.")
        self.unsequenced = gauge("oms_unsequenced_events", "Committed events without a sequence number.")
        self.leading = gauge("oms_relay_leading", "1 where this instance's relay is the one that publishes.")
        self.relay_failing = gauge("oms_relay_failing", "1 where this instance's relay failed and starts over.")
        self.unpublished = gauge("oms_unpublished_events", "Numbered events not on Kafka.")
        self.unpublished_states = gauge("oms_unpublished_states", "Latest states not on Kafka.")

        self.timers = gauge("oms_timers", "Timers waiting.")
        self.timers_overdue = gauge("oms_timers_overdue", "Timers that are due and have not rung.")
        self.timers_overdue_seconds = gauge("oms_timers_overdue_seconds", "By how long the oldest timer is overdue.")
        self.effects = gauge("oms_effects", "Effects waiting.")
        self.effects_failing = gauge("oms_effects_failing", "Effects waiting that failed at least once.")
        self.effects_oldest_seconds = gauge("oms_effects_oldest_seconds", "Age of the oldest effect waiting.")
        self.effect_attempts = counter("oms_effect_attempts", "Attempts at effects, by what came of them.", "result")
        for result in ("answered", "failed", "given-up"):
            self.effect_attempts.labels(result)
        self.dead_letters = gauge("oms_dead_letters", "Dead letters waiting for a person.")
