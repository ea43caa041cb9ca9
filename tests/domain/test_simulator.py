"""What the simulated providers promise those who test against them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ordermill.contracts.fields import Money
from ordermill.simulator.errors import Declined, KeyReused
from ordermill.simulator.faults import DEMO, Behavior, Fault
from ordermill.simulator.ledger import Act, Ledger

ACT = Act(amount=Money(minor=501, currency="USD"), reference="rf_1")


@given(st.text(max_size=10), st.text(max_size=20), st.integers(1, 5))
def test_the_fate_of_a_call_follows_from_seed_key_and_how_often_it_was_asked(seed: str, key: str, asked: int) -> None:
    behavior = Behavior(shares={Fault.SILENT: 0.3, Fault.BUSY: 0.3}, delay_s=1.0)
    twice = [behavior.fault_of(seed, "cedar", key, asked) for _ in range(2)]
    assert twice[0] == twice[1]
    assert 0.5 <= behavior.delay_of(seed, "cedar", key, asked) <= 1.0


def test_faults_befall_their_share_of_calls_and_another_seed_others() -> None:
    def silent(seed: str) -> set[str]:
        behavior = Behavior(shares={Fault.SILENT: 0.25, Fault.BUSY: 0.5})
        keys = [f"k{n}" for n in range(4_000)]
        return {key for key in keys if behavior.fault_of(seed, "cedar", key, 1) is Fault.SILENT}

    assert 900 < len(silent("1")) < 1_100
    assert silent("1") != silent("2")


def test_a_fault_that_befalls_all_befalls_all() -> None:
    behavior = Behavior(shares={Fault.ERROR: 1.0})
    assert {behavior.fault_of("1", "cedar", f"k{n}", 1) for n in range(500)} == {Fault.ERROR}


def test_shares_beyond_all_calls_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"at most 1, found 1\.2"):
        Behavior(shares={Fault.ERROR: 0.6, Fault.BUSY: 0.6})


def test_the_demo_s_providers_nearly_always_answer() -> None:
    assert 0 < sum(DEMO.shares.values()) < 0.05


def test_a_key_is_acted_on_once_also_after_a_restart(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "ledger.sqlite")
        for _ in range(3):
            ledger.ask("payments", "r-1")
            answers.append(ledger.once("payments", "r-1", "content", lambda: (b"{}", ACT)))
    (entry,) = ledger.entries()
    assert set(answers) == {b"{}"}
    assert (entry.asked, entry.acted, entry.amount, entry.reference) == (6, 1, ACT.amount, "rf_1")


def test_a_key_with_other_content_is_refused() -> None:
    ledger = Ledger()
    ledger.once("payments", "r-1", "content", lambda: (b"{}", ACT))
    with pytest.raises(KeyReused, match="r-1: asked before with other content"):
        ledger.once("payments", "r-1", "other", lambda: (b"{}", ACT))


def test_a_refusal_is_not_remembered() -> None:
    def declines() -> tuple[bytes, Act]:
        raise Declined("not now")

    ledger = Ledger()
    ledger.ask("payments", "r-1")
    with pytest.raises(Declined):
        ledger.once("payments", "r-1", "content", declines)
    assert ledger.entries()[0].acted == 0
    assert ledger.once("payments", "r-1", "content", lambda: (b"{}", ACT)) == b"{}"
