"""What the simulation is: one seed one run, faults of every kind, findings that can be repeated and shrunk."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from ordermill.simulation import Fault, shrink, simulate
from ordermill.simulation.loop import AllWait, SimulatedLoop
from ordermill.simulation.nemesis import Nemesis
from ordermill.simulation.place import Place
from ordermill.simulation.process import task_factory
from ordermill.simulation.run import cancel_all

from .mutants import MUTANTS

SEEDS = range(10_001, 10_041)


def oms(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ordermill.cli", "simulate", *arguments]
    settings = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=settings, check=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_holds_under_faults(seed: int) -> None:
    assert simulate(seed).findings == ()


def test_an_answer_that_is_committed_once_more_ends_nothing_that_was_asked_for_anew_since() -> None:
    """A refund failed, nobody knew whether that was committed, and a person had it tried again in between."""
    assert simulate(51110).findings == ()


def test_a_cancellation_that_is_heard_after_its_units_were_given_back_is_not_declined() -> None:
    """The word of what was given back was a dead letter for days, and came after the location's answer."""
    assert simulate(412155).findings == ()


def test_a_fee_is_told_also_where_all_that_is_left_was_never_paid() -> None:
    """An exchange without credit; later a part was paid after all, and went back."""
    assert simulate(410568).findings == ()


def test_a_seed_is_one_run_to_the_byte_whatever_the_process() -> None:
    """Neither how strings are hashed, nor where in memory things lie, which is what other objects are hashed by."""
    runs = [
        oms("--seed", "7", "--seeds", "7", "--json", PYTHONHASHSEED=hashing, PYTHONMALLOC=memory).stdout
        for hashing, memory in (("0", "pymalloc"), ("1", "malloc"))
    ]
    assert runs[0] == runs[1]
    told = [json.loads(line)["digest"] for line in runs[0].splitlines()]
    assert told == [simulate(seed).digest for seed in range(7, 14)]
    assert len(set(told)) == 7


def test_without_faults_nothing_strikes_and_everything_holds() -> None:
    run = simulate(3, faults=())
    assert (run.struck, run.findings) == ((), ())
    assert run.events > 100


def test_every_kind_of_fault_strikes_in_some_run() -> None:
    struck: Counter[Fault] = Counter()
    for seed in SEEDS:
        struck.update(each.fault for each in simulate(seed).struck)
        if len(struck) == len(Fault):
            break
    assert set(struck) == set(Fault)


def test_a_run_can_be_repeated_with_those_faults_only_that_are_named() -> None:
    whole = simulate(7)
    some = [struck.name for struck in whole.struck][: len(whole.struck) // 2]
    again = simulate(7, only=some)
    assert {struck.name for struck in again.struck} <= set(some)
    assert simulate(7, only=some).digest == again.digest


def test_a_bad_run_shrinks_to_a_short_story_that_is_bad_again() -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "an effect is gone once it is claimed")
    with mutant.at_large():
        bad = next(run for seed in range(1, 50) if (run := simulate(seed, count=6)).findings)
        short = shrink(bad)
        again = simulate(short.seed, short.orders, only=[struck.name for struck in short.struck])
    assert short.findings and again.findings == short.findings
    assert short.orders <= bad.orders
    assert len(short.struck) < len(bad.struck)


def test_the_command_says_how_many_held_and_refuses_faults_that_are_none() -> None:
    fine = oms("--seeds", "2", "--orders", "2", "--faults", "crash,conflict")
    assert fine.returncode == 0 and "2 seeds" in fine.stdout and "all held" in fine.stdout
    wrong = oms("--faults", "crsh")
    assert wrong.returncode == 2 and "there are crash, freeze" in wrong.stderr


def test_nobody_is_judged_while_one_stands_still_who_has_yet_to_hear_of_a_new_broker() -> None:
    loop = SimulatedLoop(Random(1))
    loop.set_task_factory(task_factory)

    async def look() -> tuple[bool, bool]:
        place = Place(Random(1), Nemesis(1, (), loop.time, 0.0))
        place.start()
        await asyncio.sleep(5)
        before = place.quiet()
        place.instances["inventory-1"].process._frozen_until = loop.time() + 9
        return before, place.quiet()

    assert loop.run_until_complete(look()) == (True, False)
    cancel_all(loop)
    loop.close()


class TestLoop:
    """Time jumps, and a seed decides who is first."""

    def test_days_pass_at_once(self) -> None:
        loop = SimulatedLoop(Random(1))
        loop.run_until_complete(asyncio.sleep(100_000))
        assert loop.time() == 100_000
        loop.close()

    def test_who_is_ready_runs_in_an_order_that_the_seed_decides(self) -> None:
        def order(seed: int) -> list[int]:
            found: list[int] = []

            async def one(number: int) -> None:
                await asyncio.sleep(0)
                found.append(number)

            async def everybody() -> None:
                await asyncio.gather(*(one(number) for number in range(8)))

            loop = SimulatedLoop(Random(seed))
            loop.run_until_complete(everybody())
            loop.close()
            return found

        assert order(1) == order(1)
        assert len({tuple(order(seed)) for seed in range(20)}) > 10

    def test_that_everybody_waits_for_nobody_is_told(self) -> None:
        loop = SimulatedLoop(Random(1))
        with pytest.raises(AllWait):
            loop.run_until_complete(asyncio.Event().wait())
        asyncio.all_tasks(loop).pop().cancel()
        loop.close()
