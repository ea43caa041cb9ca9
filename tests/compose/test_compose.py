"""`docker compose up` as a newcomer runs it. Takes minutes and a Docker engine: OMS_TEST_COMPOSE=1 asks for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest

from ordermill.embedded.ports import choose_ports
from ordermill.names import CONSOLE, SERVICES, SIMULATOR
from tests.docs.pages import shell

pytestmark = pytest.mark.skipif(
    not os.environ.get("OMS_TEST_COMPOSE"), reason="needs a Docker engine and minutes: OMS_TEST_COMPOSE=1"
)
ROOT = Path(__file__).parents[2]
ORDERS = 30
PATIENCE_S = 420
OURS = (*SERVICES, CONSOLE, SIMULATOR)


class Compose:
    """The top folder's docker-compose.yml, as a project of its own on ports of its own."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.project = f"ordermill-test-{uuid4().hex[:8]}"
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": self.project,
            "OMS_DEMO_SPEED": "28800",
            "OMS_DEMO_ORDERS": str(ORDERS),
            **{f"OMS_PUBLISH_{name.upper()}": str(port) for name, port in ports.items()},
        }

    def run(self, *arguments: str, timeout_s: float = PATIENCE_S) -> str:
        done = subprocess.run(
            ["docker", "compose", "--ansi", "never", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def oms(self, *arguments: str) -> str:
        return self.run("run", "--rm", "-T", "oms", *arguments)

    def containers(self) -> dict[str, list[dict[str, Any]]]:
        """What the engine knows of each container, by service."""
        ids = self.run("ps", "-a", "-q").split()
        said = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True).stdout
        found: dict[str, list[dict[str, Any]]] = {}
        for each in json.loads(said):
            found.setdefault(each["Config"]["Labels"]["com.docker.compose.service"], []).append(each)
        return found

    def settled(self) -> dict[str, Any] | None:
        """The world's closing table, once it has one."""
        said = self.run("logs", "--no-log-prefix", "--tail", "20", "world")
        reports = re.findall(r'\{"orders": .*"by_channel".*\}', said)
        return json.loads(reports[-1]) if reports else None


def eventually(condition: Any, timeout_s: float = PATIENCE_S) -> Any:
    until = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < until, "did not come about"
        time.sleep(1)
    return answer


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    for target, image in (("ordermill", "ordermill"), ("world", "ordermill-world")):
        mirror = ["--build-arg", "PIP_INDEX_URL"] if "PIP_INDEX_URL" in os.environ else []
        subprocess.run(
            ["docker", "build", "-q", *mirror, "--target", target, "-f", "deploy/Dockerfile", "-t", image, "."],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    with TemporaryDirectory() as folder:
        made = Compose(choose_ports({"kafka": None, "capture": None, "console": None}, Path(folder) / "ports"))
    try:
        made.run("--profile", "demo", "up", "-d", "--wait")
        yield made
    finally:
        made.run("--profile", "demo", "--profile", "tools", "down", "-v", "-t", "5")


def test_no_secret_stands_in_the_file_or_in_what_the_engine_tells_of_a_container(compose: Compose) -> None:
    known = json.loads(
        compose.run("run", "--rm", "-T", "--entrypoint", "cat", "oms", "/secrets/installation/secrets.json")
    )
    told = compose.run("config") + json.dumps(compose.containers())
    assert len(known) > 15
    assert [name for name, secret in known.items() if secret in told] == []


def test_a_service_can_read_its_own_secrets_and_no_others(compose: Compose) -> None:
    for name in OURS:
        seen = json.loads(compose.run("exec", "-T", name, "bash", "-c", "cat /secrets/*/environment.json"))
        urls = {variable for variable in seen if variable.endswith(("_DATABASE_URL", "_OWNER_URL"))}
        assert urls == (set() if name == SIMULATOR else {f"OMS_{name.upper()}_DATABASE_URL"})
        assert ("OMS_MASTER_KEY" in seen) == (name != SIMULATOR)
        assert ("OMS_CONSOLE_TOKEN" in seen) == (name == CONSOLE)


def test_our_containers_run_without_root_rights_a_writable_root_or_ports_beyond_loopback(compose: Compose) -> None:
    containers = compose.containers()
    for service, several in containers.items():
        for each in several:
            host = each["HostConfig"]
            assert host["CapDrop"] == ["ALL"], service
            assert "no-new-privileges:true" in host["SecurityOpt"], service
            assert {bound["HostIp"] for bounds in host["PortBindings"].values() for bound in bounds} <= {"127.0.0.1"}
            if service in OURS:
                assert host["ReadonlyRootfs"] and each["Config"]["User"] == "ordermill"
    published = {service for service, (each, *_) in containers.items() if each["HostConfig"]["PortBindings"]}
    assert published == {"kafka", "capture", "console"}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no `prometheus` to put in a container: apt install it")
def test_prometheus_beside_them_finds_every_service_by_the_deployed_settings(compose: Compose) -> None:
    """The program of this machine in a container of the stack's network, with the folder that deploy/ mounts."""
    with TemporaryDirectory() as folder:
        port = choose_ports({"prometheus": None}, Path(folder) / "ports")["prometheus"]
    program = str(shutil.which("prometheus"))
    container = subprocess.run(
        [
            "docker", "run", "-d", "--rm", "--network", f"{compose.project}_default", "-p", f"127.0.0.1:{port}:9090",
            "-v", f"{program}:/bin/prometheus:ro", "-v", f"{ROOT / 'deploy/prometheus'}:/etc/prometheus:ro",
            "debian:trixie-slim", "/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/tmp/data",
        ],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip

    def seen() -> set[str]:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/v1/query?query=up==1") as answer:
                found = json.load(answer)["data"]["result"]
        except (OSError, ValueError):
            return set()
        return {series["metric"]["service"] for series in found}

    try:
        eventually(lambda: seen() == {*SERVICES, CONSOLE}, 120)
    finally:
        subprocess.run(["docker", "kill", container], check=True, stdout=subprocess.DEVNULL)


def test_everything_holds_under_faults_on_the_interpreter_of_the_image_too(compose: Compose) -> None:
    runs = [json.loads(line) for line in compose.oms("simulate", "--seeds", "8", "--json").splitlines()]
    assert [(run["seed"], run["findings"]) for run in runs] == [(seed, []) for seed in range(1, 9)]


def test_orders_come_in_and_are_delivered_though_all_is_killed_on_the_way(compose: Compose) -> None:
    eventually(lambda: compose.oms("orders", "list", "--json").strip())
    assert compose.settled() is None
    compose.run("--profile", "demo", "kill")
    compose.run("--profile", "demo", "up", "-d", "--wait", "--scale", "inventory=3")
    assert len(compose.containers()["inventory"]) == 3
    report = eventually(compose.settled)
    assert report["orders"] + report["turned_away"] - report["by_channel"].get("exchange", 0) == ORDERS
    assert report["delivered"]
    checked = dict(line.rsplit(maxsplit=1) for line in compose.oms("verify", "--settled").splitlines())
    assert int(checked["orders"]) == report["orders"]
    assert int(checked["parcels"]) > 0
    members = compose.run(
        "exec", "-T", "kafka", "/opt/kafka/bin/kafka-consumer-groups.sh",
        "--bootstrap-server", "localhost:9092", "--describe", "--group", "oms.inventory", "--members",
    )  # fmt: skip
    assert members.count("/") >= 3, members


def typed(compose: Compose, block: str) -> str:
    """What a block of the page prints, line by line as it stands. What follows a log is ended after a while."""
    said = ""
    for line in block.splitlines():
        follows = line.startswith("docker compose logs -f")
        done = subprocess.run(
            ["bash", "-c", f"timeout 15 {line}" if follows else line],
            cwd=ROOT, env=compose.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == (124 if follows else 0), f"{line}: {done.stdout}\n{done.stderr}"
        said += done.stdout + done.stderr
    return said


def test_the_commands_of_the_page_do_what_it_says(compose: Compose) -> None:
    """On what the tests before have left: an installation that is a demo, all of whose orders are settled."""
    up, look, secrets, demo, _seeing, scale = shell("how-to/run-on-docker.md")
    typed(compose, up)
    assert "all as it must be" in typed(compose, look)
    assert '"console_token"' in typed(compose, secrets)
    typed(compose, scale)
    assert len(compose.containers()["inventory"]) == 3
    *start, verify = demo.splitlines()
    typed(compose, "\n".join(start))
    eventually(lambda: (report := compose.settled()) and report["orders"] > ORDERS * 2)
    assert "all as it must be" in typed(compose, verify)
