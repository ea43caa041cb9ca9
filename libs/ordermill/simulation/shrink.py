"""From a bad run to a short story: fewer orders and fewer faults, as long as it stays bad in the same way."""

from __future__ import annotations

from collections.abc import Collection

from .nemesis import Fault
from .run import Run, simulate


def shrink(bad: Run, faults: Collection[Fault] = tuple(Fault), tries: int = 150) -> Run:
    """The smallest bad run found within so many tries: whole kinds of faults are left out first, then single ones.

    Its faults, given to `simulate` as `only`, are the run again.
    """
    left = tries

    def attempt(count: int, only: Collection[str]) -> Run | None:
        nonlocal left
        left -= 1
        run = simulate(bad.seed, count, faults, only)
        return run if _kinds(run) & _kinds(bad) else None

    best = bad
    for count in range(1, bad.orders):
        if (fewer := attempt(count, [struck.name for struck in best.struck])) is not None:
            best = fewer
            break
    for kind in Fault:
        others = [struck.name for struck in best.struck if struck.fault is not kind]
        if len(others) < len(best.struck) and (fewer := attempt(best.orders, others)) is not None:
            best = fewer
    size = max(1, len(best.struck) // 2)
    while left > 0 and best.struck:
        names = [struck.name for struck in best.struck]
        for start in range(0, len(names), size):
            if left > 0 and (fewer := attempt(best.orders, names[:start] + names[start + size :])) is not None:
                best = fewer
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
    return best


def _kinds(run: Run) -> set[str]:
    """What is wrong, without where."""
    return {finding.partition(":")[0] for finding in run.findings}
