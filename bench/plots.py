"""`python -m bench.plots`: results/latest.json as pictures beside it. A full run of the bench draws them anew."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pygal
from pygal.style import CleanStyle

# pygal hooks into imports for its maps in a way that Python has given up: who asks each hook for a spec stumbles.
sys.meta_path[:] = [hook for hook in sys.meta_path if hasattr(hook, "find_spec")]

RESULTS = Path(__file__).parent / "results"
PERCENTILES = ("p50_ms", "p95_ms", "p99_ms", "p99.9_ms")
_GROWTH = re.compile(r"growth\.at_\d+")
_LOOK = {"style": CleanStyle, "js": [], "disable_xml_declaration": True, "legend_at_bottom": True, "show_legend": True}


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """The pictures that there are figures for, as SVG files in `folder`."""
    figures = result["figures"]
    loads = {name: load for name, load in figures.items() if name.startswith("routed.at_")}
    written = []
    for name, picture, shown in (
        ("latency", latency, loads),
        ("cpu", cpu, figures.get("life.cpu_ms_by_process")),
        ("memory", memory, figures.get("memory.mb")),
        ("soak", over_time, figures.get("soak.memory_mb_over_time")),
        ("growth", growth, {name: each for name, each in figures.items() if _GROWTH.fullmatch(name)}),
    ):
        if shown:
            written.append(folder / f"{name}.svg")
            written[-1].write_text(picture(shown).render() + "\n")
    return written


def latency(loads: dict[str, dict[str, float]]) -> Any:
    """From a channel's message to the order's plan, by load."""
    by_rate = sorted(loads.items(), key=lambda load: load[1]["orders_per_s"])
    chart = pygal.Line(title="Channel message to plan, milliseconds by load", logarithmic=True, **_LOOK)
    chart.x_labels = [f"{name.split('_')[1]} %: {load['orders_per_s']:.0f}/s" for name, load in by_rate]
    for percentile in PERCENTILES:
        chart.add(percentile.removesuffix("_ms"), [load[percentile] for _, load in by_rate])
    return chart


def cpu(used: dict[str, float]) -> Any:
    """What a whole life costs, by process; a service's share of PostgreSQL on top of its own."""
    chart = pygal.StackedBar(title="CPU of an order's whole life, milliseconds", **_LOOK)
    chart.x_labels = names = list(dict.fromkeys(name.removeprefix("postgres ") for name in used))
    chart.add("its process", [used.get(name, 0) for name in names])
    chart.add("PostgreSQL for it", [used.get(f"postgres {name}", 0) for name in names])
    return chart


def memory(used: dict[str, dict[str, float]]) -> Any:
    """After the window of whole lives, by process."""
    chart = pygal.Bar(title="Memory after whole lives, MB", **_LOOK)
    chart.x_labels = list(used)
    chart.add("resident", [each["rss"] for each in used.values()])
    chart.add("shared pages counted once", [each["pss"] for each in used.values()])
    return chart


def over_time(used: dict[str, dict[str, float]]) -> Any:
    """At half of full speed, by process: a leak is a slope, what a busy moment took is a step."""
    chart = pygal.Line(title="Memory at half of full speed, MB", range=(0, None), **_LOOK)
    chart.x_labels = list(next(iter(used.values())))
    for process, by_minute in used.items():
        chart.add(process, list(by_minute.values()))
    return chart


def growth(windows: dict[str, dict[str, float]]) -> Any:
    """Whole lives at full speed, by what the logs hold."""
    by_events = sorted(windows.values(), key=lambda window: window["events"])
    chart = pygal.Line(title="Whole lives at full speed, by events in the logs", range=(0, None), **_LOOK)
    chart.x_labels = [f"{window['events']:,.0f}" for window in by_events]
    chart.add("orders a second", [window["orders_per_s"] for window in by_events])
    chart.add("CPU of an order, milliseconds", [window["cpu_ms_per_order"] for window in by_events])
    return chart


if __name__ == "__main__":
    for path in draw(json.loads((RESULTS / "latest.json").read_text()), RESULTS):
        print(path)
