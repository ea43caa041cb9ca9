"""What the bench reckons without measuring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import growth, layers, plots, soak
from bench.goods import LINES, order
from bench.stand import BenchStopped


class TestOrders:
    @pytest.mark.parametrize("lines", [1, 5, 20])
    def test_an_order_has_as_many_lines_as_asked_for_each_of_another_article(self, lines: int) -> None:
        made = json.loads(order(7, 400, lines).value)
        assert len({line["sku"] for line in made["lines"]}) == len(made["lines"]) == lines
        total = sum(line["unit_price"]["minor"] * line["quantity"] + line["tax"]["minor"] for line in made["lines"])
        assert made["total"]["minor"] == total + made["shipping"]["minor"]

    def test_it_has_five_if_nothing_is_said(self) -> None:
        assert LINES == 5
        assert json.loads(order(7, 400).value)["lines"] == json.loads(order(7, 400, 5).value)["lines"]


class TestGrowth:
    def test_there_are_enough_copies_and_not_one_more(self) -> None:
        assert growth.copies_to(1_000_000, present=130_000, of_one=130_000) == 7
        assert growth.copies_to(1_000_000, present=100_000, of_one=100_000) == 9
        assert growth.copies_to(50_000, present=100_000, of_one=100_000) == 0

    def test_a_million_comes_on_the_way_to_more(self) -> None:
        assert growth.steps(10_000) == [10_000]
        assert growth.steps(1_000_000) == [1_000_000]
        assert growth.steps(10_000_000) == [1_000_000, 10_000_000]


class TestLayers:
    def test_all_but_the_keyring_is_in_one_of_the_designs_figures(self) -> None:
        every = {layer for of_it in layers.GROUPS.values() for layer in of_it}
        assert len(every) == sum(len(of_it) for of_it in layers.GROUPS.values())
        found = layers.grouped(dict.fromkeys(every, 1.0) | {"keyring postgres": 100.0})
        assert sum(found.values()) == len(every)
        assert found.keys() == layers.DESIGNED.keys()
        assert found["append"] == 3


class TestSoak:
    SAMPLES = tuple((600.0 * number, {"capture": 100.0 + number, "broker": 50.0}) for number in range(9))

    def test_the_slope_is_that_of_the_samples(self) -> None:
        assert soak.mb_an_hour(self.SAMPLES) == pytest.approx({"capture": 6.0, "broker": 0.0})

    def test_the_middle_third_counts_for_nothing(self) -> None:
        bump = [(at, used | {"broker": 900.0} if 3 <= n < 6 else used) for n, (at, used) in enumerate(self.SAMPLES)]
        assert soak.mb_an_hour(bump) == soak.mb_an_hour(self.SAMPLES)

    def test_over_time_a_step_is_no_slope(self) -> None:
        stepped = [(60.0 * minute, {"capture": 100.0 if minute < 30 else 160.0}) for minute in range(60)]
        used = soak.over_time(stepped)["capture"]
        assert list(used.values()) == [100.0] * 6 + [160.0] * 6
        assert list(used)[:2] == ["2.0 min", "7.0 min"]

    def test_fewer_samples_than_twelve_are_shown_one_by_one(self) -> None:
        assert len(soak.over_time(self.SAMPLES)["capture"]) == len(self.SAMPLES)

    def test_two_samples_are_too_few(self) -> None:
        with pytest.raises(BenchStopped, match="2 samples"):
            soak.mb_an_hour(self.SAMPLES[:2])


def test_growth_is_drawn_by_events_not_by_names(tmp_path: Path) -> None:
    figures = {
        f"growth.at_{events}": {"events": events + 7, "orders_per_s": 80.0, "cpu_ms_per_order": 20.0}
        for events in (1_000_000, 0, 10_000_000)
    } | {"growth.at_0_memory_mb": {"capture": 90.0}}
    (path,) = plots.draw({"figures": figures}, tmp_path)
    drawn = path.read_text()
    assert path.name == "growth.svg"
    assert drawn.index(">7<") < drawn.index(">1,000,007<") < drawn.index(">10,000,007<")


def test_a_soak_is_drawn_as_a_line_for_each_process(tmp_path: Path) -> None:
    used = {"capture": {"2.0 min": 100.0, "7.0 min": 101.0}, "broker": {"2.0 min": 400.0, "7.0 min": 380.0}}
    (path,) = plots.draw({"figures": {"soak.memory_mb_over_time": used}}, tmp_path)
    drawn = path.read_text()
    assert path.name == "soak.svg"
    assert "capture" in drawn and "broker" in drawn and "7.0 min" in drawn
