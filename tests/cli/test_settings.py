"""A wrong setting stops the start with its name, what was expected and how to set it, and shows no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ordermill.cli import app
from ordermill.doctor.machine import settings
from ordermill.names import CONSOLE, SERVICES
from ordermill.wrong_settings import check_settings

ROOT = Path(__file__).parents[2]
KEY = b64encode(bytes(range(32))).decode()
SECRET = "hunter2-hunter2-hunter2"
RIGHT = {
    "OMS_KAFKA": "127.0.0.1:1",
    "OMS_API_TOKEN": SECRET,
    "OMS_KEYRING_URL": f"postgresql://role:{SECRET}@127.0.0.1:1/keyring",
    "OMS_MASTER_KEY": KEY,
    "OMS_LINK_SECRET": KEY,
    "OMS_CONSOLE_TOKEN": SECRET,
    "OMS_FULFILLMENT_CARRIERS_URL": "https://carriers.invalid",
    "OMS_PAYMENTS_URL": "https://payments.invalid",
} | {
    f"OMS_{name.upper()}_DATABASE_URL": f"postgresql://role:{SECRET}@127.0.0.1:1/{name}"
    for name in (*SERVICES, CONSOLE)
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """All that a start needs, and nothing that is wrong."""
    for name in list(os.environ):
        if name.startswith("OMS_"):
            monkeypatch.delenv(name)
    for name, value in {**RIGHT, "OMS_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


WRONG = [
    ("capture", "OMS_KAFKA", "broker", "expected host:port"),
    ("capture", "OMS_API_TOKEN", None, "is not set"),
    ("capture", "OMS_KEYRING_URL", f"mysql://{SECRET}@host/x", "expected postgresql://role:password@host:port/database"),
    ("capture", "OMS_MASTER_KEY", "c2hvcnQ=", "expected 32 bytes in base64"),
    ("tracking", "OMS_LINK_SECRET", f"{SECRET}!", "expected 32 bytes in base64"),
    ("capture", "OMS_BATCH_MAX", "0", "greater than or equal to 1, found '0'"),
    ("capture", "OMS_RETRIES", "many", "valid integer"),
    ("capture", "OMS_LOG_LEVEL", "LOUD", "DEBUG|INFO|WARNING|ERROR"),
    ("capture", "OMS_OTLP_ENDPOINT", "collector:4318", "https?"),
    ("capture", "OMS_TRACE_RATIO", "2", "less than or equal to 1"),
    ("routing", "OMS_NETWORK_FILE", "/no/such/file.toml", "does not point to a file, found '/no/such/file.toml'"),
    ("capture", "OMS_CAPTURE_DATABASE_URL", None, "is not set"),
    ("capture", "OMS_CAPTURE_DATABASE_URL", f"{SECRET}", "expected postgresql://role:password@host:port/database"),
    ("capture", "OMS_CAPTURE_PORT", "99999", "less than or equal to 65535"),
    ("capture", "OMS_CAPTURE_TRUSTED_CHANNELS", "store", 'expected JSON, as ["store", "web"]'),
    ("capture", "OMS_CAPTURE_ZONES", "Europe/Berlin", '{"store": "EUR"} for a table'),
    ("capture", "OMS_CAPTURE_ZONES", '{"till": "Berlin"}', "no such time zone: expected IANA names"),
    ("capture", "OMS_CAPTURE_ZONES", '{"Till": "Europe/Berlin"}', "should match pattern"),
    ("capture", "OMS_CAPTURE_CURRENCIES", '{"till": "euro"}', "found 'euro'"),
    ("inventory", "OMS_INVENTORY_BACKORDER_CAP", "-1", "greater than or equal to 0"),
    ("routing", "OMS_ROUTING_POLICY_FILE", "/no/such/file.toml", "does not point to a file"),
    ("tracking", "OMS_TRACKING_LATE_AFTER", "soon", "valid timedelta"),
    ("returns", "OMS_RETURNS_POLICY_FILE", "/no/such/file.toml", "does not point to a file"),
    ("console", "OMS_CONSOLE_TOKEN", "short", "at least 20 characters"),
    ("all", "OMS_RETURNS_DATABASE_URL", None, "is not set"),
]  # fmt: skip


@pytest.mark.parametrize(("service", "name", "value", "expected"), WRONG, ids=lambda each: str(each)[:30])
def test_a_service_does_not_start_with_a_wrong_setting(
    environment: pytest.MonkeyPatch, service: str, name: str, value: str | None, expected: str
) -> None:
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    result = CliRunner().invoke(app, ["run", service])
    assert result.exit_code == 3
    assert name in result.stderr and expected in result.stderr
    assert len(result.stderr.splitlines()) == 1, "one line, and no traceback"
    assert SECRET not in result.stderr and KEY not in result.stderr


@pytest.mark.parametrize(
    ("service", "name"),
    [("routing", "OMS_ROUTING_POLICY_FILE"), ("returns", "OMS_RETURNS_POLICY_FILE"), ("routing", "OMS_NETWORK_FILE")],
)
def test_a_file_that_a_setting_names_must_make_sense(
    environment: pytest.MonkeyPatch, tmp_path: Path, service: str, name: str
) -> None:
    (tmp_path / "odd.toml").write_text("this = is not = toml")
    environment.setenv(name, str(tmp_path / "odd.toml"))
    result = CliRunner().invoke(app, ["run", service])
    assert result.exit_code == 3
    assert f"the settings of {service}: " in result.stderr and "TOML" in result.stderr


def test_every_variable_at_fault_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    for name in ("OMS_API_TOKEN", "OMS_TRACKING_DATABASE_URL", "OMS_CONSOLE_TOKEN"):
        environment.delenv(name)
    environment.setenv("OMS_INVENTORY_BACKORDER_CAP", "x")
    result = CliRunner().invoke(app, ["run", "all"])
    for name in ("OMS_API_TOKEN", "OMS_TRACKING_DATABASE_URL", "OMS_CONSOLE_TOKEN", "OMS_INVENTORY_BACKORDER_CAP"):
        assert name in result.stderr


def test_what_is_right_is_taken(environment: pytest.MonkeyPatch) -> None:
    check_settings((*SERVICES, CONSOLE))


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [("OMS_RETRIES", "many", "found 'many'"), ("OMS_THROWAWAY", "perhaps", "is 'perhaps': expected yes or no")],
)
def test_the_whole_stack_does_not_start_with_a_wrong_setting(
    tmp_path: Path, variable: str, value: str, complaint: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMS_")}
    environment = kept | {
        "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}",
        "OMS_HOME": str(tmp_path / "home"),
        variable: value,
    }
    done = subprocess.run(
        [sys.executable, "-m", "ordermill.cli", "up"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 3
    assert variable in done.stderr and complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_the_doctor_shows_no_secret_wherever_it_stands(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OMS_OTLP_ENDPOINT", f"https://te@m:{SECRET}@collector.example:4318")
    told = "\n".join(finding.text for finding in settings(show_all=True))
    assert "OMS_OTLP_ENDPOINT=https://***@collector.example:4318" in told
    assert "OMS_KAFKA=127.0.0.1:1" in told
    assert SECRET not in told
