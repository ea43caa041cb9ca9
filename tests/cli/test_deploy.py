"""An installation laid out for containers: each folder holds what its container needs, and no more."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from ordermill.clock import system_clock
from ordermill.demo.run import NoDemo, run_outside
from ordermill.demo.state import FIRST_MORNING, DemoState
from ordermill.deployment import Deployment, NotADemo
from ordermill.names import CONSOLE, SERVICES, SIMULATOR

SECRET = ("_TOKEN", "_KEY", "_SECRET", "_DATABASE_URL", "_OWNER_URL")


def lay_out(folder: Path, speed: float | None = None) -> None:
    Deployment(folder, "kafka:9092", "postgres:5432").lay_out(speed)


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name / "environment.json").read_text())
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_knows_its_own_database_and_what_all_share(tmp_path: Path, name: str) -> None:
    lay_out(tmp_path)
    shared = {"OMS_API_TOKEN", "OMS_MASTER_KEY", "OMS_LINK_SECRET", "OMS_CHECKPOINT_KEY", "OMS_PAYMENTS_KEY"}
    own = {
        "capture": {"OMS_CAPTURE_SHOPIFY_SECRET"},
        "fulfillment": {"OMS_FULFILLMENT_CARRIERS_KEY"},
    }.get(name, set())
    secrets = {variable for variable in told(tmp_path, name) if variable.endswith(SECRET)}
    assert secrets == shared | own | {f"OMS_{name.upper()}_DATABASE_URL"}


def test_only_the_console_knows_who_logs_in_and_the_simulator_knows_nothing_of_the_product(tmp_path: Path) -> None:
    lay_out(tmp_path)
    knowing = {name for name in (*SERVICES, CONSOLE, SIMULATOR) if "OMS_CONSOLE_TOKEN" in told(tmp_path, name)}
    assert knowing == {CONSOLE}
    assert {variable.split("_")[1] for variable in told(tmp_path, SIMULATOR)} == {"SIMULATOR"}


def test_only_services_sign_what_is_in_their_logs(tmp_path: Path) -> None:
    lay_out(tmp_path)
    folders = (*SERVICES, CONSOLE, SIMULATOR, "world")
    assert {name for name in folders if "OMS_CHECKPOINT_KEY" in told(tmp_path, name)} == {*SERVICES}


def test_every_service_finds_the_others_by_name_and_listens_where_they_look(tmp_path: Path) -> None:
    lay_out(tmp_path)
    console = told(tmp_path, CONSOLE)
    for name in (*SERVICES, SIMULATOR):
        settings = told(tmp_path, name)
        assert console[f"OMS_{name.upper()}_URL"] == f"http://{name}:8080"
        assert (settings[f"OMS_{name.upper()}_HOST"], settings[f"OMS_{name.upper()}_PORT"]) == ("0.0.0.0", "8080")
    assert told(tmp_path, "fulfillment")["OMS_FULFILLMENT_CARRIERS_URL"] == "http://simulator:8080"


def test_real_providers_count_more_than_the_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_PAYMENTS_URL", "https://payments.example")
    monkeypatch.setenv("OMS_PAYMENTS_KEY", "")  # as compose passes on what is not set
    lay_out(tmp_path)
    assert told(tmp_path, "returns")["OMS_PAYMENTS_URL"] == "https://payments.example"
    assert told(tmp_path, "returns")["OMS_PAYMENTS_KEY"]


def test_a_shops_own_secret_takes_the_place_of_the_one_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_CAPTURE_SHOPIFY_SECRET", "shpss_of_the_shop")
    lay_out(tmp_path)
    knowing = [name for name in (*SERVICES, CONSOLE) if "shpss" in str(told(tmp_path, name))]
    assert knowing == ["capture"]
    assert told(tmp_path, "capture")["OMS_CAPTURE_SHOPIFY_SECRET"] == "shpss_of_the_shop"


def test_laid_out_again_it_keeps_its_secrets(tmp_path: Path) -> None:
    lay_out(tmp_path)
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    lay_out(tmp_path)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nobody_else_on_the_machine_can_read_them(tmp_path: Path) -> None:
    lay_out(tmp_path)
    modes = {path.relative_to(tmp_path): S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes.pop(Path("postgres/password")) == 0o444  # PostgreSQL's own user, in a container with only this folder
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("rested", [True, False])
def test_a_demo_stays_one_and_its_clock_stands_still_only_while_it_rests(tmp_path: Path, rested: bool) -> None:
    lay_out(tmp_path, 28_800.0)
    before = told(tmp_path, "capture")
    state = DemoState.load(tmp_path / "world")
    state.now += timedelta(days=3)
    state.kept_at = system_clock() - timedelta(hours=1 if rested else 0)
    state.save(tmp_path / "world")
    lay_out(tmp_path)
    for name in SERVICES:
        told_now = told(tmp_path, name)
        assert float(told_now["OMS_CLOCK_SPEED"]) == 28_800
        if rested:
            assert told_now["OMS_CLOCK_ORIGIN"] == (FIRST_MORNING + timedelta(days=3)).isoformat()
        else:  # those at work would not learn of another
            assert {key: told_now[key] for key in told_now if "CLOCK" in key} == {
                key: before[key] for key in before if "CLOCK" in key
            }
    assert Path(told(tmp_path, "routing")["OMS_ROUTING_POLICY_FILE"]).parent == tmp_path / "routing"


def test_an_installation_at_work_does_not_become_a_demo(tmp_path: Path) -> None:
    lay_out(tmp_path)
    with pytest.raises(NotADemo, match="leave OMS_DEMO_SPEED out"):
        lay_out(tmp_path, 28_800.0)
    assert "OMS_CLOCK_ORIGIN" not in told(tmp_path, "capture")


def test_the_world_plays_in_no_installation_that_is_not_a_demo(tmp_path: Path) -> None:
    lay_out(tmp_path)
    with pytest.raises(NoDemo, match="OMS_DEMO_SPEED"):
        run_outside(tmp_path / "world", 10, True)
