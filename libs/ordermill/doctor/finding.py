"""What a look at an installation finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

TIMEOUT_S = 10.0
"""A part that takes longer to answer does not."""

Verdict = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` says what to do, where something is to be done."""

    verdict: Verdict
    what: str
    text: str
    remedy: str = ""


async def collected(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]
