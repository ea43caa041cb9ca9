"""What is written when others say too much."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from starlette.requests import Request
from structlog.testing import capture_logs

from ordermill.service import surface
from ordermill.service.logs import configure_logging
from services.console import app as console


@contextmanager
def logging_as_in_a_service() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    configure_logging("capture")
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def say(words: str, node: int, at_s: float, name: str = "aiokafka.client") -> None:
    record = logging.LogRecord(name, logging.ERROR, "client.py", 1, words, (node,), None)
    record.created = at_s
    logging.getLogger(name).handle(record)


def test_a_client_that_tries_again_is_heard_once_in_a_while_with_how_often_it_tried(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logging_as_in_a_service():
        for at_s in (100, 101, 109.9, 110, 125):
            say("no way to node %s", 1, at_s)
        say("no answer of node %s", 1, 101)
    said = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "no way to node 1",
        "no way to node 1 (said 2 times more meanwhile)",
        "no way to node 1",
        "no answer of node 1",
    ]


def test_of_what_others_say_nothing_is_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as_in_a_service():
        for _ in range(3):
            say("part %s failed", 1, 100, "ordermill.parts")
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.parametrize("pages", [surface, console])
async def test_a_request_that_failed_is_told_by_its_route_for_a_path_may_hold_a_customers_link(pages: Any) -> None:
    scope = {"type": "http", "path": "/track/o-1.proof", "route": SimpleNamespace(path="/track/{token}")}
    with capture_logs() as said:
        await pages._unexpected(Request(scope), ValueError())
        await pages._unexpected(Request(scope | {"route": None}), ValueError())
    assert [each["route"] for each in said] == ["/track/{token}", "unmatched"]
    assert "proof" not in str(said)
