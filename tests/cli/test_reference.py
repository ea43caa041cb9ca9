"""The page of commands is what the commands themselves say."""

from __future__ import annotations

from pathlib import Path

from ordermill.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


def test_the_page_of_commands_is_current() -> None:
    assert PAGE.read_text() == reference(), f"write it anew: python -m ordermill.cli.reference {PAGE}"


def test_every_command_but_the_demo_prints_json() -> None:
    sections = reference().split("\n## ")[1:]
    without = {section.partition("\n")[0] for section in sections if "`--json`" not in section}
    assert without == {"oms run", "oms simulator", "oms up"}
