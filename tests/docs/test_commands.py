"""No page shows a command that was never run: each `sh` block is run as it stands, here or where the table says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import duckdb
import pytest

from tests.docs.pages import ALL, ROOT, Shell, postgres_programs, shell
from tests.e2e.running import BROUGHT_BACK, DELIVERED, Installation, warehouse_and_carrier

HERE = "tests.docs.test_commands"
APACHE = "tests.e2e.test_kafka_commands"
RUN_BY = {
    "how-to/ask-what-was-true.md": [HERE],
    "how-to/back-up-and-restore.md": ["tests.operations.test_backup"] * 2,
    "how-to/forget-a-customer.md": [HERE],
    "how-to/give-facts-to-analysts.md": [HERE],
    "how-to/integrate-from-another-language.md": [HERE] * 2,
    "how-to/look-back-under-another-policy.md": [HERE],
    "how-to/make-up-for-what-never-arrived.md": [HERE] * 2,
    "how-to/prove-what-was-recorded.md": [HERE] * 2,
    "how-to/read-and-redrive-dead-letters.md": [HERE] * 3,
    "how-to/rebuild-and-verify.md": [HERE],
    "how-to/respond-to-alerts.md": [HERE],
    "how-to/run-on-apache-kafka.md": [APACHE] * 3 + ["not: it is this suite"],
    "how-to/run-on-docker.md": [
        *["tests.compose.test_compose"] * 4,
        "not: Prometheus' and Grafana's images are not to be had everywhere; tests/operations reads both files, and "
        "tests/compose runs Prometheus by the first",
        "tests.compose.test_compose",
    ],
    "how-to/run-under-faults.md": ["not: over half an hour of faults; what judges them is tested in tests/independent"],
    "how-to/trace-an-order.md": [HERE, "tests.operations.test_traces"],
    "tutorial.md": [HERE] * 2,
}
"""By page, for each of its `sh` blocks: the file of tests that runs it; or why none does."""


def test_each_block_is_run_or_it_is_said_why_not() -> None:
    found: dict[str, int] = {}
    for block in ALL:
        if block.language == "sh":
            page = block.page.removeprefix("docs/")
            found[page] = found.get(page, 0) + 1
    assert found == {page: len(places) for page, places in RUN_BY.items()}
    for page, places in RUN_BY.items():
        for place in places:
            if not place.startswith("not: "):
                assert page in Path(str(import_module(place).__file__)).read_text(), f"{place} does not read {page}"


def lines(text: str) -> list[str]:
    """One command each."""
    return [line for line in text.splitlines() if line.strip()]


def succeed(run: Shell, *commands: str, patience_s: float = 0.0) -> str:
    """What the last one prints. With patience, tried again until all goes well."""
    output = ""
    for command in commands:
        until = time.monotonic() + patience_s
        while True:
            status, output = run.run(command)
            if status == 0:
                break
            assert time.monotonic() < until, f"exit status {status} of {command}\n{output}"
            time.sleep(0.2)
    return output


@pytest.fixture
def run(environment: dict[str, str], workplace: Path) -> Iterator[Shell]:
    """A shell with the installation's variables, as the tutorial has it."""
    made = Shell(environment, workplace)
    take = shell_of_tutorial()
    succeed(made, take)
    yield made
    made.close()


def shell_of_tutorial() -> str:
    """How the tutorial takes the installation's variables into the shell."""
    (block,) = [each for each in ALL if each.page == "docs/tutorial.md" and "environment.json" in each.text]
    return block.text.splitlines()[0]


PUBLISH = "python docs/examples/publish.py"


def letter_of(run: Shell, service: str) -> str:
    """The id of a letter that waits."""
    return succeed(
        run, f"oms dlq list {service} --json | head -1 | python -c {shlex.quote(_ID)}", patience_s=60
    ).strip()


@contextmanager
def at_work(environment: dict[str, str], codes: Mapping[str, str] = DELIVERED) -> Iterator[None]:
    """A warehouse and a carrier for whatever comes."""
    known = json.loads((Path(environment["OMS_HOME"]) / "environment.json").read_text())
    with warehouse_and_carrier(Installation(known), codes):
        yield


