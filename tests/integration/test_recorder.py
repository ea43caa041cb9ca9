"""The `eventsourcing` library's own test cases against our recorder, then what only we promise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Thread
from typing import Any, ClassVar
from unittest import TestCase
from uuid import UUID, uuid4

import asyncpg
import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.tests import application, persistence, projection
from eventsourcing.utils import Environment

from ordermill.eventlog.engine import Rules
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.recorder import LogAggregateRecorder, LogFactory, LogRecorder, follow
from ordermill.eventlog.records import GENESIS, chained
from ordermill.eventlog.store import Changes
from ordermill.eventlog.verify import verify_store
from tests.conftest import LogDatabase

from .shelves import received, rows_of

MakeLog = Callable[..., Awaitable[LogDatabase]]


OTHERS = {
    persistence.TrackingRecorderTestCase: "a log keeps no places of readers; a service keeps its own in its inbox",
    persistence.ProcessRecorderTestCase: "the same, in one transaction with events",
    persistence.TranscoderTestCase: "of the library's JSON, which never meets a recorder",
    projection.EventCountersViewTestCase: "of a view, which is no log",
    projection.TaggedDecisionCountersProjectionTestCase: "of its other model, events without streams (DCB)",
    application.ExampleApplicationTestCase: "takes snapshots through a recorder; a log keeps events only",
}
"""The library's cases that can't run on a log, and why."""


class _OnOurLog:
    """Gives the library's test cases a recorder on an empty log."""

    dsn: ClassVar[str]
    recorder_class: ClassVar[type[LogAggregateRecorder]] = LogRecorder

    @pytest.fixture(autouse=True)
    async def _empty_log(self, make_log: MakeLog) -> Any:
        type(self).dsn = (await make_log()).dsn
        self.opened: list[LogAggregateRecorder] = []
        yield
        for recorder in self.opened:
            recorder.close()

    def create_recorder(self) -> Any:
        recorder = self.recorder_class.open(self.dsn)
        self.opened.append(recorder)
        return recorder


class TestAggregateRecorder(_OnOurLog, persistence.AggregateRecorderTestCase):
    recorder_class = LogAggregateRecorder


class TestApplicationRecorder(_OnOurLog, persistence.ApplicationRecorderTestCase):
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNotificationsOfOneInsertStayTogether(_OnOurLog, persistence.NonInterleavingNotificationIDsBaseCase):
    pass


