"""Returns: asked for, received, inspected, paid for, by people who see at each step what comes next."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Placed, Stand, eventually
from tests.console.test_order import back_at_its_sender

HOSTILE = "<script>alert(1)</script>{{7*7}}\u202e^XA=HYPERLINK(1)😀"


async def bought(stand: Stand, units: int = 3, delivered: bool = True, **more: Any) -> tuple[Placed, str]:
    mug = stand.sku("mug")
    await stand.receive(mug, "edison", 20)
    placed = await stand.order([(mug, units)], **more)
    if delivered:
        await stand.deliver(placed)
    else:
        await stand.fulfillments(placed)
    return placed, mug


async def authorized(stand: Stand, units: int = 2, **more: Any) -> tuple[Placed, str, str]:
    """A return that a customer asked for: its order, SKU and id."""
    placed, mug = await bought(stand, units)
    return_id = f"return-{uuid4().hex}"
    body = {
        "return_id": return_id,
        "order_id": placed.order_id,
        "lines": [{"line_id": "1", "sku": mug, "quantity": units}],
        "reason": "damaged",
        **more,
    }
    assert (await stand.post("returns", "/returns", body))["status"] == "authorized"
    return placed, mug, return_id


async def opened(open_page: Any, return_id: str, **more: Any) -> Page:
    """Its page, once the console has heard of it."""
    page: Page = await open_page("/returns", **more)
    await expect(page.locator(f"a[href='/returns/{return_id}']")).to_be_visible()
    await page.locator(f"a[href='/returns/{return_id}']").click()
    return page


async def test_a_return_goes_from_the_request_to_the_refund(open_page, stand: Stand) -> None:
    placed, mug = await bought(stand, 3)
    page = await open_page(f"/returns/new/{placed.order_id}")
    await page.get_by_label(f"Units of {mug} that come back").fill("2")
    await page.get_by_label("Arrived damaged").check()
    await page.get_by_label("Note").fill(f"{HOSTILE}\nand the lid")
    await page.get_by_role("button", name="Ask for the return").click()
    await expect(page.get_by_text("Authorized: RMA R-")).to_be_visible()
    await expect(page.get_by_text("{{7*7}}").first).to_be_visible()
    assert "\u202e" not in await page.locator("main").inner_text()
    assert await page.evaluate("document.querySelectorAll('main script').length") == 0
    await page.get_by_label("Where").select_option("edison")
    await page.get_by_label(re.compile("of 2 to come")).fill("1")
    await page.get_by_role("button", name="Book in").click()
    await page.get_by_label("Sell again").fill("1")
    await page.get_by_role("button", name="Inspected").click()
    await expect(page.get_by_text("1 more unit may still come")).to_be_visible()
    await page.get_by_label("Where").select_option("edison")
    await page.get_by_role("button", name="Book in").click()
    await page.get_by_label("Sell again").fill("0")
    await page.get_by_label("Write off").fill("1")
    await page.get_by_label("Note").fill("cracked")
    await page.get_by_role("button", name="Inspected").click()
    await expect(page.locator(".now")).to_contain_text("Closed")
    await expect(page.get_by_text("20.00 USD").first).to_be_visible()
    await expect(page.get_by_text("Write off: not fit for sale (cracked)")).to_be_visible()
    story = await page.locator(".story").inner_text()
    for said in ("requested Ann", "received Ann", "inspected Ann", "refund requested", "refund paid", "closed"):
        assert said in story, said


async def test_units_that_are_not_there_are_declined_with_the_reason(open_page, stand: Stand) -> None:
    placed, mug = await bought(stand, 1, delivered=False)
    page = await open_page(f"/returns/new/{placed.order_id}")
    await page.get_by_label(f"Units of {mug} that come back").fill("1")
    await page.get_by_label("Doesn't want it").check()
    await page.get_by_role("button", name="Ask for the return").click()
    await expect(page.get_by_role("status").filter(has_text="delivered so far")).to_be_visible()
    await expect(page.locator(".now")).to_contain_text("Declined")


async def test_an_exchange_leads_to_its_order(open_page, stand: Stand) -> None:
    placed, mug = await bought(stand, 1)
    page = await open_page(f"/returns/new/{placed.order_id}")
    await page.get_by_label(f"Units of {mug} that come back").fill("1")
    await page.get_by_label("Wrong item came").check()
    await page.get_by_label("Other goods").check()
    await page.get_by_role("button", name="Ask for the return").click()
    await expect(page.get_by_text("say which SKU, how many, and the price")).to_be_visible()
    await page.goto(stand.url("console", f"/returns/new/{placed.order_id}"))
    await page.get_by_label(f"Units of {mug} that come back").fill("1")
    await page.get_by_label("Wrong item came").check()
    await page.get_by_label("Other goods").check()
    await page.get_by_label("SKU to send").fill(mug)
    await page.get_by_label("Units", exact=True).fill("1")
    await page.get_by_label("Price of one, USD").fill("7.5")
    await page.get_by_role("button", name="Ask for the return").click()
    await page.get_by_label("Where").select_option("edison")
    await page.get_by_role("button", name="Book in").click()
    await page.get_by_role("button", name="Inspected").click()
    await expect(page.get_by_role("link", name="Order of the exchange")).to_be_visible()
    await expect(page.get_by_text("paid with 7.50 USD of this return")).to_be_visible()


async def test_a_return_is_settled_with_what_came(open_page, stand: Stand) -> None:
    _placed, _mug, return_id = await authorized(stand, 2)
    page = await opened(open_page, return_id)
    await page.get_by_label("Where").select_option("edison")
    await page.get_by_label(re.compile("of 2 to come")).fill("1")
    await page.get_by_role("button", name="Book in").click()
    await page.get_by_label("Sell again").fill("0")
    await page.get_by_label("Missing").fill("1")
    await page.get_by_role("button", name="Inspected").click()
    await page.get_by_role("button", name="Settle with what came").click()
    await expect(page.locator(".now")).to_contain_text("Closed")
    await expect(page.get_by_text("Nothing goes back.")).to_be_visible()


async def test_goods_not_worth_their_way_are_credited_and_stay_with_the_customer(open_page, stand: Stand) -> None:
    _placed, _mug, return_id = await authorized(stand, 2)
    page = await opened(open_page, return_id, name="Wanda")
    await expect(page.get_by_role("heading", name="Not worth its way: credit it")).to_be_visible()
    await page.get_by_role("button", name="Credit without the goods").click()
    await expect(page.get_by_text("2 units are credited without coming back")).to_be_visible()
    await expect(page.locator(".story")).to_contain_text("goods waived Wanda")
    await expect(page.locator("#h-money + dl")).to_contain_text("Refund")
    back = await stand.get("returns", f"/returns/{return_id}")
    assert [line["waived"] for line in back["lines"]] == [2]


async def test_what_came_back_undelivered_is_received_for_its_customer(open_page, stand: Stand) -> None:
    placed = await back_at_its_sender(stand)
    page = await open_page(f"/returns/new/{placed.order_id}")
    await page.get_by_label("that come back").fill("2")
    await page.get_by_label("Never arrived: lost, or back at its sender").check()
    await page.get_by_role("button", name="Ask for the return").click()
    await expect(page.get_by_text("It never reached the customer. Receive it if it is back")).to_be_visible()
    await page.get_by_role("button", name="Book in").click()
    await page.get_by_role("button", name="Inspected").click()
    await expect(page.get_by_text("That was all of it")).to_be_visible()
    customer = await open_page(f"/orders/{placed.order_id}")
    await expect(customer.get_by_role("region", name="Where each unit is")).to_contain_text(
        "2 never arrived, made up for"
    )


async def test_a_refund_that_failed_is_tried_again(open_page, stand: Stand) -> None:
    _placed, _mug, return_id = await authorized(stand, 1)
    await stand.behave("payments", refused=1.0)
    try:
        page = await opened(open_page, return_id)
        await page.get_by_label("Where").select_option("edison")
        await page.get_by_role("button", name="Book in").click()
        await page.get_by_role("button", name="Inspected").click()
        await expect(page.locator(".now")).to_contain_text("Refund failed")
    finally:
        await stand.behave("payments")
    await page.get_by_role("button", name="Try the refund again").click()
    await expect(page.locator(".now")).to_contain_text("Closed")
    await expect(page.get_by_text("paid", exact=True)).to_be_visible()


async def test_a_number_of_any_kind_finds_the_return_or_the_order_to_start_one_for(open_page, stand: Stand) -> None:
    placed, _mug, return_id = await authorized(stand, 1)
    page = await opened(open_page, return_id)
    back = await stand.get("returns", f"/returns/{return_id}")
    package = (await stand.fulfillments(placed))[0]["packages"][0]
    for number in (back["rma"], back["rma"].lower(), placed.external_id, package["tracking_number"], return_id):
        await page.goto(stand.url("console", "/returns"))
        await page.get_by_label("RMA, order").fill(number)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name=f"Return {back['rma']}")).to_be_visible()
    other, _ = await bought(stand, 1)
    await page.goto(stand.url("console", f"/returns?q={other.external_id}"))
    await page.get_by_role("link", name="Start a return").click()
    await expect(page.get_by_role("heading", name="New return")).to_be_visible()
    await page.goto(stand.url("console", "/returns?q=nobody"))
    await expect(page.get_by_text("It names no order either.")).to_be_visible()


async def test_a_new_return_appears_in_the_list_by_itself(open_page, stand: Stand) -> None:
    page = await open_page("/returns?state=on-the-way", size=PHONE)
    _placed, _mug, return_id = await authorized(stand, 1)
    await expect(page.locator(f"a[href='/returns/{return_id}']")).to_be_visible()


async def test_a_form_that_somebody_else_overtook_tells_what_they_did(open_page, stand: Stand) -> None:
    _placed, _mug, return_id = await authorized(stand, 1)
    ann = await opened(open_page, return_id, script=False)
    bob = await opened(open_page, return_id, name="Bob")
    await bob.get_by_role("button", name="Book in").click()
    await expect(bob.get_by_role("button", name="Inspected")).to_be_visible()
    await ann.get_by_role("button", name="Book in").click()
    await expect(ann.get_by_text("Meanwhile Bob, received at")).to_be_visible()
    back = await stand.get("returns", f"/returns/{return_id}")
    assert back["lines"][0]["received"] == 1


async def test_a_form_sent_twice_counts_once_and_wrong_ones_say_what_is_wrong(stand: Stand) -> None:
    placed, _mug, return_id = await authorized(stand, 2)
    async with httpx.AsyncClient(follow_redirects=True, timeout=20) as person:
        await person.get(stand.login)
        url = stand.url("console", f"/returns/{return_id}")

        async def there() -> str:
            answer = await person.get(url)
            return answer.text if answer.status_code == 200 else ""

        csrf = re.search(r'name="csrf" value="([^"]+)"', await eventually(there))
        assert csrf is not None
        body = {"csrf": csrf[1], "form_id": uuid4().hex, "location": "edison", "units:1": "1"}
        for _ in range(2):
            assert (await person.post(f"{url}/receive", data=body)).status_code == 200
        assert (await stand.get("returns", f"/returns/{return_id}"))["lines"][0]["received"] == 1
        new = stand.url("console", f"/returns/new/{placed.order_id}")
        for to, wrong, says in (
            (f"{url}/receive", {"units:1": "many"}, "no number of units"),
            (f"{url}/receive", {"units:1": "0"}, "how many units came"),
            (f"{url}/receive", {"units:1": "9"}, "Expected still"),
            (f"{url}/receive", {"units:1": "1", "location": "Mars!"}, "expected shape"),
            (f"{url}/inspect", {"restock:1": "2"}, "to inspect at edison"),
            (f"{url}/inspect", {"restock:1": ""}, "for each unit"),
            (f"{url}/inspect", {"restock:1": "1", "note:1": "a\x07b"}, "control characters"),
            (f"{url}/close", {}, "not inspected yet"),
            (f"{url}/retry-refund", {}, "whose refund failed"),
            (new, {}, "why it comes back"),
            (new, {"units:1": "", "reason": "late"}, "which units"),
        ):
            answer = await person.post(to, data=body | {"form_id": uuid4().hex} | wrong)
            assert says in answer.text, (to, wrong)
        assert (await person.post(f"{url}/receive", data=body | {"csrf": "guess"})).status_code == 409
        assert (await person.post(f"{url}/receive", data=body | {"x": "x" * 1_100_000})).status_code == 413
        assert (await person.get(stand.url("console", "/returns/nobody"))).status_code == 404
        assert (await person.get(stand.url("console", "/returns/new/nobody"))).status_code == 404
    assert (await stand.get("returns", f"/returns/{return_id}"))["lines"][0]["received"] == 1


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_returns_are_accessible(open_page, accessible, stand: Stand, size: Any) -> None:
    placed, _mug, return_id = await authorized(stand, 2)
    page = await opened(open_page, return_id, size=size)
    await accessible(page)
    await page.get_by_role("button", name="Book in").click()
    await expect(page.get_by_role("button", name="Inspected")).to_be_visible()
    await accessible(page)
    for path in ("/returns", f"/returns/new/{placed.order_id}"):
        await page.goto(stand.url("console", path))
        await accessible(page)
