"""Nothing but the errors that it documents comes out of a parser, soon, and without eating the memory.

`FUZZ_SECONDS`: how long each target is fed; without it all of them together take about a minute.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutations import wrong
from tests.fuzz.targets import TARGETS, Target

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 60 / len(TARGETS))
ROUND = 200
HANGS_AFTER_S = 10
"""Of CPU, so that a busy machine is no hang."""
MEMORY_KB = 300 * 1024
"""More than any input of these sizes has a right to."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"no answer after {HANGS_AFTER_S} s of CPU")


def _checked(target: Target, payload: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, HANGS_AFTER_S)
    try:
        target.check(payload)
    except Exception as error:
        error.add_note(f"{len(payload):,} bytes: {payload[:3_000]!r}")
        raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY_KB, f"{len(payload)} bytes took {grown} KB"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_but_documented_errors_comes_out(target: Target) -> None:
    for seed in target.seeds:
        target.check(seed)
    inputs = 0

    @settings(
        max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @given(wrong(target.seeds))
    def one_round(payload: bytes) -> None:
        nonlocal inputs
        inputs += 1
        _checked(target, payload)

    until = time.monotonic() + SECONDS
    before = signal.signal(signal.SIGPROF, _too_long)
    try:
        while time.monotonic() < until:
            one_round()
    finally:
        signal.signal(signal.SIGPROF, before)
    print(f"{target.name}: {inputs:,} inputs")
