"""An order's page: what is known of it, as it changes, and what people do to it in their own name."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Page, expect

from ordermill.contracts.channel import LineChange, OrderChanged
from ordermill.contracts.personal import Person
from ordermill.contracts.tracking import Milestone
from ordermill.keyring import Keyring, PostgresKeyStore
from services.tracking.adapters import milestone_of
from tests.console.conftest import DESKTOP, PHONE
from tests.console.stand import Placed, Stand, eventually
from tests.console.test_queue import on_hold, row, shown, visitor


async def at_work(stand: Stand, places: tuple[str, ...] = ("edison", "sparks"), units: int = 2) -> Placed:
    """An order that a location is asked to ship; the goods are at all `places`."""
    sku = stand.sku()
    for place in places:
        await stand.receive(sku, place, 9)
    placed = await stand.order([(sku, units)])
    await stand.fulfillments(placed, "created")
    await shown(stand, placed)
    return placed


async def delivered(stand: Stand) -> Placed:
    placed = await at_work(stand)
    (number,) = await stand.ship(placed)
    (found,) = await stand.fulfillments(placed)
    carrier = found["packages"][0]["carrier"]
    await stand.scan(number, carrier, code_of_delivery(carrier))
    await stand.may_come_back(placed)
    return placed


async def back_at_its_sender(stand: Stand, units: int = 2) -> Placed:
    placed = await at_work(stand, units=units)
    (number,) = await stand.ship(placed)
    (found,) = await stand.fulfillments(placed)
    carrier = found["packages"][0]["carrier"]
    await stand.scan(number, carrier, {"cedar": "return.handed-over", "swift": "510"}[carrier])
    return placed


def code_of_delivery(carrier: str) -> str:
    codes = [str(number) for number in range(100, 1000)] + ["DL", "D", "OK", "delivered"]
    return next(code for code in codes if milestone_of(carrier, code) is Milestone.DELIVERED)


async def press(page: Page, link: str, button: str) -> None:
    """Open an action, read what it will do, and do it."""
    await page.get_by_role("link", name=link).click()
    await page.locator("main").get_by_role("button", name=button).click()


async def acts(stand: Stand, placed: Placed, stream: str) -> dict[str, str]:
    """By type, who did it last."""
    async with visitor(stand) as client:
        page = (await client.get(f"/orders/{placed.order_id}?all=1")).text
        found = {}
        for link in re.findall(r'href="(/events/[^"]+)"', page):
            event = (await client.get(link)).raise_for_status().text
            if f"{stream}-" in event:
                kind = re.search(r"oms\.[a-z]+\.[a-z-]+\.v\d", event)
                actor = re.search(r"<bdi>(user:[^<]*)</bdi>", event)
                if kind and actor:
                    found.setdefault(kind[0], actor[1])
    return found


async def test_an_order_tells_what_was_bought_where_each_unit_is_and_what_happened(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    page = await open_page(f"/orders/{placed.order_id}")
    await expect(page.get_by_role("heading", level=1)).to_contain_text(placed.external_id)
    units = page.get_by_role("region", name="Where each unit is")
    await expect(units).to_contain_text("edison: not accepted yet")
    await expect(page.locator("dl.sums")).to_contain_text("Charged25.00 USD")
    await expect(page.locator("address")).to_contain_text("Ann Example")
    for told in ("Order taken in", "Reserved", "Routed for", "Promised for", "edison is asked to ship"):
        await expect(page.locator(".timeline")).to_contain_text(told)
    await expect(page.locator(".timeline")).not_to_contain_text("of teapot")
    await page.get_by_role("link", name=re.compile("Show .* notes")).click()
    await expect(page.locator(".timeline")).to_contain_text("2 of teapot")
    (number,) = await stand.ship(placed)
    await expect(units).to_contain_text("on its way")
    await expect(page.get_by_role("region", name="Parcels")).to_contain_text(number)
    await expect(page.get_by_role("button", name="Cancel units")).to_be_disabled()
    await expect(page.locator(".acts")).to_contain_text("all its units are packed or gone")


async def test_an_order_that_was_partly_paid_tells_what_is_unpaid(open_page, stand: Stand) -> None:
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 2)], payment={"status": "pending", "paid": {"minor": 1000, "currency": "USD"}})
    page = await open_page("/")
    await page.get_by_role("link", name=placed.external_id).click()
    await expect(page.locator("dl.sums")).to_contain_text("Charged10.00 USD pending")
    await expect(page.locator("dl.sums")).to_contain_text("Unpaid15.00 USD")


async def test_a_hold_and_its_release_are_told_in_the_name_of_the_person(open_page, stand: Stand) -> None:
    placed = await on_hold(stand)
    page = await open_page(f"/orders/{placed.order_id}", name="Hanna")
    await page.get_by_role("link", name="Hold…", exact=True).click()
    await expect(page.locator("form.act")).to_contain_text("Nothing is reserved or shipped until a person releases it")
    await page.get_by_label("Note").fill("asks for <b>gift wrap</b>")
    await page.locator("main").get_by_role("button", name="Hold", exact=True).press("Enter")
    await expect(page.get_by_text("the order is on hold; it goes on when")).to_be_visible()
    await expect(page.locator(".timeline li.person").first).to_contain_text("gift wrap</b>")
    await expect(page.get_by_role("button", name="Hold", exact=True)).to_be_disabled()
    await press(page, "Release: fraud risk…", "Release: fraud risk")
    await expect(page.get_by_text("another still stands")).to_be_visible()
    await press(page, "Release: manual…", "Release: manual")
    await stand.fulfillments(placed, "created")
    found = await acts(stand, placed, "order")
    assert found["oms.capture.order-held.v1"] == found["oms.capture.hold-released.v1"] == "user:Hanna"


async def test_a_change_that_came_too_late_waits_in_the_queue_for_a_person(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    revision = OrderChanged(
        channel=placed.channel,
        external_id=placed.external_id,
        revision=1,
        changed_at=datetime.now(UTC),
        lines=(LineChange(line_id="2", quantity=1),),
    )
    await stand.publish(revision, placed.order_id)
    page = await open_page("/?need=change-refused", name="Cleo")
    await expect(row(page, placed)).to_contain_text("the order has no line 2")
    await page.get_by_role("link", name=placed.external_id).click()
    await page.get_by_role("link", name="Done with the refused change…").click()
    await expect(page.locator("form.act")).to_contain_text("It was refused: the order has no line 2.")
    await page.get_by_label("Note").fill("sent from the shop")
    await page.locator("main").get_by_role("button", name="Done with the refused change").click()
    await expect(page.get_by_text("the order waits for nobody because of it")).to_be_visible()
    await expect(page.locator(".timeline li.person").first).to_contain_text("sent from the shop")
    await page.goto(stand.url("console", "/?need=change-refused"))
    await expect(row(page, placed)).to_have_count(0)
    assert (await acts(stand, placed, "order"))["oms.capture.order-change-settled.v1"] == "user:Cleo"


async def test_units_are_canceled_and_their_share_goes_back(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    page = await open_page(f"/orders/{placed.order_id}", name="Cora")
    await page.get_by_role("link", name="Cancel units…").click()
    await expect(page.locator("form.act")).to_contain_text("Up to 25.00 USD go back")
    await page.get_by_label("teapot").fill("1")
    await page.locator("main").get_by_role("button", name="Cancel units").click()
    await expect(page.get_by_role("region", name="Where each unit is")).to_contain_text("1 canceled")
    await expect(page.locator("dl.sums")).to_contain_text("Refunded10.00 USD")
    await expect(page.locator("dl.sums")).to_contain_text("Kept15.00 USD")
    assert (await acts(stand, placed, "order"))["oms.capture.cancellation-requested.v1"] == "user:Cora"


async def test_units_are_routed_again_from_elsewhere(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    page = await open_page(f"/orders/{placed.order_id}", name="Rob")
    units = page.get_by_role("region", name="Where each unit is")
    await expect(units).to_contain_text("edison")
    await page.get_by_role("link", name="Route again: edison…").click()
    await expect(page.locator("form.act")).to_contain_text("edison is asked to give back 2 units")
    await page.locator("main").get_by_role("button", name="Route again: edison").click()
    await expect(units).to_contain_text("sparks: not accepted yet")
    await expect(page.locator(".timeline")).to_contain_text("because a person wanted it routed again")
    found = await acts(stand, placed, "reservation")
    assert found["oms.inventory.allocation-recalled.v1"] == "user:Rob"


async def test_a_return_is_started_and_a_policy_that_says_no_is_told(open_page, stand: Stand) -> None:
    placed = await delivered(stand)
    page = await open_page(f"/orders/{placed.order_id}", name="Rita")
    await expect(page.get_by_role("region", name="Where each unit is")).to_contain_text("2 delivered")
    await page.get_by_role("link", name="Start a return…").click()
    await page.get_by_label("teapot").fill("1")
    await page.get_by_label("Why").select_option("damaged")
    await page.locator("main").get_by_role("button", name="Start a return").click()
    await expect(page.get_by_text("the customer may send 1 units back under")).to_be_visible()
    await expect(page.locator("#returns-title + p")).to_contain_text("authorized")
    found = await acts(stand, placed, "return")
    assert found["oms.returns.requested.v2"] == "user:Rita"
    await page.get_by_role("link", name="Start a return…").click()
    await page.locator("main").get_by_role("button", name="Start a return").click()
    await expect(page.get_by_text("no units were chosen")).to_be_visible()


async def test_a_parcel_that_came_back_needs_a_person_who_gives_the_money_back_or_sends_it_again(
    open_page, stand: Stand
) -> None:
    placed = await back_at_its_sender(stand)
    page = await open_page(f"/orders/{placed.order_id}", name="Mia")
    units = page.get_by_role("region", name="Where each unit is")
    await expect(units).to_contain_text("2 lost or back at its sender")
    await expect(page.locator("main")).to_contain_text("Came back")
    await page.get_by_role("link", name="Make up for what never arrived…").click()
    await expect(page.locator("form.act")).to_contain_text("2 units never reached the customer")
    await expect(page.get_by_label("are back or come back to us")).to_be_checked()
    await page.get_by_label("teapot").fill("1")
    await page.get_by_label("the same goods once more").check()
    await page.locator("main").get_by_role("button", name="Make up for what never arrived").click()
    await expect(page.get_by_text("the same goods are sent again once the parcel was received")).to_be_visible()
    await page.get_by_role("link", name="Make up for what never arrived…").click()
    await page.get_by_label("are lost: do it now").check()
    await page.locator("main").get_by_role("button", name="Make up for what never arrived").click()
    await expect(page.get_by_text("1 units count as lost: the money goes back")).to_be_visible()
    await expect(page.get_by_role("button", name="Make up for what never arrived")).to_be_disabled()
    await expect(page.locator(".acts")).to_contain_text("a return speaks for all of it")
    await expect(page.locator(".timeline")).to_contain_text("are given up as lost, and are credited")
    await expect(page.locator("dl.sums")).to_contain_text("Refunded")
    found = await acts(stand, placed, "return")
    assert found["oms.returns.goods-waived.v1"] == "user:Mia"


async def test_a_customer_is_forgotten_for_good_and_may_buy_again(open_page, stand: Stand) -> None:
    sku, email = stand.sku(), f"{uuid4().hex[:10]}@example.org"
    await stand.receive(sku, "edison", 9)
    placed = await stand.order([(sku, 1)], email=email, name="Flora Gone")
    await stand.fulfillments(placed, "created")
    page = await open_page(f"/orders/{placed.order_id}", name="Greta")
    await expect(page.locator(".acts")).to_contain_text("1 unit of it is still to be shipped")
    await stand.ship(placed)
    await page.get_by_role("link", name="Forget the customer…").click()
    await expect(page.locator("form.act")).to_contain_text("Who bought it can never be read again")
    await page.locator("main").get_by_role("button", name="Forget the customer").click()
    await expect(page.get_by_text("the customer is being forgotten; within five minutes")).to_be_visible()
    await expect(page.locator(".timeline")).to_contain_text("The customer was forgotten")
    assert (await acts(stand, placed, "order"))["oms.capture.forget-requested.v1"] == "user:Greta"

    async def addressee(order_id: str) -> Person | None:
        """As a process reads it that has nothing at hand."""
        keys = PostgresKeyStore(stand.environment["OMS_KEYRING_URL"])
        keyring = Keyring(keys, b64decode(stand.environment["OMS_MASTER_KEY"]))
        sealed = (await stand.get("capture", f"/orders/{order_id}"))["destination"]["addressee"]
        return (await keyring.open([sealed]))[sealed]

    assert await addressee(placed.order_id) is None
    again = await stand.order([(sku, 1)], email=email, name="Flora Back")
    await stand.fulfillments(again, "created")
    found = await addressee(again.order_id)
    assert found is not None and found.name == "Flora Back"


async def test_the_second_of_two_people_is_told_what_the_first_did(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    path = f"/orders/{placed.order_id}/do/cancel"
    bob, ann = await open_page(path, name="Bob"), await open_page(path, name="Ann")
    await bob.get_by_label("teapot").fill("1")
    await bob.locator("main").get_by_role("button", name="Cancel units").click()
    await expect(bob.get_by_role("region", name="Where each unit is")).to_contain_text("1 canceled")
    await ann.locator("main").get_by_role("button", name="Cancel units").click()
    await expect(ann.get_by_role("status").first).to_contain_text("Bob was first, at")
    await expect(ann.get_by_role("status").first).to_contain_text("Cancellation asked for: teapot")
    assert (await stand.get("capture", f"/orders/{placed.order_id}"))["lines"][0]["canceled"] == 1


async def test_a_form_sent_twice_counts_once(stand: Stand) -> None:
    placed = await at_work(stand, units=4)
    async with visitor(stand) as client:
        form = (await client.get(f"/orders/{placed.order_id}/do/cancel")).text
        data = dict(re.findall(r'name="(csrf|form_id|of|seen)" value="([^"]*)"', form)) | {"units-1": "1"}
        for _ in range(2):
            assert (await client.post(f"/orders/{placed.order_id}/do/cancel", data=data)).status_code == 200

        async def one_canceled() -> bool:
            line = (await stand.get("capture", f"/orders/{placed.order_id}"))["lines"][0]
            return line["canceled"] == 1 and not line["cancel_requested"]

        await eventually(one_canceled)


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (409, {"csrf": "guess"}),
        (422, {"form_id": ""}),
        (422, {"seen": "yesterday"}),
        (422, {"units-1": "-1"}),
        (422, {"units-1": "²"}),
        (409, {"units-1": "99"}),
        (409, {"units-1": ""}),
        (413, {"note": "x" * 1_100_000}),
    ],
)
async def test_a_form_that_is_wrong_changes_nothing(stand: Stand, status: int, wrong: dict[str, str]) -> None:
    placed = await on_hold(stand)
    async with visitor(stand) as client:
        form = (await client.get(f"/orders/{placed.order_id}/do/cancel")).text
        data = dict(re.findall(r'name="(csrf|form_id|of|seen)" value="([^"]*)"', form)) | {"units-1": "1"} | wrong
        assert (await client.post(f"/orders/{placed.order_id}/do/cancel", data=data)).status_code == status
        assert (await client.get(f"/orders/{uuid4()}/do/cancel")).status_code == 404
        assert (await client.get(f"/orders/{placed.order_id}/do/explode")).status_code == 422
    assert (await stand.get("capture", f"/orders/{placed.order_id}"))["lines"][0]["canceled"] == 0


async def test_each_entry_opens_its_event_with_its_cause_and_what_it_caused(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    page = await open_page(f"/orders/{placed.order_id}")
    await page.get_by_role("link", name=re.compile("^Routed for")).click()
    await expect(page.locator("dl.facts")).to_contain_text("oms.routing.order-routed.v1")
    await expect(page.locator("ol.chain")).to_contain_text("Reserved teapot")
    await expect(page.locator("ul.chain")).to_contain_text("Allocated")
    await page.goto(stand.url("console", f"/orders/{placed.order_id}"))
    await page.get_by_role("link", name=re.compile("^Order taken in")).click()
    content = page.locator("pre")
    await expect(content).to_contain_text("sealed for c-")
    await expect(content).not_to_contain_text("sealed.v1")
    await expect(content).not_to_contain_text("Ann Example")


async def test_labels_and_slips_open_from_the_order(stand: Stand) -> None:
    placed = await at_work(stand)
    await stand.ship(placed)
    async with visitor(stand) as client:

        async def papers() -> list[str]:
            page = (await client.get(f"/orders/{placed.order_id}")).text
            return re.findall(r'href="(/orders/[^"]+/papers/[^"]+)"', page)

        found = await eventually(papers)
        for path, start in zip(found, (b"%PDF", b"^XA", b"%PDF"), strict=True):
            answer = await client.get(path)
            assert answer.content.startswith(start), path
        other = await on_hold(stand)
        assert (await client.get(found[0].replace(placed.order_id, other.order_id, 1))).status_code == 404


async def test_the_customers_link_opens_without_a_login_what_the_customer_is_told(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    page = await open_page(f"/orders/{placed.order_id}")
    link = await page.get_by_label("Link to the customer's page").input_value()
    path = (await stand.get("tracking", f"/orders/{placed.order_id}/link"))["path"]
    assert link == stand.url("console", path)


async def test_nothing_of_an_order_is_shown_without_a_login(stand: Stand) -> None:
    placed = await on_hold(stand)
    async with httpx.AsyncClient(base_url=stand.url("console")) as stranger:
        for path in ("", "/live", "/do/hold", "/papers/f/1/label.pdf"):
            assert (await stranger.get(f"/orders/{placed.order_id}{path}")).headers["location"] == "/login"
        for path in ("/orders.csv", "/find?q=x", f"/events/{uuid4()}"):
            assert (await stranger.get(path)).headers["location"] == "/login"


async def test_an_order_is_accessible_at_both_sizes(open_page, accessible, stand: Stand) -> None:
    placed = await at_work(stand)
    await stand.ship(placed)
    for path in (f"/orders/{placed.order_id}", f"/orders/{placed.order_id}/do/hold"):
        for size in (DESKTOP, PHONE):
            page = await open_page(path, size=size)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            await accessible(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, size)
    held = await on_hold(stand)
    page = await open_page(f"/orders/{held.order_id}/do/cancel", size=PHONE)
    await accessible(page)
    await page.goto(stand.url("console", f"/orders/{placed.order_id}"))
    await page.locator(".timeline a").first.click()
    await expect(page.locator("pre")).to_be_visible()
    await accessible(page)
