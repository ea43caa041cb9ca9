"""The shape of every adapter: a carrier's name and its codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ordermill.contracts.tracking import Milestone


@dataclass(frozen=True)
class CodeTable:
    """A carrier's codes, in the spelling that `normal` gives them."""

    carrier: str
    codes: Mapping[str, Milestone]

    def milestone(self, code: str) -> Milestone:
        """Never an error: carriers add codes without asking, and a scan we can't read is still a scan."""
        return self.codes.get(normal(code), Milestone.UNKNOWN)


def normal(code: str) -> str:
    """Feeds differ in case and padding, not in meaning."""
    return code.strip().lower()
