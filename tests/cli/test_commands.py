"""Commands as they are typed: what is printed where, and with which exit status. No service runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ordermill.cli import app
from ordermill.cli.as_of import utc
from ordermill.cli.place import SERVICES, postgres_url
from ordermill.names import CONSOLE
from ordermill.service import run

SAMPLES = Path(__file__).parents[2] / "samples"
NOBODY = "postgresql://oms_nobody:secret-word@127.0.0.1:{port}/oms_nobody"


def oms(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin, prog_name="oms")


@pytest.fixture(autouse=True)
def no_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OMS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OMS_HOME", str(tmp_path / "none"))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is ours and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def far_away(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of which nothing answers."""
    url = NOBODY.format(port=closed_port)
    monkeypatch.setenv("OMS_KAFKA", f"127.0.0.1:{closed_port}")
    monkeypatch.setenv("OMS_API_TOKEN", "token-word")
    monkeypatch.setenv("OMS_KEYRING_URL", url)
    monkeypatch.setenv("OMS_MASTER_KEY", "A" * 43 + "=")
    monkeypatch.setenv("OMS_LINK_SECRET", "A" * 43 + "=")
    monkeypatch.setenv("OMS_FULFILLMENT_CARRIERS_URL", "https://carriers.invalid")
    monkeypatch.setenv("OMS_PAYMENTS_URL", "https://payments.invalid")
    monkeypatch.setenv("OMS_CONSOLE_TOKEN", "secret-word-secret-word")
    for service in (*SERVICES, CONSOLE):
        monkeypatch.setenv(f"OMS_{service.upper()}_PORT", str(closed_port))
        monkeypatch.setenv(f"OMS_{service.upper()}_DATABASE_URL", url)
        monkeypatch.setenv(f"OMS_{service.upper()}_OWNER_URL", url)


def test_the_services_are_those_that_run() -> None:
    assert SERVICES == run.SERVICES


def test_the_program_starts_without_what_only_services_need() -> None:
    heavy = ("pydantic", "httpx", "fastapi", "faststream", "eventsourcing", "asyncpg", "aiokafka", "rich", "services")
    code = f"import sys, ordermill.cli; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [[], ["orders"], ["stock"], ["returns"], ["log"], ["dlq"]], ids=" ".join)
def test_a_group_alone_shows_its_help(path: list[str]) -> None:
    assert "Usage: oms" in oms(*path).output
    assert oms(*path, "--help").exit_code == 0


def test_a_payload_becomes_canonical_messages() -> None:
    result = oms("adapt", "x12-850", str(SAMPLES / "x12-850" / "two-interchanges-three-orders.edi"), "--channel", "edi")
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [message["type"] for message in messages] == ["oms.channel.order-placed.v1"] * 3
    assert {message["data"]["channel"] for message in messages} == {"edi"}


def test_what_was_adapted_is_a_canonical_payload() -> None:
    first = oms("adapt", "shopify", str(SAMPLES / "shopify" / "order-create.json"))
    second = oms("adapt", "canonical", "-", stdin=first.stdout.encode())
    assert second.exit_code == 0
    assert second.stdout == first.stdout


