"""The simulated providers as a process of their own, for tests: `with SimulatorProcess(folder) as simulator`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from pydantic import SecretStr

from ordermill.embedded.ports import choose_ports
from ordermill.simulator.faults import Behavior, Fault
from ordermill.simulator.ledger import Entry

KEY, TOKEN = SecretStr("the-provider-key"), SecretStr("the-control-token")
ROOT = Path(__file__).parents[1]


class SimulatorProcess:
    """Keeps its port and its ledger when it is stopped or killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = choose_ports({"simulator": None}, folder / "ports.json")["simulator"]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._control = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN.get_secret_value()}"})

    def start(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}",
            "OMS_HOME": str(self._folder),
            "OMS_SIMULATOR_PORT": str(self.port),
            "OMS_SIMULATOR_PROVIDER_KEY": KEY.get_secret_value(),
            "OMS_SIMULATOR_CONTROL_TOKEN": TOKEN.get_secret_value(),
            "OMS_SIMULATOR_LEDGER": str(self._folder / "ledger.sqlite"),
        }
        log = (self._folder / "simulator.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ordermill.cli", "simulator"], env=environment, stdout=log, stderr=log
        )
        log.close()
        until = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "simulator.log").read_text()
            assert time.monotonic() < until, "the simulator does not answer"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def behave(self, provider: str, fault: Fault | None = None, share: float = 1.0, **more: float) -> None:
        """From now on, `fault` befalls that share of the calls to `provider`."""
        behavior = Behavior.model_validate({"shares": {fault: share} if fault else {}, **more})
        self._control.put(f"/behavior/{provider}", json=behavior.model_dump(mode="json")).raise_for_status()

    def ledger(self) -> dict[str, Entry]:
        """What was asked and done, by key."""
        found = self._control.get("/ledger").raise_for_status().json()
        return {entry.key: entry for entry in map(Entry.model_validate, found)}

    def _answers(self) -> bool:
        try:
            return self._control.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._control.close()
