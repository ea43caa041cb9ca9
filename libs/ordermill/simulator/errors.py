"""How a simulated provider says no."""

from __future__ import annotations

from ordermill.errors import Refused


class Declined(Refused):
    """It will not do it, however often it is asked; nothing was done."""

    code = "simulator.declined"


class KeyReused(Refused):
    """One idempotency key for two different requests."""

    code = "simulator.key-reused"

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: asked before with other content; the first stands")
