"""A book: what one pass over a service's log finds out. What all books need: violations, effects by key, names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from ordermill.contracts.base import decode
from ordermill.contracts.fields import Money
from ordermill.errors import OrdermillError

Line = tuple[str, str]
"""An order and one of its lines."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that does not add up. `check` is stable; `seq` is the event's number where it is one event's fault."""

    check: str
    service: str
    stream: str
    seq: int | None
    text: str

    def __str__(self) -> str:
        at = f" at {self.seq}" if self.seq is not None else ""
        return f"{self.check}: {self.service} {self.stream}{at}: {self.text}"


_OF_NO_TRADE = frozenset({"letter", "checkpoint"})


class Book(ABC):
    """What one pass over a service's log found out."""

    service: ClassVar[str]
    skips: ClassVar[frozenset[str]] = frozenset()
    """Categories of streams that prove nothing here."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    @classmethod
    def concerns(cls, stream: str) -> bool:
        category = stream.partition("-")[0]
        return category not in _OF_NO_TRADE and category not in cls.skips

    def read(self, seq: int, stream: str, type_name: str, data: bytes) -> Any:
        """The event; None if it can't be read."""
        try:
            event = decode(type_name, data)
        except OrdermillError as error:
            self.wrong("unreadable", stream, str(error), seq)
            return None
        try:
            self.take(seq, stream, event)
        except Exception as error:  # what no decision ever made may not fold either
            self.wrong("unreadable", stream, f"{type_name} does not fit what was before: {error!r}", seq)
        return event

    @abstractmethod
    def take(self, seq: int, stream: str, event: Any) -> None:
        """Fold one event in, and tell what is wrong with it."""

    def wrong(self, check: str, stream: str, text: str, seq: int | None = None) -> None:
        self.found.append(Violation(check, self.service, stream, seq, text))


@dataclass(slots=True)
class Asked:
    """An effect, as its key's facts have it."""

    seq: int
    amount: Money | None = None
    done: int = 0
    failed: bool = False
    unheard: bool = False
    """It was given up without an answer: the provider may have done it."""
    reference: str = ""
    """What the provider calls it: a refund's reference, a label's tracking number."""


class Names:
    """Names that stand for one thing over all orders, each in some 100 bytes of memory."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._first: dict[int, int] = {}

    def give(self, service: str, what: str, name: str, seq: int) -> None:
        """A thing of this kind is called so by the event of this number."""
        first = self._first.setdefault(hash((service, what, name)), seq)
        if first != seq:
            low, high = sorted((first, seq))
            self.found.append(Violation("effects", service, name, high, f"names another {what} too, at {low}"))


class Effects:
    """Effects by their key: asked for before they are done, done once, asked again only where they failed."""

    def __init__(self, book: Book, what: str, names: Names) -> None:
        self._book = book
        self._what = what
        self._names = names
        self.asked: dict[tuple[str, str], Asked] = {}
        """By stream and key."""

    def ask(self, key: str, stream: str, seq: int, amount: Money | None = None) -> bool:
        """Whether this is the first time."""
        known = self.asked.get((stream, key))
        if known is None:
            self.asked[stream, key] = Asked(seq, amount)
            self._names.give(self._book.service, self._what, key, seq)
            return True
        if not known.failed or known.amount != amount:
            self._book.wrong("effects", stream, f"{self._what} {key} is requested again, first at {known.seq}", seq)
        known.failed = False
        return False

    def done(self, key: str, stream: str, seq: int, reference: str, amount: Money | None = None) -> None:
        asked = self.asked.get((stream, key))
        if asked is None:
            self._book.wrong("effects", stream, f"{self._what} {key} is done, and nobody requested it", seq)
            return
        asked.done += 1
        asked.reference = reference
        if asked.done > 1:
            self._book.wrong("effects", stream, f"{self._what} {key} is done {asked.done} times, once expected", seq)
        if amount is not None and amount != asked.amount:
            text = f"{self._what} {key}: {asked.amount} requested, {amount} paid"
            self._book.wrong("money", stream, text, seq)

    def failed(self, key: str, stream: str, seq: int, unheard: bool = False) -> None:
        asked = self.asked.get((stream, key))
        if asked is None:
            self._book.wrong("effects", stream, f"{self._what} {key} failed, and nobody requested it", seq)
        else:
            asked.failed, asked.unheard = True, unheard

    def open_ones(self) -> None:
        for (stream, key), asked in self.asked.items():
            if not asked.done and not asked.failed:
                self._book.wrong("settled", stream, f"{self._what} {key} has no answer", asked.seq)


def count_units(units: Counter[Line], key: str, lines: Iterable[Any]) -> None:
    for line in lines:
        units[key, line.line_id] += line.quantity
