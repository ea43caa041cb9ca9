"""Carriers: what each one's raw codes mean to us. An adapter is a table; a code that is not in it means `unknown`."""

from __future__ import annotations

from ordermill.contracts.tracking import Milestone

from .codes import CodeTable
from .easypost import EASYPOST
from .simulated import CEDAR, SWIFT

CARRIERS: dict[str, CodeTable] = {table.carrier: table for table in (CEDAR, SWIFT, EASYPOST)}
"""By the carrier's name on `oms.carrier.events`."""


def milestone_of(carrier: str, code: str) -> Milestone:
    """What a code means to us. A carrier without a table of its own is read as one that EasyPost relays."""
    return CARRIERS.get(carrier, EASYPOST).milestone(code)