def test_a_rejected_payload_says_why_on_stderr() -> None:
    result = oms("adapt", "shopify", str(SAMPLES / "shopify" / "broken-cut-off.json"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("rejected: payload: expected JSON")


def test_what_was_rejected_stops_no_neighbor_and_is_a_line_of_json_too() -> None:
    result = oms("adapt", "canonical", str(SAMPLES / "canonical" / "one-bad-between-two.jsonl"), "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [line["type"] for line in lines if "type" in line] == ["oms.channel.order-placed.v1"] * 2
    assert [line["rejected"]["where"] for line in lines if "rejected" in line] == ["line 2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adapt", "fax", "-"], "no adapter reads 'fax'; there are: canonical, pos-csv, shopify, x12-850"),
        (["adapt", "canonical", "no-such-file"], "No such file or directory"),
        (["adapt", "pos-csv", "-", "--zone", "Mars/Olympus"], "no time zone 'Mars/Olympus'"),
        (["orders", "hold", "X", "--reason", "whim"], "no reason 'whim' to hold an order; there are: payment"),
        (["orders", "cancel", "X", "--line", "1"], "'1': expected LINE=QTY"),
        (["orders", "cancel", "X", "--line", "1=0"], "'1=0': expected LINE=QTY"),
        (
            ["stock", "adjust", "sparks", "TEA", "many", "--reason", "x"],
            "'DELTA': Input should be a valid integer",
        ),
        (
            ["stock", "receive", "sparks", "TEA", "0"],
            "'QTY': Input should be greater than or equal to 1",
        ),
        (["returns", "request", "X", "--line", "1=1", "--reason", "whim"], "no reason 'whim' to return goods"),
        (["returns", "inspect", "X", "--location", "sparks", "--line", "1=1:burn"], "'1=1:burn': expected LINE=QTY"),
        (["log", "show", "letter-1"], "a dead letter may lie in any log. Name the service with --service"),
        (["log", "show", "soup-1"], "'soup-1': whose stream is it?"),
        (["log", "tail", "--service", "kitchen"], "no service 'kitchen'; there are: capture"),
        (["rebuild", "kitchen"], "no service 'kitchen'; there are: capture"),
        (["verify", "capture", "--settled"], "--settled looks at all logs together"),
        (["dlq", "drop", "--note", "x"], "say which: a service, --code or --id"),
        (["dlq", "drop", "capture"], "Missing option '--note'"),
        (["soup"], "No such command 'soup'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, far_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = oms(*arguments, stdin=b"")
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["check-proof", "README.md", "--key"], "oms check-proof"),
        (["check-proof", "README.md"], "oms check-proof"),
        (["dlq", "drop", "--code"], "oms dlq drop"),
        (["dlq", "show", "L", "--body=1"], "oms dlq show"),
        (["log", "tail", "-n"], "oms log tail"),
        (["log", "soup"], "oms log"),
        (["rebuild", "kitchen"], "oms rebuild"),
        (["--soup"], "oms"),
    ],
)
def test_wrong_usage_points_to_the_help_of_the_command_that_was_meant(arguments: list[str], command: str) -> None:
    assert oms(*arguments).stderr.endswith(f"(see `{command} --help`)\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["orders", "show", "\udcff"], ["orders", "hold", "X", "--note", "a\udcff"], ["stock", "show", "\udcff"],
        ["log", "show", "order-\udcff"], ["dlq", "drop", "capture", "--note", "\udcff"], ["explain", "\udcff"],
    ],
)  # fmt: skip
def test_what_is_not_utf_8_is_wrong_usage_for_nothing_is_called_so(arguments: list[str], far_away: None) -> None:
    result = oms(*arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "expected UTF-8" in result.stderr


@pytest.mark.parametrize("wrong", ["nonsense", "postgresql://role:secret-word@host:port/database", "mysql://h/d"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("OMS_CAPTURE_OWNER_URL", ["migrate"]),
        ("OMS_CAPTURE_DATABASE_URL", ["migrate"]),
        ("OMS_CAPTURE_OWNER_URL", ["rebuild", "capture"]),
        ("OMS_CAPTURE_DATABASE_URL", ["log", "follow", "capture"]),
        ("OMS_CAPTURE_DATABASE_URL", ["log", "show", "order-1"]),
    ],
)
def test_a_url_of_a_database_that_is_none_is_named_and_not_shown(
    name: str, arguments: list[str], wrong: str, far_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, wrong)
    result = oms(*arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    assert f"{name}: expected postgresql://role:password@host:port/database" in result.stderr
    assert "secret-word" not in result.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://r:p@one:5432,two:5433/d",
        "postgres://r@[::1]:5432/d",
        "postgresql:///d?host=/run",
        "postgres://h/d",
    ],
)
def test_what_postgresql_takes_for_a_url_is_one(url: str) -> None:
    assert postgres_url("NAME", url) == url


