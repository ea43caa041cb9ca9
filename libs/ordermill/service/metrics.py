"""What a service counts, in a registry of its own so that several can live in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Prometheus metrics of one running service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.messages = Counter(
            "oms_messages", "Messages settled, by what became of them.", ["result"], registry=registry
        )
        self.events = Counter("oms_events", "Events recorded.", registry=registry)
        self.batches = Histogram(
            "oms_batch_seconds", "From a poll's records to its commit.", registry=registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )  # fmt: skip
        self.retries = Counter("oms_retries", "Messages tried again.", registry=registry)
        self.conflicts = Gauge("oms_conflicts", "Times another writer was first.", registry=registry)
        self.unsequenced = Gauge("oms_unsequenced_events", "Committed events without a number.", registry=registry)
        self.unpublished = Gauge("oms_unpublished_events", "Numbered events not on Kafka.", registry=registry)
        self.timers = Gauge("oms_timers", "Timers waiting.", registry=registry)
        self.effects = Gauge("oms_effects", "Effects waiting.", registry=registry)
        self.ready = Gauge("oms_ready", "1 when the service consumes and its database answers.", registry=registry)
