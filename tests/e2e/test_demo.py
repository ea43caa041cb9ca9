"""The whole product as a person starts it: real processes, killed in every way, and the books balance in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from ordermill.demo.baskets import read_baskets
from ordermill.demo.state import FIRST_MORNING
from ordermill.embedded.leftovers import Note
from ordermill.names import CONSOLE, SERVICES, SIMULATOR
from tests import brokers

ORDERS = 40
BROKER = () if brokers.kind() == "container" else ("kafka",)
PROCESSES = (*SERVICES, CONSOLE, SIMULATOR, "world", *BROKER, "postgres")


def eventually(condition: Callable[[], Any], timeout_s: float = 90.0) -> Any:
    """What `condition` answers once that is true."""
    until = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.02)
    return answer


class Demo:
    """`oms demo` on one folder."""

    def __init__(self, folder: Path, kafka: str | None) -> None:
        self.folder = folder
        self._kafka = ["--kafka", kafka] if kafka else []
        self.talk = folder.with_name("stderr")
        self.process: subprocess.Popen[str] | None = None

    def start(self, orders: int) -> None:
        options = ["--orders", str(orders), "--speed", "max", "--exit", "--json", *self._kafka]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ordermill.cli", "demo", *options],
            env=os.environ | {"OMS_HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.talk.open("a"),
            text=True,
        )

    def end(self, timeout_s: float = 120.0) -> tuple[int, str]:
        """Exit status and what it said on stdout."""
        assert self.process is not None
        said, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, said

    def report(self) -> dict[str, Any]:
        """After an end in order: the closing table. Everything must add up."""
        status, said = self.end()
        assert status == 0, self.talk.read_text()
        found: dict[str, Any] = json.loads(said)  # and nothing else: talk goes to stderr
        assert found["violations"] == []
        assert found["settled"]
        assert self.alive() == []
        return found

    def notes(self) -> dict[str, Note]:
        """Which processes run, as the launcher notes them for its successor."""
        try:
            return {each["name"]: Note(**each) for each in json.loads((self.folder / "run.json").read_text())}
        except FileNotFoundError:
            return {}

    def alive(self) -> list[str]:
        return [name for name, note in self.notes().items() if note.alive]

    def environment(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "environment.json").read_text())
        return found

    def packed(self) -> bool:
        """Whether a warehouse has begun to work, and not all is done."""
        assert self.process is not None and self.process.poll() is None
        if "world" not in self.notes():
            return False
        environment = self.environment()
        request = Request(
            f"http://127.0.0.1:{environment['OMS_FULFILLMENT_PORT']}/fulfillments",
            headers={"Authorization": f"Bearer {environment['OMS_API_TOKEN']}"},
        )
        try:
            with urlopen(request, timeout=5) as answer:
                return bool(json.load(answer)["items"])
        except OSError:
            return False


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[str | None]:
    with brokers.chosen(tmp_path) as where:
        yield where


@pytest.fixture
def demo(tmp_path: Path, kafka: str | None) -> Iterator[Demo]:
    made = Demo(tmp_path / "home", kafka)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(60)


def test_real_orders_from_four_channels_settle_and_a_second_run_goes_on(demo: Demo) -> None:
    demo.start(ORDERS)
    report = demo.report()
    assert report["orders"] + report["turned_away"] >= ORDERS
    assert set(report["by_channel"]) >= {"marketplace", "pos", "store", "wholesale"}
    assert report["shipped"] and report["delivered"]
    demo.start(8)
    more = demo.report()
    assert more["orders"] + more["turned_away"] >= ORDERS + 8
    assert more["shipped"] > report["shipped"]

    baskets = read_baskets(0, ORDERS + 8, FIRST_MORNING)
    names = {basket.order.ship_to.person.name for basket in baskets}
    secrets = json.loads((demo.folder / "secrets.json").read_text()).values()
    for log in (demo.folder / "logs").iterdir():
        text = log.read_text()
        assert [found for found in (*names, *secrets) if found and found in text] == [], log.name
        if log.name.removesuffix(".log") in SERVICES:
            assert {json.loads(line)["service"] for line in text.splitlines()} == {log.name.removesuffix(".log")}


def test_what_does_not_add_up_is_told_by_the_exit_status_too(demo: Demo) -> None:
    demo.start(8)
    eventually(demo.packed)
    with closing(sqlite3.connect(demo.folder / "simulator.sqlite")) as ledger, ledger:
        ledger.execute("INSERT INTO asks VALUES ('payments', 'refund-nobody-asked-for', 1)")
        ledger.execute("INSERT INTO acts VALUES (NULL, 'payments', 'refund-nobody-asked-for', 100, 'USD', 'x')")
    status, said = demo.end()
    (violation,) = json.loads(said)["violations"]
    assert "refund-nobody-asked-for" in violation
    assert status == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_leaves_no_process_and_the_next_start_settles_everything(
    demo: Demo, number: signal.Signals
) -> None:
    demo.start(16)
    eventually(demo.packed)
    before = demo.notes()
    assert set(before) == set(PROCESSES)
    assert demo.process is not None
    demo.process.send_signal(number)
    status, said = demo.end()
    assert (status, said) == (130 if number is signal.SIGINT else -signal.SIGKILL, ""), demo.talk.read_text()
    eventually(lambda: not any(note.alive for note in before.values()))
    demo.start(16)  # not more: the first ones come first
    report = demo.report()
    assert report["orders"] + report["turned_away"] - report["by_channel"].get("exchange", 0) == 16


def test_each_process_killed_once_is_started_again_and_the_books_balance(demo: Demo) -> None:
    demo.start(ORDERS)
    eventually(demo.packed)
    for name in random.sample(PROCESSES, len(PROCESSES)):
        before = eventually(lambda name=name: demo.notes().get(name))
        os.kill(before.pid, signal.SIGKILL)
        eventually(lambda name=name, before=before: demo.notes().get(name, before).pid != before.pid)
    report = demo.report()
    assert report["orders"] + report["turned_away"] - report["by_channel"].get("exchange", 0) == ORDERS
    assert report["delivered"]
