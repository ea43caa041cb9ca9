"""Who did what to one thing, in its order."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from services.console.picture import Document
from services.console.told import Told


class Step(Document):
    """One fact as people speak of it: `did` is the last word of its type, `picked`, `short-picked`."""

    did: str
    actor: str
    at: datetime
    what: str = ""

    @property
    def who(self) -> str:
        """`Ann` for a person of ours; `Ordermill` for what nobody did."""
        kind, _, name = self.actor.partition(":")
        if kind == "customer":
            return "the customer"
        return name if kind == "user" and name else "Ordermill"


class Steps(Document):
    """A document that remembers who did what. `version` is that of the newest fact folded in."""

    version: int = 0
    steps: list[Step] = Field(default_factory=list)

    def note_step(self, item: Told, what: str = "") -> None:
        self.version = max(self.version, item.version or 0)
        did = item.type.rpartition(".")[0].rpartition(".")[2]
        self.steps.append(Step(did=did, actor=item.actor, at=item.happened_at, what=what))

    def last(self, *did: str) -> Step | None:
        """The newest of these steps."""
        return next((step for step in reversed(self.steps) if step.did in did), None)
