"""What an order's page tells of things that come early, fail first, or must be shown no more."""

from __future__ import annotations

import re
from base64 import b64decode
from uuid import uuid4

import asyncpg
from playwright.async_api import expect

from ordermill.keyring import Keyring, PostgresKeyStore
from tests.console.stand import Placed, Stand, eventually
from tests.console.test_order import at_work, press
from tests.console.test_queue import visitor


async def labeled(stand: Stand, placed: Placed) -> tuple[str, str, str]:
    """Pick, pack and label an order of one part: its fulfillment order, carrier and tracking number."""
    (work,) = await stand.fulfillments(placed)
    key = work["key"]
    lines = [{"line_id": x["line_id"], "sku": x["sku"], "quantity": x["open"]} for x in work["lines"]]
    await stand.work(
        {"do": "accept", "fulfillment_id": key},
        {"do": "pick", "fulfillment_id": key, "lines": lines},
        {"do": "pack", "fulfillment_id": key, "packages": [{"package": 1, "weight_g": 900, "lines": lines}]},
    )
    (work,) = await stand.fulfillments(placed, "labeled")
    package = work["packages"][0]
    return key, package["carrier"], package["tracking_number"]


async def test_scans_that_came_before_their_parcel_was_announced_are_told_with_its_order(
    open_page, stand: Stand
) -> None:
    placed = await at_work(stand)
    key, carrier, number = await labeled(stand, placed)
    page = await open_page(f"/orders/{placed.order_id}?all=1")
    await stand.scan(number, carrier, {"cedar": "hub.arrived", "swift": "200"}[carrier])
    console = await asyncpg.connect(stand.environment["OMS_CONSOLE_DATABASE_URL"])
    try:

        async def known_of_no_order() -> bool:
            rows = await console.fetch(
                "SELECT order_id FROM events WHERE type LIKE 'oms.tracking.%' AND convert_from(data, 'UTF8') LIKE $1",
                f"%{number}%",
            )
            return bool(rows) and all(row["order_id"] is None for row in rows)

        await eventually(known_of_no_order)
    finally:
        await console.close()
    timeline = page.locator(".timeline")
    await expect(timeline).not_to_contain_text("is in transit")
    await stand.work({"do": "hand-over", "fulfillment_id": key})
    await expect(timeline).to_contain_text(f"{number} is with {carrier}")
    scan = timeline.get_by_role("listitem").filter(has_text="is in transit, Columbus, OH")
    await expect(scan).to_contain_text(number)


async def test_a_label_that_failed_is_asked_for_again_from_the_order(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    (work,) = await stand.fulfillments(placed)
    carrier, key = work["carrier"], work["key"]
    lines = [{"line_id": x["line_id"], "sku": x["sku"], "quantity": x["open"]} for x in work["lines"]]
    await stand.behave(carrier, refused=1.0)
    page = await open_page(f"/orders/{placed.order_id}", name="Lena")
    parcels = page.get_by_role("region", name="Parcels")
    try:
        await stand.work(
            {"do": "accept", "fulfillment_id": key},
            {"do": "pick", "fulfillment_id": key, "lines": lines},
            {"do": "pack", "fulfillment_id": key, "packages": [{"package": 1, "weight_g": 900, "lines": lines}]},
        )
        await expect(parcels).to_contain_text("no label")
        await expect(page.locator(".alert")).to_contain_text("Failed effect")
    finally:
        await stand.behave(carrier)
    again = f"Ask for the label again: {work['location']}, box 1"
    await press(page, f"{again}…", again)
    await expect(page.get_by_text("the carrier is asked for the label again")).to_be_visible()
    (found,) = await stand.fulfillments(placed, "labeled")
    await expect(parcels).to_contain_text(found["packages"][0]["tracking_number"])
    await expect(page.locator(".alert")).to_have_count(0)
    await expect(page.get_by_role("link", name=again)).to_have_count(0)
    await expect(page.locator(".timeline li.person", has_text="Lena").first).to_contain_text("Label for box 1 asked of")


async def test_a_refund_that_failed_is_tried_again_from_the_order_and_pays_once(open_page, stand: Stand) -> None:
    placed = await at_work(stand)
    await stand.behave("payments", refused=1.0)
    page = await open_page(f"/orders/{placed.order_id}", name="Rita")
    sums = page.locator("dl.sums")
    try:
        await stand.post(
            "capture",
            f"/orders/{placed.order_id}/cancel",
            {"cancellation_id": uuid4().hex, "reason": "no longer wanted", "lines": [{"line_id": "1", "quantity": 1}]},
        )
        await expect(sums).to_contain_text("Refund refused10.00 USD")
    finally:
        await stand.behave("payments")
    await press(page, "Try the refund of 10.00 USD again…", "Try the refund of 10.00 USD again")
    await expect(page.get_by_text("the payment provider is asked for 10.00 USD again")).to_be_visible()
    await expect(sums).to_contain_text("Refunded10.00 USD")
    await expect(sums).not_to_contain_text("Refund refused")
    await expect(page.get_by_role("link", name="Try the refund")).to_have_count(0)
    await expect(sums).to_contain_text("Kept15.00 USD")


async def test_of_a_forgotten_customer_nothing_personal_is_shown_and_money_and_units_stay(
    open_page, stand: Stand
) -> None:
    sku, marks = stand.sku(), (uuid4().hex[:10], uuid4().hex[:10])
    await stand.receive(sku, "edison", 9)
    placed, other = [await stand.order([(sku, 2)], email=f"{m}@example.org", name=f"Zoe {m}") for m in marks]
    (number,) = await stand.ship(placed)
    page = await open_page(f"/?q={placed.external_id}")
    await expect(page.locator(f"#order-{placed.order_id}")).to_contain_text("shipped")
    keyring = Keyring(
        PostgresKeyStore(stand.environment["OMS_KEYRING_URL"]), b64decode(stand.environment["OMS_MASTER_KEY"])
    )
    # Before the console has opened anything of theirs: a process has a key at hand for up to five minutes.
    await keyring.forget(keyring.customer_id("email", f"{marks[0]}@example.org"))
    customer = page.get_by_role("region", name="Customer")
    await page.goto(stand.url("console", f"/orders/{other.order_id}"))
    await expect(customer).to_contain_text(f"Zoe {marks[1]}")
    await page.goto(stand.url("console", f"/orders/{placed.order_id}"))
    await expect(customer).to_contain_text("This customer was forgotten")
    (work,) = await stand.fulfillments(placed)
    link = (await stand.get("tracking", f"/orders/{placed.order_id}/link"))["path"]
    async with visitor(stand) as client:
        order = (await client.get(f"/orders/{placed.order_id}?all=1")).text
        events = re.findall(r'href="(/events/[^"]+)"', order)
        assert len(events) > 5
        for path in (
            f"/orders/{placed.order_id}?all=1", f"/?q={placed.external_id}", f"/orders.csv?q={placed.external_id}",
            f"/orders/{placed.order_id}/routing", f"/returns/new/{placed.order_id}", f"/stock/{sku}", link,
            f"/floor/{work['location']}/{work['key']}", *events,
        ):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 200, path
            for personal in (marks[0], "Zoe", "1 Main Street", "ann@example.com"):
                assert personal not in answer.text, (path, personal)
    await expect(page.locator("dl.sums")).to_contain_text("Charged25.00 USD")
    await expect(page.get_by_role("region", name="Where each unit is")).to_contain_text("2 on its way")
    await expect(page.get_by_role("region", name="Parcels")).to_contain_text(number)
