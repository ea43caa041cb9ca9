"""What run-on-apache-kafka.md shows, run as it stands but for where Kafka lies and listens: OMS_TEST_KAFKA=apache."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import brokers
from tests.docs.pages import ROOT, shell

pytestmark = pytest.mark.skipif(brokers.kind() != "apache", reason="needs Apache Kafka: OMS_TEST_KAFKA=apache")
START, USE, LAG, _TESTS = shell("how-to/run-on-apache-kafka.md")


@contextmanager
def typed(command: str, home: Path) -> Iterator[dict[str, str]]:
    """`oms up …` until the end of the block; the installation's variables."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name("log").open("ab") as log:
        process = subprocess.Popen(command.split(), env=environment(home), cwd=ROOT, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while subprocess.run(["oms", "doctor"], env=environment(home), capture_output=True, check=False).returncode:
            assert process.poll() is None and time.monotonic() < until, home.with_name("log").read_text()[-3000:]
            time.sleep(1)
        yield json.loads((home / "environment.json").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(90)


def environment(home: Path) -> dict[str, str]:
    programs = home.with_name("bin")
    if not programs.exists():
        programs.mkdir(parents=True)
        (programs / "oms").write_text(f'#!/bin/sh\nexec {sys.executable} -m ordermill.cli "$@"\n')
        (programs / "oms").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMS_")}
    return kept | {
        "OMS_HOME": str(home),
        "PATH": f"{programs}:{brokers.kafka_home() / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def test_kafka_is_started_or_used_and_tells_the_lag(tmp_path: Path) -> None:
    up, demo = START.replace("~/kafka_2.13-4.3.1", str(brokers.kafka_home())).splitlines()
    with typed(up, tmp_path / "one" / "home") as known:
        kafka = known["OMS_KAFKA"]
        lag = LAG.replace("127.0.0.1:9092", kafka).split()
        told = subprocess.run(
            lag, env=environment(tmp_path / "one" / "home"), capture_output=True, text=True, check=True
        )
        assert "oms.capture" in told.stdout and "oms.console-" in told.stdout
    done = subprocess.run(demo.split(), env=environment(tmp_path / "two" / "home"), cwd=ROOT, check=False, timeout=300)
    assert done.returncode == 0


def test_a_kafka_that_runs_is_used(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with brokers.server(tmp_path / "kafka") as server:
        up = USE.replace("127.0.0.1:9092", server.address)
        with typed(up, tmp_path / "one" / "home") as known:
            assert known["OMS_KAFKA"] == server.address
