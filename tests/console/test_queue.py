"""The queue: every order of every channel, what needs a person first, found by any id, acted on together."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
from playwright.async_api import Page, expect

from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Placed, Stand, eventually

HOSTILE = "<script>alert(1)</script>{{7*7}}\u202e\U0001f600^XA"


@asynccontextmanager
async def visitor(stand: Stand, name: str = "Ann") -> AsyncIterator[httpx.AsyncClient]:
    """A browser without scripts, logged in."""
    async with httpx.AsyncClient(base_url=stand.url("console"), follow_redirects=True, timeout=20) as client:
        await client.get(stand.login.replace("name=Ann", f"name={name}"))
        yield client


async def on_hold(stand: Stand, channel: str = "store", **changes: object) -> Placed:
    """An order that its channel rates a high risk, so that it waits for a person."""
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 1)], channel=channel, risk="high", **changes)
    await shown(stand, placed)
    return placed


async def shown(stand: Stand, placed: Placed) -> None:
    """Wait until the console knows the order."""
    async with visitor(stand) as client:

        async def known() -> bool:
            return (await client.get(f"/orders/{placed.order_id}")).status_code == 200

        await eventually(known)


def row(page: Page, placed: Placed):
    return page.locator(f"#order-{placed.order_id}")


async def test_an_order_appears_and_moves_on_without_a_reload(open_page, stand: Stand) -> None:
    page = await open_page("/")
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 2)])
    await expect(row(page, placed)).to_contain_text(placed.external_id)
    await expect(row(page, placed)).to_contain_text("confirmed")
    await stand.ship(placed)
    await expect(row(page, placed)).to_contain_text("shipped")


async def hidden(page: Page, hide: bool) -> None:
    """As where another tab is before it; a browser without a screen shows all of them."""
    await page.evaluate(
        """(hide) => {
            Object.defineProperty(document, "hidden", { value: hide, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hide,
    )


async def test_any_number_of_pages_may_be_open_and_one_that_is_seen_again_shows_how_things_are(
    open_page, stand: Stand
) -> None:
    channel = f"tabs-{uuid4().hex[:6]}"
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    first = await open_page(f"/?channel={channel}")
    pages = [first]
    for _ in range(7):
        page = await first.context.new_page()
        await hidden(pages[-1], True)
        await page.goto(stand.url("console", f"/?channel={channel}"))
        pages.append(page)
    placed = await stand.order([(sku, 1)], channel=channel)
    await expect(row(pages[-1], placed)).to_have_count(1)
    await expect(row(first, placed)).to_have_count(0)
    await hidden(first, False)
    await expect(row(first, placed)).to_have_count(1)


async def watched(page: Page) -> None:
    """`html[data-came="…"]` is the latest news that came over the live connection, whether or not it is shown yet."""
    await page.evaluate(
        """() => document.addEventListener("htmx:sseBeforeMessage", (event) => {
            document.documentElement.dataset.came = event.detail.data;
        })"""
    )


async def test_a_click_is_not_lost_when_news_come_between_press_and_release(open_page, stand: Stand) -> None:
    channel = f"press-{uuid4().hex[:6]}"
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 1)], channel=channel)
    await shown(stand, placed)
    page = await open_page(f"/?channel={channel}")
    await expect(row(page, placed)).to_contain_text("confirmed")
    await watched(page)
    await row(page, placed).get_by_role("link").hover()
    await page.mouse.down()
    later = await stand.order([(sku, 1)], channel=channel)
    await expect(page.locator(f"html[data-came*='{later.order_id}']")).to_be_attached()
    await page.mouse.up()
    await expect(page).to_have_url(stand.url("console", f"/orders/{placed.order_id}"))


async def test_news_that_waited_for_a_release_is_shown_however_the_mouse_moves_on(open_page, stand: Stand) -> None:
    channel = f"press-{uuid4().hex[:6]}"
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    page = await open_page(f"/?channel={channel}")
    await watched(page)
    await page.mouse.move(2, 2)
    await page.mouse.down()
    placed = await stand.order([(sku, 1)], channel=channel)
    await expect(page.locator(f"html[data-came*='{placed.order_id}'][data-came*='Confirmed' i]")).to_be_attached()
    await expect(row(page, placed)).to_have_count(0)
    await page.mouse.up()

    there = asyncio.create_task(expect(row(page, placed)).to_have_count(1, timeout=10_000))
    while not there.done():
        await page.mouse.move(400, 2, steps=20)
        await page.mouse.move(2, 2, steps=20)
    await there