@pytest.mark.parametrize(("number", "program"), [(0, "npm"), (1, "pip")])
def test_both_clients_see_an_order_to_the_door(
    environment: dict[str, str], workplace: Path, tmp_path: Path, number: int, program: str
) -> None:
    """In a copy, so that what they install stays out of the repository; pip's into an environment of its own."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    for name in ("samples", "schemas"):
        left = shutil.ignore_patterns("node_modules")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    kept = environment
    if program == "pip":
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        # Where `oms` is, `python` is the client's.
        kept = environment | {"PATH": f"{tmp_path / 'venv/bin'}:{environment['PATH']}"}
        kept.pop("PYTHONPATH")
    run = Shell(kept, tmp_path)
    try:
        succeed(run, shell_of_tutorial())
        with at_work(environment):
            told = succeed(run, *lines(shell("how-to/integrate-from-another-language.md")[number]))
    finally:
        run.close()
    assert '"status":"delivered"' in told.replace(" ", "")


def test_all_is_verified(run: Shell, environment: dict[str, str]) -> None:
    with at_work(environment):
        for command in lines(shell("how-to/rebuild-and-verify.md")[0]):
            assert "all as it must be" in succeed(run, command, patience_s=60 if "--settled" in command else 0)


def test_what_never_arrived_is_made_up_for(run: Shell, environment: dict[str, str]) -> None:
    succeed(run, "oms stock receive edison TEAPOT 5")
    paid = "sed 's/1002/9010/; s/pending/paid/' docs/examples/order-unpaid.json > order.json"
    succeed(run, paid, "oms orders submit order.json", "oms orders show 9010", patience_s=60)
    with at_work(environment, BROUGHT_BACK):
        succeed(run, "oms orders show 9010 | grep -w returned", patience_s=60)
    lost, back = shell("how-to/make-up-for-what-never-arrived.md")
    for block, told in ((lost, "refunding|closed"), (back, "closed")):
        commands = [command.replace("ORDER", "9010") for command in lines(block)]
        for command in commands:
            succeed(run, command, patience_s=20)
        name = commands[-1].split()[3]
        succeed(run, f"oms returns show {name} | grep -E '{told}'")
    shown = succeed(run, "oms orders show 9010")
    assert re.search("1 TEAPOT +26.44 USD", shown), "of the lost one, what it cost"
    assert re.search("1 TEAPOT +5.00 USD +26.44 USD", shown), (
        "a teapot again, and the shipping of an order none of which came"
    )


def test_what_was_true_is_told_as_it_was_and_as_it_was_known(run: Shell) -> None:
    succeed(run, "oms stock receive edison TEAPOT 5")
    succeed(run, "oms orders submit docs/examples/order.json", "oms orders show 1001", patience_s=20)
    order, stock, was, known = lines(shell("how-to/ask-what-was-true.md")[0])
    told = succeed(run, order, patience_s=20)
    assert re.search(r"order-\S+ +(\d+) of \1 .* [0-9a-f]{64}", told)
    assert '"external_id": "1001"' in told
    assert re.search(r"TEAPOT +\d+ .*edison \d", succeed(run, stock))
    teapot = json.loads(succeed(run, f'{stock} --json 2>/dev/null | grep \'"key": "TEAPOT"\''))
    assert teapot["on_hand"] == sum(at["on_hand"] for at in teapot["locations"].values()) > 0
    for command in (was, known):
        told = succeed(run, command, patience_s=5)
        assert re.search(r"stock-TEAPOT .* [0-9a-f]{64}", told)
        assert '"on_hand"' in told
    for what in ("1001", "--stock", "--stream stock-TEAPOT"):
        status, told = run.run(f"oms as-of 2020-01-01 {what}")
        assert (status, "nothing of it had happened by" in told) == (1, True), told
    assert run.run("oms as-of 2020-01-01 1001 --stock")[0] == 2


def test_yesterday_is_looked_back_at(run: Shell) -> None:
    succeed(run, "oms stock receive edison TEAPOT 5")
    paid = "sed 's/1002/9030/; s/pending/paid/' docs/examples/order-unpaid.json > order.json"
    succeed(run, paid, "oms orders submit order.json", "oms orders show 9030 | grep 'cedar\\|swift'", patience_s=60)
    told = succeed(run, "oms explain 9030")
    assert re.search("made again +the same", told)
    assert re.search(r"edison +\d+ +chosen", told), told
    copied, changed, ask = lines(shell("how-to/look-back-under-another-policy.md")[0])
    told = succeed(run, copied, changed, ask)
    assert "under this policy" in told
    assert re.search(r"decisions with a plan +[1-9]", told), told
    same = succeed(run, copied, ask)
    assert "0 decisions would be others" in same


def test_analysts_get_files_and_can_ask_them(run: Shell, workplace: Path) -> None:
    succeed(run, "oms stock receive edison TEAPOT 5")
    paid = "sed 's/1002/9050/; s/pending/paid/' docs/examples/order-unpaid.json > order.json"
    succeed(run, paid, "oms orders submit order.json", "oms orders show 9050 | grep 'cedar\\|swift'", patience_s=60)
    export, ask, again = lines(shell("how-to/give-facts-to-analysts.md")[0])
    assert "capture-000000000001-" in succeed(run, export)
    assert "oms.capture.order-" in succeed(run, ask)
    succeed(run, "oms stock receive edison TEAPOT 5")
    told = succeed(run, f"{again} | grep inventory", patience_s=10)
    assert "inventory-000000000001-" not in told
    (question,) = [
        each for each in ALL if each.page == "docs/how-to/give-facts-to-analysts.md" and each.language == "sql"
    ]
    with duckdb.connect() as connection:
        asked = question.text.replace("'facts/", f"'{workplace}/facts/")
        assert all(charged > 0 for _, charged in connection.sql(asked).fetchall())


def test_an_order_is_proved_to_who_has_the_key_alone(run: Shell, tmp_path: Path) -> None:
    paid = "sed 's/1002/9040/; s/pending/paid/' docs/examples/order-unpaid.json > order.json"
    succeed(run, "oms stock receive edison TEAPOT 5", paid, "oms orders submit order.json")
    succeed(run, "oms orders show 9040 | grep 'cedar\\|swift'", patience_s=60)
    keep, compare = lines(shell("how-to/prove-what-was-recorded.md")[0])
    succeed(run, keep, patience_s=20)
    assert "all as it must be" in succeed(run, compare, patience_s=5)
    run.run("sed 's/.number.:.1,/\"number\":777777,/' checkpoints.jsonl > more")
    status, told = run.run("oms verify --held more")
    assert status == 1
    assert re.search(r"not-as-held capture checkpoint 777777: the log has \d+: events from 1 on", told), told
    prove, check = (line.replace("ORDER", "9040") for line in lines(shell("how-to/prove-what-was-recorded.md")[1]))
    succeed(run, f"({prove}) 2>&1 | grep -v 'no checkpoint yet'", patience_s=20)
    succeed(run, prove)
    key = json.loads(succeed(run, "oms checkpoints capture --json"))["key"]
    check = check.replace("KEY", key)
    assert "it holds" in succeed(run, check)
    status, told = run.run("sed -i 's/cedar/swift/g; t; s/swift/cedar/g' proof.json; " + check)
    assert (status, "is not what checkpoint" in told) == (1, True), told


def test_a_customer_is_forgotten(run: Shell) -> None:
    paid = "sed 's/1002/9020/; s/ada@/flora@/' docs/examples/order-unpaid.json > order.json"
    succeed(run, paid, "oms orders submit order.json", "oms orders cancel 9020", patience_s=60)
    (forget,) = lines(shell("how-to/forget-a-customer.md")[0])
    forget = forget.replace("ORDER", "9020")
    status, told = run.run(forget.removesuffix(" --yes"))
    assert (status, "say --yes" in told) == (2, True), told
    succeed(
        run,
        forget,
        "oms log show order-$(oms orders show 9020 --json 2>/dev/null | grep -o '[0-9a-f-]\\{36\\}' | head -1) | "
        "grep customer-forgotten",
        patience_s=60,
    )


_ID = "import json, sys; print(json.loads(sys.stdin.readline())['letter_id'])"
_PARKED = """
for r in $(seq 1 51); do
  echo '{"channel": "web", "external_id": "9002", "revision": '$r', "changed_at": "2026-03-02T10:00:00Z"}'
