"""What processes use, from Linux's /proc: CPU time and memory, by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
Pids = Mapping[str, int]
"""Process ids by name; `postgres` stands for the server with all its backends."""


def cpu_s(pids: Pids) -> dict[str, float]:
    """CPU seconds so far, user and system. PostgreSQL's by database; backends that ended count as `postgres other`."""
    used: dict[str, float] = {}
    for name, pid in pids.items():
        if name != "postgres":
            used[name] = _cpu_ticks(pid) / _TICKS_PER_S
            continue
        used["postgres other"] = _cpu_ticks(pid, with_ended=True) / _TICKS_PER_S
        for child, what in _backends(pid):
            used[what] = used.get(what, 0.0) + _cpu_ticks(child) / _TICKS_PER_S
    return used


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}


def machine_s() -> float:
    """CPU seconds that all cores have worked so far, for whomever."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting = ticks[3:5]
    return (sum(ticks) - idle - waiting) / _TICKS_PER_S


def available_mb() -> float:
    """Memory that the machine could still give."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(int(line[1]) / 1024 for line in lines if line[0] == "MemAvailable:")


def memory_mb(pids: Pids) -> dict[str, dict[str, float]]:
    """Resident (shared pages counted in each) and proportional (each shared page split among its users) memory."""
    found = {}
    for name, pid in pids.items():
        members = [pid, *(child for child, _ in _backends(pid))] if name == "postgres" else [pid]
        rollups = [_rollup(member) for member in members]
        found[name] = {
            "rss": round(sum(each.get("Rss", 0) for each in rollups) / 1024, 1),
            "pss": round(sum(each.get("Pss", 0) for each in rollups) / 1024, 1),
        }
    return found


def _cpu_ticks(pid: int, with_ended: bool = False) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11 : 15 if with_ended else 13])


def _backends(postmaster: int) -> Iterator[tuple[int, str]]:
    with suppress(OSError):
        for child in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
            with suppress(OSError):
                title = Path(f"/proc/{child}/cmdline").read_text().rstrip("\0 ").split(" ")
                ours = len(title) > 2 and title[2].startswith("oms_")
                yield int(child), f"postgres {title[2].removeprefix('oms_')}" if ours else "postgres other"


def _rollup(pid: int) -> dict[str, int]:
    found: dict[str, int] = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0])
    return found
