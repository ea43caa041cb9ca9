"""What the simulated world does, and how often. Chance follows from ids alone: the same order meets the same fate."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from hashlib import blake2b

PER_MILLE = {
    "reject": 20,  # a location turns a fulfillment order down
    "short-pick": 20,  # one line is not all on the shelf
    "cancel": 20,  # the customer calls the order off, some before it is released, some after
    "edit": 10,  # the customer changes how many of the first line are wanted, once or twice
    "unpaid": 15,  # payment comes an hour later
    "risky": 10,  # held for fraud risk until an agent looks at it
    "late": 50,  # the carrier takes two days longer than it should
    "lost": 2,  # the carrier does not see it any more
    "found": 100,  # of those: it turns up weeks later
    "turned-back": 15,  # nobody takes it, so the carrier brings it back to its sender
    "sent-again": 100,  # of what never arrived: the same goods are sent once more
    "repeat": 100,  # a scan is sent twice
    "reorder": 50,  # a scan is sent half a day late
    "return": 80,  # something comes back
    "exchange": 200,  # of returns: other goods are wanted instead
    "several": 300,  # of returns: all units of the line come back, not one
    "in-parts": 250,  # of those: one unit at a time
    "unfit": 250,  # of returned goods: can't be sold again
    "missing": 20,  # of returned goods: not in the box
    "scarce": 30,  # a SKU of which only half is there at first
    "no-backorder": 300,  # the order may not wait
}
"""How many of a thousand."""

ACCEPT_AFTER = timedelta(minutes=20)
PICK_AFTER = timedelta(minutes=70)
PACK_AFTER = timedelta(minutes=25)
HAND_OVER_AFTER = timedelta(minutes=90)
PAY_AFTER = timedelta(hours=1)
REVIEW_AFTER = timedelta(hours=2)
EDIT_AFTER = timedelta(minutes=30)
CANCEL_AFTER = timedelta(minutes=45)
RESTOCK_AFTER = timedelta(hours=30)
ASK_RETURN_AFTER = timedelta(days=2)
SEND_BACK_AFTER = timedelta(days=3)
INSPECT_AFTER = timedelta(hours=5)
FOUND_AFTER = timedelta(days=14)
MAKE_UP_AFTER = timedelta(hours=20)


def draw(*what: str) -> int:
    """A number from 0 to 999 that belongs to `what`, the same for all time."""
    return int.from_bytes(blake2b("\0".join(what).encode(), digest_size=8).digest(), "big") % 1000


def happens(fate: str, *what: str, per_mille: Mapping[str, int] = PER_MILLE) -> bool:
    return draw(fate, *what) < per_mille[fate]


def between(low: float, high: float, *what: str) -> float:
    """A number from `low` to `high` that belongs to `what`."""
    return low + (high - low) * draw("between", *what) / 999