done | python docs/examples/publish.py oms.channel.orders oms.channel.order-changed.v1 /channels/web 9002
"""


def test_dead_letters_are_listed_shown_redriven_and_dropped(run: Shell, workplace: Path) -> None:
    """After all is verified as settled: the order that it rescues is not paid, and stays."""
    look, redrive, drop = shell("how-to/read-and-redrive-dead-letters.md")
    succeed(run, f"echo '{{}}' | {PUBLISH} oms.channel.orders oms.channel.order-placed.v1 /channels/web broken")
    letter = letter_of(run, "capture")
    for command in lines(look):
        succeed(run, command.replace("LETTER", letter))
    assert (workplace / "body.json").read_text() == "{}"
    succeed(run, _PARKED)
    parked = "oms dlq list capture --code capture.too-many-parked"
    succeed(run, parked, patience_s=60)
    succeed(run, "sed 's/1002/9002/' docs/examples/order-unpaid.json > order.json", "oms orders submit order.json")
    by_code, by_id = lines(redrive)
    assert "redriven" in succeed(run, by_code)
    # The broken one stays as it is, and the exit status says so.
    status, told = run.run(by_id.replace("LETTER", letter))
    assert (status, "contracts.malformed" in told or "waiting" in told) == (1, True), told
    succeed(run, f"echo '{{}}' | {PUBLISH} oms.carrier.events oms.carrier.parcel-scanned.v1 /carriers/cedar broken")
    letter_of(run, "tracking")
    (command,) = lines(drop)
    assert "dropped" in succeed(run, command)


def test_open_transactions_are_found(run: Shell, environment: dict[str, str]) -> None:
    """As an owner: a transaction of theirs is what is found."""
    known = json.loads((Path(environment["OMS_HOME"]) / "environment.json").read_text())
    url = known["OMS_CAPTURE_OWNER_URL"]
    at = urlsplit(url)
    names = {
        "HOST": at.hostname,
        "PORT": at.port,
        "USER": at.username,
        "PASSWORD": at.password,
        "DATABASE": at.path[1:],
    }
    succeed(run, postgres_programs(), "export " + " ".join(f"PG{name}={value}" for name, value in names.items()))

    async def while_open() -> str:
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await connection.fetchval("SELECT pg_current_xact_id()")
            told = await asyncio.to_thread(succeed, run, shell("how-to/respond-to-alerts.md")[0])
        await connection.close()
        return told

    with ThreadPoolExecutor() as beside:
        told = beside.submit(asyncio.run, while_open()).result()
    assert "oms_capture_owner" in told


def test_settings_of_traces_are_taken(run: Shell) -> None:
    show = (
        "from ordermill.service.settings import PlatformSettings as P; p = P(); print(p.otlp_endpoint, p.trace_ratio)"
    )
    told = succeed(run, shell("how-to/trace-an-order.md")[0], f"python -c {shlex.quote(show)}")
    assert told.split() == ["http://localhost:4318", "0.05"]


@pytest.mark.skipif(not os.environ.get("OMS_TEST_INSTALL"), reason="installs for a minute: OMS_TEST_INSTALL=1")
def test_the_tutorial_starts_in_a_clean_clone(tmp_path: Path) -> None:
    clone, first, second = tmp_path / "clone", *shell("tutorial.md")
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMS_", "VIRTUAL_ENV"))}

    def elsewhere(text: str) -> str:
        return text.replace("/tmp/ordermill-tutorial", str(tmp_path / "home"))

    process = subprocess.Popen(
        ["bash", "-e", "-c", elsewhere(first)], cwd=clone, env=kept, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = next(line for line in process.stdout if "/login?token=" in line)
        assert re.search(r"http://127\.0\.0\.1:\d+/login", said)
        other = Shell(kept, clone)
        succeed(other, elsewhere(second), "oms doctor", patience_s=60)
        other.close()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
