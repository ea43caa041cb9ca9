"""A real Prometheus over a real installation."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from ordermill.deployment import PORT
from ordermill.embedded.ports import choose_ports
from ordermill.names import CONSOLE, SERVICES
from tests.operations.place import ROOT, Place, eventually

DEPLOYED = ROOT / "deploy" / "prometheus"
MISSING = "no `prometheus` and `promtool` on the path: apt install prometheus (.ci/run does)"


def there() -> bool:
    return all(shutil.which(program) for program in ("prometheus", "promtool"))


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, expression: str) -> list[Any]:
        """What an expression gives now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        result: list[Any] = answer["data"]["result"]
        return result

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=10).json()["data"]


@contextmanager
def scraping(place: Place, folder: Path) -> Iterator[Prometheus]:
    """With the deployed rules and settings, but for where the services are and how often they are asked."""
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOYED / "alerts.yml")]
    console, job = config["scrape_configs"]
    (known,) = console["static_configs"]
    assert known == {"targets": [f"console:{PORT}"], "labels": {"job": job["job_name"], "service": CONSOLE}}
    found = job.pop("dns_sd_configs")
    names = {name for each in found for name in each["names"]} | {CONSOLE}
    assert names == {*SERVICES, CONSOLE}
    config["scrape_configs"] = [job]
    assert {each["port"] for each in found} == {PORT}, "where services in containers listen"
    del job["relabel_configs"]
    job["static_configs"] = [
        {"targets": [place.url(name, "").removeprefix("http://")], "labels": {"service": name}}
        for name in sorted(names)
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = choose_ports({"prometheus": None}, folder / "ports.json")["prometheus"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: _answers(prometheus))
        yield prometheus
    finally:
        process.terminate()
        process.wait(20)


def _answers(prometheus: Prometheus) -> bool:
    try:
        return httpx.get(f"{prometheus.url}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def plain(expression: str) -> str:
    """A dashboard's query as Grafana would send it: all services, over the last moments."""
    return expression.replace("$service", ".*").replace("$__rate_interval", "30s")


COMPARISON = re.compile(r" (==|>|<) (?=[\d.]+$)")


def as_data(expression: str) -> str:
    """An alert's expression, so that it tells 0 where it would not fire."""
    found = COMPARISON.sub(r" \1 bool ", expression)
    assert found != expression, f"{expression}: ends in no comparison"
    return found
