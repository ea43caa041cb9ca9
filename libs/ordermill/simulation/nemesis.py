"""What goes wrong, or is done by people when nobody expects it. Each fault is drawn from the seed, counted, and written
down, so that a run can be repeated with some of them left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """Kinds of faults, by the name that `oms simulate --faults` takes."""

    CRASH = "crash"
    """A process ends at whatever it awaits, and another is started later."""
    FREEZE = "freeze"
    """A process stands still for longer than a consumer group waits for its members, then goes on."""
    SLOW = "slow"
    """Something takes seconds."""
    DATABASE_AWAY = "database-away"
    """A read or a commit is refused."""
    COMMIT_UNANSWERED = "commit-unanswered"
    """The database committed, and the answer was lost."""
    CONFLICT = "conflict"
    """Commits are refused as if another writer had been first each time."""
    LEAD_LOST = "lead-lost"
    """A relay's lock is gone, another leads, and the first has not noticed."""
    SEND_FAILED = "send-failed"
    """The broker took nothing or a part of a batch, and said no."""
    SEND_UNANSWERED = "send-unanswered"
    """The broker took a batch, and the answer was lost."""
    OFFSETS_REFUSED = "offsets-refused"
    """A batch is settled, and its offsets are not committed."""
    REBALANCE = "rebalance"
    """A group shares out its partitions anew, in the middle of batches."""
    AMNESIA = "amnesia"
    """The broker forgets everything and is another one afterwards."""
    SCALE = "scale"
    """A service runs as two or three instances."""
    CLOCK = "clock"
    """A process's clock jumps, forward or back."""
    REPEAT = "repeat"
    """A channel, carrier or location says something twice, under the same id or a new one."""
    LATE = "late"
    """What the outside says arrives much later, behind what it said afterwards."""
    POISON = "poison"
    """Records that nobody can read, among those of others."""
    PROVIDER_AWAY = "provider-away"
    """A provider does nothing, and says so or says nothing."""
    PROVIDER_UNANSWERED = "provider-unanswered"
    """A provider acted, and its answer was lost."""
    PROVIDER_REFUSES = "provider-refuses"
    """A provider says no, and a person has it asked again."""
    OUTDATED = "outdated"
    """A process is of an older release that does not know what some message means, until it is replaced."""
    POLICY = "policy"
    """A process is started under another policy than the last one of its service."""
    HOLD = "hold"
    """Somebody holds an order, and lets it go later."""
    REROUTE = "reroute"
    """Somebody has what lies at a location routed again."""
    MISCOUNT = "miscount"
    """A location counts its stock, or corrects it, and finds another number."""
    CALL_OFF = "call-off"
    """A customer cancels at any moment, be it too late."""
    CHANGE = "change"
    """A customer changes how many they want or where it goes, at any moment, be it too late."""
    OVERTAKE = "overtake"
    """A change or a cancellation comes before its order."""
    TURN_DOWN = "turn-down"
    """A location turns work down at any moment, for nothing is there."""
    CLOSE = "close"
    """Somebody settles a return with what has come so far, or credits the rest without it."""
    PLACED_AGAIN = "placed-again"
    """A channel places an order again with other content."""
    LETTERS = "letters"
    """Somebody has a dead letter handled after all, or drops it."""
    FORGET = "forget"
    """A customer wants to be forgotten; what can't reach them any more is canceled."""
    SWITCH = "switch"
    """Somebody wants a label from another carrier, since the first has not answered yet."""


ODDS: dict[Fault, float] = {
    Fault.CRASH: 0.006,
    Fault.FREEZE: 0.002,
    Fault.SLOW: 0.03,
    Fault.DATABASE_AWAY: 0.01,
    Fault.COMMIT_UNANSWERED: 0.03,
    Fault.CONFLICT: 0.02,
    Fault.LEAD_LOST: 0.03,
    Fault.SEND_FAILED: 0.03,
    Fault.SEND_UNANSWERED: 0.03,
    Fault.OFFSETS_REFUSED: 0.05,
    Fault.REBALANCE: 0.02,
    Fault.AMNESIA: 0.002,
    Fault.SCALE: 0.5,
    Fault.CLOCK: 0.005,
    Fault.REPEAT: 0.3,
    Fault.LATE: 0.15,
    Fault.POISON: 0.1,
    Fault.PROVIDER_AWAY: 0.3,
    Fault.PROVIDER_UNANSWERED: 0.3,
    Fault.PROVIDER_REFUSES: 0.2,
    Fault.OUTDATED: 0.2,
    Fault.POLICY: 0.3,
    Fault.HOLD: 0.05,
    Fault.REROUTE: 0.08,
    Fault.MISCOUNT: 0.06,
    Fault.CALL_OFF: 0.04,
    Fault.CHANGE: 0.05,
    Fault.OVERTAKE: 0.1,
    Fault.TURN_DOWN: 0.05,
    Fault.CLOSE: 0.1,
    Fault.PLACED_AGAIN: 0.05,
    Fault.LETTERS: 0.1,
    Fault.FORGET: 0.05,
    Fault.SWITCH: 0.3,
}
"""How often a fault strikes where it can: the chance at one opportunity, in a run that knows this kind at all."""


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault that struck. Kind and number name it in a repetition of the run."""

    fault: Fault
    number: int
    """Among the opportunities of its kind at which it struck."""
    at_s: float
    where: str

    @property
    def name(self) -> str:
        return f"{self.fault.value}#{self.number}"

    def __str__(self) -> str:
        return f"{self.at_s:9.3f} s  {self.name:22} {self.where}"


class Nemesis:
    """Decides whether a fault strikes. A run knows some kinds only, so that each meets the others in every company.

    Each kind draws from a source of its own: leaving one out leaves the others' draws as they are.
    """

    def __init__(
        self,
        seed: int,
        kinds: Collection[Fault],
        time: Callable[[], float],
        until_s: float,
        only: Collection[str] | None = None,
    ) -> None:
        """`until_s`: no fault strikes later. `only`: no others than those of these names, of those that would."""
        self._random = {kind: Random(f"{seed} {kind.value}") for kind in Fault if kind in kinds}
        self._odds: dict[Fault, float] = {}
        for kind, random in self._random.items():
            if random.random() < 0.5:
                self._odds[kind] = ODDS[kind] * random.choice((0.3, 1.0, 3.0))
        self._amounts = Random(f"{seed} amounts")
        self._time = time
        self._until_s = until_s
        self._only = only
        self._counts = Counter[Fault]()
        self.history: list[Struck] = []

    @property
    def over(self) -> bool:
        return self._time() > self._until_s

    def rest(self) -> None:
        """No fault strikes any more."""
        self._until_s = min(self._until_s, self._time())

    def strikes(self, fault: Fault, *where: str) -> bool:
        """`where`: whom, and at what."""
        odds = self._odds.get(fault)
        if odds is None or self._random[fault].random() >= odds or self._time() > self._until_s:
            return False
        self._counts[fault] += 1
        struck = Struck(fault, self._counts[fault], self._time(), " at ".join(where))
        if self._only is not None and struck.name not in self._only:
            return False
        self.history.append(struck)
        return True

    def amount(self, low: float, high: float) -> float:
        """How long, how far, how much."""
        return self._amounts.uniform(low, high)

    def one_of(self, count: int) -> int:
        return self._amounts.randrange(count)
