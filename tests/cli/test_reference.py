"""The pages of reference are what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordermill.reference import pages
from ordermill.reference.commands import reference

PAGES = Path(__file__).parents[2] / "docs" / "reference"
BY_HAND = "guarantees.md"
"""What it says is held to tests that are there by `tests/docs`."""


@pytest.mark.parametrize("name", [*pages()])
def test_a_page_is_current(name: str) -> None:
    assert (PAGES / name).read_text() == pages()[name](), "write it anew: make docs"


def test_every_page_has_something_that_writes_it() -> None:
    assert {path.name for path in PAGES.iterdir()} == {*pages(), BY_HAND}


def test_every_command_that_has_something_to_tell_prints_json() -> None:
    sections = reference().split("\n## ")[1:]
    without = {section.partition("\n")[0] for section in sections if "`--json`" not in section}
    silent = {"oms run", "oms simulator", "oms up", "oms world", "oms deploy secrets", "oms deploy databases"}
    assert without == silent | {"oms prove"}, "a proof is JSON in any case"
