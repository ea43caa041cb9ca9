"""`python -m bench.plots`: results/latest.json as pictures beside it. A full run of the bench draws them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pygal
from pygal.style import CleanStyle

RESULTS = Path(__file__).parent / "results"
PERCENTILES = ("p50_ms", "p95_ms", "p99_ms", "p99.9_ms")
_LOOK = {"style": CleanStyle, "js": [], "disable_xml_declaration": True, "legend_at_bottom": True, "show_legend": True}


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """The pictures that there are figures for, as SVG files in `folder`."""
    figures = result["figures"]
    pictures = {"latency": latency(figures), "cpu": cpu(figures), "memory": memory(figures)}
    written = []
    for name, chart in pictures.items():
        if chart is not None:
            written.append(folder / f"{name}.svg")
            written[-1].write_text(chart.render() + "\n")
    return written


def latency(figures: dict[str, Any]) -> Any:
    """From a channel's message to the order's plan, by load."""
    loads = {
        int(name.removeprefix("routed.at_").removesuffix("_percent")): load
        for name, load in figures.items()
        if name.startswith("routed.at_")
    }
    if not loads:
        return None
    chart = pygal.Line(title="Channel message to plan, milliseconds by load", logarithmic=True, **_LOOK)
    chart.x_labels = [f"{percent} %: {loads[percent]['orders_per_s']:.0f}/s" for percent in sorted(loads)]
    for name in PERCENTILES:
        chart.add(name.removesuffix("_ms"), [loads[percent][name] for percent in sorted(loads)])
    return chart


def cpu(figures: dict[str, Any]) -> Any:
    """What a whole life costs, by process; a service's share of PostgreSQL on top of its own."""
    used = figures.get("life.cpu_ms_by_process")
    if not used:
        return None
    chart = pygal.StackedBar(title="CPU of an order's whole life, milliseconds", **_LOOK)
    own = [name for name in used if not name.startswith("postgres ")]
    behind = [name.removeprefix("postgres ") for name in used if name.startswith("postgres ")]
    chart.x_labels = names = [*own, *(name for name in behind if name not in own)]
    chart.add("its process", [used.get(name, 0) for name in names])
    chart.add("PostgreSQL for it", [used.get(f"postgres {name}", 0) for name in names])
    return chart


def memory(figures: dict[str, Any]) -> Any:
    """After the window of whole lives, by process."""
    used = figures.get("memory.mb")
    if not used:
        return None
    chart = pygal.Bar(title="Memory after whole lives, MB", **_LOOK)
    chart.x_labels = list(used)
    chart.add("resident", [each["rss"] for each in used.values()])
    chart.add("shared pages counted once", [each["pss"] for each in used.values()])
    return chart


if __name__ == "__main__":
    for path in draw(json.loads((RESULTS / "latest.json").read_text()), RESULTS):
        print(path)
