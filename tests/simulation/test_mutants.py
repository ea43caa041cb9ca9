"""The simulation finds bugs: each of these ways to break the product shows within a few seeds."""

from __future__ import annotations

import pytest

from ordermill.simulation import simulate

from .mutants import MUTANTS, Mutant

SEEDS = range(1, 201)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_product_is_found_out(mutant: Mutant) -> None:
    with mutant.at_large():
        assert any(simulate(seed, faults=mutant.faults).findings for seed in SEEDS), (
            f"{len(SEEDS)} seeds did not show it"
        )
