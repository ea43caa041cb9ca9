"""The machine room: each service's state, dead letters redriven and dropped by people, whether all adds up."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from playwright.async_api import Page, expect

from ordermill.contracts.capture import OrderLine, OrderRevised
from ordermill.contracts.channel import Payment
from ordermill.contracts.fields import Destination, Money
from ordermill.ids import order_id_of
from ordermill.names import SERVICES
from services.console.pictures.order import Order
from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Stand, eventually

HOSTILE = b"<script>alert(1)</script> {{7*7}} ^XA =HYPERLINK(1) \x00\xff\xe2\x80\xae evil"


async def send(stand: Stand, topic: str, body: bytes, type_name: str, message_id: str | None = None) -> None:
    headers = [
        ("ce_specversion", b"1.0"), ("ce_id", (message_id or uuid4().hex).encode()), ("ce_source", b"/test"),
        ("ce_type", type_name.encode()),
    ]  # fmt: skip
    await stand.send(topic, body, b"\xfe\x00key", headers)


async def waiting(stand: Stand, service: str, code: str) -> list[dict[str, Any]]:
    items = (await stand.get(service, "/letters", limit=1000))["items"]
    return [item for item in items if item["code"] == code]


async def a_letter(stand: Stand, body: bytes = HOSTILE) -> str:
    """The id of a new dead letter at capture."""
    before = {item["letter_id"] for item in await waiting(stand, "capture", "contracts.malformed")}
    await send(stand, "oms.channel.orders", body, "oms.channel.order-placed.v1")

    async def new() -> list[str]:
        found = await waiting(stand, "capture", "contracts.malformed")
        return [item["letter_id"] for item in found if item["letter_id"] not in before]

    return (await eventually(new))[0]  # type: ignore[no-any-return]


def row(page: Page, service: str, letter_id: str) -> Any:
    return page.locator(f"#letter-{service}-{letter_id}")


async def end_of(stand: Stand, service: str, letter_id: str) -> dict[str, Any]:
    return (await stand.get(service, f"/letters/{letter_id}"))["end"]  # type: ignore[no-any-return]


async def test_each_service_and_the_console_show_how_they_do(open_page, stand: Stand, accessible) -> None:
    for size in (DESKTOP, PHONE):
        page = await open_page("/machine", size=size)
        for name in (*SERVICES, "console"):
            await expect(page.locator(f"#service-{name}")).to_contain_text("works")
        await expect(
            page.get_by_text(re.compile("it took .* from Kafka to here|Nothing has been read"))
        ).to_be_visible()
        await accessible(page)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"]


async def test_figures_move_without_a_reload(open_page, stand: Stand) -> None:
    page = await open_page("/machine")
    sku = stand.sku()
    await page.evaluate("window.opened = true")
    rate = page.locator("#service-inventory td").nth(1)

    async def moves() -> bool:
        await stand.receive(sku, "edison", 1)
        await stand.order([(sku, 1)])
        return (await rate.inner_text()) not in ("–", "0.0")

    await eventually(moves)
    assert await page.evaluate("window.opened")


async def test_a_dead_letter_appears_by_itself_fails_again_and_is_dropped_in_a_persons_name(
    open_page, stand: Stand
) -> None:
    page = await open_page("/machine/letters?service=capture")
    letter_id = await a_letter(stand)
    one = row(page, "capture", letter_id)
    await expect(one).to_contain_text("contracts.malformed")
    await one.get_by_role("checkbox").focus()
    await page.keyboard.press("Space")
    await page.get_by_role("button", name="Redrive those ticked").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("stays: oms.channel.order-placed.v1")
    await expect(one.get_by_role("checkbox")).to_be_checked()
    await page.get_by_role("button", name="Drop those ticked").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("say why they need no handling")
    await page.get_by_label("Why they need no handling").fill("sent by <b>mistake</b>")
    await page.get_by_role("button", name="Drop those ticked").press("Enter")
    await expect(one).to_have_count(0)
    end = await end_of(stand, "capture", letter_id)
    assert (end["by"], end["note"]) == ("user:Ann", "sent by <b>mistake</b>")
    await page.get_by_role("link", name="dropped").click()
    await expect(row(page, "capture", letter_id)).to_contain_text("dropped by Ann")
    await expect(row(page, "capture", letter_id)).to_contain_text("sent by <b>mistake</b>")


async def test_ticks_stay_when_another_letter_comes(open_page, stand: Stand) -> None:
    first = await a_letter(stand)
    page = await open_page("/machine/letters?service=capture")
    await row(page, "capture", first).get_by_role("checkbox").check()
    second = await a_letter(stand)
    await expect(row(page, "capture", second)).to_be_visible()
    await expect(row(page, "capture", first).get_by_role("checkbox")).to_be_checked()
    await expect(row(page, "capture", second).get_by_role("checkbox")).not_to_be_checked()


async def test_a_letter_whose_cause_is_gone_is_handled_after_all(open_page, stand: Stand) -> None:
    """Word of a change reaches returns so long before the order does that it is given up."""
    sku, external_id = stand.sku(), f"T-{uuid4().hex[:10]}"
    order_id = order_id_of("store", external_id)
    nothing, price = Money.zero("USD"), Money(minor=1000, currency="USD")
    line = OrderLine(line_id="1", sku=sku, quantity=2, unit_price=price, discount=nothing, tax=nothing)
    early = OrderRevised(
        order_id=order_id, revision=1, destination=Destination(country="US"), lines=(line,), total=price + price,
        payment=Payment(status="paid"),
    )  # fmt: skip
    await stand.publish(early, f"order-{order_id}")

    async def kept() -> list[dict[str, Any]]:
        return await waiting(stand, "returns", "returns.purchase-not-recorded")

    letter_id = (await eventually(kept))[-1]["letter_id"]
    page = await open_page(f"/machine/letters/returns/{letter_id}")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("waiting")
    await page.get_by_role("button", name="Redrive it").click()
    await expect(page.get_by_role("status")).to_contain_text("returns.purchase-not-recorded")
    await stand.receive(sku, "edison", 2)
    await stand.order([(sku, 2)], external_id=external_id)

    async def recorded() -> bool:
        return (await stand.http.get(stand.url("returns", f"/purchases/{order_id}"))).is_success

    await eventually(recorded)
    await page.get_by_role("button", name="Redrive it").click()
    await expect(page.get_by_role("status")).to_contain_text("Handled after all: 1.")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("redriven")
    assert (await end_of(stand, "returns", letter_id))["by"] == "user:Ann"


async def test_the_second_of_two_people_is_told_what_the_first_did(open_page, stand: Stand) -> None:
    letter_id = await a_letter(stand)
    first = await open_page(f"/machine/letters/capture/{letter_id}", name="Bob")
    second = await open_page(f"/machine/letters/capture/{letter_id}", name="Ann")
    for page in (first, second):
        await page.get_by_label("Why it needs no handling").fill("mine")
    await first.get_by_role("button", name="Drop it").click()
    await expect(first.get_by_role("status")).to_contain_text("Dropped: 1.")
    await second.get_by_role("button", name="Drop it").click()
    await expect(second.get_by_role("status")).to_contain_text("was dropped by Bob")
    assert (await end_of(stand, "capture", letter_id))["by"] == "user:Bob"


async def test_a_hostile_letter_is_shown_as_what_it_is(open_page, stand: Stand, accessible) -> None:
    letter_id = await a_letter(stand)
    for size in (DESKTOP, PHONE):
        page = await open_page(f"/machine/letters/capture/{letter_id}", size=size)
        text = page.get_by_role("region", name="As text").locator("pre")
        await expect(text).to_contain_text("<script>alert(1)</script> {{7*7}} ^XA =HYPERLINK(1) \\x00\\xff\\u202e evil")
        await expect(page.get_by_role("region", name="As bytes").locator("pre")).to_contain_text("3c 73 63 72 69 70 74")
        await expect(page.get_by_role("row", name="ce_source")).to_contain_text("/test")
        await accessible(page)
    async with page.expect_download() as started:
        await page.get_by_role("link", name="The whole body as a file").click()
    assert (await (await started.value).path()).read_bytes() == HOSTILE
    await page.goto(stand.url("console", "/machine/letters?service=capture"))
    await accessible(page)


Posted = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def posted(stand: Stand) -> Posted:
    """Sends a form as a page's script would; the answer. `csrf` and `form_id` are right unless given."""

    async def post(path: str, data: dict[str, Any], **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(follow_redirects=True) as person:
            await person.get(stand.login)
            html = (await person.get(stand.url("console", "/machine"))).text
            (csrf, *_) = re.findall(r'name="csrf" value="([^"]+)"', html)
            fields = {"csrf": csrf, "form_id": uuid4().hex} | data
            return await person.post(stand.url("console", path), data=fields, headers={"HX-Request": "true"} | headers)

    return post


async def test_wrong_forged_and_repeated_forms_on_letters_change_nothing(stand: Stand, posted: Posted) -> None:
    letter_id = await a_letter(stand)
    key = f"capture:{letter_id}"
    for path, data, headers, text in (
        ("drop", {"letter": key}, {}, "say why"),
        ("drop", {"letter": key, "note": "x", "csrf": "guess"}, {}, "not from a page you opened"),
        ("drop", {"letter": key, "note": "x"}, {"Sec-Fetch-Site": "cross-site"}, "not from a page you opened"),
        ("redrive", {}, {}, "tick the letters first"),
        ("redrive", {"letter": ["capture:nobody", "../x:1", "a:\x00"]}, {}, "tick the letters first"),
    ):
        answer = await posted(f"/machine/letters/{path}", data, **headers)
        assert text in answer.text, (path, data, answer.text)
    assert await end_of(stand, "capture", letter_id) is None
    oversized = await posted("/machine/letters/drop", {"letter": key, "note": "x" * 1_100_000})
    assert "may have 1,000,000 bytes" in oversized.text
    assert await end_of(stand, "capture", letter_id) is None
    for text in ("Dropped: 1.", "was dropped by Ann"):
        assert text in (await posted("/machine/letters/drop", {"letter": key, "note": "x"})).text


async def test_letters_that_are_not_there_are_said_not_to_be(stand: Stand) -> None:
    async with httpx.AsyncClient() as person:
        await person.get(stand.login)
        for path, status in (
            ("capture/nobody", 404),
            ("nowhere/x", 422),
            ("capture/%00", 422),
            ("capture/nobody/body", 404),
        ):
            answer = await person.get(stand.url("console", f"/machine/letters/{path}"))
            assert answer.status_code == status, path
        for path in ("", "/letters", "/letters/capture/x/body", "/live", "/letters/live"):
            async with httpx.AsyncClient() as stranger:
                answer = await stranger.get(stand.url("console", f"/machine{path}"))
                assert (answer.status_code, answer.headers["location"]) == (303, "/login")


async def test_what_does_not_add_up_is_shown_with_a_link_and_gone_once_it_does(open_page, stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 2)
    placed = await stand.order([(sku, 2)])
    await stand.ship(placed)
    database = await asyncpg.connect(stand.environment["OMS_CONSOLE_DATABASE_URL"])
    try:

        async def shipped() -> bytes | None:
            doc = await database.fetchval("SELECT doc FROM orders WHERE key = $1", placed.order_id)
            settled = doc and Order.model_validate_json(doc).units.get("1")
            return doc if settled and settled.shipped == 2 else None

        right = await eventually(shipped)
        order = Order.model_validate_json(right)
        order.units["1"].shipped = 5
        change = "UPDATE orders SET doc = $2 WHERE key = $1"
        await database.execute(change, placed.order_id, order.model_dump_json().encode())
        page = await open_page("/machine")
        sums = page.get_by_role("region", name="Conservation")
        await page.get_by_role("button", name="Check now").press("Enter")
        fault = sums.get_by_role("listitem").filter(has_text=placed.order_id)
        await expect(fault.first).to_contain_text("line 1: 2 units ordered, 0 canceled and 5 shipped")
        await expect(fault.first.get_by_role("link")).to_have_attribute("href", f"/orders/{placed.order_id}")
        await database.execute(change, placed.order_id, right)
        await page.get_by_role("button", name="Check now").press("Enter")
        await expect(fault).to_have_count(0)
    finally:
        await database.close()


BROKEN_CONSOLE = """
from services.console.run import run
from services.console.watch import Watch

async def fail(self):
    raise LookupError("nobody watches")

Watch.run = fail
run()
"""


async def test_a_console_does_not_go_on_without_a_part_of_it_that_failed(stand: Stand) -> None:
    """Who started it starts it again; a page that nobody feeds would look like quiet."""
    environment = os.environ | stand.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"OMS_CONSOLE_PORT": "0", "OMS_INSTANCE": "broken"}
    command = [sys.executable, "-c", BROKEN_CONSOLE]
    ended = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "a part of the service failed" in ended.stdout + ended.stderr
    assert ended.stderr.rstrip().endswith("LookupError: nobody watches")