async def test_an_order_is_found_by_any_id_that_a_person_may_hold(open_page, stand: Stand) -> None:
    sku, email = stand.sku("rareteapot"), f"{uuid4().hex[:12]}@example.com"
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 1)], email=email)
    (tracking_number,) = await stand.ship(placed)
    (fulfillment,) = await stand.fulfillments(placed)
    page = await open_page("/")
    await expect(row(page, placed)).to_contain_text("shipped")
    for typed in (
        placed.order_id, placed.external_id, placed.external_id[:9].lower(), sku, sku[:16], tracking_number,
        fulfillment["key"], email.upper(),
    ):  # fmt: skip
        await page.goto(stand.url("console", "/"))
        await page.keyboard.press("/")
        await expect(page.locator("#find")).to_be_focused()
        await page.keyboard.type(typed)
        await page.keyboard.press("Enter")
        await expect(page, typed).to_have_url(stand.url("console", f"/orders/{placed.order_id}"))


async def test_several_hits_are_listed_and_none_says_what_can_be_looked_for(open_page, stand: Stand) -> None:
    start = f"S-{uuid4().hex[:8]}"
    first, second = [await on_hold(stand, external_id=f"{start}-{number}") for number in "12"]
    page = await open_page(f"/find?q={start}")
    await expect(row(page, first)).to_be_visible()
    await expect(row(page, second)).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(2)
    page = await open_page(f"/find?q={HOSTILE}")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Nothing found for <script>")
    await expect(page.get_by_text("a carrier's tracking number")).to_be_visible()


async def test_tabs_count_what_needs_a_person_and_show_only_that_with_its_reason(open_page, stand: Stand) -> None:
    channel = f"tabs-{uuid4().hex[:6]}"
    held = await on_hold(stand, channel)
    sku = stand.sku()
    await stand.receive(sku, "edison", 3)
    quiet = await stand.order([(sku, 1)], channel=channel)
    await shown(stand, quiet)
    page = await open_page(f"/?channel={channel}")
    await expect(row(page, quiet)).to_be_visible()
    await page.get_by_role("link", name="Held 1").click()
    await expect(row(page, held)).to_contain_text("fraud risk: the channel rates the risk high")
    await expect(row(page, quiet)).to_have_count(0)
    await stand.post("capture", f"/orders/{held.order_id}/release", {"reason": "fraud-risk"})
    await expect(page.get_by_text("No order fits these filters")).to_be_visible()


async def test_pages_stay_what_they_were_while_orders_come_in(open_page, stand: Stand) -> None:
    channel = f"pages-{uuid4().hex[:6]}"
    sku = stand.sku()
    await stand.receive(sku, "edison", 200)
    placed = [await stand.order([(sku, 1)], channel=channel) for _ in range(53)]
    await shown(stand, placed[-1])
    page = await open_page(f"/?channel={channel}")
    await expect(page.locator("tbody tr")).to_have_count(50)
    await page.get_by_role("link", name="Further").click()
    rest = page.locator("tbody tr")
    await expect(rest).to_have_count(3)
    await expect(rest.last).to_contain_text(placed[0].external_id)
    newer = await stand.order([(sku, 1)], channel=channel)
    await shown(stand, newer)
    await expect(rest).to_have_count(3)
    await page.get_by_role("link", name="Back").click()
    await expect(page.locator("tbody tr")).to_have_count(50)
    await expect(page.locator("tbody tr").last).to_contain_text(placed[3].external_id)
    await page.get_by_role("link", name="First page").click()
    await expect(page.locator("tbody tr").first).to_contain_text(newer.external_id)


