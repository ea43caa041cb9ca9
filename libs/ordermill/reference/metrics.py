"""`docs/reference/metrics.md`: every series a process tells."""

from __future__ import annotations

from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from ordermill.service.metrics import CommonMetrics, Metrics

from . import WRITTEN, table

HEAD = f"""# Metrics

{WRITTEN}
Each service and the console answers `GET /metrics` in Prometheus' text format, without a token: the numbers name no
order and no person. Labels beside those here come from Prometheus (`deploy/prometheus/prometheus.yml` adds `service`).
Names are kept; dashboards are in `deploy/grafana/`, alerts in `deploy/prometheus/alerts.yml`, and what to do about
those in [Respond to alerts](../how-to/respond-to-alerts.md).

A gauge that speaks of a service's log or queue is the same on each of its instances: take the highest, not the sum.
What speaks of an instance's own work is to be summed: counters, histograms, `oms_lag_events`, `oms_relay_leading`.
Of `oms_unpublished_events` take the highest, too: only a relay that leads, or fails at it, tells of them.
"""


def reference() -> str:
    """The whole page."""
    common = CommonMetrics("")
    shared = _rows(common)
    own = [row for row in _rows(Metrics("")) if row not in shared]
    head = ("metric", "kind", "labels", "tells")
    return (
        f"{HEAD}\n## Every process\n\n{table(head, shared)}\n## Services\n\n{table(head, own)}\n"
        f"## Console\n\n{table(head, [row for row in _rows(_console()) if row not in shared])}"
    )


def _console() -> CommonMetrics:
    from importlib import import_module

    projecting: Any = import_module("services.console.projecting").Projecting(None, (), None)
    found: CommonMetrics = import_module("services.console.metrics").ConsoleMetrics(projecting)
    return found


def _rows(metrics: CommonMetrics) -> list[tuple[str, str, str, str]]:
    labels = {
        metric._name: ", ".join(f"`{label}`" for label in metric._labelnames)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    rows = []
    for family in sorted(metrics.registry.collect(), key=lambda family: family.name):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append((f"`{name}`", family.type, labels.get(family.name, ""), family.documentation))
    return rows
