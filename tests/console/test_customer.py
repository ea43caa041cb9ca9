"""The customer's page: an order behind a link, no login, no script needed, little to load."""

from __future__ import annotations

import re
from typing import Any

import httpx
from playwright.async_api import Browser, expect

from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Placed, Stand, eventually

LARGEST_BYTES = 50_000
SCANS = {"cedar": ("hub.departed", "delivered.door"), "swift": ("100", "300")}
HOSTILE = "<script>alert(1)</script> {{7*7}} \u202eevil =HYPERLINK(1)"


async def link(stand: Stand, placed: Placed) -> str:
    async def made() -> str | None:
        answer = await stand.http.get(stand.url("tracking", f"/orders/{placed.order_id}/link"))
        return answer.json()["path"] if answer.is_success else None

    return await eventually(made)  # type: ignore[no-any-return]


async def delivered(stand: Stand, units: int = 2, **order: Any) -> tuple[Placed, str]:
    """An order that came whole, and its customer's link."""
    sku = stand.sku()
    await stand.receive(sku, "edison", units)
    placed = await stand.order([(sku, units)], **order)
    await stand.ship(placed)
    path = await link(stand, placed)
    for work in await stand.fulfillments(placed):
        for package in work["packages"]:
            for code in SCANS[package["carrier"]]:
                await stand.scan(package["tracking_number"], package["carrier"], code)
    async with httpx.AsyncClient() as anyone:

        async def may_return() -> bool:
            return "Ask for the return" in (await anyone.get(stand.url("console", path))).text

        await eventually(may_return)
    await stand.may_come_back(placed)
    return placed, path


async def test_an_order_is_told_without_a_login_and_without_a_script(
    stand: Stand, browser: Browser, accessible
) -> None:
    placed, path = await delivered(stand, title=HOSTILE)
    for size in (PHONE, DESKTOP):
        context = await browser.new_context(java_script_enabled=False, viewport=size)
        page = await context.new_page()
        await page.goto(stand.url("console", path))
        await expect(page.get_by_role("heading", level=1)).to_contain_text("has been delivered")
        await expect(page.get_by_text(placed.external_id)).to_be_visible()
        await expect(page.locator("li").filter(has_text="Delivered, Columbus, OH")).to_be_visible()
        await expect(page.get_by_text("<script>alert(1)</script> {{7*7}}").first).to_be_visible()
        await expect(page.get_by_text("America/New York")).to_be_visible()  # where the order went
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"]
        await context.close()
    context = await browser.new_context(viewport=PHONE)
    page = await context.new_page()
    await page.goto(stand.url("console", path))
    await accessible(page)
    await context.close()


async def test_the_page_with_all_it_loads_is_small(stand: Stand, browser: Browser) -> None:
    _, path = await delivered(stand)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(stand.url("console", path), wait_until="networkidle")  # from here on its clock is known
    network = await context.new_cdp_session(page)
    await network.send("Network.enable")
    await network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    loaded: list[int] = []
    network.on("Network.loadingFinished", lambda event: loaded.append(int(event["encodedDataLength"])))
    await page.goto(stand.url("console", path), wait_until="networkidle")
    await context.close()
    assert len(loaded) >= 3  # the page, its style, its script
    assert sum(loaded) < LARGEST_BYTES, loaded


async def test_a_customer_starts_a_return_and_gets_its_number(stand: Stand, browser: Browser) -> None:
    placed, path = await delivered(stand)
    context = await browser.new_context(java_script_enabled=False, viewport=PHONE)
    page = await context.new_page()
    await page.goto(stand.url("console", path))
    await page.get_by_label("A teapot").select_option("1")
    await page.get_by_label("Why?").select_option("damaged")
    await page.get_by_role("button", name="Ask for the return").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("Your return is accepted")
    await expect(page.get_by_role("region", name="Your returns")).to_contain_text("please send it back")
    (made,) = (await stand.get("returns", "/returns", order_id=placed.order_id))["items"]
    await expect(page.get_by_role("region", name="Your returns")).to_contain_text(made["rma"])
    await expect(page.get_by_label("A teapot").locator("option")).to_have_count(2)  # one more unit, or none
    assert await actors(stand, made["key"]) == {"customer"}
    await context.close()