class _ByEnvironment(_OnOurLog):
    """Applications of the library find our log by these variables."""

    env: ClassVar[Any] = {}

    @pytest.fixture(autouse=True)
    async def _settings(self, _empty_log: None, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.settings().items():
            monkeypatch.setenv(name, value)

    def settings(self) -> dict[str, str]:
        return {"PERSISTENCE_MODULE": LogFactory.__module__, "OMS_DATABASE_URL": self.dsn}


class TestFactory(_ByEnvironment, persistence.InfrastructureFactoryTestCase[LogFactory]):
    def setUp(self) -> None:
        type(self).env = Environment("Application", self.settings())
        super().setUp()

    def expected_factory_class(self) -> type[LogFactory]:
        return LogFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return LogAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return LogRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        raise NotImplementedError

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        raise NotImplementedError

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        raise NotImplementedError

    def test_create_tracking_recorder(self) -> None:
        with pytest.raises(NotSupportedError, match="does not keep"):
            self.factory.tracking_recorder()

    def test_create_process_recorder(self) -> None:
        with pytest.raises(NotSupportedError, match="does not keep"):
            self.factory.process_recorder()


class TestApplication(_ByEnvironment, application.ApplicationTestCase):
    pass


class Counted(POPOTrackingRecorder, projection.EventCountersView):
    """A view of the library's, in memory, that reads from our log."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = [0, 0]

    def get_created_event_counter(self) -> int:
        return self._counts[0]

    def get_subsequent_event_counter(self) -> int:
        return self._counts[1]

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._count(0, tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._count(1, tracking)

    def _count(self, which: int, tracking: Tracking) -> None:
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self._counts[which] += 1


class _OnlyTheSource(_ByEnvironment):
    """The application is on our log; what reads it is elsewhere."""

    def settings(self) -> dict[str, str]:
        return {"APPLICATION_PERSISTENCE_MODULE": LogFactory.__module__, "OMS_DATABASE_URL": self.dsn}


class TestProjection(_OnlyTheSource, projection.AggregateEventCountersProjectionTestCase):
    view_class = Counted


class TestEventSourcedProjection(_OnlyTheSource, projection.EventSourcedProjectionTestCase):
    pass


def test_every_case_of_the_library_runs_here_or_says_why_not() -> None:
    theirs = {
        each
        for module in (persistence, application, projection)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, TestCase) and each.__module__ == module.__name__
    }
    ours = {base for each in globals().values() if isinstance(each, type) for base in each.__mro__[1:]}
    assert theirs - ours == OTHERS.keys()


@pytest.fixture
def recorder(log: LogDatabase) -> Iterator[LogRecorder]:
    with LogRecorder.open(log.dsn) as opened:
        yield opened


def stored(originator_id: UUID | str, version: int, topic: str = "topic") -> StoredEvent:
    return StoredEvent(originator_id, version, topic, b"state")


async def test_streams_of_ordermill_and_of_the_library_share_one_sequence(
    log: LogDatabase, recorder: LogRecorder
) -> None:
    store = await PostgresStore.open(log.dsn)
    rows = rows_of("shelf-a", received(1), received(2))
    async with store.transaction() as transaction:
        await transaction.commit(Changes(rows=rows))
    ours = uuid4()
    assert recorder.insert_events([stored(ours, 1)]) == [3]
    assert [(n.id, n.originator_id, n.originator_version) for n in recorder.select_notifications(1, 10)] == [
        (1, "shelf-a", 1), (2, "shelf-a", 2), (3, ours, 1),
    ]  # fmt: skip
    assert recorder.insert_events([stored("shelf-a", 3)]) == [4]
    assert [row.version for row in await store.read_stream("shelf-a")] == [1, 2, 3]
    await store.close()


async def test_its_inserts_keep_the_chain(log: LogDatabase, recorder: LogRecorder) -> None:
    one, zero = uuid4(), uuid4()
    recorder.insert_events([stored(one, 1), stored(zero, 0), stored(one, 2)])
    recorder.insert_events([stored(zero, 1), stored(one, 3)])
    store = await PostgresStore.open(log.dsn)
    for stream, count in ((one, 3), (zero, 2)):
        rows = await store.read_stream(str(stream))
        assert [row.version for row in rows] == list(range(1, count + 1))
        for previous, row in zip([GENESIS, *(row.hash for row in rows)], rows, strict=False):
            assert row.hash == chained(previous, row)
    assert await verify_store(store, Rules(())) == []
    await store.close()


@pytest.mark.parametrize(("first", "then"), [(1, 3), (0, 2), (1, 1), (0, 0), (2, 3), (-1, 0)])
def test_a_version_that_is_not_the_next_is_refused(recorder: LogRecorder, first: int, then: int) -> None:
    originator = uuid4()
    if first in {0, 1}:
        recorder.insert_events([stored(originator, first)])
    before = recorder.select_events(originator)
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored("other", 1), stored(originator, then if first in {0, 1} else first)])
    assert recorder.select_events(originator) == before
    assert recorder.select_events("other") == []


def test_two_that_append_the_same_version_are_not_both_right(recorder: LogRecorder) -> None:
    originator = uuid4()
    with ThreadPoolExecutor(8) as pool:
        attempts = [pool.submit(recorder.insert_events, [stored(originator, 1)]) for _ in range(8)]
    assert sum(attempt.exception() is None for attempt in attempts) == 1
    assert {type(attempt.exception()) for attempt in attempts} == {type(None), IntegrityError}
    assert recorder.max_notification_id() == 1


def test_ids_and_topics_stand_on_one_line(recorder: LogRecorder) -> None:
    with pytest.raises(ProgrammingError):
        recorder.insert_events([stored("a\nb", 1)])
    with pytest.raises(ProgrammingError):
        recorder.insert_events([stored("a", 1, "b\nc")])
    with pytest.raises(DataError):
        recorder.insert_events([stored("a\0b", 1)])


async def test_an_insert_says_so_when_an_older_transaction_keeps_back_its_numbers(
    log: LogDatabase, recorder: LogRecorder
) -> None:
    recorder.numbered_within_s = 0.05
    older = await asyncpg.connect(log.admin_dsn)
    transaction = older.transaction()
    await transaction.start()
    await older.execute("SELECT pg_current_xact_id()")
    originator = uuid4()
    with pytest.raises(OperationalError, match="written"):
        recorder.insert_events([stored(originator, 1)])
    assert len(recorder.select_events(originator)) == 1
    assert recorder.max_notification_id() is None
    await transaction.rollback()
    await older.close()
    assert recorder.insert_events([stored(originator, 2)]) == [2]


def test_a_log_that_is_not_there_is_an_operational_error() -> None:
    with pytest.raises(OperationalError):
        LogRecorder.open("postgresql://nobody@127.0.0.1:1/nothing")


def test_a_follower_sees_every_event_whoever_writes_it(log: LogDatabase, recorder: LogRecorder) -> None:
    with LogRecorder.open(log.dsn) as other:
        recorder.insert_events([stored("a", 1), stored("a", 2)])
        following = follow(recorder, start=1)
        assert isinstance(following, Generator)
        assert next(following).id == 2

        def write() -> None:
            for version in range(3, 23):
                other.insert_events([stored("a", version)])

        writer = Thread(target=write)
        writer.start()
        assert [(n.id, n.originator_version) for n in islice(following, 20)] == [(n, n) for n in range(3, 23)]
        writer.join()
        following.close()


def test_a_page_of_other_topics_does_not_end_a_selection(recorder: LogRecorder) -> None:
    recorder.insert_events([stored("a", version, "dull") for version in range(1, 1_501)])
    recorder.insert_events([stored("a", 1_501, "rare"), stored("a", 1_502, "dull"), stored("a", 1_503, "rare")])
    assert [n.id for n in recorder.select_notifications(None, 10, topics=["rare"])] == [1_501, 1_503]
    assert [n.id for n in recorder.select_notifications(None, 1, topics=["rare"])] == [1_501]
    assert [n.id for n in recorder.select_notifications(1_502, 10, 1_503)] == [1_502, 1_503]
    with recorder.subscribe(topics=["rare"]) as subscription:
        assert [n.id for n in islice(subscription, 2)] == [1_501, 1_503]


class Dog(Aggregate):
    @event("Registered")
    def __init__(self, name: str) -> None:
        self.name = name
        self.tricks: list[str] = []

    @event("TrickAdded")
    def add_trick(self, trick: str) -> None:
        self.tricks.append(trick)


class DogSchool(Application[UUID]):
    def register(self, name: str) -> UUID:
        dog = Dog(name)
        self.save(dog)
        return dog.id


def test_an_application_of_the_library_stands_on_our_log(log: LogDatabase) -> None:
    env = {"PERSISTENCE_MODULE": "ordermill.eventlog.recorder", "OMS_DATABASE_URL": log.dsn}
    with DogSchool(env) as school:
        fido = school.register("Fido")
        dog: Dog = school.repository.get(fido)
        dog.add_trick("roll over")
        school.save(dog)
    with DogSchool(env) as school:
        taught: Dog = school.repository.get(fido)
        assert taught.tricks == ["roll over"]
        assert [n.id for n in school.notification_log.select(1, 10)] == [1, 2]
        stale: Dog = school.repository.get(fido, version=1)
        stale.add_trick("play dead")
        with pytest.raises(IntegrityError):
            school.save(stale)
