"""From a bad run to a short story: fewer orders and fewer faults, as long as it stays bad in the same way."""

from __future__ import annotations

from collections.abc import Callable, Collection

from .nemesis import Fault
from .run import Run, simulate

Try = Callable[[int, Collection[int] | None], Run]


def shrink(bad: Run, faults: Collection[Fault] = tuple(Fault), tries: int = 200) -> tuple[Run, list[int]]:
    """The smallest bad run found within so many tries, and the numbers of the faults that it needs."""
    left = tries

    def attempt(count: int, only: Collection[int] | None) -> Run | None:
        nonlocal left
        left -= 1
        run = simulate(bad.seed, count, faults, only)
        return run if _kinds(run) & _kinds(bad) else None

    best, needed = bad, [struck.number for struck in bad.struck]
    for count in range(1, bad.orders):
        if (fewer := attempt(count, None)) is not None:
            best, needed = fewer, [struck.number for struck in fewer.struck]
            break
    size = max(1, len(needed) // 2)
    while left > 0 and needed:
        shorter = None
        for start in range(0, len(needed), size):
            without = needed[:start] + needed[start + size :]
            if left > 0 and (shorter := attempt(best.orders, without)) is not None:
                best, needed = shorter, [struck.number for struck in shorter.struck]
                break
        if shorter is None:
            if size == 1:
                break
            size = max(1, size // 2)
    return best, needed


def _kinds(run: Run) -> set[str]:
    """What is wrong, without where."""
    return {finding.partition(":")[0] for finding in run.findings}