async def actors(stand: Stand, return_id: str) -> set[str]:
    """Who did what became of a return, by the console's own page of its order's events."""
    import asyncpg

    connection = await asyncpg.connect(stand.environment["OMS_RETURNS_DATABASE_URL"])
    try:
        rows = await connection.fetch("SELECT actor FROM events WHERE stream = $1", f"return-{return_id}")
        return {row[0] for row in rows}
    finally:
        await connection.close()


def fields_of(html: str, **more: str) -> dict[str, str]:
    (form_id,) = re.findall(r'name="form_id" value="([^"]+)"', html)
    (name,) = re.findall(r'name="(units-[^"]+)"', html)
    return {"form_id": form_id, name: "1", "reason": "unwanted"} | more


async def test_a_form_sent_twice_is_one_return(stand: Stand) -> None:
    placed, path = await delivered(stand)
    url = stand.url("console", path)
    async with httpx.AsyncClient() as customer:
        fields = fields_of((await customer.get(url)).text)
        for _ in range(2):
            assert (await customer.post(url + "/returns", data=fields)).status_code == 303
    assert len((await stand.get("returns", "/returns", order_id=placed.order_id))["items"]) == 1


async def test_forms_that_are_wrong_stale_or_forged_change_nothing_and_say_why(stand: Stand) -> None:
    placed, path = await delivered(stand)
    url = stand.url("console", path)
    async with httpx.AsyncClient() as customer:
        fields = fields_of((await customer.get(url)).text)
        units = next(name for name in fields if name.startswith("units-"))
        for changes, headers, status, text in (
            ({units: "0"}, {}, 409, "Choose at least one item"),
            ({units: "-1"}, {}, 409, "can&#39;t be sent back as asked"),
            ({units: "²"}, {}, 409, "can&#39;t be sent back as asked"),
            ({"reason": "<b>"}, {}, 422, ""),
            ({"form_id": ""}, {}, 422, ""),
            ({}, {"Sec-Fetch-Site": "cross-site"}, 409, "not from a page you opened"),
            ({}, {"Origin": "https://evil.example"}, 409, "not from a page you opened"),
            ({"more": "x" * 1_100_000}, {}, 413, ""),
        ):
            answer = await customer.post(url + "/returns", data=fields | changes, headers=headers)
            assert (answer.status_code, text in answer.text) == (status, True), (changes, answer.status_code)
        # More units than came: returns says no, and the page tells why.
        answer = await customer.post(url + "/returns", data=fields | {units: "3"}, follow_redirects=True)
        assert "3 asked for, 2 delivered" in answer.text
    items = (await stand.get("returns", "/returns", order_id=placed.order_id))["items"]
    assert [item["status"] for item in items] == ["declined"]


async def test_a_link_is_not_guessed_and_search_engines_stay_out(stand: Stand) -> None:
    _, path = await delivered(stand)
    async with httpx.AsyncClient() as stranger:
        order_id, _, proof = path.removeprefix("/track/").rpartition(".")
        wrong = proof[:-2] + ("AA" if proof[-2:] != "AA" else "BB")
        for guess in (f"/track/{order_id}", f"/track/{order_id}.", f"/track/{order_id}.{wrong}", "/track/%00.x"):
            answer = await stranger.get(stand.url("console", guess))
            assert answer.status_code == 404, guess
            assert "leads to no order" in answer.text
            assert (await stranger.post(stand.url("console", guess + "/returns"))).status_code == 404
        shown = await stranger.get(stand.url("console", path))
        assert shown.headers["x-robots-tag"] == "noindex, nofollow"
        assert 'name="robots" content="noindex, nofollow"' in shown.text


async def test_the_page_names_no_person_and_no_other_order(stand: Stand) -> None:
    _, other = await delivered(stand, name="Bob Other", email="bob@example.com")
    _, path = await delivered(stand, name="Ann Example")
    async with httpx.AsyncClient() as customer:
        text = (await customer.get(stand.url("console", path))).text
    for secret in ("Ann Example", "ann@example.com", "1 Main Street", "43215", "edison", other.rpartition("/")[2]):
        assert secret not in text


async def test_times_are_on_the_readers_clock_once_a_script_may_run(stand: Stand, browser: Browser) -> None:
    _, path = await delivered(stand)
    context = await browser.new_context(timezone_id="Asia/Tokyo")
    page = await context.new_page()
    await page.goto(stand.url("console", path))
    await expect(page.get_by_text("Times are those of Asia/Tokyo")).to_be_visible()
    await context.close()
