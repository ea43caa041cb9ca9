"""The reference: what other programs may rely on, as pages."""

from __future__ import annotations

import httpx
from playwright.async_api import expect

from ordermill.names import SERVICES, SURFACES
from services.console import reference
from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Stand

PLACED = "oms.channel.order-placed.v1"


async def test_from_a_service_to_its_topics_to_a_message_as_it_really_was(open_page, accessible) -> None:
    page = await open_page("/reference", script=False)
    await (
        page.get_by_role("region", name="Services and their topics")
        .get_by_role("link", name="capture", exact=True)
        .click()
    )
    await expect(page.get_by_role("heading", name="oms.channel.orders")).to_be_visible()
    await page.get_by_role("link", name=PLACED).first.click()
    rows = page.get_by_role("region", name=f"Fields of {PLACED}")
    await expect(rows.get_by_role("rowheader", name="lines[].unit_price.minor")).to_be_visible()
    await expect(rows.get_by_role("row", name="ship_to.person.name")).to_contain_text("personal, clear")
    await expect(page.locator("pre").last).to_contain_text('"channel": "marketplace"')


async def test_every_page_of_it_is_there_and_accessible(open_page, accessible) -> None:
    for size, paths in ((DESKTOP, ("", "/topics/inventory", f"/messages/{PLACED}")), (PHONE, ("", "/http/capture"))):
        for path in paths:
            page = await open_page(f"/reference{path}", size=size)
            await accessible(page)


async def test_all_that_is_published_has_a_page(stand: Stand) -> None:
    async with httpx.AsyncClient(follow_redirects=True, timeout=30) as person:
        await person.get(stand.login)
        paths = [
            *(f"topics/{service}" for service in SERVICES),
            *(f"http/{surface}" for surface in SURFACES),
            *(f"messages/{name}" for name in reference.names("messages")),
            "files/openapi/capture.json",
        ]
        assert len(paths) > 100
        for path in paths:
            answer = await person.get(stand.url("console", f"/reference/{path}"))
            assert answer.status_code == 200, path
        for path in ("messages/nothing", "files/openapi/..%2f..%2fpyproject.json", "topics/%00"):
            assert (await person.get(stand.url("console", f"/reference/{path}"))).status_code == 404, path


async def test_it_is_only_for_those_who_are_logged_in(stand: Stand) -> None:
    async with httpx.AsyncClient(follow_redirects=False) as stranger:
        answer = await stranger.get(stand.url("console", "/reference"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
