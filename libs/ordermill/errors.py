"""What can go wrong, in the three branches that the chassis acts on.

OrdermillError
├── Transient   may pass by itself: tried again with backoff, then kept as a dead letter
├── Poison      will never pass: kept as a dead letter at once, its neighbors go on
└── Refused     a rule says no: told to the caller (HTTP 409, exit status 1)
"""

from typing import ClassVar


class OrdermillError(Exception):
    """The root. `code` is stable and safe to match on; the text is for people."""

    code: ClassVar[str] = "ordermill.error"


class Transient(OrdermillError):
    """May pass by itself."""

    retry_after_s: float | None = None
    """How long the other side, or its circuit, wants to be left alone."""
    counts: bool = True
    """Whether it counts as a try. False where nothing was tried: our own database is away, a circuit is open."""


class Poison(OrdermillError):
    """Will never pass, however often it is tried."""


class Refused(OrdermillError):
    """A rule of the trade says no; the caller is told, nothing changes."""


class NotFound(Refused):
    """The thing asked for is not here (HTTP 404)."""

    code = "ordermill.not-found"
