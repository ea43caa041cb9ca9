"""Every topic of an installation and how the broker keeps it, in one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pkgutil import iter_modules

from ordermill import contracts
from ordermill.contracts.base import BY_TYPE

LARGEST_REQUEST = 4 * 1024 * 1024

FOR_GOOD = None


@dataclass(frozen=True, slots=True)
class TopicPolicy:
    """How a broker keeps what is on a topic."""

    why: str
    keep: timedelta | None = FOR_GOOD
    """How long a message stays; None: for good."""
    compacted: bool = False
    """Only the latest message of each key stays."""

    @property
    def kept(self) -> str:
        """In words."""
        if self.compacted:
            return "the latest of each key"
        return "for good" if self.keep is None else f"{self.keep.days} days"

    def configs(self) -> dict[str, str]:
        """As topic settings of Kafka's: https://kafka.apache.org/documentation/#topicconfigs"""
        configs = {
            "max.message.bytes": str(LARGEST_REQUEST),
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": "-1" if self.keep is None else _ms(self.keep),
            "retention.bytes": "-1",
        }
        if self.keep is not None:
            # By the broker's clock, whatever time a sender writes; a day's segment goes as a whole.
            configs |= {"message.timestamp.type": "LogAppendTime", "segment.ms": _ms(timedelta(days=1))}
        if self.compacted:
            # Compaction leaves the segment alone that is written to: an hour's states, or 64 MiB of them, wait for it.
            configs |= {
                "segment.ms": _ms(timedelta(hours=1)),
                "segment.bytes": str(64 * 1024 * 1024),
                "min.cleanable.dirty.ratio": "0.2",
                "max.compaction.lag.ms": _ms(timedelta(days=1)),
                "delete.retention.ms": _ms(timedelta(days=7)),
            }
        return configs


FACTS = TopicPolicy("a new consumer reads what happened from the first fact on")
STATES = TopicPolicy("the latest state of each key is all that anyone needs", compacted=True)
INCOMING = TopicPolicy("handled within seconds and in the log since; orders carry people's names", timedelta(days=14))
DEAD_LETTERS = TopicPolicy("the log has them; they may carry people's names", timedelta(days=14))

POLICIES = {
    "oms.channel.orders": INCOMING,
    "oms.carrier.events": INCOMING,
    "oms.location.stock": INCOMING,
    "oms.inventory.availability": STATES,
    "oms.orders.status": STATES,
}
"""Those that are not a service's facts or its dead letters."""


def policy_of(topic: str) -> TopicPolicy:
    return POLICIES.get(topic) or (DEAD_LETTERS if topic.endswith(".dlq") else FACTS)


def all_topics(services: Iterable[str]) -> list[str]:
    """Every topic of an installation with these services."""
    for module in iter_modules(contracts.__path__):
        import_module(f"{contracts.__name__}.{module.name}")
    topics = {topic for cls in BY_TYPE.values() for topic in (cls.topic, *cls.also_on) if "{" not in topic}
    return sorted(topics | {f"oms.{service}.dlq" for service in services})


def topics_told_by(service: str) -> list[str]:
    """Those on which this service tells its facts and states."""
    named = [cls for name, cls in BY_TYPE.items() if name.startswith((f"oms.{service}.", "oms.service."))]
    return sorted({topic.format(service=service) for cls in named for topic in (cls.topic, *cls.also_on)})


def topics_made_by(service: str, services: Iterable[str]) -> list[str]:
    """Those that it makes anew where a broker has lost them: its own, and what only the outside writes to.

    The other services' are theirs to make. Who finds a topic there again that was gone, and does not know that it was,
    puts what is on its way onto it before all that was there.
    """
    services = tuple(services)
    left_to_them = _told_by_others(service, services) - set(topics_told_by(service))
    return [topic for topic in all_topics(services) if topic not in left_to_them]


def topics_shared_by(service: str, services: Iterable[str]) -> list[str]:
    """Those on which others tell their facts beside this service."""
    others = _told_by_others(service, services)
    return [topic for topic in topics_told_by(service) if topic in others]


def _told_by_others(service: str, services: Iterable[str]) -> set[str]:
    return {topic for other in services if other != service for topic in topics_told_by(other)}


def _ms(duration: timedelta) -> str:
    return str(round(duration.total_seconds() * 1_000))