async def test_ticked_boxes_survive_live_updates_and_each_order_has_a_result(open_page, stand: Stand) -> None:
    channel = f"bulk-{uuid4().hex[:6]}"
    held = [await on_hold(stand, channel) for _ in range(2)]
    sku = stand.sku()
    await stand.receive(sku, "edison", 9)
    gone = await stand.order([(sku, 1)], channel=channel)
    await shown(stand, gone)
    page = await open_page(f"/?channel={channel}")
    for placed in (*held, gone):
        await row(page, placed).get_by_role("checkbox").check()
    later = await stand.order([(sku, 1)], channel=channel)
    await expect(row(page, later)).to_contain_text("confirmed")
    for placed in (*held, gone):
        await expect(row(page, placed).get_by_role("checkbox")).to_be_checked()
    await expect(row(page, later).get_by_role("checkbox")).not_to_be_checked()
    await page.get_by_role("button", name="Hold…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hold 2 of 3 orders?")
    await expect(page.locator("tbody")).to_contain_text("Nothing is reserved or shipped until a person releases it")
    await expect(page.locator("tbody")).to_contain_text("stock is claimed for it already")
    await page.get_by_label("Note").fill("=HYPERLINK(1)")
    await page.get_by_role("button", name="Hold 2 orders").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("2 held, 1 not: stock is claimed for it already")
    for placed in held:
        shown_there = await stand.get("capture", f"/orders/{placed.order_id}")
        assert {"reason": "manual", "note": "=HYPERLINK(1)"} in shown_there["holds"]


async def test_a_ticked_order_that_newer_ones_push_off_the_page_stays(open_page, accessible, stand: Stand) -> None:
    channel = f"pushed-{uuid4().hex[:6]}"
    held, unticked = [await on_hold(stand, channel) for _ in range(2)]
    sku = stand.sku()
    await stand.receive(sku, "edison", 200)
    page = await open_page(f"/?channel={channel}&sort=changed")
    for placed in (held, unticked):
        await row(page, placed).get_by_role("checkbox").check()
    kept = page.get_by_role("list", name="Ticked, no longer on this page")
    await expect(kept).to_be_hidden()
    for _ in range(50):
        await stand.order([(sku, 1)], channel=channel)
    for placed in (held, unticked):
        await expect(row(page, placed)).to_have_count(0)
        await expect(kept.get_by_role("checkbox", name=placed.external_id)).to_be_checked()
    await accessible(page)
    await kept.get_by_role("checkbox", name=unticked.external_id).uncheck()
    tick_all = page.get_by_label("Tick all orders of this page")
    await tick_all.check()
    await tick_all.uncheck()
    newer = await stand.order([(sku, 1)], channel=channel)
    await expect(row(page, newer)).to_be_visible()
    await expect(kept.get_by_role("listitem")).to_have_text([held.external_id])
    await stand.post("capture", f"/orders/{held.order_id}/hold", {"reason": "manual"})
    await expect(row(page, held).get_by_role("checkbox"), "the last changed is back").to_be_checked()
    await expect(kept).to_be_hidden()
    await page.get_by_role("button", name="Release…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Release 1 of 1 order?")
    await expect(page.locator("tbody")).to_contain_text(held.external_id)
    await page.get_by_role("button", name="Release 1 order").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("1 released")
    assert (await stand.get("capture", f"/orders/{held.order_id}"))["holds"] == []


async def test_ticked_orders_are_released_routed_again_and_canceled_together(open_page, stand: Stand) -> None:
    channel = f"all-{uuid4().hex[:6]}"
    placed = [await on_hold(stand, channel) for _ in range(2)]

    async def together(button: str, press: str, told: str) -> None:
        page = await open_page(f"/?channel={channel}")
        await page.get_by_label("Tick all orders").check()
        await page.get_by_role("button", name=button).click()
        await page.get_by_role("button", name=press).click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text(told)

    await together("Release…", "Release 2 orders", "2 released")
    for each in placed:
        await stand.fulfillments(each, "created")
    await together("Route again…", "Route again 2 orders", "2 being routed again")
    for each in placed:
        await stand.fulfillments(each, "canceled")
    await together("Cancel…", "Cancel 2 orders", "2 called off")
    page = await open_page(f"/?channel={channel}")
    for each in placed:
        await expect(row(page, each)).to_contain_text("canceled")


