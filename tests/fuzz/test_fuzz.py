"""Nothing but the errors that it documents comes out of a parser, soon, and without eating the memory.

`FUZZ_SECONDS`: for how many seconds of CPU each target is fed, each time with other inputs. Without it each gets the
same few thousand, about a minute for all: what is new is looked for on purpose, not by chance in somebody else's run.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from random import Random
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.mutations import wrong
from tests.fuzz.targets import TARGETS, Target

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0)
ROUND = 200
ROUNDS = 10
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


def _seeds() -> Iterator[int]:
    if not SECONDS:
        yield from range(ROUNDS)
        return
    until = time.process_time() + SECONDS
    while time.process_time() < until:
        yield Random().getrandbits(32)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_but_documented_errors_comes_out(target: Target) -> None:
    for sample in target.seeds:
        target.check(sample)
    inputs = 0

    @settings(
        max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @given(wrong(target.seeds))
    def one_round(payload: bytes) -> None:
        nonlocal inputs
        inputs += 1
        _checked(target, payload)

    before = signal.signal(signal.SIGPROF, _too_long)
    try:
        for number in _seeds():
            seed(number)(one_round)()
    finally:
        signal.signal(signal.SIGPROF, before)
    print(f"{target.name}: {inputs:,} inputs")
