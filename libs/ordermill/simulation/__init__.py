"""All six services, relays and timers in one process, on a clock that jumps, under faults that a seed decides.

`simulate` is one run: the same arguments give the same run, to the byte. `shrink` finds what of a bad one is needed.
"""

from .nemesis import Fault, Struck
from .run import Run, simulate
from .shrink import shrink

__all__ = ["Fault", "Run", "Struck", "shrink", "simulate"]
