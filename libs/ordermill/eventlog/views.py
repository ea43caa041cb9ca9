"""Views: disposable documents, one a stream, that follow from the stream's state alone.

A view is written in the transaction that moved its stream, and can be rebuilt from the log at any time, beside the
live one. A published state works the same way, and goes to a topic where only the latest by key counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ordermill.contracts.base import Message


@dataclass(frozen=True)
class View:
    """One document for each stream of `category`. `indexed` top-level fields can be searched fast."""

    name: str
    category: str
    document: Callable[[Any], dict[str, Any]]
    indexed: tuple[str, ...] = ()
    version: int = 1
    """Counted up with each change of what it makes of a stream: what was written before has to be built anew."""


@dataclass(frozen=True)
class PublishedState:
    """One latest message for each stream of `category`. `message(key, version, state)`; None publishes nothing."""

    category: str
    message: Callable[[str, int, Any], Message | None]
