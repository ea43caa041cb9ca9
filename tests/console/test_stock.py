"""Stock: what is where, what moved it, and what people do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import expect

from ordermill.contracts.location import StockArrived, StockCorrected
from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Stand, eventually


def numbers(page, label: str):
    return page.locator(".numbers li", has=page.locator(".label", has_text=label)).locator("b")


async def facts_of(stand: Stand, sku: str) -> dict:
    return await stand.get("inventory", f"/stock/{sku}")


async def test_the_list_shows_what_is_where_and_a_new_sku_without_a_reload(open_page, stand: Stand) -> None:
    sku = stand.sku("kettle")
    page = await open_page(f"/stock?q={sku}")
    await expect(page.get_by_text("No SKU fits these filters")).to_be_visible()
    await stand.receive(sku, "edison", 7)
    row = page.locator(f"#sku-{sku}")
    await expect(row).to_contain_text("edison 7")
    await stand.order([(sku, 2)], title="A fine kettle")
    await expect(row).to_contain_text("A fine kettle")
    await expect(row.locator("td.strong")).to_have_text("5")
    await page.goto(stand.url("console", "/stock?q=fine kettle&at=edison"))
    await expect(row.locator("td").first).to_have_text("7")


async def test_filters_find_what_is_low_oversold_and_backordered(open_page, stand: Stand) -> None:
    low, oversold, backordered, plenty = (stand.sku(name) for name in ("low", "oversold", "backordered", "plenty"))
    await stand.receive(low, "edison", 3)
    await stand.receive(plenty, "edison", 500)
    await stand.receive(backordered, "edison", 1)
    await stand.receive(oversold, "edison", 4)
    placed = await stand.order([(oversold, 4)])
    await stand.fulfillments(placed)
    await stand.order([(backordered, 3)], allow_backorder=True)
    now = datetime.now(UTC).isoformat()
    line = {"sku": oversold, "location": "edison", "counted": 1, "reference": uuid4().hex, "happened_at": now}
    await stand.post("inventory", "/stock/count", [line])
    page = await open_page("/stock?show=low&sort=changed")
    await expect(page.locator(f"#sku-{low}")).to_be_visible()
    await expect(page.locator(f"#sku-{plenty}")).to_have_count(0)
    await page.get_by_label("Filters").get_by_role("link", name="Oversold").click()
    await expect(page.locator(f"#sku-{oversold}")).to_contain_text("oversold")
    await expect(page.locator(f"#sku-{low}")).to_have_count(0)
    await page.goto(stand.url("console", "/stock?show=backordered&sort=changed"))
    await expect(page.locator(f"#sku-{backordered}")).to_contain_text("backordered")
    await expect(page.locator(f"#sku-{oversold}")).to_have_count(0)


async def test_each_number_opens_the_movements_that_add_up_to_it(open_page, stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    await stand.receive(sku, "sparks", 4)
    placed = await stand.order([(sku, 2)])
    await stand.ship(placed)
    page = await open_page(f"/stock/{sku}")
    await expect(numbers(page, "Shipped out")).to_have_text("2")
    await page.locator(".numbers a", has_text="On hand").first.click()
    await expect(page.get_by_role("heading", name="What moved on hand")).to_be_visible()
    rows = page.locator("#moves tbody tr")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("2 units left the building")
    await expect(rows.first).to_contain_text(placed.external_id)
    assert await rows.locator("td:nth-last-child(2)").all_inner_texts() == ["-2", "+4", "+5"]
    assert await rows.locator("td:last-child").all_inner_texts() == ["7", "9", "5"]
    await page.get_by_role("link", name="On hand at Reno warehouse").click()
    await expect(rows).to_have_count(1)
    await expect(page.get_by_role("img", name="On hand and ATP over time. Now 7 on hand, 7 available")).to_be_visible()
    await page.get_by_text("The numbers").click()
    await expect(page.get_by_role("region", name="On hand and ATP over time")).to_contain_text("9")


async def test_a_person_receives_a_new_sku_and_is_named_in_its_fact(open_page, stand: Stand) -> None:
    sku = stand.sku("new")
    page = await open_page("/stock", name="Bea")
    await page.get_by_text("Receive goods").click()
    await page.get_by_label("SKU, known or new").fill(sku)
    await page.get_by_label("At", exact=True).select_option("sparks")
    await page.get_by_label("Units").fill("12")
    await page.get_by_role("button", name="Receive").click()
    await expect(page.get_by_role("status")).to_contain_text(f"12 of {sku} received at sparks")
    await page.goto(stand.url("console", f"/stock/{sku}"))
    await expect(page.locator("#moves tbody tr").first).to_contain_text("Bea")


async def test_a_person_adjusts_and_sees_it_without_a_reload_and_a_refusal_says_why(open_page, stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    page = await open_page(f"/stock/{sku}")
    form = page.locator("form[action='/stock/adjust']")
    await form.get_by_label("At").select_option("edison")
    await form.get_by_label("Change").fill("-2")
    await form.get_by_label("Why").fill(
        '<script>alert(1)</script> {{7*7}} \u202egnp.exe =HYPERLINK("x") ^XA \U0001f600'
    )
    await form.get_by_label("Why").press("Enter")
    await expect(numbers(page, "On hand")).to_have_text("3")
    await expect(page.locator("#moves tbody tr").first).to_contain_text(
        "2 units lost: <script>alert(1)</script> {{7*7}} gnp.exe"
    )
    await form.get_by_label("Change").fill("-9")
    await form.get_by_role("button").click()
    await expect(page.get_by_role("status")).to_contain_text("-9 would leave less than nothing: 3 on hand")
    await form.get_by_label("Change").fill("many")
    await form.get_by_role("button").click()
    await expect(page.get_by_role("status")).to_contain_text("expected a whole number")
    assert (await facts_of(stand, sku))["on_hand"] == 3


@pytest.mark.parametrize("script", [True, False])
async def test_a_count_shows_the_difference_first_and_is_made_with_keys_alone(open_page, stand: Stand, script) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 8)
    page = await open_page("/counting?location=edison", script=script, size=PHONE)
    await expect(page.get_by_label("SKU, scan or type")).to_be_focused()
    await page.keyboard.type(sku)
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Units counted")).to_be_focused()
    await page.keyboard.type("6")
    await page.keyboard.press("Enter")
    await expect(page.locator("#difference")).to_contain_text("6 counted − 8 by the books = -2")
    await expect(page.get_by_role("region", name="Movements since")).to_contain_text("8 units came in")
    assert (await facts_of(stand, sku))["on_hand"] == 8
    await expect(page.get_by_role("button", name="Record 6")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text(f"6 of {sku} counted at edison")).to_be_visible()
    await expect(page.get_by_label("SKU, scan or type")).to_be_focused()
    assert (await facts_of(stand, sku))["on_hand"] == 6


async def test_a_count_is_told_what_moved_meanwhile_and_by_whom(open_page, stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 8)
    page = await open_page(f"/counting?location=edison&sku={sku}&counted=7")
    await expect(page.locator("#difference")).to_contain_text("= -1")
    await stand.receive(sku, "edison", 4)
    other = await open_page(f"/stock/{sku}")
    await expect(numbers(other, "On hand")).to_have_text("12")
    await page.get_by_role("button", name="Record 7").click()
    await expect(page.locator(".notice.refused")).to_contain_text("moved while you counted: 4 units came in (a-test")
    await expect(page.locator("#difference")).to_contain_text("7 counted − 12 by the books = -5")
    assert (await facts_of(stand, sku))["on_hand"] == 12


async def test_a_form_sent_twice_counts_once_and_a_forged_one_never(stand: Stand) -> None:
    sku = stand.sku()
    async with httpx.AsyncClient(follow_redirects=True) as person:
        await person.get(stand.login)
        shown = (await person.get(stand.url("console", "/stock"))).text
        csrf = shown.partition('name="csrf" value="')[2].partition('"')[0]
        form = {"csrf": csrf, "form_id": uuid4().hex, "sku": sku, "location": "edison", "quantity": "3"}
        first = await person.post(stand.url("console", "/stock/receive"), data=form)
        again = await person.post(stand.url("console", "/stock/receive"), data=form)
        assert "received at edison" in first.text
        assert "sent before" in again.text
        forged = await person.post(stand.url("console", "/stock/receive"), data=form | {"csrf": "guess"})
        assert forged.status_code == 409
        for wrong in ({"sku": "<b>"}, {"location": "moon"}, {"quantity": "0"}, {"quantity": "1e9"}, {"form_id": ""}):
            bad = form | {"form_id": uuid4().hex} | wrong
            answer = await person.post(stand.url("console", "/stock/receive"), data=bad)
            assert answer.status_code in (409, 422), wrong
            assert "<b>" not in answer.text
        huge = await person.post(stand.url("console", "/feed"), data=form | {"feed": "x" * 1_100_000})
        assert huge.status_code == 413
    assert (await facts_of(stand, sku))["on_hand"] == 3


async def test_a_feed_takes_in_its_good_lines_and_names_the_bad_ones(open_page, stand: Stand) -> None:
    one, two = stand.sku("one"), stand.sku("two")
    page = await open_page("/feed")
    lines = (f"{one},edison,5", "=HYPERLINK(1),edison,1", f"{two},moon,4", f"{two},sparks,four", f"{two},sparks,4", one)
    text = "\n".join(("sku,location,quantity", *lines))
    await page.get_by_label("Lines of CSV").fill(text)
    await page.get_by_role("button", name="Take in").click()
    outcome = page.get_by_role("status").filter(has_text="taken in")
    await expect(outcome).to_contain_text("2 lines taken in, 4 not")
    await expect(outcome.locator("tbody tr").nth(1)).to_contain_text("'moon': choose one of")
    assert await outcome.locator("tbody td:first-child").all_inner_texts() == ["3", "4", "5", "7"]
    assert (await facts_of(stand, one))["on_hand"] == 5
    assert (await facts_of(stand, two))["on_hand"] == 4


async def test_what_locations_publish_shows_and_a_refused_line_says_why(open_page, stand: Stand) -> None:
    sku = stand.sku("a/b:c")
    now = datetime.now(UTC)
    await stand.publish(StockArrived(sku=sku, location="edison", reference="r1", happened_at=now, quantity=3), sku)
    wrong = StockCorrected(sku=sku, location="edison", reference="r2", happened_at=now, delta=-9, reason="lost")
    await stand.publish(wrong, sku)

    async def known() -> bool:
        answer = await stand.http.get(stand.url("inventory", f"/stock/{sku}"))
        return answer.status_code == 200

    await eventually(known)
    page = await open_page(f"/stock/{sku}")
    await expect(page.locator("#moves")).to_contain_text("A line was refused and changed nothing: -9 would leave")
    await expect(numbers(page, "On hand")).to_have_text("3")


async def test_an_unknown_sku_says_how_to_begin(open_page, stand: Stand) -> None:
    page = await open_page("/stock/nobody-knows")
    await expect(page.get_by_text("To begin with it, receive some")).to_be_visible()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_stock_pages_are_accessible(open_page, stand: Stand, accessible, size) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    await stand.order([(sku, 2)])
    for path in (
        "/stock?sort=changed",
        f"/stock/{sku}?show=available",
        f"/counting?location=edison&sku={sku}&counted=4",
        "/feed",
    ):
        page = await open_page(path, size=size)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await accessible(page)
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
