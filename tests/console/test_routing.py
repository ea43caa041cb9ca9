"""Routing: where orders ship from, what that costs, and why not from elsewhere."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Stand


async def test_a_decision_shows_without_a_reload_and_opens_the_orders_routing(open_page, stand: Stand) -> None:
    page = await open_page("/routing")
    await expect(page.get_by_role("heading", name="Policy in force")).to_be_visible()
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 2)])
    row = page.locator(f"#route-{placed.order_id}")
    await expect(row).to_contain_text("routed")
    await expect(row).to_contain_text("edison")
    await row.get_by_role("link").click()
    await expect(page.get_by_role("heading", name=f"Where {placed.external_id} ships from")).to_be_visible()


async def test_the_policy_in_force_can_be_read(open_page, stand: Stand) -> None:
    page = await open_page("/routing")
    await page.locator("a.code").first.click()
    await expect(page.get_by_text("in force")).to_be_visible()
    await expect(page.locator("pre").first).to_contain_text("max_shipments = 3")
    await page.goto(stand.url("console", "/routing/policies/unknown"))
    await expect(page.get_by_text("was ever adopted here")).to_be_visible()


async def test_an_order_in_two_parcels_has_a_map_its_cost_by_part_and_why_not_the_others(
    open_page, stand: Stand
) -> None:
    teapot, cup = stand.sku("teapot"), stand.sku("cup")
    await stand.receive(teapot, "lancaster", 5)
    await stand.routing_hears_of(teapot, 1)
    await stand.receive(teapot, "edison", 9)
    await stand.routing_hears_of(teapot, 5)
    await stand.receive(cup, "sparks", 5)
    placed = await stand.order([(teapot, 1), (cup, 1)])
    await stand.fulfillments(placed)
    page = await open_page(f"/orders/{placed.order_id}/routing")
    drawing = page.get_by_role("img", name="Parcel 1 comes from Edison warehouse")
    await expect(drawing).to_be_visible()
    await expect(drawing.locator("path.way")).to_have_count(2)
    rows = page.locator("tr[id^=parcel-]")
    await expect(rows).to_have_count(2)
    shown = await stand.get("routing", f"/plans/{placed.order_id}/explanation")
    cost = shown["chosen"]["cost"]
    assert cost["total"]["minor"] == sum(cost[part]["minor"] for part in ("shipping", "handling", "delay"))
    await expect(page.locator(".total")).to_contain_text(f"{cost['total']['minor'] / 100:,.2f} USD")
    await expect(page.get_by_text("made again from its record with the same result")).to_be_visible()
    why = page.locator("#locations")
    dallas = why.locator("tr", has_text="Dallas warehouse")
    await expect(dallas).to_contain_text("costs more")
    more = next(one for one in shown["locations"] if one["location"] == "lancaster")["alternative"]["more"]
    assert more["total"]["minor"] > 0
    await expect(dallas).to_contain_text(f"+{more['total']['minor'] / 100:,.2f} USD")
    await expect(why.locator("tr", has_text="Columbus warehouse")).to_contain_text(f"has none of {teapot}, {cup}")
    await expect(why.locator("tr", has_text="Reno warehouse")).to_contain_text("without it there is none")


async def test_a_rejected_order_moves_on_the_open_page_and_its_history_says_from_where_to_where(
    open_page, stand: Stand
) -> None:
    sku = stand.sku()
    await stand.receive(sku, "groveport", 5)
    placed = await stand.order([(sku, 1)])
    (first,) = await stand.fulfillments(placed)
    await stand.receive(sku, "edison", 9)
    await stand.routing_hears_of(sku, 5)
    page = await open_page(f"/orders/{placed.order_id}/routing")
    await expect(page.locator("tr[id^=parcel-]")).to_contain_text("Columbus warehouse")
    await stand.work({"do": "reject", "fulfillment_id": first["key"], "reason": "out-of-stock", "note": ""})
    await expect(page.locator("tr[id^=parcel-]")).to_contain_text("Edison warehouse")
    history = page.locator("#decisions tbody tr")
    await expect(history).to_have_count(2)
    await expect(history.first).to_contain_text("the location turned it down")
    assert (await history.first.locator("td").all_inner_texts())[4:6] == ["groveport", "edison"]
    await expect(page.locator("#locations tr", has_text="Columbus warehouse")).to_contain_text("ruled out")
    await history.nth(1).get_by_role("link").click()
    await expect(page.locator("#locations tr", has_text="Columbus warehouse")).to_contain_text("chosen")


async def test_an_order_that_waits_for_a_location_is_listed_with_why(open_page, stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 1)])
    (work,) = await stand.fulfillments(placed)
    page = await open_page("/routing?show=deferred")
    row = page.locator(f"#route-{placed.order_id}")
    await expect(row).to_have_count(0)
    await stand.work({"do": "reject", "fulfillment_id": work["key"], "reason": "no-capacity", "note": ""})
    await expect(row).to_contain_text(f"{sku}: 1 wanted, 0 seen where they may be shipped from")
    await row.get_by_role("link").click()
    await expect(page.locator("h1")).to_contain_text("deferred")
    await expect(page.locator("#locations tr", has_text="Edison warehouse")).to_contain_text("ruled out for this order")


async def test_an_order_never_routed_says_so(open_page, stand: Stand) -> None:
    page = await open_page("/orders/unknown/routing")
    await expect(page.get_by_text("routing has decided nothing on it so far")).to_be_visible()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_routing_pages_are_accessible(open_page, stand: Stand, accessible, size) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 1)
    await stand.receive(sku, "sparks", 1)
    placed = await stand.order([(sku, 2)])
    await stand.fulfillments(placed)
    for path in ("/routing", f"/orders/{placed.order_id}/routing"):
        page = await open_page(path, size=size)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await accessible(page)
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
        if "orders" not in path:
            await page.locator("a.code").first.click()
            await expect(page).to_have_url(re.compile("/routing/policies/"))
            await accessible(page)
