"""The queue shows every order of every channel, as it changes."""

from __future__ import annotations

from playwright.async_api import expect

from tests.console.stand import Stand


async def test_an_order_appears_and_moves_on_without_a_reload(open_page, stand: Stand) -> None:
    page = await open_page("/")
    sku = stand.sku()
    await stand.receive(sku, "edison", 5)
    placed = await stand.order([(sku, 2)])
    row = page.locator(f"#order-{placed.order_id}")
    await expect(row).to_contain_text(placed.external_id)
    await expect(row).to_contain_text("confirmed")
    await stand.ship(placed)
    await expect(row).to_contain_text("shipped")
