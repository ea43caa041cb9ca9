"""The `eventsourcing` library's own test cases against our recorder, then what only we promise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from eventsourcing.persistence import IntegrityError, OperationalError, ProgrammingError, StoredEvent
from eventsourcing.tests.persistence import (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
)

from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.records import GENESIS, chained
from ordermill.eventlog.recorder import LogAggregateRecorder, LogRecorder, follow
from tests.conftest import LogDatabase

MakeLog = Callable[..., Awaitable[LogDatabase]]


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


class TestAggregateRecorder(_OnOurLog, AggregateRecorderTestCase):
    recorder_class = LogAggregateRecorder


class TestApplicationRecorder(_OnOurLog, ApplicationRecorderTestCase):
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNotificationsOfOneInsertStayTogether(_OnOurLog, NonInterleavingNotificationIDsBaseCase):
    pass


del AggregateRecorderTestCase, ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase
