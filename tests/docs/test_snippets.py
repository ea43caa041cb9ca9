"""What the tutorial and the how-tos say is true: their commands run, in order, against an installation of their own.

```bash                    run as it is, must succeed
```console                 `$ command` and what it prints; `…` stands for anything, on a line of its own for any lines
```json FILE TYPE          is that file's content, a valid message of that type
```python FILE             is a part of that file, or a file of the service that add-a-service.md builds
```sh                      for people: another terminal, a choice of commands; test_commands.py tells where each is run
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordermill.contracts.base import decode
from ordermill.simulation import Fault
from tests.docs.pages import ALL, DOCS, ROOT, Block, Shell, blocks

PAGES = (
    "tutorial.md",
    "how-to/read-and-redrive-dead-letters.md",
    "how-to/rebuild-and-verify.md",
    "how-to/add-an-event-version.md",
)
"""In this order: the how-tos go on with what the tutorial leaves."""
PATIENCE_S = 60.0
LOOKS = re.compile(r"(oms (\w+ )?(show|list)\b|oms verify)")
"""Commands that may be repeated until what they show has come about."""


def steps(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block and the lines that it prints."""
    command: list[str] = []
    output: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield "\n".join(command), output
            command, output = [line[2:]], []
        elif line.startswith("> ") and not output:
            command.append(line[2:])
        else:
            output.append(line)
    yield "\n".join(command), output


def pattern(expected: list[str]) -> re.Pattern[str]:
    parts = []
    for line in expected:
        if line.strip() == "…":
            parts.append(r"(?:[^\n]*\n)*?")
        elif line.strip():
            words = " ".join(line.split())
            parts.append(".*?".join(re.escape(piece.strip()) for piece in words.split("…")) + r"\n")
    return re.compile("".join(parts))


def tidy(output: str) -> str:
    """Lines without what only lays them out."""
    lines = (" ".join(line.split()) for line in output.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def test_the_commands_of_the_pages_do_what_they_say(environment: dict[str, str], workplace: Path) -> None:
    for page in PAGES:
        shell = Shell(environment, workplace)
        for block in blocks(DOCS / page):
            if block.language == "bash":
                status, output = shell.run(block.text)
                assert status == 0, f"{block}: {output}"
            elif block.language == "console":
                for command, expected in steps(block):
                    check(shell, block, command, expected)
        shell.close()


def check(shell: Shell, block: Block, command: str, expected: list[str]) -> None:
    deadline = time.monotonic() + (PATIENCE_S if LOOKS.match(command) else 0)
    wanted = pattern(expected)
    while True:
        status, output = shell.run(command)
        found = tidy(output)
        if status == 0 and wanted.fullmatch(found):
            return
        if time.monotonic() > deadline:
            told = f"{block}: exit status {status} of\n$ {command}"
            raise AssertionError(f"{told}\nexpected\n{tidy(chr(10).join(expected))}\nfound\n{found}")
        time.sleep(0.2)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "json"], ids=str)
def test_a_json_block_is_the_file_it_shows_and_a_message_of_its_type(block: Block) -> None:
    content = json.loads(block.text)
    if block.about:
        assert json.loads((ROOT / block.about[0]).read_text()) == content
    if len(block.about) > 1:
        importlib.import_module(f"ordermill.contracts.{block.about[1].split('.')[1]}")
        assert content.pop("type", block.about[1]) == block.about[1]
        decode(block.about[1], json.dumps(content).encode())


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python" and b.about], ids=str)
def test_a_python_block_is_part_of_the_file_it_names(block: Block) -> None:
    if "loyalty" not in block.about[0]:
        assert block.text in (ROOT / block.about[0]).read_text()


def test_the_service_of_the_how_to_works(tmp_path: Path) -> None:
    for block in blocks(DOCS / "how-to" / "add-a-service.md"):
        if block.language == "python":
            path = tmp_path / block.about[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    script = tmp_path / "try.py"
    script.write_text(_TRY_LOYALTY)
    libraries = f"{ROOT / 'libs'}:{tmp_path}:{ROOT}"
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": libraries},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "57\n", done.stderr


# In a process of its own: contracts are known to the whole process once they are imported.
_TRY_LOYALTY = """
import asyncio, json
from pathlib import Path
import ordermill.contracts
ordermill.contracts.__path__.append(str(Path(__file__).parent / "libs/ordermill/contracts"))
from ordermill.clock import system_clock
from ordermill.contracts.capture import OrderCaptured
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.service.deadletters import Redriven
from ordermill.service.messages import outside_headers
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from services.loyalty.app import build

def usd(minor): return {"minor": minor, "currency": "USD"}

order = OrderCaptured.model_validate({
    "order_id": "o1", "channel": "web", "external_id": "1001", "placed_at": "2026-03-02T09:00:00Z",
    "customer_id": "c-1", "destination": {"country": "US"}, "lines": [], "shipping": usd(499),
    "shipping_tax": usd(0), "tax_included": False, "total": usd(5788), "payment": {"status": "paid"},
    "service_level": "standard", "allow_backorder": False})
headers = outside_headers(order, "/ordermill/capture", "m1", system_clock())
record = Redriven(order.topic, 0, 0, 0, b"order-o1", order.to_json(), headers)

async def main():
    service = build(None, system_clock)
    store = MemoryStore()
    running = RunningService(service, Engine(store, service.rules(), system_clock), Metrics())
    await running.handle([record, record])
    print((await store.document("points", "c-1"))["points"])

asyncio.run(main())
"""


def test_the_page_of_guarantees_names_tests_that_are_there_and_every_fault() -> None:
    page = (DOCS / "reference" / "guarantees.md").read_text()
    for named in re.findall(r"`(tests/[^` ]+)`", page):
        assert list(ROOT.glob(named)), f"{named} is no file"
    assert {fault.value for fault in Fault} <= set(re.findall(r"`([a-z-]+)`", page))


def test_links_of_the_docs_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken
