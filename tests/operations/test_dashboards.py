"""Each query of each dashboard and each alert finds data in an installation at work, and each alert fires when due."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ordermill.names import CONSOLE, SERVICES
from tests.operations.place import ROOT, Place, eventually
from tests.operations.prometheus import DEPLOYED, MISSING, Prometheus, as_data, plain, scraping, there

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
RULES = yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"][0]["rules"]
PAGE = ROOT / "docs" / "how-to" / "respond-to-alerts.md"

needs_prometheus = pytest.mark.skipif(not there(), reason=MISSING)


def queries() -> Iterator[Any]:
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield pytest.param(target["expr"], id=f"{name}: {panel['title']} {target['refId']}")


def composes() -> bool:
    """Whether Docker's compose plugin is here; an engine is not needed."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
async def prometheus(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Over an installation that has taken an order, sent it out, and turned a message away."""
    place.receive("TEAPOT", 10, "dashboards")
    place.ship(place.place_order("seen"))
    with scraping(place, tmp_path_factory.mktemp("prometheus")) as found:
        eventually(lambda: len(found.ask("up == 1")) == 7)
        eventually(lambda: found.ask("oms_log_events offset 3s > 0"))
        yield found


@needs_prometheus
@pytest.mark.parametrize("expression", [*queries()])
def test_a_dashboards_query_finds_data(prometheus: Prometheus, expression: str) -> None:
    found = eventually(lambda: prometheus.ask(plain(expression)))
    assert all(series["metric"].get("service") is not None for series in found)


@needs_prometheus
def test_the_services_to_choose_from_are_those_that_run(prometheus: Prometheus) -> None:
    for dashboard in DASHBOARDS.values():
        (variable,) = dashboard["templating"]["list"]
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        assert len({series["metric"][label] for series in prometheus.ask(metric)}) == 7


@needs_prometheus
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_looks_at_data_that_is_there(prometheus: Prometheus, rule: Any) -> None:
    found = eventually(lambda: prometheus.ask(as_data(rule["expr"])))
    firing = [series["metric"] for series in found if series["value"][1] == "1"]
    assert firing == [], "nothing is wrong here"


@needs_prometheus
def test_nothing_is_wrong_with_the_rules_as_prometheus_loads_them(prometheus: Prometheus) -> None:
    (group,) = prometheus.get("/api/v1/rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} == {rule["alert"] for rule in RULES}
    eventually(lambda: all(r["health"] == "ok" for g in prometheus.get("/api/v1/rules")["groups"] for r in g["rules"]))


@needs_prometheus
@pytest.mark.parametrize(
    "arguments", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_promtool_finds_no_fault(arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments.split()], cwd=DEPLOYED, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_to_fire_and_to_keep_quiet() -> None:
    tested = [test["name"] for test in yaml.safe_load((DEPLOYED / "alerts_test.yml").read_text())["tests"]]
    assert sorted(tested) == sorted(f"{r['alert']} {what}" for r in RULES for what in ("fires", "keeps quiet"))


def test_each_alert_has_a_severity_and_a_heading_of_the_page_that_tells_what_to_do() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.read_text().splitlines()
        if line.startswith("#")
    }
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert ROOT / page == PAGE
        assert anchor in headings, f"{PAGE.name} has no heading for {rule['alert']}"
        assert rule["annotations"]["action"]


def test_dashboards_name_the_data_source_that_is_provided() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    for dashboard in DASHBOARDS.values():
        for panel in dashboard["panels"]:
            assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/ordermill.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "deploy/compose.seeing.yml").read_text())
    mounted = compose["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounted


@pytest.mark.skipif(not composes(), reason="no `docker compose`: apt install docker-cli docker-compose")
def test_compose_takes_prometheus_and_grafana_beside_the_services() -> None:
    """As the head of deploy/compose.seeing.yml has it; needs no engine."""
    files = ["-f", "docker-compose.yml", "-f", "deploy/compose.seeing.yml"]

    def config(**settings: str) -> subprocess.CompletedProcess[str]:
        known = {name: value for name, value in os.environ.items() if name != "GRAFANA_PASSWORD"} | settings
        command = ["docker", "compose", *files, "--profile", "seeing", "config", "--format", "json"]
        return subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, check=False)

    refused = config()
    assert refused.returncode != 0
    assert "set it to the password that Grafana shall ask for" in refused.stderr
    done = config(GRAFANA_PASSWORD="any")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert {*SERVICES, CONSOLE, "prometheus", "grafana"} <= set(services)
    inside: dict[str, Path] = {}
    for name in ("prometheus", "grafana"):
        assert all(port["host_ip"] == "127.0.0.1" for port in services[name]["ports"])
        binds = [volume for volume in services[name]["volumes"] if volume["type"] == "bind"]
        assert all(Path(volume["source"]).is_dir() and volume["read_only"] for volume in binds)
        inside |= {volume["target"]: Path(volume["source"]) for volume in binds}
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    (config_file,) = [word.partition("=")[2] for word in services["prometheus"]["command"] if "config.file" in word]
    for path in (home, config_file):
        folder, _, name = path.rpartition("/")
        assert (inside[folder] / name).is_file(), path
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_metrics_on_dashboards_and_in_alerts_are_documented() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    used = set()
    for expression in [*(param.values[0] for param in queries()), *(rule["expr"] for rule in RULES)]:
        used |= set(re.findall(r"\b(?:oms|process)_\w+", str(expression)))
    assert used
    for name in used:
        assert f"`{re.sub('_(bucket|sum|count)$', '', name)}`" in page, name
