"""Who makes a topic anew that a broker has lost."""

from __future__ import annotations

import pytest

from ordermill.names import SERVICES
from ordermill.service.topics import all_topics, topics_made_by, topics_shared_by, topics_told_by


def test_each_topic_is_made_anew_by_somebody() -> None:
    assert {topic for service in SERVICES for topic in topics_made_by(service, SERVICES)} == set(all_topics(SERVICES))


def test_what_several_tell_is_known_to_each_of_them() -> None:
    assert topics_shared_by("capture", SERVICES) == [
        "oms.effects.requests",
        "oms.effects.results",
        "oms.log.checkpoints",
    ]
    assert topics_shared_by("routing", SERVICES) == ["oms.log.checkpoints"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_makes_what_it_tells_and_what_nobody_here_tells_and_leaves_the_others_theirs(service: str) -> None:
    made = set(topics_made_by(service, SERVICES))
    told = {other: set(topics_told_by(other)) for other in SERVICES}
    assert made >= told[service]
    assert {"oms.channel.orders", "oms.carrier.events", "oms.location.stock"} <= made
    assert not made & (set().union(*told.values()) - told[service])