@pytest.mark.parametrize(
    ("name", "wrong"), [("OMS_CAPTURE_PORT", "abc"), ("OMS_CAPTURE_URL", "http://h:x"), ("OMS_CAPTURE_URL", "nonsense")]
)
def test_an_address_that_is_none_is_like_one_where_nobody_answers(
    name: str, wrong: str, far_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, wrong)
    result = oms("orders", "list")
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    assert "capture at " in result.stderr and "does not answer" in result.stderr
    lines = [line for line in oms("doctor").stdout.splitlines() if "capture service" in line]
    assert len(lines) == 1 and lines[0].startswith("bad ")


def test_a_token_that_no_header_can_hold_is_a_wrong_setting(far_away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_API_TOKEN", "schlüssel")
    result = oms("orders", "list")
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    assert "OMS_API_TOKEN" in result.stderr and "schl" not in result.stderr


@pytest.mark.parametrize(
    "instant",
    ["2026-03-02", "2026-03-02T10:15", "2026-03-02 10:15:00", "2026-03-02T10:15:00.5Z", "2026-03-02 10:15:00.123"],
)
def test_an_instant_is_taken_as_other_commands_show_it(instant: str, far_away: None) -> None:
    assert oms("as-of", instant, "--stream", "order-1").exit_code == 3, "it asks the log"


def test_an_instant_with_an_offset_is_that_instant() -> None:
    assert utc("2026-03-02T12:15:00+02:00") == utc("2026-03-02 10:15:00") == datetime(2026, 3, 2, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize("instant", ["yesterday", "2026-13-01", "10:15", ""])
def test_what_is_no_instant_is_wrong_usage(instant: str) -> None:
    result = oms("as-of", instant, "--stream", "order-1")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


ASKS_A_SERVICE = [
    ["orders", "list"],
    ["orders", "show", "X"],
    ["orders", "submit", str(SAMPLES / "canonical" / "order-placed.json")],
    ["orders", "hold", "X"],
    ["orders", "release", "X", "--reason", "manual"],
    ["orders", "cancel", "X", "--line", "1=1"],
    ["orders", "forget", "X", "--yes"],
    ["explain", "X"],
    ["as-of", "2026-03-02", "X"],
    ["stock", "list"],
    ["stock", "show", "TEA"],
    ["stock", "receive", "sparks", "TEA", "3"],
    ["stock", "adjust", "sparks", "TEA", "-3", "--reason", "lost"],
    ["stock", "count", "sparks", "TEA", "0"],
    ["returns", "list"],
    ["returns", "show", "R"],
    ["returns", "request", "X", "--line", "1=1", "--reason", "late"],
    ["returns", "receive", "R", "--location", "sparks"],
    ["returns", "inspect", "R", "--location", "sparks", "--line", "1=1:restock"],
    ["returns", "waive", "R"],
    ["returns", "close", "R"],
]
READS_A_LOG = [
    ["as-of", "2026-03-02", "--stream", "order-1"],
    ["as-of", "2026-03-02", "--stock"],
    ["log", "show", "order-1"],
    ["log", "tail"],
    ["log", "follow", "capture"],
    ["dlq", "list"],
    ["dlq", "show", "L"],
    ["dlq", "redrive"],
    ["dlq", "drop", "capture", "--note", "x"],
    ["rebuild", "capture"],
    ["verify"],
    ["migrate"],
]


@pytest.mark.parametrize("arguments", [*ASKS_A_SERVICE, *READS_A_LOG], ids=" ".join)
def test_without_an_installation_it_says_how_to_get_one(arguments: list[str]) -> None:
    result = oms(*arguments)
    assert result.exit_code == 3
    assert result.stderr.startswith("oms: no installation in ")
    assert "`oms up`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", ASKS_A_SERVICE, ids=" ".join)
def test_a_service_that_does_not_answer_is_named(arguments: list[str], far_away: None) -> None:
    result = oms(*arguments)
    assert result.exit_code == 3, result.stderr
    assert " at http://127.0.0.1:" in result.stderr
    assert "does not answer" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", READS_A_LOG, ids=" ".join)
def test_a_log_that_does_not_answer_is_named(arguments: list[str], far_away: None) -> None:
    result = oms(*arguments)
    assert result.exit_code == 3, result.stderr
    whose = "inventory" if "--stock" in arguments else "capture"
    assert f"the log of {whose}" in result.stderr or f"the database of {whose}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "secret-word" not in result.output


def test_a_setting_that_is_missing_is_named(far_away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMS_API_TOKEN")
    result = oms("orders", "list")
    assert result.exit_code == 3
    assert result.stderr.startswith("oms: OMS_API_TOKEN is not set: expected the bearer token")


def test_settings_that_are_wrong_are_named_with_what_was_expected(
    far_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMS_BATCH_MAX", "lots")
    monkeypatch.delenv("OMS_LINK_SECRET")
    result = oms("rebuild", "capture")
    assert result.exit_code == 3
    assert "OMS_BATCH_MAX (Messages per poll, so per transaction): Input should be a valid integer" in result.stderr
    assert "found 'lots'" in result.stderr
    assert "OMS_LINK_SECRET is not set (Makes customers' links unguessable" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_services_own_setting_is_named(far_away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_INVENTORY_BACKORDER_CAP", "-1")
    result = oms("rebuild", "inventory")
    assert result.exit_code == 3
    assert "OMS_INVENTORY_BACKORDER_CAP (Units of one SKU that may wait" in result.stderr


@pytest.mark.parametrize(
    ("service", "name", "value", "words"),
    [
        ("capture", "OMS_PAYMENTS_URL", "ftp://pay", "OMS_PAYMENTS_URL (The payment provider"),
        ("returns", "OMS_OUTBOUND_READ_S", "-1", "OMS_OUTBOUND_READ_S (Longest silence"),
        ("fulfillment", "OMS_FULFILLMENT_CARRIERS_URL", "", "OMS_FULFILLMENT_CARRIERS_URL (Where labels are bought"),
        (
            "fulfillment",
            "OMS_FULFILLMENT_CARRIERS_URL",
            "http://carrier",
            "expected an https:// URL, found http://carrier",
        ),
    ],
)
def test_a_service_does_not_start_with_providers_it_can_t_call(
    far_away: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, service: str, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    result = oms("run", service)
    assert result.exit_code in (1, 3)
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_simulator_does_not_start_without_its_keys() -> None:
    result = oms("simulator")
    assert result.exit_code == 3
    assert "OMS_SIMULATOR_PROVIDER_KEY is not set" in result.stderr


def test_a_database_url_that_is_none_is_named_and_not_shown(far_away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_CAPTURE_DATABASE_URL", "oops-secret-word")
    result = oms("log", "show", "order-1")
    assert result.exit_code == 3
    assert result.stderr.startswith("oms: OMS_CAPTURE_DATABASE_URL: expected postgresql://")
    assert "secret-word" not in result.stderr


def test_the_doctor_says_what_is_bad_and_what_to_do(far_away: None) -> None:
    result = oms("doctor", "--json")
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    bad = {finding["what"] for finding in findings if finding["verdict"] == "bad"}
    assert result.exit_code == 1
    services = {f"{service} {part}" for service in SERVICES for part in ("database", "service")}
    assert bad == services | {"keyring", "kafka", "console", "console database"}
    assert all(finding["remedy"] for finding in findings if finding["verdict"] == "bad")
    assert "secret-word" not in result.output and "token-word" not in result.output


def test_the_doctor_names_settings_that_are_missing(far_away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMS_MASTER_KEY")
    result = oms("doctor")
    assert result.exit_code == 1
    assert "bad   setting                   OMS_MASTER_KEY is not set" in result.stdout
