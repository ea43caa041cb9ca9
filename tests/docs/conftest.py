"""An installation for the pages of one file of tests, and a folder to run commands in."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from ordermill.names import CONSOLE, SERVICES
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """An installation at work, and `oms` and `python` on the path to use it."""
    with TemporaryDirectory(prefix="ordermill-docs-") as name:
        folder = Path(name)
        programs = folder / "bin"
        programs.mkdir()
        for program, arguments in (("oms", "-m ordermill.cli"), ("python", "")):
            (programs / program).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
            (programs / program).chmod(0o755)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OMS_")}
        found = kept | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}",
            "OMS_HOME": str(folder / "home"),
            "OMS_THROWAWAY": "yes",
            "COLUMNS": "300",
            "OMS_CHECKPOINT_EVERY_S": "1",
        }
        with (folder / "up.log").open("wb") as log:
            up = subprocess.Popen([programs / "oms", "up"], env=found, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_until_ready(up, folder)
            yield found
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(30)


def _wait_until_ready(up: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and up.poll() is None:
        time.sleep(0.2)
        try:
            known = json.loads((folder / "home" / "environment.json").read_text())
            ports = [known[f"OMS_{name.upper()}_PORT"] for name in (*SERVICES, CONSOLE)]
            if all(httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200 for port in ports):
                return
        except (OSError, ValueError, httpx.HTTPError):
            continue
    raise AssertionError("`oms up` did not start:\n" + (folder / "up.log").read_text()[-3000:])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands run: what they read of the repository is there, what they write goes nowhere else."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("docs", "samples"):
        (folder / name).symlink_to(ROOT / name)
    return folder
