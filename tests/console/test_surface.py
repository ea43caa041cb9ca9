"""The console does what its OpenAPI document says, whatever it is sent, logged in or not: Schemathesis, all checks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ordermill.names import CONSOLE
from tests.console.stand import Stand, eventually
from tests.console.test_queue import visitor

EXAMPLES = 4
SCHEMAS = Path(__file__).parents[2] / "schemas"


async def what_is_there(stand: Stand) -> dict[str, Any]:
    """Values of path parameters that lead to something, so that not every request ends in 404."""
    sku = stand.sku()
    await stand.receive(sku, "edison", 50)
    sent = await stand.order([(sku, 2)])
    await stand.deliver(sent)
    line = {"line_id": "1", "sku": sku, "quantity": 1}
    body = {"return_id": f"r-{uuid4().hex}", "order_id": sent.order_id, "lines": [line], "reason": "unwanted"}
    await stand.post("returns", "/returns", body | {"by": "agent"})
    placed = await stand.order([(sku, 2)])
    (work,) = await stand.fulfillments(placed)
    (shipped,) = await stand.fulfillments(sent)
    await stand.send("oms.carrier.events", b"no scan", b"k", [("ce_id", b"1"), ("ce_type", b"no.such.v1")])
    letters = await eventually(lambda: _letters(stand))
    policies = (await stand.get("routing", "/policies"))["items"]
    link = (await stand.get("tracking", f"/orders/{sent.order_id}/link"))["path"]
    async with httpx.AsyncClient(base_url=stand.url("console"), follow_redirects=True, timeout=20) as person:
        await person.get(stand.login)

        async def event() -> str:
            text = (await person.get(f"/orders/{placed.order_id}?all=true")).text
            return text.partition('href="/events/')[2].partition('"')[0]

        message = await eventually(event)
    return {
        "order_id": placed.order_id,
        "fulfillment_id": work["key"],
        "location": work["location"],
        "carrier": "cedar",
        "package": 1,
        "key": sku,
        "return_id": body["return_id"],
        "letter_id": letters[0]["key"],
        "service": "tracking",
        "message": message,
        "policy_hash": policies[0]["policy_hash"],
        "token": link.rpartition("/")[2],
        "name": "oms.capture.order-held.v1",
        "part": "openapi",
        "surface": "capture",
        "paper": "label.pdf",
        "of papers": {"order_id": sent.order_id, "fulfillment_id": shipped["key"], "location": shipped["location"]},
    }


async def _letters(stand: Stand) -> Any:
    return (await stand.get("tracking", "/letters"))["items"]


def configuration(there: dict[str, Any], document: dict[str, Any], settings: str) -> str:
    """Schemathesis' own file: what to use for the parameters of each path."""
    parts = [settings]
    for path in document["paths"]:
        more = {"name": "capture.json"} if "/files/" in path else there["of papers"] if "{paper}" in path else {}
        values = there | more
        known = [f'"path.{name}" = {json.dumps(value)}' for name, value in values.items() if f"{{{name}}}" in path]
        if known:
            parts.append("\n".join([f'[[operations]]\ninclude-path = "{path}"\n[operations.parameters]', *known]))
    return "\n\n".join(parts)


SETTINGS = {
    "logged in": "",
    "a stranger": '[checks.negative_data_rejection]\nexpected-statuses = ["303", "400", "403", "404", "409", "422"]',
}
"""Who is not logged in is sent to log in, whatever they ask for."""


@pytest.mark.parametrize("who", SETTINGS)
async def test_the_console_does_what_its_document_says(stand: Stand, tmp_path: Path, who: str) -> None:
    async with httpx.AsyncClient(base_url=stand.url("console")) as client:
        document = (await client.get("/openapi.json")).json()
    assert document == json.loads((SCHEMAS / "openapi" / f"{CONSOLE}.json").read_bytes())
    there = await what_is_there(stand)
    (tmp_path / "schemathesis.toml").write_text(configuration(there, document, SETTINGS[who]))
    command = [
        "-m", "schemathesis.cli", "run", f"{stand.url('console')}/openapi.json",
        "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful",
        "--max-examples", str(EXAMPLES), "--continue-on-failure", "--generation-deterministic",
        "--request-timeout", "20", "--workers", "4",
    ]  # fmt: skip
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.console.surface_hooks",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=environment | ({"CONSOLE_LOGIN": stand.login} if who == "logged in" else {}),
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_what_no_table_can_hold_is_turned_down_or_left_out(stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    async with visitor(stand) as client:
        for path in (
            "/stock/%00", f"/stock/{sku}?at=%00", "/stock?q=%00", "/stock?at=%00", "/live/stock/%00",
            "/orders/%00/routing", "/machine/letters?service=%00", "/machine/letters?code=%00", "/returns?q=%00",
        ):  # fmt: skip
            assert (await client.get(path)).status_code == 422, path
        csrf = (await client.get("/floor-session")).json()["csrf"]
        for path, fields in (
            ("/views/remove", {"name": "a\0"}),
            ("/floor/edison/manifest/cedar", {"work": "a\0"}),
            ("/orders/bulk", {"do": "hold", "order": "a\0"}),
        ):
            answer = await client.post(path, data={"csrf": csrf, "form_id": uuid4().hex, **fields})
            assert answer.status_code == 200, path


async def test_no_stream_begins_of_what_is_not_there(stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 1)])
    await stand.fulfillments(placed)
    async with visitor(stand) as client:

        async def routed() -> bool:
            return (await client.get(f"/orders/{placed.order_id}/routing")).status_code == 200

        await eventually(routed)
        for path in ("/orders/nothing/live", f"/orders/{placed.order_id}/routing/live?plan=none", "/live/stock/NONE",
                     "/floor/nowhere/live", "/floor/nowhere/manifest/cedar/live", "/returns/none/live"):  # fmt: skip
            async with client.stream("GET", path) as answer:
                assert answer.status_code == 404, path


async def test_what_may_be_asked_of_a_path_is_told_with_what_may_not(stand: Stand) -> None:
    async with visitor(stand) as client:
        for path, allowed in (("/", "GET"), ("/feed", "GET, POST"), ("/stock/receive", "POST"), ("/stock/A/B", "GET")):
            answer = await client.delete(path)
            assert (answer.status_code, answer.headers["Allow"]) == (405, allowed), path


async def test_programs_get_problems_as_the_services_tell_them(stand: Stand) -> None:
    async with visitor(stand) as client:
        answer = await client.get("/orders/nothing", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["code"] == "console.order-not-here"
