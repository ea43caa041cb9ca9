"""What the console counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from .projecting import Projecting


class ConsoleMetrics:
    """Prometheus metrics of a console, read from what it projects when asked."""

    def __init__(self, projecting: Projecting) -> None:
        self._projecting = projecting
        self.consuming = False
        self.registry = CollectorRegistry()
        for name, text, read in (
            ("oms_console_messages", "Messages read into tables.", lambda: projecting.messages),
            ("oms_console_skipped", "Messages that made no sense.", lambda: projecting.skipped),
            ("oms_ready", "1 when the console consumes and its database answers.", lambda: int(self.ready)),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)

    @property
    def ready(self) -> bool:
        return self.consuming and self._projecting.healthy
