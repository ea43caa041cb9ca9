"""When a provider is left alone, and when it is asked again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordermill.service.circuit import Circuit, CircuitState, Pass


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def out(circuit: Circuit) -> Pass:
    """A call that may go out."""
    found = circuit.enter()
    assert isinstance(found, Pass)
    return found


def opened() -> tuple[Circuit, Clock]:
    clock = Clock()
    circuit = Circuit(3, 10.0, clock)
    for _ in range(3):
        out(circuit).failed()
    return circuit, clock


def test_failures_in_a_row_open_it_and_one_success_between_them_does_not() -> None:
    circuit = Circuit(3, 10.0, Clock())
    for _ in range(5):
        out(circuit).failed()
        out(circuit).failed()
        out(circuit).succeeded()
    assert circuit.state is CircuitState.CLOSED
    assert opened()[0].state is CircuitState.OPEN


def test_one_call_fails_once() -> None:
    circuit = Circuit(3, 10.0, Clock())
    call = out(circuit)
    for _ in range(3):
        call.failed()
    assert circuit.state is CircuitState.CLOSED


def test_while_it_is_open_nobody_asks_and_everybody_is_told_how_long() -> None:
    circuit, clock = opened()
    clock.now = 4.0
    assert circuit.enter() == 6.0


def test_after_the_pause_one_asks_and_the_others_wait_for_what_comes_of_it() -> None:
    circuit, clock = opened()
    clock.now = 10.0
    assert circuit.state is CircuitState.HALF_OPEN
    probe = out(circuit)
    assert circuit.enter() == 0.1
    probe.succeeded()
    assert circuit.state is CircuitState.CLOSED
    out(circuit)


def test_a_probe_that_fails_opens_it_for_another_pause() -> None:
    circuit, clock = opened()
    clock.now = 10.0
    out(circuit).failed()
    assert circuit.state is CircuitState.OPEN
    assert circuit.enter() == 10.0


def test_a_probe_that_is_broken_off_leaves_room_for_the_next() -> None:
    circuit, clock = opened()
    clock.now = 10.0
    out(circuit).left()
    out(circuit)


@pytest.mark.parametrize("word", ["left", "failed"])
def test_late_word_of_a_call_from_before_is_not_taken_for_the_probe_s(word: str) -> None:
    clock = Clock()
    circuit = Circuit(3, 10.0, clock)
    before = out(circuit)
    for _ in range(3):
        out(circuit).failed()
    clock.now = 10.0
    probe = out(circuit)
    getattr(before, word)()
    assert circuit.state is CircuitState.HALF_OPEN
    assert circuit.enter() == 0.1
    probe.succeeded()
    assert circuit.state is CircuitState.CLOSED


def test_late_word_of_calls_from_before_does_not_prolong_the_pause() -> None:
    clock = Clock()
    circuit = Circuit(3, 10.0, clock)
    before = out(circuit)
    for _ in range(3):
        out(circuit).failed()
    clock.now = 9.0
    before.failed()
    clock.now = 10.0
    assert circuit.state is CircuitState.HALF_OPEN


@given(st.lists(st.tuples(st.sampled_from(("enter", "failed", "succeeded", "left", "later")), st.integers(0, 5))))
def test_whatever_happens_at_most_one_asks_before_it_closes_and_it_never_stays_shut(
    steps: list[tuple[str, int]],
) -> None:
    clock = Clock()
    circuit = Circuit(2, 5.0, clock)
    out_there: list[Pass] = []
    probe: Pass | None = None
    for step, which in steps:
        before = circuit.state
        if step == "enter":
            found = circuit.enter()
            if isinstance(found, Pass):
                assert before is not CircuitState.OPEN
                if before is CircuitState.HALF_OPEN:
                    assert probe is None
                    probe = found
                out_there.append(found)
        elif step == "later":
            clock.now += 3.0
        elif out_there:
            call = out_there.pop(which % len(out_there))
            getattr(call, step)()
            if call is probe or circuit.state is CircuitState.CLOSED:
                probe = None
    for call in out_there:
        call.left()
    clock.now += 5.0
    out(circuit)
