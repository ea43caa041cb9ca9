"""What the console counts."""

from __future__ import annotations

from prometheus_client import Gauge

from ordermill.names import CONSOLE
from ordermill.service.metrics import CommonMetrics

from .projecting import Projecting


class ConsoleMetrics(CommonMetrics):
    """Prometheus metrics of a console, read from what it projects when asked."""

    def __init__(self, projecting: Projecting) -> None:
        super().__init__(CONSOLE)
        self._projecting = projecting
        for name, text, read in (
            ("oms_console_messages", "Messages read into tables.", lambda: projecting.messages),
            ("oms_console_skipped", "Messages that made no sense.", lambda: projecting.skipped),
            (
                "oms_console_delay_seconds",
                "From Kafka's time of the last poll's oldest message into the tables.",
                lambda: projecting.progress.delay_s,
            ),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)
        self.ready.set_function(lambda: int(self.is_ready()))

    def is_ready(self) -> bool:
        return self._projecting.progress.consuming and self._projecting.healthy
