"""When a provider is left alone, and when it is asked again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ordermill.service.circuit import Circuit, CircuitState


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Circuit, Clock]:
    clock = Clock()
    circuit = Circuit(3, 10.0, clock)
    for _ in range(3):
        assert circuit.enter() is None
        circuit.failed()
    return circuit, clock


def test_failures_in_a_row_open_it_and_one_success_between_them_does_not() -> None:
    circuit = Circuit(3, 10.0, Clock())
    for _ in range(5):
        circuit.failed()
        circuit.failed()
        circuit.succeeded()
    assert circuit.state is CircuitState.CLOSED
    assert opened()[0].state is CircuitState.OPEN


def test_while_it_is_open_nobody_asks_and_everybody_is_told_how_long() -> None:
    circuit, clock = opened()
    clock.now = 4.0
    assert circuit.enter() == 6.0


def test_after_the_pause_one_asks_and_the_others_wait_for_what_comes_of_it() -> None:
    circuit, clock = opened()
    clock.now = 10.0
    assert circuit.state is CircuitState.HALF_OPEN
    assert circuit.enter() is None
    assert circuit.enter() is not None
    circuit.succeeded()
    assert circuit.state is CircuitState.CLOSED
    assert circuit.enter() is None


def test_a_probe_that_fails_opens_it_for_another_pause() -> None:
    circuit, clock = opened()
    clock.now = 10.0
    circuit.enter()
    circuit.failed()
    assert circuit.state is CircuitState.OPEN
    assert circuit.enter() == 10.0


def test_a_probe_that_is_broken_off_leaves_room_for_the_next() -> None:
    circuit, clock = opened()
    clock.now = 10.0
    circuit.enter()
    circuit.left()
    assert circuit.enter() is None


def test_late_word_of_calls_from_before_does_not_prolong_the_pause() -> None:
    circuit, clock = opened()
    clock.now = 9.0
    circuit.failed()
    clock.now = 10.0
    assert circuit.state is CircuitState.HALF_OPEN


@given(st.lists(st.sampled_from(("enter", "failed", "succeeded", "left", "later")), max_size=60))
def test_whatever_happens_at_most_one_asks_before_it_closes_and_it_never_stays_shut(steps: list[str]) -> None:
    clock = Clock()
    circuit, probing = Circuit(2, 5.0, clock), False
    for step in steps:
        before = circuit.state
        match step:
            case "enter":
                passed = circuit.enter() is None
                assert not (passed and before is CircuitState.OPEN)
                assert not (passed and probing and before is not CircuitState.CLOSED)
                probing = (passed or probing) and before is not CircuitState.CLOSED
            case "later":
                clock.now += 3.0
            case _:
                getattr(circuit, step)()
                probing = False
    circuit.left()
    clock.now += 5.0
    assert circuit.enter() is None
