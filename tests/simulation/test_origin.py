"""What does not add up is told with the first event that shows it, and the chain of causes to it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ordermill.audit.book import Violation
from ordermill.audit.origin import History
from ordermill.eventlog.records import SequencedRow
from ordermill.simulation import simulate
from tests.integration.shelves import MONDAY, received, rows_of

from .mutants import MUTANTS


@pytest.mark.parametrize(
    ("broken", "found", "event"),
    [
        ("one more is sold than there is", "oversell", "oms.inventory.stock-reserved.v1"),
        ("more wait than may", "backorders", "oms.inventory.stock-backordered.v1"),
    ],
)
def test_a_unit_too_many_is_traced_to_the_order_that_it_was_promised_to(broken: str, found: str, event: str) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == broken)
    with mutant.at_large():
        findings = next(run.findings for seed in range(1, 100) if (run := simulate(seed)).findings)
    told = next(finding for finding in findings if finding.startswith(f"{found}: "))
    first, *causes = told.partition("; first at ")[2].split(", because of ")
    assert first.startswith("inventory ") and event in first
    assert "oms.capture.order-released." in causes[0]


def test_no_event_stands_before_its_cause_whatever_the_clocks_said() -> None:
    (asked,) = rows_of("order-1", received(1), recorded_at=MONDAY + timedelta(minutes=5))
    (early,) = rows_of("stock-a", received(1), recorded_at=MONDAY)
    (late,) = rows_of("stock-b", received(1), recorded_at=MONDAY + timedelta(minutes=1))
    caused = early._replace(causation_id=str(asked.event_id))
    history = History([
        ("capture", SequencedRow(1, asked)), ("inventory", SequencedRow(1, caused)),
        ("inventory", SequencedRow(2, late)),
    ])  # fmt: skip
    assert [event.row.stream for _, event in history.events] == ["order-1", "stock-a", "stock-b"]


async def test_what_never_was_wrong_has_no_origin() -> None:
    (row,) = rows_of("stock-a", received(1))
    history = History([("inventory", SequencedRow(1, row))])
    assert history.first(Violation("money", "capture", "order-1", None, "nothing")) is None
