"""Each HTTP surface does what its OpenAPI document says, whatever it is sent: Schemathesis, all checks."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from ordermill.names import CONSOLE, SERVICES
from ordermill.schemas.surfaces import surface as without_parts
from tests.conftest import Databases
from tests.integration.surfaces import Surface, served, surfaces

EXAMPLES = 8
SCHEMAS = Path(__file__).parents[2] / "schemas"
ORDER: dict[str, Any] = {
    "channel": "web",
    "external_id": "1",
    "placed_at": "2026-03-02T09:00:00Z",
    "ship_to": {"person": {"name": "Ann Lee", "street": ["1 Main St"], "city": "Reno"}, "country": "US"},
    "lines": [
        {
            "line_id": "1",
            "sku": "TEA",
            "quantity": 3,
            "unit_price": {"minor": 100, "currency": "USD"},
            "discount": {"minor": 0, "currency": "USD"},
            "tax": {"minor": 0, "currency": "USD"},
        }
    ],
    "shipping": {"minor": 0, "currency": "USD"},
    "shipping_tax": {"minor": 0, "currency": "USD"},
    "total": {"minor": 300, "currency": "USD"},
    "payment": {"status": "paid"},
}
VIEWS = {
    "capture": ["/orders"],
    "inventory": ["/stock", "/reservations"],
    "routing": ["/plans", "/policies"],
    "fulfillment": ["/fulfillments"],
    "tracking": ["/shipments", "/order-status"],
    "returns": ["/returns", "/purchases"],
}


@pytest.fixture(scope="module")
async def running(databases: Databases) -> AsyncIterator[dict[str, Surface]]:
    async with surfaces(databases) as found:
        yield found


@pytest.fixture
async def client(running: dict[str, Surface]) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks with capture, unless a whole URL says otherwise."""
    surface = running["capture"]
    headers = {"Authorization": surface.authorization}
    async with httpx.AsyncClient(base_url=surface.url, headers=headers) as made:
        yield made


async def what_is_there(surface: Surface, name: str) -> dict[str, str]:
    """By view the key of a document that exists, and a customer's link; so that not every request ends in 404."""
    found: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=surface.url, headers={"Authorization": surface.authorization}) as client:
        for path in VIEWS[name]:
            found[path] = (await client.get(path)).json()["items"][0]["key"]
        if name == "tracking":
            link = (await client.get(f"/orders/{found['/order-status']}/link")).json()["path"]
            found["token"] = link.rpartition("/")[2]
    return found


def configuration(there: dict[str, str], document: dict[str, Any]) -> str:
    """Schemathesis' own file: what to use for the parameters of each path."""
    keys = [key for view, key in there.items() if view.startswith("/")]
    parts = []
    for path in document["paths"]:
        values: dict[str, Any] = {
            "key": there.get(path.removesuffix("/{key}")),
            "order_id": keys[-1],
            "fulfillment_id": keys[0],
            "package": 1,
            "token": there.get("token"),
        }
        known = [f'"path.{name}" = {json.dumps(value)}' for name, value in values.items() if f"{{{name}}}" in path]
        if known:
            parts.append("\n".join([f'[[operations]]\ninclude-path = "{path}"\n[operations.parameters]', *known]))
    return "\n\n".join(parts)


@pytest.mark.parametrize("name", SERVICES)
async def test_a_surface_does_what_its_document_says(name: str, running: dict[str, Surface], tmp_path: Path) -> None:
    surface = running[name]
    async with httpx.AsyncClient(base_url=surface.url) as client:
        document = (await client.get("/openapi.json")).json()
    (tmp_path / "schemathesis.toml").write_text(configuration(await what_is_there(surface, name), document))
    command = [
        "-m", "schemathesis.cli", "run", f"{surface.url}/openapi.json",
        "--header", f"Authorization: {surface.authorization}",
        "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful",
        "--max-examples", str(EXAMPLES), "--continue-on-failure", "--generation-deterministic",
        "--request-timeout", "20",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


@pytest.mark.parametrize("name", SERVICES)
async def test_every_document_has_the_shape_that_is_published(name: str, running: dict[str, Surface]) -> None:
    surface = running[name]
    published = json.loads((SCHEMAS / "openapi" / f"{name}.json").read_bytes())
    async with httpx.AsyncClient(base_url=surface.url, headers={"Authorization": surface.authorization}) as client:
        assert (await client.get("/openapi.json")).json() == published
        for path in VIEWS[name]:
            answer = published["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            page = (await client.get(path)).json()
            assert page["items"]
            Draft202012Validator({**answer, "components": published["components"]}).validate(page)


async def test_a_path_tells_all_that_may_be_asked_of_it(client: httpx.AsyncClient, running: dict[str, Surface]) -> None:
    assert (await client.delete("/orders")).headers["Allow"] == "GET, POST"
    assert (await client.delete("/orders/some-order")).headers["Allow"] == "GET"
    assert (await client.get("/orders/some-order/hold")).headers["Allow"] == "POST"
    assert (await client.delete(f"{running['inventory'].url}/stock/receive")).headers["Allow"] == "POST"
    assert (await client.delete(f"{running['inventory'].url}/stock/SKU/1")).headers["Allow"] == "GET"


async def test_a_key_that_stood_for_another_order_places_none(client: httpx.AsyncClient) -> None:
    first, second = ({**ORDER, "external_id": number} for number in ("key-1", "key-2"))
    headers = {"Idempotency-Key": "the-key"}
    assert (await client.post("/orders", json=first, headers=headers)).status_code == 201
    refused = await client.post("/orders", json=second, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "capture.key-used")
    assert (await client.get("/orders", params={"external_id": "key-2"})).json()["items"] == []
    assert (await client.post("/orders", json=first, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("field", "value"),
    [("placed_at", 0), ("placed_at", "1772442000"), ("allow_backorder", 1), ("tax_included", "yes"), ("channel", 7)],
)
async def test_nothing_is_taken_for_what_it_is_not(client: httpx.AsyncClient, field: str, value: Any) -> None:
    answer = await client.post("/orders", json={**ORDER, "external_id": "odd", field: value})
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["at"] == f"body.{field}"


async def test_a_whole_number_may_be_written_with_a_point_as_json_schema_has_it(client: httpx.AsyncClient) -> None:
    text = json.dumps({**ORDER, "external_id": "whole"}).replace('"quantity": 3', '"quantity": 3.0')
    answer = await client.post("/orders", content=text, headers={"Content-Type": "application/json"})
    assert answer.json()["lines"][0]["quantity"] == 3
    half = text.replace("3.0", "3.5").replace('"whole"', '"half"')
    answer = await client.post("/orders", content=half, headers={"Content-Type": "application/json"})
    assert answer.json()["faults"][0]["at"] == "body.lines.0.quantity"


async def test_what_can_be_no_key_is_refused_before_the_database_is_asked(client: httpx.AsyncClient) -> None:
    for path in ("/orders/%00", "/orders?after=%00", "/orders?status=%00"):
        assert (await client.get(path)).status_code == 422


@pytest.mark.parametrize("name", [*SERVICES, CONSOLE])
async def test_who_met_a_defect_is_told_that_the_connection_ends_with_it(name: str) -> None:
    """It does end, so a request that followed on it would be lost without an answer."""
    app = without_parts(name)

    async def broken() -> None:
        raise KeyError("a defect")

    app.add_api_route("/broken", broken)
    async with served(app) as url, httpx.AsyncClient(base_url=url) as client:
        for _ in range(2):
            answer = await client.get("/broken", headers={"Host": "127.0.0.1"})
            assert (answer.status_code, answer.headers["Connection"]) == (500, "close")