async def test_a_view_is_saved_opened_and_removed_by_its_owner_alone(open_page, stand: Stand) -> None:
    name = f"Mine {uuid4().hex[:5]} <b>"
    page = await open_page("/?need=held&sort=oldest", name="Vera")
    await page.get_by_label("Name of this view").fill(name)
    await page.get_by_role("button", name="Save view").click()
    await expect(page.get_by_role("status").first).to_contain_text("is saved")
    other = await open_page("/", name="Otto")
    await expect(other.get_by_text(name)).to_have_count(0)
    await page.goto(stand.url("console", "/"))
    await page.get_by_role("link", name=name).click()
    await expect(page).to_have_url(stand.url("console", "/?need=held&sort=oldest"))
    await page.get_by_role("button", name=f"Remove the view {name}").click()
    await expect(page.get_by_text("its orders are untouched")).to_be_visible()
    await expect(page.get_by_role("link", name=name)).to_have_count(0)


async def test_the_filtered_queue_comes_as_a_file_without_formulas(stand: Stand) -> None:
    channel = f"csv-{uuid4().hex[:6]}"
    placed = await on_hold(stand, channel, external_id=f"=1+{uuid4().hex[:6]}")
    async with visitor(stand) as client:
        answer = await client.get(f"/orders.csv?channel={channel}")
    assert answer.headers["content-type"].startswith("text/csv")
    head, line = csv.reader(answer.text.splitlines())
    assert dict(zip(head, line, strict=True))["external id"] == f"'{placed.external_id}"
    assert dict(zip(head, line, strict=True))["why"] == "fraud risk: the channel rates the risk high"


async def test_hostile_text_in_an_order_is_harmless(open_page, stand: Stand) -> None:
    placed = await on_hold(stand, external_id=f"{HOSTILE}-{uuid4().hex[:6]}", title=HOSTILE, name=HOSTILE)
    for path in (f"/?q={placed.order_id}", f"/orders/{placed.order_id}"):
        page = await open_page(path)
        await expect(page.locator("main")).to_contain_text("<script>alert(1)</script>{{7*7}}")
        assert "\u202e" not in await page.locator("main").inner_text()
        assert await page.locator("main script").count() == 0


async def test_filters_that_make_no_sense_count_as_not_given(stand: Stand) -> None:
    async with visitor(stand) as client:
        for query in (
            "since=never",
            "after=x_y",
            "after=9999-99-99_k",
            "sort=best",
            "q=%00",
            "need=%00x",
            "until=9999-12-31",
        ):
            assert (await client.get(f"/?{query}")).status_code == 200, query
        assert (await client.get(f"/?q={'x' * 201}")).status_code == 422


async def test_nobody_acts_on_orders_by_a_forged_empty_or_endless_form(stand: Stand) -> None:
    placed = await on_hold(stand)
    async with visitor(stand) as client:
        csrf = (await client.get("/")).text.partition('name="csrf" value="')[2].partition('"')[0]
        for status, data in (
            (409, {"do": "hold", "order": placed.order_id}),
            (409, {"csrf": "guess", "do": "hold", "order": placed.order_id}),
            (422, {"csrf": csrf, "do": "hold"}),
            (422, {"csrf": csrf, "do": "destroy", "order": placed.order_id}),
            (422, {"csrf": csrf, "do": "hold", "order": [f"o{number}" for number in range(201)]}),
            (413, {"csrf": csrf, "do": "hold", "order": "x" * 1_100_000}),
        ):
            for path in ("/orders/bulk", "/orders/bulk/do"):
                assert (await client.post(path, data=data)).status_code == status, (path, status)
    assert [hold["reason"] for hold in (await stand.get("capture", f"/orders/{placed.order_id}"))["holds"]] == [
        "fraud-risk"
    ]


async def test_the_queue_is_accessible_at_both_sizes(open_page, accessible, stand: Stand) -> None:
    placed = await on_hold(stand)
    for size in (DESKTOP, PHONE):
        page = await open_page("/", size=size)
        await expect(row(page, placed)).to_be_visible()
        await accessible(page)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), size
    page = await open_page("/find?q=nothing-like-it")
    await accessible(page)
