"""The customer's form, and what becomes of it when a service does not answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ordermill.contracts.capture import OrderLine
from ordermill.contracts.fields import LineQuantity
from ordermill.contracts.returns import PurchaseDelivered
from ordermill.customer import customer_token
from services.console import customer
from services.console.doors import NoAnswer
from services.console.pages import environment
from services.console.pictures.order import Order
from tests.cli.life import MONDAY, usd

LINE = OrderLine(line_id="1", sku="TEA", title="Tea", quantity=2, unit_price=usd(100), discount=usd(0), tax=usd(0))
DELIVERED = PurchaseDelivered(
    order_id="o-1", shipment_id="s-1", delivered_at=MONDAY, lines=(LineQuantity(line_id="1", sku="TEA", quantity=2),)
)


class Pool:
    async def fetchval(self, *_: Any) -> bytes:
        return Order(order_id="o-1", external_id="T-1", lines=(LINE,)).model_dump_json().encode()

    async def fetch(self, *_: Any) -> list[tuple[str, bytes]]:
        return [(DELIVERED.type, DELIVERED.to_json())]


class Doors:
    """Returns that takes every request in and answers none."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def post_for_customer(self, service: str, path: str, body: dict[str, Any]) -> Any:
        self.asked.append(body)
        raise NoAnswer(service)


@pytest.fixture
def doors() -> Doors:
    return Doors()


@pytest.fixture
async def visitor(doors: Doors) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(customer.router)
    app.state.sessions = SimpleNamespace(of=lambda _: None)
    app.state.console = SimpleNamespace(
        platform=SimpleNamespace(link_secret=SimpleNamespace(get_secret_value=lambda: "")), pool=Pool(), doors=doors,
        network=SimpleNamespace(carriers=()), clock=lambda: datetime.now(UTC), environment=environment(),
    )  # fmt: skip
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as made:
        yield made


async def test_a_form_that_got_no_answer_is_shown_again_as_the_same_so_that_it_counts_once(
    visitor: httpx.AsyncClient, doors: Doors
) -> None:
    path = f"/track/{customer_token(b'', 'o-1')}"
    page = (await visitor.get(path)).text
    for _ in range(2):
        (form_id,) = re.findall(r'name="form_id" value="([^"]+)"', page)
        sent = await visitor.post(f"{path}/returns", data={"form_id": form_id, "units-1": "1", "reason": "unwanted"})
        assert (sent.status_code, "the same form counts once" in sent.text) == (503, True)
        page = sent.text
    first, second = doors.asked
    assert first == second


async def test_a_form_that_was_refused_is_another_when_it_is_sent_again(visitor: httpx.AsyncClient) -> None:
    path = f"/track/{customer_token(b'', 'o-1')}"
    sent = await visitor.post(f"{path}/returns", data={"form_id": "0" * 32, "units-1": "0", "reason": "unwanted"})
    assert "Choose at least one item" in sent.text
    assert "0" * 32 not in sent.text
